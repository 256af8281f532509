/* SPDX-License-Identifier: BSD-3-Clause */
/* tuner.c - the tuner's tables that NCCL looks up: NCCL's choice stands unless a rule of the user's says otherwise.
 *
 * Sennit's cost model is about its own plans. It knows nothing of NCCL's algorithms on NCCL's topology, so it
 * has nothing to say here, and the cost table is left as NCCL has made it.
 */
#include "plugins/nccl/nccl_tuner.h"
#include "plugins/nccl/say.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/settings.h"
#include "plugins/nccl/core.h"
#include "plugins/nccl/tuner_rules.h"

#define EXPORT __attribute__((visibility("default")))

enum { MOST_BYTES = 1 << 20 };

struct context { int nodes, ranks; nccl_logger logger; };

/* Read once, so that what is written into the file later cannot make ranks differ. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct snti_tuning *tuning;
static char wrong[400];

__attribute__((format(printf, 3, 4)))
static void say(nccl_logger logger, int level, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	snti_nccl_say(logger, level, NCCL_LOG_INIT | NCCL_LOG_TUNING, "TUNER/Sennit", format, arguments);
	va_end(arguments);
}

/* ---- rules ---------------------------------------------------------------------- */

static int read_text(const char *path, char *text, size_t *size)
{
	FILE *from = fopen(path, "re");

	if (!from) {
		snprintf(wrong, sizeof wrong, "%s: %s", path, strerror(errno));
		return -1;
	}
	*size = fread(text, 1, MOST_BYTES, from);
	if (ferror(from))
		snprintf(wrong, sizeof wrong, "%s: %s", path, strerror(errno));
	else if (*size == MOST_BYTES)
		snprintf(wrong, sizeof wrong, "%s: longer than a table of rules can be", path);
	fclose(from);
	return *wrong ? -1 : 0;
}

static void read_rules(void)
{
	const char *path = snti_settings()->nccl_tuning;
	char *text = *path ? malloc(MOST_BYTES) : NULL, why[200];
	struct snti_tuning *made = *path ? calloc(1, sizeof *made) : NULL;
	size_t size;

	if (*path && (!text || !made))
		snprintf(wrong, sizeof wrong, "%s: no memory", path);
	else if (*path && !read_text(path, text, &size) && snti_tuning_parse(text, size, made, why, sizeof why))
		snprintf(wrong, sizeof wrong, "%s, %s", path, why);
	free(text);
	if (*wrong) {
		free(made);
		made = NULL;
	}
	tuning = made;
}

/* ---- the interface ---------------------------------------------------------------- */

/* An error ends the communicator, which is better than ranks that wait for each other in different algorithms. */
static int begin(void **context, size_t ranks, size_t nodes, nccl_logger logger)
{
	struct context *made;

	*context = NULL;
	pthread_once(&once, read_rules);
	if (*wrong) {
		say(logger, NCCL_LOG_WARN, "SNT_NCCL_TUNING: %s", wrong);
		return NCCL_INVALID_USAGE;
	}
	if (!tuning)
		return NCCL_SUCCESS;
	made = malloc(sizeof *made);
	if (!made)
		return NCCL_SYSTEM_ERROR;
	*made = (struct context){ .nodes = (int)nodes, .ranks = (int)ranks, .logger = logger };
	*context = made;
	say(logger, NCCL_LOG_INFO, "%d rules from %s, fingerprint %016llx", tuning->count, snti_settings()->nccl_tuning,
	    (unsigned long long)tuning->fingerprint);
	return NCCL_SUCCESS;
}

static int init_4(size_t ranks, size_t nodes, nccl_logger logger, void **context)
{
	return begin(context, ranks, nodes, logger);
}

/* What NCCL takes links to be capable of, it knows better. */
static int init_5(void **context, uint64_t comm, size_t ranks, size_t nodes, nccl_logger logger,
		  struct nccl_nvlink_domains *domains, struct nccl_tuner_constants *constants)
{
	(void)comm;
	(void)domains;
	(void)constants;
	return begin(context, ranks, nodes, logger);
}

static void cannot(const struct context *context, struct snti_tuning_rule *rule, size_t bytes)
{
	if (!atomic_exchange(&rule->is_told, 1))
		say(context->logger, NCCL_LOG_WARN, "%s, line %d: NCCL cannot do %s of %zu bytes with %s and %s here, its own choice stands",
		    snti_settings()->nccl_tuning, rule->line, snti_tuning_function(rule->function), bytes,
		    snti_tuning_algorithm(rule->algorithm), snti_tuning_protocol(rule->protocol));
}

static int choose(void *object, int function, size_t bytes, int operations, float **costs, int algorithms, int protocols,
		  int is_registered, int *channels)
{
	const struct context *context = object;
	struct snti_tuning_rule *rule;
	float *cost;

	if (!context)
		return NCCL_SUCCESS;
	rule = snti_tuning_find(tuning, &(struct snti_tuning_question){ .function = function, .operations = operations,
		.is_registered = !!is_registered, .nodes = context->nodes, .ranks = context->ranks, .bytes = bytes });
	if (!rule)
		return NCCL_SUCCESS;
	/* One block, not an array of pointers; an older NCCL has fewer algorithms. */
	cost = (float *)(void *)costs + (size_t)rule->algorithm * (size_t)protocols + (size_t)rule->protocol;
	if (rule->algorithm >= algorithms || rule->protocol >= protocols || *cost < 0) {
		cannot(context, rule, bytes);
		return NCCL_SUCCESS;
	}
	*cost = 0;
	if (rule->channels != SNTI_TUNING_ANY)
		*channels = rule->channels;
	return NCCL_SUCCESS;
}

static int finish(void *context)
{
	free(context);
	return NCCL_SUCCESS;
}

EXPORT extern const struct nccl_tuner_v4 ncclTunerPlugin_v4;
EXPORT extern const struct nccl_tuner_v5 ncclTunerPlugin_v5;
EXPORT extern const struct nccl_tuner_v6 ncclTunerPlugin_v6;

const struct nccl_tuner_v4 ncclTunerPlugin_v4 = { SNTI_NCCL_NAME, .init = init_4, .choose = choose, .destroy = finish };
const struct nccl_tuner_v5 ncclTunerPlugin_v5 = { SNTI_NCCL_NAME, .init = init_5, .choose = choose, .finalize = finish };
const struct nccl_tuner_v6 ncclTunerPlugin_v6 = { SNTI_NCCL_NAME, .init = init_5, .choose = choose, .finalize = finish };
