/*
 * fw_cfg, driven as a guest drives it: each step is 8 bytes: port, width, value. The first 4 KiB of guest memory come
 * from the input too, so that DMA commands in it can be anything.
 */
#include "base/bytes.h"
#include "devices/fw_cfg.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RAM_BYTES KIB(64)
#define COMMANDS 512
#define STEP_BYTES 8

static uint8_t ram[RAM_BYTES];
static unsigned failures;

static void *memory(void *ctx, uint64_t gpa, uint64_t len)
{
    (void)ctx;
    return range_within(gpa, len, RAM_BYTES) ? ram + gpa : NULL;
}

static void failed(void *ctx, const struct error *err)
{
    (void)ctx;
    (void)err;
    failures++;
}

static int make(void *ctx, void *to, uint64_t len, struct error *err)
{
    (void)ctx;
    (void)err;
    memset(to, 'm', len);
    return 0;
}

static struct fw_cfg *create(struct bus *ports, int fd)
{
    struct fw_cfg_params params = {.memory = memory, .failed = failed};
    struct fw_cfg *fw_cfg = fw_cfg_new(ports, &params, NULL);
    struct fw_cfg_item bytes = {.bytes = "bytes", .len = 5};
    struct fw_cfg_item made = {.make = make, .len = 100};
    struct fw_cfg_item file = {.fd = fd, .offset = 3, .len = 5000, .path = "file"};
    if (!fw_cfg || fw_cfg_add(fw_cfg, FW_CFG_KERNEL_DATA, &file, NULL) < 0 ||
        fw_cfg_add_file(fw_cfg, "etc/acpi/tables", &made, NULL) < 0 ||
        fw_cfg_add_file(fw_cfg, "opt/x", &bytes, NULL) < 0)
        abort();
    return fw_cfg;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("file", MFD_CLOEXEC);
        if (fd < 0 || ftruncate(fd, 8192) < 0)
            abort();
    }
    memset(ram, 0, sizeof(ram));
    size_t commands = MIN(size, COMMANDS);
    memcpy(ram, data, commands);
    struct bus *ports = bus_new("port");
    struct fw_cfg *fw_cfg = create(ports, fd);
    for (size_t at = commands; at + STEP_BYTES <= size; at += STEP_BYTES) {
        uint64_t value = load_le32(data + at + 4);
        uint64_t port = 0x510 + data[at] % 12;
        unsigned len = 1u << (data[at + 1] & 3);
        if (data[at + 2] & 1)
            bus_read(ports, port, &value, len);
        else
            bus_write(ports, port, &value, len);
    }
    /* A file that nobody touches never fails. */
    if (failures)
        abort();
    bus_free(ports);
    fw_cfg_free(fw_cfg);
    return 0;
}
