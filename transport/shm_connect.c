/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_connect.c - the socket of a pair: it brings the region, wakes sleepers, and ends when a process does. */
#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/random.h"
#include "transport/shm.h"

/* ---- notes ---------------------------------------------------------------- */

union control { struct cmsghdr align; char bytes[CMSG_SPACE(sizeof(int))]; };

/* 0, or an errno. @attached -1: no descriptor. */
int shm_note_send(int fd, const struct shm_note *note, int attached)
{
	union control control;
	struct iovec iov = { (void *)(uintptr_t)note, sizeof(*note) };
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (attached >= 0) {
		struct cmsghdr *head;

		memset(&control, 0, sizeof(control));
		message.msg_control = control.bytes;
		message.msg_controllen = sizeof(control.bytes);
		head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(head), &attached, sizeof(int));
	}
	return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)sizeof(*note) ? 0 : errno;
}

static int attached_fd(struct msghdr *message)
{
	int fd = -1;
	struct cmsghdr *head = CMSG_FIRSTHDR(message);

	/* There is room for one descriptor: the kernel has dropped any others. */
	if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS &&
	    head->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(head), sizeof(int));
	return fd;
}

#define CUT_OFF (-2)    /* a descriptor was sent, and this process had no room for it */

/* Bytes of the next message; 0 at the end; -1 when there is none yet (EAGAIN) or an error. */
static ssize_t note_receive(int fd, struct shm_note *note, int *attached)
{
	union control control;
	struct iovec iov = { note, sizeof(*note) };
	/* Not CMSG_SPACE: its padding would have room for a second descriptor, which nobody would close. */
	struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes,
				  .msg_controllen = CMSG_LEN(sizeof(int)) };
	ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	*attached = got > 0 ? attached_fd(&message) : -1;
	if (*attached < 0 && got > 0 && message.msg_flags & MSG_CTRUNC)
		*attached = CUT_OFF;
	return got;
}

static int is_note(const struct shm_note *note, ssize_t size)
{
	return size == (ssize_t)sizeof(*note) && note->magic == SHM_MAGIC && note->version == SHM_VERSION;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int watch(struct shm_port *p, struct shm_watch *w, int how)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = w };

	if (epoll_ctl(p->base.wake_fd, how, w->fd, &event))
		return snti_fail(SNT_EDEVICE, "cannot watch a socket: %s", strerror(errno));
	return 0;
}

/* ---- connecting ----------------------------------------------------------- */

static int is_up(struct shm_conn *c)
{
	socklen_t size = sizeof(struct ucred);
	struct ucred who = { 0 };
	struct shm_port *p = shm_port_of(c->base.port);

	if (getsockopt(c->watch.fd, SOL_SOCKET, SO_PEERCRED, &who, &size) || who.uid != getuid())
		return snti_fail(SNT_EREFUSED, "rank %d: its socket belongs to another user", c->base.peer);
	c->pid = who.pid;
	shm_probe(c);
	c->cell_limit = SHM_CELLS;
	c->slot_limit = c->slots;
	c->message_limit = SHM_NUMBERS;
	c->byte_limit = c->eager;
	c->base.status = 0;
	p->setting_up--;
	return 0;
}

static struct shm_note introduction(const struct shm_conn *c, enum shm_note_type type)
{
	struct shm_note note = { .magic = SHM_MAGIC, .version = SHM_VERSION, .type = type };

	note.ident = c->base.ident;
	note.nonce_at = (uint64_t)(uintptr_t)&c->nonce;
	note.nonce = c->nonce;
	return note;
}

static int say_hello(struct shm_conn *c)
{
	struct shm_note hello = introduction(c, SHM_HELLO);
	struct shm_address address;
	int error;

	shm_address_read(&c->theirs, &address);
	hello.ticket = address.ticket;
	error = shm_note_send(c->watch.fd, &hello, c->memfd);
	if (error)
		return snti_fail(SNT_EPEER, "rank %d: cannot greet it: %s", c->base.peer, strerror(error));
	close_fd(&c->memfd);
	return watch(shm_port_of(c->base.port), &c->watch, EPOLL_CTL_ADD);
}

