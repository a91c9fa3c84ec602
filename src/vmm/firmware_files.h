/* The files that a guest's firmware may read through fw_cfg: opened once, before husk can open no more, and for every life. */
#ifndef HUSK_VMM_FIRMWARE_FILES_H
#define HUSK_VMM_FIRMWARE_FILES_H

#include "base/error.h"
#include "config/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct firmware_file {
    char *path;
    int fd;
    bool measured;                   /* by its hash: the guest refuses it if it changes */
    uint64_t size;                   /* when it was opened, as the others */
    struct timespec written, status; /* st_mtim, st_ctim */
};

struct firmware_files {
    struct firmware_file *files;
    size_t n;
};

/** firmware_files_open() - kernel and initramfs, as far as firmware is told of them, and the user's items.
 *
 * Return: 0, or -errno with a sentence that names option and file; @files is to be closed in either case.
 */
int firmware_files_open(struct firmware_files *files, const struct vm_config *config,
                        struct error *err);

/** firmware_files_find() - the descriptor of @path, which stays the files' own.
 * @size: filled with its length in bytes as it is now.
 */
int firmware_files_find(const struct firmware_files *files, const char *path, uint64_t *size,
                        struct error *err);

/** firmware_files_check() - that the files that are measured are as they were when they were opened. 0 or -errno. */
int firmware_files_check(const struct firmware_files *files, struct error *err);

void firmware_files_close(struct firmware_files *files);

#endif
