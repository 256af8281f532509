/* SPDX-License-Identifier: BSD-3-Clause */
/* verbs_path.c - what the packets of a conn carry and where they belong: MTU, partition, classes, rate, enhancements. */
#include "transport/verbs.h"
#include "transport/verbs_cm.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/settings.h"

#define FULL 0x8000               /* of a P_Key: its owner hears all members, not only those of full right */

/* ---- partitions --------------------------------------------------------- */

/* "3": an index; "0x8001": a partition, with or without the bit of full members; "": any. */
static int is_wanted(const char *wanted, unsigned index, unsigned key)
{
	char *end;
	unsigned long number = strtoul(wanted, &end, 0);

	if (!*wanted)
		return 1;
	return !strncmp(wanted, "0x", 2) ? ((number ^ key) & 0x7fff) == 0 : number == index;
}

static void add_key(struct verbs_device *device, unsigned index, unsigned key)
{
	if (device->keys == VERBS_PKEYS)
		return;
	device->key[device->keys] = (uint16_t)key;
	device->key_index[device->keys++] = (uint16_t)index;
}

/* Full members first, else in the table's order. */
int verbs_path_keys(struct verbs_device *device)
{
	const char *wanted = snti_settings()->verbs_pkey;

	device->keys = 0;
	for (int full = 1; full >= 0 && verbs_calls.ibv_query_pkey; full--)
		for (int i = 0; i < device->attr.pkey_tbl_len; i++) {
			__be16 raw;
			unsigned key;

			if (verbs_calls.ibv_query_pkey(device->context, device->port, i, &raw))
				break;
			key = be16toh(raw);
			if ((key & 0x7fff) && (key & FULL) / FULL == (unsigned)full && is_wanted(wanted, (unsigned)i, key))
				add_key(device, (unsigned)i, key);
		}
	if (device->keys || !*wanted)
		return 0;
	return snti_fail(SNT_EINVAL, "verbs: %s port %u has no P_Key %s (SNT_VERBS_PKEY): cat /sys/class/infiniband/%s/ports/%u/pkeys/*",
			 device->name, device->port, wanted, device->name, device->port);
}

static int hear_each_other(uint32_t mine, uint32_t theirs)
{
	return ((mine ^ theirs) & 0x7fff) == 0 && ((mine | theirs) & FULL);
}

/* The first in the order of the side that called which both have: so both choose the same. */
static int choose_key(struct verbs_conn *conn)
{
	const struct verbs_device *device = &verbs_port_of(conn)->device;
	const uint32_t *outer = conn->calls ? conn->mine.key : conn->theirs.key;
	const uint32_t *inner = conn->calls ? conn->theirs.key : conn->mine.key;

	conn->path.key_index = device->keys ? device->key_index[0] : 0;
	if (!conn->mine.key[0] || !conn->theirs.key[0])
		return 0;
	for (int i = 0; i < VERBS_PKEYS && outer[i]; i++)
		for (int k = 0; k < VERBS_PKEYS && inner[k]; k++)
			if (hear_each_other(outer[i], inner[k])) {
				conn->path.key_index = device->key_index[conn->calls ? i : k];
				return 0;
			}
	return snti_fail(SNT_EUNSUPPORTED, "verbs: %s port %u is in partition 0x%04x and rank %d in 0x%04x: no P_Key lets them hear each "
			 "other; look at the subnet manager's partitions and SNT_VERBS_PKEY", device->name, device->port,
			 conn->mine.key[0], conn->base.peer, conn->theirs.key[0]);
}

/* ---- rate and MTU ------------------------------------------------------- */

static uint32_t most_mtu(const struct verbs_device *device)
{
	uint64_t wanted = snti_settings()->verbs_mtu;
	uint32_t mtu = (uint32_t)device->attr.active_mtu;

	while (wanted && mtu > IBV_MTU_256 && (UINT64_C(128) << mtu) > wanted)
		mtu--;
	return mtu;
}

/* Told once: every other pair of the same hosts has it, too. */
static void tell_mtu(const struct verbs_conn *conn)
{
	const struct verbs_device *device = &verbs_port_of(conn)->device;
	static int told;

	if (conn->mine.mtu <= conn->theirs.mtu || snti_settings()->verbs_mtu || __atomic_exchange_n(&told, 1, __ATOMIC_RELAXED))
		return;
	snti_log(SNT_LOG_INFO, "verbs: %s port %u could carry %u bytes a packet, but rank %d only %u: compare the MTU of both hosts' "
		 "interfaces ('sennit doctor')", device->name, device->port, 128u << conn->mine.mtu, conn->base.peer,
		 128u << conn->theirs.mtu);
}

/* The fastest that is not above @mbps; real rates are a little more than their names. 0: no limit. */
static uint8_t rate_code(uint32_t mbps)
{
	static const struct { uint32_t mbps; uint8_t code; } rates[] = {
		{ 2500, IBV_RATE_2_5_GBPS }, { 5000, IBV_RATE_5_GBPS }, { 10000, IBV_RATE_10_GBPS }, { 14000, IBV_RATE_14_GBPS },
		{ 20000, IBV_RATE_20_GBPS }, { 25000, IBV_RATE_25_GBPS }, { 40000, IBV_RATE_40_GBPS }, { 50000, IBV_RATE_50_GBPS },
		{ 56000, IBV_RATE_56_GBPS }, { 80000, IBV_RATE_80_GBPS }, { 100000, IBV_RATE_100_GBPS }, { 200000, IBV_RATE_200_GBPS },
		{ 300000, IBV_RATE_300_GBPS }, { 400000, IBV_RATE_400_GBPS }, { 600000, IBV_RATE_600_GBPS },
	};
	uint8_t code = IBV_RATE_MAX;

	for (size_t i = 0; i < sizeof(rates) / sizeof(*rates) && rates[i].mbps <= mbps; i++)
		code = rates[i].code;
	return code;
}

