/* SPDX-License-Identifier: BSD-3-Clause */
/* test_verbs_gpu.c - messages in the memory of GPUs, by dmabuf: on the mocks of libibverbs and libcuda, whose GPU memory
 * ends a processor that touches it.
 */
#include <dirent.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "tests/conformance_parts.h"
#include "tests/mock_verbs/find.h"
#include "transport/verbs.h"

enum { LARGE = 3 << 20, AT = 128 };

static struct mock_script *script;
static void (*reset)(void), (*gpu_free)(void *);
static void *(*gpu_alloc)(size_t);
static char *(*gpu_view)(const void *);
static int *gpu_exports, *gpu_entered;

static int files(void)
{
	DIR *all = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(all))
		count++;
	closedir(all);
	return count;
}

static int fresh(void **state)
{
	reset();
	return setup(state);
}

static int end(void **state)
{
	teardown(state);
	assert_int_equal(script->contexts + script->pds + script->mrs + script->qps, 0);
	assert_int_equal(script->locked, 0);
	assert_int_equal(gpu_entered ? *gpu_entered : 0, 0);
	return 0;
}

static void expect_in(const char *text, const char *what)
{
	if (!strstr(text, what))
		fail_msg("'%s' does not say '%s'", text, what);
}

/* ---- messages ----------------------------------------------------------- */

/* Where a message lies: on a GPU, @AT bytes into an allocation, or in the host's memory. */
struct place { struct snti_memory memory; char *data, *view; };

static void get(struct place *place, struct snti_port *port, int is_gpu, size_t size)
{
	char *base = is_gpu ? gpu_alloc(size + AT) : calloc(1, size + AT);

	*place = (struct place){ .memory = { .base = base + AT, .size = size, .fd = -1, .is_gpu = is_gpu, .dmabuf = -1 },
		.data = base + AT };
	place->view = is_gpu ? gpu_view(place->data) : place->data;
	if (is_gpu)
		assert_int_equal(wire->pin(port, &place->memory), 0);
}

static void put(struct place *place, struct snti_port *port)
{
	if (place->memory.is_gpu) {
		wire->unpin(port, &place->memory);
		gpu_free(place->data - AT);
	} else {
		free(place->data - AT);
	}
}

static struct snti_xfer message_at(struct place *place, size_t size)
{
	struct snti_xfer xfer = message(place->data, size, 1);

	xfer.memory = place->memory.is_gpu ? &place->memory : NULL;
	return xfer;
}

static void settle(struct pair *p, struct place *place)
{
	struct snti_xfer xfer = { .data = place->data, .memory = &place->memory };

	assert_int_equal(wire->settle(p->port[1], &xfer), 0);
	until(p, xfer.status != SNT_BUSY);
	assert_int_equal(xfer.status, 0);
}

static void pass(struct pair *p, int from_gpu, int to_gpu, size_t size)
{
	struct place out, in;
	struct snti_xfer send, recv;

	get(&out, p->port[0], from_gpu, size);
	get(&in, p->port[1], to_gpu, size);
	for (int early = 0; early < 2; early++) {
		fill((unsigned char *)out.view, size, (uint64_t)early + size);
		send = message_at(&out, size);
		recv = message_at(&in, size);
		if (early)
			do_recv(p, 1, &recv);
		do_send(p, 0, &send);
		for (int i = 0; i < 50; i++)
			turn(p);
		if (!early)
			do_recv(p, 1, &recv);
		done(p, &send);
		done(p, &recv);
		if (to_gpu)
			settle(p, &in);
		assert_filled((unsigned char *)in.view, size, (uint64_t)early + size);
	}
	put(&out, p->port[0]);
	put(&in, p->port[1]);
}

static void nothing_is_loaded_for_the_memory_of_hosts(void **state)
{
	struct pair *p = *state;

	pass(p, 0, 0, LARGE);
	assert_null(dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD));
}

static void memory_of_gpus_is_sent_and_received(void **state)
{
	static const size_t sizes[] = { 1, 256, 5000, 70000, LARGE };
	struct pair *p = *state;
	char text[200];
	int before;

	assert_int_equal(wire->gpus(p->port[0], text, sizeof(text)), 0);
	before = files();
	for (int k = 0; k < 3; k++) {
		script->seed = k == 2 ? 99991 : 0;
		for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++)
			for (int way = 1; way < 4; way++)
				pass(p, way & 1, way & 2, sizes[i]);
	}
	assert_int_equal(files(), before);
}

