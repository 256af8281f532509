/* SPDX-License-Identifier: BSD-3-Clause */
/* check.c - what every element should be, computed by plain loops and none of the library's.
 *
 * The input is a function of rank and index. Integers use their whole range and
 * wrap; floats are small whole numbers, so that every order of folding gives the
 * same exact result. Collectives that only move data are checked bit by bit.
 */
#include "perf/perf.h"

#include <math.h>
#include <string.h>

enum { JUNK = 0x5a, GUARD = 0xa5 };

struct rule {
	int folds, is_float, is_signed;
	enum snt_type type;
	enum snt_fold fold;
	unsigned bits;
	size_t width;
	uint64_t ranks;
	double tolerance;     /* relative; 0: exact */
};

static struct rule make_rule(const struct snti_perf_case *which)
{
	struct rule rule = { .folds = snti_perf_folds(which->kind), .type = which->type, .fold = which->fold,
		.width = snt_type_size(which->type), .ranks = (uint64_t)which->ranks };

	rule.bits = (unsigned)rule.width * 8;
	rule.is_float = rule.folds && which->type >= SNT_FLOAT16;
	rule.is_signed = rule.folds && which->type <= SNT_INT64;
	if (rule.is_float && rule.fold == SNT_AVERAGE)
		rule.tolerance = which->type <= SNT_BFLOAT16 ? 1e-2 : which->type == SNT_FLOAT32 ? 1e-6 : 1e-12;
	return rule;
}

static uint64_t mix(uint64_t rank, uint64_t index)
{
	uint64_t x = index * 0x9e3779b97f4a7c15u + (rank + 1) * 0xbf58476d1ce4e5b9u;

	x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
	x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
	return x ^ x >> 32;
}

/* ---- integers ------------------------------------------------------------ */

/* The lowest bits of @x as the type would hold them, extended to 64. */
static uint64_t narrow(const struct rule *rule, uint64_t x)
{
	unsigned shift = 64 - rule->bits;

	return rule->is_signed ? (uint64_t)((int64_t)(x << shift) >> shift) : x << shift >> shift;
}

/* Not 0 in the type, and of one bit that may be any. */
static uint64_t some_bit(const struct rule *rule, uint64_t x)
{
	return (uint64_t)1 << (x >> 32) % rule->bits;
}

static uint64_t integer_input(const struct rule *rule, uint64_t rank, uint64_t index)
{
	uint64_t x = mix(rank, index);

	if (!rule->folds)
		return narrow(rule, x);
	switch (rule->fold) {
	case SNT_PRODUCT:
		return narrow(rule, x | 1);
	case SNT_BAND:
		return narrow(rule, x | x >> 17);
	case SNT_BOR:
		return narrow(rule, x & x >> 17);
	case SNT_LAND:
		return narrow(rule, x % (rule->ranks + 1) ? some_bit(rule, x) : 0);
	case SNT_LOR:
		return narrow(rule, x % (rule->ranks + 1) ? 0 : some_bit(rule, x));
	case SNT_LXOR:
		return narrow(rule, x & 1 ? some_bit(rule, x) : 0);
	default:
		return narrow(rule, x);
	}
}

static int is_less(const struct rule *rule, uint64_t a, uint64_t b)
{
	return rule->is_signed ? (int64_t)a < (int64_t)b : a < b;
}

static uint64_t integer_fold(const struct rule *rule, uint64_t a, uint64_t b)
{
	switch (rule->fold) {
	case SNT_PRODUCT:
		return a * b;
	case SNT_MIN:
		return is_less(rule, b, a) ? b : a;
	case SNT_MAX:
		return is_less(rule, a, b) ? b : a;
	case SNT_BAND:
		return a & b;
	case SNT_BOR:
		return a | b;
	case SNT_BXOR:
		return a ^ b;
	case SNT_LAND:
		return a && b;
	case SNT_LOR:
		return a || b;
	case SNT_LXOR:
		return !a != !b;
	default:
		return a + b;
	}
}

