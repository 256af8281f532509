/* SPDX-License-Identifier: BSD-3-Clause */
/* progress.c - moves a team's operations, waits politely, and ends all when one fails. */
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/log.h"
#include "collectives/team.h"

/* Looking at the clock and the control channel costs more than a poll. */
#define POLLS_PER_LOOK 64
#define POLLS_PER_MOVE 8                /* of ports that bring nothing; a divisor of the one above */
#define LOOK_EVERY_NS 1000000ull
#define REPORT_AFTER_NS 100000000ull
#define SLEEP_MOST_MS 10
#define YIELDED_NS 2500                 /* a yield that nobody takes up is back in a tenth of it */
#define CROWDED_FOR 256                 /* such yields */
/* Rank 0 passes a reason on at its next look, a millisecond apart unless it is busy elsewhere. */
#define REASON_WAIT_MS 300

struct patience {
	uint64_t moved_ns;              /* when something moved last */
	uint32_t polls, yields;
	int reported;
};

/* A connection that closed is often only the echo: its other end gave up for a reason that is on its way over
 * the control channel. And of ranks that wait for each other only rank 0 can tell who is missing. That is worth a
 * short wait; without an answer the status stays. */
static int find_reason(struct snt_team *team, int status)
{
	uint64_t deadline = snti_deadline_ms(REASON_WAIT_MS);
	struct pollfd fd = { .events = POLLIN };
	int reason = 0;

	int others_may_know = status == SNT_EPEER || (status == SNT_ETIMEOUT && team->rank);

	if (!others_may_know || !team->exchange || snti_exchange_fd(team->exchange) < 0)
		return status;
	fd.fd = snti_exchange_fd(team->exchange);
	while (!reason && !snti_is_past(deadline)) {
		poll(&fd, 1, snti_left_ms(deadline, 20));
		reason = snti_exchange_poll(team->exchange);
	}
	return reason ? reason : status;
}

/* The same lack, of memory or of a way to a peer, is nothing but the call's before others count on it. Here it ends the team,
 * and its scope has to say so. */
static int of_a_team(int status)
{
	if (snt_status_scope(status) > SNT_SCOPE_CALL)
		return status;
	return status == SNT_ENOMEM ? SNT_ELIMIT : SNT_EUNREACHABLE;
}

/* The first failure decides: its text goes to everybody, all that runs ends with it. */
int snti_team_fail(struct snt_team *team, int status)
{
	if (team->status)
		return team->status;
	team->status = status = of_a_team(find_reason(team, status));
	if (team->exchange)
		snti_exchange_abort(team->exchange, status, snt_error_text());
	while (!snti_list_empty(&team->running)) {
		struct snt_op *op = snti_container(team->running.next, struct snt_op, running);

		__atomic_store_n(&op->status, status, __ATOMIC_RELEASE);
		snti_list_remove(&op->running);
	}
	for (int r = 0; r < team->size; r++) {
		snti_conn_close(team->conns[r]);
		team->conns[r] = NULL;
	}
	return status;
}

int snti_team_poll(struct snt_team *team)
{
	int moved = 0;

	for (uint32_t i = 0; i < team->open_count; i++) {
		int status = team->open[i]->ops->poll(team->open[i]);

		if (status < 0)
			return status;
		moved += status;
	}
	return moved;
}

/* The running list in the order of starting, so that messages on one lane are offered in order. */
static int move_all(struct snt_team *team, int *moved)
{
	struct snti_link *link = team->running.next;

	while (link != &team->running) {
		struct snt_op *op = snti_container(link, struct snt_op, running);
		int status;

		link = link->next;
		status = snti_op_move(op, moved);
		if (status)
			return snti_team_fail(team, status);
	}
	return 0;
}

/* Where nothing has come, operations are asked if they are @due: what else they wait for, room to send for instance, can
 * wait for that. */
static inline int move(struct snt_team *team, int *moved, int due)
{
	int status;

	if (team->status)
		return team->status;
	status = snti_team_poll(team);
	if (status < 0)
		return snti_team_fail(team, status);
	*moved = status > 0;
	return *moved || due ? move_all(team, moved) : 0;
}

int snti_team_move(struct snt_team *team, int *moved)
{
	return move(team, moved, 1);
}

int snti_team_hear(struct snt_team *team)
{
	int status = snti_exchange_poll(team->exchange);

	return status ? snti_team_fail(team, status) : 0;
}

int snti_team_glance(struct snt_team *team)
{
	uint64_t now;

	if (!team->exchange || ++team->idle_tests % POLLS_PER_LOOK)
		return 0;
	now = snti_now_ns();
	if (now - team->looked_ns < LOOK_EVERY_NS)
		return 0;
	team->looked_ns = now;
	return snti_team_hear(team);
}

