/* SPDX-License-Identifier: BSD-3-Clause */
/* scenarios_profiler.c - what a profiler is told, and what its file then says of it. */
#include "tests/nccl_host/profiler.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* The user's own file, if there is one; else one for this rank. */
static void choose_file(struct host_rank *rank, char *path, size_t room, const char *format)
{
	const char *given = getenv("SNT_PROFILE");

	if (given && *given) {
		snprintf(path, room, "%s", given);
		return;
	}
	host_file_name(rank, path, room, format);
	unlink(path);
	setenv("SNT_PROFILE", path, 1);
	setenv("SNT_PROFILE_FORMAT", format, 1);
	setenv("SNT_PROFILE_INTERVAL", "0", 0);
}

static void expect(struct host_rank *rank, const char *text, const char *words, const char *key, unsigned long long value)
{
	unsigned long long sum = host_file_sum(text, words, key);

	if (sum != value)
		host_fail(rank, "%s of lines with '%s' is %llu, not %llu", key, words, sum, value);
}

static void done_with(struct host_rank *rank, const char *path, char *text)
{
	free(text);
	unlink(path);
	if (host_warnings())
		host_fail(rank, "a warning where nothing was wrong");
}

/* ---- nobody asked ------------------------------------------------------------------ */

/* RAS may set the mask whatever the profiler says, so that events come without a context. */
static void profiler_off(struct host_rank *rank)
{
	struct host_profiler profiler;

	unsetenv("SNT_PROFILE");
	for (int i = 0; i < 3; i++) {
		host_profiler_begin(&profiler, rank, 7, rank->rank);
		if (profiler.mask || profiler.context)
			host_fail(rank, "without a setting the mask is %#x", (unsigned)profiler.mask);
		host_profiler_collective(&profiler, "AllReduce");
		if (host_profiler_op(&profiler, 1, 1, getpid()) || host_profiler_op(&profiler, 1, 1, 1))
			host_fail(rank, "an event without a context gets a handle");
		host_profiler_end(&profiler);
	}
	if (host_warnings())
		host_fail(rank, "a warning where nothing was wrong");
}

/* ---- numbers ------------------------------------------------------------------------ */

static void feed(const struct host_profiler *profiler, int peer)
{
	struct host_channel channel = { .profiler = profiler, .peer = peer, .nic = 3 };

	host_profiler_collective(profiler, "AllReduce");
	host_profiler_send(&channel, 20, 1000);
	host_profiler_receive(&channel, 10, 500);
	channel.nic = -1;
	host_profiler_send(&channel, 5, 0);
}

/* 20 of 1000, 1001 ... bytes are 20190; 10 of 500 ... 5045; 5 of 0 ... 10. */
static void profiler_stream(struct host_rank *rank)
{
	struct host_profiler profiler;
	char path[512], *text;

	choose_file(rank, path, sizeof path, "json");
	host_profiler_begin(&profiler, rank, 0xabc, rank->rank);
	if (!(profiler.mask & NCCL_EVENT_PROXY_STEP))
		host_fail(rank, "the mask is %#x", (unsigned)profiler.mask);
	feed(&profiler, 1);
	feed(&profiler, 2);
	host_profiler_end(&profiler);
	if (strchr(path, '%'))
		return;
	text = host_file_read(rank, path);
	for (int peer = 1; peer <= 2; peer++) {
		char words[80];

		snprintf(words, sizeof words, "\"peer\":%d, \"nic\":\"3\" \"send\"", peer);
		expect(rank, text, words, "\"messages\":", 20);
		expect(rank, text, words, "\"bytes\":", 20190);
		snprintf(words, sizeof words, "\"peer\":%d, \"nic\":\"3\" \"receive\"", peer);
		expect(rank, text, words, "\"messages\":", 10);
		expect(rank, text, words, "\"bytes\":", 5045);
		snprintf(words, sizeof words, "\"peer\":%d, \"nic\":\"unknown\" \"send\"", peer);
		expect(rank, text, words, "\"messages\":", 5);
		expect(rank, text, words, "\"bytes\":", 10);
	}
	expect(rank, text, "\"transfers\" 0x0000000000000abc", "\"messages\":", 70);
	expect(rank, text, "\"type\":\"operations\"", "\"AllReduce\":", 2);
	expect(rank, text, "\"type\":\"end\"", "\"lost_operations\":", 0);
	done_with(rank, path, text);
}

static void *feed_often(void *argument)
{
	const struct host_profiler *profiler = argument;

	for (int i = 0; i < 40; i++)
		feed(profiler, i % 5);
	return NULL;
}

