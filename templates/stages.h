// SPDX-License-Identifier: Apache-2.0
// The five stages of a layer and the head (abi.h, PICTURE), on the shape that stands above as
// literal constants. What differs between layers (packings, biases, norms) is an argument that is a
// literal at the call sites, so that every branch on it vanishes.

enum {
    D_COLS = (D_MODEL + 31) / 32 * 32, // columns of a row of x and of its norm
    Q_DIM = N_HEADS * HEAD_DIM,
    Q_COLS = (Q_DIM + 31) / 32 * 32,
    // Rows of the groups that hold a head: its own, or more when heads are not whole groups.
    HEAD_ROWS = HEAD_DIM % 16 == 0 ? HEAD_DIM : (HEAD_DIM + 15) / 16 * 16 + 16
};

// ---- rows of floats -----------------------------------------------------------------------------

// Lanes c .. c + 15 of a row of n floats (a literal), zero past its end.
INLINE v16f row_load(const float *row, uint32_t c, uint32_t n)
{
    return n % 16 == 0 || c + 16 <= n ? vf_load(row + c) : vf_load_part(row + c, n - c);
}
INLINE void row_store(float *row, uint32_t c, uint32_t n, v16f v)
{
    if (n % 16 == 0 || c + 16 <= n)
        vf_store(row + c, v);
    else
        vf_store_part(row + c, v, n - c);
}

INLINE float square_root(float x)
{
    return __builtin_sqrtf(x);
}

// 1 / root mean square of n floats. Four sums in turn, so that none waits for itself.
INLINE float rms_inverse(const float *row, uint32_t n)
{
    v16f sum[4] = {vf_zero(), vf_zero(), vf_zero(), vf_zero()};
    uint32_t c = 0;
    for (; c + 64 <= n; c += 64) {
        for (uint32_t i = 0; i < 4; i++) {
            const v16f v = vf_load(row + c + 16 * i);
            sum[i] = vf_fma(v, v, sum[i]);
        }
    }
    for (; c < n; c += 16) {
        const v16f v = row_load(row, c, n);
        sum[0] = vf_fma(v, v, sum[0]);
    }
    const float total = vf_sum(vf_add(vf_add(sum[0], sum[1]), vf_add(sum[2], sum[3])));
    return 1.0f / square_root(total / (float)n + RMS_EPS);
}

// The activation rule of abi.h for one block of 16 columns. A block so small that 127 / amax is not
// finite counts as zero.
INLINE void quantise_block(v16f a, int8_t *q, float *scale, int32_t *sum)
{
    const float amax = vf_top(vf_abs(a));
    const float ratio = 127.0f / amax;
    const float inverse = ratio <= 0x1.fffffep+127f ? ratio : 0.0f;
    const v16i qa = vi_round(vf_mul(a, vf_set(inverse)));
    *scale = inverse > 0.0f ? amax / 127.0f : 0.0f;
    vi_store_i8(q, qa);
    *sum = vi_sum(qa);
}

// Row t of xn (cols columns, a multiple of 32) in quantised form.
INLINE void quantise_row(const facet_lane *lane, uint32_t t, uint32_t cols)
{
    const float *xn = lane->xn + (uint64_t)t * cols;
    const uint64_t first = (uint64_t)t * (cols / 16);
    for (uint32_t b = 0; b < cols / 16; b++) {
        const uint64_t i = first + b;
        quantise_block(vf_load(xn + 16 * b), lane->aq + 16 * i, lane->as + i, lane->asum + i);
    }
}

// Row t of xn from n floats of a buffer, zeros past them.
INLINE void copy_row(const facet_lane *lane, uint32_t t, const float *row, uint32_t n,
                     uint32_t cols)
{
    float *xn = lane->xn + (uint64_t)t * cols;
    for (uint32_t c = 0; c < cols; c += 16)
        vf_store(xn + c, c < n ? row_load(row, c, n) : vf_zero());
}

// ---- exponential --------------------------------------------------------------------------------

