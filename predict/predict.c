// SPDX-License-Identifier: Apache-2.0
// Scores of channels without training. With z (tokens, channels) the activations of a sample in a
// layer, act(x Wg) * (x Wu):
//
//     STATS   s_j = sqrt(sum_t (z_tj / ||z_t||)^2), the statistic of GRIFFIN (arXiv 2404.01365). A
//     token
//             whose z is all zero adds nothing (the published code divides by zero there), so the
//             squares of a sample's scores in a layer add up to its tokens with z other than zero.
//     ENERGY  e_j = sqrt(sum_t z_tj^2) * ||Wd_j||: what the channel adds to the output, in norm.
//     GLASS   (R(s_j) + R(p_j)) / (2 d_ff), after arXiv 2508.14302: s are the sample's STATS, the
//     prior
//             p_j is the mean over all samples of s_j^2 / (tokens of the sample), R is the rank
//             within the layer, 1 for the lowest, equal values sharing the mean of their ranks.
//     RANDOM  uniform in (0, 1], from the seed: the control.
//
// Samples go through the model in groups of whole samples, so memory beside the scores is bounded
// by the model and the longest sample, whatever the number of samples.
#include "predict/predict.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/random.h"
#include "calib/stream.h"

// Tokens of a group: dequantising the model once a group costs well under a hundredth of the
// products.
#define GROUP_TOKENS 8192u

typedef struct predict_job {
    const facet_model *model;
    const facet_samples *samples;
    const facet_predict_opts *opts;
    float *scores;
    float *down; // (d_ff, d_model) ENERGY
    // The group that runs.
    facet_samples group;
    uint32_t sample; // first sample of the group
    uint64_t token;  // its first token
    // The tap walks over the group's samples as tokens come in.
    uint32_t layer, at_sample;
    uint64_t left; // tokens of at_sample still to come
    double *sums;  // (d_ff) of at_sample
} predict_job;

static float *scores_of(const predict_job *job, uint32_t sample, uint32_t layer)
{
    const facet_hparams *hp = &job->model->hp;
    return job->scores + ((size_t)sample * hp->n_layers + layer) * hp->d_ff;
}

static void sums_clear(predict_job *job)
{
    for (uint32_t j = 0; j < job->model->hp.d_ff; j++)
        job->sums[j] = 0;
}

// The sums of a sample are complete: its scores.
static facet_status sums_take(predict_job *job, facet_err *err)
{
    float *scores = scores_of(job, job->at_sample, job->layer);
    for (uint32_t j = 0; j < job->model->hp.d_ff; j++) {
        scores[j] = (float)sqrt(job->sums[j]);
        if (!isfinite(scores[j]))
            return facet_fail_at(err, FACET_BAD_TENSOR, job->model->path, -1,
                                 "layer %u: channel %u has no finite statistic, so weights are "
                                 "damaged or the text drives them out of range; fetch the model "
                                 "again or give other text",
                                 (unsigned)job->layer, (unsigned)j);
    }
    sums_clear(job);
    return FACET_OK;
}

// Moves on to the sample that holds the next token.
static void sample_next(predict_job *job)
{
    do
        job->left = job->samples->lengths[++job->at_sample];
    while (job->left == 0);
}

static facet_status tap(void *ctx, const facet_ffn_chunk *chunk, facet_err *err)
{
    predict_job *job = ctx;
    const uint32_t f = job->model->hp.d_ff;
    for (uint32_t r = 0; r < chunk->n; r++) {
        const float *z = chunk->z + (size_t)r * f;
        if (job->left == 0) sample_next(job);
        double weight = 1;
        if (job->opts->predictor != FACET_PREDICT_ENERGY) {
            double norm = 0;
            for (uint32_t j = 0; j < f; j++)
                norm += (double)z[j] * (double)z[j];
            weight = norm > 0 ? 1 / norm : 0;
        }
        for (uint32_t j = 0; j < f; j++)
            job->sums[j] += weight * ((double)z[j] * (double)z[j]);
        if (--job->left == 0) FACET_TRY(sums_take(job, err));
    }
    return FACET_OK;
}

// Scales the scores of the group in this layer by the norms of the channels' output rows.
static facet_status scale_by_down(predict_job *job, facet_stream *stream, facet_err *err)
{
    const facet_hparams *hp = &job->model->hp;
    FACET_TRY(facet_stream_down(stream, job->layer, job->down, err));
    for (uint32_t j = 0; j < hp->d_ff; j++) {
        const float *row = job->down + (size_t)j * hp->d_model;
        double norm = 0;
        for (uint32_t i = 0; i < hp->d_model; i++)
            norm += (double)row[i] * (double)row[i];
        norm = sqrt(norm);
        for (uint32_t s = 0; s < job->group.n; s++) {
            float *score = scores_of(job, job->sample + s, job->layer) + j;
            *score = (float)((double)*score * norm);
        }
    }
    return FACET_OK;
}

