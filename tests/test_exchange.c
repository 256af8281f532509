/* SPDX-License-Identifier: BSD-3-Clause */
/* test_exchange.c - ranks find each other, intruders do not get in, and whoever is gone is named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "transport/environment.h"
#include "transport/exchange.h"
#include "transport/ticket.h"

struct job {
	struct snt_ticket ticket;
	int ranks;
	uint64_t deadline_ms;
	int (*body)(struct snti_exchange *x, int rank);   /* 0: as it should be */
	int expect;                                       /* what open returns */
	const char *text;                                 /* and says */
};

#define CHECK(condition) do { if (!(condition)) { \
	fprintf(stderr, "rank %d line %d: %s (%s)\n", rank, __LINE__, #condition, snt_error_text()); return 1; } } while (0)

static int run_rank(const struct job *job, int rank)
{
	struct snt_team_options options = SNT_TEAM_OPTIONS;
	struct snti_exchange *x = NULL;
	int status, result;

	options.rank = rank;
	options.ranks = job->ranks;
	options.ticket = &job->ticket;
	status = snti_exchange_open(&options, snti_deadline_ms(job->deadline_ms), &x);
	CHECK(status == job->expect);
	if (job->text != NULL)
		CHECK(strstr(snt_error_text(), job->text) != NULL);
	result = status == 0 ? job->body(x, rank) : 0;
	snti_exchange_close(x);
	return result;
}

static pid_t spawn(const struct job *job, int rank)
{
	pid_t child = fork();

	if (child == 0) {
		alarm(20);
		exit(run_rank(job, rank));
	}
	return child;
}

static void expect_end(pid_t child, int code)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == code);
}

static void run_job(struct job *job)
{
	pid_t children[128];

	assert_int_equal(snt_ticket_create(SNT_REACH_LOCAL, &job->ticket), 0);
	for (int i = 0; i < job->ranks; i++)
		children[i] = spawn(job, i);
	for (int i = 0; i < job->ranks; i++)
		expect_end(children[i], 0);
}

static int gather_body(struct snti_exchange *x, int rank)
{
	static unsigned char mine[1000], all[128 * 1000];
	int size = snti_exchange_size(x);

	for (int round = 0; round < 5; round++) {
		memset(mine, rank + round, sizeof(mine));
		CHECK(snti_exchange_allgather(x, mine, all, sizeof(mine), snti_deadline_ms(5000)) == 0);
		for (int i = 0; i < size; i++)
			CHECK(all[i * 1000] == (unsigned char)(i + round) && all[i * 1000 + 999] == (unsigned char)(i + round));
		CHECK(snti_exchange_allgather(x, NULL, NULL, 0, snti_deadline_ms(5000)) == 0);
	}
	CHECK(snti_exchange_poll(x) == 0);
	snti_exchange_leave(x);
	return 0;
}

static void test_allgather(void **state)
{
	const int counts[] = { 1, 2, 5, 64 };

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct job job = { .ranks = counts[i], .deadline_ms = 10000, .body = gather_body };
		uint64_t start = snti_now_ns();

		run_job(&job);
		print_message("%d ranks: %u ms\n", counts[i], (unsigned)((snti_now_ns() - start) / 1000000));
	}
}

static int large_body(struct snti_exchange *x, int rank)
{
	static unsigned char mine[65536], all[5 * 65536];

	memset(mine, rank + 1, sizeof(mine));
	CHECK(snti_exchange_allgather(x, mine, all, sizeof(mine), snti_deadline_ms(5000)) == 0);
	for (int i = 0; i < 5 * 65536; i++)
		CHECK(all[i] == i / 65536 + 1);
	CHECK(snti_exchange_allgather(x, mine, all, 65537, 0) == SNT_EINVAL);
	snti_exchange_leave(x);
	return 0;
}

static void test_large(void **state)
{
	struct job job = { .ranks = 5, .deadline_ms = 10000, .body = large_body };

	(void)state;
	run_job(&job);
}

