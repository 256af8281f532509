/* SPDX-License-Identifier: BSD-3-Clause */
/* info.c - 'sennit info': this build, this machine, every setting. */
#include "tools/command.h"

#include "base/cpu.h"
#include "base/settings.h"
#include "include/sennit.h"
#include "transport/transport.h"

#include <stdio.h>
#include <sys/utsname.h>

#if defined(__has_include) && __has_include("revision.h")
#include "revision.h"
#endif
#ifndef SNT_REVISION
#define SNT_REVISION "unknown"
#endif

static void show_features(void)
{
	static const struct { unsigned bit; const char *name; } known[] = {
		{ SNTI_CPU_AVX2, "avx2" }, { SNTI_CPU_AVX512, "avx512" }, { SNTI_CPU_AVX512BF16, "avx512bf16" }, { SNTI_CPU_NEON, "neon" },
	};
	unsigned features = snti_cpu_features();

	printf("features    ");
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (features & known[i].bit)
			printf(" %s", known[i].name);
	printf("%s\n", features ? "" : " none that are used");
}

/* What is loaded only when a transport is used. */
static void show_libraries(void)
{
	char text[256];

	for (int i = 0; snti_transports[i]; i++)
		if (snti_transports[i]->library)
			printf("%-12s %s%s\n", snti_transports[i]->name,
			       snti_transports[i]->library(text, sizeof text) ? "cannot be used: " : "", text);
}

/* What the automatic order would do between this host and another like it, or what was named instead. */
/* Rails that nobody named are there where several devices are. */
static int is_idle(const struct snti_order *order, uint32_t index)
{
	return order->rails_unasked & 1u << index && !snti_rails_wanted(snti_transports[index], 0);
}

static void show_order(void)
{
	struct snti_order order;
	char text[300];

	if (snti_order_read(snti_settings()->transports, &order))
		return;
	printf("order       ");
	for (uint32_t i = 0; i < order.count; i++) {
		const struct snti_transport *one = snti_transports[order.index[i]];

		if (is_idle(&order, order.index[i]))
			continue;
		if (!order.is_automatic || !one->offers || !one->offers(text, sizeof text))
			printf(" %s", one->name);
	}
	printf("%s\n", order.is_automatic ? "" : "; as SNT_TRANSPORTS says");
	for (uint32_t i = 0; order.is_automatic && i < order.count; i++) {
		const struct snti_transport *one = snti_transports[order.index[i]];
		int lacks = one->offers && one->offers(text, sizeof text);

		if (is_idle(&order, order.index[i]))
			continue;
		if (!one->offers)
			printf("  %-10s %s\n", one->name, one->within_host ? "between ranks of one host" : "between hosts that have nothing else");
		else
			printf("  %-10s %s%s\n", one->name, lacks ? "left out: " : "between hosts: ", text);
	}
}

static void show_rdma(void)
{
	struct snti_rdma rdma;

	snti_rdma_look(&rdma, "");
	if (rdma.active)
		printf("rdma         %s; %d active ports\n", rdma.first, rdma.active);
	else
		printf("rdma         %s\n", rdma.devices ? "no active port" : "no device");
}

static void show_rails(void)
{
	struct snti_device rails;
	int shown = 0;

	for (int i = 0; snti_transports[i]; i++) {
		const struct snti_transport *under = snti_rails_under(snti_transports[i]);

		if (!under || snti_transports[i]->devices(&rails, 1) != 1)
			continue;
		printf("rails        %s over %s, %d Mbit/s in all\n", rails.name, under->name, rails.speed_mbps);
		shown = 1;
	}
	if (!shown)
		printf("rails        none; SNT_RAILS may name RDMA devices or interfaces\n");
}

static void show_build(void)
{
	struct utsname system;

	printf("version      %s\nrevision     %s\ntransports  ", snt_version(), SNT_REVISION);
	for (int i = 0; snti_transports[i]; i++)
		printf(" %s", snti_transports[i]->name);
	putchar('\n');
	show_libraries();
	show_order();
	printf("cpu          %s\ncores        %d\n", snti_cpu_name(), snti_cpu_count());
	show_features();
	show_rdma();
	show_rails();
	if (!uname(&system))
		printf("kernel       %s %s %s\n", system.sysname, system.release, system.machine);
}

static void show_settings(void)
{
	struct snti_setting_text text;

	for (size_t i = 0; i < snti_setting_count(); i++) {
		snti_setting_describe(i, &text);
		printf("\n%s=%s\n    default: %s\n    %s\n", text.variable, text.value,
			*text.standard ? text.standard : "(empty)", text.meaning);
	}
}

int snti_command_info(int argc, char **argv)
{
	int settings = 0;
	const struct snti_switch table[] = {
		{ "settings", "show every setting too: its value, its default, what it means", &settings },
	};
	int status = snti_read_switches(argc, argv, table, sizeof table / sizeof table[0],
		"Shows what this build of sennit and this machine have.");

	if (status >= 0)
		return status;
	show_build();
	if (settings)
		show_settings();
	return fflush(stdout) ? SNTI_EXIT_FAILED : SNTI_EXIT_OK;
}
