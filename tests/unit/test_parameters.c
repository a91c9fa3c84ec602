#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "launch/memory_map.h"
#include "launch/parameters.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM IGVM_MEMORY_MAP_ENTRY_TYPE_MEMORY
#define RESERVED IGVM_MEMORY_MAP_ENTRY_TYPE_PLATFORM_RESERVED

static void assert_entry(const struct buf *map, size_t i, uint64_t gpa, uint64_t len, uint16_t type)
{
    const size_t size = sizeof(IGVM_VHS_MEMORY_MAP_ENTRY);
    assert_true((i + 1) * size <= map->len);
    const uint8_t *entry = map->data + i * size;
    assert_int_equal(load_le64(entry), gpa / PAGE_BYTES);
    assert_int_equal(load_le64(entry + 8), len / PAGE_BYTES);
    assert_int_equal(load_le16(entry + 16), type);
    assert_int_equal(load_le16(entry + 18), 0);
    assert_int_equal(load_le32(entry + 20), 0);
}

static void a_map_of_ram_alone_has_its_regions(void **state)
{
    (void)state;
    _cleanup_buf_ struct buf map = BUF_INIT;
    const struct memory_map_range ram[] = {{0, GIB(2)}, {GIB(4), 0}, {GIB(4), GIB(1)}};
    memory_map_build(&map, ram, 3, NULL, 0);
    assert_int_equal(map.len, 48);
    assert_entry(&map, 0, 0, GIB(2), RAM);
    assert_entry(&map, 1, GIB(4), GIB(1), RAM);
}

static void reserved_ranges_are_cut_out_of_ram(void **state)
{
    (void)state;
    _cleanup_buf_ struct buf map = BUF_INIT;
    const struct memory_map_range ram[] = {{0, MIB(16)}, {GIB(4), MIB(1)}};
    /* The start of RAM; two on each other, not whole pages; across the end of RAM; beside RAM; all of high RAM. */
    struct memory_map_range reserved[] = {
        {GIB(4), MIB(1)},
        {MIB(8) + 0x1800, 0x1000},
        {0, PAGE_BYTES},
        {MIB(8) + 0x1000, 0x1001},
        {MIB(16) - PAGE_BYTES, 2 * PAGE_BYTES},
        {GIB(1), PAGE_BYTES},
    };
    memory_map_build(&map, ram, ARRAY_SIZE(ram), reserved, ARRAY_SIZE(reserved));
    assert_int_equal(map.len, 7 * 24);
    assert_entry(&map, 0, 0, PAGE_BYTES, RESERVED);
    assert_entry(&map, 1, PAGE_BYTES, MIB(8), RAM);
    assert_entry(&map, 2, MIB(8) + 0x1000, 2 * PAGE_BYTES, RESERVED);
    assert_entry(&map, 3, MIB(8) + 0x3000, MIB(8) - 4 * PAGE_BYTES, RAM);
    assert_entry(&map, 4, MIB(16) - PAGE_BYTES, 2 * PAGE_BYTES, RESERVED);
    assert_entry(&map, 5, GIB(1), PAGE_BYTES, RESERVED);
    assert_entry(&map, 6, GIB(4), MIB(1), RESERVED);
}

