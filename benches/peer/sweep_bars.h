/*
 * Points of curves, `AXIS/WHAT@SIZE`: how costs grow with the size of something. The names are those
 * of `bars`, which has more of them.
 */
#ifndef PEER_SWEEP_BARS_H
#define PEER_SWEEP_BARS_H

#include <stdlib.h>
#include <string.h>

#include <rte_mbuf.h>

#include "bar.h"
#include "null_bars.h"
#include "pcap_bars.h"

#define SWEEP_BULK 32
#define SWEEP_MOST 65536
#define SWEEP_LONGEST_BURST 256
#define SWEEP_WINDOW 40000

static unsigned int sweep_size;
static struct rte_mempool *sweep_pool;

static void sweep_burst_rounds(unsigned int rounds)
{
	struct rte_mbuf *burst[SWEEP_LONGEST_BURST];

	for (unsigned int i = 0; i < rounds; i++)
		for (uint16_t from = 0; from < NULL_PORTS; from++) {
			uint16_t got = rte_eth_rx_burst(from, 0, burst, (uint16_t)sweep_size);

			if (rte_eth_tx_burst(!from, 0, burst, got) != sweep_size)
				bar_fail("the null ports forwarded less than a burst");
		}
}

static int sweep_pool_make(void)
{
	unsigned int count = 2 * (sweep_size < 4096 ? 4096 : sweep_size);

	/* Bytes are not touched: small buffers, so that all fit. */
	sweep_pool = rte_pktmbuf_pool_create("out", count - 1, 256, 0, RTE_PKTMBUF_HEADROOM + 128,
					     (int)rte_socket_id());
	return sweep_pool ? 0 : -1;
}

static void sweep_out_rounds(unsigned int rounds)
{
	static struct rte_mbuf *out[SWEEP_MOST];

	for (unsigned int i = 0; i < rounds; i++) {
		for (unsigned int at = 0; at < sweep_size; at += SWEEP_BULK)
			if (rte_pktmbuf_alloc_bulk(sweep_pool, out + at, SWEEP_BULK) != 0)
				bar_fail("the packet pool ran dry");
		for (unsigned int at = 0; at < sweep_size; at += SWEEP_BULK)
			rte_pktmbuf_free_bulk(out + at, SWEEP_BULK);
	}
}

static const struct bar sweeps[] = {
	{ "burst/null", 2, 0, null_ports_make, sweep_burst_rounds, NULL },
	{ "pool/out", 1, 0, sweep_pool_make, sweep_out_rounds, NULL },
	{ "size/pcap", 32, 0, pcap_make, pcap_replay_rounds, NULL },
};

/* The point of that name; NULL if there is none. */
static const struct bar *sweep_named(const char *name)
{
	static struct bar point;
	const char *at = strchr(name, '@');

	for (size_t i = 0; at && i < sizeof(sweeps) / sizeof(sweeps[0]); i++) {
		size_t length = strlen(sweeps[i].name);

		if (length != (size_t)(at - name) || strncmp(name, sweeps[i].name, length) != 0)
			continue;
		point = sweeps[i];
		point.name = name;
		sweep_size = (unsigned int)strtoul(at + 1, NULL, 10);
		if (strncmp(name, "size/", 5) == 0) {
			pcap_frame = sweep_size;
			if (sweep_size < 60 || sweep_size > PCAP_LONGEST)
				return NULL;
		} else if (strncmp(name, "burst/", 6) == 0) {
			if (sweep_size < 1 || sweep_size > SWEEP_LONGEST_BURST)
				return NULL;
			point.objects_per_round *= sweep_size;
		} else {
			if (sweep_size < SWEEP_BULK || sweep_size > SWEEP_MOST ||
			    sweep_size % SWEEP_BULK != 0)
				return NULL;
			point.objects_per_round *= sweep_size;
		}
		point.rounds_per_window = SWEEP_WINDOW / point.objects_per_round + 1;
		return &point;
	}
	return NULL;
}

#endif
