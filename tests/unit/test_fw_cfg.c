#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "devices/fw_cfg.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM_BYTES MIB(4)
#define COMMAND 0x100 /* where the tests put DMA commands */

struct machine {
    struct bus *ports;
    struct fw_cfg *fw_cfg;
    uint8_t *ram;
    unsigned failures;
    char failure[ERROR_MESSAGE_MAX];
};

static void *memory(void *ctx, uint64_t gpa, uint64_t len)
{
    struct machine *m = ctx;
    return range_within(gpa, len, RAM_BYTES) ? m->ram + gpa : NULL;
}

static void failed(void *ctx, const struct error *err)
{
    struct machine *m = ctx;
    m->failures++;
    strcpy(m->failure, err->message);
}

static int setup(void **state)
{
    static struct machine m;
    m = (struct machine){.ports = bus_new("port"), .ram = calloc(1, RAM_BYTES)};
    struct fw_cfg_params params = {.memory = memory, .failed = failed, .ctx = &m};
    m.fw_cfg = fw_cfg_new(m.ports, &params, NULL);
    *state = &m;
    return m.fw_cfg ? 0 : -1;
}

static int teardown(void **state)
{
    struct machine *m = *state;
    bus_free(m->ports);
    fw_cfg_free(m->fw_cfg);
    free(m->ram);
    return 0;
}

static void select_key(struct machine *m, uint16_t key)
{
    uint8_t bytes[2];
    store_le16(bytes, key);
    assert_true(bus_write(m->ports, 0x510, bytes, 2));
}

static void read_ports(struct machine *m, void *to, size_t len)
{
    for (size_t i = 0; i < len; i++)
        assert_true(bus_read(m->ports, 0x511, (uint8_t *)to + i, 1));
}

/** dma() - carry out a command. Returns the control word that is left. */
static uint32_t dma(struct machine *m, uint32_t control, uint32_t len, uint64_t address)
{
    uint32_t be_control = htobe32(control), be_len = htobe32(len), high = 0, low = htobe32(COMMAND);
    uint64_t be_address = htobe64(address);
    memcpy(m->ram + COMMAND, &be_control, 4);
    memcpy(m->ram + COMMAND + 4, &be_len, 4);
    memcpy(m->ram + COMMAND + 8, &be_address, 8);
    assert_true(bus_write(m->ports, 0x514, &high, 4));
    assert_true(bus_write(m->ports, 0x518, &low, 4));
    memcpy(&be_control, m->ram + COMMAND, 4);
    return be32toh(be_control);
}

static void add_file(struct machine *m, const char *name, const void *bytes, size_t len)
{
    struct fw_cfg_item item = {.bytes = bytes, .len = len};
    assert_int_equal(fw_cfg_add_file(m->fw_cfg, name, &item, NULL), 0);
}

/** find_file() - the key of @name in the directory as the guest reads it; its size to *size. */
static uint16_t find_file(struct machine *m, const char *name, uint32_t *size)
{
    select_key(m, FW_CFG_FILE_DIR);
    uint32_t count;
    read_ports(m, &count, 4);
    for (uint32_t i = 0; i < be32toh(count); i++) {
        uint8_t entry[64];
        read_ports(m, entry, 64);
        if (strcmp((char *)entry + 8, name) != 0)
            continue;
        uint32_t be_size;
        memcpy(&be_size, entry, 4);
        *size = be32toh(be_size);
        return (uint16_t)(entry[4] << 8 | entry[5]);
    }
    return 0;
}

static void firmware_knows_it_by_signature_and_revision(void **state)
{
    struct machine *m = *state;
    uint8_t bytes[8];
    select_key(m, FW_CFG_SIGNATURE);
    read_ports(m, bytes, 6);
    assert_memory_equal(bytes, "QEMU\0\0", 6);
    select_key(m, FW_CFG_ID);
    read_ports(m, bytes, 4);
    assert_int_equal(load_le32(bytes), 3);
    assert_true(bus_read(m->ports, 0x514, bytes, 8));
    assert_memory_equal(bytes, "QEMU CFG", 8);
    assert_true(bus_read(m->ports, 0x518, bytes, 4));
    assert_memory_equal(bytes, " CFG", 4);
}

