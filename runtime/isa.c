// SPDX-License-Identifier: Apache-2.0
// Features are bits of one word; a target is the set of bits its code may use. The operating system
// must save the registers as well (XCR0), else using them is an illegal instruction.
#include "runtime/isa.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/attr.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

enum {
    HAS_AVX2 = 1 << 0,
    HAS_FMA = 1 << 1,
    HAS_F16C = 1 << 2,
    HAS_BMI = 1 << 3, // BMI1, BMI2, LZCNT and MOVBE, which x86-64-v3 has together
    HAS_AVX_VNNI = 1 << 4,
    HAS_AVX512F = 1 << 5,
    HAS_AVX512BW = 1 << 6,
    HAS_AVX512CD = 1 << 7,
    HAS_AVX512DQ = 1 << 8,
    HAS_AVX512VL = 1 << 9,
    HAS_AVX512_VNNI = 1 << 10,
    HAS_AVX512_BF16 = 1 << 11,

    NEEDS_V3 = HAS_AVX2 | HAS_FMA | HAS_F16C | HAS_BMI,
    NEEDS_V4 = NEEDS_V3 | HAS_AVX512F | HAS_AVX512BW | HAS_AVX512CD | HAS_AVX512DQ | HAS_AVX512VL,
};

static const char *const feature_names[] = {"avx2",     "fma",      "f16c",        "bmi",
                                            "avx-vnni", "avx512f",  "avx512bw",    "avx512cd",
                                            "avx512dq", "avx512vl", "avx512-vnni", "avx512-bf16"};

// Worst to best.
static const struct {
    const char *name;
    uint32_t needs;
} targets[] = {
    {"x86-64-v3", NEEDS_V3},
    {"avx-vnni", NEEDS_V3 | HAS_AVX_VNNI},
    {"x86-64-v4", NEEDS_V4},
    {"avx512-vnni", NEEDS_V4 | HAS_AVX512_VNNI},
    {"avx512-bf16", NEEDS_V4 | HAS_AVX512_VNNI | HAS_AVX512_BF16},
};

#if defined(__x86_64__)
static bool bit(uint32_t word, uint32_t index)
{
    return (word >> index) & 1u;
}

// What the operating system saves: bits 1 and 2 the 256-bit registers, 5 to 7 the 512-bit ones.
static uint32_t saved_registers(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    (void)high;
    return low;
}

static uint32_t cpu_features(void)
{
    uint32_t a, b, c, d, ecx1, found = 0;
    if (!__get_cpuid(1, &a, &b, &ecx1, &d)) return 0;
    if (!bit(ecx1, 27) || !bit(ecx1, 28)) return 0; // OSXSAVE, AVX
    const uint32_t saved = saved_registers();
    if ((saved & 0x06u) != 0x06u) return 0;
    uint32_t ecx_ext = 0;
    if (!__get_cpuid(0x80000001u, &a, &b, &ecx_ext, &d)) ecx_ext = 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    const uint32_t subleaves = a;
    if (bit(b, 5)) found |= HAS_AVX2;
    if (bit(ecx1, 12)) found |= HAS_FMA;
    if (bit(ecx1, 29)) found |= HAS_F16C;
    if (bit(b, 3) && bit(b, 8) && bit(ecx_ext, 5) && bit(ecx1, 22)) found |= HAS_BMI;
    const bool wide = (saved & 0xe0u) == 0xe0u && bit(b, 16);
    if (wide) {
        found |= HAS_AVX512F;
        if (bit(b, 30)) found |= HAS_AVX512BW;
        if (bit(b, 28)) found |= HAS_AVX512CD;
        if (bit(b, 17)) found |= HAS_AVX512DQ;
        if (bit(b, 31)) found |= HAS_AVX512VL;
        if (bit(c, 11)) found |= HAS_AVX512_VNNI;
    }
    if (subleaves >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        if (bit(a, 4)) found |= HAS_AVX_VNNI;
        if (wide && bit(a, 5)) found |= HAS_AVX512_BF16;
    }
    return found;
}
#else
static uint32_t cpu_features(void)
{
    return 0;
}
#endif

// Index of a target, -1 for "generic", -2 for an unknown name.
static int target_rank(const char *name)
{
    for (size_t i = 0; i < FACET_COUNT_OF(targets); i++) {
        if (strcmp(targets[i].name, name) == 0) return (int)i;
    }
    return strcmp(name, "generic") == 0 ? -1 : -2;
}

bool facet_isa_known(const char *name)
{
    return target_rank(name) >= -1;
}

int facet_isa_rank(const char *target)
{
    return target_rank(target);
}

bool facet_isa_runs(const char *target, const char *limit)
{
    const int rank = target_rank(target);
    if (rank < 0 || (limit && rank > target_rank(limit))) return false;
    const uint32_t needs = targets[rank].needs;
    return (cpu_features() & needs) == needs;
}

const char *facet_isa_best(const char *limit)
{
    for (size_t i = FACET_COUNT_OF(targets); i-- > 0;) {
        if (facet_isa_runs(targets[i].name, limit)) return targets[i].name;
    }
    return "generic";
}

const char *facet_cpu_name(char *buffer, unsigned capacity)
{
    const uint32_t features = cpu_features();
    size_t used = 0;
    if (capacity == 0) return "";
    buffer[0] = '\0';
    for (size_t i = 0; i < FACET_COUNT_OF(feature_names); i++) {
        if (!((features >> i) & 1u)) continue;
        const int n =
            snprintf(buffer + used, capacity - used, "%s%s", used ? " " : "", feature_names[i]);
        if (n < 0 || (size_t)n >= capacity - used) break;
        used += (size_t)n;
    }
    return buffer;
}
