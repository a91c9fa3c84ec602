#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "x86/boot.h"
#include "x86/layout.h"
#include "x86/tables.h"

#include "base/bytes.h"

#include <errno.h>
#include <string.h>

/** find_type() - the first structure of @type, all before it walked as a guest does. NULL if there is none. */
static const uint8_t *find_type(const struct buf *smbios, uint8_t type)
{
    const uint8_t *at = smbios->data + 32, *end = at + load_le32(smbios->data + 12);
    assert_ptr_equal(end, smbios->data + smbios->len);
    while (at + 4 <= end && at[0] != type && at[0] != 127) {
        at += at[1];
        while (at[0] || at[1])
            at++;
        at += 2;
    }
    return at[0] == type ? at : NULL;
}

/** string_of() - the string whose number is at @offset of @structure. */
static const char *string_of(const uint8_t *structure, size_t offset)
{
    const char *text = (const char *)structure + structure[1];
    for (unsigned i = 1; i < structure[offset]; i++)
        text += strlen(text) + 1;
    return structure[offset] ? text : NULL;
}

static void the_entry_point_leads_to_the_tables(void **state)
{
    (void)state;
    _cleanup_buf_ struct buf smbios = BUF_INIT;
    struct error err = ERROR_INIT;
    const struct smbios_in in = {.ram_bytes = MIB(256), .low_ram = MIB(256), .vcpus = 1};
    assert_int_equal(smbios_build(&smbios, 0xf0000, &in, &err), 0);
    const uint8_t *entry = smbios.data;
    assert_memory_equal(entry, "_SM3_", 5);
    assert_int_equal(entry[6], 24);
    assert_int_equal(entry[7], 3);
    assert_int_equal(load_le64(entry + 16), 0xf0020);
    uint8_t sum = 0;
    for (unsigned i = 0; i < 24; i++)
        sum = (uint8_t)(sum + entry[i]);
    assert_int_equal(sum, 0);
    static const uint8_t end[] = {127, 4, 0x00, 0x7f, 0, 0};
    assert_memory_equal(find_type(&smbios, 127), end, sizeof(end));
    assert_ptr_equal(find_type(&smbios, 127) + sizeof(end), smbios.data + smbios.len);
}

static void the_bios_structure_says_virtual_machine(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        0, 0x18, 0,   0,   1,    2,   0,   0,    3,    0,   8,   0,   0,   0, 0,
        0, 0,    0,   0,   0x10, 0,   0,   0xff, 0xff, 'h', 'u', 's', 'k', 0, '1',
        0, '0',  '1', '/', '0',  '1', '/', '2',  '0',  '2', '6', 0,   0,
    };
    _cleanup_buf_ struct buf smbios = BUF_INIT;
    struct error err = ERROR_INIT;
    const struct smbios_in in = {.ram_bytes = MIB(256), .low_ram = MIB(256), .vcpus = 1};
    assert_int_equal(smbios_build(&smbios, 0xf0000, &in, &err), 0);
    assert_memory_equal(smbios.data + 32, expected, sizeof(expected));
}

static void system_strings_are_the_users(void **state)
{
    (void)state;
    static const uint8_t uuid[] = {0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66,
                                   0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};
    _cleanup_buf_ struct buf smbios = BUF_INIT;
    struct error err = ERROR_INIT;
    const struct smbios_in in = {
        .manufacturer = "Maker",
        .product_name = "Product",
        .version = "v2",
        .serial_number = "ds=nocloud",
        .sku_number = "sku",
        .family = "Familie \xc3\xa4",
        .uuid = "00112233-4455-6677-8899-AABBccddeeff",
        .chassis_asset_tag = "tag",
        .ram_bytes = MIB(256),
        .low_ram = MIB(256),
        .vcpus = 1,
    };
    assert_int_equal(smbios_build(&smbios, 0xf0000, &in, &err), 0);
    const uint8_t *system = find_type(&smbios, 1);
    assert_non_null(system);
    assert_string_equal(string_of(system, 0x04), "Maker");
    assert_string_equal(string_of(system, 0x05), "Product");
    assert_string_equal(string_of(system, 0x06), "v2");
    assert_string_equal(string_of(system, 0x07), "ds=nocloud");
    assert_string_equal(string_of(system, 0x19), "sku");
    assert_string_equal(string_of(system, 0x1a), "Familie \xc3\xa4");
    assert_memory_equal(system + 8, uuid, 16);
    assert_string_equal(string_of(find_type(&smbios, 3), 0x08), "tag");
}

static void what_is_not_given_is_husks_or_not_specified(void **state)
{
    (void)state;
    static const uint8_t no_uuid[16] = {0};
    _cleanup_buf_ struct buf smbios = BUF_INIT;
    struct error err = ERROR_INIT;
    const struct smbios_in in = {
        .serial_number = "", .ram_bytes = MIB(256), .low_ram = MIB(256), .vcpus = 1};
    assert_int_equal(smbios_build(&smbios, 0xf0000, &in, &err), 0);
    const uint8_t *system = find_type(&smbios, 1);
    assert_string_equal(string_of(system, 0x04), "husk");
    assert_string_equal(string_of(system, 0x05), "husk");
    assert_null(string_of(system, 0x06));
    assert_null(string_of(system, 0x07)); /* an empty string would end the strings */
    assert_memory_equal(system + 8, no_uuid, 16);
    assert_null(find_type(&smbios, 11));
    assert_null(string_of(find_type(&smbios, 3), 0x08));
}

