/* SPDX-License-Identifier: BSD-3-Clause */
/* shm.h - what the files of the shared-memory transport know of each other.
 *
 * Two processes share one region: a ring of cells and some slots for each way.
 * Every line has one writer. A cell's sequence number is written last, so a
 * reader that sees it sees the cell; the reader's counters say what it is done with.
 * Nothing that is read from the region is trusted: it is copied once, then checked.
 */
#ifndef TRANSPORT_SHM_H
#define TRANSPORT_SHM_H

#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"
#include "transport/transport.h"

#define SHM_MAGIC 0x6d687374u
#define SHM_VERSION 2u
#define SHM_CELLS 64u
#define SHM_FIRST 32u                   /* payload bytes in the line that holds the sequence number */
#define SHM_INLINE 96u                  /* payload bytes of a cell */
#define SHM_NUMBERS 256u                /* offers that may wait for an answer; eager messages unmatched */
#define SHM_PLACES 64u                  /* allocations that one side keeps mapped for a conn */
#define SHM_PARKED 64u
#define SHM_CHUNK 1024u
#define SHM_BLIND 32u                   /* receives that are posted without a look after one that looked in vain */
#define SHM_PIECE_LEAST ((uint64_t)16 << 10)  /* below, a second piece costs more than it overlaps */
#define SHM_LEAVES 4u                   /* polls for which a message stays in its slot before it is kept aside */
#define SHM_PULL ((size_t)256 << 10)    /* bytes pulled per poll, so that other lanes move too */
#define SHM_SINGLE_COPY ((size_t)512 << 10)     /* a shorter message is through before a read has begun to pay */
#define SHM_BOUNCE ((size_t)128 << 10)  /* stays in a core's L2 */

enum shm_type {
	SHM_EAGER = 1,  /* the message is in the cell */
	SHM_SLOT,       /* the message is in the next slot */
	SHM_OFFER,      /* a message waits at the sender: struct shm_offer */
	SHM_PIECE,      /* the next piece of a message that was cleared, or is unasked, is in the next slot */
	SHM_CLEAR,      /* answer: send it through the slots */
	SHM_DONE,       /* answer: it has been read */
	SHM_REJECT,     /* answer: it is not what the receiver expects */
	SHM_ANSWERED,   /* answer: it has been read, and the room that came with it is written */
};

struct shm_cell {
	uint64_t seq;           /* its index in the stream of cells + 1: an old cell never looks new */
	uint64_t word;          /* type, number, size: shm_word() */
	uint64_t lane, fingerprint;
	unsigned char bytes[SHM_INLINE];
};

/* Totals since the beginning, written by the receiver only. */
struct shm_counters { uint64_t cells, slots, messages, bytes; };

struct shm_way {
	struct shm_cell cells[SHM_CELLS];
	_Alignas(128) struct shm_counters counters;
	_Alignas(128) uint64_t sleeping;        /* the receiver's: odd while it sleeps */
	_Alignas(128) uint64_t left;            /* the sender's: what lies at its offers is no message any more */
	_Alignas(128) uint64_t writing;         /* the receiver's: 1 while it writes into the sender's rooms */
};

struct shm_region {
	uint32_t magic, version;
	uint64_t slot, slots, eager;            /* as the connector's settings say */
	_Alignas(4096) struct shm_way ways[2];  /* from the connector, from the acceptor; then the slots likewise */
};

/* @unasked: not an offer: it comes through the slots at once, in pieces of whole chunks but for the last.
 * @room_memory: where there is room for an answer, 0: there is none. */
struct shm_offer { uint64_t address, memory, offset, unasked, room_memory, room_offset, answer; };

/* Messages over the socket. A single byte is a wake-up. */
enum shm_note_type { SHM_HELLO = 1, SHM_WELCOME, SHM_MEMORY, SHM_BYE };
struct shm_note {
	uint32_t magic, version, type;
	int32_t status;                         /* bye: why, 0 in good order */
	uint64_t ticket, ident;                 /* hello */
	uint64_t nonce_at, nonce;               /* hello, welcome: a word of the sender's, to probe reading from it */
	uint64_t place, memory, size;           /* memory, with its descriptor */
};

enum shm_watch_kind { SHM_WATCH_PORT, SHM_WATCH_PARKED, SHM_WATCH_CONN };
struct shm_watch { enum shm_watch_kind kind; int fd; };

/* A socket that came in before its accept. */
struct shm_parked {
	struct shm_watch watch;
	int heard, region;
	struct shm_note hello;
};

struct shm_port {
	struct snti_port base;
	struct shm_watch watch;         /* the listener */
	struct shm_conn **conns;
	size_t count, room;
	int armed, setting_up;          /* setting_up: conns that are not up yet */
	int starved;                    /* a peer could not be let in for want of descriptors */
	uint32_t polls;
	uint64_t looked;                /* when the sockets were looked at last */
	uint64_t host, ticket;
	unsigned char name[16];
	char *bounce;
	int single_copy;                /* reading from a peer beats two copies: 1, -1 it does not, 0 not yet known */
	struct snti_log_limit log;
	struct shm_parked parked[SHM_PARKED];
};

