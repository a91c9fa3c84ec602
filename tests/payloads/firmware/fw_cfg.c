/* fw_cfg as OVMF and stage0 use it: the selector and data ports, and DMA. */
#include "fw.h"

#define SELECTOR 0x510
#define DATA 0x511
#define DMA_HIGH 0x514
#define DMA_LOW 0x518

struct command {
    uint32_t control, len;
    uint32_t address_high, address_low;
};

static volatile struct command command;

uint32_t dma(uint32_t control, uint32_t len, uint32_t address)
{
    command.control = be32(control);
    command.len = be32(len);
    command.address_high = 0;
    command.address_low = be32(address);
    outl(DMA_HIGH, 0);
    outl(DMA_LOW, be32((uint32_t)(uintptr_t)&command));
    return be32(command.control);
}

void select_key(uint16_t key)
{
    outw(SELECTOR, key);
}

void read_ports(void *to, uint32_t len)
{
    insb(DATA, to, len);
}

bool fetch(uint16_t key, void *to, uint32_t len, const char *name)
{
    uint32_t left = dma((uint32_t)key << 16 | DMA_SELECT | DMA_READ, len, (uint32_t)(uintptr_t)to);
    if (left) {
        fail(name, left);
        return false;
    }
    select_key(key);
    read_ports((void *)OTHER_AT, len);
    if (same(to, (void *)OTHER_AT, len))
        return true;
    fail(name, key);
    return false;
}

uint32_t read_number(uint16_t key, uint32_t len)
{
    uint8_t bytes[4] = {0};
    select_key(key);
    read_ports(bytes, len);
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

uint32_t n_files(void)
{
    return be32(read_number(KEY_DIRECTORY, 4));
}

bool file_at(uint32_t index, struct file *file)
{
    uint8_t entry[64];
    if (dma((uint32_t)KEY_DIRECTORY << 16 | DMA_SELECT | DMA_SKIP, 4 + 64 * index, 0) ||
        dma(DMA_READ, sizeof(entry), (uint32_t)(uintptr_t)entry))
        return false;
    file->size =
        (uint32_t)entry[0] << 24 | (uint32_t)entry[1] << 16 | (uint32_t)entry[2] << 8 | entry[3];
    file->key = (uint16_t)(entry[4] << 8 | entry[5]);
    for (unsigned i = 0; i < sizeof(file->name); i++)
        file->name[i] = (char)entry[8 + i];
    file->name[sizeof(file->name) - 1] = '\0';
    return true;
}

bool find_file(const char *name, struct file *file)
{
    uint32_t n = n_files();
    for (uint32_t i = 0; i < n; i++)
        if (file_at(i, file) && same_text(file->name, name))
            return true;
    return false;
}
