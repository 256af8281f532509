/* SPDX-License-Identifier: BSD-3-Clause */
/* tuner_rules.h - the user's file of rules for NCCL's choice of algorithms: what it says, and which rule fits. */
#ifndef PLUGINS_NCCL_TUNER_RULES_H
#define PLUGINS_NCCL_TUNER_RULES_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { SNTI_TUNING_RULES = 1024, SNTI_TUNING_ANY = -1 };

struct snti_tuning_rule {
	int line, function, algorithm, protocol;
	int channels, nodes, ranks, operations, is_registered;  /* SNTI_TUNING_ANY: not said */
	uint64_t least, most;           /* bytes, both included */
	atomic_int is_told;             /* that it cannot be followed */
};

struct snti_tuning {
	int count;
	uint64_t fingerprint;           /* of the rules, so that ranks can be compared */
	struct snti_tuning_rule rules[SNTI_TUNING_RULES];
};

struct snti_tuning_question { int function, operations, is_registered, nodes, ranks; uint64_t bytes; };

/* 0, or -1 with the line, what is wrong there and what was expected in @why. */
int snti_tuning_parse(const char *text, size_t size, struct snti_tuning *tuning, char *why, size_t room);
/* The first rule that fits, or NULL. */
struct snti_tuning_rule *snti_tuning_find(struct snti_tuning *tuning, const struct snti_tuning_question *question);

const char *snti_tuning_function(int function);
const char *snti_tuning_algorithm(int algorithm);
const char *snti_tuning_protocol(int protocol);

#endif
