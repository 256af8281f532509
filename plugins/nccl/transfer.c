/* SPDX-License-Identifier: BSD-3-Clause */
/* transfer.c - requests: what the progress thread sends, receives, flushes and tests.
 *
 * A tag is a lane. NCCL matches in order and lets tags choose within a grouped receive, which is
 * what lanes of their own order do; a receive of at most its buffer's size takes shorter messages.
 */
#include "plugins/nccl/core.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/settings.h"
#include "plugins/nccl/network_event.h"

enum { IDLE_TESTS = 4096 };     /* the clock is looked at no oftener */

/* What a message passes through: in line the compiler knows which way it goes, and that a send is one alone. */
#define INLINE inline __attribute__((always_inline))

/* One transfer as NCCL describes it; arrays have @count elements. */
struct transfer {
	int count;
	void **data;
	const size_t *sizes;
	const int *tags;
	void **memories, **parents;     /* may be NULL */
};

/* ---- requests ------------------------------------------------------------ */

int snti_nccl_prepare(struct snti_nccl_comm *comm)
{
	comm->requests = calloc(SNTI_NCCL_REQUESTS, sizeof *comm->requests);
	comm->idle = calloc(SNTI_NCCL_REQUESTS, sizeof(*comm->idle));
	comm->xfers = calloc(SNTI_NCCL_REQUESTS, sizeof *comm->xfers);
	comm->idle_xfers = calloc(SNTI_NCCL_REQUESTS, sizeof(*comm->idle_xfers));
	if (!comm->requests || !comm->idle || !comm->xfers || !comm->idle_xfers)
		return snti_fail(SNT_ENOMEM, "no memory for requests");
	for (int i = 0; i < SNTI_NCCL_REQUESTS; i++) {
		struct snti_nccl_request *request = &comm->requests[i];

		request->comm = comm;
		request->is_receive = comm->kind == SNTI_NCCL_RECEIVES;
		request->xfers[0] = &request->first;
		request->first.polled = comm->xfers[i].polled = 1;
		request->first.at_most = comm->xfers[i].at_most = (uint32_t)request->is_receive;
		comm->idle[i] = request;
		comm->idle_xfers[i] = &comm->xfers[i];
	}
	return 0;
}

/* What differs from message to message: the rest of it never changes. */
static INLINE void describe(struct snti_nccl_request *request, const struct transfer *transfer, int i)
{
	struct snti_nccl_memory *memory = transfer->memories ? transfer->memories[i] : NULL;
	struct snti_xfer *xfer = request->xfers[i];

	xfer->data = transfer->data[i];
	xfer->size = transfer->sizes[i];
	xfer->lane = (uint32_t)transfer->tags[i];
	xfer->memory = memory && memory->pinned.is_gpu ? &memory->pinned : NULL;
	xfer->status = SNT_BUSY;
	request->memories[i] = memory;
	request->parents[i] = transfer->parents ? transfer->parents[i] : NULL;
	request->events[i] = NULL;
}

static INLINE struct snti_nccl_request *take(struct snti_nccl_comm *comm, const struct transfer *transfer)
{
	struct snti_nccl_request *request;

	if (comm->busy == SNTI_NCCL_REQUESTS || comm->busy_xfers + transfer->count > SNTI_NCCL_REQUESTS + 1)
		return NULL;
	request = comm->idle[comm->busy++];
	request->count = transfer->count;
	request->posted = 0;
	describe(request, transfer, 0);
	for (int i = 1; i < transfer->count; i++) {
		request->xfers[i] = comm->idle_xfers[comm->busy_xfers++];
		describe(request, transfer, i);
	}
	return request;
}

static INLINE void give_back(struct snti_nccl_request *request)
{
	struct snti_nccl_comm *comm = request->comm;

	for (int i = 1; i < request->count; i++)
		comm->idle_xfers[--comm->busy_xfers] = request->xfers[i];
	request->count = 0;
	comm->idle[--comm->busy] = request;
}

