/* Which device firmware is to boot from first, as QEMU tells it. */
#ifndef HUSK_VMM_BOOT_ORDER_H
#define HUSK_VMM_BOOT_ORDER_H

#include "base/buf.h"
#include "config/config.h"

/**
 * boot_order_build() - the fw_cfg item "bootorder": disks, then network interfaces, each in the order of the command line.
 * @text: Open Firmware device paths, a line each, and a NUL behind the last; nothing if there is no such device.
 *
 * Source: get_boot_devices_list() of QEMU's system/bootdevice.c; edk2's QemuBootOrderLib reads it.
 */
void boot_order_build(struct buf *text, const struct vm_config *config);

#endif
