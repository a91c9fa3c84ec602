#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "config/options.h"
#include "devices/fw_cfg.h"
#include "vmm/firmware_files.h"
#include "vmm/firmware_items.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KERNEL_PATH "items-kernel"
#define INITRAMFS_PATH "items-initramfs"
#define ITEM_PATH "items-file"
#define PROTECTED_BYTES 3001 /* of the kernels made here, behind the setup area */

struct machine {
    struct vm_config config;
    struct guest_memory memory;
    struct bus *ports;
    struct firmware_files files;
    struct firmware_items *items;
    struct error err;
    unsigned failures;
};

static uint64_t placed_ecam(void *ctx)
{
    (void)ctx;
    return 0xe0000000;
}

static void failed(void *ctx, const struct error *err)
{
    struct machine *m = ctx;
    m->failures++;
    m->err = *err;
}

static int setup(void **state)
{
    struct machine *m = calloc(1, sizeof(*m));
    config_init_defaults(&m->config);
    m->config.payload.firmware = strdup("firmware");
    m->config.cpus.max = 1;
    m->ports = bus_new("port");
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    struct machine *m = *state;
    firmware_items_free(m->items);
    firmware_files_close(&m->files);
    bus_free(m->ports);
    config_release(&m->config);
    free(m);
    unlink(KERNEL_PATH);
    unlink(INITRAMFS_PATH);
    unlink(ITEM_PATH);
    return 0;
}

/** start() - the items of m->config. Returns 0, or -errno with m->err filled. */
static int start(struct machine *m)
{
    struct firmware_items_in in = {
        .config = &m->config,
        .files = &m->files,
        .memory = &m->memory,
        .ports = m->ports,
        .placed_ecam = placed_ecam,
        .failed = failed,
        .ctx = m,
    };
    firmware_files_close(&m->files);
    if (firmware_files_open(&m->files, &m->config, &m->err) < 0)
        return m->err.code;
    m->items = firmware_items_new(&in, &m->err);
    return m->items ? 0 : m->err.code;
}

static void assert_refused(struct machine *m, int code, const char *message)
{
    assert_int_equal(start(m), code);
    assert_string_equal(m->err.message, message);
}

/** make_file() - @len bytes that differ from each other's neighbours. Returns them, to be freed. */
static uint8_t *make_file(const char *path, size_t len)
{
    uint8_t *bytes = malloc(len + 1);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 131 + (i >> 8) * 7 + 1);
    FILE *file = fopen(path, "w");
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    fclose(file);
    return bytes;
}

/** make_kernel() - a bzImage of @len bytes whose header tells @sectors. Returns its bytes, to be freed. */
static uint8_t *make_kernel(struct machine *m, uint8_t sectors, size_t len)
{
    uint8_t *bytes = make_file(KERNEL_PATH, len);
    bytes[0x1f1] = sectors;
    store_le16(bytes + 0x1fe, 0xaa55);
    memcpy(bytes + 0x202, "HdrS", 4);
    FILE *file = fopen(KERNEL_PATH, "w");
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    fclose(file);
    free(m->config.payload.kernel);
    m->config.payload.kernel = strdup(KERNEL_PATH);
    return bytes;
}

static void select_key(struct machine *m, uint16_t key)
{
    uint8_t bytes[2];
    store_le16(bytes, key);
    assert_true(bus_write(m->ports, 0x510, bytes, 2));
}

static void read_on(struct machine *m, void *to, size_t len)
{
    for (size_t i = 0; i < len; i++)
        assert_true(bus_read(m->ports, 0x511, (uint8_t *)to + i, 1));
}

static uint32_t read_u32(struct machine *m, uint16_t key)
{
    uint8_t bytes[4];
    select_key(m, key);
    read_on(m, bytes, sizeof(bytes));
    return load_le32(bytes);
}

static void assert_item(struct machine *m, uint16_t key, const void *bytes, size_t len)
{
    uint8_t *found = malloc(len + 1);
    select_key(m, key);
    read_on(m, found, len);
    assert_memory_equal(found, bytes, len);
    free(found);
}

/** find() - the key of the item @name, its size to *size; 0 if there is none. */
static uint16_t find(struct machine *m, const char *name, uint32_t *size)
{
    uint8_t entry[64], count[4];
    select_key(m, FW_CFG_FILE_DIR);
    read_on(m, count, sizeof(count));
    uint32_t n;
    memcpy(&n, count, sizeof(n));
    for (n = be32toh(n); n; n--) {
        read_on(m, entry, sizeof(entry));
        if (strcmp((const char *)entry + 8, name) != 0)
            continue;
        uint16_t key;
        memcpy(size, entry, sizeof(*size));
        memcpy(&key, entry + 4, sizeof(key));
        *size = be32toh(*size);
        return be16toh(key);
    }
    return 0;
}

