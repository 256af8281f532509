/* SPDX-License-Identifier: BSD-3-Clause */
/* measure.c - bandwidth and latency of a plugin by size, beside plain TCP between the same two processes. */
#include "tests/nccl_host/host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ROUNDS = 5, TAG = 1, WARM_UP = 20, MOST_CHANNELS = 16, MOST_DEPTH = 1024 };
#define MOST_BYTES ((size_t)1 << 20)
#define ROUND_BYTES ((uint64_t)64 << 20)

static const size_t measured_sizes[] = { 8, 256, 4096, 16384, 65536, 131072, 524288, 1048576 };

/* One way to send and to receive a message, several of them at once. */
struct way {
	struct host_rank *rank;
	struct host_link links[MOST_CHANNELS];
	void *send_memory[MOST_CHANNELS], *recv_memory[MOST_CHANNELS];
	char *out, *in;
	int out_socket, in_socket;      /* of plain TCP */
	int channels, depth;            /* depth: of all channels together */
};

/* As NCCL's progress thread does when it finds nothing to do. */
static void wait_a_little(struct way *way, uint64_t start)
{
	sched_yield();
	if (host_now_ns() - start > HOST_WAIT_MS * 1000000ull)
		host_fail(way->rank, "a measurement does not end");
}

/* ---- the plugin ------------------------------------------------------------------- */

static int net_post(struct way *way, int is_send, size_t size, uint64_t index, void **request)
{
	size_t at = index % (uint64_t)way->depth * MOST_BYTES, channel = index % (uint64_t)way->channels;
	struct host_buffers b = { .count = 1, .data = { way->in + at }, .sizes = { size }, .tags = { TAG },
		.memories = { way->recv_memory[channel] } };

	if (is_send)
		host_must(way->rank, host_isend(&way->rank->net, way->links[channel].send, way->out + at, size, TAG,
						way->send_memory[channel], request), "isend");
	else
		host_must(way->rank, host_irecv(&way->rank->net, way->links[channel].recv, &b, request), "irecv");
	return *request != NULL;
}

static void net_run(struct way *way, int is_send, size_t size, uint64_t count)
{
	void *requests[MOST_DEPTH];
	uint64_t posted = 0, done = 0, start = host_now_ns();
	int size_there, is_done;

	while (done < count) {
		if (posted < count && posted - done < (uint64_t)way->depth)
			posted += (uint64_t)net_post(way, is_send, size, posted, &requests[posted % (uint64_t)way->depth]);
		if (done == posted)
			continue;
		host_must(way->rank, host_test(&way->rank->net, requests[done % (uint64_t)way->depth], &is_done, &size_there),
			  "test");
		done += (uint64_t)is_done;
		if (!is_done)
			wait_a_little(way, start);
	}
}

/* ---- plain TCP ----------------------------------------------------------------------- */

/* Message after message through the same places that the plugin's have. */
static void tcp_move(struct way *way, int is_send, size_t size, uint64_t count)
{
	uint64_t moved = 0, all = size * count, start = host_now_ns();

	while (moved < all) {
		size_t at = moved / size % (uint64_t)way->depth * MOST_BYTES + moved % size, piece = size - moved % size;
		ssize_t now = is_send ? send(way->out_socket, way->out + at, piece, MSG_DONTWAIT | MSG_NOSIGNAL)
				      : recv(way->in_socket, way->in + at, piece, MSG_DONTWAIT);

		if (now > 0)
			moved += (uint64_t)now;
		else if (now == 0 || (errno != EAGAIN && errno != EINTR))
			host_fail(way->rank, "plain TCP: %s", strerror(errno));
		else
			wait_a_little(way, start);
	}
}

static int tcp_listen(struct way *way, struct sockaddr_in *at)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof *at;

	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (fd < 0 || bind(fd, (struct sockaddr *)at, size) || listen(fd, 1) || getsockname(fd, (struct sockaddr *)at, &size))
		host_fail(way->rank, "plain TCP: %s", strerror(errno));
	return fd;
}

