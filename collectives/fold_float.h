/* SPDX-License-Identifier: BSD-3-Clause */
/* fold_float.h - floats as bits: the one NaN, 16-bit floats to float32 and back.
 *
 * All without branches on data, so that compilers make vectors of it. Nothing here
 * multiplies and then adds, so no compiler can fuse and change bits. */
#ifndef COLLECTIVES_FOLD_FLOAT_H
#define COLLECTIVES_FOLD_FLOAT_H

#include <stdint.h>
#include <string.h>

/* Folds give this NaN and no other: which of two NaNs an addition passes on depends on the
 * processor and on how the compiler ordered the operands, and ranks must agree on bits. */
#define NAN_FLOAT16 0x7e00u
#define NAN_BFLOAT16 0x7fc0u
#define NAN_FLOAT32 0x7fc00000u
#define NAN_FLOAT64 0x7ff8000000000000u

static inline uint32_t bits_of_float(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

static inline float float_of_bits(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static inline uint64_t bits_of_double(double f)
{
	uint64_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

/* The bits of a result, with every NaN made the one. */
static inline uint32_t settle_float(float f)
{
	uint32_t bits = bits_of_float(f);

	return f == f ? bits : NAN_FLOAT32;
}

static inline uint64_t settle_double(double f)
{
	uint64_t bits = bits_of_double(f);

	return f == f ? bits : NAN_FLOAT64;
}

static inline float float_of_bfloat16(uint16_t b)
{
	return float_of_bits((uint32_t)b << 16);
}

static inline uint16_t bfloat16_of_float(float f)
{
	uint32_t bits = bits_of_float(f);
	/* Just below half, and one more for an odd last place: ties go to even. */
	uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;

	return (uint16_t)(f == f ? rounded : NAN_BFLOAT16);
}

static inline float float_of_float16(uint16_t h)
{
	uint32_t sign = (uint32_t)(h & 0x8000) << 16;
	uint32_t rest = (uint32_t)(h & 0x7fff) << 13;   /* exponent and fraction where float32 has them */
	uint32_t denormal = bits_of_float((float)(int)(h & 0x3ff) * 0x1p-24f);
	uint32_t normal = rest + ((127u - 15u) << 23);
	uint32_t finite = rest < 1u << 23 ? denormal : normal;

	return float_of_bits(sign | (rest < 31u << 23 ? finite : rest | 0x7f800000u));
}

static inline uint16_t float16_of_float(float f)
{
	uint32_t bits = bits_of_float(f), size = bits & 0x7fffffffu;
	/* The last place of 0.5 in float32 is that of a denormal float16: the adder rounds for us. */
	uint32_t denormal = bits_of_float(float_of_bits(size) + 0.5f) - bits_of_float(0.5f);
	uint32_t normal = (size - ((127u - 15u) << 23) + 0xfffu + (size >> 13 & 1)) >> 13;
	uint32_t finite = size < (127u - 14u) << 23 ? denormal : normal;
	uint32_t number = size < (127u + 16u) << 23 ? finite : 0x7c00u;

	return (uint16_t)(size > 0x7f800000u ? NAN_FLOAT16 : number | (bits >> 16 & 0x8000u));
}

#endif
