#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "x86/acpi_aml.h"
#include "x86/layout.h"
#include "x86/tables.h"

#include "base/bytes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct acpi_in two_vcpus = {
    .cpus = {2, 2, 1, 2, 1, 1},
    .pci_mmio64 = GIB(64),
    .pci_mmio64_len = GIB(64),
    .serial = true,
};

static uint8_t sum(const uint8_t *bytes, size_t len)
{
    uint8_t total = 0;
    for (size_t i = 0; i < len; i++)
        total = (uint8_t)(total + bytes[i]);
    return total;
}

/** find_table() - through RSDP and XSDT, as a guest does; every checksum on the way must hold. */
static const uint8_t *find_table(const struct buf *acpi, uint64_t base, const char *signature)
{
    assert_memory_equal(acpi->data, "RSD PTR ", 8);
    assert_int_equal(sum(acpi->data, 20), 0);
    assert_int_equal(sum(acpi->data, 36), 0);
    const uint8_t *xsdt = acpi->data + (load_le64(acpi->data + 24) - base);
    assert_memory_equal(xsdt, "XSDT", 4);
    const uint8_t *found = NULL;
    for (uint32_t at = 36; at < load_le32(xsdt + 4); at += 8) {
        uint64_t offset = load_le64(xsdt + at) - base;
        assert_true(range_within(offset, 36, acpi->len));
        const uint8_t *table = acpi->data + offset;
        assert_true(range_within(offset, load_le32(table + 4), acpi->len));
        assert_int_equal(sum(table, load_le32(table + 4)), 0);
        if (memcmp(table, signature, 4) == 0)
            found = table;
    }
    assert_int_equal(sum(xsdt, load_le32(xsdt + 4)), 0);
    return found;
}

static void every_table_is_found_from_the_rsdp_and_sums_to_zero(void **state)
{
    (void)state;
    _cleanup_buf_ struct buf acpi = BUF_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(acpi_build(&acpi, 0x123000, &two_vcpus, &err), 0);
    const uint8_t *fadt = find_table(&acpi, 0x123000, "FACP");
    assert_non_null(fadt);
    assert_non_null(find_table(&acpi, 0x123000, "APIC"));
    assert_non_null(find_table(&acpi, 0x123000, "MCFG"));
    uint64_t dsdt = load_le64(fadt + 140) - 0x123000;
    assert_int_equal(load_le32(fadt + 40), load_le64(fadt + 140));
    assert_memory_equal(acpi.data + dsdt, "DSDT", 4);
    assert_int_equal(sum(acpi.data + dsdt, load_le32(acpi.data + dsdt + 4)), 0);
}

static void the_fadt_says_hardware_reduced_with_reset_sleep_and_timer_ports(void **state)
{
    (void)state;
    static const uint8_t port_600[12] = {1, 8, 0, 1, 0x00, 0x06};
    static const uint8_t port_608[12] = {1, 32, 0, 3, 0x08, 0x06};
    _cleanup_buf_ struct buf acpi = BUF_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(acpi_build(&acpi, LAYOUT_ACPI, &two_vcpus, &err), 0);
    const uint8_t *fadt = find_table(&acpi, LAYOUT_ACPI, "FACP");
    assert_int_equal(load_le32(fadt + 4), 276);
    assert_int_equal(load_le32(fadt + 112), 1 << 20 | 1 << 10 | 1 << 8 | 1 << 5 | 1 << 4 | 1);
    assert_memory_equal(fadt + 116, port_600, 12);
    assert_int_equal(fadt[128], 1);
    assert_memory_equal(fadt + 208, port_608, 12);
    assert_memory_equal(fadt + 244, port_600, 12);
    assert_memory_equal(fadt + 256, port_600, 12);
    assert_int_equal(load_le64(fadt + 132), 0); /* no FACS */
}

static void the_madt_disables_vcpus_that_are_not_there_yet(void **state)
{
    (void)state;
    static const uint8_t entries[] = {
        0, 8,  0,    0, 1, 0, 0,    0,                /* vCPU 0 */
        0, 8,  1,    1, 1, 0, 0,    0,                /* vCPU 1 */
        0, 8,  2,    2, 0, 0, 0,    0,                /* absent, in the next package */
        1, 12, 0,    0, 0, 0, 0xc0, 0xfe, 0, 0, 0, 0, /* IOAPIC */
        2, 10, 0,    4, 4, 0, 0,    0,    5, 0,       /* IRQ 4 */
        4, 6,  0xff, 5, 0, 1,                         /* NMI on LINT1 */
    };
    struct acpi_in in = two_vcpus;
    in.cpus = (struct cpu_layout){2, 3, 1, 2, 1, 2};
    _cleanup_buf_ struct buf acpi = BUF_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(acpi_build(&acpi, LAYOUT_ACPI, &in, &err), 0);
    const uint8_t *madt = find_table(&acpi, LAYOUT_ACPI, "APIC");
    assert_int_equal(load_le32(madt + 4), 44 + sizeof(entries));
    assert_int_equal(load_le32(madt + 36), 0xfee00000);
    assert_memory_equal(madt + 44, entries, sizeof(entries));
}

