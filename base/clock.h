/* SPDX-License-Identifier: BSD-3-Clause */
/* clock.h - monotonic time in nanoseconds; 0 as a deadline means never. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

uint64_t snti_now_ns(void);
uint64_t snti_deadline_ms(uint64_t from_now_ms);   /* a deadline so far from now */
int snti_is_past(uint64_t deadline_ns);            /* never true for 0 */
/* Milliseconds left, rounded up, at least 0, at most @most_ms: a poll(2) timeout. */
int snti_left_ms(uint64_t deadline_ns, int most_ms);

#endif
