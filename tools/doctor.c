/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor.c - 'sennit doctor': what on this machine is in the way, and how to fix it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE   /* memfd_create, process_vm_readv */
#endif
#include "tools/command.h"

#include "base/cpu.h"
#include "transport/transport.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define DATASET "/usr/share/datasets/fashion-mnist"

enum verdict { OK, WARN, FAIL };
struct finding { char text[200]; const char *fix; };

static enum verdict find(enum verdict verdict, struct finding *finding, const char *fix, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
static enum verdict find(enum verdict verdict, struct finding *finding, const char *fix, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(finding->text, sizeof finding->text, format, list);
	va_end(list);
	finding->fix = fix;
	return verdict;
}

/* The number in @file, or @otherwise. */
static long read_number(const char *file, long otherwise)
{
	FILE *from = fopen(file, "re");
	long number = otherwise;

	if (!from)
		return otherwise;
	if (fscanf(from, "%ld", &number) != 1)
		number = otherwise;
	fclose(from);
	return number;
}

static enum verdict check_cores(struct finding *finding)
{
	int cores = snti_cpu_count();

	if (cores < 2)
		return find(WARN, finding, "allow more cores (taskset, cgroup, mpirun --bind-to none), or expect that "
			"ranks take turns", "this process may run on %d core", cores);
	return find(OK, finding, NULL, "this process may run on %d cores", cores);
}

static enum verdict check_memlock(struct finding *finding)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit))
		return find(WARN, finding, "see ulimit -l", "the limit is not known: %s", strerror(errno));
	if (limit.rlim_cur == RLIM_INFINITY)
		return find(OK, finding, NULL, "unlimited");
	if (limit.rlim_cur < (rlim_t)64 << 20)
		return find(WARN, finding, "raise 'memlock' in /etc/security/limits.conf, or in a container --ulimit memlock=-1; "
			"shm and tcp do without",
			"only %llu KiB may be locked", (unsigned long long)limit.rlim_cur >> 10);
	return find(OK, finding, NULL, "%llu KiB may be locked", (unsigned long long)limit.rlim_cur >> 10);
}

static enum verdict check_files(struct finding *finding)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return find(WARN, finding, "see ulimit -n", "the limit is not known: %s", strerror(errno));
	if (limit.rlim_cur < 256)
		return find(FAIL, finding, "ulimit -n 4096, or 'nofile' in /etc/security/limits.conf",
			"only %llu open files are allowed", (unsigned long long)limit.rlim_cur);
	if (limit.rlim_cur < 1024)
		return find(WARN, finding, "ulimit -n 4096, for more than about 100 ranks over tcp",
			"%llu open files are allowed", (unsigned long long)limit.rlim_cur);
	return find(OK, finding, NULL, "%llu open files are allowed", (unsigned long long)limit.rlim_cur);
}

static enum verdict check_memfd(struct finding *finding)
{
	static const char fix[] = "the kernel or a seccomp filter forbids memfd_create; use SNT_TRANSPORTS=tcp";
	int fd = memfd_create("sennit-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *memory = MAP_FAILED;

	if (fd < 0)
		return find(FAIL, finding, fix, "memfd_create: %s", strerror(errno));
	if (!ftruncate(fd, 65536))
		memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int failure = errno;
	close(fd);
	if (memory == MAP_FAILED)
		return find(FAIL, finding, fix, "shared memory cannot be mapped: %s", strerror(failure));
	memset(memory, 1, 65536);
	munmap(memory, 65536);
	return find(OK, finding, NULL, "memory can be shared between ranks");
}

/* Asks a forked child to read this process, as a rank would read its sibling: 0 or its errno. */
static int sibling_reads(const char *here, size_t size)
{
	pid_t parent = getpid(), child = fork();
	int status;

	if (child < 0)
		return errno;
	if (!child) {
		char there[64];
		struct iovec to = { there, size }, from = { (void *)(uintptr_t)here, size };
		_exit(process_vm_readv(parent, &to, 1, &from, 1, 0) == (ssize_t)size ? 0 : errno);
	}
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return ECHILD;
	return WEXITSTATUS(status);
}

static enum verdict check_vm_readv(struct finding *finding)
{
	static const char fix[] = "sysctl kernel.yama.ptrace_scope=0, or in a container --cap-add SYS_PTRACE; without "
		"it large messages are copied twice";
	static const char here[64] = "sennit";
	long scope = read_number("/proc/sys/kernel/yama/ptrace_scope", 0);
	int failure = sibling_reads(here, sizeof here);

	if (failure)
		return find(WARN, finding, fix, "process_vm_readv: %s (ptrace_scope is %ld)", strerror(failure), scope);
	return find(OK, finding, NULL, "ranks may read each other's memory (ptrace_scope is %ld)", scope);
}

static int can_connect(int listener, int client)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t size = sizeof address;
	struct pollfd ready = { .fd = listener, .events = POLLIN };

