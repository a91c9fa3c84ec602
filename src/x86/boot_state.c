#include "x86/boot_internal.h"
#include "x86/layout.h"

#include "base/bytes.h"

/* The boot GDT: Linux wants its flat segments at these two selectors (boot protocol, "64-bit boot protocol"). */
#define SELECTOR_CODE 0x10
#define SELECTOR_DATA 0x18
#define SELECTOR_TSS 0x20
#define GDT_BYTES 0x30 /* null, unused, code, data, TSS (two slots in long mode) */

/* Segment attributes in VMCB form. */
#define ATTR_CODE64 0xa9b  /* execute, read, accessed; present, long, granular */
#define ATTR_CODE32 0xc9b  /* the same, 32-bit */
#define ATTR_DATA 0xc93    /* read, write, accessed; present, 32-bit, granular */
#define ATTR_TSS_BUSY 0x8b /* 32-bit, or 64-bit in long mode */
#define TSS_LIMIT 0x67

#define CR0_PE BIT64(0)
#define CR0_ET BIT64(4)
#define CR0_PG BIT64(31)
#define CR4_PAE BIT64(5)
#define EFER_LME BIT64(8)
#define EFER_LMA BIT64(10)

#define PTE_PRESENT BIT64(0)
#define PTE_WRITE BIT64(1)
#define PTE_LARGE BIT64(7)
#define TABLE_ENTRIES 512u
#define PD_COUNT 4u /* one a GiB */

/** descriptor() - the GDT's form of a segment (AMD APM volume 2, 4.8). */
static uint64_t descriptor(uint32_t limit, uint16_t attributes)
{
    uint64_t scaled = attributes & BIT(11) ? limit >> 12 : limit;
    return (scaled & 0xffff) | (uint64_t)(attributes & 0xff) << 40 | (scaled >> 16 & 0xf) << 48 |
           (uint64_t)(attributes >> 8 & 0xf) << 52;
}

static int add_gdt(struct plan *plan, uint16_t code, struct error *err)
{
    uint8_t page[LAYOUT_BOOT_GDT + GDT_BYTES] = {0};
    uint8_t *gdt = page + LAYOUT_BOOT_GDT;
    store_le64(gdt + SELECTOR_CODE, descriptor(UINT32_MAX, code));
    store_le64(gdt + SELECTOR_DATA, descriptor(UINT32_MAX, ATTR_DATA));
    store_le64(gdt + SELECTOR_TSS, descriptor(TSS_LIMIT, ATTR_TSS_BUSY));
    return plan_add_bytes(plan, 0, page, sizeof(page), "boot GDT", err);
}

/** add_page_tables() - PML4, PDPT and four page directories: 4 GiB in 2 MiB pages. */
static int add_page_tables(struct plan *plan, struct error *err)
{
    uint64_t tables[(2 + PD_COUNT) * TABLE_ENTRIES] = {0};
    uint64_t *pml4 = tables, *pdpt = tables + TABLE_ENTRIES, *pd = &tables[2 * TABLE_ENTRIES];
    pml4[0] = htole64((LAYOUT_PAGE_TABLES + PAGE_BYTES) | PTE_PRESENT | PTE_WRITE);
    for (uint64_t i = 0; i < PD_COUNT; i++)
        pdpt[i] = htole64((LAYOUT_PAGE_TABLES + (2 + i) * PAGE_BYTES) | PTE_PRESENT | PTE_WRITE);
    for (uint64_t i = 0; i < (uint64_t)PD_COUNT * TABLE_ENTRIES; i++)
        pd[i] = htole64(MIB(2) * i | PTE_PRESENT | PTE_WRITE | PTE_LARGE);
    return plan_add_bytes(plan, LAYOUT_PAGE_TABLES, tables, sizeof(tables), "page tables", err);
}

/** set_segments() - flat segments as the GDT has them; no LDT, and no IDT: an early fault is a triple fault. */
static void set_segments(struct plan_vcpu *vcpu, uint16_t code)
{
    const struct plan_segment data = {
        .limit = UINT32_MAX, .selector = SELECTOR_DATA, .attributes = ATTR_DATA};
    vcpu->es = vcpu->ss = vcpu->ds = vcpu->fs = vcpu->gs = data;
    vcpu->cs =
        (struct plan_segment){.limit = UINT32_MAX, .selector = SELECTOR_CODE, .attributes = code};
    vcpu->tr = (struct plan_segment){
        .limit = TSS_LIMIT, .selector = SELECTOR_TSS, .attributes = ATTR_TSS_BUSY};
    vcpu->ldtr = (struct plan_segment){0};
    vcpu->idtr = (struct plan_segment){0};
    vcpu->gdtr = (struct plan_segment){.base = LAYOUT_BOOT_GDT, .limit = GDT_BYTES - 1};
}

int boot_add_long_mode(struct boot_load *load, uint64_t rip, uint64_t rsi, struct error *err)
{
    int ret = add_gdt(load->plan, ATTR_CODE64, err);
    if (ret == 0)
        ret = add_page_tables(load->plan, err);
    if (ret < 0)
        return ret;
    struct plan_vcpu vcpu;
    plan_vcpu_reset(&vcpu, 0);
    set_segments(&vcpu, ATTR_CODE64);
    vcpu.rip = rip;
    vcpu.rsi = rsi;
    vcpu.rsp = LAYOUT_BOOT_STACK;
    vcpu.cr0 = CR0_PE | CR0_ET | CR0_PG;
    vcpu.cr3 = LAYOUT_PAGE_TABLES;
    vcpu.cr4 = CR4_PAE;
    vcpu.efer = EFER_LME | EFER_LMA;
    return plan_add_vcpu(load->plan, &vcpu, err);
}

int boot_add_protected_mode(struct boot_load *load, uint32_t eip, uint32_t ebx, struct error *err)
{
    int ret = add_gdt(load->plan, ATTR_CODE32, err);
    if (ret < 0)
        return ret;
    struct plan_vcpu vcpu;
    plan_vcpu_reset(&vcpu, 0);
    set_segments(&vcpu, ATTR_CODE32);
    vcpu.rip = eip;
    vcpu.rbx = ebx;
    vcpu.rsp = LAYOUT_BOOT_STACK;
    vcpu.cr0 = CR0_PE | CR0_ET;
    vcpu.cr4 = 0;
    vcpu.efer = 0;
    return plan_add_vcpu(load->plan, &vcpu, err);
}
