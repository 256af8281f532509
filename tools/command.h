/* SPDX-License-Identifier: BSD-3-Clause */
/* command.h - the subcommands of sennit, and how they read their options. */
#ifndef TOOLS_COMMAND_H
#define TOOLS_COMMAND_H

#include <stddef.h>

/* How the command ends. */
enum snti_exit { SNTI_EXIT_OK, SNTI_EXIT_FAILED, SNTI_EXIT_USAGE };

/* Each gets its own name as argv[0] and returns an enum snti_exit. */
int snti_command_doctor(int argc, char **argv);
int snti_command_info(int argc, char **argv);
int snti_command_nccl_check(int argc, char **argv);
int snti_command_perf(int argc, char **argv);
int snti_command_plan(int argc, char **argv);

/* A subcommand that knows only switches: one table for getopt and for --help. */
struct snti_switch { const char *name, *help; int *set; };

/* Reads the switches, sets those that are given to 1; --help is known always. -1: go on, else
 * the exit code: help was shown, or something is not known (said on standard error). */
int snti_read_switches(int argc, char **argv, const struct snti_switch *table, size_t count, const char *about);

/* What the system says about RDMA devices. */
struct snti_rdma {
	int library;             /* libibverbs.so.1 can be loaded */
	int devices, active;     /* devices; ports that are up */
	int nodes, closed;       /* device nodes; those that this process may not open */
	char first[160];         /* an active port, in words */
};
void snti_rdma_look(struct snti_rdma *rdma);

#endif
