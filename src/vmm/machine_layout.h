/* What the machine, its devices and the tables that describe it must agree on. */
#ifndef HUSK_VMM_MACHINE_LAYOUT_H
#define HUSK_VMM_MACHINE_LAYOUT_H

#include "config/config.h"
#include "x86/tables.h"

/** machine_cpu_layout() - packages, dies, cores, threads; without a topology, one package of single-threaded cores. */
struct cpu_layout machine_cpu_layout(const struct cpus_config *cpus);

/* Where 64-bit BARs go; @len 0: nowhere. */
struct pci_window {
    uint64_t base, len;
};

/** machine_pci_window64() - above @ram_bytes of RAM, as far as this processor's addresses reach. */
struct pci_window machine_pci_window64(uint64_t ram_bytes);

#endif
