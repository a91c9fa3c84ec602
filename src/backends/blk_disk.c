/*
 * Opening a disk. Regular files and block devices alone: a FIFO or a terminal would hang or be damaged by an open that
 * expects a disk, so the file is looked at before it is opened for real.
 */
#include "backends/blk_disk.h"

#include "backends/blk_options.h"
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define FILE_PHYSICAL_BYTES 4096u /* what file systems work in; a hint to the guest's mkfs */
#define DIRECT_ALIGN_DEFAULT 4096u
#define BLOCK_BYTES_MAX 65536u

static bool is_block_size(uint64_t bytes)
{
    return bytes >= BLK_SECTOR_BYTES && bytes <= BLOCK_BYTES_MAX && !(bytes & (bytes - 1));
}

static int check_kind(const struct stat *st, const char *name, struct error *err)
{
    if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
        return 0;
    return error_set(err, -EINVAL, "'%s' is neither a file nor a block device", name);
}

static int open_path(const struct blk_options *options, struct error *err)
{
    const char *path = options->path;
    _cleanup_close_ int handle = open(path, O_PATH | O_CLOEXEC);
    struct stat st, opened;
    if (handle < 0 || fstat(handle, &st) < 0)
        return error_set_errno(err, -errno, "could not open '%s'", path);
    int r = check_kind(&st, path, err);
    if (r < 0)
        return r;
    int flags = (options->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
    _cleanup_close_ int fd = open(path, flags | (options->direct ? O_DIRECT : 0));
    if (fd < 0) {
        error_set_errno(err, -errno, "could not open '%s'", path);
        if (errno == EINVAL && options->direct)
            error_hint(err, "its file system may not support O_DIRECT");
        else if (errno == EROFS || errno == EACCES)
            error_hint(err, "a disk that the guest may not write to needs readonly=on");
        return err ? err->code : -errno;
    }
    if (fstat(fd, &opened) < 0 || opened.st_dev != st.st_dev || opened.st_ino != st.st_ino)
        return error_set(err, -EINVAL, "'%s' was replaced while it was opened", path);
    if (fcntl(fd, F_SETFL, options->direct ? O_DIRECT : 0) < 0)
        return error_set_errno(err, -errno, "could not set up '%s'", path);
    return take_fd(&fd);
}

static int take_descriptor(const struct blk_options *options, struct error *err)
{
    struct stat st;
    _cleanup_close_ int fd = options->file_fd;
    if (fstat(fd, &st) < 0)
        return error_set_errno(err, -errno, "--file-fd %d", fd);
    int r = check_kind(&st, "--file-fd", err);
    if (r < 0)
        return r;
    int flags = fcntl(fd, F_GETFL);
    int mode = flags & O_ACCMODE;
    if (flags < 0 || flags & O_PATH || mode == O_WRONLY || (mode != O_RDWR && !options->readonly))
        return error_set(err, -EBADF, "descriptor %d is not open for reading%s", fd,
                         options->readonly ? "" : " and writing");
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
        fcntl(fd, F_SETFL, options->direct ? O_DIRECT : 0) < 0)
        return error_set_errno(err, -errno, "could not set up descriptor %d", fd);
    return take_fd(&fd);
}

/* What O_DIRECT wants of addresses and offsets; kernels before 6.1 do not say it of files. */
static void find_direct_alignment(struct blk_disk *disk)
{
    disk->memory_align = disk->offset_align =
        disk->is_device ? disk->logical_bytes : DIRECT_ALIGN_DEFAULT;
#ifdef STATX_DIOALIGN
    struct statx stx;
    if (statx(disk->fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &stx) == 0 &&
        stx.stx_mask & STATX_DIOALIGN && is_block_size(stx.stx_dio_offset_align) &&
        stx.stx_dio_mem_align && stx.stx_dio_mem_align <= BLOCK_BYTES_MAX) {
        disk->memory_align = stx.stx_dio_mem_align;
        disk->offset_align = stx.stx_dio_offset_align;
    }
#endif
    if (!disk->is_device)
        disk->logical_bytes = disk->offset_align;
}

