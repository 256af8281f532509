/* SPDX-License-Identifier: BSD-3-Clause */
/* flow.c - see flow.h. */
#include "tests/flow.h"

enum { LANES = 4, LARGE = 3 << 20 };

static void add(void *dst, const void *left, const void *right, size_t count)
{
	const uint32_t *a = left, *b = right;

	for (size_t i = 0; i < count; i++)
		((uint32_t *)dst)[i] = a[i] + b[i];
}

struct flow {
	struct snti_xfer send[2][LANES], recv[2][LANES];
	uint32_t *out[2][LANES], *in[2][LANES];
	size_t count[2][LANES];
};

static void flow_make(struct flow *f)
{
	for (int side = 0; side < 2; side++)
		for (int lane = 0; lane < LANES; lane++) {
			size_t count = lane % 2 ? (LARGE + next_random() % LARGE) / 4 : 1 + next_random() % 2000;

			f->count[side][lane] = count;
			f->out[side][lane] = malloc(4 * count);
			f->in[side][lane] = malloc(4 * count);
			for (size_t i = 0; i < count; i++) {
				f->out[side][lane][i] = (uint32_t)(i * 2654435761u + (unsigned)lane);
				f->in[side][lane][i] = (uint32_t)i;
			}
			f->send[side][lane] = message(f->out[side][lane], 4 * count, (uint64_t)lane);
			f->recv[side][lane] = message(f->in[side][lane], 4 * count, (uint64_t)lane);
			if (lane == 3)
				continue;       /* a copy */
			f->recv[side][lane].fold = add;
			f->recv[side][lane].operand = f->in[side][lane];
			f->recv[side][lane].width = 4;
		}
}

static void flow_check(struct flow *f)
{
	for (int side = 0; side < 2; side++)
		for (int lane = 0; lane < LANES; lane++) {
			for (size_t i = 0; i < f->count[side][lane]; i++) {
				uint32_t want = (uint32_t)(i * 2654435761u + (unsigned)lane) + (lane == 3 ? 0 : (uint32_t)i);

				if (f->in[side][lane][i] != want)
					fail_msg("side %d, lane %d: element %zu is wrong", side, lane, i);
			}
			free(f->out[side][lane]);
			free(f->in[side][lane]);
		}
}

static int flow_is_done(const struct flow *f)
{
	for (int side = 0; side < 2; side++)
		for (int lane = 0; lane < LANES; lane++)
			if (f->send[side][lane].status == SNT_BUSY || f->recv[side][lane].status == SNT_BUSY)
				return 0;
	return 1;
}

struct flow *flow_begin(struct pair *p)
{
	struct flow *f = malloc(sizeof *f);

	flow_make(f);
	for (int side = 0; side < 2; side++)
		for (int lane = 0; lane < LANES; lane++) {
			do_recv(p, !side, &f->recv[side][lane]);
			do_send(p, side, &f->send[side][lane]);
		}
	return f;
}

void flow_end(struct pair *p, struct flow *f)
{
	until(p, flow_is_done(f));
	for (int side = 0; side < 2; side++) {
		assert_int_equal(p->conn[side]->status, 0);
		for (int lane = 0; lane < LANES; lane++) {
			assert_int_equal(f->send[side][lane].status, 0);
			assert_int_equal(f->recv[side][lane].status, 0);
		}
	}
	flow_check(f);
	free(f);
}
