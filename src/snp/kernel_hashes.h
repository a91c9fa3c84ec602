/*
 * The kernel-hash table: hashes of command line, initial RAM disk and kernel in a measured page, by which firmware
 * knows that what it is handed through fw_cfg is what was meant.
 */
#ifndef HUSK_SNP_KERNEL_HASHES_H
#define HUSK_SNP_KERNEL_HASHES_H

#include "base/error.h"

#include <stdint.h>

#define KERNEL_HASHES_BYTES 176 /* 168, padded to 16 */

/** kernel_hashes_build() - the table.
 * @kernel: path of the kernel file, hashed whole and as it is.
 * @initramfs: path, or NULL: the hash of nothing.
 * @cmdline: hashed with its NUL; NULL is the empty one.
 *
 * Return: 0 or -errno.
 */
int kernel_hashes_build(uint8_t table[KERNEL_HASHES_BYTES], const char *kernel,
                        const char *initramfs, const char *cmdline, struct error *err);

#endif
