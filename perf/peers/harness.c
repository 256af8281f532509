/* SPDX-License-Identifier: BSD-3-Clause */
/* harness.c - aligned starts, times, proof and the state of the machine around them. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE   /* sched_setaffinity */
#endif
#include "perf/peers/harness.h"

#include <fcntl.h>
#include <getopt.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
	MOST_RANKS = 64, MOST_ITERATIONS = 20000, MOST_WARM_UPS = 1000, MOST_SIZES = 64,
	LEAST_ITERATIONS = 5, LEAST_LONG_ITERATIONS = 3,
	LINE = 128,           /* two cache lines: neighbours are fetched in pairs */
	PROBES = 15, PROBE_TURNS = 200,
};
static const double warm_up_s = 0.02, long_s = 0.1;
static const double patience = 4;   /* times the seconds that were asked for, on a machine that is busy otherwise */

/* How many blocks a rank puts in and gets out, and whether only the root does. */
enum blocks { NONE, ONE, ALL };
static const struct shape {
	const char *name;
	enum blocks in, out;
	int in_at_root, out_at_root;
} shapes[HARNESS_COLLECTIVES] = {
	[HARNESS_ALLREDUCE] = { "allreduce", ONE, ONE, 0, 0 },
	[HARNESS_REDUCE_SCATTER] = { "reduce_scatter", ALL, ONE, 0, 0 },
	[HARNESS_ALLGATHER] = { "allgather", ONE, ALL, 0, 0 },
	[HARNESS_BROADCAST] = { "broadcast", ONE, ONE, 1, 0 },
	[HARNESS_REDUCE] = { "reduce", ONE, ONE, 0, 1 },
	[HARNESS_ALLTOALL] = { "alltoall", ALL, ALL, 0, 0 },
	[HARNESS_GATHER] = { "gather", ONE, ALL, 0, 1 },
	[HARNESS_SCATTER] = { "scatter", ALL, ONE, 1, 0 },
	[HARNESS_BARRIER] = { "barrier", NONE, NONE, 0, 0 },
};

/* What all ranks map. A rank writes only its own place; rank 0 writes the rest. */
struct place {
	_Alignas(LINE) uint64_t turn;
	_Alignas(LINE) double number;
	uint64_t wrong;
	double own_s;
	double times[MOST_ITERATIONS];
};
struct meeting {
	_Alignas(LINE) uint64_t ping;
	_Alignas(LINE) uint64_t pong;
	_Alignas(LINE) long decision;
	_Alignas(LINE) long last;   /* the iteration to stop at */
	struct place places[];
};

static struct {
	struct harness_place place;
	const char *meet, *sizes, *collectives;
	double seconds;
	int in_place, dirty, limit_s;
} options = { .place = { -1, 0, "" }, .sizes = "8", .collectives = "allreduce", .seconds = 0.2, .limit_s = 600 };

static struct meeting *meeting;
static off_t mapped;        /* bytes of the file in use */
static uint64_t turns;
static void (*rest)(void);  /* between two looks at another rank's place */

struct machine { double near_ns, busy_s, own_s, total_s; };

double harness_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void give_up(const char *what)
{
	fprintf(stderr, "rank %d: %s\n", options.place.rank, what);
	exit(2);
}

/* ---- options and start --------------------------------------------------- */

static int rank_from_environment(void)
{
	static const char *const names[] = { "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SNT_RANK", "RANK" };

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (getenv(names[i]))
			return atoi(getenv(names[i]));
	return -1;
}

static void read_option(int letter)
{
	switch (letter) {
	case 'm': options.meet = optarg; break;
	case 'r': options.place.rank = atoi(optarg); break;
	case 'n': options.place.ranks = atoi(optarg); break;
	case 's': options.sizes = optarg; break;
	case 'c': options.collectives = optarg; break;
	case 't': options.seconds = atof(optarg); break;
	case 'i': options.in_place = 1; break;
	case 'd': options.dirty = 1; break;
	case 'l': options.limit_s = atoi(optarg); break;
	case 'x': options.place.detail = optarg; break;
	default: exit(2);
	}
}

