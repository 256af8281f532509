/* SPDX-License-Identifier: BSD-3-Clause */
/* lock.h - the lock of a comm, which NCCL's progress thread takes for every call and hardly ever finds taken: in line,
 * one exchange to take it and one to let go. Who finds it taken sleeps in the kernel. */
#ifndef PLUGINS_NCCL_LOCK_H
#define PLUGINS_NCCL_LOCK_H

#include <stdatomic.h>

enum { SNTI_NCCL_FREE, SNTI_NCCL_TAKEN, SNTI_NCCL_WANTED };

struct snti_nccl_lock { atomic_int state; };    /* 0: free */

void snti_nccl_lock_wait(struct snti_nccl_lock *lock);          /* takes it, however long that takes */
void snti_nccl_lock_wake(struct snti_nccl_lock *lock);

static inline int snti_nccl_try_lock(struct snti_nccl_lock *lock)
{
	int state = SNTI_NCCL_FREE;

	return atomic_compare_exchange_strong_explicit(&lock->state, &state, SNTI_NCCL_TAKEN, memory_order_acquire,
						       memory_order_relaxed);
}

static inline void snti_nccl_take_lock(struct snti_nccl_lock *lock)
{
	if (!snti_nccl_try_lock(lock))
		snti_nccl_lock_wait(lock);
}

static inline void snti_nccl_unlock(struct snti_nccl_lock *lock)
{
	if (atomic_exchange_explicit(&lock->state, SNTI_NCCL_FREE, memory_order_release) == SNTI_NCCL_WANTED)
		snti_nccl_lock_wake(lock);
}

#endif
