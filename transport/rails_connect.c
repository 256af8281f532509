/* SPDX-License-Identifier: BSD-3-Clause */
/* rails_connect.c - the first meeting, at which the sides tell each other their ports; rails that come up, get lost, come back. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "transport/rails.h"

#define MAGIC "sntrail"
#define VERSION 1
#define CARD_MAGIC "sntcard1"
#define FIRST_MS 5000             /* for a rail to come up beside others */
#define ATTEMPT_MS 1000           /* for one that was lost: a call into a cable that is cut stays unheard */
#define ANSWER_MS 3000            /* the other side ends an attempt first, and says so */
#define PAUSE_MS 250
#define LONG_PAUSE_MS 2000        /* before one is tried again that never was up */

#define SUB_BYTES (SNTI_ADDRESS_BYTES - 24)

/* The address as it travels: of one port, the others follow in the cards. */
struct rails_place {
	char magic[7];
	uint8_t version, lead, zero[7];
	char under[8];
	unsigned char sub[SUB_BYTES];
};

_Static_assert(sizeof(struct rails_place) == SNTI_ADDRESS_BYTES, "an address has to fit");

static int sub_address(struct rails_port *port, unsigned index, struct snti_address *address)
{
	int status;

	if (rails_is_down(port->under, port->ports[index]))
		return SNT_EDEVICE;
	snti_fail_quietly(1);
	status = port->under->address(port->ports[index], address);
	snti_fail_quietly(0);
	return status;
}

void snti_rails_wrap(const struct snti_transport *rails, unsigned index, const struct snti_address *lead, struct snti_address *address)
{
	struct rails_place place = { .magic = MAGIC, .version = VERSION, .lead = (uint8_t)index };

	snprintf(place.under, sizeof(place.under), "%s", snti_rails_under(rails)->name);
	memcpy(place.sub, lead->bytes, sizeof(place.sub));
	memcpy(address->bytes, &place, sizeof(place));
}

unsigned snti_rails_unwrap(const struct snti_address *address, struct snti_address *lead)
{
	struct rails_place place;

	memcpy(&place, address->bytes, sizeof(place));
	memset(lead, 0, sizeof(*lead));
	memcpy(lead->bytes, place.sub, sizeof(place.sub));
	return place.lead;
}

int rails_address(struct snti_port *base, struct snti_address *mine)
{
	struct rails_port *port = (struct rails_port *)base;
	struct snti_address lead, other;
	int status = SNT_EDEVICE, known = 0;
	unsigned first = 0;

	for (unsigned i = 0; i < port->count; i++) {
		status = sub_address(port, i, known ? &other : &lead);
		if (!status && known)
			rails_widen(port->under, &lead, &other);
		else if (!status)
			first = i;
		known |= !status;
	}
	if (!known)
		return snti_fail(status, "rails: no device has an address any more: %s", snt_error_text());
	for (size_t i = SUB_BYTES; i < sizeof(lead.bytes); i++)
		if (lead.bytes[i])
			return snti_fail(SNT_EUNSUPPORTED, "rails: an address of %s is too long", port->under->name);
	snti_rails_wrap(base->ops, first, &lead, mine);
	return 0;
}

int snti_rails_shorten(struct snti_address *address)
{
	struct rails_place place;
	struct snti_address lead;

	snti_rails_unwrap(address, &lead);
	memcpy(&place, address->bytes, sizeof(place));
	if (rails_shorten(place.under, &lead))
		return -1;
	memcpy(place.sub, lead.bytes, sizeof(place.sub));
	memcpy(address->bytes, &place, sizeof(place));
	return 0;
}

static int read_address(const struct rails_port *port, const struct snti_address *address, struct snti_address *lead,
			unsigned *index)
{
	struct rails_place place;

	memcpy(&place, address->bytes, sizeof(place));
	if (memcmp(place.magic, MAGIC, sizeof(place.magic)) || place.version != VERSION || place.lead >= RAILS_MOST ||
	    strncmp(place.under, port->under->name, sizeof(place.under)))
		return SNT_EUNSUPPORTED;
	*index = snti_rails_unwrap(address, lead);
	return 0;
}

/* Which port the first meeting goes over: one in the same network, or the first that reaches it. As many as there are: none. */
static unsigned find_way(struct rails_port *port, const struct snti_address *lead)
{
	unsigned first = port->count;

	for (unsigned i = 0; i < port->count; i++) {
		if (port->under->reaches(port->ports[i], lead))
			continue;
		if (rails_is_near(port->under, port->ports[i], lead))
			return i;
		if (first == port->count)
			first = i;
	}
	return first;
}

