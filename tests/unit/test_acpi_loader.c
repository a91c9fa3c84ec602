#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "x86/acpi_loader.h"

#include <stdlib.h>
#include <string.h>

#define RSDP_AT 0xf0000u
#define TABLES_AT 0x7fe00040u

static const struct acpi_in machine = {
    .cpus = {.boot = 2,
             .max = 2,
             .threads_per_core = 1,
             .cores_per_die = 2,
             .dies_per_package = 1,
             .packages = 1},
    .pci_mmio64 = GIB(512),
    .pci_mmio64_len = GIB(256),
    .serial = true,
};

/* What the firmware of this test has been told of, and where it put it. */
struct firmware {
    struct acpi_blobs blobs;
    bool has_rsdp, has_tables;
};

static struct buf *blob(struct firmware *fw, const uint8_t *file, uint64_t *at)
{
    bool rsdp = strcmp((const char *)file, "etc/acpi/rsdp") == 0;
    if (!rsdp)
        assert_string_equal((const char *)file, "etc/acpi/tables");
    assert_true(rsdp ? fw->has_rsdp : fw->has_tables);
    *at = rsdp ? RSDP_AT : TABLES_AT;
    return rsdp ? &fw->blobs.rsdp : &fw->blobs.tables;
}

static void run_allocate(struct firmware *fw, const uint8_t *command)
{
    bool rsdp = strcmp((const char *)command + 4, "etc/acpi/rsdp") == 0;
    assert_int_equal(load_le32(command + 60), rsdp ? 16 : 64);
    assert_int_equal(command[64], rsdp ? 2 : 1);
    *(rsdp ? &fw->has_rsdp : &fw->has_tables) = true;
}

static void run_add_pointer(struct firmware *fw, const uint8_t *command)
{
    uint64_t to_at, from_at;
    struct buf *to = blob(fw, command + 4, &to_at);
    struct buf *from = blob(fw, command + 60, &from_at);
    uint32_t offset = load_le32(command + 116);
    uint8_t size = command[120];
    assert_true(size == 4 || size == 8);
    assert_true(range_within(offset, size, to->len));
    uint64_t value = 0;
    memcpy(&value, to->data + offset, size);
    assert_true(value < from->len);
    value += from_at;
    memcpy(to->data + offset, &value, size);
}

static void run_add_checksum(struct firmware *fw, const uint8_t *command)
{
    uint64_t at;
    struct buf *of = blob(fw, command + 4, &at);
    uint32_t result = load_le32(command + 60), start = load_le32(command + 64),
             len = load_le32(command + 68);
    assert_true(range_within(start, len, of->len) && result >= start && result < start + len);
    assert_int_equal(of->data[result], 0);
    uint8_t sum = 0;
    for (uint32_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + of->data[start + i]);
    of->data[result] = (uint8_t)-sum;
}

/** run_loader() - what firmware does with the script. */
static void run_loader(struct firmware *fw)
{
    assert_int_equal(fw->blobs.loader.len % 128, 0);
    for (size_t i = 0; i < fw->blobs.loader.len; i += 128) {
        const uint8_t *command = fw->blobs.loader.data + i;
        switch (load_le32(command)) {
        case 1:
            run_allocate(fw, command);
            break;
        case 2:
            run_add_pointer(fw, command);
            break;
        case 3:
            run_add_checksum(fw, command);
            break;
        default:
            fail_msg("command %u is none that stage0 knows", load_le32(command));
        }
    }
}

static void script_yields_the_tables_as_if_built_for_that_place(void **state)
{
    (void)state;
    struct firmware fw = {.blobs = ACPI_BLOBS_INIT};
    struct error err = ERROR_INIT;
    assert_int_equal(acpi_blobs_build(&fw.blobs, &machine, &err), 0);
    run_loader(&fw);

    _cleanup_buf_ struct buf expected = BUF_INIT;
    /* The RSDP has 48 bytes of room before the tables there. */
    assert_int_equal(acpi_build(&expected, TABLES_AT - 48, &machine, &err), 0);
    assert_int_equal(fw.blobs.rsdp.len, 36);
    assert_memory_equal(fw.blobs.rsdp.data, expected.data, 36);
    assert_int_equal(fw.blobs.tables.len, expected.len - 48);
    assert_memory_equal(fw.blobs.tables.data, expected.data + 48, fw.blobs.tables.len);
    acpi_blobs_release(&fw.blobs);
}

static void what_cannot_be_described_is_an_error(void **state)
{
    (void)state;
    struct acpi_blobs blobs = ACPI_BLOBS_INIT;
    struct error err = ERROR_INIT;
    struct acpi_in none = machine;
    none.cpus.boot = 0;
    assert_true(acpi_blobs_build(&blobs, &none, &err) < 0);
    acpi_blobs_release(&blobs);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(script_yields_the_tables_as_if_built_for_that_place),
        cmocka_unit_test(what_cannot_be_described_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
