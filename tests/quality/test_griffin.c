// SPDX-License-Identifier: Apache-2.0
// Published training-free choices of channels on the float32 model, to compare families with:
//
//     test_griffin MODEL IDS CALIBRATION KEEP METHOD...
//
// IDS and CALIBRATION ("-": none) hold token ids, one window a line. The first half of a window is
// a prompt, read by the dense model; the second half is computed with floor(KEEP d_ff) channels a
// layer, their own rows and nothing in return for the others, and is what is scored. Its first
// token is predicted by the prompt's last one, hence by dense, as when a session decodes. Prints
// "METHOD tokens nats" a line, dense first.
//
//     griffin    the window's own prompt: GRIFFIN's statistic (predict/)
//     glass      its ranks mixed with those of a prior over CALIBRATION and the prompts (predict/)
//     stats      one set for all windows: GRIFFIN's statistic over CALIBRATION
//     energy     the same with the squared size of the channel's contributions
//     magnitude  the same from the weights: |gate row| |up row| |down row|
//
// Without arguments it is a test that has nothing to do; tests/oracle/griffin.sh runs it.
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calib/stream.h"
#include "predict/predict.h"
#include "tests/support/sample_ids.h"

enum { SLICE = 64 }; // tokens whose z is masked at a time

typedef struct comparison {
    facet_model *model;
    facet_samples windows;
    facet_samples prompts; // the first half of each window
    facet_samples calibration;
    double keep;
    double prompt_nats; // of the prompts' own tokens, dense
} comparison;

typedef struct channel_sets {
    float *scores; // (n_sets, n_layers, d_ff)
    uint32_t n_sets;
} channel_sets;

static size_t set_size(const comparison *c)
{
    return (size_t)c->model->hp.n_layers * c->model->hp.d_ff;
}

// ---- scores -------------------------------------------------------------------------------------

static facet_status predict(const comparison *c, facet_predictor predictor,
                            const facet_samples *samples, channel_sets *out, facet_err *err)
{
    const facet_predict_opts opts = {.predictor = predictor};
    out->n_sets = samples->n;
    out->scores = facet_mem_new(NULL, samples->n, set_size(c) * sizeof *out->scores);
    if (!out->scores) return facet_fail_memory(err, set_size(c) * sizeof *out->scores);
    return facet_predict(c->model, samples, &opts, out->scores, err);
}

static facet_status griffin(const comparison *c, channel_sets *out, facet_err *err)
{
    return predict(c, FACET_PREDICT_STATS, &c->prompts, out, err);
}

// predict/ takes its prior over all samples it is given, so the calibration goes first.
static facet_status glass(const comparison *c, channel_sets *out, facet_err *err)
{
    const facet_samples *a = &c->calibration, *b = &c->prompts;
    facet_samples both = {.n = a->n + b->n, .n_tokens = a->n_tokens + b->n_tokens};
    both.tokens = facet_mem_new(NULL, both.n_tokens, sizeof *both.tokens);
    both.lengths = facet_mem_new(NULL, both.n, sizeof *both.lengths);
    facet_status status;
    if (both.tokens && both.lengths) {
        memcpy(both.tokens, a->tokens, a->n_tokens * sizeof *a->tokens);
        memcpy(both.tokens + a->n_tokens, b->tokens, b->n_tokens * sizeof *b->tokens);
        memcpy(both.lengths, a->lengths, a->n * sizeof *a->lengths);
        memcpy(both.lengths + a->n, b->lengths, b->n * sizeof *b->lengths);
        status = predict(c, FACET_PREDICT_GLASS, &both, out, err);
    } else {
        status = facet_fail_memory(err, both.n_tokens * sizeof *both.tokens);
    }
    if (status == FACET_OK) {
        memmove(out->scores, out->scores + a->n * set_size(c),
                b->n * set_size(c) * sizeof *out->scores);
        out->n_sets = b->n;
    }
    facet_sample_ids_fini(&both);
    return status;
}

