/*
 * The kernel's packet sockets over a veth pair, one direction at a time, on one core: what `bars` does
 * for memwire's `af_packet` port. The caller has made the pair NEAR-FAR in a network namespace of its own.
 *
 * tx: CPU time of the thread (the kernel's work for us is in it) by frames sent; nobody listens at FAR.
 * rx: a plain socket sends some bursts from NEAR, unmeasured; then what the calls that yield frames take.
 * path: both: the CPU time of the plain socket's sending, which the kernel's way to FAR is part of, and rx.
 */
#ifndef PEER_AF_PACKET_H
#define PEER_AF_PACKET_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bar.h"
#include "clock.h"
#include "steps.h"

#define NEAR "mwb0"
#define FAR "mwb1"
#define BURST 32
#define LONGEST 1514
/* Bursts that wait to be received at a time, and frames of a window. */
#define BACKLOG 8
#define WINDOW 4096
#define WINDOWS_MAX 4096
/* A frame that does not come in this many seconds is lost. */
#define PATIENCE 20.0

/* To FAR, whose address the caller of this program gives it. */
static const unsigned char af_header[14] = { 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5 };

/*
 * One end: `send` sends a burst and returns how many went, `receive` takes and frees one. Without `receive` frames
 * end in the kernel, and `check` says whether they did.
 */
struct af_end {
	void (*open)(int is_rx, unsigned int len);
	unsigned int (*send)(void);
	unsigned int (*receive)(void);
	void (*check)(void);
};

static const struct af_end *af_used;
static unsigned int af_got;
static double af_ticks_per_ns;

/* A packet socket at an interface; protocol 0 receives nothing. */
static int af_socket(const char *interface, int is_rx)
{
	int protocol = is_rx ? htons(ETH_P_ALL) : 0, one = 1, room = 16 << 20;
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = (unsigned short)protocol };
	int fd = socket(AF_PACKET, SOCK_RAW, 0);

	at.sll_ifindex = (int)if_nametoindex(interface);
	if (fd < 0 || at.sll_ifindex == 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) != 0) {
		fprintf(stderr, "no packet socket at %s: %s\n", interface, strerror(errno));
		exit(BAR_EXIT_CANNOT_RUN_HERE);
	}
	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
	return fd;
}

/* Messages of one socket, as many as a burst. */
struct af_messages {
	struct mmsghdr header[BURST];
	struct iovec part[BURST];
	unsigned char bytes[BURST][LONGEST];
};

static void af_messages_of(struct af_messages *messages, unsigned int len)
{
	for (int i = 0; i < BURST; i++) {
		memcpy(messages->bytes[i], af_header, sizeof(af_header));
		messages->part[i] = (struct iovec){ messages->bytes[i], len };
		messages->header[i].msg_hdr = (struct msghdr){ 0 };
		messages->header[i].msg_hdr.msg_iov = &messages->part[i];
		messages->header[i].msg_hdr.msg_iovlen = 1;
	}
}

static unsigned int af_send_messages(int fd, struct af_messages *messages)
{
	int sent = sendmmsg(fd, messages->header, BURST, 0);

	if (sent < 0 && errno != EAGAIN && errno != ENOBUFS)
		bar_fail("sendmmsg failed");
	return sent < 0 ? 0 : (unsigned int)sent;
}

/* Nanoseconds of CPU that this thread has used. */
static double af_cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static double af_tx_window(void)
{
	unsigned int sent = 0;
	double start = af_cpu_ns();

	while (sent < WINDOW)
		sent += af_used->send();
	return (af_cpu_ns() - start) * af_ticks_per_ns / sent;
}

static struct af_messages af_plain;
static int af_plain_socket;

/* Sends a backlog and has `call` receive all of it; what the calls that yielded frames took. */
static double af_backlog(double (*call)(void), double *sending_ns)
{
	unsigned int sent = 0, got = 0;
	double spent = 0, start = seconds_now(), before = sending_ns ? af_cpu_ns() : 0;

	while (sent < BACKLOG * BURST)
		sent += af_send_messages(af_plain_socket, &af_plain);
	if (sending_ns)
		*sending_ns = (af_cpu_ns() - before) / sent;
	while (call && got < sent) {
		double ticks = call();

		if (af_got > 0)
			spent += ticks;
		got += af_got;
		if (seconds_now() - start > PATIENCE)
			bar_fail("frames were lost on the way");
	}
	return got > 0 ? spent / got : 0;
}

