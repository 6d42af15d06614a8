// SPDX-License-Identifier: Apache-2.0
// Dot products: exact integers inside a block of 32 columns, double across blocks.
#include "kernels/dot.h"

#include <string.h>

#include "kernels/reference.h"
#include "kernels/unpack.h"

// Adds one block's contribution for one token. The sums of 16 columns each are exact: at most
// 16 * 127 * 128, far below 2^31.
static void add_block(const facet_group_block *block, const int8_t *a, const float a_scale[2],
                      const int32_t a_sum[2], double out[FACET_GROUP])
{
    int32_t halves[2][FACET_GROUP] = {{0}};
    for (uint32_t c = 0; c < FACET_BLOCK; c++) {
        int32_t *half = halves[c / 16];
        for (uint32_t r = 0; r < FACET_GROUP; r++)
            half[r] += block->q[c][r] * a[c];
    }
    const double low = (double)a_scale[0], high = (double)a_scale[1];
    const double sum = low * a_sum[0] + high * a_sum[1];
    for (uint32_t r = 0; r < FACET_GROUP; r++) {
        out[r] += low * (double)block->scale[0][r] * halves[0][r] +
                  high * (double)block->scale[1][r] * halves[1][r] - (double)block->min[r] * sum;
    }
}

void facet_dot_group(uint32_t pack, const uint8_t *group, uint32_t n_cols,
                     const facet_dot_input *in, uint32_t first, uint32_t n,
                     double out[FACET_DOT_TOKENS][FACET_GROUP])
{
    memset(out, 0, n * sizeof out[0]);
    if (!facet_pack_quantised(pack)) {
        for (uint32_t c = 0; c < n_cols; c++) {
            float column[FACET_GROUP];
            facet_group_column(pack, group, c, column);
            for (uint32_t t = 0; t < n; t++) {
                const double x = (double)in->x[(uint64_t)(first + t) * in->stride + c];
                for (uint32_t r = 0; r < FACET_GROUP; r++)
                    out[t][r] += (double)column[r] * x;
            }
        }
        return;
    }
    for (uint32_t b = 0; b < n_cols / FACET_BLOCK; b++) {
        facet_group_block block;
        facet_group_read(pack, group, b, &block);
        for (uint32_t t = 0; t < n; t++) {
            const uint64_t i = (uint64_t)(first + t) * (in->stride / FACET_BLOCK) + b;
            add_block(&block, in->q + i * FACET_BLOCK, in->scale + 2 * i, in->sum + 2 * i, out[t]);
        }
    }
}

void facet_dot_rows(const facet_mat *mat, facet_rows rows, const facet_dot_input *in,
                    uint32_t first, uint32_t n, float *dst, uint64_t dst_stride)
{
    const uint64_t bytes = facet_group_bytes(mat->pack, mat->n_cols);
    for (uint32_t g = rows.begin / FACET_GROUP; g * FACET_GROUP < rows.end; g++) {
        for (uint32_t t0 = 0; t0 < n; t0 += FACET_DOT_TOKENS) {
            double out[FACET_DOT_TOKENS][FACET_GROUP];
            const uint32_t nt = n - t0 < FACET_DOT_TOKENS ? n - t0 : FACET_DOT_TOKENS;
            facet_dot_group(mat->pack, mat->data + g * bytes, mat->n_cols, in, first + t0, nt, out);
            for (uint32_t r = 0; r < FACET_GROUP; r++) {
                const uint32_t row = g * FACET_GROUP + r;
                if (row < rows.begin || row >= rows.end) continue;
                for (uint32_t t = 0; t < nt; t++)
                    dst[(t0 + t) * dst_stride + row - rows.begin] = (float)out[t][r];
            }
        }
    }
}
