/* SPDX-License-Identifier: BSD-3-Clause */
/* profiler_events.c - the path from NCCL: operations and their steps, and the rows in which they are counted. */
#include "plugins/nccl/profiler.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plugins/nccl/network_event.h"

enum { WAITS = SNTI_PROFILE_FLUSH - SNTI_PROFILE_GPU + 1, NONE = 0 };

struct step {
	int state;                      /* NCCL's, or NONE */
	atomic_int nic;
	uint64_t size, since, taken;    /* since: when it came into this state; taken: when the network had it */
	uint64_t waits[WAITS];
};

struct op {
	atomic_uint generation, next, comm;     /* an odd generation is under way */
	int peer, is_send;
	int under_way;                  /* steps that the network has */
	struct snti_profile_row *row;   /* the last step's */
	/* When a step last was given to the network or came from it, was through the flush, was done. */
	uint64_t passed, flushed, done;
	struct step steps[SNTI_PROFILE_STEPS];
};

/* Free places, last in first out. The head is a count, against a place that came back meanwhile, and a place plus 1.
 * Places from `fresh` on have never been used, nor has their memory been touched. */
struct stack { atomic_uint_least64_t head; atomic_uint fresh; };

static struct pool {
	struct stack free_ops, free_rows;
	struct snti_profile_comm comms[SNTI_PROFILE_COMMS];
	struct op ops[SNTI_PROFILE_OPS];
	struct snti_profile_row rows[SNTI_PROFILE_ROWS];
} *pool;
static pid_t own_process;

/* ---- pools ------------------------------------------------------------------- */

static atomic_uint *next_of(const struct stack *stack, unsigned place)
{
	return stack == &pool->free_ops ? &pool->ops[place].next : &pool->rows[place].next;
}

static void put_back(struct stack *stack, unsigned place)
{
	uint64_t head = atomic_load(&stack->head), now;

	do {
		atomic_store(next_of(stack, place), (unsigned)head);
		now = ((head >> 32) + 1) << 32 | (place + 1);
	} while (!atomic_compare_exchange_weak(&stack->head, &head, now));
}

/* A place, or -1. */
static int take_place(struct stack *stack, unsigned room)
{
	uint64_t head = atomic_load(&stack->head), now;
	unsigned fresh;

	while ((unsigned)head) {
		now = ((head >> 32) + 1) << 32 | atomic_load(next_of(stack, (unsigned)head - 1));
		if (atomic_compare_exchange_weak(&stack->head, &head, now))
			return (int)((unsigned)head - 1);
	}
	fresh = atomic_load(&stack->fresh);
	while (fresh < room)
		if (atomic_compare_exchange_weak(&stack->fresh, &fresh, fresh + 1))
			return (int)fresh;
	return -1;
}

/* ---- handles ------------------------------------------------------------------ */

/* From the lowest bit: the place plus 1 (13 bits), the step (3), what it is (2), the generation (32). */
enum kind { KIND_OP = 1, KIND_STEP, KIND_NETWORK };
_Static_assert(SNTI_PROFILE_OPS < 1 << 13 && SNTI_PROFILE_STEPS <= 1 << 3, "places and steps fit in their bits");

static void *make_handle(const struct op *op, unsigned step, enum kind kind)
{
	uint64_t place = (uint64_t)(op - pool->ops) + 1;

	return (void *)(uintptr_t)(place | (uint64_t)step << 13 | (uint64_t)kind << 16 |
				   (uint64_t)atomic_load(&op->generation) << 18);
}

static enum kind kind_of(const void *handle)
{
	return (uintptr_t)handle >> 16 & 3;
}

/* NULL: of an operation that is over, or no handle of ours. */
static struct op *op_of(const void *handle)
{
	uint64_t bits = (uintptr_t)handle, place = bits & 0x1fff;
	struct op *op;

	if (!pool || place < 1 || place > SNTI_PROFILE_OPS)
		return NULL;
	op = &pool->ops[place - 1];
	return atomic_load(&op->generation) == (unsigned)(bits >> 18) && bits >> 18 & 1 ? op : NULL;
}

