/*
 * A source that is removed while events are being handed out is only marked: it is freed when the batch is done, so
 * that an event already fetched for it is dropped, not delivered to freed memory.
 */
#include "base/loop.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define BATCH 32

struct loop_source {
    struct loop *loop;
    struct loop_source *next;
    loop_callback callback;
    void *ctx;
    int fd;
    bool removed;
};

struct loop {
    int epoll_fd;
    int stop_fd;
    _Atomic int result;
    bool dispatching;
    struct loop_source *sources;
};

#define NOT_STOPPED INT_MIN

struct loop *loop_new(void)
{
    struct loop *loop = calloc(1, sizeof(*loop));
    if (!loop)
        return NULL;
    loop->result = NOT_STOPPED;
    loop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (loop->epoll_fd < 0 || loop->stop_fd < 0 ||
        epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, loop->stop_fd, &event) < 0) {
        loop_free(loop);
        return NULL;
    }
    return loop;
}

void loop_free(struct loop *loop)
{
    if (!loop)
        return;
    while (loop->sources) {
        struct loop_source *source = loop->sources;
        loop->sources = source->next;
        free(source);
    }
    cleanup_close(&loop->epoll_fd);
    cleanup_close(&loop->stop_fd);
    free(loop);
}

struct loop_source *loop_add(struct loop *loop, int fd, uint32_t events, loop_callback callback,
                             void *ctx)
{
    struct loop_source *source = calloc(1, sizeof(*source));
    if (!source)
        return NULL;
    *source = (struct loop_source){.loop = loop, .callback = callback, .ctx = ctx, .fd = fd};
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(loop->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        free(source);
        return NULL;
    }
    source->next = loop->sources;
    loop->sources = source;
    return source;
}

int loop_modify(struct loop_source *source, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = source};
    if (epoll_ctl(source->loop->epoll_fd, EPOLL_CTL_MOD, source->fd, &event) < 0)
        return -errno;
    return 0;
}

/** free_removed() - unlink and free the sources marked as removed. */
static void free_removed(struct loop *loop)
{
    struct loop_source **link = &loop->sources;
    while (*link) {
        struct loop_source *source = *link;
        if (source->removed) {
            *link = source->next;
            free(source);
        } else {
            link = &source->next;
        }
    }
}

void loop_remove(struct loop_source *source)
{
    if (!source)
        return;
    struct loop *loop = source->loop;
    epoll_ctl(loop->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
    source->removed = true;
    if (!loop->dispatching)
        free_removed(loop);
}

/**
 * drain_stop() - whoever stops sets the result before it writes here: seen in between, the run ends first and the write
 * is left to the next run, which must not find it again and again.
 */
static void drain_stop(struct loop *loop)
{
    uint64_t drained;
    if (read(loop->stop_fd, &drained, sizeof(drained)) < 0)
        (void)0; /* Nothing to drain yet. */
}

int loop_turn(struct loop *loop, int timeout_ms)
{
    struct epoll_event events[BATCH];
    int n = epoll_wait(loop->epoll_fd, events, BATCH, timeout_ms);
    if (n < 0)
        return errno == EINTR ? 0 : -errno;
    loop->dispatching = true;
    for (int i = 0; i < n; i++) {
        struct loop_source *source = events[i].data.ptr;
        if (source && !source->removed)
            source->callback(source->ctx, events[i].events);
        else if (!source)
            drain_stop(loop);
    }
    loop->dispatching = false;
    free_removed(loop);
    return 0;
}

int loop_run(struct loop *loop)
{
    while (loop->result == NOT_STOPPED) {
        int ret = loop_turn(loop, -1);
        if (ret < 0)
            return ret;
    }
    int result = atomic_exchange(&loop->result, NOT_STOPPED);
    drain_stop(loop);
    return result;
}

void loop_stop(struct loop *loop, int result)
{
    int expected = NOT_STOPPED;
    if (atomic_compare_exchange_strong(&loop->result, &expected, result)) {
        uint64_t one = 1;
        if (write(loop->stop_fd, &one, sizeof(one)) < 0)
            (void)0; /* The counter cannot overflow: it is written once a run. */
    }
}
