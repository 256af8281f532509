/* SPDX-License-Identifier: BSD-3-Clause */
/* settings.c - reads the environment once, checks bounds, and points out misspelled variables. */
#include "base/settings.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"

extern char **environ;

enum kind { kind_number, kind_size, kind_text };

static const struct row {
	const char *variable, *standard, *meaning;
	enum kind kind;
	size_t offset;           /* in struct snti_settings */
	uint64_t least, most;
} rows[] = {
#define ROW(field, type, variable, standard, least, most, meaning) \
	{ variable, standard, meaning, kind_##type, offsetof(struct snti_settings, field), least, most },
	SNTI_SETTINGS(ROW)
#undef ROW
};

enum { ROWS = sizeof(rows) / sizeof(*rows), LONGEST_NAME = 64 };

static struct snti_settings settings;
static pthread_once_t read_once = PTHREAD_ONCE_INIT;
static atomic_bool told;

/* Digits only: no sign, no blanks, no overflow. Leaves *@text behind them. */
static int parse_digits(const char **text, uint64_t *number)
{
	const char *c = *text;
	uint64_t sum = 0;

	for (; *c >= '0' && *c <= '9'; c++)
		if (__builtin_mul_overflow(sum, 10, &sum) ||
		    __builtin_add_overflow(sum, (uint64_t)(*c - '0'), &sum))
			return SNT_EINVAL;
	if (c == *text)
		return SNT_EINVAL;
	*text = c;
	*number = sum;
	return 0;
}

static int parse_number(const char *text, uint64_t *number)
{
	uint64_t parsed;

	if (parse_digits(&text, &parsed) || *text)
		return SNT_EINVAL;
	*number = parsed;
	return 0;
}

int snti_parse_size(const char *text, uint64_t *size)
{
	static const char units[] = "KMG";
	const char *unit;
	uint64_t parsed;
	int shift = 0;

	if (parse_digits(&text, &parsed))
		return SNT_EINVAL;
	if (*text) {
		unit = strchr(units, *text & ~0x20);  /* 64k is 64K */
		if (!unit || !*unit || text[1])
			return SNT_EINVAL;
		shift = 10 * (int)(unit - units + 1);
	}
	if (parsed > UINT64_MAX >> shift)
		return SNT_EINVAL;
	*size = parsed << shift;
	return 0;
}

static int parse_row(const struct row *row, const char *text, uint64_t *number)
{
	int failed = row->kind == kind_size ? snti_parse_size(text, number) : parse_number(text, number);

	return failed || *number < row->least || *number > row->most ? SNT_EINVAL : 0;
}

/* What the environment says; NULL when nothing. An empty variable counts as none, as
 * launchers export empty ones for what they do not set. */
static const char *given(const struct row *row)
{
	const char *text = getenv(row->variable);

	return text && *text ? text : NULL;
}

static void read_row(const struct row *row)
{
	void *field = (char *)&settings + row->offset;
	const char *text = given(row);

	if (row->kind == kind_text) {
		/* A copy, as a later setenv() may free what getenv() gave. */
		char *copy = text ? strdup(text) : NULL;

		*(const char **)field = copy ? copy : row->standard;
	} else if (!text || parse_row(row, text, field)) {
		parse_row(row, row->standard, field);
	}
}

static void read_all(void)
{
	for (size_t i = 0; i < ROWS; i++)
		read_row(&rows[i]);
}

int snti_settings_adopt(const char *variable, const char *value)
{
	size_t at = 0;
	uint64_t number;
	char *copy;

	(void)snti_settings();
	while (at < ROWS && strcmp(rows[at].variable, variable))
		at++;
	if (at == ROWS)
		return SNT_EINVAL;
	if (given(&rows[at]))
		return SNTI_HAS_OWN;
	if (rows[at].kind == kind_text) {
		copy = strdup(value);
		if (copy)
			*(const char **)(void *)((char *)&settings + rows[at].offset) = copy;
		return copy ? 0 : SNT_ENOMEM;
	}
	if (parse_row(&rows[at], value, &number))
		return SNT_EINVAL;
	memcpy((char *)&settings + rows[at].offset, &number, sizeof(number));
	return 0;
}

static size_t least_of(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Levenshtein's distance, one row of his matrix at a time. */
static size_t distance(const char *a, const char *b)
{
	size_t line[LONGEST_NAME + 1], width = strlen(b);

	for (size_t j = 0; j <= width; j++)
		line[j] = j;
	for (size_t i = 0; a[i]; i++) {
		size_t diagonal = line[0];

		line[0] = i + 1;
		for (size_t j = 0; j < width; j++) {
			size_t above = line[j + 1];

			line[j + 1] = least_of(diagonal + (a[i] != b[j]), least_of(above, line[j]) + 1);
			diagonal = above;
		}
	}
	return line[width];
}

static void warn_unknown(const char *name)
{
	const struct row *nearest = NULL;
	size_t best = strlen(name) / 3 + 1;   /* what is farther off was meant otherwise */

	for (size_t i = 0; i < ROWS; i++) {
		size_t d = distance(name, rows[i].variable);

		if (d == 0)
			return;
		if (d < best) {
			best = d;
			nearest = &rows[i];
		}
	}
	if (nearest)
		snti_log(SNT_LOG_WARN, "%s is no setting of sennit, did you mean %s?", name, nearest->variable);
	else
		snti_log(SNT_LOG_WARN, "%s is no setting of sennit, see 'sennit info --settings'", name);
}

static void warn_bad(const struct row *row)
{
	const char *text = given(row);
	uint64_t number;

	if (row->kind != kind_text && text && parse_row(row, text, &number))
		snti_log(SNT_LOG_WARN, "%s is '%.40s', not a %s from %" PRIu64 " to %" PRIu64 ": using %s",
			 row->variable, text, row->kind == kind_size ? "size" : "number",
			 row->least, row->most, row->standard);
}

/* Apart from read_all(), as logging needs the level and thus the settings. */
static void warn_all(void)
{
	for (size_t i = 0; i < ROWS; i++)
		warn_bad(&rows[i]);
	for (char **entry = environ; entry && *entry; entry++) {
		char name[LONGEST_NAME];

		if (strncmp(*entry, "SNT_", 4))
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(*entry, "="), *entry);
		warn_unknown(name);
	}
}

const struct snti_settings *snti_settings(void)
{
	pthread_once(&read_once, read_all);
	/* Looked at before it is written, so that callers do not fight for its cache line. */
	if (!atomic_load_explicit(&told, memory_order_relaxed) && !atomic_exchange(&told, 1))
		warn_all();
	return &settings;
}

size_t snti_setting_count(void)
{
	return ROWS;
}

void snti_setting_describe(size_t index, struct snti_setting_text *text)
{
	const struct row *row = &rows[index];
	const void *field = (const char *)snti_settings() + row->offset;

	*text = (struct snti_setting_text){ row->variable, row->standard, row->meaning, "" };
	if (row->kind != kind_text)
		snprintf(text->value, sizeof(text->value), "%" PRIu64, *(const uint64_t *)field);
	else if (row->offset == offsetof(struct snti_settings, secret) && *settings.secret)
		snprintf(text->value, sizeof(text->value), "(not shown)");
	else
		snprintf(text->value, sizeof(text->value), "%s", *(const char *const *)field);
}
