/* pvpanic as a PCI device (QEMU's docs/specs/pvpanic): the guest's way to say that it has panicked. */
#ifndef HUSK_DEVICES_PVPANIC_H
#define HUSK_DEVICES_PVPANIC_H

#include "devices/pci.h"

#include <stdint.h>

#define PVPANIC_PANICKED 0x01
#define PVPANIC_CRASH_LOADED 0x02 /* it runs its crash kernel */

struct pvpanic;

/**
 * pvpanic_new() - on @host's bus.
 * @event: told of PVPANIC_* bits, from a vCPU thread.
 *
 * Return: the device, or NULL with @err filled. Free it after the PCI host.
 */
struct pvpanic *pvpanic_new(struct pci_host *host, void (*event)(void *ctx, uint8_t bits),
                            void *ctx, struct error *err);
void pvpanic_free(struct pvpanic *pvpanic);

#endif
