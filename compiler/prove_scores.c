// SPDX-License-Identifier: Apache-2.0
// Scores of tasks: what a command of the user says of a family and of dense, in the proof beside
// what we measure ourselves. Whoever supplies the callback runs the command.
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "compiler/build_parts.h"

static bool is_asked(const facet_building *b, uint32_t family, const facet_build_score *score)
{
    return !score->family || strcmp(score->family, b->families->names[family]) == 0;
}

facet_status facet_build_scores_check(const facet_building *b, facet_err *err)
{
    for (uint32_t i = 0; i < b->opts->n_scores; i++) {
        const facet_build_score *score = &b->opts->scores[i];
        bool found = false;
        for (uint32_t k = 0; k < b->n_families && !found; k++)
            found = is_asked(b, k, score);
        if (!found)
            return facet_fail(err, FACET_NOT_FOUND,
                              "score %s: there is no family %.64s; name one of the families",
                              score->name, score->family ? score->family : "at all");
    }
    return FACET_OK;
}

// ---- limits
// --------------------------------------------------------------------------------------

static facet_status judge(const facet_building *b, uint32_t family, const facet_build_score *score,
                          double value, facet_err *err)
{
    const char *name = b->families->names[family];
    facet_err why;
    // A share of nothing, or of less, says nothing.
    if (!(score->dense > 0)) {
        facet_fail(&why, FACET_CHECK,
                   "family %s: dense's score %s is %.9g, which no family can be judged by; choose "
                   "another task, leave out --score-least or add --force",
                   name, score->name, score->dense);
        return facet_build_refuse(b, &why, b->opts->force, err);
    }
    if (value >= score->least * score->dense) return FACET_OK;
    facet_fail(&why, FACET_QUALITY,
               "family %s: at keep %.9g its score %s is %.4g times the dense model's and "
               "--score-least asks for %.9g; keep more, give more text or add --force",
               name, b->keep, score->name, value / score->dense, score->least);
    return facet_build_refuse(b, &why, b->opts->quality_warns, err);
}

// ---- measuring
// -----------------------------------------------------------------------------------

static facet_status measure(facet_building *b, uint32_t i, facet_err *err)
{
    const facet_build_ops *ops = b->ops;
    facet_build_score *score = &b->opts->scores[i];
    if (!score->dense_known) {
        FACET_TRY(ops->score(ops->ctx, b->dir, "dense", score, &score->dense, err));
        score->dense_known = true;
    }
    for (uint32_t k = 0; k < b->n_families; k++) {
        double *value = &b->scores[(size_t)k * b->opts->n_scores + i];
        *value = (double)NAN;
        if (!is_asked(b, k, score)) continue;
        FACET_TRY(ops->score(ops->ctx, b->dir, b->families->names[k], score, value, err));
        if (score->least > 0) FACET_TRY(judge(b, k, score, *value, err));
    }
    return FACET_OK;
}

facet_status facet_build_scores(facet_building *b, facet_err *err)
{
    const uint32_t n = b->opts->n_scores;
    const size_t cells = (size_t)n * b->n_families;
    if (n == 0) return FACET_OK;
    b->scores = facet_arena_new(&b->arena, cells, sizeof *b->scores);
    if (!b->scores) return facet_fail_memory(err, cells * sizeof *b->scores);
    for (uint32_t i = 0; i < n; i++)
        FACET_TRY(measure(b, i, err));
    return FACET_OK;
}

void facet_build_scores_put(const facet_building *b, uint32_t family, cJSON *object)
{
    const uint32_t n = b->opts->n_scores;
    cJSON *list = NULL;
    for (uint32_t i = 0; i < n; i++) {
        const double value = b->scores[(size_t)family * n + i];
        const facet_build_score *score = &b->opts->scores[i];
        if (isnan(value)) continue;
        if (!list) list = cJSON_AddArrayToObject(object, "scores");
        cJSON *item = cJSON_CreateObject();
        cJSON_AddItemToArray(list, item);
        cJSON_AddStringToObject(item, "name", score->name);
        cJSON_AddStringToObject(item, "command", score->command);
        facet_build_put(item, "dense", score->dense);
        facet_build_put(item, "family", value);
    }
}
