/* SPDX-License-Identifier: BSD-3-Clause */
/* scenarios_tuner.c - what a tuner makes of the cost tables that NCCL hands it. */
#include "tests/nccl_host/host.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "plugins/nccl/nccl_tuner.h"
#include "tests/nccl_host/profiler.h"

#define TABLE(of, n) ((const struct nccl_tuner_v##n *)(of)->net.table)
#define V(n) TABLE(tuner->rank, n)

struct tuner { struct host_rank *rank; void *context; };
struct table { float costs[NCCL_ALGORITHMS][NCCL_PROTOCOLS]; int channels; };

/* ---- calls --------------------------------------------------------------------------- */

static int begin(struct tuner *tuner, struct host_rank *rank, size_t ranks, size_t nodes)
{
	struct nccl_nvlink_domains domains = { 1, (int)ranks, (int)ranks };
	struct nccl_tuner_constants constants, before;
	int result;

	*tuner = (struct tuner){ .rank = rank, .context = HOST_STALE };
	if (rank->version == 4)
		return V(4)->init(ranks, nodes, host_log, &tuner->context);
	memset(&constants, 0x11, sizeof constants);
	before = constants;
	result = V(5)->init(&tuner->context, 0x1234, ranks, nodes, host_log, &domains, &constants);
	if (memcmp(&constants, &before, sizeof constants))
		host_fail(rank, "init changes NCCL's constants");
	return result;
}

static void end(struct tuner *tuner)
{
	host_must(tuner->rank, V(4)->destroy(tuner->context), "finalize");
}

/* Costs by place, some of which are impossible. */
static struct table make_table(void)
{
	struct table table = { .channels = 0 };

	for (int a = 0; a < NCCL_ALGORITHMS; a++)
		for (int p = 0; p < NCCL_PROTOCOLS; p++)
			table.costs[a][p] = a == NCCL_NVLS || (a == NCCL_PAT && p != NCCL_SIMPLE) ? NCCL_IMPOSSIBLE
											   : (float)(10 + a * 3 + p);
	return table;
}

/* @algorithm -1: the table is as it was. */
static void expect(const struct tuner *tuner, int function, size_t bytes, int algorithm, int protocol, int channels)
{
	struct table table = make_table(), want = table;

	host_must(tuner->rank, V(4)->choose(tuner->context, function, bytes, 1, (float **)(void *)table.costs, NCCL_ALGORITHMS,
					    NCCL_PROTOCOLS, 0, &table.channels), "getCollInfo");
	if (algorithm >= 0)
		want.costs[algorithm][protocol] = 0;
	want.channels = channels;
	if (memcmp(&table, &want, sizeof table))
		host_fail(tuner->rank, "%zu bytes of collective %d: not the table that was to be expected", bytes, function);
}

static void write_rules(struct host_rank *rank, char *path, size_t room, const char *rules)
{
	FILE *to;

	host_file_name(rank, path, room, "rules");
	to = fopen(path, "we");
	if (!to || fputs(rules, to) < 0 || fclose(to))
		host_fail(rank, "%s cannot be written", path);
	setenv("SNT_NCCL_TUNING", path, 1);
}

/* ---- scenarios ----------------------------------------------------------------------- */

static void tuner_untouched(struct host_rank *rank)
{
	struct tuner tuner;

	unsetenv("SNT_NCCL_TUNING");
	for (int i = 0; i < 3; i++) {
		host_must(rank, begin(&tuner, rank, 16, 2), "init");
		for (int function = 0; function < 15; function++)
			for (size_t bytes = 0; bytes < (size_t)1 << 40; bytes = bytes * 4 + 1)
				expect(&tuner, function, bytes, -1, -1, 0);
		if (rank->version >= 6 && TABLE(rank, 6)->chunk)
			host_fail(rank, "it changes chunks");
		end(&tuner);
	}
	if (host_warnings())
		host_fail(rank, "a warning where nothing was wrong");
}

static const char some_rules[] =
	"# collective,min,max,algorithm,protocol,channels,nodes,ranks,ops,registered\n"
	"\n"
	"allreduce, 0, 4K, tree, ll, -1, -1, -1\r\n"
	"allreduce,4097,-1,ring,simple,16,2,16,-1,0   # two nodes\n"
	"allreduce,4097,-1,tree,simple,8,4,-1\n"
	"broadcast,0,-1,nvls,simple,4,-1,-1,-1,-1\n"
	"reducescatter,100,200,pat,simple,2,-1,-1";

static void ask_two_nodes(const struct tuner *two)
{
	expect(two, NCCL_ALLREDUCE, 0, NCCL_TREE, NCCL_LL, 0);
	expect(two, NCCL_ALLREDUCE, 4096, NCCL_TREE, NCCL_LL, 0);
	expect(two, NCCL_ALLREDUCE, 4097, NCCL_RING, NCCL_SIMPLE, 16);
	expect(two, NCCL_ALLREDUCE, (size_t)1 << 40, NCCL_RING, NCCL_SIMPLE, 16);
	expect(two, NCCL_ALLGATHER, 4096, -1, -1, 0);
	expect(two, NCCL_REDUCE_SCATTER, 99, -1, -1, 0);
	expect(two, NCCL_REDUCE_SCATTER, 100, NCCL_PAT, NCCL_SIMPLE, 2);
	expect(two, NCCL_REDUCE_SCATTER, 201, -1, -1, 0);
}