/* Rank 2 dies in the middle; the others wait for it in an allgather, or in poll. */
static int killed_body(struct snti_exchange *x, int rank)
{
	uint64_t start;
	unsigned char all[5];
	int status = 0;

	CHECK(snti_exchange_allgather(x, all, all, 0, snti_deadline_ms(5000)) == 0);
	if (rank == 2) {
		usleep(100000);
		_exit(0);
	}
	start = snti_now_ns();
	if (rank % 2 == 0)
		status = snti_exchange_allgather(x, "x", all, 1, snti_deadline_ms(10000));
	while (rank % 2 == 1 && status == 0) {
		usleep(1000);
		status = snti_exchange_poll(x);
	}
	CHECK(status == SNT_EPEER);
	CHECK(strcmp(snt_error_text(), "rank 2 is gone: connection closed") == 0);
	CHECK(snti_now_ns() - start < 1000000000ULL);
	CHECK(snti_exchange_poll(x) == SNT_EPEER);
	return 0;
}

static void test_killed_rank_is_named(void **state)
{
	struct job job = { .ranks = 5, .deadline_ms = 10000, .body = killed_body };

	(void)state;
	run_job(&job);
}

static int killed_root_body(struct snti_exchange *x, int rank)
{
	unsigned char all[5];

	if (rank == 0) {
		usleep(100000);   /* until all have come out of open */
		_exit(0);
	}
	CHECK(snti_exchange_allgather(x, "x", all, 1, snti_deadline_ms(10000)) == SNT_EPEER);
	CHECK(strcmp(snt_error_text(), "rank 0 is gone: connection closed") == 0);
	return 0;
}

static void test_killed_root_is_named(void **state)
{
	struct job job = { .ranks = 5, .deadline_ms = 10000, .body = killed_root_body };

	(void)state;
	run_job(&job);
}

static int abort_body(struct snti_exchange *x, int rank)
{
	int status = 0;

	CHECK(snti_exchange_allgather(x, NULL, NULL, 0, snti_deadline_ms(5000)) == 0);   /* all are out of open */
	if (rank == 3) {
		snti_exchange_abort(x, SNT_ETIMEOUT, "waited for\nrank 7");
		CHECK(snti_exchange_poll(x) == SNT_ETIMEOUT);
		return 0;
	}
	for (int i = 0; i < 5000 && status == 0; i++) {
		usleep(1000);
		status = snti_exchange_poll(x);
	}
	CHECK(status == SNT_ETIMEOUT);
	CHECK(strcmp(snt_error_text(), "rank 3 gave up: waited for?rank 7") == 0);
	return 0;
}

static void test_abort_reaches_all(void **state)
{
	struct job job = { .ranks = 5, .deadline_ms = 10000, .body = abort_body };

	(void)state;
	run_job(&job);
}

static int report_body(struct snti_exchange *x, int rank)
{
	unsigned char all[4];

	CHECK(snti_exchange_allgather(x, NULL, NULL, 0, snti_deadline_ms(5000)) == 0);   /* all are out of open */
	snti_exchange_report(x, 1, 77, "barrier");
	snti_exchange_report(x, 2, rank == 3 ? 5 : 10, rank == 3 ? "allreduce 5 float32 sum" : "allreduce 10 float32 sum");
	/* The comparison comes before or during this exchange. */
	(void)!snti_exchange_allgather(x, "x", all, 1, snti_deadline_ms(5000));
	for (int i = 0; i < 2000 && snti_exchange_poll(x) == 0; i++)
		usleep(1000);
	CHECK(snti_exchange_poll(x) == SNT_EMISMATCH);
	CHECK(strstr(snt_error_text(), "rank 3: allreduce 5 float32 sum") != NULL);
	CHECK(strstr(snt_error_text(), "allreduce 10 float32 sum;") != NULL);
	return 0;
}

static void test_mismatch_names_both(void **state)
{
	struct job job = { .ranks = 4, .deadline_ms = 10000, .body = report_body };

	(void)state;
	run_job(&job);
}

