/* SPDX-License-Identifier: BSD-3-Clause */
/* perf.c - 'sennit perf': what is asked for, and the ranks and sizes that follow from it. */
#include "perf/perf.h"

#include "base/cpu.h"
#include "base/settings.h"
#include "perf/launch.h"
#include "tools/command.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FAILED = SNTI_EXIT_FAILED, USAGE = SNTI_EXIT_USAGE, MOST_RANKS = 4096, MOST_SIZES = 256 };

enum take { ON, OFF, NUMBER, SIZE, SECONDS, TEXT, TYPE, FOLD };
static const struct option_row {
	const char *name, *argument;
	enum take take;
	size_t offset;
	uint64_t least, most;
	const char *help;
} table[] = {
#define FIELD(field) offsetof(struct snti_perf_options, field)
	{ "ranks", "N", NUMBER, FIELD(ranks), 1, MOST_RANKS,
	  "start N ranks on this machine; without it, mpirun, srun or torchrun says" },
	{ "min", "BYTES", SIZE, FIELD(min), 0, (uint64_t)1 << 40, "first size, such as 8 or 4K [8]" },
	{ "max", "BYTES", SIZE, FIELD(max), 0, (uint64_t)1 << 40, "last size [64M]" },
	{ "factor", "N", NUMBER, FIELD(factor), 2, 1 << 20, "each size is N times the one before [4]" },
	{ "sizes", "LIST", TEXT, FIELD(sizes), 0, 0, "these sizes instead, joined by commas" },
	{ "transport", "LIST", TEXT, FIELD(transports), 0, 0, "shm, verbs, ucx, tcp, or several in order of preference" },
	{ "algorithm", "NAME", TEXT, FIELD(algorithm), 0, 0,
	  "an algorithm for what is measured, or the whole grammar of sennit(7)" },
	{ "type", "TYPE", TYPE, FIELD(type), 0, 0, "type of the elements [float32]" },
	{ "op", "OP", FOLD, FIELD(fold), 0, 0, "how elements are folded [sum]" },
	{ "root", "R", NUMBER, FIELD(root), 0, MOST_RANKS - 1, "root of broadcast, reduce, gather, scatter [0]" },
	{ "in-place", NULL, ON, FIELD(in_place), 0, 0, "the result replaces the input" },
	{ "shared", NULL, ON, FIELD(shared), 0, 0, "buffers from snt_alloc(), which peers can map" },
	{ "iterations", "N", NUMBER, FIELD(iterations), 1, 10000000, "timed iterations of every size" },
	{ "seconds", "S", SECONDS, FIELD(seconds), 0, 3600, "or about so long for every size [0.3]" },
	{ "warmup", "N", NUMBER, FIELD(warmup), 0, 10000000, "iterations before, not timed [5]" },
	{ "overlap", NULL, ON, FIELD(overlap), 0, 0, "measure how much of the communication hides behind computation" },
	{ "asleep", NULL, ON, FIELD(asleep), 0, 0, "that computation sleeps, as where a GPU computes" },
	{ "tests", "N", NUMBER, FIELD(tests), 0, 1000000, "calls of snt_op_test() during that computation [one every 20 us, 4 to 1000]" },
	{ "check", NULL, ON, FIELD(check), 0, 0, "check every element of every size (the default)" },
	{ "no-check", NULL, OFF, FIELD(check), 0, 0, "check nothing" },
	{ "timeout", "MS", NUMBER, FIELD(timeout_ms), 1, 86400000, "a wait in which nothing moves fails after so long [SNT_TIMEOUT]" },
	{ "pin", NULL, ON, FIELD(pin), 0, 0,
	  "bind each rank to one core (the default with --ranks when there are enough)" },
	{ "no-pin", NULL, OFF, FIELD(pin), 0, 0, "bind nothing" },
	{ "json", "FILE", TEXT, FIELD(json), 0, 0, "write the rows to FILE as JSON too" },
	{ "csv", "FILE", TEXT, FIELD(csv), 0, 0, "write the rows to FILE as CSV too" },
	{ "help", NULL, ON, FIELD(help), 0, 0, "show this" },
#undef FIELD
};
enum { OPTIONS = sizeof table / sizeof table[0] };

static const int kinds[] = { SNT_ALLREDUCE, SNT_REDUCE_SCATTER, SNT_ALLGATHER, SNT_BROADCAST, SNT_REDUCE,
	SNT_ALLTOALL, SNT_GATHER, SNT_SCATTER, SNT_BARRIER, SNTI_PERF_SENDRECV, SNTI_PERF_LATENCY, SNTI_PERF_BANDWIDTH };
enum { KINDS = sizeof kinds / sizeof kinds[0] };