static void directory_lists_files_in_the_order_of_their_names(void **state)
{
    struct machine *m = *state;
    add_file(m, "opt/b", "bb", 2);
    add_file(m, "etc/e820", "eeee", 4);
    add_file(m, "opt/a", "a", 1);
    uint32_t size;
    assert_int_equal(find_file(m, "etc/e820", &size), 0x20);
    assert_int_equal(size, 4);
    assert_int_equal(find_file(m, "opt/a", &size), 0x21);
    assert_int_equal(size, 1);
    uint16_t key = find_file(m, "opt/b", &size);
    assert_int_equal(key, 0x22);
    uint8_t bytes[4];
    select_key(m, key);
    read_ports(m, bytes, 4);
    assert_memory_equal(bytes, "bb\0\0", 4);
}

static void names_that_cannot_be_are_refused(void **state)
{
    struct machine *m = *state;
    struct fw_cfg_item item = {.bytes = "x", .len = 1};
    struct error err = ERROR_INIT;
    char longest[] = "opt/5678901234567890123456789012345678901234567890123456";
    assert_int_equal(strlen(longest), 56);
    assert_int_equal(fw_cfg_add_file(m->fw_cfg, longest, &item, &err), -ENAMETOOLONG);
    assert_non_null(strstr(err.message, "1 to 55 bytes, not 56"));
    longest[55] = '\0';
    assert_int_equal(fw_cfg_add_file(m->fw_cfg, longest, &item, &err), 0);
    assert_int_equal(fw_cfg_add_file(m->fw_cfg, longest, &item, &err), -EEXIST);
    assert_int_equal(fw_cfg_add_file(m->fw_cfg, "", &item, &err), -ENAMETOOLONG);
    assert_int_equal(fw_cfg_add(m->fw_cfg, FW_CFG_SIGNATURE, &item, &err), -EEXIST);
    assert_int_equal(fw_cfg_add(m->fw_cfg, FW_CFG_FILE_FIRST, &item, &err), -EINVAL);
    assert_int_equal(fw_cfg_add(m->fw_cfg, 0x4005, &item, &err), -EINVAL);
}

static void a_thousand_and_twenty_four_files_fit(void **state)
{
    struct machine *m = *state;
    struct error err = ERROR_INIT;
    for (unsigned i = 0; i <= FW_CFG_FILES_MAX; i++) {
        char name[32];
        snprintf(name, sizeof(name), "opt/%u", i * 7919 % 65521);
        struct fw_cfg_item item = {.bytes = &i, .len = sizeof(i)};
        int ret = fw_cfg_add_file(m->fw_cfg, name, &item, &err);
        assert_int_equal(ret, i < FW_CFG_FILES_MAX ? 0 : -ENOSPC);
    }
    for (unsigned i = 0; i < FW_CFG_FILES_MAX; i += 97) {
        char name[32];
        uint32_t size, value;
        snprintf(name, sizeof(name), "opt/%u", i * 7919 % 65521);
        select_key(m, find_file(m, name, &size));
        read_ports(m, &value, 4);
        assert_int_equal(value, i);
    }
}

static void dma_selects_reads_and_skips(void **state)
{
    struct machine *m = *state;
    add_file(m, "opt/x", "0123456789", 10);
    uint32_t select = 0x20u << 16 | BIT(3);
    assert_int_equal(dma(m, select | BIT(1), 4, 0x1000), 0);
    assert_memory_equal(m->ram + 0x1000, "0123", 4);
    assert_int_equal(dma(m, BIT(2), 2, 0), 0);
    memset(m->ram + 0x2000, 0xff, 16);
    assert_int_equal(dma(m, BIT(1), 8, 0x2000), 0);
    assert_memory_equal(m->ram + 0x2000, "6789\0\0\0\0\xff", 9);
    assert_int_equal(dma(m, select, 0, 0), 0);
    assert_int_equal(dma(m, BIT(2), UINT32_MAX, 0), 0);
    assert_int_equal(dma(m, BIT(1), 1, 0x2000), 0);
    assert_int_equal(m->ram[0x2000], 0);
}

