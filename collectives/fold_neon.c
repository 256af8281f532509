/* SPDX-License-Identifier: BSD-3-Clause */
/* fold_neon.c - the folds in 16-byte vectors, which every aarch64 has; only built there. */
#if defined(__aarch64__)
#include <arm_neon.h>
#include <string.h>

#define FOLD_HALF_LANES 4
typedef float32x4_t fold_floats;

static inline fold_floats fold_halves_load(const void *halves)
{
	uint16x4_t bits;

	memcpy(&bits, halves, sizeof(bits));
	return vcvt_f32_f16(vreinterpret_f16_u16(bits));
}

static inline void fold_halves_store(void *halves, fold_floats f)
{
	float32x4_t nan = vreinterpretq_f32_u32(vdupq_n_u32(0x7fc00000u));   /* every NaN becomes the one */
	uint16x4_t bits = vreinterpret_u16_f16(vcvt_f16_f32(vbslq_f32(vceqq_f32(f, f), f, nan)));

	memcpy(halves, &bits, sizeof(bits));
}

#include "collectives/fold_body.h"

const struct snti_fold_table snti_fold_neon = FOLD_VECTOR_TABLE;
#endif
