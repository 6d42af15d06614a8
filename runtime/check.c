// SPDX-License-Identifier: Apache-2.0
// Loads an artifact and judges every stage against the reference.
//
//     open: abi, target, plan digest, shape   ->   every layer's unit counts
//     for every distinct function: prologue and body, one token and ragged numbers of tokens,
//     all units of small stages and a sample of large ones
//     for every layer: all its tiles, one token (run tables and orders are per layer)
//
// TOLERANCE. Integer sums are exact on both sides, so outputs differ by float rounding only: sums
// of up to some thousand terms in another order and an exponential good to 3e-7. On every packing,
// target and model shape tried the difference stayed below 1e-6 of the largest output; 5e-5 leaves
// room for longer rows and still catches one wrong quant or scale. Halves may round apart by one
// place. A quantised value may round to its neighbour where the float before it sits between two.
#include "runtime/check.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/reference.h"
#include "runtime/check_world.h"
#include "runtime/isa.h"

#define TOLERANCE 5e-5
#define HALF_STEP 0x1p-10 // two places of a half, relative

typedef struct judge {
    const char *path;
    const facet_artifact *artifact;
    facet_check_world world;
    facet_check_result result;
    float *tiles_z; // (all tiles, 32) what each tile of gate_up must give for one token
    uint32_t layer, stage, n_tokens; // under test, for the sentence
    facet_err *err;
} judge;

static const char *stage_name(uint32_t stage)
{
    static const char *const names[] = {"qkv", "attn", "out", "ffn_in", "down", "head"};
    return names[stage];
}

// ---- comparing ----------------------------------------------------------------------------------

static facet_status fail_output(const judge *j, const char *what, size_t i, double got, double want)
{
    return facet_fail_at(
        j->err, FACET_CHECK, j->path, -1,
        "%s: stage %s of layer %u with %u tokens: %s %zu is %.9g where the reference "
        "has %.9g; the artifact must not be used",
        j->path, stage_name(j->stage), j->layer, j->n_tokens, what, i, got, want);
}

static double largest(const float *v, size_t n)
{
    double top = 0.0;
    for (size_t i = 0; i < n; i++)
        top = fmax(top, fabs((double)v[i]));
    return top;
}

static void note(judge *j, double error, double top)
{
    j->result.max_abs_error = fmax(j->result.max_abs_error, error);
    if (top > 0.0) j->result.max_rel_error = fmax(j->result.max_rel_error, error / top);
    j->result.n_outputs++;
}

static facet_status same_floats(judge *j, const char *what, const float *got, const float *want,
                                size_t n)
{
    const double top = largest(want, n), bound = TOLERANCE * top + 1e-30;
    for (size_t i = 0; i < n; i++) {
        const double error = fabs((double)got[i] - (double)want[i]);
        if (!(error <= bound)) return fail_output(j, what, i, (double)got[i], (double)want[i]);
        if (want[i] != 0.0f) note(j, error, top);
    }
    return FACET_OK;
}

static facet_status same_halves(judge *j, const char *what, const uint16_t *got,
                                const uint16_t *want, size_t n)
{
    double top = 0.0;
    for (size_t i = 0; i < n; i++)
        top = fmax(top, fabs((double)facet_f16_to_f32(want[i])));
    for (size_t i = 0; i < n; i++) {
        if (got[i] == want[i]) continue;
        const double a = (double)facet_f16_to_f32(got[i]), b = (double)facet_f16_to_f32(want[i]);
        if (!(fabs(a - b) <= TOLERANCE * top + HALF_STEP * fabs(b)))
            return fail_output(j, what, i, a, b);
    }
    return FACET_OK;
}

typedef struct quants {
    const int8_t *q;
    const float *scale;
    const int32_t *sum;
} quants;

