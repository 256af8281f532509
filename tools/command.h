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

enum { SNTI_RDMA_PORTS = 32 };

struct snti_rdma_port {
	char device[64], interface[32];  /* the interface that RoCE runs on; "" else */
	char state[32], physical[32], rate[64];
	int number, is_active, is_ethernet;
	int gids, routable, ipv4;        /* in its table; of them RoCE v2; of them with an IPv4 address */
	int pkeys, full;                 /* P_Keys; those of full members */
	long mtu;                        /* of the interface */
};

/* What the system says about RDMA devices. */
struct snti_rdma {
	int library;             /* libibverbs.so.1 can be loaded */
	int devices, active;     /* devices; ports that are up */
	int nodes, closed;       /* device nodes; those that this process may not open */
	int count;               /* of ports, no more than there is room for */
	struct snti_rdma_port ports[SNTI_RDMA_PORTS];
	char first[160];         /* an active port, in words */
};
/* Of the machine whose files are below @root, "" for this one. */
void snti_rdma_look(struct snti_rdma *rdma, const char *root);
/* The first line of a file below @root without its end; "" when there is none. */
void snti_read_line(char *text, size_t size, const char *root, const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
