#include "devices/fw_cfg.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "x86/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>

#define PORT_SELECTOR 0
#define PORT_DATA 1
#define PORT_DMA_HIGH 4
#define PORT_DMA_LOW 8
#define DMA_SIGNATURE 0x51454d5520434647ull /* "QEMU CFG" */

#define ID_TRADITIONAL BIT(0)
#define ID_DMA BIT(1)

#define DMA_ERROR BIT(0)
#define DMA_READ BIT(1)
#define DMA_SKIP BIT(2)
#define DMA_SELECT BIT(3)
#define DMA_WRITE BIT(4)
#define DMA_BYTES 16

#define DIRECTORY_HEADER 4
#define DIRECTORY_ENTRY 64
#define KEY_MASK 0x3fffu /* bit 14: write, without meaning today; bit 15: the architecture's own */
#define KEY_ARCH 0x8000u
#define KEY_WRITE 0x4000u

/* DMA to guest memory goes in steps: RAM is not contiguous in the host for more than this, whoever maps it. */
#define DMA_STEP MIB(2)

struct item {
    uint16_t key;
    char name[FW_CFG_NAME_MAX + 1]; /* empty for items without a name */
    uint8_t *bytes;                 /* NULL for a file's range, and until it is made */
    uint64_t len;
    int fd; /* -1 if there is none */
    uint64_t offset;
    char *path;
    struct stat seen; /* the file when it was added */
    int (*make)(void *ctx, void *to, uint64_t len, struct error *err);
    void *ctx;
};

struct fw_cfg {
    struct fw_cfg_params params;
    pthread_mutex_t lock; /* all below: vCPUs may come together */
    struct item *items;   /* named ones in the order of their names, the others in any */
    size_t n_items, n_named;
    struct item *selected; /* NULL for a key that is not there */
    uint64_t position;     /* in the selected item */
    uint64_t dma_address;  /* as far as it has been written */
    bool broken;           /* an item could not be read: everything reads as zero */
};

static void release(struct item *item)
{
    free(item->bytes);
    free(item->path);
    cleanup_close(&item->fd);
}

void fw_cfg_free(struct fw_cfg *fw_cfg)
{
    if (!fw_cfg)
        return;
    for (size_t i = 0; i < fw_cfg->n_items; i++)
        release(&fw_cfg->items[i]);
    free(fw_cfg->items);
    pthread_mutex_destroy(&fw_cfg->lock);
    free(fw_cfg);
}

static struct item *find_key(struct fw_cfg *fw_cfg, uint16_t key)
{
    for (size_t i = 0; i < fw_cfg->n_items; i++)
        if (fw_cfg->items[i].key == key)
            return &fw_cfg->items[i];
    return NULL;
}

/** take_file() - the item's file and what it looks like now. */
static int take_file(struct item *item, const struct fw_cfg_item *from, struct error *err)
{
    item->fd = fcntl(from->fd, F_DUPFD_CLOEXEC, 3);
    item->path = strdup(from->path ? from->path : "");
    if (item->fd < 0 || !item->path)
        return error_set_errno(err, item->fd < 0 ? -errno : -ENOMEM, "could not keep '%s' open",
                               from->path);
    if (fstat(item->fd, &item->seen) < 0)
        return error_set_errno(err, -errno, "could not look at '%s'", from->path);
    if (!range_within(from->offset, from->len, (uint64_t)item->seen.st_size))
        return error_set(err, -ENODATA, "'%s' is too short", from->path);
    item->offset = from->offset;
    return 0;
}

/** fill() - make *@item from @from. What it holds already is released by the caller, on failure too. */
static int fill(struct item *item, const struct fw_cfg_item *from, struct error *err)
{
    item->fd = -1;
    item->len = from->len;
    if (from->len > UINT32_MAX)
        return error_set(err, -E2BIG, "a fw_cfg item has at most 4 GiB");
    if (from->make) {
        item->make = from->make;
        item->ctx = from->ctx;
        return 0;
    }
    if (!from->bytes && from->len)
        return take_file(item, from, err);
    item->bytes = malloc(from->len ? from->len : 1);
    if (!item->bytes)
        return error_set(err, -ENOMEM, "out of memory for a fw_cfg item");
    if (from->len)
        memcpy(item->bytes, from->bytes, from->len);
    return 0;
}