/* Four communicators with two progress threads each, as when they share resources, while the file is written. */
static void profiler_comms(struct host_rank *rank)
{
	struct host_profiler profilers[4];
	pthread_t threads[8];
	char path[512], words[80], *text;

	setenv("SNT_PROFILE_INTERVAL", "1", 0);
	choose_file(rank, path, sizeof path, "json");
	for (int i = 0; i < 4; i++)
		host_profiler_begin(&profilers[i], rank, (uint64_t)i + 1, rank->rank);
	for (int i = 0; i < 8; i++)
		if (pthread_create(&threads[i], NULL, feed_often, &profilers[i / 2]))
			host_fail(rank, "no thread");
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < 4; i++)
		host_profiler_end(&profilers[i]);
	text = host_file_read(rank, path);
	for (unsigned i = 0; i < 4; i++) {
		snprintf(words, sizeof words, "\"transfers\" 0x%016x", i + 1);
		expect(rank, text, words, "\"messages\":", 2 * 40 * 35);
		expect(rank, text, words, "\"bytes\":", 2 * 40 * (20190 + 5045 + 10));
		snprintf(words, sizeof words, "\"operations\" 0x%016x", i + 1);
		expect(rank, text, words, "\"AllReduce\":", 80);
	}
	done_with(rank, path, text);
}

/* ---- waits ---------------------------------------------------------------------------- */

static void wait_for(const struct host_profiler *profiler, int is_send, const unsigned us[3],
		     int peer)
{
	struct host_channel channel = { .profiler = profiler, .peer = peer, .depth = 1, .gpu_us = us[0], .peer_us = us[1],
		.wire_us = us[2] };

	if (is_send)
		host_profiler_send(&channel, 4, 4096);
	else
		host_profiler_receive(&channel, 4, 4096);
}

/* Four messages, of which one after another waits: eight times in ten for one thing. */
static void profiler_waits(struct host_rank *rank)
{
	static const struct { const char *verdict, *key; int is_send; unsigned us[3]; } cases[] = {
		{ "gpu-late", "\"gpu_ns\":", 1, { 16000, 2000, 2000 } }, { "peer-late", "\"peer_ns\":", 1, { 2000, 16000, 2000 } },
		{ "wire-slow", "\"wire_ns\":", 1, { 2000, 2000, 16000 } }, { "gpu-late", "\"gpu_ns\":", 0, { 16000, 2000, 2000 } },
		{ "data-late", "\"data_ns\":", 0, { 2000, 2000, 16000 } }, { "flush-slow", "\"flush_ns\":", 0, { 2000, 16000, 2000 } },
	};
	struct host_profiler profiler;
	char path[512], *text;
	uint64_t before, took[6];

	choose_file(rank, path, sizeof path, "json");
	host_profiler_begin(&profiler, rank, 1, rank->rank);
	for (int i = 0; i < 6; i++) {
		before = host_now_ns();
		wait_for(&profiler, cases[i].is_send, cases[i].us, i);
		took[i] = host_now_ns() - before;
	}
	host_profiler_end(&profiler);
	text = host_file_read(rank, path);
	for (int i = 0; i < 6; i++) {
		char words[80];
		unsigned long long waited;

		snprintf(words, sizeof words, "\"peer\":%d,", i);
		waited = host_file_sum(text, words, cases[i].key);
		if (waited < 4 * 16000000ull || waited > took[i])
			host_fail(rank, "%s is %llu, of which 64000000 were waited and %llu passed", cases[i].key, waited,
				  (unsigned long long)took[i]);
		/* A machine that is too busy to wait as it shall tells nothing. */
		snprintf(words, sizeof words, "\"peer\":%d, %s", i, cases[i].verdict);
		if (waited > took[i] / 2 + took[i] / 20)
			expect(rank, text, words, "\"messages\":", 4);
	}
	done_with(rank, path, text);
}

/* ---- what is not there ------------------------------------------------------------------- */

