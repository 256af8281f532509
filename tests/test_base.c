/* SPDX-License-Identifier: BSD-3-Clause */
/* test_base.c - statuses, log, settings, clock, processor and random bytes. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/copy.h"
#include "base/cpu.h"
#include "base/list.h"
#include "base/log.h"
#include "base/random.h"
#include "base/settings.h"

/* ---- statuses ----------------------------------------------------------- */

static void every_status_has_a_name_a_sentence_and_a_scope(void **state)
{
	(void)state;
#define CHECK(name, value, scope, sentence) \
	assert_string_equal(snt_status_name(value), #name); \
	assert_string_equal(snt_status_sentence(name), sentence); \
	assert_int_equal(snt_status_scope(name), scope);
	SNT_STATUS_LIST(CHECK)
#undef CHECK
	assert_string_equal(snt_status_name(0), "SNT_OK");
	assert_string_equal(snt_status_name(1), "SNT_BUSY");
	assert_string_equal(snt_status_name(-4711), "unknown");
	assert_int_equal(snt_status_scope(0), SNT_SCOPE_NONE);
	assert_int_equal(snt_status_scope(SNT_BUSY), SNT_SCOPE_NONE);
	assert_int_equal(snt_status_scope(-4711), SNT_SCOPE_PROCESS);
}

static void types_folds_and_collectives_have_names(void **state)
{
	(void)state;
	for (int i = 0; i < SNT_TYPE_COUNT; i++) {
		assert_string_not_equal(snt_type_name(i), "unknown");
		assert_in_range(snt_type_size(i), 1, 8);
	}
	for (int i = 0; i < SNT_FOLD_COUNT; i++)
		assert_non_null(snt_fold_name(i));
	for (int i = 0; i < SNT_COLLECTIVE_COUNT; i++)
		assert_non_null(snt_collective_name(i));
	assert_string_equal(snt_type_name(SNT_BFLOAT16), "bfloat16");
	assert_string_equal(snt_fold_name(SNT_SUM), "sum");
	assert_string_equal(snt_collective_name(SNT_REDUCE_SCATTER), "reduce_scatter");
	assert_int_equal(snt_type_size(SNT_TYPE_COUNT), 0);
	assert_string_equal(snt_type_name((enum snt_type)-1), "unknown");
	assert_string_equal(snt_fold_name(SNT_FOLD_COUNT), "unknown");
	assert_string_equal(snt_collective_name(SNT_COLLECTIVE_COUNT), "unknown");
	assert_int_equal(strchr(snt_version(), '.') != NULL, 1);
}

/* ---- log ---------------------------------------------------------------- */

struct caught { int lines; enum snt_log_level level; char text[2048]; };

static void catch(enum snt_log_level level, const char *text, void *arg)
{
	struct caught *caught = arg;

	caught->lines++;
	caught->level = level;
	snprintf(caught->text, sizeof(caught->text), "%s", text);
}

static void a_failure_keeps_its_text_logs_it_and_returns_its_status(void **state)
{
	struct caught caught = { 0 };

	(void)state;
	snt_log_to(catch, &caught);
	errno = EPIPE;
	assert_int_equal(snti_fail(SNT_EPEER, "rank %d is gone", 3), SNT_EPEER);
	assert_int_equal(errno, EPIPE);
	assert_string_equal(snt_error_text(), "rank 3 is gone");
	assert_int_equal(caught.lines, 1);
	assert_int_equal(caught.level, SNT_LOG_ERROR);
	assert_string_equal(caught.text, "rank 3 is gone");
	assert_int_equal(snti_fail(SNT_EBROKEN, "before: %s", snt_error_text()), SNT_EBROKEN);
	assert_string_equal(snt_error_text(), "before: rank 3 is gone");
	snt_log_to(NULL, NULL);
}

static void *text_of_a_fresh_thread(void *arg)
{
	strcpy(arg, snt_error_text());
	return NULL;
}

static void the_error_text_belongs_to_its_thread(void **state)
{
	struct caught caught = { 0 };
	char text[64] = "not asked";
	pthread_t thread;

	(void)state;
	snt_log_to(catch, &caught);
	snti_fail(SNT_EINVAL, "mine");
	assert_int_equal(pthread_create(&thread, NULL, text_of_a_fresh_thread, text), 0);
	pthread_join(thread, NULL);
	assert_string_equal(text, "");
	assert_string_equal(snt_error_text(), "mine");
	snt_log_to(NULL, NULL);
}

static void a_log_line_stays_one_line_and_is_cut_when_too_long(void **state)
{
	struct caught caught = { 0 };
	char longer[4096];

	(void)state;
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = 0;
	snt_log_to(catch, &caught);
	snti_log(SNT_LOG_WARN, "one\ntwo\033[31m");
	assert_string_equal(caught.text, "one two [31m");
	snti_log(SNT_LOG_WARN, "%s", longer);
	assert_int_equal(strlen(caught.text), 1023);
	snt_log_to(NULL, NULL);
}

static void what_is_above_the_level_is_not_logged(void **state)
{
	struct caught caught = { 0 };

	(void)state;
	snt_log_to(catch, &caught);
	snti_log(SNT_LOG_INFO, "the level is 2 unless SNT_LOG says more");
	snti_log(SNT_LOG_NONE, "never");
	snt_log_to(NULL, NULL);
	assert_int_equal(caught.lines, 0);
}

/* ---- settings ----------------------------------------------------------- */

/* What a child process with this environment writes to standard error. The child
 * returns 0 from @act when all is well. */
static void in_child(int (*act)(void), const char *const *environment, char *said, size_t room)
{
	int ends[2], status = -1;
	size_t length = 0;
	ssize_t got;
	pid_t child;

	assert_int_equal(pipe(ends), 0);
	fflush(NULL);
	child = fork();
	if (child == 0) {
		dup2(ends[1], STDERR_FILENO);
		clearenv();
		for (; *environment; environment += 2)
			setenv(environment[0], environment[1], 1);
		_exit(act());
	}
	close(ends[1]);
	while ((got = read(ends[0], said + length, room - 1 - length)) > 0)
		length += (size_t)got;
	said[length] = 0;
	close(ends[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	if (status)
		fail_msg("the child ended with %d and said: %s", status, said);
}

static int expect_defaults(void)
{
	const struct snti_settings *s = snti_settings();

	return s->timeout_ms != 30000 || s->shm_slot != 65536 || s->log_level != 2 ||
	       strcmp(s->transports, "auto") || s->shm_slots != 4;
}

static int expect_given(void)
{
	const struct snti_settings *s = snti_settings();

	setenv("SNT_TRANSPORTS", "other", 1);   /* too late: read once */
	return s->timeout_ms != 5 || s->shm_slot != 1 << 20 || strcmp(snti_settings()->transports, "tcp");
}

static int fail_once(void)
{
	return snti_fail(SNT_EPEER, "rank %d is gone", 1) != SNT_EPEER;
}

static int describe_secret(void)
{
	struct snti_setting_text text;

	for (size_t i = 0; i < snti_setting_count(); i++) {
		snti_setting_describe(i, &text);
		if (strstr(text.value, "hush"))
			return 1;
		if (!strcmp(text.variable, "SNT_TIMEOUT") && strcmp(text.value, "77"))
			return 2;
	}
	return 0;
}

static void settings_come_from_the_environment_and_once_only(void **state)
{
	char said[2048];

	(void)state;
	in_child(expect_defaults, (const char *[]){ "SNT_TIMEOUT", "", NULL }, said, sizeof(said));
	assert_string_equal(said, "");
	in_child(expect_given, (const char *[]){ "SNT_TIMEOUT", "5", "SNT_SHM_SLOT", "1M",
		"SNT_TRANSPORTS", "tcp", NULL }, said, sizeof(said));
	assert_string_equal(said, "");
}

static void a_setting_out_of_bounds_is_warned_about_and_the_default_stands(void **state)
{
	static const char *const bad[] = { "0", "-1", "86400001", "soon", "5s", "99999999999999999999999", " 7" };
	char said[2048];

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		in_child(expect_defaults, (const char *[]){ "SNT_TIMEOUT", bad[i], NULL }, said, sizeof(said));
		assert_int_equal(strncmp(said, "sennit: warning: SNT_TIMEOUT is '", 33), 0);
		assert_non_null(strstr(said, bad[i]));
		assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
	}
}

static void an_unknown_variable_is_warned_about_with_the_nearest_name(void **state)
{
	char said[2048], name[300];

	(void)state;
	in_child(expect_defaults, (const char *[]){ "SNT_TIMOUT", "5", NULL }, said, sizeof(said));
	assert_string_equal(said, "sennit: warning: SNT_TIMOUT is no setting of sennit, did you mean SNT_TIMEOUT?\n");
	in_child(expect_defaults, (const char *[]){ "SNT_WHATEVER_THIS_IS", "5", NULL }, said, sizeof(said));
	assert_non_null(strstr(said, "see 'sennit info --settings'"));
	memset(name, 'A', sizeof(name));
	memcpy(name, "SNT_", 4);
	name[sizeof(name) - 1] = 0;
	in_child(expect_defaults, (const char *[]){ name, "5", NULL }, said, sizeof(said));
	assert_non_null(strstr(said, "is no setting"));
}

static void the_log_goes_to_standard_error_as_far_as_the_level_says(void **state)
{
	char said[2048];

	(void)state;
	in_child(fail_once, (const char *[]){ "SNT_LOG", "1", NULL }, said, sizeof(said));
	assert_string_equal(said, "sennit: error: rank 1 is gone\n");
	in_child(fail_once, (const char *[]){ "SNT_LOG", "0", "SNT_TIMOUT", "1", NULL }, said, sizeof(said));
	assert_string_equal(said, "");
}

static void the_table_of_settings_does_not_show_the_secret(void **state)
{
	char said[2048];

	(void)state;
	in_child(describe_secret, (const char *[]){ "SNT_SECRET", "hush", "SNT_TIMEOUT", "77", NULL },
		 said, sizeof(said));
}

static void sizes_have_units_and_bounds(void **state)
{
	static const char *const bad[] = { "", "K", "-1", "1KB", "1T", "1.5K", " 1", "1 ", "0x10",
		"18446744073709551616", "17179869184G", "18014398509481984K" };
	static const struct { const char *text; uint64_t size; } good[] = {
		{ "0", 0 }, { "123", 123 }, { "64K", 65536 }, { "64k", 65536 }, { "1M", 1 << 20 }, { "2G", 2ull << 30 },
		{ "18446744073709551615", UINT64_MAX }, { "17179869183G", UINT64_MAX - (1u << 30) + 1 },
	};
	uint64_t size = 42;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(snti_parse_size(bad[i], &size), SNT_EINVAL);
	assert_int_equal(size, 42);
	for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
		assert_int_equal(snti_parse_size(good[i].text, &size), 0);
		assert_true(size == good[i].size);
	}
}

/* ---- clock, processor, random, list ------------------------------------- */

static void deadlines_pass_and_zero_never_does(void **state)
{
	uint64_t now = snti_now_ns(), far = snti_deadline_ms(60000);

	(void)state;
	assert_true(snti_now_ns() >= now);
	assert_false(snti_is_past(0));
	assert_true(snti_is_past(now));
	assert_false(snti_is_past(far));
	assert_int_equal(snti_left_ms(0, 250), 250);
	assert_int_equal(snti_left_ms(now, 250), 0);
	assert_int_equal(snti_left_ms(far, 250), 250);
	assert_in_range(snti_left_ms(far, 1000000), 50000, 60000);
	assert_int_equal(snti_left_ms(snti_now_ns() + 900000, 250), 1);   /* rounded up, so no busy loop */
	assert_true(snti_deadline_ms(UINT64_MAX) == UINT64_MAX);
	assert_int_equal(snti_left_ms(UINT64_MAX, INT32_MAX), INT32_MAX);
}

static void the_processor_has_a_name_and_a_core_for_us(void **state)
{
	unsigned features = snti_cpu_features();

	(void)state;
	assert_true(strlen(snti_cpu_name()) > 0);
	assert_true(snti_cpu_count() >= 1);
	assert_true(!(features & SNTI_CPU_AVX512) || (features & SNTI_CPU_AVX2));
	assert_true(!(features & SNTI_CPU_AVX512BF16) || (features & SNTI_CPU_AVX512));
	snti_cpu_relax();
}

static void a_copy_around_the_caches_copies_just_that(void **state)
{
	unsigned char from[400], to[400];

	(void)state;
	for (size_t i = 0; i < sizeof(from); i++)
		from[i] = (unsigned char)(i * 7 + 1);
	for (size_t offset = 0; offset < 70; offset++)
		for (size_t size = 0; size < 300; size += 1 + size / 16) {
			memset(to, 0, sizeof(to));
			snti_copy_around(to + offset, from + 3, size);
			assert_memory_equal(to + offset, from + 3, size);
			for (size_t i = 0; i < sizeof(to); i++)
				assert_true((i >= offset && i < offset + size) || !to[i]);
		}
	assert_true(snti_cpu_cache() >= 4096);
}

static void random_bytes_differ_and_fill_the_whole_buffer(void **state)
{
	static unsigned char a[100000], zero[64];
	unsigned char b[32], c[32];

	(void)state;
	assert_int_equal(snti_random(b, sizeof(b)), 0);
	assert_int_equal(snti_random(c, sizeof(c)), 0);
	assert_memory_not_equal(b, c, sizeof(b));
	assert_int_equal(snti_random(a, sizeof(a)), 0);
	assert_memory_not_equal(a + sizeof(a) - 64, zero, 64);
	assert_int_equal(snti_random(NULL, 0), 0);
}

static void a_removed_link_may_be_removed_again(void **state)
{
	struct snti_link list, a, b;
	int seen = 0;

	(void)state;
	snti_list_init(&list);
	snti_list_append(&list, &a);
	snti_list_append(&list, &b);
	snti_list_remove(&a);
	snti_list_remove(&a);
	snti_list_each(link, &list)
		seen += link == &b ? 1 : 100;
	assert_int_equal(seen, 1);
	snti_list_remove(&b);
	assert_true(snti_list_empty(&list));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		/* Those that start children first, before this process reads its own settings. */
		cmocka_unit_test(settings_come_from_the_environment_and_once_only),
		cmocka_unit_test(a_setting_out_of_bounds_is_warned_about_and_the_default_stands),
		cmocka_unit_test(an_unknown_variable_is_warned_about_with_the_nearest_name),
		cmocka_unit_test(the_log_goes_to_standard_error_as_far_as_the_level_says),
		cmocka_unit_test(the_table_of_settings_does_not_show_the_secret),
		cmocka_unit_test(sizes_have_units_and_bounds),
		cmocka_unit_test(every_status_has_a_name_a_sentence_and_a_scope),
		cmocka_unit_test(types_folds_and_collectives_have_names),
		cmocka_unit_test(a_failure_keeps_its_text_logs_it_and_returns_its_status),
		cmocka_unit_test(the_error_text_belongs_to_its_thread),
		cmocka_unit_test(a_log_line_stays_one_line_and_is_cut_when_too_long),
		cmocka_unit_test(what_is_above_the_level_is_not_logged),
		cmocka_unit_test(deadlines_pass_and_zero_never_does),
		cmocka_unit_test(the_processor_has_a_name_and_a_core_for_us),
		cmocka_unit_test(a_copy_around_the_caches_copies_just_that),
		cmocka_unit_test(random_bytes_differ_and_fill_the_whole_buffer),
		cmocka_unit_test(a_removed_link_may_be_removed_again),
	};

	unsetenv("SNT_LOG");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