// e^x within 3 units in the last place (2.3e-7, the worst of 28 million arguments), x held to
// -87 .. 88. With x = n ln 2 + r, |r| <= ln 2 / 2, a polynomial of degree 6 gives e^r; ln 2 is
// taken off in two parts so that r keeps its bits. A NaN stays one: it is the second operand of
// both limits.
INLINE v16f vf_exp(v16f x)
{
    const v16f held = vf_min(vf_set(88.0f), vf_max(vf_set(-87.0f), x));
    const v16i n = vi_round(vf_mul(held, vf_set(0x1.715476p+0f)));
    const v16f whole = vf_of_int(n);
    v16f r = vf_fma(whole, vf_set(-0x1.62e400p-1f), held);
    r = vf_fma(whole, vf_set(-0x1.7f7d1cp-20f), r);
    v16f p = vf_set(0x1.6c16c2p-10f);
    p = vf_fma(p, r, vf_set(0x1.111112p-7f));
    p = vf_fma(p, r, vf_set(0x1.555556p-5f));
    p = vf_fma(p, r, vf_set(0x1.555556p-3f));
    p = vf_fma(p, r, vf_set(0.5f));
    p = vf_fma(p, r, vf_set(1.0f));
    p = vf_fma(p, r, vf_set(1.0f));
    return vf_scale(p, n);
}

// g / (1 + e^-g), or the tanh form of GELU, which is g / (1 + e^-2s).
INLINE v16f activate(v16f g)
{
    v16f s = g;
    if (ACT == FACET_ACT_GELU_TANH) {
        const v16f cube = vf_mul(vf_mul(g, g), g);
        const v16f inner = vf_fma(cube, vf_set(0.044715f), g);
        s = vf_mul(inner, vf_set(1.5957691216057308f)); // 2 sqrt(2 / pi)
    }
    const v16f e = vf_exp(vf_sub(vf_zero(), s));
    return vf_div(g, vf_add(vf_set(1.0f), e));
}

// ---- prologues ----------------------------------------------------------------------------------

typedef struct entry {
    int add;           // add y to x first
    int has_post;      // y is normed by `post` before
    const float *post; // (D_MODEL)
    const float *gain; // (D_MODEL)
    int quantised;     // a matrix of the stage is quantised
} entry;

// x += y; xn = norm(x) * gain; quantised form.
INLINE void enter(const facet_step *step, const facet_lane *lane, facet_range range, entry e)
{
    for (uint32_t t = range.begin; t < range.end; t += range.stride) {
        float *x = lane->x + (uint64_t)t * D_COLS;
        float *xn = lane->xn + (uint64_t)t * D_COLS;
        const float *y = step->y + (uint64_t)t * D_MODEL;
        if (e.add) {
            const v16f factor = vf_set(e.has_post ? rms_inverse(y, D_MODEL) : 1.0f);
            for (uint32_t c = 0; c < D_MODEL; c += 16) {
                v16f v = row_load(y, c, D_MODEL);
                if (e.has_post) v = vf_mul(vf_mul(v, factor), row_load(e.post, c, D_MODEL));
                row_store(x, c, D_MODEL, vf_add(row_load(x, c, D_MODEL), v));
            }
        }
        const v16f factor = vf_set(rms_inverse(x, D_MODEL));
        for (uint32_t c = 0; c < D_COLS; c += 16) {
            v16f v = vf_zero();
            if (c < D_MODEL)
                v = vf_mul(vf_mul(row_load(x, c, D_MODEL), factor), row_load(e.gain, c, D_MODEL));
            vf_store(xn + c, v);
        }
        if (e.quantised) quantise_row(lane, t, D_COLS);
    }
}

// xn = n columns of each row of a buffer; quantised form.
INLINE void take_rows(const facet_lane *lane, facet_range range, const float *buffer,
                      uint32_t stride, uint32_t n, uint32_t cols, int quantised)
{
    for (uint32_t t = range.begin; t < range.end; t += range.stride) {
        copy_row(lane, t, buffer + (uint64_t)t * stride, n, cols);
        if (quantised) quantise_row(lane, t, cols);
    }
}

INLINE rows lane_rows(const facet_lane *lane, uint32_t cols)
{
    return (rows){lane->xn, lane->aq, lane->as, lane->asum, cols};
}