static void profiler_strange(struct host_rank *rank)
{
	struct host_profiler profiler, other;
	struct nccl_event_v6 unknown = { .type = (uint64_t)1 << 14 }, control = { .type = NCCL_EVENT_PROXY_CONTROL };
	void *op, *step;
	char path[512], *text;
	int local;

	choose_file(rank, path, sizeof path, "json");
	host_profiler_begin(&profiler, rank, 1, rank->rank);
	host_profiler_stop(&profiler, host_profiler_start(&profiler, &unknown));
	host_profiler_stop(&profiler, host_profiler_start(&profiler, &control));
	if (host_profiler_step(&profiler, NULL, 0) || host_profiler_step(&profiler, HOST_STALE, 0) ||
	    host_profiler_step(&profiler, &local, 0))
		host_fail(rank, "a step without an operation gets a handle");
	host_profiler_request(&profiler, NULL, 1);
	/* Another process's traffic, with a context that means nothing here. */
	other = profiler;
	other.context = HOST_STALE;
	op = host_profiler_op(&other, 3, 1, getpid() + 100000);
	step = host_profiler_step(&other, op, 0);
	host_profiler_request(&other, step, 1);
	host_profiler_state(&other, step, NCCL_STATE_SEND_GPU_WAIT, 0);
	host_profiler_state(&other, step, 4711, 0);
	host_profiler_state(&other, step, NCCL_STATE_SEND_WAIT, 77);
	host_profiler_stop(&other, step);
	host_profiler_stop(&other, op);
	if (host_profiler_op(&other, 3, 1, getpid()))
		host_fail(rank, "a context that is none gets a handle");
	/* An abort: what is under way never stops, and its handles outlive the communicator. */
	op = host_profiler_op(&profiler, 3, 0, getpid());
	step = host_profiler_step(&profiler, op, 0);
	host_profiler_state(&profiler, step, NCCL_STATE_RECV_WAIT, 0);
	other = profiler;
	host_profiler_end(&profiler);
	host_profiler_state(&other, step, NCCL_STATE_RECV_FLUSH_WAIT, 5);
	host_profiler_stop(&other, step);
	host_profiler_stop(&other, op);
	text = host_file_read(rank, path);
	expect(rank, text, "\"other-processes- \"peer\":3,", "\"bytes\":", 77);
	expect(rank, text, "\"transfers\"", "\"messages\":", 1);
	done_with(rank, path, text);
}

/* More operations under way than there are places, and more peers than rows; then all is as before. */
static void profiler_overflow(struct host_rank *rank)
{
	enum { OPS = 6000, PEERS = 9000 };
	struct host_profiler profiler;
	static void *ops[OPS];
	unsigned long long refused = 0, lost;
	char path[512], *text;

	choose_file(rank, path, sizeof path, "json");
	host_profiler_begin(&profiler, rank, 1, rank->rank);
	for (int i = 0; i < OPS; i++)
		refused += !(ops[i] = host_profiler_op(&profiler, 1, 1, getpid()));
	for (int i = 0; i < OPS; i++)
		host_profiler_stop(&profiler, ops[i]);
	for (int i = 0; i < PEERS; i++)
		host_profiler_send(&(struct host_channel){ .profiler = &profiler, .peer = i, .nic = 0 }, 1, 10);
	host_profiler_end(&profiler);
	host_profiler_begin(&profiler, rank, 2, rank->rank);
	host_profiler_end(&profiler);
	text = host_file_read(rank, path);
	lost = host_file_sum(text, "\"end\" 0x0000000000000001", "\"lost_messages\":");
	if (!refused || !lost || lost >= PEERS)
		host_fail(rank, "%llu operations refused, %llu messages lost", refused, lost);
	expect(rank, text, "\"end\" 0x0000000000000001", "\"lost_operations\":", refused);
	expect(rank, text, "\"transfers\"", "\"messages\":", PEERS - lost);
	done_with(rank, path, text);
}

/* ---- OpenMetrics ------------------------------------------------------------------------ */

static void profiler_openmetrics(struct host_rank *rank)
{
	struct host_profiler profiler, second;
	char path[512], *text;

	choose_file(rank, path, sizeof path, "openmetrics");
	host_profiler_begin(&profiler, rank, 0xabc, rank->rank);
	host_profiler_begin(&second, rank, 0xdef, rank->rank);
	feed(&profiler, 1);
	feed(&second, 2);
	host_profiler_end(&profiler);
	if (!strchr(path, '%')) {
		text = host_file_read(rank, path);
		expect(rank, text, "sennit_nccl_verdict{ 0x0000000000000abc verdict=", "} ", 3);
		free(text);
	}
	host_profiler_end(&second);
	if (strchr(path, '%'))
		return;
	text = host_file_read(rank, path);
	expect(rank, text, "sennit_nccl_messages_total 0x0000000000000abc peer=\"1\" nic=\"3\" \"send\"", "} ", 20);
	expect(rank, text, "sennit_nccl_transferred_bytes_total 0x0000000000000abc \"receive\"", "} ", 5045);
	expect(rank, text, "sennit_nccl_transfer_seconds_bucket 0x0000000000000def nic=\"3\" \"send\" +Inf", "} ", 20);
	expect(rank, text, "sennit_nccl_transfer_seconds_count 0x0000000000000def", "} ", 35);
	expect(rank, text, "sennit_nccl_operations_total 0x0000000000000def collective=\"AllReduce\"", "} ", 1);
	expect(rank, text, "sennit_nccl_communicator_info comm_name=\"a nranks=\"4\"", "} ", 2);
	if (strcmp(text + strlen(text) - 6, "# EOF\n"))
		host_fail(rank, "the file does not end with # EOF");
	done_with(rank, path, text);
}