static __attribute__((noinline)) void tell_profiler_of(struct snti_nccl_request *request, int i, int what)
{
	struct snti_nccl_comm *comm = request->comm;
	nccl_profiler profiler = comm->context->profiler;
	struct snti_nccl_event event = { .type = (uint8_t)request->is_receive, .device = snti_nccl_index(comm->device),
		.size = request->xfers[i]->size, .tag = (int32_t)request->xfers[i]->lane };

	if (profiler)
		profiler(&request->events[i], what, request->parents[i], SNTI_NCCL_EVENT_PLUGIN, &event);
}

/* NCCL looks into @parents[i] unasked, and into an event that it has not made. */
static INLINE void tell_profiler(struct snti_nccl_request *request, int what)
{
	for (int i = 0; i < request->count; i++)
		if (request->parents[i] && (what == NCCL_PROFILE_START || request->events[i]))
			tell_profiler_of(request, i, what);
}

static INLINE int post_next(struct snti_nccl_request *request, int is_receive)
{
	struct snti_xfer *xfer = request->xfers[request->posted];
	int status = is_receive ? snti_recv(request->comm->conn, xfer) : snti_send(request->comm->conn, xfer);

	request->posted += !status;
	return status;
}

/* 0: all taken; SNTI_AGAIN: not all yet; or a failure. */
static int post_rest(struct snti_nccl_request *request)
{
	struct snti_nccl_comm *comm = request->comm;
	int status = 0;

	if (!comm->conn)
		return SNT_ECANCELED;
	while (request->posted < request->count && !status)
		status = post_next(request, request->is_receive);
	if (comm->unposted == request && status != SNTI_AGAIN)
		comm->unposted = NULL;
	return status;
}

/* NCCL asks again, unless a part of it was taken. */
static int start_later(struct snti_nccl_comm *comm, struct snti_nccl_request *request, int status, void **out)
{
	if (request && !request->posted) {
		give_back(request);
		request = NULL;
	}
	if (request && status == SNTI_AGAIN)
		comm->unposted = request;
	if (status == SNTI_AGAIN)
		status = snti_nccl_poll(comm);
	if (status)
		return snti_nccl_failed(comm, status);
	*out = request;
	if (request)
		tell_profiler(request, NCCL_PROFILE_START);
	return NCCL_SUCCESS;
}

static INLINE int start(struct snti_nccl_comm *comm, const struct transfer *transfer, int is_receive, void **out)
{
	struct snti_nccl_request *request;
	int status = comm->unposted ? post_rest(comm->unposted) : comm->conn ? 0 : SNT_ECANCELED;

	/* What comes later must not overtake what the wire has not taken. */
	request = status ? NULL : take(comm, transfer);
	if (request)
		status = post_next(request, is_receive);
	if (request && !status && transfer->count > 1)
		status = post_rest(request);
	if (!request || status)
		return start_later(comm, request, status, out);
	*out = request;
	tell_profiler(request, NCCL_PROFILE_START);
	return NCCL_SUCCESS;
}

int snti_nccl_isend(void *send_comm, void *data, size_t size, int tag, void *memory, void *parent, void **request)
{
	struct transfer transfer = { .count = 1, .data = &data, .sizes = &size, .tags = &tag,
		.memories = &memory, .parents = &parent };
	struct snti_nccl_comm *comm = send_comm;
	int result;

	*request = NULL;
	snti_nccl_take_lock(&comm->lock);
	result = start(comm, &transfer, 0, request);
	snti_nccl_unlock(&comm->lock);
	return result;
}

static int bad_count(const struct snti_nccl_comm *comm, int count)
{
	snti_nccl_log(NCCL_LOG_WARN, "%s: a receive of %d buffers, 1 to %d are possible", comm->device->name, count,
		      NCCL_MAX_RECVS);
	return NCCL_INVALID_ARGUMENT;
}

int snti_nccl_irecv(void *recv_comm, int count, void **data, size_t *sizes, int *tags, void **memories, void **parents,
		    void **request)
{
	struct transfer transfer = { .count = count, .data = data, .sizes = sizes, .tags = tags,
		.memories = memories, .parents = parents };
	struct snti_nccl_comm *comm = recv_comm;
	int result;

	/* NCCL's hint that nobody waits for this one may be in it; a wire of ours has to be asked all the same. */
	*request = NULL;
	if (count < 1 || count > NCCL_MAX_RECVS)
		return bad_count(comm, count);
	snti_nccl_take_lock(&comm->lock);
	result = start(comm, &transfer, 1, request);
	snti_nccl_unlock(&comm->lock);
	return result;
}