static int usage(const char *format, ...) __attribute__((format(printf, 1, 2)));
static int usage(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	fputs("sennit perf: ", stderr);
	vfprintf(stderr, format, list);
	fputs("; 'sennit perf --help' lists what there is\n", stderr);
	va_end(list);
	return USAGE;
}

static int help(void)
{
	printf("usage: sennit perf WHAT [option ...]\n\n"
	       "Measures collectives between ranks, and checks every result.\n\nWHAT is one of\n ");
	for (int i = 0; i < KINDS; i++)
		printf(" %s", snti_perf_kind_name(kinds[i]));
	printf(" all\nall: every collective and sendrecv; latency, bandwidth: between rank 0 and the last one\n\n");
	for (int i = 0; i < OPTIONS; i++) {
		char name[40];
		snprintf(name, sizeof name, "--%s%s%s", table[i].name, table[i].argument ? " " : "",
			table[i].argument ? table[i].argument : "");
		printf("  %-18s %s\n", name, table[i].help);
	}
	return 0;
}

/* ---- options ------------------------------------------------------------- */

static const char *type_name(int i)
{
	return snt_type_name((enum snt_type)i);
}

static const char *fold_name(int i)
{
	return snt_fold_name((enum snt_fold)i);
}

static int take_name(const char *option, const char *value, const char *(*name)(int), int count, int *number)
{
	for (int i = 0; i < count; i++)
		if (!strcmp(value, name(i))) {
			*number = i;
			return 0;
		}
	fprintf(stderr, "sennit perf: --%s: '%s' is none of", option, value);
	for (int i = 0; i < count; i++)
		fprintf(stderr, " %s", name(i));
	fputc('\n', stderr);
	return USAGE;
}

static int take_number(const struct option_row *row, const char *value, uint64_t *number)
{
	char *end;

	if (row->take == SIZE) {
		if (snti_parse_size(value, number))
			return usage("--%s: '%s' is no number of bytes such as 8, 4K, 1M", row->name, value);
	} else {
		*number = strtoull(value, &end, 10);
		if (end == value || *end || *value == '-')
			return usage("--%s: '%s' is no whole number", row->name, value);
	}
	if (*number < row->least || *number > row->most)
		return usage("--%s: '%s' is not between %" PRIu64 " and %" PRIu64, row->name, value, row->least, row->most);
	return 0;
}

static int take_seconds(const struct option_row *row, const char *value, double *seconds)
{
	char *end;

	*seconds = strtod(value, &end);
	if (end == value || *end || !(*seconds >= 0 && *seconds <= (double)row->most))
		return usage("--%s: '%s' is no number of seconds up to %" PRIu64, row->name, value, row->most);
	return 0;
}

static int take(const struct option_row *row, const char *value, struct snti_perf_options *options)
{
	void *field = (char *)options + row->offset;

	switch (row->take) {
	case ON:
	case OFF:
		*(int *)field = row->take == ON;
		return 0;
	case TEXT:
		*(const char **)field = value;
		return *value ? 0 : usage("--%s needs a value that is not empty", row->name);
	case SECONDS:
		return take_seconds(row, value, field);
	case TYPE:
		return take_name(row->name, value, type_name, SNT_TYPE_COUNT, field);
	case FOLD:
		return take_name(row->name, value, fold_name, SNT_FOLD_COUNT, field);
	default:
		return take_number(row, value, field);
	}
}

/* Reads the options of @argv; what is no option is left behind optind. */
static int read_options(int argc, char **argv, struct snti_perf_options *options)
{
	struct option known[OPTIONS + 1] = { { 0 } };
	int which, status = 0;

	for (int i = 0; i < OPTIONS; i++) {
		known[i].name = table[i].name;
		known[i].has_arg = table[i].argument ? required_argument : no_argument;
		known[i].val = 256 + i;
	}
	opterr = 0;
	optind = 1;
	while (!status && (which = getopt_long(argc, argv, ":", known, NULL)) != -1) {
		if (which >= 256)
			status = take(&table[which - 256], optarg, options);
		else if (which == ':')
			status = usage("%s needs a value", argv[optind - 1]);
		else
			status = usage("no such option: %s", argv[optind - 1]);
	}
	return status;
}

static int read_kind(const char *name, struct snti_perf_options *options)
{
	int found = 0;

	for (int i = 0; i < KINDS; i++)
		if (!strcmp(name, snti_perf_kind_name(kinds[i])) || (!strcmp(name, "all") && !snti_perf_is_pair(kinds[i])))
			options->kinds[kinds[i]] = found = 1;
	return found ? 0 : usage("'%s' is no collective, nor sendrecv, latency, bandwidth or all", name);
}

