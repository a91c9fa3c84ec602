/* From configuration to launch plan: what the machine looks like to its guest, and the kernel's place in it. */
#include "vmm/machine.h"

#include "base/bytes.h"
#include "base/units.h"
#include "vmm/machine_layout.h"
#include "x86/boot.h"
#include "x86/layout.h"
#include "x86/tables.h"

#include <cpuid.h>
#include <errno.h>

/* Large enough for any device that exists, and no page-table level more than the guest needs for RAM. */
#define PCI_MMIO64_LEN GIB(1024)

struct cpu_layout machine_cpu_layout(const struct cpus_config *cpus)
{
    const struct cpu_topology *t = &cpus->topology;
    if (t->packages == 0)
        return (struct cpu_layout){.boot = cpus->boot,
                                   .max = cpus->max,
                                   .threads_per_core = 1,
                                   .cores_per_die = cpus->max,
                                   .dies_per_package = 1,
                                   .packages = 1};
    return (struct cpu_layout){.boot = cpus->boot,
                               .max = cpus->max,
                               .threads_per_core = t->threads_per_core,
                               .cores_per_die = t->cores_per_die,
                               .dies_per_package = t->dies_per_package,
                               .packages = t->packages};
}

/** physical_address_bits() - of this processor: CPUID 0x80000008 EAX 7:0, 36 where it does not say. */
static unsigned physical_address_bits(void)
{
    unsigned eax, ebx, ecx, edx;
    if (!__get_cpuid(0x80000008, &eax, &ebx, &ecx, &edx) || (eax & 0xff) < 32)
        return 36;
    return MIN(eax & 0xff, 52u);
}

static uint64_t ram_end(uint64_t ram_bytes)
{
    uint64_t low = layout_low_ram(ram_bytes);
    return ram_bytes > low ? LAYOUT_HIGH_RAM_BASE + (ram_bytes - low) : LAYOUT_HIGH_RAM_BASE;
}

struct pci_window machine_pci_window64(uint64_t ram_bytes)
{
    uint64_t base = align_up(ram_end(ram_bytes), GIB(1));
    uint64_t limit = BIT64(physical_address_bits());
    return (struct pci_window){base, base < limit ? MIN(PCI_MMIO64_LEN, limit - base) : 0};
}

static int describe(struct buf *acpi, struct buf *smbios, const struct vm_config *config,
                    struct error *err)
{
    struct pci_window window = machine_pci_window64(config->memory.size);
    struct acpi_in acpi_in = {
        .cpus = machine_cpu_layout(&config->cpus),
        .pci_mmio64 = window.base,
        .pci_mmio64_len = window.len,
        .serial = config->serial.mode != CONSOLE_OFF,
    };
    int ret = acpi_build(acpi, LAYOUT_ACPI, &acpi_in, err);
    if (ret < 0)
        return ret;

    const struct platform_config *platform = &config->platform;
    struct smbios_in smbios_in = {
        .manufacturer = platform->system_manufacturer,
        .product_name = platform->system_product_name,
        .version = platform->system_version,
        .serial_number = platform->system_serial_number,
        .sku_number = platform->system_sku_number,
        .family = platform->system_family,
        .uuid = platform->system_uuid,
        .chassis_asset_tag = platform->chassis_asset_tag,
        .oem_strings = (const char *const *)platform->oem_strings.items,
        .n_oem_strings = platform->oem_strings.n,
        .ram_bytes = config->memory.size,
        .vcpus = config->cpus.boot,
    };
    return smbios_build(smbios, LAYOUT_SMBIOS, &smbios_in, err);
}

int machine_plan(struct plan *plan, const struct vm_config *config, struct error *err)
{
    unsigned bits = physical_address_bits();
    if (ram_end(config->memory.size) > BIT64(bits)) {
        char size[UNITS_SIZE_TEXT];
        return error_set(err, -E2BIG,
                         "--memory size=%s does not fit this processor's %u-bit addresses",
                         units_format_size(config->memory.size, size), bits);
    }

    _cleanup_buf_ struct buf acpi = BUF_INIT;
    _cleanup_buf_ struct buf smbios = BUF_INIT;
    int ret = describe(&acpi, &smbios, config, err);
    if (ret < 0)
        return ret;
    struct boot_params_in in = {
        .kernel = config->payload.kernel,
        .initramfs = config->payload.initramfs,
        .cmdline = config->payload.cmdline ? config->payload.cmdline : "",
        .vcpus = config->cpus.boot,
        .ram_bytes = config->memory.size,
        .acpi = &acpi,
        .smbios = &smbios,
    };
    return boot_plan_kernel(plan, &in, err);
}
