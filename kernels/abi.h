// SPDX-License-Identifier: Apache-2.0
// abi.h: the seam between generated code and the runtime; the only header generated code includes.
// It is inlined at the top of every emitted source, so it includes nothing but <stdint.h>.
//
// PICTURE. One decode or prefill step of n_tokens rows is a list of stages, five a layer and the
// head:
//
//     QKV     prologue: x += y of the layer below; norm; quantise     body: q, k, v rows; rope; KV
//     write ATTN                                                            body: softmax(q k) v by
//     head OUT     prologue: quantise attn                                 body: y = attn Wo FFN_IN
//     prologue: x += y; norm; quantise                        body: z = act(x Wg) * (x Wu) DOWN
//     prologue: quantise z (dense only)                       body: y = z Wd HEAD    prologue: x +=
//     y; norm; quantise                        body: logits
//
// A prologue's range is over tokens, a body's over units of output (unit tables below). The runtime
// puts one barrier between stages. With one token, every thread runs the prologue on lanes of its
// own, so no barrier follows it; with more, lanes point at shared buffers, the tokens are split
// among the threads and a barrier follows. No reduction is ever split between threads, so results
// do not depend on their number.
//
// PACKING (rows are outputs, columns are inputs). Rows come in groups of 16; a group is a sequence
// of units of `cols` columns; missing rows of the last group are zero. Groups follow each other.
//
//  1. F32: unit 1 column: 16 floats (row r at r). F16, BF16: unit 1 column: 16 halves.
//  2. The others: unit 32 columns (legacy) or 256 (K). Quants are unsigned: q of the source's block
//     before its offset is taken off (Q4_0: 0..15, offset 8; Q5_0: 0..31, 16; Q6: 0..63, 32;
//     Q8_0: int8 + 128, 128; Q4_1, Q5_1, Q4_K, Q5_K: no offset).
//  3. low plane, 256 bytes: byte 64 v + 4 r + j (v 0..3, r 0..15, j 0..3) holds the low 4 bits of
//     column 4 v + j in its low nibble and of column 16 + 4 v + j in its high nibble.
//  4. Q5 high plane, 64 bytes: bit k of byte 4 r + j is bit 4 of column 4 k + j (k 0..7).
//  5. Q6 high plane, 128 bytes: bits 2 (k % 4) .. +1 of byte 64 (k / 4) + 4 r + j are bits 4..5 of
//     column 4 k + j.
//  6. Q8 plane, 512 bytes: byte 64 k + 4 r + j is column 4 k + j.
//  7. A unit of Q4_0, Q5_0, Q6_0, Q8_0: plane(s) low then high, then 16 F16 scales d.
//     value = d * (q - offset).
//  8. Q4_1, Q5_1: planes, 16 F16 d, 16 F16 m. value = d * q + m.
//  9. Q4_K, Q5_K: 16 F16 d, 16 F16 dmin, then for each of 8 blocks of 32 columns: 16 u8 scales s,
//     16 u8 mins m (6 bits each), planes. value = (d * s) * q - (dmin * m), in float.
// 10. Q6_K: 16 F16 d, then for each of 8 blocks: 16 i8 scales of columns 0..15, 16 i8 scales of
//     columns 16..31, planes. value = (d * s) * (q - 32), in float.
//     Q6_0 is ours (a family's down projection at 6 bits); the others are ggml's blocks, regrouped
//     and equal value by value.
// 11. gate and up are stored by tiles of 32 channels in layout order: for tile i the two groups of
//     gate rows, then the two groups of up rows. Channels past d_ff are zero rows.
// 12. A family's down has n_tiles * 32 columns in the order of its kept tiles; dense's down has
// d_ff
//     columns in the source's order (padded with zero columns to a multiple of the unit).
//
// ACTIVATIONS, when any matrix of the stage is quantised: blocks of 16 columns, scale = amax / 127,
// q = round to nearest even of x / scale computed as x * (127 / amax) (q = 0, scale = 0 for amax
// 0), and the sum of q. Columns past the end are zero. Blocks of 32 cost smollm2 0.9 % of
// perplexity on German text, blocks of 16 cost 0.3 % (docs/SPEED.md).
#ifndef FACET_ABI_H
#define FACET_ABI_H

#include <stdint.h>

#define FACET_ABI_VERSION 2u
#define FACET_TILE        32u // channels in a tile
#define FACET_GROUP       16u // rows in a group
#define FACET_BLOCK       32u // columns of a weight block; an activation block has half

typedef enum facet_pack {
    FACET_PACK_F32,
    FACET_PACK_F16,
    FACET_PACK_BF16,
    FACET_PACK_Q4_0,
    FACET_PACK_Q4_1,
    FACET_PACK_Q5_0,
    FACET_PACK_Q5_1,
    FACET_PACK_Q6_0,
    FACET_PACK_Q8_0,
    FACET_PACK_Q4_K,
    FACET_PACK_Q5_K,
    FACET_PACK_Q6_K,
    FACET_PACK_COUNT
} facet_pack;

// Columns of a unit, and bytes of 16 rows of a unit.
static inline uint32_t facet_pack_cols(uint32_t pack)
{
    static const uint16_t cols[FACET_PACK_COUNT] = {1, 1, 1, 32, 32, 32, 32, 32, 32, 256, 256, 256};
    return cols[pack];
}
static inline uint32_t facet_pack_bytes(uint32_t pack)
{
    static const uint16_t bytes[FACET_PACK_COUNT] = {64,  32,  32,  288,  320,  352,
                                                     384, 416, 544, 2368, 2880, 3360};
    return bytes[pack];
}

typedef enum facet_rope_style {
    FACET_ROPE_NONE,
    FACET_ROPE_NORMAL,
    FACET_ROPE_NEOX
} facet_rope_style;
typedef enum facet_act { FACET_ACT_SILU, FACET_ACT_GELU_TANH } facet_act;

