// SPDX-License-Identifier: Apache-2.0
#include "runtime/check_world.h"

#include <math.h>
#include <string.h>
#include <sys/mman.h>

#include "base/memory.h"
#include "kernels/reference.h"

static uint32_t round_to(uint32_t n, uint32_t to)
{
    return (n + to - 1) / to * to;
}
static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

// ---- room ---------------------------------------------------------------------------------------

// Counts while the space has no memory, then hands the same pieces out.
static void *take(facet_check_space *space, uint64_t bytes)
{
    uint8_t *piece = space->data ? space->data + space->used : NULL;
    space->used += (size_t)((bytes + 4095) / 4096 * 4096);
    return piece;
}

static uint64_t mat_bytes(const facet_mat *mat)
{
    return (uint64_t)(mat->n_rows + 15) / 16 * facet_group_bytes(mat->pack, mat->n_cols);
}

static uint64_t tiles_bytes(const facet_check_spec *spec, const facet_layer *layer)
{
    return (uint64_t)(spec->shape.d_ff + FACET_TILE - 1) / FACET_TILE * facet_tile_bytes(layer);
}

static void take_weights(facet_check_world *w)
{
    uint64_t most[3] = {mat_bytes(&w->spec->head), 0, 0};
    for (uint32_t i = 0; i < w->spec->shape.n_layers; i++) {
        const facet_layer *l = &w->spec->layers[i];
        most[0] = larger(larger(most[0], mat_bytes(&l->q)), mat_bytes(&l->o));
        most[0] = larger(larger(most[0], mat_bytes(&l->down)), tiles_bytes(w->spec, l));
        most[1] = larger(most[1], mat_bytes(&l->k));
        most[2] = larger(most[2], mat_bytes(&l->v));
    }
    // A page more: baked code may prefetch, and vectors end on whole groups.
    for (uint32_t i = 0; i < 3; i++)
        w->weights[i] = take(&w->space, most[i] + 4096);
}

static void take_side(facet_check_world *w, facet_check_side *side)
{
    const facet_shape *s = &w->spec->shape;
    const uint64_t n = FACET_CHECK_TOKENS, cols = w->max_cols, q_dim = s->n_heads * s->head_dim;
    facet_check_space *space = &w->space;
    side->lane.x = take(space, n * cols * sizeof(float));
    side->lane.xn = take(space, n * cols * sizeof(float));
    side->lane.aq = take(space, n * cols);
    side->lane.as = take(space, n * cols / 16 * sizeof(float));
    side->lane.asum = take(space, n * cols / 16 * sizeof(int32_t));
    side->lane.scratch = take(space, (w->n_ctx + s->head_dim + 32u) * sizeof(float));
    side->step.q = take(space, n * q_dim * sizeof(float));
    side->step.attn = take(space, n * q_dim * sizeof(float));
    side->step.y = take(space, n * s->d_model * sizeof(float));
    side->step.z = take(space, n * cols * sizeof(float));
    side->step.zq = take(space, n * cols);
    side->step.zs = take(space, n * cols / 16 * sizeof(float));
    side->step.zsum = take(space, n * cols / 16 * sizeof(int32_t));
    side->step.logits = take(space, n * s->n_vocab * sizeof(float));
    for (uint32_t i = 0; i < FACET_CHECK_SEQUENCES; i++) {
        side->caches[i].k = take(space, (uint64_t)w->cache_values * 2);
        side->caches[i].v = take(space, (uint64_t)w->cache_values * 2);
        side->caches[i].n_ctx = w->n_ctx;
    }
}

static void take_all(facet_check_world *w)
{
    w->space.used = 0;
    take_weights(w);
    for (uint32_t i = 0; i < 3; i++)
        w->vector[i] = take(&w->space, w->max_cols * sizeof(float));
    w->rope = take(&w->space,
                   (uint64_t)FACET_CHECK_TOKENS * (w->spec->shape.rope_dims + 1) * sizeof(float));
    take_side(w, &w->want);
    take_side(w, &w->got);
}

static facet_status reserve(facet_check_world *w, facet_err *err)
{
    take_all(w);
    w->space.bytes = w->space.used;
    void *data = mmap(NULL, w->space.bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data == MAP_FAILED) return facet_fail_memory(err, w->space.bytes);
    w->space.data = data;
    take_all(w);
    return FACET_OK;
}

// ---- random numbers -----------------------------------------------------------------------------

static float random_between(facet_check_world *w, float low, float high)
{
    return low + (high - low) * (float)facet_random_unit(&w->random);
}

