/* SPDX-License-Identifier: BSD-3-Clause */
/* mock.h - a libibverbs for tests: reliable connections inside one process, and a script of what goes wrong.
 *
 * It checks what a device would check (keys, ranges, rights, states, queue lengths, packet numbers, addresses) and
 * reorders what a fabric may reorder: with a seed, work of different queue pairs moves at random
 * times, and what a write has carried appears piece by piece, in any order, until a completion makes it whole.
 */
#ifndef TESTS_MOCK_VERBS_MOCK_H
#define TESTS_MOCK_VERBS_MOCK_H

#include <stddef.h>
#include <stdint.h>

#include <infiniband/verbs.h>

#define MOCK_DEVICES 4
#define MOCK_GIDS 8

struct mock_port {
	enum ibv_port_state state;
	uint8_t link_layer, speed;
	enum ibv_mtu mtu;
	int gid_count;
	struct ibv_gid_entry gids[MOCK_GIDS];
	int key_count;
	uint16_t keys[MOCK_GIDS];       /* P_Keys */
	uint32_t ece, ece_never;        /* enhancements that it offers, 0: it knows of none; of them those it settles on with nobody */
	int no_rates;                   /* a static rate is refused */
};

struct mock_script {
	/* What there is. */
	int devices;
	struct mock_port port[MOCK_DEVICES];   /* one each */
	int max_cqe, max_srq_wr, max_inline;
	uint32_t max_msg;
	/* What goes wrong. Counters count down to it; 0: never. */
	uint64_t seed;
	size_t lock_most;               /* bytes that may be registered; 0: any number */
	int fail_reg;                   /* the k-th registration from now */
	int fail_qp, fail_modify;
	int fail_send;                  /* the k-th work from now ends with the status below */
	int fail_write;                 /* the k-th write of data from now does */
	int fail_request;               /* the k-th write to a queue pair with a shared receive queue does */
	enum ibv_wc_status status;
	uint32_t vendor;
	int no_resize;
	int iwarp;                      /* the first device is iWARP's */
	int no_dmabufs;                 /* the device takes none */
	uint64_t down_after[MOCK_DEVICES];      /* bytes that the device carries until its port goes down for good; 0: never */
	int lags;                       /* what is written into dmabufs is not seen before the device has read from one */
	int cut;                        /* nothing gets through */
	int cm_instead_of, cm_instead;  /* of librdmacm: events; cm_instead 0: none */
	int cm_wrong;                   /* the k-th request from now names another queue pair */
	/* What has happened. */
	unsigned rnr, overruns, sends, in_line, writes, reads, immediates, registrations;
	unsigned requests;              /* writes with immediate to queue pairs with a shared receive queue, not among the immediates */
	size_t locked;
	uint64_t carried[MOCK_DEVICES];         /* bytes that left the device and arrived */
	int contexts, pds, mrs, cqs, channels, srqs, qps;
	int cm_ids;
	unsigned cm_rejected;
	size_t frame_reach;             /* of the largest region that was written to through such a queue pair */
};

/* The one script; all of it may be changed between calls of the library. */
struct mock_script *mock_script(void);
void mock_reset(void);
/* The device that this thread sees from now on, as if it were a host of its own. */
#define MOCK_ALL (-1)
#define MOCK_NONE MOCK_DEVICES
void mock_only(int device);
void mock_event(enum ibv_event_type type, struct ibv_qp *qp);   /* of this queue pair, or of every open device */
void mock_device_event(int device, enum ibv_event_type type);
/* What the application does to every queue pair: the error state from outside. */
void mock_break_qps(void);

/* ---- inside ------------------------------------------------------------- */

struct mock_context {
	struct ibv_context ibv;
	int device;
	struct mock_context *next;
	struct ibv_async_event events[64];
	unsigned head, tail;
};

struct mock_mr {
	struct ibv_mr ibv;
	unsigned access;
	char *view;                     /* of a dmabuf: where the device reads and writes; NULL: at its address */
	char *mapping;
	size_t mapped;
	struct mock_mr *next;
};

struct mock_channel {
	struct ibv_comp_channel ibv;
	struct ibv_cq *events[64];
	unsigned head, tail;
};

struct mock_cq {
	struct ibv_cq ibv;
	struct ibv_wc *wcs;
	unsigned head, count;
	int armed, broken;
	int users;
};

struct mock_recv { uint64_t id; struct ibv_sge sge; };
struct mock_queue { struct mock_recv *recvs; unsigned head, count, most; };

struct mock_srq {
	struct ibv_srq ibv;
	struct mock_queue queue;
	int users;
};

struct mock_work {
	struct mock_work *next;
	struct ibv_send_wr wr;
	struct ibv_sge sge[4];
	size_t size;
	unsigned char *in_line;
	uint64_t give_up;
	enum ibv_wc_status fails;
};

/* Bytes on their way into memory, after the sender has been told that they are there. */
struct mock_piece {
	struct mock_piece *next;
	char *to;
	size_t size;
	unsigned char bytes[];
};

/* A completion that the sender does not know of yet: the acknowledgement is on its way. */
struct mock_ack { struct mock_ack *next; struct ibv_wc wc; };

struct mock_qp {
	struct ibv_qp ibv;
	struct ibv_qp_attr attr;
	struct ibv_qp_cap cap;
	uint32_t ece;                   /* what was set */
	struct mock_qp *next;
	struct mock_queue queue;
	struct mock_work *first, **last;
	int events;                     /* told, not acknowledged */
	unsigned used;                  /* of the send queue, until its completions are read */
	struct mock_piece *pieces;
	struct mock_ack *acks, **last_ack;
};

void mock_lock(void);
void mock_unlock(void);
uint64_t mock_random(void);
uint64_t mock_now_ms(void);
int mock_strikes(int *counter);         /* counts down; 1: now */

/* Of what there is; whoever does not hold the lock may count, too. */
static inline void mock_count(int *number, int change)
{
	__atomic_fetch_add(number, change, __ATOMIC_RELAXED);
}

/* mock_device.c */
struct mock_mr *mock_find_mr(const struct ibv_pd *pd, uint32_t key, uint64_t at, size_t size);
char *mock_at(const struct mock_mr *mr, uint64_t at);
const struct mock_port *mock_port_of(const struct ibv_context *context);
void mock_tell(struct ibv_context *context, enum ibv_event_type type, void *element);
void mock_tell_device(int device, enum ibv_event_type type);
void mock_untell(struct ibv_qp *qp);    /* its events go with it */

/* mock_cq.c */
void mock_complete(struct ibv_cq *cq, const struct ibv_wc *wc);
void mock_forget(struct ibv_cq *cq, uint32_t qp);
int mock_poll_cq(struct ibv_cq *cq, int count, struct ibv_wc *wc);
int mock_req_notify(struct ibv_cq *cq, int solicited);
int mock_any_armed(void);

/* mock_qp.c */
int mock_post_send(struct ibv_qp *qp, struct ibv_send_wr *wr, struct ibv_send_wr **bad);
int mock_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
int mock_post_srq_recv(struct ibv_srq *srq, struct ibv_recv_wr *wr, struct ibv_recv_wr **bad);
void mock_qp_break(struct mock_qp *qp);
struct mock_qp *mock_qps(void);
void mock_unuse(uint32_t number);       /* a completion of this queue pair's sends was read */

/* mock_move.c */
void mock_move(void);                   /* a while, at random with a seed; else all that can */
void mock_place(struct mock_qp *qp, int all);
void mock_ack(struct mock_qp *qp, int all);
void mock_settle(void);                 /* what lags is in its place */

#endif
