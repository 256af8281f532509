/* SPDX-License-Identifier: BSD-3-Clause */
/* fold_body.h - every fold as one formula and one loop, compiled once per instruction set.
 *
 * Included by fold_scalar.c, fold_avx2.c, ...; the flags of each decide what the loops become,
 * so all of them give the same bits. A file that has included fold_vector.h before adds and multiplies
 * 16-bit floats by that, and sums many vectors at once. */
#ifndef COLLECTIVES_FOLD_BODY_H
#define COLLECTIVES_FOLD_BODY_H

#include "collectives/fold_float.h"
#include "collectives/fold_table.h"

/* The loops are meant to become vectors at whatever -O the library is built with, and dst may
 * be left or right: no iteration looks at what another wrote, which a compiler cannot know. */
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed"   /* under sanitizers some loops stay as they are */
#define FOLD_LOOP _Pragma("clang loop vectorize(assume_safety) interleave_count(4)")
#else
#pragma GCC optimize("O3")
#define FOLD_LOOP _Pragma("GCC ivdep") _Pragma("GCC unroll 4")
#endif

/* Elements at any address, whatever they were stored as. */
#define FOLD_ELEMENT __attribute__((aligned(1), may_alias))
typedef int8_t FOLD_ELEMENT e_int8;
typedef int16_t FOLD_ELEMENT e_int16;
typedef int32_t FOLD_ELEMENT e_int32;
typedef int64_t FOLD_ELEMENT e_int64;
typedef uint8_t FOLD_ELEMENT e_uint8;
typedef uint16_t FOLD_ELEMENT e_uint16;
typedef uint32_t FOLD_ELEMENT e_uint32;
typedef uint64_t FOLD_ELEMENT e_uint64;
typedef float FOLD_ELEMENT e_float32;
typedef double FOLD_ELEMENT e_float64;

/* A function that makes @expression of a and b: elements read as @from and written as @to. */
#define FOLD(name, from, to, expression) \
	static void name(void *dst, const void *left, const void *right, size_t count) \
	{ \
		const from *l = left, *r = right; \
		to *d = dst; \
		FOLD_LOOP \
		for (size_t i = 0; i < count; i++) { \
			from a = l[i], b = r[i]; \
			d[i] = (to)(expression); \
		} \
	}

/* ---- integers ----------------------------------------------------------- */

/* Computed without sign, so they wrap and serve both signs; @wide, as uint16 * uint16 would
 * be a product of ints, and overflow. */
