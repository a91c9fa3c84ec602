#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "devices/pci.h"
#include "x86/layout.h"

#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW64 BIT64(40)
#define WINDOW64_LEN BIT64(40)
#define CONFIG_BYTES 4096u /* of each function, in ECAM */

struct machine {
    struct bus *ports, *mmio;
    struct pci_host *host;
};

static struct machine *machine_new(uint64_t mmio64_len)
{
    struct machine *m = calloc(1, sizeof(*m));
    m->ports = bus_new("port");
    m->mmio = bus_new("MMIO");
    m->host = pci_host_new(m->ports, m->mmio, WINDOW64, mmio64_len, NULL);
    assert_non_null(m->host);
    return m;
}

static void machine_free(struct machine *m)
{
    pci_host_free(m->host);
    bus_free(m->ports);
    bus_free(m->mmio);
    free(m);
}

static int setup(void **state)
{
    *state = machine_new(WINDOW64_LEN);
    return 0;
}

static int teardown(void **state)
{
    machine_free(*state);
    return 0;
}

/* A device whose BARs read as its number, and that remembers where they are. */
struct probe {
    struct pci_device *pci;
    uint8_t number;
    uint64_t mapped_at[PCI_BARS_MAX]; /* 0: nowhere */
    unsigned moves;
    unsigned written_offset, written_len;
};

static void probe_read(void *device, uint64_t offset, void *data, unsigned len)
{
    (void)offset;
    memset(data, ((struct probe *)device)->number, len);
}

static void probe_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    (void)device;
    (void)offset;
    (void)data;
    (void)len;
}

static void on_bar_moved(void *device, unsigned bar, uint64_t base)
{
    struct probe *probe = device;
    assert_true(probe->mapped_at[bar] == 0 || base == 0);
    probe->mapped_at[bar] = base;
    probe->moves++;
}

static void on_config_written(void *device, unsigned offset, unsigned len)
{
    struct probe *probe = device;
    probe->written_offset = offset;
    probe->written_len = len;
}

static const struct bus_ops bar_ops = {probe_read, probe_write};

/** probe_create() - a device in the first free slot, which the tests take for @number; not started yet. */
static void probe_create(struct machine *m, struct probe *probe, uint8_t number)
{
    static const struct pci_device_ops ops = {.bar_moved = on_bar_moved,
                                              .config_written = on_config_written};
    *probe = (struct probe){.number = number};
    struct pci_device_params params = {
        .name = "probe",
        .vendor_id = 0x1234,
        .device_id = 0x5678,
        .class_code = 0xff0000,
        .ops = &ops,
        .device = probe,
    };
    probe->pci = pci_device_add(m->host, &params, NULL);
    assert_non_null(probe->pci);
}

static int probe_bar(struct probe *probe, unsigned index, uint64_t len, bool is_64bit)
{
    return pci_device_add_bar(probe->pci, index, len, is_64bit, &bar_ops, NULL);
}

static void probe_add(struct machine *m, struct probe *probe, uint8_t number, uint64_t len)
{
    probe_create(m, probe, number);
    assert_int_equal(probe_bar(probe, 0, len, false), 0);
    pci_device_start(probe->pci);
}

static uint64_t ecam(unsigned slot, unsigned offset)
{
    return LAYOUT_ECAM + ((uint64_t)slot << 15) + offset;
}

static uint32_t config_read(struct machine *m, unsigned slot, unsigned offset)
{
    uint32_t value = 0;
    assert_true(bus_read(m->mmio, ecam(slot, offset), &value, 4));
    return le32toh(value);
}

static void config_write(struct machine *m, unsigned slot, unsigned offset, uint32_t value)
{
    value = htole32(value);
    assert_true(bus_write(m->mmio, ecam(slot, offset), &value, 4));
}

static uint32_t port_read(struct machine *m, unsigned port, unsigned len)
{
    uint32_t value = 0;
    bus_read(m->ports, port, &value, len);
    return le32toh(value);
}

