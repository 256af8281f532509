/* SPDX-License-Identifier: BSD-3-Clause */
/* test_order.c - the automatic order of transports: all ranks choose alike, also where hosts have different hardware.
 *
 * The last test makes teams whose ranks are threads, each with the mock's device that is its own and with a boot id of its
 * host, so that ranks of this process are on different hosts.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "collectives/ports.h"
#include "tests/mock_verbs/find.h"

#define RANKS 4
#define NO_DEVICE MOCK_NONE
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

enum { SHM, RDMA_RAILS, VERBS, UCX, RAILS, TCP, ALL };

static uint64_t seed = 88172645463325252u;

static uint64_t next_random(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed >> 8;
}

/* ---- lists ------------------------------------------------------------------ */

static void lists_are_read(void **state)
{
	struct snti_order order;

	(void)state;
	assert_int_equal(snti_order_read("tcp, shm", &order), 0);
	assert_false(order.is_automatic);
	assert_true(order.rails_unasked);
	assert_int_equal(order.count, 3);
	assert_ptr_equal(snti_transports[order.index[0]], &snti_rails_transport);
	assert_ptr_equal(snti_transports[order.index[1]], &snti_tcp_transport);
	assert_int_equal(order.index[2], SHM);
	assert_int_equal(snti_order_read("verbs,tcp", &order), 0);
	assert_int_equal(order.count, 4);
	assert_int_equal(order.index[0], RDMA_RAILS);
	assert_int_equal(order.index[1], VERBS);
	assert_int_equal(order.rails_unasked, 1 << RDMA_RAILS | 1 << RAILS);
	assert_int_equal(snti_order_read("tcp,rails", &order), 0);
	assert_int_equal(order.rails_unasked, 1 << RDMA_RAILS);
	assert_int_equal(order.count, 3);
	assert_int_equal(order.index[1], RDMA_RAILS);
	assert_int_equal(snti_order_read("rails-verbs,verbs", &order), 0);
	assert_false(order.rails_unasked);
	assert_int_equal(order.count, 2);
	assert_int_equal(snti_order_read("auto", &order), 0);
	assert_true(order.is_automatic);
	assert_int_equal(order.count, ALL);
	for (uint32_t i = 0; i < ALL; i++)
		assert_int_equal(order.index[i], i);
	assert_int_equal(snti_order_read("", &order), SNT_EINVAL);
	assert_int_equal(snti_order_read("shm,pigeon", &order), SNT_EINVAL);
	assert_int_equal(snti_order_read("shm,auto", &order), SNT_EINVAL);
	assert_int_equal(snti_order_read("tcp,tcp,tcp,tcp,tcp,tcp,tcp,tcp,tcp", &order), SNT_EINVAL);
}

static void hosts_without_devices_offer_nothing(void **state)
{
	char text[300];

	(void)state;
	snti_rdma_folder = "/no/such/folder";
	assert_false(snti_has_rdma());
	for (int i = RDMA_RAILS; i <= UCX; i++) {
		assert_int_equal(snti_transports[i]->offers(text, sizeof text), SNT_EUNSUPPORTED);
		assert_true(*text);
	}
	/* Not even to find out. */
	assert_null(dlopen("libibverbs.so.1", RTLD_LAZY | RTLD_NOLOAD));
	assert_null(dlopen("libucp.so.0", RTLD_LAZY | RTLD_NOLOAD));
}

/* ---- the choice ------------------------------------------------------------- */

static uint32_t first_of(uint32_t bits)
{
	return bits & -bits;
}

static int is_asked(const struct snti_prospect *all, int size)
{
	for (int r = 0; r < size; r++)
		if (snti_prospects_lack(all, size, r))
			return 1;
	return 0;
}

/* As a team does it: what a rank has comes out only when it is asked. */
static int find_out(struct snti_prospect *all, const uint32_t *hidden, int size, uint32_t *asked)
{
	int questions = 0;

	for (int bit = RDMA_RAILS; bit <= UCX && is_asked(all, size); bit++, questions++) {
		uint32_t found[8] = { 0 };

		for (int r = 0; r < size; r++)
			if (snti_prospects_lack(all, size, r)) {
				asked[r] |= 1u << bit;
				found[r] = hidden[r] & 1u << bit;
			}
		for (int r = 0; r < size; r++)
			all[r].has |= found[r];
	}
	return questions;
}

