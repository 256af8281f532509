/* SPDX-License-Identifier: BSD-3-Clause */
/* select.c - which algorithm: the first override that fits, otherwise a table by size of vector and of team. */
#include "collectives/select.h"
#include "base/log.h"
#include "base/settings.h"
#include "collectives/pieces.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KIB ((uint64_t)1 << 10)
#define ANY UINT64_MAX

/* One override, or one line of the table. Sizes are inclusive: at most @most bytes. */
struct rule {
	enum snt_collective collective;
	uint32_t most_ranks;
	uint64_t least, most;
	const char *name;
	uint32_t slices;        /* 0: as the algorithm does best */
	uint32_t most_nodes;    /* not 0: only with several ranks on each of several nodes, at most so many */
	enum { ANY_WIRE, NETWORK, SHARED } wire;   /* a network: some message has to leave the memory that ranks share */
};

/* The first line that fits and whose algorithm can serve the call. Between nodes hierarchical sends less than what
 * stands behind it, and in no more rounds: than circulant up to 3 nodes, than ring with any number. */
static const struct rule standard[] = {
	{ SNT_ALLREDUCE, 2, 0, 32 * KIB, "oneshot", 0, 0, ANY_WIRE },    /* as many bytes as a ring, half the rounds */
	{ SNT_ALLREDUCE, 2, 0, 1024 * KIB, "oneshot", 0, 0, NETWORK },
	{ SNT_ALLREDUCE, 3, 0, 1 * KIB, "oneshot", 0, 0, ANY_WIRE },
	{ SNT_ALLREDUCE, 4, 0, 4 * KIB, "oneshot", 0, 0, SHARED },
	{ SNT_ALLREDUCE, 8, 0, 1 * KIB, "oneshot", 0, 0, SHARED },    /* a send over a network costs as much as a round */
	{ SNT_ALLREDUCE, UINT32_MAX, 0, 16 * KIB, "doubling", 0, 0, ANY_WIRE },
	{ SNT_ALLREDUCE, 2, 0, ANY, "ring", 0, 0, ANY_WIRE },
	{ SNT_ALLREDUCE, 4, 128 * KIB + 1, ANY, "direct", 0, 0, SHARED },
	{ SNT_ALLREDUCE, 8, 256 * KIB + 1, ANY, "direct", 0, 0, SHARED },
	{ SNT_ALLREDUCE, UINT32_MAX, 0, 256 * KIB, "hierarchical", 0, 3, ANY_WIRE },
	{ SNT_ALLREDUCE, UINT32_MAX, 0, 256 * KIB, "circulant", 0, 0, ANY_WIRE },
	{ SNT_ALLREDUCE, UINT32_MAX, 0, ANY, "hierarchical", 0, UINT32_MAX, ANY_WIRE },
	{ SNT_ALLREDUCE, UINT32_MAX, 0, 4096 * KIB, "circulant", 0, 0, NETWORK },
	{ SNT_ALLREDUCE, UINT32_MAX, 0, ANY, "ring", 0, 0, ANY_WIRE },
	{ SNT_REDUCE_SCATTER, UINT32_MAX, 0, 256 * KIB, "circulant", 0, 0, ANY_WIRE },
	{ SNT_REDUCE_SCATTER, UINT32_MAX, 0, ANY, "ring", 0, 0, ANY_WIRE },
	{ SNT_ALLGATHER, UINT32_MAX, 0, 256 * KIB, "circulant", 0, 0, ANY_WIRE },
	{ SNT_ALLGATHER, UINT32_MAX, 0, ANY, "ring", 0, 0, ANY_WIRE },
	{ SNT_BROADCAST, UINT32_MAX, 0, 64 * KIB, "binomial", 0, 0, ANY_WIRE },
	{ SNT_BROADCAST, UINT32_MAX, 0, ANY, "chain", 0, 0, ANY_WIRE },
	{ SNT_REDUCE, UINT32_MAX, 0, 64 * KIB, "binomial", 0, 0, ANY_WIRE },
	{ SNT_REDUCE, UINT32_MAX, 0, ANY, "ring", 0, 0, ANY_WIRE },
	{ SNT_ALLTOALL, 8, 0, ANY, "pairwise", 0, 0, ANY_WIRE },
	{ SNT_ALLTOALL, UINT32_MAX, 0, 4 * KIB, "bruck", 0, 0, ANY_WIRE },
	{ SNT_ALLTOALL, UINT32_MAX, 0, ANY, "pairwise", 0, 0, ANY_WIRE },
	{ SNT_GATHER, 8, 0, ANY, "linear", 0, 0, ANY_WIRE },
	{ SNT_GATHER, UINT32_MAX, 0, 64 * KIB, "binomial", 0, 0, ANY_WIRE },
	{ SNT_GATHER, UINT32_MAX, 0, ANY, "linear", 0, 0, ANY_WIRE },
	{ SNT_SCATTER, 8, 0, ANY, "linear", 0, 0, ANY_WIRE },
	{ SNT_SCATTER, UINT32_MAX, 0, 64 * KIB, "binomial", 0, 0, ANY_WIRE },
	{ SNT_SCATTER, UINT32_MAX, 0, ANY, "linear", 0, 0, ANY_WIRE },
	{ SNT_BARRIER, UINT32_MAX, 0, ANY, "dissemination", 0, 0, ANY_WIRE },
};

