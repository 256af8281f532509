/* SPDX-License-Identifier: BSD-3-Clause */
/* settings.h - every setting of the library: one table, read once from the environment. */
#ifndef BASE_SETTINGS_H
#define BASE_SETTINGS_H

#include <stddef.h>
#include <stdint.h>

/* field, type (number, size or text), variable, default, least, most, meaning */
#define SNTI_SETTINGS(X) \
	X(log_level,    number, "SNT_LOG",         "2",     0, 5, \
	  "How much is logged: 0 nothing, 1 errors, 2 warnings, 3 info, 4 debug, 5 trace.") \
	X(timeout_ms,   number, "SNT_TIMEOUT",     "30000", 1, 86400000, \
	  "Milliseconds a wait for other ranks goes on while nothing at all moves, then it fails.") \
	X(startup_ms,   number, "SNT_STARTUP_TIMEOUT", "60000", 1, 86400000, \
	  "Milliseconds until all ranks must have found each other.") \
	X(transports,   text,   "SNT_TRANSPORTS",  "auto",  0, 0, \
	  "Transports that may be used, in order of preference; auto: shm, verbs, ucx, tcp, as far as they offer something here.") \
	X(algorithms,   text,   "SNT_ALGORITHMS",  "",      0, 0, \
	  "Choice of algorithms, such as allreduce:0-4K:doubling,allreduce:4K-:ring; empty chooses by size.") \
	X(interfaces,   text,   "SNT_INTERFACES",  "",      0, 0, \
	  "Network interfaces to use, by name (eth0) or subnet (10.0.0.0/8), in order; empty means any that is up.") \
	X(rails,        text,   "SNT_RAILS",       "auto",  0, 0, \
	  "Network interfaces (names or subnets) or RDMA devices to use at once as one connection; auto, off.") \
	X(secret,       text,   "SNT_SECRET",      "",      0, 0, \
	  "The job's secret, the same text on every rank.") \
	X(secret_file,  text,   "SNT_SECRET_FILE", "",      0, 0, \
	  "A file that holds the job's secret; only its owner may have access.") \
	X(rank,         text,   "SNT_RANK",        "",      0, 0, \
	  "This process's rank, before any launcher's variable.") \
	X(ranks,        text,   "SNT_SIZE",        "",      0, 0, \
	  "The number of ranks, before any launcher's variable.") \
	X(address,      text,   "SNT_ADDRESS",     "",      0, 0, \
	  "host:port where rank 0 listens, before any launcher's variable.") \
	X(spin_us,      number, "SNT_SPIN",        "20",    0, 1000000, \
	  "Microseconds a wait spins before it yields the core, at most half of the timeout; 0 when ranks outnumber cores.") \
	X(yields,       number, "SNT_YIELD",       "500",   0, 10000000, \
	  "How often a wait then yields the core before it sleeps.") \
	X(progress_thread, number, "SNT_PROGRESS_THREAD", "0", 0, 1, \
	  "1: a thread per team moves large operations while the program computes; it wants a core to spare.") \
	X(progress_bytes, size, "SNT_PROGRESS_BYTES", "1M", 0, INT64_MAX, \
	  "Bytes of an operation from which on starting it wakes the progress thread.") \
	X(nccl_tuning,  text,   "SNT_NCCL_TUNING", "",      0, 0, \
	  "A file with the algorithms NCCL shall use, the same on every rank; empty leaves the choice to NCCL.") \
	X(profile,      text,   "SNT_PROFILE",     "",      0, 0, \
	  "A file for what NCCL's messages waited for; %p is the process, %h the host, %r the rank; empty profiles nothing.") \
	X(profile_format, text, "SNT_PROFILE_FORMAT", "json", 0, 0, \
	  "How that file is written: json appends a line for each peer, openmetrics replaces the file.") \
	X(profile_interval_ms, number, "SNT_PROFILE_INTERVAL", "10000", 0, 86400000, \
	  "Milliseconds from one report in that file to the next; 0: only when a communicator begins and ends.") \
	X(shm_eager,    size,   "SNT_SHM_EAGER",   "512K",   0, 1 << 30, \
	  "Bytes in unmatched messages that one shared-memory connection may hold.") \
	X(shm_slot,     size,   "SNT_SHM_SLOT",    "64K",   1024, 1 << 24, \
	  "Bytes of one shared-memory slot, the piece in which large messages are moved.") \
	X(shm_slots,    number, "SNT_SHM_SLOTS",   "4",     2, 64, \
	  "Shared-memory slots in each direction of a connection.") \
	X(shm_single_copy, size, "SNT_SHM_SINGLE_COPY", "0", 0, INT64_MAX, \
	  "Messages of at least so many bytes are read straight from the sender; 0: from 512K where measured to be faster.") \
	X(tcp_sockets,  number, "SNT_TCP_SOCKETS", "2",     1, 16, \
	  "Sockets between two ranks over TCP.") \
	X(tcp_eager,    size,   "SNT_TCP_EAGER",   "8M",    0, 1 << 30, \
	  "Bytes in unmatched messages that one TCP connection may hold.") \
	X(tcp_piece,    size,   "SNT_TCP_PIECE",   "1M",  4096, 1 << 30, \
	  "Bytes of the piece in which a large TCP message is dealt to the sockets.") \
	X(tcp_class,    number, "SNT_TCP_TRAFFIC_CLASS", "0", 0, 255, \
	  "Traffic class of TCP traffic: the IP header's DSCP times 4.") \
	X(ip_version,   number, "SNT_IP_VERSION",  "0",     0, 6, \
	  "4 or 6: only addresses of this version of the internet protocol are used; 0: of both.") \
	X(ucx_eager,    size,   "SNT_UCX_EAGER",   "256K",   0, 1 << 30, \
	  "Bytes in unmatched messages that one UCX connection may hold.") \
	X(verbs_devices, text,  "SNT_VERBS_DEVICES", "",    0, 0, \
	  "RDMA devices that may be used, such as mlx5_0,mlx5_1:2, several of them at once; empty means any port that is up.") \
	X(verbs_gid,    text,   "SNT_VERBS_GID",   "",      0, 0, \
	  "Index in the port's GID table; empty chooses RoCE v2 over IPv4, then IPv6, then what there is.") \
	X(verbs_mtu,    number, "SNT_VERBS_MTU",   "0",     0, 4096, \
	  "Bytes of an RDMA packet at most; 0: as the ports of both sides allow.") \
	X(verbs_pkey,   text,   "SNT_VERBS_PKEY",  "",      0, 0, \
	  "RDMA partition: 0x8001, or an index in the port's P_Key table; empty chooses the first that both sides are in.") \
	X(verbs_level,  number, "SNT_VERBS_SERVICE_LEVEL", "0", 0, 15, \
	  "InfiniBand service level of RDMA traffic; 0: as the other side has it.") \
	X(verbs_class,  number, "SNT_VERBS_TRAFFIC_CLASS", "0", 0, 255, \
	  "Traffic class of RDMA traffic; over RoCE the IP header's DSCP times 4; 0: as the other side has it.") \
	X(verbs_rate,   number, "SNT_VERBS_RATE",  "0",     0, 1000, \
	  "Gbit/s at which an RDMA queue pair sends at most, where the device can; 0: on InfiniBand no faster than the peer's port.") \
	X(verbs_ece,    number, "SNT_VERBS_ECE",   "1",     0, 1, \
	  "1: RDMA devices of both sides agree on enhancements of their queue pairs, where they have any.") \
	X(verbs_connect, text,  "SNT_VERBS_CONNECT", "direct", 0, 0, \
	  "direct: RDMA queue pairs are connected by sennit alone; cm: through librdmacm, where RoCE has IP addresses.") \
	X(verbs_timeout, number, "SNT_VERBS_TIMEOUT", "0",  0, 31, \
	  "How long a packet's acknowledgement is awaited, 4.096 us times 2 to this power, 8 times; 0: from SNT_TIMEOUT, at most 17.") \
	X(verbs_retries, number, "SNT_VERBS_RETRIES", "7",  0, 7, \
	  "How often an RDMA packet that is not acknowledged is sent again.") \
	X(verbs_qps,    number, "SNT_VERBS_QPS",   "2",     1, 8, \
	  "Queue pairs for large messages between two ranks over RDMA.") \
	X(verbs_split,  size,   "SNT_VERBS_SPLIT", "1M",    4096, INT64_MAX, \
	  "Pieces of at least so many bytes are split over all queue pairs; smaller ones take turns.") \
	X(verbs_eager,  size,   "SNT_VERBS_EAGER", "8K",    0, 1 << 20, \
	  "Bytes of the largest RDMA message that is sent before its receive asks for it.") \
	X(verbs_block,  size,   "SNT_VERBS_BLOCK", "64K",   4096, 1 << 24, \
	  "Bytes of a registered block, through which messages pass that are folded or not registered themselves.") \
	X(verbs_register, size, "SNT_VERBS_REGISTER", "1M", 0, INT64_MAX, \
	  "Messages of at least so many bytes are registered for themselves; memory of snt_alloc always is.") \
	X(verbs_adaptive, number, "SNT_VERBS_ADAPTIVE", "2", 0, 2, \
	  "1: RDMA packets may take different routes, 0: they do not, 2: on InfiniBand they may.") \
	X(nccl_transports, text, "SNT_NCCL_TRANSPORTS", "", 0, 0, \
	  "Transports that NCCL's network may use, the first that has devices; empty: SNT_TRANSPORTS, else verbs,ucx,tcp.")

