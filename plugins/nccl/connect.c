/* SPDX-License-Identifier: BSD-3-Clause */
/* connect.c - listen, connect, accept, close: a comm from its handle to its end. Nothing waits. */
#include "plugins/nccl/core.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/settings.h"
#include "transport/handshake.h"

#define PROTOCOL 3
#define SEED_BYTES 16
#define GREETING_LANE UINT64_MAX        /* tags have 32 bits */

static const char magic[8] = { 's', 'e', 'n', 'n', 'i', 't', 'N', '\n' };

/* What NCCL carries from the listener to the one that connects. Nothing in it is trusted. Where things stand does not
 * change with the protocol, so that whoever finds another one can say whose it is. */
struct handle {
	char magic[8];
	uint8_t protocol, address_size, transport;
	uint8_t lead;                           /* not 0: of rails, the address of this port alone, counted from 1 */
	uint32_t pid;
	uint64_t ident;
	unsigned char seed[SEED_BYTES];         /* the secret of this one connection */
	char build[SNTI_NCCL_BUILD], version[SNTI_NCCL_BUILD];
	unsigned char rest[NCCL_HANDLE_BYTES - 56];     /* the address, then as much of the host's name as fits */
};
_Static_assert(sizeof(struct handle) == NCCL_HANDLE_BYTES, "a handle has NCCL's size");

/* ---- names and secrets --------------------------------------------------- */

static void name_peer(struct snti_nccl_comm *comm, const char *host, size_t room, uint32_t pid)
{
	char clean[sizeof comm->greeting.host + 1] = "";

	/* It comes from outside, and goes into a log. */
	for (size_t i = 0; i < room && i < sizeof clean - 1 && host[i]; i++)
		clean[i] = host[i] > ' ' && host[i] < 127 ? host[i] : '?';
	snprintf(comm->peer, sizeof comm->peer, "%s process %u", *clean ? clean : "peer", pid);
}

/* By their numbers in a handle. */
static const char *const transports[] = { "", "tcp", "rails", "verbs", "rails-verbs", "ucx" };

static uint8_t number_of(const struct snti_transport *transport)
{
	uint8_t number = sizeof transports / sizeof *transports - 1;

	while (number && strcmp(transports[number], transport->name))
		number--;
	return number;
}

static void own_host(char *name, size_t room)
{
	memset(name, 0, room);
	if (gethostname(name, room - 1))
		name[0] = 0;
}

/* Whoever has read the handle may connect; with SNT_SECRET only who knows that too. */
static int make_secret(const unsigned char seed[SEED_BYTES], unsigned char secret[SNTI_SECRET_BYTES])
{
	memset(secret, 0, SNTI_SECRET_BYTES);
	memcpy(secret, seed, SEED_BYTES);
	return snti_derive(secret, snti_settings()->secret, secret);
}

/* ---- comms --------------------------------------------------------------- */

static struct snti_nccl_comm *comm_new(enum snti_nccl_kind kind, const struct snti_nccl_device *device,
				       int traffic_class)
{
	struct snti_nccl_comm *comm = calloc(1, sizeof *comm);

	if (!comm)
		return NULL;
	snti_list_init(&comm->memories);
	snti_list_init(&comm->link);
	snti_list_init(&comm->tended);
	comm->kind = kind;
	comm->device = device;
	comm->traffic_class = traffic_class;
	return comm;
}

/* What is said beside a rail goes over its own interface, unless one is named: a cable that is cut takes no other rail along. */
static const char *aside_of(const struct snti_nccl_device *device, const struct snti_transport *transport)
{
	const char *named = getenv("NCCL_SOCKET_IFNAME");

	return snti_rails_under(transport) && (!named || !*named) ? NULL : snti_nccl_aside(device);
}

