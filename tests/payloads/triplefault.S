/* A PVH ELF file whose guest takes a triple fault at once: an exception, with no table to look its handler up in. */
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
    lidt no_idt
    ud2

    .data
no_idt:
    .word 0
    .long 0
