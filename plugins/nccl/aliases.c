/* SPDX-License-Identifier: BSD-3-Clause */
/* aliases.c - NCCL's own variables, which clusters have set already, taken for the settings of ours that mean the same. */
#include "plugins/nccl/core.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/settings.h"

/* ---- lists of devices --------------------------------------------------------- */

static int number_after(const char **at, int unset)
{
	char *end;
	long number;

	if (**at != ':')
		return unset;
	number = strtol(*at + 1, &end, 10);
	number = end == *at + 1 ? unset : number;
	*at = end;
	return (int)number;
}

/* One word, NAME[:PORT[:RAIL[:PLANE]]]. */
static int word_fits(const char *word, int is_whole, const char *name, int port, struct snti_nccl_place *place)
{
	size_t length = strcspn(word, ":");
	const char *at = word + length;
	int asked = number_after(&at, -1);
	struct snti_nccl_place found;

	found.rail = number_after(&at, -1);
	found.plane = number_after(&at, -1);
	if (strncmp(name, word, length) || (is_whole && name[length]) || (asked > 0 && port && asked != port))
		return 0;
	if (place)
		*place = found;
	return 1;
}

/* NCCL's grammar: "eth,ib" are beginnings of names, "=eth0" is a whole one, "^docker" is what shall not be, "^=" both. */
int snti_nccl_fits(const char *list, const char *name, int port, struct snti_nccl_place *place)
{
	char copy[512], *save = NULL;
	int is_not = *list == '^', is_whole, found = 0;

	list += is_not;
	is_whole = *list == '=';
	snprintf(copy, sizeof copy, "%s", list + is_whole);
	for (char *word = strtok_r(copy, ",", &save); word && !found; word = strtok_r(NULL, ",", &save))
		found = word_fits(word, is_whole, name, port, is_not ? NULL : place);
	return found != is_not;
}

/* ---- settings ------------------------------------------------------------------ */

/* What the variable says, in our words: 0 when it says nothing. */
typedef int (*translator)(const char *theirs, char *ours, size_t room);

/* NCCL takes 0x68 for 104. Negative means that NCCL is to choose. */
static int number(const char *theirs, char *ours, size_t room)
{
	char *end;
	long value = strtol(theirs, &end, 0);

	if (end == theirs || *end)
		return snprintf(ours, room, "%s", theirs) > 0;
	return value >= 0 && snprintf(ours, room, "%ld", value) > 0;
}

static int at_most(const char *theirs, char *ours, size_t room, long most)
{
	long value = strtol(theirs, NULL, 0);

	return value > 0 && snprintf(ours, room, "%ld", value < most ? value : most) > 0;
}

static int queue_pairs(const char *theirs, char *ours, size_t room)
{
	return at_most(theirs, ours, room, 8);
}

/* Each of NCCL's helper threads has as many. */
static int sockets(const char *theirs, char *ours, size_t room)
{
	const char *threads = getenv("NCCL_SOCKET_NTHREADS");
	long value = strtol(theirs, NULL, 0), times = threads ? strtol(threads, NULL, 0) : 1;
	char product[32];

	snprintf(product, sizeof product, "%ld", value < 100 && times < 100 && times > 0 ? value * times : value);
	return at_most(product, ours, room, 16);
}

static int split(const char *theirs, char *ours, size_t room)
{
	return !strcmp(theirs, "1") && snprintf(ours, room, "4K") > 0;
}

static int family(const char *theirs, char *ours, size_t room)
{
	if (!strcmp(theirs, "AF_INET"))
		return snprintf(ours, room, "4");
	if (!strcmp(theirs, "AF_INET6"))
		return snprintf(ours, room, "6");
	return snprintf(ours, room, "%s", theirs);
}

static const struct alias { const char *theirs, *ours; translator translate; } aliases[] = {
	{ "NCCL_IB_ADAPTIVE_ROUTING", "SNT_VERBS_ADAPTIVE", number },
	{ "NCCL_IB_ECE_ENABLE", "SNT_VERBS_ECE", number },
	{ "NCCL_IB_GID_INDEX", "SNT_VERBS_GID", number },
	{ "NCCL_IB_PKEY", "SNT_VERBS_PKEY", number },
	{ "NCCL_IB_QPS_PER_CONNECTION", "SNT_VERBS_QPS", queue_pairs },
	{ "NCCL_IB_RETRY_CNT", "SNT_VERBS_RETRIES", number },
	{ "NCCL_IB_SL", "SNT_VERBS_SERVICE_LEVEL", number },
	{ "NCCL_IB_SPLIT_DATA_ON_QPS", "SNT_VERBS_SPLIT", split },
	{ "NCCL_IB_TC", "SNT_VERBS_TRAFFIC_CLASS", number },
	{ "NCCL_IB_TIMEOUT", "SNT_VERBS_TIMEOUT", number },
	{ "NCCL_NSOCKS_PERTHREAD", "SNT_TCP_SOCKETS", sockets },
	{ "NCCL_SOCKET_FAMILY", "SNT_IP_VERSION", family },
};

/* What is done without asking, or not at all: whoever has set them should know. */
static const struct { const char *theirs, *instead; } others[] = {
	{ "NCCL_IBVERBS_LIB", "libibverbs.so.1 is what is loaded" },
	{ "NCCL_IB_ADDR_FAMILY", "SNT_VERBS_GID chooses an address, else RoCE v2 over IPv4 comes first" },
	{ "NCCL_IB_ADDR_RANGE", "SNT_VERBS_GID chooses an address, else RoCE v2 over IPv4 comes first" },
	{ "NCCL_IB_FIFO_TC", "requests and credit have the class of the data" },
	{ "NCCL_IB_PCI_RELAXED_ORDERING", "it is used where the device takes it" },
	{ "NCCL_IB_ROCE_VERSION_NUM", "SNT_VERBS_GID chooses an address, else RoCE v2 over IPv4 comes first" },
};

static void tell_others(void)
{
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		if (getenv(others[i].theirs))
			snti_nccl_log(NCCL_LOG_INFO, "%s is not used: %s", others[i].theirs, others[i].instead);
}

void snti_nccl_adopt_settings(void)
{
	char ours[64];

	tell_others();
	for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++) {
		const struct alias *alias = &aliases[i];
		const char *theirs = getenv(alias->theirs);
		int status;

		if (!theirs || !*theirs || !alias->translate(theirs, ours, sizeof ours))
			continue;
		status = snti_settings_adopt(alias->ours, ours);
		if (!status)
			snti_nccl_log(NCCL_LOG_INFO, "%s=%s is taken for %s=%s", alias->theirs, theirs, alias->ours, ours);
		else if (status == SNTI_HAS_OWN)
			snti_nccl_log(NCCL_LOG_INFO, "%s=%s gives way to %s", alias->theirs, theirs, alias->ours);
		else
			snti_nccl_log(NCCL_LOG_INFO, "%s=%s is ignored: %s cannot be %s", alias->theirs, theirs, alias->ours, ours);
	}
}