/* Over @device of @transport. */
static int open_port(struct snti_nccl_comm *comm, const struct snti_transport *transport, const char *device,
		     const unsigned char seed[SEED_BYTES])
{
	uint8_t traffic_class = (uint8_t)comm->traffic_class;
	unsigned char secret[SNTI_SECRET_BYTES];
	struct snti_port_options options = { .secret = secret, .local_only = comm->device->wire.is_loopback,
		.timeout_ms = (uint32_t)snti_settings()->timeout_ms, .device = device,
		.interface = aside_of(comm->device, transport), .streams = comm->streams,
		.traffic_class = comm->traffic_class < 0 ? NULL : &traffic_class };
	int status = make_secret(seed, secret);

	if (!status)
		status = snti_port_open(transport, &options, &comm->port);
	explicit_bzero(secret, sizeof secret);
	return status;
}

void snti_nccl_free(struct snti_nccl_comm *comm)
{
	/* Work in flight means that NCCL aborts. Then the peer may be the one that hangs. */
	if (comm->port && (comm->is_cut || comm->busy))
		comm->port->hasty = 1;
	snti_conn_close(comm->conn);
	snti_port_close(comm->port);
	while (!snti_list_empty(&comm->memories)) {
		struct snti_link *memory = comm->memories.next;

		snti_list_remove(memory);
		free(memory);
	}
	free(comm->requests);
	free(comm->idle);
	free(comm->xfers);
	free(comm->idle_xfers);
	free(comm);
}

/* Rails have done with a small send once it is copied. What no port has taken yet has to leave before the good-bye. */
static void let_leave(struct snti_nccl_comm *comm)
{
	uint64_t deadline = snti_deadline_ms(snti_settings()->timeout_ms);

	if (comm->kind != SNTI_NCCL_SENDS || !comm->conn || !snti_rails_under(comm->port->ops) || comm->is_cut ||
	    comm->busy)
		return;
	while (comm->port->ops->flush(comm->conn) == SNT_BUSY && !snti_nccl_poll(comm) && !snti_is_past(deadline))
		sched_yield();
}

int snti_nccl_close(void *object)
{
	struct snti_nccl_comm *comm = object;

	if (!comm)
		return NCCL_SUCCESS;
	snti_nccl_untend(comm);
	comm->is_cut |= atomic_load(&comm->context->is_aborted);
	let_leave(comm);
	snti_nccl_leave(comm);
	snti_nccl_free(comm);
	return NCCL_SUCCESS;
}

static int no_device(int device)
{
	snti_nccl_log(NCCL_LOG_WARN, "there is no device %d", device);
	return NCCL_INVALID_ARGUMENT;
}

static int no_memory(const char *device)
{
	snti_nccl_log(NCCL_LOG_WARN, "%s: no memory for a connection", device);
	return NCCL_SYSTEM_ERROR;
}

/* ---- listen -------------------------------------------------------------- */

/* Of several devices the first ones' addresses will do, where not all of them fit; one of verbs fits if there is nothing
 * beside it. */
static size_t pack_address(struct snti_nccl_comm *comm, struct handle *handle)
{
	struct snti_address lead;
	size_t size;

	if (comm->port->ops == &snti_rails_verbs_transport) {
		handle->lead = (uint8_t)(1 + snti_rails_unwrap(&comm->address, &lead));
		return snti_nccl_pack(&lead, handle->rest, sizeof handle->rest);
	}
	do
		size = snti_nccl_pack(&comm->address, handle->rest, sizeof handle->rest);
	while (size > sizeof handle->rest && comm->port->ops == &snti_rails_transport &&
	       !snti_rails_shorten(&comm->address));
	return size;
}

static int write_handle(struct snti_nccl_comm *comm, struct handle *handle)
{
	char host[sizeof handle->rest];
	size_t size = pack_address(comm, handle);

	if (size > sizeof handle->rest)
		return snti_fail(SNT_EUNSUPPORTED, "%s: the address does not fit into NCCL's handle", comm->port->ops->name);
	own_host(host, sizeof host);
	memcpy(handle->magic, magic, sizeof magic);
	handle->protocol = PROTOCOL;
	handle->address_size = (uint8_t)size;
	handle->pid = (uint32_t)getpid();
	handle->ident = comm->ident;
	handle->transport = number_of(comm->port->ops);
	snti_nccl_build(handle->build);
	memcpy(handle->version, snt_version(), strnlen(snt_version(), sizeof handle->version));
	memcpy(handle->rest + size, host, sizeof handle->rest - size);
	return 0;
}

