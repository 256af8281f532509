/* SPDX-License-Identifier: BSD-3-Clause */
/* log.c - log lines to standard error or the caller's sink, and the text of the last failure. */
#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/settings.h"

enum { LONGEST = 1024, FEW_LINES = 5 };
#define PAUSE_NS 1000000000ULL

struct sink {
	void (*call)(enum snt_log_level level, const char *text, void *arg);
	void *arg;
};

static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static struct sink the_sink;
static __thread char error_text[LONGEST];
static __thread unsigned error_count;
static __thread int is_quiet;

static const char *const level_names[] = { "none", "error", "warning", "info", "debug", "trace" };

void snt_log_to(void (*call)(enum snt_log_level level, const char *text, void *arg), void *arg)
{
	pthread_mutex_lock(&sink_lock);
	the_sink = (struct sink){ call, arg };
	pthread_mutex_unlock(&sink_lock);
}

const char *snt_error_text(void)
{
	return error_text;
}

unsigned snti_error_count(void)
{
	return error_count;
}

void snti_error_take(const char *text)
{
	snprintf(error_text, sizeof(error_text), "%s", text);
}

/* One line stays one line, whatever a peer or the environment put into it. */
static void format_line(char text[LONGEST], const char *format, va_list arguments)
{
	if (vsnprintf(text, LONGEST, format, arguments) < 0)
		snprintf(text, LONGEST, "%s", format);
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = ' ';
}

/* One write, so that lines of several processes on one terminal do not mix. */
static void write_line(enum snt_log_level level, const char *text)
{
	char line[LONGEST + 32];
	int length = snprintf(line, sizeof(line), "sennit: %s: %s\n", level_names[level], text);

	while (write(STDERR_FILENO, line, (size_t)length) < 0 && errno == EINTR)
		;
}

static void emit(enum snt_log_level level, const char *text)
{
	struct sink sink;

	/* The copy is called without the lock: a sink may log, or replace itself. */
	pthread_mutex_lock(&sink_lock);
	sink = the_sink;
	pthread_mutex_unlock(&sink_lock);
	if (sink.call)
		sink.call(level, text, sink.arg);
	else
		write_line(level, text);
}

static int wanted(enum snt_log_level level)
{
	return level > SNT_LOG_NONE && level <= SNT_LOG_TRACE && level <= snti_settings()->log_level;
}

void snti_log(enum snt_log_level level, const char *format, ...)
{
	int keep = errno;

	if (wanted(level)) {
		char text[LONGEST];
		va_list arguments;

		va_start(arguments, format);
		format_line(text, format, arguments);
		va_end(arguments);
		emit(level, text);
	}
	errno = keep;
}

int snti_fail(int status, const char *format, ...)
{
	int keep = errno;
	char text[LONGEST];  /* not error_text at once: it may be one of the arguments */
	va_list arguments;

	va_start(arguments, format);
	format_line(text, format, arguments);
	va_end(arguments);
	memcpy(error_text, text, strlen(text) + 1);
	error_count++;
	if (wanted(is_quiet ? SNT_LOG_DEBUG : SNT_LOG_ERROR))
		emit(is_quiet ? SNT_LOG_DEBUG : SNT_LOG_ERROR, text);
	errno = keep;
	return status;
}

void snti_fail_quietly(int on)
{
	is_quiet = on;
}

int snti_log_may(struct snti_log_limit *limit, char more[SNTI_LOG_MORE])
{
	uint64_t now = snti_now_ns();

	more[0] = '\0';
	if (limit->lines >= FEW_LINES && now - limit->last_ns < PAUSE_NS) {
		limit->left_out++;
		return 0;
	}
	if (limit->left_out)
		snprintf(more, SNTI_LOG_MORE, " (and %u more since the last line)", limit->left_out);
	limit->lines++;
	limit->left_out = 0;
	limit->last_ns = now;
	return 1;
}
