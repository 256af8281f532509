/* SPDX-License-Identifier: BSD-3-Clause */
/* fold_vector.h - folds written in vectors: of 16-bit floats, and of many sources in one pass.
 *
 * To ask of each result whether it is a NaN and to mend it costs more than the addition. So here all results of a block
 * are asked together, and mended where they are stored, if there was one: a NaN of float32 is still one when it has
 * become a 16-bit float.
 *
 * Who includes this has defined, for one instruction set: FOLD_VECTOR_BYTES; fold_floats, a vector of that size; fold_flags,
 * integers to be put together by &; and defines next what is declared below. */
#ifndef COLLECTIVES_FOLD_VECTOR_H
#define COLLECTIVES_FOLD_VECTOR_H

#include <stdint.h>
#include <string.h>

#include "collectives/fold_float.h"
#include "collectives/fold_table.h"

#define FOLD_STEP (4 * FOLD_VECTOR_BYTES)     /* folded without looking anywhere else */
#define FOLD_BLOCK 4096                         /* in the first cache still when it has to be settled */
#define FOLD_INLINE static inline __attribute__((always_inline))

/* Like fold_floats, at any address. */
typedef uint32_t fold_words __attribute__((vector_size(FOLD_VECTOR_BYTES)));
typedef uint64_t fold_long_words __attribute__((vector_size(FOLD_VECTOR_BYTES)));

FOLD_INLINE fold_words fold_load(const void *from)
{
	fold_words words;

	memcpy(&words, from, sizeof(words));
	return words;
}

FOLD_INLINE void fold_store(void *to, fold_words words)
{
	memcpy(to, &words, sizeof(words));
}

FOLD_INLINE fold_flags fold_ordered(fold_flags flags, fold_floats x, fold_floats y);    /* clears something where one has a NaN */
FOLD_INLINE int fold_all(fold_flags flags);                             /* nothing is cleared */
FOLD_INLINE void fold_stream(void *to, fold_words words);               /* past the caches */
FOLD_INLINE fold_floats fold_multiply_add(fold_floats x, fold_floats y, fold_floats z); /* x * y + z */
FOLD_INLINE fold_floats fold_halves_load(const void *halves);
FOLD_INLINE void fold_halves_store(void *halves, fold_floats f);
FOLD_INLINE fold_floats fold_halves_sum(fold_floats x, fold_floats y);
FOLD_INLINE fold_words fold_pack_bfloat16(fold_floats low, fold_floats high);

#define FOLD_UNFLAGGED ((fold_flags)~(fold_flags){ 0 })
#define FOLD_AT(base, vectors) ((base) + (vectors) * FOLD_VECTOR_BYTES)

#define FOLD_MULTIPLY(x, y) ((x) * (y))
#define FOLD_ADD(x, y) ((x) + (y))

/* What is known of a block's results: whether one was a NaN. Those of float16 are multiplied and added up, where a NaN
 * stays one; they are far too small to overflow, and what infinities make of it costs only time. Those of
 * bfloat16 might overflow, and are compared. */
typedef fold_floats float16_notes;
typedef fold_flags bfloat16_notes;

FOLD_INLINE float16_notes float16_blank(void)
{
	return (fold_floats){ 0 } + 1.0f;       /* not 0, as denormals take some processors long */
}

FOLD_INLINE bfloat16_notes bfloat16_blank(void)
{
	return FOLD_UNFLAGGED;
}

FOLD_INLINE int float16_clean(const float16_notes notes[4])
{
	return fold_all(fold_ordered(FOLD_UNFLAGGED, notes[0] + notes[1], notes[2] + notes[3]));
}

FOLD_INLINE int bfloat16_clean(const bfloat16_notes notes[4])
{
	return fold_all(notes[0] & notes[1] & notes[2] & notes[3]);
}

