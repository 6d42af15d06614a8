// SPDX-License-Identifier: Apache-2.0
// Vector primitives on AVX-512 (F BW CD DQ VL), with VNNI where the target has it. Every simd_*.h
// offers the same names (templates/README.md lists them); nothing else in the templates is per ISA.
#include <immintrin.h>

#define SIMD_TOKENS                                                                                \
    8 // tokens of a register tile: 8 integer and 8 float accumulators of 32 registers
#define SIMD_FLOAT_TOKENS 8 // the same of float weights: two sums each
#define SIMD_FEW          4 // tokens that share an unpacking in registers
#define INLINE            static inline __attribute__((always_inline, unused))
#define NOINLINE          static __attribute__((noinline, unused))

typedef __m512 v16f;
typedef __m512i v16i;
typedef __m512i v64b; // 64 unsigned bytes

INLINE v16f vf_zero(void)
{
    return _mm512_setzero_ps();
}
INLINE v16f vf_set(float x)
{
    return _mm512_set1_ps(x);
}
INLINE v16f vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
INLINE void vf_store(float *p, v16f v)
{
    _mm512_storeu_ps(p, v);
}
INLINE v16f vf_load_part(const float *p, uint32_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p);
}
INLINE void vf_store_part(float *p, v16f v, uint32_t n)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), v);
}
INLINE v16f vf_add(v16f a, v16f b)
{
    return _mm512_add_ps(a, b);
}
INLINE v16f vf_sub(v16f a, v16f b)
{
    return _mm512_sub_ps(a, b);
}
INLINE v16f vf_mul(v16f a, v16f b)
{
    return _mm512_mul_ps(a, b);
}
INLINE v16f vf_div(v16f a, v16f b)
{
    return _mm512_div_ps(a, b);
}
INLINE v16f vf_fma(v16f a, v16f b, v16f c)
{
    return _mm512_fmadd_ps(a, b, c);
}
INLINE v16f vf_min(v16f a, v16f b)
{
    return _mm512_min_ps(a, b);
}
INLINE v16f vf_max(v16f a, v16f b)
{
    return _mm512_max_ps(a, b);
}
INLINE v16f vf_abs(v16f a)
{
    return _mm512_abs_ps(a);
}

// The halves are added lane by lane down to one, in the same order in every simd_*.h.
INLINE float vf_sum(v16f v)
{
    const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
INLINE float vf_top(v16f v)
{
    const __m256 a = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

INLINE v16f vf_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
INLINE void vf_store_f16(uint16_t *p, v16f v)
{
    _mm256_storeu_si256((__m256i *)(void *)p,
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
INLINE v16f vf_load_bf16(const uint16_t *p)
{
    const __m256i halves = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
// v * 2^n for n in -126 .. 127.
INLINE v16f vf_scale(v16f v, v16i n)
{
    return _mm512_scalef_ps(v, _mm512_cvtepi32_ps(n));
}

INLINE v16i vi_zero(void)
{
    return _mm512_setzero_si512();
}
INLINE v16i vi_set(int32_t x)
{
    return _mm512_set1_epi32(x);
}
INLINE v16i vi_load(const int32_t *p)
{
    return _mm512_loadu_si512(p);
}
INLINE int32_t vi_sum(v16i v)
{
    const __m256i a = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti32x8_epi32(v, 1));
    const __m128i b = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    const __m128i c = _mm_add_epi32(b, _mm_shuffle_epi32(b, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(c, _mm_shuffle_epi32(c, 0xb1)));
}
INLINE v16i vi_load_u8(const uint8_t *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
INLINE v16i vi_load_i8(const int8_t *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
INLINE void vi_store_i8(int8_t *p, v16i v)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(v));
}
INLINE v16f vf_of_int(v16i v)
{
    return _mm512_cvtepi32_ps(v);
}
INLINE v16i vi_round(v16f v) // to nearest, ties to even
{
    return _mm512_cvt_roundps_epi32(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

INLINE v64b vb_load(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}
INLINE void vb_store(uint8_t *p, v64b v)
{
    _mm512_storeu_si512(p, v);
}
INLINE v64b vb_or(v64b a, v64b b)
{
    return _mm512_or_si512(a, b);
}
INLINE v64b vb_low4(v64b v)
{
    return _mm512_and_si512(v, _mm512_set1_epi8(0x0f));
}
INLINE v64b vb_high4(v64b v)
{
    return _mm512_and_si512(_mm512_srli_epi16(v, 4), _mm512_set1_epi8(0x0f));
}
// Bit k of every byte moved to bit 4; k is a literal.
INLINE v64b vb_bit(v64b v, uint32_t k)
{
    const v64b moved =
        k < 4 ? _mm512_slli_epi16(v, k < 4 ? 4 - k : 0) : _mm512_srli_epi16(v, k < 4 ? 0 : k - 4);
    return _mm512_and_si512(moved, _mm512_set1_epi8(0x10));
}
// Bits 2k and 2k + 1 of every byte moved to bits 4 and 5; k is a literal 0..3.
INLINE v64b vb_pair(v64b v, uint32_t k)
{
    const v64b moved = k < 2 ? _mm512_slli_epi16(v, k < 2 ? 4 - 2 * k : 0)
                             : _mm512_srli_epi16(v, k < 2 ? 0 : 2 * k - 4);
    return _mm512_and_si512(moved, _mm512_set1_epi8(0x30));
}

INLINE v16i four_bytes(const int8_t *a)
{
    int32_t word;
    __builtin_memcpy(&word, a, 4);
    return _mm512_set1_epi32(word);
}
// acc[r] += sum over j of w[4 r + j] * a[j]. dot4 takes bytes of w up to 127, dot4_wide any.
#if defined(__AVX512VNNI__)
INLINE v16i dot4(v16i acc, v64b w, const int8_t *a)
{
    return _mm512_dpbusd_epi32(acc, w, four_bytes(a));
}
INLINE v16i dot4_wide(v16i acc, v64b w, const int8_t *a)
{
    return dot4(acc, w, a);
}
#else
// Two products of 127 * 127 fit 16 bits; those of 255 * 127 do not, so wide bytes go in two parts.
INLINE v16i dot4(v16i acc, v64b w, const int8_t *a)
{
    const __m512i pairs = _mm512_maddubs_epi16(w, four_bytes(a));
    return _mm512_add_epi32(acc, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
INLINE v16i dot4_wide(v16i acc, v64b w, const int8_t *a)
{
    const __m512i bytes = four_bytes(a);
    const v64b half = _mm512_and_si512(_mm512_srli_epi16(w, 1), _mm512_set1_epi8(0x7f));
    const v64b odd = _mm512_and_si512(w, _mm512_set1_epi8(1));
    const __m512i halves = _mm512_maddubs_epi16(half, bytes);
    const __m512i odds = _mm512_maddubs_epi16(odd, bytes);
    acc = _mm512_add_epi32(acc, _mm512_madd_epi16(halves, _mm512_set1_epi16(2)));
    return _mm512_add_epi32(acc, _mm512_madd_epi16(odds, _mm512_set1_epi16(1)));
}
#endif
