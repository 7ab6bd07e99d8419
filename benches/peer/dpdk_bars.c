/*
 * DPDK's column of `cargo xtask bench`: one bar a call, the same work as memwire's `bars`.
 *
 *     dpdk-bars CASE [--windows N]
 *
 * prints one row, tab separated: case; least, median and 90th percentile of TSC ticks per object
 * over the windows; exact user instructions per object (one-core cases); the placement of the two cores during
 * the run (two-core cases: smt, near, far, or mixed when it changed). Everything else goes to
 * stderr. Exit status: 1 failed, 2 bad usage, 3 cannot run on this machine.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>

#include "bar.h"
#include "clock.h"
#include "ethdev_bars.h"
#include "gen_bars.h"
#include "null_bars.h"
#include "pcap_bars.h"
#include "placement.h"
#include "pool_bars.h"
#include "ring_bars.h"
#include "steps.h"
#include "sweep_bars.h"

#define OTHER_LCORE 1
#define WINDOWS_MAX 4096
#define STEP_OBJECTS 64
/* More objects a round than this take minutes to be stepped through. */
#define STEP_MOST 4096
#define NO_HUGE_VARIABLE "DPDK_BARS_NO_HUGE"

/* A window is about 40,000 objects; round trips are slow, so theirs is 4,000. */
static const struct bar bars[] = {
	{ "pktbuf-32", 32, 1250, packet_pool_make, packet_bulk_rounds, NULL },
	{ "pktbuf-spill", 1024, 40, packet_pool_make, packet_spill_rounds, NULL },
	{ "bare-32", 32, 1250, cached_object_pool_make, object_bulk_rounds, NULL },
	{ "bare-32-keep", 128, 312, cached_object_pool_make, object_keep_rounds, NULL },
	{ "bare-1", 1, 40000, cached_object_pool_make, object_single_rounds, NULL },
	{ "stray", 1, 40000, uncached_object_pool_make, object_single_rounds, NULL },
	{ "null-io-32", 64, 625, null_ports_make, null_burst_rounds, NULL },
	{ "null-io-1", 2, 20000, null_ports_make, null_single_rounds, NULL },
	{ "pktgen-64", 32, 1250, gen_make, gen_rounds, NULL },
	{ "l2fwd-io", 64, 625, null_ports_make, null_burst_rounds, NULL },
	{ "l2fwd-swap", 64, 625, gen_make, swap_rounds, NULL },
	{ "pcap-replay", 32, 1250, pcap_make, pcap_replay_rounds, NULL },
	{ "pcap-write", 32, 1250, pcap_make, pcap_write_rounds, NULL },
	{ "ethdev-null-32", 64, 625, null_ports_make, null_burst_rounds, NULL },
	{ "ethdev-null-1", 2, 20000, null_ports_make, null_single_rounds, NULL },
	{ "ethdev-null-rx", 32, 1250, ethdev_make, ethdev_rx_rounds, NULL },
	{ "ethdev-null-tx", 32, 1250, ethdev_make, ethdev_tx_rounds, NULL },
	{ "ethdev-ring-32", 32, 1250, ethdev_ring_make, ethdev_ring_rounds, NULL },
	{ "ethdev-ring-1", 1, 40000, ethdev_ring_make, ethdev_ring_single_rounds, NULL },
	{ "spsc-32", 32, 1250, rings_make, ring_same_core_rounds, NULL },
	{ "spsc-x32", 32, 1250, rings_make, ring_consume_bulks, ring_produce_bulks },
	{ "spsc-x1", 1, 40000, rings_make, ring_consume_singles, ring_produce_singles },
	{ "spsc-rtt", 1, 4000, rings_make, ring_round_trips, ring_echo },
};

#define BAR_COUNT (sizeof(bars) / sizeof(bars[0]))

/* Where the row goes: EAL writes to stdout as it likes, so that is stderr while it runs. */
static int row_file;

static const struct bar *bar_named(const char *name)
{
	for (size_t i = 0; i < BAR_COUNT; i++)
		if (strcmp(bars[i].name, name) == 0)
			return &bars[i];
	return sweep_named(name);
}

static void usage(void)
{
	fprintf(stderr, "usage: dpdk-bars CASE [--windows N]\ncases:");
	for (size_t i = 0; i < BAR_COUNT; i++)
		fprintf(stderr, " %s", bars[i].name);
	fputc('\n', stderr);
	exit(BAR_EXIT_USAGE);
}

/* The first CPUs that this process may use; returns how many were found, two at most. */
static int usable_cpus(int cpu[2])
{
	cpu_set_t allowed;
	int found = 0;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		return 0;
	for (int i = 0; i < CPU_SETSIZE && found < 2; i++)
		if (CPU_ISSET(i, &allowed))
			cpu[found++] = i;
	return found;
}

/* EAL's argument for the first port. */
static const char *first_device(const char *name)
{
	if (pcap_is_case(name))
		return pcap_device();
	return ethdev_is_ring(name) ? "--vdev=net_ring0" : "--vdev=net_null0,copy=0";
}

