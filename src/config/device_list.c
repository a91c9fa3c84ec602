#include "config/device_list.h"

unsigned config_n_devices(const struct vm_config *config)
{
    return (unsigned)(config->n_disks + config->n_nets) + (config->rng.src != NULL);
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
    number -= (unsigned)config->n_disks;
    if (number < config->n_nets) {
        const struct net_config *net = &config->nets[number];
        return (struct device_entry){
            .kind = DEVICE_NET,
            .option = "--net",
            .id = net->id,
            .socket = net->vhost_user ? net->socket : NULL,
            .net = net,
        };
    }
    return (struct device_entry){
        .kind = DEVICE_RNG, .option = "--rng", .id = "_rng", .rng = &config->rng};
}
