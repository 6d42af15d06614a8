// SPDX-License-Identifier: Apache-2.0
// Micro benchmark of an emitted artifact on random weights: gigabytes of packed weights a second in
// decoding (one token) beside a plain streaming read, and giga-operations a second in prefill.
// Interleaved; with one thread its own CPU time counts, so that figures hold on a busy machine.
// Run by hand, with B a build directory:
//
//     cc -std=c17 -O2 -D_POSIX_C_SOURCE=200809L -I. -Iinclude tests/bench/kernels.c
//         runtime/check_world.c B/libfacet_{compiler,model,kernels,cache,base}.a
//         -lxxhash -lcjson -lpcre2-8 -lopenblas -llapacke -lm -lpthread -ldl -o bench_kernels
//     bench_kernels -e TARGET PACK out.c     (then compile out.c with the flags of a recipe)
//     bench_kernels ./out.so PACK THREADS [TOKENS] [ROUNDS]
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/threads.h"
#include "compiler/pack.h"
#include "compiler/plan.h"
#include "kernels/reference.h"
#include "runtime/check_world.h"

enum { N_LAYERS = 24, N_TILES = 152, N_CTX = 1024, MAX_TOKENS = 512 };

static facet_plan_layer layers[N_LAYERS];
static uint32_t tiles[N_TILES], order[N_TILES * FACET_TILE];

static facet_plan bench_plan(const char *target, facet_pack pack)
{
    for (uint32_t i = 0; i < N_TILES; i++)
        tiles[i] = i;
    for (uint32_t i = 0; i < N_TILES * FACET_TILE; i++)
        order[i] = i;
    for (uint32_t i = 0; i < N_LAYERS; i++)
        layers[i] = (facet_plan_layer){.q = pack,
                                       .k = pack,
                                       .v = pack,
                                       .o = pack,
                                       .gate = pack,
                                       .up = pack,
                                       .down = pack,
                                       .down_cols = N_TILES * FACET_TILE,
                                       .tiles = tiles,
                                       .n_tiles = N_TILES,
                                       .perm = order};
    // qwen05's shape, at a width that every packing fits.
    return (facet_plan){.shape = {N_LAYERS, 1024, N_TILES * FACET_TILE, 16, 2, 64, 4096, 64,
                                  FACET_ROPE_NEOX, FACET_ACT_SILU, 1e-6f, 0.125f},
                        .target = target,
                        .dense = true,
                        .head = pack,
                        .layers = layers};
}

static int emit(const char *target, facet_pack pack, const char *path)
{
    facet_err err;
    facet_text source;
    facet_text_init(&source, NULL);
    const facet_plan plan = bench_plan(target, pack);
    FILE *file = fopen(path, "w");
    if (!file || facet_emit(&plan, &source, &err) != FACET_OK) return 1;
    (void)fputs(facet_text_str(&source), file);
    facet_text_fini(&source);
    return fclose(file) != 0;
}

typedef struct bench {
    const facet_artifact *artifact;
    facet_step step;
    facet_lane lanes[8];
    facet_pool *pool;
    facet_stage_id stage;
    const uint8_t *stream;
    size_t stream_bytes;
    uint64_t sums[8 * 8];
} bench;

static void run_stage(void *ctx, uint32_t thread, uint32_t n)
{
    bench *b = ctx;
    const uint32_t tokens = b->step.n_tokens;
    for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
        const facet_stage *s = &b->artifact->layers[layer][b->stage];
        facet_range range = {0, tokens, 1};
        if (tokens > 1) range = (facet_range){tokens * thread / n, tokens * (thread + 1) / n, 1};
        if (s->prologue) s->prologue(&b->step, layer, &b->lanes[tokens > 1 ? 0 : thread], range);
        if (tokens > 1) facet_pool_barrier(b->pool);
        facet_lane lane = b->lanes[tokens > 1 ? 0 : thread];
        lane.scratch = b->lanes[thread].scratch;
        facet_range units = {s->n_units * thread / n, s->n_units * (thread + 1) / n, 1};
        if (b->stage == FACET_STAGE_ATTN) units = (facet_range){thread, tokens * s->n_units, n};
        s->body(&b->step, layer, &lane, units);
        facet_pool_barrier(b->pool);
    }
}