static uint64_t integer_expected(const struct rule *rule, uint64_t index)
{
	uint64_t x = integer_input(rule, 0, index);

	if (rule->fold >= SNT_LAND)
		x = x != 0;
	for (uint64_t rank = 1; rank < rule->ranks; rank++)
		x = integer_fold(rule, x, integer_input(rule, rank, index));
	x = narrow(rule, x);
	if (rule->fold != SNT_AVERAGE)
		return x;
	return rule->is_signed ? (uint64_t)((int64_t)x / (int64_t)rule->ranks) : x / rule->ranks;
}

static uint64_t integer_load(const struct rule *rule, const char *from)
{
	uint64_t x = 0;

	for (size_t i = 0; i < rule->width; i++)   /* becomes one load for a known width */
		x |= (uint64_t)(unsigned char)from[i] << 8 * i;
	return narrow(rule, x);
}

static void integer_store(const struct rule *rule, char *to, uint64_t x)
{
	for (size_t i = 0; i < rule->width; i++)
		to[i] = (char)(x >> 8 * i);
}

/* ---- floats -------------------------------------------------------------- */

/* Sums stay within 192, products within 2^9: exact in 8 bits of mantissa. */
static double float_input(const struct rule *rule, uint64_t rank, uint64_t index)
{
	uint64_t x = mix(rank, index);
	uint64_t spread;

	switch (rule->fold) {
	case SNT_PRODUCT:
		spread = rule->ranks / 8 + 2;
		return ((rank + index) % spread ? 1 : 2) * (x & 1 ? -1.0 : 1.0);
	case SNT_MIN:
	case SNT_MAX:
		return (double)(x & 0xff) - 128;
	default:
		spread = (rule->ranks + 63) / 64;
		return spread > 1 && (rank + index) % spread ? 0 : (double)(x & 3) - 1;
	}
}

static double float_fold(const struct rule *rule, double a, double b)
{
	switch (rule->fold) {
	case SNT_PRODUCT:
		return a * b;
	case SNT_MIN:
		return b < a ? b : a;
	case SNT_MAX:
		return a < b ? b : a;
	default:
		return a + b;
	}
}

static double float_expected(const struct rule *rule, uint64_t index)
{
	double x = float_input(rule, 0, index);

	for (uint64_t rank = 1; rank < rule->ranks; rank++)
		x = float_fold(rule, x, float_input(rule, rank, index));
	return rule->fold == SNT_AVERAGE ? x / (double)rule->ranks : x;
}

static double half_decode(uint16_t bits)
{
	int exponent = bits >> 10 & 0x1f, mantissa = bits & 0x3ff;
	double x = exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24);

	if (exponent == 0x1f)
		x = mantissa ? NAN : INFINITY;
	return bits & 0x8000 ? -x : x;
}

/* Exact for what is put in: whole numbers of at most 11 bits. */
static uint16_t half_encode(double x)
{
	uint16_t sign = x < 0 ? 0x8000 : 0;
	int exponent;
	double fraction = frexp(fabs(x), &exponent);   /* in [0.5, 1) */

	if (x == 0)
		return 0;
	return (uint16_t)(sign | (exponent + 14) << 10 | ((int)(fraction * 2048) - 1024));
}

static double float_load(const struct rule *rule, const char *from)
{
	uint16_t half;
	uint32_t word;
	float single;
	double x;

	switch (rule->type) {
	case SNT_FLOAT64:
		memcpy(&x, from, sizeof x);
		return x;
	case SNT_FLOAT32:
		memcpy(&single, from, sizeof single);
		return single;
	case SNT_BFLOAT16:
		memcpy(&half, from, sizeof half);
		word = (uint32_t)half << 16;
		memcpy(&single, &word, sizeof single);
		return single;
	default:
		memcpy(&half, from, sizeof half);
		return half_decode(half);
	}
}

static void float_store(const struct rule *rule, char *to, double x)
{
	float single = (float)x;
	uint32_t word;
	uint16_t half;

	if (rule->type == SNT_FLOAT64) {
		memcpy(to, &x, sizeof x);
	} else if (rule->type == SNT_FLOAT32) {
		memcpy(to, &single, sizeof single);
	} else if (rule->type == SNT_BFLOAT16) {
		memcpy(&word, &single, sizeof word);
		half = (uint16_t)(word >> 16);
		memcpy(to, &half, sizeof half);
	} else {
		half = half_encode(x);
		memcpy(to, &half, sizeof half);
	}
}

/* ---- buffers ------------------------------------------------------------- */