typedef struct facet_shape {
    uint32_t n_layers, d_model, d_ff;
    uint32_t n_heads, n_kv_heads, head_dim;
    uint32_t n_vocab;
    uint32_t
        rope_dims; // rotated dimensions of a head (even); NORMAL pairs (2i, 2i+1), NEOX (i, i+n/2)
    uint32_t rope_style; // facet_rope_style
    uint32_t act;        // facet_act
    float rms_eps;
    float attn_scale; // of q.k, 1/sqrt(head_dim) for most
} facet_shape;

typedef struct facet_mat {
    const uint8_t *data; // packed as above
    uint32_t pack;       // facet_pack
    uint32_t n_rows;     // real rows
    uint32_t n_cols;     // stored columns, a multiple of the unit
} facet_mat;

// What a layer of one family reads. Pointers are borrowed from the bundle; NULL where the model has
// none. Baked code uses the pointers only; generic code also the sizes and the two index lists.
typedef struct facet_layer {
    facet_mat q, k, v, o; // rows (n_heads | n_kv_heads | n_kv_heads) * head_dim, d_model
    const float *q_bias, *k_bias, *v_bias, *o_bias;
    const float *q_norm, *k_norm;      // (head_dim) RMS norm of each head before rope
    const float *attn_norm, *ffn_norm; // (d_model)
    const float *attn_post, *ffn_post; // (d_model) RMS norm of y before it is added to x
    facet_mat gate, up;                // data NULL; rows d_ff, cols d_model
    const uint8_t *gate_up;            // tiles, item 11
    facet_mat down;                    // rows d_model; item 12
    const float *down_bias;            // (d_model) compensation, added to y
    const uint32_t *tiles;             // (n_tiles) kept tiles, ascending
    uint32_t n_tiles;
    const uint32_t *perm; // dense: (all tiles * 32) channel of each layout position, UINT32_MAX =
                          // none; z is written there. NULL: z stays in kept order
    uint32_t window;      // attend to at most this many last positions, itself included; 0: all
    uint32_t rope;        // which of facet_step.rope
} facet_layer;

// KV cache of one sequence: F16, [layer][kv head][n_ctx][head_dim].
typedef struct facet_kv {
    uint16_t *k, *v;
    uint32_t n_ctx;
} facet_kv;

// Buffers of one thread. Row t of a buffer starts at t * (columns of it), columns rounded up to 32.
typedef struct facet_lane {
    float *x;       // (n_tokens, d_model) residual stream
    float *xn;      // (n_tokens, cols) float activations of the stage, zero past the real columns
    int8_t *aq;     // (n_tokens, cols) quantised xn
    float *as;      // (n_tokens, cols / 16) scales
    int32_t *asum;  // (n_tokens, cols / 16) sums
    float *scratch; // (n_ctx + head_dim, rounded up to 32) private to the thread, always
} facet_lane;

// Rows of q, attn, y and logits lie without gaps (n_heads * head_dim, d_model, n_vocab apart).
// z_cols is the layer's down.n_cols rounded up to 32. Layer 0's QKV has no layer below: x is the
// embedding.
typedef struct facet_step {
    const facet_shape *shape;
    const facet_layer *layers; // (n_layers)
    const float *out_norm;     // (d_model)
    facet_mat head;            // rows n_vocab
    uint32_t n_tokens;
    const uint32_t *pos;  // (n_tokens) position of each row in its sequence
    const facet_kv *kv;   // (n_tokens) cache of each row's sequence
    const float *rope[2]; // (n_tokens, rope_dims / 2, 2) cos, sin: global and local base
    float *q;             // (n_tokens, n_heads * head_dim)
    float *attn;          // (n_tokens, n_heads * head_dim)
    float *y;             // (n_tokens, d_model)
    float *z;             // (n_tokens, z_cols): dense, and families whose down is a float type
    int8_t *zq;           // (n_tokens, z_cols): families whose down is quantised, by tile
    float *zs;            // (n_tokens, z_cols / 16)
    int32_t *zsum;        // (n_tokens, z_cols / 16)
    float *logits;        // (n_tokens of the head call, n_vocab)
} facet_step;

// begin, begin + stride, ... below end.
typedef struct facet_range {
    uint32_t begin, end, stride;
} facet_range;

typedef void facet_stage_fn(const facet_step *step, uint32_t layer, const facet_lane *lane,
                            facet_range range);

typedef enum facet_stage_id {
    FACET_STAGE_QKV,    // units: q heads, then k heads, then v heads
    FACET_STAGE_ATTN,   // units: token * n_heads + head; threads stride over them
    FACET_STAGE_OUT,    // units: groups of 16 rows
    FACET_STAGE_FFN_IN, // units: kept tiles (index into `tiles`)
    FACET_STAGE_DOWN,   // units: groups of 16 rows
    FACET_STAGE_COUNT
} facet_stage_id; // the head: units are groups of 16 rows; its `layer` is n_layers

typedef struct facet_stage {
    facet_stage_fn *prologue; // NULL: none
    facet_stage_fn *body;
    uint32_t n_units; // ATTN: per token
} facet_stage;

// What a shared object exports, as `const facet_artifact facet_artifact_table`.
typedef struct facet_artifact {
    uint32_t abi_version; // FACET_ABI_VERSION; checked before anything else is read
    uint32_t struct_bytes;
    const char *target; // "avx512-vnni": every ISA feature the code may use
    const char *plan;   // digest of the plan it was emitted from, 32 hexadecimal digits
    facet_shape shape;
    const facet_stage (*layers)[FACET_STAGE_COUNT]; // (n_layers)
    facet_stage head;
} facet_artifact;

#endif