static socklen_t socket_name(struct sockaddr_un *to, const unsigned char *name)
{
	char text[64] = "";
	int length = 0;

	length = snprintf(text, sizeof(text), "sennit-");
	for (size_t i = 0; i < 16; i++)
		length += snprintf(text + length, sizeof(text) - (size_t)length, "%02x", name[i]);
	memset(to, 0, sizeof(*to));
	to->sun_family = AF_UNIX;
	memcpy(to->sun_path + 1, text, (size_t)length);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

int shm_listen(struct shm_port *p)
{
	struct sockaddr_un at;
	socklen_t size = socket_name(&at, p->name);

	p->watch.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (p->watch.fd < 0 || bind(p->watch.fd, (struct sockaddr *)&at, size) || listen(p->watch.fd, 4096))
		return snti_fail(SNT_EDEVICE, "cannot listen on a local socket: %s", strerror(errno));
	return watch(p, &p->watch, EPOLL_CTL_ADD);
}

static int try_connect(struct shm_conn *c)
{
	struct sockaddr_un to;
	struct shm_address address;
	socklen_t size;

	shm_address_read(&c->theirs, &address);
	size = socket_name(&to, address.name);
	if (connect(c->watch.fd, (struct sockaddr *)&to, size)) {
		if (errno == EAGAIN)
			return 0;       /* the backlog is full: shm_connect_again */
		return snti_fail(SNT_EPEER, "rank %d: cannot connect to its local socket: %s", c->base.peer,
				 strerror(errno));
	}
	c->connecting = 0;
	return say_hello(c);
}

void shm_connect_again(struct shm_conn *c)
{
	int rc = c->connecting && c->base.status == SNT_BUSY ? try_connect(c) : 0;

	if (rc)
		shm_fail(c, rc);
}

static int enlist(struct shm_conn *c)
{
	struct shm_port *p = shm_port_of(c->base.port);
	struct snti_link *lists[] = { &c->posted, &c->early, &c->early_free, &c->streams, &c->pulls };
	int rc = snti_random(&c->nonce, sizeof(c->nonce));

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		snti_list_init(lists[i]);
	c->watch = (struct shm_watch){ SHM_WATCH_CONN, -1 };
	c->memfd = -1;
	for (uint32_t i = 0; i < SHM_NUMBERS; i++)
		c->free_numbers[i] = (uint16_t)(SHM_NUMBERS - 1 - i);
	c->free_count = SHM_NUMBERS;
	c->base.status = SNT_BUSY;
	p->conns[p->count++] = c;
	p->setting_up++;
	c->listed = 1;
	return rc;
}

/* A conn that was never listed holds nothing. */
static int give_up(struct shm_conn *c, int rc)
{
	if (c->listed)
		shm_fail(c, rc);
	else
		c->base.status = rc;
	return rc;
}

int shm_connect(struct snti_conn *conn, const struct snti_address *theirs)
{
	struct shm_conn *c = shm_conn_of(conn);
	int rc = shm_make_room(shm_port_of(conn->port));

	if (!rc)
		rc = enlist(c);
	if (!rc && shm_reaches(conn->port, theirs))
		rc = snti_fail(SNT_EUNREACHABLE, "rank %d is not on this host", conn->peer);
	if (!rc)
		rc = shm_region_make(c);
	if (rc)
		return give_up(c, rc);
	c->theirs = *theirs;
	c->connecting = 1;
	c->watch.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	rc = c->watch.fd < 0 ? snti_fail(SNT_ELIMIT, "no local socket: %s", strerror(errno)) : try_connect(c);
	if (rc)
		shm_fail(c, rc);
	return rc;
}

/* ---- accepting ------------------------------------------------------------ */

void shm_unpark(struct shm_parked *parked)
{
	close_fd(&parked->watch.fd);
	if (parked->heard)
		close_fd(&parked->region);
	parked->heard = 0;
}

static int take_over(struct shm_conn *c, struct shm_parked *parked)
{
	struct shm_note welcome = introduction(c, SHM_WELCOME);
	int rc = shm_region_join(c, parked->region), error;

	c->peer_nonce = parked->hello.nonce;
	c->peer_nonce_at = parked->hello.nonce_at;
	c->watch.fd = parked->watch.fd;
	parked->watch.fd = -1;
	shm_unpark(parked);
	if (rc)
		return rc;
	error = shm_note_send(c->watch.fd, &welcome, -1);
	if (error)
		return snti_fail(SNT_EPEER, "rank %d: cannot welcome it: %s", c->base.peer, strerror(error));
	rc = watch(shm_port_of(c->base.port), &c->watch, EPOLL_CTL_MOD);
	return rc ? rc : is_up(c);
}

static void adopt(struct shm_conn *c, struct shm_parked *parked)
{
	int rc = take_over(c, parked);

	if (rc)
		shm_fail(c, rc);
}

int shm_accept(struct snti_conn *conn, const struct snti_address *mine)
{
	struct shm_port *p = shm_port_of(conn->port);
	struct shm_conn *c = shm_conn_of(conn);
	int rc = shm_make_room(p);

	(void)mine;     /* one ticket per port: the ident tells the pairs apart */
	if (!rc)
		rc = enlist(c);
	if (rc)
		return give_up(c, rc);
	for (size_t i = 0; i < SHM_PARKED; i++)
		if (p->parked[i].heard && p->parked[i].hello.ident == conn->ident) {
			adopt(c, &p->parked[i]);
			break;
		}
	return conn->status < 0 ? conn->status : 0;
}

static struct shm_conn *find_accepting(struct shm_port *p, uint64_t ident)
{
	for (size_t i = 0; i < p->count; i++)
		if (p->conns[i]->base.status == SNT_BUSY && !p->conns[i]->region && p->conns[i]->base.ident == ident)
			return p->conns[i];
	return NULL;
}

/* @other: of which other user it is; NULL: of this one. */
static void log_turned_away(struct shm_port *p, const struct ucred *other)
{
	char more[SNTI_LOG_MORE];

	if (!snti_log_may(&p->log, more))
		return;
	if (other)
		snti_log(SNT_LOG_WARN, "a process of user %u came to the local socket and was turned away%s",
			 (unsigned)other->uid, more);
	else
		snti_log(SNT_LOG_WARN, "a stranger came to the local socket and was turned away%s", more);
}

static void read_parked(struct shm_port *p, struct shm_parked *parked)
{
	struct shm_conn *c;
	struct shm_note note;
	int fd;
	ssize_t got = note_receive(parked->watch.fd, &note, &fd);

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* Of a peer that knows the ticket only: strangers must not end the port. */
	if (!parked->heard && is_note(&note, got) && note.type == SHM_HELLO && note.ticket == p->ticket && fd == CUT_OFF)
		p->starved = 1;
	if (parked->heard || !is_note(&note, got) || note.type != SHM_HELLO || note.ticket != p->ticket || fd < 0) {
		if (!parked->heard || got > 0)
			log_turned_away(p, NULL);
		close_fd(&fd);
		shm_unpark(parked);
		return;
	}
	parked->heard = 1;
	parked->hello = note;
	parked->region = fd;
	c = find_accepting(p, note.ident);
	if (c)
		adopt(c, parked);
}

static struct shm_parked *free_place(struct shm_port *p)
{
	for (int silent = 0; silent < 2; silent++)
		for (size_t i = 0; i < SHM_PARKED; i++) {
			if (p->parked[i].watch.fd < 0)
				return &p->parked[i];
			if (silent && !p->parked[i].heard) {
				shm_unpark(&p->parked[i]);
				return &p->parked[i];
			}
		}
	return NULL;
}

static void take_sockets(struct shm_port *p)
{
	struct shm_parked *parked;

	/* With all places taken the rest stay in the backlog until an accept has made room. */
	while ((parked = free_place(p))) {
		struct ucred who = { 0 };
		socklen_t size = sizeof(who);
		int fd = accept4(p->watch.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd < 0) {
			p->starved |= errno == EMFILE || errno == ENFILE;
			return;
		}
		parked->watch = (struct shm_watch){ SHM_WATCH_PARKED, fd };
		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) || who.uid != getuid()) {
			log_turned_away(p, &who);
			shm_unpark(parked);
		} else if (watch(p, &parked->watch, EPOLL_CTL_ADD)) {
			shm_unpark(parked);
		} else {
			read_parked(p, parked);
		}
	}
}

