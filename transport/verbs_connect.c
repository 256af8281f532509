/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_connect.c - the conversation over the tcp conn: who is there, which queue pairs, ready, good-bye. */
#include "transport/verbs.h"
#include "transport/verbs_cm.h"

#include <endian.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/random.h"
#include "base/settings.h"
#include "transport/tcp.h"

#define MAGIC "sntverb3"

/* The address as it travels. */
struct verbs_place {
	char magic[8];
	unsigned char tcp[TCP_PLACE_BYTES];
	uint8_t link_layer, gid_type, ipv4, zero[5];
	unsigned char gid[16];
};

_Static_assert(sizeof(struct verbs_place) <= SNTI_ADDRESS_BYTES, "an address has to fit");
_Static_assert(sizeof(struct verbs_frame) == 56 && sizeof(struct verbs_request) == 48, "frames go over the wire as they are");
_Static_assert(sizeof(struct verbs_message) <= VERBS_SLOT_BYTES, "a slot holds a request, and any MTU a slot");
#define CARD_NUMBERS ((offsetof(struct verbs_card, gid) - offsetof(struct verbs_card, qps)) / 4)
_Static_assert(sizeof(struct verbs_card) == 8 + 4 * CARD_NUMBERS + 16 + VERBS_COOKIE && sizeof(struct verbs_note) == 136, "they have no gaps");

static void fill_in(const struct verbs_device *device, struct verbs_place *place)
{
	memset(place, 0, sizeof(*place));
	memcpy(place->magic, MAGIC, sizeof(place->magic));
	place->link_layer = device->attr.link_layer;
	place->gid_type = (uint8_t)device->gid.gid_type;
	place->ipv4 = (uint8_t)verbs_gid_is_ipv4(&device->gid.gid);
	memcpy(place->gid, device->gid.gid.raw, sizeof(place->gid));
}

int verbs_address(struct snti_port *base, struct snti_address *mine)
{
	struct verbs_port *port = (struct verbs_port *)base;
	struct snti_address side;
	struct verbs_place place;
	int status = port->side->ops->address(port->side, &side);

	if (status)
		return status;
	fill_in(&port->device, &place);
	memcpy(place.tcp, side.bytes, sizeof(place.tcp));
	memset(mine, 0, sizeof(*mine));
	memcpy(mine->bytes, &place, sizeof(place));
	return 0;
}

static struct snti_address side_of(const struct snti_address *address)
{
	struct snti_address side;
	struct verbs_place place;

	memcpy(&place, address->bytes, sizeof(place));
	memset(&side, 0, sizeof(side));
	memcpy(side.bytes, place.tcp, sizeof(place.tcp));
	return side;
}

int verbs_reaches(struct snti_port *base, const struct snti_address *theirs)
{
	struct verbs_port *port = (struct verbs_port *)base;
	struct snti_address side = side_of(theirs);
	struct verbs_place place, mine;

	memcpy(&place, theirs->bytes, sizeof(place));
	fill_in(&port->device, &mine);
	if (memcmp(place.magic, mine.magic, sizeof(place.magic)) || place.link_layer != mine.link_layer ||
	    port->side->ops->reaches(port->side, &side))
		return SNT_EUNSUPPORTED;
	if (place.link_layer == IBV_LINK_LAYER_ETHERNET)
		return place.gid_type == mine.gid_type && place.ipv4 == mine.ipv4 ? 0 : SNT_EUNSUPPORTED;
	return memcmp(place.gid, mine.gid, 8) ? SNT_EUNSUPPORTED : 0;   /* another subnet */
}

void verbs_address_gid(const struct snti_address *address, union ibv_gid *gid)
{
	struct verbs_place place;

	memcpy(&place, address->bytes, sizeof(place));
	memcpy(gid->raw, place.gid, sizeof(gid->raw));
}

int verbs_connect(struct snti_conn *base, const struct snti_address *theirs)
{
	struct verbs_conn *conn = (struct verbs_conn *)base;
	struct verbs_port *port = verbs_port_of(conn);
	struct snti_address side = side_of(theirs);
	int status;

	verbs_conn_init(conn);
	conn->calls = 1;
	if (verbs_reaches(base->port, theirs))
		status = snti_fail(SNT_EUNSUPPORTED, "verbs: the address of rank %d is not of this network", base->peer);
	else
		status = snti_conn_open(port->side, NULL, &side, base->ident, base->peer, &conn->side);
	if (status)
		verbs_fail(conn, status);
	return status;
}

