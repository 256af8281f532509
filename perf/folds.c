/* SPDX-License-Identifier: BSD-3-Clause */
/* folds.c - how fast the folds are, beside a plain addition of float32 written by hand in vectors as wide.
 *
 * perf/folds [WORD...] prints the rows that hold all the words: a type, a variant, a size such as 256K, in or out
 * of place, the number of sources. GB/s of destination. The fold, its limit, and the sources folded one pair after
 * another take turns; each keeps its best. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "collectives/fold.h"

#define LARGEST ((size_t)64 << 20)
#define APART ((size_t)4096 + 448)
#define SAMPLE ((uint64_t)4 << 20)      /* bytes of destination in one sample, at least */

static char *memory[SNTI_FOLD_MOST + 1];

/* ---- the limits ------------------------------------------------------------- */

typedef void limit_fn(char *dst, const char *const *sources, size_t bytes);

#define AT(v, source, offset) (*(const v *)((source) + i + (offset) * sizeof(v)))
#define SUM_2(v, offset) (AT(v, s0, offset) + AT(v, s1, offset))
#define SUM_4(v, offset) (SUM_2(v, offset) + AT(v, s2, offset) + AT(v, s3, offset))
#define SUM_8(v, offset) (SUM_4(v, offset) + AT(v, s4, offset) + AT(v, s5, offset) + AT(v, s6, offset) + AT(v, s7, offset))

#define LIMIT_OF(name, v, sum) \
	static void name(char *dst, const char *const *s, size_t bytes) \
	{ \
		const char *s0 = s[0], *s1 = s[1], *s2 = s[2], *s3 = s[3], *s4 = s[4], *s5 = s[5], *s6 = s[6], *s7 = s[7]; \
		(void)s2, (void)s3, (void)s4, (void)s5, (void)s6, (void)s7; \
		for (size_t i = 0; i < bytes; i += 4 * sizeof(v)) { \
			v first = sum(v, 0), second = sum(v, 1), third = sum(v, 2), fourth = sum(v, 3); \
			v *d = (v *)(dst + i); \
			d[0] = first; \
			d[1] = second; \
			d[2] = third; \
			d[3] = fourth; \
		} \
	}
