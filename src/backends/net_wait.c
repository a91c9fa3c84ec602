#include "backends/net_wait.h"

#include "base/bytes.h"
#include "base/fd.h"

#include <poll.h>
#include <time.h>

#define NS 1000000000u
/* How often rings are looked at whose driver gives no kicks. */
#define BLIND_NS 1000000u

bool net_wait(struct vu_queue *queue, const struct net_wait *what)
{
    int kick_fd = vu_queue_kick_fd(queue);
    struct pollfd fds[] = {
        {.fd = vu_queue_stop_fd(queue), .events = POLLIN},
        {.fd = what->kick ? kick_fd : -1, .events = POLLIN},
        {.fd = what->tap_fd, .events = what->tap_events},
    };
    uint64_t ns = what->ns;
    if (what->kick && kick_fd < 0)
        ns = BLIND_NS;
    struct timespec timeout = {.tv_sec = (time_t)(ns / NS), .tv_nsec = (long)(ns % NS)};
    if (ppoll(fds, ARRAY_SIZE(fds), ns ? &timeout : NULL, NULL) <= 0)
        return true;
    if (fds[1].revents)
        fd_unsignal(kick_fd);
    return !fds[0].revents;
}

bool net_stopping(const struct vu_queue *queue)
{
    struct pollfd stop = {.fd = vu_queue_stop_fd(queue), .events = POLLIN};
    return poll(&stop, 1, 0) > 0;
}

uint64_t net_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS + (uint64_t)now.tv_nsec;
}
