/* SPDX-License-Identifier: BSD-3-Clause */
/* tcp.h - what the files of the tcp transport share: port, conn, socket, frame.
 *
 * A conn is a few sockets. Socket 0 carries everything that has an order (small
 * messages, announcements, control); the pieces of announced messages go over
 * whichever socket takes the next one.
 */
#ifndef TRANSPORT_TCP_H
#define TRANSPORT_TCP_H

#include <ifaddrs.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/log.h"
#include "transport/handshake.h"
#include "transport/transport.h"

#define TCP_SOCKETS 16
#define TCP_INPUT (68 << 10)      /* what one recv may bring: 64 KiB with its header; folds read out of it, so it fits in L2 */
#define TCP_SPILL 4096            /* what may arrive there behind a piece that goes straight to its place */
#define TCP_MESSAGES 256          /* unmatched eager messages, and as many announced ones, per conn */
#define TCP_CHUNK 256             /* unmatched payloads lie in chains of these: no fragmentation */
#define TCP_CONTROL 1024          /* a power of two; more than CTS and REJECT can be outstanding */
#define TCP_BUCKETS 64
#define TCP_GUESTS 64
#define TCP_PARKED 1024
#define TCP_LINGERS 256
#define TCP_ADDRESSES 4
#define TCP_PLACE_BYTES 136      /* of an address; the rest is zero */
#define TCP_FIRST_LEAST 4096      /* fewer bytes are not worth sending along with the question for leave */
#define TCP_NARROW_EAGER 4096     /* of a port with one socket a peer */
#define TCP_MARKED (1u << 24)     /* in a socket's number: it carries a class that whoever accepts shall use, too */
#define TCP_PACKED 448            /* a larger message is not copied to leave with others */
#define TCP_PACK_MOST 8           /* NCCL has that many under way */
#define TCP_PACK (TCP_PACK_MOST * (sizeof(struct tcp_frame) + TCP_PACKED))
#define TCP_PACK_NS 3000          /* whoever sends again so soon has had no answer, which takes longer by any TCP */
#define TCP_NONE UINT32_MAX

enum tcp_type { TCP_GREET = 1, TCP_EAGER, TCP_RTS, TCP_CTS, TCP_DATA, TCP_MATCHED, TCP_REJECT, TCP_BYE };

/* On the wire as it is, little-endian. @messages and @bytes give back eager credit. An announcement has the first
 * @offset bytes of its message behind it, as eager ones: while they travel, the request for the rest comes back. */
struct tcp_frame {
	uint8_t type, zero;
	uint16_t messages;
	uint32_t bytes;
	uint64_t lane, fingerprint, size, number, offset;
	uint64_t unused[2];             /* up to a line of cache: system calls copy whole lines to whole lines faster */
};

enum tcp_kind { TCP_LISTENER, TCP_GUEST, TCP_SOCKET };
struct tcp_source { enum tcp_kind kind; };

/* A socket that has not proved the secret yet. */
struct tcp_guest {
	struct tcp_source source;
	int fd;
	int proving;                    /* our proof is sent, its answer is awaited */
	uint64_t since, deadline;
	size_t have;
	unsigned char bytes[SNTI_HELLO_BYTES];
	struct snti_handshake handshake;
};

struct tcp_parked { int fd; uint32_t number; uint64_t ident; };

enum tcp_phase { TCP_ABSENT, TCP_WAITING, TCP_DIALING, TCP_PROVING, TCP_READY, TCP_ENDED };

/* A message that came before its receive. */
struct tcp_entry {
	struct snti_link link;
	struct tcp_frame frame;
	struct snti_xfer *xfer;         /* claimed while it was still arriving */
	size_t arrived;
	uint32_t first, last;           /* its chain of chunks */
};

struct tcp_conn;

struct tcp_socket {
	struct tcp_source source;
	struct tcp_conn *conn;
	int fd;
	unsigned index;
	enum tcp_phase phase;
	int address;                    /* which of the peer's was tried last */
	int refused;                    /* how many of them failed in this round */
	int cause;                      /* errno of the last attempt that failed */
	uint32_t pause_ms;              /* before the next round; 0: none failed yet */
	uint64_t deadline, give_up;     /* of this attempt; of all rounds, once one has failed */
	struct snti_handshake handshake;
	uint32_t interest;              /* what epoll knows */

	char *in;                       /* bytes [in_at, in_end) are not parsed yet */
	size_t in_at, in_end;
	size_t left, at;                /* the payload being read: what is missing, where it goes on */
	struct snti_xfer *sink;         /* where to; both NULL: nowhere */
	struct tcp_entry *store;

