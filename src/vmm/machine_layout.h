/* What the machine, its devices and the tables that describe it must agree on. */
#ifndef HUSK_VMM_MACHINE_LAYOUT_H
#define HUSK_VMM_MACHINE_LAYOUT_H

#include "config/config.h"
#include "launch/plan.h"
#include "memory/memory.h"
#include "x86/tables.h"

/** machine_cpu_layout() - packages, dies, cores, threads; without a topology, one package of single-threaded cores. */
struct cpu_layout machine_cpu_layout(const struct cpus_config *cpus);

/** machine_is_q35() - whether the machine shows itself as firmware for QEMU's q35 expects it, not as a direct kernel does. */
bool machine_is_q35(const struct vm_config *config);

/** machine_has_fw_cfg() - whether there is a fw_cfg device: for firmware, and for those who asked for one. */
bool machine_has_fw_cfg(const struct vm_config *config);

/* The payload as fw_cfg hands it to the guest; NULL: what is not handed over. */
struct machine_payload {
    const char *kernel, *initramfs, *cmdline;
};

/** machine_payload() - by default all that was given, but for a kernel that is started without firmware. */
struct machine_payload machine_payload(const struct vm_config *config);

/** machine_low_ram() - how much of @config's RAM lies below the hole. */
uint64_t machine_low_ram(const struct vm_config *config);

/** machine_windows() - the memory that @plan needs outside of @config's RAM: see windows_find(). */
int machine_windows(struct memory_windows *windows, const struct plan *plan,
                    const struct vm_config *config, struct error *err);

/** machine_acpi() - what the ACPI tables describe; of q35, ECAM is not placed yet. @windows may be NULL. */
struct acpi_in machine_acpi(const struct vm_config *config, const struct memory_windows *windows);

/** machine_smbios() - what the SMBIOS tables describe; strings are @config's. */
struct smbios_in machine_smbios(const struct vm_config *config);

/* Where 64-bit BARs go; @len 0: nowhere. */
struct pci_window {
    uint64_t base, len;
};

/** machine_pci_window32() - above RAM and other memory, up to the I/O APIC. */
struct pci_window machine_pci_window32(const struct vm_config *config,
                                       const struct memory_windows *windows);

/** machine_pci_window64() - above RAM and other memory, as far as this processor's addresses reach; not all of it where
 * nobody needs it.
 */
struct pci_window machine_pci_window64(const struct vm_config *config,
                                       const struct memory_windows *windows);

#endif
