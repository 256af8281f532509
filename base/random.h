/* SPDX-License-Identifier: BSD-3-Clause */
/* random.h - bytes nobody can guess, from the kernel. */
#ifndef BASE_RANDOM_H
#define BASE_RANDOM_H

#include <stddef.h>

/* 0 or SNT_EDEVICE. */
int snti_random(void *bytes, size_t size);

#endif
