/* SPDX-License-Identifier: BSD-3-Clause */
/* exchange.h - how the ranks of a job find each other, and how they learn that one gave up.
 *
 * A star over TCP with rank 0 in the middle, every connection authenticated. During start-up it
 * gathers small blobs; afterwards it stays up as the control channel: a rank that fails tells rank 0,
 * which tells everybody, and a rank that dies is noticed by its end of file. No thread: rank 0 serves
 * inside its own calls.
 */
#ifndef TRANSPORT_EXCHANGE_H
#define TRANSPORT_EXCHANGE_H

#include "include/sennit.h"

struct snti_exchange;

/* Joins the job as @options and the environment say (ticket, allgather, launcher). Blocks until the
 * ranks are connected or @deadline_ns passes. Whoever is missing is named. */
int snti_exchange_open(const struct snt_team_options *options, uint64_t deadline_ns, struct snti_exchange **exchange) SNT_CHECK_RESULT;
void snti_exchange_close(struct snti_exchange *exchange);   /* NULL is allowed */
int snti_exchange_rank(const struct snti_exchange *exchange);
int snti_exchange_size(const struct snti_exchange *exchange);
/* 32 bytes all ranks share, derived from the secret. */
const unsigned char *snti_exchange_secret(const struct snti_exchange *exchange);
/* @mine of every rank to @all (size x ranks bytes, rank order) on all. Blocks within the deadline.
 * @size must be the same on all ranks (checked), at most 64 KiB. Also the barrier (size 0). */
int snti_exchange_allgather(struct snti_exchange *exchange, const void *mine, void *all, size_t size, uint64_t deadline_ns) SNT_CHECK_RESULT;

/* The control channel. */
/* Serves it without blocking: 0, or the status with which some rank gave up or died (its text is then
 * in snt_error_text() and comes only once; later calls return the same status). */
int snti_exchange_poll(struct snti_exchange *exchange) SNT_CHECK_RESULT;
/* Readable when poll has something to do; -1 with one rank. */
int snti_exchange_fd(const struct snti_exchange *exchange);
/* Tells every rank that this one gave up, with its text (cut to 400 bytes). Best effort, never blocks. */
void snti_exchange_abort(struct snti_exchange *exchange, int status, const char *text);
/* Says which call this rank is waiting in. Rank 0 compares: two ranks that report the same @sequence with
 * different fingerprints make SNT_EMISMATCH for all, naming both with their @text (at most 120 bytes). */
void snti_exchange_report(struct snti_exchange *exchange, uint64_t sequence, uint64_t fingerprint, const char *text);
/* Whether rank 0 has not answered this rank's last report: then it is stopped, or busy outside the library. */
int snti_exchange_is_silent(const struct snti_exchange *exchange);
/* Rank 0: writes nothing or "; rank 2 never came to it" for the ranks that have reported neither @sequence nor a later one;
 * elsewhere "". */
void snti_exchange_absent(const struct snti_exchange *exchange, uint64_t sequence, char *text, size_t room);
/* Says that this rank leaves in good order: its end of file is then no failure. */
void snti_exchange_leave(struct snti_exchange *exchange);

#endif
