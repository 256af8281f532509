/* SPDX-License-Identifier: BSD-3-Clause */
/* pair.c - two processes that talk over a socket pair as ranks do over NCCL's bootstrap, and report to a parent. */
#include "tests/nccl_host/host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LONGEST_S = 120, SILENT_S = 100, GRACE_MS = 5000 };

/* ---- log ------------------------------------------------------------------ */

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static int warnings;
static char last_warning[512];
static int is_loud;

void host_log(int level, unsigned long subsystems, const char *function, int line, const char *format, ...)
{
	char text[512];
	va_list arguments;

	(void)subsystems;
	(void)function;
	(void)line;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	pthread_mutex_lock(&log_lock);
	if (level == NCCL_LOG_WARN) {
		warnings++;
		memcpy(last_warning, text, sizeof last_warning);
	}
	if (is_loud)
		fprintf(stderr, "[%d] %s\n", (int)getpid(), text);
	pthread_mutex_unlock(&log_lock);
}

int host_warnings(void)
{
	int count;

	pthread_mutex_lock(&log_lock);
	count = warnings;
	pthread_mutex_unlock(&log_lock);
	return count;
}

const char *host_last_warning(void)
{
	return last_warning;
}

void host_forget_warnings(void)
{
	pthread_mutex_lock(&log_lock);
	warnings = 0;
	last_warning[0] = 0;
	pthread_mutex_unlock(&log_lock);
}

/* ---- one rank -------------------------------------------------------------- */

void host_say(struct host_rank *rank, const char *format, ...)
{
	char text[1024];
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	(void)!write(rank->report, text, (size_t)(length < (int)sizeof text ? length : (int)sizeof text - 1));
}

void host_fail(struct host_rank *rank, const char *format, ...)
{
	char text[700];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	host_say(rank, "rank %d: %s%s%s%s\n", rank->rank, text, *last_warning ? " [" : "", last_warning,
		 *last_warning ? "]" : "");
	_exit(1);
}

void host_must(struct host_rank *rank, int result, const char *what)
{
	if (result != NCCL_SUCCESS)
		host_fail(rank, "%s: %s", what, host_result_name(result));
}

static void move(struct host_rank *rank, int out, void *bytes, size_t size)
{
	size_t moved = 0;

	while (moved < size) {
		struct pollfd ready = { .fd = rank->other, .events = out ? POLLOUT : POLLIN };
		ssize_t now;

		if (poll(&ready, 1, SILENT_S * 1000) <= 0)
			host_fail(rank, "the other rank says nothing");
		now = out ? send(rank->other, (char *)bytes + moved, size - moved, MSG_NOSIGNAL)
			  : recv(rank->other, (char *)bytes + moved, size - moved, 0);
		if (now > 0)
			moved += (size_t)now;
		else if (now == 0 || (errno != EINTR && errno != EAGAIN))
			host_fail(rank, "the other rank is gone");
	}
}

void host_swap(struct host_rank *rank, const void *mine, void *theirs, size_t size)
{
	move(rank, 1, (void *)(uintptr_t)mine, size);
	move(rank, 0, theirs, size);
}

void host_barrier(struct host_rank *rank)
{
	char mine = 'b', theirs;

	host_swap(rank, &mine, &theirs, 1);
}

/* Another rank of the same process may have merged some already. */
static int count_physical(struct host_rank *rank)
{
	struct nccl_properties_v12 it;
	int count, merged = 0;

	host_must(rank, host_devices(&rank->net, &count), "devices");
	for (int i = 0; i < count; i++) {
		host_must(rank, host_properties(&rank->net, i, &it), "getProperties");
		merged += it.members.count > 1;
	}
	return count - merged;
}

/* With --merge, of all there are as many as NCCL itself merges at once. */
static void merge_all(struct host_rank *rank)
{
	int count = count_physical(rank), members[4] = { 0, 1, 2, 3 };

	if (!host_can_merge(&rank->net))
		host_fail(rank, "there is no makeVDevice");
	host_must(rank, host_merge(&rank->net, &rank->device, members, count < 4 ? count : 4), "makeVDevice");
}

