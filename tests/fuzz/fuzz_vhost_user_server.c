/*
 * What a front-end may send: whole connections of messages, right and wrong, with descriptors of every sort, to a server
 * whose rings really run. Afterwards no descriptor may be left open.
 *
 * The input is a row of messages: request, flags, descriptors (low half: how many; high half: the sort of the first, the
 * next ones following it), length of the payload, payload. With FLAG_CUT_OFF the header claims a byte more than comes.
 */
#include "backends/server.h"
#include "backends/vring.h"
#include "base/bytes.h"
#include "base/log.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FLAG_CUT_OFF 0x80u
#define INPUT_MAX 8192u /* fits into the socket's buffer, replies too */
#define RAM_BYTES 0x10000u
#define NUM 8u
#define DESCRIPTORS_MAX 10u

static void check(bool holds)
{
    if (!holds)
        abort();
}

/* --- A device that answers what it takes. --- */

static void run(void *device, struct vu_queue *queue)
{
    struct iovec iov[64];
    struct vu_chain chain = {.iov = iov, .iov_max = ARRAY_SIZE(iov)};
    (void)device;
    for (;;) {
        int ret;
        while ((ret = vu_queue_pop(queue, &chain)) > 0) {
            for (unsigned i = chain.n_out; i < chain.n_out + chain.n_in; i++)
                memset(iov[i].iov_base, 0, MIN(iov[i].iov_len, 16));
            vu_queue_push(queue, &chain, (uint32_t)chain.in_len);
        }
        vu_queue_notify(queue);
        if (ret < 0)
            return;
        if (vu_queue_want_kicks(queue, true))
            continue;
        struct pollfd of[] = {{vu_queue_kick_fd(queue), POLLIN, 0},
                              {vu_queue_stop_fd(queue), POLLIN, 0}};
        uint64_t count;
        poll(of, 2, -1);
        /* A descriptor that is always readable may be anything: once is enough. */
        if (of[1].revents || read(of[0].fd, &count, sizeof(count)) != sizeof(count))
            return;
    }
}

static int config_read(void *device, uint32_t offset, void *data, uint32_t len)
{
    (void)device;
    check(range_within(offset, len, 60));
    memset(data, 0xc0, len);
    return 0;
}

static int config_write(void *device, uint32_t offset, const void *data, uint32_t len)
{
    (void)device;
    uint8_t copy[60];
    check(range_within(offset, len, sizeof(copy)));
    memcpy(copy, data, len);
    return 0;
}

static const struct vu_backend_ops ops = {
    .run = run, .config_read = config_read, .config_write = config_write};

/* --- The descriptors a message may bring. --- */

struct sorts {
    int memory, log, event, pipe[2], socket[2], null, inflight;
    uint8_t *ram;
};

/** fill() - guest memory with two requests in its ring: a chain, and an indirect table. */
static void fill(uint8_t *ram)
{
    struct vring_desc *desc = (void *)ram;
    struct vring_avail *avail = (void *)(ram + 0x1000);
    memset(ram, 0, RAM_BYTES);
    desc[0] = (struct vring_desc){0x4000, 16, VRING_DESC_F_NEXT, 1};
    desc[1] = (struct vring_desc){0x4100, 512, VRING_DESC_F_WRITE, 0};
    desc[2] = (struct vring_desc){0x5000, 32, VRING_DESC_F_INDIRECT, 0};
    desc[3] = (struct vring_desc){0x4000, 16, VRING_DESC_F_NEXT, 3}; /* loops */
    memcpy(ram + 0x5000, desc, 32);
    avail->idx = 2;
    avail->ring[1] = 2;
    avail->ring[2] = 3;
}