static int size_body(struct snti_exchange *x, int rank)
{
	unsigned char all[64];

	CHECK(snti_exchange_allgather(x, all, all, rank == 1 ? 8 : 16, snti_deadline_ms(5000)) == SNT_EMISMATCH);
	CHECK(strstr(snt_error_text(), "rank 1 gathers 8 bytes") != NULL);
	return 0;
}

static void test_sizes_must_agree(void **state)
{
	struct job job = { .ranks = 3, .deadline_ms = 5000, .body = size_body };

	(void)state;
	run_job(&job);
}

static void test_missing_ranks_are_named(void **state)
{
	struct job job = { .ranks = 6, .deadline_ms = 700, .expect = SNT_ETIMEOUT, .text = "ranks 3, 5 of 6 never called in" };
	pid_t children[6];

	(void)state;
	assert_int_equal(snt_ticket_create(SNT_REACH_LOCAL, &job.ticket), 0);
	for (int i = 0; i < 6; i++)
		children[i] = i == 3 || i == 5 ? 0 : spawn(&job, i);
	for (int i = 0; i < 6; i++)
		if (children[i] != 0)
			expect_end(children[i], 0);
}

static pid_t spawn_stranger(const struct job *job, int rank, const char *text, int ranks)
{
	struct job wrong = *job;

	wrong.expect = SNT_EREFUSED;
	wrong.text = text;
	wrong.ranks = ranks;
	return spawn(&wrong, rank);
}

static void test_strangers_are_refused(void **state)
{
	struct job job = { .ranks = 3, .deadline_ms = 10000, .body = gather_body }, other = job;
	struct snti_ticket_parts parts;
	pid_t root, first, last;

	(void)state;
	assert_int_equal(snt_ticket_create(SNT_REACH_NETWORK, &job.ticket), 0);
	assert_int_equal(snti_ticket_read(&job.ticket, &parts), 0);
	parts.secret[5] ^= 1;
	snti_ticket_write(&parts, &other.ticket);
	root = spawn(&job, 0);
	first = spawn(&job, 1);
	expect_end(spawn_stranger(&other, 2, "did not accept rank 2: it does not know this job's secret", 3), 0);
	expect_end(spawn_stranger(&job, 2, "rank 2 counts 7 ranks, rank 0 counts 3", 7), 0);
	usleep(100000);
	expect_end(spawn_stranger(&job, 1, "a second process says that it is rank 1", 3), 0);
	last = spawn(&job, 2);
	expect_end(root, 0);
	expect_end(first, 0);
	expect_end(last, 0);
}

static void test_garbage_does_not_disturb(void **state)
{
	static const char *const words[] = { "", "GET / HTTP/1.1\r\nHost: rank0\r\nUser-Agent: scanner of all the ports there are\r\n\r\n",
					     "\x16\x03\x01", "sennit\r\n\xff\xff\xff\xff and then sixty-four bytes of something else altogether....." };
	struct job job = { .ranks = 3, .deadline_ms = 10000, .body = gather_body };
	struct snti_ticket_parts parts;
	int fds[200];
	pid_t children[3];

	(void)state;
	assert_int_equal(snt_ticket_create(SNT_REACH_LOCAL, &job.ticket), 0);
	assert_int_equal(snti_ticket_read(&job.ticket, &parts), 0);
	children[0] = spawn(&job, 0);
	for (int i = 0; i < 200; i++) {
		const char *word = words[i % 4];

		assert_int_equal(snti_socket_connect(&parts.addresses[0], &fds[i]), 0);
		usleep(500);
		if (word[0] != '\0')
			(void)snti_socket_send(fds[i], word, strlen(word));
	}
	children[1] = spawn(&job, 1);
	children[2] = spawn(&job, 2);
	for (int i = 0; i < 3; i++)
		expect_end(children[i], 0);
	for (int i = 0; i < 200; i++)
		snti_socket_close(&fds[i]);
}

