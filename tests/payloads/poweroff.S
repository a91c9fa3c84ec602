/*
 * The shortest guest: a PVH ELF file that powers the machine off. It writes 0x34 to port 0x600 (ACPI sleep control of
 * Cloud Hypervisor's platform, and husk's) and, for machines that have that instead, to QEMU's isa-debug-exit at 0xf4.
 */
    .section .note.Xen, "a", @note
    .align 4
    .long 4             /* name size */
    .long 4             /* descriptor size */
    .long 18            /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long start

    .text
    .code32
    .globl start
start:
    movw $0x600, %dx
    movb $0x34, %al
    outb %al, %dx
    movw $0xf4, %dx
    outb %al, %dx
1:
    hlt
    jmp 1b
