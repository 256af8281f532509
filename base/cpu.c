/* SPDX-License-Identifier: BSD-3-Clause */
/* cpu.c - the processor's instruction sets, name, and the cores this process may use. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "base/cpu.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#if defined(__x86_64__)
static int has_f16c(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

/* Each feature stands for all the flags its source file is compiled with; the builtin
 * knows whether the system saves the registers, too. */
unsigned snti_cpu_features(void)
{
	unsigned features = 0;

	__builtin_cpu_init();
	if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !has_f16c())
		return 0;
	features |= SNTI_CPU_AVX2;
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	    __builtin_cpu_supports("avx512vl"))
		features |= SNTI_CPU_AVX512 | (__builtin_cpu_supports("avx512bf16") ? SNTI_CPU_AVX512BF16 : 0);
	return features;
}
#elif defined(__aarch64__)
unsigned snti_cpu_features(void)
{
	return SNTI_CPU_NEON;
}
#else
unsigned snti_cpu_features(void)
{
	return 0;
}
#endif

static char name[128] = "unknown";
static pthread_once_t name_once = PTHREAD_ONCE_INIT;

static void read_name(void)
{
	FILE *file = fopen("/proc/cpuinfo", "re");
	char line[256];

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "model name : %127[^\n]", name) == 1)
			break;
	}
	if (file)
		fclose(file);
}

const char *snti_cpu_name(void)
{
	pthread_once(&name_once, read_name);
	return name;
}

static size_t cache_size = (size_t)32 << 20;
static pthread_once_t cache_once = PTHREAD_ONCE_INIT;

/* The kernel's list ends with the largest. */
static void read_cache(void)
{
	char path[64];
	size_t kib;

	for (int level = 0; level < 8; level++) {
		FILE *file;

		snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/size", level);
		file = fopen(path, "re");
		if (!file)
			break;
		if (fscanf(file, "%zuK", &kib) == 1 && kib > 0 && kib < SIZE_MAX >> 10)
			cache_size = kib << 10;
		fclose(file);
	}
}

size_t snti_cpu_cache(void)
{
	pthread_once(&cache_once, read_cache);
	return cache_size;
}

int snti_cpu_count(void)
{
	/* The kernel refuses a set smaller than its own, so sets grow until one fits. */
	for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
		cpu_set_t *set = CPU_ALLOC(cpus);
		size_t size = CPU_ALLOC_SIZE(cpus);
		int failed, count;

		if (!set)
			break;
		failed = sched_getaffinity(0, size, set);
		count = failed ? 0 : CPU_COUNT_S(size, set);
		CPU_FREE(set);
		if (!failed)
			return count > 0 ? count : 1;
		if (errno != EINVAL)
			break;
	}
	return 1;
}
