// SPDX-License-Identifier: Apache-2.0
// Products of packed rows (abi.h, PACKING) with the activations of a stage.
//
//     up to SIMD_FEW tokens  group -> registers: unpack a vector of weights, dot with each token,
//                            scale, add; one pass of memory
//     many tokens            group -> panel (unpacked bytes, scales) in the L1 cache; panel x
//                            SIMD_TOKENS tokens
//
// Every `pack` and `n_cols` below is a literal at its call sites, so that switches and trip counts
// vanish. The sum of a row never depends on how many threads or how many tokens share the work:
// both ways do the same operations in the same order, so a prefill gives the bits of single steps
// (tests/oracle/rows.sh). Memory is read in one rising sequence, which the hardware prefetches:
// asking for it in software lost (docs/SPEED.md).

// Activations of a stage; row t starts at t * cols.
typedef struct rows {
    const float *x;
    const int8_t *q;
    const float *scale; // of 16 columns each, as the sums
    const int32_t *sum;
    uint32_t cols; // a multiple of 32
} rows;

INLINE uint32_t round_up(uint32_t n, uint32_t to)
{
    return (n + to - 1) / to * to;
}
INLINE uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

INLINE rows rows_at(rows in, uint32_t token)
{
    in.x += (uint64_t)token * in.cols;
    in.q += (uint64_t)token * in.cols;
    in.scale += (uint64_t)token * (in.cols / 16);
    in.sum += (uint64_t)token * (in.cols / 16);
    return in;
}

INLINE int is_quantised(uint32_t pack)
{
    return pack > FACET_PACK_BF16;
}
INLINE int is_k_quant(uint32_t pack)
{
    return pack >= FACET_PACK_Q4_K;
}
INLINE int has_min(uint32_t pack)
{
    return pack == FACET_PACK_Q4_1 || pack == FACET_PACK_Q5_1 || pack == FACET_PACK_Q4_K ||
           pack == FACET_PACK_Q5_K;
}
INLINE int32_t pack_offset(uint32_t pack)
{
    switch (pack) {
    case FACET_PACK_Q4_0:
        return 8;
    case FACET_PACK_Q5_0:
        return 16;
    case FACET_PACK_Q6_0:
    case FACET_PACK_Q6_K:
        return 32;
    case FACET_PACK_Q8_0:
        return 128;
    default:
        return 0;
    }
}
// Bytes of the planes of 32 columns.
INLINE uint32_t plane_bytes(uint32_t pack)
{
    switch (pack) {
    case FACET_PACK_Q4_0:
    case FACET_PACK_Q4_1:
    case FACET_PACK_Q4_K:
        return 256;
    case FACET_PACK_Q5_0:
    case FACET_PACK_Q5_1:
    case FACET_PACK_Q5_K:
        return 320;
    case FACET_PACK_Q6_0:
    case FACET_PACK_Q6_K:
        return 384;
    default:
        return 512;
    }
}
INLINE uint64_t group_bytes(uint32_t pack, uint32_t n_cols)
{
    return (uint64_t)(n_cols / facet_pack_cols(pack)) * facet_pack_bytes(pack);
}

// ---- reading ------------------------------------------------------------------------------------

// Vectors 4v.. and 16 + 4v.. (v a literal 0..3): columns 4v .. 4v + 3 and 16 + 4v .. of 16 rows.
INLINE void load_pair(uint32_t pack, const uint8_t *planes, uint32_t v, v64b *lo, v64b *hi)
{
    if (pack == FACET_PACK_Q8_0) {
        *lo = vb_load(planes + 64 * v);
        *hi = vb_load(planes + 256 + 64 * v);
        return;
    }
    const v64b both = vb_load(planes + 64 * v);
    *lo = vb_low4(both);
    *hi = vb_high4(both);
    if (plane_bytes(pack) == 320) {
        const v64b high = vb_load(planes + 256);
        *lo = vb_or(*lo, vb_bit(high, v));
        *hi = vb_or(*hi, vb_bit(high, 4 + v));
    }
    if (plane_bytes(pack) == 384) {
        *lo = vb_or(*lo, vb_pair(vb_load(planes + 256), v));
        *hi = vb_or(*hi, vb_pair(vb_load(planes + 320), v));
    }
}