/* On InfiniBand a fast port would fill the switch in front of a slow one; Ethernet has its own ways. */
static uint8_t choose_rate(const struct verbs_conn *conn)
{
	uint64_t wanted = snti_settings()->verbs_rate * 1000;
	uint32_t mine = conn->mine.rate, theirs = conn->theirs.rate;

	if (wanted)
		return wanted < mine ? rate_code((uint32_t)wanted) : IBV_RATE_MAX;
	if (verbs_port_of(conn)->device.attr.link_layer == IBV_LINK_LAYER_ETHERNET || !theirs || theirs >= mine)
		return IBV_RATE_MAX;
	return rate_code(theirs);
}

/* ---- enhancements ------------------------------------------------------- */

struct verbs_ece verbs_path_ece(struct ibv_qp *qp)
{
	struct ibv_ece ece = { .comp_mask = 0 };

	if (!snti_settings()->verbs_ece || !verbs_calls.ibv_query_ece || !verbs_calls.ibv_set_ece ||
	    verbs_calls.ibv_query_ece(qp, &ece))
		return (struct verbs_ece){ .vendor = 0 };
	return (struct verbs_ece){ ece.vendor_id, ece.options, ece.comp_mask };
}

/* A device that does not know the other's goes on without. */
void verbs_path_enhance(const struct verbs_conn *conn, struct ibv_qp *qp, unsigned index)
{
	const struct verbs_ece *theirs = conn->reduces ? &conn->heard.ece[index] : &conn->theirs.ece[index];
	struct ibv_ece ece = { .vendor_id = theirs->vendor, .options = theirs->options, .comp_mask = theirs->mask };

	if (theirs->vendor && conn->mine.ece[index].vendor && verbs_calls.ibv_set_ece(qp, &ece))
		snti_log(SNT_LOG_DEBUG, "verbs: queue pair %u goes without the enhancements of rank %d", qp->qp_num, conn->base.peer);
}

/* ---- both sides --------------------------------------------------------- */

void verbs_path_offer(const struct verbs_conn *conn, struct verbs_card *card)
{
	const struct verbs_device *device = &verbs_port_of(conn)->device;
	const struct verbs_link *link = conn->rails;

	card->mtu = most_mtu(device);
	card->lid = device->attr.lid;
	card->level = device->level;
	card->traffic = device->traffic_class;
	if (device->is_marked)
		*(device->attr.link_layer == IBV_LINK_LAYER_ETHERNET ? &card->traffic : &card->level) |= VERBS_MARKED;
	card->rate = verbs_device_mbps(device);
	card->cm_port = verbs_cm_number(verbs_port_of(conn));
	for (unsigned i = 0; i < VERBS_PKEYS; i++)
		card->key[i] = i < device->keys ? device->key[i] : 0;
	memset(card->ece, 0, sizeof(card->ece));
	card->ece[0] = verbs_path_ece(link->frames);
	for (unsigned i = 0; i < link->qps; i++)
		card->ece[1 + i] = verbs_path_ece(link->data[i]);
	memcpy(card->gid, device->gid.gid.raw, sizeof(card->gid));
}

/* Which class a side does not name it takes from the other: acknowledgements and answers are marked as the data is. */
static uint8_t choose_class(uint32_t mine, uint32_t theirs)
{
	if (mine & VERBS_MARKED || (mine && !(theirs & VERBS_MARKED)))
		return (uint8_t)mine;
	return (uint8_t)theirs;
}

int verbs_path_agree(struct verbs_conn *conn)
{
	const struct verbs_card *mine = &conn->mine, *theirs = &conn->theirs;
	struct verbs_path *path = &conn->path;

	if (theirs->mtu < IBV_MTU_256 || theirs->mtu > IBV_MTU_4096 || (theirs->level & ~VERBS_MARKED) > 15 ||
	    (theirs->traffic & ~VERBS_MARKED) > 255 ||
	    theirs->cm_port > UINT16_MAX)
		return snti_fail(SNT_EPROTOCOL, "verbs: rank %d describes a path that makes no sense", conn->base.peer);
	path->mtu = (enum ibv_mtu)(mine->mtu < theirs->mtu ? mine->mtu : theirs->mtu);
	path->level = choose_class(mine->level, theirs->level);
	path->traffic = choose_class(mine->traffic, theirs->traffic);
	path->rate = choose_rate(conn);
	tell_mtu(conn);
	conn->by_cm = mine->cm_port && theirs->cm_port;
	/* The side that called waits for what the other makes of its offer. */
	conn->reduces = conn->calls && !conn->by_cm && mine->ece[0].vendor && theirs->ece[0].vendor;
	return choose_key(conn);
}
