/* SPDX-License-Identifier: BSD-3-Clause */
/* sennit.h - collectives between the processes of a job. The whole public API.
 *
 * Four verbs serve every collective: describe a call and make an operation of
 * it (snt_op_create), start it, test it, free it. The named functions below
 * (snt_allreduce, ...) do all of it in one blocking line.
 *
 * Every function that returns int returns 0, or SNT_BUSY ('not yet', not an
 * error), or one of the negative statuses of SNT_STATUS_LIST. What went wrong,
 * with the peer and the cause, is in snt_error_text().
 *
 * A team belongs to one thread at a time; two threads use two teams. All
 * members of a team start the same collectives on it in the same order, with the
 * same arguments but for the buffers, offsets and alltoallv's counts; where they
 * differ, all get SNT_EMISMATCH. Sends and receives may come in between anywhere.
 *
 * Counts and offsets are numbers of elements, unless they say bytes. Buffers
 * belong to the caller and need no alignment; an empty one may be NULL.
 */
#ifndef SENNIT_H
#define SENNIT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SNT_API __attribute__((visibility("default")))
#define SNT_CHECK_RESULT __attribute__((warn_unused_result))

/* name, value, what is broken by it, sentence */
#define SNT_STATUS_LIST(X) \
	X(SNT_EINVAL,       -1, SNT_SCOPE_CALL,    "an argument is not allowed") \
	X(SNT_ENOMEM,       -2, SNT_SCOPE_CALL,    "out of memory") \
	X(SNT_EUNSUPPORTED, -3, SNT_SCOPE_CALL,    "not supported here") \
	X(SNT_EMISMATCH,    -4, SNT_SCOPE_TEAM,    "ranks disagree about an operation") \
	X(SNT_ETIMEOUT,     -5, SNT_SCOPE_TEAM,    "a deadline passed") \
	X(SNT_EPEER,        -6, SNT_SCOPE_TEAM,    "another rank is gone") \
	X(SNT_EABORTED,     -7, SNT_SCOPE_TEAM,    "another rank gave up") \
	X(SNT_EREFUSED,     -8, SNT_SCOPE_TEAM,    "the other side did not prove the job's secret") \
	X(SNT_EPROTOCOL,    -9, SNT_SCOPE_TEAM,    "the other side sent what makes no sense") \
	X(SNT_EDEVICE,      -10, SNT_SCOPE_DEVICE, "a device or the system refused") \
	X(SNT_ELIMIT,       -11, SNT_SCOPE_PROCESS, "a limit of this process is reached") \
	X(SNT_EBROKEN,      -12, SNT_SCOPE_TEAM,   "the team failed earlier") \
	X(SNT_ECANCELED,    -13, SNT_SCOPE_CALL,   "canceled") \
	X(SNT_EUNREACHABLE, -14, SNT_SCOPE_TEAM,   "no way leads to another rank")

enum snt_status {
#define SNT_STATUS_ENUM(name, value, scope, sentence) name = value,
	SNT_STATUS_LIST(SNT_STATUS_ENUM)
#undef SNT_STATUS_ENUM
	SNT_OK = 0,
	SNT_BUSY = 1    /* not yet; ask again */
};

/* How much is broken after a status, smallest first. */
enum snt_scope { SNT_SCOPE_NONE, SNT_SCOPE_CALL, SNT_SCOPE_TEAM, SNT_SCOPE_DEVICE, SNT_SCOPE_PROCESS };

/* "SNT_EPEER"; "unknown" for a number that is no status. Never NULL, static. */
SNT_API const char *snt_status_name(int status);
/* "another rank is gone". Never NULL, static. */
SNT_API const char *snt_status_sentence(int status);
/* SNT_SCOPE_NONE for what is no failure, SNT_SCOPE_PROCESS for one that is not known. A failure that
 * breaks a team has SNT_SCOPE_TEAM or more. */
