/*
 * A console endpoint: what a character device of the guest is tied to on the host. Terminal, pseudo-terminal, file or
 * UNIX socket. Output never waits for a reader: it is queued, and the oldest goes when a bounded queue is full; whoever
 * can wait asks for room first. Input that the guest has no room for waits, and nothing of it is lost.
 *
 * Output may come from any thread; everything else belongs to the loop's.
 */
#ifndef HUSK_DEVICES_CHARDEV_H
#define HUSK_DEVICES_CHARDEV_H

#include "base/error.h"
#include "base/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum chardev_mode {
    CHARDEV_TTY,    /* standard input and output, raw if they are a terminal */
    CHARDEV_PTY,    /* a pseudo-terminal of our own */
    CHARDEV_FILE,   /* output only */
    CHARDEV_SOCKET, /* a UNIX stream socket that one client at a time connects to */
};

struct chardev_params {
    enum chardev_mode mode;
    const char *path;  /* of the file */
    int listen_fd;     /* of the socket, which does not block; owned from now on */
    const char *name;  /* for messages, "--serial"; outlives the endpoint */
    unsigned flush_ms; /* what a reader has at the end to take what is queued; 0: a second */
};

struct chardev;

/** chardev_input - takes some of @len bytes and returns how many; the rest is offered again after chardev_input_ready(). */
typedef size_t (*chardev_input)(void *ctx, const uint8_t *data, size_t len);

/** chardev_open() - NULL with @err filled on failure. */
struct chardev *chardev_open(const struct chardev_params *params, struct loop *loop,
                             struct error *err);

/** chardev_close() - deliver what is queued if somebody reads it (for flush_ms at most), and undo what opening did. */
void chardev_close(struct chardev *chardev);

/** chardev_set_input() - who takes input from now on; NULL for nobody: it waits then. */
void chardev_set_input(struct chardev *chardev, chardev_input input, void *ctx);

/** chardev_input_ready() - there is room for input again; from any thread. */
void chardev_input_ready(struct chardev *chardev);

/** chardev_set_reader() - @reads is called when a reader has taken some of what waited; by the loop's thread. NULL for nobody. */
void chardev_set_reader(struct chardev *chardev, void (*reads)(void *ctx), void *ctx);

/** chardev_room() - bytes of output that push out no older ones; SIZE_MAX where nobody is there to be waited for. */
size_t chardev_room(struct chardev *chardev);

/** chardev_taken() - bytes that have got out since the beginning. */
uint64_t chardev_taken(struct chardev *chardev);

/** chardev_flush() - give a reader that is there flush_ms to take what is queued. Returns whether it has. */
bool chardev_flush(struct chardev *chardev);

/** chardev_write() - output; from any thread; never blocks but for a file. */
void chardev_write(struct chardev *chardev, const void *data, size_t len);

/** chardev_pty_path() - of the pseudo-terminal to open, NULL in other modes. */
const char *chardev_pty_path(const struct chardev *chardev);

#endif
