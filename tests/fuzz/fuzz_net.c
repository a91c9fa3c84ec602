/*
 * The network device's queues behind a hostile driver, with a pair of connected sockets in place of the tap, so that what
 * leaves the device can be read and what enters it chosen. The first byte of the input says which queue and which
 * features, the second which offloads of a driver that receives; then follow requests as lists of buffers: a byte of how
 * many there are to read and to write, and for each two bytes of length. Bytes of buffers to read come from the input.
 * Receiving, frames of chosen lengths and headers wait in the socket beforehand.
 *
 * A transmit queue gives every buffer back, in order, and lets out just those frames that have a header that the driver may
 * send, byte by byte. A receive queue gives each frame whole, in order, to as many buffers as its header says, or not at
 * all; and only where the driver agreed to what the header says. The tap refuses the offloads that the kernel refuses. The
 * fake queue checks that requests come back as they were, the sanitizers and guard pages that nothing else was
 * touched.
 */
#include "backends/net.h"
#include "base/bytes.h"
#include "fake_queue.h"
#include "fake_tap.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int __wrap_ioctl(int fd, unsigned long request, ...);

#define ARENA_BYTES KIB(1024)
#define BUFFERS_MAX 12
#define REQUESTS_MAX 48
#define FRAMES_MAX 8
#define SOCKET_BYTES (8 << 20)

struct input {
    const uint8_t *data;
    size_t size;
};

static struct vu_queue queue;
static uint8_t *arena;
static size_t arena_used;
static uint8_t flat[NET_PACKET_MAX + 1], got[2 * NET_PACKET_MAX];
static size_t frame_len[FRAMES_MAX];
static uint8_t frame_head[FRAMES_MAX][2]; /* flags and kind of segments */

static void check(bool holds)
{
    if (!holds)
        abort();
}

/* What a tap agrees to and a socket does not know; the device asks for nothing else. */
int __wrap_ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    (void)fd;
    va_start(arguments, request);
    unsigned long value = va_arg(arguments, unsigned long);
    va_end(arguments);
    check(request == (unsigned long)TUNSETVNETHDRSZ || request == (unsigned long)TUNSETOFFLOAD);
    check(request != (unsigned long)TUNSETOFFLOAD || fake_tap_set_offload(value) == 0);
    return 0;
}

static uint8_t next(struct input *in)
{
    if (!in->size)
        return 0;
    in->size--;
    return *in->data++;
}

static size_t next_len(struct input *in)
{
    uint8_t low = next(in);
    return low | (size_t)next(in) << 8;
}

/* A page behind each end of the arena cannot be touched. */
static void set_up(void)
{
    if (arena)
        return;
    uint8_t *all =
        mmap(NULL, ARENA_BYTES + 2 * PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(all != MAP_FAILED);
    arena = all + PAGE_BYTES;
    check(mprotect(arena, ARENA_BYTES, PROT_READ | PROT_WRITE) == 0);
    check(fake_queue_init(&queue) == 0);
}

/** add_request() - its buffers lie one behind the other in the arena. Returns false when that is full. */
static bool add_request(struct input *in)
{
    struct iovec iov[2 * BUFFERS_MAX];
    uint8_t counts = next(in);
    unsigned n_out = MIN(counts & 0xfu, BUFFERS_MAX), n_in = MIN(counts >> 4, BUFFERS_MAX);
    for (unsigned i = 0; i < n_out + n_in; i++) {
        size_t len = next_len(in);
        len = MAX(len, 1);
        if (len > ARENA_BYTES - arena_used)
            return false;
        iov[i] = (struct iovec){arena + arena_used, len};
        arena_used += len;
        uint8_t *bytes = iov[i].iov_base;
        memset(bytes, (int)i, len);
        for (size_t j = 0; i < n_out && j < MIN(len, 64) && in->size; j++)
            bytes[j] = next(in);
    }
    fake_queue_add(&queue, iov, n_out, iov + n_out, n_in);
    return true;
}

static void open_tap(int ends[2])
{
    int bytes = SOCKET_BYTES;
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    for (unsigned i = 0; i < 2; i++)
        check(setsockopt(ends[i], SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) == 0 ||
              setsockopt(ends[i], SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes)) == 0);
}