SNT_API enum snt_scope snt_status_scope(int status);
/* What this thread's last failed call said: peer, cause, what to do. Valid until
 * this thread's next failing call; "" when none has failed. The library logs it too, to
 * standard error unless SNT_LOG or snt_log_to() says otherwise: a program need not repeat it. */
SNT_API const char *snt_error_text(void);

enum snt_log_level { SNT_LOG_NONE, SNT_LOG_ERROR, SNT_LOG_WARN, SNT_LOG_INFO, SNT_LOG_DEBUG, SNT_LOG_TRACE };
/* Sends the library's log lines to @sink instead of standard error; NULL restores it.
 * @text has no line end and is valid during the call only. Any thread may call @sink. */
SNT_API void snt_log_to(void (*sink)(enum snt_log_level level, const char *text, void *arg), void *arg);

/* "0.1.0" */
SNT_API const char *snt_version(void);

/* ---- types and folds ---------------------------------------------------- */

enum snt_type {
	SNT_INT8, SNT_INT16, SNT_INT32, SNT_INT64,
	SNT_UINT8, SNT_UINT16, SNT_UINT32, SNT_UINT64,
	SNT_FLOAT16, SNT_BFLOAT16, SNT_FLOAT32, SNT_FLOAT64,
	SNT_TYPE_COUNT
};

/* Integers wrap around. SNT_AVERAGE is the sum divided by the number of ranks,
 * once, at the end; integers round towards zero. 16-bit floats are computed in
 * float32 and rounded to nearest even after each fold. Minimum and maximum of floats pass a NaN on.
 * SNT_BAND.. SNT_BXOR take integers only; SNT_LAND.. SNT_LXOR take integers
 * and give 0 or 1. */
enum snt_fold {
	SNT_SUM, SNT_PRODUCT, SNT_MIN, SNT_MAX, SNT_AVERAGE,
	SNT_BAND, SNT_BOR, SNT_BXOR, SNT_LAND, SNT_LOR, SNT_LXOR,
	SNT_FOLD_COUNT
};

/* Bytes of one element; 0 for a number that is no type. */
SNT_API size_t snt_type_size(enum snt_type type);
/* "unknown" for a number that is none, as the names of folds and collectives. Never NULL, static. */
SNT_API const char *snt_type_name(enum snt_type type);   /* "float32" */
SNT_API const char *snt_fold_name(enum snt_fold fold);   /* "sum" */

/* ---- teams -------------------------------------------------------------- */

struct snt_team;

/* What the members of a team need to find and to trust each other: where rank 0
 * listens, and the job's secret. One process makes it, every member gets the
 * same bytes (by fork, MPI_Bcast, a file of mode 0600, ...). It is a secret. */
struct snt_ticket { unsigned char bytes[192]; };

enum snt_reach { SNT_REACH_LOCAL, SNT_REACH_NETWORK };  /* loopback only; every interface */

/* Makes a ticket, for one team. The calling process, or a child that it forks
 * afterwards, must be rank 0. SNT_EINVAL, SNT_EDEVICE, SNT_ELIMIT. */
SNT_API int snt_ticket_create(enum snt_reach reach, struct snt_ticket *ticket) SNT_CHECK_RESULT;

/* Zero means default in every field; new fields are only added at the end. */
struct snt_team_options {
	size_t size;                     /* set by SNT_TEAM_OPTIONS */
	int rank, ranks;                 /* ranks 0: both from the environment of mpirun, srun, torchrun */
	const struct snt_ticket *ticket; /* NULL: from the environment or @allgather */
	/* Optional, instead of @ticket: @mine of every rank, @size bytes each, to
	 * @all in rank order on every rank. Returns 0 or anything else for failure. */
	int (*allgather)(void *arg, const void *mine, void *all, size_t size);
	void *allgather_arg;
	/* A wait fails when nothing on the team has moved for so long; a wait in which something
	 * moves now and then may last longer. Default SNT_TIMEOUT, 30 s. Start-up has a deadline
	 * of its own, for all of it: SNT_STARTUP_TIMEOUT, 60 s. */
	uint32_t timeout_ms;
	const char *transports;          /* "shm,tcp": which, in order of preference; "auto"; default SNT_TRANSPORTS */
	const char *algorithms;          /* choice of algorithms, see sennit(7); default SNT_ALGORITHMS */
	/* 1: a thread of the team's own moves large operations that were started while the caller is
	 * elsewhere, see sennit(7); -1: none; default SNT_PROGRESS_THREAD. Each rank as it likes. */
	int progress_thread;
};
#ifdef __cplusplus   /* which knows no designators before C++20, and warns where members are left out */
#define SNT_TEAM_OPTIONS { sizeof(struct snt_team_options), 0, 0, 0, 0, 0, 0, 0, 0, 0 }
#else
#define SNT_TEAM_OPTIONS { .size = sizeof(struct snt_team_options) }
#endif