enum { SLICE_BYTES = 128 << 10, RELAYED_BYTES = 512 << 10, STEP_BYTES = 1 << 20, LEAP_BYTES = 4 << 20, NETWORK_WINDOW = 8, MOST_SLICES = 4096 };

/* How an algorithm is pipelined. @parts: into how many equal messages it cuts the vector, 0 for one per rank.
 * @most: bytes of a slice with more than 2 ranks. Where ranks pass on what they get, a link has nothing to do before the
 * first slice is there; where all links are busy in every step, slices only keep them so from one step to the next, and
 * the fewer steps the less that matters. */
static const struct pipeline {
	enum snt_collective collective;
	const char *name;
	uint32_t parts, window, most;
} pipelines[] = {
	{ SNT_ALLREDUCE, "ring", 0, 4, STEP_BYTES },
	{ SNT_ALLREDUCE, "bidirectional", 0, 4, STEP_BYTES },
	{ SNT_ALLREDUCE, "direct", 0, 4, STEP_BYTES },
	{ SNT_ALLREDUCE, "hierarchical", 0, 4, RELAYED_BYTES },
	{ SNT_ALLREDUCE, "tree", 2, 8, RELAYED_BYTES },
	{ SNT_ALLREDUCE, "circulant", 2, 4, LEAP_BYTES },
	{ SNT_REDUCE_SCATTER, "ring", 0, 4, STEP_BYTES },
	{ SNT_REDUCE_SCATTER, "pairwise", 0, 4, STEP_BYTES },
	{ SNT_REDUCE_SCATTER, "circulant", 2, 4, LEAP_BYTES },
	{ SNT_ALLGATHER, "ring", 0, 4, STEP_BYTES },
	{ SNT_BROADCAST, "chain", 1, 8, RELAYED_BYTES },
	{ SNT_BROADCAST, "scatter_allgather", 0, 4, STEP_BYTES },
	{ SNT_REDUCE, "ring", 0, 4, RELAYED_BYTES },
	{ SNT_REDUCE, "binomial", 1, 4, RELAYED_BYTES },
};

static uint64_t wire_slice(const struct snti_question *q)
{
	return q->slice ? q->slice : SLICE_BYTES;
}

static unsigned wire_of(const struct snti_question *q)
{
	return wire_slice(q) > SLICE_BYTES ? NETWORK : SHARED;
}

