#include "launch/igvm_source.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

/* A VBS context has at most 512 registers of 32 bytes behind 4 bytes, and need not begin at a page. */
#define CONTEXT_PAGES 6

const char *igvm_finding_text(const struct igvm_finding *f, char *text)
{
    if (f->header == 0)
        snprintf(text, IGVM_FINDING_TEXT, "the file: %s", f->message);
    else
        snprintf(text, IGVM_FINDING_TEXT,
                 "header %" PRIu32 " (%s, type 0x%" PRIx32 ", at byte 0x%" PRIx32 "): %s",
                 f->header, igvm_type_name(f->type), f->type, f->offset, f->message);
    return text;
}

void igvm_source_release(struct igvm_source *source)
{
    igvm_file_close(source->file);
    if (source->bytes)
        munmap(source->bytes, source->size);
    if (source->fd >= 0)
        close(source->fd);
    *source = IGVM_SOURCE_INIT;
}

/** read_range() - [@at, @at + @len) of the file into its place, as far as it lies in the file. */
static int read_range(struct igvm_source *source, uint64_t at, uint64_t len)
{
    if (at >= source->size)
        return 0;
    len = MIN(len, source->size - at);
    return fd_pread_full(source->fd, source->bytes + at, len, at);
}

/** read_contexts() - what VP contexts point to: a page, or as many VBS registers as may be there. */
static int read_contexts(struct igvm_source *source, uint64_t start, uint64_t end)
{
    /* Contexts may share pages, even in a file made for harm: each page is read once. */
    _cleanup_free_ uint8_t *seen = calloc(source->size / PAGE_BYTES / 8 + 1, 1);
    if (!seen)
        return -ENOMEM;
    for (uint64_t at = start; at + 8 <= end;) {
        uint32_t type = load_le32(source->bytes + at), len = load_le32(source->bytes + at + 4);
        if (align_up(len, 8) > end - at - 8)
            break;
        if (type == IGVM_VHT_VP_CONTEXT && len == IGVM_VHS_VP_CONTEXT_LENGTH) {
            uint64_t data =
                load_le32(source->bytes + at + 8 + offsetof(IGVM_VHS_VP_CONTEXT, file_offset));
            uint64_t page = data / PAGE_BYTES;
            for (uint64_t last = page + CONTEXT_PAGES; page < last; page++) {
                if (page * PAGE_BYTES >= source->size || seen[page / 8] & BIT(page % 8))
                    continue;
                seen[page / 8] |= (uint8_t)BIT(page % 8);
                int r = read_range(source, page * PAGE_BYTES, PAGE_BYTES);
                if (r < 0)
                    return r;
            }
        }
        at += 8 + align_up(len, 8);
    }
    return 0;
}

static int read_headers(struct igvm_source *source)
{
    int r = read_range(source, 0, sizeof(IGVM_FIXED_HEADER_V2));
    if (r < 0 || source->size < sizeof(IGVM_FIXED_HEADER))
        return r;
    uint64_t start = load_le32(source->bytes + 8), end = start + load_le32(source->bytes + 12);
    if (load_le32(source->bytes) != IGVM_MAGIC_VALUE || end > source->size)
        return 0; /* which the parser will say */
    r = read_range(source, 0, end);
    return r < 0 ? r : read_contexts(source, start, end);
}

/* The first finding that is not tolerated, for those who want one error. */
struct first_finding {
    igvm_finding_fn *report;
    void *opaque;
    char text[IGVM_FINDING_TEXT];
};

static void keep_first(const struct igvm_finding *finding, void *opaque)
{
    struct first_finding *first = opaque;
    if (!first->text[0] && !finding->tolerated)
        igvm_finding_text(finding, first->text);
    if (first->report)
        first->report(finding, first->opaque);
}

int igvm_source_open(struct igvm_source *source, const char *path, igvm_finding_fn *report,
                     void *opaque, struct error *err)
{
    *source = IGVM_SOURCE_INIT;
    source->fd = fd_open_file(path, &source->size, err);
    if (source->fd < 0)
        return source->fd;
    if (source->size == 0 || source->size > UINT32_MAX)
        return error_set(err, -EINVAL, "%s is not an IGVM file: it has %" PRIu64 " bytes", path,
                         source->size);
    void *bytes = mmap(NULL, source->size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (bytes == MAP_FAILED)
        return error_set_errno(err, -errno, "no memory for the headers of %s", path);
    source->bytes = bytes;
    int r = read_headers(source);
    if (r < 0)
        return error_set_errno(err, r, "could not read %s", path);
    struct first_finding first = {.report = report, .opaque = opaque};
    if (igvm_file_open(source->bytes, source->size, keep_first, &first, &source->file) !=
        IGVMAPI_OK) {
        error_set(err, -EINVAL, "%s: %s", path, first.text[0] ? first.text : "out of memory");
        return error_hint(err, "`husk igvm show --verify %s` lists everything that is wrong", path);
    }
    return 0;
}

int igvm_source_read_all(struct igvm_source *source, const char *path, struct error *err)
{
    int r = read_range(source, 0, source->size);
    return r < 0 ? error_set_errno(err, r, "could not read %s", path) : 0;
}
