/* SPDX-License-Identifier: BSD-3-Clause */
/* exchange_connect.c - a rank finds rank 0 and proves to it that it belongs to the job. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/exchange_parts.h"

/* With several addresses none may use up all the time; after a refusal the next try waits a little longer. */
enum { ATTEMPT_MS = 5000, FIRST_PAUSE_MS = 5, LAST_PAUSE_MS = 200 };

struct attempt {
	const struct snti_meeting *meeting;
	const struct snti_socket_address *address;
	uint64_t until_ns;
	int fd;
	int strangers;                 /* how often somebody answered who does not know the secret */
	char why[SNTI_TEXT_ROOM + 1];  /* of the last failure */
};

/* 0 or SNT_BUSY: not within the attempt's time. */
static int wait_for(struct attempt *at, short events)
{
	struct pollfd wanted = { .fd = at->fd, .events = events };

	while (!snti_is_past(at->until_ns))
		if (poll(&wanted, 1, snti_left_ms(at->until_ns, 1000)) > 0)
			return 0;
	snprintf(at->why, sizeof(at->why), "no answer in time");
	return SNT_BUSY;
}

static int connect_one(struct attempt *at)
{
	int status = snti_socket_connect(at->address, &at->fd), error;
	char text[SNTI_ADDRESS_TEXT];

	if (status != 0)
		return status;
	if (wait_for(at, POLLOUT) != 0)
		return SNT_BUSY;
	error = snti_socket_connected(at->fd);
	if (error == ECONNREFUSED && at->meeting->is_open && at->meeting->count == 1)
		return snti_fail(SNT_EPEER, "rank 0 has ended or given up the start-up: nobody listens at %s any more",
				 snti_address_text(at->address, text));
	if (error != 0)
		snprintf(at->why, sizeof(at->why), "%s", strerror(error));
	return error == 0 ? 0 : SNT_BUSY;
}

static int receive_all(struct attempt *at, unsigned char *bytes, size_t size)
{
	size_t done = 0;

	while (done < size) {
		long got = snti_socket_receive(at->fd, bytes + done, size - done);

		if (got == SNTI_SOCKET_END) {
			snprintf(at->why, sizeof(at->why), "%s", errno == 0 ? "the connection was closed" : strerror(errno));
			return SNT_BUSY;
		}
		if (got == SNTI_SOCKET_LATER && wait_for(at, POLLIN) != 0)
			return SNT_BUSY;
		done += got > 0 ? (size_t)got : 0;
	}
	return 0;
}

/* The messages are far smaller than a new socket's buffer: they go at once or never. */
static int send_all(struct attempt *at, const unsigned char *bytes, size_t size)
{
	if (snti_socket_send(at->fd, bytes, size) == (long)size)
		return 0;
	snprintf(at->why, sizeof(at->why), "the connection was closed");
	return SNT_BUSY;
}

static int refused(struct attempt *at, const char *why)
{
	char text[SNTI_ADDRESS_TEXT];

	snprintf(at->why, sizeof(at->why), "%s", why);
	return snti_fail(SNT_EREFUSED, "rank 0 at %s did not accept rank %d: %s",
			 snti_address_text(at->address, text), at->meeting->rank, at->why);
}

/* Who answers is not rank 0 of this job. Where rank 0 may have had to take another port, the search goes on. */
static int is_stranger(struct attempt *at)
{
	at->strangers++;
	if (at->meeting->others[0] != 0)
		return SNT_BUSY;
	return refused(at, "it does not know this job's secret; check that every rank has the same ticket, "
		       "SNT_SECRET or SNT_SECRET_FILE");
}

static int read_welcome(struct attempt *at)
{
	unsigned char head[SNTI_FRAME_BYTES], body[SNTI_TEXT_ROOM];
	char text[SNTI_TEXT_ROOM + 1];
	struct snti_frame frame;
	int status = receive_all(at, head, sizeof(head));

	if (status != 0)
		return status;
	if (snti_frame_read(head, at->meeting->ranks, &frame) != 0)
		return refused(at, "it sent what makes no sense");
	if (frame.type == SNTI_FRAME_WELCOME)
		return frame.a == (uint64_t)at->meeting->rank && frame.b == (uint64_t)at->meeting->ranks ?
		       0 : refused(at, "it welcomed another rank");
	if (frame.type != SNTI_FRAME_ABORT)
		return refused(at, "it sent what makes no sense");
	status = receive_all(at, body, frame.size);
	if (status != 0)
		return status;
	snti_frame_text(body, frame.size, text, sizeof(text));
	return refused(at, text);
}

