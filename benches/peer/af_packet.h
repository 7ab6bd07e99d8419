/*
 * The kernel's packet sockets over a veth pair, one direction at a time, on one core: what `bars` does
 * for memwire's `af_packet` port. The caller has made the pair NEAR-FAR in a network namespace of its own.
 *
 * tx: CPU time of the thread (the kernel's work for us is in it) by frames sent; nobody listens at FAR.
 * rx: a plain socket sends some bursts from NEAR, unmeasured; then what the calls that yield frames take.
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

/* One end: `send` sends a burst and returns how many went, `receive` takes and frees one. */
struct af_end {
	void (*open)(int is_rx, unsigned int len);
	unsigned int (*send)(void);
	unsigned int (*receive)(void);
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
static double af_backlog(double (*call)(void))
{
	unsigned int sent = 0, got = 0;
	double spent = 0, start = seconds_now();

	while (sent < BACKLOG * BURST)
		sent += af_send_messages(af_plain_socket, &af_plain);
	while (got < sent) {
		double ticks = call();

		if (af_got > 0)
			spent += ticks;
		got += af_got;
		if (seconds_now() - start > PATIENCE)
			bar_fail("frames were lost on the way");
	}
	return spent / got;
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
		sum += af_backlog(af_timed_receive);
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

/* CASE --windows N: `af-tx-LEN` or `af-rx-LEN`; prints one row to `row_file`. */
static int af_main(int argc, char **argv, const struct af_end *end, int row_file)
{
	static double ticks[WINDOWS_MAX];
	unsigned int windows = argc == 4 ? (unsigned int)strtoul(argv[3], NULL, 10) : 0;
	unsigned int len = argc == 4 && strlen(argv[1]) > 6 ? (unsigned int)atoi(argv[1] + 6) : 0;
	int is_rx = len > 0 && strncmp(argv[1], "af-rx-", 6) == 0;
	struct spread spread;
	double instructions;

	if (windows < 1 || windows > WINDOWS_MAX || len < 60 || len > LONGEST) {
		fprintf(stderr, "usage: %s af-rx-LEN|af-tx-LEN --windows N\n", argv[0]);
		return BAR_EXIT_USAGE;
	}
	af_used = end;
	af_calibrate();
	if (is_rx) {
		af_plain_socket = af_socket(NEAR, 0);
		af_messages_of(&af_plain, len);
	}
	end->open(is_rx, len);
	(void)(is_rx ? af_rx_window() : af_tx_window());
	for (unsigned int window = 0; window < windows; window++)
		ticks[window] = is_rx ? af_rx_window() : af_tx_window();
	spread = spread_of(ticks, windows);
	steps_install();
	instructions = is_rx ? af_backlog(af_counted_receive)
			     : steps_per_round(af_send_bursts, 2, 8) / BURST;
	dprintf(row_file, "%s\t%.3f\t%.3f\t%.3f\t%.2f\t-\n", argv[1], spread.least, spread.median,
		spread.p90, instructions);
	return 0;
}

#endif
