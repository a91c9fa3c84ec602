#include "backends/dirty_log.h"

#include "backends/shared_file.h"
#include "base/bytes.h"

#include <sys/mman.h>

int dirty_log_map(struct dirty_log *log, const struct vhost_user_log *where, int fd,
                  struct error *err)
{
    int ret = shared_file_map(fd, where->mmap_offset, where->mmap_size, &log->mapping,
                              &log->mapping_len, &log->bits, err);
    if (ret < 0)
        return error_context(err, "dirty log");
    log->bytes = where->mmap_size;
    return 0;
}

void dirty_log_unmap(struct dirty_log *log)
{
    if (log->mapping)
        munmap(log->mapping, log->mapping_len);
    *log = (struct dirty_log){0};
}

void dirty_log_mark(const struct dirty_log *log, uint64_t gpa, uint64_t len)
{
    uint64_t last;
    if (!log->bits || len == 0 || add_overflows(gpa, len - 1, &last))
        return;
    last /= PAGE_BYTES;
    /* The bytes are written before the bit is looked at: whoever takes it away afterwards sees them. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (uint64_t page = gpa / PAGE_BYTES; page <= last && page / 8 < log->bytes; page++) {
        uint8_t bit = (uint8_t)(1u << (page % 8));
        if (!(__atomic_load_n(&log->bits[page / 8], __ATOMIC_RELAXED) & bit))
            __atomic_fetch_or(&log->bits[page / 8], bit, __ATOMIC_SEQ_CST);
    }
}
