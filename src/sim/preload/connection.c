/*
 * The way to the simulator process. Each process of the program has a connection of its own: one that was forked notices
 * by a page that the kernel wipes on fork, and makes a new one by the door.
 */
#include "sim/preload/preload.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Zero in a process that was just forked. */
struct fresh {
    atomic_int connected; /* 1: connected, -1: cannot be */
    atomic_int starting;
};

static struct fresh *fresh;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int connection = -1;
static int door = -1;
static uint64_t door_inode;
static uint8_t *window;
static uint64_t flags;

static bool door_is_there(void)
{
    struct stat st;
    return door >= 0 && fstat(door, &st) == 0 && S_ISSOCK(st.st_mode) && st.st_ino == door_inode;
}

/** find_door() - by the environment; forgotten if its number is something else by now. */
static void find_door(void)
{
    const char *value = getenv(SIM_ENV_DOOR);
    char *end;
    if (!value)
        return;
    door = (int)strtol(value, &end, 10);
    door_inode = *end == ':' ? strtoull(end + 1, NULL, 10) : 0;
    if (!door_is_there())
        door = -1;
}

/** knock() - hand one end of a new socket pair in at the door. Returns the other end, or -1. */
static int knock(void)
{
    int pair[2];
    if (raw_syscall(SYS_socketpair, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, (long)pair, 0, 0) <
        0)
        return -1;
    char byte = 'h';
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(cmsg), &pair[1], sizeof(int));
    long sent;
    do {
        sent = raw_syscall(SYS_sendmsg, door, (long)&message, MSG_NOSIGNAL, 0, 0, 0);
    } while (sent < 0 && errno == EINTR);
    raw_close(pair[1]);
    if (sent < 0) {
        raw_close(pair[0]);
        return -1;
    }
    return raw_dup_high(pair[0]);
}

static int receive(int fd, struct iovec *iov, size_t iov_len, int fds[2])
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = iov,
                             .msg_iovlen = iov_len,
                             .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
    long n;
    do {
        n = raw_syscall(SYS_recvmsg, fd, (long)&message, MSG_CMSG_CLOEXEC, 0, 0, 0);
    } while (n < 0 && errno == EINTR);
    fds[0] = fds[1] = -1;
    struct cmsghdr *cmsg = n < 0 ? NULL : CMSG_FIRSTHDR(&message);
    if (cmsg && cmsg->cmsg_type == SCM_RIGHTS)
        memcpy(fds, CMSG_DATA(cmsg), cmsg->cmsg_len - CMSG_LEN(0));
    return n < 0 ? -errno : (int)n;
}