static void test_damaged_tickets(void **state)
{
	struct snt_ticket ticket, bad;
	struct snti_ticket_parts parts;

	(void)state;
	assert_int_equal(snt_ticket_create(SNT_REACH_NETWORK, &ticket), 0);
	assert_int_equal(snti_ticket_read(&ticket, &parts), 0);
	for (size_t i = 0; i < sizeof(ticket.bytes); i++) {
		bad = ticket;
		bad.bytes[i] ^= 0x40;
		assert_int_equal(snti_ticket_read(&bad, &parts), SNT_EINVAL);
	}
	assert_int_equal(snt_ticket_create(SNT_REACH_LOCAL, NULL), SNT_EINVAL);
}

static int two_pipes[2][2];   /* a poor man's allgather: rank 0's bytes to rank 1 */

static int pipe_allgather(void *arg, const void *mine, void *all, size_t size)
{
	int rank = *(int *)arg;

	memcpy((char *)all + (size_t)rank * size, mine, size);
	if (rank == 0)
		return write(two_pipes[0][1], mine, size) != (ssize_t)size;
	return read(two_pipes[0][0], all, size) != (ssize_t)size;
}

static void test_allgather_option(void **state)
{
	pid_t children[2];

	(void)state;
	assert_int_equal(pipe(two_pipes[0]), 0);
	for (int rank = 0; rank < 2; rank++) {
		children[rank] = fork();
		if (children[rank] == 0) {
			struct snt_team_options options = { .size = sizeof(options), .rank = rank, .ranks = 2,
							    .allgather = pipe_allgather, .allgather_arg = &rank };
			struct snti_exchange *x = NULL;

			alarm(20);
			int status = snti_exchange_open(&options, snti_deadline_ms(5000), &x);
			int bad = status != 0 || gather_body(x, rank) != 0;

			snti_exchange_close(x);
			exit(bad);
		}
	}
	expect_end(children[0], 0);
	expect_end(children[1], 0);
}

/* ---- the environment ------------------------------------------------------ */

static const char *const *variables;

static const char *get(const char *name)
{
	for (int i = 0; variables[i] != NULL; i += 2)
		if (strcmp(variables[i], name) == 0)
			return variables[i + 1];
	return NULL;
}

