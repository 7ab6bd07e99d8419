/*
 * Exact user instructions of a piece of code, where there is no performance counter: the trap flag
 * makes the processor raise SIGTRAP after each instruction, and the handler counts. A system call
 * counts one; a `rep` instruction counts one for each iteration.
 *
 * The count of n rounds holds a fixed part (setting and clearing the flag, the call); taking the
 * difference of two counts of different length removes it without an estimate. A step costs tens
 * of microseconds in a virtual machine, so the rounds are few.
 */
#ifndef PEER_STEPS_H
#define PEER_STEPS_H

#include <signal.h>
#include <stdint.h>
#include <string.h>

static volatile uint64_t steps_seen;

static void steps_on_trap(int signal)
{
	(void)signal;
	steps_seen++;
}

static inline void steps_install(void)
{
	struct sigaction action;

	memset(&action, 0, sizeof(action));
	action.sa_handler = steps_on_trap;
	sigaction(SIGTRAP, &action, NULL);
}

/* lea moves the stack pointer past the red zone without touching the flags. */
#define STEPS_SET_FLAGS(instruction, mask)                                                         \
	__asm__ volatile("lea -128(%%rsp), %%rsp\n\t"                                              \
			 "pushfq\n\t" instruction " " mask ", (%%rsp)\n\t"                         \
			 "popfq\n\t"                                                               \
			 "lea 128(%%rsp), %%rsp" ::                                                \
				 : "memory", "cc")

static inline uint64_t steps_of(void (*code)(unsigned int), unsigned int rounds)
{
	steps_seen = 0;
	STEPS_SET_FLAGS("orq", "$0x100");
	code(rounds);
	STEPS_SET_FLAGS("andq", "$~0x100");
	return steps_seen;
}

/* Instructions of one round: the steps of base + more rounds less the steps of base. */
static inline double steps_per_round(void (*code)(unsigned int), unsigned int base,
				     unsigned int more)
{
	uint64_t few, many;

	code(base + more);
	few = steps_of(code, base);
	many = steps_of(code, base + more);
	return (double)(many - few) / more;
}

#endif
