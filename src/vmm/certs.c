#include "vmm/certs.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "base/log.h"
#include "snp/certs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/** lock() - of the kind @type; returns 0, EAGAIN or EIO. */
static int lock(int fd, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
        return 0;
    return errno == EAGAIN || errno == EACCES ? EAGAIN : EIO;
}

/** read_table() - all of @fd, checked. Returns an allocation and its @len; NULL with @err filled. */
static uint8_t *read_table(int fd, size_t *len, struct error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || st.st_size < 0 || st.st_size > SNP_CERTS_MAX) {
        error_set(err, -EINVAL, "the table of certificates has more than %u bytes", SNP_CERTS_MAX);
        return NULL;
    }
    *len = (size_t)st.st_size;
    _cleanup_free_ uint8_t *table = malloc(*len + 1);
    if (!table) {
        error_set(err, -ENOMEM, "out of memory for the certificates");
        return NULL;
    }
    int ret = fd_pread_full(fd, table, *len, 0);
    if (ret < 0) {
        error_set_errno(err, ret, "could not read the certificates");
        return NULL;
    }
    return snp_certs_check(table, *len, err) < 0 ? NULL : take_ptr(table);
}

int certs_open(const char *path, struct error *err)
{
    uint64_t size;
    size_t len;
    _cleanup_close_ int fd = fd_open_file(path, &size, err);
    if (fd < 0) {
        error_context(err, "--platform certs");
        return fd;
    }
    _cleanup_free_ uint8_t *table = read_table(fd, &len, err);
    return table ? take_fd(&fd) : error_context(err, "--platform certs: '%s'", path);
}

/** serve() - with the file locked. */
static int serve(int fd, const struct guest_memory *memory, uint64_t gpa, uint64_t *pages)
{
    struct error err = ERROR_INIT;
    size_t len;
    _cleanup_free_ uint8_t *table = read_table(fd, &len, &err);
    if (!table) {
        log_warn("the guest gets no certificates: %s", err.message);
        return EIO;
    }
    uint64_t needed = align_up(len, PAGE_BYTES) / PAGE_BYTES;
    if (*pages < needed) {
        *pages = needed;
        return ENOSPC;
    }
    void *to = memory_ptr(memory, gpa, len);
    if (!to)
        return EIO;
    memcpy(to, table, len);
    return 0;
}

int certs_serve(int fd, const struct guest_memory *memory, uint64_t gpa, uint64_t *pages)
{
    int code = lock(fd, F_RDLCK);
    if (code)
        return code;
    code = serve(fd, memory, gpa, pages);
    if (code)
        certs_served(fd);
    return code;
}

void certs_served(int fd)
{
    (void)lock(fd, F_UNLCK);
}
