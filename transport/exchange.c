/* SPDX-License-Identifier: BSD-3-Clause */
/* exchange.c - opens and closes the star around rank 0, and gathers blobs over it. */
#include "transport/exchange.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/exchange_parts.h"

/* Rank 0 knows who is missing and says so at its deadline; the others give it a moment to. */
#define GRACE_NS 500000000ULL
enum { LAST_WORDS_MS = 500 };

static uint64_t own_deadline(const struct snti_exchange *x, uint64_t deadline_ns)
{
	return x->rank == 0 || deadline_ns == 0 ? deadline_ns : deadline_ns + GRACE_NS;
}

static int serve_until(struct snti_exchange *x, int (*done)(struct snti_exchange *), uint64_t deadline_ns)
{
	uint64_t deadline = own_deadline(x, deadline_ns);

	while (x->status == 0 && !done(x)) {
		if (snti_is_past(deadline))
			return SNT_BUSY;
		snti_exchange_serve(x, snti_left_ms(deadline, 1000));
	}
	return 0;
}

static struct snti_exchange *make(const struct snti_meeting *meeting)
{
	struct snti_exchange *x = calloc(1, sizeof(*x));

	if (x == NULL)
		return NULL;
	x->rank = meeting->rank;
	x->size = meeting->ranks;
	x->epoll = -1;
	x->line_count = x->size == 1 ? 0 : x->rank == 0 ? x->size : 1;
	x->lines = calloc((size_t)x->line_count + 1, sizeof(*x->lines));
	for (int i = 0; x->lines != NULL && i < x->line_count; i++) {
		x->lines[i].fd = -1;
		x->lines[i].peer = i;
		x->lines[i].ranks = x->size;
	}
	if (x->lines != NULL)
		return x;
	free(x);
	return NULL;
}

static int is_absent(const struct snti_line *line)
{
	return line->fd < 0;
}

static int all_are_here(struct snti_exchange *x)
{
	for (int i = 1; i < x->size; i++)
		if (x->lines[i].fd < 0)
			return 0;
	return 1;
}

static int is_started(struct snti_exchange *x)
{
	return x->started;
}

static int let_all_in(struct snti_exchange *x, struct snti_meeting *meeting, uint64_t deadline_ns)
{
	struct snti_frame start = { .type = SNTI_FRAME_START };
	char names[128];
	int status = snti_guests_open(x, meeting);

	if (x->guests != NULL)
		meeting->listener = -1;   /* the guests' now */
	if (status != 0)
		return status;
	if (serve_until(x, all_are_here, deadline_ns) != 0) {
		snti_exchange_name(x, is_absent, names, sizeof(names));
		if (snti_guests_starved(x))
			snti_exchange_fail(x, SNT_ELIMIT, "rank 0 could not let %s in: %s (see ulimit -n)", names,
					   strerror(snti_guests_starved(x)));
		snti_exchange_fail(x, SNT_ETIMEOUT, "%s of %d never called in", names, x->size);
	}
	snti_guests_close(x);
	for (int i = 1; i < x->size && x->status == 0; i++)
		if (snti_line_post(&x->lines[i], &start, NULL) != 0)
			snti_exchange_fail(x, SNT_ENOMEM, "rank 0 has no memory for the start-up");
	x->started = x->status == 0;
	return snti_exchange_status(x);
}

static int join(struct snti_exchange *x, struct snti_meeting *meeting, uint64_t deadline_ns)
{
	int fd, status = snti_exchange_connect(meeting, own_deadline(x, deadline_ns), &fd);

	if (status != 0)
		return status;
	if (snti_line_open(&x->lines[0], fd, x->epoll, 0) != 0)
		return snti_fail(SNT_ELIMIT, "cannot watch the connection to rank 0");
	if (serve_until(x, is_started, deadline_ns) != 0)
		snti_exchange_fail(x, SNT_ETIMEOUT, "rank 0 is connected but did not say in time that all %d ranks are there", x->size);
	return x->started ? 0 : snti_exchange_status(x);   /* what failed after the start, the next call tells */
}

static int start(struct snti_exchange *x, struct snti_meeting *meeting, uint64_t deadline_ns)
{
	if (snti_derive(meeting->secret, "sennit team", x->secret) != 0)
		return snti_fail(SNT_EDEVICE, "libcrypto refuses to compute an HMAC");
	if (x->size == 1)
		return 0;
	x->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (x->epoll < 0)
		return snti_fail(SNT_ELIMIT, "no descriptor left for epoll");
	return x->rank == 0 ? let_all_in(x, meeting, deadline_ns) : join(x, meeting, deadline_ns);
}

int snti_exchange_open(const struct snt_team_options *options, uint64_t deadline_ns, struct snti_exchange **exchange)
{
	struct snti_meeting meeting = { .listener = -1 };
	struct snti_exchange *x = NULL;
	int status = snti_meeting_find(options, &meeting);

	*exchange = NULL;
	if (status == 0) {
		x = make(&meeting);
		status = x == NULL ? snti_fail(SNT_ENOMEM, "no memory for the start-up") : start(x, &meeting, deadline_ns);
	}
	snti_socket_close(&meeting.listener);
	explicit_bzero(&meeting, sizeof(meeting));
	if (status == 0)
		*exchange = x;
	else
		snti_exchange_close(x);
	return status;
}

static int has_unsent(const struct snti_exchange *x)
{
	for (int i = 0; i < x->line_count; i++)
		if (x->lines[i].fd >= 0 && x->lines[i].out_used > 0)
			return 1;
	return 0;
}

