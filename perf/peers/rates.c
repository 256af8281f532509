/* SPDX-License-Identifier: BSD-3-Clause */
/* rates.c - how fast one and two cores copy and add: lines of 'rate,NAME,THREADS,BYTES,GB/s', where
 * the gigabytes are those of the result. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE   /* pthread_setaffinity_np */
#endif
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { REPEATS = 5, MOST_THREADS = 2 };
static const double batch_bytes = 32e6;

typedef void (*kernel)(float *restrict to, const float *a, const float *b, size_t count);

struct worker {
	kernel run;
	size_t bytes;
	int core;
	double best_s;
	pthread_barrier_t *start;
};

static void copy(float *restrict to, const float *a, const float *b, size_t count)
{
	(void)b;
	memcpy(to, a, count * sizeof *to);
}

static void add(float *restrict to, const float *a, const float *b, size_t count)
{
	for (size_t i = 0; i < count; i++)
		to[i] = a[i] + b[i];
}

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static float *vector(size_t bytes)
{
	float *memory = aligned_alloc(4096, bytes);

	if (!memory)
		exit(1);
	memset(memory, 0, bytes);
	return memory;
}

static double batch(const struct worker *worker, float *const *vectors)
{
	int runs = (int)(batch_bytes / (double)worker->bytes) + 1;
	double begin = seconds();

	for (int i = 0; i < runs; i++) {
		worker->run(vectors[0], vectors[1], vectors[2], worker->bytes / sizeof(float));
		/* Each run counts, though the next one writes the same. */
		__asm__ volatile("" : : "r"(vectors[0]) : "memory");
	}
	return (seconds() - begin) / runs;
}

static void *work(void *arg)
{
	struct worker *worker = arg;
	float *vectors[3] = { vector(worker->bytes), vector(worker->bytes), vector(worker->bytes) };
	cpu_set_t core;

	CPU_ZERO(&core);
	CPU_SET(worker->core, &core);
	pthread_setaffinity_np(pthread_self(), sizeof core, &core);
	worker->best_s = 1e9;
	for (int i = 0; i < REPEATS; i++) {
		pthread_barrier_wait(worker->start);
		double time = batch(worker, vectors);
		worker->best_s = time < worker->best_s ? time : worker->best_s;
	}
	for (int i = 0; i < 3; i++)
		free(vectors[i]);
	return NULL;
}

static void measure(const char *name, kernel run, size_t bytes, int threads)
{
	struct worker workers[MOST_THREADS];
	pthread_t handles[MOST_THREADS];
	pthread_barrier_t start;
	double rate = 0;

	pthread_barrier_init(&start, NULL, (unsigned int)threads);
	for (int i = 0; i < threads; i++) {
		workers[i] = (struct worker){ run, bytes, i, 0, &start };
		if (pthread_create(&handles[i], NULL, work, &workers[i]))
			exit(1);
	}
	for (int i = 0; i < threads; i++) {
		pthread_join(handles[i], NULL);
		rate += (double)bytes / workers[i].best_s / 1e9;
	}
	pthread_barrier_destroy(&start);
	printf("rate,%s,%d,%zu,%.2f\n", name, threads, bytes, rate);
	fflush(stdout);
}

int main(void)
{
	static const size_t sizes[] = { 32 << 10, 512 << 10, 4 << 20, 64 << 20 };
	int most = sysconf(_SC_NPROCESSORS_ONLN) < MOST_THREADS ? 1 : MOST_THREADS;

	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		for (int threads = 1; threads <= most; threads++) {
			measure("copy", copy, sizes[i], threads);
			measure("add", add, sizes[i], threads);
		}
	}
	return 0;
}
