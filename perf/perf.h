/* SPDX-License-Identifier: BSD-3-Clause */
/* perf.h - what the files of the benchmark share: the options, one case, one row. */
#ifndef PERF_PERF_H
#define PERF_PERF_H

#include "include/sennit.h"

/* Beside the collectives: send to the next rank and receive from the previous one; messages between rank 0 and the last. */
enum { SNTI_PERF_SENDRECV = SNT_COLLECTIVE_COUNT, SNTI_PERF_LATENCY, SNTI_PERF_BANDWIDTH, SNTI_PERF_KINDS };

#define SNTI_PERF_TESTS UINT64_MAX

struct snti_perf_options {
	int kinds[SNTI_PERF_KINDS];      /* which are measured, by number */
	uint64_t ranks;                  /* 0: from the environment of the launcher */
	uint64_t min, max, factor;
	const char *sizes;               /* a list instead of min, max and factor */
	const char *transports, *algorithm;
	int type, fold;
	uint64_t root, iterations, warmup, timeout_ms;
	double seconds;
	int in_place, shared, check, overlap;
	int asleep;                      /* the computation of --overlap is elsewhere, as on a GPU */
	uint64_t tests;                  /* during the computation of --overlap; SNTI_PERF_TESTS: chosen by its length */
	int pin;                         /* -1: when the ranks were forked here and have a core each */
	const char *json, *csv;
	int help;
};

/* A collective of one size, as one rank sees it. Elements are counted in blocks of @count. */
struct snti_perf_case {
	int kind;                        /* enum snt_collective or SNTI_PERF_SENDRECV */
	enum snt_type type;
	enum snt_fold fold;
	int root, rank, ranks, in_place, shared;
	size_t count;
	uint64_t bytes;                  /* of the whole vector */
	size_t in_count, out_count;      /* elements on this rank; 0: no such buffer */
	char *in, *out;                  /* NULL where there is none */
	char *in_memory, *out_memory;    /* what was allocated; in place the second only */
	char *guard;                     /* SNTI_PERF_GUARD bytes after the last of @out_memory */
};
#define SNTI_PERF_GUARD 64

/* One operation; the two of sendrecv or latency; a window of messages and what comes back. The first @together are started
 * at once, the others one after the other. */
#define SNTI_PERF_WINDOW 64
struct snti_perf_ops { struct snt_op *op[SNTI_PERF_WINDOW + 1]; int count, together; };

struct snti_perf_row {
	const struct snti_perf_case *which;
	uint64_t iterations;
	double least_us, median_us, p99_us, most_us;
	double algbw, busbw;             /* GB/s, decimal */
	uint64_t tests;                  /* from here to @asleep with --overlap only */
	double compute_us, total_us;     /* medians; that of the communication is @median_us */
	double overlap;                  /* percent of the communication that was hidden */
	int asleep;
	int checked;
	uint64_t wrong;                  /* elements, of all ranks */
};

const char *snti_perf_kind_name(int kind);
/* Whether the case folds, and so has an operation. */
int snti_perf_folds(int kind);

/* measure.c: measures one size on all ranks of @team; @bytes is what was asked for. @which must
 * outlive @row. 0 or the status of what failed. */
int snti_perf_measure(struct snt_team *team, const struct snti_perf_options *options,
	struct snti_perf_case *which, struct snti_perf_row *row);
/* Sets count, bytes, in_count and out_count from kind, type, root, rank, ranks and @bytes. */
void snti_perf_shape(struct snti_perf_case *which, uint64_t bytes);

/* pair.c: latency and bandwidth. */
int snti_perf_is_pair(int kind);
/* The other rank of the two, or -1 when this one takes no part. */
int snti_perf_pair_other(const struct snti_perf_case *which);
void snti_perf_pair_shape(struct snti_perf_case *which);
int snti_perf_pair_ops(struct snt_team *team, const struct snti_perf_case *which, struct snti_perf_ops *ops);
/* The time of an iteration is that of so many messages. */
uint64_t snti_perf_pair_parts(const struct snti_perf_case *which);

/* Sorts @times, in ns. */
double snti_perf_median_us(uint64_t *times, uint64_t count);
/* Sorts @times, in ns, and fills in what follows from them. */
void snti_perf_summarize(uint64_t *times, uint64_t count, struct snti_perf_row *row);

/* overlap.c: times @ops alone, a computation about as long, and both at once, @count times each or, where
 * --iterations is not given, so often that it takes as long as @ops alone would. 0 or the status of what failed. */
int snti_perf_overlap(struct snt_team *team, const struct snti_perf_options *options, const struct snti_perf_ops *ops,
	uint64_t count, struct snti_perf_row *row);

/* check.c: the input, and how many elements of this rank's output are not what they should be. */
void snti_perf_fill(const struct snti_perf_case *which);
uint64_t snti_perf_wrong(const struct snti_perf_case *which);

/* report.c: to standard output, and to the files that were asked for. */
struct snti_perf_report;
/* NULL when a file cannot be written; said on standard error. */
struct snti_perf_report *snti_perf_report_open(const struct snti_perf_options *options,
	const struct snt_team *team, const char *algorithms);
void snti_perf_report_kind(struct snti_perf_report *report, int kind);
void snti_perf_report_progress(struct snti_perf_report *report, const struct snti_perf_case *which);
void snti_perf_report_row(struct snti_perf_report *report, const struct snti_perf_row *row);
/* 0, or 1 when something could not be written. NULL is allowed. */
int snti_perf_report_close(struct snti_perf_report *report);

#endif