// About normal, and much faster than exact: the sum of four uniform numbers.
static float random_normal(facet_check_world *w)
{
    const uint64_t bits = facet_random_u64(&w->random);
    int32_t sum = 0;
    for (uint32_t i = 0; i < 4; i++)
        sum += (int32_t)(bits >> (16 * i) & 0xffffu) - 32768;
    return (float)sum * (1.0f / 37837.0f);
}

void facet_check_fill_floats(facet_check_world *w, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = random_normal(w);
}

static void fill_bytes(facet_check_world *w, uint8_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i += 8) {
        const uint64_t bits = facet_random_u64(&w->random);
        memcpy(dst + i, &bits, n - i < 8 ? n - i : 8);
    }
}

// 16 halves of random sign around `size`.
static uint8_t *put_halves(facet_check_world *w, uint8_t *dst, float size, bool either_sign)
{
    for (uint32_t r = 0; r < 16; r++) {
        float value = size * random_between(w, 0.5f, 1.5f);
        if (either_sign && (facet_random_u64(&w->random) & 1u)) value = -value;
        const uint16_t half = facet_f32_to_f16(value);
        memcpy(dst + 2 * (size_t)r, &half, 2);
    }
    return dst + 32;
}

static void fill_float_group(facet_check_world *w, const facet_mat *mat, uint8_t *dst, float size)
{
    for (uint64_t i = 0; i < 16 * (uint64_t)mat->n_cols; i++) {
        const float value = size * random_normal(w);
        uint32_t bits;
        memcpy(&bits, &value, 4);
        const uint16_t half =
            mat->pack == FACET_PACK_F16 ? facet_f32_to_f16(value) : (uint16_t)(bits >> 16);
        if (mat->pack == FACET_PACK_F32)
            memcpy(dst + 4 * i, &value, 4);
        else
            memcpy(dst + 2 * i, &half, 2);
    }
}

// Range of the quants of a type: their root mean square about the middle is range / sqrt(12).
static float quant_range(uint32_t pack)
{
    switch (pack) {
    case FACET_PACK_Q4_0:
    case FACET_PACK_Q4_1:
    case FACET_PACK_Q4_K:
        return 16.0f;
    case FACET_PACK_Q5_0:
    case FACET_PACK_Q5_1:
    case FACET_PACK_Q5_K:
        return 32.0f;
    case FACET_PACK_Q8_0:
        return 256.0f;
    default:
        return 64.0f;
    }
}

// A K unit: halves d (and dmin), then 8 blocks of scales and planes, all bytes random but the
// six-bit scales and mins.
static void fill_k_unit(facet_check_world *w, uint32_t pack, uint8_t *dst, float d)
{
    const bool q6 = pack == FACET_PACK_Q6_K;
    const uint32_t block = (facet_pack_bytes(pack) - (q6 ? 32u : 64u)) / 8;
    dst = put_halves(w, dst, d / 32.0f, false);
    if (!q6) dst = put_halves(w, dst, d / 32.0f * quant_range(pack) / 2, false);
    for (uint32_t b = 0; b < 8; b++, dst += block) {
        fill_bytes(w, dst, block);
        for (uint32_t i = 0; i < 32; i++)
            dst[i] = q6 ? dst[i] : (uint8_t)(dst[i] & 63u);
    }
}

void facet_check_fill_group(facet_check_world *w, const facet_mat *mat, uint8_t *data, uint64_t g)
{
    const uint32_t pack = mat->pack, unit = facet_pack_bytes(pack);
    uint8_t *dst = data + g * facet_group_bytes(pack, mat->n_cols);
    const float size = mat->n_cols ? 1.0f / sqrtf((float)mat->n_cols) : 1.0f;
    if (pack <= FACET_PACK_BF16) {
        fill_float_group(w, mat, dst, size);
        return;
    }
    const float d = size * 3.4641f / quant_range(pack);
    const bool has_min = pack == FACET_PACK_Q4_1 || pack == FACET_PACK_Q5_1;
    for (uint32_t u = 0; u < mat->n_cols / facet_pack_cols(pack); u++, dst += unit) {
        if (pack >= FACET_PACK_Q4_K) {
            fill_k_unit(w, pack, dst, d);
            continue;
        }
        const uint32_t planes = unit - (has_min ? 64u : 32u);
        fill_bytes(w, dst, planes);
        uint8_t *min = put_halves(w, dst + planes, d, true);
        if (has_min) put_halves(w, min, d * quant_range(pack) / 2, true);
    }
}

