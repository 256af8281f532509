/* SPDX-License-Identifier: BSD-3-Clause */
/* core.h - the plugin without NCCL's versions: what versions.c converts to and the other files share.
 *
 * NCCL's service thread and progress thread meet in a comm: whoever touches its port holds its
 * lock. Each comm has a port of its own, so that comms never meet. Another lock, the
 * world's, guards the lists of contexts and of what belongs to them; a comm's comes after it. Only comms over several
 * devices or UCX have a thread beside NCCL's (tend.c).
 */
#ifndef PLUGINS_NCCL_CORE_H
#define PLUGINS_NCCL_CORE_H

#include <pthread.h>
#include <stdatomic.h>

#include "plugins/nccl/abi.h"
#include "plugins/nccl/lock.h"
#include "transport/transport.h"

#define SNTI_NCCL_NAME "Sennit"
#define SNTI_NCCL_REQUESTS (NCCL_MAX_REQUESTS * NCCL_MAX_RECVS)
#define SNTI_NCCL_PEER 96
#define SNTI_NCCL_BUILD 8
#define SNTI_NCCL_DEVICES 32
#define SNTI_NCCL_VIRTUAL 32
#define SNTI_NCCL_MEMBERS 4     /* so many addresses the first meeting of rails has room for */
#define SNTI_NCCL_MOST_BYTES ((size_t)1 << 30)    /* sizes are reported in an int */

struct snti_nccl_place { int rail, plane; };                    /* -1: not known */

struct snti_nccl_device {
	char name[SNTI_NCCL_MEMBERS * 32];
	char pci_path[256];
	struct snti_device wire;        /* of several: the first one's, but for the speed, which is all of theirs */
	struct nccl_virtual_8 members;  /* itself alone; more: it was merged of them */
	struct snti_nccl_place place;
	int takes_gpus;                 /* their memory can be registered: it has been tried */
};

/* A network of NCCL's: one for each communicator, or for all of them before version 11. */
struct snti_nccl_context {
	struct snti_link link, comms;
	int users;                      /* 1 until finalize, and one for each comm */
	int traffic_class;              /* negative: none */
	int is_common;                  /* of all communicators */
	atomic_int flows[2];            /* how many comms NCCL means to use at once, sending and receiving; 0: not said */
	atomic_int is_told;             /* that each of them has one stream */
	atomic_int is_aborted;          /* what of it is closed must not wait for its peers */
	nccl_profiler profiler;
};

struct snti_nccl_request {
	struct snti_nccl_comm *comm;
	int is_receive, count, posted;  /* count 0: idle */
	struct snti_xfer *xfers[NCCL_MAX_RECVS];        /* &first, and what a grouped receive needs beside it */
	void *memories[NCCL_MAX_RECVS];
	void *events[NCCL_MAX_RECVS], *parents[NCCL_MAX_RECVS];
	struct snti_xfer first;
};

struct snti_nccl_memory { struct snti_link link; struct snti_memory pinned; };

/* What the connecting side says first, on a lane of its own. */
struct snti_nccl_greeting { uint32_t protocol, pid; char version[SNTI_NCCL_BUILD], build[SNTI_NCCL_BUILD], host[40]; };

enum snti_nccl_kind { SNTI_NCCL_LISTENS, SNTI_NCCL_CONNECTS, SNTI_NCCL_SENDS, SNTI_NCCL_RECEIVES };

struct snti_nccl_comm {
	struct snti_nccl_lock lock;
	struct snti_link link;          /* among the context's; the world's lock guards it */
	struct snti_link tended;        /* among those over rails or UCX */
	struct snti_nccl_context *context;
	enum snti_nccl_kind kind;
	const struct snti_nccl_device *device;
	int traffic_class;              /* negative: as the settings say */
	unsigned streams;               /* 0: as the settings say */
	struct snti_port *port;
	struct snti_conn *conn;         /* NULL before accept, and after what was in flight was cut off */
	struct snti_address address;    /* a listener's own */
	uint64_t ident, deadline;
	struct snti_nccl_greeting greeting;
	struct snti_xfer greeting_xfer;
	char peer[SNTI_NCCL_PEER];
	char build[48];                 /* the peer's, where it is another than ours */
	char cause[256];                /* the first failure's */
	int is_told, is_cut;
	uint64_t quiet_since;           /* when something was posted or done last */
	unsigned idle_tests;

	struct snti_nccl_request *requests, **idle;     /* from idle[busy] on */
	struct snti_xfer *xfers, **idle_xfers;          /* of grouped receives, beyond each request's own one */
	int busy, busy_xfers;
	struct snti_nccl_request *unposted;     /* a receive of which the wire did not take all yet */
	struct snti_link memories;
};

/* All return an enum nccl_result, and everything that NCCL gets back is written in any case. */

/* devices.c */
int snti_nccl_find_devices(void);                               /* 0 or a status; under the world's lock */
int snti_nccl_devices(int *count);
int snti_nccl_properties(int device, struct nccl_properties_v12 *properties);
const struct snti_nccl_device *snti_nccl_device(int device);     /* NULL: no such */
int snti_nccl_index(const struct snti_nccl_device *device);
int snti_nccl_add_device(const struct snti_nccl_device *device); /* its index, or -1: no room; by one thread at a time */
int snti_nccl_speed(const struct snti_nccl_device *device);      /* Mbit/s */
const struct snti_transport *snti_nccl_transport(void);
/* The interface for what is said beside the wire; NULL: any. */
const char *snti_nccl_aside(const struct snti_nccl_device *device);