static facet_status layers_run(predict_job *job, facet_stream *stream, facet_err *err)
{
    for (job->layer = 0; job->layer < job->model->hp.n_layers; job->layer++) {
        job->at_sample = job->sample;
        job->left = job->samples->lengths[job->sample];
        sums_clear(job);
        FACET_TRY(facet_stream_attn(stream, err));
        // Nothing is read after the last layer, so it is only looked at.
        if (job->layer + 1 == job->model->hp.n_layers)
            FACET_TRY(facet_stream_ffn_look(stream, tap, job, err));
        else
            FACET_TRY(facet_stream_ffn(stream, tap, job, err));
        if (job->down) FACET_TRY(scale_by_down(job, stream, err));
    }
    return FACET_OK;
}

// The streams of the groups report tokens of their own group; this turns them into one progress.
static void group_progress(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    (void)what;
    const predict_job *job = ctx;
    const facet_report *report = job->opts->report;
    const uint64_t n_tokens = job->group.n_tokens;
    if (!report || !report->progress) return;
    report->progress(report->ctx, "predict", job->token + done / (total / n_tokens),
                     job->samples->n_tokens);
}

static bool group_cancelled(void *ctx)
{
    const facet_report *report = ((const predict_job *)ctx)->opts->report;
    return report && report->cancelled && report->cancelled(report->ctx);
}

static facet_status group_run(predict_job *job, facet_err *err)
{
    const facet_report report = {
        .ctx = job, .progress = group_progress, .cancelled = group_cancelled};
    const facet_stream_opts opts = {.n_threads = job->opts->n_threads,
                                    .precision = job->opts->precision,
                                    .alloc = job->opts->alloc,
                                    .report = &report};
    facet_stream *stream;
    FACET_TRY(facet_stream_new(job->model, &job->group, &opts, &stream, err));
    const facet_status status = layers_run(job, stream, err);
    facet_stream_free(stream);
    return status;
}

// The scores of the group, made or recalled.
static facet_status group_scores(predict_job *job, facet_err *err)
{
    const facet_predict_memory *memory = job->opts->memory;
    float *scores = scores_of(job, job->sample, 0);
    const size_t n = (size_t)job->group.n * job->model->hp.n_layers * job->model->hp.d_ff;
    if (memory && memory->recall(memory->ctx, scores, n)) return FACET_OK;
    for (size_t i = 0; i < n; i++)
        scores[i] = 0; // a sample without tokens keeps zeros
    if (job->group.n_tokens > 0) FACET_TRY(group_run(job, err));
    if (memory) memory->keep(memory->ctx, scores, n);
    return FACET_OK;
}

// Makes the group that starts at job->sample; false when no samples are left.
static bool group_make(predict_job *job)
{
    const facet_samples *samples = job->samples;
    job->group = (facet_samples){.tokens = samples->tokens + job->token,
                                 .lengths = samples->lengths + job->sample};
    while (job->sample + job->group.n < samples->n) {
        const uint64_t n_tokens = job->group.n_tokens + job->group.lengths[job->group.n];
        if (job->group.n_tokens > 0 && n_tokens > GROUP_TOKENS) break;
        job->group.n_tokens = n_tokens;
        job->group.n++;
    }
    return job->group.n > 0;
}

static facet_status forward_scores(predict_job *job, facet_err *err)
{
    const facet_hparams *hp = &job->model->hp;
    const facet_alloc *alloc = job->opts->alloc;
    facet_status status = FACET_OK;
    const bool energy = job->opts->predictor == FACET_PREDICT_ENERGY;
    job->sums = facet_mem_new(alloc, hp->d_ff, sizeof *job->sums);
    if (energy) job->down = facet_mem_new(alloc, hp->d_ff, hp->d_model * sizeof *job->down);
    if (!job->sums || (energy && !job->down)) {
        status = facet_fail_memory(err, (size_t)hp->d_ff * hp->d_model * sizeof *job->down);
        goto done;
    }
    while (group_make(job)) {
        FACET_TRY_GOTO(group_scores(job, err), done);
        job->sample += job->group.n;
        job->token += job->group.n_tokens;
    }
done:
    facet_mem_free(alloc, job->sums);
    facet_mem_free(alloc, job->down);
    return status;
}

typedef struct ranked {
    double value;
    uint32_t channel;
} ranked;

static int ranked_compare(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->value != y->value) return x->value < y->value ? -1 : 1;
    return x->channel < y->channel ? -1 : x->channel > y->channel;
}

