/* SPDX-License-Identifier: BSD-3-Clause */
/* address.c - an address of 192 bytes, most of which are zero, in what a handle of 128 has left for it.
 *
 * A byte below 128 is followed by so many bytes as they are; one from 128 on stands for
 * 127 less of zeros. What is behind the last one is zero.
 */
#include "plugins/nccl/core.h"

#include <string.h>

enum { MOST = 127, FEW = 2 };   /* a single zero is cheaper as it is */

static size_t zeros_at(const unsigned char *bytes, size_t at, size_t end)
{
	size_t count = 0;

	while (at + count < end && !bytes[at + count] && count < MOST)
		count++;
	return count;
}

static size_t others_at(const unsigned char *bytes, size_t at, size_t end)
{
	size_t count = 0;

	while (at + count < end && count < MOST && zeros_at(bytes, at + count, end) < FEW)
		count++;
	return count;
}

size_t snti_nccl_pack(const struct snti_address *address, unsigned char *to, size_t room)
{
	const unsigned char *bytes = address->bytes;
	size_t end = sizeof address->bytes, used = 0;

	while (end && !bytes[end - 1])
		end--;
	for (size_t at = 0; at < end;) {
		size_t zeros = zeros_at(bytes, at, end), others = zeros < FEW ? others_at(bytes, at, end) : 0;

		if (used + 1 + others > room)
			return room + 1;
		to[used++] = (unsigned char)(others ? others : MOST + zeros);
		memcpy(to + used, bytes + at, others);
		used += others;
		at += others ? others : zeros;
	}
	return used;
}

int snti_nccl_unpack(const unsigned char *from, size_t size, struct snti_address *address)
{
	size_t used = 0, at = 0, room = sizeof address->bytes;

	memset(address, 0, sizeof *address);
	while (used < size) {
		size_t count = from[used++];

		if (count > MOST) {
			at += count - MOST;
		} else if (count > size - used || at > room || count > room - at) {
			return -1;
		} else {
			memcpy(address->bytes + at, from + used, count);
			used += count;
			at += count;
		}
		if (at > room)
			return -1;
	}
	return 0;
}
