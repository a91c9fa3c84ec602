#include "config/device_list.h"

static bool has_rng(const struct vm_config *config)
{
    return config->rng.src != NULL;
}

static bool has_console(const struct vm_config *config)
{
    return config->console.mode != CONSOLE_OFF;
}

static bool has_vsock(const struct vm_config *config)
{
    return config->vsock.cid != 0;
}

unsigned config_n_devices(const struct vm_config *config)
{
    return (unsigned)(config->n_disks + config->n_nets + config->n_filesystems) + has_rng(config) +
           has_console(config) + has_vsock(config);
}

static struct device_entry disk_entry(const struct disk_config *disk)
{
    return (struct device_entry){
        .kind = DEVICE_DISK,
        .option = "--disk",
        .id = disk->id,
        .socket = disk->vhost_user ? disk->socket : NULL,
        .disk = disk,
    };
}

static struct device_entry net_entry(const struct net_config *net)
{
    return (struct device_entry){
        .kind = DEVICE_NET,
        .option = "--net",
        .id = net->id,
        .socket = net->vhost_user ? net->socket : NULL,
        .net = net,
    };
}

static struct device_entry fs_entry(const struct fs_config *fs)
{
    return (struct device_entry){
        .kind = DEVICE_FS, .option = "--fs", .id = fs->id, .socket = fs->socket, .fs = fs};
}

struct device_entry config_device(const struct vm_config *config, unsigned number)
{
    if (number < config->n_disks)
        return disk_entry(&config->disks[number]);
    number -= (unsigned)config->n_disks;
    if (number < config->n_nets)
        return net_entry(&config->nets[number]);
    number -= (unsigned)config->n_nets;
    if (number < config->n_filesystems)
        return fs_entry(&config->filesystems[number]);
    number -= (unsigned)config->n_filesystems;
    if (has_rng(config) && number-- == 0)
        return (struct device_entry){
            .kind = DEVICE_RNG, .option = "--rng", .id = "_rng", .rng = &config->rng};
    if (has_console(config) && number-- == 0)
        return (struct device_entry){.kind = DEVICE_CONSOLE,
                                     .option = "--console",
                                     .id = "_console",
                                     .console = &config->console};
    return (struct device_entry){
        .kind = DEVICE_VSOCK, .option = "--vsock", .id = "_vsock", .vsock = &config->vsock};
}
