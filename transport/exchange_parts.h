/* SPDX-License-Identifier: BSD-3-Clause */
/* exchange_parts.h - what the files of the exchange share; nobody else includes it. */
#ifndef TRANSPORT_EXCHANGE_PARTS_H
#define TRANSPORT_EXCHANGE_PARTS_H

#include "transport/environment.h"
#include "transport/exchange.h"
#include "transport/handshake.h"
#include "transport/socket.h"
#include "transport/ticket.h"

#define SNTI_EXCHANGE_KIND 1            /* in snti_want.kind */
#define SNTI_GATHER_MOST 65536          /* bytes of one rank's blob */
#define SNTI_REPORT_TEXT 120
#define SNTI_ABORT_TEXT 400
#define SNTI_TEXT_ROOM 512              /* an abort's text with the prefix that names the rank */
#define SNTI_REPORTS 8
#define SNTI_MEETING_ADDRESSES 24

/* ---- frames: a fixed header of 24 bytes, little endian, then @size bytes -- */

enum snti_frame_type {
	SNTI_FRAME_GATHER = 1,   /* to rank 0: a = number of the allgather; the blob */
	SNTI_FRAME_GATHERED,     /* from rank 0: a = number; the blobs of all ranks */
	SNTI_FRAME_ABORT,        /* a = status as 32 bits; the text */
	SNTI_FRAME_REPORT,       /* to rank 0: a = sequence, b = fingerprint; the text */
	SNTI_FRAME_LEAVE,
	SNTI_FRAME_WELCOME,      /* from rank 0: a = the rank, b = the number of ranks */
	SNTI_FRAME_START,        /* from rank 0: all are there */
	SNTI_FRAME_TYPES
};

#define SNTI_FRAME_BYTES 24
struct snti_frame { uint32_t type, size; uint64_t a, b; };

void snti_frame_write(const struct snti_frame *frame, unsigned char out[SNTI_FRAME_BYTES]);
/* 0 or SNT_EPROTOCOL: no such type, or more bytes than this type may have. @ranks bounds GATHERED. */
int snti_frame_read(const unsigned char in[SNTI_FRAME_BYTES], int ranks, struct snti_frame *frame);
/* The bytes of an abort or report as text: cut to @room, control characters replaced. */
void snti_frame_text(const unsigned char *body, size_t size, char *text, size_t room);

/* ---- lines: one proved connection --------------------------------------- */

struct snti_report { uint64_t sequence, fingerprint; char text[SNTI_REPORT_TEXT + 1]; };

struct snti_line {
	int fd, epoll;                 /* fd -1: none (yet, or any more) */
	int peer, ranks;
	int left;                      /* the peer said that it leaves */
	int wants_out;                 /* epoll is told to watch for room */
	unsigned char head[SNTI_FRAME_BYTES];
	struct snti_frame frame;       /* the frame that is read, or the whole one */
	unsigned char *body;           /* its bytes; whoever takes them sets this to NULL */
	size_t got;                    /* bytes of head and body so far */
	unsigned char *out;            /* what the socket did not take yet */
	size_t out_used, out_room;
	unsigned char *blob;           /* rank 0: what the peer gathers */
	size_t blob_size;
	uint64_t blob_number;
	int has_blob;
	struct snti_report reports[SNTI_REPORTS];
	unsigned report_count;
};

/* Takes over @fd; @tag is what epoll says about it. 0 or SNT_ELIMIT (no snti_fail). */
int snti_line_open(struct snti_line *line, int fd, int epoll, uint64_t tag);
void snti_line_close(struct snti_line *line);
/* Sends, and keeps what does not fit. A dead socket is no failure here: the reading side judges it. SNT_ENOMEM. */
int snti_line_post(struct snti_line *line, const struct snti_frame *frame, const void *body);
void snti_line_flush(struct snti_line *line);
/* 0: line->frame and line->body hold the next frame; SNT_BUSY; SNT_EPEER: end of file; SNT_EPROTOCOL; SNT_ENOMEM. */
int snti_line_next(struct snti_line *line);

/* ---- where to meet ------------------------------------------------------- */

struct snti_meeting {
	int rank, ranks;
	const char *source;            /* "the ticket", "torchrun", ... for messages */
	int is_open;                   /* rank 0 listened before anybody was told where: a refusal means that it is gone */
	unsigned char secret[SNTI_SECRET_BYTES];
	int listener;                  /* rank 0's; owned */
	uint16_t port, others[SNTI_OTHER_PORTS];
	char host[256];                /* a name to resolve when there are no addresses; or "" */
	int count;
	struct snti_socket_address addresses[SNTI_MEETING_ADDRESSES];
};

int snti_meeting_find(const struct snt_team_options *options, struct snti_meeting *meeting);
int snti_meeting_from_ticket(const struct snt_ticket *ticket, struct snti_meeting *meeting);
/* Fills the addresses from the host's name; 0, SNT_BUSY: not known now, or SNT_EINVAL. */
int snti_meeting_resolve(struct snti_meeting *meeting);

/* ---- the exchange -------------------------------------------------------- */

struct snti_guests;

struct snti_exchange {
	int rank, size, epoll;
	int started, leaving;
	int asked, heard;              /* others: reports sent, and those rank 0 confirmed */
	int status, told;              /* the first failure; whether snti_fail() has had it */
	char text[SNTI_TEXT_ROOM + 1];
	unsigned char secret[SNTI_SECRET_BYTES];
	struct snti_line *lines;       /* rank 0: one for each rank, [0] only for reports; others: one */
	int line_count;
	uint64_t gather_number;
	size_t gather_size;
	unsigned char *gathered;       /* others: what rank 0 sent for gather_number */
	struct snti_guests *guests;    /* rank 0, during start-up */
};

#define SNTI_TAG_LISTENER (1ULL << 40)
#define SNTI_TAG_GUEST    (1ULL << 41)   /* + index */

/* Decides on a failure; rank 0 tells everybody. Only the first counts. */
void snti_exchange_fail(struct snti_exchange *x, int status, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* x->status, through snti_fail() the first time. */
int snti_exchange_status(struct snti_exchange *x);
/* Waits at most @wait_ms for something to happen and handles it. */
void snti_exchange_serve(struct snti_exchange *x, int wait_ms);
/* Writes "rank 3" or "ranks 3, 5 and 7 more" for the ranks where @missing says so. Returns how many. */
int snti_exchange_name(const struct snti_exchange *x, int (*missing)(const struct snti_line *), char *text, size_t room);

/* Rank 0: lets the others in. */
int snti_guests_open(struct snti_exchange *x, const struct snti_meeting *meeting);
void snti_guests_close(struct snti_exchange *x);
/* The errno for which a rank that called could not be let in, or 0. */
int snti_guests_starved(const struct snti_exchange *x);
void snti_guests_event(struct snti_exchange *x, uint64_t tag);
/* Drops who is late. Returns in how many milliseconds to be called again. */
int snti_guests_tick(struct snti_exchange *x);
/* The others: connects to rank 0 and proves the secret. 0 with *fd, or a failure through snti_fail(). */
int snti_exchange_connect(struct snti_meeting *meeting, uint64_t deadline_ns, int *fd);

#endif
