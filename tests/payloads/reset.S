/* A PVH ELF file whose guest asks for a reset at once: 1 to port 0x600. */
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
    movb $1, %al
    outb %al, %dx
1:
    hlt
    jmp 1b