static void a_guest_without_serial_port_has_no_trace_of_one(void **state)
{
    (void)state;
    struct acpi_in in = two_vcpus;
    in.serial = false;
    _cleanup_buf_ struct buf acpi = BUF_INIT, with = BUF_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(acpi_build(&acpi, LAYOUT_ACPI, &in, &err), 0);
    assert_null(memmem(acpi.data, acpi.len, "COM1", 4));
    assert_int_equal(load_le32(find_table(&acpi, LAYOUT_ACPI, "APIC") + 4), 44 + 2 * 8 + 12 + 6);
    assert_int_equal(acpi_build(&with, LAYOUT_ACPI, &two_vcpus, &err), 0);
    assert_non_null(memmem(with.data, with.len, "COM1", 4));
}

static void the_same_guest_has_the_same_bytes(void **state)
{
    (void)state;
    _cleanup_buf_ struct buf a = BUF_INIT, b = BUF_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(acpi_build(&a, LAYOUT_ACPI, &two_vcpus, &err), 0);
    assert_int_equal(acpi_build(&b, LAYOUT_ACPI, &two_vcpus, &err), 0);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
}

static void as_many_vcpus_as_apic_ids_fit(void **state)
{
    (void)state;
    struct acpi_in in = two_vcpus;
    in.cpus = (struct cpu_layout){254, 254, 1, 254, 1, 1};
    _cleanup_buf_ struct buf acpi = BUF_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(acpi_build(&acpi, LAYOUT_ACPI, &in, &err), 0);
    assert_true(acpi.len <= LAYOUT_ACPI_MAX);
    assert_int_equal(load_le32(find_table(&acpi, LAYOUT_ACPI, "APIC") + 4),
                     44 + 254 * 8 + 12 + 10 + 6);
}

static void apic_ids_have_bit_fields_of_their_own_width(void **state)
{
    (void)state;
    const struct cpu_layout flat = {8, 8, 1, 8, 1, 1};
    const struct cpu_layout odd = {36, 36, 2, 3, 2, 3}; /* widths 1, 2, 1 */
    const struct cpu_layout sparse = {130, 130, 1, 65, 1, 2};
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(cpu_apic_id(&flat, i), i);
    assert_int_equal(cpu_apic_id(&odd, 0), 0);
    assert_int_equal(cpu_apic_id(&odd, 1), 1);
    assert_int_equal(cpu_apic_id(&odd, 5), 5);
    assert_int_equal(cpu_apic_id(&odd, 6), 8);   /* second die */
    assert_int_equal(cpu_apic_id(&odd, 12), 16); /* second package */
    assert_int_equal(cpu_apic_id(&odd, 35), 2 << 4 | 1 << 3 | 2 << 1 | 1);
    assert_int_equal(cpu_apic_id(&sparse, 64), 64);
    assert_int_equal(cpu_apic_id(&sparse, 65), 128);
}

static void a_topology_whose_apic_ids_run_out_is_refused(void **state)
{
    (void)state;
    struct acpi_in in = two_vcpus;
    in.cpus = (struct cpu_layout){200, 200, 1, 65, 1, 4};
    _cleanup_buf_ struct buf acpi = BUF_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(acpi_build(&acpi, LAYOUT_ACPI, &in, &err), -EINVAL);
    assert_string_equal(err.message,
                        "the CPU topology gives vCPU 130 APIC id 256; the highest usable is 254");
    in.cpus = (struct cpu_layout){256, 256, 256, 1, 1, 1};
    assert_int_equal(acpi_build(&acpi, LAYOUT_ACPI, &in, &err), -EINVAL);
    in.cpus = (struct cpu_layout){2, 1, 1, 2, 1, 1};
    assert_int_equal(acpi_build(&acpi, LAYOUT_ACPI, &in, &err), -EINVAL);
    assert_int_equal(acpi.len, 0);
}

