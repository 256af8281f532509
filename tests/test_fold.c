/* SPDX-License-Identifier: BSD-3-Clause */
/* test_fold.c - every fold of every type and instruction set against arithmetic done another way. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/copy.h"
#include "collectives/fold.h"

#if defined(__x86_64__)
typedef __float128 wide_float;   /* 113 bits: sums and products of doubles round once */
#else
typedef long double wide_float;
#endif

enum { MOST = 130, ROOM = (MOST + 2) * 8 };

static const char *const variants[] = { "scalar", "avx2", "avx512", "avx512bf16", "neon", NULL };
static uint64_t seed;

/* splitmix64 */
static uint64_t any(void)
{
	uint64_t z = seed += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* ---- the reference: values, not bits ------------------------------------ */

static int is_float(enum snt_type type)
{
	return type >= SNT_FLOAT16;
}

static int is_signed(enum snt_type type)
{
	return type <= SNT_INT64;
}

static int fraction_bits(enum snt_type type)
{
	return type == SNT_FLOAT16 ? 10 : type == SNT_BFLOAT16 ? 7 : type == SNT_FLOAT32 ? 23 : 52;
}

static int exponent_bits(enum snt_type type)
{
	return type == SNT_FLOAT16 ? 5 : type == SNT_FLOAT64 ? 11 : 8;
}

static uint64_t quiet_nan(enum snt_type type)
{
	return ((1ull << (exponent_bits(type) + 1)) - 1) << (fraction_bits(type) - 1);
}

/* The value of 16-bit float @bits, from the definition of the format. */
static double small_value(enum snt_type type, uint64_t bits)
{
	int fraction = fraction_bits(type), bias = (1 << (exponent_bits(type) - 1)) - 1;
	int exponent = (int)(bits >> fraction) & ((1 << exponent_bits(type)) - 1);
	double significand = (double)(bits & ((1u << fraction) - 1));
	double value;

	if (exponent == (1 << exponent_bits(type)) - 1)
		value = significand > 0 ? (double)NAN : (double)INFINITY;
	else if (exponent == 0)
		value = ldexp(significand, 1 - bias - fraction);
	else
		value = ldexp(significand + (1 << fraction), exponent - bias - fraction);
	return bits >> 15 ? -value : value;
}

/* The nearest 16-bit float to @value: counts units in the last place with rint(). */
static uint64_t small_bits(enum snt_type type, double value)
{
	int fraction = fraction_bits(type), bias = (1 << (exponent_bits(type) - 1)) - 1, exponent;
	uint64_t sign = signbit(value) ? 0x8000 : 0, infinity = (uint64_t)(2 * bias + 1) << fraction;
	double units;

	if (isnan(value))
		return quiet_nan(type);
	value = fabs(value);
	if (isinf(value))
		return sign | infinity;
	exponent = value > 0 ? ilogb(value) : -bias;
	if (exponent < 1 - bias)
		exponent = 1 - bias;
	units = rint(ldexp(value, fraction - exponent));
	/* Denormals have no leading one, and a carry moves on to the next exponent by itself. */
	units += ldexp(exponent + bias - 1, fraction);
	return sign | (units >= (double)infinity ? infinity : (uint64_t)units);
}

static double value_of(enum snt_type type, uint64_t bits)
{
	double value;
	float narrow;
	uint32_t half = (uint32_t)bits;

	if (type == SNT_FLOAT64) {
		memcpy(&value, &bits, 8);
		return value;
	}
	if (type != SNT_FLOAT32)
		return small_value(type, bits);
	memcpy(&narrow, &half, 4);
	return (double)narrow;
}

static uint64_t bits_from(enum snt_type type, wide_float wide)
{
	double value = (double)wide;
	float narrow = (float)wide;
	uint64_t bits = 0;

	if (wide != wide)
		return quiet_nan(type);
	if (type == SNT_FLOAT64)
		memcpy(&bits, &value, 8);
	else if (type == SNT_FLOAT32)
		memcpy(&bits, &narrow, 4);
	else
		bits = small_bits(type, (double)narrow);   /* by way of float32, as documented */
	return bits;
}

static uint64_t expect_float(enum snt_type type, enum snt_fold fold, uint64_t a, uint64_t b)
{
	double x = value_of(type, a), y = value_of(type, b);

	if (isnan(x) || isnan(y))
		return quiet_nan(type);
	switch (fold) {
	case SNT_PRODUCT: return bits_from(type, (wide_float)x * (wide_float)y);
	case SNT_MIN: return x < y || (x == y && signbit(x)) ? a : b;
	case SNT_MAX: return x > y || (x == y && !signbit(x)) ? a : b;
	default: return bits_from(type, (wide_float)x + (wide_float)y);
	}
}

static __int128 integer_of(enum snt_type type, uint64_t bits)
{
	int shift = 64 - 8 * (int)snt_type_size(type);

	return is_signed(type) ? (__int128)((int64_t)(bits << shift) >> shift) : (__int128)bits;
}

static uint64_t expect_integer(enum snt_type type, enum snt_fold fold, uint64_t a, uint64_t b)
{
	__int128 x = integer_of(type, a), y = integer_of(type, b);

	switch (fold) {
	case SNT_PRODUCT: return (uint64_t)((unsigned __int128)x * (unsigned __int128)y);
	case SNT_MIN: return (uint64_t)(x < y ? x : y);
	case SNT_MAX: return (uint64_t)(x > y ? x : y);
	case SNT_BAND: return a & b;
	case SNT_BOR: return a | b;
	case SNT_BXOR: return a ^ b;
	case SNT_LAND: return x != 0 && y != 0;
	case SNT_LOR: return x != 0 || y != 0;
	case SNT_LXOR: return (x != 0) != (y != 0);
	default: return (uint64_t)(x + y);
	}
}

/* ---- elements at any address -------------------------------------------- */

static uint64_t load(enum snt_type type, const unsigned char *at, size_t index)
{
	uint8_t b1; uint16_t b2; uint32_t b4; uint64_t b8;

	switch (snt_type_size(type)) {
	case 1: memcpy(&b1, at + index, 1); return b1;
	case 2: memcpy(&b2, at + 2 * index, 2); return b2;
	case 4: memcpy(&b4, at + 4 * index, 4); return b4;
	default: memcpy(&b8, at + 8 * index, 8); return b8;
	}
}

static void store(enum snt_type type, unsigned char *at, size_t index, uint64_t bits)
{
	uint8_t b1 = (uint8_t)bits; uint16_t b2 = (uint16_t)bits; uint32_t b4 = (uint32_t)bits;

	switch (snt_type_size(type)) {
	case 1: memcpy(at + index, &b1, 1); break;
	case 2: memcpy(at + 2 * index, &b2, 2); break;
	case 4: memcpy(at + 4 * index, &b4, 4); break;
	default: memcpy(at + 8 * index, &bits, 8); break;
	}
}

static uint64_t cut(enum snt_type type, uint64_t bits)
{
	return bits & (UINT64_MAX >> (64 - 8 * snt_type_size(type)));
}

/* Half are any bits, half are the awkward ones: zeros, ends, infinities, NaNs, denormals. */
static uint64_t any_element(enum snt_type type)
{
	uint64_t sign = 1ull << (8 * snt_type_size(type) - 1), pick = any();
	uint64_t infinity = is_float(type) ? ((1ull << exponent_bits(type)) - 1) << fraction_bits(type) : sign - 1;
	uint64_t one = is_float(type) ? ((1ull << (exponent_bits(type) - 1)) - 1) << fraction_bits(type) : 1;
	const uint64_t awkward[] = { 0, 1, 2, one, infinity, infinity - 1, infinity + 1, one + 1,
		is_float(type) ? quiet_nan(type) | 5 : sign, is_float(type) ? (one >> 1) + pick % 7 : 3 };

	if (pick & 1)
		return cut(type, any());
	return cut(type, awkward[(pick >> 8) % (sizeof(awkward) / 8)] ^ (pick & 2 ? sign : 0));
}

static void check_element(const char *variant, enum snt_type type, enum snt_fold fold,
			  uint64_t a, uint64_t b, uint64_t got)
{
	uint64_t want = cut(type, is_float(type) ? expect_float(type, fold, a, b) : expect_integer(type, fold, a, b));

	if (got != want)
		fail_msg("%s %s %s of %#llx and %#llx is %#llx, not %#llx", variant, snt_type_name(type),
			 snt_fold_name(fold), (unsigned long long)a, (unsigned long long)b,
			 (unsigned long long)got, (unsigned long long)want);
}

/* One fold of @count elements at odd addresses; @place: 0 elsewhere, 1 into left, 2 into right. */
static void check_fold(const char *variant, snti_fold_fn *fn, enum snt_type type, enum snt_fold fold,
		       size_t count, int place)
{
	unsigned char left[ROOM], right[ROOM], other[ROOM], a[ROOM], b[ROOM];
	unsigned char *l = left + any() % 8, *r = right + any() % 8, *o = other + any() % 8;
	unsigned char *d = place == 0 ? o : place == 1 ? l : r;
	size_t bytes = count * snt_type_size(type);

	for (size_t i = 0; i < count; i++) {
		store(type, l, i, any_element(type));
		store(type, r, i, any_element(type));
	}
	memcpy(a, l, bytes);
	memcpy(b, r, bytes);
	d[bytes] = 0xa5;
	fn(d, l, r, count);
	assert_int_equal(d[bytes], 0xa5);
	for (size_t i = 0; i < count; i++)
		check_element(variant, type, fold, load(type, a, i), load(type, b, i), load(type, d, i));
}

static void each_variant_gives_the_same_bits_as_plain_arithmetic(void **state)
{
	(void)state;
	for (const char *const *v = variants; *v; v++)
		for (int type = 0; type < SNT_TYPE_COUNT; type++)
			for (int fold = 0; fold < SNT_FOLD_COUNT; fold++) {
				snti_fold_fn *fn = snti_fold_variant(*v, type, fold);

				for (size_t count = 0; fn && count <= MOST; count++)
					for (int place = 0; place < 3; place++)
						check_fold(*v, fn, type, fold, count, place);
			}
}

static void a_large_fold_gives_the_bits_of_the_scalar_one(void **state)
{
	enum { COUNT = 5003 };
	unsigned char *a = malloc(COUNT * 8), *b = malloc(COUNT * 8), *c = malloc(COUNT * 8), *d = malloc(COUNT * 8);

	(void)state;
	assert_true(a && b && c && d);
	for (int type = 0; type < SNT_TYPE_COUNT; type++)
		for (int fold = 0; fold < SNT_FOLD_COUNT; fold++) {
			snti_fold_fn *best = snti_fold_function(type, fold);

			for (size_t i = 0; best && i < COUNT; i++) {
				store(type, a, i, any_element(type));
				store(type, b, i, any_element(type));
			}
			if (!best)
				continue;
			best(c, a, b, COUNT);
			snti_fold_variant("scalar", type, fold)(d, b, a, COUNT);   /* folds commute, too */
			assert_memory_equal(c, d, COUNT * snt_type_size(type));
		}
	free(a);
	free(b);
	free(c);
	free(d);
}

/* Vectors are asked together whether they have one, and settled only then. */
static void one_nan_in_any_place_becomes_the_one_nan(void **state)
{
	enum { COUNT = 2500 };
	static unsigned char left[COUNT * 8], right[COUNT * 8], got[COUNT * 8];

	(void)state;
	memset(left, 0x3c, sizeof(left));
	memset(right, 0x3c, sizeof(right));
	for (const char *const *v = variants; *v; v++)
		for (int type = SNT_FLOAT16; type <= SNT_FLOAT64; type++) {
			snti_fold_fn *fn = snti_fold_variant(*v, type, SNT_SUM);
			uint64_t ordinary = load(type, left, 0), odd_nan = cut(type, ~UINT64_C(0)) ^ 2;

			for (size_t at = 0; fn && at < COUNT; at += at < 300 ? 1 : 41) {
				unsigned char *side = at % 2 ? left : right;

				store(type, side, at, odd_nan);
				fn(got, left, right, COUNT);
				store(type, side, at, ordinary);
				check_element(*v, type, SNT_SUM, odd_nan, ordinary, load(type, got, at));
				check_element(*v, type, SNT_SUM, ordinary, ordinary, load(type, got, at ? 0 : 1));
			}
		}
}

/* Far from both ends, so that no sum of two is, either. */
static uint16_t any_ordinary(enum snt_type type)
{
	int middle = (1 << (exponent_bits(type) - 1)) - 1, spread = middle / 3;
	uint64_t exponent = (uint64_t)(middle - spread) + any() % (uint64_t)(2 * spread);

	return (uint16_t)(any() << 15 | exponent << fraction_bits(type) | any() % (1u << fraction_bits(type)));
}

/* Whole vectors of ordinary numbers may be folded in another way than those with an awkward one. */
static void check_among_ordinary(const char *variant, snti_fold_fn *fn, enum snt_type type, size_t at, int in_place)
{
	enum { COUNT = 512 };
	uint16_t left[COUNT], right[COUNT], got[COUNT], a[COUNT];

	for (size_t i = 0; i < COUNT; i++) {
		left[i] = any_ordinary(type);
		right[i] = any_ordinary(type);
	}
	left[at] = (uint16_t)any_element(type);
	right[at] = any() % 4 ? (uint16_t)any_element(type) : left[at] ^ 0x8000;
	memcpy(a, left, sizeof(a));
	fn(in_place ? left : got, left, right, COUNT);
	for (size_t i = 0; i < COUNT; i++)
		check_element(variant, type, SNT_SUM, a[i], right[i], in_place ? left[i] : got[i]);
}

static void one_awkward_sum_among_ordinary_ones_has_the_same_bits(void **state)
{
	(void)state;
	for (const char *const *v = variants; *v; v++)
		for (int type = SNT_FLOAT16; type <= SNT_BFLOAT16; type++) {
			snti_fold_fn *fn = snti_fold_variant(*v, type, SNT_SUM);

			for (size_t i = 0; fn && i < 1500; i++)
				check_among_ordinary(*v, fn, type, any() % 512, (int)(i % 2));
		}
}

/* @place: 0 apart, else over source place - 1. */
static void check_many(enum snt_type type, enum snt_fold fold, unsigned number, size_t count, unsigned place)
{
	enum { MOST_MANY = 1100 };
	static unsigned char rooms[SNTI_FOLD_MOST + 1][(MOST_MANY + 2) * 8], want[MOST_MANY * 8];
	const void *sources[SNTI_FOLD_MOST];
	unsigned char *dst = rooms[SNTI_FOLD_MOST] + any() % 8;
	size_t bytes = count * snt_type_size(type);

	for (unsigned i = 0; i < number; i++) {
		unsigned char *source = rooms[i] + any() % 8;

		for (size_t k = 0; k < count; k++)
			store(type, source, k, any_element(type));
		sources[i] = source;
		if (place == i + 1)
			dst = source;
	}
	snti_fold_variant("scalar", type, fold)(want, sources[0], sources[1], count);
	for (unsigned i = 2; i < number; i++)
		snti_fold_variant("scalar", type, fold)(want, want, sources[i], count);
	dst[bytes] = 0xa5;
	snti_fold_many(type, fold, dst, sources, number, count);
	assert_memory_equal(dst, want, bytes);
	assert_int_equal(dst[bytes], 0xa5);
}

static void many_sources_give_the_bits_of_two_at_a_time(void **state)
{
	static const size_t counts[] = { 0, 1, 3, 63, 64, 65, 128, 200, 1100 };

	(void)state;
	for (int type = 0; type < SNT_TYPE_COUNT; type++)
		for (int fold = 0; fold < SNT_FOLD_COUNT; fold++)
			for (unsigned number = 2; snti_fold_function(type, fold) && number <= SNTI_FOLD_MOST; number++)
				for (size_t c = 0; c < sizeof(counts) / sizeof(*counts); c++)
					check_many(type, fold, number, counts[c], (unsigned)any() % (number + 1));
}

/* @over: 0 all places apart, else the last one is source over - 1; @off: bytes off the borders of lines. */
static void check_spread(struct snti_fold_spread *f, size_t count, unsigned over, size_t off)
{
	enum { MOST_SPREAD = 1100, ROOM = (MOST_SPREAD + 16) * 8 };
	static _Alignas(64) unsigned char rooms[2 * SNTI_FOLD_MOST][ROOM], want[ROOM];
	size_t bytes = count * snt_type_size(f->type);

	for (unsigned i = 0; i < f->number; i++) {
		f->sources[i] = rooms[i] + off;
		for (size_t k = 0; k < count; k++)
			store(f->type, rooms[i] + off, k, any_element(f->type));
	}
	for (unsigned i = 0; i < f->places; i++) {
		f->to[i] = rooms[SNTI_FOLD_MOST + i] + off;
		memset(f->to[i], 0x5a, bytes + 1);
	}
	snti_fold_variant("scalar", f->type, f->fold)(want, f->sources[0], f->sources[1], count);
	for (unsigned i = 2; i < f->number; i++)
		snti_fold_variant("scalar", f->type, f->fold)(want, want, f->sources[i], count);
	if (over) {
		f->to[f->places - 1] = rooms[over - 1] + off;
		rooms[over - 1][off + bytes] = 0x5a;
	}
	snti_fold_spread(f, count);
	snti_stream_end();
	for (unsigned i = 0; i < f->places; i++) {
		assert_memory_equal(f->to[i], want, bytes);
		assert_int_equal(((unsigned char *)f->to[i])[bytes], 0x5a);
	}
}

static void a_spread_fold_gives_the_same_bits_everywhere(void **state)
{
	static const size_t counts[] = { 0, 1, 64, 65, 200, 1100 };

	(void)state;
	for (int type = 0; type < SNT_TYPE_COUNT; type++)
		for (int how = 0; how < SNT_FOLD_COUNT; how++)
			for (unsigned number = 2; snti_fold_function(type, how) && number <= SNTI_FOLD_MOST; number++)
				for (size_t c = 0; c < sizeof(counts) / sizeof(*counts); c++) {
					struct snti_fold_spread f = { .type = type, .fold = how, .number = number,
						.places = 1 + (unsigned)any() % SNTI_FOLD_MOST, .kept = (unsigned)any() % 2 };

					check_spread(&f, counts[c], (unsigned)any() % (number + 1), any() % 2 ? 0 : any() % 16 * 4);
				}
}

static void one_pass_of_each_variant_gives_the_bits_of_two_at_a_time(void **state)
{
	enum { COUNT = 512 };
	static uint64_t rooms[SNTI_FOLD_MOST][COUNT], got[COUNT], want[COUNT];
	const void *sources[SNTI_FOLD_MOST];

	(void)state;
	for (const char *const *v = variants; *v; v++)
		for (int type = 0; type < SNT_TYPE_COUNT; type++) {
			snti_sum_many_fn *many = snti_sum_many_variant(*v, type);

			for (unsigned i = 0; many && i < SNTI_FOLD_MOST; i++) {
				sources[i] = rooms[i];
				for (size_t k = 0; k < COUNT; k++)
					store(type, (unsigned char *)rooms[i], k, any_element(type));
				if (i == 0)
					memcpy(want, rooms[0], sizeof(want));
				else
					snti_fold_variant("scalar", type, SNT_SUM)(want, want, rooms[i], COUNT);
				if (i == 0)
					continue;
				assert_int_equal(many(got, sources, i + 1, COUNT), COUNT);
				assert_memory_equal(got, want, COUNT * snt_type_size(type));
			}
		}
	assert_null(snti_sum_many_variant("scalar", SNT_FLOAT32));
	assert_null(snti_sum_many_variant("abacus", SNT_FLOAT32));
}

static void there_is_a_fold_for_every_pair_that_makes_sense(void **state)
{
	(void)state;
	for (int type = 0; type < SNT_TYPE_COUNT; type++)
		for (int fold = 0; fold < SNT_FOLD_COUNT; fold++) {
			int sense = !is_float(type) || fold <= SNT_AVERAGE;

			assert_int_equal(snti_fold_function(type, fold) != NULL, sense);
			assert_int_equal(snti_fold_variant("scalar", type, fold) != NULL, sense);
		}
	assert_null(snti_fold_function(SNT_TYPE_COUNT, SNT_SUM));
	assert_null(snti_fold_function(SNT_INT8, SNT_FOLD_COUNT));
	assert_null(snti_fold_variant("abacus", SNT_INT8, SNT_SUM));
	assert_null(snti_scale_function(SNT_TYPE_COUNT));
}

static void all_16_bit_floats_survive_the_way_through_float32(void **state)
{
	static uint16_t all[65536], zero[65536], sum[65536];

	(void)state;
	for (const char *const *v = variants; *v; v++)
		for (int type = SNT_FLOAT16; type <= SNT_BFLOAT16; type++) {
			snti_fold_fn *fn = snti_fold_variant(*v, type, SNT_SUM);

			for (size_t i = 0; i < 65536; i++) {
				all[i] = (uint16_t)i;
				zero[i] = 0x8000;   /* x + -0 is x, for -0 and +0 too */
			}
			if (!fn)
				continue;
			fn(sum, all, zero, 65536);
			for (size_t i = 0; i < 65536; i++)
				assert_int_equal(sum[i], isnan(small_value(type, i)) ? quiet_nan(type) : i);
		}
}

static void every_16_bit_float_folds_right_with_awkward_ones(void **state)
{
	static uint16_t all[65536], other[65536], got[65536];

	(void)state;
	for (const char *const *v = variants; *v; v++)
		for (int type = SNT_FLOAT16; type <= SNT_BFLOAT16; type++)
			for (int fold = SNT_SUM; fold <= SNT_MAX; fold++) {
				snti_fold_fn *fn = snti_fold_variant(*v, type, fold);

				for (size_t i = 0; i < 65536; i++) {
					all[i] = (uint16_t)i;
					other[i] = (uint16_t)any_element(type);
				}
				if (!fn)
					continue;
				fn(got, all, other, 65536);
				for (size_t i = 0; i < 65536; i++)
					check_element(*v, type, fold, all[i], other[i], got[i]);
			}
}

static uint64_t expect_scaled(enum snt_type type, uint64_t x, uint32_t ranks)
{
	if (!is_float(type))
		return cut(type, (uint64_t)(integer_of(type, x) / (__int128)ranks));
	if (type == SNT_FLOAT64)
		return bits_from(type, value_of(type, x) / (double)ranks);
	return bits_from(type, (wide_float)((float)value_of(type, x) / (float)ranks));
}

static void the_average_divides_and_rounds_integers_towards_zero(void **state)
{
	static const uint32_t ranks[] = { 2, 3, 7, 128, 255, 300, 65537, 131072, 4000000000u };
	unsigned char x[ROOM], before[ROOM];

	(void)state;
	for (int type = 0; type < SNT_TYPE_COUNT; type++)
		for (size_t n = 0; n < sizeof(ranks) / sizeof(*ranks); n++) {
			unsigned char *at = x + any() % 8;

			for (size_t i = 0; i < MOST; i++)
				store(type, at, i, any_element(type));
			memcpy(before, at, MOST * snt_type_size(type));
			snti_scale_function(type)(at, MOST, ranks[n]);
			for (size_t i = 0; i < MOST; i++)
				assert_int_equal(load(type, at, i), expect_scaled(type, load(type, before, i), ranks[n]));
		}
}

static void the_average_over_one_rank_changes_nothing(void **state)
{
	uint32_t x = 0xff812345u, before = x;   /* a signaling NaN */

	(void)state;
	snti_scale_function(SNT_FLOAT32)(&x, 1, 1);
	assert_int_equal(x, before);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_variant_gives_the_same_bits_as_plain_arithmetic),
		cmocka_unit_test(a_large_fold_gives_the_bits_of_the_scalar_one),
		cmocka_unit_test(one_nan_in_any_place_becomes_the_one_nan),
		cmocka_unit_test(one_awkward_sum_among_ordinary_ones_has_the_same_bits),
		cmocka_unit_test(many_sources_give_the_bits_of_two_at_a_time),
		cmocka_unit_test(a_spread_fold_gives_the_same_bits_everywhere),
		cmocka_unit_test(one_pass_of_each_variant_gives_the_bits_of_two_at_a_time),
		cmocka_unit_test(there_is_a_fold_for_every_pair_that_makes_sense),
		cmocka_unit_test(all_16_bit_floats_survive_the_way_through_float32),
		cmocka_unit_test(every_16_bit_float_folds_right_with_awkward_ones),
		cmocka_unit_test(the_average_divides_and_rounds_integers_towards_zero),
		cmocka_unit_test(the_average_over_one_rank_changes_nothing),
	};
	const char *given = getenv("TEST_SEED");

	seed = given ? strtoull(given, NULL, 0) : snti_now_ns();
	printf("# TEST_SEED=%llu\n", (unsigned long long)seed);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
