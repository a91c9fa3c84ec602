/*
 * The VMM's side of the virtio console. The console's endpoint - terminal, pseudo-terminal, file or socket - is the VMM's:
 * it outlives the back-end, which never has it, and is put back as it was however the back-end ends. Between the two are a
 * socket for the bytes, a file with the size of the window and an eventfd that says that it has changed.
 *
 * They are made before the broker is forked, which keeps the back-end's ends: what one back-end has not read is the next
 * one's. All functions are the main thread's.
 */
#ifndef HUSK_VMM_CONSOLE_LINK_H
#define HUSK_VMM_CONSOLE_LINK_H

#include "base/error.h"
#include "base/loop.h"
#include "devices/chardev.h"
#include "sandbox/broker.h"

struct console_link;

/** console_link_new() - NULL with @err filled on failure. */
struct console_link *console_link_new(struct error *err);

/** console_link_lend() - the back-end's ends, for broker_start(). */
void console_link_lend(const struct console_link *link, struct broker_lent *lent);

/** console_link_broker_started() - the broker has them now. */
void console_link_broker_started(struct console_link *link);

/**
 * console_link_attach() - let @chardev and the back-end talk.
 * @tty: it is the terminal husk was started from, whose window the guest is told of.
 *
 * To be called before there are other threads: SIGWINCH is blocked. Returns 0 or -errno.
 */
int console_link_attach(struct console_link *link, struct chardev *chardev, bool tty,
                        struct loop *loop, struct error *err);

/** console_link_free() - pass on what back-ends have written, and close; NULL is allowed. */
void console_link_free(struct console_link *link);

#endif
