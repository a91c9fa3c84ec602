/*
 * A PVH ELF file that says hello on the serial port and the debug port, waits for one byte of input, says it back and
 * powers the machine off. It says too whether there is a pvpanic device: p for yes, n for no.
 */
    .section .note.Xen, "a", @note
    .align 4
    .long 4             /* name size */
    .long 4             /* descriptor size */
    .long 18            /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long start

    .set PVPANIC, 0x00111b36

    .text
    .code32
    .globl start
start:
    movl $hello, %esi
    movl $(hello_end - hello), %ecx
    movw $0x3f8, %dx
1:  lodsb
    outb %al, %dx
    movw $0x402, %dx
    outb %al, %dx
    movw $0x3f8, %dx
    loop 1b

    /* Bus 0, 32 devices: the first register of each says vendor and device. */
    movl $0x80000000, %ebx
2:  movw $0xcf8, %dx
    movl %ebx, %eax
    outl %eax, %dx
    movw $0xcfc, %dx
    inl %dx, %eax
    cmpl $PVPANIC, %eax
    movb $'p', %cl
    je 3f
    addl $0x800, %ebx
    cmpl $0x80010000, %ebx
    jb 2b
    movb $'n', %cl
3:  movb %cl, %al
    movw $0x3f8, %dx
    outb %al, %dx

4:  movw $0x3fd, %dx    /* line status: bit 0 is data ready */
    inb %dx, %al
    testb $1, %al
    jnz 5f
    pause
    jmp 4b
5:  movw $0x3f8, %dx
    inb %dx, %al
    outb %al, %dx

    movw $0x600, %dx
    movb $0x34, %al
    outb %al, %dx
6:
    hlt
    jmp 6b

    .data
hello:
    .ascii "hello\n"
hello_end:
