/* SPDX-License-Identifier: BSD-3-Clause */
/* plan.c - 'sennit plan': prove, print or clock the plans of a collective, on paper. */
#include "tools/command.h"

#include "base/settings.h"
#include "collectives/verify.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_RANKS = 1 << 20 };

struct request {
	struct snti_plan_shape shape;
	const char *algorithm;      /* NULL: all */
	uint64_t bytes;
	struct snti_cost cost;
	int verify, print, simulate;
};

static const char help[] =
	"usage: sennit plan COLLECTIVE [option ...]\n\n"
	"Shows what a collective does, without doing it. With no --algorithm all are taken; with\n"
	"none of --verify, --print and --simulate their names are listed.\n"
	"\n"
	"  --algorithm NAME  only this one\n"
	"  --ranks N         number of ranks [8]\n"
	"  --root R          the root [0]\n"
	"  --node N          ranks on one host [0, unknown]\n"
	"  --in-place        input and output are the same memory\n"
	"  --verify          prove that the plans keep the collective's promise\n"
	"  --print           print the plans of all ranks\n"
	"  --simulate        print how long it would take\n"
	"  --bytes SIZE      size of the whole vector for --simulate [1M]\n"
	"  --alpha US        microseconds per message [2]\n"
	"  --beta GB/S       speed of the wire [12.5]\n"
	"  --gamma GB/S      speed of folding [10]\n"
	"  --help            show this\n";

static const struct option options[] = {
	{ "algorithm", required_argument, NULL, 'a' }, { "ranks", required_argument, NULL, 'n' },
	{ "root", required_argument, NULL, 'r' }, { "node", required_argument, NULL, 'o' },
	{ "in-place", no_argument, NULL, 'i' }, { "verify", no_argument, NULL, 'v' },
	{ "print", no_argument, NULL, 'p' }, { "simulate", no_argument, NULL, 's' },
	{ "bytes", required_argument, NULL, 'b' }, { "alpha", required_argument, NULL, 'A' },
	{ "beta", required_argument, NULL, 'B' }, { "gamma", required_argument, NULL, 'G' },
	{ "help", no_argument, NULL, 'h' }, { NULL, 0, NULL, 0 },
};

static int read_number(const char *text, uint32_t *value)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end || n > MOST_RANKS) {
		fprintf(stderr, "sennit plan: '%s' is no number from 0 to %d\n", text, MOST_RANKS);
		return SNTI_EXIT_USAGE;
	}
	*value = (uint32_t)n;
	return 0;
}

/* Above 0, and a speed of @per_second or a time, as seconds. */
static int read_cost(const char *text, int is_speed, double unit, double *seconds)
{
	char *end;
	double x = strtod(text, &end);

	if (end == text || *end || !(x > 0)) {
		fprintf(stderr, "sennit plan: '%s' is no number above 0\n", text);
		return SNTI_EXIT_USAGE;
	}
	*seconds = is_speed ? 1 / (x * unit) : x * unit;
	return 0;
}

static int read_bytes(const char *text, uint64_t *bytes)
{
	if (!snti_parse_size(text, bytes))
		return 0;
	fprintf(stderr, "sennit plan: '%s' is no size like 64K or 1M\n", text);
	return SNTI_EXIT_USAGE;
}

static int read_option(int option, struct request *q)
{
	switch (option) {
	case 'a': q->algorithm = optarg; return 0;
	case 'n': return read_number(optarg, &q->shape.size);
	case 'r': return read_number(optarg, &q->shape.root);
	case 'o': return read_number(optarg, &q->shape.node_size);
	case 'i': q->shape.in_place = 1; return 0;
	case 'v': q->verify = 1; return 0;
	case 'p': q->print = 1; return 0;
	case 's': q->simulate = 1; return 0;
	case 'b': return read_bytes(optarg, &q->bytes);
	case 'A': return read_cost(optarg, 0, 1e-6, &q->cost.alpha);
	case 'B': return read_cost(optarg, 1, 1e9, &q->cost.beta);
	case 'G': return read_cost(optarg, 1, 1e9, &q->cost.gamma);
	default:
		fprintf(stderr, "Try 'sennit plan --help'.\n");
		return SNTI_EXIT_USAGE;
	}
}

static int find_collective(const char *name, struct request *q)
{
	for (const struct snti_algorithm *a = snti_algorithms; a->name; a++)
		if (!strcmp(snt_collective_name(a->collective), name)) {
			q->shape.collective = a->collective;
			return 0;
		}
	fprintf(stderr, "sennit plan: unknown collective '%s'\n", name);
	return SNTI_EXIT_USAGE;
}

static int check_request(const struct request *q)
{
	const char *wrong = NULL;

	if (!q->shape.size)
		wrong = "there must be at least 1 rank";
	else if (q->shape.root >= q->shape.size)
		wrong = "the root must be one of the ranks";
	else if (q->algorithm && !snti_algorithm_find(q->shape.collective, q->algorithm))
		wrong = "this collective has no such algorithm; leave --algorithm out to see all";
	if (wrong)
		fprintf(stderr, "sennit plan: %s\n", wrong);
	return wrong ? SNTI_EXIT_USAGE : 0;
}

