/* SPDX-License-Identifier: BSD-3-Clause */
/* environment.c - reads the variables of mpirun, mpiexec, torchrun and srun. */
#include "transport/environment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/settings.h"

typedef const char *(*getter)(const char *name);

/* Below the ports that Linux gives to outgoing connections. */
enum { MOST_RANKS = 1 << 20, SLURM_FIRST_PORT = 20000, SLURM_PORTS = 12000 };

const char *snti_place_variable(const char *name)
{
	const struct snti_settings *settings = snti_settings();
	const char *value = getenv(name);

	if (strcmp(name, "SNT_RANK") == 0)
		value = settings->rank;
	else if (strcmp(name, "SNT_SIZE") == 0)
		value = settings->ranks;
	else if (strcmp(name, "SNT_ADDRESS") == 0)
		value = settings->address;
	return value != NULL && value[0] != '\0' ? value : NULL;
}

/* Only digits, and within the bounds. */
static int parse_number(const char *text, long least, long most, long *number)
{
	size_t length = strlen(text);

	if (length == 0 || length > 10 || strspn(text, "0123456789") != length)
		return SNT_EINVAL;
	*number = strtol(text, NULL, 10);
	return *number >= least && *number <= most ? 0 : SNT_EINVAL;
}

static int take_number(getter get, const char *name, long least, long most, long *number)
{
	const char *text = get(name);

	if (text == NULL)
		return snti_fail(SNT_EINVAL, "%s is not set, though its companions are", name);
	if (parse_number(text, least, most, number) != 0)
		return snti_fail(SNT_EINVAL, "%s is \"%.40s\", not a number from %ld to %ld", name, text, least, most);
	return 0;
}

static int take_ranks(getter get, const char *rank_name, const char *ranks_name, struct snti_place *place)
{
	long rank = 0, ranks = 1;
	int status = take_number(get, ranks_name, 1, MOST_RANKS, &ranks);

	if (status == 0)
		status = take_number(get, rank_name, 0, ranks - 1, &rank);
	place->rank = (int)rank;
	place->ranks = (int)ranks;
	return status;
}

/* Not said, or said in vain, is no failure: nothing depends on it. */
static void take_local_rank(getter get, const char *name, struct snti_place *place)
{
	const char *text = get(name);
	long number;

	if (text != NULL && parse_number(text, 0, MOST_RANKS, &number) == 0)
		place->local_rank = (int)number;
}

static int take_host(const char *name, const char *text, size_t length, struct snti_place *place)
{
	if (length == 0 || length >= sizeof(place->host))
		return snti_fail(SNT_EINVAL, "%s holds no host name that makes sense", name);
	memcpy(place->host, text, length);
	place->host[length] = '\0';
	return 0;
}

/* "host:port", "1.2.3.4:5" or "[::1]:5" */
static int parse_address(const char *text, struct snti_place *place)
{
	const char *colon = strrchr(text, ':');
	int brackets = text[0] == '[';
	long port;

	if (colon == NULL || parse_number(colon + 1, 1, 65535, &port) != 0 ||
	    (brackets ? colon - text < 3 || colon[-1] != ']' : strchr(text, ':') != colon))
		return snti_fail(SNT_EINVAL, "SNT_ADDRESS is \"%.80s\", not host:port", text);
	place->port = (uint16_t)port;
	return take_host("SNT_ADDRESS", text + brackets, (size_t)(colon - text) - (size_t)(2 * brackets), place);
}

static int parse_sennit(getter get, struct snti_place *place)
{
	int status = take_ranks(get, "SNT_RANK", "SNT_SIZE", place);
	const char *address = get("SNT_ADDRESS");

	place->kind = SNTI_PLACE_ADDRESS;
	place->source = "SNT_ADDRESS";
	if (status != 0 || (place->ranks == 1 && address == NULL))
		return status;
	if (address == NULL)
		return snti_fail(SNT_EINVAL, "SNT_RANK and SNT_SIZE are set, but SNT_ADDRESS (host:port of rank 0) is not");
	return parse_address(address, place);
}

static int parse_pmix(getter get, struct snti_place *place)
{
	long rank;
	int status = take_number(get, "PMIX_RANK", 0, MOST_RANKS, &rank);

	place->kind = SNTI_PLACE_PMIX;
	place->source = "PMIx";
	place->rank = (int)rank;
	place->ranks = 0;
	take_local_rank(get, "OMPI_COMM_WORLD_LOCAL_RANK", place);
	return status;
}

static int parse_pmi1(getter get, struct snti_place *place)
{
	place->kind = SNTI_PLACE_PMI1;
	place->source = "PMI";
	take_local_rank(get, "MPI_LOCALRANKID", place);
	return take_ranks(get, "PMI_RANK", "PMI_SIZE", place);
}

static int parse_torchrun(getter get, struct snti_place *place)
{
	const char *host = get("MASTER_ADDR");
	/* The agent of torchrun itself listens at MASTER_PORT. */
	int is_agents = get("TORCHELASTIC_RUN_ID") != NULL;
	long port = 0;
	int status = take_ranks(get, "RANK", "WORLD_SIZE", place);

	place->kind = SNTI_PLACE_ADDRESS;
	place->source = "torchrun";
	take_local_rank(get, "LOCAL_RANK", place);
	if (status == 0)
		status = take_number(get, "MASTER_PORT", 1, 65535 - is_agents, &port);
	if (status != 0)
		return status;
	place->port = (uint16_t)(port + is_agents);
	return take_host("MASTER_ADDR", host, strlen(host), place);
}

