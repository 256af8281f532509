/* SPDX-License-Identifier: BSD-3-Clause */
/* ucx_recv.c - what arrives: checked, put into order, matched with receives, and landed. */
#include "base/clock.h"
#include "base/log.h"
#include "transport/ucx.h"

#define INLINE inline __attribute__((always_inline))    /* on the way of a small message */
#define BYE_GRACE_MS 2000         /* for the last bytes of sends that had completed at a peer that hung up */

/* One active message. */
struct arrival {
	const struct ucx_head *head;
	void *data;
	size_t size;
	int is_descriptor;
	int kept;                       /* the descriptor has been used, or will be */
};

static void owe(struct ucx_conn *conn, size_t size)
{
	conn->owed_bytes += size;
	conn->owed_messages++;
}

/* Credit that is returned one by one would double the messages; the peer can go on without. */
static INLINE void pay(struct ucx_conn *conn)
{
	size_t bytes = conn->owed_bytes, messages = conn->owed_messages;

	if ((messages < UCX_MESSAGES / 4 && (!bytes || bytes < conn->eager / 4)) || conn->base.status || conn->over)
		return;
	conn->owed_bytes = conn->owed_messages = 0;
	(void)!ucx_say(conn, UCX_MATCHED, 0, bytes, messages);
}

/* What @head announces is not what @xfer expects: told to the peer. A charged message may be done for it
 * already, so that the whole conn has to fail. */
static __attribute__((noinline)) void refuse(struct ucx_conn *conn, const struct ucx_head *head, size_t size,
					     struct snti_xfer *xfer, int fits)
{
	if (!fits)
		snti_fail(SNT_EMISMATCH, "ucx: rank %d sends %zu bytes where this rank receives %zu", conn->base.peer, size,
			  xfer->size);
	else
		snti_fail(SNT_EMISMATCH, "ucx: rank %d sends %zu bytes of another operation than this rank receives",
			  conn->base.peer, size);
	ucx_finish(conn, xfer, SNT_EMISMATCH);
	if (conn->base.status)
		return;
	(void)!ucx_say(conn, UCX_REJECT, head->number, xfer->size, head->type == UCX_CHARGED);
	if (head->type == UCX_CHARGED && !conn->dying) {
		conn->dying = SNT_EMISMATCH;
		conn->grace = snti_deadline_ms(BYE_GRACE_MS);
		ucx_port_of(conn)->ailing++;
	}
}

static INLINE int disagrees(struct ucx_conn *conn, const struct ucx_head *head, size_t size, struct snti_xfer *xfer)
{
	int fits = snti_fits(xfer, size);

	if (fits && head->fingerprint == xfer->fingerprint)
		return 0;
	refuse(conn, head, size, xfer, fits);
	return 1;
}

static void on_received(void *made, ucs_status_t status, size_t length, void *user_data)
{
	struct ucx_request *request = made;
	struct ucx_wire *wire = request->wire;

	(void)length, (void)user_data;
	wire->outstanding--;
	if (request->xfer)
		ucx_finish(wire->conn, request->xfer, ucx_verdict(wire->conn, request, status));
	ucx.request_free(made);
}

/* The data of a rendezvous, to its place. */
static __attribute__((noinline)) void fetch(struct ucx_conn *conn, void *descriptor, struct snti_xfer *xfer)
{
	ucp_request_param_t param = {
		.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_MEMORY_TYPE |
			(xfer->fold ? UCP_OP_ATTR_FIELD_DATATYPE : 0),
		.memory_type = UCS_MEMORY_TYPE_HOST,
		.datatype = ucx_port_of(conn)->worker.folding,
		.cb.recv_am = on_received,
	};
	struct ucx_request *request = ucx.am_recv_data_nbx(ucx_port_of(conn)->worker.handle, descriptor,
							   xfer->fold ? (void *)xfer : xfer->data, xfer->size, &param);

	if (UCS_PTR_IS_PTR(request)) {
		*request = (struct ucx_request){ .wire = conn->wire, .xfer = xfer };
		conn->wire->outstanding++;
		xfer->private = request;
		snti_list_remove(&xfer->link);
		snti_list_append(&conn->receiving, &xfer->link);
		return;
	}
	if (request)
		ucx_fail(conn, snti_fail(SNT_EPEER, "ucx: cannot receive from rank %d: %s", conn->base.peer,
					 ucx.status_string(UCS_PTR_STATUS(request))));
	else
		ucx_finish(conn, xfer, 0);
}

