/* One bar: how to prepare it, what runs on either core, and what a round is worth. */
#ifndef PEER_BAR_H
#define PEER_BAR_H

#include <stdio.h>
#include <stdlib.h>

/* Exit statuses that the caller tells apart. */
#define BAR_EXIT_FAILED 1
#define BAR_EXIT_USAGE 2
#define BAR_EXIT_CANNOT_RUN_HERE 3

struct bar {
	const char *name;
	unsigned int objects_per_round;
	unsigned int rounds_per_window;
	int (*make)(void);
	void (*rounds)(unsigned int rounds);
	int (*other_core)(void *unused); /* NULL: one core */
};

__attribute__((cold, noreturn)) static void bar_fail(const char *what)
{
	fprintf(stderr, "bar: %s\n", what);
	exit(BAR_EXIT_FAILED);
}

#endif
