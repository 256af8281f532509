/* SPDX-License-Identifier: BSD-3-Clause */
/* check.c - 'sennit nccl-check': runs the scenarios on a plugin, one process pair each, and prints a table. */
#include "tests/nccl_host/host.h"

#include "tools/command.h"

#include <dlfcn.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_COMPLAINTS = 64, COMPLAINT = 700 };

static const struct option_row { const char *name, *argument, *help; } rows[] = {
	{ "plugin", "FILE", "the plugin: a path, a file name, or what stands between libnccl-net- and .so" },
	{ "kind", "WHAT", "what to drive: net, profiler or tuner [net]" },
	{ "version", "N", "only this version of the interface: of a network 6 to 12, else 4 to 6 [all that it has]" },
	{ "scenario", "NAME", "only this scenario [all but the slow ones]" },
	{ "device", "N[,M]", "the device to use, and another one for rank 1 [0]" },
	{ "merge", NULL, "all devices that there are, merged into one, up to 4, instead of one of them" },
	{ "netns", "PATH,PATH", "a network namespace for each of the two processes" },
	{ "traffic-class", "N", "the communicator's traffic class, 0 to 255 [none]" },
	{ "threads", NULL, "both ranks in one process, without the scenarios that need two" },
	{ "second", "NAME=VALUE", "an environment variable of rank 1 alone" },
	{ "seed", "N", "where the random shapes begin [1]" },
	{ "schedules", "N", "how many random schedules, for each version [100]" },
	{ "messages", "N", "how many messages 'soak' sends each way [100000]" },
	{ "measure", NULL, "measure bandwidth and latency instead, beside other ways" },
	{ "beside", "LIST", "with --measure, what is measured in turns with it: tcp, sockets, plugins, or none [tcp,sockets]" },
	{ "rounds", "N", "with --measure, how many rounds, 1 to 99 [5]" },
	{ "depth", "N", "with --measure, how many messages are in flight on each comm, 1 to 64 [8]" },
	{ "channels", "N", "with --measure, how many comms in each direction, 1 to 16 [1]" },
	{ "size", "BYTES", "with --measure, only messages of this size, one of those it has [all]" },
	{ "list", NULL, "list the scenarios" },
	{ "help", NULL, "show this" },
};
enum { ROWS = sizeof rows / sizeof *rows };

static int help(void)
{
	printf("usage: sennit nccl-check --plugin FILE [option ...]\n\n"
	       "Drives a plugin for NCCL as NCCL does, without NCCL and without a GPU.\n\n");
	for (int i = 0; i < ROWS; i++) {
		char name[40];

		snprintf(name, sizeof name, "--%s%s%s", rows[i].name, rows[i].argument ? " " : "",
			 rows[i].argument ? rows[i].argument : "");
		printf("  %-18s %s\n", name, rows[i].help);
	}
	return SNTI_EXIT_OK;
}

const struct host_kind host_kinds[] = {
	{ "net", "ncclNetPlugin", HOST_OLDEST, HOST_NEWEST, host_scenarios, &host_scenario_count },
	{ "profiler", "ncclProfiler", 4, 6, host_profiler_scenarios, &host_profiler_scenario_count },
	{ "tuner", "ncclTunerPlugin", 4, 6, host_tuner_scenarios, &host_tuner_scenario_count },
	{ NULL, NULL, 0, 0, NULL, NULL },
};

static int list(const struct host_kind *kind)
{
	for (int i = 0; i < *kind->scenario_count; i++)
		printf("%-10s %s\n", kind->scenarios[i].name, kind->scenarios[i].about);
	return SNTI_EXIT_OK;
}

static int usage(const char *what, const char *which)
{
	fprintf(stderr, "sennit nccl-check: %s%s; 'sennit nccl-check --help' lists what there is\n", what, which);
	return SNTI_EXIT_USAGE;
}

static int take_number(const char *name, const char *text, uint64_t least, uint64_t most, uint64_t *number)
{
	char *end;

	*number = strtoull(text, &end, 10);
	if (end != text && !*end && *text != '-' && *number >= least && *number <= most)
		return 0;
	fprintf(stderr, "sennit nccl-check: --%s: '%s' is not between %llu and %llu\n", name, text,
		(unsigned long long)least, (unsigned long long)most);
	return SNTI_EXIT_USAGE;
}

