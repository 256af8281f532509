/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx.h - what the files of the ucx transport share: the library's functions, port, conn, wire, head.
 *
 * A conn is a control connection (the tcp transport's, authenticated) and a UCX
 * endpoint. Over the first the sides tell each other their worker's address and
 * a random token; every active message carries the receiver's token. What UCX
 * may still touch after a conn has hung up lies in its wire, which the port keeps
 * until UCX is done with it.
 */
#ifndef TRANSPORT_UCX_H
#define TRANSPORT_UCX_H

#include <ucp/api/ucp.h>

#include "transport/transport.h"

#define UCX_MESSAGES 256          /* unmatched charged messages, and as many announced ones, per conn */
#define UCX_SLOTS (4 * UCX_MESSAGES + 64)       /* every send in flight, and every answer to one of the peer's */
#define UCX_SMALL 160             /* bytes of a message that are copied behind their head */
#define UCX_PACKED 8000           /* bytes of a message that UCX copies behind its head, into one of its buffers */
#define UCX_PACK_MOST 8           /* small messages in one active message */
#define UCX_PACK_SMALL 1024       /* bytes of a message that may wait for others to leave with */
#define UCX_PACKS 8               /* on their way; while all are, messages leave one by one */
#define UCX_STREAK_POLLS 64       /* who polled as often without sending was at something else */
#define UCX_CHUNK 256
#define UCX_BUCKETS 64
#define UCX_NONE UINT32_MAX
#define UCX_AM_ID 0
#define UCX_NAME "sntiucx"        /* of an address */

/* The functions used of libucp, by their names without ucp_. */
#define UCX_FUNCTIONS(X) \
	X(am_data_release) X(am_recv_data_nbx) X(am_send_nbx) X(cleanup) X(config_modify) X(config_read) \
	X(config_release) X(context_print_info) X(dt_create_generic) X(dt_destroy) X(ep_close_nbx) X(ep_create) X(ep_flush_nbx) \
	X(get_version) X(get_version_string) X(init_version) X(request_check_status) X(request_free) X(worker_arm) X(worker_create) X(worker_destroy) \
	X(worker_get_address) X(worker_get_efd) X(worker_progress) X(worker_release_address) \
	X(worker_set_am_recv_handler)

struct ucx_functions {
#define UCX_POINTER(name) __typeof__(ucp_##name) *name;
	UCX_FUNCTIONS(UCX_POINTER)
#undef UCX_POINTER
	__typeof__(ucs_status_string) *status_string;
};
extern struct ucx_functions ucx;

enum ucx_type { UCX_GREET = 1, UCX_CHARGED, UCX_ANNOUNCED, UCX_BYE, UCX_MATCHED, UCX_REJECT, UCX_PACK };

/* Goes with every active message: as its header, or in front of data that is short. Not of messages: greet and matched carry bytes and messages of credit
 * in lane and fingerprint, bye whether sends were abandoned, reject the size that was expected. A pack's are its first
 * message's, and behind it are parts. */
struct ucx_head {
	uint64_t token, lane, fingerprint;
	uint32_t number, type;
};

/* A charged message in a pack: this, where it has others its lane and fingerprint, its bytes, and as many more as the next
 * part needs to begin where one may. The first that do not say it have the pack's. */
struct ucx_part { uint32_t size, has_others; };
struct ucx_others { uint64_t lane, fingerprint; };

static inline size_t ucx_part_room(size_t size)
{
	return (size + sizeof(uint64_t) - 1) & ~(sizeof(uint64_t) - 1);
}

struct ucx_pack {
	struct ucx_head head;
	char parts[UCX_PACKED];
};

/* What UCX reads until the request of a send is done: the head, and then how the data follows it. */
struct ucx_slot {
	struct ucx_head head;
	union { char small[UCX_SMALL]; ucp_dt_iov_t parts[2]; };
};

/* Over the control connection, before the worker's address. */
struct ucx_hello { uint64_t magic, token; uint32_t version, address_size; };

/* UCX's transports over fabrics that a context uses. */
struct ucx_fabric {
	uint64_t kinds;                 /* a bit for each by its name's hash: peers that have none in common talk by tcp */
	char names[120];
};

/* A context is told the class of what leaves before it opens devices, and keeps it. */
struct ucx_worker {
	ucp_context_h context;
	ucp_worker_h handle;
	ucp_address_t *address;
	size_t address_size;
	ucp_datatype_t folding;
	int class;                      /* negative: as UCX's own settings say */
	int fd;                         /* readable when it may have something to do */
};

struct ucx_port {
	struct snti_port base;
	uint64_t kinds;                 /* only peers that share one are reached; 0: all are */
	struct snti_port *control;
	struct ucx_worker worker;
	int is_marked;                  /* its class was asked for with the port, and is not what a peer named */
	int local_only;
	char device[32];                /* "": as UCX chooses */
	int epoll, timer, armed;
	int has_heard;                  /* a message since the last poll */
	int cancelling;                 /* a conn hangs up and waits for UCX to let go of its memory */
	int half_open;                  /* a conn ended while UCX was connecting it */
	unsigned turn;
	size_t setting_up;              /* conns that are BUSY */
	size_t ailing;                  /* conns that have something to be seen to after progress */
	size_t holding;                 /* conns in holders */
	struct snti_link conns, lingers;
	struct snti_link holders;       /* conns with a pack that has not left */
	struct ucx_wire **tokens;       /* by the low 16 bits of the token */
	size_t token_count;
};

/* A message that came before its receive: its bytes in a chain of chunks, or UCX's descriptor of it. */
struct ucx_entry {
	struct snti_link link;
	struct ucx_head head;
	size_t size;
	void *descriptor;               /* of a rendezvous; NULL: the bytes are here */
	int lost;                       /* the sender has gone before the descriptor was used */
	uint32_t first;
};

struct ucx_wire {
	struct snti_link link;          /* in the port's lingers */
	struct ucx_port *port;
	struct ucx_conn *conn;          /* NULL: has hung up */
	struct snti_conn *control;      /* the conn's, after it has hung up */
	uint64_t token;                 /* what comes for it carries this */
	int left;                       /* the peer has hung up too */
	ucp_ep_h ep;
	int closing;
	void *closed;                   /* the request of the close; NULL: it is done */
	int flushing, unflushed;
	ucs_status_t broken;            /* what the endpoint's error handler was told */
	size_t outstanding;             /* requests that UCX will call back for */
	uint32_t free_count;
	uint16_t free[UCX_SLOTS];
	struct ucx_slot slots[UCX_SLOTS];
	unsigned idle_count;
	struct ucx_pack *idle[UCX_PACKS];
	struct ucx_pack packs[UCX_PACKS];
};

/* In UCX's request, where it leaves room for us. */
struct ucx_request {
	struct ucx_wire *wire;
	struct snti_xfer *xfer;         /* NULL: nobody waits for it */
	struct ucx_slot *slot;
	struct ucx_pack *pack;          /* instead of a slot: xfer is the first of several that follow each other in the conn's sending */
	int verdict;                    /* what the peer has said of it before UCX was done */
};

enum ucx_phase { UCX_CALLING, UCX_HELLO, UCX_ADDRESS, UCX_GREETING, UCX_UP };

struct ucx_conn {
	struct snti_conn base;
	struct snti_link link;
	struct snti_conn *control;
	struct ucx_wire *wire;
	enum ucx_phase phase;
	int greeted;
	int over;                       /* the peer has hung up */
	int abandoned;                  /* ... in the middle of sends */
	int dying;                      /* a status: fail with it when what was said has left */
	uint64_t deadline;              /* of the set-up */
	uint64_t bye_until;             /* the control connection has ended, and the word over UCX is awaited; 0: it has not */
	uint64_t grace;                 /* what is on its way may still arrive until then; 0: no end in sight */
	uint64_t peer_token;
	struct ucx_hello mine, theirs;
	struct snti_xfer said[2], heard;
	void *peer_address;

	size_t waiting;                 /* busy xfers */
	struct snti_link sending, receiving;    /* xfers with a request in UCX */
	struct snti_link posted[UCX_BUCKETS], unmatched[UCX_BUCKETS], spare;
	struct snti_link early;         /* came before an earlier number */
	size_t kept;                    /* messages in unmatched and early */
	uint32_t next_number, expected;
	size_t credit_bytes, credit_messages, most_bytes, most_messages;
	unsigned refused;               /* sends not taken since credit came last */
	size_t announcing;
	size_t owed_bytes, owed_messages;
	size_t eager;
	struct ucx_pack *pack;          /* being filled; NULL: none is */
	uint32_t streak_end, answers;   /* a send belongs to the same streak before so many polls and with as many answers heard */
	size_t pack_used;
	uint32_t pack_count, is_fresh;  /* is_fresh: no poll has been since its last message */
	struct ucx_others pack_others;  /* its last message's */
	struct snti_link holder, held;

	char *memory;                   /* entries, chunks */
	struct ucx_entry *entries;
	char *chunks;
	uint32_t *next_chunk, free_chunk;
};

static inline struct ucx_port *ucx_port_of(const struct ucx_conn *conn)
{
	return (struct ucx_port *)conn->base.port;
}

static inline void ucx_take(struct ucx_conn *conn, struct snti_xfer *xfer, struct snti_link *list)
{
	xfer->status = SNT_BUSY;
	xfer->moved = xfer->acked = 0;
	snti_list_append(list, &xfer->link);
	conn->waiting++;
}

static inline void ucx_finish(struct ucx_conn *conn, struct snti_xfer *xfer, int status)
{
	snti_list_remove(&xfer->link);
	xfer->status = status;
	conn->waiting--;
}

static inline struct snti_link *ucx_bucket(struct snti_link *buckets, uint64_t lane)
{
	return &buckets[lane * UINT64_C(0x9E3779B97F4A7C15) >> 58];
}

/* ucx_device.c */
int ucx_devices(struct snti_device *devices, int most);

/* ucx_library.c */
int ucx_library(char *text, size_t size);
int ucx_load(void);
/* Why there is none is in @text. */
int ucx_context(const struct snti_port_options *options, ucp_context_h *context, char *text, size_t size);

/* ucx_worker.c */
int ucx_worker_open(struct ucx_port *port, int class);
void ucx_worker_close(struct ucx_port *port, struct ucx_worker *worker);
/* @conn is accepted and its peer known: what leaves here gets the class that the peer has named for both sides. */
int ucx_take_class(struct ucx_conn *conn);

/* ucx_offers.c */
int ucx_offers(char *text, size_t size);
void ucx_fabric_of(ucp_context_h context, struct ucx_fabric *fabric);
void ucx_read_fabric(char *listing, struct ucx_fabric *fabric);     /* cuts @listing up */

/* ucx_connect.c */
int ucx_connect(struct snti_conn *conn, const struct snti_address *theirs);
int ucx_accept(struct snti_conn *conn, const struct snti_address *mine);
int ucx_set_up(struct ucx_conn *conn);                  /* as far as it goes; how much happened */
void ucx_is_up(struct ucx_conn *conn);
void ucx_control_address(const struct snti_address *address, struct snti_address *control);

/* ucx_conn.c */
int ucx_conn_init(struct ucx_conn *conn);
void ucx_fail(struct ucx_conn *conn, int status);
int ucx_nonsense(struct ucx_conn *conn, const char *what);
int ucx_look_after(struct ucx_conn *conn, int idle);    /* outside of progress; whether again at the next poll */
void ucx_hang_up(struct snti_conn *conn);
void ucx_linger(struct ucx_port *port, int wait_ms);
void ucx_give_up_lingers(struct ucx_port *port);
void ucx_free_lingers(struct ucx_port *port);
int ucx_wire_open(struct ucx_conn *conn);

/* ucx_send.c */
int ucx_send(struct snti_conn *conn, struct snti_xfer *xfer);
int ucx_flush(struct snti_conn *conn);
int ucx_say(struct ucx_conn *conn, enum ucx_type type, uint32_t number, uint64_t a, uint64_t b);
void ucx_start_flush(struct ucx_wire *wire);
/* What a request of @conn that ended with @status means for its xfer. */
int ucx_verdict(struct ucx_conn *conn, const struct ucx_request *request, ucs_status_t status);

/* Polls of this thread's that brought messages, on whatever conn: NCCL has one for each direction. */
extern __thread uint32_t ucx_answers;

static inline void ucx_stay_in_streak(struct ucx_conn *conn)
{
	conn->streak_end = ucx_port_of(conn)->turn + UCX_STREAK_POLLS;
}

/* Whether this send follows one that cannot have been answered, and closely. */
static inline int ucx_is_streaming(struct ucx_conn *conn)
{
	uint32_t left = conn->streak_end - ucx_port_of(conn)->turn, answers = ucx_answers;
	int is_unanswered = conn->answers == answers;

	ucx_stay_in_streak(conn);
	conn->answers = answers;
	return is_unanswered && left - 1 < UCX_STREAK_POLLS;
}

/* A call takes longer than the few words that most small messages are. */
static inline void ucx_copy_small(char *to, const void *from, size_t size)
{
	if (size == sizeof(uint64_t))
		__builtin_memcpy(to, from, sizeof(uint64_t));
	else if (size)
		__builtin_memcpy(to, from, size);
}

/* ucx_pack.c */
int ucx_hold(struct ucx_conn *conn, struct snti_xfer *xfer);   /* 0: it is to leave alone. There is credit for it */
void ucx_ship(struct ucx_conn *conn);                   /* its pack leaves, if it can */
void ucx_drop_pack(struct ucx_conn *conn, int status);
int ucx_ship_all(struct ucx_port *port, int hurries);   /* those that nothing was added to; how many there were */

/* ucx_recv.c */
int ucx_recv(struct snti_conn *conn, struct snti_xfer *xfer);
ucs_status_t ucx_arrived(void *port, const void *header, size_t header_size, void *data, size_t size,
			 const ucp_am_recv_param_t *param);

/* ucx_early.c */
int ucx_early_memory(struct ucx_conn *conn);
struct ucx_entry *ucx_entry_new(struct ucx_conn *conn, const struct ucx_head *head, void *data, size_t size, int is_descriptor);
struct ucx_entry *ucx_entry_find(struct ucx_conn *conn, uint64_t lane);
void ucx_entry_land(struct ucx_conn *conn, const struct ucx_entry *entry, struct snti_xfer *xfer);
void ucx_entry_free(struct ucx_conn *conn, struct ucx_entry *entry);
void ucx_entry_drop_descriptors(struct ucx_conn *conn);

/* ucx_fold.c */
extern const ucp_generic_dt_ops_t ucx_fold_ops;

#endif
