/* SPDX-License-Identifier: BSD-3-Clause */
/* helper.c - the progress thread: moves, spins a little when nothing moves, sleeps on the wires, rests without work. */
#include "collectives/helper.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/log.h"
#include "base/settings.h"
#include "collectives/turn.h"

/* As a waiting owner: even a wake-up that was missed costs little. */
#define SLEEP_MOST_MS 10
/* Tests in vain after which the owner makes sure that something goes on: the thread may not get a core. */
#define TRIES_PER_LOOK 16
#define TEXT_ROOM 1024

enum asleep { AWAKE, RESTING, ON_WIRES };
enum side { NOBODY, OWNER, THREAD };

struct snti_helper {
	struct snti_turn turn;
	int asleep;                  /* enum asleep; changed by who has the turn, read by anybody */
	unsigned tries;              /* the owner's */
	int bell;                    /* an eventfd that wakes the thread */

	/* For who has the turn. */
	int engaged, stop;
	enum side teller;            /* whose text the other has not got yet */
	unsigned failures;           /* of the thread that has the turn, when it came */
	uint64_t engage_bytes;
	char text[TEXT_ROOM];

	struct snt_team *team;
	pthread_t thread;
	unsigned forks;              /* when it was made */
	struct pollfd fds[SNTI_PORTS_MAX + 2];   /* the thread's: what wakes it, the bell last */
	int fd_count, is_called;
	uint64_t idle_ns;            /* since when nothing moves; 0: something did */
};

/* ---- fork ------------------------------------------------------------------ */

static unsigned forks;
static pthread_once_t fork_once = PTHREAD_ONCE_INIT;

static void count_fork(void)
{
	forks++;
}

static void watch_forks(void)
{
	pthread_atfork(NULL, NULL, count_fork);
}

/* In a child the thread is gone, whatever it was at. */
static int is_orphan(const struct snti_helper *h)
{
	return h->forks != forks;
}

/* ---- the turn ---------------------------------------------------------------- */

/* The wires keep no texts: who moves them may fail a message and the other find that out. */
static void come(struct snti_helper *h, enum side side)
{
	if (h->teller != NOBODY && h->teller != side) {
		snti_error_take(h->text);
		h->teller = NOBODY;
	}
	h->failures = snti_error_count();
}

static void go(struct snti_helper *h, enum side side)
{
	if (snti_error_count() == h->failures)
		return;
	strncpy(h->text, snt_error_text(), TEXT_ROOM - 1);
	h->teller = side;
}

static void fall(struct snti_helper *h, enum asleep asleep)
{
	__atomic_store_n(&h->asleep, asleep, __ATOMIC_RELAXED);
}

void snti_helper_enter(struct snti_helper *h)
{
	if (!snti_turn_try(&h->turn)) {
		if (is_orphan(h))
			snti_turn_seize(&h->turn);
		else
			snti_turn_take(&h->turn);
	}
	come(h, OWNER);
}

int snti_helper_try(struct snti_helper *h)
{
	int sleeps = __atomic_load_n(&h->asleep, __ATOMIC_RELAXED) == ON_WIRES;

	if (sleeps && ++h->tries % TRIES_PER_LOOK)
		return 0;
	if (snti_turn_try(&h->turn)) {
		come(h, OWNER);
		return 1;
	}
	if (is_orphan(h)) {
		snti_helper_enter(h);
		return 1;
	}
	/* Where the two share a core under a scheduler that does not take it away, the thread would never get on. */
	if (!sleeps && ++h->tries % TRIES_PER_LOOK == 0)
		sched_yield();
	return 0;
}

static int has_work(const struct snti_helper *h)
{
	return h->engaged && !snti_list_empty(&h->team->running);
}

void snti_helper_leave(struct snti_helper *h)
{
	static const uint64_t one = 1;
	int rings = h->asleep != AWAKE && (has_work(h) || h->stop) && !is_orphan(h);

	if (rings)
		fall(h, AWAKE);
	go(h, OWNER);
	snti_turn_drop(&h->turn);
	if (rings && write(h->bell, &one, sizeof(one)) != (ssize_t)sizeof(one))
		snti_log(SNT_LOG_WARN, "cannot wake the progress thread: %s", strerror(errno));
}