static INLINE struct snti_xfer *find_posted(struct ucx_conn *conn, uint64_t lane)
{
	struct snti_link *bucket = ucx_bucket(conn->posted, lane);

	snti_list_each(link, bucket) {
		struct snti_xfer *xfer = snti_container(link, struct snti_xfer, link);

		if (xfer->lane == lane)
			return xfer;
	}
	return NULL;
}

/* ---- messages, in order --------------------------------------------------- */

static INLINE void land(struct snti_xfer *xfer, const void *data, size_t size)
{
	if (!xfer->fold && !xfer->around)
		ucx_copy_small(xfer->data, data, size);
	else if (size)
		snti_land(xfer, 0, data, size);
}

static __attribute__((noinline)) void keep(struct ucx_conn *conn, struct arrival *arrival, struct snti_link *list)
{
	struct ucx_entry *entry = ucx_entry_new(conn, arrival->head, arrival->data, arrival->size, arrival->is_descriptor);

	if (!entry) {
		ucx_nonsense(conn, "more messages than its credit");
		return;
	}
	snti_list_append(list, &entry->link);
	arrival->kept = arrival->is_descriptor;
}

static __attribute__((noinline)) void on_bye(struct ucx_conn *conn, const struct ucx_head *head)
{
	/* What it had taken until then UCX has told us before. */
	snti_list_each(link, &conn->sending)
		((struct ucx_request *)snti_container(link, struct snti_xfer, link)->private)->verdict = SNT_EPEER;
	conn->over = 1;
	conn->abandoned = head->lane != 0;
	conn->grace = snti_deadline_ms(BYE_GRACE_MS);
	ucx_port_of(conn)->ailing++;
	ucx_entry_drop_descriptors(conn);
}

static INLINE void on_message(struct ucx_conn *conn, struct arrival *arrival)
{
	const struct ucx_head *head = arrival->head;
	struct snti_xfer *xfer;

	if (head->type == UCX_BYE) {
		on_bye(conn, head);
		return;
	}
	ucx_port_of(conn)->has_heard = 1;
	xfer = find_posted(conn, head->lane);
	if (!xfer) {
		keep(conn, arrival, ucx_bucket(conn->unmatched, head->lane));
		return;
	}
	if (head->type == UCX_CHARGED)
		owe(conn, arrival->size);
	if (disagrees(conn, head, arrival->size, xfer))
		return;
	if (arrival->is_descriptor) {
		arrival->kept = 1;
		fetch(conn, arrival->data, xfer);
	} else {
		land(xfer, arrival->data, arrival->size);
		ucx_finish(conn, xfer, 0);
	}
	pay(conn);
}

/* Gives @xfer the message of @entry. */
static void claim(struct ucx_conn *conn, struct ucx_entry *entry, struct snti_xfer *xfer)
{
	void *descriptor = entry->descriptor;

	if (disagrees(conn, &entry->head, entry->size, xfer)) {
		if (descriptor)
			ucx.am_data_release(ucx_port_of(conn)->worker.handle, descriptor);
	} else if (descriptor) {
		fetch(conn, descriptor, xfer);
	} else {
		ucx_entry_land(conn, entry, xfer);
		ucx_finish(conn, xfer, 0);
	}
	ucx_entry_free(conn, entry);
	pay(conn);
}

static struct ucx_entry *find_early(struct ucx_conn *conn, uint32_t number)
{
	snti_list_each(link, &conn->early) {
		struct ucx_entry *entry = snti_container(link, struct ucx_entry, link);

		if (entry->head.number == number)
			return entry;
	}
	return NULL;
}

/* A message that had to wait for an earlier one. */
static void catch_up(struct ucx_conn *conn, struct ucx_entry *entry)
{
	struct snti_xfer *xfer = entry->head.type == UCX_BYE ? NULL : find_posted(conn, entry->head.lane);

	if (entry->head.type == UCX_BYE) {
		on_bye(conn, &entry->head);
		ucx_entry_free(conn, entry);
	} else if (xfer) {
		claim(conn, entry, xfer);
	} else {
		snti_list_remove(&entry->link);
		snti_list_append(ucx_bucket(conn->unmatched, entry->head.lane), &entry->link);
	}
}

