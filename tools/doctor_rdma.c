/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor_rdma.c - what is in the way of RDMA: modules, nodes, rights, limits, ports, addresses, packet sizes, partitions. */
#include "tools/doctor.h"

#include "transport/transport.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOCK_LEAST ((unsigned long long)64 << 20)
#define CAP_IPC_LOCK_BIT 14
#define HEADERS 96                /* of RoCE in an Ethernet frame, as the kernel counts them */

struct machine {
	const char *root;
	int in_container, may_lock;      /* CAP_IPC_LOCK: the limit is not for it */
	struct snti_rdma rdma;
};

static int is_there(const struct machine *machine, const char *file)
{
	char name[700];

	snprintf(name, sizeof name, "%s%s", machine->root, file);
	return access(name, F_OK) == 0;
}

/* The number behind @label in a file of "label: value" lines; 0: none, which the caller tells by *@found. */
static unsigned long long labelled(const struct machine *machine, const char *name, const char *label, int base, int *found)
{
	char file[700], line[300];
	unsigned long long number = 0;
	FILE *from;

	snprintf(file, sizeof file, "%s%s", machine->root, name);
	from = fopen(file, "re");
	*found = 0;
	while (from && !*found && fgets(line, sizeof line, from))
		if (!strncmp(line, label, strlen(label))) {
			char *end;

			number = strtoull(line + strlen(label), &end, base);
			*found = end > line + strlen(label);
			break;
		}
	if (from)
		fclose(from);
	return number;
}

static void look(struct machine *machine, const char *root)
{
	int found;
	char text[64];

	memset(machine, 0, sizeof *machine);
	machine->root = root;
	/* In a user namespace of its own it counts for nothing. */
	snti_read_line(text, sizeof text, root, "/proc/self/uid_map");
	machine->may_lock = strstr(text, "4294967295") && labelled(machine, "/proc/self/status", "CapEff:", 16, &found) >> CAP_IPC_LOCK_BIT & 1;
	snti_read_line(text, sizeof text, root, "/run/systemd/container");
	machine->in_container = *text || is_there(machine, "/.dockerenv") || is_there(machine, "/run/.containerenv");
	snti_rdma_look(&machine->rdma, root);
}

/* ---- of the process ----------------------------------------------------- */

static const char *memlock_fix(const struct machine *machine)
{
	return machine->in_container ? "start the container with --ulimit memlock=-1 (Kubernetes: --cap-add IPC_LOCK, or the limit of "
			"the container runtime's service: LimitMEMLOCK=infinity)" :
		"echo '* - memlock unlimited' >/etc/security/limits.d/memlock.conf and log in again; a service needs "
			"LimitMEMLOCK=infinity; shm and tcp do without";
}

static enum snti_verdict check_memlock(const struct machine *machine, struct snti_finding *finding)
{
	int found;
	unsigned long long limit = labelled(machine, "/proc/self/limits", "Max locked memory", 10, &found);

	if (!found)
		return snti_find(SNTI_WELL, finding, NULL, "unlimited");
	if (limit < LOCK_LEAST && machine->may_lock)
		return snti_find(SNTI_WELL, finding, NULL, "%llu KiB may be locked, and more by this user (CAP_IPC_LOCK)", limit >> 10);
	if (limit < LOCK_LEAST)
		return snti_find(SNTI_WARN, finding, memlock_fix(machine), "only %llu KiB may be locked; RDMA wants 5 MiB a port, 0.2 MiB "
			"a peer and its large messages", limit >> 10);
	return snti_find(SNTI_WELL, finding, NULL, "%llu KiB may be locked", limit >> 10);
}

static enum snti_verdict check_container(const struct machine *machine, struct snti_finding *finding)
{
	if (!machine->in_container)
		return snti_find(SNTI_WELL, finding, NULL, "none");
	if (machine->rdma.nodes && !machine->may_lock)
		return snti_find(SNTI_WARN, finding, "docker run --cap-add IPC_LOCK --ulimit memlock=-1 --device /dev/infiniband",
			"in a container without CAP_IPC_LOCK: the limit on locked memory holds for large messages, too");
	if (!machine->rdma.nodes)
		return snti_find(SNTI_WARN, finding, "docker run --device /dev/infiniband --cap-add IPC_LOCK --ulimit memlock=-1 "
			"--network host", "in a container without /dev/infiniband");
	return snti_find(SNTI_WELL, finding, NULL, "in a container, with /dev/infiniband and CAP_IPC_LOCK");
}

