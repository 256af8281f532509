/* SPDX-License-Identifier: BSD-3-Clause */
/* report.c - the rows, as text for people and as JSON and CSV for programs. */
#include "perf/perf.h"

#include "base/cpu.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#if defined(__has_include) && __has_include("revision.h")
#include "revision.h"
#endif
#ifndef SNT_REVISION
#define SNT_REVISION "unknown"
#endif

struct snti_perf_report {
	const struct snti_perf_options *options;
	FILE *json, *csv;
	int rows;            /* so far, in the JSON file */
	int progress;        /* a progress line is on the terminal */
};

/* What is known of the machine and the job, as text. */
struct fact { const char *name; char text[256]; int is_number; };
enum { FACTS = 11 };

static const char *transports(const struct snti_perf_options *options)
{
	const char *setting = getenv("SNT_TRANSPORTS");

	return options->transports ? options->transports : setting && *setting ? setting : "default";
}

static void fact_text(struct fact *fact, const char *name, const char *text)
{
	fact->name = name;
	snprintf(fact->text, sizeof fact->text, "%s", text && *text ? text : "default");
}

static void fact_number(struct fact *fact, const char *name, long number)
{
	fact->name = name;
	fact->is_number = 1;
	snprintf(fact->text, sizeof fact->text, "%ld", number);
}

static void facts_fill(struct fact facts[FACTS], const struct snti_perf_options *options,
	const struct snt_team *team, const char *algorithms)
{
	struct utsname system;
	char kernel[256] = "unknown", stamp[32];
	time_t now = time(NULL);
	struct tm utc;

	if (!uname(&system))
		snprintf(kernel, sizeof kernel, "%s %s %s", system.sysname, system.release, system.machine);
	strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
	memset(facts, 0, FACTS * sizeof *facts);
	fact_text(&facts[0], "version", snt_version());
	fact_text(&facts[1], "revision", SNT_REVISION);
	fact_text(&facts[2], "time", stamp);
	fact_text(&facts[3], "cpu", snti_cpu_name());
	fact_number(&facts[4], "cores", sysconf(_SC_NPROCESSORS_ONLN));
	fact_text(&facts[5], "kernel", kernel);
	fact_number(&facts[6], "ranks", snt_team_size(team));
	fact_number(&facts[7], "local_ranks", snt_team_local_size(team));
	fact_text(&facts[8], "transports", transports(options));
	fact_text(&facts[9], "algorithms", algorithms);
	fact_number(&facts[10], "pinned", options->pin > 0);
}

/* ---- JSON and CSV -------------------------------------------------------- */

static void json_string(FILE *to, const char *text)
{
	fputc('"', to);
	for (const unsigned char *c = (const unsigned char *)text; *c; c++) {
		if (*c == '"' || *c == '\\')
			fprintf(to, "\\%c", *c);
		else if (*c < 0x20)
			fprintf(to, "\\u%04x", *c);
		else
			fputc(*c, to);
	}
	fputc('"', to);
}

static void json_head(FILE *to, const struct fact facts[FACTS])
{
	fputs("{\"schema\": \"sennit-report-1\",\n\"environment\": {", to);
	for (int i = 0; i < FACTS; i++) {
		fprintf(to, "%s\n  ", i ? "," : "");
		json_string(to, facts[i].name);
		fputs(": ", to);
		if (facts[i].is_number)
			fputs(facts[i].text, to);
		else
			json_string(to, facts[i].text);
	}
	fputs("\n},\n\"rows\": [", to);
}

static void json_row(FILE *to, const struct snti_perf_row *row, int is_first, int is_overlap)
{
	const struct snti_perf_case *which = row->which;

	fprintf(to, "%s\n  {\"collective\": \"%s\", \"bytes\": %" PRIu64 ", \"count\": %zu, \"type\": \"%s\", ",
		is_first ? "" : ",", snti_perf_kind_name(which->kind), which->bytes, which->count,
		snt_type_name(which->type));
	if (snti_perf_folds(which->kind))
		fprintf(to, "\"op\": \"%s\", ", snt_fold_name(which->fold));
	else
		fputs("\"op\": null, ", to);
	fprintf(to, "\"root\": %d, \"in_place\": %s, \"iterations\": %" PRIu64 ", ", which->root,
		which->in_place ? "true" : "false", row->iterations);
	fprintf(to, "\"min_us\": %.3f, \"median_us\": %.3f, \"p99_us\": %.3f, \"max_us\": %.3f, ",
		row->least_us, row->median_us, row->p99_us, row->most_us);
	fprintf(to, "\"algbw_gbps\": %.6f, \"busbw_gbps\": %.6f, ", row->algbw, row->busbw);
	if (row->checked)
		fprintf(to, "\"wrong\": %" PRIu64, row->wrong);
	else
		fputs("\"wrong\": null", to);
	if (is_overlap)
		fprintf(to, ", \"tests\": %" PRIu64 ", \"compute_us\": %.3f, \"total_us\": %.3f, \"overlap_percent\": %.2f, "
			"\"asleep\": %s", row->tests, row->compute_us, row->total_us, row->overlap, row->asleep ? "true" : "false");
	fputc('}', to);
}

static void csv_head(FILE *to, const struct fact facts[FACTS], int is_overlap)
{
	for (int i = 0; i < FACTS; i++)
		fprintf(to, "# %s: %s\n", facts[i].name, facts[i].text);
	fputs("collective,bytes,count,type,op,root,in_place,iterations,min_us,median_us,p99_us,max_us,"
		"algbw_gbps,busbw_gbps,wrong", to);
	fputs(is_overlap ? ",tests,compute_us,total_us,overlap_percent,asleep\n" : "\n", to);
}

