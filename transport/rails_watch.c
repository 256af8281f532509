/* SPDX-License-Identifier: BSD-3-Clause */
/* rails_watch.c - rails that stopped moving, and rails to be dialed again.
 *
 * A cut cable is not seen by TCP for long, and silence alone says nothing: the peer may compute. So when a rail is silent all
 * are asked at the same time, and one is lost when it stays silent although another has answered a question that was
 * put well after its own. Only the side that accepted decides that, and asks when it is asked: were it both, each could give
 * up the rail that the other trusts.
 */
#include "base/clock.h"
#include "transport/rails.h"

#define SILENT_NS 100000000ULL
#define LOST_NS 200000000ULL
#define PROMPT_NS 1000000000ULL   /* so long the other side's question is a reason to ask */
#define TELL_NS 50000000ULL       /* a peer that ends loses all its rails within less */

static int is_waiting(const struct rails_conn *conn)
{
	return conn->waiting || conn->head < conn->tail;
}

static uint64_t patience_ns(const struct rails_rail *rail)
{
	uint64_t window = 4 * rails_window_ns(rail);

	return window > LOST_NS ? window : LOST_NS;
}

static int is_any_silent(const struct rails_conn *conn, uint64_t now)
{
	unsigned live = 0, silent = 0;

	for (unsigned i = 0; i < conn->count; i++) {
		const struct rails_rail *rail = &conn->rails[i];

		live += rail->phase == RAILS_LIVE;
		silent += rail->phase == RAILS_LIVE && now > rail->heard_ns + SILENT_NS;
	}
	return live > 1 && silent;
}

static void ask_all(struct rails_conn *conn, uint64_t now)
{
	for (unsigned i = 0; i < conn->count; i++) {
		struct rails_rail *rail = &conn->rails[i];

		if (rail->phase != RAILS_LIVE || rail->beat_ns)
			continue;
		rail->beat_ns = now;
		rail->notes[1].frame.number = now;
		rail->notes[1].wanted = 1;
		rails_notes(rail);
	}
}

/* NULL, or the rail that shows that @rail is lost. */
static const struct rails_rail *find_witness(const struct rails_rail *rail, uint64_t now)
{
	uint64_t patience = patience_ns(rail);

	if (rail->phase != RAILS_LIVE || !rail->beat_ns || now < rail->beat_ns + patience)
		return NULL;
	for (unsigned i = 0; i < rail->conn->count; i++) {
		const struct rails_rail *other = &rail->conn->rails[i];

		if (other != rail && other->phase == RAILS_LIVE && other->echoed_ns >= rail->beat_ns + patience / 2)
			return other;
	}
	return NULL;
}

/* A device that says that its port is down is taken at its word, as long as another rail is left. */
static int is_any_left(const struct rails_conn *conn)
{
	const struct rails_port *port = rails_port_of(conn);

	for (unsigned i = 0; i < conn->count; i++)
		if (conn->rails[i].phase == RAILS_LIVE && !rails_is_down(port->under, port->ports[conn->rails[i].mine]))
			return 1;
	return 0;
}

static void leave_if_down(struct rails_rail *rail)
{
	const struct rails_port *port = rails_port_of(rail->conn);

	if (rail->phase == RAILS_LIVE && rails_is_down(port->under, port->ports[rail->mine]) && is_any_left(rail->conn))
		rails_down(rail, 1, "the port is down");
}

static void tell(struct rails_rail *rail, uint64_t now)
{
	if (rail->phase == RAILS_LIVE || rail->is_told || !rail->lost_ns || now < rail->lost_ns + TELL_NS)
		return;
	rail->is_told = 1;
	snti_log(SNT_LOG_WARN, "rails: %s to rank %d is %s (%s); the others carry its share", rails_name(rail), rail->conn->base.peer,
		 rail->was_live ? "lost" : "not up", rail->why);
}

void rails_tick(struct rails_conn *conn, uint64_t now)
{
	if (conn->base.status == SNT_BUSY) {
		if (snti_is_past(conn->deadline))
			rails_fail(conn, snti_fail(SNT_ETIMEOUT, "rails: no connection to rank %d in time", conn->base.peer));
		return;
	}
	if (conn->over || conn->dying)
		return;
	if ((is_waiting(conn) || now < conn->prompted_ns + PROMPT_NS) && is_any_silent(conn, now))
		ask_all(conn, now);
	for (unsigned i = 0; i < conn->count && conn->base.status == 0; i++) {
		struct rails_rail *rail = &conn->rails[i];
		const struct rails_rail *witness = conn->accepting ? find_witness(rail, now) : NULL;

		if (witness)
			rails_down(rail, 1, "silent for %llu ms while %s answers", (unsigned long long)(now - rail->heard_ns) / 1000000,
				   rails_name(witness));
		leave_if_down(rail);
		tell(rail, now);
		if (conn->accepting)
			rails_redial(rail, now);
	}
	rails_choose_stream(conn);
	rails_push(conn);
}

int rails_wants_time(const struct rails_conn *conn)
{
	if (conn->base.status < 0 || conn->over)
		return 0;
	if (conn->base.status == SNT_BUSY || is_waiting(conn))
		return 1;
	for (unsigned i = 0; i < conn->count; i++)
		if (conn->rails[i].phase != RAILS_LIVE)
			return 1;
	return 0;
}

int rails_has_work(const struct rails_conn *conn)
{
	for (unsigned i = 0; i < conn->count && conn->base.status == 0 && !conn->over; i++) {
		const struct rails_rail *rail = &conn->rails[i];

		if (rail->phase == RAILS_JOINING && rails_status(rail) != SNT_BUSY)
			return 1;
		if (rail->phase == RAILS_LIVE && (rails_status(rail) < 0 || !rail->posts[rail->post_head % RAILS_POSTED].sub.status))
			return 1;
	}
	return 0;
}
