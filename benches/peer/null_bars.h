/* Two null ports, frames forwarded from each to the other: the price of the driver interface. */
#ifndef PEER_NULL_BARS_H
#define PEER_NULL_BARS_H

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "bar.h"

#define NULL_PORTS 2
#define NULL_BURST 32

static int null_port_start(uint16_t port, struct rte_mempool *pool)
{
	struct rte_eth_conf configuration = { 0 };
	int socket = (int)rte_socket_id();

	if (rte_eth_dev_configure(port, 1, 1, &configuration) != 0)
		return -1;
	if (rte_eth_rx_queue_setup(port, 0, 512, (unsigned int)socket, NULL, pool) != 0)
		return -1;
	if (rte_eth_tx_queue_setup(port, 0, 512, (unsigned int)socket, NULL) != 0)
		return -1;
	return rte_eth_dev_start(port);
}

static int null_ports_make(void)
{
	struct rte_mempool *pool = rte_pktmbuf_pool_create(
		"frames", 8191, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, (int)rte_socket_id());

	if (!pool || rte_eth_dev_count_avail() < NULL_PORTS)
		return -1;
	for (uint16_t port = 0; port < NULL_PORTS; port++)
		if (null_port_start(port, pool) != 0)
			return -1;
	return 0;
}

static inline void null_forward(uint16_t from, uint16_t to, uint16_t burst_size)
{
	struct rte_mbuf *burst[NULL_BURST];
	uint16_t received = rte_eth_rx_burst(from, 0, burst, burst_size);
	uint16_t sent = rte_eth_tx_burst(to, 0, burst, received);

	if (received != burst_size)
		bar_fail("the null port received less than a burst");
	if (sent < received)
		rte_pktmbuf_free_bulk(burst + sent, received - sent);
}

static void null_burst_rounds(unsigned int rounds)
{
	for (unsigned int i = 0; i < rounds; i++) {
		null_forward(0, 1, NULL_BURST);
		null_forward(1, 0, NULL_BURST);
	}
}

static void null_single_rounds(unsigned int rounds)
{
	for (unsigned int i = 0; i < rounds; i++) {
		null_forward(0, 1, 1);
		null_forward(1, 0, 1);
	}
}

#endif
