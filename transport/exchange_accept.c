/* SPDX-License-Identifier: BSD-3-Clause */
/* exchange_accept.c - rank 0 lets the other ranks in, and nobody else. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "transport/exchange_parts.h"

/* Until somebody has proved the secret he gets one place of fixed size, for a short time. A place younger
 * than YOUNG_NS is not taken away: many honest ranks that come at once wait in the kernel's queue instead. */
enum { GUESTS = 64 };
#define PATIENCE_NS 2000000000ULL
#define YOUNG_NS      50000000ULL

struct guest {
	int fd, has_said_hello;
	size_t got;
	uint64_t since_ns;
	struct snti_socket_address from;
	struct snti_handshake handshake;
	unsigned char bytes[SNTI_HELLO_BYTES];
};

struct snti_guests {
	unsigned char key[SNTI_SECRET_BYTES];
	int listener, paused;
	int starved;                   /* a connection could not be taken for want of descriptors or memory */
	struct snti_log_limit log;
	struct guest places[GUESTS];
};

int snti_guests_starved(const struct snti_exchange *x)
{
	return x->guests->starved;
}

static void listen_again(struct snti_exchange *x, int on)
{
	struct epoll_event event = { .events = on ? EPOLLIN : 0, .data.u64 = SNTI_TAG_LISTENER };

	x->guests->paused = !on;
	epoll_ctl(x->epoll, EPOLL_CTL_MOD, x->guests->listener, &event);
}

static void log_turned_away(struct snti_guests *guests, const struct snti_socket_address *from, const char *why)
{
	char text[SNTI_ADDRESS_TEXT], more[SNTI_LOG_MORE];

	if (snti_log_may(&guests->log, more))
		snti_log(SNT_LOG_WARN, "start-up: turned away a connection from %s: %s%s", snti_address_text(from, text), why,
			 more);
}

static void turn_away(struct snti_exchange *x, struct guest *guest, const char *why)
{
	log_turned_away(x->guests, &guest->from, why);
	snti_socket_close(&guest->fd);
	if (x->guests->paused)
		listen_again(x, 1);
}

/* Who has proved the secret but cannot be let in is told why. */
static void refuse(struct snti_exchange *x, struct guest *guest, const char *why)
{
	unsigned char bytes[SNTI_FRAME_BYTES + SNTI_ABORT_TEXT];
	struct snti_frame frame = { .type = SNTI_FRAME_ABORT, .size = (uint32_t)strlen(why), .a = (uint32_t)SNT_EREFUSED };

	snti_frame_write(&frame, bytes);
	memcpy(bytes + SNTI_FRAME_BYTES, why, frame.size);
	snti_socket_send(guest->fd, bytes, SNTI_FRAME_BYTES + frame.size);
	turn_away(x, guest, why);
}

static void let_in(struct snti_exchange *x, struct guest *guest)
{
	struct snti_want *want = &guest->handshake.want;
	struct snti_frame welcome = { .type = SNTI_FRAME_WELCOME, .a = want->number, .b = (uint64_t)x->size };
	char why[160] = "";

	if (want->kind != SNTI_EXCHANGE_KIND)
		snprintf(why, sizeof(why), "it wants another service than the start-up");
	else if (want->ident != (uint64_t)x->size)
		snprintf(why, sizeof(why), "rank %u counts %llu ranks, rank 0 counts %d", want->number,
			 (unsigned long long)want->ident, x->size);
	else if (want->number == 0 || want->number >= (uint32_t)x->size)
		snprintf(why, sizeof(why), "it says that it is rank %u of %d", want->number, x->size);
	else if (x->lines[want->number].fd >= 0)
		snprintf(why, sizeof(why), "a second process says that it is rank %u", want->number);
	if (why[0] != '\0') {
		refuse(x, guest, why);
		return;
	}
	struct snti_line *line = &x->lines[want->number];
	struct epoll_event unused = { 0 };

	epoll_ctl(x->epoll, EPOLL_CTL_DEL, guest->fd, &unused);
	if (snti_line_open(line, guest->fd, x->epoll, want->number) != 0) {
		line->fd = -1;
		turn_away(x, guest, "no room in epoll");
		return;
	}
	guest->fd = -1;
	snti_line_post(line, &welcome, NULL);
	if (x->guests->paused)
		listen_again(x, 1);
}

static void handle_hello(struct snti_exchange *x, struct guest *guest)
{
	unsigned char proof[SNTI_PROOF_BYTES];
	int status = snti_hello_read(&guest->handshake, x->guests->key, guest->bytes);

	if (status == 0)
		status = snti_proof_write(&guest->handshake, proof);
	if (status != 0) {
		turn_away(x, guest, status == SNT_EUNSUPPORTED ? "it speaks another version" : "it does not speak sennit");
		return;
	}
	guest->got = 0;
	guest->has_said_hello = 1;
	if (snti_socket_send(guest->fd, proof, sizeof(proof)) != (long)sizeof(proof))
		turn_away(x, guest, "it does not take an answer");
}