int rails_reaches(struct snti_port *base, const struct snti_address *theirs)
{
	struct rails_port *port = (struct rails_port *)base;
	struct snti_address lead;
	unsigned index;

	if (read_address(port, theirs, &lead, &index))
		return SNT_EUNSUPPORTED;
	return find_way(port, &lead) < port->count ? 0 : SNT_EUNSUPPORTED;
}

/* ---- the first meeting ---------------------------------------------------- */

static int begin(struct rails_conn *conn, unsigned index, const struct snti_address *mine, const struct snti_address *theirs)
{
	struct rails_port *port = rails_port_of(conn);
	int status = rails_conn_prepare(conn);

	if (status)
		return status;
	conn->card_out.status = conn->card_in.status = SNTI_AGAIN;
	status = snti_conn_open(port->ports[index], mine, theirs, conn->base.ident, conn->base.peer, &conn->intro);
	if (status)
		rails_fail(conn, status);
	return status;
}

int rails_connect(struct snti_conn *base, const struct snti_address *theirs)
{
	struct rails_conn *conn = (struct rails_conn *)base;
	struct rails_port *port = rails_port_of(conn);
	struct snti_address lead;
	unsigned index;

	rails_conn_init(conn);
	if (read_address(port, theirs, &lead, &index)) {
		rails_fail(conn, snti_fail(SNT_EUNREACHABLE, "rails: the address of rank %d makes no sense", base->peer));
		return base->status;
	}
	index = find_way(port, &lead);
	return begin(conn, index < port->count ? index : 0, NULL, &lead);
}

int rails_accept(struct snti_conn *base, const struct snti_address *mine)
{
	struct rails_conn *conn = (struct rails_conn *)base;
	struct rails_port *port = rails_port_of(conn);
	struct snti_address lead;
	unsigned index;

	rails_conn_init(conn);
	conn->accepting = 1;
	if (read_address(port, mine, &lead, &index) || index >= port->count) {
		rails_fail(conn, snti_fail(SNT_EINVAL, "rails: not an address of this port"));
		return base->status;
	}
	return begin(conn, index, &lead, NULL);
}

static void write_card(struct rails_conn *conn)
{
	struct rails_port *port = rails_port_of(conn);
	struct rails_card *card = &conn->cards[0];

	memcpy(card->magic, CARD_MAGIC, sizeof(card->magic));
	card->count = port->count;
	for (unsigned i = 0; i < port->count; i++) {
		rails_net(port->under, port->ports[i], port->names[i], card->rails[i].net);
		card->rails[i].speed_mbps = port->speeds[i];
		memcpy(card->rails[i].name, port->names[i], sizeof(card->rails[i].name));
		/* One without an address now may have one when it is dialed again. */
		if (sub_address(port, i, &card->rails[i].address))
			memset(&card->rails[i].address, 0, sizeof(card->rails[i].address));
	}
}