// Columns that a matrix of n real columns stores.
INLINE uint32_t stored_cols(uint32_t pack, uint32_t n)
{
    return round_up(n, facet_pack_cols(pack));
}

// ---- QKV ----------------------------------------------------------------------------------------

// Bias, the head's own norm and rope, in that order; x: (HEAD_DIM), cs: (ROPE_DIMS / 2, 2).
INLINE void finish_head(float *x, const float *bias, const float *norm, const float *cs)
{
    for (uint32_t c = 0; bias && c < HEAD_DIM; c += 16)
        row_store(x, c, HEAD_DIM, vf_add(row_load(x, c, HEAD_DIM), row_load(bias, c, HEAD_DIM)));
    if (norm) {
        const v16f factor = vf_set(rms_inverse(x, HEAD_DIM));
        for (uint32_t c = 0; c < HEAD_DIM; c += 16) {
            const v16f v = vf_mul(row_load(x, c, HEAD_DIM), factor);
            row_store(x, c, HEAD_DIM, vf_mul(v, row_load(norm, c, HEAD_DIM)));
        }
    }
    if (!cs || ROPE_STYLE == FACET_ROPE_NONE) return;
    for (uint32_t i = 0; i < ROPE_DIMS / 2; i++) {
        const uint32_t ia = ROPE_STYLE == FACET_ROPE_NEOX ? i : 2 * i;
        const uint32_t ib = ROPE_STYLE == FACET_ROPE_NEOX ? i + ROPE_DIMS / 2 : 2 * i + 1;
        const float a = x[ia], b = x[ib], cosine = cs[2 * i], sine = cs[2 * i + 1];
        x[ia] = a * cosine - b * sine;
        x[ib] = a * sine + b * cosine;
    }
}

// The rows of one head times n tokens: head row r of token t at out[t][first row + r].
INLINE uint32_t head_product(uint32_t pack, const uint8_t *w, uint32_t head, rows in, uint32_t n,
                             float out[CHUNK][HEAD_ROWS])
{
    const uint32_t cols = stored_cols(pack, D_MODEL);
    const uint32_t row = head * HEAD_DIM, group = row / 16;
    if (HEAD_DIM % 16 == 0) {
        groups_product(pack, w + group * group_bytes(pack, cols), cols, HEAD_DIM / 16, in, n,
                       out[0], HEAD_ROWS);
        return 0;
    }
    for (uint32_t g = group; 16 * g < row + HEAD_DIM; g++)
        groups_product(pack, w + g * group_bytes(pack, cols), cols, 1, in, n,
                       out[0] + 16 * (g - group), HEAD_ROWS);
    return row % 16;
}

INLINE const float *rope_row(const facet_step *step, uint32_t rope, uint32_t token)
{
    return step->rope[rope] + (uint64_t)token * ROPE_DIMS;
}

// Head `head` of q for every token. bias and norm are NULL literals where the model has none.
INLINE void query_head(const facet_step *step, rows in, uint32_t head, uint32_t pack,
                       const uint8_t *w, const float *bias, const float *norm, uint32_t rope)
{
    _Alignas(64) float out[CHUNK][HEAD_ROWS];
    for (uint32_t first = 0; first < step->n_tokens; first += CHUNK) {
        const uint32_t n = least(CHUNK, step->n_tokens - first);
        const uint32_t skip = head_product(pack, w, head, rows_at(in, first), n, out);
        for (uint32_t t = 0; t < n; t++) {
            float *x = out[t] + skip;
            float *q = step->q + (uint64_t)(first + t) * Q_DIM + (uint64_t)head * HEAD_DIM;
            finish_head(x, bias ? bias + head * HEAD_DIM : 0, norm,
                        rope_row(step, rope, first + t));
            for (uint32_t c = 0; c < HEAD_DIM; c += 16)
                row_store(q, c, HEAD_DIM, row_load(x, c, HEAD_DIM));
        }
    }
}

