/*
 * The event loop: epoll, one thread. Callbacks run in the thread that called loop_run(); the other functions may be
 * called from that thread only, but for loop_stop().
 */
#ifndef HUSK_BASE_LOOP_H
#define HUSK_BASE_LOOP_H

#include <stdint.h>

struct loop;
struct loop_source;

/** loop_callback - @events are EPOLL* bits. The callback may remove its own or any other source. */
typedef void (*loop_callback)(void *ctx, uint32_t events);

/** loop_new() - NULL with errno set on failure. */
struct loop *loop_new(void);

/** loop_free() - releases the loop and every source still in it; descriptors stay open. */
void loop_free(struct loop *loop);

/** loop_add() - watch @fd for @events (EPOLLIN, EPOLLOUT, ...). NULL with errno set on failure. */
struct loop_source *loop_add(struct loop *loop, int fd, uint32_t events, loop_callback callback,
                             void *ctx);

/** loop_modify() - watch for other events. Returns 0 or -errno. */
int loop_modify(struct loop_source *source, uint32_t events);

/** loop_remove() - stop watching; NULL is allowed. The descriptor stays open. */
void loop_remove(struct loop_source *source);

/** loop_turn() - wait until something happens, @timeout_ms at most (-1: for ever), and call back for it. Returns 0 or -errno. */
int loop_turn(struct loop *loop, int timeout_ms);

/** loop_run() - until loop_stop(). Returns the value given to it, or -errno. */
int loop_run(struct loop *loop);

/** loop_stop() - make loop_run() return @result; from any thread. The first call decides the result. */
void loop_stop(struct loop *loop, int result);

#endif
