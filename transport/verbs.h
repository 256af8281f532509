/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs.h - what the files of the verbs transport share: port, link, conn, frame.
 *
 * A conn is one queue pair for frames (small messages, announcements) and requests for data, and
 * a few for data. Large messages are driven by the receiver: it clears the sender to send a piece by
 * writing an address into one of the slots that it has in the sender's memory, with an immediate that names
 * the slot; the sender writes the piece there and ends with the same immediate.
 * Nothing is ever concluded from what has appeared in memory before the completion that says so.
 * A narrow tcp conn beside it proves the job's secret, carries the queue pairs' numbers and
 * tells when the peer is gone.
 */
#ifndef TRANSPORT_VERBS_H
#define TRANSPORT_VERBS_H

#include <endian.h>
#include <infiniband/verbs.h>

#include "transport/transport.h"

#define VERBS_QPS 8               /* data queue pairs of a conn, at most */
#define VERBS_RNR_RETRIES 6       /* 7 would mean for ever; credit keeps it from happening at all */
#define VERBS_COOKIE 16
#define VERBS_PKEYS 8             /* partitions that a port tells its peers */
#define VERBS_SLOTS 64            /* requests for data that one side may have open: bits of a frame's masks */
#define VERBS_SLOT_BYTES 128      /* of each in the other side's memory */
#define VERBS_GENERATIONS 0xffffff      /* of a slot, in the immediate above its number */
/* A slot may be asked for again before the device has said that what was written for it has arrived. */
#define VERBS_JOBS (VERBS_SLOTS + VERBS_QPS * VERBS_DATA_SENDS)
#define VERBS_EARLY 48            /* ... of them for messages that the sender has not announced */
#define VERBS_DEPTH 4             /* ... of them for one message that lands in blocks */
#define VERBS_WINDOW 24           /* frames sent and not looked at; the shared receive queue has a buffer for each */
#define VERBS_RESERVE 2           /* ... of them only for giving credit back */
#define VERBS_SLAB (VERBS_WINDOW + 1)   /* receive buffers for each conn: one beyond its credit may wait to be posted again */
#define VERBS_SLAB_NUMBERS 32     /* that a slab takes, a power of two: the buffers' numbers are taken apart for each frame */
#define VERBS_SMALL 256           /* bytes of a small cell for a message that came before its receive */
#define VERBS_SMALLS 256
#define VERBS_BIGS 8
#define VERBS_ANNOUNCED 256
#define VERBS_CONTROL 512         /* a power of two; more than REQUEST, REJECT and REFUSE can be outstanding */
#define VERBS_BUCKETS 64
#define VERBS_FRAME_SENDS (2 * VERBS_WINDOW)
#define VERBS_DATA_SENDS 16       /* per data queue pair */
#define VERBS_BLOCKS 32           /* registered blocks in each direction, at most */
#define VERBS_WORKS 2048          /* work requests posted on all queue pairs of a port */
#define VERBS_BATCH 32
#define VERBS_NONE UINT64_MAX
#define VERBS_RECEIVED (UINT64_C(1) << 63)      /* in a wr_id: a receive buffer's number, or VERBS_NONE for an immediate */

/* Of functions that every small message goes through, and of what only few do: the one costs the other nothing. */
#define VERBS_ALWAYS static inline __attribute__((always_inline))
#define VERBS_INLINE inline __attribute__((always_inline))      /* within its file, and a function for others */
#define VERBS_SELDOM static __attribute__((noinline))

/* ---- libibverbs, loaded when first used --------------------------------- */

/* The functions that are symbols; the others are reached through the context. */
#define VERBS_CALLS(X) \
	X(ibv_get_device_list) X(ibv_free_device_list) X(ibv_get_device_name) X(ibv_open_device) X(ibv_close_device) \
	X(ibv_query_device) X(ibv_query_port) X(_ibv_query_gid_table) X(ibv_get_async_event) X(ibv_ack_async_event) \
	X(ibv_alloc_pd) X(ibv_dealloc_pd) X(ibv_reg_mr) X(ibv_reg_mr_iova2) X(ibv_dereg_mr) \
	X(ibv_create_comp_channel) X(ibv_destroy_comp_channel) X(ibv_create_cq) X(ibv_resize_cq) X(ibv_destroy_cq) \
	X(ibv_get_cq_event) X(ibv_ack_cq_events) X(ibv_create_srq) X(ibv_destroy_srq) X(ibv_create_qp) X(ibv_modify_qp) \
	X(ibv_destroy_qp) X(ibv_wc_status_str) X(ibv_event_type_str) X(ibv_fork_init)

