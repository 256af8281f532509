/* SPDX-License-Identifier: BSD-3-Clause */
/* limits.c - what the machine itself allows: the least that an allreduce has to do, without any library.
 *
 * --detail WAY, one of
 *   halves            both ranks map all vectors; each adds its half and stores it into both results
 *   halves-streaming  the same with stores that pass the caches by, since the other core holds the lines
 *   reads             each reads both inputs and writes its own result; not in place
 *   copied            the vectors are private, up to 256 KiB: each copies its own into shared memory, a quarter at a
 *                     time, and then adds the other's as it gets there
 *   tcp:A,B,..:PORT   each rank streams what a ring allreduce sends to the next rank while as much comes
 *                     from the one before, over sockets that spin, and adds nothing
 *   turns:A,B:PORT    half a round trip, up to 1 KiB: one of two ranks sends its vector, the other receives it,
 *                     the next time the other way, over one connection on which both spin
 */
#include "perf/peers/harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

/* The widest vector that the compiler was allowed. */
#if defined(__AVX512F__)
typedef __m512 pack;
#define stream(to, what) _mm512_stream_ps(to, what)
#elif defined(__AVX__)
typedef __m256 pack;
#define stream(to, what) _mm256_stream_ps(to, what)
#elif defined(__SSE2__)
typedef __m128 pack;
#define stream(to, what) _mm_stream_ps(to, what)
#else
typedef float pack __attribute__((vector_size(16)));
#define stream(to, what) (*(pack *)(to) = (what))
#endif
enum { PACK = sizeof(pack) / sizeof(float), LINE = 128, ALIGNED = 64 / sizeof(float) };

static const struct harness_place *place;
static struct harness_call now;
static size_t most = SIZE_MAX;   /* bytes that the way is good for */

/* ---- two ranks that map everything --------------------------------------- */

struct flag { _Alignas(LINE) uint64_t turn; };

static struct flag *flags;
static uint64_t turn;
static float *theirs_in, *theirs_out;

/* The vectors of both ranks, of the inputs and of the results. */
static struct { float *first; size_t size; } vectors[2];
static int vectors_made;

static void *get_vectors(size_t size)
{
	if (vectors_made == 2)
		return NULL;
	size = (size + 4095) / 4096 * 4096;
	vectors[vectors_made].first = harness_shared(size * 2);
	vectors[vectors_made].size = size;
	return (char *)vectors[vectors_made++].first + (size_t)place->rank * size;
}

/* What lies in the other rank's vector where @mine lies in this one's. */
static float *other_of(float *mine)
{
	uintptr_t at = (uintptr_t)mine, first = (uintptr_t)vectors[1].first;
	int which = at >= first && at < first + 2 * vectors[1].size;
	ptrdiff_t away = (ptrdiff_t)(vectors[which].size / sizeof(float));

	return place->rank == 0 ? mine + away : mine - away;
}

/* One cache line each way: the least by which two ranks learn of each other. */
static int exchange(void)
{
	turn++;
	__atomic_store_n(&flags[place->rank].turn, turn, __ATOMIC_RELEASE);
	while (__atomic_load_n(&flags[!place->rank].turn, __ATOMIC_ACQUIRE) < turn)
		;
	return 0;
}

/* This rank's part, on a border between cache lines. */
static void part(size_t *begin, size_t *end)
{
	size_t half = now.count / 2 / ALIGNED * ALIGNED;

	*begin = place->rank == 0 ? 0 : half;
	*end = place->rank == 0 ? half : now.count;
}

static int run_halves(void)
{
	float *a = now.in, *b = theirs_in, *to = now.out, *also = theirs_out;
	size_t begin, end;

	part(&begin, &end);
	exchange();
	for (size_t i = begin; i < end; i++)
		to[i] = also[i] = a[i] + b[i];
	return exchange();
}