static const struct { const char *set[16]; int status; enum snti_place_kind kind; int rank, ranks; const char *host; int port; } places[] = {
	{ { NULL }, 0, SNTI_PLACE_NONE, 0, 1, "", 0 },
	{ { "SNT_RANK", "1", "SNT_SIZE", "4", "SNT_ADDRESS", "a.b:77" }, 0, SNTI_PLACE_ADDRESS, 1, 4, "a.b", 77 },
	{ { "SNT_RANK", "1", "SNT_SIZE", "4", "SNT_ADDRESS", "[::1]:77" }, 0, SNTI_PLACE_ADDRESS, 1, 4, "::1", 77 },
	{ { "SNT_RANK", "4", "SNT_SIZE", "4", "SNT_ADDRESS", "a:77" }, SNT_EINVAL, 0, 0, 0, NULL, 0 },
	{ { "SNT_RANK", "-1", "SNT_SIZE", "4", "SNT_ADDRESS", "a:77" }, SNT_EINVAL, 0, 0, 0, NULL, 0 },
	{ { "SNT_RANK", "1x", "SNT_SIZE", "4", "SNT_ADDRESS", "a:77" }, SNT_EINVAL, 0, 0, 0, NULL, 0 },
	{ { "SNT_RANK", "1", "SNT_SIZE", "99999999999", "SNT_ADDRESS", "a:77" }, SNT_EINVAL, 0, 0, 0, NULL, 0 },
	{ { "SNT_RANK", "1", "SNT_SIZE", "4" }, SNT_EINVAL, 0, 0, 0, NULL, 0 },
	{ { "SNT_RANK", "1", "SNT_SIZE", "4", "SNT_ADDRESS", "a" }, SNT_EINVAL, 0, 0, 0, NULL, 0 },
	{ { "SNT_RANK", "1", "SNT_SIZE", "4", "SNT_ADDRESS", "a:65536" }, SNT_EINVAL, 0, 0, 0, NULL, 0 },
	{ { "SNT_RANK", "1", "SNT_SIZE", "4", "SNT_ADDRESS", "::1:5" }, SNT_EINVAL, 0, 0, 0, NULL, 0 },
	{ { "SNT_RANK", "1" }, SNT_EINVAL, 0, 0, 0, NULL, 0 },
	{ { "RANK", "2", "WORLD_SIZE", "4", "MASTER_ADDR", "h", "MASTER_PORT", "29500" }, 0, SNTI_PLACE_ADDRESS, 2, 4, "h", 29500 },
	{ { "RANK", "2", "WORLD_SIZE", "4", "MASTER_ADDR", "h", "MASTER_PORT", "29500", "TORCHELASTIC_RUN_ID", "x",
	    "PMIX_RANK", "0", "PMIX_NAMESPACE", "n" }, 0, SNTI_PLACE_ADDRESS, 2, 4, "h", 29501 },
	{ { "RANK", "2", "WORLD_SIZE", "4", "MASTER_ADDR", "h", "MASTER_PORT", "65535", "TORCHELASTIC_RUN_ID", "x" }, SNT_EINVAL, 0, 0, 0, NULL, 0 },
	{ { "PMIX_RANK", "3", "PMIX_NAMESPACE", "n" }, 0, SNTI_PLACE_PMIX, 3, 0, "", 0 },
	{ { "PMI_RANK", "1", "PMI_SIZE", "2", "PMI_FD", "5" }, 0, SNTI_PLACE_PMI1, 1, 2, "", 0 },
	{ { "SLURM_PROCID", "0", "SLURM_NTASKS", "4", "SLURM_JOB_ID", "9" }, 0, SNTI_PLACE_NONE, 0, 1, "", 0 },
	{ { "SLURM_PROCID", "3", "SLURM_NTASKS", "4", "SLURM_JOB_ID", "9", "SLURM_STEP_ID", "2", "SLURM_STEP_NODELIST", "n[003-5,7],x" },
	  0, SNTI_PLACE_ADDRESS, 3, 4, "n003", 20065 },
	{ { "SLURM_PROCID", "3", "SLURM_NTASKS", "4", "SLURM_JOB_ID", "1718", "SLURM_STEP_ID", "2", "SLURM_STEP_NODELIST", "n003" },
	  0, SNTI_PLACE_ADDRESS, 3, 4, "127.0.0.1", 20028 },
	{ { "SLURM_PROCID", "0", "SLURM_NTASKS", "4", "SLURM_JOB_ID", "9", "SLURM_STEP_ID", "2", "SLURM_STEP_NODELIST", "n[1-2]",
	    "SLURM_NODEID", "0" }, 0, SNTI_PLACE_ADDRESS, 0, 4, "n1", 20065 },
	{ { "SLURM_PROCID", "0", "SLURM_NTASKS", "4", "SLURM_JOB_ID", "9", "SLURM_STEP_ID", "2", "SLURM_STEP_NODELIST", "n[1-2]",
	    "SLURM_NODEID", "1" }, SNT_EINVAL, 0, 0, 0, NULL, 0 },
	{ { "SLURM_PROCID", "3", "SLURM_NTASKS", "4", "SLURM_JOB_ID", "9", "SLURM_STEP_ID", "2", "SLURM_JOB_NODELIST", "n[" }, SNT_EINVAL, 0, 0, 0, NULL, 0 },
};

static void test_places(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		struct snti_place place;

		variables = places[i].set;
		print_message("place %zu\n", i);
		assert_int_equal(snti_place_parse(get, &place), places[i].status);
		if (places[i].status != 0)
			continue;
		assert_int_equal(place.kind, places[i].kind);
		assert_int_equal(place.rank, places[i].rank);
		assert_int_equal(place.ranks, places[i].ranks);
		assert_string_equal(place.host, places[i].host);
		assert_int_equal(place.port, places[i].port);
	}
}

