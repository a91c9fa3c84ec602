#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backends/blk_options.h"
#include "backends/blk_queue.h"
#include "backends/blk_request.h"
#include "backends/blk_ring.h"
#include "base/bytes.h"
#include "fake_queue.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DISK_BYTES MIB(8)

/* An image, the device on it, a queue, and guest memory. */
struct bench {
    struct blk_device device;
    struct vu_queue queue;
    uint8_t *memory; /* 4 MiB; what is handed out begins at used */
    size_t used;
    int peek; /* the image's own descriptor */
};

#define MEMORY_BYTES MIB(4)

static struct bench bench;

static uint8_t *room(size_t len, size_t align)
{
    bench.used = align_up(bench.used, align);
    uint8_t *at = bench.memory + bench.used;
    bench.used += len;
    assert_true(bench.used <= MEMORY_BYTES);
    return at;
}

/* A temporary image full of a pattern, in /var/tmp for a file system with O_DIRECT. */
static void open_bench(bool direct, bool readonly)
{
    char path[] = "/var/tmp/husk-blk-XXXXXX";
    memset(&bench, 0, sizeof(bench));
    bench.peek = mkostemp(path, O_CLOEXEC);
    assert_true(bench.peek >= 0);
    uint8_t block[65536];
    for (size_t at = 0; at < DISK_BYTES; at += sizeof(block)) {
        for (size_t i = 0; i < sizeof(block); i++)
            block[i] = (uint8_t)((at + i) / 512 * 31 + i);
        assert_int_equal(pwrite(bench.peek, block, sizeof(block), (off_t)at), sizeof(block));
    }
    struct blk_options options;
    struct error err = ERROR_INIT;
    blk_options_init(&options);
    options.path = path;
    options.direct = direct;
    options.readonly = readonly;
    strcpy(options.serial, "husk-1");
    int r = blk_disk_open(&bench.device.disk, &options, &err);
    unlink(path);
    assert_int_equal(r, 0);
    rate_limit_init(&bench.device.limit, &options.limits, 0);
    bench.device.poll_us = 50;
    bench.device.rings = blk_rings_open(1, BLK_RING_ENTRIES, &r);
    assert_int_equal(r, 0);
    assert_int_equal(fake_queue_init(&bench.queue), 0);
    bench.memory =
        mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(bench.memory, MAP_FAILED);
}

static void close_bench(void)
{
    blk_rings_close(bench.device.rings);
    blk_disk_close(&bench.device.disk);
    close(bench.peek);
    fake_queue_clear(&bench.queue);
    munmap(bench.memory, MEMORY_BYTES);
}

static void run(void)
{
    blk_queue_run(&bench.device, &bench.queue);
    assert_int_equal(bench.queue.n_answered, bench.queue.n_requests);
    assert_true(bench.queue.n_notified > 0 || bench.queue.n_requests == 0);
}

/* A request with its data cut in two behind @cut bytes; returns the status byte. */
static volatile uint8_t *add(uint32_t type, uint64_t sector, uint8_t *data, size_t len, size_t cut)
{
    uint8_t *header = room(BLK_HEADER_BYTES, 1), *status = room(1, 1);
    memset(header, 0, BLK_HEADER_BYTES);
    store_le32(header, type);
    store_le64(header + 8, sector);
    *status = 0xff;
    struct iovec buffers[4] = {{header, BLK_HEADER_BYTES}};
    unsigned n = 1, n_out = 1;
    cut = cut < len ? cut : 0;
    if (cut)
        buffers[n++] = (struct iovec){data, cut};
    if (len)
        buffers[n++] = (struct iovec){data + cut, len - cut};
    if (type != BLK_T_IN && type != BLK_T_GET_ID)
        n_out = n;
    buffers[n++] = (struct iovec){status, 1};
    fake_queue_add(&bench.queue, buffers, n_out, buffers + n_out, n - n_out);
    return status;
}

