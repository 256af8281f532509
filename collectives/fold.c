/* SPDX-License-Identifier: BSD-3-Clause */
/* fold.c - picks, for each type and fold, the widest kernel this processor can run. */
#include "collectives/fold.h"

#include <pthread.h>
#include <string.h>

#include "base/copy.h"
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
	{ "avx512bf16", SNTI_CPU_AVX512 | SNTI_CPU_AVX512BF16, &snti_fold_avx512bf16 },
#elif defined(__aarch64__)
	{ "neon", SNTI_CPU_NEON, &snti_fold_neon },
#endif
};

enum { VARIANTS = sizeof(variants) / sizeof(*variants), BLOCK = 4096, PART = 512, LINE = 64 };

static struct snti_fold_table merged;
static pthread_once_t merged_once = PTHREAD_ONCE_INIT;

static int can_run(const struct variant *variant)
{
	return (snti_cpu_features() & variant->needs) == variant->needs;
}

static void lay_over(struct snti_fold_table *under, const struct snti_fold_table *over)
{
	for (int type = 0; type < SNT_TYPE_COUNT; type++) {
		for (int fold = 0; fold < SNT_FOLD_COUNT; fold++)
			if (over->fold[type][fold])
				under->fold[type][fold] = over->fold[type][fold];
		if (over->sum_many[type])
			under->sum_many[type] = over->sum_many[type];
		if (over->sum_spread[type])
			under->sum_spread[type] = over->sum_spread[type];
	}
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

static const struct snti_fold_table *find(const char *variant)
{
	for (size_t i = 0; i < VARIANTS; i++)
		if (!strcmp(variant, variants[i].name))
			return can_run(&variants[i]) ? variants[i].table : NULL;
	return NULL;
}

snti_fold_fn *snti_fold_variant(const char *variant, enum snt_type type, enum snt_fold fold)
{
	const struct snti_fold_table *table = find(variant);

	return table ? look_up(table, type, fold) : NULL;
}

snti_sum_many_fn *snti_sum_many_variant(const char *variant, enum snt_type type)
{
	const struct snti_fold_table *table = find(variant);

	return table && (unsigned)type < SNT_TYPE_COUNT ? table->sum_many[type] : NULL;
}

/* @count elements from byte @at on, two at a time; the sum on the way is kept apart, as dst may be a source whose turn is still to come. */
static void fold_block(snti_fold_fn *pair, char *dst, const void *const *sources, unsigned number, size_t at, size_t count)
{
	char sum[BLOCK];
	const char *left = (const char *)sources[0] + at;

	for (unsigned i = 1; i + 1 < number; i++) {
		pair(sum, left, (const char *)sources[i] + at, count);
		left = sum;
	}
	pair(dst, left, (const char *)sources[number - 1] + at, count);
}

void snti_fold_many(enum snt_type type, enum snt_fold fold, void *dst, const void *const *sources, unsigned number,
		    size_t count)
{
	snti_fold_fn *pair = snti_fold_function(type, fold);
	snti_sum_many_fn *sum_many = fold == SNT_SUM || fold == SNT_AVERAGE ? merged.sum_many[type] : NULL;
	size_t width = snt_type_size(type), done = sum_many ? sum_many(dst, sources, number, count) : 0;

	while (done < count) {
		size_t now = count - done < BLOCK / width ? count - done : BLOCK / width;

		fold_block(pair, (char *)dst + done * width, sources, number, done * width, now);
		done += now;
	}
}

/* The block is streamed in parts, and in between the next block's sources are asked for: reading does not rest. */
static void stream_block(const struct snti_fold_spread *f, const char *block, size_t at, size_t size)
{
	for (size_t part = 0; part < size; part += PART) {
		for (unsigned i = 0; i < f->number; i++)
			for (size_t line = part; line < part + PART; line += LINE)
				__builtin_prefetch((const char *)f->sources[i] + at + size + line);
		for (unsigned i = f->kept; i < f->places; i++)
			snti_stream((char *)f->to[i] + at + part, block + part, size - part < PART ? size - part : PART);
	}
}

void snti_fold_spread(const struct snti_fold_spread *f, size_t count)
{
	_Alignas(64) char block[BLOCK];
	int sums = f->fold == SNT_SUM || f->fold == SNT_AVERAGE;
	snti_fold_fn *pair = snti_fold_function(f->type, f->fold);
	size_t width = snt_type_size(f->type), done = 0;

	if (sums && merged.sum_spread[f->type])
		done = merged.sum_spread[f->type](f, count);
	while (done < count) {
		size_t now = count - done < BLOCK / width ? count - done : BLOCK / width;

		fold_block(pair, block, f->sources, f->number, done * width, now);
		if (f->kept)
			memcpy((char *)f->to[0] + done * width, block, now * width);
		stream_block(f, block, done * width, now * width);
		done += now;
	}
}

snti_scale_fn *snti_scale_function(enum snt_type type)
{
	return (unsigned)type < SNT_TYPE_COUNT ? snti_scale_scalar[type] : NULL;
}