static int begin_listening(struct snti_nccl_comm *comm, struct handle *handle)
{
	const struct snti_transport *transport = snti_nccl_is_merged(comm->device) ? snti_nccl_rails() : snti_nccl_transport();
	int status = snti_random(handle->seed, sizeof handle->seed);

	if (!status)
		status = snti_random(&comm->ident, sizeof comm->ident);
	if (!status)
		status = open_port(comm, transport, comm->device->name, handle->seed);
	if (!status)
		status = comm->port->ops->address(comm->port, &comm->address);
	return status ? status : write_handle(comm, handle);
}

int snti_nccl_listen(struct snti_nccl_context *context, int device, void *to, void **listen_comm)
{
	struct handle handle = { .protocol = 0 };
	struct snti_nccl_comm *comm;
	int status;

	*listen_comm = NULL;
	memset(to, 0, NCCL_HANDLE_BYTES);
	if (!snti_nccl_device(device))
		return no_device(device);
	comm = comm_new(SNTI_NCCL_LISTENS, snti_nccl_device(device), context->traffic_class);
	if (!comm)
		return no_memory(snti_nccl_device(device)->name);
	comm->streams = snti_nccl_streams(context, 1);
	status = begin_listening(comm, &handle);
	if (status) {
		status = snti_nccl_failed(comm, status);
		snti_nccl_free(comm);
		return status;
	}
	memcpy(to, &handle, sizeof handle);
	snti_nccl_join(context, comm);
	*listen_comm = comm;
	return NCCL_SUCCESS;
}

/* ---- connect ------------------------------------------------------------- */

static int is_of(const struct handle *handle, const struct snti_transport *transport)
{
	return transport && handle->transport == number_of(transport);
}

static int other_protocol(const struct handle *handle)
{
	static const char unknown[SNTI_NCCL_BUILD];
	char theirs[48], own[48];

	/* Protocol 2 had no builds. */
	snti_nccl_name_build(theirs, sizeof theirs, handle->version, handle->protocol > 2 ? handle->build : unknown);
	snti_nccl_own_build(own, sizeof own);
	return snti_fail(SNT_EINVAL, "the peer runs %s with handles of kind %u, this process %s with kind %u: install one version on "
			 "every rank", theirs, handle->protocol, own, PROTOCOL);
}

static int damaged(void)
{
	return snti_fail(SNT_EPROTOCOL, "the peer's handle is damaged");
}

/* Whether the peer is of our kind: 0 or a status, with what to do. */
static int check_handle(const struct handle *handle)
{
	if (memcmp(handle->magic, magic, sizeof magic))
		return snti_fail(SNT_EINVAL, "the peer's handle is another network's, not " SNTI_NCCL_NAME "'s: "
				 "set NCCL_NET_PLUGIN=sennit and NCCL_NET=sennit on every rank");
	if (handle->protocol != PROTOCOL)
		return other_protocol(handle);
	if (handle->address_size > sizeof handle->rest || handle->lead > SNTI_NCCL_MEMBERS || !handle->transport ||
	    handle->transport >= sizeof transports / sizeof *transports)
		return damaged();
	if (!is_of(handle, snti_nccl_transport()) && !is_of(handle, snti_nccl_rails()))
		return snti_fail(SNT_EINVAL, "the peer uses %s and this process %s: set SNT_NCCL_TRANSPORTS alike "
				 "on every rank, or see why one has no RDMA",
				 transports[handle->transport], snti_nccl_transport()->name);
	return 0;
}

