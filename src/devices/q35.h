/*
 * What firmware for QEMU's q35 machine looks for: the host bridge 8086:29c0 with the register that places ECAM, the
 * LPC bridge 8086:2918 whose registers firmware writes (power management is always at 0x600, interrupts go nowhere),
 * reset by port 0xcf9. No SMM, no SATA.
 * Sources: Intel 3 Series Express Chipset datasheet (316966), 5.1; Intel ICH9 datasheet (316972), 13.1 and 13.7.5.
 */
#ifndef HUSK_DEVICES_Q35_H
#define HUSK_DEVICES_Q35_H

#include "base/error.h"
#include "devices/pci.h"

struct q35;

struct q35_params {
    struct bus *ports, *mmio;
    uint64_t low_ram_end;        /* PCI devices may be above, up to the I/O APIC */
    uint64_t mmio64, mmio64_len; /* where 64-bit BARs may be as well */
    /* From a vCPU thread: */
    void (*reset)(void *ctx);
    void (*needs_smm)(
        void *ctx); /* firmware needs system management mode, and would wait for it for ever */
    void *ctx;
};

/** q35_new() - the PCI host and both bridges. NULL with @err filled on failure. */
struct q35 *q35_new(const struct q35_params *params, struct error *err);

/** q35_free() - the PCI host and its devices too; no vCPU may run any more. */
void q35_free(struct q35 *q35);

/** q35_pci() - the PCI host, for further devices. */
struct pci_host *q35_pci(const struct q35 *q35);

/** q35_ecam() - where firmware has put configuration space; 0 for nowhere. From any thread. */
uint64_t q35_ecam(const struct q35 *q35);

#endif