int verbs_accept(struct snti_conn *base, const struct snti_address *mine)
{
	struct verbs_conn *conn = (struct verbs_conn *)base;
	struct verbs_port *port = verbs_port_of(conn);
	struct snti_address side = side_of(mine);
	int status;

	verbs_conn_init(conn);
	status = snti_conn_open(port->side, &side, NULL, base->ident, base->peer, &conn->side);
	if (status)
		verbs_fail(conn, status);
	return status;
}

/* ---- words -------------------------------------------------------------- */

static int say(struct verbs_conn *conn, void *data, size_t size)
{
	int status;

	if (conn->side_send.status == SNT_BUSY)
		return SNTI_AGAIN;
	conn->side_send = (struct snti_xfer){ .data = data, .size = size, .lane = 1 };
	status = snti_send(conn->side, &conn->side_send);
	return status == SNTI_AGAIN ? SNT_EPROTOCOL : status;
}

static int listen_for(struct verbs_conn *conn, void *data, size_t size)
{
	int status;

	conn->side_recv = (struct snti_xfer){ .data = data, .size = size, .lane = 1 };
	status = snti_recv(conn->side, &conn->side_recv);
	return status == SNTI_AGAIN ? SNT_EPROTOCOL : status;
}

static void ece_swap(struct verbs_ece *ece)
{
	for (int i = 0; i < 1 + VERBS_QPS; i++)
		ece[i] = (struct verbs_ece){ htole32(ece[i].vendor), htole32(ece[i].options), htole32(ece[i].mask) };
}

static int say_note(struct verbs_conn *conn, enum verbs_word word)
{
	const struct verbs_link *link = conn->rails;

	conn->note = (struct verbs_note){ .word = htole64(word), .frames = htole64(conn->frames_sent),
		.pieces = htole64(conn->pieces_sent) };
	if (word == VERBS_READY) {
		conn->note.ece[0] = verbs_path_ece(link->frames);
		for (unsigned i = 0; i < conn->qps; i++)
			conn->note.ece[1 + i] = verbs_path_ece(link->data[i]);
		ece_swap(conn->note.ece);
	}
	return say(conn, &conn->note, sizeof(conn->note));
}

void verbs_say_bye(struct verbs_conn *conn)
{
	/* Who has heard one needs to say none: nobody listens. */
	if (conn->side && conn->phase == VERBS_UP && !conn->side->status && conn->side_recv.status == SNT_BUSY)
		say_note(conn, VERBS_BYE);
}

/* ---- cards -------------------------------------------------------------- */

/* All numbers of a card stand in a row. */
static void card_swap(struct verbs_card *card)
{
	uint32_t *number = &card->qps;

	for (size_t i = 0; i < CARD_NUMBERS; i++)
		number[i] = htole32(number[i]);
}

static int write_card(struct verbs_conn *conn)
{
	const struct verbs_link *link = conn->rails;
	struct verbs_card *card = &conn->mine;
	int status = snti_random(card, sizeof(*card));   /* nobody guesses the packets' first numbers */

	if (status)
		return status;
	memcpy(card->magic, MAGIC, sizeof(card->magic));
	card->qps = link->qps;
	card->frame_qp = link->frames->qp_num;
	card->frame_psn &= 0xffffff;
	card->window = VERBS_WINDOW;
	card->smalls = VERBS_SMALLS;
	card->bigs = VERBS_BIGS;
	card->eager = (uint32_t)snti_settings()->verbs_eager;
	card->slots_key = link->slots_mr->rkey;
	card->slots_low = (uint32_t)(uintptr_t)link->slots;
	card->slots_high = (uint32_t)((uint64_t)(uintptr_t)link->slots >> 32);
	for (unsigned i = 0; i < VERBS_QPS; i++) {
		card->qp[i] = i < link->qps ? link->data[i]->qp_num : 0;
		card->psn[i] &= 0xffffff;
	}
	verbs_path_offer(conn, card);
	return 0;
}

static int read_card(struct verbs_conn *conn)
{
	struct verbs_card *card = &conn->theirs;

	card_swap(card);
	if (memcmp(card->magic, MAGIC, sizeof(card->magic)) || card->qps < 1 || card->qps > VERBS_QPS ||
	    card->window <= VERBS_RESERVE || card->window > UINT16_MAX || card->smalls > UINT16_MAX || card->bigs > UINT16_MAX)
		return snti_fail(SNT_EPROTOCOL, "verbs: rank %d describes queue pairs that make no sense", conn->base.peer);
	conn->qps = card->qps < conn->mine.qps ? card->qps : conn->mine.qps;
	conn->eager = card->eager < conn->mine.eager ? card->eager : conn->mine.eager;
	conn->window = card->window;
	conn->smalls = card->smalls;
	conn->bigs = card->bigs;
	return verbs_path_agree(conn);
}

