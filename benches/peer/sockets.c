/*
 * Plain packet sockets, as a program without a framework uses them: sendmmsg and recvmmsg of 32.
 *
 *     sockets af-rx-LEN|af-tx-LEN|af-path-LEN --windows N
 *
 * Prints what `dpdk-bars` prints.
 */
#include "af_packet.h"

static struct af_messages messages;
static int descriptor;

static void open_socket(int is_rx, unsigned int len)
{
	descriptor = af_socket(is_rx ? FAR : NEAR, is_rx);
	af_messages_of(&messages, is_rx ? LONGEST : len);
}

static unsigned int send_burst(void)
{
	return af_send_messages(descriptor, &messages);
}

static unsigned int receive_burst(void)
{
	int got = recvmmsg(descriptor, messages.header, BURST, MSG_DONTWAIT, NULL);

	if (got < 0 && errno != EAGAIN)
		bar_fail("recvmmsg failed");
	return got < 0 ? 0 : (unsigned int)got;
}

int main(int argc, char **argv)
{
	static const struct af_end end = { open_socket, send_burst, receive_burst, NULL };

	af_pin();
	return af_main(argc, argv, &end, STDOUT_FILENO);
}