static void a_pci_window_that_wraps_is_refused(void **state)
{
    (void)state;
    struct acpi_in in = two_vcpus;
    in.pci_mmio64 = UINT64_MAX - 10;
    in.pci_mmio64_len = 100;
    _cleanup_buf_ struct buf acpi = BUF_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(acpi_build(&acpi, LAYOUT_ACPI, &in, &err), -EINVAL);
    assert_non_null(strstr(err.message, "64-bit PCI window"));
}

/** built() - @table alone, its header and checksum right. */
static void built(struct buf *out, enum acpi_table table, const struct acpi_in *in,
                  const char *signature)
{
    struct error err = ERROR_INIT;
    assert_int_equal(acpi_table_build(out, table, in, &err), 0);
    assert_memory_equal(out->data, signature, 4);
    assert_int_equal(load_le32(out->data + 4), out->len);
    assert_int_equal(sum(out->data, out->len), 0);
}

static void a_table_alone_is_the_one_that_the_xsdt_names(void **state)
{
    (void)state;
    _cleanup_buf_ struct buf acpi = BUF_INIT, madt = BUF_INIT;
    struct error err = ERROR_INIT;
    assert_int_equal(acpi_build(&acpi, 0, &two_vcpus, &err), 0);
    built(&madt, ACPI_MADT, &two_vcpus, "APIC");
    assert_memory_equal(find_table(&acpi, 0, "APIC"), madt.data, madt.len);
}

static void srat_and_slit_tell_of_one_domain(void **state)
{
    (void)state;
    struct acpi_in in = two_vcpus;
    in.ram[0].len = GIB(2);
    in.ram[1].base = GIB(4);
    in.ram[1].len = GIB(1);
    _cleanup_buf_ struct buf srat = BUF_INIT, slit = BUF_INIT;
    built(&srat, ACPI_SRAT, &in, "SRAT");
    assert_int_equal(load_le32(srat.data + 36), 1);
    assert_int_equal(srat.len, 48 + 2 * 16 + 2 * 40);
    const uint8_t *second = srat.data + 48 + 16, *high = srat.data + 48 + 2 * 16 + 40;
    assert_memory_equal(second, ((uint8_t[]){0, 16, 0, 1, 1, 0, 0, 0}), 8);
    assert_int_equal(high[0], 1);
    assert_int_equal(high[1], 40);
    assert_int_equal(load_le32(high + 2), 0);
    assert_int_equal(load_le64(high + 8), GIB(4));
    assert_int_equal(load_le64(high + 16), GIB(1));
    assert_int_equal(load_le32(high + 28), 1);
    built(&slit, ACPI_SLIT, &in, "SLIT");
    assert_int_equal(load_le64(slit.data + 36), 1);
    assert_int_equal(slit.data[44], 10);
    assert_int_equal(slit.len, 45);
}

/** assert_node() - a node of the processor hierarchy. */
static void assert_node(const struct buf *pptt, size_t at, uint32_t flags, uint32_t parent,
                        uint32_t id)
{
    assert_true(at + 20 <= pptt->len);
    const uint8_t *node = pptt->data + at;
    assert_int_equal(load_le16(node), 0x1400); /* type 0, 20 bytes */
    assert_int_equal(load_le32(node + 4), flags);
    assert_int_equal(load_le32(node + 8), parent);
    assert_int_equal(load_le32(node + 12), id);
    assert_int_equal(load_le32(node + 16), 0);
}

static void the_pptt_has_the_topology_as_a_tree(void **state)
{
    (void)state;
    struct acpi_in in = two_vcpus;
    _cleanup_buf_ struct buf flat = BUF_INIT, deep = BUF_INIT;
    built(&flat, ACPI_PPTT, &in, "PPTT"); /* two cores in a package */
    assert_int_equal(flat.len, 36 + 3 * 20);
    assert_node(&flat, 36, 0x11, 0, 0);
    assert_node(&flat, 56, 0x1a, 36, 0);
    assert_node(&flat, 76, 0x1a, 36, 1);
    in.cpus = (struct cpu_layout){16, 16, 2, 2, 2, 2};
    built(&deep, ACPI_PPTT, &in, "PPTT"); /* each package: itself, 2 dies, 4 cores, 8 threads */
    assert_int_equal(deep.len, 36 + 2 * 15 * 20);
    assert_node(&deep, 36, 0x11, 0, 0);
    assert_node(&deep, 56, 0x10, 36, 0);
    assert_node(&deep, 76, 0x10, 56, 0);
    assert_node(&deep, 96, 0x1e, 76, 0);
    assert_node(&deep, 116, 0x1e, 76, 1);
    assert_node(&deep, 136, 0x10, 56, 0);
    assert_node(&deep, 156, 0x1e, 136, 2);
    assert_node(&deep, 196, 0x10, 36, 0);
    assert_node(&deep, 336, 0x11, 0, 0);
    assert_node(&deep, deep.len - 20, 0x1e, (uint32_t)deep.len - 60, 15);
}

