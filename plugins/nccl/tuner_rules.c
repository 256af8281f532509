/* SPDX-License-Identifier: BSD-3-Clause */
/* tuner_rules.c - reads rules strictly: a word that is not known is an error with its line, never skipped. */
#include "plugins/nccl/tuner_rules.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/settings.h"
#include "plugins/nccl/nccl_tuner.h"

enum { FIELDS = 10, NEEDED = 8, LONGEST_FIELD = 32, MOST_CHANNELS = 64 };

static const char *const functions[] = { "broadcast", "reduce", "allgather", "reducescatter", "allreduce", NULL };
static const char *const algorithms[] = { "tree", "ring", "collnet_direct", "collnet_chain", "nvls", "nvls_tree", "pat", NULL };
static const char *const protocols[] = { "ll", "ll128", "simple", NULL };
_Static_assert(sizeof functions / sizeof *functions == NCCL_TUNED + 1, "a name for each collective");
_Static_assert(sizeof algorithms / sizeof *algorithms == NCCL_ALGORITHMS + 1, "a name for each algorithm");
_Static_assert(sizeof protocols / sizeof *protocols == NCCL_PROTOCOLS + 1, "a name for each protocol");

const char *snti_tuning_function(int function)
{
	return function >= 0 && function < NCCL_TUNED ? functions[function] : "collective";
}

const char *snti_tuning_algorithm(int algorithm)
{
	return algorithms[algorithm];
}

const char *snti_tuning_protocol(int protocol)
{
	return protocols[protocol];
}

/* ---- one line ------------------------------------------------------------------- */

/* Where a line is read, and what is wrong with it. */
struct reading {
	int line, count;
	char fields[FIELDS][LONGEST_FIELD];
	char *why;
	size_t room;
};

static int wrong(const struct reading *reading, const char *what, const char *text, const char *expected)
{
	snprintf(reading->why, reading->room, "line %d: %s '%s', expected %s", reading->line, what, text, expected);
	return -1;
}

static int is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static int take_field(struct reading *reading, const char *text, size_t size)
{
	while (size && is_blank(*text))
		text++, size--;
	while (size && is_blank(text[size - 1]))
		size--;
	if (reading->count == FIELDS || size >= LONGEST_FIELD || memchr(text, 0, size)) {
		snprintf(reading->why, reading->room, "line %d: %s, expected collective,min,max,algorithm,protocol,channels,nodes,ranks[,ops[,registered]]",
			 reading->line, reading->count == FIELDS ? "too many fields" : "no such field");
		return -1;
	}
	memcpy(reading->fields[reading->count], text, size);
	reading->fields[reading->count++][size] = 0;
	return 0;
}

static int split(struct reading *reading, const char *text, size_t size)
{
	const char *end = text + size, *comma;

	reading->count = 0;
	for (; (comma = memchr(text, ',', (size_t)(end - text))); text = comma + 1)
		if (take_field(reading, text, (size_t)(comma - text)))
			return -1;
	return take_field(reading, text, (size_t)(end - text));
}

static int read_word(const struct reading *reading, int field, const char *what, const char *const names[], int *value)
{
	char expected[160] = "";

	for (int i = 0; names[i]; i++) {
		if (!strcmp(names[i], reading->fields[field])) {
			*value = i;
			return 0;
		}
		snprintf(expected + strlen(expected), sizeof expected - strlen(expected), "%s%s", i ? ", " : "", names[i]);
	}
	return wrong(reading, what, reading->fields[field], expected);
}

static int read_number(const struct reading *reading, int field, const char *what, int most, int *value)
{
	const char *text = reading->fields[field];
	char expected[60];
	uint64_t number;

	*value = SNTI_TUNING_ANY;
	if (!strcmp(text, "-1") || (field >= NEEDED && field >= reading->count))
		return 0;
	if (snti_parse_size(text, &number) || number > (uint64_t)most || (number < 1 && field != 9)) {
		snprintf(expected, sizeof expected, "%d to %d, or -1 for any", field != 9, most);
		return wrong(reading, what, text, expected);
	}
	*value = (int)number;
	return 0;
}

