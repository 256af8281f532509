/* SPDX-License-Identifier: BSD-3-Clause */
/* profiler_format.c - what the profiler has counted, as JSON lines and as OpenMetrics. */
#include "plugins/nccl/profiler.h"

#include <string.h>
#include <unistd.h>

#include "include/sennit.h"
#include "plugins/nccl/core.h"

enum { NAME_ROOM = 2 * SNTI_PROFILE_NAME };

/* ---- words --------------------------------------------------------------------- */

/* Each state's name in JSON, as a cause in OpenMetrics, and the verdict when it has half of the waiting. */
static const struct cause { int which, of_sends, of_receives; const char *name, *verdict; } causes[] = {
	{ SNTI_PROFILE_GPU, 1, 1, "gpu", "gpu-late" },
	{ SNTI_PROFILE_PEER, 1, 0, "peer", "peer-late" },
	{ SNTI_PROFILE_WIRE, 1, 0, "wire", "wire-slow" },
	{ SNTI_PROFILE_DATA, 0, 1, "data", "data-late" },
	{ SNTI_PROFILE_FLUSH, 0, 1, "flush", "flush-slow" },
};
enum { CAUSES = sizeof causes / sizeof *causes };

const char *snti_profile_verdict(const uint64_t counts[SNTI_PROFILE_COUNTS])
{
	uint64_t all = 0;

	for (int i = 0; i < CAUSES; i++)
		all += counts[causes[i].which];
	for (int i = 0; i < CAUSES && all; i++)
		if (counts[causes[i].which] >= all - all / 2)
			return causes[i].verdict;
	return all ? "mixed" : "none";
}

const char *snti_profile_nic_name(int nic, char *room, size_t size)
{
	const struct snti_nccl_device *device = nic >= 0 && nic < SNTI_PROFILE_IB_NIC ? snti_nccl_device(nic) : NULL;

	if (nic == SNTI_PROFILE_NO_NIC)
		snprintf(room, size, "unknown");
	else if (nic >= SNTI_PROFILE_IB_NIC)
		snprintf(room, size, "IB/%d", nic - SNTI_PROFILE_IB_NIC);
	else if (device)
		snprintf(room, size, "%s", device->name);
	else
		snprintf(room, size, "%d", nic);
	return room;
}

/* For a string in quotes; both grammars know these two escapes, and nothing else is in our names. */
static const char *quoted(const char *name, char room[NAME_ROOM])
{
	size_t used = 0;

	for (; *name && used < NAME_ROOM - 2; name++) {
		if (*name == '"' || *name == '\\')
			room[used++] = '\\';
		room[used++] = *name;
	}
	room[used] = 0;
	return room;
}

static const char *comm_text(const struct snti_profile_comm *comm, char *room, size_t size)
{
	/* With the process, so that no two files have the same series. */
	if (comm == snti_profile_strangers())
		snprintf(room, size, "other-processes-%d", (int)getpid());
	else
		snprintf(room, size, "0x%016llx", (unsigned long long)comm->id);
	return room;
}

static void read_counts(const struct snti_profile_row *row, uint64_t counts[SNTI_PROFILE_COUNTS])
{
	for (int i = 0; i < SNTI_PROFILE_COUNTS; i++)
		counts[i] = atomic_load_explicit(&row->counts[i], memory_order_relaxed);
}

/* ---- JSON lines ------------------------------------------------------------------- */

static void json_head(const struct snti_profile_report *report, const char *type)
{
	const struct snti_profile_comm *comm = report->comm;
	char id[32], name[NAME_ROOM], host[NAME_ROOM];

	fprintf(report->to, "{\"type\":\"%s\",\"time\":%llu.%06llu,\"host\":\"%s\",\"pid\":%d,\"comm\":\"%s\",\"comm_name\":\"%s\",\"rank\":%d",
		type, (unsigned long long)report->time_us / 1000000, (unsigned long long)report->time_us % 1000000,
		quoted(report->host, host), (int)getpid(), comm_text(comm, id, sizeof id), quoted(comm->name, name),
		comm == snti_profile_strangers() ? -1 : comm->rank);
}

void snti_profile_json_begin(const struct snti_profile_report *report)
{
	json_head(report, "begin");
	fprintf(report->to, ",\"ranks\":%d,\"nodes\":%d,\"sennit\":\"%s\"}\n", report->comm->ranks, report->comm->nodes,
		snt_version());
}

static void json_histogram(FILE *to, const uint64_t *buckets)
{
	const char *comma = "";

	fprintf(to, ",\"transfer_us\":{");
	for (int i = 0; i < SNTI_PROFILE_BUCKETS; i++) {
		if (buckets[i] && i < SNTI_PROFILE_BUCKETS - 1)
			fprintf(to, "%s\"%llu\":%llu", comma, 1ull << i, (unsigned long long)buckets[i]);
		else if (buckets[i])
			fprintf(to, "%s\"inf\":%llu", comma, (unsigned long long)buckets[i]);
		if (buckets[i])
			comma = ",";
	}
	fprintf(to, "}}\n");
}

static void json_row(struct snti_profile_row *row, void *argument)
{
	const struct snti_profile_report *report = argument;
	uint64_t now[SNTI_PROFILE_COUNTS], more[SNTI_PROFILE_COUNTS];
	char nic[NAME_ROOM], room[NAME_ROOM];

	read_counts(row, now);
	for (int i = 0; i < SNTI_PROFILE_COUNTS; i++)
		more[i] = now[i] - row->told[i];
	if (!more[SNTI_PROFILE_MESSAGES])
		return;
	memcpy(row->told, now, sizeof now);
	json_head(report, "transfers");
	fprintf(report->to, ",\"peer\":%d,\"nic\":\"%s\",\"direction\":\"%s\",\"interval_ns\":%llu,\"messages\":%llu,\"bytes\":%llu",
		row->peer, quoted(snti_profile_nic_name(row->nic, nic, sizeof nic / 2), room),
		row->is_send ? "send" : "receive", (unsigned long long)(report->now - report->comm->told_at),
		(unsigned long long)more[SNTI_PROFILE_MESSAGES], (unsigned long long)more[SNTI_PROFILE_BYTES]);
	for (int i = 0; i < CAUSES; i++)
		if (row->is_send ? causes[i].of_sends : causes[i].of_receives)
			fprintf(report->to, ",\"%s_ns\":%llu", causes[i].name, (unsigned long long)more[causes[i].which]);
	fprintf(report->to, ",\"verdict\":\"%s\",\"transfer_ns\":%llu", snti_profile_verdict(more),
		(unsigned long long)more[SNTI_PROFILE_TRANSFER]);
	json_histogram(report->to, more + SNTI_PROFILE_BUCKET);
}

static void json_functions(const struct snti_profile_report *report)
{
	struct snti_profile_comm *comm = report->comm;
	const char *comma = "";

	for (int i = 0; snti_profile_function(i); i++) {
		uint64_t now = atomic_load(&comm->functions[i]);

		if (now == comm->told_functions[i])
			continue;
		if (!*comma) {
			json_head(report, "operations");
			fprintf(report->to, ",\"interval_ns\":%llu,\"operations\":{",
				(unsigned long long)(report->now - comm->told_at));
		}
		fprintf(report->to, "%s\"%s\":%llu", comma, snti_profile_function(i),
			(unsigned long long)(now - comm->told_functions[i]));
		comm->told_functions[i] = now;
		comma = ",";
	}
	if (*comma)
		fprintf(report->to, "}}\n");
}

void snti_profile_json(const struct snti_profile_report *report)
{
	json_functions(report);
	snti_profile_each(report->comm, json_row, (void *)(uintptr_t)report);
	report->comm->told_at = report->now;
	if (!report->is_last)
		return;
	json_head(report, "end");
	fprintf(report->to, ",\"duration_ns\":%llu,\"lost_operations\":%llu,\"lost_messages\":%llu}\n",
		(unsigned long long)(report->now - report->comm->begun),
		(unsigned long long)atomic_load(&report->comm->lost_ops),
		(unsigned long long)atomic_load(&report->comm->lost_messages));
}

