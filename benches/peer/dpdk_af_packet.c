/*
 * DPDK's net_af_packet in the same place as memwire's `af_packet` port.
 *
 *     dpdk-af-packet af-rx-LEN|af-tx-LEN|af-path-LEN --windows N
 *
 * Prints what `dpdk-bars` prints. A frame to be sent is a buffer of the pool with a header written into it, as
 * with ours; received frames go back to the pool within what is measured, as with ours.
 */
#include "af_packet.h"

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>

static struct rte_mempool *pool;
static unsigned int frame_len;

/* Starts over without hugepages, as `dpdk-bars` does. */
static void start_eal(char **argv, int cpu, const char *interface, int row_file)
{
	char lcores[32], device[64];
	int no_huge = getenv("DPDK_BARS_NO_HUGE") != NULL;
	char *arguments[] = { argv[0], "--no-pci", "--no-telemetry", "--log-level=4", "-m", "64",
			      lcores, device, no_huge ? "--no-huge" : "--in-memory",
			      no_huge ? "--no-shconf" : NULL };

	snprintf(lcores, sizeof(lcores), "--lcores=0@%d", cpu);
	snprintf(device, sizeof(device), "--vdev=net_af_packet0,iface=%s,qdisc_bypass=1", interface);
	if (rte_eal_init(no_huge ? 10 : 9, arguments) >= 0)
		return;
	if (no_huge) {
		fprintf(stderr, "EAL does not start: %s\n", rte_strerror(rte_errno));
		exit(BAR_EXIT_CANNOT_RUN_HERE);
	}
	setenv("DPDK_BARS_NO_HUGE", "1", 1);
	dup2(row_file, STDOUT_FILENO);
	execv("/proc/self/exe", argv);
	bar_fail("cannot start again without hugepages");
}

static void open_port(int is_rx, unsigned int len)
{
	struct rte_eth_conf configuration = { 0 };

	(void)is_rx;
	frame_len = len;
	pool = rte_pktmbuf_pool_create("frames", 8191, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, 0);
	if (!pool || rte_eth_dev_count_avail() < 1 ||
	    rte_eth_dev_configure(0, 1, 1, &configuration) != 0 ||
	    rte_eth_rx_queue_setup(0, 0, 512, 0, NULL, pool) != 0 ||
	    rte_eth_tx_queue_setup(0, 0, 512, 0, NULL) != 0 || rte_eth_dev_start(0) != 0) {
		fprintf(stderr, "net_af_packet does not start: %s\n", rte_strerror(rte_errno));
		exit(BAR_EXIT_CANNOT_RUN_HERE);
	}
}

static unsigned int send_burst(void)
{
	struct rte_mbuf *burst[BURST];
	uint16_t sent;

	if (rte_pktmbuf_alloc_bulk(pool, burst, BURST) != 0)
		bar_fail("the pool is empty");
	for (int i = 0; i < BURST; i++) {
		burst[i]->data_len = (uint16_t)frame_len;
		burst[i]->pkt_len = frame_len;
		memcpy(rte_pktmbuf_mtod(burst[i], void *), af_header, sizeof(af_header));
	}
	sent = rte_eth_tx_burst(0, 0, burst, BURST);
	if (sent < BURST)
		rte_pktmbuf_free_bulk(burst + sent, BURST - sent);
	return sent;
}

static unsigned int receive_burst(void)
{
	struct rte_mbuf *burst[BURST];
	uint16_t got = rte_eth_rx_burst(0, 0, burst, BURST);

	rte_pktmbuf_free_bulk(burst, got);
	return got;
}

int main(int argc, char **argv)
{
	static const struct af_end end = { open_port, send_burst, receive_burst, NULL };
	int is_rx = argc > 1 && strncmp(argv[1], "af-tx-", 6) != 0;
	int row_file = dup(STDOUT_FILENO);

	/* EAL writes to stdout as it likes. */
	dup2(STDERR_FILENO, STDOUT_FILENO);
	start_eal(argv, af_pin(), is_rx ? FAR : NEAR, row_file);
	return af_main(argc, argv, &end, row_file);
}
