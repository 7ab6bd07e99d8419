/* Single-producer single-consumer rings of 1,024 pointers: one core, two, and there and back. */
#ifndef PEER_RING_BARS_H
#define PEER_RING_BARS_H

#include <stdatomic.h>

#include <rte_launch.h>
#include <rte_ring.h>

#include "bar.h"

#define RING_ENTRIES 1024
#define RING_BULK 32

static struct rte_ring *ring_there;
static struct rte_ring *ring_back;
static _Atomic int ring_stop;

static int rings_make(void)
{
	unsigned int flags = RING_F_SP_ENQ | RING_F_SC_DEQ;
	int socket = (int)rte_socket_id();

	ring_there = rte_ring_create("there", RING_ENTRIES, socket, flags);
	ring_back = rte_ring_create("back", RING_ENTRIES, socket, flags);
	return ring_there && ring_back ? 0 : -1;
}

static inline int ring_stopped(void)
{
	return atomic_load_explicit(&ring_stop, memory_order_relaxed);
}

static void ring_same_core_rounds(unsigned int rounds)
{
	void *objects[RING_BULK] = { 0 };

	for (unsigned int i = 0; i < rounds; i++) {
		if (rte_ring_sp_enqueue_bulk(ring_there, objects, RING_BULK, NULL) == 0)
			bar_fail("the ring is full");
		if (rte_ring_sc_dequeue_bulk(ring_there, objects, RING_BULK, NULL) == 0)
			bar_fail("the ring is empty");
	}
}

/* The other core's half: keep the ring full in bulks of one size until told to stop. */
static inline int ring_produce(unsigned int bulk)
{
	void *objects[RING_BULK] = { 0 };

	while (!ring_stopped())
		rte_ring_sp_enqueue_bulk(ring_there, objects, bulk, NULL);
	return 0;
}

static int ring_produce_bulks(void *unused)
{
	(void)unused;
	return ring_produce(RING_BULK);
}

static int ring_produce_singles(void *unused)
{
	(void)unused;
	return ring_produce(1);
}

static inline void ring_consume(unsigned int rounds, unsigned int bulk)
{
	void *objects[RING_BULK];

	for (unsigned int i = 0; i < rounds; i++)
		while (rte_ring_sc_dequeue_bulk(ring_there, objects, bulk, NULL) == 0)
			;
}

static void ring_consume_bulks(unsigned int rounds)
{
	ring_consume(rounds, RING_BULK);
}

static void ring_consume_singles(unsigned int rounds)
{
	ring_consume(rounds, 1);
}

/* The other core's half of a round trip: send back what comes. */
static int ring_echo(void *unused)
{
	void *object;

	(void)unused;
	while (!ring_stopped())
		if (rte_ring_sc_dequeue_bulk(ring_there, &object, 1, NULL) != 0)
			rte_ring_sp_enqueue_bulk(ring_back, &object, 1, NULL);
	return 0;
}

static void ring_round_trips(unsigned int rounds)
{
	void *object = NULL;

	for (unsigned int i = 0; i < rounds; i++) {
		rte_ring_sp_enqueue_bulk(ring_there, &object, 1, NULL);
		while (rte_ring_sc_dequeue_bulk(ring_back, &object, 1, NULL) == 0)
			;
	}
}

#endif