void snti_exchange_close(struct snti_exchange *x)
{
	uint64_t deadline = snti_deadline_ms(LAST_WORDS_MS);

	if (x == NULL)
		return;
	while (has_unsent(x) && !snti_is_past(deadline))
		snti_exchange_serve(x, snti_left_ms(deadline, LAST_WORDS_MS));
	for (int i = 0; i < x->line_count; i++) {
		snti_line_close(&x->lines[i]);
		free(x->lines[i].blob);
	}
	snti_guests_close(x);
	snti_socket_close(&x->epoll);
	free(x->gathered);
	free(x->lines);
	explicit_bzero(x, sizeof(*x));
	free(x);
}

int snti_exchange_rank(const struct snti_exchange *x)
{
	return x->rank;
}

int snti_exchange_size(const struct snti_exchange *x)
{
	return x->size;
}

const unsigned char *snti_exchange_secret(const struct snti_exchange *x)
{
	return x->secret;
}

int snti_exchange_fd(const struct snti_exchange *x)
{
	return x->epoll;
}

/* ---- allgather ----------------------------------------------------------- */

static int has_no_blob(const struct snti_line *line)
{
	return !line->has_blob;
}

/* Rank 0: also finds out who can never send a blob any more, or sent another kind of blob. */
static int has_all_blobs(struct snti_exchange *x)
{
	int have = 0;

	for (int i = 1; i < x->size; i++) {
		const struct snti_line *line = &x->lines[i];

		have += line->has_blob;
		if (!line->has_blob && (line->left || line->fd < 0))
			snti_exchange_fail(x, SNT_EPEER, "rank %d has left the job", i);
		if (line->has_blob && (line->blob_number != x->gather_number || line->blob_size != x->gather_size))
			snti_exchange_fail(x, SNT_EMISMATCH, "rank %d gathers %zu bytes in exchange %llu; rank 0: %zu bytes in exchange %llu",
					   i, line->blob_size, (unsigned long long)line->blob_number, x->gather_size,
					   (unsigned long long)x->gather_number);
	}
	return have == x->size - 1;
}

static void collect(struct snti_exchange *x, const void *mine, unsigned char *all)
{
	struct snti_frame frame = { .type = SNTI_FRAME_GATHERED, .size = (uint32_t)(x->gather_size * (size_t)x->size),
				    .a = x->gather_number };

	if (x->gather_size > 0)
		memmove(all, mine, x->gather_size);
	for (int i = 1; i < x->size; i++) {
		if (x->gather_size > 0)
			memcpy(all + x->gather_size * (size_t)i, x->lines[i].blob, x->gather_size);
		free(x->lines[i].blob);
		x->lines[i].blob = NULL;
		x->lines[i].has_blob = 0;
	}
	for (int i = 1; i < x->size; i++)
		if (snti_line_post(&x->lines[i], &frame, all) != 0)
			snti_exchange_fail(x, SNT_ENOMEM, "rank 0 has no memory for an exchange of %u bytes", frame.size);
}

static void gather_at_root(struct snti_exchange *x, const void *mine, void *all, uint64_t deadline_ns)
{
	char names[128];

	if (serve_until(x, has_all_blobs, deadline_ns) != 0) {
		snti_exchange_name(x, has_no_blob, names, sizeof(names));
		snti_exchange_fail(x, SNT_ETIMEOUT, "%s did not come to exchange %llu in time", names,
				   (unsigned long long)x->gather_number);
	}
	if (x->status == 0)
		collect(x, mine, all);
}

static int has_gathered(struct snti_exchange *x)
{
	if (x->gathered == NULL && (x->lines[0].left || x->lines[0].fd < 0))
		snti_exchange_fail(x, SNT_EPEER, "rank 0 has left the job");
	return x->gathered != NULL;
}

static int gather_at_leaf(struct snti_exchange *x, const void *mine, void *all, uint64_t deadline_ns)
{
	struct snti_frame frame = { .type = SNTI_FRAME_GATHER, .size = (uint32_t)x->gather_size, .a = x->gather_number };

	if (snti_line_post(&x->lines[0], &frame, mine) != 0)
		snti_exchange_fail(x, SNT_ENOMEM, "no memory for an exchange of %u bytes", frame.size);
	if (serve_until(x, has_gathered, deadline_ns) != 0)
		snti_exchange_fail(x, SNT_ETIMEOUT, "rank 0 did not answer in exchange %llu in time",
				   (unsigned long long)x->gather_number);
	/* What failed after the blobs had come, the next call tells. */
	int is_done = x->gathered != NULL;

	if (is_done && x->gather_size > 0)
		memcpy(all, x->gathered, x->gather_size * (size_t)x->size);
	free(x->gathered);
	x->gathered = NULL;
	return is_done ? 0 : snti_exchange_status(x);
}

int snti_exchange_allgather(struct snti_exchange *x, const void *mine, void *all, size_t size, uint64_t deadline_ns)
{
	if (size > SNTI_GATHER_MOST)
		return snti_fail(SNT_EINVAL, "an exchange of %zu bytes; at most %d are possible", size, SNTI_GATHER_MOST);
	if (x->status != 0)
		return snti_exchange_status(x);
	x->gather_size = size;
	x->gather_number++;
	if (x->size == 1 && size > 0)
		memmove(all, mine, size);
	else if (x->size > 1 && x->rank == 0)
		gather_at_root(x, mine, all, deadline_ns);
	else if (x->size > 1)
		return gather_at_leaf(x, mine, all, deadline_ns);
	return snti_exchange_status(x);
}
