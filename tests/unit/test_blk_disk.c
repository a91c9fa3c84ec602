#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backends/blk_config.h"
#include "backends/blk_options.h"
#include "base/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Where the tests' files are; a file system that knows O_DIRECT. */
static char folder[] = "/var/tmp/husk-blk-XXXXXX";
static char image[64];

static int make_folder(void **state)
{
    (void)state;
    if (!mkdtemp(folder))
        return -1;
    (void)snprintf(image, sizeof(image), "%s/image", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(image);
    return rmdir(folder);
}

static void make_image(off_t bytes)
{
    int fd = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, bytes), 0);
    close(fd);
}

/* Sets options from words, as husk-backend's main() does. */
static int parse(struct blk_options *options, struct error *err, int argc, char **argv)
{
    blk_options_init(options);
    optind = 0;
    opterr = 0;
    int val, r = 0;
    while (r == 0 && (val = getopt_long(argc, argv, "", blk_long_options, NULL)) >= 0)
        r = blk_options_set(options, val, optarg, err);
    return r < 0 ? r : blk_options_check(options, err);
}

#define PARSE(options, err, ...)                                \
    ({                                                          \
        char *_argv[] = {(char *)"blk", __VA_ARGS__, NULL};     \
        parse(options, err, (int)ARRAY_SIZE(_argv) - 1, _argv); \
    })
#define W(word) ((char *)(uintptr_t)(word))

static int open_image(struct blk_disk *disk, bool readonly, enum blk_lock_kind lock,
                      struct error *err)
{
    struct blk_options options;
    blk_options_init(&options);
    options.path = image;
    options.readonly = readonly;
    options.lock = lock;
    return blk_disk_open(disk, &options, err);
}

static void every_option_is_stored(void **state)
{
    (void)state;
    struct blk_options o;
    struct error err = ERROR_INIT;
    assert_int_equal(PARSE(&o, &err, W("--path"), W("a"), W("--path=b"), W("--readonly"),
                           W("--direct"), W("--num-queues=4"), W("--queue-size=256"),
                           W("--serial=12345678901234567890"), W("--lock=full"),
                           W("--lock-wait=1500"), W("--poll-us=7"), W("--bw-size=1M"),
                           W("--bw-one-time-burst=2"), W("--bw-refill-time=3"), W("--ops-size=4"),
                           W("--ops-one-time-burst=5"), W("--ops-refill-time=6")),
                     0);
    assert_string_equal(o.path, "b");
    assert_int_equal(o.file_fd, -1);
    assert_true(o.readonly && o.direct);
    assert_int_equal(o.n_queues, 4);
    assert_int_equal(o.queue_size, 256);
    assert_string_equal(o.serial, "12345678901234567890");
    assert_int_equal(o.lock, BLK_LOCK_FULL);
    assert_int_equal(o.lock_wait_ms, 1500);
    assert_int_equal(o.poll_us, 7);
    assert_int_equal(o.limits.bandwidth.size, 1 << 20);
    assert_int_equal(o.limits.bandwidth.one_time_burst, 2);
    assert_int_equal(o.limits.bandwidth.refill_ms, 3);
    assert_int_equal(o.limits.ops.size, 4);
    assert_int_equal(o.limits.ops.one_time_burst, 5);
    assert_int_equal(o.limits.ops.refill_ms, 6);
    blk_options_clear(&o);
    assert_null(o.path);
}

static void every_option_is_in_the_help(void **state)
{
    (void)state;
    for (const struct option *option = blk_long_options; option->name; option++) {
        char word[64];
        (void)snprintf(word, sizeof(word), "  --%s ", option->name);
        assert_non_null(strstr(blk_options_help, word));
    }
}