INLINE void store_half_row(uint16_t *to, const float *x)
{
    for (uint32_t c = 0; c < HEAD_DIM; c += 16) {
        uint16_t halves[16];
        if (HEAD_DIM % 16 == 0) {
            vf_store_f16(to + c, vf_load(x + c));
            continue;
        }
        vf_store_f16(halves, row_load(x, c, HEAD_DIM));
        for (uint32_t i = 0; i < 16 && c + i < HEAD_DIM; i++)
            to[c + i] = halves[i];
    }
}

// Row of a KV cache where position `pos` of a head starts.
INLINE uint64_t cache_at(const facet_kv *kv, uint32_t layer, uint32_t head, uint32_t pos)
{
    return (((uint64_t)layer * N_KV_HEADS + head) * kv->n_ctx + pos) * HEAD_DIM;
}

typedef struct cache_head {
    uint32_t layer, head; // head: of the cache
    int is_key;
    uint32_t rope;
} cache_head;

// A head of k or v for every token, into the tokens' caches.
INLINE void store_head(const facet_step *step, rows in, cache_head h, uint32_t pack,
                       const uint8_t *w, const float *bias, const float *norm)
{
    _Alignas(64) float out[CHUNK][HEAD_ROWS];
    for (uint32_t first = 0; first < step->n_tokens; first += CHUNK) {
        const uint32_t n = least(CHUNK, step->n_tokens - first);
        const uint32_t skip = head_product(pack, w, h.head, rows_at(in, first), n, out);
        for (uint32_t t = 0; t < n; t++) {
            const facet_kv *kv = &step->kv[first + t];
            uint16_t *cache = h.is_key ? kv->k : kv->v;
            finish_head(out[t] + skip, bias ? bias + h.head * HEAD_DIM : 0, norm,
                        h.is_key ? rope_row(step, h.rope, first + t) : 0);
            store_half_row(cache + cache_at(kv, h.layer, h.head, step->pos[first + t]),
                           out[t] + skip);
        }
    }
}

// ---- ATTN ---------------------------------------------------------------------------------------

INLINE v16f half_load(const uint16_t *row, uint32_t c)
{
    if (HEAD_DIM % 16 == 0 || c + 16 <= HEAD_DIM) return vf_load_f16(row + c);
    uint16_t halves[16] = {0};
    for (uint32_t i = 0; c + i < HEAD_DIM; i++)
        halves[i] = row[c + i];
    return vf_load_f16(halves);
}

enum { HEAD_VECTORS = (HEAD_DIM + 15) / 16 };

// scores[p] = scale * q . key p; their maximum is returned.
INLINE float attend_scores(const float *q, const uint16_t *keys, uint32_t count, float *scores)
{
    v16f query[HEAD_VECTORS];
    for (uint32_t i = 0; i < HEAD_VECTORS; i++)
        query[i] = row_load(q, 16 * i, HEAD_DIM);
    float top = -0x1.fffffep+127f;
    for (uint32_t p = 0; p < count; p++) {
        const uint16_t *key = keys + (uint64_t)p * HEAD_DIM;
        v16f even = vf_zero(), odd = vf_zero();
        for (uint32_t i = 0; i < HEAD_VECTORS; i += 2) {
            even = vf_fma(query[i], half_load(key, 16 * i), even);
            if (i + 1 < HEAD_VECTORS) odd = vf_fma(query[i + 1], half_load(key, 16 * (i + 1)), odd);
        }
        scores[p] = vf_sum(vf_add(even, odd)) * ATTN_SCALE;
        top = scores[p] > top ? scores[p] : top;
    }
    return top;
}

// scores = e^(scores - top); their sum is returned.
INLINE float attend_exp(float *scores, uint32_t count, float top)
{
    v16f sum = vf_zero();
    uint32_t p = 0;
    for (; p + 16 <= count; p += 16) {
        const v16f e = vf_exp(vf_sub(vf_load(scores + p), vf_set(top)));
        vf_store(scores + p, e);
        sum = vf_add(sum, e);
    }
    if (p < count) {
        const v16f e = vf_exp(vf_sub(vf_load_part(scores + p, count - p), vf_set(top)));
        vf_store_part(scores + p, e, count - p);
        sum = vf_add(sum, vf_load_part(scores + p, count - p));
    }
    return vf_sum(sum);
}

