/* SPDX-License-Identifier: BSD-3-Clause */
/* exchange_frame.c - fuzzes the control channel's frames, in pieces as a socket may deliver them. */
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/exchange_parts.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_all(struct snti_line *line)
{
	int status;
	char text[SNTI_TEXT_ROOM + 1];

	while ((status = snti_line_next(line)) == 0) {
		if (line->frame.size > 0)
			snti_frame_text(line->body, line->frame.size, text, sizeof(text));
	}
	return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct snti_line line = { .ranks = 4 };
	int fds[2], epoll = epoll_create1(0);
	size_t half = size > 0 ? data[0] % size : 0;

	if (epoll < 0 || size > 100000 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) != 0)
		abort();
	if (snti_line_open(&line, fds[0], epoll, 0) != 0)
		abort();
	if (write(fds[1], data, half) == (ssize_t)half) {
		/* After a failure a line is closed and not read again. */
		if (read_all(&line) == SNT_BUSY && write(fds[1], data + half, size - half) >= 0)
			read_all(&line);
	}
	close(fds[1]);
	snti_line_close(&line);
	close(epoll);
	return 0;
}
