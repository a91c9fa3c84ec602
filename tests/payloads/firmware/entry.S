/*
 * From the reset vector to main() in 64-bit code. The image ends at 4 GiB and is read-only, its page tables with it; what
 * is written is in RAM.
 */
    .set STACK, 0x90000
    .set MSR_EFER, 0xc0000080
    .set ENTRY, 0x63            /* present, writable, accessed, dirty: the processor has nothing to write */
    .set LARGE, 0x80

    .section .entry, "ax"
    .code16
entry16:
    cli
    movw $gdt_pointer_offset, %bx
    lgdtl %cs:(%bx)
    movl %cr0, %eax
    orl $1, %eax
    movl %eax, %cr0
    ljmpl $0x08, $entry32

    .code32
entry32:
    movl $0x20, %eax            /* PAE */
    movl %eax, %cr4
    movl $pml4, %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $0x100, %eax            /* LME */
    wrmsr
    movl %cr0, %eax
    orl $0x80000000, %eax
    movl %eax, %cr0
    ljmpl $0x18, $entry64

    .code64
entry64:
    movl $0x10, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    movl $STACK, %esp
    movabsq $main, %rax
    call *%rax
1:  hlt
    jmp 1b

    .balign 8
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff    /* code, 32 bits */
    .quad 0x00cf93000000ffff    /* data */
    .quad 0x00af9b000000ffff    /* code, 64 bits */
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt
    .set gdt_pointer_offset, (gdt_pointer - entry16)

/* The first 4 GiB, where they are. */
    .section .tables, "a"
    .balign 4096
pml4:
    .quad pdpt + ENTRY
    .fill 511, 8, 0
pdpt:
    .set i, 0
    .rept 4
    .quad directories + i * 4096 + ENTRY
    .set i, i + 1
    .endr
    .fill 508, 8, 0
directories:
    .set i, 0
    .rept 2048
    .quad i * 0x200000 + ENTRY + LARGE
    .set i, i + 1
    .endr

    .section .reset, "ax"
    .code16
    .globl reset
reset:
    jmp entry16
    .balign 16, 0xf4