/* An eager message or an offer that came before its receive. */
struct shm_early {
	struct snti_link link;
	uint64_t lane, fingerprint, size;
	struct shm_offer offer;
	uint32_t number, chunk, last;   /* the chain's first and last chunk */
	uint64_t stored;                /* how much has come of what comes unasked */
	int is_offer;
};

enum shm_in_state { SHM_IN_FREE, SHM_IN_WAITS, SHM_IN_CLEARED, SHM_IN_PULLED, SHM_IN_LENT };
struct shm_in {
	struct snti_xfer *xfer;
	enum shm_in_state state;
	uint64_t address;               /* in the sender, for process_vm_readv */
	const char *mapped;             /* in this process, or NULL */
	char *room;                     /* likewise */
	struct shm_early *early;        /* where it is kept that comes unasked, and for which nobody waits */
};

struct shm_mapping { uint64_t id; char *base; size_t size; int may_write; };
struct shm_answer { uint32_t type, number; };

struct shm_conn {
	struct snti_conn base;

	/* Sending: totals, and how far they may go. cell_limit is 0 when nothing may be sent. */
	struct shm_cell *out_cells;
	uint64_t sent, cell_limit, messages, message_limit, bytes, byte_limit;
	const uint64_t *peer_sleeping;
	uint64_t woken;                 /* the peer's sleep that a wake-up was sent for */
	uint64_t slots_sent, slot_limit;
	char *out_slots;
	const struct shm_counters *peer_counters;

	/* Receiving. */
	_Alignas(64) struct shm_cell *in_cells;
	uint64_t received;
	struct snti_link posted, early;
	struct shm_counters done;       /* what has been consumed and matched */
	struct shm_counters told;       /* what of it the peer can see */
	uint64_t left_cell;             /* has been left where it is, as nobody waits for it yet, */
	uint32_t left_times;            /* so many times */
	uint32_t blind;                 /* receives to post without a look */
	struct shm_counters *own_counters;
	uint64_t *own_sleeping, *own_left;
	const uint64_t *peer_left;
	uint64_t *own_writing;
	const uint64_t *peer_writing;
	const char *in_slots;

	int work;                       /* poll has more to do here than to look for a cell */
	int gone;                       /* why no more will come, once the ring is drained */
	const char *gone_how;           /* the same in words */
	int readable;                   /* process_vm_readv works on the peer */
	uint64_t slot, slots, eager;
	uint64_t least_piece;           /* at least so much goes into a slot when there is more to come */
	struct snti_link streams, pulls;
	struct snti_xfer *out[SHM_NUMBERS];
	struct shm_in in[SHM_NUMBERS];
	uint16_t free_numbers[SHM_NUMBERS];
	uint32_t free_count;
	struct shm_answer answers[SHM_NUMBERS];
	uint32_t answer_first, answer_count;

	struct shm_early *earlies;      /* 2 * SHM_NUMBERS of them */
	struct snti_link early_free;
	char *chunks;
	uint32_t *chunk_next;
	uint32_t chunk_free, chunk_fresh, chunk_count;

	struct shm_watch watch;
	int connecting;                 /* the socket is not connected yet: try again */
	int memfd;                      /* the region's, until it is sent */
	pid_t pid;
	uint64_t nonce, peer_nonce, peer_nonce_at;
	uint64_t announced[SHM_PLACES];
	uint32_t announce_next;
	struct shm_mapping mappings[SHM_PLACES];
	struct shm_region *region;
	size_t region_size;
	struct snti_address theirs;
	int listed;
};

static inline struct shm_conn *shm_conn_of(struct snti_conn *conn)
{
	return (struct shm_conn *)conn;
}

static inline struct shm_port *shm_port_of(struct snti_port *port)
{
	return (struct shm_port *)port;
}

static inline uint64_t shm_word(uint32_t type, uint32_t number, uint64_t size)
{
	return type | (uint64_t)number << 8 | size << 16;
}

