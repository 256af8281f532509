/* SPDX-License-Identifier: BSD-3-Clause */
/* build.c - which build this is, as short as a handle has room for, and what is said of a peer's. */
#include "plugins/nccl/core.h"

#include <stdio.h>
#include <string.h>

#ifndef SNT_REVISION
#define SNT_REVISION "unknown"
#endif

/* Of "v1.2-3-gabcdef0-dirty" it is "abcdef0+", as git abbreviates differently from clone to clone; a tarball is "release". */
void snti_nccl_build(char id[SNTI_NCCL_BUILD])
{
	static const char revision[] = SNT_REVISION;
	const char *at = revision, *commit;
	size_t used = 0;

	for (commit = strstr(revision, "-g"); commit; commit = strstr(commit + 1, "-g"))
		at = commit + 2;
	memset(id, 0, SNTI_NCCL_BUILD);
	while (used < SNTI_NCCL_BUILD - 1 && at[used] && at[used] != '-') {
		id[used] = at[used];
		used++;
	}
	if (strstr(revision, "-dirty"))
		id[used] = '+';
}

/* What came from outside is not printed as it is. */
static void clean(char *to, const char *from, size_t most)
{
	size_t i;

	for (i = 0; i < most && from[i]; i++)
		to[i] = from[i] > ' ' && from[i] < 127 ? from[i] : '?';
	to[i] = 0;
}

void snti_nccl_name_build(char *text, size_t room, const char version[SNTI_NCCL_BUILD], const char id[SNTI_NCCL_BUILD])
{
	char number[SNTI_NCCL_BUILD + 1], build[SNTI_NCCL_BUILD + 1];

	clean(number, version, SNTI_NCCL_BUILD);
	clean(build, id, SNTI_NCCL_BUILD);
	snprintf(text, room, "sennit %s (%s)", *number ? number : "?", *build ? build : "?");
}

void snti_nccl_own_build(char *text, size_t room)
{
	char version[SNTI_NCCL_BUILD] = "", id[SNTI_NCCL_BUILD];

	memcpy(version, snt_version(), strnlen(snt_version(), sizeof version));
	snti_nccl_build(id);
	snti_nccl_name_build(text, room, version, id);
}

void snti_nccl_compare_build(struct snti_nccl_comm *comm, const char version[SNTI_NCCL_BUILD], const char id[SNTI_NCCL_BUILD])
{
	static atomic_int is_told;
	char own[48];

	snti_nccl_name_build(comm->build, sizeof comm->build, version, id);
	snti_nccl_own_build(own, sizeof own);
	if (!strcmp(comm->build, own))
		comm->build[0] = 0;
	else if (!atomic_exchange(&is_told, 1))
		snti_nccl_log(NCCL_LOG_INFO, "%s runs %s, this process %s", comm->peer, comm->build, own);
}