static void the_setup_area_is_exactly_what_the_header_tells_it_to_be(void **state)
{
    static const struct {
        uint8_t sectors;
        uint32_t setup;
    } cases[] = {{0, 2560}, {1, 1024}, {7, 4096}, {8, 4608}, {39, 20480}, {255, 131072}};
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        struct machine *m = *state;
        uint8_t *kernel = make_kernel(m, cases[i].sectors, cases[i].setup + PROTECTED_BYTES);
        assert_int_equal(start(m), 0);
        assert_int_equal(read_u32(m, FW_CFG_SETUP_SIZE), cases[i].setup);
        assert_int_equal(read_u32(m, FW_CFG_KERNEL_SIZE), PROTECTED_BYTES);
        assert_item(m, FW_CFG_SETUP_DATA, kernel, cases[i].setup);
        assert_item(m, FW_CFG_KERNEL_DATA, kernel + cases[i].setup, PROTECTED_BYTES);
        assert_int_equal(m->failures, 0);
        free(kernel);
        teardown(state);
        setup(state);
    }
}

static void a_kernel_that_ends_before_its_setup_area_is_refused(void **state)
{
    free(make_kernel(*state, 7, 4096));
    assert_refused(*state, -ENODATA,
                   "kernel '" KERNEL_PATH "' is truncated: its setup area has 4096 bytes, the file "
                   "4096");
}

static void what_is_no_bzimage_is_refused(void **state)
{
    struct machine *m = *state;
    free(make_file(KERNEL_PATH, 5000));
    m->config.payload.kernel = strdup(KERNEL_PATH);
    assert_refused(m, -ENOEXEC,
                   "kernel '" KERNEL_PATH "' is no bzImage, which is what firmware takes");
    assert_non_null(strstr(m->err.hint, "bzImage"));
}

static void without_an_initramfs_there_is_none(void **state)
{
    struct machine *m = *state;
    free(make_kernel(m, 1, 2000));
    assert_int_equal(start(m), 0);
    assert_int_equal(read_u32(m, FW_CFG_INITRD_SIZE), 0);
    assert_int_equal(read_u32(m, FW_CFG_CMDLINE_SIZE), 1);
    assert_item(m, FW_CFG_CMDLINE_DATA, "", 1);
}

static void what_is_switched_off_is_not_told(void **state)
{
    struct machine *m = *state;
    struct payload_config *payload = &m->config.payload;
    uint8_t *kernel = make_kernel(m, 1, 2000);
    free(make_file(INITRAMFS_PATH, 100));
    payload->initramfs = strdup(INITRAMFS_PATH);
    payload->cmdline = strdup("quiet");
    payload->fw_cfg.initramfs = payload->fw_cfg.cmdline = SWITCH_OFF;
    payload->fw_cfg.e820 = payload->fw_cfg.acpi_table = SWITCH_OFF;
    assert_int_equal(start(m), 0);
    uint32_t size;
    assert_int_equal(read_u32(m, FW_CFG_INITRD_SIZE), 0);
    assert_int_equal(read_u32(m, FW_CFG_CMDLINE_SIZE), 0);
    assert_int_equal(read_u32(m, FW_CFG_KERNEL_SIZE), 2000 - 1024);
    assert_int_equal(find(m, "etc/e820", &size), 0);
    assert_int_equal(find(m, "etc/table-loader", &size), 0);
    assert_int_not_equal(find(m, "etc/smbios/smbios-tables", &size), 0);
    free(kernel);
}

static void a_kernel_started_without_firmware_is_told_again_only_when_asked_for(void **state)
{
    struct machine *m = *state;
    free(m->config.payload.firmware);
    m->config.payload.firmware = NULL;
    m->config.payload.fw_cfg.e820 = SWITCH_ON;
    free(make_kernel(m, 1, 2000));
    assert_int_equal(start(m), 0);
    assert_int_equal(read_u32(m, FW_CFG_KERNEL_SIZE), 0);
    firmware_items_free(m->items);
    bus_free(m->ports);
    m->ports = bus_new("port");
    m->config.payload.fw_cfg.kernel = SWITCH_ON;
    assert_int_equal(start(m), 0);
    assert_int_equal(read_u32(m, FW_CFG_KERNEL_SIZE), 2000 - 1024);
}

static void give(struct machine *m, const char *name, const char *file, const char *string)
{
    struct fw_cfg_config *told = &m->config.payload.fw_cfg;
    told->items = reallocarray(told->items, told->n_items + 1, sizeof(*told->items));
    told->items[told->n_items++] = (struct fw_cfg_item_config){
        .name = strdup(name),
        .file = file ? strdup(file) : NULL,
        .string = string ? strdup(string) : NULL,
    };
}

static void disks_then_networks_are_booted_from_in_the_order_given(void **state)
{
    struct machine *m = *state;
    uint32_t size;
    assert_int_equal(start(m), 0);
    assert_int_equal(find(m, "bootorder", &size), 0);
    firmware_items_free(m->items);
    bus_free(m->ports);
    m->ports = bus_new("port");
    m->config.disks = calloc(2, sizeof(*m->config.disks));
    m->config.n_disks = 2;
    m->config.nets = calloc(1, sizeof(*m->config.nets));
    m->config.n_nets = 1;
    m->config.rng.src = strdup("/dev/urandom");
    m->config.pvpanic = true;
    static const char expected[] = "/pci@i0cf8/scsi@2/disk@0,0\n/pci@i0cf8/scsi@3/disk@0,0\n"
                                   "/pci@i0cf8/ethernet@4/ethernet-phy@0";
    assert_int_equal(start(m), 0);
    assert_item(m, find(m, "bootorder", &size), expected, sizeof(expected));
    assert_int_equal(size, sizeof(expected));
}