/* Makes a team; every member calls it. @options may be NULL (all defaults); what
 * they point to is not needed afterwards. Blocks until all are there or the start-up
 * deadline passes. On failure there is no team and *@team is NULL.
 * SNT_EINVAL, SNT_EUNSUPPORTED, SNT_EMISMATCH, SNT_EABORTED, SNT_ELIMIT, SNT_EPROTOCOL,
 * SNT_EREFUSED, SNT_ETIMEOUT, SNT_EPEER, SNT_EDEVICE, SNT_ENOMEM. */
SNT_API int snt_team_create(const struct snt_team_options *options, struct snt_team **team) SNT_CHECK_RESULT;
/* Frees the team and what operations remain on it: their handles are gone too. Operations
 * that run are waited for, then the peers take what this rank has sent; each of these waits
 * ends with the team's timeout. NULL is allowed. */
SNT_API void snt_team_destroy(struct snt_team *team);
/* From 0 on, and how many there are. For a NULL team -1 and 0, below too. */
SNT_API int snt_team_rank(const struct snt_team *team);
SNT_API int snt_team_size(const struct snt_team *team);
/* This rank's place among the ranks of its host, and how many they are. */
SNT_API int snt_team_local_rank(const struct snt_team *team);
SNT_API int snt_team_local_size(const struct snt_team *team);

/* ---- operations --------------------------------------------------------- */

/* P ranks, this one is r. 'block' is count elements, the same count on all ranks. In
 * place means that input and output share memory: give @in and @out as written in the
 * last column. Otherwise they must not overlap. Where a rank has no buffer on a side
 * (not the root), the pointer is ignored and may be NULL.
 *
 *                        in               out               in place
 *   SNT_ALLREDUCE        1 block          1 block           in == out
 *   SNT_REDUCE_SCATTER   P blocks         1 block           out == in + r blocks
 *   SNT_ALLGATHER        1 block          P blocks          in == out + r blocks
 *   SNT_BROADCAST        1 block at root  1 block           in == out
 *   SNT_REDUCE           1 block          1 block at root   in == out
 *   SNT_ALLTOALL         P blocks         P blocks          in == out
 *   SNT_GATHER           1 block          P blocks at root  in == out + r blocks (root)
 *   SNT_SCATTER          P blocks at root 1 block           out == in + r blocks (root)
 *   SNT_BARRIER          -                -
 *   SNT_SEND             1 block to root  -
 *   SNT_RECV             -                1 block from root
 *
 * REDUCE_SCATTER: @out is block r of the fold. ALLTOALL: block s of @in goes to rank s and
 * becomes block r of its @out. BROADCAST: the root gives @out too, and finds a copy there.
 *
 * The v forms of reduce_scatter, allgather, gather, scatter and alltoall give @counts (P
 * counts of elements, for the side with P blocks) instead of @count, and may give
 * @offsets (P offsets in elements from the start of the buffer; NULL: blocks one after
 * another). What lies between blocks is left alone; blocks of an output must not overlap.
 * In place, 'r blocks' is the offset of block r. The counts are the same on all ranks, and
 * every rank gives all of them, also where it is not the root; offsets are each rank's own.
 *
 * alltoallv has one such pair for each side: in_layout.counts[s] here is
 * out_layout.counts[r] on rank s. What a rank sends itself must have one count on both
 * sides, and in place one offset too, else SNT_EINVAL; the other blocks may move.
 *
 * SEND and RECV: @root is the peer, not this rank itself. Messages between two ranks with
 * the same @tag are matched in the order of starting; count and type must be the same, else
 * SNT_EMISMATCH. There are no wildcards. A send is done when its buffer may be changed: a
 * large one not before the peer receives. */