static __attribute__((noinline)) void catch_up_all(struct ucx_conn *conn)
{
	struct ucx_entry *entry;

	while (!snti_list_empty(&conn->early) && conn->base.status >= 0 && (entry = find_early(conn, conn->expected))) {
		conn->expected++;
		catch_up(conn, entry);
	}
}

static __attribute__((noinline)) void on_early(struct ucx_conn *conn, struct arrival *arrival)
{
	if (arrival->head->number - conn->expected > 2 * UCX_MESSAGES || conn->over)
		ucx_nonsense(conn, conn->over ? "a message after it hung up" : "a message out of turn");
	else
		keep(conn, arrival, &conn->early);
}

/* UCX keeps no promise about the order of active messages: long ones may go over several lanes. */
static INLINE void in_order(struct ucx_conn *conn, struct arrival *arrival)
{
	if (arrival->head->number != conn->expected || conn->over) {
		on_early(conn, arrival);
		return;
	}
	conn->expected++;
	on_message(conn, arrival);
	if (!snti_list_empty(&conn->early))
		catch_up_all(conn);
}

/* How many of @left bytes it takes; 0: more than there are. */
static inline size_t read_part(struct arrival *one, struct ucx_head *head, char *at, size_t left)
{
	struct ucx_part part;
	struct ucx_others others;
	size_t used = sizeof part;

	if (left < used)
		return 0;
	__builtin_memcpy(&part, at, sizeof part);
	if (part.has_others) {
		if (left < used + sizeof others)
			return 0;
		__builtin_memcpy(&others, at + used, sizeof others);
		used += sizeof others;
		head->lane = others.lane;
		head->fingerprint = others.fingerprint;
	}
	one->data = at + used;
	one->size = part.size;
	used += ucx_part_room(part.size);
	return used <= left ? used : 0;
}

/* Each of them as if it had come by itself. */
static __attribute__((noinline)) void take_apart(struct ucx_conn *conn, const struct arrival *pack)
{
	struct ucx_head head = *pack->head;
	char *at = pack->data;
	size_t left = pack->is_descriptor ? 0 : pack->size;

	head.type = UCX_CHARGED;
	do {
		struct arrival one = { .head = &head };
		size_t used = read_part(&one, &head, at, left);

		if (!used) {
			ucx_nonsense(conn, "a pack of messages that is cut");
			return;
		}
		in_order(conn, &one);
		head.number++;
		at += used;
		left -= used;
	} while (left && conn->base.status >= 0 && !conn->dying);
}

/* ---- about messages ------------------------------------------------------- */

static void on_greet(struct ucx_conn *conn, const struct ucx_head *head)
{
	if (conn->greeted) {
		ucx_nonsense(conn, "a second greeting");
		return;
	}
	conn->greeted = 1;
	conn->credit_bytes = conn->most_bytes = head->lane;
	conn->credit_messages = conn->most_messages = head->fingerprint;
	if (conn->phase == UCX_GREETING)
		ucx_is_up(conn);
}

static void on_matched(struct ucx_conn *conn, const struct ucx_head *head)
{
	if (head->lane > conn->most_bytes - conn->credit_bytes ||
	    head->fingerprint > conn->most_messages - conn->credit_messages) {
		ucx_nonsense(conn, "more credit than it has");
		return;
	}
	conn->credit_bytes += head->lane;
	conn->credit_messages += head->fingerprint;
	conn->refused = 0;
}

static struct snti_xfer *find_sending(struct ucx_conn *conn, uint32_t number)
{
	snti_list_each(link, &conn->sending) {
		struct snti_xfer *xfer = snti_container(link, struct snti_xfer, link);

		if ((uint32_t)xfer->number == number)
			return xfer;
	}
	return NULL;
}

