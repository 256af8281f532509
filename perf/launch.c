/* SPDX-License-Identifier: BSD-3-Clause */
/* launch.c - forks the local ranks of a benchmark, and collects what became of them. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE   /* sched_setaffinity */
#endif
#include "perf/launch.h"

#include "include/sennit.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { GRACE_MS = 5000 };   /* what children have to notice that rank 0 failed */
enum { LINES = 256 };

static _Atomic(uint64_t) *said;   /* hashes of the lines of all local ranks; memory that they share */

/* Whether none of the ranks has said @text yet; where there is no room left everything is new. */
static int is_new(const char *text)
{
	uint64_t hash = 0xcbf29ce484222325u, found;

	for (const char *c = text; *c; c++)
		hash = (hash ^ (unsigned char)*c) * 0x100000001b3u;
	for (int i = 0; i < LINES; i++) {
		found = 0;
		if (atomic_compare_exchange_strong(&said[i], &found, hash))
			return 1;
		if (found == hash)
			return 0;
	}
	return 1;
}

static void say_once(enum snt_log_level level, const char *text, void *arg)
{
	static const char *const names[] = { "none", "error", "warning", "info", "debug", "trace" };

	(void)arg;
	if (level > SNT_LOG_WARN || is_new(text))
		dprintf(STDERR_FILENO, "sennit: %s: %s\n", names[level], text);
}

void snti_launch_share_log(void)
{
	void *shared = mmap(NULL, LINES * sizeof *said, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		return;
	said = shared;
	snt_log_to(say_once, NULL);
}

static pid_t start_child(int rank, int (*run)(void *arg, int rank), void *arg)
{
	pid_t parent = getpid();
	pid_t child = fork();

	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	exit(run(arg, rank));
}

static int judge(int rank, int status)
{
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	fprintf(stderr, "sennit: rank %d was ended by signal %d (%s)\n", rank, WTERMSIG(status),
		strsignal(WTERMSIG(status)));
	return 1;
}

/* Waits for @child; after @patience_ms, when that is not negative, ends it. */
static int collect(pid_t child, int rank, int *patience_ms)
{
	const struct timespec pause = { .tv_nsec = 10000000 };
	int status;

	while (*patience_ms > 0) {
		pid_t got = waitpid(child, &status, WNOHANG);
		if (got == child)
			return judge(rank, status);
		if (got < 0 && errno != EINTR)
			return 1;
		nanosleep(&pause, NULL);
		*patience_ms -= 10;
	}
	if (!*patience_ms)
		kill(child, SIGKILL);
	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return 1;
	return judge(rank, status);
}

/* Forks ranks 1 to @ranks - 1 into @children; how many there are then. */
static int start_children(pid_t *children, int ranks, int (*run)(void *arg, int rank), void *arg)
{
	int made = 1;

	fflush(NULL);
	while (made < ranks) {
		children[made] = start_child(made, run, arg);
		if (children[made] < 0) {
			fprintf(stderr, "sennit: rank %d could not be started: %s\n", made, strerror(errno));
			break;
		}
		made++;
	}
	return made;
}

int snti_launch(int ranks, int (*run)(void *arg, int rank), void *arg)
{
	pid_t *children = calloc((size_t)ranks, sizeof *children);
	int worst = 1, patience_ms = 0;

	if (!children) {
		fprintf(stderr, "sennit: out of memory\n");
		return 1;
	}
	int made = start_children(children, ranks, run, arg);
	if (made == ranks) {
		worst = run(arg, 0);
		patience_ms = worst ? GRACE_MS : -1;
	}
	for (int rank = 1; rank < made; rank++) {
		int result = collect(children[rank], rank, &patience_ms);
		worst = result > worst ? result : worst;
	}
	free(children);
	return worst;
}

void snti_launch_pin(int index)
{
	cpu_set_t allowed, one;

	if (sched_getaffinity(0, sizeof allowed, &allowed) || !CPU_COUNT(&allowed))
		return;
	index %= CPU_COUNT(&allowed);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed) || index--)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof one, &one);
		return;
	}
}