INLINE v16i dot_bytes(uint32_t pack, v16i acc, v64b w, const int8_t *a)
{
    return pack == FACET_PACK_Q8_0 ? dot4_wide(acc, w, a) : dot4(acc, w, a);
}

// Scales of one block of 32 columns: value = d * (q - offset) + m, d0 for columns 0..15.
typedef struct block_scales {
    v16f d0, d1, m;
} block_scales;

// The halves at the head of a K unit.
typedef struct unit_scales {
    v16f d, dmin;
} unit_scales;

INLINE unit_scales load_unit(uint32_t pack, const uint8_t *unit)
{
    const uint16_t *halves = (const uint16_t *)(const void *)unit;
    unit_scales out = {vf_load_f16(halves), vf_zero()};
    if (has_min(pack)) out.dmin = vf_load_f16(halves + 16);
    return out;
}
// Block i of a K unit starts at its scales.
INLINE uint32_t k_block_at(uint32_t pack, uint32_t i)
{
    return (pack == FACET_PACK_Q6_K ? 32 : 64) + i * (32 + plane_bytes(pack));
}
INLINE block_scales load_k_scales(uint32_t pack, unit_scales unit, const uint8_t *block)
{
    block_scales out;
    if (pack == FACET_PACK_Q6_K) {
        const int8_t *s = (const int8_t *)block;
        out.d0 = vf_mul(unit.d, vf_of_int(vi_load_i8(s)));
        out.d1 = vf_mul(unit.d, vf_of_int(vi_load_i8(s + 16)));
        out.m = vf_zero();
        return out;
    }
    out.d0 = vf_mul(unit.d, vf_of_int(vi_load_u8(block)));
    out.d1 = out.d0;
    out.m = vf_sub(vf_zero(), vf_mul(unit.dmin, vf_of_int(vi_load_u8(block + 16))));
    return out;
}
INLINE block_scales load_scales(uint32_t pack, const uint8_t *planes)
{
    const uint16_t *halves = (const uint16_t *)(const void *)(planes + plane_bytes(pack));
    block_scales out = {vf_load_f16(halves), vf_zero(), vf_zero()};
    out.d1 = out.d0;
    if (has_min(pack)) out.m = vf_load_f16(halves + 16);
    return out;
}

// ---- up to SIMD_FEW tokens ----------------------------------------------------------------------

// What a min multiplies: the sum of the activations themselves.
INLINE float scaled_sum(const float *scale, const int32_t *sum)
{
    return scale[0] * (float)sum[0] + scale[1] * (float)sum[1];
}

// Columns 4v .. and 16 + 4v .. (v a literal 0..3) of a block times n tokens, whose rows start at a.
INLINE void quarter_product(uint32_t pack, uint32_t n, const uint8_t *planes, uint32_t v,
                            const int8_t *a, uint32_t cols, v16i *first, v16i *second)
{
    v64b lo, hi;
    load_pair(pack, planes, v, &lo, &hi);
    for (uint32_t t = 0; t < n; t++) {
        const int8_t *at = a + (uint64_t)t * cols + 4 * v;
        first[t] = dot_bytes(pack, first[t], lo, at);
        second[t] = dot_bytes(pack, second[t], hi, at + 16);
    }
}