static int run_halves_streaming(void)
{
	size_t i, end;

	part(&i, &end);
	exchange();
	for (; i + PACK <= end; i += PACK) {
		pack sum = *(const pack *)(now.in + i) + *(const pack *)(theirs_in + i);

		stream(now.out + i, sum);
		stream(theirs_out + i, sum);
	}
	for (; i < end; i++)
		now.out[i] = theirs_out[i] = now.in[i] + theirs_in[i];
	/* Streamed stores are not ordered before the flag by themselves. */
#if defined(__SSE2__)
	_mm_sfence();
#endif
	return exchange();
}

static int run_reads(void)
{
	const float *a = now.in, *b = theirs_in;
	float *restrict to = now.out;

	exchange();
	for (size_t i = 0; i < now.count; i++)
		to[i] = a[i] + b[i];
	return 0;
}

/* ---- two ranks that cannot map each other's vectors ----------------------- */

enum { QUARTERS = 4, COPIED_MOST = 256 << 10 };

static struct flag *quarters;   /* of rank 0, of rank 1 */
static float *copies[2];

/* The part of the vector that goes k-th. */
static size_t quarter(size_t k)
{
	return k == QUARTERS ? now.count : now.count * k / QUARTERS / ALIGNED * ALIGNED;
}

/* In place too, which a compiler cannot know to be harmless. */
static void add(float *to, const float *a, const float *b, size_t begin, size_t end)
{
	for (; begin + PACK <= end; begin += PACK)
		*(pack *)(to + begin) = *(const pack *)(a + begin) + *(const pack *)(b + begin);
	for (; begin < end; begin++)
		to[begin] = a[begin] + b[begin];
}

static int run_copied(void)
{
	struct flag *mine = quarters + QUARTERS * place->rank, *theirs = quarters + QUARTERS * !place->rank;
	turn++;
	for (size_t k = 0; k < QUARTERS; k++) {
		memcpy(copies[place->rank] + quarter(k), now.in + quarter(k), (quarter(k + 1) - quarter(k)) * sizeof(float));
		__atomic_store_n(&mine[k].turn, turn, __ATOMIC_RELEASE);
	}
	for (size_t k = 0; k < QUARTERS; k++) {
		while (__atomic_load_n(&theirs[k].turn, __ATOMIC_ACQUIRE) < turn)
			;
		add(now.out, now.in, copies[!place->rank], quarter(k), quarter(k + 1));
	}
	return 0;
}

static void make_copies(void)
{
	quarters = harness_shared(2 * QUARTERS * sizeof *quarters);
	copies[0] = harness_shared(2 * COPIED_MOST);
	copies[1] = copies[0] + COPIED_MOST / sizeof(float);
}

/* ---- a ring of sockets --------------------------------------------------- */

enum { TURNS_MOST = 1 << 10 };

static int to_next = -1, from_before = -1, is_crowded;

/* Moves as much as goes at once, -1 for a broken connection. */
static ssize_t moved(ssize_t result)
{
	return result >= 0 ? result : errno == EAGAIN || errno == EINTR ? 0 : -1;
}

static int run_tcp(void)
{
	size_t bytes = now.count * sizeof(float);
	size_t to_send = 2 * bytes * (size_t)(place->ranks - 1) / (size_t)place->ranks, to_come = to_send;

	while (to_send || to_come) {
		ssize_t sent = 0, came = 0;

		if (to_send)
			sent = moved(send(to_next, now.in, to_send < bytes ? to_send : bytes, MSG_DONTWAIT | MSG_NOSIGNAL));
		if (to_come)
			came = moved(recv(from_before, now.out, to_come < bytes ? to_come : bytes, MSG_DONTWAIT));
		if (sent < 0 || came < 0)
			return 1;
		to_send -= (size_t)sent;
		to_come -= (size_t)came;
		if (!sent && !came && is_crowded)
			sched_yield();
	}
	return 0;
}

/* One connection for both ways, so that data take the acknowledgements along. */
static int run_turns(void)
{
	int connection = place->rank == 0 ? to_next : from_before;
	int is_sender = (int)(turn++ % 2) == place->rank;
	size_t bytes = now.count * sizeof(float), done = 0;

	while (done < bytes) {
		ssize_t count = moved(is_sender ?
			send(connection, (char *)now.in + done, bytes - done, MSG_DONTWAIT | MSG_NOSIGNAL) :
			recv(connection, (char *)now.out + done, bytes - done, MSG_DONTWAIT));

		if (count < 0)
			return 1;
		done += (size_t)count;
		if (!count && is_crowded)
			sched_yield();
	}
	return 0;
}

