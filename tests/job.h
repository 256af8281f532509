/* SPDX-License-Identifier: BSD-3-Clause */
/* job.h - a job of forked ranks for tests: started together, bounded in time, always reaped. */
#ifndef TESTS_JOB_H
#define TESTS_JOB_H

#include <stdint.h>
#include <sys/types.h>

#include "include/sennit.h"

#define JOB_RANKS_MOST 128
#define JOB_TICKETS 2
#define JOB_HASHES 4

/* What a rank leaves behind; in memory that all ranks and the test share. */
struct job_result {
	int exit, signal;                /* as waitpid() told: exit -1 when a signal ended it */
	int late;                        /* the bound passed and it was killed */
	int error;                       /* status of the call that failed */
	double seconds;                  /* whatever the test measures */
	uint64_t marked_ns;              /* job_mark() */
	uint64_t hashes[JOB_HASHES];
	char text[600];                  /* what snt_error_text() said then */
	char complaint[600];             /* why job_expect() ended it */
};

struct job_rank;

struct job {
	int ranks;
	const char *transports;          /* NULL: the default */
	uint32_t timeout_ms;
	unsigned bound_s;                /* 0: 20 s, under sanitizers more */
	int bare;                        /* @run gets no team, and makes its own */
	int (*run)(struct job_rank *me, struct snt_team *team);
	const void *arg;
	struct snt_ticket tickets[JOB_TICKETS];
	struct job_result *results;      /* of each rank, until job_end() */
	pid_t pids[JOB_RANKS_MOST];
};

struct job_rank {
	int rank, ranks;
	const struct job *job;
	struct job_result *result;       /* this rank's */
	int files;                       /* that were open at the beginning */
};

/* Runs the job to its end. How many ranks did not end with 0, those that were meant to die included. */
int job_run(struct job *job);
/* Returns the results' memory. */
void job_end(struct job *job);

/* For use inside a rank. */
int job_team(struct job_rank *me, int ticket, struct snt_team **team);
/* Ends this rank with a complaint when @good is 0. */
void job_expect(struct job_rank *me, int good, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Keeps @status with the thread's error text and how long after @culprit's mark it came (-1: after nobody's). */
void job_keep_error(struct job_rank *me, int status, int culprit);
/* Marks the time, then ends or stops this rank. */
void job_strike(struct job_rank *me, int signal);
void job_mark(struct job_rank *me);
/* As snt_call(); where TEST_APART is set the call is started first and waited for after a while, so that a progress
 * thread has a part in it. */
int job_call(struct snt_team *team, const struct snt_call *call);
/* Complains when files or shared maps are left that were not there at the beginning. */
void job_expect_clean(struct job_rank *me);

int job_most(int ranks);                 /* or as many as TEST_RANKS says */
double job_seconds(void);
uint64_t job_mix(uint64_t x);            /* splitmix64 */

#endif
