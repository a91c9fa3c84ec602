#include "vmm/boot_order.h"

#include "config/device_list.h"

/* The slot of device number 0: the bus fills from 1, and pvpanic is put there before (platform.c, devices.c). */
static unsigned first_slot(const struct vm_config *config)
{
    return config->pvpanic ? 2 : 1;
}

void boot_order_build(struct buf *text, const struct vm_config *config)
{
    for (unsigned i = 0; i < config_n_devices(config); i++) {
        enum device_kind kind = config_device(config, i).kind;
        const char *before = text->len ? "\n" : "";
        if (kind == DEVICE_DISK)
            buf_printf(text, "%s/pci@i0cf8/scsi@%x/disk@0,0", before, first_slot(config) + i);
        else if (kind == DEVICE_NET)
            buf_printf(text, "%s/pci@i0cf8/ethernet@%x/ethernet-phy@0", before,
                       first_slot(config) + i);
    }
    if (text->len)
        buf_append_u8(text, 0);
}
