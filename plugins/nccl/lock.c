/* SPDX-License-Identifier: BSD-3-Clause */
/* lock.c - where a comm's lock is taken already. */
#include "plugins/nccl/lock.h"

#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Whoever has slept does not know who else does, and leaves it marked as wanted: at worst one wakes nobody. */
void snti_nccl_lock_wait(struct snti_nccl_lock *lock)
{
	while (atomic_exchange_explicit(&lock->state, SNTI_NCCL_WANTED, memory_order_acquire) != SNTI_NCCL_FREE)
		syscall(SYS_futex, &lock->state, FUTEX_WAIT_PRIVATE, SNTI_NCCL_WANTED, NULL, NULL, 0);
}

void snti_nccl_lock_wake(struct snti_nccl_lock *lock)
{
	syscall(SYS_futex, &lock->state, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}
