/* A firmware that does with fw_cfg what OVMF and stage0 do, and says by the debug port what it found. */
#include "fw.h"

#define BRIDGE 0x80000000u
#define PCIEXBAR 0x60
#define ECAM 0xe0000000u

/** place_ecam() - on q35, as OVMF does it before it asks for tables. Returns where; 0: it has its place. */
static uint32_t place_ecam(void)
{
    outl(0xcf8, BRIDGE);
    uint32_t id = inl(0xcfc);
    say("bridge");
    say_hex("vendor", id & 0xffff);
    say_hex("device", id >> 16);
    end_line();
    if (id != 0x29c08086)
        return 0;
    outl(0xcf8, BRIDGE | (PCIEXBAR + 4));
    outl(0xcfc, 0);
    outl(0xcf8, BRIDGE | PCIEXBAR);
    outl(0xcfc, ECAM | 1);
    return ECAM;
}

/** only_fetches() - for whoever measures: take the initramfs, as firmware does, and be done. */
static bool only_fetches(void)
{
    struct file file;
    if (!find_file("opt/only-fetch", &file))
        return false;
    uint32_t size = read_number(KEY_INITRD_SIZE, 4);
    if (size && dma((uint32_t)KEY_INITRD_DATA << 16 | DMA_SELECT | DMA_READ, size, COPY_AT))
        fail("the initramfs", size);
    return true;
}

void main(void)
{
    if (only_fetches()) {
        outb(0xcf9, 6);
        return;
    }
    uint32_t ecam = place_ecam();
    try_bad_dma();
    walk_items();
    uint32_t rsdp = run_loader();
    uint32_t sleep = rsdp ? check_tables(rsdp, ecam) : 0;
    if (!has_failed())
        say(rsdp ? "PASS\n" : "PASS, without tables\n");
    if (sleep && !has_failed())
        outb((uint16_t)sleep, 5 << 2 | 0x20);
    outb(0xcf9, 6);
}
