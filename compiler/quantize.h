// SPDX-License-Identifier: Apache-2.0
// A family's own down projection, stored: rows of kept channels as blocks of 32 along the channel
// axis, in the source's block formats (compiler/pack.h regroups them). The rounding error of a
// channel is passed on to the channels behind it through the calibration moments, so that the
// layer's output moves less than the weights do.
#ifndef FACET_COMPILER_QUANTIZE_H
#define FACET_COMPILER_QUANTIZE_H

#include "base/status.h"
#include "compiler/compensate.h"
#include "kernels/abi.h"

typedef struct facet_quantized {
    const facet_alloc *alloc;
    facet_pack pack;
    uint32_t n, n_cols, d; // real channels, stored columns (a multiple of 32), outputs
    size_t row_bytes;
    uint8_t *blocks; // (d, row_bytes) source-style blocks of one output after the other
    float *values;   // (n, d) what the blocks say
} facet_quantized;
void facet_quantized_fini(facet_quantized *quantized);

// rows: (n, d) float. feedback: (n, n) from facet_quantize_feedback, or NULL for plain rounding.
typedef struct facet_quantize_problem {
    uint32_t n, n_cols, d;
    const float *rows;
    const float *feedback;
    const facet_alloc *alloc;
} facet_quantize_problem;
// pack: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q6_0 or Q8_0. Free with facet_quantized_fini.
facet_status facet_quantize(const facet_quantize_problem *problem, facet_pack pack,
                            facet_quantized *out, facet_err *err);

// The factor that passes errors on: U with U^T U = (C + damping)^-1 for the channels of the
// moments' fitting part; element (i, j), j >= i, stands at j * n + i. NULL in *factor when the
// moments say nothing (no tokens): round plainly. Caller frees with facet_mem_free.
facet_status facet_quantize_feedback(const facet_moments *moments, float **factor, facet_err *err);

// The smallest type whose rounding adds at most 0.15 % to the layer's own squared output error, or
// 1e-4 of its output's energy, whichever is more, on the judging part. On smollm2 at keep 0.5
// (Python, 4.4 k tokens) this stores 6.0 bits and costs 0.1 % of held-out perplexity against 8
// bits; 1 % and 4e-4 stored 4.6 bits and cost 1.7 %. Without moments: 8 bits (6 cost 1.9 % with
// everything kept). The search begins at *start (a pack of the list, or FACET_PACK_COUNT) and
// leaves there where it ended.
typedef struct facet_quantize_choice {
    const facet_moments *moments; // NULL: none
    double error;                 // of the unrounded rows on the judging part
    bool only_8bit;               // 8 bits, nothing smaller is tried
    double added;                 // result: squared error that rounding added there / energy
} facet_quantize_choice;
facet_status facet_quantize_best(const facet_quantize_problem *problem,
                                 facet_quantize_choice *choice, facet_pack *start,
                                 facet_quantized *out, facet_err *err);

// Bytes of 32 columns of one row as they are counted: Q6_0 as 26, packed.
uint32_t facet_quantize_block_bytes(facet_pack pack);

#endif