/* Those that an older libibverbs may lack: NULL then. */
#define VERBS_OPTIONAL_CALLS(X) \
	X(ibv_query_pkey) X(ibv_query_ece) X(ibv_set_ece) X(ibv_reg_dmabuf_mr)

struct verbs_calls {
#define VERBS_CALL(name) __typeof__(name) *name;
	VERBS_CALLS(VERBS_CALL)
	VERBS_OPTIONAL_CALLS(VERBS_CALL)
#undef VERBS_CALL
};
extern struct verbs_calls verbs_calls;

/* libibverbs has macros of these names. */
#undef ibv_get_device_list
#undef ibv_query_port
#undef ibv_reg_mr

/* 0, or SNT_EUNSUPPORTED with the reason in *@why. Any thread. */
int verbs_load(const char **why);

/* ---- the device --------------------------------------------------------- */

struct verbs_device {
	struct ibv_context *context;
	char name[32];
	uint8_t port;
	uint8_t gid_index;
	uint8_t inline_most;            /* asked for; what the device grants is in the link */
	uint8_t traffic_class, level;
	uint8_t is_marked;              /* they were asked for with the port, and are not the settings' */
	uint8_t unordered;              /* routes adapt: data and the immediate behind it travel apart */
	struct ibv_port_attr attr;
	struct ibv_device_attr limits;
	struct ibv_gid_entry gid;
	unsigned keys;                  /* P_Keys that may be used, and their places in the port's table */
	uint16_t key[VERBS_PKEYS], key_index[VERBS_PKEYS];
};

#define VERBS_GID_TEXT 64

/* Opens the best active port that the options or the settings allow. */
int verbs_device_open(struct verbs_device *device, const struct snti_port_options *options);
int verbs_devices(struct snti_device *devices, int most);
int verbs_offers(char *text, size_t size);
/* Reads state and GID again. 0, or SNT_EDEVICE when the port is not active or has no GID that may be used. */
int verbs_device_refresh(struct verbs_device *device);
void verbs_device_close(struct verbs_device *device);
uint32_t verbs_device_mbps(const struct verbs_device *device);
const char *verbs_gid_text(const union ibv_gid *gid, char text[VERBS_GID_TEXT]);
int verbs_gid_is_ipv4(const union ibv_gid *gid);

/* ---- what goes over the wire -------------------------------------------- */

enum verbs_type { VERBS_EAGER = 1, VERBS_ANNOUNCE, VERBS_REQUEST, VERBS_REJECT, VERBS_REFUSE, VERBS_BROKEN, VERBS_CREDIT };
enum { VERBS_FIRST = 1, VERBS_SHORT = 2 };      /* of a REQUEST: the message's first; of an EAGER: it ends before its size */

/* Little-endian. Every frame gives back credit and tells which of the receiver's slots the sender is writing for,
 * as of how many requests: their messages come before the frame's, although their data may come later. */
struct verbs_frame {
	uint8_t type, flags;
	uint16_t window, smalls, bigs;
	uint64_t lane, fingerprint, size, number, taken, requests;
};
#define VERBS_SHORT_BYTES offsetof(struct verbs_frame, size)

/* Follows a REQUEST, which is not sent as other frames are but written into a slot. */
struct verbs_request {
	uint64_t message;               /* the receiver's number for it */
	uint64_t address, offset, length;
	uint32_t key, immediate;
	uint32_t qp, parts;             /* the data queue pair of the first part; the next ones take the others */
};

/* Enhancements of a queue pair that devices agree on (ECE). vendor 0: none. */
struct verbs_ece { uint32_t vendor, options, mask; };

/* In a card's class or level: it is of this connection, and comes before what settings say. */
#define VERBS_MARKED 0x100