static void no_byte_is_told_of_twice_whatever_is_reserved(void **state)
{
    (void)state;
    /* A small address space, all of whose reservations of two ranges are tried. */
    for (unsigned n = 0; n < 8 * 8 * 8 * 8; n++) {
        _cleanup_buf_ struct buf map = BUF_INIT;
        const struct memory_map_range ram[] = {{PAGE_BYTES, 2 * PAGE_BYTES},
                                               {5 * PAGE_BYTES, 2 * PAGE_BYTES}};
        struct memory_map_range reserved[] = {
            {(uint64_t)(n & 7) * PAGE_BYTES, (uint64_t)(1 + (n >> 3 & 7)) * PAGE_BYTES},
            {(uint64_t)(n >> 6 & 7) * PAGE_BYTES, (uint64_t)(1 + (n >> 9 & 7)) * PAGE_BYTES}};
        int want[16] = {-1, RAM, RAM, -1, -1, RAM, RAM, -1, -1, -1, -1, -1, -1, -1, -1, -1};
        for (size_t i = 0; i < 2; i++)
            for (uint64_t p = 0; p < reserved[i].len / PAGE_BYTES; p++)
                want[reserved[i].gpa / PAGE_BYTES + p] = RESERVED;
        memory_map_build(&map, ram, 2, reserved, 2);
        uint64_t last = 0;
        for (size_t at = 0; at < map.len; at += 24) {
            uint64_t page = load_le64(map.data + at), count = load_le64(map.data + at + 8);
            assert_true(page >= last && count > 0 && page + count <= 16);
            last = page + count;
            for (uint64_t p = page; p < last; p++) {
                assert_int_equal(want[p], load_le16(map.data + at + 16));
                want[p] = -1;
            }
        }
        for (size_t p = 0; p < 16; p++)
            assert_int_equal(want[p], -1);
    }
}

static struct plan plan;
static struct parameters_in in;
static struct buf map, madt, srat, slit, pptt;

static int set_up(void **state)
{
    (void)state;
    plan = PLAN_INIT;
    map = madt = srat = slit = pptt = BUF_INIT;
    buf_append(&map, "mapmapmapmapmapmapmapmap", 24);
    buf_append(&madt, "madt", 4);
    buf_append(&srat, "srat", 4);
    buf_append(&slit, "slit", 4);
    buf_append(&pptt, "pptt", 4);
    in = (struct parameters_in){
        .memory_map = &map,
        .madt = &madt,
        .srat = &srat,
        .slit = &slit,
        .pptt = &pptt,
        .mmio = {{{1, 2}, {3, 4}}},
        .vcpus = 0x102,
        .cmdline = "a b",
        .memory_is_shared = true,
    };
    struct error err = ERROR_INIT;
    return plan_add_pages(&plan, MIB(1), PAGE_BYTES, PLAN_PAGE_UNMEASURED, "IGVM parameter area",
                          &err)
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    (void)state;
    plan_release(&plan);
    buf_release(&map);
    buf_release(&madt);
    buf_release(&srat);
    buf_release(&slit);
    buf_release(&pptt);
    return 0;
}

static void parameter(uint32_t type, uint32_t offset, uint32_t directive)
{
    struct error err = ERROR_INIT;
    struct plan_parameter parameter = {
        .run = 0, .type = type, .offset = offset, .directive = directive};
    assert_int_equal(plan_add_parameter(&plan, &parameter, &err), 0);
}

/** file_area() - the area's first contents are @len bytes of 0x5a of a file. */
static void file_area(uint64_t len)
{
    struct error err = ERROR_INIT;
    int fd = memfd_create("area", MFD_CLOEXEC);
    uint8_t bytes[PAGE_BYTES];
    memset(bytes, 0x5a, sizeof(bytes));
    assert_int_equal(write(fd, bytes, len), len);
    int file = plan_add_file(&plan, fd, PAGE_BYTES, "file", &err);
    assert_true(file >= 0);
    plan.runs[0].source = PLAN_SOURCE_FILE;
    plan.runs[0].range.file = (unsigned)file;
    plan.runs[0].range.offset = 0;
}

static void each_parameter_is_written_where_it_belongs(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    parameter(IGVM_VHT_VP_COUNT_PARAMETER, 0, 1);
    parameter(IGVM_VHT_ENVIRONMENT_INFO_PARAMETER, 4, 2);
    parameter(IGVM_VHT_COMMAND_LINE, 8, 3);
    parameter(IGVM_VHT_MMIO_RANGES, 16, 4);
    parameter(IGVM_VHT_MADT, 48, 5);
    parameter(IGVM_VHT_SRAT, 52, 6);
    parameter(IGVM_VHT_SLIT, 56, 7);
    parameter(IGVM_VHT_PPTT, 60, 8);
    parameter(IGVM_VHT_MEMORY_MAP, 64, 9);
    assert_int_equal(plan_fill_parameters(&plan, &in, &err), 0);
    static const uint8_t want[PAGE_BYTES] =
        "\2\1\0\0\1\0\0\0a b\0\0\0\0\0"
        "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0"
        "madtsratslitppttmapmapmapmapmapmapmapmap";
    assert_int_equal(plan.runs[0].source, PLAN_SOURCE_BYTES);
    assert_memory_equal(plan.runs[0].bytes, want, PAGE_BYTES);
}

