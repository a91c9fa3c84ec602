/* Everything that fw_cfg has, each item by ports and by DMA, and what DMA must refuse. */
#include "fw.h"

static void report(const char *name, uint32_t size, uint32_t crc)
{
    say("item ");
    say(name);
    say_hex("size", size);
    say_hex("crc", crc);
    end_line();
}

static void walk_payload(const char *name, uint16_t size_key, uint16_t data_key)
{
    uint32_t size = read_number(size_key, 4);
    if (size == 0 || fetch(data_key, (void *)COPY_AT, size, name))
        report(name, size, crc32((void *)COPY_AT, size));
}

/** digits() - the hexadecimal number that an item has. */
static uint32_t digits(const char *text, uint32_t len)
{
    uint32_t value = 0;
    for (; len; len--, text++)
        value = value << 4 | (uint32_t)(*text <= '9' ? *text - '0' : *text - 'a' + 10);
    return value;
}

static void walk_file(uint32_t index)
{
    static char last[56];
    struct file file;
    if (!file_at(index, &file)) {
        fail("directory", index);
        return;
    }
    unsigned i = 0;
    while (last[i] && last[i] == file.name[i])
        i++;
    if (index && (uint8_t)last[i] >= (uint8_t)file.name[i])
        fail("directory is not sorted", index);
    for (i = 0; i < sizeof(last); i++)
        last[i] = file.name[i];
    if (file.key < 0x20)
        fail("key of a file", file.key);
    if (!fetch(file.key, (void *)COPY_AT, file.size, file.name))
        return;
    uint32_t crc = crc32((void *)COPY_AT, file.size);
    report(file.name, file.size, crc);
    /* Behind the end there are zeros. */
    uint8_t more[2] = {1, 1};
    read_ports(more, sizeof(more));
    if (more[0] || more[1])
        fail("bytes behind the end of a file", file.key);
}

static void walk_e820(void)
{
    struct file file;
    if (!find_file("etc/e820", &file) || !fetch(file.key, (void *)COPY_AT, file.size, "etc/e820"))
        return;
    const uint8_t *entry = (const uint8_t *)COPY_AT;
    uint64_t ram = 0, told = 0;
    for (; file.size >= 20; file.size -= 20, entry += 20) {
        const uint32_t *words = (const uint32_t *)entry;
        say("e820");
        say_hex("base", (uint64_t)words[1] << 32 | words[0]);
        say_hex("len", (uint64_t)words[3] << 32 | words[2]);
        say_hex("type", words[4]);
        end_line();
        ram += words[4] == 1 ? (uint64_t)words[3] << 32 | words[2] : 0;
    }
    select_key(KEY_RAM_SIZE);
    read_ports(&told, sizeof(told));
    say("ram");
    say_hex("size", told);
    end_line();
    if (ram != told)
        fail("e820 has another size of RAM", ram);
}

/** check_expected() - whoever runs this may say what the kernel is to be. */
static void check_expected(void)
{
    struct file file;
    uint32_t size = read_number(KEY_KERNEL_SIZE, 4);
    if (!find_file("opt/expected-kernel", &file) || file.size != 8 ||
        !fetch(file.key, (void *)COPY_AT, 8, file.name))
        return;
    uint32_t expected = digits((const char *)COPY_AT, 8);
    if (fetch(KEY_KERNEL_DATA, (void *)COPY_AT, size, "kernel") &&
        crc32((void *)COPY_AT, size) != expected)
        fail("the kernel is not the expected one", expected);
}

void walk_items(void)
{
    char signature[4] = {0};
    select_key(KEY_SIGNATURE);
    read_ports(signature, sizeof(signature));
    if (!same(signature, "QEMU", 4))
        fail("signature", *(uint32_t *)signature);
    if (read_number(KEY_ID, 4) != 3)
        fail("revision", read_number(KEY_ID, 4));
    if (inl(0x514) != 0x554d4551 || inl(0x518) != 0x47464320) /* "QEMU CFG" */
        fail("signature of DMA", inl(0x514));
    say("cpus");
    say_hex("now", read_number(KEY_NB_CPUS, 2));
    say_hex("max", read_number(KEY_MAX_CPUS, 2));
    end_line();
    walk_payload("setup", KEY_SETUP_SIZE, KEY_SETUP_DATA);
    walk_payload("kernel", KEY_KERNEL_SIZE, KEY_KERNEL_DATA);
    walk_payload("initrd", KEY_INITRD_SIZE, KEY_INITRD_DATA);
    walk_payload("cmdline", KEY_CMDLINE_SIZE, KEY_CMDLINE_DATA);
    check_expected();
    walk_e820();
    uint32_t n = n_files();
    for (uint32_t i = 0; i < n; i++)
        walk_file(i);
}

static void expect(const char *what, uint32_t found, uint32_t wanted)
{
    if (found != wanted)
        fail(what, found);
}

void try_bad_dma(void)
{
    uint8_t *to = (uint8_t *)COPY_AT;
    const uint32_t read = (uint32_t)KEY_SIGNATURE << 16 | DMA_SELECT | DMA_READ;
    expect("DMA to where nothing is", dma(read, 4, 0xfed80000), DMA_ERROR);
    expect("DMA to firmware, which is read-only", dma(read, 4, 0xffff0000), DMA_ERROR);
    expect("DMA over the end of the address space", dma(read, 0x20, 0xfffffff0), DMA_ERROR);
    expect("a write", dma((uint32_t)KEY_SIGNATURE << 16 | DMA_SELECT | DMA_WRITE, 4, COPY_AT),
           DMA_ERROR);
    expect("a read of nothing", dma(read, 0, COPY_AT), 0);
    to[0] = to[1] = 0;
    expect("skipping", dma((uint32_t)KEY_SIGNATURE << 16 | DMA_SELECT | DMA_SKIP, 2, 0), 0);
    expect("reading on", dma(DMA_READ, 2, COPY_AT), 0);
    if (to[0] != 'M' || to[1] != 'U')
        fail("what comes after what was skipped", to[0]);
    to[0] = to[1] = 1;
    expect("reading behind the end", dma(DMA_READ, 2, COPY_AT), 0);
    if (to[0] || to[1])
        fail("what is behind the end", to[0]);
}
