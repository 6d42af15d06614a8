// SPDX-License-Identifier: Apache-2.0
// Families (*.families): self-contained, so that a bundle can be compiled from this file and the
// model alone.
#include <string.h>

#include "model/samples_parts.h"

enum { FAMILIES_MAX = 4096 };

// Tensor `assign`, which also says how many samples there are.
static facet_status read_assign(const samples_reader *reader, facet_family_set *set)
{
    const facet_st_tensor *tensor;
    samples_shape shape = {"assign", FACET_ST_I32, 1, {0}, true};
    FACET_TRY(facet_samples_tensor(reader, &shape, &tensor));
    const uint32_t n = (uint32_t)shape.dims[0];
    set->assign = facet_mem_new(reader->alloc, n, sizeof *set->assign);
    if (!set->assign) return facet_fail_memory(reader->err, n * sizeof *set->assign);
    memcpy(set->assign, tensor->data, n * sizeof *set->assign);
    for (uint32_t i = 0; i < n; i++) {
        if (set->assign[i] >= set->n_families)
            return facet_samples_bad_tensor(reader, tensor, "names a family that is not there");
    }
    return facet_samples_read(reader, n, &set->samples);
}

static facet_status read_held(const samples_reader *reader, facet_family_set *set)
{
    const facet_st_tensor *tensor;
    const uint32_t n = set->samples.n;
    samples_shape shape = {"held", FACET_ST_U8, 1, {n}, true};
    FACET_TRY(facet_samples_tensor(reader, &shape, &tensor));
    set->held = facet_mem_new(reader->alloc, n, 1);
    if (!set->held) return facet_fail_memory(reader->err, n);
    memcpy(set->held, tensor->data, n);
    for (uint32_t i = 0; i < n; i++) {
        if (set->held[i] > 1)
            return facet_samples_bad_tensor(reader, tensor, "holds something else than 0 and 1");
    }
    return FACET_OK;
}

static facet_status read_names(const samples_reader *reader, facet_family_set *set)
{
    FACET_TRY(facet_samples_strings(reader, "facet.names", set->n_families, &set->names));
    if (!set->names)
        return facet_samples_bad(reader, "metadata facet.names is missing; write the file again");
    for (uint32_t i = 1; i < set->n_families; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(set->names[i], set->names[j]) == 0)
                return facet_samples_bad(reader,
                                         "two families have the name %.60s; write the file "
                                         "again",
                                         set->names[i]);
        }
    }
    return FACET_OK;
}

static facet_status read_set(const samples_reader *reader, facet_family_set *set)
{
    uint64_t n = 0;
    set->n_layers = reader->n_layers;
    set->d_ff = reader->d_ff;
    FACET_TRY(facet_samples_scores(reader, true, &n, &set->scores));
    FACET_TRY(facet_samples_mask(reader, true, &n, &set->mask));
    if (n > FAMILIES_MAX)
        return facet_samples_bad(reader, "has more than %d families; use fewer", FAMILIES_MAX);
    set->n_families = (uint32_t)n;
    FACET_TRY(read_names(reader, set));
    FACET_TRY(read_assign(reader, set));
    FACET_TRY(read_held(reader, set));
    FACET_TRY(facet_samples_number(reader, "facet.silhouette", -1, 1, &set->silhouette));
    return facet_samples_facts(reader, &set->shape, &set->model, &set->keep);
}

facet_status facet_family_set_parse(const uint8_t *data, size_t bytes, const char *file,
                                    const facet_alloc *alloc, facet_family_set *out, facet_err *err)
{
    facet_family_set set = {.alloc = alloc};
    samples_reader reader = {.file = file, .alloc = alloc, .err = err};
    facet_status status = facet_samples_begin(&reader, data, bytes, "families");
    if (status == FACET_OK) status = read_set(&reader, &set);
    facet_safetensors_free(reader.st);
    if (status == FACET_OK) {
        *out = set;
    } else {
        facet_family_set_fini(&set);
    }
    return status;
}

facet_status facet_family_set_load(const char *path, const facet_alloc *alloc,
                                   facet_family_set *set, facet_err *err)
{
    facet_map map;
    FACET_TRY(facet_map_open(path, &map, err));
    const facet_status status = facet_family_set_parse(map.data, map.bytes, path, alloc, set, err);
    facet_map_close(&map);
    return status;
}

facet_status facet_family_set_save(const facet_family_set *set, const char *path, bool force,
                                   facet_err *err)
{
    samples_writer writer;
    const uint64_t n = set->n_families;
    if (n == 0 || set->samples.n == 0)
        return facet_fail(err, FACET_BAD_INPUT, "%s: there are no families to write", path);
    facet_samples_writer_init(&writer, set->alloc);
    facet_samples_put_facts(&writer, "families", set->shape, set->model, set->keep);
    facet_samples_put_strings(&writer, "facet.names", set->names, set->n_families);
    facet_text_add_number(&writer.number, set->silhouette);
    facet_samples_put_meta(&writer, "facet.silhouette", facet_text_str(&writer.number));
    facet_samples_put_tensor(&writer, "scores", FACET_ST_F32, set->scores,
                             (const uint64_t[3]){n, set->n_layers, set->d_ff});
    facet_samples_put_tensor(&writer, "assign", FACET_ST_I32, set->assign,
                             (const uint64_t[3]){set->samples.n});
    facet_samples_put_samples(&writer, &set->samples);
    facet_samples_put_tensor(&writer, "mask", FACET_ST_U8, set->mask,
                             (const uint64_t[3]){n, set->n_layers, (set->d_ff + 7) / 8});
    facet_samples_put_tensor(&writer, "held", FACET_ST_U8, set->held,
                             (const uint64_t[3]){set->samples.n});
    const facet_status status = facet_samples_save(&writer, path, force, err);
    facet_samples_writer_fini(&writer);
    return status;
}

void facet_family_set_fini(facet_family_set *set)
{
    const facet_alloc *alloc = set->alloc;
    facet_strings_free(set->names, set->n_families, alloc);
    facet_mem_free(alloc, set->scores);
    facet_mem_free(alloc, set->mask);
    facet_mem_free(alloc, set->assign);
    facet_mem_free(alloc, set->held);
    facet_samples_fini(&set->samples, alloc);
    facet_mem_free(alloc, set->shape);
    facet_mem_free(alloc, set->model);
    *set = (facet_family_set){.alloc = alloc};
}
