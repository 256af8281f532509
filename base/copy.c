/* SPDX-License-Identifier: BSD-3-Clause */
/* copy.c - streaming stores, where the processor has them for everybody. */
#include "base/copy.h"

#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#define LINE ((size_t)64)

#if defined(__x86_64__)
static void stream_line(char *to, const char *from)
{
	for (size_t i = 0; i < LINE; i += 16)
		_mm_stream_si128((__m128i *)(to + i), _mm_loadu_si128((const __m128i *)(from + i)));
}

void snti_stream(void *to, const void *from, size_t size)
{
	size_t head = -(uintptr_t)to & (LINE - 1), at;

	head = head < size ? head : size;
	memcpy(to, from, head);
	for (at = head; at + LINE <= size; at += LINE)
		stream_line((char *)to + at, (const char *)from + at);
	memcpy((char *)to + at, (const char *)from + at, size - at);
}

void snti_stream_end(void)
{
	_mm_sfence();
}
#else
void snti_stream(void *to, const void *from, size_t size)
{
	memcpy(to, from, size);
}

void snti_stream_end(void)
{
}
#endif

void snti_copy_around(void *to, const void *from, size_t size)
{
	snti_stream(to, from, size);
	snti_stream_end();
}