static void port_write(struct machine *m, unsigned port, uint32_t value, unsigned len)
{
    value = htole32(value);
    bus_write(m->ports, port, &value, len);
}

static uint16_t command(struct machine *m, unsigned slot)
{
    return (uint16_t)config_read(m, slot, PCI_COMMAND);
}

/** answer_at() - what a byte read of guest memory gives; -1 if nobody answers. */
static int answer_at(struct machine *m, uint64_t addr)
{
    uint8_t value;
    return bus_read(m->mmio, addr, &value, 1) ? value : -1;
}

static void the_host_bridge_is_found_through_ports_and_ecam(void **state)
{
    struct machine *m = *state;
    assert_int_equal(config_read(m, 0, PCI_VENDOR_ID), 0x0d578086);
    assert_int_equal(config_read(m, 0, PCI_CLASS_REVISION), 0x06000000);
    port_write(m, 0xcf8, 0x80000000, 4);
    assert_int_equal(port_read(m, 0xcf8, 4), 0x80000000);
    assert_int_equal(port_read(m, 0xcfc, 4), 0x0d578086);
    assert_int_equal(port_read(m, 0xcfc, 2), 0x8086);
    assert_int_equal(port_read(m, 0xcfe, 2), 0x0d57);
    assert_int_equal(port_read(m, 0xcff, 1), 0x0d);
}

static void slots_functions_and_buses_without_a_device_read_as_ones(void **state)
{
    struct machine *m = *state;
    struct probe probe;
    probe_add(m, &probe, 1, 4096);
    assert_int_equal(config_read(m, 1, 0), 0x56781234);
    for (unsigned slot = 2; slot < PCI_DEVICES_MAX; slot++)
        assert_int_equal(config_read(m, slot, 0), 0xffffffff);
    for (unsigned function = 1; function < 8; function++)
        assert_int_equal(config_read(m, 1, function << 12), 0xffffffff);
    for (unsigned bus = 1; bus < 256; bus++) {
        uint32_t value = 0;
        assert_false(bus_read(m->mmio, LAYOUT_ECAM + ((uint64_t)bus << 20), &value, 4));
        assert_int_equal(value, 0xffffffff);
        port_write(m, 0xcf8, 0x80000000 | bus << 16, 4);
        assert_int_equal(port_read(m, 0xcfc, 4), 0xffffffff);
    }
    port_write(m, 0xcf8, 0x80000000 | 1 << 11, 4);
    assert_int_equal(port_read(m, 0xcfc, 4), 0x56781234);
    /* Not enabled: not a configuration access. */
    port_write(m, 0xcf8, 1 << 11, 4);
    assert_int_equal(port_read(m, 0xcfc, 4), 0xffffffff);
}

static void a_device_is_not_seen_before_it_is_complete(void **state)
{
    struct machine *m = *state;
    struct probe probe;
    probe_create(m, &probe, 1);
    assert_int_equal(probe_bar(&probe, 0, 4096, false), 0);
    assert_int_equal(config_read(m, 1, 0), 0xffffffff);
    config_write(m, 1, PCI_COMMAND, PCI_COMMAND_MEMORY);
    assert_int_equal(probe.moves, 0);
    pci_device_start(probe.pci);
    assert_int_equal(config_read(m, 1, 0), 0x56781234);
    assert_int_equal(probe.moves, 1);
}

static void the_address_port_takes_32_bits_at_once_or_nothing(void **state)
{
    struct machine *m = *state;
    port_write(m, 0xcf8, 0x80000000, 4);
    port_write(m, 0xcf8, 0x55, 1);
    port_write(m, 0xcf9, 0x06, 1);
    port_write(m, 0xcfa, 0x5555, 2);
    port_write(m, 0xcfa, 0x55555555, 4);
    assert_int_equal(port_read(m, 0xcf8, 4), 0x80000000);
    assert_int_equal(port_read(m, 0xcfa, 4), 0xffffffff);
}

