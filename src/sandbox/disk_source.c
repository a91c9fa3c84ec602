/* What is behind a --disk: opened, identified, and looked at for somebody else's lock. */
#include "sandbox/source.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

/* How long a back-end that is started again waits for the lock of the one before, whose last writes the kernel may
 * still be at. */
#define LOCK_WAIT_MS 5000

static void cleanup_closedir(DIR **dir)
{
    if (*dir)
        closedir(*dir);
}

static int open_hint(const struct disk_config *disk, int code, struct error *err)
{
    source_hint(disk->path, err);
    if (code == -ENOENT)
        return error_hint(err, "`truncate -s 10G %s` makes an empty disk", disk->path);
    if (!disk->readonly && (code == -EACCES || code == -EROFS || code == -EPERM))
        return error_hint(err, "readonly=on needs the right to read only");
    if (disk->direct && code == -EINVAL)
        return error_hint(err, "its file system knows no O_DIRECT; direct=off does without");
    return code;
}

/** open_disk() - the file of @disk, if a disk can be made of it. Returns the descriptor or -errno. */
static int open_disk(const struct disk_config *disk, struct source_identity *identity,
                     struct error *err)
{
    /* Non-blocking, so that a FIFO without a peer is refused rather than waited for. */
    int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    flags |= disk->readonly ? O_RDONLY : O_RDWR;
    flags |= disk->direct ? O_DIRECT : 0;
    _cleanup_close_ int fd = open(disk->path, flags);
    if (fd < 0) {
        int code = -errno;
        struct stat st;
        if (code == -EISDIR || (stat(disk->path, &st) == 0 && S_ISDIR(st.st_mode)))
            return error_set(err, -EISDIR, "'%s' is a directory, not an image or a block device",
                             disk->path);
        error_set_errno(err, code, "could not open '%s'%s", disk->path,
                        disk->readonly ? "" : " for reading and writing");
        return open_hint(disk, code, err);
    }
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_set_errno(err, -errno, "could not look at '%s'", disk->path);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return error_set(err, S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL,
                         "'%s' is %s, not an image or a block device", disk->path,
                         S_ISDIR(st.st_mode)    ? "a directory"
                         : S_ISFIFO(st.st_mode) ? "a pipe"
                                                : "a character device");
    if (fcntl(fd, F_SETFL, flags & O_DIRECT) < 0)
        return error_set_errno(err, -errno, "could not use '%s'", disk->path);
    *identity = source_identity_of(&st);
    return take_fd(&fd);
}

/** fd_holds_lock() - whether fdinfo of descriptor @name of process @pid lists a lock. */
static bool fd_holds_lock(const char *pid, const char *name)
{
    char path[64], line[256];
    snprintf(path, sizeof(path), "/proc/%.16s/fdinfo/%.16s", pid, name);
    _cleanup_fclose_ FILE *in = fopen(path, "re");
    while (in && fgets(line, sizeof(line), in))
        if (strncmp(line, "lock:", 5) == 0)
            return true;
    return false;
}

/** process_holds_lock() - whether process @pid has the file @st open with a lock on it. */
static bool process_holds_lock(const char *pid, const struct stat *st)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
    _cleanup_(cleanup_closedir) DIR *dir = opendir(path);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        struct stat other;
        if (fstatat(dirfd(dir), entry->d_name, &other, 0) == 0 && other.st_dev == st->st_dev &&
            other.st_ino == st->st_ino && fd_holds_lock(pid, entry->d_name))
            return true;
    }
    return false;
}

/** find_holder() - " by NAME (pid N)" in @text, or nothing if /proc does not tell. */
static void find_holder(const struct stat *st, char *text, size_t size)
{
    text[0] = '\0';
    _cleanup_(cleanup_closedir) DIR *dir = opendir("/proc");
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (!isdigit((unsigned char)entry->d_name[0]) || !process_holds_lock(entry->d_name, st))
            continue;
        char path[64], name[32] = "a process";
        snprintf(path, sizeof(path), "/proc/%.16s/comm", entry->d_name);
        _cleanup_fclose_ FILE *in = fopen(path, "re");
        if (in && fgets(name, sizeof(name), in))
            name[strcspn(name, "\n")] = '\0';
        snprintf(text, size, " by %s (pid %.16s)", name, entry->d_name);
        return;
    }
}

/** check_lock() - whether the lock that the back-end will take can be had. */
static int check_lock(const struct disk_config *disk, int fd, struct error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_set_errno(err, -errno, "could not look at '%s'", disk->path);
    uint64_t len = (uint64_t)st.st_size;
    if (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, &len) < 0)
        len = 0;
    struct flock lock = {
        .l_type = disk->readonly ? F_RDLCK : F_WRLCK,
        .l_whence = SEEK_SET,
        .l_len = disk->lock_granularity == LOCK_FULL ? 0 : (off_t)len,
    };
    /* A file system without locks is the back-end's to complain about. */
    if (fcntl(fd, F_OFD_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
        return 0;
    char holder[96];
    find_holder(&st, holder, sizeof(holder));
    error_set(err, -EBUSY, "'%s' is in use%s: it is locked %s", disk->path, holder,
              lock.l_type == F_RDLCK ? "against writers" : "against other users");
    if (lock.l_type == F_RDLCK)
        return error_hint(err, "readonly=on shares it with others that only read");
    return -EBUSY;
}

static int check(const struct device_entry *device, struct source_identity *identity,
                 struct error *err)
{
    _cleanup_close_ int fd = open_disk(device->disk, identity, err);
    return fd < 0 ? fd : check_lock(device->disk, fd, err);
}

static int open_source(const struct device_entry *device, const struct source_identity *identity,
                       struct source_fds *fds, struct error *err)
{
    struct source_identity now = {0};
    int ret = source_check_path(device->disk->path, identity, err);
    if (ret < 0)
        return ret;
    _cleanup_close_ int fd = open_disk(device->disk, &now, err);
    if (fd < 0)
        return fd;
    if (!source_same(&now, identity))
        return source_is_another(device->disk->path, err);
    fds->fds[fds->n++] = take_fd(&fd);
    return 0;
}

static void words(const struct device_entry *device, bool again, struct backend_words *to)
{
    const struct disk_config *disk = device->disk;
    backend_words_number(to, "--file-fd", BACKEND_FIRST_FD);
    backend_words_text(to, "--file-name", disk->path);
    backend_words_number(to, "--num-queues", disk->num_queues);
    backend_words_number(to, "--queue-size", disk->queue_size);
    backend_words_text(to, "--lock", disk->lock_granularity == LOCK_FULL ? "full" : "byte-range");
    if (again)
        backend_words_number(to, "--lock-wait", LOCK_WAIT_MS);
    if (disk->readonly)
        backend_words_add(to, "--readonly");
    if (disk->direct)
        backend_words_add(to, "--direct");
    if (disk->serial)
        backend_words_text(to, "--serial", disk->serial);
    backend_words_limits(to, &disk->bandwidth, &disk->ops);
}

const struct source_kind disk_source = {
    .backend = "blk",
    .check = check,
    .open = open_source,
    .words = words,
};