INLINE void attend_values(const float *weights, const uint16_t *values, uint32_t count,
                          float factor, float *out)
{
    v16f acc[HEAD_VECTORS];
    for (uint32_t i = 0; i < HEAD_VECTORS; i++)
        acc[i] = vf_zero();
    for (uint32_t p = 0; p < count; p++) {
        const uint16_t *value = values + (uint64_t)p * HEAD_DIM;
        for (uint32_t i = 0; i < HEAD_VECTORS; i++)
            acc[i] = vf_fma(vf_set(weights[p]), half_load(value, 16 * i), acc[i]);
    }
    for (uint32_t i = 0; i < HEAD_VECTORS; i++)
        row_store(out, 16 * i, HEAD_DIM, vf_mul(acc[i], vf_set(factor)));
}

// window 0: all positions.
INLINE void attention(const facet_step *step, uint32_t layer, const facet_lane *lane,
                      facet_range range, uint32_t window)
{
    for (uint32_t unit = range.begin; unit < range.end; unit += range.stride) {
        const uint32_t t = unit / N_HEADS, head = unit % N_HEADS;
        const facet_kv *kv = &step->kv[t];
        const uint32_t end = step->pos[t] + 1;
        const uint32_t first = window != 0 && end > window ? end - window : 0;
        const uint64_t at = cache_at(kv, layer, head / (N_HEADS / N_KV_HEADS), first);
        const uint64_t row = (uint64_t)t * Q_DIM + (uint64_t)head * HEAD_DIM;
        const float top = attend_scores(step->q + row, kv->k + at, end - first, lane->scratch);
        const float sum = attend_exp(lane->scratch, end - first, top);
        attend_values(lane->scratch, kv->v + at, end - first, 1.0f / sum, step->attn + row);
    }
}

// ---- OUT, DOWN, HEAD ----------------------------------------------------------------------------

typedef struct projection {
    uint32_t pack, n_cols, n_rows;
    const uint8_t *w;
    const float *bias; // (n_rows), a NULL literal where there is none
    float *out;        // (n_tokens, n_rows)
} projection;

// Rows of group g of one token.
INLINE void put_group(projection p, uint32_t g, uint32_t token, v16f v)
{
    float *out = p.out + (uint64_t)token * p.n_rows;
    if (p.bias) v = vf_add(v, row_load(p.bias, 16 * g, p.n_rows));
    row_store(out, 16 * g, p.n_rows, v);
}

INLINE void project(projection p, rows in, facet_range range, uint32_t n_tokens)
{
    const uint64_t bytes = group_bytes(p.pack, p.n_cols);
    if (n_tokens == 1) {
        for (uint32_t g = range.begin; g < range.end; g += range.stride)
            put_group(p, g, 0, group_one(p.pack, p.w + g * bytes, p.n_cols, in));
        return;
    }
    _Alignas(64) float out[CHUNK][64];
    uint32_t n_groups;
    for (uint32_t g = range.begin; g < range.end; g += n_groups * range.stride) {
        n_groups = range.stride == 1 ? least(4, range.end - g) : 1;
        for (uint32_t first = 0; first < n_tokens; first += CHUNK) {
            const uint32_t n = least(CHUNK, n_tokens - first);
            groups_many(p.pack, p.w + g * bytes, p.n_cols, n_groups, rows_at(in, first), n, out[0],
                        64);
            for (uint32_t t = 0; t < n; t++)
                for (uint32_t i = 0; i < n_groups; i++)
                    put_group(p, g + i, first + t, vf_load(out[t] + 16 * i));
        }
    }
}

// ---- FFN_IN -------------------------------------------------------------------------------------

// `count` kept tiles from tile `first` on; the first of them is kept tile number `kept`.
typedef struct run {
    uint32_t first, count, kept;
} run;

typedef struct ffn {
    uint32_t gate_pack, up_pack;
    int quantised;        // z goes out in quantised form (families)
    const channel *order; // dense: channel of each layout position, else NULL
    uint32_t z_cols;      // columns of a row of z
} ffn;