static struct step *step_of(const void *handle)
{
	struct op *op = op_of(handle);

	return op && kind_of(handle) != KIND_OP ? &op->steps[(uintptr_t)handle >> 13 & 7] : NULL;
}

/* ---- communicators --------------------------------------------------------------- */

struct snti_profile_comm *snti_profile_comm(unsigned index)
{
	return pool && index < SNTI_PROFILE_COMMS ? &pool->comms[index] : NULL;
}

struct snti_profile_comm *snti_profile_strangers(void)
{
	return snti_profile_comm(0);
}

int snti_profile_has_strangers(void)
{
	const struct snti_profile_comm *comm = snti_profile_strangers();
	int has = atomic_load(&comm->lost_ops) || atomic_load(&comm->lost_messages);

	for (int i = 0; i < SNTI_PROFILE_HEADS; i++)
		has |= atomic_load(&comm->heads[i]) != 0;
	return has;
}

int snti_profile_prepare(void)
{
	if (own_process != getpid())
		own_process = getpid();
	if (pool)
		return 0;
	pool = calloc(1, sizeof *pool);
	if (!pool)
		return -1;
	strcpy(pool->comms[0].name, "of other processes");
	atomic_store(&pool->comms[0].state, SNTI_PROFILE_LIVE);
	return 0;
}

/* Unused, or else the one that ended first. */
static struct snti_profile_comm *find_comm(void)
{
	struct snti_profile_comm *found = NULL;

	for (unsigned i = 1; i < SNTI_PROFILE_COMMS; i++) {
		struct snti_profile_comm *comm = &pool->comms[i];
		int state = atomic_load(&comm->state);

		if (state == SNTI_PROFILE_UNUSED)
			return comm;
		if (state == SNTI_PROFILE_ENDED && (!found || comm->ended < found->ended))
			found = comm;
	}
	return found;
}

static void give_rows_back(struct snti_profile_comm *comm)
{
	for (int i = 0; i < SNTI_PROFILE_HEADS; i++)
		for (unsigned place = atomic_exchange(&comm->heads[i], 0), next; place; place = next) {
			next = atomic_load(&pool->rows[place - 1].next);
			put_back(&pool->free_rows, place - 1);
		}
}

struct snti_profile_comm *snti_profile_begin(uint64_t id, const char *name, uint64_t now)
{
	struct snti_profile_comm *comm = find_comm();

	if (!comm)
		return NULL;
	give_rows_back(comm);
	memset(comm, 0, sizeof *comm);
	comm->id = id;
	comm->begun = comm->told_at = now;
	/* It comes from outside, and goes into files with a grammar. */
	for (size_t i = 0; name && name[i] && i < sizeof comm->name - 1; i++)
		comm->name[i] = (char)(name[i] >= ' ' && name[i] < 127 ? name[i] : '?');
	atomic_store(&comm->state, SNTI_PROFILE_LIVE);
	return comm;
}

static void release(struct op *op, unsigned generation)
{
	if (atomic_compare_exchange_strong(&op->generation, &generation, generation + 1))
		put_back(&pool->free_ops, (unsigned)(op - pool->ops));
}

/* What a communicator that was aborted has left behind ends with it. */
void snti_profile_end(struct snti_profile_comm *comm, uint64_t now)
{
	unsigned index = (unsigned)(comm - pool->comms), used = atomic_load(&pool->free_ops.fresh);

	comm->ended = now;
	atomic_store(&comm->state, SNTI_PROFILE_ENDED);
	for (unsigned i = 0; i < used; i++) {
		unsigned generation = atomic_load(&pool->ops[i].generation);

		if (generation & 1 && atomic_load(&pool->ops[i].comm) == index)
			release(&pool->ops[i], generation);
	}
}

/* A process on this host whose traffic passes here has a context of its own, at whatever place. */
static struct snti_profile_comm *comm_of(const void *context)
{
	uintptr_t at = (uintptr_t)context, first = (uintptr_t)(pool ? pool->comms : NULL);
	struct snti_profile_comm *comm;