/* What a guest can change of the device below, byte by byte. */
static void allow(uint8_t *writable, unsigned offset, uint32_t mask)
{
    store_le32(writable + offset, mask);
}

/** sweep() - write @fill at every offset in every width, and check after each write that only writable bits moved. */
static void sweep(struct machine *m, const uint8_t *writable, uint8_t *expected, uint8_t fill)
{
    uint8_t value[8];
    memset(value, fill, sizeof(value));
    for (unsigned len = 1; len <= 8; len *= 2) {
        for (unsigned offset = 0; offset < CONFIG_BYTES; offset++) {
            assert_true(bus_write(m->mmio, ecam(1, offset), value, len));
            for (unsigned i = offset; i < MIN(offset + len, CONFIG_BYTES); i++)
                expected[i] = (uint8_t)((expected[i] & ~writable[i]) | (fill & writable[i]));
            for (unsigned at = 0; at < 256; at += 4)
                assert_int_equal(config_read(m, 1, at), load_le32(expected + at));
            uint8_t read[8];
            assert_true(bus_read(m->mmio, ecam(1, offset), read, len));
            for (unsigned i = 0; i < len && offset + i < CONFIG_BYTES; i++)
                assert_int_equal(read[i], expected[offset + i]);
        }
    }
}

static void writes_of_every_offset_and_width_change_writable_bits_only(void **state)
{
    struct machine *m = *state;
    struct probe probe;
    probe_create(m, &probe, 1);
    assert_int_equal(probe_bar(&probe, 0, 4096, false), 0);
    assert_int_equal(probe_bar(&probe, 2, MIB(1), true), 0);
    uint8_t body[14] = {1, 2, 3};
    const uint8_t body_writable[14] = {0, 0, 0x0f, 0xf0};
    int cap =
        pci_device_add_capability(probe.pci, PCI_CAP_ID_VNDR, body, sizeof(body), body_writable);
    assert_int_equal(cap, 0x40);
    pci_device_start(probe.pci);

    static uint8_t expected[CONFIG_BYTES], writable[CONFIG_BYTES];
    for (unsigned at = 0; at < CONFIG_BYTES; at += 4)
        store_le32(expected + at, config_read(m, 1, at));
    allow(writable, PCI_COMMAND,
          PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
    allow(writable, PCI_CACHE_LINE_SIZE, 0xff);
    allow(writable, PCI_BASE_ADDRESS_0, 0xfffff000);
    allow(writable, PCI_BASE_ADDRESS_2, 0xfff00000);
    allow(writable, PCI_BASE_ADDRESS_3, 0xffffffff);
    allow(writable, PCI_INTERRUPT_LINE, 0xff);
    allow(writable, 0x44, 0x0000f00f);
    sweep(m, writable, expected, 0xff);
    sweep(m, writable, expected, 0x00);
    sweep(m, writable, expected, 0xa5);
    assert_int_equal(config_read(m, 1, 0), 0x56781234);
    assert_int_equal(config_read(m, 0, 0), 0x0d578086);
}

static void sizing_tells_the_size_of_every_32_bit_bar(void **state)
{
    (void)state;
    for (uint64_t len = 16; len <= MIB(512); len *= 2) {
        struct machine *m = machine_new(0);
        struct probe probe;
        probe_add(m, &probe, 1, len);
        uint32_t before = config_read(m, 1, PCI_BASE_ADDRESS_0);
        assert_true(is_aligned(before, len));
        config_write(m, 1, PCI_BASE_ADDRESS_0, 0xffffffff);
        assert_int_equal(config_read(m, 1, PCI_BASE_ADDRESS_0), (uint32_t) ~(len - 1));
        assert_int_equal(probe.mapped_at[0], 0);
        config_write(m, 1, PCI_BASE_ADDRESS_0, before);
        assert_int_equal(probe.mapped_at[0], before);
        machine_free(m);
    }
}

static void sizing_tells_the_size_of_every_64_bit_bar(void **state)
{
    (void)state;
    for (uint64_t len = 16; len <= WINDOW64_LEN; len *= 2) {
        struct machine *m = machine_new(WINDOW64_LEN);
        struct probe probe;
        probe_create(m, &probe, 1);
        assert_int_equal(probe_bar(&probe, 4, len, true), 0);
        pci_device_start(probe.pci);
        uint64_t before = probe.mapped_at[4];
        assert_true(before >= WINDOW64 && is_aligned(before, len));
        config_write(m, 1, PCI_BASE_ADDRESS_4, 0xffffffff);
        config_write(m, 1, PCI_BASE_ADDRESS_5, 0xffffffff);
        uint64_t mask = config_read(m, 1, PCI_BASE_ADDRESS_4);
        assert_int_equal(mask & 0x7, PCI_BASE_ADDRESS_MEM_TYPE_64);
        mask = (mask & ~0xfull) | (uint64_t)config_read(m, 1, PCI_BASE_ADDRESS_5) << 32;
        assert_true(mask == ~(len - 1));
        config_write(m, 1, PCI_BASE_ADDRESS_4, (uint32_t)before);
        config_write(m, 1, PCI_BASE_ADDRESS_5, (uint32_t)(before >> 32));
        assert_true(probe.mapped_at[4] == before);
        machine_free(m);
    }
}

static void a_bar_of_no_possible_size_or_place_is_refused(void **state)
{
    struct machine *m = *state;
    struct probe probe;
    struct error err = ERROR_INIT;
    probe_create(m, &probe, 1);
    static const uint64_t sizes[] = {0, 1, 8, 24, 4095};
    for (unsigned i = 0; i < ARRAY_SIZE(sizes); i++)
        assert_int_equal(probe_bar(&probe, 0, sizes[i], false), -EINVAL);
    assert_int_equal(probe_bar(&probe, 6, 4096, false), -EINVAL);
    assert_int_equal(probe_bar(&probe, 5, 4096, true), -EINVAL);
    assert_int_equal(probe_bar(&probe, 1, 4096, true), 0);
    assert_int_equal(probe_bar(&probe, 1, 4096, false), -EINVAL);
    /* The upper half of the one before, and one whose upper half is taken. */
    assert_int_equal(probe_bar(&probe, 2, 4096, false), -EINVAL);
    assert_int_equal(probe_bar(&probe, 0, 4096, true), -EINVAL);
    /* The 32-bit window is smaller than 1 GiB. */
    assert_int_equal(pci_device_add_bar(probe.pci, 0, GIB(1), false, &bar_ops, &err), -ENOSPC);
    assert_int_equal(pci_device_add_bar(probe.pci, 0, BIT64(63), false, &bar_ops, &err), -ENOSPC);
    assert_non_null(strstr(err.message, "of probe in the PCI window"));
    assert_int_equal(probe_bar(&probe, 0, 4096, false), 0);
}

static void a_bar_answers_only_while_memory_is_decoded(void **state)
{
    struct machine *m = *state;
    struct probe probe;
    probe_add(m, &probe, 1, 4096);
    uint64_t base = probe.mapped_at[0];
    assert_int_equal(answer_at(m, base), 1);
    assert_int_equal(answer_at(m, base + 4095), 1);
    assert_int_equal(answer_at(m, base + 4096), -1);
    config_write(m, 1, PCI_COMMAND, 0);
    assert_int_equal(answer_at(m, base), -1);
    /* I/O and bus mastering are not memory. */
    config_write(m, 1, PCI_COMMAND, PCI_COMMAND_IO | PCI_COMMAND_MASTER);
    assert_int_equal(answer_at(m, base), -1);
    assert_int_equal(command(m, 1), PCI_COMMAND_MASTER);
    config_write(m, 1, PCI_COMMAND, PCI_COMMAND_MEMORY);
    assert_int_equal(answer_at(m, base), 1);
    assert_int_equal(probe.moves, 3);
}

static void a_bar_follows_its_register_and_says_so(void **state)
{
    struct machine *m = *state;
    struct probe probe;
    probe_add(m, &probe, 1, 4096);
    uint64_t from = probe.mapped_at[0], to = LAYOUT_PCI_MMIO32 + MIB(64);
    config_write(m, 1, PCI_BASE_ADDRESS_0, (uint32_t)to);
    assert_int_equal(answer_at(m, from), -1);
    assert_int_equal(answer_at(m, to), 1);
    assert_int_equal(probe.mapped_at[0], to);
    /* Written again with the same value, nothing moves. */
    unsigned moves = probe.moves;
    config_write(m, 1, PCI_BASE_ADDRESS_0, (uint32_t)to);
    assert_int_equal(probe.moves, moves);
    /* Byte by byte, through the ports. */
    port_write(m, 0xcf8, 0x80000000 | 1 << 11 | PCI_BASE_ADDRESS_0, 4);
    port_write(m, 0xcff, 0xc5, 1);
    port_write(m, 0xcfe, 0x01, 1);
    assert_int_equal(answer_at(m, to), -1);
    assert_int_equal(answer_at(m, 0xc5010000), 1);
}

static void a_bar_outside_the_windows_is_silent_until_it_comes_back(void **state)
{
    struct machine *m = *state;
    struct probe probe;
    probe_add(m, &probe, 1, 4096);
    uint32_t home = (uint32_t)probe.mapped_at[0];
    static const uint32_t places[] = {
        0,
        (uint32_t)LAYOUT_KERNEL,
        (uint32_t)LAYOUT_PCI_MMIO32 - 4096,
        (uint32_t)LAYOUT_ECAM,
        (uint32_t)LAYOUT_ECAM + 0x8000,
        (uint32_t)LAYOUT_IOAPIC,
        (uint32_t)LAYOUT_LAPIC,
        0xfffff000,
    };
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        config_write(m, 1, PCI_BASE_ADDRESS_0, places[i]);
        assert_int_equal(probe.mapped_at[0], 0);
        assert_int_equal(config_read(m, 1, PCI_BASE_ADDRESS_0), places[i]);
        assert_int_equal(config_read(m, 0, 0), 0x0d578086);
        config_write(m, 1, PCI_BASE_ADDRESS_0, home);
        assert_int_equal(answer_at(m, home), 1);
    }
}

