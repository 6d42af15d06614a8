// SPDX-License-Identifier: Apache-2.0
// Distilling a pruned model: how fast a step is, against plain products of the same process, and
// what a run wins. Run by hand, with B a build directory:
//
//     cc -std=c17 -O2 -D_POSIX_C_SOURCE=200809L -I. -Iinclude tests/bench/distill.c
//         B/libfacet_{train,compiler,calib,products,runtime,model,kernels,cache,base}.a
//         -llapacke -lopenblas -lxxhash -lcjson -lpcre2-8 -lm -lpthread -ldl -o bench_distill
//     bench_distill speed MODEL KEEP [BATCH TOKENS] [THREADS] [f32|bf16]
//     bench_distill run MODEL FAMILIES NAME KEEP REFIT TOKENS EPOCHS RATE[,RATE...] [BATCH
//     TOKENS]
//
// `run` keeps the channels of highest score in every layer, starts from the model's own rows
// (REFIT 0) or from a closed-form refit on the residual stream of so many tokens, learns from the
// family's samples that are not held out, and judges by those that are.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/random.h"
#include "compiler/build_tune.h"
#include "compiler/compensate.h"
#include "train/adam.h"
#include "train/distill.h"
#include "train/step.h"

static void check(facet_status status, const facet_err *err)
{
    if (status == FACET_OK) return;
    fprintf(stderr, "bench: %s\n", err->message);
    exit(1);
}

static void tell(void *ctx, facet_level level, const char *text)
{
    (void)level;
    printf("  %6.1f s  %s\n", facet_clock_seconds(*(const uint64_t *)ctx), text);
    fflush(stdout);
}

// ---- speed ------------------------------------------------------------------------------------