/* ---- of the kernel ------------------------------------------------------ */

/* A card of NVIDIA's, which always can, that the kernel uses as a plain network interface. */
static int has_idle_card(const struct machine *machine)
{
	char folder[700];
	DIR *all;
	int found = 0;

	snprintf(folder, sizeof folder, "%s/sys/bus/pci/devices", machine->root);
	all = opendir(folder);
	for (struct dirent *entry; all && !found && (entry = readdir(all));) {
		char vendor[16], class[16];

		snti_read_line(vendor, sizeof vendor, machine->root, "/sys/bus/pci/devices/%.64s/vendor", entry->d_name);
		snti_read_line(class, sizeof class, machine->root, "/sys/bus/pci/devices/%.64s/class", entry->d_name);
		found = !strcmp(vendor, "0x15b3") && !strncmp(class, "0x02", 4);
	}
	if (all)
		closedir(all);
	return found;
}

static enum snti_verdict check_devices(const struct machine *machine, struct snti_finding *finding)
{
	const struct snti_rdma *rdma = &machine->rdma;

	if (!rdma->devices && has_idle_card(machine))
		return snti_find(SNTI_WARN, finding, "modprobe mlx5_ib, and put mlx5_ib into /etc/modules-load.d/rdma.conf",
			"a card that can, but its module mlx5_ib is not loaded");
	if (!rdma->devices)
		return snti_find(SNTI_WELL, finding, NULL, "no device; shm and tcp do without");
	if (!rdma->active)
		return snti_find(SNTI_WARN, finding, "look at the lines 'rdma ports'", "%d devices, but no port is active", rdma->devices);
	return snti_find(SNTI_WELL, finding, NULL, "%s; %d active ports", rdma->first, rdma->active);
}

static enum snti_verdict check_modules(const struct machine *machine, struct snti_finding *finding)
{
	if (!is_there(machine, "/sys/class/infiniband_verbs"))
		return snti_find(SNTI_WARN, finding, "modprobe ib_uverbs, and put ib_uverbs into /etc/modules-load.d/rdma.conf",
			"ib_uverbs is not loaded: no program can use the devices");
	if (!is_there(machine, "/sys/class/misc/rdma_cm"))
		return snti_find(SNTI_WELL, finding, NULL, "ib_uverbs is loaded; rdma_ucm is not, which only SNT_VERBS_CONNECT=cm needs "
			"(modprobe rdma_ucm)");
	return snti_find(SNTI_WELL, finding, NULL, "ib_uverbs and rdma_ucm are loaded");
}

static enum snti_verdict check_nodes(const struct machine *machine, struct snti_finding *finding)
{
	const struct snti_rdma *rdma = &machine->rdma;

	if (!rdma->nodes)
		return snti_find(SNTI_WARN, finding, machine->in_container ? "docker run --device /dev/infiniband" :
			"modprobe ib_uverbs; if it is loaded: udevadm trigger --subsystem-match=infiniband_verbs",
			"no /dev/infiniband/uverbs*");
	if (rdma->closed)
		return snti_find(SNTI_WARN, finding, machine->in_container ? "docker run --device /dev/infiniband --group-add rdma" :
			"chmod 666 /dev/infiniband/uverbs*, or usermod -a -G rdma USER where the group owns them",
			"%d of %d nodes /dev/infiniband/uverbs* may not be opened by this user", rdma->closed, rdma->nodes);
	return snti_find(SNTI_WELL, finding, NULL, "%d in /dev/infiniband", rdma->nodes);
}

/* Only of this machine. The list is empty where libibverbs has no provider for a device. */
static enum snti_verdict check_library(const struct machine *machine, struct snti_finding *finding)
{
	void *library = *machine->root ? NULL : dlopen("libibverbs.so.1", RTLD_LAZY | RTLD_LOCAL);
	void **(*get_list)(int *) = NULL;
	void **list;
	int count = 0;