/** insert() - @item at @place; its contents are owned by @fw_cfg from now on, or released. */
static int insert(struct fw_cfg *fw_cfg, size_t place, struct item *item, struct error *err)
{
    struct item *items = reallocarray(fw_cfg->items, fw_cfg->n_items + 1, sizeof(*items));
    if (!items) {
        release(item);
        return error_set(err, -ENOMEM, "out of memory for a fw_cfg item");
    }
    memmove(items + place + 1, items + place, (fw_cfg->n_items - place) * sizeof(*items));
    items[place] = *item;
    fw_cfg->items = items;
    fw_cfg->n_items++;
    return 0;
}

int fw_cfg_add(struct fw_cfg *fw_cfg, uint16_t key, const struct fw_cfg_item *from,
               struct error *err)
{
    if ((key & KEY_WRITE) || (!(key & KEY_ARCH) && key >= FW_CFG_FILE_FIRST))
        return error_set(err, -EINVAL, "0x%x is no key of a fw_cfg item without a name", key);
    if (find_key(fw_cfg, key))
        return error_set(err, -EEXIST, "there is a fw_cfg item 0x%x already", key);
    struct item item = {.key = key};
    int ret = fill(&item, from, err);
    if (ret < 0) {
        release(&item);
        return ret;
    }
    return insert(fw_cfg, fw_cfg->n_items, &item, err);
}

int fw_cfg_add_u16(struct fw_cfg *fw_cfg, uint16_t key, uint16_t value, struct error *err)
{
    uint8_t bytes[2];
    store_le16(bytes, value);
    return fw_cfg_add(fw_cfg, key, &(struct fw_cfg_item){.bytes = bytes, .len = sizeof(bytes)},
                      err);
}

int fw_cfg_add_u32(struct fw_cfg *fw_cfg, uint16_t key, uint32_t value, struct error *err)
{
    uint8_t bytes[4];
    store_le32(bytes, value);
    return fw_cfg_add(fw_cfg, key, &(struct fw_cfg_item){.bytes = bytes, .len = sizeof(bytes)},
                      err);
}

/** write_directory() - the contents of FW_CFG_FILE_DIR, big-endian, anew after a named item was added. */
static int write_directory(struct fw_cfg *fw_cfg, struct error *err)
{
    size_t len = DIRECTORY_HEADER + fw_cfg->n_named * DIRECTORY_ENTRY;
    struct item *directory = find_key(fw_cfg, FW_CFG_FILE_DIR);
    uint8_t *bytes = directory ? realloc(directory->bytes, len) : NULL;
    if (!bytes)
        return error_set(err, -ENOMEM, "out of memory for the fw_cfg directory");
    directory->bytes = bytes;
    directory->len = len;
    memset(bytes, 0, len);
    uint32_t count = htobe32((uint32_t)fw_cfg->n_named);
    memcpy(bytes, &count, sizeof(count));
    for (size_t i = 0; i < fw_cfg->n_named; i++) {
        struct item *item = &fw_cfg->items[i];
        uint8_t *entry = bytes + DIRECTORY_HEADER + i * DIRECTORY_ENTRY;
        item->key = (uint16_t)(FW_CFG_FILE_FIRST + i);
        uint32_t size = htobe32((uint32_t)item->len);
        uint16_t key = htobe16(item->key);
        memcpy(entry, &size, sizeof(size));
        memcpy(entry + 4, &key, sizeof(key));
        memcpy(entry + 8, item->name, strlen(item->name));
    }
    return 0;
}

int fw_cfg_add_file(struct fw_cfg *fw_cfg, const char *name, const struct fw_cfg_item *from,
                    struct error *err)
{
    if (name[0] == '\0' || strlen(name) > FW_CFG_NAME_MAX)
        return error_set(err, -ENAMETOOLONG,
                         "the name of fw_cfg item '%s' must have 1 to %d bytes, not %zu", name,
                         FW_CFG_NAME_MAX, strlen(name));
    if (fw_cfg->n_named == FW_CFG_FILES_MAX)
        return error_set(err, -ENOSPC, "fw_cfg has room for %d named items", FW_CFG_FILES_MAX);
    size_t place = 0;
    int order = 1;
    while (place < fw_cfg->n_named && (order = strcmp(fw_cfg->items[place].name, name)) < 0)
        place++;
    if (order == 0)
        return error_set(err, -EEXIST, "there is a fw_cfg item '%s' already", name);
    struct item item = {0};
    memcpy(item.name, name, strlen(name) + 1);
    int ret = fill(&item, from, err);
    if (ret < 0) {
        release(&item);
        return error_context(err, "fw_cfg item '%s'", name);
    }
    ret = insert(fw_cfg, place, &item, err);
    if (ret < 0)
        return ret;
    fw_cfg->n_named++;
    return write_directory(fw_cfg, err);
}

