// SPDX-License-Identifier: Apache-2.0
#include <string.h>

#include "compiler/family.h"
#include "tools/steps.h"

static facet_status find_grouping(const facet_steps_opts *opts, bool labelled,
                                  facet_family_opts *out, facet_err *err)
{
    const char *families = opts->families;
    if (families == NULL) families = labelled ? "label" : "auto";
    if (strcmp(families, "label") == 0) {
        out->grouping = FACET_GROUP_LABEL;
        return FACET_OK;
    }
    if (strcmp(families, "auto") == 0) {
        out->grouping = FACET_GROUP_AUTO;
        return FACET_OK;
    }
    uint64_t k;
    if (!facet_parse_u64(families, &k) || k < 1 || k > 1024)
        return facet_fail(
            err, FACET_USAGE,
            "--families %.80s: is none of auto, label and a number from 1 to 1024; see "
            "facet cluster --help",
            families);
    out->grouping = FACET_GROUP_FIXED;
    out->k = (uint32_t)k;
    return FACET_OK;
}

facet_status facet_steps_check_cluster(const facet_steps_opts *opts, facet_err *err)
{
    facet_family_opts family_opts = {0};
    return find_grouping(opts, true, &family_opts, err);
}

static void add_curve(const facet_family_curve *curve, cJSON *doc)
{
    cJSON *points = facet_doc_array(doc, "curve");
    for (uint32_t i = 0; i < curve->n; i++) {
        const facet_family_point *point = &curve->points[i];
        cJSON *item = facet_doc_push_object(points);
        facet_doc_number(item, "k", point->k);
        facet_doc_number(item, "silhouette", point->silhouette);
        facet_doc_number(item, "cohesion", point->cohesion);
        facet_doc_number(item, "within", point->within);
        facet_doc_number(item, "between", point->between);
        facet_doc_bool(item, "chosen", i == curve->chosen);
    }
}

facet_status facet_steps_cluster(facet_tool *tool, const facet_steps_opts *opts,
                                 const facet_mask_set *set, facet_family_set *out, cJSON *doc,
                                 facet_err *err)
{
    facet_family_opts family_opts = {
        .keep = opts->keep,
        .seed = opts->seed,
        .report = &tool->report,
    };
    facet_family_curve curve = {0};
    FACET_TRY(find_grouping(opts, set->labels != NULL, &family_opts, err));
    FACET_TRY(facet_family_cluster(set, &family_opts, out, &curve, err));
    add_curve(&curve, doc);
    return FACET_OK;
}
