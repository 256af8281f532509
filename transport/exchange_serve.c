/* SPDX-License-Identifier: BSD-3-Clause */
/* exchange_serve.c - what comes in on the control channel, and how a failure gets to everybody. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/log.h"
#include "transport/exchange_parts.h"

static void tell_all(struct snti_exchange *x)
{
	struct snti_frame frame = { .type = SNTI_FRAME_ABORT, .size = (uint32_t)strlen(x->text), .a = (uint32_t)x->status };

	for (int i = 0; i < x->line_count; i++)
		snti_line_post(&x->lines[i], &frame, x->text);   /* without memory: the end of file will tell */
}

void snti_exchange_fail(struct snti_exchange *x, int status, const char *format, ...)
{
	va_list args;

	if (x->status != 0)
		return;
	x->status = status;
	va_start(args, format);
	vsnprintf(x->text, sizeof(x->text), format, args);
	va_end(args);
	if (x->rank == 0)
		tell_all(x);
}

int snti_exchange_status(struct snti_exchange *x)
{
	if (x->status == 0 || x->told)
		return x->status;
	x->told = 1;
	return snti_fail(x->status, "%s", x->text);
}

int snti_exchange_name(const struct snti_exchange *x, int (*missing)(const struct snti_line *), char *text, size_t room)
{
	int count = 0, named = 0;
	size_t used = 0;

	for (int i = 1; i < x->line_count; i++)
		count += missing(&x->lines[i]);
	used = (size_t)snprintf(text, room, count == 1 ? "rank" : "ranks");
	for (int i = 1; i < x->line_count; i++) {
		if (!missing(&x->lines[i]))
			continue;
		if (used + 40 > room || named == 16)
			break;
		used += (size_t)snprintf(text + used, room - used, named++ == 0 ? " %d" : ", %d", i);
	}
	if (named < count)
		snprintf(text + used, room - used, " and %d more", count - named);
	return count;
}

static const struct snti_report *find_report(const struct snti_line *line, uint64_t sequence)
{
	unsigned count = line->report_count < SNTI_REPORTS ? line->report_count : SNTI_REPORTS;

	for (unsigned i = 0; i < count; i++)
		if (line->reports[i].sequence == sequence)
			return &line->reports[i];
	return NULL;
}

/* Rank 0: keeps what rank @rank waits in, and looks whether the others wait in the same. */
static void compare_report(struct snti_exchange *x, int rank, const struct snti_report *report)
{
	struct snti_line *line = &x->lines[rank];

	line->reports[line->report_count++ % SNTI_REPORTS] = *report;
	for (int i = 0; i < x->size; i++) {
		const struct snti_report *other = find_report(&x->lines[i], report->sequence);

		if (i == rank || other == NULL || other->fingerprint == report->fingerprint)
			continue;
		snti_exchange_fail(x, SNT_EMISMATCH, "rank %d: %s; rank %d: %s", i < rank ? i : rank,
				   i < rank ? other->text : report->text, i < rank ? rank : i,
				   i < rank ? report->text : other->text);
		return;
	}
}

static void handle_gather(struct snti_exchange *x, struct snti_line *line)
{
	if (x->rank != 0 || line->has_blob) {
		snti_exchange_fail(x, SNT_EPROTOCOL, "rank %d sent a blob that nobody asked for", line->peer);
		return;
	}
	free(line->blob);
	line->blob = line->body;
	line->body = NULL;
	line->blob_size = line->frame.size;
	line->blob_number = line->frame.a;
	line->has_blob = 1;
}

static void handle_gathered(struct snti_exchange *x, struct snti_line *line)
{
	if (x->rank == 0 || x->gathered != NULL || line->frame.a != x->gather_number ||
	    line->frame.size != x->gather_size * (size_t)x->size) {
		snti_exchange_fail(x, SNT_EPROTOCOL, "rank %d sent blobs that nobody asked for", line->peer);
		return;
	}
	x->gathered = line->body != NULL ? line->body : calloc(1, 1);
	line->body = NULL;
}

static int has_come(const struct snti_line *line, uint64_t sequence)
{
	unsigned count = line->report_count < SNTI_REPORTS ? line->report_count : SNTI_REPORTS;

	for (unsigned i = 0; i < count; i++)
		if (line->reports[i].sequence >= sequence)
			return 1;
	return 0;
}

void snti_exchange_absent(const struct snti_exchange *x, uint64_t sequence, char *text, size_t room)
{
	size_t used = 0;

	text[0] = '\0';
	for (int i = 0; i < x->line_count && x->rank == 0 && used + 40 < room; i++)
		if (!has_come(&x->lines[i], sequence))
			used += (size_t)snprintf(text + used, room - used, "; rank %d never came to it", i);
}

/* Ranks that wait for each other all blame a neighbour; rank 0 knows who is missing. */
static void blame_absent(const struct snti_exchange *x, const struct snti_line *line, int status, char *text, size_t room)
{
	unsigned last = (line->report_count - 1) % SNTI_REPORTS;

	text[0] = '\0';
	if (status == SNT_ETIMEOUT && line->report_count)
		snti_exchange_absent(x, line->reports[last].sequence, text, room);
}