static int take_devices(const char *text, int devices[2])
{
	char more;
	int count = sscanf(text, "%d,%d%c", &devices[0], &devices[1], &more);

	if (count == 1 && !strchr(text, ','))
		devices[1] = devices[0];
	else if (count != 2)
		devices[0] = -1;
	if (devices[0] >= 0 && devices[1] >= 0)
		return 0;
	fprintf(stderr, "sennit nccl-check: --device: '%s' is not N or N,M\n", text);
	return SNTI_EXIT_USAGE;
}

static int take_kind(struct host_options *options, const char *text)
{
	for (options->kind = host_kinds; options->kind->name; options->kind++)
		if (!strcmp(options->kind->name, text))
			return 0;
	return usage("no such kind: ", text);
}

static int take(struct host_options *options, const char *name, const char *text)
{
	uint64_t number = 0;
	int status = 0;

	if (!strcmp(name, "plugin"))
		options->plugin = text;
	else if (!strcmp(name, "scenario"))
		options->scenario = text;
	else if (!strcmp(name, "netns"))
		options->namespaces = text;
	else if (!strcmp(name, "second"))
		options->second = text;
	else if (!strcmp(name, "beside"))
		options->beside = text;
	else if (!strcmp(name, "threads"))
		options->threads = 1;
	else if (!strcmp(name, "seed"))
		status = take_number(name, text, 0, UINT64_MAX / 2, &options->seed);
	else if (!strcmp(name, "schedules"))
		status = take_number(name, text, 1, 100000000, &options->schedules);
	else if (!strcmp(name, "size"))
		status = take_number(name, text, 8, 1 << 20, &options->size);
	else if (!strcmp(name, "messages"))
		status = take_number(name, text, 10, 1000000000, &options->messages);
	else if (!strcmp(name, "merge"))
		options->merge = 1;
	else if (!strcmp(name, "measure"))
		options->measure = 1;
	else if (!strcmp(name, "list"))
		options->list = 1;
	else if (!strcmp(name, "help"))
		options->help = 1;
	if (!strcmp(name, "kind")) {
		status = take_kind(options, text);
	} else if (!strcmp(name, "version")) {
		status = take_number(name, text, 4, HOST_NEWEST, &number);
		options->version = (int)number;
	} else if (!strcmp(name, "depth")) {
		status = take_number(name, text, 1, 64, &number);
		options->depth = (int)number;
	} else if (!strcmp(name, "rounds")) {
		status = take_number(name, text, 1, 99, &number);
		options->rounds = (int)number;
	} else if (!strcmp(name, "traffic-class")) {
		status = take_number(name, text, 0, 255, &number);
		options->traffic_class = (int)number;
	} else if (!strcmp(name, "channels")) {
		status = take_number(name, text, 1, 16, &number);
		options->channels = (int)number;
	} else if (!strcmp(name, "device")) {
		status = take_devices(text, options->devices);
	}
	return status;
}