static void
a_life_after_the_first_has_the_same_files_whatever_their_names_lead_to_by_then(void **state)
{
    struct machine *m = *state;
    uint8_t *kernel = make_kernel(m, 1, 2000);
    uint64_t size;
    assert_int_equal(firmware_files_open(&m->files, &m->config, &m->err), 0);
    int fd = firmware_files_find(&m->files, KERNEL_PATH, &size, &m->err);
    assert_int_equal(unlink(KERNEL_PATH), 0);
    assert_int_equal(firmware_files_find(&m->files, KERNEL_PATH, &size, &m->err), fd);
    assert_int_equal(size, 2000);
    uint8_t *now = malloc(size);
    assert_int_equal(pread(fd, now, size, 0), 2000);
    assert_memory_equal(now, kernel, 2000);
    assert_int_equal(firmware_files_find(&m->files, INITRAMFS_PATH, &size, &m->err), -ENOENT);
    free(now);
    free(kernel);
}

static void a_thousand_items_are_there_byte_for_byte(void **state)
{
    struct machine *m = *state;
    uint8_t *bytes = make_file(ITEM_PATH, 70000);
    give(m, "opt/file", ITEM_PATH, NULL);
    give(m, "opt/empty", NULL, "");
    char name[64], text[64];
    for (unsigned i = 0; i < 998; i++) {
        snprintf(name, sizeof(name), "opt/org.husk.test/item/%u", i);
        snprintf(text, sizeof(text), "text %u", i);
        give(m, name, NULL, text);
    }
    assert_int_equal(start(m), 0);
    uint32_t size;
    uint16_t key = find(m, "opt/file", &size);
    assert_int_equal(size, 70000);
    assert_item(m, key, bytes, size);
    assert_int_not_equal(find(m, "opt/empty", &size), 0);
    assert_int_equal(size, 0);
    for (unsigned i = 0; i < 998; i += 97) {
        snprintf(name, sizeof(name), "opt/org.husk.test/item/%u", i);
        snprintf(text, sizeof(text), "text %u", i);
        key = find(m, name, &size);
        assert_int_equal(size, strlen(text));
        assert_item(m, key, text, size);
    }
    free(bytes);
}

static void an_item_that_husk_makes_itself_is_not_replaced(void **state)
{
    give(*state, "etc/e820", NULL, "x");
    assert_refused(*state, -EEXIST,
                   "--fw-cfg-config: item 'etc/e820': there is a fw_cfg item 'etc/e820' already");
}

static void a_file_that_is_not_there_is_named(void **state)
{
    give(*state, "opt/a", "/nonexistent/b", NULL);
    assert_refused(*state, -ENOENT,
                   "--fw-cfg-config: item 'opt/a': could not open '/nonexistent/b': No such file "
                   "or directory");
}

static void an_item_whose_file_shrinks_while_it_is_read_stops_the_guest(void **state)
{
    struct machine *m = *state;
    free(make_file(ITEM_PATH, 300000));
    give(m, "opt/file", ITEM_PATH, NULL);
    assert_int_equal(start(m), 0);
    uint32_t size;
    select_key(m, find(m, "opt/file", &size));
    uint8_t byte;
    read_on(m, &byte, 1);
    assert_int_equal(m->failures, 0);
    assert_int_equal(truncate(ITEM_PATH, 1000), 0);
    for (uint32_t i = 1; i < size; i++)
        read_on(m, &byte, 1);
    assert_true(m->failures > 0);
    assert_non_null(strstr(m->err.message, ITEM_PATH));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_setup_area_is_exactly_what_the_header_tells_it_to_be,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(a_kernel_that_ends_before_its_setup_area_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_no_bzimage_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(without_an_initramfs_there_is_none, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_switched_off_is_not_told, setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_kernel_started_without_firmware_is_told_again_only_when_asked_for, setup, teardown),
        cmocka_unit_test_setup_teardown(disks_then_networks_are_booted_from_in_the_order_given,
                                        setup, teardown),
        cmocka_unit_test_setup_teardown(
            a_life_after_the_first_has_the_same_files_whatever_their_names_lead_to_by_then, setup,
            teardown),
        cmocka_unit_test_setup_teardown(a_thousand_items_are_there_byte_for_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(an_item_that_husk_makes_itself_is_not_replaced, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_file_that_is_not_there_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(an_item_whose_file_shrinks_while_it_is_read_stops_the_guest,
                                        setup, teardown),
    };
    /* Files are made in a folder of this test's own. */
    char folder[] = "/tmp/husk-items-XXXXXX";
    if (!mkdtemp(folder) || chdir(folder) < 0)
        return 1;
    int ret = cmocka_run_group_tests(tests, NULL, NULL);
    if (rmdir(folder) < 0)
        perror(folder);
    return ret;
}