static uint64_t ident_of(const struct rails_rail *rail, unsigned which)
{
	uint64_t number = 1 + which + 2 * (rail->index + RAILS_MOST * rail->epoch);
	uint64_t hash = rail->conn->base.ident + UINT64_C(0x9E3779B97F4A7C15) * number;

	hash = (hash ^ hash >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	hash = (hash ^ hash >> 27) * UINT64_C(0x94D049BB133111EB);
	return hash ^ hash >> 31;
}

/* @at: my address for who accepts, theirs for who connects. */
static int dial(struct rails_rail *rail, const struct snti_address *at, int patience_ms)
{
	struct rails_conn *conn = rail->conn;
	struct rails_port *port = rails_port_of(conn);
	struct snti_port *sub = port->ports[rail->mine];
	const struct snti_address *mine = conn->accepting ? at : NULL, *theirs = conn->accepting ? NULL : at;
	int status = SNT_EUNREACHABLE;

	snti_fail_quietly(1);
	if (!rails_is_down(port->under, sub) && !port->under->reaches(sub, at))
		status = snti_conn_open(sub, mine, theirs, ident_of(rail, 0), conn->base.peer, &rail->line);
	if (!status)
		status = snti_conn_open(sub, mine, theirs, ident_of(rail, 1), conn->base.peer, &rail->sub);
	snti_fail_quietly(0);
	if (status) {
		snti_conn_close(rail->line);
		rail->line = NULL;
		return status;
	}
	rail->phase = RAILS_JOINING;
	rail->deadline = snti_deadline_ms((uint64_t)patience_ms);
	return 0;
}

static void meet(struct rails_conn *conn)
{
	const struct rails_card *mine = &conn->cards[0], *theirs = &conn->cards[1];
	unsigned pairs[RAILS_MOST][2];

	conn->count = rails_pair(mine, theirs, conn->accepting, pairs);
	for (unsigned i = 0; i < conn->count; i++) {
		struct rails_rail *rail = &conn->rails[i];

		rail->mine = pairs[i][0];
		rail->theirs = pairs[i][1];
		rail->address = theirs->rails[rail->theirs].address;
	}
	for (unsigned i = 0; i < conn->count && conn->base.status >= 0; i++) {
		struct rails_rail *rail = &conn->rails[i];

		if (dial(rail, conn->accepting ? &mine->rails[rail->mine].address : &rail->address, FIRST_MS) && i + 1 < conn->count)
			rail->next_try = 1;
		else if (!rail->sub)
			rails_down(rail, 0, "no address");
		snti_log(SNT_LOG_DEBUG, "rank %d: rail %u: %s %s %.31s", conn->base.peer, i, rails_name(rail),
			 conn->accepting ? "from" : "to", theirs->rails[rail->theirs].name);
	}
}

static int move_cards(struct rails_conn *conn)
{
	const struct snti_transport *under = conn->intro->ops;

	if (conn->card_out.status == SNTI_AGAIN) {
		write_card(conn);
		conn->card_out = (struct snti_xfer){ .data = &conn->cards[0], .size = sizeof(*conn->cards) };
		if (under->send(conn->intro, &conn->card_out))
			conn->card_out.status = SNTI_AGAIN;
	}
	if (conn->card_in.status == SNTI_AGAIN) {
		conn->card_in = (struct snti_xfer){ .data = &conn->cards[1], .size = sizeof(*conn->cards) };
		if (under->recv(conn->intro, &conn->card_in))
			conn->card_in.status = SNTI_AGAIN;
	}
	return conn->card_out.status == 0 && conn->card_in.status == 0 && under->flush(conn->intro) == 0;
}

void rails_introduce(struct rails_conn *conn)
{
	int here, failed;

	snti_fail_quietly(1);
	here = conn->intro->status == 0 && move_cards(conn);
	snti_fail_quietly(0);
	failed = conn->card_in.status < 0 ? conn->card_in.status : conn->intro->status;
	if (!here && failed < 0 && !(conn->card_in.status == 0 && conn->card_out.status == 0)) {
		rails_fail(conn, snti_fail(failed, "rails: no connection to rank %d: %s", conn->base.peer, snt_error_text()));
		return;
	}
	if (!here && failed >= 0)
		return;
	snti_conn_close(conn->intro);
	conn->intro = NULL;
	if (memcmp(conn->cards[1].magic, CARD_MAGIC, sizeof(conn->cards[1].magic)) || !conn->cards[1].count ||
	    conn->cards[1].count > RAILS_MOST)
		rails_nonsense(conn, "a card that makes no sense");
	else
		meet(conn);
}

/* ---- up and down ------------------------------------------------------------ */

int rails_status(const struct rails_rail *rail)
{
	if (rail->line->status < 0 || rail->sub->status < 0)
		return rail->line->status < 0 ? rail->line->status : rail->sub->status;
	return rail->line->status ? rail->line->status : rail->sub->status;
}

void rails_join(struct rails_rail *rail)
{
	struct rails_conn *conn = rail->conn;
	int status = rails_status(rail);

	if (status == SNT_BUSY) {
		/* The first one has all the time that start-up has. */
		if (snti_is_past(rail->deadline) && conn->base.status == 0)
			rails_down(rail, 1, "it does not come up");
		return;
	}
	if (status < 0) {
		rails_down(rail, 1, "%s", snt_error_text());
		return;
	}
	rail->phase = RAILS_LIVE;
	rail->heard_ns = snti_now_ns();
	rail->beat_ns = rail->echoed_ns = rail->lost_ns = rail->doubt_ns = 0;
	/* What was measured last is how slow it was when it was being lost, after which it would hardly be asked for anything again. */
	rail->rate = rail->rate_out = rail->meter_bytes = rail->busy_ns = rail->pause_ns = 0;
	rail->on_trial = 0;
	if (conn->base.status == SNT_BUSY) {
		conn->base.status = 0;
		conn->stream = conn->wanted = rail->index;
	}
	if (rail->is_told)
		snti_log(SNT_LOG_WARN, "rails: %s to rank %d is %s", rails_name(rail), conn->base.peer, rail->was_live ? "back" : "up");
	rail->was_live = 1;
	rail->is_told = 0;
	rails_post(rail);
	rails_choose_stream(conn);
}

static void drop(struct rails_rail *rail)
{
	snti_conn_close(rail->line);
	snti_conn_close(rail->sub);
	rail->line = rail->sub = NULL;
	if (rail->phase == RAILS_LIVE)
		rails_cancel_posts(rail);
	rail->phase = RAILS_ABSENT;
	rails_lose_chunks(rail);
}

static unsigned count_rails(const struct rails_conn *conn, enum rails_phase least)
{
	unsigned count = 0;

	for (unsigned i = 0; i < conn->count; i++)
		count += conn->rails[i].phase >= least;
	return count;
}

static void fail_without_rails(struct rails_conn *conn)
{
	char text[400] = "";
	size_t used = 0;

	for (unsigned i = 0; i < conn->count && used < sizeof(text); i++)
		used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s: %s", i ? "; " : "",
					 rails_name(&conn->rails[i]), conn->rails[i].why);
	rails_fail(conn, snti_fail(SNT_EPEER, "rails: nothing leads to rank %d any more: %s", conn->base.peer, text));
}