/* As the listener has it: rails over one device if it has merged and we have not; the first of ours the other way round. */
static int open_towards(struct snti_nccl_comm *comm, const struct handle *handle)
{
	const struct snti_nccl_device *device = comm->device;

	if (is_of(handle, snti_nccl_rails()))
		return open_port(comm, snti_nccl_rails(), device->name, handle->seed);
	if (snti_nccl_is_merged(device))
		device = snti_nccl_device(device->members.devices[0]);
	return open_port(comm, snti_nccl_transport(), device->name, handle->seed);
}

/* Not 0: damaged. */
static int unpack_address(const struct handle *handle, struct snti_address *address)
{
	struct snti_address lead;

	if (!handle->lead)
		return snti_nccl_unpack(handle->rest, handle->address_size, address);
	if (!is_of(handle, snti_nccl_rails()) || snti_nccl_unpack(handle->rest, handle->address_size, &lead))
		return -1;
	snti_rails_wrap(snti_nccl_rails(), handle->lead - 1u, &lead, address);
	return 0;
}

static int begin_connecting(struct snti_nccl_comm *comm, const struct handle *handle)
{
	struct snti_address address;
	int status = check_handle(handle);

	if (!memcmp(handle->magic, magic, sizeof magic) && handle->address_size <= sizeof handle->rest)
		name_peer(comm, (const char *)handle->rest + handle->address_size,
			  sizeof handle->rest - handle->address_size, handle->pid);
	if (status)
		return status;
	if (unpack_address(handle, &address))
		return damaged();
	snti_nccl_compare_build(comm, handle->version, handle->build);
	comm->ident = handle->ident;
	comm->deadline = snti_deadline_ms(2 * snti_settings()->startup_ms);
	status = open_towards(comm, handle);
	if (status)
		return status;
	if (comm->port->ops->reaches(comm->port, &address))
		return snti_fail(SNT_EUNSUPPORTED, "%s: the peer is on a network that %s does not reach", comm->port->ops->name,
				 comm->device->name);
	return snti_conn_open(comm->port, NULL, &address, comm->ident, -1, &comm->conn);
}

/* Says who it is, once. */
static int greet(struct snti_nccl_comm *comm)
{
	struct snti_nccl_greeting *greeting = &comm->greeting;
	int status;

	if (comm->greeting_xfer.data)
		return 0;
	greeting->protocol = PROTOCOL;
	greeting->pid = (uint32_t)getpid();
	snti_nccl_build(greeting->build);
	memcpy(greeting->version, snt_version(), strnlen(snt_version(), sizeof greeting->version));
	own_host(greeting->host, sizeof greeting->host);
	comm->greeting_xfer = (struct snti_xfer){ .data = greeting, .size = sizeof *greeting, .lane = GREETING_LANE,
		.status = SNT_BUSY };
	status = snti_send(comm->conn, &comm->greeting_xfer);
	if (status)
		comm->greeting_xfer.data = NULL;
	return status == SNTI_AGAIN ? SNT_BUSY : status;
}

/* 0: up; SNT_BUSY; or why not. Not before the greeting has left: some wires move only when asked, and nobody asks an
 * idle comm, while the peer cannot accept without. */
static int go_on_connecting(struct snti_nccl_comm *comm)
{
	int status = snti_nccl_poll(comm);

	if (status || comm->conn->status)
		return status ? status : comm->conn->status;
	status = greet(comm);
	if (!status)
		status = comm->greeting_xfer.status;
	if (!status)
		status = comm->port->ops->flush(comm->conn);
	return status ? status : snti_nccl_prepare(comm);
}

/* One that never was called again: NCCL forgets what it gave up, and versions before 11 say nothing at the end. */
static void drop_forgotten(struct snti_nccl_context *context)
{
	struct snti_nccl_comm *old;

	while ((old = snti_nccl_forgotten(context)))
		snti_nccl_close(old);
}

static int connect_anew(struct snti_nccl_context *context, int device, int traffic_class, const struct handle *handle,
			struct snti_nccl_comm **made)
{
	struct snti_nccl_comm *comm = comm_new(SNTI_NCCL_CONNECTS, snti_nccl_device(device), traffic_class);
	int status;

