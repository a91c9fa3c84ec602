#include "config/device_list.h"

unsigned config_n_devices(const struct vm_config *config)
{
    return (unsigned)config->n_disks + (config->rng.src != NULL);
}

struct device_entry config_device(const struct vm_config *config, unsigned number)
{
    if (number < config->n_disks) {
        const struct disk_config *disk = &config->disks[number];
        return (struct device_entry){
            .kind = DEVICE_DISK,
            .option = "--disk",
            .id = disk->id,
            .socket = disk->vhost_user ? disk->socket : NULL,
            .disk = disk,
        };
    }
    return (struct device_entry){
        .kind = DEVICE_RNG, .option = "--rng", .id = "_rng", .rng = &config->rng};
}
