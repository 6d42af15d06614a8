// SPDX-License-Identifier: Apache-2.0
// GRIFFIN's statistic of what dense reads, on the way: s_j^2 = sum_t (z_tj / ||z_t||)^2 per layer,
// the STATS of predict/predict.c. Between FFN_IN and DOWN z is complete and nobody writes it:
// tokens are split for the norms, channels for the sums, so no sum is split and the result depends
// neither on the number of threads nor on how a prompt falls into chunks.
#include <math.h>
#include <string.h>

#include "runtime/eval.h"
#include "runtime/session.h"

static size_t stats_count(const facet_session *s)
{
    return (size_t)s->bundle->shape.n_layers * s->bundle->shape.d_ff;
}

static const float *z_row(const facet_step *step, uint32_t layer, uint32_t token)
{
    return step->z + (uint64_t)token * facet_round32(step->layers[layer].down.n_cols);
}

void facet_session_stats_weigh(facet_session *session, const facet_step *step, uint32_t layer,
                               facet_range tokens)
{
    const uint32_t d_ff = step->shape->d_ff;
    for (uint32_t t = tokens.begin; t < tokens.end; t++) {
        const float *z = z_row(step, layer, t);
        double norm = 0;
        for (uint32_t j = 0; j < d_ff; j++)
            norm += (double)z[j] * (double)z[j];
        session->stats_weights[t] = norm > 0 ? 1 / norm : 0;
    }
}

void facet_session_stats_add(facet_session *session, const facet_step *step, uint32_t layer,
                             facet_range channels)
{
    double *sums = session->stats + (size_t)layer * step->shape->d_ff;
    for (uint32_t t = 0; t < step->n_tokens; t++) {
        const double weight = session->stats_weights[t];
        const float *z = z_row(step, layer, t);
        for (uint32_t j = channels.begin; j < channels.end; j++)
            sums[j] += weight * ((double)z[j] * (double)z[j]);
    }
}

facet_status facet_session_stats_begin(facet_session *session, facet_err *err)
{
    const size_t n = stats_count(session);
    if (!session->stats) {
        double *block = facet_mem_new(session->alloc, n + FACET_CHUNK, sizeof *block);
        if (!block) return facet_fail_memory(err, (n + FACET_CHUNK) * sizeof *block);
        session->stats = block;
        session->stats_weights = block + n;
    }
    memset(session->stats, 0, n * sizeof *session->stats);
    return FACET_OK;
}

facet_status facet_session_stats(const facet_session *session, float *scores, facet_err *err)
{
    if (!session->stats)
        return facet_fail(err, FACET_BAD_INPUT,
                          "statistics: nobody asked for them before the prompt; begin them first");
    const size_t n = stats_count(session);
    for (size_t i = 0; i < n; i++)
        scores[i] = (float)sqrt(session->stats[i]);
    return FACET_OK;
}

void facet_session_stats_end(facet_session *session)
{
    facet_mem_free(session->alloc, session->stats);
    session->stats = session->stats_weights = NULL;
}

const float *facet_bundle_scores(const facet_bundle *bundle, uint32_t family, uint32_t layer)
{
    const facet_family *from = &bundle->families[family];
    const facet_entry *entry = facet_manifest_entry(from->facts->entries, from->facts->n_entries,
                                                    layer, FACET_ENTRY_SCORES);
    if (!entry) return NULL;
    const void *data = from->map.data + entry->offset;
    return data;
}
