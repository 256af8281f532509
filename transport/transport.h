/* SPDX-License-Identifier: BSD-3-Clause */
/* transport.h - what everything above asks of a wire: the ops table, port, conn, xfer, memory.
 *
 * A port is a device that this process opened; a conn joins two ports; an xfer
 * is one message, owned by the caller. Messages match in order within one
 * (connection, lane), with no wildcards; a stalled lane never holds up another.
 * Nothing blocks, nothing calls back, and between connect and hang_up nothing
 * allocates. Things happen in poll, send and recv only.
 */
#ifndef TRANSPORT_TRANSPORT_H
#define TRANSPORT_TRANSPORT_H

#include "base/copy.h"
#include "base/list.h"
#include "include/sennit.h"

struct snti_transport;

/* Beside the statuses of sennit.h: not taken, or not now; ask again after progress. */
#define SNTI_AGAIN 2
#define SNTI_UNLENT 3                   /* borrow: receive it instead */

/* Memory that peers can map (snt_alloc): which file, and where in it. */
struct snti_memory {
	uint64_t id;            /* of the allocation, never used twice in this process */
	char *base;
	size_t size;
	int fd;                 /* a sealed memfd */
	/* Of a GPU, which the processor must not touch: only what a transport has pinned travels, and nothing is folded. */
	int is_gpu;
	int dmabuf;             /* with it: a descriptor, used while pin runs, that has base at offset; -1: the driver is asked */
	uint64_t offset;
};

/* How a message travels. The caller fills in the first part and leaves all of
 * it alone while status is SNT_BUSY. */
struct snti_xfer {
	void *data;                     /* what is sent; where a receive ends up */
	size_t size;                    /* bytes; both sides must name the same, but for at_most */
	uint64_t lane;
	uint64_t fingerprint;           /* of the call; the two sides must agree */
	/* recv with fold, in place, on a conn that folds_behind: the send before it on the conn, which has the same data.
	 * What it has not read yet when bytes arrive goes to @spare, as large, and is read there. For a send, spare
	 * says that this may happen. */
	struct snti_xfer *behind;
	void *spare;
	uint32_t unhurried;             /* send: others are under way beside it, so that its latency does not show */
	uint32_t polled;                /* send: its owner polls until it is done, and so it may wait for others to leave with */
	struct snti_memory *memory;     /* send: where data lies, if it can be mapped; both: if a GPU's; else NULL */
	/* recv: how arriving bytes meet the buffer. NULL copies them. Otherwise, piece
	 * by piece while they arrive, data[i] = operand[i] fold arriving[i], or with
	 * arriving_left arriving[i] fold operand[i]. operand may equal data. */
	void (*fold)(void *dst, const void *left, const void *right, size_t count);
	const void *operand;
	uint32_t width;                 /* bytes of one element, a power of two up to 8 */
	uint32_t arriving_left;
	uint32_t around;                /* recv: without fold, written around the caches */
	uint32_t at_most;               /* recv: a shorter message is welcome; size becomes the message's */
	/* send: whoever borrows this message may write as many bytes there, until it gives the message back: the answer, which
	 * both sides know by a number. room: NULL, it may not. */
	void *room;
	struct snti_memory *room_memory;
	uint32_t answer;
	uint32_t answered;              /* send, when done: the answer is in the room */
	/* borrow: where the message lies, and in room the sender's for the answer of that number, or NULL. */
	const char *lent;

	int status;                     /* SNT_BUSY, 0, or why it failed */

	struct snti_link link;          /* from here on the transport's, while it is busy */
	size_t moved, acked;
	uint64_t number;
	void *private;
};

#define SNTI_ADDRESS_BYTES 192
/* How to reach a port, with a ticket for one listener on it. Passed to peers as it is. */
struct snti_address { unsigned char bytes[SNTI_ADDRESS_BYTES]; };

struct snti_port_options {
	const unsigned char *secret;    /* 32 bytes that all members of the job share */
	int local_only;                 /* loopback suffices: all ranks are on this host */
	uint32_t timeout_ms;            /* for how long the team waits while nothing moves; 0: the system's own limits */
	const char *device;             /* the address is of this device alone; NULL: of all that may be used */
	const char *interface;          /* for what is said over tcp beside the wire: this one alone; NULL: as tcp chooses */
	const uint8_t *traffic_class;   /* of what leaves: the IP header's byte, or InfiniBand's service level; NULL: as the
					 * settings say */
	int beyond_tcp;                 /* reach only the peers for which it has something faster than tcp */
	size_t eager;                   /* bytes in unmatched messages that a conn may hold; 0: as the settings say */
	unsigned streams;               /* sockets or queue pairs for large messages of each conn, at most; 0: as the settings say */
	int own_interface;              /* what is said over tcp beside the wire goes over the device's own interface, where it is one */
};

/* A device that ports can be opened on. */
struct snti_device {
	char name[32];                  /* tells it from this transport's others */
	char interface[32];             /* the network interface that it is; "": none */
	char path[256];                 /* the directory of its hardware below /sys; "": none that is known */
	uint64_t guid;                  /* of its hardware, 0: not known */
	int number;                     /* which port of its hardware, from 1 on */
	int speed_mbps;                 /* 0: not known */
	int is_loopback;                /* reaches this host only */
	int is_last_resort;             /* not to be taken unless somebody asks for it */
	int kind;                       /* of its network: only devices of one kind reach each other; a higher one is preferred */
};

