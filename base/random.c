/* SPDX-License-Identifier: BSD-3-Clause */
/* random.c - getrandom(2) until it is enough. */
#include "base/random.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "base/log.h"

int snti_random(void *bytes, size_t size)
{
	unsigned char *at = bytes;

	while (size) {
		ssize_t got = getrandom(at, size, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return snti_fail(SNT_EDEVICE, "the kernel gives no random bytes: %s", strerror(errno));
		at += got;
		size -= (size_t)got;
	}
	return 0;
}
