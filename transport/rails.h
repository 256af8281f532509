/* SPDX-License-Identifier: BSD-3-Clause */
/* rails.h - what the files of the rails transport share: port, conn, rail, frame.
 *
 * A rail is two conns of the transport underneath, between one port here and one there. What has
 * an order is a stream of numbered frames, kept until acknowledged, over the fastest rail. Large messages are
 * announced in it; the receiver then asks for them chunk by chunk, naming the rail each is to come over. As only who
 * receives decides, a chunk is never under way twice: what a lost rail owed is asked for again, after its conn was
 * hung up, when nothing can land from it any more.
 */
#ifndef TRANSPORT_RAILS_H
#define TRANSPORT_RAILS_H

#include "base/log.h"
#include "transport/transport.h"

#define RAILS_MOST 8              /* ports, and rails of a conn */
#define RAILS_FRAME 8192          /* of a frame with its payload: what every transport sends without asking first */
#define RAILS_POSTED 8            /* frames that may arrive at once, per rail */
#define RAILS_HELD 64             /* small messages that came before their receive */
#define RAILS_ANNOUNCED 256       /* announced ones */
#define RAILS_SLOTS 16            /* chunks under way on a rail, in each direction */
#define RAILS_RING 1024           /* frames kept; at most half of them the user's, and 4 * RAILS_SLOTS requests a rail */
#define RAILS_USERS 256           /* ... of the user */
#define RAILS_BYTES (512 << 10)   /* they lie in here; at most half of it the user's */
#define RAILS_BUCKETS 64
#define RAILS_CHUNK (512 << 10)   /* the longest chunk */
#define RAILS_BLOCKS 32           /* chunks that are folded in place, per port */
#define RAILS_NET 20              /* bytes of a network's name */
#define RAILS_WHY 120

enum rails_type { RAILS_EAGER = 1, RAILS_RTS, RAILS_PULL, RAILS_DONE, RAILS_REJECT, RAILS_DOWN, RAILS_OFFER, RAILS_BYE,
	RAILS_ACK, RAILS_BEAT, RAILS_ECHO };

/* On the wire as it is, little-endian. The last three types have no sequence number. */
struct rails_frame {
	uint8_t type, rail;
	uint16_t zero;
	uint32_t bytes;                 /* of payload behind it */
	uint64_t sequence, ack;         /* of this frame; of the next one expected */
	uint64_t credit;                /* small messages that found their receive, ever */
	uint64_t lane, fingerprint, size, number, offset, extra;
};

#define RAILS_PAYLOAD (RAILS_FRAME - sizeof(struct rails_frame))

/* Who I am, at the first meeting. */
struct rails_card {
	char magic[8];
	uint32_t count, zero;
	struct {
		unsigned char net[RAILS_NET];
		uint32_t speed_mbps;
		char name[32];
		struct snti_address address;
	} rails[RAILS_MOST];
};

enum rails_phase { RAILS_ABSENT, RAILS_JOINING, RAILS_LIVE };

/* A part of a message that was asked for. */
struct rails_chunk {
	struct snti_link link;          /* in its rail's spare or asked ones, or in the conn's lost ones */
	struct snti_xfer sub;
	struct snti_xfer *xfer;
	size_t offset, size;
	char *block;                    /* where it lands first; NULL: in place */
	unsigned rail;                  /* whose slot it is */
};

/* A part of a message that the peer asked for. */
struct rails_serve {
	struct snti_link link;
	struct snti_xfer sub;
	struct snti_xfer *xfer;
};

/* A frame without a number: only its latest content counts. */
struct rails_note {
	struct snti_xfer sub;
	struct rails_frame frame;
	int wanted;
};

struct rails_sent { struct snti_xfer sub; char *bytes; size_t size; int is_users; };
struct rails_post { struct snti_xfer sub; uint32_t buffer; };

struct rails_conn;

struct rails_rail {
	struct rails_conn *conn;
	struct snti_conn *sub, *line;   /* for chunks; for frames, so that those pass them by. NULL: absent */
	enum rails_phase phase;
	unsigned index, mine, theirs;   /* of the pair; of the ports */
	uint64_t epoch;                 /* how often it was dialed again */
	struct snti_address address;    /* of their port */
	uint64_t deadline, next_try;    /* of this attempt; before the next */
	uint64_t lost_ns;               /* since when it is down, 0: it is not */
	uint64_t doubt_ns;              /* since when one of its conns is down, and the line is not */
	int was_live, is_told;
	char why[RAILS_WHY];