static const struct sorts *sorts(void)
{
    static struct sorts s;
    if (s.ram)
        return &s;
    log_set_level((enum log_level) - 1);
    s.memory = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    s.log = memfd_create("log", MFD_CLOEXEC);
    s.inflight = memfd_create("inflight", MFD_CLOEXEC);
    s.event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s.null = open("/dev/null", O_RDWR | O_CLOEXEC);
    check(ftruncate(s.memory, RAM_BYTES) == 0 && ftruncate(s.log, 4096) == 0 &&
          ftruncate(s.inflight, 4096) == 0);
    check(pipe2(s.pipe, O_CLOEXEC | O_NONBLOCK) == 0 &&
          socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s.socket) == 0);
    s.ram = mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, s.memory, 0);
    check(s.ram != MAP_FAILED);
    return &s;
}

static int descriptor(const struct sorts *s, unsigned sort)
{
    const int all[] = {s->memory,  s->event,   s->log,       s->inflight,
                       s->pipe[0], s->pipe[1], s->socket[0], s->null};
    return all[sort % ARRAY_SIZE(all)];
}

/** send_message() - with descriptors, as vhost_user_send() would not: in whatever number and length. */
static void send_message(int fd, const struct sorts *s, const uint8_t *head, const uint8_t *payload,
                         size_t len)
{
    uint8_t bytes[VHOST_USER_HEADER_BYTES + UINT8_MAX];
    union {
        struct cmsghdr align;
        uint8_t bytes[CMSG_SPACE(sizeof(int) * DESCRIPTORS_MAX)];
    } control = {0};
    store_le32(bytes, head[0]);
    store_le32(bytes + 4, VHOST_USER_FLAG_VERSION ^ (head[1] & ~FLAG_CUT_OFF));
    store_le32(bytes + 8, (uint32_t)len + (head[1] & FLAG_CUT_OFF ? 1 : 0));
    memcpy(bytes + VHOST_USER_HEADER_BYTES, payload, len);
    unsigned n = (head[2] & 15u) % (DESCRIPTORS_MAX + 1);
    struct iovec iov = {bytes, VHOST_USER_HEADER_BYTES + len};
    struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
    if (n) {
        header.msg_control = control.bytes;
        header.msg_controllen = CMSG_SPACE(sizeof(int) * n);
        struct cmsghdr *of = CMSG_FIRSTHDR(&header);
        of->cmsg_level = SOL_SOCKET;
        of->cmsg_type = SCM_RIGHTS;
        of->cmsg_len = CMSG_LEN(sizeof(int) * n);
        for (unsigned i = 0; i < n; i++) {
            int one = descriptor(s, (head[2] >> 4) + i * (head[2] >> 7));
            memcpy(CMSG_DATA(of) + i * sizeof(int), &one, sizeof(one));
        }
    }
    (void)!sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/** drain() - what the server wrote into the descriptors it was given. */
static void drain(const struct sorts *s)
{
    uint8_t bytes[4096];
    const int readable[] = {s->pipe[0], s->socket[1], s->event};
    for (size_t i = 0; i < ARRAY_SIZE(readable); i++)
        while (read(readable[i], bytes, sizeof(bytes)) > 0)
            ;
}

/** next_descriptor() - the number the next one gets; the same as before if none was left open. */
static int next_descriptor(void)
{
    int fd = eventfd(0, EFD_CLOEXEC);
    check(fd >= 0);
    close(fd);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct sorts *s = sorts();
    struct vu_backend backend = {.name = "fuzz",
                                 .ops = &ops,
                                 .features = 1,
                                 .n_queues = 2,
                                 .queue_size = NUM,
                                 .config_len = 60};
    struct error err = ERROR_INIT;
    int pair[2];
    int before = next_descriptor();
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    fill(s->ram);
    size = MIN(size, INPUT_MAX);
    while (size >= 4) {
        size_t len = MIN(data[3], size - 4);
        send_message(pair[0], s, data, data + 4, len);
        data += 4 + len;
        size -= 4 + len;
    }
    shutdown(pair[0], SHUT_WR);
    vu_serve(&backend, pair[1], -1, &err);
    close(pair[0]);
    drain(s);
    check(next_descriptor() == before);
    return 0;
}
