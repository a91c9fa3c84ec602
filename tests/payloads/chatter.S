/* A PVH ELF file whose guest writes to the serial port for ever, and reads nothing. */
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
    movw $0x3f8, %dx
    movb $'x', %al
1:  outb %al, %dx
    movl $10000, %ecx
2:  pause
    loop 2b
    jmp 1b
