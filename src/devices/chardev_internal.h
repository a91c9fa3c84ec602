/* What the two halves of the console endpoints share: chardev.c moves bytes, chardev_modes.c opens and closes. */
#ifndef HUSK_DEVICES_CHARDEV_INTERNAL_H
#define HUSK_DEVICES_CHARDEV_INTERNAL_H

#include "devices/chardev.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define CHARDEV_PENDING 256

struct chardev {
    enum chardev_mode mode;
    const char *name;
    long flush_ms;
    char *path; /* of the socket or pseudo-terminal */
    struct loop *loop;

    /* Loop thread only. */
    int in_fd;    /* -1: no input, now or ever */
    bool in_file; /* always readable, so epoll does not take it: a file, /dev/null */
    int listen_fd;
    int slave_fd; /* kept open so that the pseudo-terminal outlives its users */
    struct loop_source *in_source, *out_source, *wake_source, *listen_source;
    chardev_input input;
    void *input_ctx;
    void (*reads)(void *ctx); /* of the output; NULL for nobody who wants to know */
    void *reads_ctx;
    uint8_t pending[CHARDEV_PENDING]; /* read, not taken yet */
    size_t pending_start, pending_len;
    bool half_closed; /* the socket's client sends no more */
    bool raw;         /* this endpoint made the terminal raw */
    int job_fd;       /* of terminal_signals() */
    struct loop_source *job_source;

    int wake_fd; /* other threads to the loop: look at input and output again */

    /* Under the lock. */
    pthread_mutex_t lock;
    int out_fd; /* -1: nobody is there */
    bool out_socket;
    bool out_file;  /* always writable, so epoll does not take it */
    uint8_t *queue; /* a ring of @queue_size bytes, allocated at first use */
    size_t queue_size, queue_start, queue_len;
    uint64_t dropped, taken;
    bool failed; /* a write error was logged; output is dropped since */
    bool gone;   /* the socket's client was found gone by a write */
};

/** chardev_refresh() - watch what has to be watched now; loop thread, without the lock. */
void chardev_refresh(struct chardev *chardev);

/** chardev_drain() - write what is queued as far as it goes without waiting; the lock is held. */
void chardev_drain(struct chardev *chardev);

/** chardev_on_wake() - another thread asked for a refresh; the loop's callback of wake_fd. */
void chardev_on_wake(void *ctx, uint32_t events);

/** chardev_disconnected() - the client of a socket is gone; loop thread, without the lock. */
void chardev_disconnected(struct chardev *chardev);

#endif
