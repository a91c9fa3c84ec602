/*
 * Guests from any IGVM file: the first byte says which platform, and how large the guest is. A plan that is made can be
 * loaded: all that it has lies in RAM or in windows, which are apart from each other.
 */
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "igvm/igvm.h"
#include "memory/load.h"
#include "vmm/machine.h"
#include "vmm/machine_layout.h"
#include "x86/layout.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

/* More to be read than this is not worth its time here. */
#define BYTES_MAX MIB(8)

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    log_set_level(LOG_ERROR);
    return 0;
}

static uint64_t bytes_of(const struct plan *plan)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < plan->n_runs; i++)
        bytes += plan->runs[i].source == PLAN_SOURCE_NONE ? 0 : plan->runs[i].len;
    return bytes;
}

static void check(bool fine)
{
    if (!fine)
        abort();
}

static void load(const struct plan *plan, const struct vm_config *config)
{
    struct error err = ERROR_INIT;
    struct memory_windows windows;
    check(machine_windows(&windows, plan, config, &err) == 0);
    uint64_t low = machine_low_ram(config), end = low;
    for (unsigned i = 0; i < windows.n; i++) {
        check(windows.at[i].gpa >= end && windows.at[i].len % PAGE_BYTES == 0);
        end = windows.at[i].gpa + windows.at[i].len;
        check(end > windows.at[i].gpa);
    }
    struct memory_params params = {.size = config->memory.size,
                                   .low_size = low,
                                   .high_gpa = LAYOUT_HIGH_RAM_BASE,
                                   .windows = &windows};
    struct guest_memory memory;
    if (memory_create(&memory, &params, &err) < 0)
        return;
    check(memory_load_plan(&memory, plan, &err) == 0);
    memory_destroy(&memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 33)
        return 0;
    uint8_t kind = data[0];
    _cleanup_free_ uint8_t *copy = malloc(size - 1);
    check(copy);
    memcpy(copy, data + 1, size - 1);
    store_le32(copy + 20, igvm_checksum(copy, size - 1));
    _cleanup_close_ int fd = memfd_create("input", MFD_CLOEXEC);
    check(fd >= 0 && fd_write_full(fd, copy, size - 1) == 0);
    char path[64], cmdline[] = "console=ttyS0";
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    struct vm_config config = {
        .payload = {.igvm = path, .cmdline = kind & 1 ? cmdline : NULL},
        .cpus = {.boot = 1 + (kind >> 1 & 3), .max = 4},
        .memory = {.size = kind & 8 ? GIB(6) : MIB(2)},
        .platform.sev_snp = (enum switch_state)((kind >> 4 & 3) % 3),
    };
    struct plan plan = PLAN_INIT;
    struct error err = ERROR_INIT;
    int r = machine_plan(&plan, &config, &err);
    check(r == 0 || err.message[0]);
    if (r == 0 && bytes_of(&plan) <= BYTES_MAX)
        load(&plan, &config);
    plan_release(&plan);
    return 0;
}