static int read_bytes(const struct reading *reading, int field, const char *what, uint64_t any, uint64_t *bytes)
{
	const char *text = reading->fields[field];

	*bytes = any;
	if (strcmp(text, "-1") && snti_parse_size(text, bytes))
		return wrong(reading, what, text, "bytes such as 65536 or 64K, or -1 for no limit");
	return 0;
}

static int read_rule(struct reading *reading, struct snti_tuning_rule *rule)
{
	rule->line = reading->line;
	if (reading->count < NEEDED) {
		snprintf(reading->why, reading->room, "line %d: %d fields, expected collective,min,max,algorithm,protocol,channels,nodes,ranks[,ops[,registered]]",
			 reading->line, reading->count);
		return -1;
	}
	if (read_word(reading, 0, "collective", functions, &rule->function) ||
	    read_bytes(reading, 1, "min", 0, &rule->least) || read_bytes(reading, 2, "max", UINT64_MAX, &rule->most) ||
	    read_word(reading, 3, "algorithm", algorithms, &rule->algorithm) ||
	    read_word(reading, 4, "protocol", protocols, &rule->protocol) ||
	    read_number(reading, 5, "channels", MOST_CHANNELS, &rule->channels) ||
	    read_number(reading, 6, "nodes", INT_MAX, &rule->nodes) ||
	    read_number(reading, 7, "ranks", INT_MAX, &rule->ranks) ||
	    read_number(reading, 8, "ops", INT_MAX, &rule->operations) ||
	    read_number(reading, 9, "registered", 1, &rule->is_registered))
		return -1;
	if (rule->least > rule->most)
		return wrong(reading, "max", reading->fields[2], "at least min");
	return 0;
}

/* ---- the file --------------------------------------------------------------------- */

static void mix(uint64_t *sum, uint64_t value)
{
	for (int i = 0; i < 8; i++)
		*sum = (*sum ^ (value >> 8 * i & 0xff)) * 0x100000001b3ull;     /* FNV-1a */
}

static void add_to_fingerprint(struct snti_tuning *tuning, const struct snti_tuning_rule *rule)
{
	const int fields[] = { rule->function, rule->algorithm, rule->protocol, rule->channels, rule->nodes, rule->ranks,
		rule->operations, rule->is_registered };

	for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
		mix(&tuning->fingerprint, (uint64_t)fields[i]);
	mix(&tuning->fingerprint, rule->least);
	mix(&tuning->fingerprint, rule->most);
}

static int take_line(struct snti_tuning *tuning, struct reading *reading, const char *text, size_t size)
{
	const char *comment = memchr(text, '#', size);

	if (comment)
		size = (size_t)(comment - text);
	while (size && is_blank(text[size - 1]))
		size--;
	if (!size)
		return 0;
	if (tuning->count == SNTI_TUNING_RULES) {
		snprintf(reading->why, reading->room, "line %d: more than %d rules", reading->line, SNTI_TUNING_RULES);
		return -1;
	}
	if (split(reading, text, size) || read_rule(reading, &tuning->rules[tuning->count]))
		return -1;
	add_to_fingerprint(tuning, &tuning->rules[tuning->count++]);
	return 0;
}

int snti_tuning_parse(const char *text, size_t size, struct snti_tuning *tuning, char *why, size_t room)
{
	struct reading reading = { .line = 0, .why = why, .room = room };
	const char *end = text + size;

	tuning->count = 0;
	tuning->fingerprint = 0xcbf29ce484222325ull;
	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t length = (size_t)((newline ? newline : end) - text);

		reading.line++;
		if (take_line(tuning, &reading, text, length))
			return -1;
		text += length + 1;
		if (!newline)
			break;
	}
	return 0;
}

/* ---- the choice -------------------------------------------------------------------- */

static int fits(int said, int is)
{
	return said == SNTI_TUNING_ANY || said == is;
}

struct snti_tuning_rule *snti_tuning_find(struct snti_tuning *tuning, const struct snti_tuning_question *question)
{
	for (int i = 0; i < tuning->count; i++) {
		struct snti_tuning_rule *rule = &tuning->rules[i];

		if (rule->function == question->function && question->bytes >= rule->least && question->bytes <= rule->most &&
		    fits(rule->nodes, question->nodes) && fits(rule->ranks, question->ranks) &&
		    fits(rule->operations, question->operations) && fits(rule->is_registered, question->is_registered))
			return rule;
	}
	return NULL;
}
