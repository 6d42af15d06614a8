// SPDX-License-Identifier: Apache-2.0
#include "tools/bench_rows.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "runtime/eval.h"

typedef struct rows {
    const facet_machine *machine;
    const facet_bundle *bundle;
    const facet_measure_opts *opts;
    cJSON *array;
    double *sorted; // (reps) scratch
} rows;

static int compare(const void *a, const void *b)
{
    double x, y;
    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return (x > y) - (x < y);
}

static double median(const double *sorted, uint32_t n)
{
    return n % 2 == 1 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

// Bytes of the KV cache that a step reads with `n` tokens in the context: F16 keys and values;
// layers with a window read no more than it.
static double kv_bytes(const facet_manifest_model *model, double n)
{
    double positions = 0;
    for (uint32_t layer = 0; layer < model->n_layers; layer++) {
        const bool global = model->window == 0 || model->window_period == 0 ||
                            (layer + 1) % model->window_period == 0;
        positions += global || n < model->window ? n : model->window;
    }
    return positions * 2 * 2 * model->n_kv_heads * model->head_dim;
}

// Tokens in the context at a step, in the mean over a test.
static double mean_context(const facet_measure_opts *opts, facet_test test)
{
    if (test == FACET_TEST_TG) return opts->depth + (opts->n_gen + 1) / 2.0;
    if (test == FACET_TEST_PP) return opts->depth + (opts->n_prompt + 1) / 2.0;
    return opts->depth + (opts->n_prompt + opts->n_gen + 1) / 2.0;
}

static void test_name(const facet_measure_opts *opts, facet_test test, char *out, size_t capacity)
{
    if (test == FACET_TEST_PP)
        (void)snprintf(out, capacity, "pp%u", opts->n_prompt);
    else if (test == FACET_TEST_TG)
        (void)snprintf(out, capacity, "tg%u", opts->n_gen);
    else
        (void)snprintf(out, capacity, "pp%u+tg%u", opts->n_prompt, opts->n_gen);
}

static double add_speed(rows *r, const double *samples, cJSON *row)
{
    const uint32_t reps = r->opts->reps;
    memcpy(r->sorted, samples, reps * sizeof *r->sorted);
    qsort(r->sorted, reps, sizeof *r->sorted, compare);
    const double middle = median(r->sorted, reps);
    cJSON *speed = facet_doc_object(row, "tokens_per_second");
    facet_doc_number(speed, "median", middle);
    facet_doc_number(speed, "min", r->sorted[0]);
    facet_doc_number(speed, "max", r->sorted[reps - 1]);
    cJSON *all = facet_doc_array(speed, "samples");
    for (uint32_t i = 0; i < reps; i++)
        facet_doc_push_number(all, samples[i]);
    return middle;
}

static void add_row(rows *r, const char *family, const char *target, facet_test test,
                    const double *samples)
{
    const facet_manifest *manifest = facet_bundle_manifest(r->bundle);
    const facet_manifest_family *facts = facet_manifest_find(manifest, family);
    char name[48];
    test_name(r->opts, test, name, sizeof name);
    cJSON *row = facet_doc_push_object(r->array);
    facet_doc_text(row, "model",
                   manifest->model.name[0] != '\0' ? manifest->model.name : manifest->model.arch);
    facet_doc_text(row, "family", family);
    facet_doc_text(row, "variant", strcmp(target, "generic") == 0 ? "generic" : "baked");
    facet_doc_text(row, "target", target);
    facet_doc_text(row, "test", name);
    facet_doc_number(row, "batch", r->opts->batch);
    facet_doc_number(row, "depth", r->opts->depth);
    facet_doc_number(row, "reps", r->opts->reps);
    const double speed = add_speed(r, samples, row);
    // A step of several sequences reads the weights once for all of them and each one's own cache.
    // Prompts are read one sequence at a time, so their rows share nothing with other sequences.
    const double sharing = test == FACET_TEST_PP ? 1 : r->opts->batch;
    const double kv = kv_bytes(&manifest->model, mean_context(r->opts, test));
    const double bytes = (double)facts->token_bytes / sharing + kv;
    const double packed = (double)facts->packed_token_bytes / sharing + kv;
    // A prompt's tokens share what is read, so a rate of bytes means something for decoding alone.
    const double rate = test == FACET_TEST_TG ? speed * bytes * 1e-9 : (double)NAN;
    facet_doc_number(row, "bytes_per_token", bytes);
    facet_doc_number(row, "packed_bytes_per_token", packed);
    facet_doc_number(row, "gb_per_s", rate);
    facet_doc_number(row, "of_bandwidth", rate / r->machine->read_gb_per_s);
    facet_doc_bool(row, "cached", packed * sharing < (double)r->machine->l3_bytes);
}

static void add_machine(const facet_machine *machine, cJSON *doc)
{
    cJSON *item = facet_doc_object(doc, "machine");
    facet_doc_text(item, "cpu", machine->cpu);
    facet_doc_text(item, "isa", machine->isa);
    facet_doc_number(item, "cores", machine->cores);
    facet_doc_number(item, "threads", machine->n_threads);
    facet_doc_number(item, "l3_bytes", (double)machine->l3_bytes);
    facet_doc_number(item, "read_gb_per_s", machine->read_gb_per_s);
}

static const char *target_of(const facet_bundle *bundle, const char *family)
{
    for (uint32_t i = 0; i < facet_family_count(bundle); i++)
        if (strcmp(facet_family_name(bundle, i), family) == 0)
            return facet_bundle_target(bundle, i);
    return "generic";
}

facet_status facet_bench_rows(const facet_machine *machine, const facet_bundle *bundle,
                              const facet_strings *families, const facet_measure_opts *opts,
                              const double *samples, cJSON *doc, facet_err *err)
{
    rows r = {.machine = machine, .bundle = bundle, .opts = opts};
    r.sorted = facet_mem_new(NULL, opts->reps, sizeof *r.sorted);
    if (r.sorted == NULL) return facet_fail_memory(err, opts->reps * sizeof *r.sorted);
    add_machine(machine, doc);
    r.array = facet_doc_array(doc, "rows");
    for (int test = 0; test < FACET_TEST_COUNT; test++) {
        if (!facet_measure_has(opts, (facet_test)test)) continue;
        for (size_t f = 0; f < families->n; f++)
            add_row(&r, families->items[f], target_of(bundle, families->items[f]), (facet_test)test,
                    samples + (f * FACET_TEST_COUNT + (size_t)test) * opts->reps);
    }
    facet_mem_free(NULL, r.sorted);
    return FACET_OK;
}

// ---- tables
// ---------------------------------------------------------------------------------------

static double number(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : (double)NAN;
}

static const char *text(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static void print_machine(const cJSON *machine, const char *begin, facet_text *out)
{
    facet_text_add(out, "%s%s, %s, %.0f of %.0f cores, last cache %.1f MiB, reads %.1f GB/s\n",
                   begin, text(machine, "cpu"), text(machine, "isa"), number(machine, "threads"),
                   number(machine, "cores"), number(machine, "l3_bytes") / 1048576.0,
                   number(machine, "read_gb_per_s"));
}

static void print_row(const cJSON *row, bool csv, facet_text *out)
{
    const cJSON *speed = cJSON_GetObjectItemCaseSensitive(row, "tokens_per_second");
    const bool cached = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(row, "cached"));
    const double rate = number(row, "gb_per_s");
    facet_text_add(out,
                   csv ? "\"%s\",%s,%s,%s,%s,%.0f,%.0f,%.0f,%.3f,%.3f,%.3f,%.0f,%.0f,"
                       : "| %s | %s | %s | %s | %s | %.0f | %.0f | %.0f | %.2f | %.2f | %.2f | "
                         "%.0f | %.0f | ",
                   text(row, "model"), text(row, "family"), text(row, "variant"),
                   text(row, "target"), text(row, "test"), number(row, "batch"),
                   number(row, "depth"), number(row, "reps"), number(speed, "median"),
                   number(speed, "min"), number(speed, "max"), number(row, "bytes_per_token"),
                   number(row, "packed_bytes_per_token"));
    if (isfinite(rate))
        facet_text_add(out, csv ? "%.3f,%.4f," : "%.2f | %.2f | ", rate,
                       number(row, "of_bandwidth"));
    else
        facet_text_puts(out, csv ? ",," : "- | - | ");
    facet_text_puts(out, cached ? "yes" : "no");
    facet_text_puts(out, csv ? "\n" : " |\n");
}

void facet_bench_print(const cJSON *doc, bool csv, facet_text *out)
{
    static const char *const columns[] = {"model",        "family", "variant",      "target",
                                          "test",         "batch",  "depth",        "reps",
                                          "tokens/s",     "min",    "max",          "bytes/token",
                                          "packed/token", "GB/s",   "of bandwidth", "cached"};
    if (!csv) {
        print_machine(cJSON_GetObjectItemCaseSensitive(doc, "machine"), "", out);
        facet_text_puts(out, "\n|");
    }
    for (size_t i = 0; i < FACET_COUNT_OF(columns); i++)
        facet_text_add(out, csv ? "%s%s" : "%s %s |", csv && i > 0 ? "," : "", columns[i]);
    facet_text_puts(out, csv ? "\n" : "\n|");
    for (size_t i = 0; !csv && i < FACET_COUNT_OF(columns); i++)
        facet_text_puts(out, i < 5 ? " :-- |" : " --: |");
    if (!csv) facet_text_puts(out, "\n");
    const cJSON *rows_of = cJSON_GetObjectItemCaseSensitive(doc, "rows");
    for (const cJSON *row = rows_of != NULL ? rows_of->child : NULL; row != NULL; row = row->next)
        print_row(row, csv, out);
}