struct snti_port {
	const struct snti_transport *ops;
	int wake_fd;                    /* readable when poll may have something to do after arm; -1: none */
	int hasty;                      /* set by the owner: close shall not wait until the peers have what was sent */
};

struct snti_conn {
	const struct snti_transport *ops;
	struct snti_port *port;
	/* Set before connect or accept, alike on both sides; names the pair. */
	uint64_t ident;
	int peer;                       /* its rank, for messages; -1 unknown */
	int status;                     /* SNT_BUSY: being set up; 0: up; else why it failed, for ever */
};

struct snti_transport {
	const char *name;
	int within_host;                /* reaches ranks of the same host only */
	size_t slice;                   /* bytes of a message from which longer ones move no faster: pipelines cut to it */
	size_t lends;                   /* longer messages may be lent: see borrow */
	int folds_behind;               /* moved says how much of a send it has read, and data may change for the rest */
	size_t port_size, conn_size;    /* the framework allocates (zeroed, 128-byte aligned), the transport fills in */

	/* Whether what it loads at run time is there: 0 and which version in @text, or SNT_EUNSUPPORTED and what is
	 * missing. Unset: it loads nothing. */
	int  (*library)(char *text, size_t size);
	/* Whether the automatic order takes it between hosts: 0 and with what in @text, or SNT_EUNSUPPORTED and why not.
	 * Loads nothing where there is no hardware for it. Unset: where it reaches, it is taken. */
	int  (*offers)(char *text, size_t size);
	/* What may be used here, the preferred ones first: how many were written, at most @most, or a failure. Unset:
	 * one device without a name. */
	int  (*devices)(struct snti_device *devices, int most);
	/* close accepts a port whose open failed, hang_up a conn that never came up. */
	int  (*open)(struct snti_port *port, const struct snti_port_options *options);
	void (*close)(struct snti_port *port);
	/* Moves what can be moved on every conn. How much happened: 0 nothing, positive
	 * something. Failures of conns are in the conn and its xfers; negative: the port failed. */
	int  (*poll)(struct snti_port *port);
	/* Before sleeping: from now on whatever gives poll work makes wake_fd readable.
	 * SNTI_AGAIN: there is work now, do not sleep. Ends at the next poll. */
	int  (*arm)(struct snti_port *port);

	/* Where this port can be reached. */
	int  (*address)(struct snti_port *port, struct snti_address *mine);
	/* Whether a peer that answers to @theirs can be reached by this transport: 0 or SNT_EUNSUPPORTED.
	 * @theirs comes from outside and is checked. */
	int  (*reaches)(struct snti_port *port, const struct snti_address *theirs);
	/* Begin; conn->status turns from SNT_BUSY to 0 or a failure in later polls. One side
	 * connects, the other accepts the same ident; the order in which they begin is free. */
	int  (*connect)(struct snti_conn *conn, const struct snti_address *theirs);
	int  (*accept)(struct snti_conn *conn, const struct snti_address *mine);
	/* Fails every pending xfer with SNT_ECANCELED and tells the peer. What send has
	 * completed before is still delivered. */
	void (*hang_up)(struct snti_conn *conn);

	/* Whether pin takes memory of GPUs on this port, tried out: 0, or SNT_EUNSUPPORTED and why in @text. Unset: no. */
	int  (*gpus)(struct snti_port *port, char *text, size_t size);
	/* Let the device know memory before it is used, by one thread at a time; unset: nothing to do. Memory is unpinned
	 * before it is freed, when no message uses it. */
	int  (*pin)(struct snti_port *port, struct snti_memory *memory);
	void (*unpin)(struct snti_port *port, struct snti_memory *memory);

	/* What receives have put into a GPU's pinned memory at @xfer->data the GPU sees once xfer->status is 0. 0: begun,
	 * or a failure. Unset: no memory of GPUs. */
	int  (*settle)(struct snti_port *port, struct snti_xfer *xfer);

	/* 0: taken, watch xfer->status (which may be done already); SNTI_AGAIN: not taken, offer
	 * it again after poll; negative: the conn failed. A send's status is 0 when its data may
	 * be changed, a recv's when its data is in place. A message whose size (with
	 * at_most: a larger one) or fingerprint is not the receive's fails both with SNT_EMISMATCH. Allowed as soon as connect or
	 * accept has been called (SNTI_AGAIN until it is up). */
	int  (*send)(struct snti_conn *conn, struct snti_xfer *xfer);
	int  (*recv)(struct snti_conn *conn, struct snti_xfer *xfer);
	/* Instead of recv: the message that would be received next stays where its sender has it, in memory of snt_alloc, until it is given
	 * back. 0: lent, its status is 0 until the conn fails; SNTI_AGAIN: it has not come yet; SNTI_UNLENT: this one is
	 * to be received; negative: the conn failed. write and give_back are set with it. */
	int  (*borrow)(struct snti_conn *conn, struct snti_xfer *xfer);
	/* Around writes into rooms of this peer's, which take no longer than a slice needs: @begins, then 0. 0, or the conn
	 * failed. What is streamed in between is ordered before give_back. */
	int  (*write)(struct snti_conn *conn, int begins);
	/* The sender may have it back; @answered: all of its room is written. 0, or what was read may have been something
	 * else, as the sender had given up. */
	int  (*give_back)(struct snti_conn *conn, struct snti_xfer *xfer, int answered);
	/* 0 when all that send completed has left this process or the peer has it; SNT_BUSY. */
	int  (*flush)(struct snti_conn *conn);
};