/** start() - make the connection and take the window. Returns whether that worked. */
static bool start(void)
{
    if (connection >= 0)
        raw_close(connection); /* the parent's */
    connection = -1;
    if (window) {
        munmap(window, SIM_WINDOW_SIZE);
        window = NULL;
    }
    if (!door_is_there())
        return false;
    int fd = knock();
    if (fd < 0)
        return false;
    struct sim_reply hello = {0};
    int fds[2];
    struct iovec iov = {.iov_base = &hello, .iov_len = sizeof(hello)};
    if (receive(fd, &iov, 1, fds) == (int)sizeof(hello) && fds[0] >= 0) {
        void *memory = mmap(NULL, SIM_WINDOW_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
        if (memory != MAP_FAILED) {
            window = memory;
            madvise(window, SIM_WINDOW_SIZE, MADV_DONTFORK);
        }
    }
    if (fds[0] >= 0)
        raw_close(fds[0]);
    if (!window) {
        raw_close(fd);
        return false;
    }
    flags = hello.value[0];
    connection = fd;
    return true;
}

bool connection_ready(void)
{
    if (!fresh)
        return false;
    int state = atomic_load(&fresh->connected);
    if (state)
        return state > 0;
    if (atomic_exchange(&fresh->starting, 1) == 0) {
        /* The mutex may have been held by a thread of the parent. */
        pthread_mutex_init(&lock, NULL);
        window = NULL; /* it was not inherited: MADV_DONTFORK */
        bool good = start();
        atomic_store(&fresh->connected, good ? 1 : -1);
        return good;
    }
    while ((state = atomic_load(&fresh->connected)) == 0)
        raw_syscall(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
    return state > 0;
}

__attribute__((constructor)) static void initialise(void)
{
    find_door();
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || madvise(page, 4096, MADV_WIPEONFORK) < 0) {
        fprintf(stderr, "husk sim: this process is not simulated: %m\n");
        return;
    }
    fresh = page;
    if (door >= 0)
        connection_ready();
}

uint64_t connection_flags(void)
{
    return connection_ready() ? flags : 0;
}

uint8_t *connection_window(void)
{
    return window;
}

void connection_lock(void)
{
    connection_ready();
    pthread_mutex_lock(&lock);
}

void connection_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

bool connection_internal(int fd)
{
    return fd >= 0 && fresh && (fd == connection || fd == door || entry_with_real(fd));
}

void connection_make_room(int fd)
{
    if (!connection_internal(fd))
        return;
    int moved =
        (int)raw_syscall(SYS_fcntl, fd, fd == door ? F_DUPFD : F_DUPFD_CLOEXEC, fd + 1, 0, 0, 0);
    if (moved < 0)
        return;
    struct entry *entry = entry_with_real(fd);
    if (entry)
        entry->real = moved;
    else if (fd == connection)
        connection = moved;
    else {
        char value[64];
        door = moved;
        snprintf(value, sizeof(value), "%d:%llu", door, (unsigned long long)door_inode);
        setenv(SIM_ENV_DOOR, value, 1);
    }
}

int exchange_send(struct exchange *x, const struct iovec *more, size_t more_len)
{
    struct iovec iov[2 + SIM_WINDOW_HALF_PAGES + 1];
    size_t n = 0;
    iov[n++] = (struct iovec){.iov_base = &x->head, .iov_len = sizeof(x->head)};
    if (x->payload_len)
        iov[n++] =
            (struct iovec){.iov_base = (void *)(uintptr_t)x->payload, .iov_len = x->payload_len};
    for (size_t i = 0; i < more_len; i++)
        iov[n++] = more[i];
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = n};
    long sent;
    do {
        sent = raw_syscall(SYS_sendmsg, connection, (long)&message, MSG_NOSIGNAL, 0, 0, 0);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

int exchange_receive(struct exchange *x)
{
    struct iovec iov[2] = {{.iov_base = &x->reply, .iov_len = sizeof(x->reply)},
                           {.iov_base = x->out, .iov_len = x->out_cap}};
    int n = receive(connection, iov, x->out_cap ? 2 : 1, x->fds);
    if (n < (int)sizeof(x->reply))
        return n < 0 ? n : -EIO;
    x->out_len = (size_t)n - sizeof(x->reply);
    return x->reply.result;
}

/** reap() - learn which objects are gone. */
static void reap(void)
{
    uint32_t ids[64];
    struct exchange x = {.head = {.op = SIM_OP_REAP}, .out = ids, .out_cap = sizeof(ids)};
    if (exchange_send(&x, NULL, 0))
        return;
    exchange_receive(&x);
    for (size_t i = 0; i < x.out_len / sizeof(*ids); i++)
        entry_gone(ids[i]);
}

int exchange_run(struct exchange *x)
{
    x->fds[0] = x->fds[1] = -1;
    x->reply = (struct sim_reply){0};
    if (!connection_ready())
        return -EIO;
    if (x->payload_len > SIM_PAYLOAD_MAX)
        return -E2BIG;
    int saved = errno;
    pthread_mutex_lock(&lock);
    int r = exchange_send(x, NULL, 0);
    if (!r)
        r = exchange_receive(x);
    if (x->reply.flags & SIM_REPLY_REAP)
        reap();
    pthread_mutex_unlock(&lock);
    errno = saved;
    return r;
}
