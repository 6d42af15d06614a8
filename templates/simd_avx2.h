// SPDX-License-Identifier: Apache-2.0
// Vector primitives on AVX2 (with FMA and F16C), with the 256-bit dot product where the target has
// it. A vector of 16 is two halves; the names are those of every simd_*.h (templates/README.md).
#include <immintrin.h>

#define SIMD_TOKENS       4 // tokens of a register tile: 8 of 16 registers hold integer sums
#define SIMD_FLOAT_TOKENS 3 // the same of float weights: 12 registers hold two sums of each
#define SIMD_FEW          2 // tokens that share an unpacking in registers
#define INLINE            static inline __attribute__((always_inline, unused))
#define NOINLINE          static __attribute__((noinline, unused))

typedef struct v16f {
    __m256 lo, hi;
} v16f;
typedef struct v16i {
    __m256i lo, hi;
} v16i;
typedef v16i v64b; // 64 unsigned bytes

INLINE v16f vf_both(__m256 lo, __m256 hi)
{
    return (v16f){lo, hi};
}
INLINE v16i vi_both(__m256i lo, __m256i hi)
{
    return (v16i){lo, hi};
}

INLINE v16f vf_zero(void)
{
    return vf_both(_mm256_setzero_ps(), _mm256_setzero_ps());
}
INLINE v16f vf_set(float x)
{
    return vf_both(_mm256_set1_ps(x), _mm256_set1_ps(x));
}
INLINE v16f vf_load(const float *p)
{
    return vf_both(_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}
INLINE void vf_store(float *p, v16f v)
{
    _mm256_storeu_ps(p, v.lo);
    _mm256_storeu_ps(p + 8, v.hi);
}
INLINE v16f vf_load_part(const float *p, uint32_t n)
{
    float part[16] = {0};
    for (uint32_t i = 0; i < n; i++)
        part[i] = p[i];
    return vf_load(part);
}
INLINE void vf_store_part(float *p, v16f v, uint32_t n)
{
    float part[16];
    vf_store(part, v);
    for (uint32_t i = 0; i < n; i++)
        p[i] = part[i];
}
INLINE v16f vf_add(v16f a, v16f b)
{
    return vf_both(_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi));
}
INLINE v16f vf_sub(v16f a, v16f b)
{
    return vf_both(_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi));
}
INLINE v16f vf_mul(v16f a, v16f b)
{
    return vf_both(_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi));
}
INLINE v16f vf_div(v16f a, v16f b)
{
    return vf_both(_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi));
}
INLINE v16f vf_fma(v16f a, v16f b, v16f c)
{
    return vf_both(_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi));
}
INLINE v16f vf_min(v16f a, v16f b)
{
    return vf_both(_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi));
}
INLINE v16f vf_max(v16f a, v16f b)
{
    return vf_both(_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi));
}
INLINE v16f vf_abs(v16f a)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return vf_both(_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi));
}

// The halves are added lane by lane down to one, in the same order in every simd_*.h.
INLINE float vf_sum(v16f v)
{
    const __m256 a = _mm256_add_ps(v.lo, v.hi);
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
}
INLINE float vf_top(v16f v)
{
    const __m256 a = _mm256_max_ps(v.lo, v.hi);
    const __m128 b = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_max_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_max_ss(c, _mm_movehdup_ps(c)));
}

INLINE __m128i eight_halves(const uint16_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}
INLINE v16f vf_load_f16(const uint16_t *p)
{
    return vf_both(_mm256_cvtph_ps(eight_halves(p)), _mm256_cvtph_ps(eight_halves(p + 8)));
}
INLINE void vf_store_f16(uint16_t *p, v16f v)
{
    const __m128i lo = _mm256_cvtps_ph(v.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m128i hi = _mm256_cvtps_ph(v.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128((__m128i *)(void *)p, lo);
    _mm_storeu_si128((__m128i *)(void *)(p + 8), hi);
}
INLINE __m256 eight_bf16(const uint16_t *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(eight_halves(p)), 16));
}
INLINE v16f vf_load_bf16(const uint16_t *p)
{
    return vf_both(eight_bf16(p), eight_bf16(p + 8));
}
// v * 2^n for n in -126 .. 127.
INLINE __m256 power_of_two(__m256i n)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
INLINE v16f vf_scale(v16f v, v16i n)
{
    return vf_mul(v, vf_both(power_of_two(n.lo), power_of_two(n.hi)));
}