static uint32_t count_slices(const struct snti_question *q, const struct pipeline *pipeline)
{
	uint64_t message = q->bytes / (pipeline->parts ? pipeline->parts : q->size), slice = wire_slice(q), slices;

	if (q->size > 2 && slice > pipeline->most)
		slice = pipeline->most;
	slices = message / slice + (message % slice != 0);
	return slices > MOST_SLICES ? MOST_SLICES : slices ? (uint32_t)slices : 1;
}

static void default_slices(const struct snti_question *q, struct snti_choice *choice)
{
	uint32_t window;

	choice->slices = choice->window = 1;
	for (size_t i = 0; i < sizeof(pipelines) / sizeof(pipelines[0]); i++) {
		if (pipelines[i].collective != q->collective || strcmp(pipelines[i].name, choice->algorithm->name))
			continue;
		choice->slices = count_slices(q, &pipelines[i]);
		window = wire_of(q) == NETWORK ? NETWORK_WINDOW : pipelines[i].window;
		choice->window = choice->slices < window ? choice->slices : window;
	}
}

static int fits_nodes(const struct rule *rule, const struct snti_question *q)
{
	uint32_t nodes = q->node_size > 1 ? q->size / q->node_size : 0;

	return rule->most_nodes == 0 || (nodes > 1 && nodes <= rule->most_nodes);
}

/* Takes the rule if it fits the question and its algorithm can serve the call. */
static int try_rule(const struct rule *rule, const struct snti_question *q, struct snti_choice *choice)
{
	const struct snti_algorithm *a;

	if (rule->collective != q->collective || q->size > rule->most_ranks ||
	    (rule->wire && rule->wire != wire_of(q)) || q->bytes < rule->least || q->bytes > rule->most || !fits_nodes(rule, q))
		return 0;
	a = snti_algorithm_find(rule->collective, rule->name);
	if (!a || (a->needs_equal_blocks && q->unequal_blocks) ||
	    (a->build == snti_allreduce_oneshot && q->size > SNTI_ONESHOT_MOST) ||
	    (a->build == snti_allreduce_direct && q->size > SNTI_DIRECT_MOST))
		return 0;
	choice->algorithm = a;
	default_slices(q, choice);
	if (rule->slices) {
		choice->slices = rule->slices;
		choice->window = rule->slices < 8 ? rule->slices : 8;
	}
	return 1;
}

struct part { char text[128], *name, *range, *slices; };   /* one override; the pointers are into text */

static int parse_slices(const struct part *part, const char *whole, struct rule *rule)
{
	char *end = NULL;
	unsigned long n;

	if (!part->slices)
		return 0;
	if (strncmp(part->slices, "slices=", 7) || part->slices[7] < '0' || part->slices[7] > '9')
		return snti_fail(SNT_EINVAL, "'/%s' in the choice of algorithms '%s' should be '/slices=' and a number",
				 part->slices, whole);
	n = strtoul(part->slices + 7, &end, 10);
	if (*end || n < 1 || n > MOST_SLICES)
		return snti_fail(SNT_EINVAL, "'/%s' in the choice of algorithms '%s' should be a number from 1 to %d",
				 part->slices, whole, MOST_SLICES);
	rule->slices = (uint32_t)n;
	return 0;
}

/* "4K-1M"; either end may be left out. */
static int parse_range(char *range, const char *whole, struct rule *rule)
{
	char *dash = range ? strchr(range, '-') : NULL;
	int bad;

	if (!range)
		return 0;
	if (dash)
		*dash = 0;
	bad = !dash || (*range && snti_parse_size(range, &rule->least)) || (dash[1] && snti_parse_size(dash + 1, &rule->most));
	if (bad || rule->least > rule->most)
		return snti_fail(SNT_EINVAL, "the sizes of '%s' in the choice of algorithms should be like 4K-1M, 4K- or -1M",
				 whole);
	return 0;
}

