/* What of libdpdk is bound, and what of it bindgen cannot see: values of macros, places of fields. */
#define ALLOW_EXPERIMENTAL_API
#define _GNU_SOURCE
#include <stddef.h>
#include <stdio.h>
#include <rte_config.h>
#include <rte_version.h>
#include <rte_errno.h>
#include <rte_log.h>
#include <rte_eal.h>
#include <rte_alarm.h>
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_malloc.h>
#include <rte_memory.h>
#include <rte_mempool.h>
#include <rte_mbuf.h>
#include <rte_ethdev.h>

/* rte_errno is a thread's variable behind a macro. */
int memwire_rte_errno(void);
/* rte_pktmbuf_alloc_bulk is inline. */
int memwire_mbuf_alloc(struct rte_mempool *pool, struct rte_mbuf **mbufs, unsigned int count);
/* A link is bit fields, whose form changes. Megabits per second; 0 or all ones where unknown. */
int memwire_link(uint16_t port, int *is_up, uint32_t *speed);

/* Where fields of an mbuf are: they stand in unions without names, and move between releases. */
enum {
	MEMWIRE_OFF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
	MEMWIRE_OFF_BUF_IOVA = offsetof(struct rte_mbuf, buf_iova),
	MEMWIRE_OFF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
	MEMWIRE_OFF_REFCNT = offsetof(struct rte_mbuf, refcnt),
	MEMWIRE_OFF_NB_SEGS = offsetof(struct rte_mbuf, nb_segs),
	MEMWIRE_OFF_PORT = offsetof(struct rte_mbuf, port),
	MEMWIRE_OFF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
	MEMWIRE_OFF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
	MEMWIRE_OFF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
	MEMWIRE_OFF_VLAN_TCI = offsetof(struct rte_mbuf, vlan_tci),
	MEMWIRE_OFF_HASH_RSS = offsetof(struct rte_mbuf, hash.rss),
	MEMWIRE_OFF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
	MEMWIRE_OFF_POOL = offsetof(struct rte_mbuf, pool),
	MEMWIRE_OFF_NEXT = offsetof(struct rte_mbuf, next),
	MEMWIRE_OFF_TX_OFFLOAD = offsetof(struct rte_mbuf, tx_offload),
	MEMWIRE_OFF_SHINFO = offsetof(struct rte_mbuf, shinfo),
	MEMWIRE_OFF_PRIV_SIZE = offsetof(struct rte_mbuf, priv_size),
	MEMWIRE_MBUF_SIZE = sizeof(struct rte_mbuf),
	MEMWIRE_MEMPOOL_HEADER = sizeof(struct rte_mempool_objhdr),
	MEMWIRE_CACHE_LINE = RTE_CACHE_LINE_SIZE,
	MEMWIRE_HEADROOM = RTE_PKTMBUF_HEADROOM,
	/* Places in tx_offload. */
	MEMWIRE_TX_L2_SHIFT = RTE_MBUF_L2_LEN_OFS,
	MEMWIRE_TX_L3_SHIFT = RTE_MBUF_L3_LEN_OFS,
	MEMWIRE_TX_L4_SHIFT = RTE_MBUF_L4_LEN_OFS,
	MEMWIRE_TX_MSS_SHIFT = RTE_MBUF_TSO_SEGSZ_OFS,
	/* Flags of pools of mbufs. */
	MEMWIRE_POOL_PINNED = RTE_PKTMBUF_POOL_F_PINNED_EXT_BUF,
	MEMWIRE_POOL_NO_SPREAD = RTE_MEMPOOL_F_NO_SPREAD,
	MEMWIRE_POOL_NO_IOVA_CONTIG = RTE_MEMPOOL_F_NO_IOVA_CONTIG,
	MEMWIRE_MQ_RX_RSS = RTE_ETH_MQ_RX_RSS,
	MEMWIRE_RETA_GROUP = RTE_ETH_RETA_GROUP_SIZE,
	/* Kinds of headers. */
	MEMWIRE_PTYPE_TUNNELS = RTE_PTYPE_TUNNEL_MASK,
	MEMWIRE_PTYPE_L3 = RTE_PTYPE_L3_MASK,
	MEMWIRE_PTYPE_L4 = RTE_PTYPE_L4_MASK,
	MEMWIRE_PTYPE_IPV4 = RTE_PTYPE_L3_IPV4,
	MEMWIRE_PTYPE_IPV4_EXT = RTE_PTYPE_L3_IPV4_EXT,
	MEMWIRE_PTYPE_IPV4_ANY = RTE_PTYPE_L3_IPV4_EXT_UNKNOWN,
	MEMWIRE_PTYPE_UDP = RTE_PTYPE_L4_UDP,
};