static void assert_on_disk(uint64_t offset, const uint8_t *bytes, size_t len)
{
    uint8_t found[4096];
    for (size_t at = 0; at < len; at += sizeof(found)) {
        size_t step = MIN(sizeof(found), len - at);
        assert_int_equal(pread(bench.peek, found, step, (off_t)(offset + at)), step);
        assert_memory_equal(found, bytes + at, step);
    }
}

static uint8_t pattern(uint64_t offset)
{
    return (uint8_t)(offset / 512 * 31 + offset % 65536);
}

static void assert_pattern(const uint8_t *bytes, uint64_t offset, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i] != pattern(offset + i))
            fail_msg("byte %zu at %llu is %u", i, (unsigned long long)offset, bytes[i]);
}

static void reads_and_writes(void)
{
    volatile uint8_t *status[64];
    uint8_t *data[64];
    for (unsigned i = 0; i < 64; i++) {
        /* Every other one where O_DIRECT would not take it. */
        data[i] = room(4096, 4096) + (i % 2 ? 3 : 0);
        bench.used += 4096;
        status[i] = add(BLK_T_IN, i * 8, data[i], 4096, i % 3 ? 0 : 1000);
    }
    run();
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(*status[i], BLK_S_OK);
        assert_int_equal(bench.queue.requests[i].written, 4097);
        assert_pattern(data[i], i * 4096, 4096);
    }
    fake_queue_rewind(&bench.queue);
    for (unsigned i = 0; i < 64; i++) {
        memset(data[i], (int)i + 100, 4096);
        status[i] = add(BLK_T_OUT, 1024 + i * 8, data[i], 4096, i % 5 ? 0 : 511);
    }
    volatile uint8_t *flushed = add(BLK_T_FLUSH, 0, NULL, 0, 0);
    run();
    assert_int_equal(*flushed, BLK_S_OK);
    for (unsigned i = 0; i < 64; i++) {
        assert_int_equal(*status[i], BLK_S_OK);
        assert_int_equal(bench.queue.requests[i].written, 1);
        assert_on_disk(1024 * 512 + i * 4096, data[i], 4096);
    }
}

static void the_page_cache_is_read_and_written(void **state)
{
    (void)state;
    open_bench(false, false);
    reads_and_writes();
    close_bench();
}

static void reads_past_the_page_cache_come_from_the_disk(void **state)
{
    (void)state;
    open_bench(false, false);
    assert_int_equal(fdatasync(bench.peek), 0);
    assert_int_equal(posix_fadvise(bench.peek, 0, 0, POSIX_FADV_DONTNEED), 0);
    reads_and_writes();
    close_bench();
}

static void direct_disks_take_buffers_at_any_address(void **state)
{
    (void)state;
    open_bench(true, false);
    reads_and_writes();
    close_bench();
}

static void direct_reads_may_be_smaller_than_a_block_and_writes_not(void **state)
{
    (void)state;
    open_bench(true, false);
    bench.device.disk.offset_align = 4096;
    uint8_t *small = room(512, 512), *large = room(MIB(1) + 4096, 4096) + 7;
    volatile uint8_t *first = add(BLK_T_IN, 3, small, 512, 0);
    volatile uint8_t *second = add(BLK_T_IN, 5, large, MIB(1) - 512, 4000); /* several bounces */
    volatile uint8_t *third = add(BLK_T_OUT, 3, small, 512, 0);
    run();
    assert_int_equal(*first, BLK_S_OK);
    assert_pattern(small, 3 * 512, 512);
    assert_int_equal(*second, BLK_S_OK);
    assert_pattern(large, 5 * 512, MIB(1) - 512);
    assert_int_equal(*third, BLK_S_IOERR);
    close_bench();
}

