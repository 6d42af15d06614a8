// SPDX-License-Identifier: Apache-2.0
// From samples to the rows of the bench, and the rows as tables.
#ifndef FACET_TOOLS_BENCH_ROWS_H
#define FACET_TOOLS_BENCH_ROWS_H

#include "tools/machine.h"
#include "tools/measure.h"
#include "tools/output.h"

// Adds machine{} and rows[] to `doc`; `samples` is as facet_measure left it.
facet_status facet_bench_rows(const facet_machine *machine, const facet_bundle *bundle,
                              const facet_strings *families, const facet_measure_opts *opts,
                              const double *samples, cJSON *doc, facet_err *err);
// The document as a Markdown table, or as comma-separated values.
void facet_bench_print(const cJSON *doc, bool csv, facet_text *out);

#endif