static void a_64_bit_bar_is_silent_where_it_would_wrap_or_leave_its_window(void **state)
{
    struct machine *m = *state;
    struct probe probe;
    probe_create(m, &probe, 1);
    assert_int_equal(probe_bar(&probe, 0, GIB(1), true), 0);
    pci_device_start(probe.pci);
    static const uint64_t places[] = {0, GIB(4), WINDOW64 - GIB(1), WINDOW64 + WINDOW64_LEN,
                                      0xffffffffc0000000};
    for (unsigned i = 0; i < ARRAY_SIZE(places); i++) {
        config_write(m, 1, PCI_BASE_ADDRESS_0, (uint32_t)places[i]);
        config_write(m, 1, PCI_BASE_ADDRESS_1, (uint32_t)(places[i] >> 32));
        assert_int_equal(probe.mapped_at[0], 0);
    }
    config_write(m, 1, PCI_BASE_ADDRESS_1, (uint32_t)(WINDOW64 >> 32));
    assert_true(probe.mapped_at[0] == WINDOW64 + 0xc0000000);
}

static void of_two_bars_in_one_place_the_first_answers_until_it_moves_away(void **state)
{
    struct machine *m = *state;
    struct probe a, b;
    probe_add(m, &a, 1, 4096);
    probe_add(m, &b, 2, MIB(1));
    uint32_t a_home = (uint32_t)a.mapped_at[0], b_home = (uint32_t)b.mapped_at[0];
    uint32_t inside_b = b_home + 0x8000;
    config_write(m, 1, PCI_BASE_ADDRESS_0, inside_b);
    assert_int_equal(a.mapped_at[0], 0);
    assert_int_equal(answer_at(m, inside_b), 2);
    config_write(m, 2, PCI_COMMAND, 0);
    assert_int_equal(answer_at(m, inside_b), 1);
    assert_int_equal(answer_at(m, b_home), -1);
    /* Now the other one has to wait. */
    config_write(m, 2, PCI_COMMAND, PCI_COMMAND_MEMORY);
    assert_int_equal(answer_at(m, inside_b), 1);
    assert_int_equal(b.mapped_at[0], 0);
    config_write(m, 1, PCI_BASE_ADDRESS_0, a_home);
    assert_int_equal(answer_at(m, inside_b), 2);
    assert_int_equal(answer_at(m, a_home), 1);
}