#define FOLD_UNSIGNED(bits, wide) \
	FOLD(sum_##bits, e_uint##bits, e_uint##bits, (wide)a + (wide)b) \
	FOLD(product_##bits, e_uint##bits, e_uint##bits, (wide)a * (wide)b) \
	FOLD(band_##bits, e_uint##bits, e_uint##bits, a & b) \
	FOLD(bor_##bits, e_uint##bits, e_uint##bits, a | b) \
	FOLD(bxor_##bits, e_uint##bits, e_uint##bits, a ^ b) \
	FOLD(min_uint##bits, e_uint##bits, e_uint##bits, a < b ? a : b) \
	FOLD(max_uint##bits, e_uint##bits, e_uint##bits, a > b ? a : b) \
	FOLD(min_int##bits, e_int##bits, e_int##bits, a < b ? a : b) \
	FOLD(max_int##bits, e_int##bits, e_int##bits, a > b ? a : b)

FOLD_UNSIGNED(8, uint32_t)
FOLD_UNSIGNED(16, uint32_t)
FOLD_UNSIGNED(32, uint32_t)
FOLD_UNSIGNED(64, uint64_t)

/* ---- floats ------------------------------------------------------------- */

FOLD(sum_float32, e_float32, e_uint32, settle_float(a + b))
FOLD(product_float32, e_float32, e_uint32, settle_float(a * b))
FOLD(sum_float64, e_float64, e_uint64, settle_double(a + b))
FOLD(product_float64, e_float64, e_uint64, settle_double(a * b))

/* Minimum and maximum need no arithmetic: turning over all but the sign of negative floats
 * makes their bits ascend as signed integers, -0 below +0. Turning twice gives them back. */
#define FOLD_TURN(bits, x) \
	((int##bits##_t)((x) ^ (int##bits##_t)((uint##bits##_t)((x) >> (bits - 1)) >> 1)))
#define FOLD_IS_NAN(bits, x, infinity) (((x) & INT##bits##_MAX) > (infinity))
#define FOLD_CHOOSE(bits, infinity, nan, relation) \
	((FOLD_IS_NAN(bits, a, infinity) | FOLD_IS_NAN(bits, b, infinity)) ? (int##bits##_t)(nan) : \
	 FOLD_TURN(bits, a) relation FOLD_TURN(bits, b) ? a : b)
#define FOLD_ORDERED(type, bits, infinity, nan) \
	FOLD(min_##type, e_int##bits, e_int##bits, FOLD_CHOOSE(bits, infinity, nan, <)) \
	FOLD(max_##type, e_int##bits, e_int##bits, FOLD_CHOOSE(bits, infinity, nan, >))

FOLD_ORDERED(float16, 16, 0x7c00, NAN_FLOAT16)
FOLD_ORDERED(bfloat16, 16, 0x7f80, NAN_BFLOAT16)
FOLD_ORDERED(float32, 32, 0x7f800000, NAN_FLOAT32)
FOLD_ORDERED(float64, 64, 0x7ff0000000000000, NAN_FLOAT64)

#define FOLD_FLOAT16(name, operator) \
	FOLD(name, e_uint16, e_uint16, float16_of_float(float_of_float16(a) operator float_of_float16(b)))
#define FOLD_BFLOAT16(name, operator) \
	FOLD(name, e_uint16, e_uint16, bfloat16_of_float(float_of_bfloat16(a) operator float_of_bfloat16(b)))

#if !defined(FOLD_VECTOR_BYTES)
FOLD_FLOAT16(sum_float16, +)
FOLD_FLOAT16(product_float16, *)
FOLD_BFLOAT16(sum_bfloat16, +)
FOLD_BFLOAT16(product_bfloat16, *)
#else
/* Less than a step of float16 is padded to one: conversion in software would take longer. */
#define FOLD_FLOAT16_REST(name, step) \
	static void name(void *dst, const void *left, const void *right, size_t count) \
	{ \
		char a[FOLD_STEP] = { 0 }, b[FOLD_STEP] = { 0 }; \
		float16_notes notes[4] = { float16_blank(), float16_blank(), float16_blank(), float16_blank() }; \
		memcpy(a, left, count * sizeof(uint16_t)); \
		memcpy(b, right, count * sizeof(uint16_t)); \
		step(a, a, b, notes); \
		min_float16(dst, a, a, count); \
	}
#define FOLD_SMALL(name, operator, halves, operation) \
	FOLD_FLOAT16_STEP(name##_float16_step, halves) \
	FOLD_FLOAT16_REST(name##_float16_rest, name##_float16_step) \
	FOLD_STEPS(name##_float16, float16, name##_float16_step, name##_float16_rest) \
	FOLD_BFLOAT16_STEP(name##_bfloat16_step, operation) \
	FOLD_BFLOAT16(name##_bfloat16_rest, operator) \
	FOLD_STEPS(name##_bfloat16, bfloat16, name##_bfloat16_step, name##_bfloat16_rest)

FOLD_SMALL(sum, +, fold_halves_sum, FOLD_ADD)
FOLD_SMALL(product, *, FOLD_MULTIPLY, FOLD_MULTIPLY)

FOLD_MANY(sum_many_32, uint32_t, FOLD_AS_IT_IS)
FOLD_MANY(sum_many_64, uint64_t, FOLD_AS_IT_IS)
FOLD_MANY(sum_many_float32, float, FOLD_SETTLED_FLOATS)
FOLD_MANY(sum_many_float64, double, FOLD_SETTLED_DOUBLES)
FOLD_SPREAD(sum_spread_32, uint32_t, FOLD_AS_IT_IS)
FOLD_SPREAD(sum_spread_64, uint64_t, FOLD_AS_IT_IS)
FOLD_SPREAD(sum_spread_float32, float, FOLD_SETTLED_FLOATS)
FOLD_SPREAD(sum_spread_float64, double, FOLD_SETTLED_DOUBLES)
#endif

/* ---- what a table gets -------------------------------------------------- */

#define FOLD_INTEGER_ROW(sign, bits) \
	[SNT_SUM] = sum_##bits, [SNT_PRODUCT] = product_##bits, \
	[SNT_MIN] = min_##sign##bits, [SNT_MAX] = max_##sign##bits, \
	[SNT_BAND] = band_##bits, [SNT_BOR] = bor_##bits, [SNT_BXOR] = bxor_##bits
#define FOLD_FLOAT_ROW(type) \
	[SNT_SUM] = sum_##type, [SNT_PRODUCT] = product_##type, [SNT_MIN] = min_##type, [SNT_MAX] = max_##type

/* All that wider instructions speed up: the tables of the vector files are just this. */
#define FOLD_VECTOR_TABLE { .fold = { \
	[SNT_INT8] = { FOLD_INTEGER_ROW(int, 8) },   [SNT_UINT8] = { FOLD_INTEGER_ROW(uint, 8) }, \
	[SNT_INT16] = { FOLD_INTEGER_ROW(int, 16) }, [SNT_UINT16] = { FOLD_INTEGER_ROW(uint, 16) }, \
	[SNT_INT32] = { FOLD_INTEGER_ROW(int, 32) }, [SNT_UINT32] = { FOLD_INTEGER_ROW(uint, 32) }, \
	[SNT_INT64] = { FOLD_INTEGER_ROW(int, 64) }, [SNT_UINT64] = { FOLD_INTEGER_ROW(uint, 64) }, \
	[SNT_FLOAT16] = { FOLD_FLOAT_ROW(float16) }, [SNT_BFLOAT16] = { FOLD_FLOAT_ROW(bfloat16) }, \
	[SNT_FLOAT32] = { FOLD_FLOAT_ROW(float32) }, [SNT_FLOAT64] = { FOLD_FLOAT_ROW(float64) }, \
}, .sum_many = FOLD_MANY_TABLE, .sum_spread = FOLD_SPREAD_TABLE }

#endif
