/* SPDX-License-Identifier: BSD-3-Clause */
/* measure.c - bandwidth and latency of a plugin by size, in turns with other ways between the same two processes. */
#include "tests/nccl_host/measure.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_ROUNDS = 99, MOST_WAYS = 6, WARM_UP = 20 };
#define ROUND_BYTES ((uint64_t)64 << 20)

static const size_t measured_sizes[] = { 8, 256, 4096, 16384, 65536, 131072, 524288, 1048576 };

/* ---- moving ------------------------------------------------------------------------ */

void host_wait_a_little(struct host_way *way, uint64_t start)
{
	sched_yield();
	if (host_now_ns() - start > HOST_WAIT_MS * 1000000ull)
		host_fail(way->rank, "a measurement of %s does not end", way->name);
}

void host_move_deep(struct host_way *way, int is_send, size_t size, uint64_t count)
{
	uint64_t posted = 0, done = 0, start = host_now_ns();

	while (done < count) {
		if (posted < count && posted - done < (uint64_t)way->depth)
			posted += (uint64_t)way->kind->post(way, is_send, size, posted);
		if (done == posted)
			continue;
		if (way->kind->test(way, done))
			done++;
		else
			host_wait_a_little(way, start);
	}
}

/* From rank 0 to rank 1 and, so that the end counts, one byte back: seconds. */
static double time_stream(struct host_way *way, size_t size, uint64_t count)
{
	uint64_t start;

	host_barrier(way->rank);
	start = host_now_ns();
	way->kind->move(way, !way->rank->rank, size, count);
	way->kind->move(way, way->rank->rank, 1, 1);
	return (double)(host_now_ns() - start) * 1e-9;
}

static double time_turns(struct host_way *way, size_t size, uint64_t count)
{
	uint64_t start;

	host_barrier(way->rank);
	start = host_now_ns();
	for (uint64_t i = 0; i < 2 * count; i++)
		way->kind->move(way, i % 2 == (uint64_t)way->rank->rank, size, 1);
	return (double)(host_now_ns() - start) * 1e-9 / 2;
}

/* ---- the table ----------------------------------------------------------------------- */

struct measured { double stream[MOST_ROUNDS], turn[MOST_ROUNDS]; };     /* seconds */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(const double *values, int count)
{
	double sorted[MOST_ROUNDS];

	memcpy(sorted, values, sizeof *values * (size_t)count);
	qsort(sorted, (size_t)count, sizeof *sorted, by_value);
	return sorted[count / 2];
}

/* Of the ratios within the rounds: what disturbs a round disturbs all of it. */
static double median_ratio(const double *values, const double *to, int count)
{
	double ratios[MOST_ROUNDS];

	for (int i = 0; i < count; i++)
		ratios[i] = values[i] / to[i];
	return median(ratios, count);
}

static void say_head(const struct host_way *ways, int count, int rounds)
{
	struct host_rank *rank = ways->rank;

	host_say(rank, "# %s v%d, channels: %d, in flight on each: %d, host memory; medians of %d rounds in turns\n#    bytes       MB/s",
		 ways->name, rank->version, ways->channels, ways->depth / ways->channels, rounds);
	for (int i = 1; i < count; i++)
		host_say(rank, " %12.12s", ways[i].name);
	host_say(rank, "   latency us");
	for (int i = 1; i < count; i++)
		host_say(rank, " %12.12s", ways[i].name);
	host_say(rank, "\n");
}

static void say_row(const struct host_way *ways, const struct measured *measured, int count, size_t size, const uint64_t numbers[2])
{
	struct host_rank *rank = ways->rank;
	int rounds = rank->options->rounds;

	host_say(rank, "%10zu %10.1f", size, (double)(size * numbers[0]) / median(measured->stream, rounds) * 1e-6);
	for (int i = 1; i < count; i++)
		host_say(rank, " %12.2f", median_ratio(measured[i].stream, measured->stream, rounds));
	host_say(rank, " %12.2f", median(measured->turn, rounds) / (double)numbers[1] * 1e6);
	for (int i = 1; i < count; i++)
		host_say(rank, " %12.2f", median_ratio(measured->turn, measured[i].turn, rounds));
	host_say(rank, "\n");
}

static void measure_size(struct host_way *ways, int count, size_t size)
{
	const uint64_t numbers[2] = { ROUND_BYTES / size < 20000 ? ROUND_BYTES / size : 20000, size > 65536 ? 200 : 2000 };
	static struct measured measured[MOST_WAYS];

	for (int round = 0; round < ways->rank->options->rounds; round++)
		for (int i = 0; i < count; i++) {
			int which = (i + round) % count;

			time_turns(&ways[which], size, WARM_UP);
			measured[which].stream[round] = time_stream(&ways[which], size, numbers[0]);
			measured[which].turn[round] = time_turns(&ways[which], size, numbers[1]);
		}
	if (!ways->rank->rank)
		say_row(ways, measured, count, size, numbers);
}

/* ---- ways ---------------------------------------------------------------------------- */

static void read_way(struct host_way *way, const char *text)
{
	snprintf(way->name, sizeof way->name, "%s", text);
	if (!strcmp(text, "tcp")) {
		way->kind = &host_way_tcp;
	} else if (!strncmp(text, "sockets", 7) && (!text[7] || text[7] == ':')) {
		way->kind = &host_way_sockets;
		if (host_way_sockets_set(way, text + 7 + (text[7] == ':')))
			host_fail(way->rank, "--beside: '%s' is not sockets:THREADSxSOCKETS", text);
	} else {
		way->kind = &host_way_plugin;
		host_way_plugin_set(way, text);
	}
}

/* The plugin, then what stands beside it: how many. */
static int read_ways(struct host_way *ways, const struct host_way *blank, char *beside)
{
	int count = 1;
	char *rest;

	ways[0] = *blank;
	ways[0].kind = &host_way_plugin;
	for (char *one = strtok_r(beside, ",", &rest); one && strcmp(one, "none"); one = strtok_r(NULL, ",", &rest)) {
		if (count == MOST_WAYS)
			host_fail(blank->rank, "--beside: at most %d", MOST_WAYS - 1);
		ways[count] = *blank;
		read_way(&ways[count++], one);
	}
	return count;
}

/* At a page's beginning, as NCCL's buffers are: system calls copy to the middle of a cache line at four fifths of the speed. */
static char *get_places(struct host_rank *rank, int depth)
{
	size_t size = (size_t)depth * HOST_MOST_BYTES;
	char *places = aligned_alloc(4096, size);

	if (!places)
		host_fail(rank, "out of memory");
	return memset(places, 0, size);
}

void host_measure(struct host_rank *rank)
{
	const struct host_options *options = rank->options;
	struct host_way ways[MOST_WAYS], blank = { .rank = rank, .channels = options->channels,
		.depth = options->depth * options->channels };
	char *beside = strdup(options->beside);
	int count;

	blank.out = get_places(rank, blank.depth);
	blank.in = get_places(rank, blank.depth);
	if (!beside)
		host_fail(rank, "out of memory");
	count = read_ways(ways, &blank, beside);
	for (int i = 0; i < count; i++)
		ways[i].kind->open(&ways[i]);
	if (!rank->rank)
		say_head(ways, count, options->rounds);
	for (size_t i = 0; i < sizeof measured_sizes / sizeof *measured_sizes; i++)
		if (!options->size || options->size == measured_sizes[i])
			measure_size(ways, count, measured_sizes[i]);
	for (int i = 0; i < count; i++)
		ways[i].kind->close(&ways[i]);
	free(blank.out);
	free(blank.in);
	free(beside);
}