static int time_out(struct snt_team *team, const struct snt_op *op)
{
	char text[128] = "the peers to take what was sent", blame[100] = "";

	if (snti_exchange_is_silent(team->exchange))
		snprintf(blame, sizeof(blame), "; rank 0 does not answer either");
	else if (op && op->history)
		snti_exchange_absent(team->exchange, op->lane, blame, sizeof(blame));
	if (op)
		snti_op_text(op, text, sizeof(text));
	for (uint32_t i = 0; op && i < op->window; i++) {
		const struct snti_run *run = &op->runs[i];

		for (uint32_t k = run->first; k < run->act_count && k <= run->started; k++)
			if (run->acts[k].op <= 2 && run->xfers[k - run->first].status)
				return snti_fail(SNT_ETIMEOUT, "nothing from rank %u for %u ms in %s (number %llu)%s", run->acts[k].peer,
						 team->timeout_ms, text, (unsigned long long)team->sequence, blame);
	}
	return snti_fail(SNT_ETIMEOUT, "waited %u ms for %s", team->timeout_ms, text);
}

/* Now and then: what the others say, and whether the deadline has passed. */
static int look_around(struct snt_team *team, const struct snt_op *op, struct patience *p, uint64_t now)
{
	char text[128];
	int status;

	if (now - team->looked_ns < LOOK_EVERY_NS)
		return 0;
	team->looked_ns = now;
	status = snti_team_hear(team);
	if (status)
		return status;
	/* The history, not the call alone: so a disagreement in a call that all got through is seen in the next wait. */
	if (op && op->history && !p->reported && now - p->moved_ns > REPORT_AFTER_NS) {
		p->reported = 1;
		snti_op_text(op, text, sizeof(text));
		snti_exchange_report(team->exchange, op->lane, op->history, text);
	}
	if (now - p->moved_ns > team->timeout_ms * 1000000ull)
		return snti_team_fail(team, time_out(team, op));
	return 0;
}

int snti_team_arm(struct snt_team *team, struct pollfd *fds)
{
	int count = 0;

	for (uint32_t i = 0; i < team->open_count; i++) {
		if (team->open[i]->ops->arm(team->open[i]))
			return 0;
		fds[count++] = (struct pollfd){ .fd = team->open[i]->wake_fd, .events = POLLIN };
	}
	fds[count++] = (struct pollfd){ .fd = snti_exchange_fd(team->exchange), .events = POLLIN };
	return count;
}

static void sleep_a_little(struct snt_team *team)
{
	struct pollfd fds[SNTI_PORTS_MAX + 1];
	int count = snti_team_arm(team, fds);

	if (count)
		poll(fds, (nfds_t)count, SLEEP_MOST_MS);
}

/* Yielding tells whether others want this core, ranks of the same job in other containers for instance: then the
 * next waits do not spin, until nobody has wanted it for a while. */
static void yield(struct snt_team *team, uint64_t *now)
{
	uint64_t began = *now;

	sched_yield();
	*now = snti_now_ns();
	if (*now - began > YIELDED_NS)
		team->crowded = CROWDED_FOR;
	else if (team->crowded)
		team->crowded--;
}

/* Nothing moved: spin a little, then yield, then sleep. */
static int be_patient(struct snt_team *team, const struct snt_op *op, struct patience *p)
{
	uint64_t spin_us = team->crowded ? 0 : team->spin_us, now;

	if (spin_us && ++p->polls % POLLS_PER_LOOK)
		return 0;
	now = snti_now_ns();
	if (!p->moved_ns)
		p->moved_ns = now;
	if ((now - p->moved_ns) / 1000 < spin_us)
		return 0;
	/* Counted, not timed: while other programs have the core no time of this rank's passes, and a sleeper that is
	 * woken waits for the core again where one that yields has its turn already. */
	if (p->yields++ < team->yields) {
		yield(team, &now);
	} else {
		sleep_a_little(team);
		now = snti_now_ns();
	}
	return look_around(team, op, p, now);
}

static int is_flushed(const struct snt_team *team)
{
	for (int r = 0; r < team->size; r++)
		if (team->conns[r] && team->conns[r]->status >= 0 && team->conns[r]->ops->flush(team->conns[r]) == SNT_BUSY)
			return 0;
	return 1;
}

int snti_team_wait(struct snt_team *team, struct snt_op *op)
{
	struct patience p = { 0 };
	int moved = 0, status = team->status;

	while (!status) {
		if (op ? op->status != SNT_BUSY : is_flushed(team))
			return op ? op->status : 0;
		if (!moved)
			snti_cpu_relax();       /* also before the first look: see shm_has_cell() */
		status = move(team, &moved, p.polls % POLLS_PER_MOVE == 0);
		if (!status && moved)
			p = (struct patience){ 0 };
		else if (!status)
			status = be_patient(team, op, &p);
	}
	return status;
}