void facet_check_fill_tiles(facet_check_world *w, const facet_layer *l)
{
    const uint64_t gate = facet_group_bytes(l->gate.pack, l->gate.n_cols);
    const uint64_t up = facet_group_bytes(l->up.pack, l->up.n_cols);
    uint8_t *tile = w->weights[0];
    for (uint32_t i = 0; i < (w->spec->shape.d_ff + FACET_TILE - 1) / FACET_TILE; i++) {
        for (uint32_t h = 0; h < 2; h++)
            facet_check_fill_group(w, &l->gate, tile + h * gate, 0);
        for (uint32_t h = 0; h < 2; h++)
            facet_check_fill_group(w, &l->up, tile + 2 * gate + h * up, 0);
        tile += 2 * gate + 2 * up;
    }
}

// ---- inputs of a stage --------------------------------------------------------------------------

static void fill_halves(facet_check_world *w, uint16_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = facet_f32_to_f16(random_normal(w));
}

// The caches of one layer, equal on both sides.
static void fill_caches(facet_check_world *w, uint32_t layer)
{
    const size_t n = w->cache_values / w->spec->shape.n_layers, at = layer * n;
    for (uint32_t i = 0; i < FACET_CHECK_SEQUENCES; i++) {
        fill_halves(w, w->want.caches[i].k + at, n);
        fill_halves(w, w->want.caches[i].v + at, n);
        memcpy(w->got.caches[i].k + at, w->want.caches[i].k + at, n * 2);
        memcpy(w->got.caches[i].v + at, w->want.caches[i].v + at, n * 2);
    }
}

static void fill_z(facet_check_world *w, uint32_t cols, uint32_t n_tokens)
{
    facet_step *step = &w->want.step;
    const size_t n = (size_t)n_tokens * cols;
    facet_check_fill_floats(w, step->z, n);
    for (uint32_t t = 0; t < n_tokens; t++) {
        const size_t at = (size_t)t * cols;
        facet_quantize_row(step->z + at, cols, step->zq + at, step->zs + at / 16,
                           step->zsum + at / 16);
    }
    memcpy(w->got.step.z, step->z, n * sizeof(float));
    memcpy(w->got.step.zq, step->zq, n);
    memcpy(w->got.step.zs, step->zs, n / 16 * sizeof(float));
    memcpy(w->got.step.zsum, step->zsum, n / 16 * sizeof(int32_t));
}

// Rotations by random angles: the pair of each is on the unit circle, as in a model.
static void fill_rope(facet_check_world *w)
{
    for (uint32_t i = 0; i < FACET_CHECK_TOKENS * (w->spec->shape.rope_dims / 2); i++) {
        const float angle = random_between(w, -3.0f, 3.0f);
        w->rope[2 * i] = cosf(angle);
        w->rope[2 * i + 1] = sinf(angle);
    }
}

static void clear_side(const facet_check_world *w, const facet_step *step, uint32_t stage,
                       uint32_t n_tokens)
{
    const facet_shape *s = &w->spec->shape;
    const size_t n = n_tokens, q = n * s->n_heads * s->head_dim, z = n * w->max_cols;
    if (stage == FACET_STAGE_QKV) memset(step->q, 0, q * sizeof(float));
    if (stage == FACET_STAGE_ATTN) memset(step->attn, 0, q * sizeof(float));
    if (stage == FACET_STAGE_OUT || stage == FACET_STAGE_DOWN)
        memset(step->y, 0, n * s->d_model * sizeof(float));
    if (stage == FACET_STAGE_FFN_IN) {
        memset(step->z, 0, z * sizeof(float));
        memset(step->zq, 0, z);
        memset(step->zs, 0, z / 16 * sizeof(float));
        memset(step->zsum, 0, z / 16 * sizeof(int32_t));
    }
    if (stage == FACET_STAGE_COUNT) memset(step->logits, 0, n * s->n_vocab * sizeof(float));
}

void facet_check_clear(facet_check_world *w, uint32_t stage, uint32_t n_tokens)
{
    clear_side(w, &w->want.step, stage, n_tokens);
    clear_side(w, &w->got.step, stage, n_tokens);
}

void facet_check_inputs(facet_check_world *w, uint32_t layer, uint32_t stage, uint32_t n_tokens)
{
    const facet_shape *s = &w->spec->shape;
    const size_t q = (size_t)n_tokens * s->n_heads * s->head_dim;
    const size_t x = (size_t)n_tokens * round_to(s->d_model, 32);
    const size_t y = (size_t)n_tokens * s->d_model;
    facet_check_fill_floats(w, w->want.lane.x, x);
    memcpy(w->got.lane.x, w->want.lane.x, x * sizeof(float));
    facet_check_fill_floats(w, w->want.step.y, y);
    memcpy(w->got.step.y, w->want.step.y, y * sizeof(float));
    facet_check_fill_floats(w, w->want.step.q, q);
    memcpy(w->got.step.q, w->want.step.q, q * sizeof(float));
    facet_check_fill_floats(w, w->want.step.attn, q);
    memcpy(w->got.step.attn, w->want.step.attn, q * sizeof(float));
    if (stage == FACET_STAGE_QKV || stage == FACET_STAGE_ATTN) fill_caches(w, layer);
    if (stage == FACET_STAGE_DOWN) fill_z(w, round_to(w->layers[layer].down.n_cols, 32), n_tokens);
    w->want.step.n_tokens = w->got.step.n_tokens = n_tokens;
    for (uint32_t t = 0; t < n_tokens; t++)
        w->pos[t] = w->n_ctx - 1 - (n_tokens - 1 - t) / FACET_CHECK_SEQUENCES;
}

