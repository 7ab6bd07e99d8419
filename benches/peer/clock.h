/* Time: TSC stamps around a window; least, median and 90th percentile of many windows. */
#ifndef PEER_CLOCK_H
#define PEER_CLOCK_H

#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <x86intrin.h>

/* Earlier instructions have retired before the stamp is taken, later ones start after it. */
static inline uint64_t ticks_now(void)
{
	unsigned int cpu;
	uint64_t stamp = __rdtscp(&cpu);

	_mm_lfence();
	return stamp;
}

static inline double seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_RAW, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

struct spread {
	double least;
	double median;
	double p90;
};

static int ascending(const void *left, const void *right)
{
	double l = *(const double *)left, r = *(const double *)right;

	return (l > r) - (l < r);
}

/* Sorts `values` in place. */
static inline struct spread spread_of(double *values, unsigned int count)
{
	qsort(values, count, sizeof(*values), ascending);
	return (struct spread){ values[0], values[count / 2], values[count * 9 / 10] };
}

#endif