/* What each side tells the other before its queue pairs are connected, over the tcp conn. */
struct verbs_card {
	char magic[8];
	uint32_t qps, frame_qp, frame_psn, window, smalls, bigs, eager, mtu, lid, level, traffic, rate, cm_port;
	uint32_t slots_key, slots_low, slots_high;      /* of the slots that the other side writes requests into; their address */
	uint32_t qp[VERBS_QPS], psn[VERBS_QPS];
	uint32_t key[VERBS_PKEYS];      /* partitions, the preferred ones first; 0 ends them */
	struct verbs_ece ece[1 + VERBS_QPS];    /* frames, then data */
	unsigned char gid[16];
	unsigned char cookie[VERBS_COOKIE];     /* by which the accepting side knows requests through librdmacm */
};

enum verbs_word { VERBS_READY = 1, VERBS_BYE };
/* With READY the enhancements that the accepting side has settled on. */
struct verbs_note { uint64_t word, frames, pieces; struct verbs_ece ece[1 + VERBS_QPS]; uint32_t zero; };

/* How a conn's packets travel: what both cards come to. */
struct verbs_path {
	enum ibv_mtu mtu;
	uint16_t key_index;
	uint8_t level, traffic, rate;
};

/* ---- memory ------------------------------------------------------------- */

/* Registered memory of a message or of an allocation. */
struct verbs_region {
	struct snti_link link;
	uint64_t id;                    /* of the allocation; 0: of one message alone */
	char *base;
	size_t size;
	unsigned users;
	int remote;                     /* the peer may write */
	int pinned;                     /* by the owner of the memory, who unpins it before it goes */
	struct ibv_mr *mr;
};

/* Blocks of registered memory that data passes through. */
struct verbs_blocks {
	char *base;
	struct ibv_mr *mr;
	unsigned count, idle;
	unsigned char stack[VERBS_BLOCKS];
};

struct verbs_port;
struct verbs_conn;
struct verbs_link;
struct verbs_cm;
struct verbs_loop;
struct rdma_cm_id;

/* A posted work request. Its index and generation are the wr_id. */
struct verbs_work {
	struct verbs_link *link;
	uint32_t generation, next;
	uint16_t qp;                    /* 0: frames; else data queue pair qp - 1 */
	int16_t buffer;                 /* frame buffer or block to give back; -1: none */
	int16_t job;
	uint16_t last;                  /* it carries a part's immediate */
	uint64_t bytes;
};

/* ---- conns -------------------------------------------------------------- */

/* The queue pairs. They outlive their conn until the peer has all that was sent. */
struct verbs_link {
	struct snti_link link;          /* in the port's lingering ones */
	struct verbs_port *port;
	struct verbs_conn *conn;        /* NULL: lingering */
	struct ibv_qp *frames, *data[VERBS_QPS];
	unsigned qps;
	char *slots;                    /* what the peer writes its requests into, as long as its frames may come */
	struct ibv_mr *slots_mr;
	int slab;                       /* has buffers in the shared receive queue */
	unsigned inline_size;
	struct rdma_cm_id *ids[1 + VERBS_QPS];  /* where librdmacm connects them */
	uint32_t asked[1 + VERBS_QPS];  /* the peer's queue pair that a request named */
	unsigned connecting;            /* not connected yet */
	unsigned out[1 + VERBS_QPS];    /* posted and not completed */
	uint64_t done;                  /* when a lingering one ends at the latest */
};

/* The receiver's side of a piece: what was asked for. */
struct verbs_slot {
	struct snti_xfer *xfer;
	uint64_t offset, length, message;
	int block;                      /* -1: straight into place */
	int held;                       /* given up, but the sender may not have read its request yet */
	uint32_t generation;
	uint64_t made;                  /* the number of its request */
	uint32_t qp, parts, left;       /* left: immediates that are missing */
};

/* The sender's side of a piece. A part of it goes over one queue pair. */
struct verbs_job;
struct verbs_part { struct snti_link link; struct verbs_job *job; uint64_t at, end; };
struct verbs_job {
	struct snti_link link;          /* in the conn's waiting ones while it has no send, or in its idle ones */
	struct snti_xfer *xfer;
	struct verbs_request request;
	uint64_t lane, size, fingerprint, answers;
	uint64_t after;                 /* not written before the peer has so many frames */
	int first;
	unsigned posting, parts;        /* whose immediate is not posted; whose is not known to have arrived */
	struct verbs_part part[VERBS_QPS];
};

