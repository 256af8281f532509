/* SPDX-License-Identifier: BSD-3-Clause */
/* strangers.c - crowds that come to a listening door: connections that never prove the secret, in many ways. */
#define _GNU_SOURCE
#include "tests/strangers.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>
#include <unistd.h>

#include "transport/shm.h"
#include "transport/tcp.h"

static const unsigned char wrong[SNTI_SECRET_BYTES] = "of quite another job";

static uint64_t any(struct crowd *crowd)
{
	crowd->random = crowd->random * 6364136223846793005u + 1442695040888963407u;
	return crowd->random >> 24;
}

/* ---- the crowd ------------------------------------------------------------ */

static void leave(struct stranger *s)
{
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

/* Non-blocking all along: a full queue means to come again later. */
static void come(struct crowd *crowd, struct stranger *s)
{
	memset(s, 0, sizeof(*s));
	s->fd = socket(crowd->door.at.ss_family, crowd->door.type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (connect(s->fd, (struct sockaddr *)&crowd->door.at, crowd->door.size) && errno != EINPROGRESS) {
		leave(s);
		return;
	}
	crowd->came++;
}

static int say(const struct stranger *s, const void *bytes, size_t size)
{
	return send(s->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size;
}

/* 0 when the other side has closed. */
static int hear(struct crowd *crowd, struct stranger *s)
{
	unsigned char bytes[256];
	ssize_t got;

	while ((got = recv(s->fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
		for (ssize_t i = 0; i < got && s->heard + (size_t)i < sizeof(s->in); i++)
			s->in[s->heard + (size_t)i] = bytes[i];
		s->heard += (size_t)got;
		if (s->heard > crowd->most_heard)
			crowd->most_heard = s->heard;
	}
	return got < 0 && (errno == EAGAIN || errno == ENOTCONN);
}

void crowd_open(struct crowd *crowd, const struct attack *attack)
{
	memset(crowd, 0, sizeof(*crowd));
	crowd->attack = attack;
	crowd->random = 20240607;
	for (int i = 0; i < CROWD_MOST; i++)
		crowd->strangers[i].fd = -1;
}

void crowd_step(struct crowd *crowd)
{
	for (int i = 0; i < crowd->attack->count; i++) {
		struct stranger *s = &crowd->strangers[i];

		if (s->fd < 0)
			come(crowd, s);
		else if (!hear(crowd, s) || crowd->attack->act(crowd, s))
			leave(s);
	}
}

void crowd_close(struct crowd *crowd)
{
	for (int i = 0; i < CROWD_MOST; i++)
		leave(&crowd->strangers[i]);
}

static int wait_for(int fd, short what, struct snti_port *port)
{
	struct pollfd one = { .fd = fd, .events = what };

	for (int i = 0; i < 2000; i++) {
		if (port && port->ops->poll(port) < 0)
			return 0;
		if (poll(&one, 1, 1) == 1)
			return 1;
	}
	return 0;
}

void crowd_record(struct crowd *crowd, struct snti_port *port)
{
	struct stranger honest;
	int good;

	come(crowd, &honest);
	good = honest.fd >= 0 && !snti_hello_write(&honest.handshake, crowd->door.key, &crowd->door.want, crowd->hello) &&
	       wait_for(honest.fd, POLLOUT, port) && say(&honest, crowd->hello, sizeof(crowd->hello)) &&
	       wait_for(honest.fd, POLLIN, port) && hear(crowd, &honest) && honest.heard == sizeof(honest.in) &&
	       !snti_proof_read(&honest.handshake, honest.in) && !snti_answer_write(&honest.handshake, crowd->answer) &&
	       say(&honest, crowd->answer, sizeof(crowd->answer));
	if (!good) {
		fprintf(stderr, "an honest handshake to record failed\n");
		abort();
	}
	for (int i = 0; port && i < 100; i++)
		(void)!port->ops->poll(port);
	leave(&honest);
}

/* ---- over tcp ------------------------------------------------------------- */

static int is_silent(struct crowd *crowd, struct stranger *s)
{
	(void)crowd, (void)s;
	return 0;
}

static int scans(struct crowd *crowd, struct stranger *s)
{
	(void)crowd, (void)s;
	return 1;
}

static int babbles(struct crowd *crowd, struct stranger *s)
{
	unsigned char bytes[400];

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)any(crowd);
	(void)!say(s, bytes, 1 + any(crowd) % sizeof(bytes));
	return any(crowd) % 16 == 0;
}

static int begin(struct crowd *crowd, struct stranger *s, const unsigned char *key)
{
	if (s->step == 0 && !snti_hello_write(&s->handshake, key, &crowd->door.want, s->hello))
		s->step = 1;
	return s->step;
}

/* As slow as it may, with a hello that is right. */
static int drips(struct crowd *crowd, struct stranger *s)
{
	if (begin(crowd, s, wrong) <= (int)sizeof(s->hello))
		s->step += say(s, s->hello + s->step - 1, 1);
	return 0;
}

static int breaks_off(struct crowd *crowd, struct stranger *s)
{
	begin(crowd, s, wrong);
	return say(s, s->hello, 1 + any(crowd) % (sizeof(s->hello) - 1));
}

static int guesses(struct crowd *crowd, struct stranger *s)
{
	unsigned char answer[SNTI_ANSWER_BYTES];

	if (begin(crowd, s, wrong) == 1 && say(s, s->hello, sizeof(s->hello)))
		s->step = 2;
	if (s->step == 2 && s->heard == sizeof(s->in)) {
		(void)!snti_proof_read(&s->handshake, s->in);
		(void)!snti_answer_write(&s->handshake, answer);
		s->step = say(s, answer, sizeof(answer)) ? 3 : 2;
	}
	return 0;
}

static int replays(struct crowd *crowd, struct stranger *s)
{
	if (s->step == 0 && say(s, crowd->hello, sizeof(crowd->hello)))
		s->step = 1;
	if (s->step == 1 && s->heard == sizeof(s->in))
		s->step += say(s, crowd->answer, sizeof(crowd->answer));
	return 0;
}

/* What it was told, back as the answer. */
static int reflects(struct crowd *crowd, struct stranger *s)
{
	if (begin(crowd, s, wrong) == 1 && say(s, s->hello, sizeof(s->hello)))
		s->step = 2;
	if (s->step == 2 && s->heard == sizeof(s->in))
		s->step += say(s, s->in + SNTI_NONCE_BYTES, SNTI_ANSWER_BYTES);
	return 0;
}

/* A hello that wants the most of everything, then frames that announce as much. */
static int exaggerates(struct crowd *crowd, struct stranger *s)
{
	static unsigned char most[60000];

	memset(most, 0xff, sizeof(most));
	if (begin(crowd, s, wrong) == 1) {
		memset(s->hello + 16, 0xff, 4);
		memset(s->hello + 24, 0xff, 8);
		s->step += say(s, s->hello, sizeof(s->hello));
	}
	if (s->step == 2)
		(void)!say(s, most, sizeof(most));
	return 0;
}

const struct attack tcp_attacks[] = {
	{ "several hundred say nothing", CROWD_MOST, is_silent, 0, NULL, 0 },
	{ "a port scanner", 20, scans, 0, NULL, 0 },
	{ "random bytes", 20, babbles, 0, "does not speak sennit", 0 },
	{ "a byte at a time", 20, drips, SNTI_PROOF_BYTES, NULL, 0 },
	{ "half a hello", 20, breaks_off, 0, "before it proved", 0 },
	{ "a wrong secret", 20, guesses, SNTI_PROOF_BYTES, "secret", 0 },
	{ "a recorded handshake", 20, replays, SNTI_PROOF_BYTES, "does not know the", 1 },
	{ "its own proof sent back", 20, reflects, SNTI_PROOF_BYTES, "does not know the", 0 },
	{ "huge lengths", 20, exaggerates, SNTI_PROOF_BYTES, "does not know the", 0 },
	{ NULL, 0, NULL, 0, NULL, 0 },
};

/* ---- over shared memory --------------------------------------------------- */

static int attach(int fd, const struct shm_note *note, const int *fds, size_t count)
{
	union { struct cmsghdr align; char bytes[CMSG_SPACE(2 * sizeof(int))]; } control = { .bytes = { 0 } };
	struct iovec iov = { (void *)(uintptr_t)note, sizeof(*note) };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *head;

	if (count) {
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(count * sizeof(int));
		head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(head), fds, count * sizeof(int));
	}
	return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof(*note);
}

static struct shm_note hello(uint64_t ticket)
{
	return (struct shm_note){ .magic = SHM_MAGIC, .version = SHM_VERSION, .type = SHM_HELLO, .ticket = ticket, .ident = 42 };
}

static int hello_with(struct stranger *s, const struct shm_note *note, size_t count)
{
	int file = memfd_create("stranger", MFD_CLOEXEC | MFD_ALLOW_SEALING), both[2] = { file, file };

	s->step += s->step == 0 && attach(s->fd, note, both, count);
	close(file);
	return 0;
}

static int has_no_ticket(struct crowd *crowd, struct stranger *s)
{
	struct shm_note note = hello(crowd->door.ticket ^ (uint64_t)1 << any(crowd) % 64);

	return hello_with(s, &note, 1);
}

static int has_no_region(struct crowd *crowd, struct stranger *s)
{
	struct shm_note note = hello(crowd->door.ticket);

	return hello_with(s, &note, 0);
}

/* One descriptor more than it should: nobody may keep either. */
static int has_two_regions(struct crowd *crowd, struct stranger *s)
{
	struct shm_note note = hello(crowd->door.ticket ^ 1);

	return hello_with(s, &note, 2);
}

static int has_another_magic(struct crowd *crowd, struct stranger *s)
{
	struct shm_note note = hello(crowd->door.ticket);

	note.magic ^= 1u << any(crowd) % 32;
	return hello_with(s, &note, 1);
}

static int has_another_version(struct crowd *crowd, struct stranger *s)
{
	struct shm_note note = hello(crowd->door.ticket);

	note.version += 1 + (uint32_t)(any(crowd) % 8);
	return hello_with(s, &note, 1);
}

static int is_no_hello(struct crowd *crowd, struct stranger *s)
{
	struct shm_note note = hello(crowd->door.ticket);

	note.type = any(crowd) % 4 * 100 + SHM_WELCOME;
	return hello_with(s, &note, 1);
}

static int says_half(struct crowd *crowd, struct stranger *s)
{
	struct shm_note note = hello(crowd->door.ticket);

	return say(s, &note, 1 + any(crowd) % (sizeof(note) - 1));
}

#define TURNED_AWAY "turned away"
const struct attack shm_attacks[] = {
	{ "several hundred say nothing", CROWD_MOST, is_silent, 0, NULL, 0 },
	{ "a port scanner", 20, scans, 0, NULL, 0 },
	{ "random bytes", 20, babbles, 0, TURNED_AWAY, 0 },
	{ "half a hello", 20, says_half, 0, TURNED_AWAY, 0 },
	{ "a wrong ticket", 20, has_no_ticket, 0, TURNED_AWAY, 0 },
	{ "no descriptor", 20, has_no_region, 0, TURNED_AWAY, 0 },
	{ "two descriptors", 20, has_two_regions, 0, TURNED_AWAY, 0 },
	{ "another magic", 20, has_another_magic, 0, TURNED_AWAY, 0 },
	{ "another version", 20, has_another_version, 0, TURNED_AWAY, 0 },
	{ "no hello", 20, is_no_hello, 0, TURNED_AWAY, 0 },
	{ NULL, 0, NULL, 0, NULL, 0 },
};
const struct attack quiet_attack = { "nobody", 0, is_silent, 0, NULL, 0 };

/* ---- doors ---------------------------------------------------------------- */

void door_of_loopback(struct door *door, uint16_t port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

	memset(door, 0, sizeof(*door));
	memcpy(&door->at, &at, sizeof(at));
	door->size = sizeof(at);
	door->type = SOCK_STREAM;
}

void door_of_tcp(struct door *door, struct snti_port *port, const unsigned char *secret)
{
	const struct tcp_port *p = (struct tcp_port *)port;

	door_of_loopback(door, p->number);
	memcpy(door->key, secret, sizeof(door->key));
	door->want = (struct snti_want){ .kind = 2, .number = 1 << 16, .ident = 999, .ticket = p->ticket };
}

void door_of_shm(struct door *door, struct snti_port *port)
{
	const struct shm_port *p = (struct shm_port *)port;
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	char text[64];
	int length = snprintf(text, sizeof(text), "sennit-");

	for (size_t i = 0; i < sizeof(p->name); i++)
		length += snprintf(text + length, sizeof(text) - (size_t)length, "%02x", p->name[i]);
	memcpy(at.sun_path + 1, text, (size_t)length);
	memset(door, 0, sizeof(*door));
	memcpy(&door->at, &at, sizeof(at));
	door->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
	door->type = SOCK_SEQPACKET;
	door->ticket = p->ticket;
}

/* The socket goes with it: what it said waits in the queue. */
void shm_hello_with(const struct door *door, uint64_t ident, int fd)
{
	struct shm_note note = hello(door->ticket);
	int at = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	note.ident = ident;
	if (connect(at, (const struct sockaddr *)&door->at, door->size) || !attach(at, &note, &fd, fd >= 0))
		abort();
	close(at);
}

int strangers_count_files(void)
{
	DIR *folder = opendir("/proc/self/fd");
	int count = 0;

	while (folder && readdir(folder))
		count++;
	if (folder)
		closedir(folder);
	return count;
}

/* ---- the log -------------------------------------------------------------- */

enum { LINES_MOST = 60 };

static const char *wanted_text;
static unsigned wanted_seen, lines;

static void listen_to_log(enum snt_log_level level, const char *text, void *arg)
{
	(void)arg;
	lines += level <= SNT_LOG_WARN;
	wanted_seen += level == SNT_LOG_WARN && wanted_text && strstr(text, wanted_text) != NULL;
}

void strangers_expect_log(const char *text)
{
	wanted_text = text;
	wanted_seen = lines = 0;
	snt_log_to(listen_to_log, NULL);
}

int strangers_log_waits(void)
{
	return wanted_text && !wanted_seen;
}

int strangers_log_is_right(void)
{
	if (lines > LINES_MOST)
		fprintf(stderr, "%u lines in the log\n", lines);
	if (wanted_text && !wanted_seen)
		fprintf(stderr, "no warning says '%s'\n", wanted_text);
	return lines <= LINES_MOST && (!wanted_text || wanted_seen);
}
