/* SPDX-License-Identifier: BSD-3-Clause */
/* fold_avx2.c - the folds in 32-byte vectors; compiled with -mavx2 -mfma -mf16c. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdint.h>

#define FOLD_VECTOR_BYTES 32
typedef __m256 fold_floats;
typedef __m256i fold_flags;

#include "collectives/fold_vector.h"

FOLD_INLINE fold_flags fold_ordered(fold_flags flags, fold_floats x, fold_floats y)
{
	return flags & _mm256_castps_si256(_mm256_cmp_ps(x, y, _CMP_ORD_Q));
}

FOLD_INLINE void fold_stream(void *to, fold_words words)
{
	_mm256_stream_si256(to, (__m256i)words);
}

FOLD_INLINE int fold_all(fold_flags flags)
{
	return _mm256_testc_si256(flags, FOLD_UNFLAGGED);
}

FOLD_INLINE fold_floats fold_halves_load(const void *halves)
{
	return _mm256_cvtph_ps(_mm_loadu_si128(halves));
}

FOLD_INLINE void fold_halves_store(void *halves, fold_floats f)
{
	_mm_storeu_si128(halves, _mm256_cvtps_ph(f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

FOLD_INLINE fold_floats fold_multiply_add(fold_floats x, fold_floats y, fold_floats z)
{
	return _mm256_fmadd_ps(x, y, z);
}

/* Added by the multipliers, as the conversions keep the adders busy; the compiler must not know of the 1. */
FOLD_INLINE fold_floats fold_halves_sum(fold_floats x, fold_floats y)
{
	fold_floats one = _mm256_set1_ps(1.0f);

	__asm__("" : "+x"(one));
	return fold_multiply_add(x, one, y);
}

/* What is above half of the last place, or half and the place odd, rounds up: half less 1 where the place is even
 * no longer has the upper bit, which is what rounds up. */
FOLD_INLINE fold_words fold_pack_bfloat16(fold_floats low, fold_floats high)
{
	__m256i l = _mm256_castps_si256(low), h = _mm256_castps_si256(high);
	__m256i kept = _mm256_blend_epi16(_mm256_srli_epi32(l, 16), h, 0xaa);
	__m256i lost = _mm256_blend_epi16(l, _mm256_slli_epi32(h, 16), 0xaa);
	__m256i even = _mm256_andnot_si256(kept, _mm256_set1_epi16(1));

	return (fold_words)_mm256_add_epi16(kept, _mm256_srli_epi16(_mm256_subs_epu16(lost, even), 15));
}

#include "collectives/fold_body.h"

const struct snti_fold_table snti_fold_avx2 = FOLD_VECTOR_TABLE;
#endif