/* ---- while it is up ------------------------------------------------------- */

/* No more will come over the socket; what is in the ring is still read (shm_settle). It is no error
 * yet: only who then still wants something of the peer has one. */
static void peer_gone(struct shm_conn *c, int status, const char *how)
{
	if (!c->gone && c->base.status >= 0) {
		c->gone = status;
		c->gone_how = how;
		c->cell_limit = 0;
	}
	/* Else its end would keep wake_fd readable. */
	if (c->watch.fd >= 0)
		epoll_ctl(c->base.port->wake_fd, EPOLL_CTL_DEL, c->watch.fd, NULL);
	close_fd(&c->watch.fd);
}

static void take_note(struct shm_conn *c, const struct shm_note *note, int fd)
{
	int rc;

	if (note->type == SHM_WELCOME && c->base.status == SNT_BUSY && note->ident == c->base.ident) {
		c->peer_nonce = note->nonce;
		c->peer_nonce_at = note->nonce_at;
		rc = is_up(c);
		if (rc)
			shm_fail(c, rc);
	} else if (note->type == SHM_MEMORY && c->base.status == 0) {
		if (fd == CUT_OFF)
			snti_log(SNT_LOG_WARN, "rank %d: no descriptor left to map its memory, copying instead", c->base.peer);
		else if (shm_learn(c, note, fd))
			shm_garbled(c, "memory that cannot be mapped");
	} else if (note->type == SHM_BYE) {
		if (note->status == SNT_EMISMATCH)
			peer_gone(c, SNT_EMISMATCH, "expects other messages than it was sent");
		else
			peer_gone(c, SNT_EPEER, "has closed the connection");
	} else {
		shm_garbled(c, "an unexpected note");
	}
}