static void wrong_options_are_told_of(void **state)
{
    (void)state;
    static const struct {
        const char *words[3], *says;
    } cases[] = {
        {{"--readonly"}, "either --path or --file-fd"},
        {{"--path=a", "--file-fd=3"}, "either --path or --file-fd"},
        {{"--path=a", "--num-queues=0"}, "--num-queues takes a number from 1 to 64, not '0'"},
        {{"--path=a", "--num-queues=65"}, "--num-queues"},
        {{"--path=a", "--queue-size=100"}, "power of two"},
        {{"--path=a", "--queue-size=2"}, "--queue-size"},
        {{"--path=a", "--queue-size=2048"}, "--queue-size"},
        {{"--path=a", "--queue-size=many"}, "not 'many'"},
        {{"--path=a", "--file-fd=-1"}, "--file-fd"},
        {{"--path=a", "--serial=123456789012345678901"}, "at most 20"},
        {{"--path=a", "--lock=maybe"}, "byte-range, full or off, not 'maybe'"},
        {{"--path=a", "--bw-size=1"}, "--bw-size and --bw-refill-time"},
        {{"--path=a", "--ops-refill-time=1"}, "--ops-size and --ops-refill-time"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct blk_options o;
        struct error err = ERROR_INIT;
        char *argv[] = {W("blk"), W(cases[i].words[0]), W(cases[i].words[1]), NULL};
        assert_int_equal(parse(&o, &err, cases[i].words[1] ? 3 : 2, argv), -EINVAL);
        if (!strstr(err.message, cases[i].says))
            fail_msg("'%s' does not say '%s'", err.message, cases[i].says);
        blk_options_clear(&o);
    }
}

static void only_files_and_block_devices_are_disks(void **state)
{
    (void)state;
    struct blk_disk disk;
    struct blk_options options;
    blk_options_init(&options);
    make_image(512);
    assert_int_equal(unlink(image), 0);
    assert_int_equal(mkfifo(image, 0600), 0);
    const char *paths[] = {"/dev/null", folder, image};
    for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
        struct error err = ERROR_INIT;
        options.path = W(paths[i]);
        assert_int_equal(blk_disk_open(&disk, &options, &err), -EINVAL);
        assert_non_null(strstr(err.message, "neither a file nor a block device"));
        assert_non_null(strstr(err.message, paths[i]));
    }
    assert_int_equal(unlink(image), 0);
    struct error err = ERROR_INIT;
    options.path = image;
    assert_int_equal(blk_disk_open(&disk, &options, &err), -ENOENT);
    assert_non_null(strstr(err.message, image));
}

static void a_file_is_rounded_down_to_sectors(void **state)
{
    (void)state;
    static const struct {
        off_t bytes;
        uint64_t seen;
    } cases[] = {{0, 0},
                 {1, 0},
                 {511, 0},
                 {512, 512},
                 {513, 512},
                 {1 << 20, 1 << 20},
                 {(1 << 20) + 1535, (1 << 20) + 1024}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct blk_disk disk;
        struct error err = ERROR_INIT;
        make_image(cases[i].bytes);
        assert_int_equal(open_image(&disk, false, BLK_LOCK_OFF, &err), 0);
        assert_int_equal(disk.bytes, cases[i].seen);
        blk_disk_close(&disk);
        struct stat st;
        assert_int_equal(stat(image, &st), 0);
        assert_int_equal(st.st_size, cases[i].bytes);
    }
}

static void a_direct_disk_has_whole_blocks(void **state)
{
    (void)state;
    struct blk_disk disk;
    struct blk_options options;
    struct error err = ERROR_INIT;
    blk_options_init(&options);
    make_image(65536 + 512);
    options.path = image;
    options.direct = true;
    assert_int_equal(blk_disk_open(&disk, &options, &err), 0);
    assert_true(fcntl(disk.fd, F_GETFL) & O_DIRECT);
    assert_int_equal(disk.bytes % disk.offset_align, 0);
    assert_int_equal(disk.logical_bytes, disk.offset_align);
    assert_in_range(disk.bytes, 65536, 65536 + 512);
    blk_disk_close(&disk);
}