/* Four vectors of 16-bit floats, each two of float32. Each has notes of its own: one need not wait for the other. */
#define FOLD_SMALL_STEP(name, type, vector_step) \
	FOLD_INLINE void name(char *d, const char *l, const char *r, type##_notes notes[4]) \
	{ \
		notes[0] = vector_step(d, l, r, notes[0]); \
		notes[1] = vector_step(FOLD_AT(d, 1), FOLD_AT(l, 1), FOLD_AT(r, 1), notes[1]); \
		notes[2] = vector_step(FOLD_AT(d, 2), FOLD_AT(l, 2), FOLD_AT(r, 2), notes[2]); \
		notes[3] = vector_step(FOLD_AT(d, 3), FOLD_AT(l, 3), FOLD_AT(r, 3), notes[3]); \
	}

/* Halves of a vector of float16 become vectors of float32, and back. */
#define FOLD_FLOAT16_STEP(name, operation) \
	FOLD_INLINE float16_notes name##_vector(char *d, const char *l, const char *r, float16_notes notes) \
	{ \
		const size_t half = FOLD_VECTOR_BYTES / 2; \
		fold_floats x = operation(fold_halves_load(l), fold_halves_load(r)); \
		fold_floats y = operation(fold_halves_load(l + half), fold_halves_load(r + half)); \
		fold_halves_store(d, x); \
		fold_halves_store(d + half, y); \
		return fold_multiply_add(x, y, notes); \
	} \
	FOLD_SMALL_STEP(name, float16, name##_vector)

/* Of two bfloat16 in a word one is a float32 when the other is masked out, one when it is shifted out: no shuffling. */
#define FOLD_BFLOAT16_STEP(name, operation) \
	FOLD_INLINE bfloat16_notes name##_vector(char *d, const char *l, const char *r, bfloat16_notes notes) \
	{ \
		fold_words a = fold_load(l), b = fold_load(r); \
		fold_floats low = operation((fold_floats)(a << 16), (fold_floats)(b << 16)); \
		fold_floats high = operation((fold_floats)(a & 0xffff0000u), (fold_floats)(b & 0xffff0000u)); \
		fold_store(d, fold_pack_bfloat16(low, high)); \
		return fold_ordered(notes, low, high); \
	} \
	FOLD_SMALL_STEP(name, bfloat16, name##_vector)

/* The fold of steps; a minimum of a block with itself makes all NaNs the one, @rest folds what is less than a step. */
#define FOLD_STEPS(name, type, step, rest) \
	static void name(void *dst, const void *left, const void *right, size_t count) \
	{ \
		const char *l = left, *r = right; \
		char *d = dst; \
		size_t whole = count * sizeof(uint16_t) / FOLD_STEP * FOLD_STEP; \
		for (size_t at = 0, begin = 0; at < whole; begin = at) { \
			size_t end = whole - at < FOLD_BLOCK ? whole : at + FOLD_BLOCK; \
			type##_notes notes[4] = { type##_blank(), type##_blank(), type##_blank(), type##_blank() }; \
			for (; at < end; at += FOLD_STEP) \
				step(d + at, l + at, r + at, notes); \
			if (!type##_clean(notes)) \
				min_##type(d + begin, d + begin, d + begin, (end - begin) / sizeof(uint16_t)); \
		} \
		if (whole < count * sizeof(uint16_t)) \
			rest(d + whole, l + whole, r + whole, count - whole / sizeof(uint16_t)); \
	}

/* ---- many vectors in one pass ------------------------------------------- */

/* Every source has been read up to the end of a step before the step is written: dst may be any of them. A NaN among the
 * operands is one in the sum, so settling at the end gives what settling after each addition gives. */
#define FOLD_MANY_STEPS(name, element, settle) \
	FOLD_INLINE void name(char *dst, const char *const *sources, unsigned number, size_t bytes) \
	{ \
		typedef element vector __attribute__((vector_size(FOLD_VECTOR_BYTES))); \
		for (size_t at = 0; at < bytes; at += FOLD_STEP) { \
			const char *s = sources[0] + at; \
			char *d = dst + at; \
			vector x0 = (vector)fold_load(s), x1 = (vector)fold_load(FOLD_AT(s, 1)); \
			vector x2 = (vector)fold_load(FOLD_AT(s, 2)), x3 = (vector)fold_load(FOLD_AT(s, 3)); \
			for (unsigned j = 1; j < number; j++) { \
				s = sources[j] + at; \
				x0 += (vector)fold_load(s); \
				x1 += (vector)fold_load(FOLD_AT(s, 1)); \
				x2 += (vector)fold_load(FOLD_AT(s, 2)); \
				x3 += (vector)fold_load(FOLD_AT(s, 3)); \
			} \
			fold_store(d, (fold_words)settle(x0)); \
			fold_store(FOLD_AT(d, 1), (fold_words)settle(x1)); \
			fold_store(FOLD_AT(d, 2), (fold_words)settle(x2)); \
			fold_store(FOLD_AT(d, 3), (fold_words)settle(x3)); \
		} \
	}

/* The usual numbers are constants to the compiler, which keeps the sources in registers then. */
#define FOLD_MANY(name, element, settle) \
	FOLD_MANY_STEPS(name##_steps, element, settle) \
	static size_t name(void *dst, const void *const *sources, unsigned number, size_t count) \
	{ \
		size_t bytes = count * sizeof(element) / FOLD_STEP * FOLD_STEP; \
		const char *s[SNTI_FOLD_MOST]; \
		for (unsigned i = 0; i < SNTI_FOLD_MOST; i++) \
			s[i] = sources[i < number ? i : 0]; \
		if (number == 4) \
			name##_steps(dst, s, 4, bytes); \
		else if (number == 8) \
			name##_steps(dst, s, 8, bytes); \
		else \
			name##_steps(dst, s, number, bytes); \
		return bytes / sizeof(element); \
	}

/* As above, and each step goes to all places before the next is read. */
#define FOLD_SPREAD(name, element, settle) \
	FOLD_INLINE void name##_steps(const struct snti_fold_spread *f, unsigned number, unsigned kept, size_t bytes) \
	{ \
		typedef element vector __attribute__((vector_size(FOLD_VECTOR_BYTES))); \
		unsigned places = f->places; \
		for (size_t at = 0; at < bytes; at += FOLD_STEP) { \
			const char *s = (const char *)f->sources[0] + at; \
			vector x0 = (vector)fold_load(s), x1 = (vector)fold_load(FOLD_AT(s, 1)); \
			vector x2 = (vector)fold_load(FOLD_AT(s, 2)), x3 = (vector)fold_load(FOLD_AT(s, 3)); \
			for (unsigned j = 1; j < number; j++) { \
				s = (const char *)f->sources[j] + at; \
				x0 += (vector)fold_load(s); \
				x1 += (vector)fold_load(FOLD_AT(s, 1)); \
				x2 += (vector)fold_load(FOLD_AT(s, 2)); \
				x3 += (vector)fold_load(FOLD_AT(s, 3)); \
			} \
			x0 = (vector)settle(x0); \
			x1 = (vector)settle(x1); \
			x2 = (vector)settle(x2); \
			x3 = (vector)settle(x3); \
			for (unsigned j = 0; j < places; j++) { \
				char *d = (char *)f->to[j] + at; \
				if (j < kept) { \
					fold_store(d, (fold_words)x0); \
					fold_store(FOLD_AT(d, 1), (fold_words)x1); \
					fold_store(FOLD_AT(d, 2), (fold_words)x2); \
					fold_store(FOLD_AT(d, 3), (fold_words)x3); \
				} else { \
					fold_stream(d, (fold_words)x0); \
					fold_stream(FOLD_AT(d, 1), (fold_words)x1); \
					fold_stream(FOLD_AT(d, 2), (fold_words)x2); \
					fold_stream(FOLD_AT(d, 3), (fold_words)x3); \
				} \
			} \
		} \
	} \
	static size_t name(const struct snti_fold_spread *f, size_t count) \
	{ \
		size_t bytes = count * sizeof(element) / FOLD_STEP * FOLD_STEP; \
		for (unsigned j = f->kept; j < f->places; j++) \
			if ((uintptr_t)f->to[j] % FOLD_VECTOR_BYTES) \
				return 0; \
		if (f->number == 2 && f->kept) \
			name##_steps(f, 2, 1, bytes); \
		else if (f->number == 2) \
			name##_steps(f, 2, 0, bytes); \
		else \
			name##_steps(f, f->number, f->kept, bytes); \
		return bytes / sizeof(element); \
	}

#define FOLD_AS_IT_IS(x) (x)
#define FOLD_SETTLED(words, x, nan) (((words)(x) & (words)((x) == (x))) | ((words)((x) != (x)) & (nan)))
#define FOLD_SETTLED_FLOATS(x) FOLD_SETTLED(fold_words, x, NAN_FLOAT32)
#define FOLD_SETTLED_DOUBLES(x) FOLD_SETTLED(fold_long_words, x, NAN_FLOAT64)

#define FOLD_MANY_TABLE { \
	[SNT_INT32] = sum_many_32, [SNT_UINT32] = sum_many_32, [SNT_INT64] = sum_many_64, [SNT_UINT64] = sum_many_64, \
	[SNT_FLOAT32] = sum_many_float32, [SNT_FLOAT64] = sum_many_float64, \
}
#define FOLD_SPREAD_TABLE { \
	[SNT_INT32] = sum_spread_32, [SNT_UINT32] = sum_spread_32, [SNT_INT64] = sum_spread_64, [SNT_UINT64] = sum_spread_64, \
	[SNT_FLOAT32] = sum_spread_float32, [SNT_FLOAT64] = sum_spread_float64, \
}

#endif