static void two_bars_of_one_device_can_change_places(void **state)
{
    struct machine *m = *state;
    struct probe probe;
    probe_create(m, &probe, 1);
    assert_int_equal(probe_bar(&probe, 0, 4096, false), 0);
    assert_int_equal(probe_bar(&probe, 1, 4096, false), 0);
    pci_device_start(probe.pci);
    uint64_t first = probe.mapped_at[0], second = probe.mapped_at[1];
    assert_int_not_equal(first, second);
    config_write(m, 1, PCI_BASE_ADDRESS_0, (uint32_t)second);
    assert_int_equal(probe.mapped_at[0], 0);
    config_write(m, 1, PCI_BASE_ADDRESS_1, (uint32_t)first);
    assert_int_equal(probe.mapped_at[0], second);
    assert_int_equal(probe.mapped_at[1], first);
}

static void every_slot_can_be_filled_and_no_bars_overlap(void **state)
{
    struct machine *m = *state;
    static struct probe probes[PCI_DEVICES_MAX];
    for (unsigned i = 1; i < PCI_DEVICES_MAX; i++) {
        probe_create(m, &probes[i], (uint8_t)i);
        assert_int_equal(probe_bar(&probes[i], 0, 4096u << i % 4, false), 0);
        assert_int_equal(probe_bar(&probes[i], 2, MIB(1) << i % 5, true), 0);
        pci_device_start(probes[i].pci);
    }
    for (unsigned i = 1; i < PCI_DEVICES_MAX; i++) {
        assert_int_equal(answer_at(m, probes[i].mapped_at[0]), i);
        assert_int_equal(answer_at(m, probes[i].mapped_at[2]), i);
        assert_true(is_aligned(probes[i].mapped_at[0], 4096u << i % 4));
        assert_true(probes[i].mapped_at[0] < GIB(4));
        assert_true(probes[i].mapped_at[2] >= WINDOW64);
    }
    struct error err = ERROR_INIT;
    struct pci_device_params params = {.name = "one too many"};
    assert_null(pci_device_add(m->host, &params, &err));
    assert_int_equal(err.code, -ENOSPC);
    assert_string_equal(err.message, "no room for one too many on the PCI bus");
}

