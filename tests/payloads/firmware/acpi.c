/* The table loader's script (QEMU: include/hw/acpi/bios-linker-loader.h has its commands), and the tables that it leaves. */
#include "fw.h"

#define FILES_MAX 16
#define NAME_BYTES 56

enum { ALLOCATE = 1, ADD_POINTER = 2, ADD_CHECKSUM = 3 };

struct loaded {
    char name[NAME_BYTES];
    uint32_t at, size;
};

static struct loaded loaded[FILES_MAX];
static uint32_t n_loaded, heap, fseg;

static uint32_t u32(const void *at)
{
    const uint8_t *p = at;
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static struct loaded *find_loaded(const char *name)
{
    for (uint32_t i = 0; i < n_loaded; i++)
        if (same_text(loaded[i].name, name))
            return &loaded[i];
    return NULL;
}

static bool allocate(const uint8_t *entry)
{
    const char *name = (const char *)entry + 4;
    uint32_t align = u32(entry + 60);
    uint32_t *zone = entry[64] == 2 ? &fseg : &heap;
    struct file file;
    if (n_loaded == FILES_MAX || align == 0 || align & (align - 1) || entry[64] < 1 ||
        entry[64] > 2 || !find_file(name, &file) || find_loaded(name))
        return false;
    *zone = (*zone + align - 1) & ~(align - 1);
    struct loaded *to = &loaded[n_loaded++];
    for (unsigned i = 0; i < NAME_BYTES; i++)
        to->name[i] = name[i];
    to->at = *zone;
    to->size = file.size;
    *zone += file.size;
    return fetch(file.key, (void *)(uintptr_t)to->at, file.size, name);
}

static bool add_pointer(const uint8_t *entry)
{
    struct loaded *in = find_loaded((const char *)entry + 4);
    struct loaded *to = find_loaded((const char *)entry + 4 + NAME_BYTES);
    uint32_t offset = u32(entry + 116), len = entry[120];
    if (!in || !to || (len != 4 && len != 8) || offset > in->size || in->size - offset < len)
        return false;
    uint32_t *field = (uint32_t *)(uintptr_t)(in->at + offset);
    if (field[0] >= to->size)
        return false;
    field[0] += to->at;
    return true;
}

static uint8_t sum_of(const void *at, uint32_t len)
{
    uint8_t sum = 0;
    for (const uint8_t *p = at; len; len--)
        sum = (uint8_t)(sum + *p++);
    return sum;
}

static bool add_checksum(const uint8_t *entry)
{
    struct loaded *in = find_loaded((const char *)entry + 4);
    uint32_t result = u32(entry + 60), start = u32(entry + 64), len = u32(entry + 68);
    if (!in || start > in->size || in->size - start < len || result < start ||
        result - start >= len)
        return false;
    uint8_t *at = (uint8_t *)(uintptr_t)in->at;
    at[result] = (uint8_t)(at[result] - sum_of(at + start, len));
    return true;
}

uint32_t run_loader(void)
{
    static uint8_t entry[128];
    struct file script;
    n_loaded = 0;
    heap = HEAP_AT;
    fseg = FSEG_AT;
    if (!find_file("etc/table-loader", &script))
        return 0;
    if (script.size % sizeof(entry))
        fail("length of the table loader's script", script.size);
    for (uint32_t at = 0; at + sizeof(entry) <= script.size; at += sizeof(entry)) {
        if (dma((uint32_t)script.key << 16 | DMA_SELECT | DMA_SKIP, at, 0) ||
            dma(DMA_READ, sizeof(entry), (uint32_t)(uintptr_t)entry)) {
            fail("reading the table loader's script", at);
            return 0;
        }
        uint32_t command = u32(entry);
        bool done = command == ALLOCATE       ? allocate(entry)
                    : command == ADD_POINTER  ? add_pointer(entry)
                    : command == ADD_CHECKSUM ? add_checksum(entry)
                                              : command == 0;
        if (!done) {
            fail("command of the table loader", command);
            return 0;
        }
    }
    struct loaded *rsdp = find_loaded("etc/acpi/rsdp");
    return rsdp ? rsdp->at : 0;
}

static void check_table(uint32_t at)
{
    const uint8_t *table = (const uint8_t *)(uintptr_t)at;
    uint32_t len = u32(table + 4);
    char name[5] = {(char)table[0], (char)table[1], (char)table[2], (char)table[3]};
    say("table ");
    say(name);
    say_hex("len", len);
    end_line();
    if (len < 36 || sum_of(table, len))
        fail("checksum of a table", u32(table));
}

static uint32_t count_cpus(const uint8_t *madt)
{
    uint32_t n = 0;
    for (uint32_t at = 44; at + 2 <= u32(madt + 4) && madt[at + 1]; at += madt[at + 1])
        n += (madt[at] == 0 && madt[at + 4] & 1) || (madt[at] == 9 && madt[at + 8] & 1);
    return n;
}

/** check_fadt() - and its DSDT; returns the port of its sleep control register. */
static uint32_t check_fadt(const uint8_t *fadt)
{
    uint32_t dsdt = u32(fadt + 140);
    if (!dsdt)
        dsdt = u32(fadt + 40);
    if (!same((void *)(uintptr_t)dsdt, "DSDT", 4))
        fail("DSDT", dsdt);
    else
        check_table(dsdt);
    if (fadt[244] != 1)
        fail("address space of the sleep control register", fadt[244]);
    return u32(fadt + 248);
}

static void check_mcfg(const uint8_t *mcfg, uint32_t ecam)
{
    uint32_t base = u32(mcfg + 44);
    say("mcfg");
    say_hex("base", base);
    end_line();
    if (ecam && base != ecam)
        fail("MCFG has not what was programmed", base);
    outl(0xcf8, 0x80000000);
    if (*(volatile uint32_t *)(uintptr_t)base != inl(0xcfc))
        fail("configuration space", *(volatile uint32_t *)(uintptr_t)base);
}

uint32_t check_tables(uint32_t rsdp, uint32_t ecam)
{
    const uint8_t *root = (const uint8_t *)(uintptr_t)rsdp;
    if (!same(root, "RSD PTR ", 8) || sum_of(root, 20) || sum_of(root, 36))
        fail("RSDP", rsdp);
    uint32_t xsdt = u32(root + 24), sleep = 0, found = 0;
    check_table(xsdt);
    for (uint32_t at = 36; at + 8 <= u32((void *)(uintptr_t)(xsdt + 4)); at += 8) {
        uint32_t table = u32((void *)(uintptr_t)(xsdt + at));
        check_table(table);
        if (same((void *)(uintptr_t)table, "FACP", 4)) {
            sleep = check_fadt((void *)(uintptr_t)table);
            found |= 1;
        } else if (same((void *)(uintptr_t)table, "APIC", 4)) {
            if (count_cpus((void *)(uintptr_t)table) != read_number(KEY_NB_CPUS, 2))
                fail("processors in the MADT", count_cpus((void *)(uintptr_t)table));
            found |= 2;
        } else if (same((void *)(uintptr_t)table, "MCFG", 4)) {
            check_mcfg((void *)(uintptr_t)table, ecam);
            found |= 4;
        }
    }
    if (found != 7)
        fail("not all of FADT, MADT and MCFG", found);
    return sleep;
}