/* ---- intervals, cycles, failures --------------------------------------------------------- */

static void profiler_interval(struct host_rank *rank)
{
	struct host_profiler profiler;
	char path[512], *text = NULL;
	uint64_t start = host_now_ns();

	setenv("SNT_PROFILE_INTERVAL", "20", 1);
	choose_file(rank, path, sizeof path, "json");
	host_profiler_begin(&profiler, rank, 1, rank->rank);
	feed(&profiler, 1);
	while (!text || host_file_sum(text, "\"transfers\"", "\"messages\":") < 35) {
		free(text);
		if (host_now_ns() - start > HOST_WAIT_MS * 1000000ull)
			host_fail(rank, "no report although its time has passed");
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
		text = host_file_read(rank, path);
	}
	free(text);
	host_profiler_end(&profiler);
	text = host_file_read(rank, path);
	expect(rank, text, "\"transfers\"", "\"messages\":", 35);
	done_with(rank, path, text);
}

/* More communicators, one after another, than there are places for. */
static void profiler_cycles(struct host_rank *rank)
{
	struct host_profiler profiler;
	char path[512], *text;
	int descriptors = 0;

	setenv("SNT_PROFILE_INTERVAL", "1000", 1);
	choose_file(rank, path, sizeof path, "json");
	for (int i = 0; i < 600; i++) {
		host_profiler_begin(&profiler, rank, (uint64_t)i, rank->rank);
		for (int peer = 0; peer < 20; peer++)
			host_profiler_send(&(struct host_channel){ .profiler = &profiler, .peer = peer, .nic = 0 }, 2, 10);
		host_profiler_end(&profiler);
		if (i == 1)
			descriptors = host_descriptors();
	}
	if (host_descriptors() > descriptors)
		host_fail(rank, "%d descriptors instead of %d", host_descriptors(), descriptors);
	text = host_file_read(rank, path);
	expect(rank, text, "\"transfers\"", "\"messages\":", 600 * 20 * 2);
	expect(rank, text, "\"end\"", "\"lost_messages\":", 0);
	done_with(rank, path, text);
}

static void begin_badly(struct host_rank *rank, const char *profile, const char *format)
{
	struct host_profiler profiler;
	int status = 0;
	pid_t pid = fork();

	if (pid) {
		if (pid < 0 || waitpid(pid, &status, 0) < 0 || status)
			host_fail(rank, "SNT_PROFILE=%s SNT_PROFILE_FORMAT=%s", profile, format);
		return;
	}
	setenv("SNT_PROFILE", profile, 1);
	setenv("SNT_PROFILE_FORMAT", format, 1);
	for (int i = 0; i < 3; i++) {
		host_profiler_begin(&profiler, rank, (uint64_t)i, rank->rank);
		if (profiler.mask || profiler.context)
			host_fail(rank, "a profile that cannot be written is made");
		host_profiler_end(&profiler);
	}
	if (host_warnings() != 1)
		host_fail(rank, "%d warnings instead of one", host_warnings());
	_exit(0);
}

static void profiler_broken(struct host_rank *rank)
{
	begin_badly(rank, "/nowhere/at/all/%p", "json");
	begin_badly(rank, "/nowhere/at/all", "openmetrics");
	begin_badly(rank, "/", "openmetrics");
	begin_badly(rank, "profile.%q", "json");
	begin_badly(rank, "profile.%", "json");
	begin_badly(rank, "profile", "xml");
}

const struct host_scenario host_profiler_scenarios[] = {
	{ "off", "nobody asked: no events, no context", profiler_off, 0 },
	{ "stream", "sends and receives: messages, bytes, NICs and peers in the file", profiler_stream, 0 },
	{ "comms", "four communicators, eight threads, a report each millisecond", profiler_comms, 0 },
	{ "waits", "time for GPU, peer, wire and data, and the verdict", profiler_waits, 0 },
	{ "strange", "events without parents, of other processes, after the end", profiler_strange, 0 },
	{ "overflow", "more operations and peers than there is room for", profiler_overflow, 0 },
	{ "metrics", "the OpenMetrics file", profiler_openmetrics, 0 },
	{ "interval", "a report while the communicator lives", profiler_interval, 0 },
	{ "cycles", "600 communicators, one after another", profiler_cycles, 0 },
	{ "broken", "a file that cannot be written: one warning, no profile", profiler_broken, 0 },
};
const int host_profiler_scenario_count = sizeof host_profiler_scenarios / sizeof *host_profiler_scenarios;