/* --- Transmit. --- */

/** flatten() - what a request has to be read, up to one byte more than any frame has. */
static size_t flatten(const struct fake_request *request)
{
    size_t len = 0;
    for (unsigned i = 0; i < request->n_out; i++) {
        size_t piece = MIN(request->iov[i].iov_len, sizeof(flat) - len);
        memcpy(flat + len, request->iov[i].iov_base, piece);
        len += piece;
    }
    return len;
}

static void check_sent(int far_end)
{
    size_t header_bytes = net_header_bytes(queue.features);
    for (unsigned i = 0; i < queue.n_answered; i++) {
        const struct fake_request *request = &queue.requests[i];
        check(queue.order[i] == i && request->written == 0);
        size_t len = flatten(request);
        struct net_header header = {0};
        memcpy(&header, flat, MIN(header_bytes, len));
        if (len <= header_bytes || len > NET_PACKET_MAX ||
            !net_header_sound(&header, queue.features))
            continue;
        check(recv(far_end, got, sizeof(got), 0) == (ssize_t)len && memcmp(got, flat, len) == 0);
    }
    check(recv(far_end, got, sizeof(got), 0) < 0 && errno == EAGAIN);
}

/* --- Receive. --- */

/** frame_byte() - of frame @n, header included, at @at. */
static uint8_t frame_byte(unsigned n, size_t at)
{
    if (at < 2)
        return frame_head[n][at];
    return (uint8_t)(n * 31 + at + (at >> 8));
}

static unsigned send_frames(struct input *in, int far_end)
{
    unsigned n = next(in) % (FRAMES_MAX + 1);
    for (unsigned i = 0; i < n; i++) {
        size_t len = next_len(in);
        len += next(in) & 1 ? 20 : 0;
        frame_len[i] = MAX(len, 1);
        frame_head[i][0] = next(in);
        frame_head[i][1] = next(in);
        for (size_t at = 0; at < frame_len[i]; at++)
            got[at] = frame_byte(i, at);
        check(send(far_end, got, frame_len[i], 0) == (ssize_t)frame_len[i]);
    }
    return n;
}

/** agreed() - whether the driver may see a frame with such a header (virtio 1.2, 5.1.3.1 and 5.1.6.4). */
static bool agreed(uint8_t flags, uint8_t gso_type)
{
    const uint64_t f = queue.features;
    if (!(f & NET_F_GUEST_CSUM))
        return !(flags & NET_HDR_F_NEEDS_CSUM) && gso_type == 0;
    if (gso_type & 0x80 && !(f & NET_F_GUEST_ECN))
        return false;
    switch (gso_type & 0x7f) {
    case 0:
        return gso_type == 0;
    case 1:
        return f & NET_F_GUEST_TSO4;
    case 3:
        return f & NET_F_GUEST_UFO;
    case 4:
        return f & NET_F_GUEST_TSO6;
    case 5:
        return f & NET_F_GUEST_USO4 && f & NET_F_GUEST_USO6;
    default:
        return false;
    }
}

/** as_sent() - whether @byte at @at of what the driver got is that of frame @n, or may be there instead. */
static bool as_sent(uint8_t byte, unsigned n, size_t at)
{
    uint8_t sent = frame_byte(n, at);
    if (at == 0)
        sent &= queue.features & NET_F_GUEST_CSUM ? 3 : 0;
    bool counted = at >= 10 && at < net_header_bytes(queue.features);
    return counted || byte == sent;
}