static void run_stream(void *ctx, uint32_t thread, uint32_t n)
{
    bench *b = ctx;
    const uint64_t *from = (const uint64_t *)(const void *)b->stream;
    const size_t words = b->stream_bytes / 8 / n, begin = words * thread;
    uint64_t sum[8] = {0};
    for (size_t i = begin; i + 8 <= begin + words; i += 8)
        for (size_t k = 0; k < 8; k++)
            sum[k] += from[i + k];
    for (size_t k = 0; k < 8; k++)
        b->sums[8 * thread + k] = sum[k];
}

static void *floats(facet_check_world *w, size_t n)
{
    float *v = facet_mem_new_aligned(NULL, n, sizeof *v);
    facet_check_fill_floats(w, v, n);
    return v;
}

// Weights of one matrix for all layers: one random group, copied.
static uint8_t *weights(facet_check_world *w, facet_pack pack, uint32_t rows, uint32_t cols)
{
    const facet_mat mat = {.pack = pack, .n_rows = rows, .n_cols = cols};
    const size_t group = (size_t)facet_group_bytes(pack, cols), n = (size_t)N_LAYERS * rows / 16;
    uint8_t *data = facet_mem_new_aligned(NULL, n, group);
    facet_check_fill_group(w, &mat, data, 0);
    for (size_t i = 1; i < n; i++)
        memcpy(data + i * group, data, group);
    return data;
}

static void set_up(bench *b, facet_check_world *w, facet_pack pack)
{
    static facet_layer list[N_LAYERS];
    static facet_kv caches[MAX_TOKENS];
    static uint32_t pos[MAX_TOKENS];
    const facet_shape *s = &b->artifact->shape;
    const uint32_t d = s->d_model, q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    uint8_t *gate_up = weights(w, pack, 2 * s->d_ff, d), *down = weights(w, pack, d, s->d_ff);
    uint8_t *qw = weights(w, pack, q, d), *kw = weights(w, pack, kv, d),
            *ow = weights(w, pack, d, q);
    float *gain = floats(w, 8192);
    for (uint32_t i = 0; i < N_LAYERS; i++) {
        list[i].gate_up = gate_up + i * (2 * s->d_ff / 16) * facet_group_bytes(pack, d);
        list[i].down.data = down + i * (d / 16) * facet_group_bytes(pack, s->d_ff);
        list[i].q.data = qw + i * (q / 16) * facet_group_bytes(pack, d);
        list[i].k.data = list[i].v.data = kw + i * (kv / 16) * facet_group_bytes(pack, d);
        list[i].o.data = ow + i * (d / 16) * facet_group_bytes(pack, q);
        list[i].attn_norm = list[i].ffn_norm = gain;
    }
    const size_t n = MAX_TOKENS, cols = 8192;
    b->stream = gate_up;
    b->stream_bytes = (size_t)N_LAYERS * (2 * s->d_ff / 16) * facet_group_bytes(pack, d);
    for (uint32_t i = 0; i < 8; i++) {
        b->lanes[i] = (facet_lane){floats(w, n * d),
                                   floats(w, n * cols),
                                   facet_mem_new_aligned(NULL, n, cols),
                                   floats(w, n * cols / 16),
                                   facet_mem_new_aligned(NULL, n * cols / 16, 4),
                                   floats(w, 8192)};
    }
    const facet_kv cache = {facet_mem_new_aligned(NULL, (size_t)N_LAYERS * N_CTX * kv, 2),
                            facet_mem_new_aligned(NULL, (size_t)N_LAYERS * N_CTX * kv, 2), N_CTX};
    for (uint32_t t = 0; t < MAX_TOKENS; t++) {
        caches[t] = cache;
        pos[t] = t;
    }
    b->step = (facet_step){.shape = s,
                           .layers = list,
                           .out_norm = gain,
                           .pos = pos,
                           .kv = caches,
                           .rope = {floats(w, n * 64), floats(w, n * 64)},
                           .q = floats(w, n * q),
                           .attn = floats(w, n * q),
                           .y = floats(w, n * d),
                           .z = floats(w, n * cols)};
}

