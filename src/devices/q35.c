#include "devices/q35.h"

#include "base/bytes.h"
#include "x86/layout.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Host bridge. */
#define EXT_TSEG 0x50 /* QEMU's: firmware writes all ones to learn the size of memory for SMM */
#define EXT_TSEG_QUERY 0xffff
#define PCIEXBAR 0x60
#define PCIEXBAR_BYTES 8
#define PCIEXBAR_ENABLE BIT(0)
#define PCIEXBAR_LENGTH 0x6u /* 0: 256 MiB, 1: 128 MiB, 2: 64 MiB */

/* LPC bridge. */
#define LPC_SLOT 31
#define LPC_PMBASE 0x40
#define LPC_ACPI_CNTL 0x44
#define LPC_PIRQ_A 0x60
#define LPC_PIRQ_E 0x68
#define LPC_GEN_PMCON 0xa0
#define LPC_RCBA 0xf0
#define PMBASE_IO BIT(0) /* reads as set: it is a place in I/O space */
#define PIRQ_OFF 0x80

/* Port 0xcf9. */
#define RESET_CPU BIT(2)

struct q35 {
    struct q35_params params;
    struct pci_host *pci;
    _Atomic uint64_t ecam;
};

/** place_ecam() - as PCIEXBAR says; of whatever length it is, the first bus is all there is. */
static void place_ecam(struct q35 *q35)
{
    uint64_t value = load_le64(pci_device_config(pci_host_bridge(q35->pci)) + PCIEXBAR);
    unsigned length = (unsigned)(value & PCIEXBAR_LENGTH) >> 1;
    uint64_t size = LAYOUT_Q35_ECAM_LEN >> length;
    uint64_t base = (value & PCIEXBAR_ENABLE) && length < 3 ? align_down(value, size) : 0;
    atomic_store(&q35->ecam, base);
    pci_host_set_ecam(q35->pci, base);
}

/** look_for_smm() - only firmware that runs in system management mode asks how much memory there is for it. */
static void look_for_smm(struct q35 *q35)
{
    uint8_t *reg = pci_device_config(pci_host_bridge(q35->pci)) + EXT_TSEG;
    bool asked = load_le16(reg) == EXT_TSEG_QUERY;
    store_le16(reg, 0);
    if (asked)
        q35->params.needs_smm(q35->params.ctx);
}

static void bridge_written(void *device, unsigned offset, unsigned len)
{
    if (ranges_overlap(offset, len, EXT_TSEG, 2))
        look_for_smm(device);
    if (ranges_overlap(offset, len, PCIEXBAR, PCIEXBAR_BYTES))
        place_ecam(device);
}

/** reset_control() - bit 2 going up resets; which kind of reset bits 1 and 3 ask for makes no difference here. */
static void reset_control(void *ctx, uint8_t value)
{
    struct q35 *q35 = ctx;
    if (value & RESET_CPU)
        q35->params.reset(q35->params.ctx);
}

static int add_lpc(struct q35 *q35, struct error *err)
{
    static const struct pci_device_params lpc = {
        .name = "LPC bridge",
        .slot = LPC_SLOT,
        .vendor_id = 0x8086,
        .device_id = 0x2918,
        .class_code = 0x060100,
        .revision = 2,
    };
    struct pci_device *device = pci_device_add(q35->pci, &lpc, err);
    if (!device)
        return -ENOMEM;
    uint8_t *config = pci_device_config(device), *writable = pci_device_writable(device);
    store_le32(config + LPC_PMBASE, PMBASE_IO);
    store_le32(writable + LPC_PMBASE, 0xff80);
    writable[LPC_ACPI_CNTL] = 0x87;
    memset(config + LPC_PIRQ_A, PIRQ_OFF, 4);
    memset(writable + LPC_PIRQ_A, 0x8f, 4);
    memset(config + LPC_PIRQ_E, PIRQ_OFF, 4);
    memset(writable + LPC_PIRQ_E, 0x8f, 4);
    store_le16(writable + LPC_GEN_PMCON, 0xffff);
    store_le32(writable + LPC_RCBA, 0xffffc001);
    pci_device_start(device);
    return 0;
}

static int set_up(struct q35 *q35, struct error *err)
{
    static const struct pci_device_ops ops = {.config_written = bridge_written};
    struct pci_device_params bridge = {
        .name = "PCI host bridge",
        .vendor_id = 0x8086,
        .device_id = 0x29c0,
        .class_code = 0x060000,
        .revision = 2,
        .ops = &ops,
        .device = q35,
    };
    struct pci_host_params params = {
        .ports = q35->params.ports,
        .mmio = q35->params.mmio,
        .bridge = &bridge,
        .mmio32 = q35->params.low_ram_end,
        .mmio32_len = LAYOUT_Q35_MMIO32_END - q35->params.low_ram_end,
        .mmio64 = q35->params.mmio64,
        .mmio64_len = q35->params.mmio64_len,
        .reset_control = reset_control,
        .ctx = q35,
    };
    q35->pci = pci_host_new_bare(&params, err);
    if (!q35->pci)
        return -ENOMEM;
    store_le16(pci_device_writable(pci_host_bridge(q35->pci)) + EXT_TSEG, EXT_TSEG_QUERY);
    /* Address bits 38:26, length and enable. */
    store_le64(pci_device_writable(pci_host_bridge(q35->pci)) + PCIEXBAR, 0x7ffc000007ull);
    pci_device_start(pci_host_bridge(q35->pci));
    return add_lpc(q35, err);
}

struct q35 *q35_new(const struct q35_params *params, struct error *err)
{
    struct q35 *q35 = calloc(1, sizeof(*q35));
    if (!q35) {
        error_set(err, -ENOMEM, "out of memory for the PCI bus");
        return NULL;
    }
    q35->params = *params;
    if (set_up(q35, err) < 0) {
        q35_free(q35);
        return NULL;
    }
    return q35;
}

void q35_free(struct q35 *q35)
{
    if (!q35)
        return;
    pci_host_free(q35->pci);
    free(q35);
}

struct pci_host *q35_pci(const struct q35 *q35)
{
    return q35->pci;
}

uint64_t q35_ecam(const struct q35 *q35)
{
    return atomic_load(&q35->ecam);
}
