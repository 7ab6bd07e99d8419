/*
 * A NIC that splits frames, for tests: laid between a program and libdpdk (LD_PRELOAD), it makes a port of a virtual
 * device offer buffer split and do it as drivers of hardware do. Ports are chosen by their names:
 *
 *   ..._len...  as mlx5: cuts after a length; a frame with nothing behind it leaves its payload buffer in
 *               the ring; says where in its buffer a payload is to start
 *   ..._udp...  as ice: cuts behind UDP over IPv4; each frame has both buffers, of which one may be empty;
 *               payloads start behind the headroom
 *   ...soft...  is on no bus of hardware: memory that the host cannot read is not for it
 *   ...bad...   does not start
 *
 * What comes is copied to where its buffers are for devices (buf_iova), as DMA would: into a mapping that the host
 * may write, of the same file, where their own address is not for the host. Nothing else writes payloads.
 */
#define ALLOW_EXPERIMENTAL_API
#define _GNU_SOURCE
#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_ethdev.h>
#include <rte_ip.h>
#include <rte_mbuf.h>

#define QUEUES 8
#define REAL(name) ((__typeof__(&name))real(#name))

struct queue {
	struct rte_mempool *heads, *data;
	/* What the device below receives into. */
	struct rte_mempool *below;
	uint16_t length, offset;
	uint32_t headers;
	uint16_t count;
	void *inner;
	/* Descriptors: those from `next` on are the device's. */
	struct rte_mbuf **head_ring, **data_ring;
	uint32_t next;
	/* Came, and waits for buffers. */
	struct rte_mbuf *waiting;
};

static struct port {
	struct queue queues[QUEUES];
	eth_rx_burst_t inner;
} ports[RTE_MAX_ETHPORTS];

/* What devices were given, and how many bytes from there a mapping is that the host may write. */
static struct map {
	uintptr_t start, end;
	intptr_t way;
} maps[256];
static pthread_mutex_t maps_lock = PTHREAD_MUTEX_INITIALIZER;

static void *
real(const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);
	if (found == NULL) {
		fprintf(stderr, "model: libdpdk has no %s\n", name);
		abort();
	}
	return found;
}

static const char *
port_name(uint16_t port)
{
	static __thread char name[RTE_ETH_NAME_MAX_LEN];
	return rte_eth_dev_get_name_by_port(port, name) == 0 ? name : "";
}

static int is_model(const char *name) { return strstr(name, "_len") != NULL || strstr(name, "_udp") != NULL; }
static int cuts_udp(uint16_t port) { return strstr(port_name(port), "_udp") != NULL; }

static const uint32_t known[] = {
	RTE_PTYPE_L2_ETHER,
	RTE_PTYPE_L2_ETHER | RTE_PTYPE_L3_IPV4_EXT_UNKNOWN | RTE_PTYPE_L4_UDP,
};

int
rte_eth_dev_info_get(uint16_t port, struct rte_eth_dev_info *info)
{
	int failed = REAL(rte_eth_dev_info_get)(port, info);
	if (failed == 0 && is_model(port_name(port))) {
		info->rx_offload_capa |= RTE_ETH_RX_OFFLOAD_BUFFER_SPLIT;
		info->rx_queue_offload_capa |= RTE_ETH_RX_OFFLOAD_BUFFER_SPLIT;
		info->rx_seg_capa.multi_pools = 1;
		info->rx_seg_capa.max_nseg = 2;
		info->rx_seg_capa.offset_allowed = !cuts_udp(port);
	}
	return failed;
}

int
rte_eth_buffer_split_get_supported_hdr_ptypes(uint16_t port, uint32_t *ptypes, int num)
{
	int count = RTE_DIM(known);
	if (!is_model(port_name(port)))
		return REAL(rte_eth_buffer_split_get_supported_hdr_ptypes)(port, ptypes, num);
	if (!cuts_udp(port))
		return -ENOTSUP;
	for (int i = 0; i < RTE_MIN(num, count); i++)
		ptypes[i] = known[i];
	return count;
}