// One block of 32 columns of 16 rows times columns 32 b .. of n tokens (a literal), added to acc.
INLINE void block_product(uint32_t pack, uint32_t n, const uint8_t *planes, block_scales s, rows in,
                          uint32_t b, v16f *acc)
{
    const int8_t *a = in.q + 32 * (uint64_t)b;
    v16i first[SIMD_FEW], second[SIMD_FEW];
    for (uint32_t t = 0; t < n; t++) {
        const int32_t *sum = in.sum + (uint64_t)t * (in.cols / 16) + 2 * (uint64_t)b;
        first[t] = vi_set(-pack_offset(pack) * sum[0]);
        second[t] = vi_set(-pack_offset(pack) * sum[1]);
    }
    quarter_product(pack, n, planes, 0, a, in.cols, first, second);
    quarter_product(pack, n, planes, 1, a, in.cols, first, second);
    quarter_product(pack, n, planes, 2, a, in.cols, first, second);
    quarter_product(pack, n, planes, 3, a, in.cols, first, second);
    // As in tile_half, step by step: the same rounding.
    for (uint32_t t = 0; t < n; t++) {
        const uint64_t at = (uint64_t)t * (in.cols / 16) + 2 * (uint64_t)b;
        const float *scale = in.scale + at;
        acc[t] = vf_fma(vf_of_int(first[t]), vf_mul(s.d0, vf_set(scale[0])), acc[t]);
        acc[t] = vf_fma(vf_of_int(second[t]), vf_mul(s.d1, vf_set(scale[1])), acc[t]);
        if (has_min(pack)) acc[t] = vf_fma(s.m, vf_set(scaled_sum(scale, in.sum + at)), acc[t]);
    }
}

INLINE v16f float_column(uint32_t pack, const uint8_t *w, uint32_t col)
{
    if (pack == FACET_PACK_F32) return vf_load((const float *)(const void *)w + 16 * (uint64_t)col);
    const uint16_t *halves = (const uint16_t *)(const void *)w + 16 * (uint64_t)col;
    return pack == FACET_PACK_F16 ? vf_load_f16(halves) : vf_load_bf16(halves);
}

// Two sums in turn, as one would wait for itself at every column; float_tile has registers for two.
INLINE v16f float_group_one(uint32_t pack, const uint8_t *w, uint32_t n_cols, const float *x)
{
    v16f even = vf_zero(), odd = vf_zero();
    uint32_t col = 0;
    for (; col + 2 <= n_cols; col += 2) {
        even = vf_fma(float_column(pack, w, col), vf_set(x[col]), even);
        odd = vf_fma(float_column(pack, w, col + 1), vf_set(x[col + 1]), odd);
    }
    if (col < n_cols) even = vf_fma(float_column(pack, w, col), vf_set(x[col]), even);
    return vf_add(even, odd);
}

// One group of 16 rows of a quantised type times n tokens (a literal up to SIMD_FEW), added to acc.
INLINE void group_few(uint32_t pack, uint32_t n, const uint8_t *w, uint32_t n_cols, rows in,
                      v16f *acc)
{
    if (!is_k_quant(pack)) {
        for (uint32_t b = 0; b < n_cols / 32; b++, w += facet_pack_bytes(pack))
            block_product(pack, n, w, load_scales(pack, w), in, b, acc);
        return;
    }
    for (uint32_t u = 0; u < n_cols / 256; u++, w += facet_pack_bytes(pack)) {
        const unit_scales unit = load_unit(pack, w);
        for (uint32_t i = 0; i < 8; i++) {
            const uint8_t *block = w + k_block_at(pack, i);
            block_product(pack, n, block + 32, load_k_scales(pack, unit, block), in, 8 * u + i,
                          acc);
        }
    }
}

// One group of 16 rows times one token.
INLINE v16f group_one(uint32_t pack, const uint8_t *w, uint32_t n_cols, rows in)
{
    if (!is_quantised(pack)) return float_group_one(pack, w, n_cols, in.x);
    v16f acc = vf_zero();
    group_few(pack, 1, w, n_cols, in, &acc);
    return acc;
}

#define FEW_ARGUMENTS                                                                              \
    const uint8_t *w, uint32_t n_cols, uint32_t n_groups, rows in, uint32_t n_tokens, float *out,  \
        uint32_t out_stride

