/* SPDX-License-Identifier: BSD-3-Clause */
/* tend.c - a thread that polls the comms over rails or UCX now and then, for as long as there are any.
 *
 * NCCL asks nothing of a comm without requests. What such a comm has sent may have been on a rail that was cut, and then it is
 * up to this process to send it again, while the peer waits for nothing else. And to UCX nothing has left before the peer has
 * acknowledged it, which it does when it is polled: whoever connects would wait for one that has accepted and rests.
 */
#include "plugins/nccl/core.h"

#include <signal.h>
#include <time.h>

#define PAUSE_NS 50000000       /* half of the silence that makes rails ask */

static pthread_mutex_t tending = PTHREAD_MUTEX_INITIALIZER;
static struct snti_link comms = { &comms, &comms };
static int is_running;

/* One whose lock is taken is being polled. */
static void poll_all(void)
{
	snti_list_each(link, &comms) {
		struct snti_nccl_comm *comm = snti_container(link, struct snti_nccl_comm, tended);

		if (!snti_nccl_try_lock(&comm->lock))
			continue;
		(void)!snti_nccl_poll(comm);
		snti_nccl_unlock(&comm->lock);
	}
}

static void *tend(void *unused)
{
	pthread_mutex_lock(&tending);
	while (!snti_list_empty(&comms)) {
		poll_all();
		pthread_mutex_unlock(&tending);
		nanosleep(&(struct timespec){ .tv_nsec = PAUSE_NS }, NULL);
		pthread_mutex_lock(&tending);
	}
	is_running = 0;
	pthread_mutex_unlock(&tending);
	return unused;
}

/* The application's signals are not for it. */
static int start(void)
{
	sigset_t all, before;
	pthread_t thread;
	int failed;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	failed = pthread_create(&thread, NULL, tend, NULL);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!failed)
		pthread_detach(thread);
	return !failed;
}

void snti_nccl_tend(struct snti_nccl_comm *comm)
{
	if (!snti_rails_under(comm->port->ops) && comm->port->ops != &snti_ucx_transport)
		return;
	pthread_mutex_lock(&tending);
	snti_list_append(&comms, &comm->tended);
	if (!is_running)
		is_running = start();
	if (!is_running)
		snti_nccl_log(NCCL_LOG_INFO, "no thread to tend idle connections: they may hang");
	pthread_mutex_unlock(&tending);
}

void snti_nccl_untend(struct snti_nccl_comm *comm)
{
	pthread_mutex_lock(&tending);
	snti_list_remove(&comm->tended);
	pthread_mutex_unlock(&tending);
}
