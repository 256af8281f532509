/* SPDX-License-Identifier: BSD-3-Clause */
/* test_nccl_lock.c - the lock of NCCL's comms: one at a time, and whoever sleeps is woken. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "plugins/nccl/lock.h"

enum { THREADS = 4, TIMES = 20000, SLEEPERS = 3 };

static struct snti_nccl_lock the_lock;
static int counted;

static void *count(void *unused)
{
	for (int i = 0; i < TIMES; i++) {
		snti_nccl_take_lock(&the_lock);
		counted++;
		snti_nccl_unlock(&the_lock);
	}
	return unused;
}

static void run(void *(*what)(void *), pthread_t *threads, int many)
{
	for (int i = 0; i < many; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, what, NULL), 0);
}

static void join(pthread_t *threads, int many)
{
	for (int i = 0; i < many; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
}

static void one_at_a_time(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	counted = 0;
	run(count, threads, THREADS);
	join(threads, THREADS);
	assert_int_equal(counted, THREADS * TIMES);
	assert_int_equal(atomic_load(&the_lock.state), SNTI_NCCL_FREE);
}

static void *count_once(void *unused)
{
	snti_nccl_take_lock(&the_lock);
	counted++;
	snti_nccl_unlock(&the_lock);
	return unused;
}

/* Long enough that all of them sleep: each that leaves wakes the next. */
static void sleepers_are_woken(void **state)
{
	pthread_t threads[SLEEPERS];

	(void)state;
	counted = 0;
	snti_nccl_take_lock(&the_lock);
	assert_false(snti_nccl_try_lock(&the_lock));
	run(count_once, threads, SLEEPERS);
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	assert_int_equal(counted, 0);
	snti_nccl_unlock(&the_lock);
	join(threads, SLEEPERS);
	assert_int_equal(counted, SLEEPERS);
	assert_true(snti_nccl_try_lock(&the_lock));
	snti_nccl_unlock(&the_lock);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_at_a_time),
		cmocka_unit_test(sleepers_are_woken),
	};

	alarm(10);      /* whoever is not woken would wait for ever */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