/*
 * EAL cannot be started twice in one process: without hugepages, start over as a new program. Its
 * ordinary-pages mode excludes --in-memory and wants --no-shconf in its place.
 */
static void start_eal(char **argv, int two_cores, const char *device)
{
	char lcores[64];
	int cpu[2] = { 0, 0 };
	int cpus = usable_cpus(cpu);
	int no_huge = getenv(NO_HUGE_VARIABLE) != NULL;
	char *arguments[] = {
		argv[0], "--no-pci", "--no-telemetry", "--log-level=4", "-m", "256", lcores,
		(char *)device,
		"--vdev=net_null1,copy=0",
		no_huge ? "--no-huge" : "--in-memory", no_huge ? "--no-shconf" : NULL,
	};
	int count = no_huge ? 11 : 10;

	if (cpus < 1 + two_cores) {
		fprintf(stderr, "dpdk-bars: this case needs %d processors\n", 1 + two_cores);
		exit(BAR_EXIT_CANNOT_RUN_HERE);
	}
	if (cpus == 2)
		snprintf(lcores, sizeof(lcores), "--lcores=0@%d,1@%d", cpu[0], cpu[1]);
	else
		snprintf(lcores, sizeof(lcores), "--lcores=0@%d", cpu[0]);
	if (rte_eal_init(count, arguments) >= 0)
		return;
	if (no_huge) {
		fprintf(stderr, "dpdk-bars: EAL does not start: %s\n", rte_strerror(rte_errno));
		exit(BAR_EXIT_CANNOT_RUN_HERE);
	}
	fprintf(stderr, "dpdk-bars: no hugepages for EAL, going on with ordinary pages\n");
	setenv(NO_HUGE_VARIABLE, "1", 1);
	dup2(row_file, STDOUT_FILENO);
	execv("/proc/self/exe", argv);
	bar_fail("cannot start again without hugepages");
}

static struct spread measure(const struct bar *bar, unsigned int windows)
{
	static double ticks[WINDOWS_MAX];
	double objects = (double)bar->rounds_per_window * bar->objects_per_round;

	bar->rounds(bar->rounds_per_window);
	for (unsigned int window = 0; window < windows; window++) {
		uint64_t start = ticks_now();

		bar->rounds(bar->rounds_per_window);
		ticks[window] = (double)(ticks_now() - start) / objects;
	}
	return spread_of(ticks, windows);
}

static void report_one_core(const struct bar *bar, unsigned int windows)
{
	struct spread spread = measure(bar, windows);
	unsigned int rounds = STEP_OBJECTS / bar->objects_per_round;
	unsigned int base = rounds > 0 ? 1 : 0;
	double per_round;

	if (bar->objects_per_round > STEP_MOST) {
		dprintf(row_file, "%s\t%.3f\t%.3f\t%.3f\t-\t-\n", bar->name, spread.least,
			spread.median, spread.p90);
		return;
	}
	steps_install();
	per_round = steps_per_round(bar->rounds, base, rounds > 0 ? rounds : 1);
	dprintf(row_file, "%s\t%.3f\t%.3f\t%.3f\t%.2f\t-\n", bar->name, spread.least,
		spread.median, spread.p90, per_round / bar->objects_per_round);
}

static void report_two_cores(const struct bar *bar, unsigned int windows)
{
	const char *before = placement_probe(OTHER_LCORE);
	const char *after;
	struct spread spread;

	rte_eal_remote_launch(bar->other_core, NULL, OTHER_LCORE);
	spread = measure(bar, windows);
	atomic_store(&ring_stop, 1);
	rte_eal_wait_lcore(OTHER_LCORE);
	after = placement_probe(OTHER_LCORE);
	dprintf(row_file, "%s\t%.3f\t%.3f\t%.3f\t-\t%s\n", bar->name, spread.least, spread.median,
		spread.p90, strcmp(before, after) == 0 ? before : "mixed");
}

int main(int argc, char **argv)
{
	const struct bar *bar = argc > 1 ? bar_named(argv[1]) : NULL;
	unsigned int windows = 61;

	if (!bar || (argc != 2 && argc != 4))
		usage();
	if (argc == 4) {
		windows = (unsigned int)strtoul(argv[3], NULL, 10);
		if (strcmp(argv[2], "--windows") != 0 || windows < 1 || windows > WINDOWS_MAX)
			usage();
	}
	row_file = dup(STDOUT_FILENO);
	dup2(STDERR_FILENO, STDOUT_FILENO);
	start_eal(argv, bar->other_core != NULL, first_device(bar->name));
	if (bar->make() != 0) {
		fprintf(stderr, "dpdk-bars: cannot prepare %s: %s\n", bar->name,
			rte_strerror(rte_errno));
		return BAR_EXIT_CANNOT_RUN_HERE;
	}
	if (bar->other_core)
		report_two_cores(bar, windows);
	else
		report_one_core(bar, windows);
	return 0;
}