// One thread counts its own CPU time, so that figures hold on a busy machine.
static double seconds_now(uint32_t n_threads)
{
    struct timespec now;
    clock_gettime(n_threads == 1 ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

// GFLOP/s of products of 1024 x 1024 x 1024 on all threads of the pool.
static double product_rate(facet_pool *pool, facet_precision precision, float *a, float *b,
                           float *c)
{
    const size_t mnk[] = {1024, 1024, 1024};
    const facet_product product = facet_product_whole(FACET_PRODUCT_NT, mnk, a, b, c);
    const uint32_t n_threads = facet_pool_threads(pool);
    const double begin = seconds_now(n_threads);
    for (int i = 0; i < 20; i++)
        facet_products_run(pool, precision, &product, 1);
    return 20 * 2 * 1.073741824 / (seconds_now(n_threads) - begin);
}

// Operations of the products of a distilling step: weights, causal attention with its second
// computation of the scores, and the head three times.
static double step_gflop(const facet_net *net, uint32_t n_tokens, uint32_t length)
{
    const facet_hparams *hp = &net->hp;
    double per_token = 6.0 * hp->n_vocab * hp->d_model;
    for (uint32_t layer = 0; layer < hp->n_layers; layer++) {
        const double down = (double)facet_net_kept(net, layer) * hp->d_model;
        const double heads = 2.0 * (hp->n_heads + hp->n_kv_heads) * hp->head_dim * hp->d_model;
        const double scores = (double)hp->n_heads * hp->head_dim * length; // both triangles
        per_token += 2 * heads * (layer > 0 ? 2 : 1) + 2 * 3 * down * (layer > 0 ? 2 : 1) +
                     2 * down + scores * 2 * (layer > 0 ? 7 : 2) / 2;
    }
    return per_token * n_tokens * 1e-9;
}

static int speed(int argc, char **argv)
{
    facet_err err;
    facet_model *model;
    check(facet_model_open(argv[2], NULL, &model, &err), &err);
    const uint32_t n_tokens = argc > 4 ? (uint32_t)atoi(argv[4]) : 1024, length = 256;
    const uint32_t n_threads = argc > 5 ? (uint32_t)atoi(argv[5]) : facet_cores();
    const facet_precision precision =
        argc > 6 && strcmp(argv[6], "bf16") == 0 ? FACET_PRECISION_BF16 : FACET_PRECISION_F32;
    const uint32_t n_kept = (uint32_t)(atof(argv[3]) * model->hp.d_ff);
    uint32_t *kept = calloc(n_kept, sizeof *kept), *tokens = calloc(n_tokens, sizeof *tokens);
    uint32_t *lengths = calloc(n_tokens, sizeof *lengths);
    facet_ffn_custom *custom = calloc(model->hp.n_layers, sizeof *custom);
    for (uint32_t i = 0; i < n_kept; i++)
        kept[i] = (uint32_t)((uint64_t)i * model->hp.d_ff / n_kept);
    for (uint32_t i = 0; i < model->hp.n_layers; i++)
        custom[i] = (facet_ffn_custom){.kept = kept, .n_kept = n_kept};
    facet_pool *pool;
    facet_net *net;
    facet_step *step;
    facet_adam *adam;
    check(facet_pool_new(n_threads, NULL, &pool, &err), &err);
    check(facet_net_new(model,
                        &(facet_net_opts){.custom = custom,
                                          .train = FACET_PARAM_DOWN_BOTH | FACET_OWN_ROLES,
                                          .precision = precision,
                                          .pool = pool},
                        &net, &err),
          &err);
    const facet_step_opts step_opts = {
        .max_tokens = n_tokens, .longest = length, .distill = true, .pool = pool};
    facet_adam_opts adam_opts = FACET_ADAM_OPTS_DEFAULT;
    adam_opts.pool = pool;
    check(facet_step_new(net, &step_opts, &step, &err), &err);
    check(facet_adam_new(net, &adam_opts, &adam, &err), &err);

    facet_random random = facet_random_seed(1);
    float *teacher = calloc((size_t)n_tokens * model->hp.d_model, sizeof *teacher);
    float *square = calloc((size_t)3 << 20, sizeof *square);
    for (size_t i = 0; i < (size_t)n_tokens * model->hp.d_model; i++)
        teacher[i] = (float)facet_random_normal(&random);
    for (size_t i = 0; i < (size_t)3 << 20; i++)
        square[i] = (float)facet_random_normal(&random);
    for (uint32_t t = 0; t < n_tokens; t++)
        tokens[t] = (uint32_t)facet_random_below(&random, model->hp.n_vocab);
    facet_batch batch = {.tokens = tokens,
                         .lengths = lengths,
                         .n_tokens = n_tokens,
                         .teacher = teacher,
                         .scale = 1.0f / (float)n_tokens,
                         .backward = true};
    for (uint32_t left = n_tokens; left > 0; left -= lengths[batch.n++])
        lengths[batch.n] = left < length ? left : length;
    const double gflop = step_gflop(net, n_tokens, length);
    for (int round = 0; round < 3; round++) {
        double loss;
        const double peak =
            product_rate(pool, precision, square, square + (1 << 20), square + (2 << 20));
        const double begin = seconds_now(n_threads);
        facet_net_zero(net);
        check(facet_step_run(step, &batch, &loss, &err), &err);
        const double run = seconds_now(n_threads) - begin;
        facet_adam_step(adam, 1e-6);
        const double all = seconds_now(n_threads) - begin;
        printf("%u tokens, %u threads: %.2f s (Adam %.3f), %.0f tokens/s, %.1f GFLOP/s, products "
               "of 1024 cubed %.1f: %.0f %%\n",
               n_tokens, n_threads, all, all - run, n_tokens / all, gflop / all, peak,
               100 * gflop / all / peak);
    }
    return 0;
}

// ---- run --------------------------------------------------------------------------------------

typedef struct family {
    facet_model *model;
    facet_family_set set;
    uint32_t index, n_kept;
    facet_samples parts[3]; // to learn from, to judge by, to refit on (of those to learn from)
    facet_distill_layer *layers;
} family;

static const float *sorted_scores; // qsort has no context

static int by_score(const void *a, const void *b)
{
    const uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    if (sorted_scores[i] != sorted_scores[j]) return sorted_scores[i] > sorted_scores[j] ? -1 : 1;
    return i < j ? -1 : i > j;
}

static int by_number(const void *a, const void *b)
{
    const uint32_t i = *(const uint32_t *)a, j = *(const uint32_t *)b;
    return i < j ? -1 : i > j;
}

static void channels_choose(family *f)
{
    const uint32_t d_ff = f->model->hp.d_ff, n_layers = f->model->hp.n_layers;
    f->layers = calloc(n_layers, sizeof *f->layers);
    for (uint32_t layer = 0; layer < n_layers; layer++) {
        uint32_t *order = calloc(d_ff, sizeof *order);
        for (uint32_t i = 0; i < d_ff; i++)
            order[i] = i;
        sorted_scores = f->set.scores + ((size_t)f->index * n_layers + layer) * d_ff;
        qsort(order, d_ff, sizeof *order, by_score);
        qsort(order, f->n_kept, sizeof *order, by_number);
        f->layers[layer].kept = order;
        f->layers[layer].n_kept = f->n_kept;
    }
}

static void samples_split(family *f, const uint64_t limits[3])
{
    const facet_samples *all = &f->set.samples;
    for (int part = 0; part < 3; part++) {
        facet_samples *to = &f->parts[part];
        to->tokens = calloc(all->n_tokens, sizeof *to->tokens);
        to->lengths = calloc(all->n, sizeof *to->lengths);
        for (uint64_t i = 0, token = 0; i < all->n; token += all->lengths[i++]) {
            const uint32_t n = all->lengths[i];
            if (f->set.assign[i] != f->index || f->set.held[i] != (part == 1) || n < 32) continue;
            if (to->n_tokens + n > limits[part]) continue;
            memcpy(to->tokens + to->n_tokens, all->tokens + token, n * sizeof *to->tokens);
            to->lengths[to->n++] = n;
            to->n_tokens += n;
        }
    }
}

typedef struct collect {
    facet_moments moments;
    const float *wanted; // (n_tokens, d_model) dense residual stream after the layer
    uint32_t n_kept, d;
    float *z, *rows;
} collect;

static facet_status collect_tap(void *ctx, const facet_ffn_chunk *chunk, facet_err *err)
{
    (void)err;
    collect *c = ctx;
    for (uint32_t t = 0; t < chunk->n; t++) {
        float *z = c->z + (size_t)t * (c->n_kept + 1), *w = c->rows + (size_t)t * c->d;
        memcpy(z, chunk->z + (size_t)t * c->n_kept, c->n_kept * sizeof *z);
        z[c->n_kept] = 1;
        for (uint32_t j = 0; j < c->d; j++)
            w[j] = c->wanted[(chunk->first + t) * c->d + j] - chunk->res[(size_t)t * c->d + j];
    }
    facet_moments_add(&c->moments, FACET_PART_FIT,
                      &(facet_moments_rows){.n_rows = chunk->n, .z = c->z, .wanted = c->rows});
    return FACET_OK;
}

// Rows to start from: the model's own, or refitted in the order of the layers.
static void rows_start(family *f, bool refit)
{
    facet_err err;
    facet_stream *dense, *own;
    const size_t d = f->model->hp.d_model, n = f->n_kept;
    float *down = calloc(f->model->hp.d_ff * d, sizeof *down);
    check(facet_stream_new(f->model, &f->parts[2], NULL, &dense, &err), &err);
    check(facet_stream_copy(dense, &own, &err), &err);
    for (uint32_t layer = 0; layer < f->model->hp.n_layers; layer++) {
        facet_distill_layer *l = &f->layers[layer];
        l->down = calloc((n + 1) * d, sizeof *l->down);
        l->bias = l->down + n * d;
        check(facet_stream_down(dense, layer, down, &err), &err);
        for (size_t i = 0; i < n; i++)
            memcpy(l->down + i * d, down + l->kept[i] * d, d * sizeof *down);
        if (!refit) continue;
        collect c = {.n_kept = f->n_kept, .d = (uint32_t)d};
        c.z = calloc(4096 * (n + 1), sizeof *c.z);
        c.rows = calloc(4096 * d, sizeof *c.rows);
        check(facet_moments_init(&c.moments, f->n_kept, (uint32_t)d, NULL, &err), &err);
        check(facet_stream_attn(dense, &err), &err);
        check(facet_stream_ffn(dense, NULL, NULL, &err), &err);
        c.wanted = facet_stream_x(dense);
        check(facet_stream_attn(own, &err), &err);
        check(facet_stream_ffn_look_kept(own, l->kept, l->n_kept, collect_tap, &c, &err), &err);
        check(facet_compensate_solve(&c.moments, 0.1, layer, l->down, &err), &err);
        const facet_ffn_custom custom = {l->kept, l->n_kept, l->down, l->bias};
        check(facet_stream_ffn_custom(own, &custom, &err), &err);
        facet_moments_fini(&c.moments);
        free(c.z);
        free(c.rows);
    }
    facet_stream_free(dense);
    facet_stream_free(own);
    free(down);
}

// Perplexity of the judging samples over the dense model's.
static double ppl_ratio(const family *f, const facet_vectors *vectors)
{
    double nats[2];
    uint64_t scored = 1;
    for (int own = 0; own < 2; own++) {
        facet_err err;
        facet_stream *stream;
        check(facet_stream_new(f->model, &f->parts[1], NULL, &stream, &err), &err);
        if (own) facet_stream_own(stream, vectors, false);
        for (uint32_t layer = 0; layer < f->model->hp.n_layers; layer++) {
            const facet_distill_layer *l = &f->layers[layer];
            const facet_ffn_custom custom = {l->kept, l->n_kept, l->down, l->bias};
            check(facet_stream_attn(stream, &err), &err);
            check(own ? facet_stream_ffn_custom(stream, &custom, &err)
                      : facet_stream_ffn(stream, NULL, NULL, &err),
                  &err);
        }
        check(facet_stream_nll(stream, &nats[own], &scored, NULL, &err), &err);
        facet_stream_free(stream);
    }
    return exp((nats[1] - nats[0]) / (double)scored);
}

// A run from the rows of the start, which it gives back as they were.
static void run_rate(family *f, double rate, uint32_t epochs, uint32_t batch_tokens)
{
    facet_err err;
    const uint32_t n_layers = f->model->hp.n_layers;
    const size_t n = ((size_t)f->n_kept + 1) * f->model->hp.d_model;
    float *start = calloc(n_layers * n, sizeof *start);
    for (uint32_t i = 0; i < n_layers; i++)
        memcpy(start + i * n, f->layers[i].down, n * sizeof *start);
    uint64_t begin = facet_clock_ns();
    const facet_report report = {.ctx = &begin, .log = tell};
    facet_distill_opts opts = FACET_DISTILL_OPTS_DEFAULT;
    opts.epochs = epochs;
    opts.rate = rate;
    if (batch_tokens) opts.batch_tokens = batch_tokens;
    opts.report = &report;
    facet_distill_result result;
    facet_vectors own;
    check(facet_vectors_init(&own, f->model, FACET_OWN_ROLES, NULL, &err), &err);
    const facet_distill_data data = {f->model, f->layers, &f->parts[0], &f->parts[1], &own};
    check(facet_distill(&data, &opts, &result, &err), &err);
    const double seconds = facet_clock_seconds(begin);
    printf("rate %g, %u epochs of %u-token batches: KL %.4f to %.4f (step %u of %u), perplexity "
           "over dense %.4f, %.0f s, %.0f tokens/s with all\n",
           opts.rate, opts.epochs, opts.batch_tokens, result.before, result.after, result.best_step,
           result.steps, ppl_ratio(f, &own), seconds, (double)result.tokens / seconds);
    for (uint32_t i = 0; i < n_layers; i++)
        memcpy(f->layers[i].down, start + i * n, n * sizeof *start);
    facet_vectors_fini(&own);
    free(start);
}

static int run(int argc, char **argv)
{
    facet_err err;
    family f = {0};
    const uint64_t begin = facet_clock_ns();
    check(facet_model_open(argv[2], NULL, &f.model, &err), &err);
    check(facet_family_set_load(argv[3], NULL, &f.set, &err), &err);
    while (f.index < f.set.n_families && strcmp(f.set.names[f.index], argv[4]) != 0)
        f.index++;
    if (f.index == f.set.n_families) {
        fprintf(stderr, "bench: %s: no family %s\n", argv[3], argv[4]);
        return 2;
    }
    f.n_kept = (uint32_t)(atof(argv[5]) * f.model->hp.d_ff);
    channels_choose(&f);
    const uint64_t refit = (uint64_t)atoll(argv[6]), learn = (uint64_t)atoll(argv[7]);
    samples_split(&f, (const uint64_t[]){learn, 2048, refit ? refit : learn});
    rows_start(&f, refit > 0);
    printf("%s: learn %llu tokens, judge %llu; start: perplexity over dense %.4f (%.0f s)\n",
           argv[4], (unsigned long long)f.parts[0].n_tokens,
           (unsigned long long)f.parts[1].n_tokens, ppl_ratio(&f, NULL),
           facet_clock_seconds(begin));
    for (char *rate = strtok(argv[9], ","); rate; rate = strtok(NULL, ","))
        run_rate(&f, atof(rate), (uint32_t)atoi(argv[8]), argc > 10 ? (uint32_t)atoi(argv[10]) : 0);
    return 0;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (argc >= 4 && strcmp(argv[1], "speed") == 0) return speed(argc, argv);
    if (argc >= 10 && strcmp(argv[1], "run") == 0) return run(argc, argv);
    fprintf(stderr, "usage: bench_distill speed MODEL KEEP [BATCH TOKENS] [THREADS]\n"
                    "       bench_distill run MODEL FAMILIES NAME KEEP REFIT TOKENS EPOCHS "
                    "RATE[,RATE...] [BATCH TOKENS]\n");
    return 2;
}