	if (*machine->root)
		return snti_find(SNTI_WELL, finding, NULL, "not looked at: that is another machine");
	if (!library)
		return snti_find(SNTI_WARN, finding, "apt-get install libibverbs1 ibverbs-providers", "no libibverbs.so.1");
	*(void **)&get_list = dlsym(library, "ibv_get_device_list");
	list = get_list ? get_list(&count) : NULL;
	if (list) {
		void (*free_list)(void **) = NULL;

		*(void **)&free_list = dlsym(library, "ibv_free_device_list");
		if (free_list)
			free_list(list);
	}
	dlclose(library);
	if (count < machine->rdma.devices)
		return snti_find(SNTI_WARN, finding, "apt-get install ibverbs-providers, and see /dev/infiniband above",
			"libibverbs.so.1 finds %d of %d devices", count, machine->rdma.devices);
	return snti_find(SNTI_WELL, finding, NULL, "libibverbs.so.1 finds %d devices", count);
}

/* ---- of the ports ------------------------------------------------------- */

static enum snti_verdict check_state(const struct snti_rdma_port *port, struct snti_finding *finding)
{
	if (port->is_active)
		return snti_find(SNTI_WELL, finding, NULL, "%s port %d is active, %s", port->device, port->number, port->rate);
	snti_find(SNTI_WARN, finding, NULL, "%s port %d is %s (%s)", port->device, port->number, port->state, port->physical);
	if (strstr(port->state, "INIT"))
		return snti_mend(SNTI_WARN, finding, "no subnet manager has set it up: start one on the fabric (apt-get install opensm)");
	if (port->is_ethernet && *port->interface)
		return snti_mend(SNTI_WARN, finding, "ip link set %s up; then look at cable, module and switch port (ethtool %s)",
			port->interface, port->interface);
	return snti_mend(SNTI_WARN, finding, "look at cable, module and switch port (ibstat %s)", port->device);
}

static enum snti_verdict check_gids(const struct snti_rdma_port *port, struct snti_finding *finding)
{
	const char *interface = *port->interface ? port->interface : "INTERFACE";

	if (!port->is_ethernet && port->gids)
		return snti_find(SNTI_WELL, finding, NULL, "%s port %d: %d GIDs", port->device, port->number, port->gids);
	if (!port->gids) {
		snti_find(SNTI_WARN, finding, NULL, "%s port %d has an empty GID table: its interface is in another network namespace, or "
			"has no address", port->device, port->number);
		return snti_mend(SNTI_WARN, finding, "ip link set %s up and ip address add ADDRESS/PREFIX dev %s; in a container "
			"--network host, or rdma dev set %s netns PID", interface, interface, port->device);
	}
	if (!port->routable) {
		snti_find(SNTI_WARN, finding, NULL, "%s port %d has %d GIDs, but none of RoCE v2", port->device, port->number, port->gids);
		return snti_mend(SNTI_WARN, finding, "cma_roce_mode -d %s -p %d -m 2, and switch RoCE v2 on in the card's firmware",
			port->device, port->number);
	}
	if (!port->ipv4) {
		snti_find(SNTI_WARN, finding, NULL, "%s port %d has no RoCE v2 GID with an IPv4 address: a link-local one goes no farther "
			"than the switch", port->device, port->number);
		return snti_mend(SNTI_WARN, finding, "ip address add ADDRESS/PREFIX dev %s", interface);
	}
	return snti_find(SNTI_WELL, finding, NULL, "%s port %d: %d GIDs, %d of RoCE v2 over IPv4", port->device, port->number, port->gids,
		port->ipv4);
}

static long packet(const struct snti_rdma_port *port)
{
	long size = 4096;

	while (size > 256 && size > port->mtu - HEADERS)
		size /= 2;
	return size;
}

static enum snti_verdict check_mtu(const struct machine *machine, const struct snti_rdma_port *port, struct snti_finding *finding)
{
	for (int i = 0; i < machine->rdma.count; i++) {
		const struct snti_rdma_port *other = &machine->rdma.ports[i];

		if (!other->is_ethernet || !other->is_active || !other->mtu || packet(other) <= packet(port))
			continue;
		snti_find(SNTI_WARN, finding, NULL, "MTU mismatch: %s has %ld and %s %ld, so packets between them carry %ld bytes",
			port->interface, port->mtu, other->interface, other->mtu, packet(port));
		return snti_mend(SNTI_WARN, finding, "ip link set %s mtu %ld", port->interface, other->mtu);
	}
	if (packet(port) == 4096)
		return snti_find(SNTI_WELL, finding, NULL, "%s: %ld, so a packet carries 4096 bytes", port->interface, port->mtu);
	snti_find(SNTI_WARN, finding, NULL, "%s has %ld, so a packet carries only %ld of 4096 bytes", port->interface, port->mtu,
		packet(port));
	return snti_mend(SNTI_WARN, finding, "ip link set %s mtu 4200 here and on all hosts, if the switches allow it", port->interface);
}

