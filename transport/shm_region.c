/* SPDX-License-Identifier: BSD-3-Clause */
/* shm_region.c - what two processes map: a conn's region, and allocations that one lets the other read. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/settings.h"
#include "transport/shm.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static size_t region_bytes(uint64_t slot, uint64_t slots)
{
	return sizeof(struct shm_region) + 2 * slot * slots;
}

/* Points the conn into its region; @side 0 has connected. */
static int lay_out(struct shm_conn *c, int side)
{
	struct shm_way *out = &c->region->ways[side], *in = &c->region->ways[!side];
	char *slots = (char *)(c->region + 1);

	c->least_piece = c->slot < SHM_PIECE_LEAST ? c->slot : SHM_PIECE_LEAST;
	c->out_cells = out->cells;
	c->peer_sleeping = &out->sleeping;
	c->own_left = &out->left;
	c->peer_writing = &out->writing;
	c->own_writing = &in->writing;
	c->peer_counters = &out->counters;
	c->out_slots = slots + (size_t)side * c->slot * c->slots;
	c->in_cells = in->cells;
	c->own_sleeping = &in->sleeping;
	c->peer_left = &in->left;
	c->own_counters = &in->counters;
	c->in_slots = slots + (size_t)!side * c->slot * c->slots;
	return shm_early_init(c) ? snti_fail(SNT_ENOMEM, "rank %d: no memory for early messages", c->base.peer) : 0;
}

static int map_region(struct shm_conn *c, int fd, size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		return snti_fail(SNT_ENOMEM, "cannot map %zu bytes shared with rank %d: %s", size, c->base.peer,
				 strerror(errno));
	c->region = at;
	c->region_size = size;
	return 0;
}

int shm_region_make(struct shm_conn *c)
{
	const struct snti_settings *settings = snti_settings();
	size_t size;

	c->slot = (settings->shm_slot + 63) & ~(uint64_t)63;
	c->slots = settings->shm_slots;
	c->eager = settings->shm_eager;
	size = region_bytes(c->slot, c->slots);
	c->memfd = memfd_create("sennit-conn", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (c->memfd < 0 || ftruncate(c->memfd, (off_t)size) || fcntl(c->memfd, F_ADD_SEALS, SEALS))
		return snti_fail(errno == EMFILE ? SNT_ELIMIT : SNT_ENOMEM, "cannot make %zu bytes shared with rank %d: %s",
				 size, c->base.peer, strerror(errno));
	if (map_region(c, c->memfd, size))
		return SNT_ENOMEM;
	c->region->magic = SHM_MAGIC;
	c->region->version = SHM_VERSION;
	c->region->slot = c->slot;
	c->region->slots = c->slots;
	c->region->eager = c->eager;
	return lay_out(c, 0);
}

/* Only of a file whose pages cannot be taken away. */
int shm_sealed_size(int fd, uint64_t *size)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals < 0 || (seals & SEALS) != SEALS || fstat(fd, &st) || st.st_size <= 0)
		return SNT_EPROTOCOL;
	*size = (uint64_t)st.st_size;
	return 0;
}

static int join_checked(struct shm_conn *c, uint64_t size)
{
	c->slot = shm_load(&c->region->slot);
	c->slots = shm_load(&c->region->slots);
	c->eager = shm_load(&c->region->eager);
	if (c->region->magic != SHM_MAGIC || c->region->version != SHM_VERSION || c->slot < 1024 || c->slot > 1 << 24 ||
	    c->slot % 64 || c->slots < 2 || c->slots > 64 || c->eager > 1 << 30 ||
	    size != region_bytes(c->slot, c->slots))
		return snti_fail(SNT_EPROTOCOL, "rank %d: its shared region makes no sense", c->base.peer);
	return lay_out(c, 1);
}

int shm_region_join(struct shm_conn *c, int fd)
{
	uint64_t size;
	int rc;

	if (shm_sealed_size(fd, &size) || size < sizeof(struct shm_region) || size > (uint64_t)1 << 32)
		return snti_fail(SNT_EPROTOCOL, "rank %d: its shared region is no sealed memory", c->base.peer);
	if (map_region(c, fd, size))
		return SNT_ENOMEM;
	rc = join_checked(c, size);
	if (rc) {
		/* Whoever sees a region takes it to be laid out. */
		munmap(c->region, c->region_size);
		c->region = NULL;
	}
	return rc;
}

void shm_region_drop(struct shm_conn *c)
{
	for (size_t i = 0; i < SHM_PLACES; i++) {
		if (c->mappings[i].base)
			munmap(c->mappings[i].base, c->mappings[i].size);
		c->mappings[i] = (struct shm_mapping){ 0 };
	}
	if (c->region)
		munmap(c->region, c->region_size);
	c->region = NULL;
	if (c->memfd >= 0)
		close(c->memfd);
	c->memfd = -1;
	shm_early_free(c);
}

/* ---- allocations ---------------------------------------------------------- */

static int find_announced(const struct shm_conn *c, uint64_t id)
{
	for (uint32_t i = 0; i < SHM_PLACES; i++)
		if (c->announced[i] == id)
			return 1;
	return 0;
}