// The 32 values of kept tile i (layout tile `tile`) of one token.
INLINE void put_tile(const facet_step *step, ffn f, uint32_t i, uint32_t tile, uint32_t token,
                     v16f a, v16f b)
{
    const uint64_t row = (uint64_t)token * f.z_cols;
    if (f.order) {
        const channel *order = f.order + 32 * (uint64_t)tile;
        float z[32];
        vf_store(z, a);
        vf_store(z + 16, b);
        for (uint32_t c = 0; c < 32; c++)
            if (order[c] != NO_CHANNEL) step->z[row + order[c]] = z[c];
    } else if (f.quantised) {
        const uint64_t block = row / 16 + 2 * (uint64_t)i;
        quantise_block(a, step->zq + 16 * block, step->zs + block, step->zsum + block);
        quantise_block(b, step->zq + 16 * block + 16, step->zs + block + 1, step->zsum + block + 1);
    } else {
        vf_store(step->z + row + 32 * (uint64_t)i, a);
        vf_store(step->z + row + 32 * (uint64_t)i + 16, b);
    }
}

INLINE void tile_one(const facet_step *step, ffn f, rows in, const uint8_t *gate, uint32_t i,
                     uint32_t tile)
{
    const uint32_t gate_cols = stored_cols(f.gate_pack, D_MODEL);
    const uint32_t up_cols = stored_cols(f.up_pack, D_MODEL);
    const uint64_t gate_bytes = group_bytes(f.gate_pack, gate_cols);
    const uint8_t *up = gate + 2 * gate_bytes;
    v16f z[2];
    for (uint32_t h = 0; h < 2; h++)
        z[h] = activate(group_one(f.gate_pack, gate + h * gate_bytes, gate_cols, in));
    for (uint32_t h = 0; h < 2; h++)
        z[h] = vf_mul(z[h],
                      group_one(f.up_pack, up + h * group_bytes(f.up_pack, up_cols), up_cols, in));
    put_tile(step, f, i, tile, 0, z[0], z[1]);
}

INLINE void tile_many(const facet_step *step, ffn f, rows in, const uint8_t *gate, uint32_t i,
                      uint32_t tile)
{
    const uint32_t gate_cols = stored_cols(f.gate_pack, D_MODEL);
    const uint32_t up_cols = stored_cols(f.up_pack, D_MODEL);
    const uint8_t *up = gate + 2 * group_bytes(f.gate_pack, gate_cols);
    _Alignas(64) float out[CHUNK][64];
    for (uint32_t first = 0; first < step->n_tokens; first += CHUNK) {
        const uint32_t n = least(CHUNK, step->n_tokens - first);
        groups_many(f.gate_pack, gate, gate_cols, 2, rows_at(in, first), n, out[0], 64);
        groups_many(f.up_pack, up, up_cols, 2, rows_at(in, first), n, out[0] + 32, 64);
        for (uint32_t t = 0; t < n; t++) {
            const v16f a = vf_mul(activate(vf_load(out[t])), vf_load(out[t] + 32));
            const v16f b = vf_mul(activate(vf_load(out[t] + 16)), vf_load(out[t] + 48));
            put_tile(step, f, i, tile, first + t, a, b);
        }
    }
}

// runs: those of the layer, ascending, with all kept tiles.
INLINE void ffn_tiles(const facet_step *step, ffn f, rows in, const uint8_t *gate_up,
                      const run *runs, facet_range range)
{
    const uint64_t bytes = 2 * group_bytes(f.gate_pack, stored_cols(f.gate_pack, D_MODEL)) +
                           2 * group_bytes(f.up_pack, stored_cols(f.up_pack, D_MODEL));
    for (uint32_t i = range.begin; i < range.end; i += range.stride) {
        while (i >= runs->kept + runs->count)
            runs++;
        const uint32_t tile = runs->first + (i - runs->kept);
        if (step->n_tokens == 1)
            tile_one(step, f, in, gate_up + tile * bytes, i, tile);
        else
            tile_many(step, f, in, gate_up + tile * bytes, i, tile);
    }
}