/* What could have been written, joined by blanks. */
static void known_names(int collective, char *text, size_t size)
{
	size_t used = 0;

	text[0] = 0;
	for (const struct snti_algorithm *a = snti_algorithms; a->name && used < size; a++) {
		const char *name = collective < 0 ? snt_collective_name(a->collective) : a->name;
		int again = collective < 0 && a > snti_algorithms && a->collective == a[-1].collective;

		if (!again && (collective < 0 || (int)a->collective == collective))
			used += (size_t)snprintf(text + used, size - used, " %s", name);
	}
}

static int find_collective(const char *name, const char *whole, struct rule *rule)
{
	char names[256];

	for (int c = 0; c < SNT_COLLECTIVE_COUNT; c++)
		if (!strcmp(snt_collective_name((enum snt_collective)c), name) && c != SNT_SEND && c != SNT_RECV) {
			rule->collective = (enum snt_collective)c;
			return 0;
		}
	known_names(-1, names, sizeof(names));
	return snti_fail(SNT_EINVAL, "unknown collective '%s' in the choice of algorithms '%s'; there are:%s", name, whole, names);
}

static int find_name(const char *name, const char *whole, struct rule *rule)
{
	const struct snti_algorithm *a = snti_algorithm_find(rule->collective, name);
	char names[256];

	if (a) {
		rule->name = a->name;
		return 0;
	}
	known_names((int)rule->collective, names, sizeof(names));
	return snti_fail(SNT_EINVAL, "unknown algorithm '%s' in the choice of algorithms '%s'; %s has:%s", name, whole,
			 snt_collective_name(rule->collective), names);
}

/* collective[:from-to]:name[/slices=N] */
static int split(struct part *part, const char *whole)
{
	char *colon = strchr(part->text, ':'), *last = strrchr(part->text, ':'), *slash;

	if (!colon)
		return snti_fail(SNT_EINVAL, "'%s' in the choice of algorithms should be collective:algorithm or "
				 "collective:from-to:algorithm", whole);
	*colon = *last = 0;
	part->range = last > colon ? colon + 1 : NULL;
	part->name = last + 1;
	slash = strchr(part->name, '/');
	part->slices = slash ? slash + 1 : NULL;
	if (slash)
		*slash = 0;
	return 0;
}

static int parse_part(const char *text, size_t length, struct rule *rule)
{
	char whole[sizeof(((struct part *)0)->text)];
	struct part part = { .name = NULL };
	int status;

	if (length >= sizeof(whole))
		return snti_fail(SNT_EINVAL, "a part of the choice of algorithms has %zu characters, too many: '%.40s...'",
				 length, text);
	snprintf(whole, sizeof(whole), "%.*s", (int)length, text);
	memcpy(part.text, whole, sizeof(whole));
	*rule = (struct rule){ .most_ranks = UINT32_MAX, .most = ANY };
	status = split(&part, whole);
	if (!status)
		status = find_collective(part.text, whole, rule);
	if (!status)
		status = parse_range(part.range, whole, rule);
	if (!status)
		status = find_name(part.name, whole, rule);
	return status ? status : parse_slices(&part, whole, rule);
}

/* Whole text, also behind what fits: a mistake must not hide until another size is called. */
static int try_overrides(const char *overrides, const struct snti_question *q, struct snti_choice *choice)
{
	int found = 0;

	for (const char *at = overrides; at && *at; ) {
		size_t length = strcspn(at, ",");
		struct rule rule;
		int status = parse_part(at, length, &rule);

		if (status)
			return status;
		found = found || (q && try_rule(&rule, q, choice));
		at += length + (at[length] == ',');
	}
	return found;
}

int snti_select_check(const char *overrides)
{
	return try_overrides(overrides, NULL, NULL);
}

int snti_select(const struct snti_question *question, const char *overrides, struct snti_choice *choice)
{
	int found = try_overrides(overrides, question, choice);

	for (size_t i = 0; !found && i < sizeof(standard) / sizeof(standard[0]); i++)
		found = try_rule(&standard[i], question, choice);
	if (!found)
		return snti_fail(SNT_EINVAL, "there is no algorithm for collective %d of %u ranks", (int)question->collective,
				 question->size);
	return found < 0 ? found : 0;
}