int
rte_eth_dev_configure(uint16_t port, uint16_t rx, uint16_t tx, const struct rte_eth_conf *conf)
{
	struct rte_eth_conf plain = *conf;
	if (is_model(port_name(port))) {
		plain.rxmode.offloads &= ~RTE_ETH_RX_OFFLOAD_BUFFER_SPLIT;
		memset(&ports[port], 0, sizeof(ports[port]));
	}
	return REAL(rte_eth_dev_configure)(port, rx, tx, &plain);
}

/* As ethdev and drivers check it. */
static int
take_segments(uint16_t port, struct queue *queue, const struct rte_eth_rxconf *conf)
{
	const struct rte_eth_rxseg_split *head, *data;
	if (conf->rx_nseg != 2 || !(conf->offloads & RTE_ETH_RX_OFFLOAD_BUFFER_SPLIT))
		return -EINVAL;
	head = &conf->rx_seg[0].split;
	data = &conf->rx_seg[1].split;
	if (head->mp == NULL || data->mp == NULL || head->offset != 0 || data->proto_hdr != 0)
		return -EINVAL;
	if (cuts_udp(port) ? head->proto_hdr != known[1] || head->length != 0
			   : head->proto_hdr != 0 || head->length == 0)
		return -EINVAL;
	if (head->length + RTE_PKTMBUF_HEADROOM > rte_pktmbuf_data_room_size(head->mp))
		return -EINVAL;
	*queue = (struct queue){
		.heads = head->mp, .data = data->mp, .length = head->length, .headers = head->proto_hdr,
		.offset = cuts_udp(port) ? RTE_PKTMBUF_HEADROOM : data->offset,
	};
	return 0;
}

