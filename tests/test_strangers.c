/* SPDX-License-Identifier: BSD-3-Clause */
/* test_strangers.c - a crowd at every door that listens: it gets nothing, and the honest ones next to it all they came for. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>

#include "tests/conformance_parts.h"
#include "tests/strangers.h"
#include "transport/shm.h"

enum { TURNS = 40, SOON_MS = 8000, IDENT = 42 };

static const unsigned char secret[SNTI_SECRET_BYTES] = "known to the honest ones";

/* ---- a pair of ports with a crowd at one ---------------------------------- */

static void open_pair(struct pair *p, const struct snti_transport *transport)
{
	struct snti_port_options options = { .secret = secret, .local_only = 1 };

	wire = transport;
	memset(p, 0, sizeof(*p));
	for (int i = 0; i < 2; i++)
		assert_int_equal(snti_port_open(wire, &options, &p->port[i]), 0);
}

static void run_both(struct pair *p, struct crowd *crowd)
{
	turn(p);
	crowd_step(crowd);
}

static void one_message(struct pair *p, struct crowd *crowd, int from, size_t size)
{
	uint64_t deadline = snti_deadline_ms(SOON_MS);
	unsigned char *out = filled(size, size), *in = calloc(1, size);
	struct snti_xfer send = message(out, size, 3), recv = message(in, size, 3);
	int sent = SNTI_AGAIN, posted = SNTI_AGAIN;

	while (sent || posted || send.status == SNT_BUSY || recv.status == SNT_BUSY) {
		sent = sent ? snti_send(p->conn[from], &send) : 0;
		posted = posted ? snti_recv(p->conn[!from], &recv) : 0;
		assert_true(sent >= 0 && posted >= 0);
		assert_false(snti_is_past(deadline));
		run_both(p, crowd);
	}
	assert_int_equal(send.status | recv.status, 0);
	assert_filled(in, size, size);
	free(out);
	free(in);
}

static void connect_and_talk(struct pair *p, struct crowd *crowd)
{
	static const size_t sizes[] = { 8, 1000, 100000 };
	uint64_t deadline = snti_deadline_ms(SOON_MS);

	begin(p, 1, IDENT, 0);
	while (!is_up(p)) {
		assert_false(snti_is_past(deadline));
		run_both(p, crowd);
	}
	assert_int_equal(p->conn[0]->status | p->conn[1]->status, 0);
	for (int i = 0; i < 12; i++)
		one_message(p, crowd, i & 1, sizes[i % 3]);
}

static void honest_pair_next_to(const struct snti_transport *transport, const struct attack *attack)
{
	struct crowd crowd;
	struct pair p;
	int files = strangers_count_files();

	print_message("%s: %s\n", transport->name, attack->name);
	strangers_expect_log(attack->log);
	open_pair(&p, transport);
	crowd_open(&crowd, attack);
	if (transport == &snti_tcp_transport)
		door_of_tcp(&crowd.door, p.port[0], secret);
	else
		door_of_shm(&crowd.door, p.port[0]);
	if (attack->record)
		crowd_record(&crowd, p.port[0]);
	for (int i = 0; i < TURNS; i++)
		run_both(&p, &crowd);
	connect_and_talk(&p, &crowd);
	/* A port that has better to do looks at strangers now and then only. */
	for (uint64_t deadline = snti_deadline_ms(SOON_MS); strangers_log_waits() && !snti_is_past(deadline); )
		run_both(&p, &crowd);
	assert_true(crowd.most_heard <= attack->may_hear);
	assert_true(crowd.came >= (unsigned)attack->count);
	crowd_close(&crowd);
	shut(&p);
	assert_true(strangers_log_is_right());
	assert_int_equal(strangers_count_files(), files);
}

static void tcp_listener(void **state)
{
	(void)state;
	for (const struct attack *a = tcp_attacks; a->name; a++)
		honest_pair_next_to(&snti_tcp_transport, a);
}

static void shm_listener(void **state)
{
	(void)state;
	for (const struct attack *a = shm_attacks; a->name; a++)
		honest_pair_next_to(&snti_shm_transport, a);
}

/* ---- whoever knows the shm ticket but brings no region -------------------- */

/* Only the connection that it names fails; its port serves the next one. */
static void bad_region(const char *what, int wanted, int fd)
{
	struct snti_address address;
	struct crowd nobody;
	struct pair p;
	int status;

	print_message("shm: %s\n", what);
	open_pair(&p, &snti_shm_transport);
	crowd_open(&nobody, &quiet_attack);
	assert_int_equal(wire->address(p.port[0], &address), 0);
	door_of_shm(&nobody.door, p.port[0]);
	assert_int_equal(snti_conn_open(p.port[0], &address, NULL, IDENT, 1, &p.conn[0]), 0);
	shm_hello_with(&nobody.door, IDENT, fd);
	for (int i = 0; i < 200 && p.conn[0]->status == SNT_BUSY; i++)
		turn(&p);
	status = p.conn[0]->status;
	assert_int_equal(status, wanted);
	snti_conn_close(p.conn[0]);
	p.conn[0] = NULL;
	connect_and_talk(&p, &nobody);
	crowd_close(&nobody);
	shut(&p);
	close(fd);
}

static int memory(size_t size, int seals, uint64_t slot, uint64_t slots)
{
	struct shm_region head = { .magic = SHM_MAGIC, .version = SHM_VERSION, .slot = slot, .slots = slots, .eager = 4096 };
	int fd = memfd_create("stranger", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(pwrite(fd, &head, sizeof(head) < size ? sizeof(head) : size, 0) > 0, 1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
	return fd;
}

static void shm_regions_that_are_none(void **state)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
	const size_t whole = sizeof(struct shm_region) + 2 * 4096 * 4;
	int files = strangers_count_files();

	(void)state;
	strangers_expect_log(NULL);
	bad_region("unsealed memory", SNT_EPROTOCOL, memory(whole, 0, 4096, 4));
	bad_region("sealed but for growing", SNT_EPROTOCOL, memory(whole, F_SEAL_SHRINK | F_SEAL_SEAL, 4096, 4));
	bad_region("too small", SNT_EPROTOCOL, memory(100, seals, 4096, 4));
	bad_region("a slot too few", SNT_EPROTOCOL, memory(whole - 4096, seals, 4096, 4));
	bad_region("a page too many", SNT_EPROTOCOL, memory(whole + 4096, seals, 4096, 4));
	bad_region("no slots", SNT_EPROTOCOL, memory(sizeof(struct shm_region), seals, 4096, 0));
	bad_region("slots of nothing", SNT_EPROTOCOL, memory(sizeof(struct shm_region), seals, 0, 4));
	bad_region("more slots than fit in 64 bits", SNT_EPROTOCOL, memory(whole, seals, 4096, UINT64_MAX / 4096));
	bad_region("zeroes", SNT_EPROTOCOL, memory(whole, seals, 0, 0));
	bad_region("that cannot be written", SNT_ENOMEM, memory(whole, seals | F_SEAL_FUTURE_WRITE, 4096, 4));
	bad_region("a device", SNT_EPROTOCOL, open("/dev/zero", O_RDWR | O_CLOEXEC));
	bad_region("a socket", SNT_EPROTOCOL, socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	assert_int_equal(strangers_count_files(), files);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tcp_listener),
		cmocka_unit_test(shm_listener),
		cmocka_unit_test(shm_regions_that_are_none),
	};

	setenv("SNT_LOG", "2", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