// For n_tokens == n, a literal from 2 to SIMD_FEW.
INLINE void few_groups(uint32_t pack, uint32_t n, FEW_ARGUMENTS)
{
    if (n_tokens != n) return;
    for (uint32_t g = 0; g < n_groups; g++, w += group_bytes(pack, n_cols)) {
        v16f acc[SIMD_FEW];
        for (uint32_t t = 0; t < n; t++)
            acc[t] = vf_zero();
        group_few(pack, n, w, n_cols, in, acc);
        for (uint32_t t = 0; t < n; t++)
            vf_store(out + (uint64_t)t * out_stride + 16 * g, acc[t]);
    }
}

#define QUANTISED(X)                                                                               \
    X(FACET_PACK_Q4_0, few_q4_0)                                                                   \
    X(FACET_PACK_Q4_1, few_q4_1)                                                                   \
    X(FACET_PACK_Q5_0, few_q5_0)                                                                   \
    X(FACET_PACK_Q5_1, few_q5_1)                                                                   \
    X(FACET_PACK_Q6_0, few_q6_0)                                                                   \
    X(FACET_PACK_Q8_0, few_q8_0)                                                                   \
    X(FACET_PACK_Q4_K, few_q4_k)                                                                   \
    X(FACET_PACK_Q5_K, few_q5_k)                                                                   \
    X(FACET_PACK_Q6_K, few_q6_k)

// Functions of their own, which all stages share.
#define FEW(pack, name)                                                                            \
    NOINLINE void name(FEW_ARGUMENTS)                                                              \
    {                                                                                              \
        few_groups(pack, 2, w, n_cols, n_groups, in, n_tokens, out, out_stride);                   \
        if (SIMD_FEW < 4) return;                                                                  \
        few_groups(pack, 3, w, n_cols, n_groups, in, n_tokens, out, out_stride);                   \
        few_groups(pack, 4, w, n_cols, n_groups, in, n_tokens, out, out_stride);                   \
    }
QUANTISED(FEW)

// n_groups groups of 16 rows times 2 to SIMD_FEW tokens: out[t * out_stride + row].
INLINE void few_product(uint32_t pack, FEW_ARGUMENTS)
{
#define CALL(pack_, name)                                                                          \
    if (pack == pack_) name(w, n_cols, n_groups, in, n_tokens, out, out_stride);
    QUANTISED(CALL)
}

// ---- many tokens --------------------------------------------------------------------------------

#define CHUNK        64 // tokens that share one unpacking
#define PANEL_BLOCKS 32 // 1024 columns: 16 KiB of bytes beside SIMD_TOKENS KiB of activations

typedef struct panel {
    uint8_t w[PANEL_BLOCKS][8][64]; // vector k: columns 4k .. 4k + 3 of 16 rows
    float d[PANEL_BLOCKS][2][16];   // the second for columns 16..31, Q6_K only
    float m[PANEL_BLOCKS][16];      // types with a min only
} panel;

// What a token adds to a block whatever the weights: minus offset times its sums, or for types with
// a min its sum in float.
typedef union token_sums {
    int32_t halves[CHUNK][PANEL_BLOCKS][2];
    float scaled[CHUNK][PANEL_BLOCKS];
} token_sums;

INLINE void unpack_block(uint32_t pack, const uint8_t *planes, block_scales s, panel *p, uint32_t b)
{
    v64b lo, hi;
    load_pair(pack, planes, 0, &lo, &hi);
    vb_store(p->w[b][0], lo);
    vb_store(p->w[b][4], hi);
    load_pair(pack, planes, 1, &lo, &hi);
    vb_store(p->w[b][1], lo);
    vb_store(p->w[b][5], hi);
    load_pair(pack, planes, 2, &lo, &hi);
    vb_store(p->w[b][2], lo);
    vb_store(p->w[b][6], hi);
    load_pair(pack, planes, 3, &lo, &hi);
    vb_store(p->w[b][3], lo);
    vb_store(p->w[b][7], hi);
    vf_store(p->d[b][0], s.d0);
    if (pack == FACET_PACK_Q6_K) vf_store(p->d[b][1], s.d1);
    if (has_min(pack)) vf_store(p->m[b], s.m);
}

