/*
 * Where things are in the guest's physical address space and on its ports: Cloud Hypervisor's platform
 * (host bridge 8086:0d57), so that its guests and firmware find what they expect.
 */
#ifndef HUSK_X86_LAYOUT_H
#define HUSK_X86_LAYOUT_H

#include "base/bytes.h"

/* RAM below the hole ends here at most; what does not fit goes on at 4 GiB. */
#define LAYOUT_LOW_RAM_LIMIT GIB(3)
#define LAYOUT_HIGH_RAM_BASE GIB(4)

#define LAYOUT_BOOT_GDT 0x500
#define LAYOUT_PVH_START_INFO 0x6000
#define LAYOUT_BOOT_PARAMS 0x7000
#define LAYOUT_BOOT_STACK 0x8ff0
#define LAYOUT_PAGE_TABLES 0x9000 /* PML4, PDPT, 4 PDs: 6 pages */
#define LAYOUT_CMDLINE 0x20000
#define LAYOUT_CMDLINE_MAX 0x10000

#define LAYOUT_EBDA 0x9fc00 /* conventional memory ends here */
#define LAYOUT_ACPI 0xa0000 /* RSDP first; the tables follow */
#define LAYOUT_ACPI_MAX 0x50000
#define LAYOUT_SMBIOS 0xf0000 /* entry point where Linux scans for it */
#define LAYOUT_SMBIOS_MAX 0xf000
#define LAYOUT_RESET_VECTOR 0xffff0 /* f000:fff0, where a PC's BIOS is entered */
#define LAYOUT_KERNEL MIB(1)

#define LAYOUT_PCI_MMIO32 0xc0000000ull
#define LAYOUT_PCI_MMIO32_LEN 0x28000000ull
#define LAYOUT_ECAM 0xe8000000ull
/* One bus: Linux looks for devices on every bus that ECAM covers, 32 slow configuration reads each. */
#define LAYOUT_ECAM_BUSES 1u
#define LAYOUT_ECAM_LEN MIB(LAYOUT_ECAM_BUSES)
#define LAYOUT_IOAPIC 0xfec00000ull
#define LAYOUT_LAPIC 0xfee00000ull
#define LAYOUT_KVM_TSS 0xfeffd000ull          /* three pages, Intel only; below any firmware */
#define LAYOUT_KVM_IDENTITY_MAP 0xfeffc000ull /* one page, Intel only */

/* The q35 platform: firmware puts ECAM at 2.75 GiB or above, and 256 MiB of it; low RAM ends below. */
#define LAYOUT_Q35_LOW_RAM_WHOLE 0xb0000000ull /* this much RAM is all low; of more, 2 GiB are */
#define LAYOUT_Q35_LOW_RAM_SPLIT GIB(2)
#define LAYOUT_Q35_ECAM_LEN MIB(256)
#define LAYOUT_Q35_MMIO32_END LAYOUT_IOAPIC

#define LAYOUT_PORT_I8042 0x60 /* 0x60 and 0x64, 0x61 beside */
#define LAYOUT_PORT_CMOS 0x70
#define LAYOUT_PORT_DEBUG 0x80
#define LAYOUT_PORT_SERIAL 0x3f8
#define LAYOUT_PORT_FIRMWARE_DEBUG 0x402 /* what EDK2 writes to where somebody listens */
#define LAYOUT_PORT_FW_CFG 0x510         /* selector, data, DMA at 0x514 */
#define LAYOUT_PORTS_FW_CFG 12
#define LAYOUT_PORT_SLEEP 0x600 /* ACPI sleep control; also reset */
#define LAYOUT_PORT_PM1 0x600   /* q35: event and control registers */
#define LAYOUT_PORT_PM_TIMER 0x608
#define LAYOUT_PORT_GED 0x60c       /* what the Generic Event Device's interrupt means */
#define LAYOUT_PORT_SLEEP_Q35 0x60e /* as LAYOUT_PORT_SLEEP, where that is PM1's */
#define LAYOUT_PORT_PCI 0xcf8

#define LAYOUT_GSI_SERIAL 4
#define LAYOUT_GSI_GED 5
#define LAYOUT_IOAPIC_PINS 24

/* What is written to LAYOUT_PORT_SLEEP. */
#define LAYOUT_SLEEP_S5 0x34 /* SLP_TYP 5, SLP_EN */
#define LAYOUT_SLEEP_RESET 0x01

#define LAYOUT_GED_POWER_BUTTON 0x01

#endif
