/* Packet buffers and bare objects: what it costs to take some and give them back, on one core. */
#ifndef PEER_POOL_BARS_H
#define PEER_POOL_BARS_H

#include <rte_mbuf.h>
#include <rte_mempool.h>

#include "bar.h"

#define BULK 32
#define SPILL_BULKS 32
#define KEEP_BULKS 4

static struct rte_mempool *bar_pool;

static int packet_pool_make(void)
{
	bar_pool = rte_pktmbuf_pool_create("packets", 8191, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
					   (int)rte_socket_id());
	return bar_pool ? 0 : -1;
}

static int object_pool_make(unsigned int cache)
{
	bar_pool = rte_mempool_create("objects", 8191, 64, cache, 0, NULL, NULL, NULL, NULL,
				      (int)rte_socket_id(), 0);
	return bar_pool ? 0 : -1;
}

static int cached_object_pool_make(void)
{
	return object_pool_make(256);
}

static int uncached_object_pool_make(void)
{
	return object_pool_make(0);
}

static void packet_bulk_rounds(unsigned int rounds)
{
	struct rte_mbuf *burst[BULK];

	for (unsigned int i = 0; i < rounds; i++) {
		if (rte_pktmbuf_alloc_bulk(bar_pool, burst, BULK) != 0)
			bar_fail("the packet pool ran dry");
		rte_pktmbuf_free_bulk(burst, BULK);
	}
}

/* 1,024 buffers out at once: four times the cache, so each side meets the shared ring. */
static void packet_spill_rounds(unsigned int rounds)
{
	static struct rte_mbuf *out[SPILL_BULKS][BULK];

	for (unsigned int i = 0; i < rounds; i++) {
		for (unsigned int bulk = 0; bulk < SPILL_BULKS; bulk++)
			if (rte_pktmbuf_alloc_bulk(bar_pool, out[bulk], BULK) != 0)
				bar_fail("the packet pool ran dry");
		for (unsigned int bulk = 0; bulk < SPILL_BULKS; bulk++)
			rte_pktmbuf_free_bulk(out[bulk], BULK);
	}
}

static void object_bulk_rounds(unsigned int rounds)
{
	void *burst[BULK];

	for (unsigned int i = 0; i < rounds; i++) {
		if (rte_mempool_get_bulk(bar_pool, burst, BULK) != 0)
			bar_fail("the object pool ran dry");
		rte_mempool_put_bulk(bar_pool, burst, BULK);
	}
}

/* The same with 128 out: what is read was not written a moment ago. */
static void object_keep_rounds(unsigned int rounds)
{
	void *out[KEEP_BULKS][BULK];

	for (unsigned int i = 0; i < rounds; i++) {
		for (unsigned int bulk = 0; bulk < KEEP_BULKS; bulk++)
			if (rte_mempool_get_bulk(bar_pool, out[bulk], BULK) != 0)
				bar_fail("the object pool ran dry");
		for (unsigned int bulk = 0; bulk < KEEP_BULKS; bulk++)
			rte_mempool_put_bulk(bar_pool, out[bulk], BULK);
	}
}

static void object_single_rounds(unsigned int rounds)
{
	void *object;

	for (unsigned int i = 0; i < rounds; i++) {
		if (rte_mempool_get(bar_pool, &object) != 0)
			bar_fail("the object pool ran dry");
		rte_mempool_put(bar_pool, object);
	}
}

#endif
