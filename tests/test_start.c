/* SPDX-License-Identifier: BSD-3-Clause */
/* test_start.c - starting a prepared operation on shared memory allocates nothing and makes no system call. */
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/job.h"

enum { WARM_UP = 200, STARTS = 1000 };

/* A sanitizer has an allocator and system calls of its own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define SANITIZED 1
#endif
#endif

/* ---- counting allocations ------------------------------------------------ */

static int64_t allocations;   /* and frees */

#if defined(__GLIBC__) && !defined(SANITIZED)
#define COUNTS_ALLOCATIONS 1
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *memory);

static void count_one(void)
{
	__atomic_add_fetch(&allocations, 1, __ATOMIC_RELAXED);
}

void *malloc(size_t size)
{
	count_one();
	return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	count_one();
	return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
	count_one();
	return __libc_realloc(memory, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
	count_one();
	return __libc_memalign(alignment, size);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
	count_one();
	*memory = __libc_memalign(alignment, size);
	return *memory ? 0 : ENOMEM;
}

void free(void *memory)
{
	count_one();
	__libc_free(memory);
}
#else
#define COUNTS_ALLOCATIONS 0
#endif

/* ---- counting system calls ----------------------------------------------- */

/* A filter turns every system call of the process into a signal, except the one instruction
 * below: with it the signal's handler counts the call and makes it. */
static volatile int64_t calls;
static volatile int last_call;

#if defined(__x86_64__) && !defined(SANITIZED)
#define COUNTS_CALLS 1
#define MACHINE AUDIT_ARCH_X86_64
__asm__(".text\n.globl test_start_call\ntest_start_call:\n"
	"mov (%rdi), %rax\nmov 16(%rdi), %rsi\nmov 24(%rdi), %rdx\nmov 32(%rdi), %r10\n"
	"mov 40(%rdi), %r8\nmov 48(%rdi), %r9\nmov 8(%rdi), %rdi\nsyscall\n"
	".globl test_start_called\ntest_start_called:\nret\n");

static void registers(ucontext_t *context, long *words)
{
	static const int names[] = { REG_RAX, REG_RDI, REG_RSI, REG_RDX, REG_R10, REG_R8, REG_R9 };

	for (int i = 0; i < 7; i++)
		words[i] = context->uc_mcontext.gregs[names[i]];
}

static void set_result(ucontext_t *context, long result)
{
	context->uc_mcontext.gregs[REG_RAX] = result;
}
#elif defined(__aarch64__) && !defined(SANITIZED)
#define COUNTS_CALLS 1
#define MACHINE AUDIT_ARCH_AARCH64
__asm__(".text\n.globl test_start_call\ntest_start_call:\n"
	"ldr x8, [x0]\nldp x1, x2, [x0, 16]\nldp x3, x4, [x0, 32]\nldr x5, [x0, 48]\nldr x0, [x0, 8]\nsvc 0\n"
	".globl test_start_called\ntest_start_called:\nret\n");

static void registers(ucontext_t *context, long *words)
{
	words[0] = (long)context->uc_mcontext.regs[8];
	for (int i = 0; i < 6; i++)
		words[i + 1] = (long)context->uc_mcontext.regs[i];
}

static void set_result(ucontext_t *context, long result)
{
	context->uc_mcontext.regs[0] = (unsigned long)result;
}
#else
#define COUNTS_CALLS 0
#endif

#if COUNTS_CALLS
long test_start_call(const long words[7]);   /* number, six arguments */
extern const char test_start_called[];

static void on_call(int signal, siginfo_t *info, void *context)
{
	long words[7];

	(void)signal;
	registers(context, words);
	words[0] = info->si_syscall;
	calls = calls + 1;
	last_call = info->si_syscall;
	set_result(context, test_start_call(words));
}

/* 0, or an errno where this is not permitted. */
static int count_calls(void)
{
	uintptr_t at = (uintptr_t)test_start_called;
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 0, 6),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_rt_sigreturn, 4, 0),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)at, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(at >> 32), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };
	struct sigaction action = { .sa_sigaction = on_call, .sa_flags = SA_SIGINFO };

	sigaction(SIGSYS, &action, NULL);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		return errno;
	return 0;
}
#else
static int count_calls(void)
{
	return ENOSYS;
}
#endif

/* ---- the operation -------------------------------------------------------- */

/* On a core of its own, so that no rank falls asleep in the middle. */
static void pin(int rank)
{
	cpu_set_t all, one;

	sched_getaffinity(0, sizeof(all), &all);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all) || rank-- > 0)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		sched_setaffinity(0, sizeof(one), &one);
		return;
	}
}

static int cores(void)
{
	cpu_set_t all;

	return sched_getaffinity(0, sizeof(all), &all) ? 1 : CPU_COUNT(&all);
}

static void finish(struct job_rank *me, struct snt_op *op)
{
	int status;

	while ((status = snt_op_test(op)) == SNT_BUSY)
		;
	job_expect(me, !status, "snt_op_test: %s", snt_error_text());
}

static struct snt_op *prepare(struct job_rank *me, struct snt_team *team, int64_t *in, int64_t *out)
{
	struct snt_call call = { SNT_CALL(SNT_ALLREDUCE), .in = in, .out = out, .count = 1, .type = SNT_INT64 };
	struct snt_op *op = NULL;

	pin(me->rank);
	job_expect(me, !snt_op_create(team, &call, &op), "snt_op_create: %s", snt_error_text());
	for (int i = 0; i < WARM_UP; i++) {
		job_expect(me, !snt_op_start(op), "snt_op_start: %s", snt_error_text());
		finish(me, op);
	}
	return op;
}

static int64_t allocations_of_starts(struct job_rank *me, struct snt_op *op, const int64_t *out)
{
	int64_t before = allocations;

	for (int i = 0; i < STARTS; i++) {
		int status = snt_op_start(op);

		status = status ? status : snt_op_wait(op);
		job_expect(me, !status && *out == me->ranks, "start %d: %s", i, snt_error_text());
	}
	return allocations - before;
}

/* The last line of the start-up may be on its way still, and lines are allocated. */
static void hear_the_rest(struct job_rank *me, struct snt_team *team)
{
	for (int i = 0; i < 20; i++) {
		usleep(1000);
		job_expect(me, !snt_team_progress(team), "snt_team_progress: %s", snt_error_text());
	}
}

static int start_and_count_allocations(struct job_rank *me, struct snt_team *team)
{
	int64_t in = 1, out = 0, made;
	struct snt_op *op = prepare(me, team, &in, &out);

	hear_the_rest(me, team);
	made = allocations_of_starts(me, op, &out);
	job_expect(me, made == 0, "%lld allocations in %d starts and waits", (long long)made, STARTS);
	snt_op_free(op);
	return 0;
}

/* No call may be made in snt_op_start() itself; what a wait does is its own affair. */
static int start_and_count_calls(struct job_rank *me, struct snt_team *team)
{
	int64_t in = 1, out = 0, made = 0;
	struct snt_op *op = prepare(me, team, &in, &out);
	int refused = count_calls();

	me->result->error = refused;
	for (int i = 0; i < STARTS; i++) {
		int64_t before = calls;
		int status = snt_op_start(op);

		made += calls - before;
		job_expect(me, !status, "snt_op_start: %s", snt_error_text());
		job_expect(me, !made, "start %d makes system call %d", i, last_call);
		finish(me, op);
	}
	if (!refused) {
		int64_t before = calls;

		getppid();
		job_expect(me, calls == before + 1, "system calls are not counted");
	}
	snt_op_free(op);
	return 0;
}

static void starting_and_waiting_allocate_nothing(void **state)
{
	struct job job = { .ranks = 2, .transports = "shm", .run = start_and_count_allocations };
	void *volatile seen;    /* or the compiler leaves both calls out */
	int bad;

	(void)state;
	if (!COUNTS_ALLOCATIONS) {
		print_message("skipped: allocations cannot be counted in this build\n");
		skip();
	}
	seen = malloc(1);
	free(seen);
	assert_true(allocations >= 2);
	bad = job_run(&job);
	job_end(&job);
	assert_int_equal(bad, 0);
}

static void starting_on_shared_memory_makes_no_system_call(void **state)
{
	struct job job = { .ranks = 2, .transports = "shm", .run = start_and_count_calls };
	int bad, refused;

	(void)state;
	if (cores() < 2 || !COUNTS_CALLS) {
		print_message("skipped: needs two cores, and a build without sanitizers\n");
		skip();
	}
	bad = job_run(&job);
	refused = job.results[0].error;
	job_end(&job);
	assert_int_equal(bad, 0);
	if (refused) {
		print_message("skipped: no seccomp filter: %s\n", strerror(refused));
		skip();
	}
}

/* ---- how long many ranks take --------------------------------------------- */

static int come_and_go(struct job_rank *me, struct snt_team *team)
{
	double from = job_seconds();
	int status = job_team(me, 0, &team);

	status = status ? status : snt_barrier(team);
	job_expect(me, !status, "%s: %s", snt_status_name(status), snt_error_text());
	snt_team_destroy(team);
	me->result->seconds = job_seconds() - from;
	return 0;
}

static int take_time(int ranks)
{
	struct job job = { .ranks = ranks, .bare = 1, .bound_s = 60, .run = come_and_go };
	double from = job_seconds(), slowest = 0;
	int bad;

	if (ranks < 1 || ranks > JOB_RANKS_MOST) {
		fprintf(stderr, "test_start --time RANKS: 1 to %d\n", JOB_RANKS_MOST);
		return 2;
	}
	bad = job_run(&job);
	from = job_seconds() - from;
	for (int r = 0; r < ranks; r++)
		if (job.results[r].seconds > slowest)
			slowest = job.results[r].seconds;
	job_end(&job);
	printf("%d ranks: %.3f s from the first fork to the last exit; create, barrier and destroy took the slowest %.3f s\n",
	       ranks, from, slowest);
	return bad != 0;
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starting_and_waiting_allocate_nothing),
		cmocka_unit_test(starting_on_shared_memory_makes_no_system_call),
	};

	if (argc == 3 && !strcmp(argv[1], "--time"))
		return take_time(atoi(argv[2]));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