	struct tcp_frame out;           /* the frame being written */
	size_t head_left, body_left;
	const char *body;
	struct snti_xfer *xfer;
	int mute, bye;                  /* nothing more can be written; the peer said BYE */
	int error;                      /* errno of the write that failed */
};

struct tcp_conn {
	struct snti_conn base;
	struct snti_link link, hot;     /* in the port's conns; in its hot ones while it has busy xfers */
	struct tcp_socket sockets[TCP_SOCKETS];
	unsigned socket_count;          /* 0: not known yet */
	unsigned ready, byes, begun;    /* begun: frames of which not all is out */
	int accepting, over;            /* over: the peer has hung up in good order */
	int is_marked;                  /* the peer has named a class, for both directions */
	uint8_t traffic_class;          /* ... which it is */
	int dying;                      /* a status: fail with it when the control frames are out */
	int refused;                    /* a status: for the announced send whose first bytes are still being written */
	uint64_t deadline;
	struct snti_address theirs;

	size_t waiting;                 /* busy xfers */
	struct snti_link queue;         /* sends for socket 0: eager ones and announcements */
	struct snti_link packed;        /* of the queue: those whose bytes are in the pack */
	struct snti_link announced, cleared, leaving;
	struct snti_link matched;       /* receives whose data is arriving */
	struct snti_link posted[TCP_BUCKETS], unmatched[TCP_BUCKETS], spare;
	uint64_t next_number;
	size_t credit_bytes, credit_messages;       /* what we may send eagerly */
	size_t most_bytes, most_messages;           /* ... at most */
	size_t announcing, streaming;               /* sent RTS without CTS; announced receives in progress */
	size_t owed_bytes, owed_messages;           /* credit to give back */
	size_t eager, piece;

	char *memory;                   /* inputs, chunks */
	char *chunks;
	uint32_t *next_chunk, free_chunk;
	uint32_t chunk_count, touched;  /* of those behind the first @touched none was ever used */
	struct tcp_entry *entries;
	struct tcp_frame *control;
	uint32_t control_head, control_tail;
	char pack[TCP_PACK];
	uint64_t streak;                /* the last one in which it sent a small message */
	uint32_t held, fresh;           /* how many are; no poll has been since the last one */
};

struct tcp_port {
	struct snti_port base;
	int epoll;
	struct tcp_source listener;
	int listen_fd;
	uint16_t number;                /* the TCP port, host order */
	uint64_t ticket;
	int local_only;
	uint32_t timeout_ms;
	unsigned sockets;               /* of each conn that connects */
	char device[32];                /* "": all */
	size_t eager;
	uint8_t traffic_class;
	int is_marked;                  /* the class was asked for with the port, and is not the settings' */
	int narrow;                     /* one socket a peer: beside another transport */
	unsigned char secret[SNTI_SECRET_BYTES];
	struct snti_link conns, hot;
	size_t conn_count, hot_count;
	unsigned turn, awake;           /* awake: looks at epoll since its owner last slept */
	int armed;
	uint64_t looked;                /* while there are no conns */
	size_t setting_up;              /* conns that are BUSY */
	uint64_t next_tick;
	size_t guest_count;
	int is_full;                    /* of young guests: the listener is not watched for now */
	struct snti_log_limit log;
	struct tcp_guest guests[TCP_GUESTS];
	struct tcp_parked parked[TCP_PARKED];
	size_t parked_count;
	int lingers[TCP_LINGERS];
	size_t linger_count;
};

static inline struct tcp_port *tcp_port_of(struct tcp_conn *conn)
{
	return (struct tcp_port *)conn->base.port;
}

/* tcp_address.c */
int tcp_address(struct snti_port *port, struct snti_address *mine);
int tcp_reaches(struct snti_port *port, const struct snti_address *theirs);
int tcp_address_count(const struct snti_address *address);
uint64_t tcp_address_ticket(const struct snti_address *address);
socklen_t tcp_address_at(const struct snti_address *address, int index, struct sockaddr_storage *at);
/* @want: an interface's name or a subnet; NULL: whatever is up and no loopback. */
int tcp_is_wanted(const struct ifaddrs *one, const char *want);
int tcp_is_chosen(const struct ifaddrs *one, const char *names);        /* by a list of those; "": whatever is up */
/* The network that @device is in, as "family, prefix, address", for comparison; zeros: none. */
void tcp_network(const char *device, unsigned char *net, size_t size);
/* The device with an address that is @want, a name or a subnet; 0 or -1. */
int tcp_device_named(const char *want, char *name, size_t size);
/* @to is reached at @from's addresses too, as far as there is room: a listener hears them all. */
void tcp_address_join(struct snti_address *to, const struct snti_address *from);
/* Without the last of several; -1: it is the only one. */
int tcp_address_shorten(struct snti_address *address);
void tcp_log_path(const struct tcp_conn *conn);         /* says whereto its sockets lead */