static int find_device_size(struct blk_disk *disk, const char *name, struct error *err)
{
    int logical = 0;
    unsigned physical = 0, optimal = 0;
    if (ioctl(disk->fd, BLKGETSIZE64, &disk->bytes) < 0 || ioctl(disk->fd, BLKSSZGET, &logical) < 0)
        return error_set_errno(err, -errno, "could not find the size of '%s'", name);
    if (logical > 0 && is_block_size((uint64_t)logical))
        disk->logical_bytes = (uint32_t)logical;
    if (ioctl(disk->fd, BLKPBSZGET, &physical) == 0 && is_block_size(physical))
        disk->physical_bytes = physical;
    if (ioctl(disk->fd, BLKIOOPT, &optimal) == 0)
        disk->opt_io_bytes = optimal;
    return 0;
}

/* Size, block sizes, alignments. */
static int find_geometry(struct blk_disk *disk, const char *name, struct error *err)
{
    struct stat st;
    if (fstat(disk->fd, &st) < 0)
        return error_set_errno(err, -errno, "could not look at '%s'", name);
    disk->is_device = S_ISBLK(st.st_mode);
    disk->logical_bytes = BLK_SECTOR_BYTES;
    disk->physical_bytes = BLK_SECTOR_BYTES;
    if (disk->is_device) {
        int r = find_device_size(disk, name, err);
        if (r < 0)
            return r;
    } else {
        disk->bytes = (uint64_t)st.st_size;
        disk->physical_bytes = FILE_PHYSICAL_BYTES;
    }
    if (disk->direct)
        find_direct_alignment(disk);
    disk->physical_bytes = MAX(disk->physical_bytes, disk->logical_bytes);

    uint64_t whole = align_down(disk->bytes, disk->logical_bytes);
    if (whole != disk->bytes)
        log_warn("%s: the size, %llu bytes, is no multiple of %u: the guest does not see the last "
                 "%llu",
                 name, (unsigned long long)disk->bytes, disk->logical_bytes,
                 (unsigned long long)(disk->bytes - whole));
    else if (!whole)
        log_warn("%s is empty", name);
    disk->bytes = whole;
    return 0;
}

/* Behind the end of the file there is nothing to lose. A device says so when it is asked. */
static bool finds_holes(const struct blk_disk *disk)
{
    struct stat st;
    if (disk->readonly)
        return false;
    if (disk->is_device)
        return true;
    return fstat(disk->fd, &st) == 0 &&
           fallocate(disk->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                     (off_t)align_up((uint64_t)st.st_size, PAGE_BYTES), PAGE_BYTES) == 0;
}

/** name_of() - the path of a disk that was handed over as a descriptor, for messages. */
static const char *name_of(int fd, char name[static PATH_MAX])
{
    char link[sizeof("/proc/self/fd/") + 11];
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, name, PATH_MAX - 1);
    if (len <= 0)
        return "the disk's descriptor";
    name[len] = '\0';
    return name;
}

int blk_disk_open(struct blk_disk *disk, const struct blk_options *options, struct error *err)
{
    char path[PATH_MAX];
    const char *name = options->path        ? options->path
                       : options->file_name ? options->file_name
                                            : name_of(options->file_fd, path);
    *disk = (struct blk_disk){.readonly = options->readonly,
                              .direct = options->direct,
                              .memory_align = 1,
                              .offset_align = 1};
    atomic_init(&disk->writeback, true);
    memcpy(disk->serial, options->serial, sizeof(disk->serial));
    disk->fd = options->path ? open_path(options, err) : take_descriptor(options, err);
    if (disk->fd < 0)
        return disk->fd;
    int r = find_geometry(disk, name, err);
    if (r == 0)
        r = blk_lock(disk->fd, options->lock, !disk->readonly, disk->bytes, options->lock_wait_ms,
                     name, err);
    if (r < 0) {
        blk_disk_close(disk);
        return r;
    }
    disk->can_discard = finds_holes(disk);
    return 0;
}

void blk_disk_close(struct blk_disk *disk)
{
    if (disk->fd >= 0)
        close(disk->fd);
    disk->fd = -1;
}