// n columns, a multiple of 32. A scale may carry the error of the values it came from (`slack`, 0
// when those are equal); each value may then round to its neighbour.
static facet_status same_quants(judge *j, quants got, quants want, size_t n, double slack)
{
    for (size_t b = 0; b < n / 16; b++) {
        const double s = (double)want.scale[b], sg = (double)got.scale[b];
        if (!(fabs(sg - s) <= 1e-4 * s + slack)) return fail_output(j, "scale", b, sg, s);
        int32_t sum = 0;
        for (size_t i = 16 * b; i < 16 * b + 16; i++) {
            const double error = fabs(sg * got.q[i] - s * want.q[i]);
            if (!(error <= 1.02 * fmax(s, sg) + 127.0 * slack))
                return fail_output(j, "quant", i, got.q[i], want.q[i]);
            sum += got.q[i];
        }
        if (sum != got.sum[b]) return fail_output(j, "sum", b, got.sum[b], sum);
    }
    return FACET_OK;
}

// ---- a stage ------------------------------------------------------------------------------------

static bool quantised(uint32_t pack)
{
    return pack > FACET_PACK_BF16;
}

static uint32_t round32(uint32_t n)
{
    return (n + 31u) & ~31u;
}

// Columns of the stage's input rows, and whether a matrix of it is quantised.
static uint32_t input_cols(const judge *j, bool *quant)
{
    const facet_shape *s = &j->world.spec->shape;
    const facet_layer *l = &j->world.layers[j->layer < s->n_layers ? j->layer : 0];
    switch (j->stage) {
    case FACET_STAGE_QKV:
        *quant = quantised(l->q.pack) || quantised(l->k.pack) || quantised(l->v.pack);
        return round32(s->d_model);
    case FACET_STAGE_OUT:
        *quant = quantised(l->o.pack);
        return round32(s->n_heads * s->head_dim);
    case FACET_STAGE_FFN_IN:
        *quant = quantised(l->gate.pack) || quantised(l->up.pack);
        return round32(s->d_model);
    case FACET_STAGE_DOWN:
        *quant = quantised(l->down.pack);
        return round32(l->down.n_cols);
    default:
        *quant = quantised(j->world.spec->head.pack);
        return round32(s->d_model);
    }
}

static facet_status check_prologue(judge *j, facet_stage_fn *want, facet_stage_fn *got)
{
    facet_check_world *w = &j->world;
    const uint32_t n = j->n_tokens;
    const bool family = j->stage == FACET_STAGE_DOWN && !w->layers[j->layer].perm;
    if (want) want(&w->want.step, j->layer, &w->want.lane, (facet_range){0, n, 1});
    if (!got && (!want || family)) return FACET_OK;
    if (!got || !want)
        return facet_fail_at(j->err, FACET_CHECK, j->path, -1,
                             "%s: stage %s of layer %u lacks a prologue or has one too many; the "
                             "artifact must not be used",
                             j->path, stage_name(j->stage), j->layer);
    // Two halves of the tokens, as two threads would take them.
    got(&w->got.step, j->layer, &w->got.lane, (facet_range){0, n, 2});
    got(&w->got.step, j->layer, &w->got.lane, (facet_range){1, n, 2});
    bool quant;
    const size_t cols = input_cols(j, &quant);
    const facet_lane *a = &w->got.lane, *b = &w->want.lane;
    FACET_TRY(same_floats(j, "x", a->x, b->x, (size_t)n * round32(w->spec->shape.d_model)));
    FACET_TRY(same_floats(j, "norm", a->xn, b->xn, n * cols));
    if (!quant) return FACET_OK;
    return same_quants(j, (quants){a->aq, a->as, a->asum}, (quants){b->aq, b->as, b->asum},
                       n * cols, TOLERANCE * largest(b->xn, n * cols) / 127.0);
}

static facet_status same_caches(judge *j)
{
    const facet_check_world *w = &j->world;
    const size_t n = w->cache_values / w->spec->shape.n_layers, at = j->layer * n;
    for (uint32_t i = 0; i < FACET_CHECK_SEQUENCES; i++) {
        FACET_TRY(same_halves(j, "key", w->got.caches[i].k + at, w->want.caches[i].k + at, n));
        FACET_TRY(same_halves(j, "value", w->got.caches[i].v + at, w->want.caches[i].v + at, n));
    }
    return FACET_OK;
}