INLINE v16i vi_zero(void)
{
    return vi_both(_mm256_setzero_si256(), _mm256_setzero_si256());
}
INLINE v16i vi_set(int32_t x)
{
    return vi_both(_mm256_set1_epi32(x), _mm256_set1_epi32(x));
}
INLINE __m256i eight_words(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}
INLINE v16i vi_load(const int32_t *p)
{
    return vi_both(eight_words(p), eight_words(p + 8));
}
INLINE int32_t vi_sum(v16i v)
{
    const __m256i a = _mm256_add_epi32(v.lo, v.hi);
    const __m128i b = _mm_add_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    const __m128i c = _mm_add_epi32(b, _mm_shuffle_epi32(b, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(c, _mm_shuffle_epi32(c, 0xb1)));
}
INLINE __m128i eight_bytes(const void *p)
{
    return _mm_loadl_epi64((const __m128i *)p);
}
INLINE v16i vi_load_u8(const uint8_t *p)
{
    return vi_both(_mm256_cvtepu8_epi32(eight_bytes(p)), _mm256_cvtepu8_epi32(eight_bytes(p + 8)));
}
INLINE v16i vi_load_i8(const int8_t *p)
{
    return vi_both(_mm256_cvtepi8_epi32(eight_bytes(p)), _mm256_cvtepi8_epi32(eight_bytes(p + 8)));
}
INLINE void vi_store_i8(int8_t *p, v16i v)
{
    const __m128i lo =
        _mm_packs_epi32(_mm256_castsi256_si128(v.lo), _mm256_extracti128_si256(v.lo, 1));
    const __m128i hi =
        _mm_packs_epi32(_mm256_castsi256_si128(v.hi), _mm256_extracti128_si256(v.hi, 1));
    _mm_storeu_si128((__m128i *)(void *)p, _mm_packs_epi16(lo, hi));
}
INLINE v16f vf_of_int(v16i v)
{
    return vf_both(_mm256_cvtepi32_ps(v.lo), _mm256_cvtepi32_ps(v.hi));
}
INLINE v16i vi_round(v16f v) // to nearest, ties to even
{
    return vi_both(_mm256_cvtps_epi32(v.lo), _mm256_cvtps_epi32(v.hi));
}

INLINE v64b vb_load(const uint8_t *p)
{
    return vi_both(eight_words(p), eight_words(p + 32));
}
INLINE void vb_store(uint8_t *p, v64b v)
{
    _mm256_storeu_si256((__m256i *)(void *)p, v.lo);
    _mm256_storeu_si256((__m256i *)(void *)(p + 32), v.hi);
}
INLINE v64b vb_or(v64b a, v64b b)
{
    return vi_both(_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi));
}
INLINE v64b vb_mask(v64b v, int8_t mask)
{
    const __m256i m = _mm256_set1_epi8(mask);
    return vi_both(_mm256_and_si256(v.lo, m), _mm256_and_si256(v.hi, m));
}
// Left (right for a negative count) within 16 bits; the count is a literal.
INLINE v64b vb_shift(v64b v, int left)
{
    if (left >= 0) return vi_both(_mm256_slli_epi16(v.lo, left), _mm256_slli_epi16(v.hi, left));
    return vi_both(_mm256_srli_epi16(v.lo, -left), _mm256_srli_epi16(v.hi, -left));
}
INLINE v64b vb_low4(v64b v)
{
    return vb_mask(v, 0x0f);
}
INLINE v64b vb_high4(v64b v)
{
    return vb_mask(vb_shift(v, -4), 0x0f);
}
// Bit k of every byte moved to bit 4; k is a literal.
INLINE v64b vb_bit(v64b v, uint32_t k)
{
    return vb_mask(vb_shift(v, 4 - (int)k), 0x10);
}
// Bits 2k and 2k + 1 of every byte moved to bits 4 and 5; k is a literal 0..3.
INLINE v64b vb_pair(v64b v, uint32_t k)
{
    return vb_mask(vb_shift(v, 4 - 2 * (int)k), 0x30);
}

INLINE __m256i four_bytes(const int8_t *a)
{
    int32_t word;
    __builtin_memcpy(&word, a, 4);
    return _mm256_set1_epi32(word);
}
// acc[r] += sum over j of w[4 r + j] * a[j]. dot4 takes bytes of w up to 127, dot4_wide any.
#if defined(__AVXVNNI__) || defined(__AVX512VNNI__)
#if defined(__AVXVNNI__)
#define DOT4_256 _mm256_dpbusd_avx_epi32
#else
#define DOT4_256 _mm256_dpbusd_epi32
#endif
INLINE v16i dot4(v16i acc, v64b w, const int8_t *a)
{
    const __m256i bytes = four_bytes(a);
    return vi_both(DOT4_256(acc.lo, w.lo, bytes), DOT4_256(acc.hi, w.hi, bytes));
}
INLINE v16i dot4_wide(v16i acc, v64b w, const int8_t *a)
{
    return dot4(acc, w, a);
}
#else
// Two products of 127 * 127 fit 16 bits; those of 255 * 127 do not, so wide bytes go in two parts.
INLINE __m256i dot4_half(__m256i acc, __m256i w, __m256i bytes, int16_t factor)
{
    const __m256i pairs = _mm256_maddubs_epi16(w, bytes);
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(factor)));
}
INLINE v16i dot4(v16i acc, v64b w, const int8_t *a)
{
    const __m256i bytes = four_bytes(a);
    return vi_both(dot4_half(acc.lo, w.lo, bytes, 1), dot4_half(acc.hi, w.hi, bytes, 1));
}
INLINE v16i dot4_wide(v16i acc, v64b w, const int8_t *a)
{
    const __m256i bytes = four_bytes(a);
    const v64b half = vb_mask(vb_shift(w, -1), 0x7f);
    const v64b odd = vb_mask(w, 1);
    acc = vi_both(dot4_half(acc.lo, half.lo, bytes, 2), dot4_half(acc.hi, half.hi, bytes, 2));
    return vi_both(dot4_half(acc.lo, odd.lo, bytes, 1), dot4_half(acc.hi, odd.hi, bytes, 1));
}
#endif
