/* SPDX-License-Identifier: BSD-3-Clause */
/* measure_tcp.c - plain TCP, as a program that measures a network's bandwidth uses it. */
#include "tests/nccl_host/measure.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct tcp { int out, in; };

/* Where the other process reaches this one: on loopback, or by what joins their namespaces. */
static in_addr_t own_address(struct host_rank *rank)
{
	struct ifaddrs *all = NULL;
	in_addr_t found = htonl(INADDR_LOOPBACK);

	if (!rank->options->namespaces)
		return found;
	if (getifaddrs(&all))
		host_fail(rank, "plain TCP: no list of addresses: %s", strerror(errno));
	for (struct ifaddrs *one = all; one; one = one->ifa_next)
		if (one->ifa_addr && one->ifa_addr->sa_family == AF_INET && !(one->ifa_flags & IFF_LOOPBACK)) {
			found = ((struct sockaddr_in *)(void *)one->ifa_addr)->sin_addr.s_addr;
			break;
		}
	freeifaddrs(all);
	return found;
}

static int listen_somewhere(struct host_rank *rank, struct sockaddr_in *at)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t size = sizeof *at;

	*at = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = own_address(rank) };
	if (fd < 0 || bind(fd, (struct sockaddr *)at, size) || listen(fd, 1) || getsockname(fd, (struct sockaddr *)at, &size))
		host_fail(rank, "plain TCP: %s", strerror(errno));
	return fd;
}

void host_tcp_connect(struct host_rank *rank, int *out, int *in)
{
	struct sockaddr_in mine, theirs;
	int on = 1, listener = listen_somewhere(rank, &mine);

	host_swap(rank, &mine, &theirs, sizeof mine);
	*out = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (*out < 0 || connect(*out, (struct sockaddr *)&theirs, sizeof theirs))
		host_fail(rank, "plain TCP: %s", strerror(errno));
	*in = accept(listener, NULL, NULL);
	if (*in < 0)
		host_fail(rank, "plain TCP: %s", strerror(errno));
	close(listener);
	setsockopt(*out, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	/* Where BBR is the system's choice it paces even loopback, and what is measured depends on its mood. */
	if (theirs.sin_addr.s_addr == htonl(INADDR_LOOPBACK))
		setsockopt(*out, IPPROTO_TCP, TCP_CONGESTION, "reno", strlen("reno"));
}

/* A socket for each direction, as a comm goes one way. */
static void tcp_open(struct host_way *way)
{
	struct tcp *tcp = way->own = calloc(1, sizeof *tcp);

	if (!tcp)
		host_fail(way->rank, "out of memory");
	host_tcp_connect(way->rank, &tcp->out, &tcp->in);
}

static void tcp_close(struct host_way *way)
{
	struct tcp *tcp = way->own;

	close(tcp->out);
	close(tcp->in);
	free(tcp);
}

/* Message after message through the same places that the others have. */
static void tcp_move(struct host_way *way, int is_send, size_t size, uint64_t count)
{
	struct tcp *tcp = way->own;
	uint64_t moved = 0, all = size * count, start = host_now_ns();

	while (moved < all) {
		char *at = host_place(way, is_send, moved / size) + moved % size;
		size_t piece = size - moved % size;
		ssize_t now = is_send ? send(tcp->out, at, piece, MSG_DONTWAIT | MSG_NOSIGNAL) : recv(tcp->in, at, piece, MSG_DONTWAIT);

		if (now > 0)
			moved += (uint64_t)now;
		else if (now == 0 || (errno != EAGAIN && errno != EINTR))
			host_fail(way->rank, "plain TCP: %s", strerror(errno));
		else
			host_wait_a_little(way, start);
	}
}

const struct host_way_kind host_way_tcp = { .open = tcp_open, .close = tcp_close, .move = tcp_move };