// Outputs of the whole stage: units that did not run are zero on both sides, so that a write to a
// wrong place shows.
static facet_status same_outputs(judge *j)
{
    const facet_check_world *w = &j->world;
    const facet_shape *s = &w->spec->shape;
    const facet_step *a = &w->got.step, *b = &w->want.step;
    const size_t n = j->n_tokens, q = n * s->n_heads * s->head_dim;
    switch (j->stage) {
    case FACET_STAGE_QKV:
        FACET_TRY(same_floats(j, "q", a->q, b->q, q));
        return same_caches(j);
    case FACET_STAGE_ATTN:
        return same_floats(j, "output", a->attn, b->attn, q);
    case FACET_STAGE_OUT:
    case FACET_STAGE_DOWN:
        return same_floats(j, "output", a->y, b->y, n * s->d_model);
    case FACET_STAGE_COUNT:
        return same_floats(j, "logit", a->logits, b->logits, n * s->n_vocab);
    default:
        break;
    }
    const facet_layer *l = &w->layers[j->layer];
    const size_t z = n * round32(l->down.n_cols);
    if (l->perm || !quantised(l->down.pack)) return same_floats(j, "z", a->z, b->z, z);
    return same_quants(j, (quants){a->zq, a->zs, a->zsum}, (quants){b->zq, b->zs, b->zsum}, z,
                       TOLERANCE * largest(b->zs, z / 16));
}

// Weights of the units of a range, for the stages that have matrices (FFN_IN fills all its tiles).
static void fill_units(judge *j, facet_range units)
{
    facet_check_world *w = &j->world;
    const facet_shape *s = &w->spec->shape;
    const facet_layer *l = &w->layers[j->layer < s->n_layers ? j->layer : 0];
    for (uint32_t u = units.begin; u < units.end; u += units.stride) {
        if (j->stage == FACET_STAGE_OUT) facet_check_fill_group(w, &l->o, w->weights[0], u);
        if (j->stage == FACET_STAGE_DOWN) facet_check_fill_group(w, &l->down, w->weights[0], u);
        if (j->stage == FACET_STAGE_COUNT)
            facet_check_fill_group(w, &w->spec->head, w->weights[0], u);
        if (j->stage != FACET_STAGE_QKV) continue;
        const uint32_t q = s->n_heads, k = q + s->n_kv_heads;
        const facet_mat *mat = u < q ? &l->q : u < k ? &l->k : &l->v;
        uint8_t *data = w->weights[u < q ? 0 : u < k ? 1 : 2];
        const uint32_t head = u < q ? u : u < k ? u - q : u - k;
        for (uint32_t g = head * s->head_dim / 16; g * 16 < (head + 1) * s->head_dim; g++)
            facet_check_fill_group(w, mat, data, g);
    }
}

typedef struct pair {
    const facet_stage *want, *got;
} pair;

// Both bodies on the reference's activations, for the units of one range.
static facet_status check_units(judge *j, pair stage, facet_range units)
{
    facet_check_world *w = &j->world;
    fill_units(j, units);
    stage.want->body(&w->want.step, j->layer, &w->want.lane, units);
    facet_lane lane = w->want.lane;
    lane.scratch = w->got.lane.scratch;
    stage.got->body(&w->got.step, j->layer, &lane, units);
    return same_outputs(j);
}

static facet_status check_tokens(judge *j, pair stage, uint32_t n_tokens, uint32_t most_units)
{
    facet_check_world *w = &j->world;
    const bool attention = j->stage == FACET_STAGE_ATTN;
    const uint32_t n = stage.got->n_units * (attention ? n_tokens : 1);
    j->n_tokens = n_tokens;
    facet_check_inputs(w, j->layer, j->stage, n_tokens);
    FACET_TRY(check_prologue(j, stage.want->prologue, stage.got->prologue));
    facet_check_inputs(w, j->layer, j->stage, n_tokens);
    if (stage.want->prologue)
        stage.want->prologue(&w->want.step, j->layer, &w->want.lane, (facet_range){0, n_tokens, 1});
    facet_check_clear(w, j->stage, n_tokens);
    if (n == 0) return FACET_OK;
    if (n <= most_units) return check_units(j, stage, (facet_range){0, n, 1});
    // The first few (kernels take up to four groups at once), the last, some between and a stride.
    const uint32_t few = most_units < 5 ? most_units : 5;
    const uint32_t middle = few + (uint32_t)facet_random_below(&w->random, n - few);
    FACET_TRY(check_units(j, stage, (facet_range){0, few, 1}));
    FACET_TRY(check_units(j, stage, (facet_range){n - 1, n, 1}));
    return check_units(j, stage, (facet_range){middle, n, n - middle < 3 ? 1 : (n - middle) / 2});
}

