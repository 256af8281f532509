/* SPDX-License-Identifier: BSD-3-Clause */
/* shared.h - memory from snt_alloc: which allocation an address belongs to. */
#ifndef TRANSPORT_SHARED_H
#define TRANSPORT_SHARED_H

#include "transport/transport.h"

/* The allocation that holds all of [data, data + size), or NULL. Any thread. */
struct snti_memory *snti_shared_find(const void *data, size_t size);

/* snt_alloc() for a caller that can do without: NULL with errno, and no failure is noted. */
void *snti_shared_alloc(size_t size);

/* Grows with every snt_alloc and snt_free: while it stays, what snti_shared_find said still holds. */
uint64_t snti_shared_changes(void);

#endif
