/* SPDX-License-Identifier: BSD-3-Clause */
/* sennit.c - the command: a table of subcommands. */
#include "tools/command.h"

#include "include/sennit.h"

#include <getopt.h>
#include <stdio.h>
#include <string.h>

#if defined(__has_include) && __has_include("revision.h")
#include "revision.h"
#endif
#ifndef SNT_REVISION
#define SNT_REVISION "unknown"
#endif

enum { MOST_SWITCHES = 8 };

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *about;
} commands[] = {
	{ "perf", snti_command_perf, "measure collectives between ranks, and check every result" },
	{ "plan", snti_command_plan, "show, prove and time the plan of an algorithm" },
	{ "nccl-check", snti_command_nccl_check, "drive a network plugin for NCCL through what NCCL does" },
	{ "info", snti_command_info, "show what this build and this machine have, and all settings" },
	{ "doctor", snti_command_doctor, "check this machine, and say how to fix what is wrong" },
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static int help(FILE *to)
{
	fputs("usage: sennit COMMAND [argument ...]\n"
	      "       sennit help COMMAND\n\n"
	      "Collectives between the processes of a job.\n\n", to);
	for (int i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].about);
	fputs("\n  --help     show this\n"
	      "  --version  show the version\n\n"
	      "More in sennit(1) and sennit(7).\n", to);
	return to == stdout ? SNTI_EXIT_OK : SNTI_EXIT_USAGE;
}

static const struct command *find(const char *name)
{
	for (int i = 0; i < COMMANDS; i++)
		if (!strcmp(name, commands[i].name))
			return &commands[i];
	return NULL;
}

static int unknown(const char *name)
{
	fprintf(stderr, "sennit: '%s' is no command; 'sennit --help' lists them\n", name);
	return SNTI_EXIT_USAGE;
}

static int help_about(const char *name)
{
	const struct command *command = find(name);
	char *arguments[] = { (char *)name, "--help", NULL };

	return command ? command->run(2, arguments) : unknown(name);
}

static int show_switches(const char *name, const struct snti_switch *table, size_t count, const char *about)
{
	printf("usage: sennit %s [option ...]\n\n%s\n\n", name, about);
	for (size_t i = 0; i < count; i++)
		printf("  --%-12s %s\n", table[i].name, table[i].help);
	printf("  --%-12s %s\n", "help", "show this");
	return SNTI_EXIT_OK;
}

int snti_read_switches(int argc, char **argv, const struct snti_switch *table, size_t count, const char *about)
{
	struct option known[MOST_SWITCHES + 2] = { { "help", no_argument, NULL, 'h' } };
	int which;

	for (size_t i = 0; i < count && i < MOST_SWITCHES; i++) {
		known[i + 1].name = table[i].name;
		known[i + 1].flag = table[i].set;
		known[i + 1].val = 1;
	}
	opterr = 0;
	optind = 1;
	while ((which = getopt_long(argc, argv, "", known, NULL)) != -1) {
		if (which == 'h')
			return show_switches(argv[0], table, count, about);
		if (which) {
			fprintf(stderr, "sennit %s: no such option: %s\n", argv[0], argv[optind - 1]);
			return SNTI_EXIT_USAGE;
		}
	}
	if (optind == argc)
		return -1;
	fprintf(stderr, "sennit %s: takes no arguments, not '%s'\n", argv[0], argv[optind]);
	return SNTI_EXIT_USAGE;
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : "";
	const struct command *command = find(name);

	if (command)
		return command->run(argc - 1, argv + 1);
	if (!strcmp(name, "--help") || (!strcmp(name, "help") && argc == 2))
		return help(stdout);
	if (!strcmp(name, "help"))
		return help_about(argv[2]);
	if (!strcmp(name, "--version")) {
		printf("sennit %s (%s)\n", snt_version(), SNT_REVISION);
		return SNTI_EXIT_OK;
	}
	return *name ? unknown(name) : help(stderr);
}