// One token with many units, the few that have loops of their own, a tile of every size (8 + 4 + 2
// + 1), more than kernels take at once.
static facet_status check_stage(judge *j, uint32_t layer, uint32_t stage, pair both)
{
    j->layer = layer;
    j->stage = stage;
    if (stage == FACET_STAGE_FFN_IN) facet_check_fill_tiles(&j->world, &j->world.layers[layer]);
    FACET_TRY(check_tokens(j, both, 1, stage == FACET_STAGE_QKV ? 24 : 16));
    for (uint32_t few = 2; few <= 4; few++)
        FACET_TRY(check_tokens(j, both, few, 2));
    FACET_TRY(check_tokens(j, both, 15, stage == FACET_STAGE_ATTN ? 30 : 6));
    if (stage == FACET_STAGE_COUNT) return FACET_OK;
    return check_tokens(j, both, FACET_CHECK_TOKENS, 2);
}

// ---- all tiles of every layer -------------------------------------------------------------------

// What every tile of gate_up must give for one token, from the reference: a float family that keeps
// all tiles in order.
static facet_status expect_tiles(judge *j, uint32_t layer)
{
    facet_check_world *w = &j->world;
    const uint32_t n = (w->spec->shape.d_ff + FACET_TILE - 1) / FACET_TILE;
    uint32_t *all = facet_mem_new(w->alloc, n, sizeof *all);
    facet_layer *layers = facet_mem_new(w->alloc, w->spec->shape.n_layers, sizeof *layers);
    if (!all || !layers) {
        facet_mem_free(w->alloc, all);
        facet_mem_free(w->alloc, layers);
        return facet_fail_memory(j->err, n * sizeof *all);
    }
    for (uint32_t i = 0; i < n; i++)
        all[i] = i;
    memcpy(layers, w->layers, w->spec->shape.n_layers * sizeof *layers);
    layers[layer].tiles = all;
    layers[layer].n_tiles = n;
    layers[layer].perm = NULL;
    layers[layer].down.pack = FACET_PACK_F32;
    layers[layer].down.n_cols = n * FACET_TILE;
    facet_step step = w->want.step;
    step.layers = layers;
    step.z = j->tiles_z;
    facet_check_fill_tiles(w, &w->layers[layer]);
    facet_check_inputs(w, layer, FACET_STAGE_FFN_IN, 1);
    step.n_tokens = 1;
    facet_reference_stages[FACET_STAGE_FFN_IN].prologue(&step, layer, &w->want.lane,
                                                        (facet_range){0, 1, 1});
    facet_reference_stages[FACET_STAGE_FFN_IN].body(&step, layer, &w->want.lane,
                                                    (facet_range){0, n, 1});
    facet_mem_free(w->alloc, all);
    facet_mem_free(w->alloc, layers);
    return FACET_OK;
}

// Lays the expected tiles out as this layer must, into the reference's outputs.
static void place_tiles(judge *j)
{
    facet_check_world *w = &j->world;
    const facet_layer *l = &w->layers[j->layer];
    facet_step *step = &w->want.step;
    for (uint32_t i = 0; i < l->n_tiles; i++) {
        const float *z = j->tiles_z + (size_t)l->tiles[i] * FACET_TILE;
        const uint32_t *order = l->perm ? l->perm + (size_t)l->tiles[i] * FACET_TILE : NULL;
        for (uint32_t c = 0; c < FACET_TILE; c++) {
            if (!order)
                step->z[i * FACET_TILE + c] = z[c];
            else if (order[c] != UINT32_MAX)
                step->z[order[c]] = z[c];
        }
    }
    if (!l->perm && quantised(l->down.pack))
        facet_quantize_row(step->z, l->n_tiles * FACET_TILE, step->zq, step->zs, step->zsum);
}