int
rte_eth_rx_queue_setup(uint16_t port, uint16_t index, uint16_t count, unsigned int socket,
		       const struct rte_eth_rxconf *conf, struct rte_mempool *pool)
{
	struct rte_eth_rxconf plain;
	struct queue *queue = &ports[port].queues[index % QUEUES];
	char name[RTE_MEMPOOL_NAMESIZE];
	if (conf == NULL || conf->rx_seg == NULL)
		return REAL(rte_eth_rx_queue_setup)(port, index, count, socket, conf, pool);
	if (!is_model(port_name(port)) || pool != NULL || index >= QUEUES)
		return -EINVAL;
	if (take_segments(port, queue, conf) != 0)
		return -EINVAL;
	snprintf(name, sizeof(name), "model_%u_%u", port, index);
	queue->below = rte_pktmbuf_pool_create(name, 4095, 64, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (queue->below == NULL)
		return -ENOMEM;
	queue->count = count;
	plain = *conf;
	plain.offloads &= ~RTE_ETH_RX_OFFLOAD_BUFFER_SPLIT;
	plain.rx_seg = NULL;
	plain.rx_nseg = 0;
	return REAL(rte_eth_rx_queue_setup)(port, index, count, socket, &plain, queue->below);
}

static uint16_t burst(void *inner, struct rte_mbuf **mbufs, uint16_t count);

/* Both rings full, as drivers have them when they start. */
static int
fill(struct queue *queue)
{
	queue->head_ring = calloc(queue->count, sizeof(void *));
	queue->data_ring = calloc(queue->count, sizeof(void *));
	for (uint16_t i = 0; i < queue->count; i++) {
		queue->head_ring[i] = rte_pktmbuf_alloc(queue->heads);
		queue->data_ring[i] = rte_pktmbuf_alloc(queue->data);
		if (queue->head_ring[i] == NULL || queue->data_ring[i] == NULL)
			return -ENOMEM;
	}
	return 0;
}

static void
drain(struct queue *queue)
{
	if (queue->head_ring != NULL) {
		rte_pktmbuf_free_bulk(queue->head_ring, queue->count);
		rte_pktmbuf_free_bulk(queue->data_ring, queue->count);
	}
	rte_pktmbuf_free(queue->waiting);
	free(queue->head_ring);
	free(queue->data_ring);
	queue->head_ring = queue->data_ring = NULL;
	queue->waiting = NULL;
}

int
rte_eth_dev_start(uint16_t port)
{
	struct port *model = &ports[port];
	struct rte_eth_fp_ops *ops = &rte_eth_fp_ops[port];
	int failed = REAL(rte_eth_dev_start)(port);
	if (failed != 0 || !is_model(port_name(port)))
		return failed;
	for (int i = 0; i < QUEUES; i++) {
		struct queue *queue = &model->queues[i];
		if (queue->count == 0)
			continue;
		queue->inner = ops->rxq.data[i];
		if (strstr(port_name(port), "bad") != NULL || fill(queue) != 0) {
			drain(queue);
			REAL(rte_eth_dev_stop)(port);
			return -ENOMEM;
		}
		model->inner = ops->rx_pkt_burst;
		ops->rx_pkt_burst = burst;
	}
	return 0;
}

int
rte_eth_dev_close(uint16_t port)
{
	int failed, model = is_model(port_name(port));
	failed = REAL(rte_eth_dev_close)(port);
	for (int i = 0; model && i < QUEUES; i++) {
		drain(&ports[port].queues[i]);
		rte_mempool_free(ports[port].queues[i].below);
		memset(&ports[port].queues[i], 0, sizeof(ports[port].queues[i]));
	}
	return failed;
}

/* Where the host may write what a device writes there. */
static uint8_t *
reach(uintptr_t at, size_t len)
{
	for (size_t i = 0; i < RTE_DIM(maps); i++)
		if (at >= maps[i].start && at + len <= maps[i].end)
			return (uint8_t *)(at + maps[i].way);
	fprintf(stderr, "model: DMA of %zu bytes to 0x%" PRIxPTR ", which is not mapped\n", len, at);
	abort();
}

/* Copies bytes of a frame into a buffer. */
static void
put(struct rte_mbuf *to, uint16_t offset, const struct rte_mbuf *frame, uint32_t from, uint32_t len)
{
	to->data_off = offset;
	to->data_len = len;
	to->next = NULL;
	to->nb_segs = 1;
	while (frame != NULL && from >= frame->data_len) {
		from -= frame->data_len;
		frame = frame->next;
	}
	for (uint32_t at = 0; at < len; frame = frame->next, from = 0) {
		uint32_t part = RTE_MIN(len - at, frame->data_len - from);
		memcpy(reach(to->buf_iova + offset + at, part), rte_pktmbuf_mtod_offset(frame, void *, from), part);
		at += part;
	}
}

/* Bytes that go into the head. */
static uint32_t
cut(const struct queue *queue, const struct rte_mbuf *frame)
{
	const uint32_t udp = sizeof(struct rte_ether_hdr) + sizeof(struct rte_ipv4_hdr) + 8;
	uint8_t space[64];
	const uint8_t *start;
	if (queue->headers == 0)
		return RTE_MIN(queue->length, frame->pkt_len);
	if (frame->pkt_len < udp)
		return 0;
	start = rte_pktmbuf_read(frame, 0, udp, space);
	return start[12] == 8 && start[13] == 0 && start[14] == 0x45 && start[23] == IPPROTO_UDP ? udp : 0;
}

/* Makes a split frame of a whole one. NULL if buffers are missing: it waits. */
static struct rte_mbuf *
split(struct queue *queue, struct rte_mbuf *frame)
{
	uint32_t at = queue->next % queue->count, head_len = cut(queue, frame), len = frame->pkt_len;
	uint32_t room = rte_pktmbuf_data_room_size(queue->data) - queue->offset;
	uint32_t rest = len - head_len, more = rest > room ? (rest - 1) / room : 0;
	int always = queue->headers != 0, takes_data = rest > 0 || always;
	struct rte_mbuf *fresh[1 + 16], *head = queue->head_ring[at], *tail = head, *next_head;
	if (more > 15)
		return NULL;
	next_head = rte_pktmbuf_alloc(queue->heads);
	if (next_head == NULL)
		return NULL;
	if (takes_data && rte_mempool_get_bulk(queue->data, (void **)fresh, 1 + more) != 0) {
		rte_pktmbuf_free(next_head);
		return NULL;
	}
	put(head, RTE_PKTMBUF_HEADROOM, frame, 0, head_len);
	head->ol_flags = RTE_MBUF_F_EXTERNAL;
	head->pkt_len = len;
	queue->head_ring[at] = next_head;
	queue->next++;
	if (!takes_data)
		return head;
	/* The ring's buffer first, then as many more; the last one taken takes its place. */
	for (uint32_t i = 0; i <= more; i++) {
		struct rte_mbuf *data = i == 0 ? queue->data_ring[at] : fresh[i - 1];
		uint32_t part = RTE_MIN(rest, room);
		put(data, queue->offset, frame, len - rest, part);
		rest -= part;
		tail->next = data;
		tail = data;
		head->nb_segs++;
	}
	queue->data_ring[at] = fresh[more];
	return head;
}

static uint16_t
burst(void *inner, struct rte_mbuf **mbufs, uint16_t count)
{
	struct port *port = ports;
	struct queue *queue = NULL;
	uint16_t done = 0;
	for (; port < &ports[RTE_MAX_ETHPORTS] && queue == NULL; port++)
		for (int i = 0; i < QUEUES; i++)
			if (port->queues[i].count > 0 && port->queues[i].inner == inner)
				queue = &port->queues[i];
	if (queue == NULL)
		abort();
	port--;
	while (done < count) {
		if (queue->waiting == NULL && port->inner(inner, &queue->waiting, 1) == 0)
			break;
		mbufs[done] = split(queue, queue->waiting);
		if (mbufs[done] == NULL)
			break;
		rte_pktmbuf_free(queue->waiting);
		queue->waiting = NULL;
		done++;
	}
	return done;
}

/* A bus of hardware, and its address space. */
static char hardware;

static int
is_hardware(const struct rte_device *device)
{
	return is_model(rte_dev_name(device)) && strstr(rte_dev_name(device), "soft") == NULL;
}

const struct rte_bus *
rte_dev_bus(const struct rte_device *device)
{
	return is_hardware(device) ? (void *)&hardware : REAL(rte_dev_bus)(device);
}

const char *
rte_bus_name(const struct rte_bus *bus)
{
	return (const void *)bus == &hardware ? "model" : REAL(rte_bus_name)(bus);
}

/* Where the pages at an address can be written, as a distance. */
static intptr_t
way_to(uintptr_t at)
{
	struct line { uintptr_t start, end; char perms[5]; uint64_t offset, inode; } line, own = { 0 };
	char text[512];
	intptr_t way = 0;
	for (int pass = 0; pass < 2; pass++) {
		FILE *file = fopen("/proc/self/maps", "r");
		while (file != NULL && fgets(text, sizeof(text), file) != NULL) {
			if (sscanf(text, "%" SCNxPTR "-%" SCNxPTR " %4s %" SCNx64 " %*s %" SCNu64, &line.start, &line.end,
				   line.perms, &line.offset, &line.inode) != 5)
				continue;
			if (pass == 0 && at >= line.start && at < line.end)
				own = line;
			if (pass == 1 && own.perms[1] != 'w' && line.perms[1] == 'w' && own.inode != 0 &&
			    line.inode == own.inode && line.offset <= own.offset &&
			    own.offset - line.offset < line.end - line.start)
				way = (intptr_t)(line.start + (own.offset - line.offset) - own.start);
		}
		if (file != NULL)
			fclose(file);
	}
	return way;
}

int
rte_dev_dma_map(struct rte_device *device, void *base, uint64_t iova, size_t len)
{
	int failed = -1;
	if (!is_hardware(device))
		return REAL(rte_dev_dma_map)(device, base, iova, len);
	pthread_mutex_lock(&maps_lock);
	for (size_t i = 0; failed != 0 && i < RTE_DIM(maps); i++) {
		if (maps[i].end == 0) {
			maps[i] = (struct map){ iova, iova + len, way_to((uintptr_t)base) };
			failed = 0;
		}
	}
	pthread_mutex_unlock(&maps_lock);
	return failed;
}

int
rte_dev_dma_unmap(struct rte_device *device, void *base, uint64_t iova, size_t len)
{
	if (!is_hardware(device))
		return REAL(rte_dev_dma_unmap)(device, base, iova, len);
	pthread_mutex_lock(&maps_lock);
	for (size_t i = 0; i < RTE_DIM(maps); i++)
		if (maps[i].start == iova && maps[i].end == iova + len)
			maps[i] = (struct map){ 0 };
	pthread_mutex_unlock(&maps_lock);
	return 0;
}
