// SPDX-License-Identifier: Apache-2.0
// Canonical text of a manifest: fixed order of fields, one entry a line, numbers without locale.
// Two equal manifests print the same bytes.
#include <inttypes.h>
#include <string.h>

#include "cache/manifest_internal.h"

static void print_string(facet_text *out, const char *s)
{
    facet_text_puts(out, "\"");
    for (; *s != 0; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            facet_text_add(out, "\\%c", c);
        else if (c < 0x20 || c == 0x7F)
            facet_text_add(out, "\\u%04x", c);
        else
            facet_text_put(out, s, 1);
    }
    facet_text_puts(out, "\"");
}

static void print_named(facet_text *out, const char *name, const char *value)
{
    facet_text_add(out, "\"%s\": ", name);
    print_string(out, value);
}

static void print_real(facet_text *out, const char *name, double value)
{
    facet_text_add(out, "\"%s\": ", name);
    facet_text_add_number(out, value);
}

static void print_model(facet_text *out, const facet_manifest_model *model)
{
    const struct {
        const char *name, *value;
    } strings[] = {{"arch", model->arch},
                   {"name", model->name},
                   {"fingerprint", model->fingerprint},
                   {"chat", model->chat}};
    facet_text_puts(out, "  \"model\": {\n");
    for (size_t i = 0; i < FACET_COUNT_OF(strings); i++) {
        facet_text_puts(out, "    ");
        print_named(out, strings[i].name, strings[i].value);
        facet_text_puts(out, ",\n");
    }
    for (uint32_t i = 0; i < facet_model_field_count; i++) {
        const facet_model_field *field = &facet_model_fields[i];
        const char *at = (const char *)model + field->at;
        facet_text_puts(out, "    ");
        if (field->kind == FACET_FIELD_DOUBLE) {
            double value;
            memcpy(&value, at, sizeof value);
            print_real(out, field->name, value);
        } else {
            uint32_t small = 0;
            uint64_t value = 0;
            if (field->kind == FACET_FIELD_U32)
                memcpy(&small, at, sizeof small);
            else
                memcpy(&value, at, sizeof value);
            facet_text_add(out, "\"%s\": %" PRIu64, field->name, value + small);
        }
        facet_text_puts(out, i + 1 < facet_model_field_count ? ",\n" : "\n  },\n");
    }
}

// The closing of a list whose last line still lacks its newline.
static void print_close(facet_text *out, uint32_t n, const char *indent, const char *close)
{
    if (n > 0) facet_text_add(out, "\n%s", indent);
    facet_text_puts(out, close);
}

static void print_entries(facet_text *out, const facet_entry *entries, uint32_t n,
                          const char *indent)
{
    facet_text_add(out, "%s\"entries\": [", indent);
    for (uint32_t i = 0; i < n; i++) {
        const facet_entry *e = &entries[i];
        facet_text_add(out, "%s\n%s  {", i > 0 ? "," : "", indent);
        print_named(out, "name", e->name);
        facet_text_add(out, ", \"layer\": %u, ", e->layer);
        print_named(out, "pack", e->pack);
        facet_text_add(
            out, ", \"rows\": %u, \"cols\": %u, \"offset\": %" PRIu64 ", \"bytes\": %" PRIu64 "}",
            e->n_rows, e->n_cols, e->offset, e->bytes);
    }
    print_close(out, n, indent, "]\n");
}

static void print_numbers(facet_text *out, const uint32_t *values, size_t n)
{
    facet_text_puts(out, "[");
    for (size_t i = 0; i < n; i++)
        facet_text_add(out, i > 0 ? ", %u" : "%u", values[i]);
    facet_text_puts(out, "]");
}