#define LIMITS(width, flags) \
	typedef float vector_##width __attribute__((vector_size(width), aligned(4), may_alias)); \
	flags LIMIT_OF(add_2_##width, vector_##width, SUM_2) \
	flags LIMIT_OF(add_4_##width, vector_##width, SUM_4) \
	flags LIMIT_OF(add_8_##width, vector_##width, SUM_8)

LIMITS(16, )
#if defined(__x86_64__)
LIMITS(32, __attribute__((target("avx2"))))
LIMITS(64, __attribute__((target("avx512f"))))
#endif

static const struct variant {
	const char *name;
	limit_fn *limits[3];            /* of 2, 4 and 8 sources */
} variants[] = {
	{ "scalar", { add_2_16, add_4_16, add_8_16 } },
#if defined(__x86_64__)
	{ "avx2", { add_2_32, add_4_32, add_8_32 } },
	{ "avx512", { add_2_64, add_4_64, add_8_64 } },
	{ "avx512bf16", { add_2_64, add_4_64, add_8_64 } },
#else
	{ "neon", { add_2_16, add_4_16, add_8_16 } },
#endif
};

/* ---- rows ------------------------------------------------------------------- */

struct row {
	const struct variant *variant;
	enum snt_type type;
	unsigned sources;               /* 2, 4 or 8 */
	int in_place;
	size_t bytes;
	const char *size;
	snti_fold_fn *pair;
	snti_sum_many_fn *many;
	double best, best_limit, best_pairs;    /* ns */
};

static void run_limit(const struct row *r, char *dst, const void *const *sources)
{
	r->variant->limits[r->sources / 4](dst, (const char *const *)sources, r->bytes);
}

static void run_fold(const struct row *r, char *dst, const void *const *sources)
{
	size_t count = r->bytes / snt_type_size(r->type);

	if (r->sources == 2)
		r->pair(dst, sources[0], sources[1], count);
	else
		r->many(dst, sources, r->sources, count);
}

/* What a pass over all sources has to be better than. */
static void run_pairs(const struct row *r, char *dst, const void *const *sources)
{
	size_t count = r->bytes / snt_type_size(r->type);

	r->pair(dst, sources[0], sources[1], count);
	for (unsigned i = 2; i < r->sources; i++)
		r->pair(dst, dst, sources[i], count);
}

static void sample(const struct row *r, void (*run)(const struct row *, char *, const void *const *), double *best)
{
	const void *sources[SNTI_FOLD_MOST];
	uint64_t times = (SAMPLE + r->bytes - 1) / r->bytes, start;
	double each;

	for (unsigned i = 0; i < SNTI_FOLD_MOST; i++)
		sources[i] = memory[i + !r->in_place];
	memcpy(memory[0], memory[SNTI_FOLD_MOST], r->bytes);    /* as ordinary a number for the next type */
	run(r, memory[0], sources);
	start = snti_now_ns();
	for (uint64_t i = 0; i < times; i++)
		run(r, memory[0], sources);
	each = (double)(snti_now_ns() - start) / (double)times;
	if (*best <= 0 || each < *best)
		*best = each;
}

static const struct size { const char *name; size_t bytes; } sizes[] = {
	{ "4K", 4 << 10 }, { "16K", 16 << 10 }, { "256K", 256 << 10 }, { "4M", 4 << 20 }, { "64M", LARGEST },
};
static const enum snt_type types[] = { SNT_FLOAT32, SNT_FLOAT64, SNT_INT32, SNT_FLOAT16, SNT_BFLOAT16 };
static const unsigned numbers[] = { 2, 4, 8 };

#define COUNT_OF(array) (sizeof(array) / sizeof(*(array)))
enum { ROWS = COUNT_OF(types) * COUNT_OF(variants) * COUNT_OF(numbers) };

static int has_word(const struct row *r, const char *word)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", r->sources);
	return !strcmp(word, r->variant->name) || !strcmp(word, snt_type_name(r->type)) || !strcmp(word, r->size) ||
	       !strcmp(word, r->in_place ? "in" : "out") || !strcmp(word, number);
}

static int is_wanted(const struct row *r, char **words)
{
	int exists = r->sources == 2 ? r->pair != NULL : r->many != NULL;

	for (; *words && exists; words++)
		exists = has_word(r, *words);
	return exists;
}

/* All rows of one size, so that what they share is in the caches for all or for none. */
static size_t make_rows(struct row *rows, const struct size *size, int in_place, char **words)
{
	size_t made = 0;

	for (size_t n = 0; n < COUNT_OF(numbers); n++)
		for (size_t t = 0; t < COUNT_OF(types); t++)
			for (size_t v = 0; v < COUNT_OF(variants); v++) {
				struct row r = { &variants[v], types[t], numbers[n], in_place, size->bytes, size->name,
					snti_fold_variant(variants[v].name, types[t], SNT_SUM),
					snti_sum_many_variant(variants[v].name, types[t]), 0, 0, 0 };

				if (is_wanted(&r, words))
					rows[made++] = r;
			}
	return made;
}

static void measure(const struct size *size, int in_place, char **words)
{
	struct row rows[ROWS];
	size_t count = make_rows(rows, size, in_place, words);

	for (int round = 0; round < (size->bytes < LARGEST ? 15 : 5); round++)
		for (size_t i = 0; i < count; i++) {
			sample(&rows[i], run_limit, &rows[i].best_limit);
			sample(&rows[i], run_fold, &rows[i].best);
			sample(&rows[i], run_pairs, &rows[i].best_pairs);
		}
	for (const struct row *r = rows; r < rows + count; r++)
		printf("%-9s %-10s %7u  %-4s %-5s %7.1f %7.1f %6.2f %7.1f\n", snt_type_name(r->type), r->variant->name,
		       r->sources, r->size, in_place ? "in" : "out", (double)r->bytes / r->best,
		       (double)r->bytes / r->best_limit, r->best_limit / r->best, (double)r->bytes / r->best_pairs);
}

/* Ordinary numbers whatever they are read as, and sums over sums stay so. The vectors do not begin at the same place
 * of a page: a load would take a store there for one to its own address, and wait. */
static int make_memory(char *all)
{
	for (size_t i = 0; all && i <= SNTI_FOLD_MOST; i++) {
		memory[i] = all + i * (LARGEST + APART);
		for (size_t at = 0; at < LARGEST; at += sizeof(uint16_t)) {
			uint16_t bits = (uint16_t)(0x3c00 + (at * 7 + i * 5) % 256);

			memcpy(memory[i] + at, &bits, sizeof(bits));
		}
	}
	return all != NULL;
}

int main(int argc, char **argv)
{
	char *all = aligned_alloc(4096, (SNTI_FOLD_MOST + 1) * (LARGEST + 2 * 4096));

	(void)argc;
	if (!make_memory(all)) {
		fprintf(stderr, "folds: no memory for %d times 64 MiB\n", SNTI_FOLD_MOST + 1);
		return 1;
	}
	printf("%-9s %-10s %7s  %-4s %-5s %7s %7s %6s %7s\n", "sum of", "variant", "sources", "size", "place", "GB/s", "limit",
	       "ratio", "pairs");
	for (size_t i = 0; i < COUNT_OF(sizes); i++)
		for (int in_place = 1; in_place >= 0; in_place--)
			measure(&sizes[i], in_place, argv + 1);
	free(all);
	return 0;
}
