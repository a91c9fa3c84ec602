/* The rules of --disk: what goes together. */
#include "config/options.h"
#include "config/table.h"

#include <errno.h>
#include <string.h>

int config_check_rate(const struct rate_limit_config *rate, const char *name, struct error *err)
{
    if ((rate->size != 0) != (rate->refill_time != 0))
        return error_set(err, -EINVAL, "%s_size and %s_refill_time make a limit together only",
                         name, name);
    if (rate->one_time_burst && !rate->size)
        return error_set(err, -EINVAL, "%s_one_time_burst needs %s_size and %s_refill_time", name,
                         name, name);
    return 0;
}

/** qcow2_hint() - how a disk that husk does not serve itself is served all the same. */
static int qcow2_hint(struct error *err)
{
    return error_hint(err,
                      "qemu-storage-daemon serves such an image: start it with --export "
                      "type=vhost-user-blk and give husk --disk vhost_user=on,socket=<its socket>");
}

/** own_key() - a key that only husk's own back-end can follow, and that is given; NULL if there is none. */
static const char *own_key(const struct disk_config *disk)
{
    const struct {
        const char *name;
        bool given;
    } keys[] = {
        {"path", disk->path != NULL},
        {"readonly", disk->readonly},
        {"direct", disk->direct},
        {"serial", disk->serial != NULL},
        {"lock_granularity", disk->lock_granularity != LOCK_BYTE_RANGE},
        {"image_type", disk->image_type != IMAGE_RAW},
        {"bw_size", disk->bandwidth.size || disk->bandwidth.refill_time},
        {"bw_one_time_burst", disk->bandwidth.one_time_burst != 0},
        {"ops_size", disk->ops.size || disk->ops.refill_time},
        {"ops_one_time_burst", disk->ops.one_time_burst != 0},
    };
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
        if (keys[i].given)
            return keys[i].name;
    return NULL;
}

static int check_source(const struct disk_config *disk, struct error *err)
{
    if (disk->vhost_user) {
        const char *own = own_key(disk);
        if (own)
            return error_set(err, -EINVAL,
                             "'%s' is the back-end's matter, it cannot be given with vhost_user=on",
                             own);
        return disk->socket ? 0 : error_set(err, -EINVAL, "vhost_user=on needs socket=<socket>");
    }
    if (disk->socket)
        return error_set(err, -EINVAL, "'socket' is for vhost_user=on only");
    if (!disk->path) {
        error_set(err, -EINVAL, "needs path=<file>");
        return error_hint(err, "or vhost_user=on,socket=<socket>, if another program serves it");
    }
    if (disk->image_type != IMAGE_RAW) {
        error_set(err, -EINVAL, "husk itself serves raw images only");
        return qcow2_hint(err);
    }
    return 0;
}

static int check_disk(const struct disk_config *disk, struct error *err)
{
    int ret = check_source(disk, err);
    if (ret == 0)
        ret = config_check_rate(&disk->bandwidth, "bw", err);
    if (ret == 0)
        ret = config_check_rate(&disk->ops, "ops", err);
    if (ret == 0 && (disk->queue_size & (disk->queue_size - 1)))
        ret = error_set(err, -EINVAL, "queue_size=%u is not a power of two", disk->queue_size);
    return ret;
}

int config_validate_disks(const struct vm_config *config, struct error *err)
{
    for (size_t i = 0; i < config->n_disks; i++) {
        const struct disk_config *disk = &config->disks[i];
        int ret = check_disk(disk, err);
        if (ret < 0 && (disk->id || disk->path || disk->socket)) {
            const char *name = disk->id ? disk->id : disk->path ? disk->path : disk->socket;
            return error_context(err, "--disk: %s", option_excerpt(name, strlen(name)).text);
        }
        if (ret < 0)
            return error_context(err, "--disk");
    }
    return 0;
}
