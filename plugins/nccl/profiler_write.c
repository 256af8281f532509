/* SPDX-License-Identifier: BSD-3-Clause */
/* profiler_write.c - the profiler's file: its name, who writes it when, and what happens when that fails. */
#include "plugins/nccl/profiler.h"
#include "plugins/nccl/say.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/settings.h"

enum { NCCL_LOG_PROFILE = 0x4000 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended;
static pthread_once_t ended_once = PTHREAD_ONCE_INIT;
static _Atomic nccl_logger the_logger;
/* All of these belong to who holds the lock. */
static char path[4096], host[SNTI_PROFILE_NAME];
static int is_named, is_off, is_openmetrics, is_told, live;
static int has_thread;
static pthread_t thread;
static unsigned threads, stopped;       /* started so far; those up to this number shall end */

void snti_profile_log(int level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	snti_nccl_say(atomic_load(&the_logger), level, NCCL_LOG_INIT | NCCL_LOG_PROFILE, "PROFILER/Sennit", format, arguments);
	va_end(arguments);
}

void snti_profile_lock(void)
{
	pthread_mutex_lock(&lock);
}

void snti_profile_unlock(void)
{
	pthread_mutex_unlock(&lock);
}

/* ---- the name ------------------------------------------------------------------ */

/* 0, or what is wrong with it. */
static const char *expand(const char *pattern, int rank, char *to, size_t room)
{
	size_t used = 0;

	for (; *pattern && used < room; pattern++) {
		char *left = to + used;
		size_t rest = room - used;

		if (*pattern != '%') {
			to[used++] = *pattern;
			continue;
		}
		switch (*++pattern) {
		case 'p': used += (size_t)snprintf(left, rest, "%d", (int)getpid()); break;
		case 'h': used += (size_t)snprintf(left, rest, "%s", host); break;
		case 'r': used += (size_t)snprintf(left, rest, "%d", rank); break;
		case '%': to[used++] = '%'; break;
		default: return "only %p, %h, %r and %% may be in it";
		}
	}
	if (used >= room)
		return "it is too long";
	to[used] = 0;
	return NULL;
}

static void find_host(void)
{
	if (gethostname(host, sizeof host - 1))
		strcpy(host, "unknown");
	for (char *c = host; *c; c++)
		if (*c <= ' ' || *c >= 127 || *c == '/')
			*c = '_';
}

static const char *read_settings(int rank)
{
	const struct snti_settings *settings = snti_settings();

	if (!strcmp(settings->profile_format, "openmetrics"))
		is_openmetrics = 1;
	else if (strcmp(settings->profile_format, "json"))
		return "SNT_PROFILE_FORMAT must be json or openmetrics";
	find_host();
	return expand(settings->profile, rank, path, sizeof path - sizeof ".new");
}

/* ---- the file ------------------------------------------------------------------- */

static int write_all(int fd, const char *text, size_t size)
{
	while (size) {
		ssize_t now = write(fd, text, size);

		if (now < 0 && errno == EINTR)
			continue;
		if (now <= 0)
			return -1;
		text += now;
		size -= (size_t)now;
	}
	return 0;
}

static int append(const char *text, size_t size)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666), failed, error;

	if (fd < 0)
		return -1;
	failed = write_all(fd, text, size);
	error = errno;
	if (close(fd) && !failed)
		return -1;
	errno = error;
	return failed;
}

/* Whoever reads the file sees the old one or the new one, whole. */
static int replace(const char *text, size_t size)
{
	char temporary[sizeof path];
	int fd, failed, error;

	snprintf(temporary, sizeof temporary, "%.*s.new", (int)(sizeof path - sizeof ".new"), path);
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0)
		return -1;
	failed = write_all(fd, text, size);
	error = errno;
	if (close(fd) && !failed) {
		failed = -1;
		error = errno;
	}
	if (!failed && !rename(temporary, path))
		return 0;
	if (!failed)
		error = errno;
	unlink(temporary);
	errno = error;
	return -1;
}

/* A job goes on without its profile; it is said once. */
static int put(const char *text, size_t size)
{
	int failed = is_openmetrics ? replace(text, size) : size ? append(text, size) : 0;

	if (failed && !is_told) {
		is_told = 1;
		snti_profile_log(NCCL_LOG_WARN, "SNT_PROFILE: cannot write %s: %s", path, strerror(errno));
	}
	return failed;
}

static uint64_t wall_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static struct snti_profile_report report_of(FILE *to, struct snti_profile_comm *comm)
{
	struct snti_profile_report report = { .to = to, .comm = comm, .now = snti_now_ns(), .time_us = wall_us() };

	memcpy(report.host, host, sizeof report.host);
	return report;
}

