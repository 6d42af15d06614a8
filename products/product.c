// SPDX-License-Identifier: Apache-2.0
#include "products/product.h"

#include <cblas.h>
#include <string.h>

void facet_gemm_run(const facet_gemm *g, facet_precision precision)
{
    if (g->m == 0 || g->n == 0) return;
    if (g->k == 0) {
        for (size_t row = 0; !g->add && row < g->m; row++)
            memset(g->c + row * g->stride_c, 0, g->n * sizeof *g->c);
        return;
    }
    if (precision == FACET_PRECISION_BF16) {
        facet_bf16_run(g);
        return;
    }
    cblas_sgemm(CblasRowMajor, g->a_transposed ? CblasTrans : CblasNoTrans,
                g->b_transposed ? CblasTrans : CblasNoTrans, (int)g->m, (int)g->n, (int)g->k,
                g->alpha, g->a, (int)g->stride_a, g->b, (int)g->stride_b, g->add ? 1 : 0, g->c,
                (int)g->stride_c);
}
