/* SPDX-License-Identifier: BSD-3-Clause */
/* test_connections.c - a thousand connections in one process, over tcp and over verbs on the mock: what one costs.
 *
 * Both ends are in this process, so it holds two thousand halves; all of it stays below 1 GiB.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "tests/conformance_parts.h"
#include "tests/mock_verbs/mock.h"

/* The sanitizers' own memory is not what is measured, and they take their time. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { CONNECTIONS = 60, IS_MEASURED = 0 };
#else
enum { CONNECTIONS = 1000, IS_MEASURED = 1 };
#endif
/* Whoever has not proved the secret yet is a stranger, and of those a listener bears 64 sockets. */
enum { AT_ONCE = 16, FILES = 4 * CONNECTIONS + 100, LARGE_EVERY = 50, SKIPPED = 77 };

static struct pair pairs[CONNECTIONS];

static size_t resident(void)
{
	FILE *from = fopen("/proc/self/statm", "re");
	unsigned long pages = 0, all;

	if (!from || fscanf(from, "%lu %lu", &all, &pages) != 2)
		fail_msg("/proc/self/statm cannot be read");
	fclose(from);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static int all_up(const struct pair *first, int count)
{
	for (int i = 0; i < count; i++)
		if (first[i].conn[0]->status > 0 || first[i].conn[1]->status > 0)
			return 0;
	return 1;
}

static void connect_all(void)
{
	for (int i = 0; i < CONNECTIONS; i += AT_ONCE) {
		int count = CONNECTIONS - i < AT_ONCE ? CONNECTIONS - i : AT_ONCE;

		for (int k = i; k < i + count; k++) {
			memcpy(pairs[k].port, pairs[0].port, sizeof(pairs[k].port));
			begin(&pairs[k], k & 1, (uint64_t)k, 0);
		}
		until(&pairs[0], all_up(pairs + i, count));
		for (int k = i; k < i + count; k++)
			assert_int_equal(pairs[k].conn[0]->status | pairs[k].conn[1]->status, 0);
	}
}

/* Both ways over each of them; what must not cost memory for every one is large on a few only. */
static void talk_on_all(void)
{
	for (int i = 0; i < CONNECTIONS; i++) {
		size_t size = i % LARGE_EVERY ? 5000 : (size_t)1 << 20;
		unsigned char *out = filled(size, (uint64_t)i), *in = malloc(size);
		struct snti_xfer send = message(out, size, 1), recv = message(in, size, 1);

		do_recv(&pairs[i], i & 1, &recv);
		do_send(&pairs[i], !(i & 1), &send);
		done(&pairs[i], &send);
		done(&pairs[i], &recv);
		assert_filled(in, size, (uint64_t)i);
		free(out);
		free(in);
	}
}

static void measure(const struct mock_script *script)
{
	size_t before, empty = resident(), after;

	open_ports(&pairs[0]);
	before = resident();
	connect_all();
	talk_on_all();
	after = resident();
	printf("# %s: %d connections, both ends: %zu KiB an end and %zu MiB in all\n", wire->name, CONNECTIONS,
	       (after - before) / 1024 / 2 / CONNECTIONS, after >> 20);
	printf("# %s: of it two ports %zu KiB", wire->name, (before - empty) / 1024);
	if (script)
		printf("; %d queue pairs, %d completion queues, %d shared receive queues; %zu MiB locked", script->qps, script->cqs,
		       script->srqs, script->locked >> 20);
	putchar('\n');
	if (IS_MEASURED)
		assert_true(after < (size_t)1 << 30);
	/* For frames one, for data as many as SNT_VERBS_QPS says; the queues are the port's. */
	if (script) {
		assert_int_equal(script->qps, 2 * 3 * CONNECTIONS);
		assert_int_equal(script->cqs + script->srqs, 4);
	}
	for (int i = 0; i < CONNECTIONS; i++)
		for (int k = 0; k < 2; k++)
			snti_conn_close(pairs[i].conn[k]);
	for (int k = 0; k < 2; k++)
		snti_port_close(pairs[0].port[k]);
	if (script)
		assert_int_equal(script->qps + script->cqs + script->srqs + script->mrs + (int)script->locked, 0);
}

static void tcp_holds_a_thousand(void **state)
{
	(void)state;
	wire = &snti_tcp_transport;
	measure(NULL);
}

static void verbs_holds_a_thousand(void **state)
{
	void *library = dlopen("tests/mock_verbs/.libs/libibverbs.so.1", RTLD_NOW | RTLD_LOCAL);
	struct mock_script *(*find)(void) = NULL;

	(void)state;
	if (!library)
		fail_msg("no mock of libibverbs: %s", dlerror());
	*(void **)&find = dlsym(library, "mock_script");
	assert_non_null(find);
	wire = &snti_verbs_transport;
	measure(find());
}

/* In a process of its own, so that neither counts the other's memory. */
static int apart(const struct CMUnitTest *test)
{
	int ended = -1;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		alarm(100);
		exit(_cmocka_run_group_tests(test->name, test, 1, NULL, NULL) != 0);
	}
	return waitpid(child, &ended, 0) != child || ended != 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(tcp_holds_a_thousand), cmocka_unit_test(verbs_holds_a_thousand) };
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) || files.rlim_max < FILES) {
		printf("skipped: %d open files are not allowed here (ulimit -Hn)\n", FILES);
		return SKIPPED;
	}
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	return apart(&tests[0]) + apart(&tests[1]);
}
