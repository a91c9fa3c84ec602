/* The DSDT: host bridge, platform devices, processors, power button and the event device that reports it. */
#include "x86/acpi_aml.h"
#include "x86/acpi_internal.h"
#include "x86/layout.h"

#include <stdio.h>

#define PORT_SERIAL_LEN 8
#define PORT_POWER_LEN 16 /* sleep control, PM timer, event port */
#define NOTIFY_BUTTON_PRESSED 0x80
#define DEVICE_ABSENT 0 /* _STA */
#define SLP_TYP_S5 5

/** window32() - devices may be from @start on up to @end, if that is anything. */
static void window32(struct buf *res, uint64_t start, uint64_t end)
{
    if (start < end)
        res_window32(res, AML_WINDOW_MEMORY, (uint32_t)start, (uint32_t)(end - 1));
}

/** windows32() - on q35 all between RAM and the I/O APIC that is not configuration space. */
static void windows32(struct buf *res, const struct acpi_in *in)
{
    if (!in->q35) {
        window32(res, LAYOUT_PCI_MMIO32, LAYOUT_PCI_MMIO32 + LAYOUT_PCI_MMIO32_LEN);
    } else if (in->ecam < in->low_ram_end || in->ecam >= LAYOUT_Q35_MMIO32_END) {
        window32(res, in->low_ram_end, LAYOUT_Q35_MMIO32_END);
    } else {
        window32(res, in->low_ram_end, in->ecam);
        window32(res, in->ecam + LAYOUT_Q35_ECAM_LEN, LAYOUT_Q35_MMIO32_END);
    }
}

/** host_bridge() - PCI segment 0. No device has INTx, so there is no _PRT. */
static void host_bridge(struct aml *aml, const struct acpi_in *in)
{
    _cleanup_buf_ struct buf res = BUF_INIT;
    res_window16(&res, AML_WINDOW_BUS, 0, LAYOUT_ECAM_BUSES - 1);
    res_io(&res, LAYOUT_PORT_PCI, 8);
    res_window16(&res, AML_WINDOW_IO, 0, LAYOUT_PORT_PCI - 1);
    res_window16(&res, AML_WINDOW_IO, LAYOUT_PORT_PCI + 8, UINT16_MAX);
    windows32(&res, in);
    if (in->pci_mmio64_len)
        res_window64(&res, AML_WINDOW_MEMORY, in->pci_mmio64,
                     in->pci_mmio64 + in->pci_mmio64_len - 1);

    aml_device(aml, "PCI0");
    aml_name(aml, "_HID");
    aml_eisa_id(aml, "PNP0A08");
    aml_name(aml, "_CID");
    aml_eisa_id(aml, "PNP0A03");
    aml_name(aml, "_SEG");
    aml_integer(aml, 0);
    aml_name(aml, "_BBN");
    aml_integer(aml, 0);
    aml_name(aml, "_UID");
    aml_integer(aml, 0);
    aml_resources(aml, &res);
    aml_end(aml);
}

/** begin_device() - a device with id and unique id; the caller ends it. */
static void begin_device(struct aml *aml, const char *name, const char *eisa_id)
{
    aml_device(aml, name);
    aml_name(aml, "_HID");
    aml_eisa_id(aml, eisa_id);
    aml_name(aml, "_UID");
    aml_integer(aml, 0);
}

/** motherboard() - what is taken but belongs to no device: ECAM, which Linux wants reserved here, and power ports. */
static void motherboard(struct aml *aml, const struct acpi_in *in)
{
    _cleanup_buf_ struct buf res = BUF_INIT;
    if (!in->q35)
        res_memory32(&res, (uint32_t)LAYOUT_ECAM, (uint32_t)LAYOUT_ECAM_LEN);
    else if (in->ecam)
        res_memory32(&res, (uint32_t)in->ecam, (uint32_t)LAYOUT_Q35_ECAM_LEN);
    res_io(&res, LAYOUT_PORT_SLEEP, PORT_POWER_LEN);
    begin_device(aml, "MBRD", "PNP0C02");
    aml_resources(aml, &res);
    aml_end(aml);
}