/* A receive's end does not mean that the GPU sees its data. */
static void what_has_arrived_is_seen_after_a_read(void **state)
{
	static const size_t sizes[] = { 256, LARGE };
	struct pair *p = *state;

	script->lags = 1;
	for (int i = 0; i < 2; i++) {
		struct snti_xfer send, recv;
		unsigned char *out = filled(sizes[i], 5);
		struct place in;

		get(&in, p->port[1], 1, sizes[i]);
		send = message(out, sizes[i], 1);
		recv = message_at(&in, sizes[i]);
		do_send(p, 0, &send);
		do_recv(p, 1, &recv);
		done(p, &send);
		done(p, &recv);
		assert_int_not_equal(memcmp(in.view, out, sizes[i]), 0);
		settle(p, &in);
		assert_memory_equal(in.view, out, sizes[i]);
		put(&in, p->port[1]);
		free(out);
	}
	script->lags = 0;
}

/* More at once than are posted; and one that fails. */
static void reads_take_turns_and_fail_alone(void **state)
{
	enum { MANY = 50 };
	struct pair *p = *state;
	struct snti_xfer xfers[MANY];
	struct place in;

	get(&in, p->port[1], 1, LARGE);
	for (int k = 0; k < 3; k++) {
		/* The second time the device fails, which is told and passes. */
		script->status = IBV_WC_LOC_QP_OP_ERR;
		script->fail_send = k == 1 ? 20 : 0;
		for (int i = 0; i < MANY; i++) {
			xfers[i] = (struct snti_xfer){ .data = in.data + i, .memory = &in.memory };
			assert_int_equal(wire->settle(p->port[1], &xfers[i]), 0);
		}
		for (int i = 0; i < MANY; i++) {
			until(p, xfers[i].status != SNT_BUSY);
			assert_int_equal(xfers[i].status, k == 1 && i >= 19 ? SNT_EDEVICE : 0);
		}
	}
	xfers[0].data = in.data + LARGE;
	assert_int_equal(wire->settle(p->port[1], &xfers[0]), SNT_EINVAL);
	put(&in, p->port[1]);
	pass(p, 1, 1, 5000);
}

/* The caller's descriptor, which stays the caller's. */
static void a_descriptor_can_be_given(void **state)
{
	struct pair *p = *state;
	char *base = gpu_alloc(LARGE);
	struct snti_memory memory = { .base = base + 4096 + AT, .size = 70000, .fd = -1, .is_gpu = 1, .offset = 4096 + AT };
	unsigned char *out = filled(70000, 3);
	struct snti_xfer send = message(out, 70000, 1), recv = message(memory.base, 70000, 1);
	int before = files();

	memory.dmabuf = memfd_create("not-the-gpu", 0);
	assert_int_equal(ftruncate(memory.dmabuf, LARGE), 0);
	assert_int_equal(wire->pin(p->port[1], &memory), 0);
	recv.memory = &memory;
	do_recv(p, 1, &recv);
	do_send(p, 0, &send);
	done(p, &send);
	done(p, &recv);
	free(out);
	out = malloc(70000);
	assert_int_equal(pread(memory.dmabuf, out, 70000, 4096 + AT), 70000);
	assert_int_equal(script->reads, 0);
	assert_filled(out, 70000, 3);
	wire->unpin(p->port[1], &memory);
	assert_int_equal(close(memory.dmabuf), 0);
	assert_int_equal(files(), before);
	free(out);
	gpu_free(base);
}

static void fold_bytes(void *dst, const void *left, const void *right, size_t count)
{
	(void)dst, (void)left, (void)right, (void)count;
}

static void what_is_not_pinned_or_is_folded_is_refused(void **state)
{
	struct pair *p = *state;
	struct place place;
	struct snti_xfer xfer;

	get(&place, p->port[1], 1, 8192);
	xfer = message_at(&place, 8192);
	assert_int_equal(snti_send(p->conn[0], &xfer), SNT_EINVAL);     /* pinned on another port */
	expect_text("not pinned");
	xfer.fold = fold_bytes;
	xfer.operand = place.data;
	xfer.width = 1;
	assert_int_equal(snti_recv(p->conn[1], &xfer), SNT_EUNSUPPORTED);
	expect_text("folded");
	put(&place, p->port[1]);
	pass(p, 1, 1, 5000);
}

