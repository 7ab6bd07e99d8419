/*
 * Where the two cores are relative to each other. A hypervisor may move virtual processors at any
 * moment, and the price of a line that crosses changes by a factor of five, so a figure of two
 * cores is only worth something together with the placement before and after it.
 */
#ifndef PEER_PLACEMENT_H
#define PEER_PLACEMENT_H

#include <stdatomic.h>
#include <stdint.h>

#include <rte_eal.h>
#include <rte_launch.h>
#include <rte_lcore.h>

#include "clock.h"

#define PLACEMENT_WINDOWS 15
#define PLACEMENT_TRIPS 1000

static struct {
	_Alignas(128) _Atomic uint64_t ping;
	_Alignas(128) _Atomic uint64_t pong;
} placement_lines;

static int placement_echo(void *unused)
{
	(void)unused;
	for (uint64_t turn = 1; turn <= PLACEMENT_WINDOWS * PLACEMENT_TRIPS; turn++) {
		while (atomic_load_explicit(&placement_lines.ping, memory_order_acquire) != turn)
			;
		atomic_store_explicit(&placement_lines.pong, turn, memory_order_release);
	}
	return 0;
}

/* One line there, one line back; the median of some windows, named. About 10 ms. */
static inline const char *placement_probe(unsigned int other_lcore)
{
	double round_trip_ns[PLACEMENT_WINDOWS];
	uint64_t turn = 0;
	struct spread spread;

	atomic_store(&placement_lines.ping, 0);
	atomic_store(&placement_lines.pong, 0);
	rte_eal_remote_launch(placement_echo, NULL, other_lcore);
	for (int window = 0; window < PLACEMENT_WINDOWS; window++) {
		double start = seconds_now();

		for (int trip = 0; trip < PLACEMENT_TRIPS; trip++) {
			turn++;
			atomic_store_explicit(&placement_lines.ping, turn, memory_order_release);
			while (atomic_load_explicit(&placement_lines.pong, memory_order_acquire) != turn)
				;
		}
		round_trip_ns[window] = (seconds_now() - start) * 1e9 / PLACEMENT_TRIPS;
	}
	rte_eal_wait_lcore(other_lcore);
	spread = spread_of(round_trip_ns, PLACEMENT_WINDOWS);
	if (spread.median < 60)
		return "smt";
	return spread.median < 250 ? "near" : "far";
}

#endif
