/* SPDX-License-Identifier: BSD-3-Clause */
/* job.c - a job of forked ranks for tests: started together, bounded in time, always reaped. */
#include "tests/job.h"

#include <dirent.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define BOUND_S 90                      /* ten times as slow, on a machine that may be busy */
#else
#define BOUND_S 20
#endif
#define LOOK_EVERY_US 500

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

double job_seconds(void)
{
	return (double)now_ns() * 1e-9;
}

uint64_t job_mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

int job_most(int ranks)
{
	int most = getenv("TEST_RANKS") ? atoi(getenv("TEST_RANKS")) : ranks;

	return most < ranks ? most : ranks;
}

/* ---- inside a rank ------------------------------------------------------- */

void job_expect(struct job_rank *me, int good, const char *format, ...)
{
	va_list args;

	if (good)
		return;
	va_start(args, format);
	vsnprintf(me->result->complaint, sizeof(me->result->complaint), format, args);
	va_end(args);
	_exit(1);
}

int job_team(struct job_rank *me, int ticket, struct snt_team **team)
{
	struct snt_team_options options = SNT_TEAM_OPTIONS;

	options.rank = me->rank;
	options.ranks = me->ranks;
	options.ticket = &me->job->tickets[ticket];
	options.transports = me->job->transports;
	options.timeout_ms = me->job->timeout_ms;
	return snt_team_create(&options, team);
}

void job_mark(struct job_rank *me)
{
	__atomic_store_n(&me->result->marked_ns, now_ns(), __ATOMIC_RELEASE);
}

void job_strike(struct job_rank *me, int signal)
{
	job_mark(me);
	raise(signal);
}

void job_keep_error(struct job_rank *me, int status, int culprit)
{
	uint64_t since = culprit < 0 ? 0 : __atomic_load_n(&me->job->results[culprit].marked_ns, __ATOMIC_ACQUIRE);

	me->result->error = status;
	me->result->seconds = since ? (double)(int64_t)(now_ns() - since) * 1e-9 : -1;
	snprintf(me->result->text, sizeof(me->result->text), "%s", snt_error_text());
}

int job_call(struct snt_team *team, const struct snt_call *call)
{
	struct snt_op *op;
	int status;

	if (!getenv("TEST_APART"))
		return snt_call(team, call);
	status = snt_op_create(team, call, &op);
	status = status ? status : snt_op_start(op);
	usleep(20);
	status = status ? status : snt_op_wait(op);
	snt_op_free(op);
	return status;
}

static int open_files(void)
{
	DIR *folder = opendir("/proc/self/fd");
	int count = 0;

	while (folder && readdir(folder))
		count++;
	if (folder)
		closedir(folder);
	return count;
}

static int shared_maps(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	int count = 0;

	while (maps && fgets(line, sizeof(line), maps))
		count += strstr(line, "memfd:") != NULL;
	if (maps)
		fclose(maps);
	return count;
}

void job_expect_clean(struct job_rank *me)
{
	int files = open_files(), maps = shared_maps();

	job_expect(me, files <= me->files, "%d files are left open", files - me->files);
	job_expect(me, maps == 0, "%d maps of shared memory are left", maps);
}

static int with_team(struct job_rank *me)
{
	struct snt_team *team = NULL;
	int failed = job_team(me, 0, &team);

	job_expect(me, !failed, "snt_team_create: %s: %s", snt_status_name(failed), snt_error_text());
	failed = me->job->run(me, team);
	snt_team_destroy(team);
	job_expect_clean(me);
	return failed;
}

static void be_rank(struct job *job, int rank)
{
	struct job_rank me = { rank, job->ranks, job, &job->results[rank], open_files() };

	signal(SIGALRM, SIG_DFL);
	alarm(job->bound_s + 2);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	_exit(job->bare ? job->run(&me, NULL) : with_team(&me));
}

/* ---- the test's side ----------------------------------------------------- */

static void kill_rest(struct job *job)
{
	for (int r = 0; r < job->ranks; r++)
		if (job->pids[r] > 0)
			kill(job->pids[r], SIGKILL);
}

static void reaped(struct job *job, int rank, int status)
{
	job->pids[rank] = 0;
	job->results[rank].exit = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
	job->results[rank].signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

/* How many ranks still run; those that are stopped do not. */
static int look(struct job *job, unsigned char *stopped)
{
	int running = 0;

	for (int r = 0; r < job->ranks; r++) {
		int status;

		if (job->pids[r] <= 0)
			continue;
		if (waitpid(job->pids[r], &status, WNOHANG | WUNTRACED) <= 0)
			running += !stopped[r];
		else if (WIFSTOPPED(status))
			stopped[r] = 1;
		else
			reaped(job, r, status);
	}
	return running;
}

/* The stopped ones are ended when all others are done. */
static void watch(struct job *job)
{
	uint64_t end = now_ns() + job->bound_s * 1000000000ull;
	unsigned char stopped[JOB_RANKS_MOST] = { 0 };

	while (look(job, stopped) && now_ns() < end)
		usleep(LOOK_EVERY_US);
	for (int r = 0; r < job->ranks; r++)
		job->results[r].late = job->pids[r] > 0 && !stopped[r];
	kill_rest(job);
	for (int r = 0; r < job->ranks; r++) {
		int status;

		if (job->pids[r] > 0 && waitpid(job->pids[r], &status, 0) == job->pids[r])
			reaped(job, r, status);
	}
}

static int tell(const struct job *job)
{
	int bad = 0;

	for (int r = 0; r < job->ranks; r++) {
		const struct job_result *result = &job->results[r];

		bad += result->exit != 0;
		if (result->complaint[0] || result->late)
			fprintf(stderr, "rank %d of %d over %s: %s\n", r, job->ranks,
				job->transports ? job->transports : "any",
				result->late ? "still running at the bound" : result->complaint);
	}
	return bad;
}

static int start(struct job *job)
{
	fflush(NULL);
	for (int r = 0; r < job->ranks; r++) {
		job->pids[r] = fork();
		if (job->pids[r] == 0)
			be_rank(job, r);
		if (job->pids[r] < 0) {
			perror("fork");
			kill_rest(job);
			return 1;
		}
	}
	return 0;
}

int job_run(struct job *job)
{
	size_t size = sizeof(*job->results) * JOB_RANKS_MOST;
	int failed;

	job->bound_s = job->bound_s ? job->bound_s : BOUND_S;
	memset(job->pids, 0, sizeof(job->pids));
	job->results = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (job->results == MAP_FAILED) {
		perror("mmap");
		abort();
	}
	for (int i = 0; i < JOB_TICKETS; i++) {
		if (snt_ticket_create(SNT_REACH_LOCAL, &job->tickets[i])) {
			fprintf(stderr, "snt_ticket_create: %s\n", snt_error_text());
			return job->ranks;
		}
	}
	failed = start(job);
	watch(job);
	return tell(job) + failed;
}

void job_end(struct job *job)
{
	munmap(job->results, sizeof(*job->results) * JOB_RANKS_MOST);
	job->results = NULL;
}
