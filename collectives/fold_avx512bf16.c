/* SPDX-License-Identifier: BSD-3-Clause */
/* fold_avx512bf16.c - sums of bfloat16 by the instructions made for it; compiled with -mavx512bf16 besides those of fold_avx512.c.
 *
 * A dot product with ones adds two bfloat16 to a float32 without widening them first. It takes denormals for zeros and makes
 * zeros of them, and its NaNs are any. So a step is kept only if all its sums lie between 2^-63 and 2^65, where no denormal
 * can have counted; the others and the rest of their block are left to fold_avx512.c, so that vectors full of zeros do not
 * pay for both. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stddef.h>

#include "collectives/fold_table.h"

enum { VECTOR = 64, STEP = 4 * VECTOR, BLOCK = 4096 };

#define INLINE static inline __attribute__((always_inline))

/* The element @i of the left vector beside that of the right one. */
#define PAIR(i) ((i) | ((i) + 32) << 16)
#define PAIRS(i) PAIR(i), PAIR((i) + 1), PAIR((i) + 2), PAIR((i) + 3)
#define SIXTEEN_PAIRS(i) (__m512i)(words){ PAIRS(i), PAIRS((i) + 4), PAIRS((i) + 8), PAIRS((i) + 12) }
typedef uint32_t words __attribute__((vector_size(VECTOR)));

INLINE __m512 sum_of(__m512i l, __m512i pairs, __m512i r)
{
	__m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);

	return _mm512_dpbf16_ps(_mm512_setzero_ps(), (__m512bh)_mm512_permutex2var_epi16(l, pairs, r), ones);
}

INLINE __m512i sum_vector(const char *left, const char *right)
{
	__m512i l = _mm512_loadu_si512(left), r = _mm512_loadu_si512(right);

	__asm__("" : "+v"(l), "+v"(r));         /* or the compiler loads each of them twice */
	return (__m512i)_mm512_cvtne2ps_pbh(sum_of(l, SIXTEEN_PAIRS(16), r), sum_of(l, SIXTEEN_PAIRS(0), r));
}

/* Of the middle half of all exponents the upper two bits differ: a one added to them gives the upper one then, and only then. */
INLINE __m512i middle(__m512i sums)
{
	return _mm512_add_epi16(sums, _mm512_set1_epi16(0x2000));
}

/* Stores nothing and returns 0 where it cannot tell: dst may be left or right. */
INLINE int sum_step(char *d, const char *l, const char *r)
{
	__m512i first = sum_vector(l, r), second = sum_vector(l + VECTOR, r + VECTOR);
	__m512i third = sum_vector(l + 2 * VECTOR, r + 2 * VECTOR), fourth = sum_vector(l + 3 * VECTOR, r + 3 * VECTOR);
	__m512i all = middle(first) & middle(second) & middle(third) & middle(fourth);

	if (_mm512_test_epi16_mask(all, _mm512_set1_epi16(0x4000)) != 0xffffffff)
		return 0;
	_mm512_storeu_si512(d, first);
	_mm512_storeu_si512(d + VECTOR, second);
	_mm512_storeu_si512(d + 2 * VECTOR, third);
	_mm512_storeu_si512(d + 3 * VECTOR, fourth);
	return 1;
}

static void sum_bfloat16(void *dst, const void *left, const void *right, size_t count)
{
	snti_fold_fn *exact = snti_fold_avx512.fold[SNT_BFLOAT16][SNT_SUM];
	size_t bytes = count * sizeof(uint16_t);
	const char *l = left, *r = right;
	char *d = dst;

	for (size_t at = 0, begin = 0; at < bytes; begin = at) {
		size_t end = bytes - begin < BLOCK ? bytes : begin + BLOCK;

		while (end - at >= STEP && sum_step(d + at, l + at, r + at))
			at += STEP;
		if (at < end)
			exact(d + at, l + at, r + at, (end - at) / sizeof(uint16_t));
		at = end;
	}
}

const struct snti_fold_table snti_fold_avx512bf16 = { .fold = { [SNT_BFLOAT16] = { [SNT_SUM] = sum_bfloat16 } } };
#endif
