/* SPDX-License-Identifier: BSD-3-Clause */
/* fold.c - picks, for each type and fold, the widest kernel this processor can run. */
#include "collectives/fold.h"

#include <pthread.h>
#include <string.h>

#include "base/cpu.h"
#include "collectives/fold_table.h"

/* Narrow to wide: a later one is laid over those before it. */
static const struct variant {
	const char *name;
	unsigned needs;   /* of snti_cpu_feature */
	const struct snti_fold_table *table;
} variants[] = {
	{ "scalar", 0, &snti_fold_scalar },
#if defined(__x86_64__)
	{ "avx2", SNTI_CPU_AVX2, &snti_fold_avx2 },
	{ "avx512", SNTI_CPU_AVX512, &snti_fold_avx512 },
#elif defined(__aarch64__)
	{ "neon", SNTI_CPU_NEON, &snti_fold_neon },
#endif
};

enum { VARIANTS = sizeof(variants) / sizeof(*variants) };

static struct snti_fold_table merged;
static pthread_once_t merged_once = PTHREAD_ONCE_INIT;

static int can_run(const struct variant *variant)
{
	return (snti_cpu_features() & variant->needs) == variant->needs;
}

static void lay_over(struct snti_fold_table *under, const struct snti_fold_table *over)
{
	for (int type = 0; type < SNT_TYPE_COUNT; type++)
		for (int fold = 0; fold < SNT_FOLD_COUNT; fold++)
			if (over->fold[type][fold])
				under->fold[type][fold] = over->fold[type][fold];
}

static void merge(void)
{
	for (size_t i = 0; i < VARIANTS; i++)
		if (can_run(&variants[i]))
			lay_over(&merged, variants[i].table);
}

static snti_fold_fn *look_up(const struct snti_fold_table *table, enum snt_type type, enum snt_fold fold)
{
	if ((unsigned)type >= SNT_TYPE_COUNT || (unsigned)fold >= SNT_FOLD_COUNT)
		return NULL;
	return table->fold[type][fold == SNT_AVERAGE ? SNT_SUM : fold];
}

snti_fold_fn *snti_fold_function(enum snt_type type, enum snt_fold fold)
{
	pthread_once(&merged_once, merge);
	return look_up(&merged, type, fold);
}

snti_fold_fn *snti_fold_variant(const char *variant, enum snt_type type, enum snt_fold fold)
{
	for (size_t i = 0; i < VARIANTS; i++)
		if (!strcmp(variant, variants[i].name))
			return can_run(&variants[i]) ? look_up(variants[i].table, type, fold) : NULL;
	return NULL;
}

snti_scale_fn *snti_scale_function(enum snt_type type)
{
	return (unsigned)type < SNT_TYPE_COUNT ? snti_scale_scalar[type] : NULL;
}