struct snti_settings {
#define SNTI_FIELD_number uint64_t
#define SNTI_FIELD_size uint64_t
#define SNTI_FIELD_text const char *
#define SNTI_FIELD(field, type, ...) SNTI_FIELD_##type field;
	SNTI_SETTINGS(SNTI_FIELD)
#undef SNTI_FIELD
};

/* The settings of this process, read at the first call (any thread). A value that is out of
 * its bounds or no number is warned about and the default stands; so is a
 * variable named SNT_... that is no setting, with the nearest name. */
const struct snti_settings *snti_settings(void);

/* Another program's name for a setting: @value counts unless the environment has @variable. 0; SNTI_HAS_OWN; or
 * SNT_EINVAL when it is no such setting or out of its bounds. Before other threads read settings. */
#define SNTI_HAS_OWN 3
int snti_settings_adopt(const char *variable, const char *value);

/* For 'sennit info --settings' and the checks: the table as text. */
struct snti_setting_text { const char *variable, *standard, *meaning; char value[256]; };
size_t snti_setting_count(void);
void snti_setting_describe(size_t index, struct snti_setting_text *text);

/* "64K", "1M", "2G", "123": bytes; K, M, G are powers of 1024. 0 or SNT_EINVAL. */
int snti_parse_size(const char *text, uint64_t *size);

#endif
