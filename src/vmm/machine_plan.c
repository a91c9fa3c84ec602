/* From configuration to launch plan: what the machine looks like to its guest, and the kernel's place in it. */
#include "vmm/machine.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/units.h"
#include "config/options.h"
#include "launch/firmware_volume.h"
#include "launch/producers.h"
#include "vmm/machine_igvm.h"
#include "vmm/machine_layout.h"
#include "vmm/snp_options.h"
#include "vmm/windows.h"
#include "x86/boot.h"
#include "x86/layout.h"
#include "x86/tables.h"

#include <cpuid.h>
#include <elf.h>
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

bool machine_is_q35(const struct vm_config *config)
{
    if (config->platform.chipset == CHIPSET_AUTO)
        return config->payload.firmware || config->payload.igvm;
    return config->platform.chipset == CHIPSET_Q35;
}

bool machine_has_fw_cfg(const struct vm_config *config)
{
    const struct fw_cfg_config *told = &config->payload.fw_cfg;
    if (told->disable)
        return false;
    return config->payload.firmware || config->payload.igvm || told->n_items || told->e820 ||
           told->kernel || told->cmdline || told->initramfs || told->acpi_table;
}

struct machine_payload machine_payload(const struct vm_config *config)
{
    const struct payload_config *payload = &config->payload;
    const struct fw_cfg_config *told = &payload->fw_cfg;
    /* What is in memory already needs no telling. */
    bool all = payload->firmware || payload->igvm;
    const struct {
        enum switch_state state;
        const char *value;
    } parts[] = {
        {told->kernel, payload->kernel},
        {told->initramfs, payload->initramfs},
        {told->cmdline, payload->cmdline},
    };
    const char *handed[ARRAY_SIZE(parts)];
    for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
        bool on = parts[i].state == SWITCH_ON || (all && parts[i].state == SWITCH_UNSET);
        handed[i] = on && machine_has_fw_cfg(config) ? parts[i].value : NULL;
    }
    return (struct machine_payload){handed[0], handed[1], handed[2]};
}

uint64_t machine_low_ram(const struct vm_config *config)
{
    uint64_t ram = config->memory.size;
    return machine_is_q35(config) ? layout_low_ram_q35(ram) : layout_low_ram(ram);
}

static uint64_t ram_end(const struct vm_config *config)
{
    return LAYOUT_HIGH_RAM_BASE + (config->memory.size - machine_low_ram(config));
}

int machine_windows(struct memory_windows *windows, const struct plan *plan,
                    const struct vm_config *config, struct error *err)
{
    uint64_t low = machine_low_ram(config);
    struct windows_in in = {.plan = plan,
                            .low_ram = low,
                            .high_ram = config->memory.size - low,
                            .limit = BIT64(physical_address_bits()),
                            .igvm = config->payload.igvm};
    return windows_find(windows, &in, err);
}

struct pci_window machine_pci_window32(const struct vm_config *config,
                                       const struct memory_windows *windows)
{
    if (!machine_is_q35(config))
        return (struct pci_window){LAYOUT_PCI_MMIO32, LAYOUT_PCI_MMIO32_LEN};
    uint64_t base = windows_end(windows, machine_low_ram(config), LAYOUT_Q35_MMIO32_END);
    return (struct pci_window){base, LAYOUT_Q35_MMIO32_END - base};
}

struct pci_window machine_pci_window64(const struct vm_config *config,
                                       const struct memory_windows *windows)
{
    uint64_t base = align_up(windows_end(windows, ram_end(config), UINT64_MAX), GIB(1));
    uint64_t limit = BIT64(physical_address_bits());
    uint64_t most = machine_is_q35(config) ? UINT64_MAX : PCI_MMIO64_LEN;
    return (struct pci_window){base, base < limit ? MIN(most, limit - base) : 0};
}

struct acpi_in machine_acpi(const struct vm_config *config, const struct memory_windows *windows)
{
    struct pci_window window = machine_pci_window64(config, windows);
    return (struct acpi_in){
        .cpus = machine_cpu_layout(&config->cpus),
        .pci_mmio64 = window.base,
        .pci_mmio64_len = window.len,
        .serial = config->serial.mode != CONSOLE_OFF,
        .fw_cfg = machine_has_fw_cfg(config),
        .q35 = machine_is_q35(config),
        .low_ram_end = machine_pci_window32(config, windows).base,
        .ram = {{0, machine_low_ram(config)},
                {LAYOUT_HIGH_RAM_BASE, config->memory.size - machine_low_ram(config)}},
    };
}

struct smbios_in machine_smbios(const struct vm_config *config)
{
    const struct platform_config *platform = &config->platform;
    return (struct smbios_in){
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
        .low_ram = machine_low_ram(config),
        .vcpus = config->cpus.boot,
    };
}

int machine_settle(struct vm_config *config, struct error *err)
{
    const char *path = config->payload.firmware;
    uint8_t head[SELFMAG];
    uint64_t size;
    if (!path)
        return 0;
    _cleanup_close_ int fd = fd_open_file(path, &size, err);
    if (fd < 0)
        return fd;
    if (size < sizeof(head) || fd_pread_full(fd, head, sizeof(head), 0) < 0 ||
        memcmp(head, ELFMAG, SELFMAG) != 0)
        return 0;
    if (config->platform.sev_snp == SWITCH_ON)
        return error_set(err, -ENOTSUP,
                         "--platform: sev_snp=on needs an image that ends at 4 GiB, and '%s' is an "
                         "ELF file",
                         path);
    if (config->platform.chipset == CHIPSET_Q35)
        return error_set(err, -ENOTSUP,
                         "--platform: chipset=q35 is for images that end at 4 GiB, and '%s' is an "
                         "ELF file, which finds its tables in memory",
                         path);
    config->payload.firmware_is_elf = true;
    config->platform.chipset = CHIPSET_CLOUD_HYPERVISOR;
    return 0;
}