static void write_openmetrics(FILE *to)
{
	struct snti_profile_comm *comms[SNTI_PROFILE_COMMS];
	int count = 0;

	for (unsigned i = 0; i < SNTI_PROFILE_COMMS; i++)
		if (atomic_load(&snti_profile_comm(i)->state) != SNTI_PROFILE_UNUSED && (i || snti_profile_has_strangers()))
			comms[count++] = snti_profile_comm(i);
	snti_profile_openmetrics(to, comms, count);
}

enum moment { AT_BEGIN, AT_INTERVAL, AT_END };

static void write_json(FILE *to, struct snti_profile_comm *one, enum moment moment)
{
	for (unsigned i = 0; i < SNTI_PROFILE_COMMS; i++) {
		struct snti_profile_comm *comm = snti_profile_comm(i);
		struct snti_profile_report report = report_of(to, comm);

		report.is_last = moment == AT_END && comm == one;
		if (moment == AT_BEGIN && comm == one)
			snti_profile_json_begin(&report);
		else if (comm == one || !i || (moment == AT_INTERVAL && atomic_load(&comm->state) == SNTI_PROFILE_LIVE))
			snti_profile_json(&report);
	}
}

/* Under the lock. @one: the communicator that begins or ends. */
static int write_now(struct snti_profile_comm *one, enum moment moment)
{
	char *text = NULL;
	size_t size = 0;
	FILE *to = open_memstream(&text, &size);
	int failed = -1;

	if (!to)
		return -1;
	if (is_openmetrics)
		write_openmetrics(to);
	else
		write_json(to, one, moment);
	if (!fclose(to))
		failed = put(text, size);
	free(text);
	return failed;
}

/* ---- the thread ------------------------------------------------------------------- */

static void prepare_ended(void)
{
	pthread_condattr_t attributes;

	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&ended, &attributes);
	pthread_condattr_destroy(&attributes);
}

static void *write_often(void *argument)
{
	unsigned number = (unsigned)(uintptr_t)argument;
	uint64_t interval = snti_settings()->profile_interval_ms * 1000000, next = snti_now_ns() + interval;

	pthread_mutex_lock(&lock);
	while (stopped < number) {
		struct timespec until = { .tv_sec = (time_t)(next / 1000000000), .tv_nsec = (long)(next % 1000000000) };

		if (pthread_cond_timedwait(&ended, &lock, &until) != ETIMEDOUT || stopped >= number)
			continue;
		write_now(NULL, AT_INTERVAL);
		next = snti_now_ns() + interval;
	}
	pthread_mutex_unlock(&lock);
	return NULL;
}

/* The job's signals are not for it. */
static void start_thread(void)
{
	sigset_t all, before;

	if (!snti_settings()->profile_interval_ms || has_thread)
		return;
	pthread_once(&ended_once, prepare_ended);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	has_thread = !pthread_create(&thread, NULL, write_often, (void *)(uintptr_t)++threads);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!has_thread)
		snti_profile_log(NCCL_LOG_WARN, "SNT_PROFILE: no thread to write it at intervals, only at the end");
}

/* Gives the lock up meanwhile: a communicator that begins then starts a thread of its own. */
static void stop_thread(void)
{
	pthread_t old = thread;

	if (!has_thread)
		return;
	has_thread = 0;
	stopped = threads;
	pthread_cond_broadcast(&ended);
	pthread_mutex_unlock(&lock);
	pthread_join(old, NULL);
	pthread_mutex_lock(&lock);
}

int snti_profile_is_on(void)
{
	return is_named && !is_off;
}

/* ---- from begin to end --------------------------------------------------------------- */

int snti_profile_open(nccl_logger logger, int rank)
{
	const char *wrong;

	atomic_store(&the_logger, logger);
	if (!*snti_settings()->profile || is_off)
		return -1;
	if (is_named)
		return 0;
	wrong = read_settings(rank);
	if (!wrong && snti_profile_prepare())
		wrong = "no memory";
	is_named = !wrong;
	is_off = !is_named;
	if (wrong)
		snti_profile_log(NCCL_LOG_WARN, "SNT_PROFILE is '%s': %s; nothing is profiled", snti_settings()->profile, wrong);
	return wrong ? -1 : 0;
}

/* A file that cannot be written the first time will not be the next: then nothing is worth counting. */
int snti_profile_opened(struct snti_profile_comm *comm)
{
	if (write_now(comm, AT_BEGIN) && !live) {
		is_off = 1;
		return -1;
	}
	live++;
	start_thread();
	return 0;
}

void snti_profile_close(struct snti_profile_comm *comm)
{
	write_now(comm, AT_END);
	if (--live == 0)
		stop_thread();
}