	if (!first || at < first || at >= first + sizeof pool->comms || (at - first) % sizeof *comm)
		return NULL;
	comm = &pool->comms[(at - first) / sizeof *comm];
	return atomic_load(&comm->state) == SNTI_PROFILE_LIVE ? comm : NULL;
}

/* ---- rows ----------------------------------------------------------------------- */

static struct snti_profile_row *find_row(struct snti_profile_comm *comm, unsigned head, const struct op *op, int nic)
{
	for (unsigned place = head; place; place = atomic_load(&pool->rows[place - 1].next)) {
		struct snti_profile_row *row = &pool->rows[place - 1];

		if (row->peer == op->peer && row->nic == nic && row->is_send == op->is_send &&
		    row->comm == (unsigned)(comm - pool->comms))
			return row;
	}
	return NULL;
}

static struct snti_profile_row *make_row(struct snti_profile_comm *comm, const struct op *op, int nic)
{
	int place = take_place(&pool->free_rows, SNTI_PROFILE_ROWS);
	struct snti_profile_row *row = place < 0 ? NULL : &pool->rows[place];

	if (!row)
		return NULL;
	row->comm = (unsigned)(comm - pool->comms);
	row->peer = op->peer;
	row->nic = nic;
	row->is_send = op->is_send;
	for (int i = 0; i < SNTI_PROFILE_COUNTS; i++)
		atomic_store_explicit(&row->counts[i], 0, memory_order_relaxed);
	memset(row->told, 0, sizeof row->told);
	return row;
}

/* Whoever puts its row at the head has seen all behind the head, so that none is there twice. */
static struct snti_profile_row *row_of(struct snti_profile_comm *comm, const struct op *op, int nic)
{
	atomic_uint *list = &comm->heads[(unsigned)op->peer % SNTI_PROFILE_HEADS];
	struct snti_profile_row *made = NULL, *found;
	unsigned head = atomic_load(list);

	for (;;) {
		found = find_row(comm, head, op, nic);
		if (found || (!made && !(made = make_row(comm, op, nic))))
			break;
		atomic_store(&made->next, head);
		if (atomic_compare_exchange_strong(list, &head, (unsigned)(made - pool->rows) + 1))
			return made;
	}
	if (made)
		put_back(&pool->free_rows, (unsigned)(made - pool->rows));
	return found;
}

static void add(struct snti_profile_row *row, int which, uint64_t more)
{
	if (more)
		atomic_fetch_add_explicit(&row->counts[which], more, memory_order_relaxed);
}

static int bucket_of(uint64_t ns)
{
	uint64_t more = ns > 1000 ? (ns - 1) / 1000 : 0;
	int bucket = more ? 64 - __builtin_clzll(more) : 0;

	return bucket < SNTI_PROFILE_BUCKETS - 1 ? bucket : SNTI_PROFILE_BUCKETS - 1;
}

static void count_message(struct op *op, const struct step *step)
{
	struct snti_profile_comm *comm = &pool->comms[atomic_load(&op->comm)];
	int nic = atomic_load(&step->nic);

	if (!op->row || op->row->nic != nic)
		op->row = row_of(comm, op, nic);
	if (!op->row) {
		atomic_fetch_add(&comm->lost_messages, 1);
		return;
	}
	add(op->row, SNTI_PROFILE_MESSAGES, 1);
	add(op->row, SNTI_PROFILE_BYTES, step->size);
	add(op->row, SNTI_PROFILE_TRANSFER, step->taken);
	add(op->row, SNTI_PROFILE_BUCKET + bucket_of(step->taken), 1);
	for (int i = 0; i < WAITS; i++)
		add(op->row, SNTI_PROFILE_GPU + i, step->waits[i]);
}

/* ---- steps ------------------------------------------------------------------------ */

static uint64_t since(uint64_t a, uint64_t b, uint64_t now)
{
	uint64_t from = a > b ? a : b;

	return now > from ? now - from : 0;
}

static int is_with_network(int state)
{
	return state == NCCL_STATE_SEND_WAIT || state == NCCL_STATE_RECV_WAIT;
}