/* A message that came before its receive. */
struct verbs_entry {
	struct snti_link link;
	struct verbs_frame frame;
	char *bytes;                    /* NULL: only announced */
};

struct verbs_message { struct verbs_frame frame; struct verbs_request request; };

enum verbs_phase { VERBS_CALLING, VERBS_CARDS, VERBS_READYING, VERBS_UP };

struct verbs_conn {
	struct snti_conn base;
	struct snti_link link, pending; /* in the port's conns; in its pending ones while output waits */
	struct verbs_link *rails;
	enum verbs_phase phase;
	uint64_t deadline;

	struct snti_conn *side;
	struct verbs_card mine, theirs;
	struct verbs_note note, heard;
	struct verbs_path path;
	int calls;                      /* this side connects, the other accepts */
	int by_cm;                      /* the queue pairs are connected through librdmacm */
	int told_ready;
	int reduces;                    /* it connects its queue pairs when the other has settled on enhancements */
	struct snti_xfer side_send, side_recv;
	int side_lost;                  /* a status: the peer is gone, once all that it sent has been looked at */
	int bye, over;                  /* the peer said so; and all that it sent is here */
	int dying;                      /* a status: fail with it when the frames are out */

	size_t waiting;                 /* busy xfers */
	struct snti_link queue;         /* sends whose frame is not posted */
	struct snti_link announced, cleared;
	struct snti_link posted[VERBS_BUCKETS], unmatched[VERBS_BUCKETS];
	struct snti_link asking, matched;       /* receives that want slots; receives whose data comes */
	struct snti_link spare;
	struct snti_link parts[VERBS_QPS];      /* what each data queue pair has to write */
	struct snti_link jobs_waiting;
	unsigned turn;                  /* the data queue pair that the next piece uses */
	unsigned qps;
	size_t eager;

	unsigned window, smalls, bigs, announcing;      /* what we may send */
	unsigned owed_window, owed_smalls, owed_bigs;   /* credit to give back */
	uint64_t next_number, next_message, refused;
	uint64_t frames_sent, frames_acked, frames_seen, pieces_sent, pieces_seen;
	uint64_t taken, requests_seen, requests_told;   /* the peer's slots that are being written for, as of so many requests */
	uint64_t requests_made, requests_known;         /* known: the peer has read so many of them */
	unsigned slots_open, slots_held;                /* open: held ones, too */
	unsigned places[VERBS_QPS];     /* posted for an immediate that will not come */
	struct verbs_slot slots[VERBS_SLOTS];
	struct verbs_job *jobs;         /* VERBS_JOBS */
	struct verbs_job *latest[VERBS_SLOTS];  /* by slot of the peer's requests */
	uint32_t generation[VERBS_SLOTS];       /* of its latest request there */
	struct snti_link idle_jobs;

	char *memory;
	struct verbs_entry *entries;
	char *small_cells, *big_cells;
	char *idle_small[VERBS_SMALLS], *idle_big[VERBS_BIGS];
	unsigned idle_smalls, idle_bigs;
	struct verbs_message *control;
	uint32_t control_head, control_tail;
};

struct verbs_peer { uint32_t number; struct verbs_link *link; };   /* queue pair number to link */

struct verbs_slab { char *base; struct ibv_mr *mr; };

struct verbs_port {
	struct snti_port base;
	struct verbs_device device;
	unsigned qps;                   /* for data, of each conn */
	struct snti_port *side;
	struct verbs_loop *loop;        /* NULL: no memory of GPUs was met yet */
	struct verbs_cm *cm;            /* NULL: queue pairs are connected directly */
	int epoll, failed;
	int hurry;                      /* the next poll looks at everything */
	int drained;                    /* the last one left no completion behind */
	/* Frames have a domain of their own: with no key does their queue pair reach the caller's memory. */
	struct ibv_pd *pd, *frame_pd;
	struct ibv_comp_channel *channel;
	struct ibv_cq *cq;
	struct ibv_srq *srq;
	unsigned cq_size, room;         /* entries that neither works nor frames nor immediates asked for can fill */
	unsigned reserved;              /* entries for the frames of all peers */
	unsigned srq_most;