/* tcp_device.c */
int tcp_devices(struct snti_device *devices, int most);

/* tcp_connect.c */
int tcp_listen(struct tcp_port *port);
int tcp_connect(struct snti_conn *conn, const struct snti_address *theirs);
int tcp_accept(struct snti_conn *conn, const struct snti_address *mine);
int tcp_welcome(struct tcp_port *port);                 /* the listener is readable */
int tcp_guest_read(struct tcp_port *port, struct tcp_guest *guest);
int tcp_setup(struct tcp_socket *socket);               /* a socket being set up has an event */
void tcp_tick(struct tcp_port *port);                   /* deadlines */
void tcp_drop_guests(struct tcp_port *port);
int tcp_interest(struct tcp_socket *socket, uint32_t events);

/* tcp_conn.c */
int tcp_conn_prepare(struct tcp_conn *conn);            /* all sockets are there: memory, greeting */
void tcp_conn_init(struct tcp_conn *conn);
void tcp_fail(struct tcp_conn *conn, int status);
int tcp_nonsense(struct tcp_conn *conn, const char *what);
void tcp_peer_over(struct tcp_conn *conn);
void tcp_take(struct tcp_conn *conn, struct snti_xfer *xfer, struct snti_link *list);
void tcp_finish(struct tcp_conn *conn, struct snti_xfer *xfer, int status);
void tcp_finish_all(struct tcp_conn *conn, struct snti_link *list, int status);
void tcp_hang_up(struct snti_conn *conn);
void tcp_linger(struct tcp_port *port, int wait_ms);
void tcp_linger_no_more(struct tcp_port *port);

/* tcp_output.c */
int tcp_send(struct snti_conn *conn, struct snti_xfer *xfer);
int tcp_flush(struct snti_conn *conn);
int tcp_control(struct tcp_conn *conn, const struct tcp_frame *frame);
int tcp_output(struct tcp_socket *socket);              /* how many frames went out */
int tcp_kick(struct tcp_conn *conn);                    /* output on every socket */
int tcp_has_output(const struct tcp_conn *conn, const struct tcp_socket *socket);
/* The peer does not take what was announced: @xfer fails, as soon as no frame of it is cut off by that. */
void tcp_refused(struct tcp_conn *conn, struct snti_xfer *xfer, int status);

void tcp_give_credit(struct tcp_conn *conn, struct tcp_frame *frame);
struct tcp_frame tcp_frame_of(const struct snti_xfer *xfer);    /* an eager message's, or an announcement's */
void tcp_swap_out(struct tcp_frame *frame);

/* tcp_pack.c */
void tcp_send_soon(struct tcp_conn *conn, const struct snti_xfer *xfer);        /* at once, unless more may follow closely */
int tcp_still_holds(struct tcp_conn *conn);             /* asked by each poll: whether it leaves the conn alone */
int tcp_next_pack(struct tcp_socket *socket);           /* 1: the next ones of the queue, two at least, are the body */

/* tcp_input.c */
int tcp_recv(struct snti_conn *conn, struct snti_xfer *xfer);
int tcp_input(struct tcp_socket *socket);               /* how much came */

/* tcp_store.c: messages that came before their receive */
/* Of a message, what comes at once and needs room. */
static inline size_t tcp_unasked(const struct tcp_frame *frame)
{
	return frame->type == TCP_EAGER ? frame->size : frame->offset;
}
struct snti_link *tcp_bucket(struct snti_link *buckets, uint64_t lane);
struct tcp_entry *tcp_entry_new(struct tcp_conn *conn, const struct tcp_frame *frame);
struct tcp_entry *tcp_entry_find(struct tcp_conn *conn, uint64_t lane);
void tcp_entry_add(struct tcp_conn *conn, struct tcp_entry *entry, const char *bytes, size_t size);
void tcp_entry_land(struct tcp_conn *conn, struct tcp_entry *entry, struct snti_xfer *xfer);
void tcp_entry_free(struct tcp_conn *conn, struct tcp_entry *entry);
void tcp_entry_drop_unfinished(struct tcp_conn *conn);

#endif