// Blocks first .. first + n - 1 of a group; first is a multiple of PANEL_BLOCKS.
INLINE void unpack_panel(uint32_t pack, const uint8_t *group, uint32_t first, uint32_t n, panel *p)
{
    if (!is_k_quant(pack)) {
        const uint8_t *w = group + (uint64_t)first * facet_pack_bytes(pack);
        for (uint32_t b = 0; b < n; b++, w += facet_pack_bytes(pack))
            unpack_block(pack, w, load_scales(pack, w), p, b);
        return;
    }
    const uint8_t *w = group + (uint64_t)(first / 8) * facet_pack_bytes(pack);
    for (uint32_t u = 0; u < n / 8; u++, w += facet_pack_bytes(pack)) {
        const unit_scales unit = load_unit(pack, w);
        for (uint32_t i = 0; i < 8; i++) {
            const uint8_t *block = w + k_block_at(pack, i);
            unpack_block(pack, block + 32, load_k_scales(pack, unit, block), p, 8 * u + i);
        }
    }
}

INLINE void fill_sums(uint32_t pack, rows in, uint32_t n_tokens, uint32_t first, uint32_t n,
                      token_sums *sums)
{
    const int32_t offset = pack_offset(pack);
    for (uint32_t t = 0; t < n_tokens; t++) {
        const int32_t *sum = in.sum + (uint64_t)t * (in.cols / 16) + 2 * first;
        const float *scale = in.scale + (uint64_t)t * (in.cols / 16) + 2 * first;
        for (uint32_t b = 0; b < n; b++) {
            if (has_min(pack)) {
                sums->scaled[t][b] = scaled_sum(scale + 2 * b, sum + 2 * b);
            } else {
                sums->halves[t][b][0] = -offset * sum[2 * b];
                sums->halves[t][b][1] = -offset * sum[2 * b + 1];
            }
        }
    }
}

// Columns 16 half .. of block b times n tokens (a literal): four vectors, in float and scaled.
INLINE void tile_half(uint32_t pack, uint32_t n, const panel *p, uint32_t b, uint32_t half,
                      const token_sums *sums, uint32_t t0, rows in, v16f *acc)
{
    const int8_t *a = in.q + 32 * (uint64_t)b;
    v16i dot[SIMD_TOKENS];
    for (uint32_t t = 0; t < n; t++)
        dot[t] = has_min(pack) ? vi_zero() : vi_set(sums->halves[t0 + t][b][half]);
    for (uint32_t k = 4 * half; k < 4 * half + 4; k++) {
        const v64b w = vb_load(p->w[b][k]);
        for (uint32_t t = 0; t < n; t++)
            dot[t] = dot_bytes(pack, dot[t], w, a + (uint64_t)t * in.cols + 4 * k);
    }
    const v16f d = vf_load(p->d[b][half && pack == FACET_PACK_Q6_K]);
    for (uint32_t t = 0; t < n; t++) {
        const float *scale = in.scale + (uint64_t)t * (in.cols / 16) + 2 * (uint64_t)b;
        acc[t] = vf_fma(vf_of_int(dot[t]), vf_mul(d, vf_set(scale[half])), acc[t]);
    }
}