static void dma_that_cannot_be_is_an_error_in_its_control_word(void **state)
{
    struct machine *m = *state;
    add_file(m, "opt/x", "0123456789", 10);
    uint32_t select = 0x20u << 16 | BIT(3);
    assert_int_equal(dma(m, select | BIT(1), 4, RAM_BYTES - 2), 1);
    assert_int_equal(dma(m, select | BIT(1), UINT32_MAX, UINT64_MAX - 8), 1);
    assert_int_equal(dma(m, select | BIT(4), 4, 0x1000), 1);
    /* What is no item reads as zeros. */
    memset(m->ram + 0x1000, 0xff, 4);
    assert_int_equal(dma(m, 0x3ffu << 16 | BIT(3) | BIT(1), 4, 0x1000), 0);
    assert_int_equal(load_le32(m->ram + 0x1000), 0);
    /* A command outside of RAM has nowhere to say so. */
    uint32_t high = htobe32(0xffffffff), low = htobe32(0xfffffff8);
    assert_true(bus_write(m->ports, 0x514, &high, 4));
    assert_true(bus_write(m->ports, 0x518, &low, 4));
    assert_int_equal(m->failures, 0);
}

static int make_letters(void *ctx, void *to, uint64_t len, struct error *err)
{
    (void)err;
    (*(unsigned *)ctx)++;
    memset(to, 'm', len);
    return 0;
}

static void contents_are_made_once_and_when_they_are_asked_for(void **state)
{
    struct machine *m = *state;
    unsigned made = 0;
    struct fw_cfg_item item = {.make = make_letters, .ctx = &made, .len = 3};
    assert_int_equal(fw_cfg_add_file(m->fw_cfg, "etc/acpi/tables", &item, NULL), 0);
    uint32_t size;
    uint16_t key = find_file(m, "etc/acpi/tables", &size);
    assert_int_equal(made, 0);
    uint8_t bytes[4];
    for (unsigned i = 0; i < 2; i++) {
        select_key(m, key);
        read_ports(m, bytes, 4);
        assert_memory_equal(bytes, "mmm\0", 4);
    }
    assert_int_equal(made, 1);
}

/* A file of 3 MiB whose byte at each offset says where it is. */
static int make_file(void)
{
    int fd = memfd_create("kernel", MFD_CLOEXEC);
    static uint32_t words[MIB(3) / 4];
    for (uint32_t i = 0; i < ARRAY_SIZE(words); i++)
        words[i] = i * 2654435761u;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, words, sizeof(words)), sizeof(words));
    return fd;
}

static void add_range(struct machine *m, uint16_t key, int fd, uint64_t offset, uint64_t len)
{
    struct fw_cfg_item item = {.fd = fd, .offset = offset, .len = len, .path = "kernel"};
    assert_int_equal(fw_cfg_add(m->fw_cfg, key, &item, NULL), 0);
}

static void file_ranges_are_exactly_the_files_bytes(void **state)
{
    struct machine *m = *state;
    int fd = make_file();
    uint8_t *expected = malloc(MIB(3));
    assert_int_equal(pread(fd, expected, MIB(3), 0), MIB(3));
    add_range(m, FW_CFG_SETUP_DATA, fd, 0, 1024);
    add_range(m, FW_CFG_KERNEL_DATA, fd, 1024, MIB(3) - 1024);
    assert_int_equal(dma(m, FW_CFG_KERNEL_DATA << 16 | BIT(3) | BIT(1), MIB(3) - 1024, 0x10003), 0);
    assert_memory_equal(m->ram + 0x10003, expected + 1024, MIB(3) - 1024);
    uint8_t bytes[1025];
    select_key(m, FW_CFG_SETUP_DATA);
    read_ports(m, bytes, 1025);
    assert_memory_equal(bytes, expected, 1024);
    assert_int_equal(bytes[1024], 0);
    free(expected);
    close(fd);
}

