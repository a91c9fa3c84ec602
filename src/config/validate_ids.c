/* A name for each virtio device, unlike all others: messages, events and requests go by it. */
#include "config/device_list.h"
#include "config/options.h"
#include "config/table.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/** is_taken() - whether one of the first @n devices has that id. */
static bool is_taken(const struct vm_config *config, const char *id, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct device_entry device = config_device(config, i);
        if (device.id && strcmp(device.id, id) == 0)
            return true;
    }
    return false;
}

static int check_id(const struct vm_config *config, unsigned number, struct error *err)
{
    struct device_entry device = config_device(config, number);
    if (!device.id)
        return 0;
    struct option_excerpt shown = option_excerpt(device.id, strlen(device.id));
    int ret = 0;
    if (device.id[strspn(device.id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                    "0123456789-_.")])
        ret = error_set(err, -EINVAL,
                        "id: '%s' has more than letters, digits, dashes, dots and underscores",
                        shown.text);
    else if (is_taken(config, device.id, number))
        ret = error_set(err, -EINVAL, "id: two devices are called '%s'", shown.text);
    return ret < 0 ? error_context(err, "%s: %s", device.option, shown.text) : 0;
}

/** make_id() - unless there is one: @prefix and the first number from *@next that is free. */
static int make_id(const struct vm_config *config, char **to, const char *prefix, unsigned *next,
                   struct error *err)
{
    char id[32];
    if (*to)
        return 0;
    do
        snprintf(id, sizeof(id), "%s%u", prefix, (*next)++);
    while (is_taken(config, id, config_n_devices(config)));
    if (asprintf(to, "%s", id) >= 0)
        return 0;
    *to = NULL;
    return error_set_errno(err, -ENOMEM, "could not name the devices");
}

int config_validate_ids(struct vm_config *config, struct error *err)
{
    for (unsigned i = 0; i < config_n_devices(config); i++) {
        int ret = check_id(config, i, err);
        if (ret < 0)
            return ret;
    }
    unsigned next_disk = 0, next_net = 0, next_fs = 0;
    int ret = 0;
    for (size_t i = 0; i < config->n_disks && ret == 0; i++)
        ret = make_id(config, &config->disks[i].id, "_disk", &next_disk, err);
    for (size_t i = 0; i < config->n_nets && ret == 0; i++)
        ret = make_id(config, &config->nets[i].id, "_net", &next_net, err);
    for (size_t i = 0; i < config->n_filesystems && ret == 0; i++)
        ret = make_id(config, &config->filesystems[i].id, "_fs", &next_fs, err);
    return ret;
}
