/* SPDX-License-Identifier: BSD-3-Clause */
/* fold_neon.c - the folds in 16-byte vectors, which every aarch64 has; only built there. */
#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

#define FOLD_VECTOR_BYTES 16
typedef float32x4_t fold_floats;
typedef uint32x4_t fold_flags;

#include "collectives/fold_vector.h"

FOLD_INLINE fold_flags fold_ordered(fold_flags flags, fold_floats x, fold_floats y)
{
	return vandq_u32(flags, vandq_u32(vceqq_f32(x, x), vceqq_f32(y, y)));
}

FOLD_INLINE void fold_stream(void *to, fold_words words)
{
	fold_store(to, words);
}

FOLD_INLINE int fold_all(fold_flags flags)
{
	return vminvq_u32(flags) != 0;
}

FOLD_INLINE fold_floats fold_halves_load(const void *halves)
{
	uint16x4_t bits;

	memcpy(&bits, halves, sizeof(bits));
	return vcvt_f32_f16(vreinterpret_f16_u16(bits));
}

FOLD_INLINE void fold_halves_store(void *halves, fold_floats f)
{
	uint16x4_t bits = vreinterpret_u16_f16(vcvt_f16_f32(f));

	memcpy(halves, &bits, sizeof(bits));
}

FOLD_INLINE fold_floats fold_multiply_add(fold_floats x, fold_floats y, fold_floats z)
{
	return vfmaq_f32(z, x, y);
}

FOLD_INLINE fold_floats fold_halves_sum(fold_floats x, fold_floats y)
{
	return x + y;
}

/* What is above half of the last place, or half and the place odd, rounds up: with the place's bit
 * below it a half is above half. */
FOLD_INLINE fold_words fold_pack_bfloat16(fold_floats low, fold_floats high)
{
	uint32x4_t upper = vdupq_n_u32(0xffff0000u), l = vreinterpretq_u32_f32(low), h = vreinterpretq_u32_f32(high);
	uint16x8_t kept = vreinterpretq_u16_u32(vbslq_u32(upper, h, vshrq_n_u32(l, 16)));
	uint16x8_t lost = vreinterpretq_u16_u32(vbslq_u32(upper, vshlq_n_u32(h, 16), l));
	uint16x8_t weight = vorrq_u16(lost, vandq_u16(kept, vdupq_n_u16(1)));

	return (fold_words)vsubq_u16(kept, vcgtq_u16(weight, vdupq_n_u16(0x8000)));
}

#include "collectives/fold_body.h"

const struct snti_fold_table snti_fold_neon = FOLD_VECTOR_TABLE;
#endif