/* ---- OpenMetrics -------------------------------------------------------------------- */

/* Only counters, gauges and histograms, which Prometheus's older text format knows too. */
struct family { FILE *to; const struct snti_profile_comm *comm; const struct metric *metric; };
struct metric {
	const char *name, *type, *unit, *help;
	void (*write)(struct snti_profile_row *row, void *family);
};

static void labels(const struct family *family, const struct snti_profile_row *row)
{
	char id[32], nic[NAME_ROOM], room[NAME_ROOM];
	const struct snti_profile_comm *of = family->comm;

	fprintf(family->to, "{comm=\"%s\",rank=\"%d\"", comm_text(of, id, sizeof id),
		of == snti_profile_strangers() ? -1 : of->rank);
	if (row)
		fprintf(family->to, ",peer=\"%d\",nic=\"%s\",direction=\"%s\"", row->peer,
			quoted(snti_profile_nic_name(row->nic, nic, sizeof nic / 2), room),
			row->is_send ? "send" : "receive");
}

static void seconds(FILE *to, uint64_t ns)
{
	fprintf(to, "%llu.%09llu\n", (unsigned long long)ns / 1000000000, (unsigned long long)ns % 1000000000);
}

static void write_count(struct snti_profile_row *row, void *argument, int which)
{
	const struct family *family = argument;

	fprintf(family->to, "%s_total", family->metric->name);
	labels(family, row);
	fprintf(family->to, "} %llu\n", (unsigned long long)atomic_load(&row->counts[which]));
}

static void write_messages(struct snti_profile_row *row, void *family)
{
	write_count(row, family, SNTI_PROFILE_MESSAGES);
}

static void write_bytes(struct snti_profile_row *row, void *family)
{
	write_count(row, family, SNTI_PROFILE_BYTES);
}

static void write_waits(struct snti_profile_row *row, void *argument)
{
	const struct family *family = argument;

	for (int i = 0; i < CAUSES; i++) {
		if (!(row->is_send ? causes[i].of_sends : causes[i].of_receives))
			continue;
		fprintf(family->to, "%s_total", family->metric->name);
		labels(family, row);
		fprintf(family->to, ",cause=\"%s\"} ", causes[i].name);
		seconds(family->to, atomic_load(&row->counts[causes[i].which]));
	}
}

static void write_histogram(struct snti_profile_row *row, void *argument)
{
	const struct family *family = argument;
	uint64_t counts[SNTI_PROFILE_COUNTS], sum = 0;

	read_counts(row, counts);
	for (int i = 0; i < SNTI_PROFILE_BUCKETS; i++) {
		sum += counts[SNTI_PROFILE_BUCKET + i];
		fprintf(family->to, "%s_bucket", family->metric->name);
		labels(family, row);
		if (i < SNTI_PROFILE_BUCKETS - 1)
			fprintf(family->to, ",le=\"%llu.%06llu\"} %llu\n", (1ull << i) / 1000000, (1ull << i) % 1000000,
				(unsigned long long)sum);
		else
			fprintf(family->to, ",le=\"+Inf\"} %llu\n", (unsigned long long)sum);
	}
	fprintf(family->to, "%s_count", family->metric->name);
	labels(family, row);
	fprintf(family->to, "} %llu\n%s_sum", (unsigned long long)sum, family->metric->name);
	labels(family, row);
	fprintf(family->to, "} ");
	seconds(family->to, counts[SNTI_PROFILE_TRANSFER]);
}