static void a_device_without_dmabufs_says_so(void **state)
{
	struct pair *p = *state;
	struct snti_memory memory = { .base = gpu_alloc(4096), .size = 4096, .is_gpu = 1, .dmabuf = -1 };
	char text[200];
	int before = files();

	script->no_dmabufs = 1;
	assert_int_equal(wire->gpus(p->port[0], text, sizeof(text)), SNT_EUNSUPPORTED);
	expect_in(text, "mock0 registers no dmabufs");
	assert_true(wire->pin(p->port[0], &memory) < 0);
	script->no_dmabufs = 0;
	script->fail_reg = 1;
	assert_true(wire->pin(p->port[0], &memory) < 0);
	expect_text("4096 bytes of a GPU");
	assert_int_equal(files(), before);
	gpu_free(memory.base);
}

/* What a message uses goes only after it. */
static void memory_unpinned_in_use_stays_until_the_end(void **state)
{
	struct pair *p = *state;
	struct place in;
	struct snti_xfer recv;

	get(&in, p->port[1], 1, LARGE);
	recv = message_at(&in, LARGE);
	do_recv(p, 1, &recv);
	for (int i = 0; i < 50; i++)
		turn(p);
	wire->unpin(p->port[1], &in.memory);
	snti_conn_close(p->conn[1]);
	p->conn[1] = NULL;
	assert_int_equal(recv.status, SNT_ECANCELED);
	assert_true(snti_list_empty(&((struct verbs_port *)p->port[1])->regions));
	gpu_free(in.data - AT);
}

/* Looked at once in a process: so in another one. */
static void gpus_that_export_nothing_are_not_advertised(void **state)
{
	int ended = -1;
	pid_t child;

	(void)state;
	reset();
	fflush(stdout);
	child = fork();
	if (!child) {
		struct snti_port_options options = { .secret = (const unsigned char *)"the secret of GPUs that do nothing", .local_only = 1 };
		struct snti_port *port;
		char text[200];

		*gpu_exports = 0;
		if (snti_port_open(wire, &options, &port) || wire->gpus(port, text, sizeof(text)) != SNT_EUNSUPPORTED ||
		    !strstr(text, "none of 1 GPUs"))
			_exit(1);
		snti_port_close(port);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &ended, 0), child);
	assert_int_equal(ended, 0);
}

static int find_gpu(void **state)
{
	void *library = dlopen("tests/mock_verbs/.libs/libcuda.so.1", RTLD_NOW | RTLD_LOCAL);

	(void)state;
	if (!library)
		return -1;
	*(void **)&gpu_alloc = dlsym(library, "mock_gpu_alloc");
	*(void **)&gpu_free = dlsym(library, "mock_gpu_free");
	*(void **)&gpu_view = dlsym(library, "mock_gpu_view");
	gpu_exports = dlsym(library, "mock_gpu_exports");
	gpu_entered = dlsym(library, "mock_gpu_entered");
	return gpu_alloc && gpu_free && gpu_view && gpu_exports && gpu_entered ? 0 : -1;
}

int main(void)
{
#define paired(test) cmocka_unit_test_setup_teardown(test, fresh, end)
	const struct CMUnitTest without[] = { paired(nothing_is_loaded_for_the_memory_of_hosts) };
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gpus_that_export_nothing_are_not_advertised),
		paired(memory_of_gpus_is_sent_and_received),
		paired(what_has_arrived_is_seen_after_a_read),
		paired(reads_take_turns_and_fail_alone),
		paired(a_descriptor_can_be_given),
		paired(what_is_not_pinned_or_is_folded_is_refused),
		paired(a_device_without_dmabufs_says_so),
		paired(memory_unpinned_in_use_stays_until_the_end),
	};

	script = mock_find(&reset);
	if (!script)
		return 1;
	setenv("SNT_LOG", "0", 0);
	wire = &snti_verbs_transport;
	return cmocka_run_group_tests_name("verbs without GPUs", without, NULL, NULL) +
		cmocka_run_group_tests_name("verbs with GPUs", tests, find_gpu, NULL);
}