static void writers_are_alone_and_readers_are_not(void **state)
{
    (void)state;
    static const enum blk_lock_kind kinds[] = {BLK_LOCK_BYTE_RANGE, BLK_LOCK_FULL};
    make_image(1 << 20);
    for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
        for (size_t j = 0; j < ARRAY_SIZE(kinds); j++) {
            struct blk_disk first, second;
            struct error err = ERROR_INIT;
            assert_int_equal(open_image(&first, false, kinds[i], &err), 0);
            assert_int_equal(open_image(&second, false, kinds[j], &err), -EAGAIN);
            assert_non_null(strstr(err.message, "in use by another process"));
            assert_int_equal(open_image(&second, true, kinds[j], &err), -EAGAIN);
            assert_int_equal(open_image(&second, false, BLK_LOCK_OFF, &err), 0);
            blk_disk_close(&second);
            blk_disk_close(&first);
            assert_int_equal(open_image(&first, true, kinds[i], &err), 0);
            assert_int_equal(open_image(&second, true, kinds[j], &err), 0);
            blk_disk_close(&second);
            assert_int_equal(open_image(&second, false, kinds[j], &err), -EAGAIN);
            blk_disk_close(&first);
        }
}

static void a_byte_range_covers_qemus_bytes_and_ends_with_the_file(void **state)
{
    (void)state;
    static const off_t sizes[] = {0, 100, 1 << 20};
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
        struct blk_disk disk;
        struct error err = ERROR_INIT;
        make_image(sizes[i]);
        assert_int_equal(open_image(&disk, false, BLK_LOCK_BYTE_RANGE, &err), 0);
        int other = open(image, O_RDWR | O_CLOEXEC);
        struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 100, .l_len = 104};
        assert_int_equal(fcntl(other, F_OFD_SETLK, &lock), -1);
        lock.l_start = 2 << 20;
        assert_int_equal(fcntl(other, F_OFD_SETLK, &lock), 0);
        close(other);
        blk_disk_close(&disk);
    }
}

static void *release_later(void *fd)
{
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    close(*(int *)fd);
    return NULL;
}

static void a_lock_is_waited_for_as_long_as_asked(void **state)
{
    (void)state;
    struct blk_disk first, second;
    struct blk_options options;
    struct error err = ERROR_INIT;
    make_image(4096);
    assert_int_equal(open_image(&first, false, BLK_LOCK_BYTE_RANGE, &err), 0);
    blk_options_init(&options);
    options.path = image;
    options.lock_wait_ms = 5;
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    assert_int_equal(blk_disk_open(&second, &options, &err), -EAGAIN);
    clock_gettime(CLOCK_MONOTONIC, &after);
    assert_true((after.tv_sec - before.tv_sec) * 1000000000 + after.tv_nsec - before.tv_nsec >=
                4000000);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, release_later, &first.fd), 0);
    options.lock_wait_ms = 30000;
    assert_int_equal(blk_disk_open(&second, &options, &err), 0);
    pthread_join(thread, NULL);
    blk_disk_close(&second);
}

static void a_descriptor_must_allow_what_the_disk_does(void **state)
{
    (void)state;
    struct blk_disk disk;
    struct blk_options options;
    make_image(4096);
    static const struct {
        int flags;
        bool readonly;
        int result;
    } cases[] = {{O_RDWR, false, 0},        {O_RDWR, true, 0},         {O_RDONLY, true, 0},
                 {O_RDONLY, false, -EBADF}, {O_WRONLY, false, -EBADF}, {O_WRONLY, true, -EBADF},
                 {O_PATH, true, -EBADF}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct error err = ERROR_INIT;
        blk_options_init(&options);
        options.file_fd = open(image, cases[i].flags);
        options.readonly = cases[i].readonly;
        assert_int_equal(blk_disk_open(&disk, &options, &err), cases[i].result);
        if (cases[i].result == 0) {
            assert_true(fcntl(disk.fd, F_GETFD) & FD_CLOEXEC);
            blk_disk_close(&disk);
        }
        assert_int_equal(fcntl(options.file_fd, F_GETFD), -1); /* taken over */
    }
}

