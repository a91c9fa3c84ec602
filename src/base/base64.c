#include "base/base64.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

ssize_t base64_decode(const char *text, size_t len, uint8_t *bytes, size_t max)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint32_t group = 0;
    unsigned n = 0, padding = 0;
    size_t used = 0;
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (isspace(c))
            continue;
        const char *digit = c ? strchr(digits, c) : NULL;
        bool pad = c == '=';
        /* Padding ends the text: one or two characters that complete a group of four. */
        if ((!digit && !pad) || (pad && n < 2) || (padding && (!pad || n == 0)))
            return -1;
        group = group << 6 | (pad ? 0 : (uint32_t)(digit - digits));
        padding += pad;
        if (++n < 4)
            continue;
        unsigned has = 3 - padding;
        if (has > max - used)
            return -1;
        for (unsigned byte = 0; byte < has; byte++)
            bytes[used++] = (uint8_t)(group >> (16 - 8 * byte));
        n = 0;
        group = 0;
    }
    return n ? -1 : (ssize_t)used;
}