static double af_timed_receive(void)
{
	uint64_t start = ticks_now();

	af_got = af_used->receive();
	return (double)(ticks_now() - start);
}

static void af_receive_once(unsigned int unused)
{
	(void)unused;
	af_got = af_used->receive();
}

static void af_send_bursts(unsigned int bursts)
{
	while (bursts-- > 0)
		af_used->send();
}

static void af_nothing(unsigned int unused)
{
	(void)unused;
}

static double af_counted_receive(void)
{
	return (double)(steps_of(af_receive_once, 1) - steps_of(af_nothing, 1));
}

static double af_rx_window(void)
{
	double sum = 0;

	for (int i = 0; i < WINDOW / BACKLOG / BURST; i++)
		sum += af_backlog(af_timed_receive, NULL);
	return sum / (WINDOW / BACKLOG / BURST);
}

static double af_path_window(void)
{
	double sum = 0, sending_ns;

	for (int i = 0; i < WINDOW / BACKLOG / BURST; i++) {
		sum += af_backlog(af_used->receive ? af_timed_receive : NULL, &sending_ns);
		sum += sending_ns * af_ticks_per_ns;
	}
	if (af_used->check)
		af_used->check();
	return sum / (WINDOW / BACKLOG / BURST);
}

static void af_calibrate(void)
{
	double start = seconds_now();
	uint64_t before = ticks_now();

	while (seconds_now() - start < 0.02)
		;
	af_ticks_per_ns = (double)(ticks_now() - before) / ((seconds_now() - start) * 1e9);
}

/* The first CPU that this process may use, and no other. */
static int af_pin(void)
{
	cpu_set_t allowed, one;
	int cpu = 0;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		return 0;
	while (cpu < CPU_SETSIZE - 1 && !CPU_ISSET(cpu, &allowed))
		cpu++;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
	return cpu;
}

/* The bytes of a case's frames, behind its name's last dash; 0 for another case. */
static unsigned int af_len(const char *name, const char *kind)
{
	size_t len = strlen(kind);

	return strncmp(name, kind, len) == 0 ? (unsigned int)atoi(name + len) : 0;
}

/* CASE --windows N: `af-tx-LEN`, `af-rx-LEN` or `af-path-LEN`; prints one row to `row_file`. */
static int af_main(int argc, char **argv, const struct af_end *end, int row_file)
{
	static double ticks[WINDOWS_MAX];
	unsigned int windows = argc == 4 ? (unsigned int)strtoul(argv[3], NULL, 10) : 0;
	const char *name = argc == 4 ? argv[1] : "";
	unsigned int tx = af_len(name, "af-tx-"), rx = af_len(name, "af-rx-");
	unsigned int path = af_len(name, "af-path-"), len = tx + rx + path;
	double (*window)(void) = tx ? af_tx_window : rx ? af_rx_window : af_path_window;
	struct spread spread;

	if (windows < 1 || windows > WINDOWS_MAX || len < 60 || len > LONGEST ||
	    (path ? !end->receive && !end->check : !end->receive)) {
		fprintf(stderr, "usage: %s af-rx-LEN|af-tx-LEN|af-path-LEN --windows N\n", argv[0]);
		return BAR_EXIT_USAGE;
	}
	af_used = end;
	af_calibrate();
	if (!tx) {
		af_plain_socket = af_socket(NEAR, 0);
		af_messages_of(&af_plain, len);
	}
	end->open(!tx, len);
	(void)window();
	for (unsigned int at = 0; at < windows; at++)
		ticks[at] = window();
	spread = spread_of(ticks, windows);
	dprintf(row_file, "%s\t%.3f\t%.3f\t%.3f\t", name, spread.least, spread.median, spread.p90);
	if (path) {
		dprintf(row_file, "-\t-\n");
		return 0;
	}
	steps_install();
	dprintf(row_file, "%.2f\t-\n", tx ? steps_per_round(af_send_bursts, 2, 8) / BURST
					  : af_backlog(af_counted_receive, NULL));
	return 0;
}

#endif
