/*
 * An IGVM file on disk, its headers read and checked. Page data is not read: whoever wants it reads that range. The
 * file may be of any size; memory is taken for the headers alone.
 */
#ifndef HUSK_LAUNCH_IGVM_SOURCE_H
#define HUSK_LAUNCH_IGVM_SOURCE_H

#include "base/error.h"
#include "igvm/igvm.h"

#include <stddef.h>
#include <stdint.h>

struct igvm_source {
    int fd; /* -1 when it was handed on */
    uint64_t size;
    uint8_t *bytes; /* the headers and VP contexts at their offsets; zero elsewhere */
    struct igvm_file *file;
};

#define IGVM_SOURCE_INIT ((struct igvm_source){.fd = -1})

/** igvm_source_open() - read and check @path.
 * @report: called for each finding, may be NULL; then the first one is in @err.
 *
 * Return: 0; -EINVAL if the file is not valid, with the first finding, its header's number, type and offset in @err;
 * -errno if it cannot be read. @source must be released in either case.
 */
int igvm_source_open(struct igvm_source *source, const char *path, igvm_finding_fn *report,
                     void *opaque, struct error *err);

void igvm_source_release(struct igvm_source *source);

/** igvm_source_read_all() - page data too, so that igvm_file_data() gives all of it. 0 or -errno. */
int igvm_source_read_all(struct igvm_source *source, const char *path, struct error *err);

/** igvm_finding_text() - "header 3 (PAGE_DATA, type 0x302, at byte 0x58): ..." */
#define IGVM_FINDING_TEXT 400
const char *igvm_finding_text(const struct igvm_finding *finding, char *text);

#endif