static void guest_event(struct snti_exchange *x, struct guest *guest)
{
	while (guest->fd >= 0) {
		size_t need = guest->has_said_hello ? SNTI_ANSWER_BYTES : SNTI_HELLO_BYTES;
		long got = snti_socket_receive(guest->fd, guest->bytes + guest->got, need - guest->got);

		if (got == SNTI_SOCKET_LATER)
			return;
		if (got == SNTI_SOCKET_END) {
			turn_away(x, guest, "it hung up before it proved the secret");
			return;
		}
		guest->got += (size_t)got;
		if (guest->got < need)
			continue;
		if (!guest->has_said_hello)
			handle_hello(x, guest);
		else if (snti_answer_read(&guest->handshake, guest->bytes) != 0)
			turn_away(x, guest, "it does not know the secret");
		else
			let_in(x, guest);
	}
}

/* A free place, that of the oldest guest if he has had his chance, or NULL. */
static struct guest *find_place(struct snti_exchange *x)
{
	struct guest *oldest = &x->guests->places[0];

	for (int i = 0; i < GUESTS; i++) {
		struct guest *guest = &x->guests->places[i];

		if (guest->fd < 0)
			return guest;
		if (guest->since_ns < oldest->since_ns)
			oldest = guest;
	}
	if (snti_now_ns() - oldest->since_ns < YOUNG_NS)
		return NULL;
	turn_away(x, oldest, "too many connections, and it was silent for longest");
	return oldest;
}

static void accept_some(struct snti_exchange *x)
{
	for (int i = 0; i < GUESTS; i++) {
		struct guest *guest = find_place(x);

		if (guest == NULL) {
			listen_again(x, 0);
			return;
		}
		guest->fd = snti_socket_accept(x->guests->listener, &guest->from);
		if (guest->fd < 0) {
			/* Out of descriptors: the queue stays full, so look again later and not at once. */
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
				x->guests->starved = errno;
				listen_again(x, 0);
			}
			return;
		}
		guest->has_said_hello = 0;
		guest->got = 0;
		guest->since_ns = snti_now_ns();
		struct epoll_event event = { .events = EPOLLIN,
					     .data.u64 = SNTI_TAG_GUEST + (uint64_t)(guest - x->guests->places) };

		if (epoll_ctl(x->epoll, EPOLL_CTL_ADD, guest->fd, &event) != 0)
			turn_away(x, guest, "no room in epoll");
	}
}

void snti_guests_event(struct snti_exchange *x, uint64_t tag)
{
	if (x->guests == NULL)
		return;
	if (tag == SNTI_TAG_LISTENER)
		accept_some(x);
	else if (tag - SNTI_TAG_GUEST < GUESTS)
		guest_event(x, &x->guests->places[tag - SNTI_TAG_GUEST]);
}

int snti_guests_tick(struct snti_exchange *x)
{
	int some = 0;

	if (x->guests == NULL)
		return 1000;
	for (int i = 0; i < GUESTS; i++) {
		struct guest *guest = &x->guests->places[i];

		if (guest->fd >= 0 && snti_now_ns() - guest->since_ns > PATIENCE_NS)
			turn_away(x, guest, "it was silent for 2 s");
		some |= guest->fd >= 0;
	}
	if (!x->guests->paused)
		return some ? 100 : 1000;
	listen_again(x, 1);
	return 20;
}

int snti_guests_open(struct snti_exchange *x, const struct snti_meeting *meeting)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = SNTI_TAG_LISTENER };

	x->guests = calloc(1, sizeof(*x->guests));
	if (x->guests == NULL)
		return snti_fail(SNT_ENOMEM, "no memory for the start-up");
	x->guests->listener = meeting->listener;
	for (int i = 0; i < GUESTS; i++)
		x->guests->places[i].fd = -1;
	if (snti_derive(meeting->secret, "sennit exchange", x->guests->key) != 0)
		return snti_fail(SNT_EDEVICE, "libcrypto refuses to compute an HMAC");
	if (epoll_ctl(x->epoll, EPOLL_CTL_ADD, meeting->listener, &event) != 0)
		return snti_fail(SNT_ELIMIT, "cannot watch rank 0's listening socket: %s", strerror(errno));
	return 0;
}

void snti_guests_close(struct snti_exchange *x)
{
	if (x->guests == NULL)
		return;
	/* For all who inherited it: otherwise the kernel would go on taking late ranks into a queue that nobody serves. */
	shutdown(x->guests->listener, SHUT_RDWR);
	snti_socket_close(&x->guests->listener);
	for (int i = 0; i < GUESTS; i++)
		snti_socket_close(&x->guests->places[i].fd);
	explicit_bzero(x->guests, sizeof(*x->guests));
	free(x->guests);
	x->guests = NULL;
}