void shm_read_socket(struct shm_conn *c)
{
	struct shm_note note;
	int fd;

	while (c->watch.fd >= 0 && c->base.status >= 0) {
		ssize_t got = note_receive(c->watch.fd, &note, &fd);

		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		/* The peer closed with something of ours unread: its last notes are still there. */
		if (got < 0 && errno == ECONNRESET)
			got = note_receive(c->watch.fd, &note, &fd);
		if (got <= 0)
			peer_gone(c, SNT_EPEER, "is gone");
		else if (is_note(&note, got))
			take_note(c, &note, fd);
		else if (got != 1)
			shm_garbled(c, "an unreadable note");
		close_fd(&fd);
	}
}

void shm_look_at_sockets(struct shm_port *p)
{
	struct epoll_event events[16];
	int n = epoll_wait(p->base.wake_fd, events, 16, 0);

	for (int i = 0; i < n; i++) {
		struct shm_watch *w = events[i].data.ptr;

		if (w->kind == SHM_WATCH_PORT)
			take_sockets(p);
		else if (w->fd < 0)
			continue;       /* closed since */
		else if (w->kind == SHM_WATCH_PARKED)
			read_parked(p, snti_container(w, struct shm_parked, watch));
		else
			shm_read_socket(snti_container(w, struct shm_conn, watch));
	}
	for (size_t i = 0; i < p->count; i++)
		shm_connect_again(p->conns[i]);
}

/* The socket only; what is in the ring the peer still reads. */
void shm_leave(struct shm_conn *c)
{
	struct shm_note bye = { .magic = SHM_MAGIC, .version = SHM_VERSION, .type = SHM_BYE };

	bye.status = c->base.status < 0 ? c->base.status : 0;
	if (c->watch.fd >= 0 && !c->connecting)
		shm_note_send(c->watch.fd, &bye, -1);
	close_fd(&c->watch.fd);
}

void shm_wake_peer(struct shm_conn *c, uint64_t sleep)
{
	if (c->watch.fd >= 0 && send(c->watch.fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1)
		c->woken = sleep;
}
