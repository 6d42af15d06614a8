// SPDX-License-Identifier: Apache-2.0
// What inspect prints of each kind of file; predict, cluster, compile and build print the same of
// what they made. All add fields to `doc`.
#ifndef FACET_TOOLS_DESCRIBE_H
#define FACET_TOOLS_DESCRIBE_H

#include "model/model.h"
#include "model/samples.h"
#include "tools/output.h"

facet_status facet_describe_model(const facet_tool *tool, const facet_model *model, cJSON *doc,
                                  facet_err *err);
facet_status facet_describe_masks(const facet_mask_set *set, cJSON *doc, facet_err *err);
facet_status facet_describe_families(const facet_family_set *set, cJSON *doc, facet_err *err);
// Reads the manifest and the proof; does not open weights or kernels. Without --json the proof is
// a table of its most important figures.
facet_status facet_describe_bundle(const facet_tool *tool, const char *path, cJSON *doc,
                                   facet_err *err);
// `path` by its kind.
facet_status facet_describe(const facet_tool *tool, const char *path, cJSON *doc, facet_err *err);

// Bytes of the source that one decode step of the dense model reads, and the share of the FFN in
// it.
void facet_model_step_bytes(const facet_model *model, uint64_t *all, uint64_t *ffn);

#endif