/* All transports there are, in the order of their names' table; NULL ends it. */
extern const struct snti_transport *const snti_transports[];
extern const struct snti_transport snti_shm_transport, snti_verbs_transport, snti_ucx_transport, snti_tcp_transport;
/* Several ports as one: RDMA ports of verbs, interfaces of tcp. */
extern const struct snti_transport snti_rails_verbs_transport, snti_rails_transport;
/* What @rails is made of; NULL: it is no rails. */
const struct snti_transport *snti_rails_under(const struct snti_transport *rails);
/* Whether several devices are to be used at once without anybody naming @rails. */
int snti_rails_wanted(const struct snti_transport *rails, int local_only);
/* An address of the rails transport, without the last of those that it lists: 0, or -1: it lists one alone. */
int snti_rails_shorten(struct snti_address *address);
/* What an address of @rails consists of, where there is no room for all of it: the address of one port, and which that is. */
unsigned snti_rails_unwrap(const struct snti_address *address, struct snti_address *lead);
void snti_rails_wrap(const struct snti_transport *rails, unsigned index, const struct snti_address *lead, struct snti_address *address);
const struct snti_transport *snti_transport_find(const char *name);   /* NULL: no such */

#define SNTI_TRANSPORTS_MOST 8
/* Indices in snti_transports, the preferred one first. */
/* @rails_unasked: bits for those rails that nobody named. */
struct snti_order { int is_automatic; uint32_t rails_unasked, count, index[SNTI_TRANSPORTS_MOST]; };
/* From a list as SNT_TRANSPORTS has it; "auto" stands for all, of which those are left out that offer nothing. */
int snti_order_read(const char *list, struct snti_order *order) SNT_CHECK_RESULT;
/* Whether this host has an RDMA device; a look at a folder, which tests may change. */
int snti_has_rdma(void);
extern const char *snti_rdma_folder;

/* Allocating wrappers: make, open; NULL or a failure leaves nothing behind. */
int  snti_port_open(const struct snti_transport *transport, const struct snti_port_options *options,
		    struct snti_port **port) SNT_CHECK_RESULT;
void snti_port_close(struct snti_port *port);            /* NULL is allowed */
/* A conn being set up; @theirs NULL accepts on @mine, else connects to @theirs. */
int  snti_conn_open(struct snti_port *port, const struct snti_address *mine, const struct snti_address *theirs,
		    uint64_t ident, int peer, struct snti_conn **conn) SNT_CHECK_RESULT;
void snti_conn_close(struct snti_conn *conn);            /* NULL is allowed */

/* For transports: whether a message of @size bytes fits @recv, which from now on has that size. */
static inline int snti_fits(struct snti_xfer *recv, uint64_t size)
{
	if (recv->size == size)
		return 1;
	if (!recv->at_most || size > recv->size)
		return 0;
	recv->size = size;
	return 1;
}

static inline int snti_send(struct snti_conn *conn, struct snti_xfer *xfer)
{
	return conn->ops->send(conn, xfer);
}

static inline int snti_recv(struct snti_conn *conn, struct snti_xfer *xfer)
{
	return conn->ops->recv(conn, xfer);
}

/* For transports: @recv is about to write the first @end bytes of what its send before may still have to read. */
static inline void snti_make_way(const struct snti_xfer *recv, size_t end)
{
	struct snti_xfer *send = recv->behind;

	if (send->status != SNT_BUSY || send->moved >= end || send->data == recv->spare)
		return;
	__builtin_memcpy((char *)recv->spare + send->moved, (char *)send->data + send->moved, send->size - send->moved);
	send->data = recv->spare;
}

/* A piece of a message has arrived: bytes [offset, offset + size) are at @bytes, all whole elements. */
static inline void snti_land(const struct snti_xfer *xfer, size_t offset, const void *bytes, size_t size)
{
	char *dst = (char *)xfer->data + offset;
	const char *operand = xfer->fold ? (const char *)xfer->operand + offset : NULL;

	if (xfer->fold && xfer->behind)
		snti_make_way(xfer, offset + size);
	if (!xfer->fold && xfer->around)
		snti_copy_around(dst, bytes, size);
	else if (!xfer->fold)
		__builtin_memcpy(dst, bytes, size);
	else if (xfer->arriving_left)
		xfer->fold(dst, bytes, operand, size / xfer->width);
	else
		xfer->fold(dst, operand, bytes, size / xfer->width);
}

#endif