// A panel times n tokens (a literal up to SIMD_TOKENS), added to (or put into) out.
INLINE void tile_product(uint32_t pack, uint32_t n, const panel *p, uint32_t n_blocks,
                         const token_sums *sums, uint32_t t0, rows in, float *out,
                         uint32_t out_stride, int fresh)
{
    v16f acc[SIMD_TOKENS];
    for (uint32_t t = 0; t < n; t++)
        acc[t] = fresh ? vf_zero() : vf_load(out + (uint64_t)t * out_stride);
    for (uint32_t b = 0; b < n_blocks; b++) {
        tile_half(pack, n, p, b, 0, sums, t0, in, acc);
        tile_half(pack, n, p, b, 1, sums, t0, in, acc);
        for (uint32_t t = 0; has_min(pack) && t < n; t++)
            acc[t] = vf_fma(vf_load(p->m[b]), vf_set(sums->scaled[t0 + t][b]), acc[t]);
    }
    for (uint32_t t = 0; t < n; t++)
        vf_store(out + (uint64_t)t * out_stride, acc[t]);
}

// Tiles of n tokens (a literal) from token t on, as many as there are. Returns the token behind
// them.
INLINE uint32_t tiles_of(uint32_t n, uint32_t t, uint32_t pack, const panel *p, uint32_t n_blocks,
                         const token_sums *sums, rows in, uint32_t n_tokens, float *out,
                         uint32_t out_stride, int fresh)
{
    for (; t + n <= n_tokens; t += n)
        tile_product(pack, n, p, n_blocks, sums, t, rows_at(in, t), out + (uint64_t)t * out_stride,
                     out_stride, fresh);
    return t;
}

// The tokens of a chunk in tiles of SIMD_TOKENS, then smaller ones (on AVX2 they lose to single
// tokens: docs/SPEED.md). in: block 0 of the panel.
INLINE void panel_tiles(uint32_t pack, const panel *p, uint32_t n_blocks, const token_sums *sums,
                        rows in, uint32_t n_tokens, float *out, uint32_t out_stride, int fresh)
{
    uint32_t t = 0;
#define TILES(n) t = tiles_of(n, t, pack, p, n_blocks, sums, in, n_tokens, out, out_stride, fresh)
    TILES(SIMD_TOKENS);
    if (SIMD_TOKENS > 4) {
        TILES(4);
        TILES(2);
    }
    TILES(1);
#undef TILES
}

// The three inner loops that exist (plus Q8_0's where its bytes need two products), as functions of
// their own: the packings share them, which keeps the code small and in the instruction cache.
#define PANEL_ARGUMENTS                                                                            \
    const panel *p, uint32_t n_blocks, const token_sums *sums, rows in, uint32_t n_tokens,         \
        float *out, uint32_t out_stride, int fresh
NOINLINE void panel_offset(PANEL_ARGUMENTS)
{
    panel_tiles(FACET_PACK_Q4_0, p, n_blocks, sums, in, n_tokens, out, out_stride, fresh);
}
NOINLINE void panel_wide(PANEL_ARGUMENTS)
{
    panel_tiles(FACET_PACK_Q8_0, p, n_blocks, sums, in, n_tokens, out, out_stride, fresh);
}
NOINLINE void panel_min(PANEL_ARGUMENTS)
{
    panel_tiles(FACET_PACK_Q4_1, p, n_blocks, sums, in, n_tokens, out, out_stride, fresh);
}
NOINLINE void panel_halves(PANEL_ARGUMENTS)
{
    panel_tiles(FACET_PACK_Q6_K, p, n_blocks, sums, in, n_tokens, out, out_stride, fresh);
}
INLINE void panel_product(uint32_t pack, PANEL_ARGUMENTS)
{
    if (pack == FACET_PACK_Q6_K)
        panel_halves(p, n_blocks, sums, in, n_tokens, out, out_stride, fresh);
    else if (pack == FACET_PACK_Q8_0)
        panel_wide(p, n_blocks, sums, in, n_tokens, out, out_stride, fresh);
    else if (has_min(pack))
        panel_min(p, n_blocks, sums, in, n_tokens, out, out_stride, fresh);
    else
        panel_offset(p, n_blocks, sums, in, n_tokens, out, out_stride, fresh);
}