	size_t stride;                  /* of receive buffers and frame buffers */
	struct verbs_slab *slabs;       /* VERBS_SLAB receive buffers each, one slab for each conn */
	unsigned slab_count, idle_slabs;
	unsigned used_count;            /* receive buffers that are to be posted again */
	uint64_t used[VERBS_BATCH];

	struct verbs_blocks sending, landing;
	size_t block;
	char *frame_memory;
	struct ibv_mr *frame_mr;
	unsigned idle_frames;
	unsigned char frame_stack[64];

	struct snti_link regions, pins;
	unsigned region_count;
	uint64_t shared_changes;

	struct verbs_work *works;
	uint32_t idle_work;             /* VERBS_WORKS: none */

	struct verbs_peer *peers;       /* open addressing, a power of two */
	unsigned peer_space, peer_count;

	struct snti_link conns, pending, lingering;
	size_t setting_up;
	unsigned turn;
	uint64_t down_until;            /* the port is down, and has failed if it still is then; 0: it is up */
	int failed_down;                /* it has failed for no other reason: connections made when it is up again go well */
};

static inline struct verbs_port *verbs_port_of(const struct verbs_conn *conn)
{
	return (struct verbs_port *)conn->base.port;
}

/* ---- short, and on the way of every message ------------------------------ */

/* To and from the wire's byte order. */
static inline void verbs_frame_swap(struct verbs_frame *frame)
{
	frame->window = htole16(frame->window);
	frame->smalls = htole16(frame->smalls);
	frame->bigs = htole16(frame->bigs);
	frame->lane = htole64(frame->lane);
	frame->fingerprint = htole64(frame->fingerprint);
	frame->size = htole64(frame->size);
	frame->number = htole64(frame->number);
	frame->taken = htole64(frame->taken);
	frame->requests = htole64(frame->requests);
}

static inline char *verbs_slab_buffer(const struct verbs_port *port, uint64_t buffer)
{
	return port->slabs[buffer / VERBS_SLAB_NUMBERS].base + buffer % VERBS_SLAB_NUMBERS * port->stride;
}

static inline struct snti_link *verbs_bucket(struct snti_link *buckets, uint64_t lane)
{
	return &buckets[lane * UINT64_C(0x9E3779B97F4A7C15) >> 58];
}

/* verbs_memory.c */
int  verbs_memory_open(struct verbs_port *port);
void verbs_memory_close(struct verbs_port *port);
struct ibv_mr *verbs_register(struct ibv_pd *pd, void *base, size_t size, int access);  /* NULL: errno */
int  verbs_slots_get(struct verbs_link *link);
void verbs_slots_put(struct verbs_link *link);
int  verbs_slab_add(struct verbs_port *port);                   /* a conn's receive buffers are posted */
int  verbs_place_post(struct verbs_conn *conn, unsigned qp);    /* for one immediate */
void verbs_slab_post(struct verbs_port *port);                  /* those that are used, again */
int  verbs_block_take(struct verbs_blocks *blocks);             /* -1: none */
void verbs_block_give(struct verbs_blocks *blocks, int block);
/* NULL: through blocks, then. @memory: the allocation, if known. */
struct verbs_region *verbs_region_get(struct verbs_port *port, void *data, size_t size, int remote);
void verbs_region_drop(struct verbs_port *port, struct verbs_region *region);
void verbs_region_put(struct verbs_port *port, struct verbs_region *region);

/* verbs_pin.c: memory that the caller pins, of hosts and of GPUs */
int  verbs_gpus(struct snti_port *port, char *text, size_t size);
int  verbs_pin(struct snti_port *port, struct snti_memory *memory);
void verbs_unpin(struct snti_port *port, struct snti_memory *memory);
struct verbs_region *verbs_pinned(struct verbs_port *port, const void *data, size_t size);     /* NULL: it is not */
/* 0, or why a message of a GPU's memory cannot travel. */
int  verbs_gpu_check(struct verbs_conn *conn, const struct snti_xfer *xfer);