	uint64_t rate, rate_out;        /* bytes a second that come; that the peer says it gets; 0: not known yet */
	uint64_t meter_ns, meter_bytes, busy_ns;
	uint64_t explore_ns, pause_ns;  /* before when it is not explored; how long that is, 0: the shortest time */
	uint64_t explored;              /* one more than the number of the message that it got a part of to that end */
	int on_trial;                   /* it is being explored */
	uint64_t heard_ns, beat_ns, echoed_ns;  /* echoed: when the last beat was sent that came back */
	size_t asked_bytes;
	struct snti_link asked, spare, served, idle;
	struct rails_chunk chunks[RAILS_SLOTS];
	struct rails_serve serves[RAILS_SLOTS];
	struct rails_frame wants[RAILS_SLOTS];
	unsigned want_head, want_tail;
	struct rails_note notes[3];     /* acknowledgement, beat, echo */
	struct rails_post posts[RAILS_POSTED];
	unsigned post_head;
};

/* A message that came before its receive. */
struct rails_entry {
	struct snti_link link;
	struct rails_frame frame;
	uint32_t buffer;
};

#define RAILS_NONE UINT32_MAX

struct rails_conn {
	struct snti_conn base;
	struct snti_link link;
	int accepting, over, dying;
	uint64_t deadline, prompted_ns; /* prompted: when the peer asked last whether rails are there */
	struct snti_conn *intro;        /* until the cards are exchanged */
	struct snti_xfer card_out, card_in;
	struct rails_card *cards;       /* mine, theirs */
	unsigned count;
	struct rails_rail *rails;

	size_t waiting;
	struct snti_link announced, pulling, matched, lost;
	struct snti_link posted[RAILS_BUCKETS], unmatched[RAILS_BUCKETS], spare;
	uint64_t next_number, next_serial;
	size_t announcing, unasked;     /* announced ones; bytes of pulled messages not asked for yet */

	unsigned stream, wanted;        /* the rail that carries it, and the one that is to */
	uint64_t head, out, tail;       /* frames kept; not handed over yet; none yet */
	size_t bytes_tail;              /* where in bytes the next frame goes */
	size_t users, user_bytes;
	uint64_t expected, acked, their_ack;
	size_t unacked_bytes;           /* arrived since the last ack */
	uint64_t eager_sent, eager_freed, eager_told, their_freed;

	char *memory;
	struct rails_sent *ring;
	char *bytes, *buffers;
	uint32_t *free_buffers;
	unsigned free_count, buffer_count;
	struct rails_entry *entries;
};

struct rails_port {
	struct snti_port base;
	const struct snti_transport *under;
	unsigned count;
	struct snti_port *ports[RAILS_MOST];
	char names[RAILS_MOST][32];
	unsigned speeds[RAILS_MOST];
	int epoll, timer;
	uint64_t next_tick;
	struct snti_link conns;
	char *blocks;
	char *free_blocks[RAILS_BLOCKS];
	unsigned free_block_count;
	int moved, chatted;             /* in this poll: what counts; what does not */
};

static inline struct rails_port *rails_port_of(const struct rails_conn *conn)
{
	return (struct rails_port *)conn->base.port;
}

static inline const char *rails_name(const struct rails_rail *rail)
{
	return rails_port_of(rail->conn)->names[rail->mine];
}

/* rails_choice.c: which devices, and which of them meet */
struct rails_choice { const struct snti_transport *under; unsigned count; struct snti_device devices[RAILS_MOST]; };
int  rails_choose(const struct snti_transport *rails, const char *names, int local_only, struct rails_choice *choice);
int  rails_devices(struct snti_device *devices, int most);
int  rails_verbs_devices(struct snti_device *devices, int most);
int  rails_verbs_offers(char *text, size_t size);
/* What a port of a rail is opened with beside its device. */
void rails_prepare(const struct snti_transport *under, struct snti_port_options *options);
/* @to is to reach what @from reaches as well, where the transport underneath can say so. */
void rails_widen(const struct snti_transport *under, struct snti_address *to, const struct snti_address *from);
int  rails_shorten(const char *under, struct snti_address *address);
/* A port that has a conn for each purpose needs no more than one way for each. */
void rails_narrow(const struct snti_transport *under, struct snti_port *port);
void rails_net(const struct snti_transport *under, const struct snti_port *port, const char *device, unsigned char net[RAILS_NET]);
/* Whether nothing gets through it as long as it stays like this, as its device says. */
int  rails_is_down(const struct snti_transport *under, const struct snti_port *port);
/* A port that has failed and may come back, which only time tells: whether it is one. It is not armed. */
int  rails_rests(const struct snti_transport *under, struct snti_port *port);
/* Whether they are known to be in one network. */
int  rails_is_near(const struct snti_transport *under, const struct snti_port *port, const struct snti_address *theirs);
/* Fills in which of their rails each of mine meets; how many pairs. @first: the side whose order counts. */
unsigned rails_pair(const struct rails_card *mine, const struct rails_card *theirs, int first,
		    unsigned pairs[RAILS_MOST][2]);