void snti_helper_engage(struct snti_helper *h, uint64_t bytes)
{
	h->engaged |= bytes >= h->engage_bytes;
}

/* ---- the thread -------------------------------------------------------------- */

/* Failures are in the team and its operations, where the owner finds them. */
static void move(struct snti_helper *h)
{
	int moved = 0, status = h->is_called ? snti_team_hear(h->team) : 0;

	h->is_called = 0;
	status = status ? status : snti_team_move(h->team, &moved);
	if (!status && !moved)
		status = snti_team_glance(h->team);
	if (status || moved)
		h->idle_ns = 0;
	else if (!h->idle_ns)
		h->idle_ns = snti_now_ns();
}

/* Under the turn, so that the owner knows whether it has to ring. */
static void decide(struct snti_helper *h)
{
	h->engaged = has_work(h);
	if (!h->engaged) {
		h->fd_count = 0;
		h->idle_ns = 0;
		fall(h, RESTING);
	} else if (h->idle_ns && snti_now_ns() - h->idle_ns >= h->team->spin_us * 1000) {
		h->fd_count = snti_team_arm(h->team, h->fds);
		fall(h, h->fd_count ? ON_WIRES : AWAKE);
	}
}

static void sleep_until_called(struct snti_helper *h)
{
	uint64_t rings;

	h->fds[h->fd_count] = (struct pollfd){ .fd = h->bell, .events = POLLIN };
	if (poll(h->fds, (nfds_t)h->fd_count + 1, h->fd_count ? SLEEP_MOST_MS : -1) <= 0)
		return;
	if (h->fds[h->fd_count].revents && read(h->bell, &rings, sizeof(rings)) < 0)
		snti_log(SNT_LOG_DEBUG, "the progress thread was woken by nobody");
	h->is_called = h->fd_count && h->fds[h->fd_count - 1].revents;   /* the control channel */
}

static void *run(void *arg)
{
	struct snti_helper *h = arg;
	int stop, asleep;

	do {
		snti_turn_await(&h->turn);
		come(h, THREAD);
		fall(h, AWAKE);
		if (has_work(h))
			move(h);
		decide(h);
		stop = h->stop;
		asleep = h->asleep;
		go(h, THREAD);
		snti_turn_pass(&h->turn);
		if (asleep && !stop)
			sleep_until_called(h);
		else
			snti_cpu_relax();
	} while (!stop);
	return NULL;
}

/* Signals are the program's: its handlers run in its own threads. Those that a fault raises stay with who made it. */
static int start_thread(struct snti_helper *h)
{
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS };
	sigset_t blocked, before;
	int failed;

	sigfillset(&blocked);
	for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++)
		sigdelset(&blocked, faults[i]);
	pthread_sigmask(SIG_SETMASK, &blocked, &before);
	failed = pthread_create(&h->thread, NULL, run, h);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (failed)
		return snti_fail(SNT_ELIMIT, "no progress thread: %s", strerror(failed));
	pthread_setname_np(h->thread, "snt-progress");
	return 0;
}

int snti_helper_start(struct snt_team *team)
{
	struct snti_helper *h = calloc(1, sizeof(*h));
	int status;

	if (!h)
		return snti_fail(SNT_ENOMEM, "no memory for a progress thread");
	pthread_once(&fork_once, watch_forks);
	h->team = team;
	h->forks = forks;
	h->engage_bytes = snti_settings()->progress_bytes;
	h->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	status = h->bell < 0 ? snti_fail(SNT_ELIMIT, "no descriptor for a progress thread: %s", strerror(errno)) : start_thread(h);
	if (status) {
		if (h->bell >= 0)
			close(h->bell);
		free(h);
		return status;
	}
	if (snti_cpu_count() == 1)
		snti_log(SNT_LOG_WARN, "rank %d may use one core only: its progress thread has to take turns with it", team->rank);
	team->helper = h;
	return 0;
}

void snti_helper_stop(struct snt_team *team)
{
	struct snti_helper *h = team->helper;

	if (!h)
		return;
	snti_helper_enter(h);
	h->stop = 1;
	snti_helper_leave(h);
	if (!is_orphan(h))
		pthread_join(h->thread, NULL);
	close(h->bell);
	free(h);
	team->helper = NULL;
}