/* verbs_loop.c: what the processor must not do in the memory of GPUs, a queue pair does that joins the port to itself */
int  verbs_loop_open(struct verbs_port *port);                  /* 0 too when there is one */
void verbs_loop_close(struct verbs_port *port);
int  verbs_loop_try(struct verbs_port *port);                   /* whether it works */
int  verbs_loop_poll(struct verbs_port *port);                  /* how much happened */
int  verbs_loop_is_busy(const struct verbs_port *port);
void verbs_loop_drain(struct verbs_port *port);                 /* until no read names any memory */
int  verbs_loop_copy(struct verbs_port *port, void *to, const void *from, size_t size);  /* an eager message */
int  verbs_settle(struct snti_port *port, struct snti_xfer *xfer);

/* verbs_link.c: queue pairs, and what is posted to them */
int  verbs_link_make(struct verbs_conn *conn);
int  verbs_link_connect(struct verbs_conn *conn);
uint8_t verbs_ack_timeout(void);
/* What is the same, whoever found the path. */
void verbs_link_adjust(const struct verbs_conn *conn, const struct ibv_qp *qp, struct ibv_qp_attr *attr);
/* From here on neither side writes into the other's memory for this conn. */
void verbs_link_stop_data(struct verbs_link *link);
void verbs_link_destroy(struct verbs_link *link);               /* NULL is allowed */
void verbs_work_give(struct verbs_port *port, struct verbs_work *work);
int  verbs_not_posted(struct verbs_work *work, int error);      /* the status, told in one line */
unsigned verbs_link_outstanding(const struct verbs_link *link);
int  verbs_link_error(struct verbs_link *link, const struct ibv_wc *wc);        /* the status, told in one line */

/* verbs_poll.c: completions, events */
int  verbs_poll(struct snti_port *port);
int  verbs_arm(struct snti_port *port);
void verbs_drain(struct verbs_port *port, int wait_ms);         /* lingering links */
int  verbs_harvest(struct verbs_port *port);                    /* completions; how many */

/* verbs_connect.c: the conversation over the tcp conn */
int  verbs_address(struct snti_port *port, struct snti_address *mine);
int  verbs_reaches(struct snti_port *port, const struct snti_address *theirs);
void verbs_address_gid(const struct snti_address *address, union ibv_gid *gid);
int  verbs_connect(struct snti_conn *conn, const struct snti_address *theirs);
int  verbs_accept(struct snti_conn *conn, const struct snti_address *mine);
int  verbs_side(struct verbs_conn *conn);                       /* one step; how much happened */
void verbs_say_bye(struct verbs_conn *conn);

/* verbs_rails.c */
/* 1: the device is the network interface @name, with the address that its GID is. */
int  verbs_own_interface(const struct verbs_device *device, char *name, size_t size);

/* verbs_path.c */
int  verbs_path_keys(struct verbs_device *device);              /* reads the P_Key table */
void verbs_path_offer(const struct verbs_conn *conn, struct verbs_card *card);
int  verbs_path_agree(struct verbs_conn *conn);
struct verbs_ece verbs_path_ece(struct ibv_qp *qp);             /* what its device offers, or has settled on */
void verbs_path_enhance(const struct verbs_conn *conn, struct ibv_qp *qp, unsigned index);

/* verbs_conn.c */
int  verbs_conn_prepare(struct verbs_conn *conn);               /* all memory it will need */
void verbs_conn_init(struct verbs_conn *conn);
void verbs_take(struct verbs_conn *conn, struct snti_xfer *xfer, struct snti_link *list);
void verbs_fail(struct verbs_conn *conn, int status);
int  verbs_nonsense(struct verbs_conn *conn, const char *what);
void verbs_conclude(struct verbs_conn *conn);                   /* when a peer that left has nothing more on its way */
void verbs_hang_up(struct snti_conn *conn);
struct snti_xfer *verbs_find(struct snti_link *list, uint64_t number);
void verbs_wants_output(struct verbs_conn *conn);

