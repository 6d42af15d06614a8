// SPDX-License-Identifier: Apache-2.0
// Is a family as good as was asked for, and can that be told?
#include <math.h>

#include "compiler/build_parts.h"

// Is there something to compare? A sample's first token follows nothing; one sample may not cost
// more than all together should.
bool facet_build_answered(const facet_samples *samples, uint32_t i)
{
    if (!samples->tokens || !samples->answers) return false;
    const uint32_t length = samples->lengths[i];
    return length > 1 && samples->answers[i] < length && length <= FACET_BUILD_AGREE_TOKENS;
}

facet_status facet_build_refuse(const facet_building *b, const facet_err *why, bool warn,
                                facet_err *err)
{
    if (!warn && err) *err = *why;
    if (!warn) return why->code;
    facet_report_log(b->opts->report, FACET_LOG_WARN, "%s", why->message);
    return FACET_OK;
}

// Is there held-out text to judge a family by? With `answers`: held-out answers?
static bool is_judgeable(const facet_building *b, uint32_t family, bool answers)
{
    const facet_samples *samples = &b->families->samples;
    const facet_family_split *split = &b->splits[family];
    for (uint32_t i = 0; i < split->n_held; i++) {
        const uint32_t sample = split->held[i];
        if (answers ? facet_build_answered(samples, sample)
                    : samples->tokens && samples->lengths[sample] > 1)
            return true;
    }
    return false;
}

facet_status facet_build_judgeable(facet_building *b, facet_err *err)
{
    for (uint32_t k = 0; k < b->n_families; k++) {
        const char *name = b->families->names[k];
        const bool held = is_judgeable(b, k, false);
        facet_err why;
        // Whoever set a limit hears of it below, whoever compares many bundles sees it in each.
        if (!held && b->opts->prove && !b->opts->prove_own && b->opts->quality == 0 &&
            b->opts->agree == 0)
            facet_report_log(b->opts->report, FACET_LOG_WARN,
                             "family %s: no text of it is held out, so the proof cannot tell what "
                             "it costs; give more documents",
                             name);
        if (b->opts->quality > 0 && !held) {
            facet_fail(&why, FACET_CHECK,
                       "family %s: no text of it is held out, so its quality cannot be judged; "
                       "give more documents, leave out --quality or add --force",
                       name);
            FACET_TRY(facet_build_refuse(b, &why, b->opts->force, err));
        }
        if (b->opts->agree > 0 && !is_judgeable(b, k, true)) {
            facet_fail(&why, FACET_CHECK,
                       "family %s: no answer of at most %d tokens with its prompt is held out, so "
                       "its agreement with dense cannot be judged; give more prompts, leave out "
                       "--agree or add --force",
                       name, (int)FACET_BUILD_AGREE_TOKENS);
            FACET_TRY(facet_build_refuse(b, &why, b->opts->force, err));
        }
    }
    return FACET_OK;
}

static facet_status judge_quality(const facet_building *b, facet_err *err)
{
    const facet_build_family *worst = NULL;
    double most = b->opts->quality;
    for (uint32_t k = 0; k < b->n_families; k++) {
        const facet_build_family *f = &b->result.families[k];
        // 0 stands for not measured, which was said before.
        const double ratio = f->ppl_dense == 0 ? 0 : f->ppl_own / f->ppl_dense;
        if (ratio <= most) continue; // not so for NaN
        most = isnan(ratio) ? (double)INFINITY : ratio;
        worst = f;
    }
    if (!worst) return FACET_OK;
    facet_err why;
    facet_fail(&why, FACET_QUALITY,
               "family %s: at keep %.9g its held-out perplexity is %.4g times the dense model's "
               "and --quality allows %.9g; keep more, give more text or add --force",
               worst->name, b->keep, most, b->opts->quality);
    return facet_build_refuse(b, &why, b->opts->quality_warns, err);
}

static facet_status judge_agreement(const facet_building *b, facet_err *err)
{
    const facet_build_family *worst = NULL;
    double least = b->opts->agree;
    for (uint32_t k = 0; k < b->n_families; k++) {
        const facet_build_family *f = &b->result.families[k];
        const double share =
            facet_build_share(f->agreement.positions_equal, f->agreement.positions);
        if (!(share < least)) continue; // NaN stands for not measured, which was said before
        least = share;
        worst = f;
    }
    if (!worst) return FACET_OK;
    facet_err why;
    facet_fail(&why, FACET_QUALITY,
               "family %s: at keep %.9g it agrees with dense at %.5g of the positions of held-out "
               "answers and --agree asks for %.9g; keep more, give more prompts or add --force",
               worst->name, b->keep, least, b->opts->agree);
    return facet_build_refuse(b, &why, b->opts->quality_warns, err);
}

facet_status facet_build_judge(const facet_building *b, facet_err *err)
{
    if (b->opts->quality > 0) FACET_TRY(judge_quality(b, err));
    return b->opts->agree > 0 ? judge_agreement(b, err) : FACET_OK;
}
