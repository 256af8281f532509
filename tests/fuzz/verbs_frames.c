/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_frames.c - fuzzes a verbs conn with a peer that proved the secret and then sends whatever it likes.
 *
 * Over the mock of libibverbs. The input is a script: frames and slots whose fields come from small sets, immediates, raw
 * bytes, receives, sends and polls. At the end the peer is gone, and nothing may still be waiting for it.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "transport/verbs.h"

#define XFERS 12

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const size_t sizes[] = { 0, 8, 256, 257, 4096, 8192, 9000, 70000 };
static struct snti_port *ports[2];
static struct snti_conn *conns[2];
static uint64_t ident;

struct script { const uint8_t *at; size_t left; };

static unsigned next(struct script *script)
{
	if (!script->left)
		return 0;
	script->left--;
	return *script->at++;
}

static void add(void *dst, const void *left, const void *right, size_t count)
{
	for (size_t i = 0; i < 8 * count; i++)
		((char *)dst)[i] = (char)(((const char *)left)[i] ^ ((const char *)right)[i]);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	static const unsigned char secret[32] = { 1 };
	const struct snti_port_options options = { .secret = secret, .local_only = 1 };

	(void)argc, (void)argv;
	setenv("SNT_VERBS_BLOCK", "4K", 1);
	for (int i = 0; i < 2; i++)
		if (snti_port_open(&snti_verbs_transport, &options, &ports[i]) != 0)
			abort();
	return 0;
}

static void poll_both(void)
{
	for (int i = 0; i < 2; i++)
		if (ports[i]->ops->poll(ports[i]) < 0)
			abort();
}

static void open_conns(void)
{
	struct snti_address address;

	if (ports[0]->ops->address(ports[0], &address))
		abort();
	ident++;
	if (snti_conn_open(ports[0], &address, NULL, ident, 1, &conns[0]) ||
	    snti_conn_open(ports[1], NULL, &address, ident, 0, &conns[1]))
		abort();
	while (conns[0]->status == SNT_BUSY || conns[1]->status == SNT_BUSY)
		poll_both();
	if (conns[0]->status || conns[1]->status)
		abort();
}

/* Mostly the slot's next one. */
static void write_slot(struct verbs_conn *conn, struct verbs_message *message, unsigned slot, unsigned ahead)
{
	uint32_t immediate = slot | ((conn->generation[slot] + 1 + ahead) & VERBS_GENERATIONS) << 8;

	message->request.immediate ^= htole32(immediate);
	memcpy(conn->rails->slots + slot * VERBS_SLOT_BYTES, message, sizeof(*message));
	verbs_on_slot(conn, immediate);
}

static void say_frame(struct script *script, struct verbs_conn *conn)
{
	unsigned kind = next(script), where = next(script), more = next(script), odd = next(script);
	size_t size = sizes[where % 8], body = 0;
	char bytes[sizeof(struct verbs_message) + 9000] = { 0 };
	struct verbs_message message = { .frame = { .type = (uint8_t)(kind % 8), .flags = kind >> 3 & 3, .lane = htole64(where >> 3 & 3),
		.fingerprint = htole64(where >> 7), .size = htole64(size), .number = htole64(more & 8 ? VERBS_NONE : more & 7),
		.taken = htole64(more & 16 ? 7 : 0), .requests = htole64(more >> 5) } };

	if (message.frame.type == VERBS_EAGER)
		body = size <= 9000 ? size : 9000;
	if (message.frame.type == VERBS_REQUEST) {
		message.request = (struct verbs_request){ .message = htole64(odd >> 4), .address = htole64((uint64_t)(uintptr_t)bytes),
			.length = htole64(sizes[next(script) % 8]), .parts = htole32(1) };
	}
	if (odd & 1)
		((unsigned char *)&message)[next(script) % sizeof(message)] = (unsigned char)next(script);
	if (message.frame.type == VERBS_REQUEST && kind >> 4 != 15) {
		write_slot(conn, &message, odd >> 1 & 7, kind >> 4 == 14);
		return;
	}
	memcpy(bytes, &message, sizeof(message));
	verbs_input(conn, bytes, sizeof(message.frame) + body);
}

static void start(struct script *script, struct snti_conn *conn, struct snti_xfer *xfer, int send)
{
	unsigned where = next(script), how = next(script);

	if (xfer->status == SNT_BUSY)
		return;
	free(xfer->data);
	*xfer = (struct snti_xfer){ .size = sizes[where % 8] & ~(size_t)7, .lane = where >> 3 & 3, .fingerprint = where >> 7, .width = 8,
		.fold = how & 1 && !send ? add : NULL, .arriving_left = how >> 1 & 1 };
	xfer->operand = xfer->data = calloc(1, xfer->size ? xfer->size : 1);
	if (!xfer->data)
		abort();
	if (send)
		(void)!snti_send(conn, xfer);
	else
		(void)!snti_recv(conn, xfer);
}

static void check(const struct verbs_conn *conn, const struct snti_xfer *xfers)
{
	size_t busy = 0;

	for (int i = 0; i < XFERS; i++)
		busy += xfers[i].status == SNT_BUSY;
	if (busy != conn->waiting || (conn->base.status < 0 && busy))
		abort();
}

static void step(struct script *script, struct verbs_conn *conn, struct snti_xfer *xfers)
{
	unsigned op = next(script);

	switch (op & 7) {
	case 0: case 1: case 2:
		if (conn->base.status >= 0)
			say_frame(script, conn);
		break;
	case 3:
		if (conn->base.status >= 0)
			verbs_on_immediate(conn, op >> 3 | (uint32_t)next(script) << 8);
		break;
	case 4: case 5: start(script, &conn->base, &xfers[(op >> 3) % XFERS], 0); break;
	case 6: start(script, &conn->base, &xfers[(op >> 3) % XFERS], 1); break;
	default: poll_both();
	}
	check(conn, xfers);
}

static unsigned idle_works(const struct verbs_port *port)
{
	unsigned count = 0;

	for (uint32_t i = port->idle_work; i < VERBS_WORKS; i = port->works[i].next)
		count++;
	return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct script script = { data, size };
	struct snti_xfer xfers[XFERS] = { { .data = NULL } };
	struct verbs_port *port = (struct verbs_port *)ports[1];

	open_conns();
	for (int i = 0; i < 200 && script.left; i++)
		step(&script, (struct verbs_conn *)conns[1], xfers);
	snti_conn_close(conns[0]);
	for (int i = 0; i < 300; i++)
		poll_both();
	check((struct verbs_conn *)conns[1], xfers);
	snti_conn_close(conns[1]);
	for (int i = 0; i < XFERS; i++) {
		if (xfers[i].status == SNT_BUSY)
			abort();
		free(xfers[i].data);
	}
	while (!snti_list_empty(&port->lingering))
		poll_both();
	if (port->sending.idle != port->sending.count || port->landing.idle != port->landing.count || idle_works(port) != VERBS_WORKS ||
	    port->room + port->reserved + VERBS_WORKS != port->cq_size || port->setting_up || !snti_list_empty(&port->conns))
		abort();
	return 0;
}