int snti_first_host(const char *nodelist, char *host, size_t room)
{
	size_t used = 0;

	for (const char *at = nodelist; *at != '\0' && *at != ','; at++) {
		if (*at == '[') {
			size_t length = strcspn(at + 1, "-,]");

			if (length == 0 || used + length >= room || strchr(at, ']') == NULL)
				return SNT_EINVAL;
			memcpy(host + used, at + 1, length);
			used += length;
			at = strchr(at, ']');
			continue;
		}
		if (*at == ']' || used + 1 >= room)
			return SNT_EINVAL;
		host[used++] = *at;
	}
	host[used] = '\0';
	return used > 0 ? 0 : SNT_EINVAL;
}

static int find_slurm_host(getter get, struct snti_place *place)
{
	const char *nodes = get("SLURM_STEP_NODELIST") != NULL ? get("SLURM_STEP_NODELIST") : get("SLURM_JOB_NODELIST");
	const char *node = get("SLURM_NODEID");

	if (nodes == NULL || snti_first_host(nodes, place->host, sizeof(place->host)) != 0)
		return snti_fail(SNT_EINVAL, "SLURM_STEP_NODELIST names no first host");
	/* With srun -m arbitrary; the others cannot know where else. */
	if (place->rank == 0 && node != NULL && strcmp(node, "0") != 0)
		return snti_fail(SNT_EINVAL, "srun put rank 0 on another host than the first one, %.80s: start with srun --mpi=pmi2 or "
				 "--mpi=pmix, or set SNT_RANK, SNT_SIZE and SNT_ADDRESS", place->host);
	/* The name of the only node need not resolve, and nobody else has to reach rank 0. */
	if (strcmp(nodes, place->host) == 0)
		snprintf(place->host, sizeof(place->host), "127.0.0.1");
	return 0;
}

/* Jobs that share a first choice part at the second: the step between choices differs from job to job. */
static uint16_t slurm_port(long job, long step, int choice)
{
	return (uint16_t)(SLURM_FIRST_PORT + (job * 7 + step + choice * (1 + job % 1009)) % SLURM_PORTS);
}

static int parse_slurm(getter get, struct snti_place *place)
{
	const char *tasks = get("SLURM_STEP_NUM_TASKS") != NULL ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS";
	const char *step_name = get("SLURM_STEP_ID") != NULL ? "SLURM_STEP_ID" : "SLURM_STEPID";
	long job = 0, step = 0;
	int status = take_ranks(get, "SLURM_PROCID", tasks, place);

	place->kind = SNTI_PLACE_ADDRESS;
	place->source = "srun";
	take_local_rank(get, "SLURM_LOCALID", place);
	if (status == 0)
		status = take_number(get, "SLURM_JOB_ID", 0, 4294967295L, &job);
	if (status == 0)
		status = take_number(get, step_name, 0, 4294967295L, &step);
	if (status != 0)
		return status;
	/* Another job of this host may have the same number, and the same secret: then the next one is taken, and who comes
	 * to the wrong job cannot prove anything. */
	place->port = slurm_port(job, step, 0);
	for (int i = 0; i < SNTI_OTHER_PORTS; i++)
		place->others[i] = slurm_port(job, step, i + 1);
	snprintf(place->job, sizeof(place->job), "srun %ld.%ld", job, step);
	return find_slurm_host(get, place);
}

int snti_place_parse(getter get, struct snti_place *place)
{
	int is_torch = get("RANK") != NULL && get("WORLD_SIZE") != NULL && get("MASTER_ADDR") != NULL;

	*place = (struct snti_place){ .ranks = 1, .local_rank = -1, .source = "the environment" };
	if (get("SNT_RANK") != NULL || get("SNT_SIZE") != NULL)
		return parse_sennit(get, place);
	/* torchrun's workers inherit the variables of the srun or mpirun that started its agents. */
	if (is_torch && get("TORCHELASTIC_RUN_ID") != NULL)
		return parse_torchrun(get, place);
	if (get("PMIX_RANK") != NULL && get("PMIX_NAMESPACE") != NULL)
		return parse_pmix(get, place);
	if (get("PMI_FD") != NULL && get("PMI_RANK") != NULL)
		return parse_pmi1(get, place);
	if (is_torch)
		return parse_torchrun(get, place);
	/* A batch script without srun has SLURM_PROCID too, but it is one process and no step. */
	if (get("SLURM_PROCID") != NULL && (get("SLURM_STEP_ID") != NULL || get("SLURM_STEPID") != NULL))
		return parse_slurm(get, place);
	return 0;
}

int snti_place_find(getter get, struct snti_place *place)
{
	int status = snti_place_parse(get, place);

	if (status == 0 && place->kind == SNTI_PLACE_PMIX)
		status = snti_pmix_ranks(&place->ranks);
	if (status == 0 && place->rank >= place->ranks)
		status = snti_fail(SNT_EINVAL, "%s says rank %d of %d", place->source, place->rank, place->ranks);
	return status;
}
