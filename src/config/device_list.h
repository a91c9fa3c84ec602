/*
 * The virtio devices of a configuration as one row, whatever option each comes from. A device's number in that row is its
 * name between the VMM and the broker, and the order in which the devices are put on the PCI bus.
 */
#ifndef HUSK_CONFIG_DEVICE_LIST_H
#define HUSK_CONFIG_DEVICE_LIST_H

#include "config/config.h"

enum device_kind { DEVICE_DISK, DEVICE_NET, DEVICE_FS, DEVICE_RNG, DEVICE_CONSOLE, DEVICE_VSOCK };

struct device_entry {
    enum device_kind kind;
    const char *option; /* "--disk", for messages */
    const char
        *id; /* what messages and events call it; NULL before validation, if none was given */
    const char *
        socket; /* on which another program's back-end listens; NULL: husk's own serves the device */
    union {     /* by @kind */
        const struct disk_config *disk;
        const struct net_config *net;
        const struct fs_config *fs;
        const struct rng_config *rng;
        const struct console_config *console;
        const struct vsock_config *vsock;
    };
};

/** config_n_devices() - how many there are. */
unsigned config_n_devices(const struct vm_config *config);

/** config_device() - device @number, less than config_n_devices(). */
struct device_entry config_device(const struct vm_config *config, unsigned number);

#endif