/* Lets the peer map @memory. Its id, or 0: it cannot just now. */
uint64_t shm_announce(struct shm_conn *c, const struct snti_memory *memory)
{
	struct shm_note note = { .magic = SHM_MAGIC, .version = SHM_VERSION, .type = SHM_MEMORY, .memory = memory->id,
				 .size = memory->size };
	uint32_t place = c->announce_next % SHM_PLACES;

	if (find_announced(c, memory->id))
		return memory->id;
	/* The peer drops what was in that place: not while it may still read it. */
	if (c->announced[place] && c->free_count != SHM_NUMBERS)
		return 0;
	note.place = place;
	if (shm_note_send(c->watch.fd, &note, memory->fd))
		return 0;
	c->announced[place] = memory->id;
	c->announce_next++;
	return memory->id;
}

static int is_inside(const struct shm_mapping *mapping, const char *at)
{
	return at && at >= mapping->base && at < mapping->base + mapping->size;
}

static int is_being_read(const struct shm_conn *c, const struct shm_mapping *mapping)
{
	for (size_t i = 0; i < SHM_NUMBERS; i++)
		if (is_inside(mapping, c->in[i].mapped) || is_inside(mapping, c->in[i].room))
			return 1;
	return 0;
}

int shm_learn(struct shm_conn *c, const struct shm_note *note, int fd)
{
	struct shm_mapping *mapping = &c->mappings[note->place % SHM_PLACES];
	uint64_t size;
	void *at;

	if (note->place >= SHM_PLACES || !note->memory || fd < 0 || shm_sealed_size(fd, &size) || size != note->size ||
	    is_being_read(c, mapping))
		return SNT_EPROTOCOL;
	if (mapping->base)
		munmap(mapping->base, mapping->size);
	*mapping = (struct shm_mapping){ 0 };
	at = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (at != MAP_FAILED)
		*mapping = (struct shm_mapping){ .id = note->memory, .base = at, .size = size };
	return 0;
}

/* Where a message lies here, or NULL: not mapped, or not within what is. */
const char *shm_mapped(const struct shm_conn *c, const struct shm_offer *offer, uint64_t size)
{
	for (uint32_t i = 0; i < SHM_PLACES; i++) {
		const struct shm_mapping *m = &c->mappings[i];

		if (m->id == offer->memory && m->base)
			return offer->offset <= m->size && size <= m->size - offer->offset ? m->base + offer->offset : NULL;
	}
	return NULL;
}

/* Where the answer to an offer belongs, or NULL. Only memory in which room was offered is mapped for writing. */
char *shm_room(struct shm_conn *c, const struct shm_offer *offer, uint64_t size)
{
	for (uint32_t i = 0; i < SHM_PLACES; i++) {
		struct shm_mapping *m = &c->mappings[i];

		if (!m->base || m->id != offer->room_memory || offer->room_offset > m->size || size > m->size - offer->room_offset)
			continue;
		if (!m->may_write && mprotect(m->base, m->size, PROT_READ | PROT_WRITE))
			return NULL;
		m->may_write = 1;
		return m->base + offer->room_offset;
	}
	return NULL;
}

/* Best of some; @reading: by the kernel, as from a peer, else by a copy. */
static uint64_t time_copy(char *bounce, int reading)
{
	size_t half = SHM_BOUNCE / 2;
	struct iovec to = { bounce, half }, from = { bounce + half, half };
	uint64_t best = UINT64_MAX;

	for (int i = 0; i < 4; i++) {
		uint64_t began = snti_now_ns(), took;

		if (!reading)
			memcpy(bounce, bounce + half, half);
		else if (process_vm_readv(getpid(), &to, 1, &from, 1, 0) != (ssize_t)half)
			return UINT64_MAX;
		took = snti_now_ns() - began;
		best = took < best ? took : best;
	}
	return best;
}

/* The kernel looks up every page of the peer's: on some machines that costs more than copying twice. Measured on
 * Zen 4 with pages of 4 KiB, between 2, 4 and 8 ranks on 2 cores, the slots are 1.4 to 2 times as fast. */
static void weigh_single_copy(struct shm_port *p)
{
	uint64_t reading;

	memset(p->bounce, 1, SHM_BOUNCE);
	reading = time_copy(p->bounce, 1);
	p->single_copy = reading < 2 * time_copy(p->bounce, 0) ? 1 : -1;
}

/* Whether process_vm_readv works on the peer is found out, never assumed. */
void shm_probe(struct shm_conn *c)
{
	uint64_t seen = 0;
	struct iovec local = { &seen, sizeof(seen) };
	struct iovec remote = { (void *)(uintptr_t)c->peer_nonce_at, sizeof(seen) };

	c->readable = process_vm_readv(c->pid, &local, 1, &remote, 1, 0) == (ssize_t)sizeof(seen) &&
		      seen == c->peer_nonce;
	if (c->readable && !shm_port_of(c->base.port)->single_copy)
		weigh_single_copy(shm_port_of(c->base.port));
	snti_log(SNT_LOG_DEBUG, "rank %d: shared memory, its memory can%s be read directly", c->base.peer,
		 c->readable ? "" : "not");
}
