/* SPDX-License-Identifier: BSD-3-Clause */
/* measure_sockets.c - the pattern in which NCCL's own socket transport moves messages.
 *
 * A comm has a control socket, on which the size of each message goes first, with its first bytes behind it. The rest
 * follows on the same socket; or, where there are helper threads, in pieces of at least 64 KiB dealt to the
 * threads' sockets. Posting only takes note; what moves is what is tested, the oldest message.
 */
#include "tests/nccl_host/measure.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST_THREADS = 16, MOST_SOCKETS = 64, INLINE_BYTES = 128, TASKS = 64 };
#define LEAST_PIECE ((size_t)64 << 10)

struct task { char *data; size_t size, at; int fd; };

struct helper {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct task tasks[TASKS];
	uint64_t given;
	atomic_uint_fast64_t done;
	int is_send, stop;
	struct host_rank *rank;
};

struct head { uint32_t size; char bytes[INLINE_BYTES]; };

enum stage { POSTED, SIZED, DEALT };

struct message { enum stage stage; char *data; size_t size, head_at, at; struct head head; };

/* One direction of one channel. */
struct comm {
	struct host_rank *rank;
	int is_send, control, fds[MOST_SOCKETS];
	unsigned next;                          /* of fds */
	struct helper *helpers;
};

struct sockets {
	unsigned threads, each;
	struct comm out[HOST_CHANNELS], in[HOST_CHANNELS];
	struct message messages[HOST_DEPTH];
	struct comm *comms[HOST_DEPTH];         /* of the messages */
};

/* ---- bytes ------------------------------------------------------------------------- */

/* As much as there is, without waiting: whether @at has reached @size. */
static int advance(struct host_rank *rank, int is_send, int fd, char *data, size_t size, size_t *at)
{
	while (*at < size) {
		ssize_t now = is_send ? send(fd, data + *at, size - *at, MSG_DONTWAIT | MSG_NOSIGNAL)
				      : recv(fd, data + *at, size - *at, MSG_DONTWAIT);

		if (now < 0 && (errno == EAGAIN || errno == EINTR))
			return 0;
		if (now <= 0)
			host_fail(rank, "sockets: %s", now ? strerror(errno) : "closed");
		*at += (size_t)now;
	}
	return 1;
}

/* ---- helpers ------------------------------------------------------------------------- */

/* All that it was given, in turns; then it sleeps. */
static void *help(void *argument)
{
	struct helper *helper = argument;
	uint64_t given = 0, first;

	for (;;) {
		first = atomic_load(&helper->done);
		if (first == given) {
			pthread_mutex_lock(&helper->lock);
			while (first == helper->given && !helper->stop)
				pthread_cond_wait(&helper->wake, &helper->lock);
			given = helper->given;
			pthread_mutex_unlock(&helper->lock);
			if (first == given)
				return NULL;
		}
		for (uint64_t i = first; i < given; i++) {
			struct task *task = &helper->tasks[i % TASKS];

			advance(helper->rank, helper->is_send, task->fd, task->data, task->size, &task->at);
		}
		while (first < given && helper->tasks[first % TASKS].at == helper->tasks[first % TASKS].size)
			atomic_store(&helper->done, ++first);
	}
}

static void give(struct helper *helper, struct task task)
{
	pthread_mutex_lock(&helper->lock);
	helper->tasks[helper->given++ % TASKS] = task;
	pthread_cond_signal(&helper->wake);
	pthread_mutex_unlock(&helper->lock);
}

static void deal(const struct sockets *all, struct comm *comm, struct message *message)
{
	unsigned sockets = all->threads * all->each;
	size_t left = message->size - message->at, piece = (left + sockets - 1) / sockets;

	if (piece < LEAST_PIECE)
		piece = LEAST_PIECE;
	while (message->at < message->size) {
		size_t size = message->size - message->at < piece ? message->size - message->at : piece;

		give(&comm->helpers[comm->next % all->threads],
		     (struct task){ .data = message->data + message->at, .size = size, .fd = comm->fds[comm->next] });
		comm->next = (comm->next + 1) % sockets;
		message->at += size;
	}
}

static int is_dealt_out(const struct sockets *all, const struct comm *comm)
{
	for (unsigned i = 0; i < all->threads; i++)
		if (atomic_load(&comm->helpers[i].done) != comm->helpers[i].given)
			return 0;
	return 1;
}

/* ---- messages -------------------------------------------------------------------------- */

static int sockets_post(struct host_way *way, int is_send, size_t size, uint64_t index)
{
	struct sockets *all = way->own;
	uint64_t at = index % (uint64_t)way->depth, channel = index % (uint64_t)way->channels;

	all->messages[at] = (struct message){ .data = host_place(way, is_send, index), .size = size };
	all->comms[at] = is_send ? &all->out[channel] : &all->in[channel];
	return 1;
}