static void a_range_beyond_the_files_end_is_refused(void **state)
{
    struct machine *m = *state;
    struct error err = ERROR_INIT;
    int fd = make_file();
    struct fw_cfg_item item = {.fd = fd, .offset = MIB(3) - 1, .len = 2, .path = "kernel"};
    assert_int_equal(fw_cfg_add(m->fw_cfg, FW_CFG_KERNEL_DATA, &item, &err), -ENODATA);
    assert_string_equal(err.message, "'kernel' is too short");
    close(fd);
}

static void file_that_changes_under_way_ends_it(struct machine *m, int fd)
{
    assert_int_equal(dma(m, BIT(1), 0x1000, 0x10000), 1);
    assert_int_equal(m->failures, 1);
    assert_non_null(strstr(m->failure, "'kernel' was changed while the guest read it"));
    /* Nothing of it, and nothing of anything else, is given any more. */
    memset(m->ram + 0x10000, 0xff, 4);
    assert_int_equal(dma(m, FW_CFG_SIGNATURE << 16 | BIT(3) | BIT(1), 4, 0x10000), 1);
    assert_int_equal(load_le32(m->ram + 0x10000), 0);
    assert_int_equal(m->failures, 1);
    close(fd);
}

static void file_that_shrinks_under_way_is_an_error(void **state)
{
    struct machine *m = *state;
    int fd = make_file();
    add_range(m, FW_CFG_KERNEL_DATA, fd, 0, MIB(3));
    assert_int_equal(dma(m, FW_CFG_KERNEL_DATA << 16 | BIT(3) | BIT(1), 0x1000, 0x10000), 0);
    assert_int_equal(ftruncate(fd, 0x1800), 0);
    file_that_changes_under_way_ends_it(m, fd);
}

static void file_that_grows_under_way_is_an_error(void **state)
{
    struct machine *m = *state;
    int fd = make_file();
    add_range(m, FW_CFG_KERNEL_DATA, fd, 0, MIB(3));
    assert_int_equal(dma(m, FW_CFG_KERNEL_DATA << 16 | BIT(3) | BIT(1), 0x1000, 0x10000), 0);
    assert_int_equal(ftruncate(fd, MIB(3) + 1), 0);
    file_that_changes_under_way_ends_it(m, fd);
}

static void odd_accesses_do_nothing(void **state)
{
    struct machine *m = *state;
    uint64_t value = 0x0101010101010101ull;
    static const unsigned widths[] = {1, 2, 4, 8};
    for (uint64_t port = 0x510; port < 0x51c; port++) {
        for (size_t i = 0; i < ARRAY_SIZE(widths); i++) {
            if (port + widths[i] > 0x51c || (port == 0x518 && widths[i] == 4))
                continue;
            uint64_t got = 0;
            bus_write(m->ports, port, &value, widths[i]);
            assert_true(bus_read(m->ports, port, &got, widths[i]));
        }
    }
    assert_int_equal(m->failures, 0);
    for (size_t i = 0; i < RAM_BYTES; i++)
        assert_int_equal(m->ram[i], 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(firmware_knows_it_by_signature_and_revision),
        TEST(directory_lists_files_in_the_order_of_their_names),
        TEST(names_that_cannot_be_are_refused),
        TEST(a_thousand_and_twenty_four_files_fit),
        TEST(dma_selects_reads_and_skips),
        TEST(dma_that_cannot_be_is_an_error_in_its_control_word),
        TEST(contents_are_made_once_and_when_they_are_asked_for),
        TEST(file_ranges_are_exactly_the_files_bytes),
        TEST(a_range_beyond_the_files_end_is_refused),
        TEST(file_that_shrinks_under_way_is_an_error),
        TEST(file_that_grows_under_way_is_an_error),
        TEST(odd_accesses_do_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
