/* SPDX-License-Identifier: BSD-3-Clause */
/* fold_scalar.c - every fold and scale in plain C, for any processor. */
#include "collectives/fold_body.h"

#define FOLD_LOGICAL(bits) \
	FOLD(land_##bits, e_uint##bits, e_uint##bits, a && b) \
	FOLD(lor_##bits, e_uint##bits, e_uint##bits, a || b) \
	FOLD(lxor_##bits, e_uint##bits, e_uint##bits, !a != !b)

FOLD_LOGICAL(8)
FOLD_LOGICAL(16)
FOLD_LOGICAL(32)
FOLD_LOGICAL(64)

#define INTEGERS(sign, bits) { \
	FOLD_INTEGER_ROW(sign, bits), \
	[SNT_LAND] = land_##bits, [SNT_LOR] = lor_##bits, [SNT_LXOR] = lxor_##bits }
#define FLOATS(type) { FOLD_FLOAT_ROW(type) }

const struct snti_fold_table snti_fold_scalar = { .fold = {
	[SNT_INT8] = INTEGERS(int, 8),    [SNT_UINT8] = INTEGERS(uint, 8),
	[SNT_INT16] = INTEGERS(int, 16),  [SNT_UINT16] = INTEGERS(uint, 16),
	[SNT_INT32] = INTEGERS(int, 32),  [SNT_UINT32] = INTEGERS(uint, 32),
	[SNT_INT64] = INTEGERS(int, 64),  [SNT_UINT64] = INTEGERS(uint, 64),
	[SNT_FLOAT16] = FLOATS(float16),  [SNT_BFLOAT16] = FLOATS(bfloat16),
	[SNT_FLOAT32] = FLOATS(float32),  [SNT_FLOAT64] = FLOATS(float64),
} };

/* x becomes @expression of x and n, the number of ranks as @number. */
#define SCALE(name, from, to, number, expression) \
	static void name(void *dst, size_t count, uint32_t ranks) \
	{ \
		const from *s = dst; \
		to *d = dst; \
		number n = (number)ranks; \
		if (ranks < 2) \
			return; \
		FOLD_LOOP \
		for (size_t i = 0; i < count; i++) { \
			from x = s[i]; \
			d[i] = (to)(expression); \
		} \
	}

/* Signed in 64 bits: there every number of ranks is positive, and no quotient overflows. */
SCALE(scale_int8, e_int8, e_int8, int64_t, x / n)
SCALE(scale_int16, e_int16, e_int16, int64_t, x / n)
SCALE(scale_int32, e_int32, e_int32, int64_t, x / n)
SCALE(scale_int64, e_int64, e_int64, int64_t, x / n)
SCALE(scale_uint8, e_uint8, e_uint8, uint32_t, x / n)
SCALE(scale_uint16, e_uint16, e_uint16, uint32_t, x / n)
SCALE(scale_uint32, e_uint32, e_uint32, uint32_t, x / n)
SCALE(scale_uint64, e_uint64, e_uint64, uint64_t, x / n)
SCALE(scale_float16, e_uint16, e_uint16, float, float16_of_float(float_of_float16(x) / n))
SCALE(scale_bfloat16, e_uint16, e_uint16, float, bfloat16_of_float(float_of_bfloat16(x) / n))
SCALE(scale_float32, e_float32, e_uint32, float, settle_float(x / n))
SCALE(scale_float64, e_float64, e_uint64, double, settle_double(x / n))

snti_scale_fn *const snti_scale_scalar[SNT_TYPE_COUNT] = {
	[SNT_INT8] = scale_int8,       [SNT_UINT8] = scale_uint8,
	[SNT_INT16] = scale_int16,     [SNT_UINT16] = scale_uint16,
	[SNT_INT32] = scale_int32,     [SNT_UINT32] = scale_uint32,
	[SNT_INT64] = scale_int64,     [SNT_UINT64] = scale_uint64,
	[SNT_FLOAT16] = scale_float16, [SNT_BFLOAT16] = scale_bfloat16,
	[SNT_FLOAT32] = scale_float32, [SNT_FLOAT64] = scale_float64,
};