/* -1: go on, else how it ends. */
static int read_options(int argc, char **argv, struct host_options *options)
{
	struct option known[ROWS + 1] = { { NULL, 0, NULL, 0 } };
	int which, status;

	for (int i = 0; i < ROWS; i++)
		known[i] = (struct option){ rows[i].name, rows[i].argument ? required_argument : no_argument, NULL, i + 1 };
	opterr = 0;
	optind = 1;
	while ((which = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (which < 1 || which > ROWS)
			return usage("no such option, or its value is missing: ", argv[optind - 1]);
		status = take(options, rows[which - 1].name, optarg);
		if (status)
			return status;
	}
	if (options->help)
		return help();
	if (options->list)
		return list(options->kind);
	if (options->version && (options->version < options->kind->oldest || options->version > options->kind->newest))
		return usage("no such version of this kind: ", options->kind->name);
	if (optind < argc)
		return usage("takes no arguments, not ", argv[optind]);
	return options->plugin ? -1 : usage("--plugin is missing", "");
}

static int is_known(const struct host_kind *kind, const char *scenario)
{
	for (int i = 0; scenario && i < *kind->scenario_count; i++)
		if (!strcmp(scenario, kind->scenarios[i].name))
			return 1;
	return !scenario;
}

static int find_versions(const struct host_options *options, int versions[])
{
	char why[COMPLAINT];
	void *library;
	int count = 0;

	if (host_load(options->plugin, &library, why, sizeof why)) {
		fprintf(stderr, "sennit nccl-check: %s\n", why);
		return 0;
	}
	for (int version = options->kind->oldest; version <= options->kind->newest; version++)
		if (host_find(library, options->kind, version) && (!options->version || options->version == version))
			versions[count++] = version;
	if (!count)
		fprintf(stderr, "sennit nccl-check: %s: no version of the interface that was asked for\n", options->plugin);
	dlclose(library);
	return count;
}

struct complaints { char text[MOST_COMPLAINTS][COMPLAINT]; int count; };

static void complain(struct complaints *all, const char *scenario, int version, const char *why)
{
	if (all->count < MOST_COMPLAINTS)
		snprintf(all->text[all->count], COMPLAINT, "%s v%d: %s", scenario, version, why);
	all->count++;
}

static void run_row(const struct host_options *options, const struct host_scenario *scenario, const int *versions,
		    int count, struct complaints *all)
{
	char why[COMPLAINT - 40];

	printf("%-10s", scenario->name);
	for (int i = 0; i < count; i++) {
		int failed = host_run_pair(options, versions[i], scenario->body, why, sizeof why);

		printf(" %6s", failed ? "FAILED" : "ok");
		fflush(stdout);
		if (failed)
			complain(all, scenario->name, versions[i], why);
	}
	printf("  %s\n", scenario->about);
}

static int run_table(const struct host_options *options, const int *versions, int count)
{
	static struct complaints all;
	int ran = 0;

	printf("%-10s", "scenario");
	for (int i = 0; i < count; i++)
		printf(versions[i] < 10 ? "     v%d" : "    v%d", versions[i]);
	printf("\n");
	for (int i = 0; i < *options->kind->scenario_count; i++) {
		const struct host_scenario *scenario = &options->kind->scenarios[i];

		if (options->scenario ? strcmp(options->scenario, scenario->name) : scenario->slow)
			continue;
		if (options->threads && scenario->apart)
			continue;
		run_row(options, scenario, versions, count, &all);
		ran += count;
	}
	for (int i = 0; i < all.count && i < MOST_COMPLAINTS; i++)
		printf("%s", all.text[i]);
	printf("%d of %d passed, seed %llu\n", ran - all.count, ran, (unsigned long long)options->seed);
	return all.count ? SNTI_EXIT_FAILED : SNTI_EXIT_OK;
}

static int run_measure(const struct host_options *options, int version)
{
	static char text[8192];
	int failed = host_run_pair(options, version, host_measure, text, sizeof text);

	fputs(text, failed ? stderr : stdout);
	return failed ? SNTI_EXIT_FAILED : SNTI_EXIT_OK;
}

int snti_command_nccl_check(int argc, char **argv)
{
	struct host_options options = { .kind = host_kinds, .seed = 1, .schedules = 100, .messages = 100000, .depth = 8, .channels = 1, .rounds = 5,
		.beside = "tcp,sockets", .traffic_class = -1 };
	int versions[HOST_NEWEST - HOST_OLDEST + 1], count, status = read_options(argc, argv, &options);

	if (status >= 0)
		return status;
	if (options.measure && options.kind != host_kinds)
		return usage("only a network can be measured", "");
	if (!is_known(options.kind, options.scenario))
		return usage("no such scenario: ", options.scenario);
	count = find_versions(&options, versions);
	if (!count)
		return SNTI_EXIT_FAILED;
	status = options.measure ? run_measure(&options, versions[count - 1]) : run_table(&options, versions, count);
	return fflush(stdout) ? SNTI_EXIT_FAILED : status;
}
