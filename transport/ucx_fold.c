/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_fold.c - a UCX datatype that folds: what arrives is folded where UCX has it, without a copy first. */
#include <string.h>

#include "transport/ucx.h"

/* UCX cuts where its segments end, also in the middle of an element: what is there of it waits in
 * xfer->acked for the rest. xfer->moved counts the bytes that came. */

static void *start_unpack(void *context, void *buffer, size_t count)
{
	(void)context, (void)count;
	return buffer;
}

static size_t packed_size(void *state)
{
	return ((struct snti_xfer *)state)->size;
}

static ucs_status_t unpack(void *state, size_t offset, const void *from, size_t length)
{
	struct snti_xfer *xfer = state;
	const char *bytes = from;
	size_t width = xfer->width, have = offset & (width - 1), whole;

	/* One rail keeps the order: ucx_library.c asks for one. */
	if (offset != xfer->moved || length > xfer->size - offset)
		return UCS_ERR_INVALID_PARAM;
	xfer->moved += length;
	if (have) {
		size_t more = width - have < length ? width - have : length;

		memcpy((char *)&xfer->acked + have, bytes, more);
		if (have + more == width)
			snti_land(xfer, offset - have, &xfer->acked, width);
		offset += more;
		bytes += more;
		length -= more;
	}
	whole = length & ~(width - 1);
	if (whole)
		snti_land(xfer, offset, bytes, whole);
	if (length > whole)
		memcpy(&xfer->acked, bytes + whole, length - whole);
	return UCS_OK;
}

static void finish(void *state)
{
	(void)state;
}

const ucp_generic_dt_ops_t ucx_fold_ops = {
	.start_unpack = start_unpack,
	.packed_size = packed_size,
	.unpack = unpack,
	.finish = finish,
};