static void large_writes_go_through_small_buffers(void **state)
{
    (void)state;
    open_bench(true, false);
    uint8_t *large = room(MIB(1) + 4096, 4096) + 1;
    for (size_t i = 0; i < MIB(1); i++)
        large[i] = (uint8_t)(i * 13 + i / 256);
    volatile uint8_t *status = add(BLK_T_OUT, 0, large, MIB(1), 100001);
    run();
    assert_int_equal(*status, BLK_S_OK);
    assert_on_disk(0, large, MIB(1));
    close_bench();
}

static void large_reads_are_right_alone_and_among_others(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= 8; n++) {
        open_bench(false, false);
        volatile uint8_t *status[16];
        uint8_t *data[16];
        for (unsigned i = 0; i < n; i++) {
            data[i] = room(KIB(256), 512);
            status[i] = add(BLK_T_IN, i * 512, data[i], KIB(256), 12345);
            data[8 + i] = room(512, 512);
            status[8 + i] = n % 2 ? add(BLK_T_IN, i, data[8 + i], 512, 0) : status[i];
        }
        run();
        for (unsigned i = 0; i < n; i++) {
            assert_int_equal(*status[i] | *status[8 + i], BLK_S_OK);
            assert_pattern(data[i], i * KIB(256), KIB(256));
            if (n % 2)
                assert_pattern(data[8 + i], i * 512, 512);
        }
        close_bench();
    }
}

static void the_serial_number_is_cut_to_the_buffer(void **state)
{
    (void)state;
    open_bench(false, false);
    uint8_t *whole = room(20, 1), *half = room(4, 1), *more = room(30, 1);
    memset(whole, 0xee, 54);
    volatile uint8_t *a = add(BLK_T_GET_ID, 0, whole, 20, 0), *b = add(BLK_T_GET_ID, 0, half, 4, 0),
                     *c = add(BLK_T_GET_ID, 0, more, 30, 3);
    run();
    assert_int_equal(*a | *b | *c, BLK_S_OK);
    assert_string_equal((char *)whole, "husk-1");
    assert_int_equal(whole[19], 0);
    assert_memory_equal(half, "husk", 4);
    assert_string_equal((char *)more, "husk-1");
    assert_int_equal(more[20], 0xee);
    close_bench();
}

static volatile uint8_t *add_segment(uint32_t type, uint64_t sector, uint32_t sectors,
                                     uint32_t flags)
{
    uint8_t *segment = room(BLK_SEGMENT_BYTES, 1);
    store_le64(segment, sector);
    store_le32(segment + 8, sectors);
    store_le32(segment + 12, flags);
    return add(type, 0, segment, BLK_SEGMENT_BYTES, 5);
}

static blkcnt_t blocks_held(void)
{
    struct stat st;
    assert_int_equal(fstat(bench.peek, &st), 0);
    assert_int_equal(st.st_size, DISK_BYTES);
    return st.st_blocks;
}

static void zeroes_and_holes(void)
{
    static const uint8_t zeroes[65536];
    volatile uint8_t *kept = add_segment(BLK_T_WRITE_ZEROES, 128, 128, 0);
    volatile uint8_t *unmapped = add_segment(BLK_T_WRITE_ZEROES, 1024, 128, 1);
    volatile uint8_t *odd = add_segment(BLK_T_WRITE_ZEROES, 2049, 3, 1);
    volatile uint8_t *large = add_segment(BLK_T_WRITE_ZEROES, 4096, 2048, 0);
    volatile uint8_t *none = add_segment(BLK_T_WRITE_ZEROES, 5, 0, 0);
    run();
    assert_int_equal(*kept | *unmapped | *odd | *large | *none, BLK_S_OK);
    assert_on_disk(128 * 512, zeroes, 65536);
    assert_on_disk(1024 * 512, zeroes, 65536);
    assert_on_disk(2049 * 512, zeroes, 3 * 512);
    for (unsigned i = 0; i < 16; i++)
        assert_on_disk(4096 * 512 + i * 65536, zeroes, 65536);
    uint8_t around[512];
    static const uint64_t untouched[] = {127, 256, 1023, 1152, 2048, 2052, 4095, 6144, 5};
    for (size_t i = 0; i < ARRAY_SIZE(untouched); i++) {
        assert_int_equal(pread(bench.peek, around, 512, (off_t)untouched[i] * 512), 512);
        assert_pattern(around, untouched[i] * 512, 512);
    }
}

