// SPDX-License-Identifier: Apache-2.0
#include "calib/rotary.h"

#include <math.h>

// The angles are doubles: a float angle of a few thousand radians is wrong in the fourth digit.
void facet_rotary_fill(const facet_hparams *hp, const float *factors, bool local,
                       uint32_t n_positions, float *table)
{
    const double base = local ? (double)hp->rope_base_local : (double)hp->rope_base;
    const double scale = local ? 1.0 : (double)hp->rope_scale;
    const uint32_t half = hp->rope_dims / 2;
    for (uint32_t i = 0; i < half; i++) {
        double frequency = pow(base, -2.0 * i / (double)hp->rope_dims) / scale;
        if (factors) frequency /= (double)factors[i];
        for (uint32_t p = 0; p < n_positions; p++) {
            float *angle = table + ((size_t)p * half + i) * 2;
            angle[0] = (float)cos(p * frequency);
            angle[1] = (float)sin(p * frequency);
        }
    }
}

void facet_rotary_apply(const facet_hparams *hp, const float *angles, uint32_t n_heads,
                        float *heads)
{
    if (hp->rotary == FACET_ROTARY_NONE) return;
    const uint32_t half = hp->rope_dims / 2;
    const bool neox = hp->rotary == FACET_ROTARY_NEOX;
    const uint32_t step = neox ? 1 : 2, apart = neox ? half : 1;
    for (uint32_t h = 0; h < n_heads; h++) {
        float *head = heads + (size_t)h * hp->head_dim;
        for (size_t i = 0; i < half; i++) {
            float *a = head + i * step, *b = a + apart;
            const float x = *a, y = *b;
            *a = x * angles[2 * i] - y * angles[2 * i + 1];
            *b = x * angles[2 * i + 1] + y * angles[2 * i];
        }
    }
}