/* The sizes that are asked for: how many, or -1 when --sizes makes no sense. */
static int list_sizes(const struct snti_perf_options *options, uint64_t sizes[MOST_SIZES])
{
	char text[4096], *rest = text, *part;
	int count = 0;

	if (!options->sizes) {
		for (uint64_t size = options->min; count < MOST_SIZES; size *= options->factor) {
			sizes[count++] = size;
			if (!size || size > options->max / options->factor)
				break;
		}
		return count;
	}
	if (snprintf(text, sizeof text, "%s", options->sizes) >= (int)sizeof text)
		return -1;
	while ((part = strsep(&rest, ",")))
		if (count == MOST_SIZES || snti_parse_size(part, &sizes[count++]))
			return -1;
	return count;
}

static int folds_any(const struct snti_perf_options *options)
{
	for (int kind = 0; kind < SNTI_PERF_KINDS; kind++)
		if (options->kinds[kind] && snti_perf_folds(kind))
			return 1;
	return 0;
}

static int judge_kinds(const struct snti_perf_options *options)
{
	for (int kind = SNTI_PERF_SENDRECV; kind < SNTI_PERF_KINDS && !options->kinds[SNT_ALLREDUCE]; kind++) {
		if (!options->kinds[kind])
			continue;
		if (options->ranks == 1)
			return usage("%s needs two ranks at least", snti_perf_kind_name(kind));
		if (options->overlap && snti_perf_is_pair(kind))
			return usage("--overlap takes a collective or sendrecv");
	}
	return 0;
}

/* What the options say together. */
static int judge(const struct snti_perf_options *options)
{
	uint64_t sizes[MOST_SIZES];

	if (options->min > options->max && !options->sizes)
		return usage("--min is greater than --max");
	if (list_sizes(options, sizes) < 0)
		return usage("--sizes: '%s' is no list of at most %d sizes such as 8,4K,1M", options->sizes, MOST_SIZES);
	if (options->tests != SNTI_PERF_TESTS && !options->overlap)
		return usage("--tests needs --overlap");
	if (options->asleep && !options->overlap)
		return usage("--asleep needs --overlap");
	if (options->ranks && options->root >= options->ranks)
		return usage("--root %" PRIu64 " is no rank of %" PRIu64, options->root, options->ranks);
	if (folds_any(options) && options->fold >= SNT_BAND && options->type >= SNT_FLOAT16)
		return usage("--op %s takes integers only, and --type is %s", fold_name(options->fold),
			type_name(options->type));
	return judge_kinds(options);
}

/* ---- one rank ------------------------------------------------------------ */

struct job {
	struct snti_perf_options options;
	struct snt_ticket ticket;
	int cores;
	char *algorithms;    /* in the library's grammar; NULL: the default */
};

/* A bare name is for each collective that is measured. */
static char *make_algorithms(const struct snti_perf_options *options)
{
	const char *name = options->algorithm;
	size_t room, used = 0;
	char *text;

	if (!name || strchr(name, ':'))
		return name ? strdup(name) : NULL;
	room = SNTI_PERF_KINDS * (strlen(name) + 32);
	text = calloc(1, room);
	for (int kind = 0; text && kind < SNTI_PERF_SENDRECV; kind++)
		if (options->kinds[kind])
			used += (size_t)snprintf(text + used, room - used, "%s%s:%s", used ? "," : "",
				snti_perf_kind_name(kind), name);
	return text;
}

/* What exactly was wrong is in the library's log, unless that is off. */
static int say(int rank, const char *what, int status)
{
	int is_logged = snti_settings()->log_level >= SNT_LOG_ERROR;

	if (!rank)
		fprintf(stderr, "sennit perf: %s: %s: %s\n", what, snt_status_name(status),
			is_logged || !*snt_error_text() ? snt_status_sentence(status) : snt_error_text());
	return FAILED;
}

static int has_both_buffers(int kind)
{
	return kind != SNT_BARRIER && kind < SNTI_PERF_SENDRECV;
}

/* 0, FAILED for wrong results, or the exit code behind an error, which ends the run in *@broken. */
static int run_size(struct snt_team *team, const struct snti_perf_options *options, int kind, uint64_t bytes,
	struct snti_perf_report *report, int *broken)
{
	struct snti_perf_case which = { .kind = kind, .type = (enum snt_type)options->type,
		.fold = (enum snt_fold)options->fold, .root = (int)options->root, .rank = snt_team_rank(team),
		.ranks = snt_team_size(team), .shared = options->shared,
		.in_place = options->in_place && has_both_buffers(kind) };
	struct snti_perf_row row;
	char what[80];

	snti_perf_shape(&which, bytes);
	if (report)
		snti_perf_report_progress(report, &which);
	*broken = snti_perf_measure(team, options, &which, &row);
	if (*broken) {
		snprintf(what, sizeof what, "%s of %" PRIu64 " bytes", snti_perf_kind_name(kind), which.bytes);
		return say(which.rank, what, *broken);
	}
	if (report)
		snti_perf_report_row(report, &row);
	return row.wrong ? FAILED : 0;
}

