/* SPDX-License-Identifier: BSD-3-Clause */
/* wire.c - one conn of a transport by itself, between two processes of this host: half a round trip, and a stream one way.
 *
 * perf/wire TRANSPORT WHAT SIZE ITERATIONS [WHAT SIZE ITERATIONS]...
 *
 * WHAT is latency or stream. Prints "WHAT,SIZE,NUMBER" for each: microseconds of half a round trip, the median, or MB/s.
 * Nothing sleeps or yields, as in ucx_perftest, beside which perf/ucx sets it. Core 0 has the first process, core 1 the other. */
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "transport/transport.h"

#define WINDOW 32                /* messages of a stream in flight, as ucx_perftest -O 32 */
#define WARMUP 10                /* one in so many iterations, before those that count */
#define GIVE_UP_MS 60000
#define GROUP 8                  /* round trips of fewer bytes than GROUPED are timed together: the clock takes its time too */
#define GROUPED 65536
#define HUGE ((size_t)2 << 20)

struct end {
	int rank;
	struct snti_port *port;
	struct snti_conn *conn;
	char *memory;                   /* what is sent, and behind it what is received */
	size_t most;
};

static void stop(const char *what)
{
	fprintf(stderr, "wire: %s%s%s\n", what, *snt_error_text() ? ": " : "", snt_error_text());
	exit(1);
}

static void move(struct end *end)
{
	if (end->port->ops->poll(end->port) < 0)
		stop("the port failed");
}

static void await(struct end *end, const struct snti_xfer *xfer)
{
	while (xfer->status == SNT_BUSY)
		move(end);
	if (xfer->status)
		stop("a message failed");
}

static void post(struct end *end, int sends, struct snti_xfer *xfer)
{
	int status;

	xfer->status = SNT_BUSY;
	do
		status = sends ? snti_send(end->conn, xfer) : snti_recv(end->conn, xfer);
	while (status == SNTI_AGAIN && (move(end), 1));
	if (status)
		stop("a message was refused");
}

/* Filled in once, as ucx_perftest has its parameters ready. Each is awaited. */
static struct snti_xfer prepared(const struct end *end, int sends, size_t size)
{
	return (struct snti_xfer){ .data = end->memory + (sends ? 0 : end->most), .size = size,
		.polled = (uint32_t)sends };
}

static void exchange(struct end *end, int sends_first, struct snti_xfer *there, struct snti_xfer *back)
{
	if (sends_first)
		post(end, 1, there);
	post(end, 0, back);
	await(end, back);
	if (!sends_first)
		post(end, 1, there);
	await(end, there);
}

static int compare(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return (left > right) - (left < right);
}

static double latency(struct end *end, size_t size, size_t iterations)
{
	size_t group = size < GROUPED ? GROUP : 1, groups = iterations / group + 1;
	struct snti_xfer there = prepared(end, 1, size), back = prepared(end, 0, size);
	uint64_t *times = calloc(groups, sizeof *times), from;
	double median;

	if (!times)
		stop("no memory");
	for (size_t i = 0; i < iterations / WARMUP + 2; i++)
		exchange(end, !end->rank, &there, &back);
	for (size_t i = 0; i < groups; i++) {
		from = snti_now_ns();
		for (size_t k = 0; k < group; k++)
			exchange(end, !end->rank, &there, &back);
		times[i] = snti_now_ns() - from;
	}
	qsort(times, groups, sizeof *times, compare);
	median = (double)times[groups / 2] / 2e3 / (double)group;
	free(times);
	return median;
}

static void flow(struct end *end, size_t size, size_t iterations)
{
	struct snti_xfer xfers[WINDOW];

	for (size_t i = 0; i < WINDOW; i++)
		xfers[i] = prepared(end, !end->rank, size);
	for (size_t i = 0; i < iterations; i++) {
		await(end, &xfers[i % WINDOW]);
		post(end, !end->rank, &xfers[i % WINDOW]);
	}
	for (size_t i = 0; i < WINDOW; i++)
		await(end, &xfers[i]);
}

static double stream(struct end *end, size_t size, size_t iterations)
{
	struct snti_xfer there = prepared(end, 1, 1), back = prepared(end, 0, 1);
	uint64_t from;

	flow(end, size, iterations / WARMUP + 2);
	exchange(end, !end->rank, &there, &back);
	from = snti_now_ns();
	flow(end, size, iterations);
	exchange(end, !end->rank, &there, &back);   /* until the other side has it all */
	return (double)size * (double)iterations / (double)(snti_now_ns() - from) * 1e3;
}

static void connect_ends(struct end *end, int link)
{
	struct snti_address mine, theirs;

	if (end->port->ops->address(end->port, &mine))
		stop("no address");
	if (write(link, &mine, sizeof mine) != sizeof mine || read(link, &theirs, sizeof theirs) != sizeof theirs)
		stop("the other process is gone");
	if (snti_conn_open(end->port, &mine, end->rank ? &theirs : NULL, 1, !end->rank, &end->conn))
		stop("no connection");
	while (end->conn->status == SNT_BUSY)
		move(end);
	if (end->conn->status)
		stop("no connection");
}

static void bind_to(int core)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(core, &set);
	sched_setaffinity(0, sizeof set, &set);
}

static size_t number(const char *text)
{
	char *rest;
	unsigned long long found = strtoull(text, &rest, 10);

	if (*rest || !found)
		stop("SIZE and ITERATIONS are numbers from 1 on");
	return found;
}

/* Huge pages where there are any, as ucx_perftest has them. */
static char *get_memory(struct end *end)
{
	size_t size = (2 * end->most + HUGE - 1) / HUGE * HUGE;
	char *memory = aligned_alloc(HUGE, size);

	if (!memory)
		stop("no memory");
	madvise(memory, size, MADV_HUGEPAGE);
	memset(memory, 1, size);
	return memory;
}

static void run(int rank, int link, char **words, int count)
{
	static const unsigned char secret[32] = "only these two processes know it";
	const struct snti_port_options options = { .secret = secret, .local_only = 1, .timeout_ms = GIVE_UP_MS };
	const struct snti_transport *transport = snti_transport_find(words[0]);
	struct end end = { .rank = rank };

	bind_to(rank);
	for (int i = 1; i < count; i += 3)
		end.most = number(words[i + 1]) > end.most ? number(words[i + 1]) : end.most;
	end.memory = get_memory(&end);
	if (!transport)
		stop("no such transport");
	if (snti_port_open(transport, &options, &end.port))
		stop("no port");
	connect_ends(&end, link);
	for (int i = 1; i < count; i += 3) {
		size_t size = number(words[i + 1]), iterations = number(words[i + 2]);
		double found = *words[i] == 'l' ? latency(&end, size, iterations) : stream(&end, size, iterations);

		if (!rank && printf("%s,%zu,%.3f\n", words[i], size, found) < 0)
			stop("no output");
	}
	fflush(stdout);
	snti_conn_close(end.conn);
	snti_port_close(end.port);
	free(end.memory);
}

int main(int argc, char **argv)
{
	int link[2], ended;
	pid_t child;

	if (argc < 5 || (argc - 2) % 3) {
		fprintf(stderr, "usage: wire TRANSPORT {latency|stream SIZE ITERATIONS}...\n");
		return 2;
	}
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, link))
		stop("no socket");
	child = fork();
	if (child < 0)
		stop("no process");
	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(link[0]);
		run(1, link[1], argv + 1, argc - 1);
		exit(0);
	}
	close(link[1]);
	run(0, link[0], argv + 1, argc - 1);
	return waitpid(child, &ended, 0) != child || ended ? 1 : 0;
}
