#include "backends/shared_file.h"

#include "base/bytes.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>

int shared_file_map(int fd, uint64_t offset, uint64_t len, void **mapping, size_t *mapping_len,
                    uint8_t **bytes, struct error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_set_errno(err, -errno, "its descriptor cannot be looked at");
    if (!S_ISREG(st.st_mode))
        return error_set(err, -EINVAL, "its descriptor is neither a memfd nor a file");
    if (len == 0 || !range_within(offset, len, (uint64_t)st.st_size))
        return error_set(err, -EINVAL, "%llu bytes at %llu are not in its file of %llu",
                         (unsigned long long)len, (unsigned long long)offset,
                         (unsigned long long)st.st_size);
    uint64_t start = align_down(offset, PAGE_BYTES);
    size_t whole = offset - start + len;
    void *at = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)start);
    if (at == MAP_FAILED)
        return error_set_errno(err, -errno, "it cannot be mapped");
    *mapping = at;
    *mapping_len = whole;
    *bytes = (uint8_t *)at + (offset - start);
    return 0;
}
