// SPDX-License-Identifier: Apache-2.0
#include "model/tensors.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static int name_order(const void *a, const void *b)
{
    const facet_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static int place_order(const void *a, const void *b)
{
    const facet_tensor *const *x = a, *const *y = b;
    const int files = strcmp((*x)->file, (*y)->file);
    if (files) return files;
    if ((*x)->offset != (*y)->offset) return (*x)->offset < (*y)->offset ? -1 : 1;
    return strcmp((*x)->name, (*y)->name);
}

static facet_status check_overlaps(facet_tensor *tensors, uint32_t n, const facet_alloc *alloc,
                                   facet_err *err)
{
    facet_status status = FACET_OK;
    const facet_tensor **order = facet_mem_new(alloc, n, sizeof *order);
    if (!order) return facet_fail_memory(err, n * sizeof *order);
    for (uint32_t i = 0; i < n; i++)
        order[i] = &tensors[i];
    qsort(order, n, sizeof *order, place_order);
    for (uint32_t i = 1; i < n && status == FACET_OK; i++) {
        const facet_tensor *a = order[i - 1], *b = order[i];
        if (strcmp(a->file, b->file) == 0 && a->offset + a->bytes > b->offset) {
            status = facet_fail_at(err, FACET_BAD_TENSOR, b->file, (int64_t)b->offset,
                                   "%s: tensors %s and %s overlap; the file is damaged", b->file,
                                   a->name, b->name);
        }
    }
    facet_mem_free(alloc, order);
    return status;
}

facet_status facet_tensors_check(facet_tensor *tensors, uint32_t n, const facet_alloc *alloc,
                                 facet_err *err)
{
    if (n < 2) return FACET_OK;
    qsort(tensors, n, sizeof *tensors, name_order);
    for (uint32_t i = 1; i < n; i++) {
        if (strcmp(tensors[i - 1].name, tensors[i].name) == 0) {
            return facet_fail_at(err, FACET_BAD_TENSOR, tensors[i].file, (int64_t)tensors[i].offset,
                                 "%s: tensor %s occurs twice; the model is damaged",
                                 tensors[i].file, tensors[i].name);
        }
    }
    return check_overlaps(tensors, n, alloc, err);
}

const facet_tensor *facet_tensors_find(const facet_tensor *tensors, uint32_t n, const char *name)
{
    const facet_tensor key = {.name = name};
    return n ? bsearch(&key, tensors, n, sizeof *tensors, name_order) : NULL;
}
