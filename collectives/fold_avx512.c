/* SPDX-License-Identifier: BSD-3-Clause */
/* fold_avx512.c - the folds in 64-byte vectors; compiled with -mavx512f -mavx512bw -mavx512vl. */
#if defined(__x86_64__)
/* GCC thinks of clock rates that fell with wide vectors, ten years ago, and would use half. */
#if !defined(__clang__)
#pragma GCC target("prefer-vector-width=512")
#endif
#include <immintrin.h>
#include <stdint.h>

#define FOLD_VECTOR_BYTES 64
typedef __m512 fold_floats;
typedef __mmask16 fold_flags;

#include "collectives/fold_vector.h"

FOLD_INLINE fold_flags fold_ordered(fold_flags flags, fold_floats x, fold_floats y)
{
	return _mm512_mask_cmp_ps_mask(flags, x, y, _CMP_ORD_Q);
}

FOLD_INLINE void fold_stream(void *to, fold_words words)
{
	_mm512_stream_si512(to, (__m512i)words);
}

FOLD_INLINE int fold_all(fold_flags flags)
{
	return flags == 0xffff;
}

FOLD_INLINE fold_floats fold_halves_load(const void *halves)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256(halves));
}

FOLD_INLINE void fold_halves_store(void *halves, fold_floats f)
{
	_mm256_storeu_si256(halves, _mm512_cvtps_ph(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

FOLD_INLINE fold_floats fold_multiply_add(fold_floats x, fold_floats y, fold_floats z)
{
	return _mm512_fmadd_ps(x, y, z);
}

/* Added by the multipliers, as the conversions keep the adders busy; the compiler must not know of the 1. */
FOLD_INLINE fold_floats fold_halves_sum(fold_floats x, fold_floats y)
{
	fold_floats one = _mm512_set1_ps(1.0f);

	__asm__("" : "+v"(one));
	return fold_multiply_add(x, one, y);
}

/* What is above half of the last place, or half and the place odd, rounds up: with the place's bit
 * below it a half is above half. Shuffling under a mask puts halves of words together at once. */
FOLD_INLINE fold_words fold_pack_bfloat16(fold_floats low, fold_floats high)
{
	const __mmask64 lower = 0x3333333333333333u, upper = ~lower;
	__m512i one = _mm512_set1_epi16(1), half = _mm512_set1_epi16((short)0x8000);
	__m512i turn = _mm512_set4_epi32(0x0d0c0f0e, 0x09080b0a, 0x05040706, 0x01000302);
	__m512i l = _mm512_castps_si512(low), h = _mm512_castps_si512(high);
	__m512i kept = _mm512_mask_shuffle_epi8(h, lower, l, turn);
	__m512i lost = _mm512_mask_shuffle_epi8(l, upper, h, turn);
	__m512i weight = _mm512_or_si512(lost, _mm512_and_si512(kept, one));

	return (fold_words)_mm512_mask_add_epi16(kept, _mm512_cmpgt_epu16_mask(weight, half), kept, one);
}

#include "collectives/fold_body.h"

const struct snti_fold_table snti_fold_avx512 = FOLD_VECTOR_TABLE;
#endif
