/* SPDX-License-Identifier: BSD-3-Clause */
/* pmi1.c - shares rank 0's ticket through the PMI-1 protocol (lines of text over PMI_FD), which
 *          MPICH's mpiexec speaks, and srun --mpi=pmi2 to whoever begins with it. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/settings.h"
#include "transport/environment.h"

enum { LINE = 1024, HEX = 2 * (int)sizeof(((struct snt_ticket *)0)->bytes) };

/* The launcher answers a process once: what was asked is kept until it exits. */
static struct { int fd, is_open; unsigned shared; char kvs[256]; } pmi = { .fd = -1 };
static pthread_mutex_t pmi_lock = PTHREAD_MUTEX_INITIALIZER;

static int fail(const char *what)
{
	return snti_fail(SNT_EDEVICE, "the launcher's PMI connection (PMI_FD): %s", what);
}

static int wait_fd(short events, uint64_t deadline)
{
	struct pollfd wanted = { .fd = pmi.fd, .events = events };

	while (!snti_is_past(deadline))
		if (poll(&wanted, 1, snti_left_ms(deadline, 1000)) > 0)
			return 0;
	return snti_fail(SNT_ETIMEOUT, "the launcher did not answer over PMI_FD in time");
}

static int send_line(const char *line, uint64_t deadline)
{
	size_t size = strlen(line), done = 0;

	while (done < size) {
		int status = wait_fd(POLLOUT, deadline);
		ssize_t sent = status == 0 ? send(pmi.fd, line + done, size - done, MSG_NOSIGNAL | MSG_DONTWAIT) : -1;

		if (status == 0 && sent < 0 && errno == ENOTSOCK)
			sent = write(pmi.fd, line + done, size - done);
		if (status != 0)
			return status;
		if (sent < 0 && errno != EINTR && errno != EAGAIN)
			return fail(strerror(errno));
		done += sent > 0 ? (size_t)sent : 0;
	}
	return 0;
}

/* One byte at a time: nothing beyond the line may be taken, it may be another user's answer. */
static int read_line(char line[LINE], uint64_t deadline)
{
	size_t used = 0;

	for (;;) {
		int status = wait_fd(POLLIN, deadline);
		ssize_t got = status == 0 ? read(pmi.fd, line + used, 1) : -1;

		if (status != 0)
			return status;
		if (got == 0 || (got < 0 && errno != EINTR && errno != EAGAIN))
			return fail(got == 0 ? "closed" : strerror(errno));
		if (got == 1 && line[used++] == '\n')
			break;
		if (used == LINE)
			return fail("a line without end");
	}
	line[used - 1] = '\0';
	return 0;
}

/* The value of "key=value" among the words of @line. */
static int find_word(const char *line, const char *key, char *value, size_t room)
{
	size_t length = strlen(key);

	for (const char *at = line; at != NULL; at = strchr(at, ' ')) {
		at += strspn(at, " ");
		if (strncmp(at, key, length) != 0 || at[length] != '=')
			continue;
		size_t size = strcspn(at + length + 1, " ");

		if (size >= room)
			return -1;
		memcpy(value, at + length + 1, size);
		value[size] = '\0';
		return 0;
	}
	return -1;
}

/* Sends @request, wants the answer @expected with rc=0 (or none); a word of it goes to @value. */
static int ask(const char *request, const char *expected, const char *word, char *value, size_t room)
{
	uint64_t deadline = snti_deadline_ms(snti_settings()->startup_ms);
	char line[LINE], got[LINE];
	int status = send_line(request, deadline);

	if (status == 0)
		status = read_line(line, deadline);
	if (status != 0)
		return status;
	if (find_word(line, "cmd", got, sizeof(got)) != 0 || strcmp(got, expected) != 0)
		return fail("an answer to something else");
	if (find_word(line, "rc", got, sizeof(got)) == 0 && strcmp(got, "0") != 0)
		return fail("the launcher refused a request");
	if (word != NULL && find_word(line, word, value, room) != 0)
		return fail("an answer without its value");
	return 0;
}

/* Without this the launcher takes our exit for a crash. */
static void finalize(void)
{
	uint64_t deadline = snti_deadline_ms(1000);
	char line[LINE];

	if (send_line("cmd=finalize\n", deadline) == 0)
		(void)read_line(line, deadline);
}

static int open_pmi(void)
{
	const char *text = getenv("PMI_FD");
	char *end = NULL;
	long fd = text != NULL ? strtol(text, &end, 10) : -1;
	int status;

	if (pmi.is_open)
		return 0;
	if (text == NULL || end == text || *end != '\0' || fd < 0 || fd > 1 << 20 || fcntl((int)fd, F_GETFD) < 0)
		return snti_fail(SNT_EINVAL, "PMI_FD names no open descriptor");
	pmi.fd = (int)fd;
	status = ask("cmd=init pmi_version=1 pmi_subversion=1\n", "response_to_init", NULL, NULL, 0);
	if (status == 0)
		status = ask("cmd=get_my_kvsname\n", "my_kvsname", "kvsname", pmi.kvs, sizeof(pmi.kvs));
	if (status != 0)
		return status;
	pmi.is_open = 1;
	atexit(finalize);
	return 0;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int put_ticket(const struct snt_ticket *ticket, unsigned number)
{
	char hex[HEX + 1], line[LINE];

	for (size_t i = 0; i < sizeof(ticket->bytes); i++)
		snprintf(hex + 2 * i, 3, "%02x", ticket->bytes[i]);
	snprintf(line, sizeof(line), "cmd=put kvsname=%s key=sennit-%u value=%s\n", pmi.kvs, number, hex);
	return ask(line, "put_result", NULL, NULL, 0);
}

static int get_ticket(struct snt_ticket *ticket, unsigned number)
{
	char hex[HEX + 2] = "", line[LINE];
	int status;

	snprintf(line, sizeof(line), "cmd=get kvsname=%s key=sennit-%u\n", pmi.kvs, number);
	status = ask(line, "get_result", "value", hex, sizeof(hex));
	if (status != 0)
		return status;
	if (strlen(hex) != HEX)
		return fail("a ticket of another length");
	for (size_t i = 0; i < sizeof(ticket->bytes); i++) {
		int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

		if (high < 0 || low < 0)
			return fail("a ticket that is not in hexadecimal");
		ticket->bytes[i] = (unsigned char)(high << 4 | low);
	}
	return 0;
}

int snti_pmi1_share(const struct snti_place *place, struct snt_ticket *ticket)
{
	int status, made = 0;

	pthread_mutex_lock(&pmi_lock);
	status = open_pmi();
	if (status == 0 && place->rank == 0)
		made = snt_ticket_create(SNT_REACH_NETWORK, ticket);
	if (status == 0 && made == 0 && place->rank == 0)
		status = put_ticket(ticket, pmi.shared);
	/* Rank 0 comes to the barrier even without a ticket: the others must not wait for it. */
	if (status == 0)
		status = ask("cmd=barrier_in\n", "barrier_out", NULL, NULL, 0);
	if (status == 0 && place->rank != 0)
		status = get_ticket(ticket, pmi.shared);
	pmi.shared++;
	pthread_mutex_unlock(&pmi_lock);
	return made != 0 ? made : status;
}