// Squares of the samples' scores add up: both scores are roots of sums over tokens.
static facet_status pooled(const comparison *c, facet_predictor predictor, channel_sets *out,
                           facet_err *err)
{
    const size_t size = set_size(c);
    FACET_TRY(predict(c, predictor, &c->calibration, out, err));
    for (size_t i = 0; i < size; i++) {
        double sum = 0;
        for (uint32_t s = 0; s < out->n_sets; s++)
            sum += pow((double)out->scores[s * size + i], 2);
        out->scores[i] = (float)sum;
    }
    out->n_sets = 1;
    return FACET_OK;
}

static facet_status stats(const comparison *c, channel_sets *out, facet_err *err)
{
    return pooled(c, FACET_PREDICT_STATS, out, err);
}

static facet_status energy(const comparison *c, channel_sets *out, facet_err *err)
{
    return pooled(c, FACET_PREDICT_ENERGY, out, err);
}

// Multiplies scores (d_ff) by the norms of the channels' rows, or columns of the down projection.
static void by_norms(const facet_tensor *tensor, bool columns, float *row, double *squares,
                     float *scores)
{
    const size_t f = columns ? tensor->dims[0] : tensor->dims[1];
    memset(squares, 0, f * sizeof *squares);
    for (size_t r = 0; r < tensor->dims[1]; r++) {
        facet_tensor_row(tensor, r, row);
        for (size_t i = 0; i < tensor->dims[0]; i++)
            squares[columns ? i : r] += (double)row[i] * (double)row[i];
    }
    for (size_t j = 0; j < f; j++)
        scores[j] = (float)((double)scores[j] * sqrt(squares[j]));
}

static facet_status magnitude(const comparison *c, channel_sets *out, facet_err *err)
{
    const facet_hparams *hp = &c->model->hp;
    const size_t widest = hp->d_ff > hp->d_model ? hp->d_ff : hp->d_model;
    float *row = facet_mem_new(NULL, widest, sizeof *row);
    double *squares = facet_mem_new(NULL, hp->d_ff, sizeof *squares);
    out->n_sets = 1;
    out->scores = facet_mem_new(NULL, set_size(c), sizeof *out->scores);
    const bool ok = row && squares && out->scores;
    for (uint32_t layer = 0; ok && layer < hp->n_layers; layer++) {
        float *scores = out->scores + (size_t)layer * hp->d_ff;
        for (uint32_t j = 0; j < hp->d_ff; j++)
            scores[j] = 1;
        static const facet_role roles[] = {FACET_ROLE_GATE, FACET_ROLE_UP, FACET_ROLE_DOWN};
        for (size_t i = 0; i < FACET_COUNT_OF(roles); i++)
            by_norms(facet_model_tensor(c->model, roles[i], layer), roles[i] == FACET_ROLE_DOWN,
                     row, squares, scores);
    }
    facet_mem_free(NULL, row);
    facet_mem_free(NULL, squares);
    return ok ? FACET_OK : facet_fail_memory(err, set_size(c) * sizeof *out->scores);
}

// ---- the channels that stay ---------------------------------------------------------------------

typedef struct scored {
    float score;
    uint32_t channel;
} scored;

static int scored_order(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return (x->channel > y->channel) - (x->channel < y->channel);
}

// Scores of the channels that stay become 1, of the others 0.
static facet_status choose(const comparison *c, channel_sets *sets, facet_err *err)
{
    const uint32_t f = c->model->hp.d_ff, n_kept = (uint32_t)(c->keep * f);
    scored *order = facet_mem_new(NULL, f, sizeof *order);
    if (!order) return facet_fail_memory(err, f * sizeof *order);
    for (size_t i = 0; i < (size_t)sets->n_sets * c->model->hp.n_layers; i++) {
        float *scores = sets->scores + i * f;
        for (uint32_t j = 0; j < f; j++)
            order[j] = (scored){scores[j], j};
        qsort(order, f, sizeof *order, scored_order);
        for (uint32_t j = 0; j < f; j++)
            scores[order[j].channel] = j < n_kept ? 1 : 0;
    }
    facet_mem_free(NULL, order);
    return FACET_OK;
}

// ---- the model with them ------------------------------------------------------------------------