/* merge.c */
const struct snti_transport *snti_nccl_rails(void);             /* what carries merged devices; NULL: nothing does */
int snti_nccl_merge(int *device, const int *members, int count);
int snti_nccl_is_merged(const struct snti_nccl_device *device);

/* aliases.c */
void snti_nccl_adopt_settings(void);
int snti_nccl_fits(const char *list, const char *name, int port, struct snti_nccl_place *place);

/* address.c */
/* How many bytes were written; more than @room: it does not fit. */
size_t snti_nccl_pack(const struct snti_address *address, unsigned char *to, size_t room);
int snti_nccl_unpack(const unsigned char *from, size_t size, struct snti_address *address);     /* not 0: damaged */

/* build.c; versions and builds fill their arrays or end with 0 */
void snti_nccl_build(char id[SNTI_NCCL_BUILD]);
void snti_nccl_own_build(char *text, size_t room);
void snti_nccl_name_build(char *text, size_t room, const char version[SNTI_NCCL_BUILD], const char id[SNTI_NCCL_BUILD]);
/* Keeps what @comm's peer runs if it differs. */
void snti_nccl_compare_build(struct snti_nccl_comm *comm, const char version[SNTI_NCCL_BUILD], const char id[SNTI_NCCL_BUILD]);

/* context.c */
int snti_nccl_init(struct snti_nccl_context **context, int traffic_class, nccl_logger logger, nccl_profiler profiler);
/* Reclaims what was begun and never came up; comms that are up live on until they are closed. */
int snti_nccl_finalize(struct snti_nccl_context *context);
/* Hints for what is connected from now on; any thread. */
void snti_nccl_hint(struct snti_nccl_context *context, const struct nccl_attributes *attributes);
unsigned snti_nccl_streams(struct snti_nccl_context *context, int is_receiver);         /* 0: as the settings say */
void snti_nccl_join(struct snti_nccl_context *context, struct snti_nccl_comm *comm);
void snti_nccl_leave(struct snti_nccl_comm *comm);
/* The comm that connects to @ident, or NULL. */
struct snti_nccl_comm *snti_nccl_find(struct snti_nccl_context *context, uint64_t ident);

/* One that connects and whose time has passed long ago, or NULL. */
struct snti_nccl_comm *snti_nccl_forgotten(struct snti_nccl_context *context);

/* connect.c */
int snti_nccl_listen(struct snti_nccl_context *context, int device, void *handle, void **listen_comm);
int snti_nccl_connect(struct snti_nccl_context *context, int device, int traffic_class, void *handle, void **send_comm);
int snti_nccl_accept(void *listen_comm, void **recv_comm);
int snti_nccl_close(void *comm);
void snti_nccl_free(struct snti_nccl_comm *comm);                /* it has left its context */

/* tend.c */
void snti_nccl_tend(struct snti_nccl_comm *comm);                /* it is up; from now on another thread polls it, too */
void snti_nccl_untend(struct snti_nccl_comm *comm);

/* transfer.c */
int snti_nccl_prepare(struct snti_nccl_comm *comm);              /* its requests; 0 or a status */
/* As NCCL calls them since its version 10; @parents may be NULL. */
int snti_nccl_isend(void *send_comm, void *data, size_t size, int tag, void *memory, void *parent, void **request);
int snti_nccl_irecv(void *recv_comm, int count, void **data, size_t *sizes, int *tags, void **memories, void **parents,
		    void **request);
int snti_nccl_test(void *request, int *done, int *sizes);
/* Begins to read @at of a GPU back; the comm is locked. */
int snti_nccl_settle(struct snti_nccl_comm *comm, struct snti_nccl_memory *memory, void *at, void **request);

/* memory.c */
void snti_nccl_find_gpus(const struct snti_transport *transport, struct snti_nccl_device *devices, int count);
int snti_nccl_register(void *comm, void *data, size_t size, int type, void **memory);
int snti_nccl_register_dmabuf(void *comm, void *data, size_t size, int type, uint64_t offset, int fd, void **memory);
int snti_nccl_deregister(void *comm, void *memory);
int snti_nccl_flush(void *recv_comm, int count, void **data, int *sizes, void **memories, void **request);

/* report.c */
void snti_nccl_set_logger(nccl_logger logger);
void snti_nccl_log(int level, const char *format, ...) __attribute__((format(printf, 2, 3)));
int snti_nccl_result(int status);
/* Keeps what the wire last said, if nothing was kept before. */
void snti_nccl_keep_cause(struct snti_nccl_comm *comm);
/* Tells NCCL's log that @comm has failed, the first time; returns what @status is for NCCL. */
int snti_nccl_failed(struct snti_nccl_comm *comm, int status);
/* Polls the port of a locked comm; 0 or a status. */
static inline int snti_nccl_poll(struct snti_nccl_comm *comm)
{
	int before = comm->conn ? comm->conn->status : 0;
	int did = comm->port->ops->poll(comm->port);

	if (did < 0 || (comm->conn && comm->conn->status < 0 && before >= 0))
		snti_nccl_keep_cause(comm);
	return did < 0 ? did : 0;
}

#endif