/* Element @index of what rank @rank puts in, as bytes. */
static void put(const struct rule *rule, char *to, uint64_t rank, uint64_t index)
{
	if (rule->is_float)
		float_store(rule, to, float_input(rule, rank, index));
	else
		integer_store(rule, to, integer_input(rule, rank, index));
}

/* How many of @count elements at @have are not elements @first and on of @rank's input. */
static uint64_t moved_wrong(const struct rule *rule, const char *have, uint64_t rank, uint64_t first, size_t count)
{
	uint64_t wrong = 0;
	char want[8];

	for (size_t i = 0; i < count; i++) {
		put(rule, want, rank, first + i);
		wrong += memcmp(have + i * rule->width, want, rule->width) != 0;
	}
	return wrong;
}

static int float_is_wrong(const struct rule *rule, double have, double want)
{
	if (!rule->tolerance)
		return !(have == want);
	return !(fabs(have - want) <= rule->tolerance * fabs(want));
}

static uint64_t folded_wrong(const struct rule *rule, const char *have, uint64_t first, size_t count)
{
	uint64_t wrong = 0;

	for (size_t i = 0; i < count; i++, have += rule->width) {
		if (rule->is_float)
			wrong += (uint64_t)float_is_wrong(rule, float_load(rule, have), float_expected(rule, first + i));
		else
			wrong += integer_load(rule, have) != integer_expected(rule, first + i);
	}
	return wrong;
}

static uint64_t guard_wrong(const char *guard)
{
	uint64_t wrong = 0;

	for (int i = 0; guard && i < SNTI_PERF_GUARD; i++)
		wrong += (unsigned char)guard[i] != GUARD;
	return wrong;
}

/* P blocks, each from another rank; @first is where in the sender's input the block begins. */
static uint64_t blocks_wrong(const struct rule *rule, const struct snti_perf_case *which, uint64_t first)
{
	uint64_t wrong = 0;

	for (size_t from = 0; from < (size_t)which->ranks; from++)
		wrong += moved_wrong(rule, which->out + from * which->count * rule->width, from, first, which->count);
	return wrong;
}

static uint64_t out_wrong(const struct rule *rule, const struct snti_perf_case *which)
{
	uint64_t rank = (uint64_t)which->rank, ranks = rule->ranks, root = (uint64_t)which->root;
	uint64_t mine = rank * which->count;

	switch (which->kind) {
	case SNT_ALLREDUCE:
	case SNT_REDUCE:
		return folded_wrong(rule, which->out, 0, which->count);
	case SNT_REDUCE_SCATTER:
		return folded_wrong(rule, which->out, mine, which->count);
	case SNT_ALLGATHER:
	case SNT_GATHER:
		return blocks_wrong(rule, which, 0);
	case SNT_ALLTOALL:
		return blocks_wrong(rule, which, mine);
	case SNT_BROADCAST:
		return moved_wrong(rule, which->out, root, 0, which->count);
	case SNT_SCATTER:
		return moved_wrong(rule, which->out, root, mine, which->count);
	case SNTI_PERF_LATENCY:
	case SNTI_PERF_BANDWIDTH:
		return moved_wrong(rule, which->out, (uint64_t)snti_perf_pair_other(which), 0, which->count);
	default:
		return moved_wrong(rule, which->out, (rank + ranks - 1) % ranks, 0, which->count);
	}
}

void snti_perf_fill(const struct snti_perf_case *which)
{
	struct rule rule = make_rule(which);

	if (which->out_memory)
		memset(which->out_memory, JUNK, (size_t)(which->guard - which->out_memory));
	if (which->guard)
		memset(which->guard, GUARD, SNTI_PERF_GUARD);
	for (size_t i = 0; i < which->in_count; i++)
		put(&rule, which->in + i * rule.width, (uint64_t)which->rank, i);
}

uint64_t snti_perf_wrong(const struct snti_perf_case *which)
{
	struct rule rule = make_rule(which);
	uint64_t wrong = guard_wrong(which->guard);

	if (which->out_count)
		wrong += out_wrong(&rule, which);
	if (which->in_memory)   /* not in place: what was put in must still be there */
		wrong += moved_wrong(&rule, which->in, (uint64_t)which->rank, 0, which->in_count);
	return wrong;
}