int host_device(struct host_rank *rank)
{
	if (rank->options->merge && !rank->is_merged)
		merge_all(rank);
	rank->is_merged = 1;
	return rank->device;
}

void host_begin(struct host_rank *rank)
{
	host_must(rank, host_init(&rank->net, &rank->context, host_log), "init");
}

void host_end(struct host_rank *rank)
{
	host_must(rank, host_finalize(&rank->net, rank->context), "finalize");
	if (host_warnings())
		host_fail(rank, "a warning where nothing was wrong");
}

int host_descriptors(void)
{
	DIR *folder = opendir("/proc/self/fd");
	int count = 0;

	while (folder && readdir(folder))
		count++;
	if (folder)
		closedir(folder);
	return count;
}

uint64_t host_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

uint64_t host_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- connections ------------------------------------------------------------ */

/* One call each in turn, as NCCL's service thread does: neither may need the other to have finished. */
static void connect_and_accept(struct host_rank *rank, void *context, void *listen, void *handle, struct host_link *link)
{
	uint64_t start = host_now_ns();

	while (!link->send || !link->recv) {
		if (!link->send)
			host_must(rank, host_connect(&rank->net, context, host_device(rank), handle, &link->send), "connect");
		if (!link->recv)
			host_must(rank, host_accept(&rank->net, listen, &link->recv), "accept");
		if (link->send == HOST_STALE || link->recv == HOST_STALE)
			host_fail(rank, "connect or accept leaves the comm unwritten");
		if (host_now_ns() - start > HOST_WAIT_MS * 1000000ull)
			host_fail(rank, "no connection after %d s: %s %s", HOST_WAIT_MS / 1000,
				  link->send ? "" : "connect", link->recv ? "" : "accept");
		sched_yield();
	}
}

void host_connect_pair(struct host_rank *rank, void *context, struct host_link *link)
{
	unsigned char mine[NCCL_HANDLE_BYTES], theirs[NCCL_HANDLE_BYTES];
	void *listen;

	*link = (struct host_link){ NULL, NULL };
	host_must(rank, host_set_attributes(&rank->net, context, rank->peers), "setNetAttr");
	host_must(rank, host_listen(&rank->net, context, host_device(rank), mine, &listen), "listen");
	host_swap(rank, mine, theirs, sizeof mine);
	if (rank->alters)
		theirs[rank->alters]++;
	connect_and_accept(rank, context, listen, theirs, link);
	host_must(rank, host_close_listen(&rank->net, listen), "closeListen");
}

void host_close_pair(struct host_rank *rank, struct host_link *link)
{
	host_must(rank, host_close_send(&rank->net, link->send), "closeSend");
	host_must(rank, host_close_recv(&rank->net, link->recv), "closeRecv");
}

/* ---- the parent -------------------------------------------------------------- */

static unsigned longest_s(const struct host_options *options)
{
	return (unsigned)(LONGEST_S + options->schedules / 20 + options->messages / 2000);
}

static void enter_namespace(struct host_rank *rank)
{
	const char *first = rank->options->namespaces, *comma = first ? strchr(first, ',') : NULL;
	char path[256];
	int fd;

	if (!first)
		return;
	if (!comma)
		host_fail(rank, "--netns takes two paths, joined by a comma");
	snprintf(path, sizeof path, "%.*s", rank->rank ? (int)strlen(comma + 1) : (int)(comma - first),
		 rank->rank ? comma + 1 : first);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWNET))
		host_fail(rank, "%s: %s", path, strerror(errno));
	close(fd);
}

static void begin_process(const struct host_options *options)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	alarm(longest_s(options));
	is_loud = getenv("NCCL_DEBUG") && !strcmp(getenv("NCCL_DEBUG"), "INFO");
}

