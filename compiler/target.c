// SPDX-License-Identifier: Apache-2.0
#include "compiler/target.h"

#include <string.h>

#define V3 "-march=x86-64-v3"
#define V4 "-march=x86-64-v4", "-mprefer-vector-width=512"

// Loops over lanes unroll without end at -O3: minutes of compiling for code that only tests run.
static const char *const flags_generic[] = {"-O1", NULL};
static const char *const flags_v3[] = {V3, NULL};
static const char *const flags_avx_vnni[] = {V3, "-mavxvnni", NULL};
static const char *const flags_v4[] = {V4, NULL};
static const char *const flags_avx512_vnni[] = {V4, "-mavx512vnni", NULL};
static const char *const flags_avx512_bf16[] = {V4, "-mavx512vnni", "-mavx512bf16", NULL};

// Worst to best. "generic" is the portable code of simd_generic.h: it can be emitted anywhere
// (tests do), but is not one of the names, as the runtime's own generic kernels need no artifact.
static const facet_target targets[] = {
    {"generic", flags_generic, "simd_generic.h"},
    {"x86-64-v3", flags_v3, "simd_avx2.h"},
    {"avx-vnni", flags_avx_vnni, "simd_avx2.h"},
    {"x86-64-v4", flags_v4, "simd_avx512.h"},
    {"avx512-vnni", flags_avx512_vnni, "simd_avx512.h"},
    {"avx512-bf16", flags_avx512_bf16, "simd_avx512.h"},
};

const facet_target *facet_target_find(const char *name)
{
    for (size_t i = 0; name && i < FACET_COUNT_OF(targets); i++) {
        if (strcmp(targets[i].name, name) == 0) return &targets[i];
    }
    return NULL;
}

const char *const *facet_target_names(void)
{
    static const char *const names[] = {"x86-64-v3",   "avx-vnni",    "x86-64-v4",
                                        "avx512-vnni", "avx512-bf16", NULL};
    return names;
}