static void aml_lengths_use_as_many_bytes_as_they_need(void **state)
{
    (void)state;
    /* Content bytes behind the length, and how the length reads (ACPI 6.5, 20.2.4). */
    static const struct {
        size_t content;
        uint8_t encoded[4];
        size_t bytes;
    } cases[] = {
        {5, {0x06}, 1},
        {62, {0x3f}, 1},
        {63, {0x41, 0x04}, 2},
        {4093, {0x4f, 0xff}, 2},
        {4094, {0x81, 0x00, 0x01}, 3},
        {70000, {0x83, 0x17, 0x11}, 3},
    };
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        _cleanup_buf_ struct buf out = BUF_INIT;
        struct aml aml = {.out = &out};
        aml_scope(&aml, "\\");
        uint8_t *more = buf_extend(&out, cases[i].content - 1);
        assert_non_null(more);
        memset(more, 0xcc, cases[i].content - 1);
        aml_end(&aml);
        assert_int_equal(out.len, 1 + cases[i].bytes + cases[i].content);
        assert_memory_equal(out.data + 1, cases[i].encoded, cases[i].bytes);
        assert_int_equal(out.data[1 + cases[i].bytes], '\\');
    }
}

static void aml_names_and_values_have_their_shortest_form(void **state)
{
    (void)state;
    static const uint8_t expected[] = {
        0x08, '_',  'H',  'I',  'D',  0x0c, 0x41, 0xd0, 0x05, 0x01, /* EisaId ("PNP0501") */
        0x08, '_',  'U',  'I',  'D',  0x00,                         /* Zero */
        0x01, 0x0a, 0xff, 0x0b, 0x00, 0x01, 0x0c, 0x00, 0x00, 0x01, 0x00, 0x0e, 0,    0,   0,    0,
        1,    0,    0,    0,    '\\', 0x2e, '_',  'S',  'B',  '_',  'P',  'W',  'R',  'B', 0x2f, 3,
        'A',  'A',  'A',  'A',  'B',  'B',  'B',  'B',  'C',  'C',  'C',  'C',  0x0d, 'h', 'i',  0,
    };
    _cleanup_buf_ struct buf out = BUF_INIT;
    struct aml aml = {.out = &out};
    aml_name(&aml, "_HID");
    aml_eisa_id(&aml, "PNP0501");
    aml_name(&aml, "_UID");
    aml_integer(&aml, 0);
    aml_integer(&aml, 1);
    aml_integer(&aml, 0xff);
    aml_integer(&aml, 0x100);
    aml_integer(&aml, 0x10000);
    aml_integer(&aml, 0x100000000);
    aml_path(&aml, "\\_SB_.PWRB");
    aml_path(&aml, "AAAA.BBBB.CCCC");
    aml_string(&aml, "hi");
    assert_int_equal(out.len, sizeof(expected));
    assert_memory_equal(out.data, expected, sizeof(expected));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_table_is_found_from_the_rsdp_and_sums_to_zero),
        cmocka_unit_test(the_fadt_says_hardware_reduced_with_reset_sleep_and_timer_ports),
        cmocka_unit_test(the_madt_disables_vcpus_that_are_not_there_yet),
        cmocka_unit_test(a_guest_without_serial_port_has_no_trace_of_one),
        cmocka_unit_test(the_same_guest_has_the_same_bytes),
        cmocka_unit_test(as_many_vcpus_as_apic_ids_fit),
        cmocka_unit_test(apic_ids_have_bit_fields_of_their_own_width),
        cmocka_unit_test(a_topology_whose_apic_ids_run_out_is_refused),
        cmocka_unit_test(a_pci_window_that_wraps_is_refused),
        cmocka_unit_test(a_table_alone_is_the_one_that_the_xsdt_names),
        cmocka_unit_test(srat_and_slit_tell_of_one_domain),
        cmocka_unit_test(the_pptt_has_the_topology_as_a_tree),
        cmocka_unit_test(aml_lengths_use_as_many_bytes_as_they_need),
        cmocka_unit_test(aml_names_and_values_have_their_shortest_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