/* "A,B,..:PORT": that of rank @rank. */
static struct sockaddr_in address_of(const char *list, int rank)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	const char *colon = strchr(list, ':');
	char text[64];

	for (; rank > 0 && *list; rank--)
		list += strcspn(list, ",") + 1;
	snprintf(text, sizeof text, "%.*s", (int)strcspn(list, ",:"), list);
	inet_pton(AF_INET, text, &address.sin_addr);
	address.sin_port = htons((uint16_t)atoi(colon ? colon + 1 : "0"));
	return address;
}

static int listener_at(const struct sockaddr_in *address)
{
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(listener, (const struct sockaddr *)address, sizeof *address) || listen(listener, 1)) {
		perror("limits: listen");
		exit(1);
	}
	return listener;
}

/* Until the other has started too. */
static int connected_to(const struct sockaddr_in *address)
{
	const struct timespec pause = { .tv_nsec = 20000000 };

	for (int tries = 0; tries < 500; tries++) {
		int out = socket(AF_INET, SOCK_STREAM, 0);

		if (!connect(out, (const struct sockaddr *)address, sizeof *address))
			return out;
		close(out);
		nanosleep(&pause, NULL);
	}
	perror("limits: connect");
	exit(1);
}

static void make_ring(const char *list)
{
	struct sockaddr_in mine = address_of(list, place->rank);
	struct sockaddr_in next = address_of(list, (place->rank + 1) % place->ranks);
	int listener = listener_at(&mine), one = 1;

	is_crowded = place->ranks > sysconf(_SC_NPROCESSORS_ONLN);
	to_next = connected_to(&next);
	from_before = accept(listener, NULL, NULL);
	close(listener);
	setsockopt(to_next, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(from_before, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* ---- all of it ----------------------------------------------------------- */

static int barrier_of_nothing(void)
{
	return 0;
}

static int prepare(struct harness_call *call)
{
	now = *call;
	if (flags) {
		theirs_in = other_of(call->in);
		theirs_out = other_of(call->out);
	}
	return call->collective != HARNESS_ALLREDUCE || call->count * sizeof(float) > most;
}

static void use_sockets(const char *way, struct harness_peer *peer)
{
	if (strncmp(way, "tcp:", 4) == 0) {
		peer->run = run_tcp;
	} else if (strncmp(way, "turns:", 6) == 0 && place->ranks == 2) {
		peer->run = run_turns;
		most = TURNS_MOST;
	} else {
		return;
	}
	make_ring(strchr(way, ':') + 1);
	peer->is_bound = 1;
}

static int use(const char *way, struct harness_peer *peer)
{
	static const struct { const char *name; int (*run)(void); } ways[] = {
		{ "halves", run_halves }, { "halves-streaming", run_halves_streaming }, { "reads", run_reads },
	};

	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
		if (strcmp(way, ways[i].name) == 0 && place->ranks == 2)
			peer->run = ways[i].run;
	if (strcmp(way, "copied") == 0 && place->ranks == 2) {
		peer->run = run_copied;
		make_copies();
		most = COPIED_MOST;
	} else if (peer->run) {
		peer->get_memory = get_vectors;
		flags = harness_shared(2 * sizeof *flags);
	} else {
		use_sockets(way, peer);
	}
	return peer->run ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct harness_peer peer = { .prepare = prepare, .barrier = barrier_of_nothing };

	place = harness_open(argc, argv);
	snprintf(peer.name, sizeof peer.name, "limit %.*s", (int)strcspn(place->detail, ":"), place->detail);
	if (use(place->detail, &peer)) {
		fprintf(stderr, "limits: no such way with %d ranks: %s\n", place->ranks, place->detail);
		return 2;
	}
	return harness_run(&peer);
}