enum snt_collective {
	SNT_ALLREDUCE, SNT_REDUCE_SCATTER, SNT_ALLGATHER, SNT_BROADCAST, SNT_REDUCE,
	SNT_ALLTOALL, SNT_GATHER, SNT_SCATTER, SNT_BARRIER, SNT_SEND, SNT_RECV,
	SNT_COLLECTIVE_COUNT
};
SNT_API const char *snt_collective_name(enum snt_collective collective);  /* "allreduce" */

struct snt_layout {
	const size_t *counts;    /* P counts; NULL: count each */
	const size_t *offsets;   /* P offsets; only with counts; NULL: one after another */
};

struct snt_call {
	size_t size;             /* set by SNT_CALL */
	enum snt_collective collective;
	const void *in;
	void *out;
	size_t count;            /* elements in a block; 0 in the v forms */
	enum snt_type type;
	enum snt_fold fold;
	int root;                /* broadcast, reduce, gather, scatter: the root; send, recv: the peer */
	uint32_t tag;            /* send, recv */
	struct snt_layout in_layout;    /* reduce_scatterv, scatterv, alltoallv */
	struct snt_layout out_layout;   /* allgatherv, gatherv, alltoallv */
};
#define SNT_CALL(which) .size = sizeof(struct snt_call), .collective = (which)

struct snt_op;

/* Prepares an operation that can be started any number of times with the same
 * buffers; nothing of them is sent yet, but connections are begun. @call and the arrays of
 * its layouts are copied. From snt_op_start() until snt_op_test() or snt_op_wait() returns other than
 * SNT_BUSY the buffers must stay valid, @in unchanged and @out untouched. The caller
 * frees the operation, or the team does with itself. SNT_EINVAL, which names the argument,
 * SNT_ENOMEM and SNT_EUNSUPPORTED leave the team as it was; SNT_EBROKEN; any other breaks the
 * team. *@op is NULL then. */
SNT_API int snt_op_create(struct snt_team *team, const struct snt_call *call, struct snt_op **op) SNT_CHECK_RESULT;
/* Starts it and returns without waiting; small operations may be done already. Allocates
 * nothing. SNT_EINVAL when it is still running; SNT_EBROKEN after the team failed; any
 * other is the failure of the team. */
SNT_API int snt_op_start(struct snt_op *op) SNT_CHECK_RESULT;
/* 0: done (also when never started), SNT_BUSY: not yet, negative: failed. While it runs,
 * moves every operation of the team without waiting; of one that is done only says so. Only
 * a call that finds that a peer is gone takes up to 0.3 s to learn why. Testing has no
 * deadline of its own; what other ranks decide is heard. */
SNT_API int snt_op_test(struct snt_op *op) SNT_CHECK_RESULT;
/* Waits until it is done, or until nothing has moved for the team's timeout: SNT_ETIMEOUT.
 * 0 or how it failed; every operation that runs fails with the team. */
SNT_API int snt_op_wait(struct snt_op *op) SNT_CHECK_RESULT;
/* Frees an operation; one that is running is waited for first, as snt_op_wait() does. NULL is allowed. */
SNT_API void snt_op_free(struct snt_op *op);
/* Moves every running operation of the team without waiting. 0 or a failure. */
SNT_API int snt_team_progress(struct snt_team *team) SNT_CHECK_RESULT;

/* Describe, start, wait, in one call. Repeating a call finds its operation again (not in the
 * v forms, whose counts may have changed). Statuses as of snt_op_create() and snt_op_wait(). */
