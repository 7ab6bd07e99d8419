/*
 * The way of a frame where XDP ends it: `xdp-bench drop` (xdp-tools) at the far end, plain sockets send. There is no
 * receiver in user space, so this is a floor for whoever has one. Release 1.3.1 of xdp-bench wants tracepoints that
 * newer kernels do not have; where it does not start, xdp-filter of the same package drops all.
 *
 *     xdp af-path-LEN --windows N
 *
 * Prints what `dpdk-bars` prints.
 */
#include "af_packet.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

/* Looked at so often, and so many times. */
#define LOOK_US 50000
#define LOOKS 100

static pid_t child;
static int passed;

static void end_child(void)
{
	kill(child, SIGINT);
	waitpid(child, NULL, 0);
}

/* Whether the interface has a program; the caller's namespace is the right one. */
static int has_program(void)
{
	char text[1024];
	FILE *link = popen("ip -o link show dev " FAR, "r");
	size_t len = link ? fread(text, 1, sizeof(text) - 1, link) : 0;

	if (link)
		pclose(link);
	text[len] = 0;
	return strstr(text, " xdp") != NULL;
}

/* xdp-filter, which ends at once and leaves its program with the interface: that is gone with its namespace. */
static void load_filter(int output)
{
	char text[8192];
	ssize_t len = read(output, text, sizeof(text) - 1);
	char *last;

	while (len > 0 && text[len - 1] == '\n')
		len--;
	text[len > 0 ? len : 0] = 0;
	last = strrchr(text, '\n');
	fprintf(stderr, "xdp-bench does not start: %s\n", last ? last + 1 : text);
	if (system("xdp-filter load --policy deny " FAR " >/dev/null 2>&1") == 0 && has_program())
		return;
	fprintf(stderr, "neither xdp-bench nor xdp-filter starts: apt-get install xdp-tools\n");
	exit(BAR_EXIT_CANNOT_RUN_HERE);
}

/* xdp-bench, until its program is in place; whether that came. */
static int load_bench(int output)
{
	for (int look = 0; look < LOOKS; look++) {
		if (has_program()) {
			/* It prints little: the pipe takes it. */
			atexit(end_child);
			return 1;
		}
		if (waitpid(child, NULL, WNOHANG) == child)
			return 0;
		usleep(LOOK_US);
	}
	end_child();
	dprintf(output, "no program in 5 s\n");
	return 0;
}

static void open_port(int is_rx, unsigned int len)
{
	int output[2];

	(void)is_rx, (void)len;
	if (pipe(output) != 0)
		bar_fail("no pipe");
	child = fork();
	if (child == 0) {
		dup2(output[1], STDOUT_FILENO);
		dup2(output[1], STDERR_FILENO);
		execlp("xdp-bench", "xdp-bench", "drop", FAR, "-i", "10", NULL);
		fprintf(stderr, "%s\n", strerror(errno));
		_exit(BAR_EXIT_CANNOT_RUN_HERE);
	}
	if (child < 0)
		bar_fail("no process");
	if (!load_bench(output[1])) {
		dprintf(output[1], "\n");
		load_filter(output[0]);
	}
	passed = af_socket(FAR, 1);
}

/* What the program let pass would come to a socket: nothing may. */
static void check(void)
{
	char byte;

	if (recv(passed, &byte, 1, MSG_DONTWAIT) >= 0)
		bar_fail("the XDP program let a frame pass");
}

int main(int argc, char **argv)
{
	static const struct af_end end = { open_port, NULL, NULL, check };

	af_pin();
	return af_main(argc, argv, &end, STDOUT_FILENO);
}