// ---- birth and end ------------------------------------------------------------------------------

// Positions reach past the widest window that is not unreasonable to fill.
static uint32_t choose_ctx(const facet_check_spec *spec)
{
    uint32_t ctx = 64;
    for (uint32_t i = 0; i < spec->shape.n_layers; i++) {
        const uint32_t window = spec->layers[i].window;
        if (window + 40 > ctx && window <= 1024) ctx = window + 40;
    }
    return ctx + 40;
}

static uint32_t choose_cols(const facet_check_spec *spec)
{
    const facet_shape *s = &spec->shape;
    uint64_t cols = larger(s->d_model, larger(s->d_ff, s->n_heads * s->head_dim));
    for (uint32_t i = 0; i < s->n_layers; i++)
        cols = larger(cols, spec->layers[i].down.n_cols);
    return round_to((uint32_t)cols, 256);
}

// Weight pointers of the stages; optional vectors where the spec has them.
static void point_layer(facet_check_world *w, facet_layer *l)
{
    const float **const vectors[] = {&l->q_bias,    &l->k_bias,   &l->v_bias,    &l->o_bias,
                                     &l->q_norm,    &l->k_norm,   &l->attn_norm, &l->ffn_norm,
                                     &l->attn_post, &l->ffn_post, &l->down_bias};
    for (size_t i = 0; i < FACET_COUNT_OF(vectors); i++) {
        const bool always = vectors[i] == &l->attn_norm || vectors[i] == &l->ffn_norm;
        if (*vectors[i] || always) *vectors[i] = w->vector[i % 3];
    }
    l->q.data = l->o.data = l->down.data = l->gate_up = w->weights[0];
    l->k.data = w->weights[1];
    l->v.data = w->weights[2];
    l->gate.data = l->up.data = NULL;
}

static void point_side(facet_check_world *w, facet_check_side *side)
{
    facet_step *step = &side->step;
    step->shape = &w->spec->shape;
    step->layers = w->layers;
    step->out_norm = w->vector[0];
    step->head = w->spec->head;
    step->head.data = w->weights[0];
    step->pos = w->pos;
    step->kv = side->kv;
    step->rope[0] = step->rope[1] = w->rope;
    for (uint32_t t = 0; t < FACET_CHECK_TOKENS; t++)
        side->kv[t] = side->caches[t % FACET_CHECK_SEQUENCES];
}

facet_status facet_check_world_init(facet_check_world *w, const facet_check_spec *spec,
                                    const facet_alloc *alloc, facet_err *err)
{
    const facet_shape *s = &spec->shape;
    *w = (facet_check_world){.spec = spec, .alloc = alloc, .random = facet_random_seed(spec->seed)};
    w->n_ctx = choose_ctx(spec);
    w->max_cols = choose_cols(spec);
    w->cache_values = s->n_layers * s->n_kv_heads * w->n_ctx * s->head_dim;
    w->layers = facet_mem_new(alloc, s->n_layers, sizeof *w->layers);
    if (!w->layers) return facet_fail_memory(err, s->n_layers * sizeof *w->layers);
    const facet_status status = reserve(w, err);
    if (status != FACET_OK) {
        facet_check_world_fini(w);
        return status;
    }
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t c = 0; c < w->max_cols; c++)
            w->vector[i][c] = random_between(w, 0.5f, 1.5f);
    }
    fill_rope(w);
    memcpy(w->layers, spec->layers, s->n_layers * sizeof *w->layers);
    for (uint32_t i = 0; i < s->n_layers; i++)
        point_layer(w, &w->layers[i]);
    point_side(w, &w->want);
    point_side(w, &w->got);
    return FACET_OK;
}

void facet_check_world_fini(facet_check_world *w)
{
    if (w->space.data) (void)munmap(w->space.data, w->space.bytes);
    facet_mem_free(w->alloc, w->layers);
    *w = (facet_check_world){.spec = NULL};
}
