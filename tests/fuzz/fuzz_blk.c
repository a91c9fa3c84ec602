/*
 * The block device behind a queue of hostile requests: whatever buffers a driver names, with whatever in them, over a small
 * memory disk. The input is a row of requests: a byte of how many buffers there are to read and to write, for each buffer
 * two bytes of length and one of where it is, and the bytes for the first ones. After each row every request must have
 * been answered once, the disk must not have grown and a read-only disk must be as it was. The fake queue checks that
 * requests come back as they were, the sanitizers and two guard pages that nothing else was touched.
 */
#include "backends/blk_config.h"
#include "backends/blk_queue.h"
#include "backends/blk_ring.h"
#include "base/bytes.h"
#include "fake_queue.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define DISK_BYTES KIB(64)
#define ARENA_BYTES KIB(128)
#define BUFFERS_MAX 12
#define REQUESTS_MAX 32

struct input {
    const uint8_t *data;
    size_t size;
};

static struct vu_queue queue;
static struct blk_rings *rings;
static uint8_t *arena;
static uint8_t snapshot[DISK_BYTES], now[DISK_BYTES];

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
    int code; /* without io_uring requests wait for each other */
    rings = blk_rings_open(1, BLK_RING_ENTRIES, &code);
}

/* Buffers may overlap each other; those read come from the input. */
static void add_request(struct input *in)
{
    struct iovec iov[2 * BUFFERS_MAX];
    uint8_t counts = next(in);
    unsigned n_out = MIN(counts & 0xfu, BUFFERS_MAX), n_in = MIN(counts >> 4, BUFFERS_MAX);
    for (unsigned i = 0; i < n_out + n_in; i++) {
        size_t len = (size_t)(next(in) | next(in) << 8);
        size_t at = (size_t)next(in) * 512;
        len = MIN(MAX(len, 1), ARENA_BYTES - at);
        iov[i] = (struct iovec){arena + at, len};
        for (size_t j = 0; i < n_out && j < MIN(len, 48) && in->size; j++)
            arena[at + j] = next(in);
    }
    fake_queue_add(&queue, iov, n_out, iov + n_out, n_in);
}

static void fill_disk(int fd)
{
    for (size_t i = 0; i < sizeof(snapshot); i++)
        snapshot[i] = (uint8_t)(i / 512 + i);
    check(pwrite(fd, snapshot, sizeof(snapshot), 0) == (ssize_t)sizeof(snapshot));
}

static struct blk_device make_device(int fd, uint8_t how)
{
    struct blk_device device = {.n_queues = 1, .queue_size = 128, .rings = rings};
    struct rate_limit_params limits = {.ops = {.size = 1, .refill_ms = 1}};
    device.disk.fd = fd;
    device.disk.bytes = DISK_BYTES;
    device.disk.logical_bytes = 512;
    device.disk.physical_bytes = 4096;
    /* A memory file knows no O_DIRECT; the device's own rules of it hold all the same. */
    device.disk.direct = how & 1;
    device.disk.memory_align = device.disk.offset_align = how & 2 ? 4096 : 512;
    device.disk.readonly = how & 4;
    device.disk.can_discard = !(how & 8);
    device.disk.writeback = true;
    device.disk.no_punch = how & 16;
    device.disk.no_zero_range = how & 32;
    if (!(how & 64))
        limits.ops.size = 0;
    rate_limit_init(&device.limit, &limits, 0);
    return device;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    set_up();
    fake_queue_rewind(&queue);
    int fd = memfd_create("disk", MFD_CLOEXEC);
    check(fd >= 0);
    fill_disk(fd);
    uint8_t how = next(&in);
    struct blk_device device = make_device(fd, how);
    queue.features = how & 128 ? BLK_F_FLUSH : 0;
    while (in.size && queue.n_requests < REQUESTS_MAX)
        add_request(&in);
    blk_queue_run(&device, &queue);

    struct stat st;
    check(queue.n_answered == queue.n_requests);
    check(fstat(fd, &st) == 0 && st.st_size == DISK_BYTES);
    check(pread(fd, now, sizeof(now), 0) == (ssize_t)sizeof(now));
    if (device.disk.readonly)
        check(memcmp(now, snapshot, sizeof(now)) == 0);
    for (unsigned i = 0; i < queue.n_requests; i++) {
        uint64_t room = 0;
        for (unsigned j = 0; j < queue.requests[i].n_in; j++)
            room += queue.requests[i].iov[queue.requests[i].n_out + j].iov_len;
        check(queue.requests[i].written <= room);
    }
    close(fd);
    return 0;
}