static void what_the_file_has_in_an_area_stays_around_the_parameters(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    file_area(PAGE_BYTES);
    parameter(IGVM_VHT_VP_COUNT_PARAMETER, 100, 1);
    /* The empty entry that ends a map is written, whatever was there. */
    parameter(IGVM_VHT_MEMORY_MAP, PAGE_BYTES - 48, 2);
    assert_int_equal(plan_fill_parameters(&plan, &in, &err), 0);
    uint8_t want[PAGE_BYTES];
    memset(want, 0x5a, sizeof(want));
    store_le32(want + 100, 0x102);
    memcpy(want + PAGE_BYTES - 48, map.data, 24);
    memset(want + PAGE_BYTES - 24, 0, 24);
    assert_memory_equal(plan.runs[0].bytes, want, PAGE_BYTES);
}

static void an_area_without_parameters_is_read_when_it_is_loaded(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    file_area(PAGE_BYTES);
    assert_int_equal(plan_fill_parameters(&plan, &in, &err), 0);
    assert_int_equal(plan.runs[0].source, PLAN_SOURCE_FILE);
}

static void assert_refused(int code, const char *message)
{
    struct error err = ERROR_INIT;
    assert_int_equal(plan_fill_parameters(&plan, &in, &err), code);
    assert_string_equal(err.message, message);
}

static void a_number_that_does_not_fit_names_its_header(void **state)
{
    (void)state;
    parameter(IGVM_VHT_VP_COUNT_PARAMETER, PAGE_BYTES - 3, 17);
    assert_refused(-E2BIG, "header 17 (VP_COUNT_PARAMETER): 4 bytes are to be written, but its "
                           "area has 3 from byte 4093 on");
}

static void an_offset_behind_the_area_names_its_header(void **state)
{
    (void)state;
    parameter(IGVM_VHT_COMMAND_LINE, UINT32_MAX, 18);
    assert_refused(-E2BIG, "header 18 (COMMAND_LINE): 4 bytes are to be written, but its area has "
                           "0 from byte 4294967295 on");
}

static void a_map_needs_room_for_its_end(void **state)
{
    (void)state;
    parameter(IGVM_VHT_MEMORY_MAP, PAGE_BYTES - 47, 19);
    assert_refused(-E2BIG, "header 19 (MEMORY_MAP): 48 bytes are to be written, but its area has "
                           "47 from byte 4049 on");
}

static void a_device_tree_is_refused(void **state)
{
    (void)state;
    parameter(IGVM_VHT_DEVICE_TREE, 0, 20);
    assert_refused(-ENOTSUP, "header 20 (DEVICE_TREE): husk cannot fill this parameter");
}

static void a_file_that_became_shorter_is_an_error(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    file_area(100);
    parameter(IGVM_VHT_VP_COUNT_PARAMETER, 0, 21);
    assert_int_equal(plan_fill_parameters(&plan, &in, &err), -ENODATA);
    assert_non_null(strstr(err.message, "header 21 (VP_COUNT_PARAMETER): could not read 'file'"));
}

#define PROMISE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_map_of_ram_alone_has_its_regions),
        cmocka_unit_test(reserved_ranges_are_cut_out_of_ram),
        cmocka_unit_test(no_byte_is_told_of_twice_whatever_is_reserved),
        PROMISE(each_parameter_is_written_where_it_belongs),
        PROMISE(what_the_file_has_in_an_area_stays_around_the_parameters),
        PROMISE(an_area_without_parameters_is_read_when_it_is_loaded),
        PROMISE(a_number_that_does_not_fit_names_its_header),
        PROMISE(an_offset_behind_the_area_names_its_header),
        PROMISE(a_map_needs_room_for_its_end),
        PROMISE(a_device_tree_is_refused),
        PROMISE(a_file_that_became_shorter_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
