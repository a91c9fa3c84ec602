/* Memory that front-end and back-end share beside guest memory: the in-flight region, the dirty log. */
#ifndef HUSK_BACKENDS_SHARED_FILE_H
#define HUSK_BACKENDS_SHARED_FILE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/**
 * shared_file_map() - map @len bytes at @offset of @fd for reading and writing.
 * @mapping, @mapping_len: receive what munmap(2) wants.
 * @bytes: receives where @offset is.
 *
 * Return: 0; -EINVAL if that is empty or beyond the end of the file, or @fd is no file; -errno of mmap(2).
 */
int shared_file_map(int fd, uint64_t offset, uint64_t len, void **mapping, size_t *mapping_len,
                    uint8_t **bytes, struct error *err);

#endif