static void handle_abort(struct snti_exchange *x, struct snti_line *line)
{
	char text[SNTI_TEXT_ROOM + 1], absent[100];
	int status = (int)(uint32_t)line->frame.a;

	snti_frame_text(line->body, line->frame.size, text, sizeof(text));
	/* What is broken in a call, a device or a process over there is here the team; and it may be no status at all. */
	if (snt_status_scope(status) != SNT_SCOPE_TEAM)
		status = SNT_EABORTED;
	blame_absent(x, line, status, absent, sizeof(absent));
	if (x->rank == 0)
		snti_exchange_fail(x, status, "rank %d gave up: %.*s%s", line->peer, SNTI_ABORT_TEXT, text, absent);
	else
		snti_exchange_fail(x, status, "%s", text);
}

/* Rank 0 answers with the bare frame, so that the others know that it still listens. */
static void handle_report(struct snti_exchange *x, struct snti_line *line)
{
	struct snti_report report = { .sequence = line->frame.a, .fingerprint = line->frame.b };
	struct snti_frame answer = { .type = SNTI_FRAME_REPORT, .a = line->frame.a, .b = line->frame.b };

	if (x->rank != 0) {
		x->heard++;
		return;
	}
	snti_frame_text(line->body, line->frame.size, report.text, sizeof(report.text));
	compare_report(x, line->peer, &report);
	snti_line_post(line, &answer, NULL);
}

static void handle_frame(struct snti_exchange *x, struct snti_line *line)
{
	switch (line->frame.type) {
	case SNTI_FRAME_GATHER:
		handle_gather(x, line);
		return;
	case SNTI_FRAME_GATHERED:
		handle_gathered(x, line);
		return;
	case SNTI_FRAME_ABORT:
		handle_abort(x, line);
		return;
	case SNTI_FRAME_LEAVE:
		line->left = 1;
		return;
	case SNTI_FRAME_REPORT:
		handle_report(x, line);
		return;
	case SNTI_FRAME_START:
		if (x->rank == 0 || x->started)
			break;
		x->started = 1;
		return;
	default:
		break;
	}
	snti_exchange_fail(x, SNT_EPROTOCOL, "rank %d sent what makes no sense on the control channel", line->peer);
}

static void line_event(struct snti_exchange *x, struct snti_line *line)
{
	int status = 0;

	snti_line_flush(line);
	while (line->fd >= 0) {
		status = snti_line_next(line);
		if (status != 0)
			break;
		if (x->status == 0)
			handle_frame(x, line);
	}
	if (status == SNT_BUSY || line->fd < 0)
		return;
	snti_line_close(line);
	if (line->left || x->leaving)
		return;
	if (status == SNT_EPEER)
		snti_exchange_fail(x, status, "rank %d is gone: connection closed", line->peer);
	else
		snti_exchange_fail(x, status, "rank %d sent what makes no sense on the control channel", line->peer);
}

void snti_exchange_serve(struct snti_exchange *x, int wait_ms)
{
	struct epoll_event events[64];
	int tick_ms = snti_guests_tick(x);
	int count = epoll_wait(x->epoll, events, 64, wait_ms < tick_ms ? wait_ms : tick_ms);

	for (int i = 0; i < count; i++) {
		uint64_t tag = events[i].data.u64;

		if (tag < (uint64_t)x->line_count)
			line_event(x, &x->lines[tag]);
		else
			snti_guests_event(x, tag);
	}
}

int snti_exchange_poll(struct snti_exchange *x)
{
	if (x->size > 1)
		snti_exchange_serve(x, 0);
	return snti_exchange_status(x);
}

void snti_exchange_abort(struct snti_exchange *x, int status, const char *text)
{
	struct snti_frame frame = { .type = SNTI_FRAME_ABORT, .a = (uint32_t)status };

	if (x->status != 0)
		return;
	x->told = 1;   /* the caller has failed already, in its own words */
	if (x->rank != 0 && x->size > 1) {
		size_t length = strnlen(text, SNTI_ABORT_TEXT);

		frame.size = (uint32_t)length;
		snti_line_post(&x->lines[0], &frame, text);
	}
	snti_exchange_fail(x, status, "rank %d gave up: %.*s", x->rank, SNTI_ABORT_TEXT, text);
}

void snti_exchange_report(struct snti_exchange *x, uint64_t sequence, uint64_t fingerprint, const char *text)
{
	struct snti_report report = { .sequence = sequence, .fingerprint = fingerprint };
	struct snti_frame frame = { .type = SNTI_FRAME_REPORT, .a = sequence, .b = fingerprint };

	if (x->size == 1 || x->status != 0)
		return;
	snti_frame_text((const unsigned char *)text, strnlen(text, SNTI_REPORT_TEXT), report.text, sizeof(report.text));
	frame.size = (uint32_t)strlen(report.text);
	if (x->rank == 0) {
		compare_report(x, 0, &report);
		return;
	}
	snti_line_post(&x->lines[0], &frame, report.text);
	x->asked++;
}

void snti_exchange_leave(struct snti_exchange *x)
{
	struct snti_frame frame = { .type = SNTI_FRAME_LEAVE };

	if (x->leaving)
		return;
	x->leaving = 1;
	for (int i = 0; i < x->line_count; i++)
		snti_line_post(&x->lines[i], &frame, NULL);
}

int snti_exchange_is_silent(const struct snti_exchange *x)
{
	return x->rank != 0 && x->heard < x->asked;
}
