/* SPDX-License-Identifier: BSD-3-Clause */
/* doctor.c - 'sennit doctor': what on this machine is in the way, and how to fix it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE   /* memfd_create, process_vm_readv */
#endif
#include "tools/doctor.h"

#include "base/cpu.h"
#include "transport/transport.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <getopt.h>
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

enum snti_verdict snti_find(enum snti_verdict verdict, struct snti_finding *finding, const char *fix, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(finding->text, sizeof finding->text, format, list);
	va_end(list);
	finding->fix = fix;
	return verdict;
}

enum snti_verdict snti_mend(enum snti_verdict verdict, struct snti_finding *finding, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(finding->line, sizeof finding->line, format, list);
	va_end(list);
	finding->fix = finding->line;
	return verdict;
}

void snti_show(const char *name, enum snti_verdict verdict, const struct snti_finding *finding)
{
	static const char *const words[] = { "ok", "warn", "FAIL" };

	printf("%-5s %-14s %s\n", words[verdict], name, finding->text);
	if (finding->fix)
		printf("      %-14s fix: %s\n", "", finding->fix);
	fflush(stdout);
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

static enum snti_verdict check_cores(struct snti_finding *finding)
{
	int cores = snti_cpu_count();

	if (cores < 2)
		return snti_find(SNTI_WARN, finding, "allow more cores (taskset, cgroup, mpirun --bind-to none), or expect that "
			"ranks take turns", "this process may run on %d core", cores);
	return snti_find(SNTI_WELL, finding, NULL, "this process may run on %d cores", cores);
}

static enum snti_verdict check_files(struct snti_finding *finding)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return snti_find(SNTI_WARN, finding, "see ulimit -n", "the limit is not known: %s", strerror(errno));
	if (limit.rlim_cur < 256)
		return snti_find(SNTI_FAIL, finding, "ulimit -n 4096, or 'nofile' in /etc/security/limits.conf",
			"only %llu open files are allowed", (unsigned long long)limit.rlim_cur);
	if (limit.rlim_cur < 1024)
		return snti_find(SNTI_WARN, finding, "ulimit -n 4096, for more than about 100 ranks over tcp",
			"%llu open files are allowed", (unsigned long long)limit.rlim_cur);
	return snti_find(SNTI_WELL, finding, NULL, "%llu open files are allowed", (unsigned long long)limit.rlim_cur);
}

static enum snti_verdict check_memfd(struct snti_finding *finding)
{
	static const char fix[] = "the kernel or a seccomp filter forbids memfd_create; use SNT_TRANSPORTS=tcp";
	int fd = memfd_create("sennit-doctor", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	void *memory = MAP_FAILED;

	if (fd < 0)
		return snti_find(SNTI_FAIL, finding, fix, "memfd_create: %s", strerror(errno));
	if (!ftruncate(fd, 65536))
		memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	int failure = errno;
	close(fd);
	if (memory == MAP_FAILED)
		return snti_find(SNTI_FAIL, finding, fix, "shared memory cannot be mapped: %s", strerror(failure));
	memset(memory, 1, 65536);
	munmap(memory, 65536);
	return snti_find(SNTI_WELL, finding, NULL, "memory can be shared between ranks");
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

static enum snti_verdict check_vm_readv(struct snti_finding *finding)
{
	static const char fix[] = "sysctl kernel.yama.ptrace_scope=0, or in a container --cap-add SYS_PTRACE; without "
		"it large messages are copied twice";
	static const char here[64] = "sennit";
	long scope = read_number("/proc/sys/kernel/yama/ptrace_scope", 0);
	int failure = sibling_reads(here, sizeof here);

	if (failure)
		return snti_find(SNTI_WARN, finding, fix, "process_vm_readv: %s (ptrace_scope is %ld)", strerror(failure), scope);
	return snti_find(SNTI_WELL, finding, NULL, "ranks may read each other's memory (ptrace_scope is %ld)", scope);
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

static enum snti_verdict check_loopback(struct snti_finding *finding)
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
		return snti_find(SNTI_FAIL, finding, "ip link set lo up; look for a firewall on 127.0.0.1",
			"no connection to 127.0.0.1: %s", strerror(failure));
	return snti_find(SNTI_WELL, finding, NULL, "127.0.0.1 can be reached");
}

static enum snti_verdict check_pmix(struct snti_finding *finding)
{
	static const char *const names[] = { "libpmix.so.2", "libpmix.so" };

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		void *library = dlopen(names[i], RTLD_LAZY | RTLD_LOCAL);
		if (library) {
			dlclose(library);
			return snti_find(SNTI_WELL, finding, NULL, "%s is there", names[i]);
		}
	}
	return snti_find(SNTI_WARN, finding, "install it (Debian: libpmix2) to start under mpirun or srun --mpi=pmix; "
		"srun --mpi=pmi2, torchrun, SNT_RANK and perf --ranks do without", "no libpmix.so.2");
}

static enum snti_verdict check_ucx(struct snti_finding *finding)
{
	char text[160];