	*made = NULL;
	if (!comm)
		return no_memory(snti_nccl_device(device)->name);
	drop_forgotten(context);
	comm->streams = snti_nccl_streams(context, 0);
	status = begin_connecting(comm, handle);
	if (status) {
		status = snti_nccl_failed(comm, status);
		snti_nccl_free(comm);
		return status;
	}
	snti_nccl_join(context, comm);
	*made = comm;
	return NCCL_SUCCESS;
}

int snti_nccl_connect(struct snti_nccl_context *context, int device, int traffic_class, void *from, void **send_comm)
{
	struct snti_nccl_comm *comm;
	struct handle handle;
	int status;

	*send_comm = NULL;
	if (!snti_nccl_device(device))
		return no_device(device);
	memcpy(&handle, from, sizeof handle);
	comm = memcmp(handle.magic, magic, sizeof magic) ? NULL : snti_nccl_find(context, handle.ident);
	if (!comm) {
		status = connect_anew(context, device, traffic_class, &handle, &comm);
		if (status)
			return status;
	}
	status = go_on_connecting(comm);
	if (status == SNT_BUSY)
		return NCCL_SUCCESS;
	if (status) {
		status = snti_nccl_failed(comm, status);
		snti_nccl_close(comm);
		return status;
	}
	snti_nccl_leave(comm);
	comm->kind = SNTI_NCCL_SENDS;
	snti_nccl_join(context, comm);
	snti_nccl_tend(comm);
	*send_comm = comm;
	return NCCL_SUCCESS;
}

/* ---- accept -------------------------------------------------------------- */

/* 0: the peer has said who it is; SNT_BUSY; or what went wrong. */
static int go_on_accepting(struct snti_nccl_comm *listener)
{
	struct snti_xfer *xfer = &listener->greeting_xfer;
	int status = listener->conn ? 0 : snti_conn_open(listener->port, &listener->address, NULL, listener->ident, -1,
							 &listener->conn);

	if (!status)
		status = snti_nccl_poll(listener);
	if (status || listener->conn->status)
		return status ? status : listener->conn->status;
	if (!xfer->data) {
		*xfer = (struct snti_xfer){ .data = &listener->greeting, .size = sizeof listener->greeting,
			.lane = GREETING_LANE, .status = SNT_BUSY };
		status = snti_recv(listener->conn, xfer);
		if (status == SNTI_AGAIN)
			xfer->data = NULL;
		if (status)
			return status == SNTI_AGAIN ? SNT_BUSY : status;
	}
	return xfer->status;
}

static int hand_over(struct snti_nccl_comm *listener, void **recv_comm)
{
	struct snti_nccl_comm *comm = comm_new(SNTI_NCCL_RECEIVES, listener->device, listener->traffic_class);

	if (!comm || snti_nccl_prepare(comm)) {
		if (comm)
			snti_nccl_free(comm);
		return no_memory(listener->device->name);
	}
	name_peer(comm, listener->greeting.host, sizeof listener->greeting.host, listener->greeting.pid);
	snti_nccl_compare_build(comm, listener->greeting.version, listener->greeting.build);
	comm->port = listener->port;
	comm->conn = listener->conn;
	listener->port = NULL;
	listener->conn = NULL;
	snti_nccl_join(listener->context, comm);
	snti_nccl_tend(comm);
	*recv_comm = comm;
	return NCCL_SUCCESS;
}

int snti_nccl_accept(void *listen_comm, void **recv_comm)
{
	struct snti_nccl_comm *listener = listen_comm;
	int status;

	*recv_comm = NULL;
	if (!listener->port)
		return snti_nccl_failed(listener, snti_fail(SNT_EINVAL, "a handle is for one connection"));
	status = go_on_accepting(listener);
	if (status == SNT_BUSY)
		return NCCL_SUCCESS;
	return status ? snti_nccl_failed(listener, status) : hand_over(listener, recv_comm);
}