static void print_place(int buffer, uint32_t chunk, uint32_t count)
{
	if (buffer >= SNTI_TMP)
		printf(" tmp%d", buffer - SNTI_TMP);
	else
		printf(" %s", buffer == SNTI_IN ? "in" : "out");
	if (count > 1)
		printf("[%u-%u]", chunk, chunk + count - 1);
	else
		printf("[%u]", chunk);
}

static void print_step(const struct snti_step *s)
{
	static const char *const names[] = { "send", "recv", "fold", "copy", "merge" };

	printf("  %-5s", names[s->op]);
	if (s->op != SNTI_STEP_SEND)
		print_place(s->to, s->to_chunk, s->count);
	if (s->op != SNTI_STEP_SEND && s->op != SNTI_STEP_RECV)
		printf(" =");
	if (s->op != SNTI_STEP_RECV)
		print_place(s->from, s->from_chunk, s->count);
	if (s->op <= SNTI_STEP_FOLD)
		printf(" %s %u", s->op == SNTI_STEP_SEND ? "to" : "from", s->peer);
	printf("%s\n", s->left ? " (left)" : "");
}

static void print_plans(const struct snti_plan *plans, uint32_t size)
{
	for (uint32_t r = 0; r < size; r++) {
		printf("rank %u: %u chunks, %u rounds, %u scratch buffers\n", r, plans[r].chunks, plans[r].rounds,
		       plans[r].tmp_buffers);
		for (uint32_t i = 0; i < plans[r].step_count; i++) {
			if (!i || plans[r].steps[i].round != plans[r].steps[i - 1].round)
				printf(" round %u\n", plans[r].steps[i].round);
			print_step(&plans[r].steps[i]);
		}
	}
}

static int prove(const struct snti_plan *plans, uint32_t size)
{
	char why[160] = "";
	int status = snti_verify(plans, size, why, sizeof(why));

	if (status)
		printf("wrong: %s\n", *why ? why : snt_status_sentence(status));
	else
		printf("proved for %u ranks\n", size);
	return status ? SNTI_EXIT_FAILED : SNTI_EXIT_OK;
}

static int clock_plans(const struct snti_plan *plans, const struct request *q)
{
	double seconds = snti_simulate(plans, q->shape.size, (double)q->bytes, q->cost);

	if (seconds < 0)
		printf("does not run\n");
	else
		printf("%.2f us for %llu bytes\n", seconds * 1e6, (unsigned long long)q->bytes);
	return seconds < 0 ? SNTI_EXIT_FAILED : SNTI_EXIT_OK;
}

static int show(const struct snti_algorithm *a, const struct request *q)
{
	struct snti_plan *plans;
	int failed = 0;

	printf("%s %s%s", snt_collective_name(a->collective), a->name, q->print ? "\n" : ": ");
	fflush(stdout);
	if (snti_plans_build(a, &q->shape, &plans)) {
		printf("%s\n", snt_error_text());
		return q->algorithm ? SNTI_EXIT_FAILED : SNTI_EXIT_OK;   /* asked for all: one that cannot is no failure */
	}
	if (q->print)
		print_plans(plans, q->shape.size);
	if (q->verify)
		failed |= prove(plans, q->shape.size);
	if (q->simulate)
		failed |= clock_plans(plans, q);
	snti_plans_free(plans, q->shape.size);
	return failed;
}

static int answer(const struct request *q)
{
	int failed = 0, list = !q->verify && !q->print && !q->simulate;

	for (const struct snti_algorithm *a = snti_algorithms; a->name; a++) {
		if (a->collective != q->shape.collective || (q->algorithm && strcmp(q->algorithm, a->name)))
			continue;
		if (list)
			printf("%s\n", a->name);
		else
			failed |= show(a, q);
	}
	return fflush(stdout) || failed ? SNTI_EXIT_FAILED : SNTI_EXIT_OK;
}

int snti_command_plan(int argc, char **argv)
{
	struct request q = { .shape.size = 8, .bytes = 1 << 20, .cost = { 2e-6, 1 / 12.5e9, 1 / 10e9 } };
	static char program[] = "sennit plan";   /* how getopt names who complains */
	int option, status = 0;

	argv[0] = program;
	optind = 0;   /* the caller has read options of its own */
	while (!status && (option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'h') {
			fputs(help, stdout);
			return fflush(stdout) ? SNTI_EXIT_FAILED : SNTI_EXIT_OK;
		}
		status = read_option(option, &q);
	}
	if (!status && optind + 1 != argc) {
		fprintf(stderr, "sennit plan: give one collective\nTry 'sennit plan --help'.\n");
		status = SNTI_EXIT_USAGE;
	}
	if (!status)
		status = find_collective(argv[optind], &q);
	if (!status)
		status = check_request(&q);
	return status ? status : answer(&q);
}