	if (snti_ucx_transport.library(text, sizeof text))
		return snti_find(SNTI_WARN, finding, "apt-get install libucx0, and libucx-dev before a build; only --transport ucx "
			"and SNT_TRANSPORTS=ucx use it", "%s", text);
	return snti_find(SNTI_WELL, finding, NULL, "%s is there", text);
}

static enum snti_verdict check_dataset(struct snti_finding *finding)
{
	static const char *const names[] = { DATASET "/train-images-idx3-ubyte", DATASET "/train-images-idx3-ubyte.gz" };

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (!access(names[i], R_OK))
			return snti_find(SNTI_WELL, finding, NULL, "%s is there", names[i]);
	return snti_find(SNTI_WARN, finding, "apt-get install dataset-fashion-mnist; only the training example reads it",
		"no images in %s", DATASET);
}

static enum snti_verdict check_overcommit(struct snti_finding *finding)
{
	long mode = read_number("/proc/sys/vm/overcommit_memory", 0);

	if (mode == 2)
		return snti_find(SNTI_WARN, finding, "sysctl vm.overcommit_memory=0, or raise vm.overcommit_ratio",
			"vm.overcommit_memory is 2: large allocations may be refused");
	return snti_find(SNTI_WELL, finding, NULL, "vm.overcommit_memory is %ld", mode);
}

static const struct check {
	const char *name;
	enum snti_verdict (*run)(struct snti_finding *finding);
} checks[] = {
	{ "cores", check_cores },
	{ "open files", check_files },
	{ "memfd", check_memfd },
	{ "single copy", check_vm_readv },
	{ "overcommit", check_overcommit },
	{ "loopback", check_loopback },
	{ "pmix", check_pmix },
	{ "ucx", check_ucx },
	{ "dataset", check_dataset },
};

/* Another machine's files say nothing of what this process may do. */
static int check_here(void)
{
	int failed = 0;

	for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++) {
		struct snti_finding finding;
		enum snti_verdict verdict = checks[i].run(&finding);

		snti_show(checks[i].name, verdict, &finding);
		failed += verdict == SNTI_FAIL;
	}
	return failed;
}

static int help(void)
{
	puts("usage: sennit doctor [option ...]\n\n"
	     "Checks this machine, and says how to fix what is in the way of sennit.\n\n"
	     "  --root FOLDER  check RDMA alone, by the copy of a machine's /sys, /dev and /proc that is below FOLDER\n"
	     "  --help         show this");
	return SNTI_EXIT_OK;
}

int snti_command_doctor(int argc, char **argv)
{
	static const struct option options[] = { { "root", required_argument, NULL, 'r' }, { "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 } };
	const char *root = NULL;
	int which, failed = 0;

	opterr = 0;
	optind = 1;
	while ((which = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (which == 'h')
			return help();
		if (which != 'r') {
			fprintf(stderr, "sennit doctor: no such option, or it lacks its value: %s\n", argv[optind - 1]);
			return SNTI_EXIT_USAGE;
		}
		root = optarg;
	}
	if (optind != argc) {
		fprintf(stderr, "sennit doctor: takes no arguments, not '%s'\n", argv[optind]);
		return SNTI_EXIT_USAGE;
	}
	if (!root)
		failed = check_here();
	failed += snti_doctor_rdma(root ? root : "");
	return failed ? SNTI_EXIT_FAILED : SNTI_EXIT_OK;
}