static void check_pair(const struct snti_prospect *all, const uint32_t *hidden, const uint32_t *use, int a, int b)
{
	uint32_t both = first_of(use[a] & use[b] & all[a].has & all[b].has);

	if (all[a].host == all[b].host || !all[a].has_fabric || !all[b].has_fabric)
		return;
	if (both != first_of(hidden[a] & hidden[b]))
		fail_msg("ranks %d and %d have %x and %x, open %x and %x", a, b, hidden[a], hidden[b], use[a], use[b]);
}

static void every_pair_gets_the_first_it_has_in_common(void **state)
{
	(void)state;
	for (int round = 0; round < 20000; round++) {
		struct snti_prospect all[8] = { { 0 } };
		uint32_t hidden[8], use[8], asked[8] = { 0 };
		int size = 1 + (int)(next_random() % 8), hosts = 1 + (int)(next_random() % 4);

		for (int r = 0; r < size; r++) {
			all[r].host = 100 + next_random() % (uint64_t)hosts;
			all[r].has_fabric = next_random() % 4 != 0;
			hidden[r] = all[r].has_fabric ? (uint32_t)next_random() & (1 << RDMA_RAILS | 1 << VERBS | 1 << UCX) : 0;
		}
		find_out(all, hidden, size, asked);
		for (int r = 0; r < size; r++) {
			use[r] = snti_prospects_use(all, size, r);
			if (use[r] & ~asked[r] || (asked[r] && !all[r].has_fabric))
				fail_msg("rank %d opens %x and was asked for %x", r, use[r], asked[r]);
		}
		for (int a = 0; a < size; a++)
			for (int b = 0; b < size; b++)
				check_pair(all, hidden, use, a, b);
	}
}

/* UCX is not even loaded where verbs joins all hosts, and on one host nothing is asked. */
static void nobody_is_asked_in_vain(void **state)
{
	struct snti_prospect all[4] = { { 1, 1, 0 }, { 1, 1, 0 }, { 2, 1, 0 }, { 2, 1, 0 } };
	uint32_t hidden[4] = { 14, 14, 14, 14 }, asked[4] = { 0 };

	(void)state;
	assert_int_equal(find_out(all, hidden, 4, asked), 1);
	assert_int_equal(find_out(all, hidden, 2, asked), 0);
	all[2].has_fabric = all[3].has_fabric = 0;
	all[0].has = 0;
	assert_int_equal(find_out(all, hidden, 4, asked), 0);
}

/* ---- teams over the mock ---------------------------------------------------- */

struct member {
	pthread_t thread;
	int rank, host, device;
	const struct snt_ticket *ticket;
	char boot[64];                  /* the file in the place of the boot id */
	char wires[RANKS][16];          /* by peer, what joined them */
	char trouble[300];
};

static void (*see_only)(int device);

static int make_boot_ids(char paths[RANKS][64])
{
	for (int i = 0; i < RANKS; i++) {
		int fd;

		strcpy(paths[i], "/tmp/sennit-order-XXXXXX");
		fd = mkstemp(paths[i]);
		if (fd < 0 || dprintf(fd, "00000000-0000-4000-8000-%012d\n", i) < 0 || close(fd))
			return -1;
	}
	return 0;
}

