/* SPDX-License-Identifier: BSD-3-Clause */
/* exchange_frame.c - frames of the control channel, read and written without blocking. */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "transport/exchange_parts.h"

static void put(unsigned char *out, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		out[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t take(const unsigned char *in, int bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < bytes; i++)
		value |= (uint64_t)in[i] << (8 * i);
	return value;
}

void snti_frame_write(const struct snti_frame *frame, unsigned char out[SNTI_FRAME_BYTES])
{
	put(out, frame->type, 4);
	put(out + 4, frame->size, 4);
	put(out + 8, frame->a, 8);
	put(out + 16, frame->b, 8);
}

static uint64_t most_bytes(uint32_t type, int ranks)
{
	switch (type) {
	case SNTI_FRAME_GATHER:   return SNTI_GATHER_MOST;
	case SNTI_FRAME_GATHERED: return (uint64_t)SNTI_GATHER_MOST * (unsigned)ranks;
	case SNTI_FRAME_ABORT:    return SNTI_TEXT_ROOM;
	case SNTI_FRAME_REPORT:   return SNTI_REPORT_TEXT;
	default:                  return 0;
	}
}

int snti_frame_read(const unsigned char in[SNTI_FRAME_BYTES], int ranks, struct snti_frame *frame)
{
	frame->type = (uint32_t)take(in, 4);
	frame->size = (uint32_t)take(in + 4, 4);
	frame->a = take(in + 8, 8);
	frame->b = take(in + 16, 8);
	if (frame->type == 0 || frame->type >= SNTI_FRAME_TYPES || frame->size > most_bytes(frame->type, ranks))
		return SNT_EPROTOCOL;
	return 0;
}

void snti_frame_text(const unsigned char *body, size_t size, char *text, size_t room)
{
	size_t length = size < room ? size : room - 1;

	for (size_t i = 0; i < length; i++)
		text[i] = body[i] < 32 || body[i] == 127 ? '?' : (char)body[i];
	text[length] = '\0';
}

int snti_line_open(struct snti_line *line, int fd, int epoll, uint64_t tag)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = tag };

	line->fd = fd;
	line->epoll = epoll;
	line->got = 0;
	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : SNT_ELIMIT;
}

void snti_line_close(struct snti_line *line)
{
	unsigned char rest[4096];

	if (line->fd >= 0) {
		/* Closing with unread bytes would reset the connection, and the peer could lose our last words. */
		shutdown(line->fd, SHUT_WR);
		for (int i = 0; i < 256 && snti_socket_receive(line->fd, rest, sizeof(rest)) > 0; i++)
			;
		snti_socket_close(&line->fd);
	}
	free(line->body);
	free(line->out);
	line->body = line->out = NULL;
	line->out_used = line->out_room = line->got = 0;
}

/* Level-triggered: EPOLLOUT is asked for only while something waits, else epoll would never rest. */
static void watch(struct snti_line *line, int out)
{
	struct epoll_event event = { .events = out ? EPOLLIN | EPOLLOUT : EPOLLIN, .data.u64 = (uint64_t)line->peer };

	if (line->wants_out == out)
		return;
	line->wants_out = out;
	epoll_ctl(line->epoll, EPOLL_CTL_MOD, line->fd, &event);
}

void snti_line_flush(struct snti_line *line)
{
	size_t done = 0;

	while (line->fd >= 0 && done < line->out_used) {
		long sent = snti_socket_send(line->fd, line->out + done, line->out_used - done);

		if (sent == SNTI_SOCKET_LATER)
			break;
		done = sent == SNTI_SOCKET_END ? line->out_used : done + (size_t)sent;
	}
	if (done > 0)
		memmove(line->out, line->out + done, line->out_used - done);
	line->out_used -= done;
	if (line->fd >= 0)
		watch(line, line->out_used > 0);
}

int snti_line_post(struct snti_line *line, const struct snti_frame *frame, const void *body)
{
	size_t need = line->out_used + SNTI_FRAME_BYTES + frame->size;

	if (line->fd < 0)
		return 0;
	if (need > line->out_room) {
		unsigned char *more = realloc(line->out, need);

		if (more == NULL)
			return SNT_ENOMEM;
		line->out = more;
		line->out_room = need;
	}
	snti_frame_write(frame, line->out + line->out_used);
	if (frame->size > 0)
		memcpy(line->out + line->out_used + SNTI_FRAME_BYTES, body, frame->size);
	line->out_used = need;
	snti_line_flush(line);
	return 0;
}

static int start_body(struct snti_line *line)
{
	int status = snti_frame_read(line->head, line->ranks, &line->frame);

	if (status != 0 || line->frame.size == 0)
		return status;
	line->body = malloc(line->frame.size);
	return line->body != NULL ? 0 : SNT_ENOMEM;
}

int snti_line_next(struct snti_line *line)
{
	if (line->got >= SNTI_FRAME_BYTES && line->got == SNTI_FRAME_BYTES + (size_t)line->frame.size) {
		free(line->body);   /* the frame before, if nobody took its bytes */
		line->body = NULL;
		line->got = 0;
	}
	for (;;) {
		int in_head = line->got < SNTI_FRAME_BYTES;
		unsigned char *to = in_head ? line->head + line->got : line->body + (line->got - SNTI_FRAME_BYTES);
		size_t need = in_head ? SNTI_FRAME_BYTES : SNTI_FRAME_BYTES + (size_t)line->frame.size;
		long got = snti_socket_receive(line->fd, to, need - line->got);

		if (got < 0)
			return got == SNTI_SOCKET_LATER ? SNT_BUSY : SNT_EPEER;
		line->got += (size_t)got;
		if (line->got < need)
			continue;
		int status = in_head ? start_body(line) : 0;

		if (status != 0 || !in_head || line->frame.size == 0)
			return status;
	}
}
