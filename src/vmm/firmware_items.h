/* What a machine tells its firmware through fw_cfg: memory, processors, kernel, ACPI and SMBIOS tables. */
#ifndef HUSK_VMM_FIRMWARE_ITEMS_H
#define HUSK_VMM_FIRMWARE_ITEMS_H

#include "base/error.h"
#include "config/config.h"
#include "devices/bus.h"
#include "memory/memory.h"

#include <stdint.h>

struct firmware_files;
struct firmware_items;

struct firmware_items_in {
    const struct vm_config *config;
    const struct firmware_files *files; /* open for that configuration */
    const struct guest_memory *memory;
    struct bus *ports;
    /* Where firmware has put PCI configuration space by now; 0 for nowhere. From a vCPU thread. */
    uint64_t (*placed_ecam)(void *ctx);
    /* An item could not be read any more: the guest must stop. From a vCPU thread. */
    void (*failed)(void *ctx, const struct error *err);
    void *ctx;
};

/** firmware_items_new() - fw_cfg with all its items. NULL with @err filled on failure. */
struct firmware_items *firmware_items_new(const struct firmware_items_in *in, struct error *err);
void firmware_items_free(struct firmware_items *items);

#endif