	if (listener < 0 || client < 0)
		return 0;
	if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 1))
		return 0;
	if (getsockname(listener, (struct sockaddr *)&address, &size))
		return 0;
	if (connect(client, (struct sockaddr *)&address, size))
		return 0;
	return poll(&ready, 1, 2000) == 1;
}

static enum verdict check_loopback(struct finding *finding)
{
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int works = can_connect(listener, client);
	int failure = errno;

	if (listener >= 0)
		close(listener);
	if (client >= 0)
		close(client);
	if (!works)
		return find(FAIL, finding, "ip link set lo up; look for a firewall on 127.0.0.1",
			"no connection to 127.0.0.1: %s", strerror(failure));
	return find(OK, finding, NULL, "127.0.0.1 can be reached");
}

static enum verdict check_pmix(struct finding *finding)
{
	static const char *const names[] = { "libpmix.so.2", "libpmix.so" };

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		void *library = dlopen(names[i], RTLD_LAZY | RTLD_LOCAL);
		if (library) {
			dlclose(library);
			return find(OK, finding, NULL, "%s is there", names[i]);
		}
	}
	return find(WARN, finding, "install it (Debian: libpmix2) to start under mpirun or srun --mpi=pmix; "
		"srun --mpi=pmi2, torchrun, SNT_RANK and perf --ranks do without", "no libpmix.so.2");
}

static enum verdict check_ucx(struct finding *finding)
{
	char text[160];

	if (snti_ucx_transport.library(text, sizeof text))
		return find(WARN, finding, "apt-get install libucx0, and libucx-dev before a build; only --transport ucx "
			"and SNT_TRANSPORTS=ucx use it", "%s", text);
	return find(OK, finding, NULL, "%s is there", text);
}

static enum verdict check_dataset(struct finding *finding)
{
	static const char *const names[] = { DATASET "/train-images-idx3-ubyte", DATASET "/train-images-idx3-ubyte.gz" };

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (!access(names[i], R_OK))
			return find(OK, finding, NULL, "%s is there", names[i]);
	return find(WARN, finding, "apt-get install dataset-fashion-mnist; only the training example reads it",
		"no images in %s", DATASET);
}

static enum verdict check_overcommit(struct finding *finding)
{
	long mode = read_number("/proc/sys/vm/overcommit_memory", 0);

	if (mode == 2)
		return find(WARN, finding, "sysctl vm.overcommit_memory=0, or raise vm.overcommit_ratio",
			"vm.overcommit_memory is 2: large allocations may be refused");
	return find(OK, finding, NULL, "vm.overcommit_memory is %ld", mode);
}

static enum verdict check_rdma(struct finding *finding)
{
	struct snti_rdma rdma;

	snti_rdma_look(&rdma);
	if (!rdma.devices)
		return find(OK, finding, NULL, "no device; shm and tcp do without");
	if (!rdma.library)
		return find(WARN, finding, "apt-get install libibverbs1 ibverbs-providers", "%d devices, but no libibverbs.so.1",
			rdma.devices);
	if (!rdma.nodes)
		return find(WARN, finding, "modprobe ib_uverbs; a container needs --device /dev/infiniband",
			"%d devices, but no /dev/infiniband/uverbs*", rdma.devices);
	if (rdma.closed)
		return find(WARN, finding, "let this user read and write /dev/infiniband/uverbs* (group rdma; a container needs "
			"--device /dev/infiniband)", "%d of %d device nodes may not be opened", rdma.closed, rdma.nodes);
	if (!rdma.active)
		return find(WARN, finding, "look at the cable and the switch; ip link set up what the port belongs to",
			"%d devices, but no port is active", rdma.devices);
	return find(OK, finding, NULL, "%s; %d active ports", rdma.first, rdma.active);
}

static const struct check {
	const char *name;
	enum verdict (*run)(struct finding *finding);
} checks[] = {
	{ "cores", check_cores },
	{ "open files", check_files },
	{ "locked memory", check_memlock },
	{ "memfd", check_memfd },
	{ "single copy", check_vm_readv },
	{ "overcommit", check_overcommit },
	{ "loopback", check_loopback },
	{ "pmix", check_pmix },
	{ "ucx", check_ucx },
	{ "rdma", check_rdma },
	{ "dataset", check_dataset },
};

int snti_command_doctor(int argc, char **argv)
{
	static const char *const words[] = { "ok", "warn", "FAIL" };
	int status = snti_read_switches(argc, argv, NULL, 0,
		"Checks this machine, and says how to fix what is in the way of sennit.");
	int failed = 0;

	if (status >= 0)
		return status;
	for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
		struct finding finding;
		enum verdict verdict = checks[i].run(&finding);
		printf("%-5s %-14s %s\n", words[verdict], checks[i].name, finding.text);
		if (finding.fix)
			printf("      %-14s fix: %s\n", "", finding.fix);
		failed += verdict == FAIL;
		fflush(stdout);
	}
	return failed ? SNTI_EXIT_FAILED : SNTI_EXIT_OK;
}