/* verbs_output.c: frames */
void verbs_request_swap(struct verbs_request *request);        /* to and from the wire's byte order */
int  verbs_send(struct snti_conn *conn, struct snti_xfer *xfer);
int  verbs_flush(struct snti_conn *conn);
int  verbs_control(struct verbs_conn *conn, const struct verbs_message *message);
int  verbs_kick(struct verbs_conn *conn);                       /* how much went out */

/* verbs_write.c: the sender's side of large messages */
int  verbs_on_request(struct verbs_conn *conn, const struct verbs_message *message);
int  verbs_claim_job(struct verbs_conn *conn, struct snti_xfer *xfer);  /* 1: the receiver had asked for it already */
int  verbs_write(struct verbs_conn *conn);                      /* posts what can be posted; how much */
void verbs_written(struct verbs_conn *conn, struct verbs_work *work);

/* verbs_read.c: the receiver's side of large messages */
void verbs_ask_early(struct verbs_conn *conn, struct snti_xfer *xfer);
void verbs_ask(struct verbs_conn *conn, struct snti_xfer *xfer, uint64_t number);   /* announced */
int  verbs_ask_more(struct verbs_conn *conn);
int  verbs_on_immediate(struct verbs_conn *conn, uint32_t immediate);
void verbs_mark_taken(struct verbs_conn *conn, uint64_t taken, uint64_t requests);
void verbs_mark_known(struct verbs_conn *conn, uint64_t requests);      /* the peer has read so many requests */
void verbs_slots_drop(struct verbs_conn *conn, struct snti_xfer *xfer);
void verbs_slots_drop_all(struct verbs_conn *conn);

/* verbs_input.c: frames */
int  verbs_recv(struct snti_conn *conn, struct snti_xfer *xfer);
int  verbs_completions(struct verbs_port *port, struct ibv_wc *wc, int count);  /* those in @wc, and others after them; how many */
int  verbs_input(struct verbs_conn *conn, const char *bytes, size_t size);
int  verbs_on_slot(struct verbs_conn *conn, uint32_t immediate);        /* a request was written */

/* ---- short, and on the way of every message, too ------------------------- */

static inline struct verbs_peer *verbs_peer_place(struct verbs_peer *peers, unsigned space, uint32_t number)
{
	unsigned at = number * 0x9E3779B1u & (space - 1);

	while (peers[at].link && peers[at].number != number)
		at = (at + 1) & (space - 1);
	return &peers[at];
}

static inline struct verbs_link *verbs_link_find(const struct verbs_port *port, uint32_t number)
{
	return port->peer_space ? verbs_peer_place(port->peers, port->peer_space, number)->link : NULL;
}

/* NULL: none just now. */
static inline struct verbs_work *verbs_work_take(struct verbs_link *link, unsigned qp)
{
	struct verbs_port *port = link->port;
	struct verbs_work *work = &port->works[port->idle_work];

	if (port->idle_work == VERBS_WORKS || link->out[qp] == (qp ? VERBS_DATA_SENDS : VERBS_FRAME_SENDS))
		return NULL;
	port->idle_work = work->next;
	link->out[qp]++;
	work->link = link;
	work->qp = (uint16_t)qp;
	work->buffer = -1;
	return work;
}

static inline int verbs_post(struct ibv_qp *qp, struct verbs_work *work, struct ibv_send_wr *wr)
{
	struct ibv_send_wr *bad;
	int error;

	wr->wr_id = (uint64_t)work->generation << 32 | (uint64_t)(work - work->link->port->works);
	wr->send_flags |= IBV_SEND_SIGNALED;
	error = ibv_post_send(qp, wr, &bad);
	return error ? verbs_not_posted(work, error) : 0;
}

/* Returning credit one by one would double the frames; the peer can go on without. */
static inline int verbs_owes_much(const struct verbs_conn *conn)
{
	return conn->owed_window >= VERBS_WINDOW / 2 || conn->owed_smalls >= VERBS_SMALLS / 4 || conn->owed_bigs >= VERBS_BIGS / 4;
}

static inline void verbs_finish(struct verbs_conn *conn, struct snti_xfer *xfer, int status)
{
	if (xfer->private)
		verbs_region_put(verbs_port_of(conn), xfer->private);
	xfer->private = NULL;
	snti_list_remove(&xfer->link);
	conn->waiting--;
	xfer->status = status;
}

#endif