/* Two ranks over SNT_ADDRESS; without a secret nothing is opened. */
static void run_address_rank(int rank, const char *secret, int expect)
{
	struct snti_exchange *x = NULL;

	alarm(20);
	setenv("SNT_RANK", rank == 0 ? "0" : "1", 1);
	setenv("SNT_SIZE", "2", 1);
	setenv("SNT_ADDRESS", "localhost:23457", 1);
	if (secret != NULL)
		setenv("SNT_SECRET", secret, 1);
	int status = snti_exchange_open(NULL, snti_deadline_ms(5000), &x);
	int bad = status != expect || (status == 0 && gather_body(x, rank) != 0);

	snti_exchange_close(x);
	exit(bad);
}

static void test_address(void **state)
{
	(void)state;
	for (int with = 0; with < 2; with++) {
		pid_t children[2];

		for (int rank = 0; rank < 2; rank++) {
			children[rank] = fork();
			if (children[rank] == 0)
				run_address_rank(rank, with ? "0123456789abcdef0123456789abcdef+" : NULL, with ? 0 : SNT_EREFUSED);
		}
		expect_end(children[0], 0);
		expect_end(children[1], 0);
	}
}

/* Two jobs of one user on one host, whose numbers give the same first port: each finds its own rank 0. */
static pid_t spawn_under_srun(const char *job, const char *step, const char *rank)
{
	struct snti_exchange *x = NULL;
	pid_t child = fork();
	int bad;

	if (child != 0)
		return child;
	alarm(20);
	setenv("SNT_SECRET", "0123456789abcdef0123456789abcdef+", 1);
	setenv("SLURM_PROCID", rank, 1);
	setenv("SLURM_STEP_NUM_TASKS", "2", 1);
	setenv("SLURM_JOB_ID", job, 1);
	setenv("SLURM_STEP_ID", step, 1);
	setenv("SLURM_STEP_NODELIST", "here", 1);
	bad = snti_exchange_open(NULL, snti_deadline_ms(10000), &x) != 0 || gather_body(x, rank[0] - '0') != 0;
	snti_exchange_close(x);
	exit(bad);
}

static int somebody_listens(uint16_t port)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int open = connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0;

	close(fd);
	return open;
}

static void test_two_jobs_with_one_port(void **state)
{
	uint64_t deadline = snti_deadline_ms(5000);
	pid_t children[4];

	(void)state;
	children[0] = spawn_under_srun("100", "7", "0");
	while (!somebody_listens(20707) && !snti_is_past(deadline))
		usleep(1000);
	children[1] = spawn_under_srun("101", "0", "1");
	children[2] = spawn_under_srun("101", "0", "0");
	expect_end(children[1], 0);
	children[3] = spawn_under_srun("100", "7", "1");
	expect_end(children[2], 0);
	expect_end(children[0], 0);
	expect_end(children[3], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_address),   /* first: the settings are read once, before a fork they must not be */
		cmocka_unit_test(test_two_jobs_with_one_port),
		cmocka_unit_test(test_places), cmocka_unit_test(test_damaged_tickets), cmocka_unit_test(test_allgather),
		cmocka_unit_test(test_large), cmocka_unit_test(test_killed_rank_is_named),
		cmocka_unit_test(test_killed_root_is_named), cmocka_unit_test(test_abort_reaches_all),
		cmocka_unit_test(test_mismatch_names_both), cmocka_unit_test(test_sizes_must_agree),
		cmocka_unit_test(test_missing_ranks_are_named), cmocka_unit_test(test_strangers_are_refused),
		cmocka_unit_test(test_garbage_does_not_disturb), cmocka_unit_test(test_allgather_option),
	};

	alarm(120);
	signal(SIGPIPE, SIG_DFL);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
