/*
 * The console's two queues, full of hostile requests. The input is a byte that says which queue it is and how much is typed,
 * then a row of requests: a byte of how many buffers there are to read and to write, for each buffer two bytes of length
 * and one of where it is. What goes out must be what the buffers held, in order; of what comes in, each byte must have been
 * given once or still be there. Guard pages and the sanitizers see to the rest.
 */
#include "backends/console.h"
#include "base/bytes.h"
#include "fake_queue.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES KIB(128)
#define BUFFERS_MAX 12
#define REQUESTS_MAX 32
#define TYPED_STEP 512u

struct input {
    const uint8_t *data;
    size_t size;
};

static struct vu_queue queue;
static uint8_t *arena;

static void check(bool holds)
{
    if (!holds)
        abort();
}

static uint8_t next(struct input *in)
{
    if (!in->size)
        return 0;
    in->size--;
    return *in->data++;
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
    for (size_t i = 0; i < ARENA_BYTES; i++)
        arena[i] = (uint8_t)(i / 251 + i);
    check(fake_queue_init(&queue) == 0);
}

static void add_request(struct input *in)
{
    struct iovec iov[2 * BUFFERS_MAX];
    uint8_t counts = next(in);
    unsigned n_out = MIN(counts & 0xfu, BUFFERS_MAX), n_in = MIN(counts >> 4, BUFFERS_MAX);
    for (unsigned i = 0; i < n_out + n_in; i++) {
        size_t len = (size_t)(next(in) | next(in) << 8);
        size_t at = (size_t)next(in) * 512;
        iov[i] = (struct iovec){arena + at, MIN(MAX(len, 1), ARENA_BYTES - at)};
    }
    fake_queue_add(&queue, iov, n_out, iov + n_out, n_in);
}

static uint64_t room_of(const struct fake_request *request)
{
    uint64_t room = 0;
    for (unsigned i = 0; i < request->n_in; i++)
        room += request->iov[request->n_out + i].iov_len;
    return room;
}

static void receive(struct console_device *device, size_t typed)
{
    static const uint8_t text[256 * TYPED_STEP];
    int pair[2];
    check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    check(typed == 0 || send(pair[0], text, typed, 0) == (ssize_t)typed);
    device->in_fd = device->out_fd = pair[1];
    device->in_socket = device->out_socket = true;
    /* Input that runs out would be waited for. */
    check(eventfd_write(queue.stop_fd, 1) == 0);
    console_run(device, &queue);

    uint64_t given = 0;
    for (unsigned i = 0; i < queue.n_answered; i++) {
        const struct fake_request *request = &queue.requests[i];
        check(queue.order[i] == i && request->written <= room_of(request));
        check(request->written || !room_of(request));
        given += request->written;
    }
    static uint8_t left[sizeof(text)];
    ssize_t n = recv(pair[1], left, sizeof(left), MSG_DONTWAIT);
    check(given + (uint64_t)MAX(n, 0) == typed);
    check(n <= 0 || queue.n_answered == queue.n_requests);
    close(pair[0]);
    close(pair[1]);
}

static void transmit(struct console_device *device)
{
    int fd = memfd_create("output", MFD_CLOEXEC);
    check(fd >= 0);
    device->out_fd = fd;
    console_run(device, &queue);

    static uint8_t piece[ARENA_BYTES];
    off_t at = 0;
    check(queue.n_answered == queue.n_requests);
    for (unsigned i = 0; i < queue.n_requests; i++) {
        const struct fake_request *request = &queue.requests[i];
        check(queue.order[i] == i && request->written == 0);
        for (unsigned j = 0; j < request->n_out; j++) {
            size_t len = request->iov[j].iov_len;
            check(pread(fd, piece, len, at) == (ssize_t)len);
            check(memcmp(piece, request->iov[j].iov_base, len) == 0);
            at += (off_t)len;
        }
    }
    check(lseek(fd, 0, SEEK_END) == at);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    set_up();
    fake_queue_rewind(&queue);
    uint8_t how = next(&in);
    queue.index = how & 1;
    while (in.size && queue.n_requests < REQUESTS_MAX)
        add_request(&in);
    struct console_device device = {.in_fd = -1, .out_fd = -1, .size_fd = -1, .change_fd = -1};
    if (queue.index == CONSOLE_RECEIVE_QUEUE)
        receive(&device, how / 2 * TYPED_STEP);
    else
        transmit(&device);
    return 0;
}