/** check_frame() - request @first and those behind it hold frame @n. Returns how many, or 0 if that is not so. */
static unsigned check_frame(unsigned first, unsigned n)
{
    size_t at = 0;
    unsigned i = first;
    uint8_t number[2] = {0};
    for (; i < queue.n_answered && at < frame_len[n]; i++) {
        size_t left = queue.requests[i].written;
        for (unsigned j = 0; j < queue.requests[i].n_in && left; j++) {
            const struct iovec *part = &queue.requests[i].iov[queue.requests[i].n_out + j];
            const uint8_t *bytes = part->iov_base;
            for (size_t k = 0; k < part->iov_len && left; k++, left--, at++) {
                if (at >= frame_len[n] || !as_sent(bytes[k], n, at))
                    return 0;
                if (at == 10 || at == 11)
                    number[at - 10] = bytes[k];
            }
        }
        check(left == 0); /* no more than there was room for */
    }
    if (at != frame_len[n])
        return 0;
    check(agreed(frame_head[n][0], frame_head[n][1]));
    check(net_header_bytes(queue.features) < NET_HEADER_BYTES || load_le16(number) == i - first);
    check((queue.features & NET_F_MRG_RXBUF) || i - first == 1);
    return i - first;
}

static void check_received(unsigned n_frames)
{
    unsigned frame = 0;
    for (unsigned i = 0; i < queue.n_answered;) {
        check(queue.order[i] == i);
        if (queue.requests[i].written == 0) {
            i++;
            continue;
        }
        unsigned n = 0;
        while (frame < n_frames && n == 0)
            n = check_frame(i, frame++);
        check(n != 0);
        i += n;
    }
}

static uint64_t features(uint8_t how, uint8_t guest)
{
    static const uint64_t offloads[] = {NET_F_GUEST_CSUM, NET_F_GUEST_TSO4, NET_F_GUEST_TSO6,
                                        NET_F_GUEST_ECN,  NET_F_GUEST_UFO,  NET_F_GUEST_USO4,
                                        NET_F_GUEST_USO6};
    uint64_t all = (how & 2 ? NET_F_MRG_RXBUF : 0) | (how & 4 ? VIRTIO_F_VERSION_1 : 0) |
                   (how & 8 ? NET_F_CSUM | NET_F_HOST_TSO4 | NET_F_HOST_TSO6 : 0) |
                   (how & 16 ? NET_F_HOST_ECN | NET_F_HOST_UFO | NET_F_HOST_USO : 0);
    for (size_t i = 0; i < ARRAY_SIZE(offloads); i++)
        all |= guest & BIT(i) ? offloads[i] : 0;
    return all;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct rate_limit_params limits = {.ops = {.size = 4, .refill_ms = 60000}};
    int ends[2];
    set_up();
    fake_queue_rewind(&queue);
    arena_used = 0;
    open_tap(ends);
    uint8_t how = next(&in);
    bool receive = how & 1;
    if (!(how & 32))
        limits.ops.size = 0;
    struct net_device device = {.lock = PTHREAD_MUTEX_INITIALIZER, .n_pairs = 1};
    device.pairs[0].tap_fd = ends[0];
    rate_limit_init(&device.rx_limit, &limits, 0);
    rate_limit_init(&device.tx_limit, &limits, 0);
    queue.features = features(how, next(&in));
    unsigned n_frames = receive ? send_frames(&in, ends[1]) : 0;
    while (in.size && queue.n_requests < REQUESTS_MAX && add_request(&in))
        ;
    /* Nothing more comes: the first time the queue would wait, it ends. */
    check(eventfd_write(queue.stop_fd, 1) == 0);
    if (receive) {
        net_rx_run(&device, &device.pairs[0], &queue);
        check_received(n_frames);
    } else {
        net_tx_run(&device, &device.pairs[0], &queue);
        check(limits.ops.size || queue.n_answered == queue.n_requests);
        check_sent(ends[1]);
    }
    check(queue.n_popped == queue.n_answered);
    close(ends[0]);
    close(ends[1]);
    return 0;
}