/* Macros with casts and shifts. */
static const uint64_t MEMWIRE_F_EXTERNAL = RTE_MBUF_F_EXTERNAL;
static const uint64_t MEMWIRE_F_RX_VLAN_STRIPPED = RTE_MBUF_F_RX_VLAN_STRIPPED;
static const uint64_t MEMWIRE_F_RX_RSS_HASH = RTE_MBUF_F_RX_RSS_HASH;
static const uint64_t MEMWIRE_F_RX_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK;
static const uint64_t MEMWIRE_F_RX_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD;
static const uint64_t MEMWIRE_F_RX_IP_CKSUM_BAD = RTE_MBUF_F_RX_IP_CKSUM_BAD;
static const uint64_t MEMWIRE_F_RX_L4_CKSUM_MASK = RTE_MBUF_F_RX_L4_CKSUM_MASK;
static const uint64_t MEMWIRE_F_RX_L4_CKSUM_GOOD = RTE_MBUF_F_RX_L4_CKSUM_GOOD;
static const uint64_t MEMWIRE_F_RX_L4_CKSUM_BAD = RTE_MBUF_F_RX_L4_CKSUM_BAD;
static const uint64_t MEMWIRE_F_TX_VLAN = RTE_MBUF_F_TX_VLAN;
static const uint64_t MEMWIRE_F_TX_IP_CKSUM = RTE_MBUF_F_TX_IP_CKSUM;
static const uint64_t MEMWIRE_F_TX_TCP_CKSUM = RTE_MBUF_F_TX_TCP_CKSUM;
static const uint64_t MEMWIRE_F_TX_UDP_CKSUM = RTE_MBUF_F_TX_UDP_CKSUM;
static const uint64_t MEMWIRE_F_TX_TCP_SEG = RTE_MBUF_F_TX_TCP_SEG;
static const uint64_t MEMWIRE_F_TX_IPV4 = RTE_MBUF_F_TX_IPV4;
static const uint64_t MEMWIRE_F_TX_IPV6 = RTE_MBUF_F_TX_IPV6;
static const uint64_t MEMWIRE_BAD_IOVA = RTE_BAD_IOVA;
static const uint64_t MEMWIRE_RX_VLAN_STRIP = RTE_ETH_RX_OFFLOAD_VLAN_STRIP;
static const uint64_t MEMWIRE_RX_IPV4_CKSUM = RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
static const uint64_t MEMWIRE_RX_UDP_CKSUM = RTE_ETH_RX_OFFLOAD_UDP_CKSUM;
static const uint64_t MEMWIRE_RX_TCP_CKSUM = RTE_ETH_RX_OFFLOAD_TCP_CKSUM;
static const uint64_t MEMWIRE_RX_SCATTER = RTE_ETH_RX_OFFLOAD_SCATTER;
static const uint64_t MEMWIRE_RX_RSS_HASH = RTE_ETH_RX_OFFLOAD_RSS_HASH;
static const uint64_t MEMWIRE_RX_BUFFER_SPLIT = RTE_ETH_RX_OFFLOAD_BUFFER_SPLIT;
static const uint64_t MEMWIRE_TX_VLAN_INSERT = RTE_ETH_TX_OFFLOAD_VLAN_INSERT;
static const uint64_t MEMWIRE_TX_IPV4_CKSUM = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
static const uint64_t MEMWIRE_TX_UDP_CKSUM = RTE_ETH_TX_OFFLOAD_UDP_CKSUM;
static const uint64_t MEMWIRE_TX_TCP_CKSUM = RTE_ETH_TX_OFFLOAD_TCP_CKSUM;
static const uint64_t MEMWIRE_TX_TCP_TSO = RTE_ETH_TX_OFFLOAD_TCP_TSO;
static const uint64_t MEMWIRE_TX_MULTI_SEGS = RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
