/*
 * What an IGVM file starts in long mode: keeps the registers that it finds at 0x201000, then writes each range of memory
 * that the list at 0x202000 (address and length, 8 bytes each, until a length is 0) names to port 0xe9, and resets the
 * machine by port 0xcf9. Memory up to 0x206000 is its own.
 */
    .set SAVE, 0x201000
    .set RANGES, 0x202000
    .set STACK, 0x206000

    .text
    .code64
    .globl start
start:
    movq %rax, SAVE + 0
    movq %rcx, SAVE + 8
    movq %rdx, SAVE + 16
    movq %rbx, SAVE + 24
    movq %rsp, SAVE + 32
    movq %rbp, SAVE + 40
    movq %rsi, SAVE + 48
    movq %rdi, SAVE + 56
    movq %r8, SAVE + 64
    movq %r9, SAVE + 72
    movq %r10, SAVE + 80
    movq %r11, SAVE + 88
    movq %r12, SAVE + 96
    movq %r13, SAVE + 104
    movq %r14, SAVE + 112
    movq %r15, SAVE + 120
    movq $STACK, %rsp
    pushfq
    popq SAVE + 128
    movq %cr0, %rax
    movq %rax, SAVE + 136
    movq %cr3, %rax
    movq %rax, SAVE + 144
    movq %cr4, %rax
    movq %rax, SAVE + 152
    movl $0xc0000080, %ecx      /* EFER */
    rdmsr
    movl %eax, SAVE + 160
    movl %edx, SAVE + 164
    movl $0x277, %ecx           /* PAT */
    rdmsr
    movl %eax, SAVE + 168
    movl %edx, SAVE + 172
    movq %dr6, %rax
    movq %rax, SAVE + 176
    movq %dr7, %rax
    movq %rax, SAVE + 184
    movl $0xc0000100, %ecx      /* FS base */
    rdmsr
    movl %eax, SAVE + 192
    movl %edx, SAVE + 196
    movl $0xc0000101, %ecx      /* GS base */
    rdmsr
    movl %eax, SAVE + 200
    movl %edx, SAVE + 204
    movw %cs, SAVE + 208
    movw %ds, SAVE + 210
    movw %es, SAVE + 212
    movw %fs, SAVE + 214
    movw %gs, SAVE + 216
    movw %ss, SAVE + 218
    sgdt SAVE + 224
    sidt SAVE + 240
    fxsave SAVE + 256           /* FCW at 0, MXCSR at 24 */

    movl $RANGES, %ebx
    cld
1:  movq (%rbx), %rsi
    movq 8(%rbx), %rcx
    testq %rcx, %rcx
    jz 2f
    movw $0xe9, %dx
    rep outsb
    addl $16, %ebx
    jmp 1b
2:  movw $0xcf9, %dx
    movb $6, %al
    outb %al, %dx
3:  hlt
    jmp 3b