static void wait_ends(const struct op *op, struct step *step, int which, uint64_t before, uint64_t now)
{
	if (!op->under_way)
		step->waits[which - SNTI_PROFILE_GPU] += since(step->since, before, now);
}

static void send_state(struct op *op, struct step *step, int state, uint64_t now)
{
	int before = step->state;

	/* NCCL says it again each time the network does not take it. */
	if (state == before)
		return;
	if (before == NCCL_STATE_SEND_GPU_WAIT)
		wait_ends(op, step, SNTI_PROFILE_GPU, op->done, now);
	if (before == NCCL_STATE_SEND_PEER_WAIT)
		wait_ends(op, step, SNTI_PROFILE_PEER, op->done, now);
	op->under_way += is_with_network(state);
	step->since = now;
	step->state = state;
}

static void receive_state(struct op *op, struct step *step, int state, uint64_t now)
{
	int before = step->state;

	if (state == before)
		return;
	if (before == NCCL_STATE_RECV_WAIT) {
		step->waits[SNTI_PROFILE_DATA - SNTI_PROFILE_GPU] += since(step->since, op->passed, now);
		step->taken = since(step->since, 0, now);
		op->passed = now;
		op->under_way--;
	}
	if (before == NCCL_STATE_RECV_FLUSH_WAIT) {
		wait_ends(op, step, SNTI_PROFILE_FLUSH, op->flushed, now);
		op->flushed = now;
	}
	op->under_way += is_with_network(state);
	step->since = now;
	step->state = state;
}

static void *start_step(const void *parent, unsigned number, uint64_t now)
{
	struct op *op = op_of(parent);
	struct step *step;

	/* NCCL starts a receive's step anew each time the network does not take it, so the place goes by the number. */
	if (!op || kind_of(parent) != KIND_OP)
		return NULL;
	step = &op->steps[number % SNTI_PROFILE_STEPS];
	op->under_way -= is_with_network(step->state);
	memset(step, 0, sizeof *step);
	atomic_store(&step->nic, op->row ? op->row->nic : SNTI_PROFILE_NO_NIC);
	step->since = now;
	return make_handle(op, number % SNTI_PROFILE_STEPS, KIND_STEP);
}

static void stop_step(struct op *op, struct step *step, uint64_t now)
{
	int last = step->state;

	step->state = NONE;
	if (last == NCCL_STATE_SEND_WAIT) {
		step->waits[SNTI_PROFILE_WIRE - SNTI_PROFILE_GPU] += since(step->since, op->done, now);
		step->taken = since(step->since, 0, now);
		op->under_way--;
	} else if (last == NCCL_STATE_RECV_GPU_WAIT) {
		wait_ends(op, step, SNTI_PROFILE_GPU, op->done > op->passed ? op->done : op->passed, now);
	} else {
		op->under_way -= is_with_network(last);
		return;
	}
	op->done = now;
	count_message(op, step);
}

/* ---- events ------------------------------------------------------------------------- */

static const char *const functions[] = { "Broadcast", "Reduce", "AllGather", "ReduceScatter", "AllReduce", "SendRecv",
	"Send", "Recv", "AlltoAll", "Scatter", "Gather", "AllGatherV", "other" };
enum { FUNCTIONS = sizeof functions / sizeof *functions };
_Static_assert((int)FUNCTIONS <= (int)SNTI_PROFILE_FUNCTIONS, "each has its count");

const char *snti_profile_function(int index)
{
	return index < FUNCTIONS ? functions[index] : NULL;
}

static void count_function(const void *context, const char *name)
{
	struct snti_profile_comm *comm = comm_of(context);
	int i = 0;

	while (i < FUNCTIONS - 1 && (!name || strcmp(functions[i], name)))
		i++;
	if (comm)
		atomic_fetch_add_explicit(&comm->functions[i], 1, memory_order_relaxed);
}