/**
 * plan_kernel() - a kernel that is entered directly, with everything that firmware would have told it; or firmware that
 * is entered in the same way, and takes the kernel from fw_cfg.
 */
static int plan_kernel(struct plan *plan, const struct vm_config *config, struct error *err)
{
    const struct payload_config *payload = &config->payload;
    bool direct = !payload->firmware;
    _cleanup_buf_ struct buf acpi = BUF_INIT;
    _cleanup_buf_ struct buf smbios = BUF_INIT;
    struct acpi_in acpi_in = machine_acpi(config, NULL);
    struct smbios_in smbios_in = machine_smbios(config);
    int ret = acpi_build(&acpi, LAYOUT_ACPI, &acpi_in, err);
    if (ret == 0)
        ret = smbios_build(&smbios, LAYOUT_SMBIOS, &smbios_in, err);
    if (ret < 0)
        return ret;
    struct boot_params_in in = {
        .kernel = direct ? payload->kernel : payload->firmware,
        .initramfs = direct ? payload->initramfs : NULL,
        .cmdline = direct && payload->cmdline ? payload->cmdline : "",
        .vcpus = config->cpus.boot,
        .ram_bytes = config->memory.size,
        .acpi = &acpi,
        .smbios = &smbios,
    };
    ret = boot_plan_kernel(plan, &in, err);
    return ret < 0 && !direct ? error_context(err, "--firmware") : ret;
}

static void warn(const char *text, void *opaque)
{
    (void)opaque;
    log_warn("%s", text);
}

static int no_place_for_hashes(const char *firmware, struct error *err)
{
    error_set(err, -EINVAL,
              "'%s' has no place for hashes of the kernel: it could not check what it is handed",
              firmware);
    return error_hint(err, "take firmware that does, as OVMF.amdsev.fd, or say where it looks for "
                           "them, --platform kernel_hashes=<address>, or kernel_hashes=off: "
                           "the kernel is then not measured");
}

/** plan_firmware() - the image below 4 GiB; where it has a place for them, the hashes of what fw_cfg will hand it. */
static int plan_firmware(struct plan *plan, const struct vm_config *config, struct error *err)
{
    const struct payload_config *payload = &config->payload;
    struct launch_options options = {
        .vmm = LAUNCH_HUSK,
        .platform = config->platform.sev_snp == SWITCH_ON ? PLAN_SEV_SNP : PLAN_NATIVE,
        .vcpus = config->cpus.boot,
        .warn = warn,
    };
    struct machine_payload handed = machine_payload(config);
    uint8_t hashes[KERNEL_HASHES_BYTES];
    if (config->platform.vmsa_features)
        units_parse_bits(config->platform.vmsa_features, &options.vmsa_features);
    enum switch_state wanted = config_kernel_hashes(&config->platform, &options.hashes_gpa);
    bool asked = handed.kernel && wanted != SWITCH_OFF;
    int ret = asked && !options.hashes_gpa ? firmware_takes_hashes(payload->firmware, err) : asked;
    if (ret == 0 && asked && (options.platform == PLAN_SEV_SNP || wanted == SWITCH_ON))
        return no_place_for_hashes(payload->firmware, err);
    if (ret > 0) {
        ret = kernel_hashes_build(hashes, handed.kernel, handed.initramfs, handed.cmdline, err);
        options.hashes = hashes;
    }
    return ret < 0 ? ret : plan_from_firmware(plan, payload->firmware, &options, err);
}

/** check_identity() - OVMF knows RAM and ACPI tables of q35 only; on another machine it would hang without a word. */
static int check_identity(const struct plan *plan, const struct vm_config *config,
                          struct error *err)
{
    if (machine_is_q35(config) || !plan_has_firmware_volume(plan))
        return 0;
    error_set(err, -ENOTSUP,
              "--platform chipset=cloud-hypervisor: this firmware is OVMF, which finds neither its "
              "RAM nor its ACPI tables there");
    return error_hint(err, "leave chipset out, or say chipset=q35");
}

int machine_plan(struct plan *plan, const struct vm_config *config, struct error *err)
{
    unsigned bits = physical_address_bits();
    if (ram_end(config) > BIT64(bits)) {
        char size[UNITS_SIZE_TEXT];
        return error_set(err, -E2BIG,
                         "--memory size=%s does not fit this processor's %u-bit addresses",
                         units_format_size(config->memory.size, size), bits);
    }
    if (!config->payload.igvm && (!config->payload.firmware || config->payload.firmware_is_elf))
        return plan_kernel(plan, config, err);
    int ret = config->payload.igvm ? machine_plan_igvm(plan, config, err)
                                   : plan_firmware(plan, config, err);
    if (ret == 0 && config->platform.sev_snp == SWITCH_ON)
        ret = snp_apply_options(plan, config, err);
    return ret < 0 ? ret : check_identity(plan, config, err);
}
