/* SPDX-License-Identifier: BSD-3-Clause */
/* test_verbs.c - the conformance tests on the verbs transport over the mock's devices, as they are and as fabrics may be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/conformance.h"
#include "tests/mock_verbs/find.h"
#include "transport/verbs.h"

static struct mock_script *script;

static const struct variant {
	const char *name, *settings[6];
	uint64_t seed;
	int cm;
} variants[] = {
	{ .name = "at once" },
	{ .name = "at random", .seed = 7919 },
	{ .name = "at random, adaptive routes, four queue pairs", .seed = 104729,
	  .settings = { "SNT_VERBS_ADAPTIVE=1", "SNT_VERBS_QPS=4", "SNT_VERBS_SPLIT=16K", "SNT_VERBS_BLOCK=16K" } },
	{ .name = "everything registered, small messages in no buffer", .seed = 31,
	  .settings = { "SNT_VERBS_REGISTER=0", "SNT_VERBS_QPS=8", "SNT_VERBS_EAGER=256" } },
	{ .name = "connected through librdmacm", .seed = 65537, .settings = { "SNT_VERBS_CONNECT=cm" }, .cm = 1 },
};

static int run(const struct variant *variant)
{
	int failed;

	if (variant->cm && !dlopen("tests/mock_verbs/.libs/librdmacm.so.1", RTLD_NOW | RTLD_LOCAL)) {
		printf("# %s: left out, this build has no librdmacm\n", variant->name);
		return 0;
	}
	for (int i = 0; variant->settings[i]; i++)
		putenv((char *)(uintptr_t)variant->settings[i]);
	script->seed = variant->seed;
	printf("# %s\n", variant->name);
	fflush(stdout);
	failed = conformance_run(&snti_verbs_transport);
	/* Credit is there so that no frame ever finds no buffer, and completions are counted before work is posted. */
	if (script->rnr || script->overruns || script->frame_reach != VERBS_SLOTS * VERBS_SLOT_BYTES || !script->requests ||
	    !script->immediates || script->contexts || script->pds ||
	    script->mrs || script->cqs || script->cm_ids || script->channels || script->srqs || script->qps || script->locked) {
		printf("# %u sends without a buffer, %u overruns, %zu bytes open to writes for frames, %u immediates; left: %d devices, "
		       "%d pds, %d mrs, %d cqs, %d channels, %d srqs, %d qps\n", script->rnr, script->overruns, script->frame_reach,
		       script->immediates, script->contexts, script->pds, script->mrs, script->cqs, script->channels, script->srqs,
		       script->qps);
		failed++;
	}
	return failed;
}

/* Each in a process of its own, as settings are read once. A number runs that variant alone, in this one; "device"
 * uses the system's libibverbs and what devices there are. */
int main(int argc, char **argv)
{
	int failed = 0;

	if (argc > 1 && !strcmp(argv[1], "device"))
		return conformance_run(&snti_verbs_transport);
	script = mock_find(NULL);
	if (!script)
		return 1;
	if (argc > 1)
		return run(&variants[(size_t)atoi(argv[1]) % (sizeof(variants) / sizeof(*variants))]);
	for (size_t i = 0; i < sizeof(variants) / sizeof(*variants); i++) {
		int ended = -1;
		pid_t child;

		fflush(stdout);
		child = fork();
		if (!child)
			exit(run(&variants[i]) != 0);
		failed += waitpid(child, &ended, 0) != child || ended != 0;
		if (ended)
			printf("# %s: failed (%x)\n", variants[i].name, ended);
	}
	return failed;
}
