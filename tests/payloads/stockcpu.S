/*
 * What a stock kernel asks of a virtual CPU, in small: long mode with paging, SSE state, cmpxchg16b, an exception through
 * an IDT and back, system call MSRs. A PVH ELF file; ends like poweroff.S where all of it works. Where some of it gives
 * a wrong answer it runs into ud2 without an IDT, a triple fault; where KVM cannot execute it, KVM says so.
 */
    .section .note.Xen, "a", @note
    .align 4
    .long 4             /* name size */
    .long 4             /* descriptor size */
    .long 18            /* XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long start

    .set CODE64, 0x08
    .set MSR_EFER, 0xc0000080
    .set MSR_LSTAR, 0xc0000082

    .text
    .code32
    .globl start
start:
    cld
    /* Identity mapping of the first GiB: one PML4 entry, one PDPT entry, 512 pages of 2 MiB. */
    movl $(pdpt + 3), pml4
    movl $(pd + 3), pdpt
    movl $pd, %edi
    movl $0x83, %eax    /* present, writable, large */
    movl $512, %ecx
1:  movl %eax, (%edi)
    addl $0x200000, %eax
    addl $8, %edi
    loop 1b

    movl $0x620, %eax   /* PAE, OSFXSR, OSXMMEXCPT */
    movl %eax, %cr4
    movl $pml4, %eax
    movl %eax, %cr3
    movl $MSR_EFER, %ecx
    rdmsr
    orl $0x101, %eax    /* LME, SCE */
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

    /* cmpxchg16b: fails first and loads what is there, then succeeds. */
    xorl %eax, %eax
    xorl %edx, %edx
    movl $5, %ebx
    movl $6, %ecx
    lock cmpxchg16b pair(%rip)
    jz wrong
    lock cmpxchg16b pair(%rip)
    jnz wrong
    cmpq $5, pair(%rip)
    jne wrong
    cmpq $6, pair+8(%rip)
    jne wrong

    /* SSE registers survive fxsave and fxrstor; a store across a page boundary arrives whole. */
    movdqu pair(%rip), %xmm1
    fxsave fx_area(%rip)
    pxor %xmm1, %xmm1
    fxrstor fx_area(%rip)
    movdqu %xmm1, across+4088(%rip)
    cmpq $6, across+4096(%rip)
    jne wrong
    lock xaddq %rbx, across+4096(%rip)
    cmpq $6, %rbx
    jne wrong

    /* Copying by string instruction. */
    leaq across(%rip), %rsi
    leaq pd(%rip), %rdi
    leaq 8192(%rdi), %rdi
    movl $1024, %ecx
    rep movsq

    /* An exception to a handler of ours, and back behind it. */
    leaq handler(%rip), %rax
    movw %ax, idt+3*16(%rip)
    shrq $16, %rax
    movw %ax, idt+3*16+6(%rip)
    lidt idt_pointer(%rip)
    xorl %r15d, %r15d
    int3
    cmpl $1, %r15d
    jne wrong

    /* The system call entry is kept. */
    movl $MSR_LSTAR, %ecx
    movl $0x12345678, %eax
    movl $0xffffffff, %edx
    wrmsr
    xorl %eax, %eax
    rdmsr
    cmpl $0x12345678, %eax
    jne wrong
    invlpg (%rsp)

    movw $0x600, %dx
    movb $0x34, %al
    outb %al, %dx
    movw $0xf4, %dx
    outb %al, %dx
1:
    hlt
    jmp 1b

wrong:
    lidt no_idt(%rip)
    ud2

handler:
    incl %r15d
    iretq

    .data
    .balign 16
pair:
    .quad 1, 2
gdt:
    .quad 0
    .quad 0x00209a0000000000 /* CODE64 */
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt
    .balign 16
idt:
    .fill 3*16, 1, 0
    .word 0, CODE64, 0x8e00, 0 /* interrupt gate, offset filled in above */
    .quad 0
idt_pointer:
    .word idt_pointer - idt - 1
    .quad idt
no_idt:
    .word 0
    .quad 0
    .balign 16
fx_area:
    .fill 512, 1, 0
    .fill 1024, 1, 0
stack_top:
    .balign 4096
pml4:
    .fill 4096, 1, 0
pdpt:
    .fill 4096, 1, 0
across:
    .fill 8192, 1, 0
pd:
    .fill 4096, 1, 0
    /* where the string copy goes */
    .fill 3*4096, 1, 0