static void run_rank(struct host_rank *rank)
{
	char why[256];

	rank->seed = rank->options->seed;
	rank->net.traffic_class = rank->options->traffic_class;
	enter_namespace(rank);
	if (host_open(&rank->net, rank->options->plugin, rank->options->kind, rank->version, why, sizeof why))
		host_fail(rank, "%s", why);
	rank->body(rank);
}

static void *rank_thread(void *rank)
{
	run_rank(rank);
	return NULL;
}

static struct host_rank make_rank(const struct host_options *options, int version, int number, const int other[2],
				  const int report[2], void (*body)(struct host_rank *rank))
{
	return (struct host_rank){ .options = options, .version = version, .rank = number, .other = other[number],
		.report = report[1], .device = options->devices[number], .peers = 1, .body = body };
}

/* Both ranks in one process, for networks that end at its border. */
static void run_both(struct host_rank *one, struct host_rank *two)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, rank_thread, two))
		host_fail(one, "no thread");
	run_rank(one);
	pthread_join(thread, NULL);
}

static pid_t fork_rank(const struct host_options *options, int version, int number, const int other[2],
		       const int report[2], void (*body)(struct host_rank *rank))
{
	struct host_rank rank = make_rank(options, version, number, other, report, body);
	struct host_rank second = make_rank(options, version, 1, other, report, body);
	pid_t pid = fork();

	if (pid)
		return pid;
	if (!options->threads)
		close(other[!number]);
	close(report[0]);
	begin_process(options);
	if (options->second && number)
		putenv((char *)(uintptr_t)options->second);
	if (options->threads)
		run_both(&rank, &second);
	else
		run_rank(&rank);
	/* exit() and not _exit(): what a plugin does at the end is a part of it. */
	exit(0);
}

/* Until both have closed it, or one stays longer than its alarm allows, such as a stopped one. What they said first
 * stays in @why. Whether one is late. */
static int hear(int from, char *why, size_t room, int most_ms)
{
	char waste[1024];
	size_t have = 0;
	ssize_t got;

	do {
		struct pollfd ready = { .fd = from, .events = POLLIN };
		int is_full = have + 1 >= room;

		if (poll(&ready, 1, most_ms) == 0)
			return 1;
		got = is_full ? read(from, waste, sizeof waste) : read(from, why + have, room - 1 - have);
		if (got > 0 && !is_full)
			why[have += (size_t)got] = 0;
	} while (got > 0 || (got < 0 && errno == EINTR));
	return 0;
}

static int reap(pid_t pid, int number, char *why, size_t room)
{
	size_t have = strlen(why);
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFSIGNALED(status))
		snprintf(why + have, room - have, "rank %d: ended by %s\n", number,
			 WTERMSIG(status) == SIGALRM ? "its deadline" : strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) && !have)
		snprintf(why, room, "rank %d: ended with %d\n", number, WEXITSTATUS(status));
	return status;
}

int host_run_pair(const struct host_options *options, int version, void (*body)(struct host_rank *rank), char *why,
		  size_t room)
{
	int other[2], report[2], failed = 0, is_late, processes = options->threads ? 1 : 2;
	pid_t pids[2];

	*why = 0;
	fflush(stdout);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other) || pipe(report)) {
		snprintf(why, room, "%s\n", strerror(errno));
		return -1;
	}
	for (int i = 0; i < processes; i++)
		pids[i] = fork_rank(options, version, i, other, report, body);
	close(report[1]);
	close(other[0]);
	close(other[1]);
	is_late = hear(report[0], why, room, (int)longest_s(options) * 1000 + GRACE_MS);
	close(report[0]);
	/* Not reaped yet, so that the numbers are still theirs. */
	for (int i = 0; i < processes && is_late; i++)
		if (pids[i] > 0)
			kill(pids[i], SIGKILL);
	for (int i = 0; i < processes; i++)
		failed |= pids[i] < 0 || reap(pids[i], i, why, room);
	return failed ? -1 : 0;
}