static void read_options(int argc, char **argv)
{
	static const struct option known[] = {
		{ "meet", required_argument, NULL, 'm' }, { "rank", required_argument, NULL, 'r' },
		{ "ranks", required_argument, NULL, 'n' }, { "sizes", required_argument, NULL, 's' },
		{ "collectives", required_argument, NULL, 'c' }, { "seconds", required_argument, NULL, 't' },
		{ "in-place", no_argument, NULL, 'i' }, { "dirty", no_argument, NULL, 'd' },
		{ "limit", required_argument, NULL, 'l' }, { "detail", required_argument, NULL, 'x' },
		{ NULL, 0, NULL, 0 },
	};
	int letter;

	options.place.rank = rank_from_environment();
	while ((letter = getopt_long(argc, argv, "", known, NULL)) != -1)
		read_option(letter);
	if (!options.meet || options.place.ranks < 1 || options.place.ranks > MOST_RANKS ||
	    options.place.rank < 0 || options.place.rank >= options.place.ranks)
		give_up("--meet FILE, --ranks N and a rank are needed");
}

/* Rank i to the i-th core that is allowed, all around; threads that are made later stay there too. */
static void bind_to_core(int rank)
{
	cpu_set_t allowed, one;
	int skip;

	if (sched_getaffinity(0, sizeof allowed, &allowed) || !CPU_COUNT(&allowed))
		return;
	skip = rank % CPU_COUNT(&allowed);
	for (int core = 0; core < CPU_SETSIZE; core++) {
		if (!CPU_ISSET(core, &allowed) || skip--)
			continue;
		CPU_ZERO(&one);
		CPU_SET(core, &one);
		sched_setaffinity(0, sizeof one, &one);
		return;
	}
}

void *harness_shared(size_t size)
{
	off_t begin = mapped, page = sysconf(_SC_PAGESIZE);
	int file = open(options.meet, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	void *memory;

	mapped += ((off_t)size + page - 1) / page * page;
	/* This never makes the file shorter, so every rank may do it. */
	if (file < 0 || posix_fallocate(file, begin, mapped - begin))
		give_up("the meeting file cannot be used, or there is no room for it");
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, begin);
	close(file);
	if (memory == MAP_FAILED)
		give_up("the meeting file cannot be mapped");
	return memory;
}

/* ---- meeting ------------------------------------------------------------- */

