/* SPDX-License-Identifier: BSD-3-Clause */
/* strangers.h - crowds that come to a listening door: connections that never prove the secret, in many ways. */
#ifndef TESTS_STRANGERS_H
#define TESTS_STRANGERS_H

#include <sys/socket.h>

#include "transport/handshake.h"

struct snti_port;

#define CROWD_MOST 300

/* Where to knock, and what an honest one would say there. */
struct door {
	struct sockaddr_storage at;
	socklen_t size;
	int type;                        /* SOCK_STREAM; SOCK_SEQPACKET: the shm one */
	unsigned char key[SNTI_SECRET_BYTES];
	struct snti_want want;
	uint64_t ticket;                 /* shm */
};

struct stranger {
	int fd, step;
	size_t heard;
	struct snti_handshake handshake;
	unsigned char hello[SNTI_HELLO_BYTES], in[SNTI_PROOF_BYTES];
};

struct crowd;

struct attack {
	const char *name;
	int count;                       /* connections at a time */
	int (*act)(struct crowd *crowd, struct stranger *s);   /* 1: it leaves, and another one comes */
	size_t may_hear;                 /* bytes it may be told on one connection */
	const char *log;                 /* a warning must say so; NULL: none need */
	int record;                      /* needs crowd_record() */
};

struct crowd {
	const struct attack *attack;
	struct door door;
	struct stranger strangers[CROWD_MOST];
	unsigned came;
	size_t most_heard;
	uint64_t random;
	unsigned char hello[SNTI_HELLO_BYTES], answer[SNTI_ANSWER_BYTES];   /* recorded from an honest one */
};

/* Ended by one without a name. */
extern const struct attack tcp_attacks[], shm_attacks[], quiet_attack;

void crowd_open(struct crowd *crowd, const struct attack *attack);
void crowd_step(struct crowd *crowd);
void crowd_close(struct crowd *crowd);
/* Goes through an honest handshake and keeps its bytes; polls @port meanwhile unless it is NULL. */
void crowd_record(struct crowd *crowd, struct snti_port *port);

void door_of_tcp(struct door *door, struct snti_port *port, const unsigned char *secret);
void door_of_shm(struct door *door, struct snti_port *port);
void door_of_loopback(struct door *door, uint16_t port);
/* One hello with the right ticket for the conn @ident, with @fd (-1: none) as its region. */
void shm_hello_with(const struct door *door, uint64_t ident, int fd);

int strangers_count_files(void);
/* From now on warnings are looked at instead of printed: @text (NULL: none) must be in one. */
void strangers_expect_log(const char *text);
/* Whether it was, and no flood of them came. */
int strangers_log_is_right(void);
/* Whether what is expected has not been logged yet. */
int strangers_log_waits(void);

#endif
