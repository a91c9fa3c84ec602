/*
 * fw_cfg: named and numbered items that firmware takes from the machine, by two ports or by DMA. The guest only reads.
 * Items are bytes, ranges of files read as they are asked for, or made when they are first selected.
 * Source: docs/specs/fw_cfg.rst of QEMU.
 */
#ifndef HUSK_DEVICES_FW_CFG_H
#define HUSK_DEVICES_FW_CFG_H

#include "base/error.h"
#include "devices/bus.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Keys of items without a name. */
#define FW_CFG_SIGNATURE 0x00
#define FW_CFG_ID 0x01
#define FW_CFG_UUID 0x02
#define FW_CFG_RAM_SIZE 0x03
#define FW_CFG_NB_CPUS 0x05
#define FW_CFG_KERNEL_ADDR 0x07
#define FW_CFG_KERNEL_SIZE 0x08
#define FW_CFG_INITRD_ADDR 0x0a
#define FW_CFG_INITRD_SIZE 0x0b
#define FW_CFG_BOOT_MENU 0x0e
#define FW_CFG_MAX_CPUS 0x0f
#define FW_CFG_KERNEL_DATA 0x11
#define FW_CFG_INITRD_DATA 0x12
#define FW_CFG_CMDLINE_ADDR 0x13
#define FW_CFG_CMDLINE_SIZE 0x14
#define FW_CFG_CMDLINE_DATA 0x15
#define FW_CFG_SETUP_ADDR 0x16
#define FW_CFG_SETUP_SIZE 0x17
#define FW_CFG_SETUP_DATA 0x18
#define FW_CFG_FILE_DIR 0x19
#define FW_CFG_FILE_FIRST 0x20

#define FW_CFG_NAME_MAX 55    /* bytes of a name */
#define FW_CFG_FILES_MAX 1024 /* named items */

struct fw_cfg;

struct fw_cfg_params {
    /* Where @len bytes of guest memory at @gpa are mapped; NULL unless all of them are RAM that DMA may reach. */
    void *(*memory)(void *ctx, uint64_t gpa, uint64_t len);
    /* An item could not be read: its file has changed. The guest must not go on with what it was given. */
    void (*failed)(void *ctx, const struct error *err);
    void *ctx;
};

/** fw_cfg_new() - with signature, revision and an empty directory, on @ports. NULL with @err filled on failure. */
struct fw_cfg *fw_cfg_new(struct bus *ports, const struct fw_cfg_params *params, struct error *err);
void fw_cfg_free(struct fw_cfg *fw_cfg);

/* What an item holds. */
struct fw_cfg_item {
    const void *bytes; /* copied; NULL for one of the others */
    uint64_t len;      /* bytes; at most 4 GiB - 1 */
    int fd;            /* of a regular file, duplicated; used if @bytes and @make are NULL */
    uint64_t offset;   /* of the first byte in it */
    const char *path;  /* of it, for messages */
    /* Gives the contents when the item is first selected: exactly @len bytes to @to. Returns 0 or -errno with @err. */
    int (*make)(void *ctx, void *to, uint64_t len, struct error *err);
    void *ctx;
};

/** fw_cfg_add() - an item without a name; before the guest runs.
 *
 * Return: 0; -EEXIST if the key is taken; -EINVAL for a key in the range of named items; -E2BIG; -ENOMEM.
 */
int fw_cfg_add(struct fw_cfg *fw_cfg, uint16_t key, const struct fw_cfg_item *item,
               struct error *err);

/** fw_cfg_add_u16(), fw_cfg_add_u32() - a little-endian number. */
int fw_cfg_add_u16(struct fw_cfg *fw_cfg, uint16_t key, uint16_t value, struct error *err);
int fw_cfg_add_u32(struct fw_cfg *fw_cfg, uint16_t key, uint32_t value, struct error *err);

/** fw_cfg_add_file() - an item by name; keys and directory are in the order of the names, whatever the order of adding.
 *
 * Return: 0; -EEXIST if the name is taken; -ENAMETOOLONG; -ENOSPC beyond FW_CFG_FILES_MAX; -E2BIG; -ENOMEM.
 */
int fw_cfg_add_file(struct fw_cfg *fw_cfg, const char *name, const struct fw_cfg_item *item,
                    struct error *err);

#endif