static void zeroes_are_written_and_holes_punched(void **state)
{
    (void)state;
    open_bench(false, false);
    zeroes_and_holes();
    close_bench();
}

static void zeroes_are_written_where_the_file_system_cannot_zero(void **state)
{
    (void)state;
    for (int direct = 0; direct < 2; direct++) {
        open_bench(direct, false);
        atomic_store(&bench.device.disk.no_punch, true);
        atomic_store(&bench.device.disk.no_zero_range, true);
        zeroes_and_holes();
        fake_queue_rewind(&bench.queue);
        volatile uint8_t *status = add_segment(BLK_T_DISCARD, 0, 1, 0);
        run();
        assert_int_equal(*status, BLK_S_UNSUPP);
        close_bench();
    }
}

static void a_discard_gives_space_back(void **state)
{
    (void)state;
    open_bench(false, false);
    assert_int_equal(fsync(bench.peek), 0);
    blkcnt_t before = blocks_held();
    volatile uint8_t *status = add_segment(BLK_T_DISCARD, 0, MIB(4) / 512, 0);
    run();
    assert_int_equal(*status, BLK_S_OK);
    assert_true(blocks_held() <= before - (blkcnt_t)(MIB(3) / 512));
    close_bench();
}

static void zeroes_without_unmap_keep_the_space(void **state)
{
    (void)state;
    open_bench(false, false);
    assert_int_equal(fsync(bench.peek), 0);
    blkcnt_t before = blocks_held();
    volatile uint8_t *status = add_segment(BLK_T_WRITE_ZEROES, 0, MIB(4) / 512, 0);
    run();
    assert_int_equal(*status, BLK_S_OK);
    assert_true(blocks_held() >= before - 64);
    close_bench();
}

static void a_file_that_became_shorter_is_an_error_not_old_memory(void **state)
{
    (void)state;
    open_bench(false, false);
    assert_int_equal(ftruncate(bench.peek, 4096), 0);
    uint8_t *data = room(8192, 1);
    volatile uint8_t *beyond = add(BLK_T_IN, 100, data, 8192, 0),
                     *across = add(BLK_T_IN, 0, data, 8192, 0);
    run();
    assert_int_equal(*beyond, BLK_S_IOERR);
    assert_int_equal(*across, BLK_S_IOERR);
    close_bench();
}

static void memory_that_is_gone_is_an_error(void **state)
{
    (void)state;
    open_bench(false, false);
    uint8_t *gone = mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(gone, MAP_FAILED);
    volatile uint8_t *in = add(BLK_T_IN, 0, gone, 4096, 0), *out = add(BLK_T_OUT, 0, gone, 4096, 0);
    run();
    assert_int_equal(*in, BLK_S_IOERR);
    assert_int_equal(*out, BLK_S_IOERR);
    munmap(gone, 8192);
    close_bench();
}

static void a_read_only_disk_refuses_writes_and_keeps_its_data(void **state)
{
    (void)state;
    open_bench(false, true);
    uint8_t *data = room(4096, 1);
    volatile uint8_t *out = add(BLK_T_OUT, 0, data, 4096, 0), *in = add(BLK_T_IN, 0, data, 4096, 0),
                     *flush = add(BLK_T_FLUSH, 0, NULL, 0, 0),
                     *zero = add_segment(BLK_T_WRITE_ZEROES, 0, 8, 1);
    run();
    assert_int_equal(*out, BLK_S_IOERR);
    assert_int_equal(*zero, BLK_S_IOERR);
    assert_int_equal(*in | *flush, BLK_S_OK);
    assert_pattern(data, 0, 4096);
    close_bench();
}