typedef struct pruned {
    const comparison *c;
    const channel_sets *sets;
    uint32_t layer, window, at; // the next token is this one of this window
    float *down;                // (d_ff, d_model)
    float *z;                   // (SLICE, d_ff)
    float *y;                   // (n_tokens, d_model)
} pruned;

// The next token's z, without what its window has dropped.
static void mask_next(pruned *p, const float *z, float *out)
{
    const facet_hparams *hp = &p->c->model->hp;
    const size_t set = p->sets->n_sets > 1 ? p->window : 0;
    const float *kept = p->sets->scores + (set * hp->n_layers + p->layer) * hp->d_ff;
    const bool prompt = p->at < p->c->prompts.lengths[p->window];
    for (uint32_t j = 0; j < hp->d_ff; j++)
        out[j] = prompt || kept[j] > 0 ? z[j] : 0;
    if (++p->at == p->c->windows.lengths[p->window]) {
        p->window++;
        p->at = 0;
    }
}

static facet_status tap(void *ctx, const facet_ffn_chunk *chunk, facet_err *err)
{
    (void)err;
    pruned *p = ctx;
    const size_t d = p->c->model->hp.d_model, f = p->c->model->hp.d_ff;
    for (uint32_t r = 0; r < chunk->n; r += SLICE) {
        const uint32_t n = chunk->n - r < SLICE ? chunk->n - r : SLICE;
        for (uint32_t i = 0; i < n; i++)
            mask_next(p, chunk->z + (r + i) * f, p->z + i * f);
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)n, (int)d, (int)f, 1.0f, p->z,
                    (int)f, p->down, (int)d, 0.0f, p->y + (chunk->first + r) * d, (int)d);
    }
    return FACET_OK;
}

static facet_status pruned_layers(pruned *p, facet_stream *stream, facet_err *err)
{
    for (p->layer = 0; p->layer < p->c->model->hp.n_layers; p->layer++) {
        p->window = p->at = 0;
        FACET_TRY(facet_stream_attn(stream, err));
        FACET_TRY(facet_stream_down(stream, p->layer, p->down, err));
        FACET_TRY(facet_stream_ffn_look(stream, tap, p, err));
        FACET_TRY(facet_stream_ffn_add(stream, p->y, err));
    }
    return FACET_OK;
}

static facet_status dense_layers(const comparison *c, facet_stream *stream, facet_err *err)
{
    for (uint32_t layer = 0; layer < c->model->hp.n_layers; layer++) {
        FACET_TRY(facet_stream_attn(stream, err));
        FACET_TRY(facet_stream_ffn(stream, NULL, NULL, err));
    }
    return FACET_OK;
}

// Nats of every token of a sample but its first; sets NULL: dense.
static facet_status loss(const comparison *c, const channel_sets *sets,
                         const facet_samples *samples, double *nats, facet_err *err)
{
    const facet_hparams *hp = &c->model->hp;
    pruned p = {.c = c, .sets = sets};
    facet_stream *stream = NULL;
    uint64_t scored_tokens;
    facet_status status = FACET_OK;
    if (sets) {
        p.down = facet_mem_new(NULL, hp->d_ff, hp->d_model * sizeof *p.down);
        p.z = facet_mem_new(NULL, SLICE, hp->d_ff * sizeof *p.z);
        p.y = facet_mem_new(NULL, samples->n_tokens, hp->d_model * sizeof *p.y);
        if (!p.down || !p.z || !p.y) {
            status = facet_fail_memory(err, samples->n_tokens * hp->d_model * sizeof *p.y);
            goto done;
        }
    }
    FACET_TRY_GOTO(facet_stream_new(c->model, samples, NULL, &stream, err), done);
    FACET_TRY_GOTO(sets ? pruned_layers(&p, stream, err) : dense_layers(c, stream, err), done);
    FACET_TRY_GOTO(facet_stream_nll(stream, nats, &scored_tokens, NULL, err), done);
done:
    facet_stream_free(stream);
    facet_mem_free(NULL, p.down);
    facet_mem_free(NULL, p.z);
    facet_mem_free(NULL, p.y);
    return status;
}

// ---- the command --------------------------------------------------------------------------------