/* What was asked for over the others waited with the stream: that says nothing about them. */
static void restart_meters(struct rails_conn *conn, uint64_t now)
{
	for (unsigned i = 0; i < conn->count; i++) {
		conn->rails[i].meter_ns = now;
		conn->rails[i].meter_bytes = conn->rails[i].busy_ns = 0;
	}
}

void rails_down(struct rails_rail *rail, int tell, const char *format, ...)
{
	struct rails_conn *conn = rail->conn;
	struct rails_frame frame = { .type = RAILS_DOWN, .rail = (uint8_t)rail->index, .number = rail->epoch };
	uint64_t now = snti_now_ns();
	va_list arguments;

	if (conn->over || conn->base.status < 0)
		return;
	va_start(arguments, format);
	vsnprintf(rail->why, sizeof(rail->why), format, arguments);
	va_end(arguments);
	drop(rail);
	if (!rail->lost_ns)
		rail->lost_ns = now;
	rail->next_try = now + (rail->was_live ? PAUSE_MS : LONG_PAUSE_MS) * UINT64_C(1000000);
	if (!count_rails(conn, RAILS_JOINING)) {
		fail_without_rails(conn);
		return;
	}
	if (conn->base.status)
		return;
	if (tell && rails_put(conn, &frame, NULL, 0))
		return;
	restart_meters(conn, now);
	rails_choose_stream(conn);
	rails_pull(conn);
	rails_push(conn);
}

/* Who accepts offers; its address may be another than before. */
void rails_redial(struct rails_rail *rail, uint64_t now)
{
	struct rails_conn *conn = rail->conn;
	struct rails_frame offer = { .type = RAILS_OFFER, .rail = (uint8_t)rail->index, .bytes = sizeof(struct snti_address) };
	struct snti_address mine;

	if (rail->phase != RAILS_ABSENT || now < rail->next_try || !count_rails(conn, RAILS_LIVE) ||
	    conn->tail - conn->head >= RAILS_RING / 2)
		return;
	rail->next_try = now + PAUSE_MS * UINT64_C(1000000);
	if (sub_address(rails_port_of(conn), rail->mine, &mine))
		return;
	rail->epoch++;
	if (dial(rail, &mine, ATTEMPT_MS))
		return;
	offer.number = rail->epoch;
	(void)!rails_put(conn, &offer, &mine, 0);
}

int rails_on_offer(struct rails_conn *conn, const struct rails_frame *frame, const char *payload)
{
	struct rails_rail *rail = frame->rail < conn->count ? &conn->rails[frame->rail] : NULL;

	if (!rail || conn->accepting || frame->bytes != sizeof(rail->address) || frame->number <= rail->epoch)
		return rails_nonsense(conn, "an offer that makes no sense");
	drop(rail);
	if (!rail->lost_ns)
		rail->lost_ns = snti_now_ns();
	rail->epoch = frame->number;
	memcpy(&rail->address, payload, sizeof(rail->address));
	if (dial(rail, &rail->address, ANSWER_MS))
		rails_down(rail, 1, "its new address cannot be dialed");
	else
		rails_choose_stream(conn);
	return 0;
}

int rails_on_down(struct rails_conn *conn, const struct rails_frame *frame)
{
	struct rails_rail *rail = frame->rail < conn->count ? &conn->rails[frame->rail] : NULL;

	if (!rail || frame->number > rail->epoch)
		return rails_nonsense(conn, "word of a rail that is not there");
	if (frame->number == rail->epoch && rail->phase != RAILS_ABSENT)
		rails_down(rail, 0, "it is lost for rank %d", conn->base.peer);
	return 0;
}
