// SPDX-License-Identifier: Apache-2.0
// Collects the tensors and metadata of one of our files and writes it; equal contents, equal bytes.
#include <assert.h>

#include "model/samples_parts.h"

void facet_samples_writer_init(samples_writer *writer, const facet_alloc *alloc)
{
    *writer = (samples_writer){0};
    facet_text_init(&writer->strings, alloc);
    facet_text_init(&writer->keep, alloc);
    facet_text_init(&writer->number, alloc);
}

void facet_samples_writer_fini(samples_writer *writer)
{
    facet_text_fini(&writer->strings);
    facet_text_fini(&writer->keep);
    facet_text_fini(&writer->number);
}

void facet_samples_put_meta(samples_writer *writer, const char *key, const char *value)
{
    assert(writer->n_meta < SAMPLES_META_MAX);
    writer->meta[writer->n_meta++] = (facet_st_meta){key, value};
}

void facet_samples_put_facts(samples_writer *writer, const char *kind, const char *shape,
                             const char *model, double keep)
{
    facet_samples_put_meta(writer, "facet.kind", kind);
    facet_samples_put_meta(writer, "facet.version", "1");
    facet_samples_put_meta(writer, "facet.shape", shape ? shape : "");
    if (model && model[0]) facet_samples_put_meta(writer, "facet.model", model);
    if (!(keep > 0)) return;
    facet_text_add_number(&writer->keep, keep);
    facet_samples_put_meta(writer, "facet.keep", facet_text_str(&writer->keep));
}

void facet_samples_put_strings(samples_writer *writer, const char *key, char *const *strings,
                               uint32_t n)
{
    facet_text *text = &writer->strings;
    assert(text->length == 0);
    facet_text_puts(text, "[");
    for (uint32_t i = 0; i < n; i++) {
        facet_text_puts(text, i ? ",\"" : "\"");
        for (const char *s = strings[i]; *s; s++) {
            if (*s == '"' || *s == '\\') facet_text_puts(text, "\\");
            facet_text_put(text, s, 1);
        }
        facet_text_puts(text, "\"");
    }
    facet_text_puts(text, "]");
    facet_samples_put_meta(writer, key, facet_text_str(text));
}

void facet_samples_put_tensor(samples_writer *writer, const char *name, facet_st_type type,
                              const void *data, const uint64_t dims[3])
{
    assert(writer->n_tensors < SAMPLES_TENSORS_MAX);
    facet_st_tensor *tensor = &writer->tensors[writer->n_tensors++];
    *tensor = (facet_st_tensor){.name = name, .type = type, .data = data};
    tensor->bytes = facet_st_type_bytes(type);
    for (int i = 0; i < 3 && dims[i]; i++) {
        tensor->dims[tensor->n_dims++] = dims[i];
        tensor->bytes *= dims[i];
    }
}

void facet_samples_put_samples(samples_writer *writer, const facet_samples *samples)
{
    if (samples->tokens) {
        facet_samples_put_tensor(writer, "tokens", FACET_ST_I32, samples->tokens,
                                 (const uint64_t[3]){samples->n_tokens});
        facet_samples_put_tensor(writer, "lengths", FACET_ST_I32, samples->lengths,
                                 (const uint64_t[3]){samples->n});
    }
    if (samples->documents)
        facet_samples_put_tensor(writer, "documents", FACET_ST_I32, samples->documents,
                                 (const uint64_t[3]){samples->n});
    if (samples->answers)
        facet_samples_put_tensor(writer, "answers", FACET_ST_I32, samples->answers,
                                 (const uint64_t[3]){samples->n});
}

facet_status facet_samples_save(samples_writer *writer, const char *path, bool force,
                                facet_err *err)
{
    const facet_st_file content = {writer->meta, writer->n_meta, writer->tensors, writer->n_tensors,
                                   writer->strings.alloc};
    FACET_TRY(facet_text_status(&writer->strings, err));
    FACET_TRY(facet_text_status(&writer->keep, err));
    FACET_TRY(facet_text_status(&writer->number, err));
    return facet_safetensors_save(&content, path, force, err);
}
