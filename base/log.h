/* SPDX-License-Identifier: BSD-3-Clause */
/* log.h - one sink for lines, and the one way to fail. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdint.h>

#include "include/sennit.h"

/* Levels by volume: error (cannot go on), warn (went on differently), info (once
 * per team), debug (once per object), trace (once per step). Lower case, no '='. */
void snti_log(enum snt_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whoever first decides what an error is calls this, once: keeps the text for
 * snt_error_text(), logs it, returns @status. Everybody else passes @status on. */
int snti_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* From now on, in this thread, failures are kept but logged for debugging only: whoever asks for that has another way
 * to go, or says it in words of its own. 0: no more. */
void snti_fail_quietly(int on);

/* So that a failure can be told by another thread than the one in which it came up: how many this thread has had, and
 * the text of another's as this thread's own, which logs nothing. */
unsigned snti_error_count(void);
void snti_error_take(const char *text);

/* For lines that outsiders can cause as often as they like: the first few are logged, then one a second. */
#define SNTI_LOG_MORE 48
struct snti_log_limit { unsigned lines, left_out; uint64_t last_ns; };
/* Whether to log now; @more is "" or says how many lines were left out since the last one. */
int snti_log_may(struct snti_log_limit *limit, char more[SNTI_LOG_MORE]);

#endif