/* UCX may still read what a refused send gave it: the send ends when UCX says so. */
static void on_reject(struct ucx_conn *conn, const struct ucx_head *head)
{
	struct snti_xfer *xfer = find_sending(conn, head->number);
	int charged = head->fingerprint != 0, status;

	if ((!xfer && !charged) || conn->next_number - head->number - 1 > UINT32_MAX / 2) {
		ucx_nonsense(conn, "a refusal of what was not sent");
		return;
	}
	status = snti_fail(SNT_EMISMATCH, "ucx: rank %d receives %llu bytes or another operation where this rank sends%s",
			   conn->base.peer, (unsigned long long)head->lane, charged ? " a small message" : "");
	if (xfer)
		((struct ucx_request *)xfer->private)->verdict = status;
	if (charged)
		ucx_fail(conn, status);
}

static __attribute__((noinline)) void dispatch(struct ucx_conn *conn, struct arrival *arrival)
{
	if (!conn->greeted && arrival->head->type != UCX_GREET) {
		ucx_nonsense(conn, "no greeting first");
		return;
	}
	switch (arrival->head->type) {
	case UCX_GREET: on_greet(conn, arrival->head); break;
	case UCX_CHARGED:
	case UCX_ANNOUNCED:
	case UCX_BYE: in_order(conn, arrival); break;
	case UCX_PACK: take_apart(conn, arrival); break;
	case UCX_MATCHED: on_matched(conn, arrival->head); break;
	case UCX_REJECT: on_reject(conn, arrival->head); break;
	default: ucx_nonsense(conn, "a message of no known type");
	}
}

static struct ucx_wire *find_wire(const struct ucx_port *port, uint64_t token)
{
	size_t index = token & 0xffff;
	struct ucx_wire *wire = index < port->token_count ? port->tokens[index] : NULL;

	return wire && wire->token == token ? wire : NULL;
}

/* Takes the head from where it travels; 0: there is none. */
static int unpack(struct arrival *arrival, struct ucx_head *head, const void *bytes, size_t size)
{
	if (!size && !arrival->is_descriptor && arrival->size >= sizeof *head) {
		bytes = arrival->data;
		arrival->data = (char *)arrival->data + sizeof *head;
		arrival->size -= size = sizeof *head;
	}
	if (size != sizeof *head)
		return 0;
	__builtin_memcpy(head, bytes, sizeof *head);
	return 1;
}

/* What carries no wire's token is a stranger's, or for one that has ended: dropped. */
ucs_status_t ucx_arrived(void *arg, const void *bytes, size_t head_size, void *data, size_t size,
			 const ucp_am_recv_param_t *param)
{
	struct ucx_head head;
	struct arrival arrival = { &head, data, size, (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) != 0, 0 };
	struct ucx_wire *wire = unpack(&arrival, &head, bytes, head_size) ? find_wire(arg, head.token) : NULL;
	struct ucx_conn *conn = wire ? wire->conn : NULL;

	if (conn && conn->base.status == 0 && !conn->dying && head.type == UCX_CHARGED && !arrival.is_descriptor)
		in_order(conn, &arrival);
	else if (conn && conn->base.status >= 0 && !conn->dying)
		dispatch(conn, &arrival);
	else if (wire && !conn && head.type == UCX_BYE)
		wire->left = 1;
	if (!arrival.is_descriptor)
		return UCS_OK;
	if (arrival.kept)
		return UCS_INPROGRESS;
	/* Refused with words before, or there is nobody who could say them. */
	return conn && conn->base.status >= 0 ? UCS_OK : UCS_ERR_CANCELED;
}

int ucx_recv(struct snti_conn *base, struct snti_xfer *xfer)
{
	struct ucx_conn *conn = (struct ucx_conn *)base;
	struct ucx_entry *entry;

	if (base->status == SNT_BUSY)
		return SNTI_AGAIN;
	if (!conn->entries)
		return base->status;
	entry = conn->kept ? ucx_entry_find(conn, xfer->lane) : NULL;
	if (entry && !entry->lost && (!entry->descriptor || !base->status)) {
		ucx_take(conn, xfer, &conn->receiving);
		claim(conn, entry, xfer);
		return 0;
	}
	if (conn->over && !base->status && snti_list_empty(&conn->early))
		ucx_fail(conn, snti_fail(SNT_EPEER, "ucx: rank %d has hung up", base->peer));
	if (base->status)
		return base->status;
	ucx_take(conn, xfer, ucx_bucket(conn->posted, xfer->lane));
	return 0;
}