/* rails_connect.c */
int  rails_address(struct snti_port *port, struct snti_address *mine);
int  rails_reaches(struct snti_port *port, const struct snti_address *theirs);
int  rails_connect(struct snti_conn *conn, const struct snti_address *theirs);
int  rails_accept(struct snti_conn *conn, const struct snti_address *mine);
void rails_introduce(struct rails_conn *conn);          /* the cards, and from them the rails */
void rails_join(struct rails_rail *rail);               /* a rail being dialed: is it up? */
void rails_down(struct rails_rail *rail, int tell, const char *format, ...) __attribute__((format(printf, 3, 4)));
void rails_redial(struct rails_rail *rail, uint64_t now);
int  rails_on_offer(struct rails_conn *conn, const struct rails_frame *frame, const char *payload);
int  rails_on_down(struct rails_conn *conn, const struct rails_frame *frame);

/* rails_conn.c */
int  rails_conn_prepare(struct rails_conn *conn);
void rails_conn_init(struct rails_conn *conn);
int  rails_send(struct snti_conn *conn, struct snti_xfer *xfer);
int  rails_recv(struct snti_conn *conn, struct snti_xfer *xfer);
int  rails_flush(struct snti_conn *conn);
void rails_hang_up(struct snti_conn *conn);
void rails_fail(struct rails_conn *conn, int status);
int  rails_nonsense(struct rails_conn *conn, const char *what);
void rails_take(struct rails_conn *conn, struct snti_xfer *xfer, struct snti_link *list);
void rails_finish(struct rails_conn *conn, struct snti_xfer *xfer, int status);
void rails_peer_over(struct rails_conn *conn);
struct snti_link *rails_bucket(struct snti_link *buckets, uint64_t lane);
struct rails_entry *rails_entry_find(struct rails_conn *conn, uint64_t lane);
void rails_entry_free(struct rails_conn *conn, struct rails_entry *entry);

/* rails_stream.c */
/* Appends a frame; @payload is copied. SNTI_AGAIN: a user's frame has to wait; never for others. */
int  rails_put(struct rails_conn *conn, const struct rails_frame *frame, const void *payload, int is_users);
void rails_push(struct rails_conn *conn);               /* hands over what the rail takes */
int  rails_status(const struct rails_rail *rail);       /* of its conns: SNT_BUSY, 0 when both are up, why one failed */
void rails_post(struct rails_rail *rail);               /* the receives of a rail that is up */
void rails_read(struct rails_rail *rail);               /* what came over it */
void rails_cancel_posts(struct rails_rail *rail);       /* its conn was hung up */
void rails_choose_stream(struct rails_conn *conn);      /* the fastest rail that is up */
void rails_notes(struct rails_rail *rail);              /* sends those that are wanted */
char *rails_buffer(struct rails_conn *conn, uint32_t buffer);
void rails_buffer_free(struct rails_conn *conn, uint32_t buffer);

/* rails_input.c */
/* 1: the frame's buffer is kept. */
int  rails_dispatch(struct rails_rail *rail, const struct rails_frame *frame, uint32_t buffer);
struct snti_xfer *rails_find_announced(struct rails_conn *conn, uint64_t number);
void rails_claim(struct rails_conn *conn, struct rails_entry *entry, struct snti_xfer *xfer);

/* rails_pull.c */
void rails_begin_pull(struct rails_conn *conn, const struct rails_frame *frame, struct snti_xfer *xfer);
void rails_pull(struct rails_conn *conn);               /* asks for what the rails have room for */
void rails_landed(struct rails_rail *rail);             /* chunks that are here */
int  rails_on_pull(struct rails_conn *conn, const struct rails_frame *frame);
void rails_serve_wants(struct rails_rail *rail);              /* sends what was asked for */
void rails_lose_chunks(struct rails_rail *rail);        /* its conn was hung up */
uint64_t rails_window_ns(const struct rails_rail *rail);        /* how long what may be under way takes */

uint64_t rails_rate(const struct rails_rail *rail);     /* bytes a second, as far as known */

/* rails_watch.c */
void rails_tick(struct rails_conn *conn, uint64_t now);
int  rails_wants_time(const struct rails_conn *conn);   /* whether ticks are due though nothing arrives */
int  rails_has_work(const struct rails_conn *conn);     /* whether something is here already */

#endif
