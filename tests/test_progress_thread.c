/* SPDX-License-Identifier: BSD-3-Clause */
/* test_progress_thread.c - a team whose operations a thread of its own moves as well: results, failures, the end. */
#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/job.h"

enum { LARGE = 4 << 20, OPS = 4, ROUNDS = 150, CALLS_MOST = 12, SOON_MS = 200 };

static const char *const transports[] = { "shm", "tcp" };

static uint32_t roll(uint64_t *seed, uint32_t below)
{
	*seed = job_mix(*seed);
	return (uint32_t)(*seed % below);
}

static void run_everywhere(struct job job, int ranks)
{
	for (int i = 0; i < 2; i++) {
		job.ranks = ranks;
		job.transports = transports[i];
		assert_int_equal(job_run(&job), 0);
		job_end(&job);
	}
}

static float *make_vector(struct job_rank *me, size_t count, float value)
{
	float *data = malloc(count * sizeof(*data));

	job_expect(me, data != NULL, "no memory");
	for (size_t i = 0; i < count; i++)
		data[i] = value;
	return data;
}

/* 16 MiB in place. */
static struct snt_op *make_large(struct job_rank *me, struct snt_team *team, float **data)
{
	struct snt_call call = { SNT_CALL(SNT_ALLREDUCE), .count = LARGE, .type = SNT_FLOAT32 };
	struct snt_op *op = NULL;

	call.in = call.out = *data = make_vector(me, LARGE, 1);
	job_expect(me, !snt_op_create(team, &call, &op), "snt_op_create: %s", snt_error_text());
	return op;
}

static struct snt_op *start_large(struct job_rank *me, struct snt_team *team, float **data)
{
	struct snt_op *op = make_large(me, team, data);

	job_expect(me, !snt_op_start(op), "snt_op_start: %s", snt_error_text());
	return op;
}

static void expect_all(struct job_rank *me, const float *data, size_t count, float value)
{
	for (size_t i = 0; i < count; i++)
		job_expect(me, data[i] == value, "element %zu is %g, not %g", i, (double)data[i], (double)value);
}

/* ---- who does the work ----------------------------------------------------- */

/* Without the thread it takes more than 40 calls, as one moves at most what the wire holds. */
static int look_seldom(struct job_rank *me, struct snt_team *team)
{
	float *data;
	struct snt_op *op = start_large(me, team, &data);
	int calls = 0, status;

	do {
		usleep(100000);
		status = snt_op_test(op);
	} while (status == SNT_BUSY && ++calls < CALLS_MOST);
	job_expect(me, !status, "after %d calls: %s", calls, snt_status_name(status));
	expect_all(me, data, LARGE, (float)me->ranks);
	snt_op_free(op);
	free(data);
	return 0;
}

static void the_thread_moves_what_was_started(void **state)
{
	(void)state;
	run_everywhere((struct job){ .run = look_seldom }, 2);
}

/* The folders of this process's threads of that name; @path is that of the last. */
static int threads_named(const char *name, char *path, size_t room)
{
	DIR *folder = opendir("/proc/self/task");
	struct dirent *entry;
	int count = 0;

	while (folder && (entry = readdir(folder))) {
		char file[300], text[32] = "";
		FILE *comm;

		snprintf(file, sizeof(file), "/proc/self/task/%s/comm", entry->d_name);
		comm = fopen(file, "re");
		if (comm && fgets(text, sizeof(text), comm) && !strncmp(text, name, strlen(name))) {
			count++;
			snprintf(path, room, "/proc/self/task/%s/status", entry->d_name);
		}
		if (comm)
			fclose(comm);
	}
	if (folder)
		closedir(folder);
	return count;
}

static unsigned long long blocked_in(const char *path)
{
	FILE *status = fopen(path, "re");
	unsigned long long mask = 0;
	char line[256];

	while (status && fgets(line, sizeof(line), status))
		if (!strncmp(line, "SigBlk:", 7))
			mask = strtoull(line + 7, NULL, 16);
	if (status)
		fclose(status);
	return mask;
}

static int count_threads(struct job_rank *me, struct snt_team *none)
{
	unsigned long long usual = 1ull << (SIGINT - 1) | 1ull << (SIGTERM - 1) | 1ull << (SIGUSR1 - 1) | 1ull << (SIGALRM - 1);
	char path[300] = "";

	(void)none;
	for (int choice = -1; choice <= 1; choice += 2) {
		struct snt_team_options options = SNT_TEAM_OPTIONS;
		struct snt_team *team = NULL;
		int count;

		options.rank = me->rank;
		options.ranks = me->ranks;
		options.progress_thread = choice;
		options.ticket = &me->job->tickets[choice > 0];
		job_expect(me, !snt_team_create(&options, &team), "snt_team_create: %s", snt_error_text());
		for (int i = 0; (count = threads_named("snt-progress", path, sizeof(path))) < choice && i < 100; i++)
			usleep(10000);       /* it may not have its name yet */
		job_expect(me, count == (choice > 0), "%d threads where %d is asked for", count, choice);
		job_expect(me, choice < 0 || (blocked_in(path) & usual) == usual, "it takes signals: %llx", blocked_in(path));
		snt_team_destroy(team);
		job_expect(me, !threads_named("snt-progress", path, sizeof(path)), "the thread is left");
	}
	return 0;
}

