/* A PVH ELF file whose guest halts with interrupts off: an idle machine that only the host can end. */
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
    cli
    hlt
    jmp start