/* This thread alone, from now on, is on another host. */
static int move_to_host(const struct member *me)
{
	return unshare(CLONE_FS | CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	       mount(me->boot, BOOT_ID, NULL, MS_BIND, NULL);
}

static void talk_to_all(struct member *me, struct snt_team *team)
{
	uint64_t in[RANKS], out[RANKS];
	int status;

	for (int r = 0; r < RANKS; r++)
		in[r] = (uint64_t)(me->rank * 100 + r);
	status = snt_alltoall(team, in, out, 1, SNT_UINT64);
	for (int r = 0; r < RANKS && !status; r++) {
		if (out[r] != (uint64_t)(r * 100 + me->rank))
			snprintf(me->trouble, sizeof me->trouble, "wrong word from rank %d", r);
		if (r != me->rank)
			snprintf(me->wires[r], sizeof me->wires[r], "%s", team->conns[r] ? team->conns[r]->ops->name : "none");
	}
	if (status)
		snprintf(me->trouble, sizeof me->trouble, "alltoall: %s", snt_error_text());
}

static void *be_member(void *arg)
{
	struct member *me = arg;
	struct snt_team_options options = SNT_TEAM_OPTIONS;
	struct snt_team *team = NULL;

	options.rank = me->rank;
	options.ranks = RANKS;
	options.ticket = me->ticket;
	options.transports = "auto";
	options.timeout_ms = 5000;
	see_only(me->device);
	if (move_to_host(me))
		snprintf(me->trouble, sizeof me->trouble, "no host of its own: %s", strerror(errno));
	else if (snt_team_create(&options, &team))
		snprintf(me->trouble, sizeof me->trouble, "no team: %s", snt_error_text());
	else
		talk_to_all(me, team);
	snt_team_destroy(team);
	return NULL;
}

static const char *expected(const struct member *a, const struct member *b)
{
	if (a->host == b->host)
		return "shm";
	if (a->device == MOCK_ALL && b->device == MOCK_ALL)
		return "rails-verbs";
	return a->device != NO_DEVICE && b->device != NO_DEVICE ? "verbs" : "tcp";
}

static void run_members(struct member *members, const struct snt_ticket *ticket, char paths[RANKS][64])
{
	for (int r = 0; r < RANKS; r++) {
		members[r].rank = r;
		members[r].ticket = ticket;
		memcpy(members[r].boot, paths[members[r].host], sizeof members[r].boot);
		assert_int_equal(pthread_create(&members[r].thread, NULL, be_member, &members[r]), 0);
	}
	for (int r = 0; r < RANKS; r++)
		pthread_join(members[r].thread, NULL);
}

static int may_mount(const char *path)
{
	struct member me = { 0 };
	pid_t child = fork();
	int ended = 1;

	snprintf(me.boot, sizeof me.boot, "%s", path);
	if (!child)
		_exit(move_to_host(&me) != 0);
	while (child > 0 && waitpid(child, &ended, 0) < 0 && errno == EINTR)
		;
	return !ended;
}

static void load_mock(void)
{
	struct mock_script *script = mock_find(NULL);

	assert_non_null(script);
	*(void **)&see_only = dlsym(mock_library(), "mock_only");
	script->devices = RANKS;
	snti_rdma_folder = "/proc";     /* anything with something in it */
}

static void mixed_hosts_choose_alike(void **state)
{
	char paths[RANKS][64] = { "" };

	(void)state;
	assert_int_equal(make_boot_ids(paths), 0);
	if (getenv("NO_UCX")) {
		print_message("# hosts in threads are left out: NO_UCX is set, and UCX would be asked\n");
	} else if (may_mount(paths[0])) {
		load_mock();
		for (int round = 0; round < 12; round++) {
			struct member members[RANKS] = { { 0 } };
			struct snt_ticket ticket;

			for (int r = 0; r < RANKS; r++) {
				members[r].host = (int)(next_random() % 3);
				members[r].device = next_random() % 3 ? r : NO_DEVICE;
				if (next_random() % 3 == 0)
					members[r].device = MOCK_ALL;
			}
			assert_int_equal(snt_ticket_create(SNT_REACH_LOCAL, &ticket), 0);
			run_members(members, &ticket, paths);
			for (int a = 0; a < RANKS; a++)
				for (int b = 0; b < RANKS; b++)
					if (*members[a].trouble || (a != b && strcmp(members[a].wires[b], expected(&members[a], &members[b]))))
						fail_msg("round %d: rank %d (host %d, device %d) to rank %d (host %d, device %d): %s %s", round, a,
							 members[a].host, members[a].device, b, members[b].host, members[b].device,
							 members[a].wires[b], members[a].trouble);
		}
	} else {
		print_message("# hosts in threads are left out: this user may not mount\n");
	}
	for (int r = 0; r < RANKS; r++)
		unlink(paths[r]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lists_are_read),
		cmocka_unit_test(hosts_without_devices_offer_nothing),
		cmocka_unit_test(every_pair_gets_the_first_it_has_in_common),
		cmocka_unit_test(nobody_is_asked_in_vain),
		cmocka_unit_test(mixed_hosts_choose_alike),
	};

	setenv("SNT_INTERFACES", "lo", 1);
	setenv("SNT_STARTUP_TIMEOUT", "10000", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
