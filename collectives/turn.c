/* SPDX-License-Identifier: BSD-3-Clause */
/* turn.c - a lock for the owner of a team and its progress thread. */
#include "collectives/turn.h"

#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cpu.h"

enum { FREE, TAKEN, OWNER_WANTS, THREAD_WANTS };

/* A few microseconds: most moves are over by then, and sleeping and waking takes as long. */
#define SPINS 100

static int change(struct snti_turn *turn, uint32_t from, uint32_t to, int order)
{
	return __atomic_compare_exchange_n(&turn->word, &from, to, 0, order, __ATOMIC_RELAXED);
}

static void sleep_while(struct snti_turn *turn, uint32_t word)
{
	syscall(SYS_futex, &turn->word, FUTEX_WAIT_PRIVATE, word, NULL, NULL, 0);
}

static void wake_other(struct snti_turn *turn)
{
	syscall(SYS_futex, &turn->word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

int snti_turn_try(struct snti_turn *turn)
{
	return change(turn, FREE, TAKEN, __ATOMIC_ACQUIRE);
}

void snti_turn_take(struct snti_turn *turn)
{
	do
		if (snti_turn_try(turn))
			return;
	while (!change(turn, TAKEN, OWNER_WANTS, __ATOMIC_RELAXED));
	for (int i = 0; __atomic_load_n(&turn->word, __ATOMIC_ACQUIRE) == OWNER_WANTS; i++)
		if (i < SPINS)
			snti_cpu_relax();
		else
			sleep_while(turn, OWNER_WANTS);
}

void snti_turn_drop(struct snti_turn *turn)
{
	if (__atomic_exchange_n(&turn->word, FREE, __ATOMIC_RELEASE) == THREAD_WANTS)
		wake_other(turn);
}

void snti_turn_await(struct snti_turn *turn)
{
	for (int i = 1; !snti_turn_try(turn); i++) {
		if (i % SPINS) {
			snti_cpu_relax();
			continue;
		}
		change(turn, TAKEN, THREAD_WANTS, __ATOMIC_RELAXED);
		sleep_while(turn, THREAD_WANTS);
	}
}

void snti_turn_pass(struct snti_turn *turn)
{
	if (change(turn, TAKEN, FREE, __ATOMIC_RELEASE))
		return;
	__atomic_store_n(&turn->word, TAKEN, __ATOMIC_RELEASE);
	wake_other(turn);
}

void snti_turn_seize(struct snti_turn *turn)
{
	__atomic_store_n(&turn->word, TAKEN, __ATOMIC_RELAXED);
}