static int prove(struct attempt *at)
{
	const struct snti_meeting *meeting = at->meeting;
	struct snti_want want = { .kind = SNTI_EXCHANGE_KIND, .number = (uint32_t)meeting->rank, .ident = (uint64_t)meeting->ranks };
	unsigned char key[SNTI_SECRET_BYTES], hello[SNTI_HELLO_BYTES], proof[SNTI_PROOF_BYTES], answer[SNTI_ANSWER_BYTES];
	struct snti_handshake handshake;
	int status;

	if (snti_derive(meeting->secret, "sennit exchange", key) != 0 || snti_hello_write(&handshake, key, &want, hello) != 0)
		return snti_fail(SNT_EDEVICE, "libcrypto refuses to compute an HMAC");
	status = send_all(at, hello, sizeof(hello));
	if (status == 0)
		status = receive_all(at, proof, sizeof(proof));
	if (status == 0 && snti_proof_read(&handshake, proof) != 0)
		status = is_stranger(at);
	if (status == 0 && snti_answer_write(&handshake, answer) != 0)
		status = snti_fail(SNT_EDEVICE, "libcrypto refuses to compute an HMAC");
	if (status == 0)
		status = send_all(at, answer, sizeof(answer));
	explicit_bzero(&handshake, sizeof(handshake));
	explicit_bzero(key, sizeof(key));
	return status != 0 ? status : read_welcome(at);
}

static int try_addresses(struct attempt *at, uint64_t deadline_ns)
{
	for (int i = 0; i < at->meeting->count; i++) {
		uint64_t until = snti_deadline_ms(ATTEMPT_MS);

		at->address = &at->meeting->addresses[i];
		at->until_ns = at->meeting->count == 1 || (deadline_ns != 0 && deadline_ns < until) ? deadline_ns : until;
		int status = connect_one(at);

		if (status == 0)
			status = prove(at);
		if (status != SNT_BUSY)
			return status;
		snti_socket_close(&at->fd);
	}
	return SNT_BUSY;
}

static int fail_late(const struct attempt *at)
{
	char text[SNTI_ADDRESS_TEXT];
	const struct snti_meeting *meeting = at->meeting;

	return snti_fail(SNT_ETIMEOUT, "rank %d waited in vain for rank 0 at %s (from %s): %s%s", meeting->rank,
			 at->address != NULL ? snti_address_text(at->address, text) : meeting->host, meeting->source, at->why,
			 at->strangers == 0 ? "" : "; at one of its ports somebody answered who does not know this job's secret: "
			 "check that every rank has the same SNT_SECRET or SNT_SECRET_FILE");
}

int snti_exchange_connect(struct snti_meeting *meeting, uint64_t deadline_ns, int *fd)
{
	struct attempt at = { .meeting = meeting, .fd = -1, .why = "its name has no address" };
	int pause_ms = FIRST_PAUSE_MS, status = SNT_BUSY;

	while (status == SNT_BUSY) {
		if (meeting->count == 0)
			status = snti_meeting_resolve(meeting);
		if (meeting->count > 0 && (status == 0 || status == SNT_BUSY))
			status = try_addresses(&at, deadline_ns);
		if (status != SNT_BUSY)
			break;
		if (snti_is_past(deadline_ns))
			status = fail_late(&at);
		else
			poll(NULL, 0, snti_left_ms(deadline_ns, pause_ms));
		pause_ms = pause_ms * 2 > LAST_PAUSE_MS ? LAST_PAUSE_MS : pause_ms * 2;
	}
	if (status != 0)
		snti_socket_close(&at.fd);
	*fd = at.fd;
	return status;
}