static void there_is_a_thread_where_it_is_asked_for_and_it_takes_no_signals(void **state)
{
	(void)state;
	run_everywhere((struct job){ .run = count_threads, .bare = 1 }, 2);
}

/* ---- both at once ------------------------------------------------------------ */

struct slot { struct snt_op *op; float *data; size_t count; float expected; int runs; };

static void finish(struct job_rank *me, struct slot *slot)
{
	int status;

	if (!slot->runs)
		return;
	status = snt_op_wait(slot->op);
	job_expect(me, !status, "snt_op_wait: %s: %s", snt_status_name(status), snt_error_text());
	expect_all(me, slot->data, slot->count, slot->expected);
	slot->runs = 0;
}

static void begin(struct job_rank *me, struct slot *slot, uint32_t number)
{
	finish(me, slot);
	slot->expected = 0;
	for (int r = 0; r < me->ranks; r++)
		slot->expected += (float)(number % 1000 + (uint32_t)r);
	for (size_t i = 0; i < slot->count; i++)
		slot->data[i] = (float)(number % 1000 + (uint32_t)me->rank);
	job_expect(me, !snt_op_start(slot->op), "snt_op_start: %s", snt_error_text());
	slot->runs = 1;
}

static void expect_end(struct job_rank *me, pid_t child)
{
	int ended = -1, is_there = child > 0 && waitpid(child, &ended, 0) == child;

	job_expect(me, is_there && !ended, "the child ends with %d", ended);
}

/* The thread may be anywhere in the library now, and the child has none. A call that is refused goes inside and back. */
static void fork_once(struct job_rank *me, struct snt_team *team)
{
	struct snt_call nonsense = { SNT_CALL(SNT_ALLREDUCE), .count = 1, .type = SNT_TYPE_COUNT };
	struct snt_op *op;
	pid_t child = fork();

	if (!child) {
		alarm(8);
		_exit(snt_op_create(team, &nonsense, &op) != SNT_EINVAL);
	}
	expect_end(me, child);
}

/* What a rank does of its own will, so that owner and thread meet everywhere. */
static void idle_about(struct job_rank *me, struct snt_team *team, struct slot *slots, uint64_t *seed)
{
	static volatile double work;
	struct slot *slot = &slots[roll(seed, OPS)];
	uint32_t choice = roll(seed, 40), times = roll(seed, 30);

	if (choice < 8)
		usleep(roll(seed, 400));
	else if (choice < 16)
		for (uint32_t i = 0; i < 1000 * times; i++)
			work = work * 0.999 + 1;
	else if (choice < 30)
		for (uint32_t i = 0; i < times && snt_op_test(slot->op) == SNT_BUSY; i++)
			;
	else if (choice < 34)
		job_expect(me, !snt_team_progress(team), "snt_team_progress: %s", snt_error_text());
	else if (choice < 38)
		finish(me, slot);
	else
		fork_once(me, team);
}

static int stress(struct job_rank *me, struct snt_team *team)
{
	static const size_t counts[OPS] = { 3, 5000, 70000, 200000 };
	uint64_t common = getenv("TEST_SEED") ? strtoull(getenv("TEST_SEED"), NULL, 0) : 7, own = job_mix(common + 1 + (unsigned)me->rank);
	struct slot slots[OPS] = { { .op = NULL } };

	for (int i = 0; i < OPS; i++) {
		struct snt_call call = { SNT_CALL(SNT_ALLREDUCE), .count = counts[i], .type = SNT_FLOAT32 };

		slots[i].count = counts[i];
		call.in = call.out = slots[i].data = make_vector(me, counts[i], 0);
		job_expect(me, !snt_op_create(team, &call, &slots[i].op), "snt_op_create: %s", snt_error_text());
	}
	for (uint32_t round = 0; round < ROUNDS; round++) {
		begin(me, &slots[roll(&common, OPS)], round);
		if (roll(&common, 10) == 0)
			job_expect(me, !snt_barrier(team), "snt_barrier: %s", snt_error_text());
		for (uint32_t i = roll(&own, 4); i; i--)
			idle_about(me, team, slots, &own);
	}
	for (int i = 0; i < OPS; i++) {
		finish(me, &slots[i]);
		snt_op_free(slots[i].op);
		free(slots[i].data);
	}
	return 0;
}