static void print_family(facet_text *out, const facet_manifest_family *family, uint32_t n_layers)
{
    facet_text_puts(out, "    {\n      ");
    print_named(out, "name", family->name);
    facet_text_puts(out, ",\n      ");
    print_named(out, "file", family->file);
    facet_text_puts(out, ",\n      ");
    print_real(out, "keep", family->keep);
    facet_text_puts(out, ", ");
    print_real(out, "recall", family->recall);
    facet_text_add(
        out,
        ",\n      \"samples\": %" PRIu64 ", \"extra_bytes\": %" PRIu64 ", \"token_bytes\": %" PRIu64
        ", \"packed_token_bytes\": %" PRIu64 ",\n      \"channels\": ",
        family->samples, family->extra_bytes, family->token_bytes, family->packed_token_bytes);
    print_numbers(out, family->n_channels, n_layers);
    facet_text_puts(out, ",\n      \"runs\": [");
    const uint32_t *runs = family->runs;
    for (uint32_t l = 0; l < n_layers; l++) {
        facet_text_puts(out, l > 0 ? ",\n        " : "\n        ");
        print_numbers(out, runs, 2 * (size_t)family->n_runs[l]);
        runs += 2 * (size_t)family->n_runs[l];
    }
    print_close(out, n_layers, "      ", "],\n");
    print_entries(out, family->entries, family->n_entries, "      ");
    facet_text_puts(out, "    }");
}

static void print_kernels(facet_text *out, const facet_manifest *manifest)
{
    facet_text_puts(out, "  \"kernels\": [");
    for (uint32_t i = 0; i < manifest->n_kernels; i++) {
        const facet_manifest_kernel *kernel = &manifest->kernels[i];
        facet_text_add(out, "%s\n    {", i > 0 ? "," : "");
        print_named(out, "key", kernel->key);
        facet_text_puts(out, ", ");
        print_named(out, "target", kernel->target);
        facet_text_puts(out, ", ");
        print_named(out, "family", kernel->family);
        facet_text_puts(out, ", ");
        print_named(out, "file", kernel->file);
        facet_text_add(out, ", \"bytes\": %" PRIu64 "}", kernel->bytes);
    }
    print_close(out, manifest->n_kernels, "  ", "],\n");
}

static void print_files(facet_text *out, const facet_manifest *manifest)
{
    facet_text_puts(out, "  \"files\": [");
    for (uint32_t i = 0; i < manifest->n_files; i++) {
        const facet_manifest_file *file = &manifest->files[i];
        facet_text_add(out, "%s\n    {", i > 0 ? "," : "");
        print_named(out, "name", file->name);
        facet_text_add(out, ", \"bytes\": %" PRIu64 ", ", file->bytes);
        print_named(out, "xxh3", file->xxh3);
        facet_text_puts(out, "}");
    }
    print_close(out, manifest->n_files, "  ", "]\n");
}

facet_status facet_manifest_print(const facet_manifest *manifest, const facet_alloc *alloc,
                                  char **text, facet_err *err)
{
    facet_text out;
    facet_text_init(&out, alloc);
    facet_text_puts(&out, "{\n  ");
    print_named(&out, "kind", FACET_MANIFEST_KIND);
    facet_text_add(&out, ",\n  \"version\": %u,\n  ", manifest->version);
    print_named(&out, "compensate", manifest->compensate);
    facet_text_puts(&out, ",\n  ");
    print_named(&out, "layout", manifest->layout);
    facet_text_puts(&out, ",\n  ");
    print_named(&out, "quant", manifest->quant);
    facet_text_puts(&out, ",\n");
    print_model(&out, &manifest->model);
    facet_text_puts(&out, "  \"weights\": {\n    ");
    print_named(&out, "file", FACET_MANIFEST_WEIGHTS);
    facet_text_puts(&out, ",\n");
    print_entries(&out, manifest->entries, manifest->n_entries, "    ");
    facet_text_puts(&out, "  },\n  \"families\": [");
    for (uint32_t i = 0; i < manifest->n_families; i++) {
        facet_text_puts(&out, i > 0 ? ",\n" : "\n");
        print_family(&out, &manifest->families[i], manifest->model.n_layers);
    }
    print_close(&out, manifest->n_families, "  ", "],\n");
    print_kernels(&out, manifest);
    print_files(&out, manifest);
    facet_text_puts(&out, "}\n");
    facet_status status = facet_text_status(&out, err);
    if (status == FACET_OK) *text = facet_text_take(&out);
    facet_text_fini(&out);
    return status;
}