static void *ask_often(void *tuner)
{
	for (int i = 0; i < 1000; i++)
		ask_two_nodes(tuner);
	return NULL;
}

static void tuner_rules(struct host_rank *rank)
{
	struct tuner two, four;
	pthread_t thread;
	char path[512];

	write_rules(rank, path, sizeof path, some_rules);
	host_must(rank, begin(&two, rank, 16, 2), "init");
	/* Another communicator, on another thread, and a file that is gone: the rules are those of the start. */
	unlink(path);
	host_must(rank, begin(&four, rank, 64, 4), "init");
	if (pthread_create(&thread, NULL, ask_often, &two))
		host_fail(rank, "no thread");
	for (int i = 0; i < 1000; i++) {
		expect(&four, NCCL_ALLREDUCE, 4096, NCCL_TREE, NCCL_LL, 0);
		expect(&four, NCCL_ALLREDUCE, 1 << 20, NCCL_TREE, NCCL_SIMPLE, 8);
	}
	pthread_join(thread, NULL);
	if (host_warnings())
		host_fail(rank, "a warning where nothing was wrong");
	end(&two);
	end(&four);
}

static void tuner_impossible(struct host_rank *rank)
{
	struct table table = make_table(), want = table;
	struct tuner two;
	char path[512];

	write_rules(rank, path, sizeof path, some_rules);
	host_must(rank, begin(&two, rank, 16, 2), "init");
	for (int i = 0; i < 5; i++)
		expect(&two, NCCL_BROADCAST, 1 << 20, -1, -1, 0);
	if (host_warnings() != 1 || !strstr(host_last_warning(), "line 6"))
		host_fail(rank, "%d warnings instead of one of line 6", host_warnings());
	/* An NCCL that has no PAT yet: its table is shorter. */
	host_must(rank, TABLE(rank, 4)->choose(two.context, NCCL_REDUCE_SCATTER, 150, 1, (float **)(void *)table.costs, NCCL_PAT,
				     NCCL_PROTOCOLS, 0, &table.channels), "getCollInfo");
	if (memcmp(&table, &want, sizeof table) || host_warnings() != 2)
		host_fail(rank, "an algorithm that is too new is not refused");
	end(&two);
	unlink(path);
}

/* In a process of its own, as the rules are read once. */
static void begin_badly(struct host_rank *rank, const char *rules, const char *complaint)
{
	struct tuner tuner;
	char path[512];
	int status = 0;
	pid_t pid = fork();

	if (pid) {
		if (pid < 0 || waitpid(pid, &status, 0) < 0 || status)
			host_fail(rank, "rules that make no sense: %s", rules ? rules : "no file");
		return;
	}
	if (rules)
		write_rules(rank, path, sizeof path, rules);
	else
		setenv("SNT_NCCL_TUNING", "/nowhere/at/all", 1);
	for (int i = 0; i < 2; i++)
		if (begin(&tuner, rank, 16, 2) != NCCL_INVALID_USAGE || tuner.context)
			host_fail(rank, "init succeeds");
	if (rules)
		unlink(path);
	if (!strstr(host_last_warning(), complaint) || (rules && !strstr(host_last_warning(), path)))
		host_fail(rank, "the warning does not say '%s' and where", complaint);
	_exit(0);
}

static void tuner_broken(struct host_rank *rank)
{
	begin_badly(rank, NULL, "/nowhere/at/all");
	begin_badly(rank, "\n\nallreduce,0,1,ring,ll,1,1\n", "line 3: 7 fields");
	begin_badly(rank, "sendrecv,0,1,ring,ll,1,1,1\n", "line 1: collective 'sendrecv', expected broadcast, reduce, allgather");
	begin_badly(rank, "allreduce,0,1,rings,ll,1,1,1\n", "line 1: algorithm 'rings', expected tree, ring");
	begin_badly(rank, "allreduce,0,1,ring,,1,1,1\n", "line 1: protocol ''");
	begin_badly(rank, "allreduce,5,4,ring,ll,1,1,1\n", "line 1: max '4', expected at least min");
	begin_badly(rank, "allreduce,0,-2,ring,ll,1,1,1\n", "line 1: max '-2'");
	begin_badly(rank, "allreduce,0,1,ring,ll,0,1,1\n", "line 1: channels '0', expected 1 to 64");
	begin_badly(rank, "allreduce,0,1,ring,ll,1,1,1,1,1,1\n", "line 1: too many fields");
}

const struct host_scenario host_tuner_scenarios[] = {
	{ "untouched", "nobody asked: tables, channels and constants stay", tuner_untouched, 0 },
	{ "rules", "rules by collective, size and nodes; two communicators, two threads", tuner_rules, 0 },
	{ "impossible", "a rule for what cannot be: one warning, the table stays", tuner_impossible, 0 },
	{ "mistakes", "rules with mistakes: an error that names file and line", tuner_broken, 0 },
};
const int host_tuner_scenario_count = sizeof host_tuner_scenarios / sizeof *host_tuner_scenarios;
