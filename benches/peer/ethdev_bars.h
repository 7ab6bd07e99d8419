/*
 * Ports of ethdev, driven as an application of DPDK's does, beside memwire's `dpdk:` ports over the same
 * drivers: receive and free (testpmd's rxonly), allocate and send (txonly), and a ring that goes round.
 * From one null port to the other is null_bars.h.
 */
#ifndef PEER_ETHDEV_BARS_H
#define PEER_ETHDEV_BARS_H

#include <string.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "bar.h"
#include "null_bars.h"

#define ETHDEV_FRAME 64

static struct rte_mempool *ethdev_pool;
static struct rte_mbuf *ethdev_round[NULL_BURST];

static int ethdev_is_ring(const char *name)
{
	return strncmp(name, "ethdev-ring-", 12) == 0;
}

/* One port: the first that EAL was given. */
static int ethdev_make(void)
{
	ethdev_pool = rte_pktmbuf_pool_create("frames", 8191, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
					      (int)rte_socket_id());
	return ethdev_pool && rte_eth_dev_count_avail() > 0 ? null_port_start(0, ethdev_pool) : -1;
}

/* The same, and frames to go round. */
static int ethdev_ring_make(void)
{
	if (ethdev_make() != 0 || rte_pktmbuf_alloc_bulk(ethdev_pool, ethdev_round, NULL_BURST) != 0)
		return -1;
	for (unsigned int at = 0; at < NULL_BURST; at++) {
		ethdev_round[at]->data_len = ETHDEV_FRAME;
		ethdev_round[at]->pkt_len = ETHDEV_FRAME;
	}
	return 0;
}

static void ethdev_rx_rounds(unsigned int rounds)
{
	struct rte_mbuf *burst[NULL_BURST];

	for (unsigned int i = 0; i < rounds; i++) {
		uint16_t received = rte_eth_rx_burst(0, 0, burst, NULL_BURST);

		if (received != NULL_BURST)
			bar_fail("the null port received less than a burst");
		rte_pktmbuf_free_bulk(burst, received);
	}
}

static void ethdev_tx_rounds(unsigned int rounds)
{
	struct rte_mbuf *burst[NULL_BURST];

	for (unsigned int i = 0; i < rounds; i++) {
		if (rte_pktmbuf_alloc_bulk(ethdev_pool, burst, NULL_BURST) != 0)
			bar_fail("the pool ran dry");
		for (unsigned int at = 0; at < NULL_BURST; at++) {
			burst[at]->data_len = ETHDEV_FRAME;
			burst[at]->pkt_len = ETHDEV_FRAME;
		}
		if (rte_eth_tx_burst(0, 0, burst, NULL_BURST) != NULL_BURST)
			bar_fail("the null port sent less than a burst");
	}
}

static inline void ethdev_go_round(unsigned int rounds, uint16_t burst_size)
{
	for (unsigned int i = 0; i < rounds; i++) {
		uint16_t sent = rte_eth_tx_burst(0, 0, ethdev_round, burst_size);
		uint16_t received = rte_eth_rx_burst(0, 0, ethdev_round, burst_size);

		if (sent != burst_size || received != burst_size)
			bar_fail("the ring did not pass on a burst");
	}
}

static void ethdev_ring_rounds(unsigned int rounds)
{
	ethdev_go_round(rounds, NULL_BURST);
}

static void ethdev_ring_single_rounds(unsigned int rounds)
{
	ethdev_go_round(rounds, 1);
}

#endif