/* Of what has come since the last time; with nothing new the last verdict would be about the past. */
static void write_verdict(struct snti_profile_row *row, void *argument)
{
	const struct family *family = argument;
	uint64_t now[SNTI_PROFILE_COUNTS], more[SNTI_PROFILE_COUNTS];

	read_counts(row, now);
	for (int i = 0; i < SNTI_PROFILE_COUNTS; i++)
		more[i] = now[i] - row->told[i];
	memcpy(row->told, now, sizeof now);
	if (!more[SNTI_PROFILE_MESSAGES])
		return;
	fprintf(family->to, "%s", family->metric->name);
	labels(family, row);
	fprintf(family->to, ",verdict=\"%s\"} 1\n", snti_profile_verdict(more));
}

static const struct metric metrics[] = {
	{ "sennit_nccl_messages", "counter", NULL, "Messages that are done.", write_messages },
	{ "sennit_nccl_transferred_bytes", "counter", "bytes", "Bytes of these messages.", write_bytes },
	{ "sennit_nccl_wait_seconds", "counter", "seconds",
	  "What these messages waited for, one after another in each channel.", write_waits },
	{ "sennit_nccl_transfer_seconds", "histogram", "seconds",
	  "From isend to its end, from irecv to its data, for each message.", write_histogram },
	{ "sennit_nccl_verdict", "gauge", NULL, "What had at least half of the waiting in the last interval.", write_verdict },
};

static void head(FILE *to, const char *name, const char *type, const char *unit, const char *text)
{
	fprintf(to, "# TYPE %s %s\n", name, type);
	if (unit)
		fprintf(to, "# UNIT %s %s\n", name, unit);
	fprintf(to, "# HELP %s %s\n", name, text);
}

static void write_comm(FILE *to, const struct snti_profile_comm *comm)
{
	char name[NAME_ROOM];

	fprintf(to, "sennit_nccl_communicator_info");
	labels(&(struct family){ .to = to, .comm = comm }, NULL);
	fprintf(to, ",comm_name=\"%s\",nranks=\"%d\",n_nodes=\"%d\"} 1\n", quoted(comm->name, name), comm->ranks, comm->nodes);
}

static void write_operations(FILE *to, struct snti_profile_comm *comm)
{
	for (int i = 0; snti_profile_function(i); i++) {
		uint64_t count = atomic_load(&comm->functions[i]);

		if (!count)
			continue;
		fprintf(to, "sennit_nccl_operations_total");
		labels(&(struct family){ .to = to, .comm = comm }, NULL);
		fprintf(to, ",collective=\"%s\"} %llu\n", snti_profile_function(i), (unsigned long long)count);
	}
}

static void write_lost(FILE *to, struct snti_profile_comm *comm)
{
	const struct { const char *what; uint64_t count; } lost[] = {
		{ "operation", atomic_load(&comm->lost_ops) }, { "message", atomic_load(&comm->lost_messages) } };

	for (int i = 0; i < 2; i++) {
		fprintf(to, "sennit_nccl_lost_total");
		labels(&(struct family){ .to = to, .comm = comm }, NULL);
		fprintf(to, ",what=\"%s\"} %llu\n", lost[i].what, (unsigned long long)lost[i].count);
	}
}

void snti_profile_openmetrics(FILE *to, struct snti_profile_comm *const comms[], int count)
{
	head(to, "sennit_nccl_communicator_info", "gauge", NULL, "A communicator of this process.");
	for (int i = 0; i < count; i++)
		write_comm(to, comms[i]);
	head(to, "sennit_nccl_operations", "counter", NULL, "Collectives, sends and receives that were enqueued.");
	for (int i = 0; i < count; i++)
		write_operations(to, comms[i]);
	for (size_t m = 0; m < sizeof metrics / sizeof *metrics; m++) {
		head(to, metrics[m].name, metrics[m].type, metrics[m].unit, metrics[m].help);
		for (int i = 0; i < count; i++)
			snti_profile_each(comms[i], metrics[m].write,
					  &(struct family){ .to = to, .comm = comms[i], .metric = &metrics[m] });
	}
	head(to, "sennit_nccl_lost", "counter", NULL, "What was not counted because a table was full.");
	for (int i = 0; i < count; i++)
		write_lost(to, comms[i]);
	fprintf(to, "# EOF\n");
}