static void a_driver_that_cannot_flush_is_written_through(void **state)
{
    (void)state;
    open_bench(false, false);
    bench.queue.features = 0;
    uint8_t *data = room(65536, 1);
    memset(data, 0x77, 65536);
    volatile uint8_t *out = add(BLK_T_OUT, 8, data, 65536, 77),
                     *zero = add_segment(BLK_T_WRITE_ZEROES, 1024, 8, 1);
    run();
    assert_int_equal(*out | *zero, BLK_S_OK);
    assert_on_disk(8 * 512, data, 65536);
    close_bench();
}

/* What a container's filter does. */
static bool forbid_io_uring(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = ARRAY_SIZE(code), .filter = code};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

static void without_io_uring_everything_still_works(void **state)
{
    (void)state;
    open_bench(true, false);
    uint8_t *in = room(8192, 4096), *out = room(4096, 4096);
    memset(out, 0x42, 4096);
    volatile uint8_t *status[] = {
        add(BLK_T_IN, 16, in, 8192, 4096),
        add(BLK_T_OUT, 64, out, 4096, 0),
        add(BLK_T_FLUSH, 0, NULL, 0, 0),
        add_segment(BLK_T_DISCARD, 1024, 128, 0),
        add_segment(BLK_T_WRITE_ZEROES, 128, 8, 0),
    };
    pid_t child = fork();
    if (child == 0) {
        int code;
        blk_rings_close(bench.device.rings);
        if (!forbid_io_uring())
            _exit(1);
        bench.device.rings = blk_rings_open(1, BLK_RING_ENTRIES, &code);
        if (bench.device.rings || code != -EPERM)
            _exit(3);
        blk_queue_run(&bench.device, &bench.queue);
        _exit(bench.queue.n_answered == ARRAY_SIZE(status) ? 0 : 2);
    }
    int ended;
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_int_equal(ended, 0);
    for (size_t i = 0; i < ARRAY_SIZE(status); i++)
        assert_int_equal(*status[i], BLK_S_OK);
    assert_pattern(in, 16 * 512, 8192);
    assert_on_disk(64 * 512, out, 4096);
    close_bench();
}

/* The operations that a ring would carry out for whoever took the process over. */
static void a_ring_opens_no_file_and_connects_nowhere(void **state)
{
    (void)state;
    int code;
    struct blk_rings *rings = blk_rings_open(2, 8, &code);
    assert_non_null(rings);
    assert_null(blk_rings_get(rings, 2));
    struct io_uring *ring = blk_rings_get(rings, 1);
    static const uint8_t forbidden[] = {IORING_OP_OPENAT,   IORING_OP_OPENAT2, IORING_OP_CONNECT,
                                        IORING_OP_UNLINKAT, IORING_OP_SENDMSG, IORING_OP_READ,
                                        IORING_OP_ACCEPT,   IORING_OP_STATX};
    for (size_t i = 0; i < ARRAY_SIZE(forbidden); i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
        struct io_uring_cqe *cqe;
        io_uring_prep_openat(sqe, AT_FDCWD, "/dev/null", O_RDONLY, 0);
        sqe->opcode = forbidden[i];
        assert_int_equal(io_uring_submit_and_wait(ring, 1), 1);
        assert_int_equal(io_uring_peek_cqe(ring, &cqe), 0);
        assert_int_equal(cqe->res, -EACCES);
        io_uring_cqe_seen(ring, cqe);
    }
    blk_rings_close(rings);
}