static facet_status check_layer_tiles(judge *j, uint32_t layer)
{
    facet_check_world *w = &j->world;
    j->layer = layer;
    j->stage = FACET_STAGE_FFN_IN;
    j->n_tokens = 1;
    w->got.step.n_tokens = 1;
    facet_check_clear(w, FACET_STAGE_FFN_IN, 1);
    place_tiles(j);
    // Two ranges, so that a run table is entered in its middle.
    const uint32_t n = w->layers[layer].n_tiles;
    facet_stage_fn *body = j->artifact->layers[layer][FACET_STAGE_FFN_IN].body;
    body(&w->got.step, layer, &w->want.lane, (facet_range){n / 2, n, 1});
    body(&w->got.step, layer, &w->want.lane, (facet_range){0, n / 2, 1});
    return same_outputs(j);
}

// ---- the artifact -------------------------------------------------------------------------------

static pair stage_pair(const judge *j, uint32_t layer, uint32_t stage)
{
    return (pair){&facet_reference_stages[stage], &j->artifact->layers[layer][stage]};
}

// Is this the first or the last layer that uses the function?
static bool worth_checking(const facet_artifact *artifact, uint32_t n_layers, uint32_t layer,
                           uint32_t stage)
{
    facet_stage_fn *body = artifact->layers[layer][stage].body;
    bool before = false, after = false;
    for (uint32_t i = 0; i < layer; i++)
        before = before || artifact->layers[i][stage].body == body;
    for (uint32_t i = layer + 1; i < n_layers; i++)
        after = after || artifact->layers[i][stage].body == body;
    return !before || (!after && stage == FACET_STAGE_QKV);
}

static facet_status check_counts(judge *j)
{
    const facet_step *step = &j->world.want.step;
    for (uint32_t layer = 0; layer < j->world.spec->shape.n_layers; layer++) {
        for (uint32_t stage = 0; stage < FACET_STAGE_COUNT; stage++) {
            const facet_stage *s = &j->artifact->layers[layer][stage];
            if (!s->body || s->n_units != facet_stage_units(step, layer, stage))
                return facet_fail_at(
                    j->err, FACET_CHECK, j->path, -1,
                    "%s: stage %s of layer %u counts %u units, not %u; the artifact "
                    "belongs to another plan",
                    j->path, stage_name(stage), layer, s->n_units,
                    facet_stage_units(step, layer, stage));
        }
    }
    const facet_stage *head = &j->artifact->head;
    if (!head->body || head->n_units != facet_stage_units(step, 0, FACET_STAGE_COUNT))
        return facet_fail_at(j->err, FACET_CHECK, j->path, -1,
                             "%s: the head counts %u units; the artifact belongs to another plan",
                             j->path, head->n_units);
    return FACET_OK;
}

static facet_status check_all(judge *j)
{
    const facet_shape *s = &j->world.spec->shape;
    FACET_TRY(check_counts(j));
    for (uint32_t stage = 0; stage < FACET_STAGE_COUNT; stage++) {
        for (uint32_t layer = 0; layer < s->n_layers; layer++) {
            if (worth_checking(j->artifact, s->n_layers, layer, stage))
                FACET_TRY(check_stage(j, layer, stage, stage_pair(j, layer, stage)));
        }
    }
    const pair head = {&facet_reference_head, &j->artifact->head};
    FACET_TRY(check_stage(j, s->n_layers, FACET_STAGE_COUNT, head));
    uint32_t gate = FACET_PACK_COUNT, up = FACET_PACK_COUNT;
    for (uint32_t layer = 0; layer < s->n_layers; layer++) {
        const facet_layer *l = &j->world.layers[layer];
        if (l->gate.pack != gate || l->up.pack != up) FACET_TRY(expect_tiles(j, layer));
        gate = l->gate.pack;
        up = l->up.pack;
        FACET_TRY(check_layer_tiles(j, layer));
    }
    return FACET_OK;
}

