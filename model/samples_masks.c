// SPDX-License-Identifier: Apache-2.0
// Mask sets (*.masks): scores or masks of every sample, with its text and task if known. Files of
// another framework may hold masks alone.
#include "model/samples_parts.h"

static facet_status read_set(const samples_reader *reader, facet_mask_set *set)
{
    uint64_t n = 0;
    set->alloc = reader->alloc;
    set->n_layers = reader->n_layers;
    set->d_ff = reader->d_ff;
    FACET_TRY(facet_samples_scores(reader, false, &n, &set->scores));
    FACET_TRY(facet_samples_mask(reader, false, &n, &set->mask));
    if (!set->scores && !set->mask)
        return facet_samples_bad(reader, "has neither a tensor scores nor a tensor mask; write the "
                                         "file again");
    set->n = (uint32_t)n;
    FACET_TRY(facet_samples_read(reader, set->n, &set->samples));
    FACET_TRY(facet_samples_strings(reader, "facet.labels", set->n, &set->labels));
    return facet_samples_facts(reader, &set->shape, &set->model, &set->keep);
}

facet_status facet_mask_set_parse(const uint8_t *data, size_t bytes, const char *file,
                                  const facet_alloc *alloc, facet_mask_set *out, facet_err *err)
{
    facet_mask_set set = {.alloc = alloc};
    samples_reader reader = {.file = file, .alloc = alloc, .err = err};
    facet_status status = facet_samples_begin(&reader, data, bytes, "masks");
    if (status == FACET_OK) status = read_set(&reader, &set);
    facet_safetensors_free(reader.st);
    if (status == FACET_OK) {
        *out = set;
    } else {
        facet_mask_set_fini(&set);
    }
    return status;
}

facet_status facet_mask_set_load(const char *path, const facet_alloc *alloc, facet_mask_set *set,
                                 facet_err *err)
{
    facet_map map;
    FACET_TRY(facet_map_open(path, &map, err));
    const facet_status status = facet_mask_set_parse(map.data, map.bytes, path, alloc, set, err);
    facet_map_close(&map);
    return status;
}

facet_status facet_mask_set_save(const facet_mask_set *set, const char *path, bool force,
                                 facet_err *err)
{
    samples_writer writer;
    if (set->n == 0 || (!set->scores && !set->mask))
        return facet_fail(err, FACET_BAD_INPUT, "%s: there are no masks to write", path);
    facet_samples_writer_init(&writer, set->alloc);
    facet_samples_put_facts(&writer, "masks", set->shape, set->model, set->keep);
    if (set->labels) facet_samples_put_strings(&writer, "facet.labels", set->labels, set->n);
    if (set->scores)
        facet_samples_put_tensor(&writer, "scores", FACET_ST_F32, set->scores,
                                 (const uint64_t[3]){set->n, set->n_layers, set->d_ff});
    facet_samples_put_samples(&writer, &set->samples);
    if (set->mask)
        facet_samples_put_tensor(&writer, "mask", FACET_ST_U8, set->mask,
                                 (const uint64_t[3]){set->n, set->n_layers, (set->d_ff + 7) / 8});
    const facet_status status = facet_samples_save(&writer, path, force, err);
    facet_samples_writer_fini(&writer);
    return status;
}

void facet_mask_set_fini(facet_mask_set *set)
{
    const facet_alloc *alloc = set->alloc;
    facet_mem_free(alloc, set->scores);
    facet_mem_free(alloc, set->mask);
    facet_samples_fini(&set->samples, alloc);
    facet_strings_free(set->labels, set->n, alloc);
    facet_mem_free(alloc, set->shape);
    facet_mem_free(alloc, set->model);
    *set = (facet_mask_set){.alloc = alloc};
}