SNT_API int snt_call(struct snt_team *team, const struct snt_call *call) SNT_CHECK_RESULT;

/* The same for each collective without counts. P ranks; @count elements in a block, the
 * same on all ranks; shapes, in place rules and NULL as in the table above. Statuses as of
 * snt_call(). */

/* @in: @count; @out: @count, the fold of all ranks' @in, the same bits on every rank. In
 * place: @in == @out. */
SNT_API int snt_allreduce(struct snt_team *team, const void *in, void *out, size_t count,
			  enum snt_type type, enum snt_fold fold) SNT_CHECK_RESULT;
/* @in: P blocks; @out: this rank's block of the fold of all ranks' @in. In place: @out is
 * block r of @in. */
SNT_API int snt_reduce_scatter(struct snt_team *team, const void *in, void *out, size_t count,
			       enum snt_type type, enum snt_fold fold) SNT_CHECK_RESULT;
/* @in: 1 block; @out: P blocks, those of all ranks in rank order. In place: @in is block r of
 * @out. */
SNT_API int snt_allgather(struct snt_team *team, const void *in, void *out, size_t count,
			  enum snt_type type) SNT_CHECK_RESULT;
/* @in: @count at @root, ignored elsewhere; @out: @count on every rank, a copy of the root's.
 * In place: @in == @out. */
SNT_API int snt_broadcast(struct snt_team *team, const void *in, void *out, size_t count,
			  enum snt_type type, int root) SNT_CHECK_RESULT;
/* @in: @count; @out: @count at @root, the fold of all ranks' @in, ignored elsewhere. In place
 * at the root: @in == @out. */
SNT_API int snt_reduce(struct snt_team *team, const void *in, void *out, size_t count,
		       enum snt_type type, enum snt_fold fold, int root) SNT_CHECK_RESULT;
/* @in: P blocks, block s for rank s; @out: P blocks, block s from rank s. In place: @in ==
 * @out. */
SNT_API int snt_alltoall(struct snt_team *team, const void *in, void *out, size_t count,
			 enum snt_type type) SNT_CHECK_RESULT;
/* @in: 1 block; @out: P blocks in rank order at @root, ignored elsewhere. In place at the root:
 * @in is block r of @out. */
SNT_API int snt_gather(struct snt_team *team, const void *in, void *out, size_t count,
		       enum snt_type type, int root) SNT_CHECK_RESULT;
/* @in: P blocks at @root, block s for rank s, ignored elsewhere; @out: 1 block. In place at
 * the root: @out is block r of @in. */
SNT_API int snt_scatter(struct snt_team *team, const void *in, void *out, size_t count,
			enum snt_type type, int root) SNT_CHECK_RESULT;
/* Returns when every rank has called it. */
SNT_API int snt_barrier(struct snt_team *team) SNT_CHECK_RESULT;
/* @in: @count for rank @to, which receives as many of the same type with the same @tag.
 * Returns when @in may be changed, for large messages not before the receive: two ranks
 * that first send much to each other both wait in vain. Start operations for that. */
SNT_API int snt_send(struct snt_team *team, const void *in, size_t count, enum snt_type type,
		     int to, uint32_t tag) SNT_CHECK_RESULT;
/* @out: @count from rank @from, sent with the same @tag. Returns when they are there. */
SNT_API int snt_recv(struct snt_team *team, void *out, size_t count, enum snt_type type,
		     int from, uint32_t tag) SNT_CHECK_RESULT;

/* ---- memory ------------------------------------------------------------- */

/* @size bytes that peers on the same host map and read in place: buffers from here
 * save large operations a copy. Aligned to 64 bytes at least, zeroed. NULL when
 * there is none left; snt_error_text() says why. Belongs to no team. Any thread. Peers
 * read here, and write results, only while an operation runs that has its buffers here. */
SNT_API void *snt_alloc(size_t size);
/* @memory from snt_alloc(), or NULL. No operation that runs may use it. Any thread. */
SNT_API void snt_free(void *memory);

#ifdef __cplusplus
}
#endif
#endif
