/* What the test firmware says, by the debug port; and the few functions that freestanding C needs. */
#include "fw.h"

#define DEBUG_PORT 0x402

static bool failed;

void *memcpy(void *to, const void *from, size_t len)
{
    uint8_t *t = to;
    for (const uint8_t *f = from; len; len--)
        *t++ = *f++;
    return to;
}

void *memset(void *to, int value, size_t len)
{
    for (uint8_t *t = to; len; len--)
        *t++ = (uint8_t)value;
    return to;
}

void say(const char *text)
{
    while (*text)
        outb(DEBUG_PORT, (uint8_t)*text++);
}

void end_line(void)
{
    say("\n");
}

void say_hex(const char *name, uint64_t value)
{
    say(" ");
    say(name);
    say("=");
    bool begun = false;
    for (int shift = 60; shift >= 0; shift -= 4) {
        unsigned digit = (unsigned)(value >> shift) & 0xf;
        begun |= digit || shift == 0;
        if (begun)
            outb(DEBUG_PORT, (uint8_t)(digit < 10 ? '0' + digit : 'a' + digit - 10));
    }
}

void fail(const char *what, uint64_t value)
{
    failed = true;
    say("FAIL ");
    say(what);
    say_hex("value", value);
    end_line();
}

bool has_failed(void)
{
    return failed;
}

bool same(const void *a, const void *b, uint32_t len)
{
    bool equal;
    uint64_t left = len;
    __asm__ volatile("cmpb %%al, %%al\n\trepe cmpsb"
                     : "=@ccz"(equal), "+S"(a), "+D"(b), "+c"(left)
                     :
                     : "memory");
    return equal;
}

bool same_text(const char *a, const char *b)
{
    for (; *a && *a == *b; a++)
        b++;
    return *a == *b;
}

/* Few instructions a byte, as there are hosts that emulate each of them. */
static uint32_t crc_table[256];

static void make_crc_table(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        crc_table[i] = i;
        for (int bit = 0; bit < 8; bit++)
            crc_table[i] = crc_table[i] >> 1 ^ (crc_table[i] & 1 ? 0xedb88320u : 0);
    }
}

uint32_t crc32(const void *bytes, uint32_t len)
{
    uint32_t crc = ~0u;
    if (!crc_table[1])
        make_crc_table();
    for (const uint8_t *p = bytes; len; len--)
        crc = crc >> 8 ^ crc_table[(crc ^ *p++) & 0xff];
    return ~crc;
}