// items holds (value, channel) in channel order; ranks[j] becomes the rank of channel j, 1..n.
static void rank(ranked *items, uint32_t n, double *ranks)
{
    qsort(items, n, sizeof *items, ranked_compare);
    for (uint32_t i = 0; i < n;) {
        uint32_t end = i + 1;
        while (end < n && items[end].value == items[i].value)
            end++;
        const double shared = 0.5 * ((double)i + 1 + (double)end);
        for (; i < end; i++)
            ranks[items[i].channel] = shared;
    }
}

// Turns STATS into GLASS, in place. items and ranks: (d_ff); prior: (d_ff).
static void glass_layer(const predict_job *job, uint32_t layer, ranked *items, double *prior,
                        double *ranks)
{
    const uint32_t f = job->model->hp.d_ff;
    for (uint32_t j = 0; j < f; j++)
        items[j] = (ranked){0, j};
    for (uint32_t s = 0; s < job->samples->n; s++) {
        if (job->samples->lengths[s] == 0) continue;
        const float *scores = scores_of(job, s, layer);
        for (uint32_t j = 0; j < f; j++)
            items[j].value += (double)scores[j] * (double)scores[j] / job->samples->lengths[s];
    }
    rank(items, f, prior);
    for (uint32_t s = 0; s < job->samples->n; s++) {
        float *scores = scores_of(job, s, layer);
        for (uint32_t j = 0; j < f; j++)
            items[j] = (ranked){(double)scores[j], j};
        rank(items, f, ranks);
        for (uint32_t j = 0; j < f; j++)
            scores[j] = (float)((ranks[j] + prior[j]) / (2.0 * f));
    }
}

static facet_status glass(const predict_job *job, facet_err *err)
{
    const facet_alloc *alloc = job->opts->alloc;
    const uint32_t f = job->model->hp.d_ff;
    ranked *items = facet_mem_new(alloc, f, sizeof *items);
    double *prior = facet_mem_new(alloc, f, sizeof *prior);
    double *ranks = facet_mem_new(alloc, f, sizeof *ranks);
    facet_status status = FACET_OK;
    if (items && prior && ranks)
        for (uint32_t layer = 0; layer < job->model->hp.n_layers; layer++)
            glass_layer(job, layer, items, prior, ranks);
    else
        status = facet_fail_memory(err, f * sizeof *items);
    facet_mem_free(alloc, items);
    facet_mem_free(alloc, prior);
    facet_mem_free(alloc, ranks);
    return status;
}

static void random_scores(const predict_job *job)
{
    const facet_hparams *hp = &job->model->hp;
    facet_random random = facet_random_seed(job->opts->seed);
    const size_t n = (size_t)job->samples->n * hp->n_layers * hp->d_ff;
    for (size_t i = 0; i < n; i++)
        job->scores[i] = (float)(1.0 - facet_random_unit(&random));
}

facet_status facet_predict(const facet_model *model, const facet_samples *samples,
                           const facet_predict_opts *opts, float *scores, facet_err *err)
{
    static const facet_predict_opts defaults = {0};
    predict_job job = {
        .model = model, .samples = samples, .opts = opts ? opts : &defaults, .scores = scores};
    if (job.opts->predictor == FACET_PREDICT_RANDOM) {
        random_scores(&job);
        return FACET_OK;
    }
    uint64_t n_tokens = 0;
    for (uint32_t i = 0; i < samples->n; i++)
        n_tokens += samples->lengths[i];
    if (!samples->tokens || n_tokens == 0 || n_tokens != samples->n_tokens)
        return facet_fail(err, FACET_BAD_INPUT,
                          "predict: the samples have no tokens; give at least one text");
    FACET_TRY(forward_scores(&job, err));
    if (job.opts->predictor == FACET_PREDICT_GLASS) FACET_TRY(glass(&job, err));
    return facet_report_progress(job.opts->report, "predict", samples->n_tokens, samples->n_tokens,
                                 err);
}

static double cosine(const float *a, const float *b, uint32_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (uint32_t j = 0; j < n; j++) {
        ab += (double)a[j] * (double)b[j];
        aa += (double)a[j] * (double)a[j];
        bb += (double)b[j] * (double)b[j];
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

uint32_t facet_predict_nearest(const float *scores, const float *family_scores, uint32_t n_families,
                               uint32_t n_layers, uint32_t d_ff, double *similarity)
{
    uint32_t best = 0;
    for (uint32_t k = 0; k < n_families; k++) {
        double sum = 0;
        for (uint32_t layer = 0; layer < n_layers; layer++)
            sum += cosine(scores + (size_t)layer * d_ff,
                          family_scores + ((size_t)k * n_layers + layer) * d_ff, d_ff);
        similarity[k] = n_layers ? sum / n_layers : 0;
        if (similarity[k] > similarity[best]) best = k;
    }
    return best;
}
