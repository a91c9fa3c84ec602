/*
 * The entropy device behind a queue of hostile requests. The input is a row of requests: a byte of how many buffers there
 * are to read and to write, for each buffer two bytes of length and one of where it is, then one of how much the source
 * gives at the next time. Every request must have been answered once, in order, with at least one byte if it had room and
 * no more than the most; guard pages and the sanitizers see to the rest.
 */
#include "backends/rng.h"
#include "base/bytes.h"
#include "fake_queue.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ARENA_BYTES KIB(128)
#define BUFFERS_MAX 12
#define REQUESTS_MAX 32
#define PIPE_BYTES (256 << 10)

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

/** feed() - one piece of the source, which is read apart from the others. */
static void feed(int fd, uint8_t amount)
{
    static const uint8_t bytes[256 * 16];
    size_t len = amount * 16u + 1;
    check(write(fd, bytes, len) == (ssize_t)len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    int source[2];
    set_up();
    fake_queue_rewind(&queue);
    check(pipe2(source, O_CLOEXEC | O_NONBLOCK | O_DIRECT) == 0);
    check(fcntl(source[1], F_SETPIPE_SZ, PIPE_BYTES) >= 0);
    while (in.size && queue.n_requests < REQUESTS_MAX) {
        add_request(&in);
        feed(source[1], next(&in));
    }
    struct rng_device device = {.src_fd = source[0]};
    rng_run(&device, &queue);

    check(queue.n_answered == queue.n_requests);
    for (unsigned i = 0; i < queue.n_requests; i++) {
        const struct fake_request *request = &queue.requests[i];
        check(queue.order[i] == i && request->written <= RNG_REQUEST_MAX);
        check((request->written > 0) == (request->n_in > 0));
        uint64_t room = 0;
        for (unsigned j = 0; j < request->n_in; j++)
            room += request->iov[request->n_out + j].iov_len;
        check(request->written <= room);
    }
    close(source[0]);
    close(source[1]);
    return 0;
}