static size_t first_bytes(const struct message *message)
{
	return message->size < INLINE_BYTES ? message->size : INLINE_BYTES;
}

static int send_size(struct comm *comm, struct message *message)
{
	size_t first = first_bytes(message);

	if (!message->head_at) {
		message->head.size = (uint32_t)message->size;
		memcpy(message->head.bytes, message->data, first);
	}
	if (!advance(comm->rank, 1, comm->control, (char *)&message->head, sizeof message->head.size + first, &message->head_at))
		return 0;
	message->at = first;
	return 1;
}

static int receive_size(struct comm *comm, struct message *message)
{
	if (message->head_at < sizeof message->head.size) {
		if (!advance(comm->rank, 0, comm->control, (char *)&message->head.size, sizeof message->head.size, &message->head_at))
			return 0;
		if (message->head.size > message->size)
			host_fail(comm->rank, "sockets: %u bytes where there is room for %zu", message->head.size, message->size);
		message->size = message->head.size;
	}
	return advance(comm->rank, 0, comm->control, message->data, first_bytes(message), &message->at);
}

static int sockets_test(struct host_way *way, uint64_t index)
{
	struct sockets *all = way->own;
	struct message *message = &all->messages[index % (uint64_t)way->depth];
	struct comm *comm = all->comms[index % (uint64_t)way->depth];

	if (message->stage == POSTED && (comm->is_send ? send_size(comm, message) : receive_size(comm, message)))
		message->stage = SIZED;
	if (message->stage == SIZED && all->threads) {
		deal(all, comm, message);
		message->stage = DEALT;
	}
	if (message->stage == SIZED)
		return advance(way->rank, comm->is_send, comm->control, message->data, message->size, &message->at);
	return message->stage == DEALT && is_dealt_out(all, comm);
}

/* ---- connections ------------------------------------------------------------------------- */

static void comm_open(const struct sockets *all, struct comm *comm)
{
	comm->helpers = calloc(MOST_THREADS, sizeof *comm->helpers);
	if (!comm->helpers)
		host_fail(comm->rank, "out of memory");
	for (unsigned i = 0; i < all->threads; i++) {
		struct helper *helper = &comm->helpers[i];

		helper->rank = comm->rank;
		helper->is_send = comm->is_send;
		pthread_mutex_init(&helper->lock, NULL);
		pthread_cond_init(&helper->wake, NULL);
		if (pthread_create(&helper->thread, NULL, help, helper))
			host_fail(comm->rank, "no thread");
	}
}

static void comm_close(const struct sockets *all, struct comm *comm)
{
	for (unsigned i = 0; i < all->threads; i++) {
		struct helper *helper = &comm->helpers[i];

		pthread_mutex_lock(&helper->lock);
		helper->stop = 1;
		pthread_cond_signal(&helper->wake);
		pthread_mutex_unlock(&helper->lock);
		pthread_join(helper->thread, NULL);
	}
	for (unsigned i = 0; i < all->threads * all->each; i++)
		close(comm->fds[i]);
	close(comm->control);
	free(comm->helpers);
}

static void sockets_open(struct host_way *way)
{
	struct sockets *all = way->own;

	for (int i = 0; i < way->channels; i++) {
		all->out[i] = (struct comm){ .rank = way->rank, .is_send = 1 };
		all->in[i] = (struct comm){ .rank = way->rank };
		host_tcp_connect(way->rank, &all->out[i].control, &all->in[i].control);
		for (unsigned k = 0; k < all->threads * all->each; k++)
			host_tcp_connect(way->rank, &all->out[i].fds[k], &all->in[i].fds[k]);
		comm_open(all, &all->out[i]);
		comm_open(all, &all->in[i]);
	}
}

static void sockets_close(struct host_way *way)
{
	struct sockets *all = way->own;

	for (int i = 0; i < way->channels; i++) {
		comm_close(all, &all->out[i]);
		comm_close(all, &all->in[i]);
	}
	free(all);
}

int host_way_sockets_set(struct host_way *way, const char *text)
{
	struct sockets *all = way->own = calloc(1, sizeof *all);
	char more;

	if (!all)
		host_fail(way->rank, "out of memory");
	if (!*text)
		return 0;
	if (sscanf(text, "%ux%u%c", &all->threads, &all->each, &more) != 2 || !all->threads || !all->each)
		return -1;
	return all->threads > MOST_THREADS || all->each > MOST_SOCKETS || all->threads * all->each > MOST_SOCKETS ? -1 : 0;
}

const struct host_way_kind host_way_sockets = {
	.open = sockets_open, .close = sockets_close, .move = host_move_deep, .post = sockets_post, .test = sockets_test,
};