static void rtc(struct aml *aml)
{
    _cleanup_buf_ struct buf res = BUF_INIT;
    res_io(&res, LAYOUT_PORT_CMOS, 2);
    begin_device(aml, "RTC_", "PNP0B00");
    aml_resources(aml, &res);
    aml_end(aml);
}

static void serial(struct aml *aml)
{
    _cleanup_buf_ struct buf res = BUF_INIT;
    res_io(&res, LAYOUT_PORT_SERIAL, PORT_SERIAL_LEN);
    res_interrupt_edge(&res, LAYOUT_GSI_SERIAL);
    begin_device(aml, "COM1", "PNP0501");
    aml_name(aml, "_DDN");
    aml_string(aml, "COM1");
    aml_resources(aml, &res);
    aml_end(aml);
}

/** fw_cfg() - as docs/specs/fw_cfg.rst of QEMU has it. */
static void fw_cfg(struct aml *aml)
{
    _cleanup_buf_ struct buf res = BUF_INIT;
    res_io(&res, LAYOUT_PORT_FW_CFG, LAYOUT_PORTS_FW_CFG);
    aml_device(aml, "FWCF");
    aml_name(aml, "_HID");
    aml_string(aml, "QEMU0002");
    aml_name(aml, "_UID");
    aml_integer(aml, 0);
    aml_resources(aml, &res);
    aml_end(aml);
}

/** processors() - one device a vCPU, tied to its MADT entry by _UID. */
static void processors(struct aml *aml, const struct cpu_layout *cpus)
{
    for (uint32_t i = 0; i < cpus->max; i++) {
        char name[8];
        snprintf(name, sizeof(name), "C%03X", i & 0xfff);
        aml_device(aml, name);
        aml_name(aml, "_HID");
        aml_string(aml, "ACPI0007");
        aml_name(aml, "_UID");
        aml_integer(aml, i);
        if (i >= cpus->boot) {
            aml_name(aml, "_STA");
            aml_integer(aml, DEVICE_ABSENT);
        }
        aml_end(aml);
    }
}

/** event_device() - hardware-reduced platforms have no GPEs: an interrupt, and a port that says what it means. */
static void event_device(struct aml *aml)
{
    _cleanup_buf_ struct buf res = BUF_INIT;
    res_interrupt_edge(&res, LAYOUT_GSI_GED);
    aml_device(aml, "GED_");
    aml_name(aml, "_HID");
    aml_string(aml, "ACPI0013");
    aml_name(aml, "_UID");
    aml_integer(aml, 0);
    aml_resources(aml, &res);
    aml_region_io(aml, "GEDR", LAYOUT_PORT_GED, 1);
    aml_field_byte(aml, "GEDR", "GEDS");
    aml_method(aml, "_EVT", 1, true);
    aml_store_local0(aml, "GEDS");
    aml_if(aml);
    aml_and_local0(aml, LAYOUT_GED_POWER_BUTTON);
    aml_notify(aml, "\\_SB_.PWRB", NOTIFY_BUTTON_PRESSED);
    aml_end(aml);
    aml_end(aml);
    aml_end(aml);
}

void acpi_dsdt(struct buf *out, const struct acpi_in *in)
{
    size_t start = acpi_table_begin(out, "DSDT", 6, "HUSKDSDT");
    struct aml aml = {.out = out};
    aml_scope(&aml, "\\_SB_");
    host_bridge(&aml, in);
    motherboard(&aml, in);
    rtc(&aml);
    if (in->serial)
        serial(&aml);
    if (in->fw_cfg)
        fw_cfg(&aml);
    processors(&aml, &in->cpus);
    begin_device(&aml, "PWRB", "PNP0C0C");
    aml_end(&aml);
    event_device(&aml);
    aml_end(&aml);

    aml_name(&aml, "\\_S5_");
    aml_package(&aml, 2);
    aml_integer(&aml, SLP_TYP_S5);
    aml_integer(&aml, 0);
    aml_end(&aml);
    acpi_table_end(out, start);
}