static enum snti_verdict check_pkeys(const struct snti_rdma_port *port, struct snti_finding *finding)
{
	if (port->full)
		return snti_find(SNTI_WELL, finding, NULL, "%s port %d: %d partitions, full member of %d", port->device, port->number,
			port->pkeys, port->full);
	return snti_find(SNTI_WARN, finding, "make this port a full member in the subnet manager's partitions.conf (Default=0x7fff, ipoib : "
		"ALL=full;)", "%s port %d is %s: two limited members do not hear each other", port->device, port->number,
		port->pkeys ? "only a limited member of its partitions" : "in no partition");
}

/* ---- all ---------------------------------------------------------------- */

/* What all of that comes to. Only of this machine. */
static enum snti_verdict check_opens(struct snti_port *port, struct snti_finding *finding)
{
	if (!port)
		return snti_find(SNTI_WARN, finding, "see the lines above; 'sennit info --settings' shows SNT_VERBS_DEVICES and the others",
			"%s", snt_error_text());
	return snti_find(SNTI_WELL, finding, NULL, "a port can be opened: SNT_TRANSPORTS=shm,verbs,tcp uses it");
}

static enum snti_verdict check_gpus(struct snti_port *port, struct snti_finding *finding)
{
	char why[160] = "this build has no verbs";

	if (!port->ops->gpus || port->ops->gpus(port, why, sizeof why))
		return snti_find(SNTI_WARN, finding, "Linux 5.12 and NVIDIA's open kernel modules (apt-get install nvidia-open), or let "
			"NCCL copy through the host", "their memory cannot be sent as it is: %s", why);
	return snti_find(SNTI_WELL, finding, NULL, "their memory can be sent as it is, by dmabuf");
}

static int tell(const char *name, enum snti_verdict verdict, const struct snti_finding *finding)
{
	snti_show(name, verdict, finding);
	return verdict == SNTI_FAIL;
}

static int check_port(const struct machine *machine, const struct snti_rdma_port *port)
{
	struct snti_finding finding;
	int failed = tell("rdma ports", check_state(port, &finding), &finding);

	if (!port->is_active)
		return failed;
	failed += tell("rdma gids", check_gids(port, &finding), &finding);
	if (port->is_ethernet && port->mtu)
		failed += tell("rdma mtu", check_mtu(machine, port, &finding), &finding);
	if (!port->is_ethernet)
		failed += tell("rdma pkeys", check_pkeys(port, &finding), &finding);
	return failed;
}

static int check_use(const struct machine *machine)
{
	static const unsigned char secret[32];
	const struct snti_port_options options = { .secret = secret, .local_only = 1 };
	struct snti_port *port = NULL;
	struct snti_finding finding;
	int failed, opened = !snti_port_open(&snti_verbs_transport, &options, &port);

	failed = tell("rdma use", check_opens(port, &finding), &finding);
	if (opened && is_there(machine, "/dev/nvidiactl"))
		failed += tell("rdma gpus", check_gpus(port, &finding), &finding);
	snti_port_close(port);
	return failed;
}

int snti_doctor_rdma(const char *root)
{
	static const struct {
		const char *name;
		enum snti_verdict (*run)(const struct machine *machine, struct snti_finding *finding);
		int only_with_devices;
	} checks[] = {
		{ "locked memory", check_memlock, 0 }, { "rdma", check_devices, 0 }, { "rdma modules", check_modules, 1 },
		{ "rdma nodes", check_nodes, 1 }, { "rdma library", check_library, 1 }, { "container", check_container, 1 },
	};
	struct machine machine;
	struct snti_finding finding;
	int failed = 0;

	look(&machine, root);
	for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++)
		if (machine.rdma.devices || !checks[i].only_with_devices)
			failed += tell(checks[i].name, checks[i].run(&machine, &finding), &finding);
	for (int i = 0; i < machine.rdma.count; i++)
		failed += check_port(&machine, &machine.rdma.ports[i]);
	if (!*root && machine.rdma.devices)
		failed += check_use(&machine);
	return failed;
}