/* A socket for each direction, as a comm goes one way. */
static void tcp_open(struct way *way)
{
	struct sockaddr_in mine, theirs;
	int on = 1, listener = tcp_listen(way, &mine);

	host_swap(way->rank, &mine, &theirs, sizeof mine);
	way->out_socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (way->out_socket < 0 || connect(way->out_socket, (struct sockaddr *)&theirs, sizeof theirs))
		host_fail(way->rank, "plain TCP: %s", strerror(errno));
	way->in_socket = accept(listener, NULL, NULL);
	close(listener);
	setsockopt(way->out_socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	/* Where BBR is the system's choice it paces even loopback, and what is measured depends on its mood. */
	setsockopt(way->out_socket, IPPROTO_TCP, TCP_CONGESTION, "reno", strlen("reno"));
}

/* ---- both ------------------------------------------------------------------------------ */

typedef void (*mover)(struct way *way, int is_send, size_t size, uint64_t count);

/* From rank 0 to rank 1 and, so that the end counts, one byte back: seconds. */
static double time_stream(struct way *way, mover move, size_t size, uint64_t count)
{
	uint64_t start;

	host_barrier(way->rank);
	start = host_now_ns();
	move(way, !way->rank->rank, size, count);
	move(way, way->rank->rank, 1, 1);
	return (double)(host_now_ns() - start) * 1e-9;
}

static double time_turns(struct way *way, mover move, size_t size, uint64_t count)
{
	uint64_t start;

	host_barrier(way->rank);
	start = host_now_ns();
	for (uint64_t i = 0; i < 2 * count; i++)
		move(way, i % 2 == (uint64_t)way->rank->rank, size, 1);
	return (double)(host_now_ns() - start) * 1e-9 / 2;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double middle(double values[ROUNDS])
{
	qsort(values, ROUNDS, sizeof *values, by_value);
	return values[ROUNDS / 2];
}

static void measure_size(struct way *way, size_t size)
{
	uint64_t count = ROUND_BYTES / size < 20000 ? ROUND_BYTES / size : 20000, turns = size > 65536 ? 200 : 2000;
	mover movers[2] = { net_run, tcp_move };
	double stream[2][ROUNDS], wait[2][ROUNDS], rate[2], us[2];

	for (int round = 0; round < ROUNDS; round++)
		for (int which = 0; which < 2; which++) {
			time_turns(way, movers[which], size, WARM_UP);
			stream[which][round] = time_stream(way, movers[which], size, count);
			wait[which][round] = time_turns(way, movers[which], size, turns);
		}
	for (int which = 0; which < 2; which++) {
		rate[which] = (double)(size * count) / middle(stream[which]) * 1e-6;
		us[which] = middle(wait[which]) / (double)turns * 1e6;
	}
	if (!way->rank->rank)
		host_say(way->rank, "%10zu %10.1f %10.1f %6.2f %12.2f %10.2f %6.2f\n", size, rate[0], rate[1],
			 rate[0] / rate[1], us[0], us[1], us[0] / us[1]);
}

static void open_channels(struct way *way)
{
	const struct host_net *net = &way->rank->net;
	size_t size = MOST_BYTES * (size_t)way->depth;

	way->out = calloc(1, size);
	way->in = calloc(1, size);
	if (!way->out || !way->in)
		host_fail(way->rank, "out of memory");
	for (int i = 0; i < way->channels; i++) {
		host_connect_pair(way->rank, way->rank->context, &way->links[i]);
		host_must(way->rank, host_register(net, way->links[i].send, way->out, size, &way->send_memory[i]), "regMr");
		host_must(way->rank, host_register(net, way->links[i].recv, way->in, size, &way->recv_memory[i]), "regMr");
	}
}

static void close_channels(struct way *way)
{
	const struct host_net *net = &way->rank->net;

	host_barrier(way->rank);
	for (int i = 0; i < way->channels; i++) {
		host_must(way->rank, host_deregister(net, way->links[i].send, way->send_memory[i]), "deregMr");
		host_must(way->rank, host_deregister(net, way->links[i].recv, way->recv_memory[i]), "deregMr");
		host_close_pair(way->rank, &way->links[i]);
	}
	free(way->out);
	free(way->in);
}

void host_measure(struct host_rank *rank)
{
	const struct host_options *options = rank->options;
	struct way way = { .rank = rank, .channels = options->channels, .depth = options->depth * options->channels };

	host_begin(rank);
	open_channels(&way);
	tcp_open(&way);
	if (!rank->rank)
		host_say(rank, "# %s v%d, channels: %d, in flight on each: %d, host memory; plain TCP each way on loopback in "
			 "turns with it; medians of %d\n"
			 "#    bytes       MB/s   TCP MB/s  ratio   latency us     TCP us  ratio\n", rank->net.name,
			 rank->version, way.channels, options->depth, ROUNDS);
	for (size_t i = 0; i < sizeof measured_sizes / sizeof *measured_sizes; i++)
		if (!options->size || options->size == measured_sizes[i])
			measure_size(&way, measured_sizes[i]);
	close(way.out_socket);
	close(way.in_socket);
	close_channels(&way);
	host_end(rank);
}