typedef facet_status method_fn(const comparison *c, channel_sets *out, facet_err *err);
static const struct method {
    const char *name;
    method_fn *run; // NULL: dense
    bool calibrated;
} methods[] = {
    {"dense", NULL, false}, {"griffin", griffin, false}, {"glass", glass, true},
    {"stats", stats, true}, {"energy", energy, true},    {"magnitude", magnitude, false},
};

static facet_status compare(const comparison *c, const char *name, facet_err *err)
{
    size_t i = 0;
    while (i < FACET_COUNT_OF(methods) && strcmp(methods[i].name, name) != 0)
        i++;
    if (i == FACET_COUNT_OF(methods))
        return facet_fail(err, FACET_USAGE,
                          "%s: is no method; choose of dense, griffin, glass, stats, energy, "
                          "magnitude",
                          name);
    if (methods[i].calibrated && c->calibration.n == 0)
        return facet_fail(err, FACET_USAGE,
                          "%s: needs calibration; give a file of ids as CALIBRATION", name);
    channel_sets sets = {0};
    double nats;
    facet_status status = methods[i].run ? methods[i].run(c, &sets, err) : FACET_OK;
    if (status == FACET_OK && methods[i].run) status = choose(c, &sets, err);
    if (status == FACET_OK)
        status = loss(c, methods[i].run ? &sets : NULL, &c->windows, &nats, err);
    if (status == FACET_OK)
        printf("%s %llu %.9g\n", name,
               (unsigned long long)(c->windows.n_tokens - c->prompts.n_tokens),
               nats - c->prompt_nats);
    facet_mem_free(NULL, sets.scores);
    return status;
}

static facet_status halve(comparison *c, facet_err *err)
{
    const facet_samples *windows = &c->windows;
    facet_samples *prompts = &c->prompts;
    prompts->tokens = facet_mem_new(NULL, windows->n_tokens, sizeof *prompts->tokens);
    prompts->lengths = facet_mem_new(NULL, windows->n, sizeof *prompts->lengths);
    if (!prompts->tokens || !prompts->lengths)
        return facet_fail_memory(err, windows->n_tokens * sizeof *prompts->tokens);
    uint64_t first = 0;
    for (uint32_t i = 0; i < windows->n; first += windows->lengths[i++]) {
        const uint32_t n = windows->lengths[i] / 2;
        if (n == 0)
            return facet_fail(err, FACET_BAD_INPUT, "window %u has one token; give it more",
                              (unsigned)i);
        memcpy(prompts->tokens + prompts->n_tokens, windows->tokens + first,
               n * sizeof *prompts->tokens);
        prompts->n_tokens += n;
        prompts->lengths[prompts->n++] = n;
    }
    return loss(c, NULL, prompts, &c->prompt_nats, err);
}

static facet_status run(comparison *c, char **argv, char **names, int n_names, facet_err *err)
{
    char *end;
    c->keep = strtod(argv[4], &end);
    if (*end || !(c->keep > 0 && c->keep <= 1))
        return facet_fail(err, FACET_USAGE, "KEEP %s: is not above 0 and at most 1", argv[4]);
    FACET_TRY(facet_model_open(argv[1], NULL, &c->model, err));
    FACET_TRY(facet_sample_ids_load(argv[2], &c->windows, err));
    if (strcmp(argv[3], "-") != 0) FACET_TRY(facet_sample_ids_load(argv[3], &c->calibration, err));
    FACET_TRY(halve(c, err));
    FACET_TRY(compare(c, "dense", err));
    for (int i = 0; i < n_names; i++)
        FACET_TRY(compare(c, names[i], err));
    return FACET_OK;
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        printf("skipped: usage is test_griffin MODEL IDS CALIBRATION KEEP METHOD...; "
               "tests/oracle/griffin.sh runs it\n");
        return 77;
    }
    facet_err err = {0};
    comparison c = {0};
    const facet_status status = run(&c, argv, argv + 5, argc - 5, &err);
    if (status != FACET_OK) fprintf(stderr, "test_griffin: %s\n", err.message);
    facet_model_close(c.model);
    facet_sample_ids_fini(&c.windows);
    facet_sample_ids_fini(&c.prompts);
    facet_sample_ids_fini(&c.calibration);
    return facet_status_exit(status);
}
