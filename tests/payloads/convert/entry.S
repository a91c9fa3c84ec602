/* Entry of a PVH ELF file: long mode with the first 8 GiB mapped one to one, a stack, and main() with what the loader tells. */
    .section .note.Xen, "a", @note
    .align 4
    .long 4             /* name size */
    .long 4             /* descriptor size */
    .long 18            /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long start

    .set CODE64, 0x08
    .set MSR_EFER, 0xc0000080
    .set GIBS, 8

    .text
    .code32
    .globl start
start:
    cld
    movl $(pdpt + 3), pml4
    xorl %ecx, %ecx
1:  movl %ecx, %eax
    shll $12, %eax
    addl $(pd + 3), %eax
    movl %eax, pdpt(, %ecx, 8)
    incl %ecx
    cmpl $GIBS, %ecx
    jb 1b
    /* Pages of 2 MiB: bits 31:0 of the address wrap every 2048th, bits 63:32 count those. */
    xorl %ecx, %ecx
2:  movl %ecx, %eax
    shll $21, %eax
    orl $0x83, %eax     /* present, writable, large */
    movl %eax, pd(, %ecx, 8)
    movl %ecx, %eax
    shrl $11, %eax
    movl %eax, pd + 4(, %ecx, 8)
    incl %ecx
    cmpl $(GIBS * 512), %ecx
    jb 2b

    movl $0x20, %eax    /* PAE */
    movl %eax, %cr4
    movl $pml4, %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $0x100, %eax    /* LME */
    wrmsr
    movl $0x80000033, %eax /* PG, NE, ET, MP, PE */
    movl %eax, %cr0
    lgdt gdt_pointer
    ljmp $CODE64, $long_mode

    .code64
long_mode:
    xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %ss
    leaq stack_top(%rip), %rsp
    movl %ebx, %edi     /* hvm_start_info */
    call main
3:  cli
    hlt
    jmp 3b

    .data
    .align 8
gdt:
    .quad 0
    .quad 0x00209a0000000000    /* 64-bit code */
gdt_pointer:
    .word . - gdt - 1
    .long gdt

    /* In the file, not in .bss: what the loader does not write is private, and KVM must read page tables. */
    .data
    .align 4096
pml4:
    .skip 4096
pdpt:
    .skip 4096
pd:
    .skip GIBS * 4096
stack:
    .skip 16384
stack_top:
