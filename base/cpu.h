/* SPDX-License-Identifier: BSD-3-Clause */
/* cpu.h - what this processor can do, and waiting politely on it. */
#ifndef BASE_CPU_H
#define BASE_CPU_H

#include <stddef.h>

enum snti_cpu_feature { SNTI_CPU_AVX2 = 1, SNTI_CPU_AVX512 = 2, SNTI_CPU_NEON = 4, SNTI_CPU_AVX512BF16 = 8 };

unsigned snti_cpu_features(void);      /* a set of snti_cpu_feature */
const char *snti_cpu_name(void);       /* "AMD EPYC 9654" from /proc/cpuinfo, or "unknown" */
int snti_cpu_count(void);              /* cores this process may run on (its affinity mask) */
size_t snti_cpu_cache(void);           /* bytes of the first core's last-level cache; 32 MiB when unknown */

static inline void snti_cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

#endif