/* ---- steps -------------------------------------------------------------- */

/* The tcp conn is up: the peer has proved that it knows the secret. */
static int offer(struct verbs_conn *conn)
{
	int status = verbs_conn_prepare(conn);
	struct verbs_card *card;

	if (!status)
		status = verbs_link_make(conn);
	if (!status)
		status = write_card(conn);
	if (status)
		return status;
	card = &conn->mine;
	card_swap(card);
	status = say(conn, card, sizeof(*card));
	if (!status)
		status = listen_for(conn, &conn->theirs, sizeof(conn->theirs));
	conn->phase = VERBS_CARDS;
	return status;
}

/* Ready only after the queue pairs are: what came before would be lost and repeated after a timeout. */
static int get_ready(struct verbs_conn *conn)
{
	int status = conn->by_cm ? 0 : verbs_link_connect(conn);

	conn->told_ready = 1;
	return status ? status : say_note(conn, VERBS_READY);
}

static int agree(struct verbs_conn *conn)
{
	int status;

	if (conn->side_send.status == SNT_BUSY)
		return 0;               /* our card is on its way from where it stands */
	card_swap(&conn->mine);
	status = read_card(conn);
	if (!status && conn->by_cm)
		status = verbs_cm_connect(conn);
	else if (!status && !conn->reduces)
		status = get_ready(conn);
	if (!status)
		status = listen_for(conn, &conn->heard, sizeof(conn->heard));
	conn->phase = VERBS_READYING;
	return status;
}

static int come_up(struct verbs_conn *conn)
{
	if (le64toh(conn->heard.word) != VERBS_READY)
		return snti_fail(SNT_EPEER, "verbs: rank %d has hung up", conn->base.peer);
	if (conn->reduces) {
		int status;

		ece_swap(conn->heard.ece);
		status = get_ready(conn);
		if (status)
			return status;
	}
	conn->phase = VERBS_UP;
	conn->base.status = 0;
	verbs_port_of(conn)->setting_up--;
	return listen_for(conn, &conn->heard, sizeof(conn->heard));
}

static void hear_bye(struct verbs_conn *conn)
{
	conn->bye = 1;
	conn->heard.frames = le64toh(conn->heard.frames);
	conn->heard.pieces = le64toh(conn->heard.pieces);
	conn->deadline = snti_deadline_ms(snti_settings()->timeout_ms);
	verbs_port_of(conn)->hurry = 1;
}

static int late(struct verbs_conn *conn)
{
	if (conn->phase == VERBS_UP || !snti_is_past(conn->deadline))
		return 0;
	verbs_fail(conn, snti_fail(SNT_ETIMEOUT, "verbs: no connection with rank %d in time: it did not say that it is ready",
				   conn->base.peer));
	return 1;
}

/* Through librdmacm queue pairs are connected one by one; ready is who has them all. */
static int catch_up(struct verbs_conn *conn)
{
	int status = 0;

	if (conn->phase == VERBS_READYING && conn->by_cm && !conn->rails->connecting && !conn->told_ready)
		status = get_ready(conn);
	if (status)
		verbs_fail(conn, status);
	return status;
}

int verbs_side(struct verbs_conn *conn)
{
	int status;

	if (conn->base.status < 0 || conn->bye || conn->side_lost || !conn->side || catch_up(conn))
		return 0;
	if (conn->phase == VERBS_READYING && conn->by_cm && !conn->told_ready && conn->side_recv.status >= 0)
		return late(conn);
	if (conn->phase == VERBS_CALLING ? conn->side->status == SNT_BUSY : conn->side_recv.status == SNT_BUSY)
		return late(conn);
	status = conn->phase == VERBS_CALLING ? conn->side->status : conn->side_recv.status;
	if (status < 0 && conn->phase == VERBS_UP) {
		conn->side_lost = status;
		verbs_port_of(conn)->hurry = 1;
		return 1;
	}
	if (!status && conn->phase == VERBS_UP)
		hear_bye(conn);
	else if (!status && conn->phase == VERBS_CALLING)
		status = offer(conn);
	else if (!status && conn->phase == VERBS_CARDS)
		status = agree(conn);
	else if (!status)
		status = come_up(conn);
	if (status < 0)
		verbs_fail(conn, status);
	return 1;
}
