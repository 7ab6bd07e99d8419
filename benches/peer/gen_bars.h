/*
 * Making and forwarding 64-byte frames over null ports, as dpdk-testpmd does it: `txonly` takes
 * buffers, writes Ethernet, IPv4 and UDP headers into each and sends them; `macswap` receives,
 * exchanges the addresses four frames at a time and sends.
 */
#ifndef PEER_GEN_BARS_H
#define PEER_GEN_BARS_H

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_memcpy.h>
#include <rte_udp.h>
#include <rte_vect.h>

#include "bar.h"
#include "null_bars.h"

#define GEN_FRAME 64
#define GEN_HEADERS (sizeof(struct rte_ether_hdr) + sizeof(struct rte_ipv4_hdr) + sizeof(struct rte_udp_hdr))

static struct rte_mempool *gen_pool;
static struct rte_ether_hdr gen_ether;
static struct rte_ipv4_hdr gen_ip;
static struct rte_udp_hdr gen_udp;

static void gen_headers(void)
{
	uint16_t ip_len = GEN_FRAME - sizeof(gen_ether);

	memset(gen_ether.src_addr.addr_bytes, 2, RTE_ETHER_ADDR_LEN);
	memset(gen_ether.dst_addr.addr_bytes, 4, RTE_ETHER_ADDR_LEN);
	gen_ether.ether_type = rte_cpu_to_be_16(RTE_ETHER_TYPE_IPV4);
	gen_ip.version_ihl = RTE_IPV4_VHL_DEF;
	gen_ip.time_to_live = 64;
	gen_ip.next_proto_id = IPPROTO_UDP;
	gen_ip.total_length = rte_cpu_to_be_16(ip_len);
	gen_ip.src_addr = rte_cpu_to_be_32(RTE_IPV4(198, 18, 0, 1));
	gen_ip.dst_addr = rte_cpu_to_be_32(RTE_IPV4(198, 18, 0, 2));
	gen_ip.hdr_checksum = rte_ipv4_cksum(&gen_ip);
	gen_udp.src_port = rte_cpu_to_be_16(9);
	gen_udp.dst_port = rte_cpu_to_be_16(9);
	gen_udp.dgram_len = rte_cpu_to_be_16(ip_len - sizeof(gen_ip));
}

static int gen_make(void)
{
	gen_headers();
	if (null_ports_make() != 0)
		return -1;
	gen_pool = rte_mempool_lookup("frames");
	return gen_pool ? 0 : -1;
}

/* One frame, as testpmd's pkt_burst_prepare() does without flows and without offloads. */
static inline void gen_prepare(struct rte_mbuf *frame)
{
	char *data;

	rte_pktmbuf_reset_headroom(frame);
	frame->data_len = GEN_FRAME;
	frame->ol_flags &= RTE_MBUF_F_EXTERNAL;
	frame->vlan_tci = 0;
	frame->vlan_tci_outer = 0;
	frame->l2_len = sizeof(gen_ether);
	frame->l3_len = sizeof(gen_ip);
	data = rte_pktmbuf_mtod(frame, char *);
	rte_memcpy(data, &gen_ether, sizeof(gen_ether));
	rte_memcpy(data + sizeof(gen_ether), &gen_ip, sizeof(gen_ip));
	rte_memcpy(data + sizeof(gen_ether) + sizeof(gen_ip), &gen_udp, sizeof(gen_udp));
	frame->next = NULL;
	frame->nb_segs = 1;
	frame->pkt_len = GEN_FRAME;
}

static void gen_rounds(unsigned int rounds)
{
	struct rte_mbuf *burst[NULL_BURST];

	for (unsigned int i = 0; i < rounds; i++) {
		uint16_t sent;

		if (rte_mempool_get_bulk(gen_pool, (void **)burst, NULL_BURST) != 0)
			bar_fail("the pool ran dry");
		for (unsigned int at = 0; at < NULL_BURST; at++)
			gen_prepare(burst[at]);
		sent = rte_eth_tx_burst(0, 0, burst, NULL_BURST);
		if (sent != NULL_BURST)
			bar_fail("the null port sent less than a burst");
	}
}

/* As testpmd's macswap_sse.h: sixteen bytes of four frames at a time. */
static inline void swap_addresses(struct rte_mbuf *const *burst, uint16_t count)
{
	const __m128i order = _mm_set_epi8(15, 14, 13, 12, 5, 4, 3, 2, 1, 0, 11, 10, 9, 8, 7, 6);
	uint16_t at = 0;

	for (; at + 4 <= count; at += 4) {
		__m128i *heads[4];
		__m128i value[4];

		for (int lane = 0; lane < 4; lane++)
			heads[lane] = rte_pktmbuf_mtod(burst[at + lane], __m128i *);
		for (int lane = 0; lane < 4; lane++)
			value[lane] = _mm_shuffle_epi8(_mm_loadu_si128(heads[lane]), order);
		for (int lane = 0; lane < 4; lane++) {
			burst[at + lane]->ol_flags &= RTE_MBUF_F_INDIRECT | RTE_MBUF_F_EXTERNAL;
			burst[at + lane]->l2_len = sizeof(struct rte_ether_hdr);
			burst[at + lane]->l3_len = sizeof(struct rte_ipv4_hdr);
			_mm_storeu_si128(heads[lane], value[lane]);
		}
	}
	for (; at < count; at++) {
		__m128i *head = rte_pktmbuf_mtod(burst[at], __m128i *);

		_mm_storeu_si128(head, _mm_shuffle_epi8(_mm_loadu_si128(head), order));
	}
}

static inline void swap_forward(uint16_t from, uint16_t to)
{
	struct rte_mbuf *burst[NULL_BURST];
	uint16_t received = rte_eth_rx_burst(from, 0, burst, NULL_BURST);
	uint16_t sent;

	if (received != NULL_BURST)
		bar_fail("the null port received less than a burst");
	swap_addresses(burst, received);
	sent = rte_eth_tx_burst(to, 0, burst, received);
	if (sent < received)
		rte_pktmbuf_free_bulk(burst + sent, received - sent);
}

static void swap_rounds(unsigned int rounds)
{
	for (unsigned int i = 0; i < rounds; i++) {
		swap_forward(0, 1);
		swap_forward(1, 0);
	}
}

#endif
