/* The rules of --fs: what goes together. */
#include "config/options.h"
#include "config/table.h"

#include <errno.h>
#include <string.h>

/** check_tag() - the guest could not tell two of one tag apart. */
static int check_tag(const struct vm_config *config, const struct fs_config *fs, struct error *err)
{
    if (!fs->tag)
        return error_set(err, -EINVAL, "needs tag=<name>");
    for (const struct fs_config *other = config->filesystems; other < fs; other++)
        if (other->tag && strcmp(other->tag, fs->tag) == 0)
            return error_set(err, -EINVAL, "two have the tag '%s'",
                             option_excerpt(fs->tag, strlen(fs->tag)).text);
    return 0;
}

static int check_fs(const struct fs_config *fs, struct error *err)
{
    if (!fs->socket) {
        error_set(err, -EINVAL, "needs socket=<socket>");
        return error_hint(err,
                          "virtiofsd --socket-path <socket> --shared-dir <directory> serves one");
    }
    if (fs->queue_size & (fs->queue_size - 1))
        return error_set(err, -EINVAL, "queue_size=%u is not a power of two", fs->queue_size);
    return 0;
}

int config_validate_filesystems(const struct vm_config *config, struct error *err)
{
    for (size_t i = 0; i < config->n_filesystems; i++) {
        const struct fs_config *fs = &config->filesystems[i];
        const char *name = fs->id ? fs->id : fs->tag ? fs->tag : fs->socket;
        int ret = check_tag(config, fs, err);
        if (ret == 0)
            ret = check_fs(fs, err);
        if (ret < 0 && name)
            return error_context(err, "--fs: %s", option_excerpt(name, strlen(name)).text);
        if (ret < 0)
            return error_context(err, "--fs");
    }
    return 0;
}