static void configuration_says_what_the_disk_is(void **state)
{
    (void)state;
    struct blk_disk disk = {.bytes = 8 << 20,
                            .logical_bytes = 512,
                            .physical_bytes = 4096,
                            .opt_io_bytes = 65536,
                            .can_discard = true,
                            .writeback = true};
    uint8_t config[BLK_CONFIG_BYTES];
    assert_int_equal(blk_config_read(&disk, 3, 128, 0, config, sizeof(config)), 0);
    assert_int_equal(load_le64(config), 16384);
    assert_int_equal(load_le32(config + 12), 126); /* seg_max */
    assert_int_equal(load_le32(config + 20), 512);
    assert_int_equal(config[24], 3); /* 4096 is 512 << 3 */
    assert_int_equal(load_le16(config + 26), 8);
    assert_int_equal(load_le32(config + 28), 128);
    assert_int_equal(config[32], 1);
    assert_int_equal(load_le16(config + 34), 3);
    assert_int_equal(load_le32(config + 36), 1 << 22);
    assert_int_equal(load_le32(config + 40), 16);
    assert_int_equal(load_le32(config + 44), 8);
    assert_int_equal(load_le32(config + 48), 1 << 22);
    assert_int_equal(load_le32(config + 52), 16);
    assert_int_equal(config[56], 1);
    uint16_t queues;
    assert_int_equal(blk_config_read(&disk, 3, 128, 34, &queues, 2), 0);
    assert_int_equal(le16toh(queues), 3);
    assert_int_equal(blk_config_read(&disk, 3, 128, 59, config, 2), -EINVAL);
    assert_int_equal(blk_config_read(&disk, 3, 128, UINT32_MAX, config, 2), -EINVAL);
    assert_int_equal(blk_features(&disk), 0x7e44);
    disk.can_discard = false;
    assert_int_equal(blk_features(&disk), 0x5e44);
    disk.readonly = true;
    assert_int_equal(blk_features(&disk), 0x1664);
}

static void the_driver_may_switch_the_write_cache_and_nothing_else(void **state)
{
    (void)state;
    struct blk_disk disk = {
        .bytes = 8 << 20, .logical_bytes = 512, .physical_bytes = 512, .writeback = true};
    uint8_t value = 0, wide[4] = {0};
    for (uint32_t offset = 0; offset < 2 * BLK_CONFIG_BYTES; offset++)
        if (offset != 32)
            assert_int_equal(blk_config_write(&disk, offset, &value, 1), -EINVAL);
    assert_int_equal(blk_config_write(&disk, 32, wide, 4), -EINVAL);
    assert_int_equal(blk_config_write(&disk, 32, wide, 0), -EINVAL);
    assert_true(blk_writeback(&disk, BLK_F_FLUSH | BLK_F_CONFIG_WCE));
    assert_int_equal(blk_config_write(&disk, 32, &value, 1), 0);
    assert_false(blk_writeback(&disk, BLK_F_FLUSH | BLK_F_CONFIG_WCE));
    /* A driver that does not know the switch but can flush has a cache. */
    assert_true(blk_writeback(&disk, BLK_F_FLUSH));
    value = 2;
    assert_int_equal(blk_config_write(&disk, 32, &value, 1), -EINVAL);
    value = 1;
    assert_int_equal(blk_config_write(&disk, 32, &value, 1), 0);
    assert_true(blk_writeback(&disk, BLK_F_FLUSH | BLK_F_CONFIG_WCE));
    assert_false(blk_writeback(&disk, BLK_F_CONFIG_WCE));
    assert_false(blk_writeback(&disk, 0));
    disk.readonly = true;
    assert_int_equal(blk_config_write(&disk, 32, &value, 1), -EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_option_is_stored),
        cmocka_unit_test(every_option_is_in_the_help),
        cmocka_unit_test(wrong_options_are_told_of),
        cmocka_unit_test(only_files_and_block_devices_are_disks),
        cmocka_unit_test(a_file_is_rounded_down_to_sectors),
        cmocka_unit_test(a_direct_disk_has_whole_blocks),
        cmocka_unit_test(writers_are_alone_and_readers_are_not),
        cmocka_unit_test(a_byte_range_covers_qemus_bytes_and_ends_with_the_file),
        cmocka_unit_test(a_lock_is_waited_for_as_long_as_asked),
        cmocka_unit_test(a_descriptor_must_allow_what_the_disk_does),
        cmocka_unit_test(configuration_says_what_the_disk_is),
        cmocka_unit_test(the_driver_may_switch_the_write_cache_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