static double seconds_of(bench *b, facet_pool_fn *fn)
{
    if (facet_pool_threads(b->pool) > 1) {
        const uint64_t start = facet_clock_ns();
        facet_pool_run(b->pool, fn, b);
        return facet_clock_seconds(start);
    }
    // One thread: its own time, whatever else the machine does.
    struct timespec from, to;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
    facet_pool_run(b->pool, fn, b);
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
    return (double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec);
}

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

// The best of the rounds: what the code can do when nothing else runs.
static double best(double *v, unsigned n)
{
    qsort(v, n, sizeof *v, by_value);
    return v[0];
}

// Multiplications of a stage for one token, all layers.
static double products(const bench *b)
{
    const facet_shape *s = &b->artifact->shape;
    const double d = s->d_model, q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    const double each[FACET_STAGE_COUNT] = {d * (q + 2 * kv), 0, d * q, 2.0 * d * s->d_ff,
                                            d * s->d_ff};
    return N_LAYERS * each[b->stage];
}

int main(int argc, char **argv)
{
    facet_pack pack;
    if (argc == 5 && strcmp(argv[1], "-e") == 0 && facet_pack_find(argv[3], &pack))
        return emit(argv[2], pack, argv[4]);
    if (argc < 4 || !facet_pack_find(argv[2], &pack)) return 2;
    void *library = dlopen(argv[1], RTLD_NOW);
    if (!library) return puts(dlerror()), 1;
    static bench b;
    b.artifact = dlsym(library, "facet_artifact_table");
    facet_check_world w = {.random = facet_random_seed(1)};
    set_up(&b, &w, pack);
    const uint32_t threads = (uint32_t)atoi(argv[3]);
    b.step.n_tokens = argc > 4 ? (uint32_t)atoi(argv[4]) : 1;
    const unsigned rounds = argc > 5 ? (unsigned)atoi(argv[5]) : 7;
    if (facet_pool_new(threads, NULL, &b.pool, NULL) != FACET_OK) return 1;
    double times[FACET_STAGE_COUNT + 1][64];
    for (unsigned r = 0; r < rounds && r < 64; r++) {
        for (uint32_t stage = 0; stage < FACET_STAGE_COUNT; stage++) {
            b.stage = (facet_stage_id)stage;
            times[stage][r] = seconds_of(&b, run_stage);
        }
        times[FACET_STAGE_COUNT][r] = seconds_of(&b, run_stream);
    }
    const double stream = (double)b.stream_bytes / best(times[FACET_STAGE_COUNT], rounds) * 1e-9;
    const double bytes_each = (double)facet_pack_bytes(pack) / 16 / facet_pack_cols(pack);
    printf("%s %s threads %u tokens %u: stream %.1f GB/s\n", b.artifact->target, argv[2], threads,
           b.step.n_tokens, stream);
    static const char *const names[] = {"qkv", "attn", "out", "ffn_in", "down"};
    for (uint32_t stage = 0; stage < FACET_STAGE_COUNT; stage++) {
        b.stage = (facet_stage_id)stage;
        const double t = best(times[stage], rounds), n = products(&b);
        printf("  %-7s %8.3f ms  %6.1f GB/s (%3.0f %% of stream)  %7.1f GOP/s\n", names[stage],
               t * 1e3, n * bytes_each / t * 1e-9, n * bytes_each / t * 1e-7 / stream,
               2 * n * b.step.n_tokens / t * 1e-9);
    }
    facet_pool_free(b.pool);
    return 0;
}