static void rest_spinning(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

static void rest_yielding(void)
{
	sched_yield();
}

static void rest_asleep(void)
{
	const struct timespec nap = { .tv_nsec = 100000 };

	nanosleep(&nap, NULL);
}

/* Each rank looks at all the others, so they leave within one cache line's way of each other. */
static void meet_resting(void (*how)(void))
{
	uint64_t turn = ++turns;

	__atomic_store_n(&meeting->places[options.place.rank].turn, turn, __ATOMIC_RELEASE);
	for (int rank = 0; rank < options.place.ranks; rank++)
		while (__atomic_load_n(&meeting->places[rank].turn, __ATOMIC_ACQUIRE) < turn)
			how();
}

static void meet(void)
{
	meet_resting(rest);
}

/* The largest of what all ranks give. */
static double slowest(double mine)
{
	double most = mine;

	meeting->places[options.place.rank].number = mine;
	meet();
	for (int rank = 0; rank < options.place.ranks; rank++)
		if (meeting->places[rank].number > most)
			most = meeting->places[rank].number;
	return most;
}

/* What rank 0 decides, on all ranks. */
static long decide(long mine)
{
	meet();   /* all have read what was decided before */
	if (options.place.rank == 0)
		meeting->decision = mine;
	meet();
	return meeting->decision;
}

const struct harness_place *harness_open(int argc, char **argv)
{
	read_options(argc, argv);
	alarm((unsigned int)options.limit_s);   /* a rank whose peers are gone would spin for ever */
	bind_to_core(options.place.rank);
	meeting = harness_shared(sizeof *meeting + (size_t)options.place.ranks * sizeof *meeting->places);
	rest = options.place.ranks > sysconf(_SC_NPROCESSORS_ONLN) ? rest_yielding : rest_spinning;
	return &options.place;
}

/* ---- the machine around -------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, long count)
{
	qsort(values, (size_t)count, sizeof *values, by_value);
	return (values[(count - 1) / 2] + values[count / 2]) / 2;
}

static void play_ping_pong(int rank)
{
	uint64_t *mine = rank == 0 ? &meeting->ping : &meeting->pong;
	uint64_t *theirs = rank == 0 ? &meeting->pong : &meeting->ping;
	uint64_t begin = *mine;

	for (uint64_t turn = begin + 1; turn <= begin + PROBE_TURNS; turn++) {
		if (rank == 0)
			__atomic_store_n(mine, turn, __ATOMIC_RELEASE);
		while (__atomic_load_n(theirs, __ATOMIC_ACQUIRE) < turn)
			rest_spinning();
		if (rank != 0)
			__atomic_store_n(mine, turn, __ATOMIC_RELEASE);
	}
}

/* One way of a cache line between ranks 0 and 1: the host of a virtual machine may move its cores
 * near to or far from each other at any moment, and with that every time changes. */
static double probe(void)
{
	double times[PROBES] = { 0 };
	int can = options.place.ranks >= 2 && sysconf(_SC_NPROCESSORS_ONLN) >= 2;

	meet();
	for (int i = 0; can && i < PROBES && options.place.rank < 2; i++) {
		double begin = harness_now();

		play_ping_pong(options.place.rank);
		times[i] = (harness_now() - begin) / PROBE_TURNS / 2 * 1e9;
	}
	/* Ranks beyond the first two would take the core away from those that are asked. */
	meet_resting(options.place.rank < 2 ? rest : rest_asleep);
	return can && options.place.rank == 0 ? median(times, PROBES) : 0;
}

static double own_cpu(void)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	return (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
		1e-6 * (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
}

/* Adds @sign times what /proc/stat says: busy with programs or taken away by the host, and all. */
static void count_machine(struct machine *machine, int sign)
{
	double user = 0, nice = 0, system = 0, idle = 0, wait = 0, hard = 0, soft = 0, steal = 0;
	double second = sign * (double)sysconf(_SC_CLK_TCK);
	FILE *file = fopen("/proc/stat", "r");

	if (!file)
		return;
	if (fscanf(file, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &user, &nice, &system, &idle, &wait, &hard,
		&soft, &steal) == 8) {
		machine->busy_s += (user + nice + system + steal) / second;
		machine->total_s += (user + nice + system + idle + wait + hard + soft + steal) / second;
	}
	fclose(file);
}

/* ---- buffers and proof --------------------------------------------------- */

static size_t elements(enum blocks blocks, int at_root, size_t count)
{
	if (blocks == NONE || (at_root && options.place.rank != 0))
		return 0;
	return blocks == ALL ? count * (size_t)options.place.ranks : count;
}

static size_t elements_in(const struct harness_call *call)
{
	return elements(shapes[call->collective].in, shapes[call->collective].in_at_root, call->count);
}

static size_t elements_out(const struct harness_call *call)
{
	return elements(shapes[call->collective].out, shapes[call->collective].out_at_root, call->count);
}

/* Sums of 16 of them are exact. */
static float value(int rank, size_t i)
{
	return (float)(rank + 1) * (float)(i % 509 + 1);
}

static float expected(const struct harness_call *call, size_t i)
{
	int ranks = options.place.ranks;
	size_t before = (size_t)options.place.rank * call->count;
	float all = (float)(ranks * (ranks + 1) / 2 - 1);

	switch (call->collective) {
	case HARNESS_REDUCE_SCATTER: return value((int)all, before + i);
	case HARNESS_BROADCAST: return value(0, i);
	case HARNESS_SCATTER: return value(0, before + i);
	case HARNESS_ALLGATHER:
	case HARNESS_GATHER: return value((int)(i / call->count), i % call->count);
	case HARNESS_ALLTOALL: return value((int)(i / call->count), before + i % call->count);
	default: return value((int)all, i);
	}
}

/* Both sides in one buffer, each where sennit.h wants it. */
static void place_in_one(struct harness_call *call)
{
	const struct shape *shape = &shapes[call->collective];
	size_t mine = (size_t)options.place.rank * call->count;

	call->in = call->out;
	if (shape->in == ONE && shape->out == ALL)
		call->in += mine;
	if (shape->in == ALL && shape->out == ONE)
		call->out += mine;
}

static void write_input(const struct harness_call *call, float number)
{
	size_t count = elements_in(call);

	for (size_t i = 0; i < count; i++)
		call->in[i] = number;
}

/* Zeros from then on: sums in place, again and again, must not overflow. */
static void write_zeros(const struct harness_call *call)
{
	size_t out = elements_out(call);

	write_input(call, 0);
	for (size_t i = 0; i < out; i++)
		call->out[i] = 0;
}

static int prove(const struct harness_peer *peer, const struct harness_call *call)
{
	size_t in = elements_in(call), out = elements_out(call);
	uint64_t *wrong = &meeting->places[options.place.rank].wrong;

	for (size_t i = 0; i < out; i++)
		call->out[i] = -1;
	for (size_t i = 0; i < in; i++)
		call->in[i] = value(options.place.rank, i);
	meet();
	if (peer->run())
		return 1;
	*wrong = 0;
	for (size_t i = 0; i < out && !peer->is_bound; i++)
		*wrong += call->out[i] != expected(call, i);
	meet();
	write_zeros(call);
	return 0;
}

/* ---- times --------------------------------------------------------------- */

/* @number: what the owner has just written, as a gradient is when its sum is wanted. */
static double time_once(const struct harness_peer *peer, const struct harness_call *call, float number)
{
	double begin;

	if (options.dirty) {
		meet();   /* nobody reads what was there before any more */
		write_input(call, number);
	}
	if (peer->barrier())
		give_up("the barrier failed");
	meet();
	begin = harness_now();
	if (peer->run())
		give_up("the collective failed");
	return harness_now() - begin;
}

/* Warms up, and says on all ranks how many iterations fill the time. */
static long plan_iterations(const struct harness_peer *peer, const struct harness_call *call)
{
	double begin = harness_now(), fastest = 1e9, wanted;
	long count = 0, least;

	do {
		double time = slowest(time_once(peer, call, 0));

		fastest = time < fastest ? time : fastest;
		count++;
	} while (decide(count < 2 || (harness_now() - begin < warm_up_s && count < MOST_WARM_UPS)));
	wanted = options.seconds / fastest;
	least = fastest > long_s ? LEAST_LONG_ITERATIONS : LEAST_ITERATIONS;
	return decide(wanted > MOST_ITERATIONS ? MOST_ITERATIONS : wanted < (double)least ? least : (long)wanted);
}

/* Rank 0, after iteration @i, on a machine that is too busy to go on: one more. All ranks see that
 * when they have met for it. */
static void stop_soon(long i)
{
	if (i >= LEAST_ITERATIONS && i + 2 < meeting->last)
		__atomic_store_n(&meeting->last, i + 2, __ATOMIC_RELAXED);
}

/* How many were taken. */
static long take_times(const struct harness_peer *peer, const struct harness_call *call, long iterations)
{
	double *times = meeting->places[options.place.rank].times;
	double end = harness_now() + patience * options.seconds;

	if (options.place.rank == 0)
		meeting->last = iterations;
	meet();
	for (long i = 0; i < __atomic_load_n(&meeting->last, __ATOMIC_RELAXED); i++) {
		times[i] = time_once(peer, call, (float)(i % 2));
		if (options.place.rank == 0 && harness_now() > end)
			stop_soon(i);
	}
	meet();
	return meeting->last;
}

/* Of each iteration that of the slowest rank, in order of size. */
static void sort_times(double *times, long iterations)
{
	for (int rank = 1; rank < options.place.ranks; rank++)
		for (long i = 0; i < iterations; i++)
			if (meeting->places[rank].times[i] > times[i])
				times[i] = meeting->places[rank].times[i];
	qsort(times, (size_t)iterations, sizeof *times, by_value);
}

static void print_row(const struct harness_call *call, size_t bytes, long iterations, const struct machine *before,
	const struct machine *after)
{
	double *times = meeting->places[0].times, own_s = 0;
	uint64_t wrong = 0;

	for (int rank = 0; rank < options.place.ranks; rank++) {
		wrong += meeting->places[rank].wrong;
		own_s += meeting->places[rank].own_s;
	}
	sort_times(times, iterations);
	printf("row,%s,%zu,%ld,%.4f,%.4f,%.4f,%llu,%.1f,%.1f,%.3f,%.3f,%.3f\n", shapes[call->collective].name, bytes,
		iterations, (times[(iterations - 1) / 2] + times[iterations / 2]) / 2 * 1e6,
		times[(iterations * 99 + 99) / 100 - 1] * 1e6, times[0] * 1e6, (unsigned long long)wrong, before->near_ns,
		after->near_ns, after->busy_s, own_s, after->total_s);
	fflush(stdout);
}

static int measure(const struct harness_peer *peer, const struct harness_call *call, size_t bytes)
{
	struct machine before = { 0 }, after = { 0 };
	double own_s;
	long iterations;

	if (prove(peer, call))
		return 1;
	iterations = plan_iterations(peer, call);
	before.near_ns = probe();
	own_s = own_cpu();
	count_machine(&after, -1);
	iterations = take_times(peer, call, iterations);
	count_machine(&after, 1);
	meeting->places[options.place.rank].own_s = own_cpu() - own_s;
	after.near_ns = probe();
	if (options.place.rank == 0)
		print_row(call, bytes, iterations, &before, &after);
	meet();
	return 0;
}

/* ---- all of it ----------------------------------------------------------- */

struct buffers { float *in, *out; };

static int run_case(const struct harness_peer *peer, enum harness_collective which, size_t size,
	const struct buffers *buffers)
{
	const struct shape *shape = &shapes[which];
	size_t unit = sizeof(float) * (shape->in == ALL || shape->out == ALL ? (size_t)options.place.ranks : 1);
	struct harness_call call = { .collective = which, .count = shape->in == NONE ? 0 : size / unit,
		.in = buffers->in, .out = buffers->out };
	int result = 0;

	if (!call.count && shape->in != NONE)
		return 0;
	call.in_place = shape->in != NONE && (options.in_place || which == HARNESS_BROADCAST);
	if (call.in_place)
		place_in_one(&call);
	if (peer->prepare(&call))
		return 0;
	result = measure(peer, &call, call.count * unit);
	if (peer->finish)
		peer->finish();
	return result;
}

static int parse_sizes(size_t *sizes)
{
	char *at = (char *)options.sizes;
	int count = 0;

	while (count < MOST_SIZES && *at) {
		sizes[count++] = strtoull(at, &at, 10);
		at += *at == ',';
	}
	return count;
}

static int run_collective(const struct harness_peer *peer, enum harness_collective which, const size_t *sizes, int count,
	const struct buffers *buffers)
{
	int result = 0;

	if (which == HARNESS_BARRIER)
		count = 1;
	for (int i = 0; i < count && !result; i++)
		result = run_case(peer, which, sizes[i], buffers);
	return result;
}

/* Whether the list of collectives has @name. */
static int is_wanted(const char *name)
{
	size_t length = strlen(name);

	for (const char *at = options.collectives; at; at = strchr(at, ',')) {
		at += *at == ',';
		if (strncmp(at, name, length) == 0 && (at[length] == ',' || !at[length]))
			return 1;
	}
	return 0;
}

static float *get_buffer(const struct harness_peer *peer, size_t size)
{
	float *buffer = peer->get_memory ? peer->get_memory(size) : aligned_alloc(4096, (size + 4095) / 4096 * 4096);

	if (!buffer)
		give_up("out of memory");
	memset(buffer, 0, size);   /* its pages are there before anything is timed */
	return buffer;
}

int harness_run(const struct harness_peer *peer)
{
	size_t sizes[MOST_SIZES], most = LINE;
	int count = parse_sizes(sizes), result = 0;
	struct buffers buffers;

	for (int i = 0; i < count; i++)
		most = sizes[i] > most ? sizes[i] : most;
	buffers.in = get_buffer(peer, most);
	buffers.out = get_buffer(peer, most);
	if (peer->has_threads)
		rest = rest_yielding;
	if (options.place.rank == 0)
		printf("peer,%s\n", peer->name);
	meet();
	for (int which = 0; which < HARNESS_COLLECTIVES && !result; which++)
		if (is_wanted(shapes[which].name))
			result = run_collective(peer, (enum harness_collective)which, sizes, count, &buffers);
	meet();
	fflush(stdout);
	return result;
}