static int run_kind(struct snt_team *team, const struct snti_perf_options *options, int kind,
	struct snti_perf_report *report, int *broken)
{
	uint64_t sizes[MOST_SIZES];
	int count = kind == SNT_BARRIER ? 1 : list_sizes(options, sizes);
	int worst = 0;

	if (report)
		snti_perf_report_kind(report, kind);
	for (int i = 0; i < count && !*broken; i++) {
		int result = run_size(team, options, kind, kind == SNT_BARRIER ? 0 : sizes[i], report, broken);
		worst = result > worst ? result : worst;
	}
	return worst;
}

static int run_kinds(struct snt_team *team, const struct snti_perf_options *options, struct snti_perf_report *report)
{
	int worst = 0, broken = 0;

	for (int i = 0; i < KINDS && !broken; i++) {
		if (!options->kinds[kinds[i]])
			continue;
		if (kinds[i] >= SNTI_PERF_SENDRECV && snt_team_size(team) < 2) {
			if (report)
				printf("#\n# %s needs two ranks at least\n", snti_perf_kind_name(kinds[i]));
			continue;
		}
		int result = run_kind(team, options, kinds[i], report, &broken);
		worst = result > worst ? result : worst;
	}
	return worst;
}

static int run_team(struct snt_team *team, const struct job *job)
{
	struct snti_perf_report *report = NULL;
	uint32_t opened = 1;
	int rank = snt_team_rank(team), status, worst;

	if (job->options.root >= (uint64_t)snt_team_size(team))
		return rank ? USAGE : usage("--root %" PRIu64 " is no rank of %d", job->options.root, snt_team_size(team));
	if (!rank) {
		report = snti_perf_report_open(&job->options, team, job->algorithms);
		opened = report != NULL;
	}
	status = snt_broadcast(team, &opened, &opened, 1, SNT_UINT32, 0);
	if (status)
		worst = say(rank, "start", status);
	else
		worst = opened ? run_kinds(team, &job->options, report) : FAILED;
	return snti_perf_report_close(report) || worst ? worst ? worst : FAILED : 0;
}

/* The library counts cores when a team is made, so ranks are bound after that. */
static void pin(struct snti_perf_options *options, const struct snt_team *team, int cores)
{
	if (options->pin < 0)
		options->pin = options->ranks && options->ranks <= (uint64_t)cores;
	if (options->pin)
		snti_launch_pin(snt_team_local_rank(team));
}

static int run_rank(void *arg, int rank)
{
	struct job *job = arg;
	const struct snti_perf_options *options = &job->options;
	struct snt_team_options team_options = SNT_TEAM_OPTIONS;
	struct snt_team *team = NULL;
	int status;

	if (options->ranks) {
		team_options.rank = rank;
		team_options.ranks = (int)options->ranks;
		team_options.ticket = &job->ticket;
	}
	team_options.timeout_ms = (uint32_t)options->timeout_ms;
	team_options.transports = options->transports;
	team_options.algorithms = job->algorithms;
	status = snt_team_create(&team_options, &team);
	if (status)
		return say(rank, "no team", status);
	pin(&job->options, team, job->cores);
	status = run_team(team, job);
	snt_team_destroy(team);
	return status;
}

static int run(struct job *job)
{
	int status;

	job->cores = snti_cpu_count();
	if (!job->options.ranks)
		return run_rank(job, 0);
	snti_launch_share_log();
	status = snt_ticket_create(SNT_REACH_LOCAL, &job->ticket);
	if (status)
		return say(0, "no ticket", status);
	return snti_launch((int)job->options.ranks, run_rank, job);
}

int snti_command_perf(int argc, char **argv)
{
	struct job job = { .options = { .min = 8, .max = (uint64_t)64 << 20, .factor = 4, .type = SNT_FLOAT32,
		.fold = SNT_SUM, .seconds = 0.3, .warmup = 5, .tests = SNTI_PERF_TESTS, .check = 1, .pin = -1 } };
	int status = read_options(argc, argv, &job.options);

	if (status)
		return status;
	if (job.options.help)
		return help();
	if (optind != argc - 1)
		return usage(optind < argc ? "one collective at a time, or all" : "which collective?");
	status = read_kind(argv[optind], &job.options);
	if (!status)
		status = judge(&job.options);
	if (status)
		return status;
	job.algorithms = make_algorithms(&job.options);
	if (job.options.algorithm && !job.algorithms)
		return say(0, "start", SNT_ENOMEM);
	status = run(&job);
	free(job.algorithms);
	return status;
}