static void *start_op(const void *context, const struct nccl_event_proxy_op *event)
{
	struct snti_profile_comm *comm = pool && event->pid != own_process ? &pool->comms[0] : comm_of(context);
	struct op *op;
	int place;

	if (!comm)
		return NULL;
	place = take_place(&pool->free_ops, SNTI_PROFILE_OPS);
	if (place < 0) {
		atomic_fetch_add(&comm->lost_ops, 1);
		return NULL;
	}
	op = &pool->ops[place];
	atomic_store(&op->comm, (unsigned)(comm - pool->comms));
	op->peer = event->peer;
	op->is_send = !!event->is_send;
	op->row = NULL;
	op->under_way = 0;
	op->passed = op->flushed = op->done = 0;
	for (int i = 0; i < SNTI_PROFILE_STEPS; i++)
		op->steps[i].state = NONE;
	atomic_fetch_add(&op->generation, 1);
	return make_handle(op, 0, KIND_OP);
}

static int nic_of(const struct nccl_event_network *event)
{
	const struct snti_nccl_event *ours = event->data;
	const struct nccl_network_ib_v1 *ib = event->data;

	if (!event->data)
		return SNTI_PROFILE_NO_NIC;
	if (event->plugin == SNTI_NCCL_EVENT_PLUGIN)
		return ours->device;
	if (event->plugin == ((int64_t)NCCL_NETWORK_IB << NCCL_NETWORK_KIND_SHIFT | 1))
		return SNTI_PROFILE_IB_NIC + ib->queue_pair.device;
	return SNTI_PROFILE_NO_NIC;
}

/* Where a message goes over several NICs, it is counted at the last. */
static void note_nic(const void *parent, const struct nccl_event_network *event)
{
	struct step *step = step_of(parent);
	int nic = nic_of(event);

	if (step && nic != SNTI_PROFILE_NO_NIC)
		atomic_store(&step->nic, nic);
}

void *snti_profile_start(const void *context, const struct nccl_event_v6 *event, uint64_t now)
{
	switch (event->type) {
	case NCCL_EVENT_COLL: count_function(context, event->coll.function); return NULL;
	case NCCL_EVENT_P2P: count_function(context, event->p2p.function); return NULL;
	case NCCL_EVENT_COPY_COLL: count_function(context, event->copy_coll.function); return NULL;
	case NCCL_EVENT_PROXY_OP: return start_op(context, &event->proxy_op);
	case NCCL_EVENT_PROXY_STEP: return start_step(event->parent, (unsigned)event->proxy_step.step, now);
	case NCCL_EVENT_NETWORK: note_nic(event->parent, &event->network); return NULL;
	default: return NULL;
	}
}

void snti_profile_record(void *handle, int state, const union nccl_event_arguments *arguments, uint64_t now)
{
	struct step *step = step_of(handle);

	if (!step)
		return;
	switch (state) {
	case NCCL_STATE_SEND_WAIT:
	case NCCL_STATE_RECV_FLUSH_WAIT:
		if (arguments)
			step->size = arguments->proxy_step.size;
		break;
	case NCCL_STATE_SEND_GPU_WAIT:
	case NCCL_STATE_SEND_PEER_WAIT:
	case NCCL_STATE_RECV_WAIT:
	case NCCL_STATE_RECV_GPU_WAIT: break;
	default: return;
	}
	if (op_of(handle)->is_send)
		send_state(op_of(handle), step, state, now);
	else
		receive_state(op_of(handle), step, state, now);
}

void snti_profile_stop(void *handle, uint64_t now)
{
	struct op *op = op_of(handle);

	if (op && kind_of(handle) == KIND_OP)
		release(op, (unsigned)((uintptr_t)handle >> 18));
	else if (op && kind_of(handle) == KIND_STEP)
		stop_step(op, step_of(handle), now);
}

void snti_profile_each(struct snti_profile_comm *comm, void (*each)(struct snti_profile_row *row, void *argument),
		       void *argument)
{
	for (int i = 0; i < SNTI_PROFILE_HEADS; i++)
		for (unsigned place = atomic_load(&comm->heads[i]); place; place = atomic_load(&pool->rows[place - 1].next))
			each(&pool->rows[place - 1], argument);
}