static void owner_and_thread_may_meet_anywhere(void **state)
{
	(void)state;
	run_everywhere((struct job){ .run = stress }, 2);
	run_everywhere((struct job){ .run = stress }, 3);
}

/* ---- failures and the end ------------------------------------------------------ */

/* When the others are outside with their operations under way. */
static void die_last(struct job_rank *me)
{
	for (int r = 0; r < me->ranks; r++)
		while (r != me->rank && !__atomic_load_n(&me->job->results[r].marked_ns, __ATOMIC_ACQUIRE))
			usleep(1000);
	job_strike(me, SIGKILL);
}

static int die_or_sleep(struct job_rank *me, struct snt_team *team)
{
	float *data, *more;
	struct snt_op *op = make_large(me, team, &data), *other = make_large(me, team, &more);
	double from;
	int status = snt_barrier(team);

	job_expect(me, !status, "snt_barrier: %s", snt_error_text());
	if (me->rank == 1)
		die_last(me);
	job_expect(me, !snt_op_start(op) && !snt_op_start(other), "snt_op_start: %s", snt_error_text());
	job_mark(me);
	usleep(1500000);        /* the thread alone finds out */
	from = job_seconds();
	status = snt_op_test(op);
	job_keep_error(me, status, -1);
	job_expect(me, status < 0, "the first call afterwards says %s", snt_status_name(status));
	job_expect(me, (job_seconds() - from) * 1000 < SOON_MS, "it takes %g s", job_seconds() - from);
	job_expect(me, snt_op_wait(other) == status, "the other operation ends otherwise");
	job_expect(me, snt_barrier(team) == SNT_EBROKEN, "a barrier afterwards");
	snt_op_free(op);
	snt_op_free(other);
	free(data);
	free(more);
	return 0;
}

static void what_the_thread_finds_out_the_owner_gets_with_its_text(void **state)
{
	(void)state;
	for (int i = 0; i < 2; i++) {
		struct job job = { .ranks = 3, .transports = transports[i], .run = die_or_sleep };

		job_run(&job);
		assert_int_equal(job.results[1].signal, SIGKILL);
		for (int r = 0; r < 3; r += 2) {
			assert_int_equal(job.results[r].exit, 0);
			assert_non_null(strstr(job.results[r].text, "rank 1"));
		}
		job_end(&job);
	}
}

static int end_at_work(struct job_rank *me, struct snt_team *team)
{
	float *data;

	job_expect(me, !job_team(me, 0, &team), "snt_team_create: %s", snt_error_text());
	start_large(me, team, &data);
	usleep(1000 * (unsigned)me->rank);
	snt_team_destroy(team);
	expect_all(me, data, LARGE, (float)me->ranks);
	job_expect_clean(me);
	free(data);
	return 0;
}

static void a_team_may_be_destroyed_while_the_thread_is_at_work(void **state)
{
	(void)state;
	run_everywhere((struct job){ .run = end_at_work, .bare = 1 }, 2);
}

/* Only the child ends its copy: for the peers that is the end of the team, so nobody uses it any more. */
static int end_in_child(struct job_rank *me, struct snt_team *team)
{
	float *data;
	pid_t child;

	job_expect(me, !job_team(me, 0, &team), "snt_team_create: %s", snt_error_text());
	job_expect(me, !snt_op_wait(start_large(me, team, &data)), "snt_op_wait: %s", snt_error_text());
	job_expect(me, !snt_barrier(team), "snt_barrier: %s", snt_error_text());
	child = fork();
	if (!child) {
		alarm(8);
		snt_team_destroy(team);
		_exit(0);
	}
	expect_end(me, child);
	free(data);
	_exit(0);
}

static void a_forked_child_can_destroy_its_copy(void **state)
{
	(void)state;
	run_everywhere((struct job){ .run = end_in_child, .bare = 1, .timeout_ms = 3000 }, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(there_is_a_thread_where_it_is_asked_for_and_it_takes_no_signals),
		cmocka_unit_test(the_thread_moves_what_was_started),
		cmocka_unit_test(owner_and_thread_may_meet_anywhere),
		cmocka_unit_test(what_the_thread_finds_out_the_owner_gets_with_its_text),
		cmocka_unit_test(a_team_may_be_destroyed_while_the_thread_is_at_work),
		cmocka_unit_test(a_forked_child_can_destroy_its_copy),
	};

	setenv("SNT_PROGRESS_THREAD", "1", 1);
	setenv("SNT_PROGRESS_BYTES", "0", 1);
	setenv("SNT_LOG", "0", 0);   /* the failures are meant; say SNT_LOG=2 to see them */
	cmocka_set_test_filter(getenv("TEST_FILTER"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