static void without_a_64_bit_window_everything_is_below_4_gib(void **state)
{
    (void)state;
    struct machine *m = machine_new(0);
    struct probe probe;
    probe_create(m, &probe, 1);
    assert_int_equal(probe_bar(&probe, 0, MIB(2), true), 0);
    pci_device_start(probe.pci);
    assert_int_equal(probe.mapped_at[0], LAYOUT_PCI_MMIO32);
    machine_free(m);
}

static void the_capability_list_leads_to_every_capability(void **state)
{
    struct machine *m = *state;
    struct probe probe;
    probe_create(m, &probe, 1);
    pci_device_start(probe.pci);
    assert_int_equal(config_read(m, 1, PCI_COMMAND) >> 16, 0);
    assert_int_equal(config_read(m, 1, PCI_CAPABILITY_LIST), 0);
    uint8_t body[0xb0] = {0x11, 0x22, 0x33};
    assert_int_equal(pci_device_add_capability(probe.pci, 0x09, body, 3, NULL), 0x40);
    assert_int_equal(pci_device_add_capability(probe.pci, 0x11, body, 2, NULL), 0x48);
    assert_int_equal(pci_device_add_capability(probe.pci, 0x05, body, 0, NULL), 0x4c);
    assert_int_equal(pci_device_add_capability(probe.pci, 0x09, body, 0xb0 - 1, NULL), -ENOSPC);
    assert_int_equal(pci_device_add_capability(probe.pci, 0x09, body, SIZE_MAX, NULL), -ENOSPC);
    assert_int_equal(pci_device_add_capability(probe.pci, 0x09, body, 0xb0 - 2, NULL), 0x50);
    assert_int_equal(pci_device_add_capability(probe.pci, 0x09, body, 0, NULL), -ENOSPC);

    assert_int_equal(config_read(m, 1, PCI_COMMAND) >> 16, PCI_STATUS_CAP_LIST);
    static const uint8_t ids[] = {0x09, 0x11, 0x05, 0x09};
    unsigned at = config_read(m, 1, PCI_CAPABILITY_LIST) & 0xff;
    for (unsigned i = 0; i < ARRAY_SIZE(ids); i++) {
        assert_int_equal(config_read(m, 1, at) & 0xff, ids[i]);
        at = config_read(m, 1, at) >> 8 & 0xff;
    }
    assert_int_equal(at, 0);
    assert_int_equal(config_read(m, 1, 0x40), 0x22114809);
}