static inline uint64_t shm_load(const uint64_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

static inline void shm_store(uint64_t *word, uint64_t value)
{
	__atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* In vain it costs two journeys of the line: the peer has to take it back before it can write. So nobody looks who does not
 * wait for anything, or has no reason to think that it is there by now. */
static inline int shm_has_cell(const struct shm_conn *c)
{
	return shm_load(&c->in_cells[c->received % SHM_CELLS].seq) == c->received + 1;
}

static inline int shm_has_credit(const struct shm_conn *c, size_t size)
{
	return c->messages < c->message_limit && c->bytes + size <= c->byte_limit;
}

void shm_wake_peer(struct shm_conn *c, uint64_t sleep);

/* After anything the peer may wait for. Without a fence it can miss a peer that falls asleep
 * right now: that one looks again for a while, and sleeps some milliseconds at most. */
static inline void shm_nudge(struct shm_conn *c)
{
	uint64_t sleep = __atomic_load_n(c->peer_sleeping, __ATOMIC_RELAXED);

	if (__builtin_expect(sleep & 1, 0) && sleep != c->woken)
		shm_wake_peer(c, sleep);
}

/* shm.c */
void shm_fail(struct shm_conn *c, int status);
void shm_settle(struct shm_conn *c);
int shm_make_room(struct shm_port *p);

/* shm_ring.c */
int shm_send(struct snti_conn *conn, struct snti_xfer *xfer);
int shm_recv(struct snti_conn *conn, struct snti_xfer *xfer);
int shm_drain(struct shm_conn *c);
int shm_refresh(struct shm_conn *c);
void shm_publish(struct shm_conn *c);
struct shm_cell *shm_next_cell(struct shm_conn *c);
void shm_put_cell(struct shm_conn *c, struct shm_cell *cell, uint64_t word);
void shm_put_slot(struct shm_conn *c, const char *bytes, size_t size);
void shm_garbled(struct shm_conn *c, const char *what);

/* shm_large.c */
int shm_offer(struct shm_conn *c, struct snti_xfer *xfer);
void shm_take_offer(struct shm_conn *c, struct snti_xfer *xfer, uint32_t number, const struct shm_offer *offer);
void shm_take_unasked(struct shm_conn *c, struct snti_xfer *xfer, uint32_t number, uint64_t stored);
void shm_reject(struct shm_conn *c, uint32_t number);
int shm_answered(struct shm_conn *c, uint32_t type, uint32_t number);
int shm_piece(struct shm_conn *c, uint32_t number, uint64_t size);
void shm_send_ahead(struct shm_conn *c, const struct snti_xfer *recv, size_t end);
int shm_move_large(struct shm_conn *c);
int shm_can_move(struct shm_conn *c);
void shm_finish_in(struct shm_conn *c, uint32_t number, uint32_t type);
int shm_was_abandoned(const struct shm_conn *c);

/* shm_lend.c */
int shm_borrow(struct snti_conn *conn, struct snti_xfer *xfer);
int shm_write(struct snti_conn *conn, int begins);
int shm_give_back(struct snti_conn *conn, struct snti_xfer *xfer, int answered);
void shm_leave_offers(struct shm_conn *c);

/* shm_early.c */
int shm_early_init(struct shm_conn *c);
void shm_early_free(struct shm_conn *c);
int shm_early_keep(struct shm_conn *c, const struct shm_cell *head, const char *bytes);
int shm_early_offer(struct shm_conn *c, const struct shm_cell *head, const struct shm_offer *offer);
struct shm_early *shm_early_find(struct shm_conn *c, uint64_t lane);
void shm_early_land(struct shm_conn *c, struct shm_early *early, struct snti_xfer *xfer, uint64_t size);
int shm_early_add(struct shm_conn *c, uint32_t number, const char *bytes, uint64_t size);
void shm_early_drop(struct shm_conn *c, struct shm_early *early);

/* shm_connect.c */
int shm_connect(struct snti_conn *conn, const struct snti_address *theirs);
int shm_accept(struct snti_conn *conn, const struct snti_address *mine);
void shm_connect_again(struct shm_conn *c);
int shm_listen(struct shm_port *p);
void shm_look_at_sockets(struct shm_port *p);
void shm_read_socket(struct shm_conn *c);
int shm_note_send(int fd, const struct shm_note *note, int attached);
void shm_unpark(struct shm_parked *parked);
void shm_leave(struct shm_conn *c);

/* shm_region.c */
int shm_region_make(struct shm_conn *c);
int shm_region_join(struct shm_conn *c, int fd);
void shm_region_drop(struct shm_conn *c);
uint64_t shm_announce(struct shm_conn *c, const struct snti_memory *memory);
int shm_learn(struct shm_conn *c, const struct shm_note *note, int fd);
const char *shm_mapped(const struct shm_conn *c, const struct shm_offer *offer, uint64_t size);
char *shm_room(struct shm_conn *c, const struct shm_offer *offer, uint64_t size);
void shm_probe(struct shm_conn *c);
int shm_sealed_size(int fd, uint64_t *size);

/* shm_address.c */
struct shm_address {
	uint32_t magic, version;
	uint64_t host, ticket;
	uint32_t uid, pid;
	unsigned char name[16];
};
uint64_t shm_host(void);
int shm_address(struct snti_port *port, struct snti_address *mine);
int shm_reaches(struct snti_port *port, const struct snti_address *theirs);
int shm_address_read(const struct snti_address *from, struct shm_address *address);

#endif
