/* A guest that starts from an IGVM file: its plan, and what the file wants to be told of the machine. */
#include "vmm/machine_igvm.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "config/options.h"
#include "launch/memory_map.h"
#include "launch/parameters.h"
#include "launch/producers.h"
#include "vmm/machine_layout.h"
#include "x86/layout.h"

#include <errno.h>
#include <stdlib.h>

static void warn(const char *text, void *opaque)
{
    (void)opaque;
    log_warn("%s", text);
}

/** build_map() - RAM; reserved are the windows outside of it, and where the guest reports errors. */
static int build_map(struct buf *map, const struct plan *plan, const struct vm_config *config,
                     const struct memory_windows *windows, struct error *err)
{
    uint64_t low = machine_low_ram(config);
    const struct memory_map_range ram[] = {{0, low},
                                           {LAYOUT_HIGH_RAM_BASE, config->memory.size - low}};
    _cleanup_free_ struct memory_map_range *reserved =
        calloc(windows->n + plan->n_ranges + 1, sizeof(*reserved));
    if (!reserved)
        return error_set(err, -ENOMEM, "out of memory for the guest's memory map");
    size_t n = 0;
    for (unsigned i = 0; i < windows->n; i++)
        reserved[n++] = (struct memory_map_range){windows->at[i].gpa, windows->at[i].len};
    for (size_t i = 0; i < plan->n_ranges; i++)
        if (plan->ranges[i].shared)
            reserved[n++] = (struct memory_map_range){plan->ranges[i].gpa, plan->ranges[i].len};
    memory_map_build(map, ram, ARRAY_SIZE(ram), reserved, n);
    return buf_failed(map) ? error_set(err, -ENOMEM, "out of memory for the guest's memory map")
                           : 0;
}

static IGVM_VHS_MEMORY_RANGE pages_of(struct pci_window window)
{
    return (IGVM_VHS_MEMORY_RANGE){window.base / PAGE_BYTES, window.len / PAGE_BYTES};
}

/* What parameters are filled from; the buffers are its own. */
struct tables {
    struct buf map, madt, srat, slit, pptt;
};

static void release_tables(struct tables *tables)
{
    buf_release(&tables->map);
    buf_release(&tables->madt);
    buf_release(&tables->srat);
    buf_release(&tables->slit);
    buf_release(&tables->pptt);
}

static int build_tables(struct tables *tables, const struct vm_config *config,
                        const struct memory_windows *windows, struct error *err)
{
    struct acpi_in in = machine_acpi(config, windows);
    int ret = acpi_table_build(&tables->madt, ACPI_MADT, &in, err);
    if (ret == 0)
        ret = acpi_table_build(&tables->srat, ACPI_SRAT, &in, err);
    if (ret == 0)
        ret = acpi_table_build(&tables->slit, ACPI_SLIT, &in, err);
    if (ret == 0)
        ret = acpi_table_build(&tables->pptt, ACPI_PPTT, &in, err);
    return ret;
}

static int fill_parameters(struct plan *plan, const struct vm_config *config, struct error *err)
{
    _cleanup_(release_tables) struct tables tables = {0};
    struct memory_windows windows;
    int ret = machine_windows(&windows, plan, config, err);
    if (ret == 0)
        ret = build_map(&tables.map, plan, config, &windows, err);
    if (ret == 0)
        ret = build_tables(&tables, config, &windows, err);
    if (ret < 0)
        return ret;
    struct parameters_in in = {
        .memory_map = &tables.map,
        .madt = &tables.madt,
        .srat = &tables.srat,
        .slit = &tables.slit,
        .pptt = &tables.pptt,
        .mmio = {{pages_of(machine_pci_window32(config, &windows)),
                  pages_of(machine_pci_window64(config, &windows))}},
        .vcpus = config->cpus.boot,
        .cmdline = config->payload.cmdline ? config->payload.cmdline : "",
        .memory_is_shared = plan->platform == PLAN_NATIVE,
    };
    return plan_fill_parameters(plan, &in, err);
}

int machine_plan_igvm(struct plan *plan, const struct vm_config *config, struct error *err)
{
    enum switch_state snp = config->platform.sev_snp;
    struct launch_options options = {
        .vmm = LAUNCH_HUSK,
        .platform = snp == SWITCH_UNSET ? PLAN_NATIVE : PLAN_SEV_SNP,
        .ordinary = snp != SWITCH_ON,
        .vcpus = config->cpus.boot,
        .to_run = true,
        .warn = warn,
    };
    const struct payload_config *payload = &config->payload;
    uint8_t hashes[KERNEL_HASHES_BYTES];
    int ret = 0;
    enum switch_state hashed = config_kernel_hashes(&config->platform, &options.hashes_gpa);
    options.hashes_replace = hashed == SWITCH_ON;
    if (payload->kernel && hashed != SWITCH_OFF) {
        ret =
            kernel_hashes_build(hashes, payload->kernel, payload->initramfs, payload->cmdline, err);
        options.hashes = hashes;
    }
    if (ret == 0)
        ret = plan_from_igvm(plan, payload->igvm, &options, err);
    if (ret < 0)
        return ret;
    if (snp != SWITCH_ON) {
        plan->platform = PLAN_NATIVE;
        for (size_t i = 1; i < plan->n_vcpus; i++)
            plan->vcpus[i].waits_for_sipi = true;
    }
    ret = fill_parameters(plan, config, err);
    return ret < 0 ? error_context(err, "%s", payload->igvm) : 0;
}
