#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "queue_bench.h"

#include "base/bytes.h"
#include "base/log.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static void pages_that_were_written_are_logged_and_no_others(void **state)
{
    (void)state;
    struct bench *b = bench_open(RING_FEATURES | VIRTIO_F_RING_EVENT_IDX);
    struct error err = ERROR_INIT;
    const uint64_t bytes = (DRIVER_SEAM_GPA + DRIVER_REGION_BYTES) / PAGE_BYTES / 8;
    int fd = memfd_create("log", 0);
    assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
    struct dirty_log log = {0};
    assert_int_equal(dirty_log_map(&log, &(struct vhost_user_log){bytes + 1, 0}, fd, &err),
                     -EINVAL);
    assert_int_equal(dirty_log_map(&log, &(struct vhost_user_log){0, 0}, fd, &err), -EINVAL);
    assert_int_equal(dirty_log_map(&log, &(struct vhost_user_log){bytes, 0}, fd, &err), 0);
    b->queue.log = &log;
    b->queue.log_fd = eventfd(0, EFD_NONBLOCK);
    b->queue.addr.flags = VHOST_USER_VRING_LOG;

    struct vu_chain chain;
    ring_driver_set(&b->driver, 0, DRIVER_BUFFERS, 4096, VRING_DESC_F_NEXT, 1);
    ring_driver_set(&b->driver, 1, DRIVER_SEAM_GPA - 1, 4098,
                    VRING_DESC_F_NEXT | VRING_DESC_F_WRITE, 2);
    ring_driver_set(&b->driver, 2, DRIVER_FAR_GPA, 1, VRING_DESC_F_WRITE, 0); /* beyond the log */
    ring_driver_offer(&b->driver, 0);
    assert_int_equal(bench_pop(b, &chain), 1);
    for (uint64_t i = 0; i < bytes; i++)
        assert_int_equal(log.bits[i], 0);
    vu_queue_push(&b->queue, &chain, 1);
    assert_int_equal(bench_take_count(b->queue.log_fd), 1);
    const uint64_t seam = DRIVER_SEAM_GPA / PAGE_BYTES, used = DRIVER_GPA / PAGE_BYTES + 2;
    for (uint64_t page = 0; page < bytes * 8; page++) {
        bool expected = page == seam - 1 || page == seam || page == seam + 1 || page == used;
        assert_int_equal(log.bits[page / 8] >> (page % 8) & 1, expected);
    }
    memset(log.bits, 0, bytes);
    vu_queue_want_kicks(&b->queue, true);
    assert_int_equal(log.bits[used / 8] >> (used % 8) & 1, 1);

    /* Without the flag the used ring is somebody else's to log. */
    memset(log.bits, 0, bytes);
    b->queue.addr.flags = 0;
    vu_queue_want_kicks(&b->queue, true);
    assert_int_equal(log.bits[used / 8], 0);
    close(b->queue.log_fd);
    dirty_log_unmap(&log);
    close(fd);
    bench_close(b);
}

static void memory_regions_are_held_against_their_files(void **state)
{
    (void)state;
    struct ring_driver d;
    struct guest_map map = {0};
    struct error err = ERROR_INIT;
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    ring_driver_open(&d, BENCH_NUM);
    log_set_level(LOG_ERROR);
    const struct vhost_user_region whole = {0x1000, DRIVER_RAM_BYTES, 0x5000, 0};
    assert_int_equal(guest_map_add(&map, &whole, pipe_fds[0], &err), -EINVAL);
    struct vhost_user_region wrong[6];
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
        wrong[i] = whole;
    wrong[0].len++;
    wrong[1].offset = 1;
    wrong[2].len = 0;
    wrong[3].gpa = UINT64_MAX - 4096;
    wrong[4].user_addr = UINT64_MAX - 4096;
    wrong[5].offset = UINT64_MAX - 4096;
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++)
        assert_int_equal(guest_map_add(&map, &wrong[i], d.memfd, &err), -EINVAL);
    assert_int_equal(guest_map_add(&map, &whole, -1, &err), -EBADF);
    assert_int_equal(map.n, 0);
    assert_int_equal(guest_map_add(&map, &whole, d.memfd, &err), 0);
    /* Both address spaces are taken. */
    struct vhost_user_region other = {0x100000000, 4096, 0x5000 + DRIVER_RAM_BYTES - 1, 0};
    assert_int_equal(guest_map_add(&map, &other, d.memfd, &err), -EEXIST);
    other = (struct vhost_user_region){0xfff, 2, 0x100000000, 0};
    assert_int_equal(guest_map_add(&map, &other, d.memfd, &err), -EEXIST);
    other = whole;
    other.len--;
    assert_int_equal(guest_map_remove(&map, &other, &err), -ENOENT);
    assert_int_equal(guest_map_remove(&map, &whole, &err), 0);
    assert_int_equal(guest_map_remove(&map, &whole, &err), -ENOENT);
    guest_map_clear(&map);
    ring_driver_close(&d);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void a_region_may_begin_anywhere_in_its_file(void **state)
{
    (void)state;
    struct ring_driver d;
    struct guest_map map = {0};
    struct error err = ERROR_INIT;
    ring_driver_open(&d, BENCH_NUM);
    const struct vhost_user_region odd = {0x10, 100, 0x5000, 4095};
    assert_int_equal(guest_map_add(&map, &odd, d.memfd, &err), 0);
    uint64_t len = 1000;
    d.ram[4095 + 7] = 0x77;
    const uint8_t *at = guest_map_gpa(&map, 0x17, &len);
    assert_non_null(at);
    assert_int_equal(*at, 0x77);
    assert_int_equal(len, 93);
    assert_int_equal(guest_map_gpa_of(&map, at), 0x17);
    assert_ptr_equal(guest_map_user(&map, 0x5007, 93), at);
    assert_null(guest_map_user(&map, 0x5007, 94));
    assert_null(guest_map_gpa(&map, 0xf, &len));
    assert_null(guest_map_gpa(&map, 0x10 + 100, &len));
    guest_map_clear(&map);
    ring_driver_close(&d);
}

static void the_map_holds_its_slots_and_no_more(void **state)
{
    (void)state;
    struct ring_driver d;
    struct guest_map map = {0};
    struct error err = ERROR_INIT;
    ring_driver_open(&d, BENCH_NUM);
    /* From the top down, so that each one goes in front. */
    struct vhost_user_region page = {0, PAGE_BYTES, 0, 0};
    for (unsigned i = GUEST_MAP_SLOTS; i-- > 0;) {
        page.gpa = page.user_addr = (uint64_t)i * 2 * PAGE_BYTES;
        assert_int_equal(guest_map_add(&map, &page, d.memfd, &err), 0);
    }
    page.gpa = page.user_addr = GIB(1);
    assert_int_equal(guest_map_add(&map, &page, d.memfd, &err), -ENOSPC);
    for (unsigned i = 0; i < GUEST_MAP_SLOTS; i++) {
        uint64_t len = GIB(1);
        assert_non_null(guest_map_gpa(&map, (uint64_t)i * 2 * PAGE_BYTES + 1, &len));
        assert_int_equal(len, PAGE_BYTES - 1);
        assert_null(guest_map_gpa(&map, ((uint64_t)i * 2 + 1) * PAGE_BYTES, &len));
    }
    guest_map_clear(&map);
    ring_driver_close(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_that_were_written_are_logged_and_no_others),
        cmocka_unit_test(memory_regions_are_held_against_their_files),
        cmocka_unit_test(a_region_may_begin_anywhere_in_its_file),
        cmocka_unit_test(the_map_holds_its_slots_and_no_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
