/* What of libdpdk cannot be reached without C. */
#include "wrapper.h"

int memwire_rte_errno(void)
{
	return rte_errno;
}

int memwire_mbuf_alloc(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count)
{
	return rte_pktmbuf_alloc_bulk(pool, mbufs, count);
}

int memwire_link(uint16_t port, int *is_up, uint32_t *speed)
{
	struct rte_eth_link link = { 0 };
	int error = rte_eth_link_get_nowait(port, &link);

	*is_up = link.link_status == RTE_ETH_LINK_UP;
	*speed = link.link_speed;
	return error;
}