INLINE void float_tile(uint32_t pack, uint32_t n, const uint8_t *w, uint32_t n_cols, rows in,
                       float *out, uint32_t out_stride)
{
    v16f even[SIMD_FLOAT_TOKENS], odd[SIMD_FLOAT_TOKENS];
    for (uint32_t t = 0; t < n; t++)
        even[t] = odd[t] = vf_zero();
    for (uint32_t c = 0; c < n_cols; c += 2) {
        v16f column = float_column(pack, w, c);
        for (uint32_t t = 0; t < n; t++)
            even[t] = vf_fma(column, vf_set(in.x[(uint64_t)t * in.cols + c]), even[t]);
        if (c + 1 == n_cols) break;
        column = float_column(pack, w, c + 1);
        for (uint32_t t = 0; t < n; t++)
            odd[t] = vf_fma(column, vf_set(in.x[(uint64_t)t * in.cols + c + 1]), odd[t]);
    }
    for (uint32_t t = 0; t < n; t++)
        vf_store(out + (uint64_t)t * out_stride, vf_add(even[t], odd[t]));
}

INLINE void float_groups_many(uint32_t pack, const uint8_t *w, uint32_t n_cols, uint32_t n_groups,
                              rows in, uint32_t n_tokens, float *out, uint32_t out_stride)
{
    for (uint32_t g = 0; g < n_groups; g++, w += group_bytes(pack, n_cols)) {
        uint32_t t = 0;
        for (; t + SIMD_FLOAT_TOKENS <= n_tokens; t += SIMD_FLOAT_TOKENS)
            float_tile(pack, SIMD_FLOAT_TOKENS, w, n_cols, rows_at(in, t),
                       out + (uint64_t)t * out_stride + 16 * g, out_stride);
        for (; t < n_tokens; t++)
            float_tile(pack, 1, w, n_cols, rows_at(in, t), out + (uint64_t)t * out_stride + 16 * g,
                       out_stride);
    }
}

// n_groups groups of 16 rows times n_tokens (at most CHUNK) tokens: out[t * out_stride + row].
INLINE void groups_many(uint32_t pack, const uint8_t *w, uint32_t n_cols, uint32_t n_groups,
                        rows in, uint32_t n_tokens, float *out, uint32_t out_stride)
{
    if (!is_quantised(pack)) {
        float_groups_many(pack, w, n_cols, n_groups, in, n_tokens, out, out_stride);
        return;
    }
    if (n_tokens >= 2 && n_tokens <= SIMD_FEW) {
        few_product(pack, w, n_cols, n_groups, in, n_tokens, out, out_stride);
        return;
    }
    _Alignas(64) panel p;
    token_sums sums;
    for (uint32_t first = 0; first < n_cols / 32; first += PANEL_BLOCKS) {
        const uint32_t n = least(PANEL_BLOCKS, n_cols / 32 - first);
        fill_sums(pack, in, n_tokens, first, n, &sums);
        rows at = in;
        at.q += 32 * first;
        at.scale += 2 * first;
        for (uint32_t g = 0; g < n_groups; g++) {
            unpack_panel(pack, w + g * group_bytes(pack, n_cols), first, n, &p);
            panel_product(pack, &p, n, &sums, at, n_tokens, out + 16 * g, out_stride, first == 0);
        }
    }
    for (uint32_t t = 0; n_cols == 0 && t < n_tokens; t++)
        for (uint32_t r = 0; r < 16 * n_groups; r++)
            out[(uint64_t)t * out_stride + r] = 0.0f;
}

// The same for any number of tokens; one token goes the short way.
INLINE void groups_product(uint32_t pack, const uint8_t *w, uint32_t n_cols, uint32_t n_groups,
                           rows in, uint32_t n_tokens, float *out, uint32_t out_stride)
{
    if (n_tokens != 1) {
        groups_many(pack, w, n_cols, n_groups, in, n_tokens, out, out_stride);
        return;
    }
    for (uint32_t g = 0; g < n_groups; g++)
        vf_store(out + 16 * g, group_one(pack, w + g * group_bytes(pack, n_cols), n_cols, in));
}
