/* SPDX-License-Identifier: BSD-3-Clause */
/* report.c - what NCCL's log gets: each failure once, with the device, the peer and the cause. */
#include "plugins/nccl/core.h"
#include "plugins/nccl/say.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

static _Atomic nccl_logger the_logger;

void snti_nccl_log(int level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	snti_nccl_say(atomic_load(&the_logger), level, NCCL_LOG_NET | NCCL_LOG_INIT, "NET/" SNTI_NCCL_NAME, format, arguments);
	va_end(arguments);
}

/* The wire knows peers by their rank, which NCCL does not tell. */
static void write_cause(char *to, size_t room, const char *text)
{
	static const char unknown[] = "rank -1";
	size_t used = 0;

	for (const char *at; (at = strstr(text, unknown)) && used < room; text = at + sizeof unknown - 1)
		used += (size_t)snprintf(to + used, room - used, "%.*sthe peer", (int)(at - text), text);
	if (used < room)
		snprintf(to + used, room - used, "%s", text);
}

/* Errors of the wire are not logged here: whoever passes them to NCCL logs them, with the device and the peer. */
static void take_line(enum snt_log_level level, const char *text, void *unused)
{
	char line[400];

	(void)unused;
	write_cause(line, sizeof line, text);
	if (level == SNT_LOG_WARN || level == SNT_LOG_INFO)
		snti_nccl_log(NCCL_LOG_INFO, "%s", line);
	else if (level >= SNT_LOG_DEBUG)
		snti_nccl_log(NCCL_LOG_TRACE, "%s", line);
}

void snti_nccl_set_logger(nccl_logger logger)
{
	atomic_store(&the_logger, logger);
	snt_log_to(take_line, NULL);
}

int snti_nccl_result(int status)
{
	switch (status) {
	case 0: return NCCL_SUCCESS;
	case SNT_EINVAL:
	case SNT_EUNSUPPORTED: return NCCL_INVALID_USAGE;
	case SNT_EMISMATCH:
	case SNT_EPROTOCOL: return NCCL_INTERNAL_ERROR;
	case SNT_ENOMEM:
	case SNT_EDEVICE:
	case SNT_ELIMIT: return NCCL_SYSTEM_ERROR;
	default: return NCCL_REMOTE_ERROR;
	}
}

void snti_nccl_keep_cause(struct snti_nccl_comm *comm)
{
	if (!*comm->cause)
		write_cause(comm->cause, sizeof comm->cause, snt_error_text());
}

int snti_nccl_failed(struct snti_nccl_comm *comm, int status)
{
	static const char *const doing[] = { "listening for", "connecting to", "sending to", "receiving from" };

	snti_nccl_keep_cause(comm);
	if (!comm->is_told)
		snti_nccl_log(NCCL_LOG_WARN, "%s: %s %s: %s (%s)%s%s", comm->device->name, doing[comm->kind],
			      *comm->peer ? comm->peer : "a peer", comm->cause, snt_status_name(status),
			      *comm->build ? "; the peer runs " : "", comm->build);
	comm->is_told = 1;
	return snti_nccl_result(status);
}