static void oem_strings_come_in_their_order(void **state)
{
    (void)state;
    const char *strings[255];
    for (size_t i = 0; i < 255; i++)
        strings[i] = i == 1 ? "io.systemd.credential:tty=a=b" : "x";
    struct smbios_in in = {.oem_strings = strings, .n_oem_strings = 2, .vcpus = 1};
    _cleanup_buf_ struct buf smbios = BUF_INIT, many = BUF_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(smbios_build(&smbios, 0xf0000, &in, &err), 0);
    const uint8_t *oem = find_type(&smbios, 11);
    assert_non_null(oem);
    assert_int_equal(oem[4], 2);
    assert_memory_equal(oem + 5, "x\0io.systemd.credential:tty=a=b\0", 33);
    in.n_oem_strings = 255;
    assert_int_equal(smbios_build(&many, 0xf0000, &in, &err), 0);
    assert_int_equal(find_type(&many, 11)[4], 255);
}

static void strings_that_smbios_cannot_hold_are_refused(void **state)
{
    (void)state;
    static char huge[LAYOUT_SMBIOS_MAX + 1];
    memset(huge, 'x', LAYOUT_SMBIOS_MAX);
    const char *strings[256];
    for (size_t i = 0; i < 256; i++)
        strings[i] = "x";
    const char *empty = "", *large = huge;
    const struct {
        struct smbios_in in;
        int code;
        const char *text;
    } cases[] = {
        {{.serial_number = "a\nb"},
         -EINVAL,
         "the serial number has a control character, 0x0a, at position 1"},
        {{.family = "\x7f"}, -EINVAL, "the system family has a control character, 0x7f"},
        {{.uuid = ""}, -EINVAL, "'' is not a UUID"},
        {{.uuid = "00112233-4455-6677-8899-aabbccddeef"}, -EINVAL, "is not a UUID"},
        {{.uuid = "00112233-4455-6677-8899-aabbccddeeff0"}, -EINVAL, "is not a UUID"},
        {{.uuid = "00112233445566778899aabbccddeeff"}, -EINVAL, "is not a UUID"},
        {{.uuid = "0011223g-4455-6677-8899-aabbccddeeff"}, -EINVAL, "is not a UUID"},
        {{.oem_strings = strings, .n_oem_strings = 256}, -E2BIG, "256 OEM strings are too many"},
        {{.oem_strings = &empty, .n_oem_strings = 1}, -EINVAL, "OEM string number 1 is empty"},
        {{.oem_strings = &large, .n_oem_strings = 1}, -E2BIG, "more than the 61440 set aside"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_buf_ struct buf smbios = BUF_INIT;
        struct error err = ERROR_INIT;
        assert_int_equal(smbios_build(&smbios, 0xf0000, &cases[i].in, &err), cases[i].code);
        if (!strstr(err.message, cases[i].text))
            fail_msg("'%s' does not say '%s'", err.message, cases[i].text);
    }
}

static void memory_of_any_size_is_described(void **state)
{
    (void)state;
    static const struct {
        uint64_t ram;
        uint16_t size;
        uint32_t extended, last_kib;
    } cases[] = {
        {MIB(256), 256, 0, 0x3ffff},
        {GIB(6), 6144, 0, 0x2fffff},
        {GIB(64), 0x7fff, 65536, 0x2fffff},
        {GIB(8192), 0x7fff, 8388608, 0x2fffff},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_buf_ struct buf smbios = BUF_INIT;
        struct error err = ERROR_INIT;
        const struct smbios_in in = {
            .ram_bytes = cases[i].ram, .low_ram = layout_low_ram(cases[i].ram), .vcpus = 254};
        assert_int_equal(smbios_build(&smbios, 0xf0000, &in, &err), 0);
        const uint8_t *device = find_type(&smbios, 17), *mapped = find_type(&smbios, 19);
        assert_int_equal(load_le16(device + 0x0c), cases[i].size);
        assert_int_equal(load_le32(device + 0x1c), cases[i].extended);
        assert_int_equal(load_le32(mapped + 8), cases[i].last_kib);
        assert_int_equal(find_type(&smbios, 4)[0x23], 254);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_entry_point_leads_to_the_tables),
        cmocka_unit_test(the_bios_structure_says_virtual_machine),
        cmocka_unit_test(system_strings_are_the_users),
        cmocka_unit_test(what_is_not_given_is_husks_or_not_specified),
        cmocka_unit_test(oem_strings_come_in_their_order),
        cmocka_unit_test(strings_that_smbios_cannot_hold_are_refused),
        cmocka_unit_test(memory_of_any_size_is_described),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
