/* SPDX-License-Identifier: BSD-3-Clause */
/* log.h - one sink for lines, and the one way to fail. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "include/sennit.h"

/* Levels by volume: error (cannot go on), warn (went on differently), info (once
 * per team), debug (once per object), trace (once per step). Lower case, no '='. */
void snti_log(enum snt_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Whoever first decides what an error is calls this, once: keeps the text for
 * snt_error_text(), logs it, returns @status. Everybody else passes @status on. */
int snti_fail(int status, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