/* 0, SNT_BUSY, or the first failure. */
static INLINE int status_of(const struct snti_nccl_request *request)
{
	int status = 0;

	if (request->count == 1)
		return request->posted ? request->first.status : SNT_BUSY;

	for (int i = 0; i < request->count; i++) {
		if (request->xfers[i]->status < 0)
			return request->xfers[i]->status;
		if (i >= request->posted || request->xfers[i]->status == SNT_BUSY)
			status = SNT_BUSY;
	}
	return status;
}

/* Waiting is no error: GPUs compute. But who looks into a job that hangs wants to know where. */
static void mention_waiting(struct snti_nccl_comm *comm, const struct snti_nccl_request *request)
{
	uint64_t now;

	if (++comm->idle_tests % IDLE_TESTS)
		return;
	now = snti_now_ns();
	if (!comm->quiet_since)
		comm->quiet_since = now;
	if ((now - comm->quiet_since) / 1000000 < snti_settings()->timeout_ms)
		return;
	snti_nccl_log(NCCL_LOG_INFO, "%s: nothing %s %s for %llu s: %d requests wait, this one for tag %llu and %zu bytes",
		      comm->device->name, request->is_receive ? "has come from" : "has gone to", comm->peer,
		      (unsigned long long)(now - comm->quiet_since) / 1000000000, comm->busy,
		      (unsigned long long)request->xfers[0]->lane, request->xfers[0]->size);
	comm->quiet_since = now;
}

static int progress(struct snti_nccl_request *request)
{
	struct snti_nccl_comm *comm = request->comm;
	int status;

	if (!comm->conn)
		return SNT_ECANCELED;
	status = snti_nccl_poll(comm);
	if (!status && comm->unposted)
		status = post_rest(comm->unposted);
	return status < 0 ? status : status_of(request);
}

static INLINE int finish(struct snti_nccl_request *request, int *sizes)
{
	for (int i = 0; sizes && i < request->count; i++)
		sizes[i] = (int)request->xfers[i]->size;
	tell_profiler(request, NCCL_PROFILE_STOP);
	request->comm->quiet_since = 0;
	give_back(request);
	return 1;
}

int snti_nccl_test(void *asked, int *done, int *sizes)
{
	struct snti_nccl_request *request = asked;
	struct snti_nccl_comm *comm = request->comm;
	int status, result = NCCL_SUCCESS;

	*done = 0;
	snti_nccl_take_lock(&comm->lock);
	status = status_of(request);
	if (status == SNT_BUSY)
		status = progress(request);
	if (!status)
		*done = finish(request, sizes);
	else if (status < 0)
		result = snti_nccl_failed(comm, status);
	else
		mention_waiting(comm, request);
	snti_nccl_unlock(&comm->lock);
	return result;
}

/* ---- flush --------------------------------------------------------------- */

/* No request would mean that there is nothing to wait for: where all are taken, far beyond what NCCL posts, it is an error. */
int snti_nccl_settle(struct snti_nccl_comm *comm, struct snti_nccl_memory *memory, void *at, void **out)
{
	size_t size = 0;
	int tag = 0, status;
	struct transfer transfer = { .count = 1, .data = &at, .sizes = &size, .tags = &tag,
		.memories = (void *[]){ memory } };
	struct snti_nccl_request *request = comm->conn ? take(comm, &transfer) : NULL;

	if (!comm->conn)
		return snti_nccl_failed(comm, SNT_ECANCELED);
	if (!request)
		return snti_nccl_failed(comm, snti_fail(SNT_ELIMIT, "more than %d requests at once", SNTI_NCCL_REQUESTS));
	request->posted = 1;
	status = comm->port->ops->settle(comm->port, request->xfers[0]);
	if (status) {
		give_back(request);
		return snti_nccl_failed(comm, status);
	}
	*out = request;
	return NCCL_SUCCESS;
}
