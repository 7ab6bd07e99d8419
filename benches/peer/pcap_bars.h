/*
 * Capture files through net_pcap: a file of 64-byte frames (or as long as a sweep says) received in a loop (infinite_rx=1), and
 * frames of 64 bytes sent into /dev/null (tx_pcap). The loops are those of testpmd's rxonly and
 * txonly.
 */
#ifndef PEER_PCAP_BARS_H
#define PEER_PCAP_BARS_H

#include <fcntl.h>
#include <unistd.h>

#include <rte_ethdev.h>
#include <rte_mbuf.h>

#include "bar.h"
#include "null_bars.h"

#define PCAP_LONGEST 1514
/* As many as our bar's file has. */
#define PCAP_FRAMES 256

/* Bytes of a frame. */
static unsigned int pcap_frame = 64;
static char pcap_file[64];
static struct rte_mempool *pcap_pool;

static int pcap_is_case(const char *name)
{
	return strncmp(name, "pcap-", 5) == 0 || strncmp(name, "size/pcap", 9) == 0;
}

static int pcap_write_file(void)
{
	const uint32_t header[6] = { 0xa1b2c3d4, 4u << 16 | 2, 0, 0, 65535, 1 };
	const uint32_t record[4] = { 1, 0, pcap_frame, pcap_frame };
	unsigned char frame[PCAP_LONGEST] = { 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0 };
	FILE *file = fopen(pcap_file, "wb");
	int good;

	if (!file)
		return -1;
	good = fwrite(header, sizeof(header), 1, file) == 1;
	for (unsigned int i = 0; i < PCAP_FRAMES; i++)
		good &= fwrite(record, sizeof(record), 1, file) == 1
			&& fwrite(frame, pcap_frame, 1, file) == 1;
	return fclose(file) == 0 && good ? 0 : -1;
}

/* EAL's argument for the port; it opens the file while it starts. */
static const char *pcap_device(void)
{
	static char argument[160];

	snprintf(pcap_file, sizeof(pcap_file), "/tmp/dpdk-bars-%d.pcap", (int)getpid());
	if (pcap_write_file() != 0)
		bar_fail("cannot write the capture to replay");
	snprintf(argument, sizeof(argument),
		 "--vdev=net_pcap0,rx_pcap=%s,tx_pcap=/dev/null,infinite_rx=1", pcap_file);
	return argument;
}

static int pcap_make(void)
{
	int started;

	pcap_pool = rte_pktmbuf_pool_create("frames", 8191, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE,
					    (int)rte_socket_id());
	started = pcap_pool && rte_eth_dev_count_avail() > 0 ? null_port_start(0, pcap_pool) : -1;
	unlink(pcap_file);
	return started;
}

static void pcap_replay_rounds(unsigned int rounds)
{
	struct rte_mbuf *burst[NULL_BURST];

	for (unsigned int i = 0; i < rounds; i++) {
		uint16_t received = rte_eth_rx_burst(0, 0, burst, NULL_BURST);

		if (received != NULL_BURST)
			bar_fail("the pcap port received less than a burst");
		rte_pktmbuf_free_bulk(burst, received);
	}
}

static void pcap_write_rounds(unsigned int rounds)
{
	struct rte_mbuf *burst[NULL_BURST];

	for (unsigned int i = 0; i < rounds; i++) {
		if (rte_pktmbuf_alloc_bulk(pcap_pool, burst, NULL_BURST) != 0)
			bar_fail("the pool ran dry");
		for (unsigned int at = 0; at < NULL_BURST; at++) {
			burst[at]->data_len = (uint16_t)pcap_frame;
			burst[at]->pkt_len = pcap_frame;
		}
		if (rte_eth_tx_burst(0, 0, burst, NULL_BURST) != NULL_BURST)
			bar_fail("the pcap port sent less than a burst");
	}
}

#endif