static void csv_row(FILE *to, const struct snti_perf_row *row, int is_overlap)
{
	const struct snti_perf_case *which = row->which;

	fprintf(to, "%s,%" PRIu64 ",%zu,%s,%s,%d,%s,%" PRIu64 ",", snti_perf_kind_name(which->kind), which->bytes,
		which->count, snt_type_name(which->type),
		snti_perf_folds(which->kind) ? snt_fold_name(which->fold) : "", which->root,
		which->in_place ? "true" : "false", row->iterations);
	fprintf(to, "%.3f,%.3f,%.3f,%.3f,%.6f,%.6f,", row->least_us, row->median_us, row->p99_us, row->most_us,
		row->algbw, row->busbw);
	if (row->checked)
		fprintf(to, "%" PRIu64, row->wrong);
	if (is_overlap)
		fprintf(to, ",%" PRIu64 ",%.3f,%.3f,%.2f,%s", row->tests, row->compute_us, row->total_us, row->overlap,
			row->asleep ? "true" : "false");
	fputc('\n', to);
}

/* ---- text ---------------------------------------------------------------- */

static void text_head(const struct fact facts[FACTS])
{
	printf("# sennit perf\n");
	for (int i = 0; i < FACTS; i++)
		printf("#   %-12s %s\n", facts[i].name, facts[i].text);
	printf("# times in microseconds, of the slowest rank; bandwidths in GB/s (10^9 bytes)\n");
}

static void text_row(const struct snti_perf_row *row, int is_overlap)
{
	const struct snti_perf_case *which = row->which;

	printf("%12" PRIu64 " %12zu %9s %8s ", which->bytes, which->count, snt_type_name(which->type),
		snti_perf_folds(which->kind) ? snt_fold_name(which->fold) : "-");
	if (is_overlap)
		printf("%12.2f %12.2f %12.2f %7" PRIu64 " %8.1f ", row->median_us, row->compute_us, row->total_us,
			row->tests, row->overlap);
	else
		printf("%12.2f %12.2f %9.3f %9.3f ", row->median_us, row->p99_us, row->algbw, row->busbw);
	if (row->checked)
		printf("%8" PRIu64 "\n", row->wrong);
	else
		printf("%8s\n", "-");
}

static void clear_progress(struct snti_perf_report *report)
{
	if (report->progress)
		fputs("\r\033[K", stderr);
	report->progress = 0;
}

void snti_perf_report_kind(struct snti_perf_report *report, int kind)
{
	clear_progress(report);
	printf("#\n# %s%s%s\n", snti_perf_kind_name(kind), report->options->in_place ? ", in place" : "",
		report->options->asleep ? ", the computation sleeps" : "");
	printf("#%11s %12s %9s %8s ", "bytes", "count", "type", "op");
	if (report->options->overlap)
		printf("%12s %12s %12s %7s %8s %8s\n", "alone", "compute", "total", "tests", "overlap", "wrong");
	else
		printf("%12s %12s %9s %9s %8s\n", "median", "p99", "algbw", "busbw", "wrong");
	fflush(stdout);
}

void snti_perf_report_progress(struct snti_perf_report *report, const struct snti_perf_case *which)
{
	if (!isatty(STDERR_FILENO))
		return;
	fprintf(stderr, "\r\033[K%s of %" PRIu64 " bytes ...", snti_perf_kind_name(which->kind), which->bytes);
	report->progress = 1;
}

void snti_perf_report_row(struct snti_perf_report *report, const struct snti_perf_row *row)
{
	clear_progress(report);
	text_row(row, report->options->overlap);
	fflush(stdout);
	if (report->json)
		json_row(report->json, row, !report->rows, report->options->overlap);
	if (report->csv)
		csv_row(report->csv, row, report->options->overlap);
	report->rows++;
}

/* ---- files --------------------------------------------------------------- */

/* Whether @name, when there is one, could be opened. */
static int open_file(const char *name, FILE **file)
{
	if (!name)
		return 1;
	*file = fopen(name, "w");
	if (!*file)
		fprintf(stderr, "sennit perf: %s: %s\n", name, strerror(errno));
	return *file != NULL;
}

static int close_file(FILE *file, const char *name)
{
	if (!file)
		return 0;
	int failed = ferror(file);
	failed |= fclose(file);
	if (failed)
		fprintf(stderr, "sennit perf: %s could not be written\n", name);
	return failed;
}

struct snti_perf_report *snti_perf_report_open(const struct snti_perf_options *options,
	const struct snt_team *team, const char *algorithms)
{
	struct snti_perf_report *report = calloc(1, sizeof *report);
	struct fact facts[FACTS];

	if (!report)
		return NULL;
	report->options = options;
	if (!open_file(options->json, &report->json) || !open_file(options->csv, &report->csv)) {
		close_file(report->json, options->json);
		free(report);
		return NULL;
	}
	facts_fill(facts, options, team, algorithms);
	text_head(facts);
	if (report->json)
		json_head(report->json, facts);
	if (report->csv)
		csv_head(report->csv, facts, options->overlap);
	return report;
}

int snti_perf_report_close(struct snti_perf_report *report)
{
	int failed;

	if (!report)
		return 0;
	clear_progress(report);
	if (report->json)
		fputs("\n]}\n", report->json);
	failed = close_file(report->json, report->options->json);
	failed |= close_file(report->csv, report->options->csv);
	failed |= fflush(stdout) | ferror(stdout);
	free(report);
	return failed != 0;
}
