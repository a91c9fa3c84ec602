#include "vmm/firmware_files.h"

#include "base/cleanup.h"
#include "base/fd.h"
#include "vmm/machine_layout.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const struct firmware_file *find(const struct firmware_files *files, const char *path)
{
    for (size_t i = 0; i < files->n; i++)
        if (strcmp(files->files[i].path, path) == 0)
            return &files->files[i];
    return NULL;
}

/** add() - @path, unless it is there or NULL; there is room. */
static int add(struct firmware_files *files, const char *path, bool measured, struct error *err)
{
    uint64_t size;
    struct stat st;
    if (!path || find(files, path))
        return 0;
    _cleanup_close_ int fd = fd_open_file(path, &size, err);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return error_set_errno(err, -errno, "could not look at '%s'", path);
    char *copy = strdup(path);
    if (!copy)
        return error_set(err, -ENOMEM, "out of memory for '%s'", path);
    files->files[files->n++] = (struct firmware_file){
        .path = copy,
        .fd = take_fd(&fd),
        .measured = measured,
        .size = (uint64_t)st.st_size,
        .written = st.st_mtim,
        .status = st.st_ctim,
    };
    return 0;
}

int firmware_files_open(struct firmware_files *files, const struct vm_config *config,
                        struct error *err)
{
    const struct fw_cfg_config *told = &config->payload.fw_cfg;
    struct machine_payload payload = machine_payload(config);
    *files = (struct firmware_files){.files = calloc(2 + told->n_items, sizeof(*files->files))};
    if (!files->files)
        return error_set(err, -ENOMEM, "out of memory for the firmware's files");
    if (!machine_has_fw_cfg(config))
        return 0;
    if (add(files, payload.kernel, true, err) < 0)
        return error_context(err, "kernel");
    if (add(files, payload.initramfs, true, err) < 0)
        return error_context(err, "initramfs");
    for (size_t i = 0; i < told->n_items; i++)
        if (add(files, told->items[i].file, false, err) < 0)
            return error_context(err, "--fw-cfg-config: item '%s'", told->items[i].name);
    return 0;
}

int firmware_files_find(const struct firmware_files *files, const char *path, uint64_t *size,
                        struct error *err)
{
    const struct firmware_file *file = find(files, path);
    struct stat now;
    if (!file)
        return error_set(err, -ENOENT, "'%s' was not opened", path);
    if (fstat(file->fd, &now) < 0)
        return error_set_errno(err, -errno, "could not look at '%s'", path);
    *size = (uint64_t)now.st_size;
    return file->fd;
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

int firmware_files_check(const struct firmware_files *files, struct error *err)
{
    for (size_t i = 0; i < files->n; i++) {
        const struct firmware_file *file = &files->files[i];
        struct stat now;
        if (!file->measured)
            continue;
        if (fstat(file->fd, &now) < 0)
            return error_set_errno(err, -errno, "could not look at '%s'", file->path);
        if ((uint64_t)now.st_size == file->size && same_time(&now.st_mtim, &file->written) &&
            same_time(&now.st_ctim, &file->status))
            continue;
        error_set(err, -EIO,
                  "'%s' has changed since its hash was measured: the firmware would refuse it",
                  file->path);
        return error_hint(
            err,
            "replace files that a guest may still be started from by renaming new ones over them");
    }
    return 0;
}

void firmware_files_close(struct firmware_files *files)
{
    for (size_t i = 0; i < files->n; i++) {
        close(files->files[i].fd);
        free(files->files[i].path);
    }
    free(files->files);
    *files = (struct firmware_files){0};
}