static void a_device_is_told_what_of_its_configuration_was_written(void **state)
{
    struct machine *m = *state;
    struct probe probe;
    probe_add(m, &probe, 1, 4096);
    config_write(m, 1, 0x44, 0);
    assert_int_equal(probe.written_offset, 0x44);
    assert_int_equal(probe.written_len, 4);
    port_write(m, 0xcf8, 0x80000000 | 1 << 11 | PCI_COMMAND, 4);
    port_write(m, 0xcfd, 0x04, 1);
    assert_int_equal(probe.written_offset, PCI_COMMAND + 1);
    assert_int_equal(probe.written_len, 1);
    assert_int_equal(pci_device_config(probe.pci)[PCI_COMMAND + 1], 0x04);
}

#define pci_test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        pci_test(the_host_bridge_is_found_through_ports_and_ecam),
        pci_test(slots_functions_and_buses_without_a_device_read_as_ones),
        pci_test(a_device_is_not_seen_before_it_is_complete),
        pci_test(the_address_port_takes_32_bits_at_once_or_nothing),
        pci_test(writes_of_every_offset_and_width_change_writable_bits_only),
        cmocka_unit_test(sizing_tells_the_size_of_every_32_bit_bar),
        cmocka_unit_test(sizing_tells_the_size_of_every_64_bit_bar),
        pci_test(a_bar_of_no_possible_size_or_place_is_refused),
        pci_test(a_bar_answers_only_while_memory_is_decoded),
        pci_test(a_bar_follows_its_register_and_says_so),
        pci_test(a_bar_outside_the_windows_is_silent_until_it_comes_back),
        pci_test(a_64_bit_bar_is_silent_where_it_would_wrap_or_leave_its_window),
        pci_test(of_two_bars_in_one_place_the_first_answers_until_it_moves_away),
        pci_test(two_bars_of_one_device_can_change_places),
        pci_test(every_slot_can_be_filled_and_no_bars_overlap),
        cmocka_unit_test(without_a_64_bit_window_everything_is_below_4_gib),
        pci_test(the_capability_list_leads_to_every_capability),
        pci_test(a_device_is_told_what_of_its_configuration_was_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
