/* SPDX-License-Identifier: BSD-3-Clause */
/* test_start_strangers.c - a crowd at rank 0's door during start-up: it gets nothing, and the ranks find each other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/strangers.h"
#include "transport/exchange.h"
#include "transport/ticket.h"

enum { RANKS = 3, SOON_MS = 8000 };

static int run_rank(const struct snt_ticket *ticket, int rank, const char *text)
{
	struct snt_team_options options = SNT_TEAM_OPTIONS;
	struct snti_exchange *x = NULL;
	int files = strangers_count_files(), bad = 0;
	unsigned char mine = (unsigned char)(7 + rank), all[RANKS] = { 0 };

	alarm(20);
	strangers_expect_log(rank ? NULL : text);
	options.rank = rank;
	options.ranks = RANKS;
	options.ticket = ticket;
	bad |= snti_exchange_open(&options, snti_deadline_ms(SOON_MS), &x) != 0;
	bad = bad ? bad : snti_exchange_allgather(x, &mine, all, 1, snti_deadline_ms(SOON_MS)) != 0;
	for (int r = 0; r < RANKS && !bad; r++)
		bad |= (all[r] != 7 + r) * 2;
	if (!bad)
		snti_exchange_leave(x);
	else
		fprintf(stderr, "rank %d: %s\n", rank, snt_error_text());
	snti_exchange_close(x);
	bad |= !strangers_log_is_right() * 4;
	bad |= (strangers_count_files() != files - 1) * 8;   /* the ticket's listener is gone, too */
	return bad;
}

static pid_t spawn(const struct snt_ticket *ticket, int rank, const char *text)
{
	pid_t child = fork();

	if (child == 0)
		_exit(run_rank(ticket, rank, text));
	return child;
}

static void step_for(struct crowd *crowd, uint64_t ms)
{
	uint64_t end = snti_deadline_ms(ms);

	while (!snti_is_past(end)) {
		crowd_step(crowd);
		usleep(200);
	}
}

/* As a rank that there is not: who proves the secret is then refused, and holds no place. */
static void find_door(struct door *door, const struct snt_ticket *ticket)
{
	struct snti_ticket_parts parts;

	assert_int_equal(snti_ticket_read(ticket, &parts), 0);
	door_of_loopback(door, parts.port);
	door->want = (struct snti_want){ .kind = 1, .number = 9, .ident = RANKS };
	assert_int_equal(snti_derive(parts.secret, "sennit exchange", door->key), 0);
}

static void close_listener(const struct snt_ticket *ticket)
{
	struct snti_ticket_parts parts;

	assert_int_equal(snti_ticket_read(ticket, &parts), 0);
	close(snti_ticket_take(parts.id));
}

static void start_up_next_to(const struct attack *attack)
{
	struct snt_ticket ticket;
	struct crowd crowd;
	pid_t children[RANKS];
	int status;

	print_message("start-up: %s\n", attack->name);
	assert_int_equal(snt_ticket_create(SNT_REACH_LOCAL, &ticket), 0);
	crowd_open(&crowd, attack);
	find_door(&crowd.door, &ticket);
	children[0] = spawn(&ticket, 0, attack->log);
	if (attack->record)
		crowd_record(&crowd, NULL);
	step_for(&crowd, 150);
	for (int r = 1; r < RANKS; r++)
		children[r] = spawn(&ticket, r, NULL);
	for (int r = 0; r < RANKS; r++) {
		while (waitpid(children[r], &status, WNOHANG) == 0)
			step_for(&crowd, 2);
		if (!WIFEXITED(status) || WEXITSTATUS(status))
			fail_msg("%s: rank %d ends with %x", attack->name, r, (unsigned)status);
	}
	assert_true(crowd.most_heard <= attack->may_hear);
	assert_true(crowd.came >= (unsigned)attack->count);
	crowd_close(&crowd);
	close_listener(&ticket);
}

static void ranks_find_each_other_next_to_strangers(void **state)
{
	int files = strangers_count_files();

	(void)state;
	for (const struct attack *a = tcp_attacks; a->name; a++)
		start_up_next_to(a);
	assert_int_equal(strangers_count_files(), files);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(ranks_find_each_other_next_to_strangers) };

	setenv("SNT_LOG", "2", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