static bool same_shape(const facet_shape *a, const facet_shape *b)
{
    return a->n_layers == b->n_layers && a->d_model == b->d_model && a->d_ff == b->d_ff &&
           a->n_heads == b->n_heads && a->n_kv_heads == b->n_kv_heads &&
           a->head_dim == b->head_dim && a->n_vocab == b->n_vocab && a->rope_dims == b->rope_dims &&
           a->rope_style == b->rope_style && a->act == b->act && a->rms_eps == b->rms_eps &&
           a->attn_scale == b->attn_scale;
}

static facet_status check_claims(const char *path, const facet_artifact *artifact,
                                 const facet_check_spec *spec, facet_err *err)
{
    if (artifact->abi_version != FACET_ABI_VERSION || artifact->struct_bytes != sizeof *artifact)
        return facet_fail_at(err, FACET_BAD_FILE, path, -1,
                             "%s: its ABI is version %u, this program's is %u; rebuild it", path,
                             artifact->abi_version, FACET_ABI_VERSION);
    // "generic" code is plain C of the machine that compiled it; dlopen has judged that already.
    if (strcmp(artifact->target, "generic") != 0 && !facet_isa_runs(artifact->target, NULL))
        return facet_fail_at(err, FACET_NO_DEVICE, path, -1,
                             "%s: this CPU cannot run code for %s; check it on one that can", path,
                             artifact->target);
    if (spec->plan && strcmp(spec->plan, artifact->plan) != 0)
        return facet_fail_at(err, FACET_CHECK, path, -1,
                             "%s: it was made from plan %s, not from %s; rebuild it", path,
                             artifact->plan, spec->plan);
    if (!same_shape(&artifact->shape, &spec->shape))
        return facet_fail_at(err, FACET_CHECK, path, -1,
                             "%s: it was made for another model shape; rebuild it", path);
    return FACET_OK;
}

static facet_status judge_artifact(const char *path, const facet_artifact *artifact,
                                   const facet_check_spec *spec, const facet_alloc *alloc,
                                   facet_check_result *result, facet_err *err)
{
    judge j = {.path = path, .artifact = artifact, .err = err};
    FACET_TRY(check_claims(path, artifact, spec, err));
    FACET_TRY(facet_check_world_init(&j.world, spec, alloc, err));
    (void)snprintf(j.result.target, sizeof j.result.target, "%s", artifact->target);
    const size_t tiles = (spec->shape.d_ff + FACET_TILE - 1) / FACET_TILE;
    j.tiles_z = facet_mem_new(alloc, tiles * FACET_TILE, sizeof *j.tiles_z);
    facet_status status =
        j.tiles_z ? check_all(&j) : facet_fail_memory(err, tiles * FACET_TILE * sizeof(float));
    facet_mem_free(alloc, j.tiles_z);
    facet_check_world_fini(&j.world);
    if (status == FACET_OK) *result = j.result;
    return status;
}

facet_status facet_check_artifact(const char *path, const facet_check_spec *spec,
                                  const facet_alloc *alloc, facet_check_result *result,
                                  facet_err *err)
{
    // A name without a slash would be searched in the system's library folders.
    char local[4096];
    const int length = snprintf(local, sizeof local, "%s%s", strchr(path, '/') ? "" : "./", path);
    if (length < 0 || (size_t)length >= sizeof local)
        return facet_fail_at(err, FACET_BAD_INPUT, path, -1, "artifact: its path is too long");
    void *library = dlopen(local, RTLD_NOW | RTLD_LOCAL);
    if (!library) {
        const char *why = dlerror();
        return facet_fail_at(err, FACET_BAD_FILE, path, -1, "%s: it does not load: %s", path,
                             why ? why : "no reason given");
    }
    const facet_artifact *artifact = dlsym(library, "facet_artifact_table");
    facet_status status =
        artifact
            ? judge_artifact(path, artifact, spec, alloc, result, err)
            : facet_fail_at(err, FACET_BAD_FILE, path, -1,
                            "%s: it exports no facet_artifact_table; it is none of ours", path);
    (void)dlclose(library);
    return status;
}