static void a_limited_disk_waits_and_serves_in_order(void **state)
{
    (void)state;
    open_bench(false, false);
    struct rate_limit_params params = {.ops = {.size = 2, .refill_ms = 10}};
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    rate_limit_init(&bench.device.limit, &params,
                    (uint64_t)before.tv_sec * 1000000000u + (uint64_t)before.tv_nsec);
    volatile uint8_t *status[12];
    uint8_t *data = room(512, 1);
    for (unsigned i = 0; i < 12; i++)
        status[i] = add(BLK_T_IN, i, data, 512, 0);
    run();
    clock_gettime(CLOCK_MONOTONIC, &after);
    for (unsigned i = 0; i < 12; i++) {
        assert_int_equal(*status[i], BLK_S_OK);
        assert_int_equal(bench.queue.order[i], i);
    }
    /* Two at once, one each 5 ms after that, but for the last, which the end of the queue lets through. */
    int64_t took = (after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec;
    assert_true(took >= 44000000);
    close_bench();
}

static void a_broken_ring_ends_the_queue_after_what_is_under_way(void **state)
{
    (void)state;
    open_bench(true, false);
    uint8_t *data = room(4096 * 4, 4096);
    volatile uint8_t *status[4];
    for (unsigned i = 0; i < 4; i++)
        status[i] = add(BLK_T_IN, i * 8, data + i * 4096, 4096, 0);
    bench.queue.break_after = 3;
    blk_queue_run(&bench.device, &bench.queue);
    assert_int_equal(bench.queue.n_answered, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(*status[i], BLK_S_OK);
    assert_int_equal(*status[3], 0xff);
    assert_pattern(data, 0, 3 * 4096);
    close_bench();
}

static void a_ring_smaller_than_its_requests_is_enough(void **state)
{
    (void)state;
    open_bench(true, false);
    bench.queue.size = 4;
    volatile uint8_t *status[200];
    for (unsigned i = 0; i < 200; i++)
        status[i] = add(BLK_T_IN, i * 8, room(4096, 4096), 4096, 0);
    run();
    for (unsigned i = 0; i < 200; i++)
        assert_int_equal(*status[i], BLK_S_OK);
    close_bench();
}

static void requests_without_a_status_are_given_back_untouched(void **state)
{
    (void)state;
    open_bench(false, false);
    uint8_t *header = room(BLK_HEADER_BYTES, 1);
    memset(header, 0, BLK_HEADER_BYTES);
    struct iovec out = {header, BLK_HEADER_BYTES};
    fake_queue_add(&bench.queue, &out, 1, NULL, 0);
    fake_queue_add(&bench.queue, NULL, 0, NULL, 0);
    run();
    assert_int_equal(bench.queue.requests[0].written, 0);
    assert_int_equal(bench.queue.requests[1].written, 0);
    close_bench();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_cache_is_read_and_written),
        cmocka_unit_test(reads_past_the_page_cache_come_from_the_disk),
        cmocka_unit_test(direct_disks_take_buffers_at_any_address),
        cmocka_unit_test(direct_reads_may_be_smaller_than_a_block_and_writes_not),
        cmocka_unit_test(large_writes_go_through_small_buffers),
        cmocka_unit_test(large_reads_are_right_alone_and_among_others),
        cmocka_unit_test(the_serial_number_is_cut_to_the_buffer),
        cmocka_unit_test(zeroes_are_written_and_holes_punched),
        cmocka_unit_test(zeroes_are_written_where_the_file_system_cannot_zero),
        cmocka_unit_test(a_discard_gives_space_back),
        cmocka_unit_test(zeroes_without_unmap_keep_the_space),
        cmocka_unit_test(a_file_that_became_shorter_is_an_error_not_old_memory),
        cmocka_unit_test(memory_that_is_gone_is_an_error),
        cmocka_unit_test(a_read_only_disk_refuses_writes_and_keeps_its_data),
        cmocka_unit_test(a_driver_that_cannot_flush_is_written_through),
        cmocka_unit_test(without_io_uring_everything_still_works),
        cmocka_unit_test(a_ring_opens_no_file_and_connects_nowhere),
        cmocka_unit_test(a_limited_disk_waits_and_serves_in_order),
        cmocka_unit_test(a_broken_ring_ends_the_queue_after_what_is_under_way),
        cmocka_unit_test(a_ring_smaller_than_its_requests_is_enough),
        cmocka_unit_test(requests_without_a_status_are_given_back_untouched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
