/* The terminal that husk was started from: raw while a console has it, and as it was whenever husk does not run. */
#ifndef HUSK_DEVICES_TERMINAL_H
#define HUSK_DEVICES_TERMINAL_H

#include <stdbool.h>

/** terminal_take() - make standard input raw. Returns false if it is no terminal, or has been taken already. */
bool terminal_take(void);

/** terminal_restore() - as it was before terminal_take(), if that was called. */
void terminal_restore(void);

/**
 * terminal_signals() - a signalfd for those that stop this process and let it go on, which are blocked from now on.
 *
 * To be called before there are other threads. Returns the descriptor or -errno.
 */
int terminal_signals(void);

/**
 * terminal_on_signal() - @fd is readable. To stop gives the terminal back first, as Ctrl-Z does for others; whoever lets it go on
 * in the foreground has it raw again, whatever a shell has made of it meanwhile.
 */
void terminal_on_signal(int fd);

#endif