/** fail() - tell the machine, and give the guest nothing from now on. */
static void fail(struct fw_cfg *fw_cfg, const struct item *item, struct error *err)
{
    fw_cfg->broken = true;
    error_context(err, "fw_cfg item 0x%x%s%s", item->key, item->name[0] ? " " : "", item->name);
    fw_cfg->params.failed(fw_cfg->params.ctx, err);
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

/** read_file() - @len bytes of a file that must be as it was when it was added, before and after. */
static int read_file(const struct item *item, void *to, uint64_t at, uint64_t len,
                     struct error *err)
{
    int ret = fd_pread_full(item->fd, to, len, item->offset + at);
    if (ret < 0 && ret != -ENODATA)
        return error_set_errno(err, ret, "could not read '%s'", item->path);
    struct stat now;
    if (fstat(item->fd, &now) < 0)
        return error_set_errno(err, -errno, "could not look at '%s'", item->path);
    if (ret == -ENODATA || now.st_size != item->seen.st_size ||
        !same_time(&now.st_mtim, &item->seen.st_mtim))
        return error_set(err, -ESTALE, "'%s' was changed while the guest read it", item->path);
    return 0;
}

/** read_item() - @len bytes from @at, all of them within @item. */
static int read_item(const struct item *item, void *to, uint64_t at, uint64_t len,
                     struct error *err)
{
    if (item->fd >= 0)
        return read_file(item, to, at, len, err);
    memcpy(to, item->bytes + at, len);
    return 0;
}

/** read_on() - the next @len bytes of the selected item to @to; zeros behind its end. The lock is held. */
static bool read_on(struct fw_cfg *fw_cfg, uint8_t *to, uint64_t len)
{
    struct item *item = fw_cfg->selected;
    uint64_t have =
        item && fw_cfg->position < item->len ? MIN(len, item->len - fw_cfg->position) : 0;
    struct error err = ERROR_INIT;
    if (have && !fw_cfg->broken && read_item(item, to, fw_cfg->position, have, &err) < 0)
        fail(fw_cfg, item, &err);
    if (fw_cfg->broken)
        have = 0;
    memset(to + have, 0, len - have);
    fw_cfg->position += have;
    return !fw_cfg->broken;
}

/** make_now() - contents that were waiting to be asked for. */
static void make_now(struct fw_cfg *fw_cfg, struct item *item)
{
    struct error err = ERROR_INIT;
    uint8_t *bytes = calloc(1, item->len ? item->len : 1);
    int ret = bytes ? item->make(item->ctx, bytes, item->len, &err)
                    : error_set(&err, -ENOMEM, "out of memory");
    if (ret < 0) {
        free(bytes);
        fail(fw_cfg, item, &err);
        return;
    }
    item->bytes = bytes;
    item->make = NULL;
}

static void select_key(struct fw_cfg *fw_cfg, uint16_t key)
{
    fw_cfg->selected = find_key(fw_cfg, key & (KEY_MASK | KEY_ARCH));
    fw_cfg->position = 0;
    if (fw_cfg->selected && fw_cfg->selected->make && !fw_cfg->broken)
        make_now(fw_cfg, fw_cfg->selected);
}

/** dma_read() - to guest memory. Returns false if it is not there, or if the item cannot be read. */
static bool dma_read(struct fw_cfg *fw_cfg, uint64_t gpa, uint64_t len)
{
    while (len) {
        uint64_t step = MIN(len, DMA_STEP - gpa % DMA_STEP);
        uint8_t *to = fw_cfg->params.memory(fw_cfg->params.ctx, gpa, step);
        if (!to || !read_on(fw_cfg, to, step))
            return false;
        gpa += step;
        len -= step;
    }
    return true;
}

static void skip(struct fw_cfg *fw_cfg, uint64_t len)
{
    uint64_t left = fw_cfg->selected && fw_cfg->position < fw_cfg->selected->len
                        ? fw_cfg->selected->len - fw_cfg->position
                        : 0;
    fw_cfg->position += MIN(len, left);
}

/** dma() - carry out the command that lies at @gpa: control, length, address, all big-endian, read once. */
static void dma(struct fw_cfg *fw_cfg, uint64_t gpa)
{
    uint8_t *command = fw_cfg->params.memory(fw_cfg->params.ctx, gpa, DMA_BYTES);
    if (!command)
        return; /* there is nowhere to say so */
    uint32_t control, len;
    uint64_t address;
    memcpy(&control, command, sizeof(control));
    memcpy(&len, command + 4, sizeof(len));
    memcpy(&address, command + 8, sizeof(address));
    control = be32toh(control);
    len = be32toh(len);
    address = be64toh(address);

    if (control & DMA_SELECT)
        select_key(fw_cfg, (uint16_t)(control >> 16));
    bool ok = true;
    if (control & DMA_READ)
        ok = dma_read(fw_cfg, address, len);
    else if (control & DMA_WRITE)
        ok = false; /* no item takes writes */
    else if (control & DMA_SKIP)
        skip(fw_cfg, len);
    uint32_t result = htobe32(ok ? 0 : DMA_ERROR);
    memcpy(command, &result, sizeof(result));
}

/** register_read() - bytes of the DMA register, which reads as a signature. */
static void dma_register_read(uint64_t offset, uint8_t *to, unsigned len)
{
    uint64_t signature = htobe64(DMA_SIGNATURE);
    memcpy(to, (const uint8_t *)&signature + offset, len);
}

static void ports_read(void *opaque, uint64_t offset, void *data, unsigned len)
{
    struct fw_cfg *fw_cfg = opaque;
    memset(data, 0xff, len);
    pthread_mutex_lock(&fw_cfg->lock);
    if (offset >= PORT_DMA_HIGH)
        dma_register_read(offset - PORT_DMA_HIGH, data, len);
    else if (offset == PORT_DATA && len == 1)
        read_on(fw_cfg, data, 1);
    pthread_mutex_unlock(&fw_cfg->lock);
}

static void ports_write(void *opaque, uint64_t offset, const void *data, unsigned len)
{
    struct fw_cfg *fw_cfg = opaque;
    uint32_t value = 0;
    memcpy(&value, data, MIN(len, sizeof(value)));
    pthread_mutex_lock(&fw_cfg->lock);
    if (offset == PORT_SELECTOR && len == 2) {
        select_key(fw_cfg, (uint16_t)value);
    } else if (offset == PORT_DMA_HIGH && len == 4) {
        fw_cfg->dma_address = (uint64_t)be32toh(value) << 32;
    } else if (offset == PORT_DMA_LOW && len == 4) {
        dma(fw_cfg, fw_cfg->dma_address | be32toh(value));
        fw_cfg->dma_address = 0;
    }
    pthread_mutex_unlock(&fw_cfg->lock);
}

static const struct bus_ops bus_ops = {ports_read, ports_write};

static int set_up(struct fw_cfg *fw_cfg, struct bus *ports, struct error *err)
{
    static const struct fw_cfg_item signature = {.bytes = "QEMU", .len = 4};
    static const struct fw_cfg_item none = {.len = 0};
    int ret = fw_cfg_add(fw_cfg, FW_CFG_SIGNATURE, &signature, err);
    if (ret == 0)
        ret = fw_cfg_add_u32(fw_cfg, FW_CFG_ID, ID_TRADITIONAL | ID_DMA, err);
    if (ret == 0)
        ret = fw_cfg_add(fw_cfg, FW_CFG_FILE_DIR, &none, err);
    if (ret == 0)
        ret = write_directory(fw_cfg, err);
    if (ret == 0)
        ret = bus_add(ports, LAYOUT_PORT_FW_CFG, LAYOUT_PORTS_FW_CFG, "fw_cfg", &bus_ops, fw_cfg,
                      err);
    return ret;
}

struct fw_cfg *fw_cfg_new(struct bus *ports, const struct fw_cfg_params *params, struct error *err)
{
    struct fw_cfg *fw_cfg = calloc(1, sizeof(*fw_cfg));
    if (!fw_cfg) {
        error_set(err, -ENOMEM, "out of memory for fw_cfg");
        return NULL;
    }
    fw_cfg->params = *params;
    pthread_mutex_init(&fw_cfg->lock, NULL);
    if (set_up(fw_cfg, ports, err) < 0) {
        fw_cfg_free(fw_cfg);
        return NULL;
    }
    return fw_cfg;
}
