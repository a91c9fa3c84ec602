/*
 * Preloaded into the QEMU that emulates the test host.
 *
 * QEMU's emulation of AMD's nested paging ends the process when a nested guest writes CR8 while an interrupt waits for
 * it: target/i386/tcg/system/misc_helper.c calls cpu_interrupt() without the big lock, and that asserts it (QEMU 10 and
 * 11). UEFI firmware restores CR8 at the end of each interrupt. What follows the assertion only sets a bit of the
 * processor that asks, so it is let pass: the failed check is taken for a passed one.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* How far before the call of the failure's report its block may begin. */
#define BLOCK_BYTES 64

static const uint8_t *text, *text_end;

static int find_text(struct dl_phdr_info *info, size_t size, void *data)
{
    (void)size;
    const uint8_t *address = data;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        const uint8_t *start = (const uint8_t *)(info->dlpi_addr + header->p_vaddr);
        if (header->p_type == PT_LOAD && address >= start && address < start + header->p_memsz) {
            text = start;
            text_end = start + header->p_memsz;
            return 1;
        }
    }
    return 0;
}

static bool in_block(const uint8_t *target, const uint8_t *report)
{
    return target < report && target >= report - BLOCK_BYTES;
}

/* passed() - the instruction behind the conditional jump to the block that ends at @report; NULL if there is none. */
static const void *passed(const uint8_t *report)
{
    if (!text && !dl_iterate_phdr(find_text, (void *)report))
        return NULL;
    for (const uint8_t *at = text; at + 6 < text_end; at++) {
        int32_t far;
        memcpy(&far, at + 2, sizeof(far));
        if (at[0] == 0x0f && at[1] == 0x84 && in_block(at + 6 + far, report))
            return at + 6;
        if (at[0] == 0x74 && report - at < 256 && report > at &&
            in_block(at + 2 + (int8_t)at[1], report))
            return at + 2;
    }
    return NULL;
}

__attribute__((used)) const void *resume(const char *file, int line, const char *function,
                                         const char *expression, const uint8_t *report)
{
    const void *to = NULL;
    if (strcmp(expression, "bql_locked()") == 0 &&
        (strcmp(function, "tcg_handle_interrupt") == 0 || strcmp(function, "cpu_interrupt") == 0))
        to = passed(report);
    if (to)
        return to;
    void (*real)(const char *, const char *, int, const char *, const char *);
    *(void **)&real = dlsym(RTLD_NEXT, "g_assertion_message_expr");
    real(NULL, file, line, function, expression);
    abort();
}

/* g_assertion_message_expr(domain, file, line, function, expression) never returns: the code behind its call is not the
 * caller's to go on with. The stack is left as it was before the call. */
__asm__(".globl g_assertion_message_expr\n"
        ".type g_assertion_message_expr, @function\n"
        "g_assertion_message_expr:\n"
        "    endbr64\n"
        "    push %rbp\n"
        "    mov %rsp, %rbp\n"
        "    and $-16, %rsp\n"
        "    mov %rsi, %rdi\n"
        "    mov %edx, %esi\n"
        "    mov %rcx, %rdx\n"
        "    mov %r8, %rcx\n"
        "    mov 8(%rbp), %r8\n"
        "    call resume\n"
        "    mov %rbp, %rsp\n"
        "    pop %rbp\n"
        "    add $8, %rsp\n"
        "    jmp *%rax\n");
