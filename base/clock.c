/* SPDX-License-Identifier: BSD-3-Clause */
/* clock.c - CLOCK_MONOTONIC and deadlines on it. */
#include "base/clock.h"

#include <time.h>

uint64_t snti_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t snti_deadline_ms(uint64_t from_now_ms)
{
	uint64_t deadline;

	/* Beyond the end of the clock is as late as there is; never 0, which means never. */
	if (__builtin_mul_overflow(from_now_ms, 1000000u, &deadline) ||
	    __builtin_add_overflow(deadline, snti_now_ns(), &deadline))
		return UINT64_MAX;
	return deadline ? deadline : 1;
}

int snti_is_past(uint64_t deadline_ns)
{
	return deadline_ns && snti_now_ns() >= deadline_ns;
}

int snti_left_ms(uint64_t deadline_ns, int most_ms)
{
	uint64_t now, left;

	if (!deadline_ns)
		return most_ms;
	now = snti_now_ns();
	if (now >= deadline_ns)
		return 0;
	left = (deadline_ns - now - 1) / 1000000u + 1;
	return most_ms >= 0 && left > (uint64_t)most_ms ? most_ms : left > INT32_MAX ? INT32_MAX : (int)left;
}
