// SPDX-License-Identifier: Apache-2.0
// One loop, compiled for the vectors of several CPUs; none of them fuses a product with a sum
// (-ffp-contract=off), so all give the same bits.
#include "calib/activate.h"

#include <math.h>

#include "base/attr.h"
#include "calib/exp.h"

static inline void silu_each(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gate[i] = gate[i] / (1.0f + facet_exp(-gate[i])) * up[i];
}

#if defined(__x86_64__)
FACET_TARGET("avx512f") static void silu_avx512(float *gate, const float *up, size_t n)
{
    silu_each(gate, up, n);
}

FACET_TARGET("avx2") static void silu_avx2(float *gate, const float *up, size_t n)
{
    silu_each(gate, up, n);
}
#endif

static void silu(float *gate, const float *up, size_t n)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        silu_avx512(gate, up, n);
        return;
    }
    if (__builtin_cpu_supports("avx2")) {
        silu_avx2(gate, up, n);
        return;
    }
#endif
    silu_each(gate, up, n);
}

// GELU with the tanh approximation that the Gemma models are defined with.
static float gelu_tanh(float x)
{
    const float inner = 0.797884560802865f * (x + 0.044715f * x * x * x); // sqrt(2 / pi)
    return 0.5f * x * (1.0f + tanhf(inner));
}

void facet_activate(facet_gate_act act, float *gate, const float *up, size_t n)
{
    if (act == FACET_GATE_SILU)
        silu(gate, up, n);
    else
        for (size_t i = 0; i < n; i++)
            gate[i] = gelu_tanh(gate[i]) * up[i];
}
