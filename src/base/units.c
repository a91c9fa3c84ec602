#include "base/units.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int units_parse_size(const char *text, uint64_t *bytes)
{
    if (!isdigit((unsigned char)text[0]))
        return -EINVAL;
    int base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
    if (base == 16 && !isxdigit((unsigned char)text[2]))
        return -EINVAL;
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, base);
    if (errno == ERANGE)
        return -ERANGE;

    static const char suffixes[] = "KMGT";
    unsigned shift = 0;
    if (*end) {
        const char *suffix = strchr(suffixes, toupper((unsigned char)*end));
        if (!suffix || end[1])
            return -EINVAL;
        shift = 10 * (unsigned)(suffix - suffixes + 1);
    }
    if (shift && number >> (64 - shift))
        return -ERANGE;
    *bytes = (uint64_t)number << shift;
    return 0;
}

int units_parse_bits(const char *text, uint64_t *bits)
{
    size_t len = strlen(text);
    return len > 0 && isxdigit((unsigned char)text[len - 1]) ? units_parse_size(text, bits)
                                                             : -EINVAL;
}

const char *units_format_size(uint64_t bytes, char *text)
{
    static const char suffixes[] = "\0KMGT";
    unsigned i = 0;
    while (bytes && i < 4 && bytes % 1024 == 0) {
        bytes /= 1024;
        i++;
    }
    snprintf(text, UNITS_SIZE_TEXT, "%" PRIu64 "%.1s", bytes, &suffixes[i]);
    return text;
}

int units_parse_mac(const char *text, uint8_t mac[UNITS_MAC_BYTES])
{
    static const char digits[] = "0123456789abcdef";
    if (strlen(text) != 3 * UNITS_MAC_BYTES - 1)
        return -EINVAL;
    for (size_t i = 0; i < UNITS_MAC_BYTES; i++, text += 3) {
        const char *high = strchr(digits, tolower((unsigned char)text[0]));
        const char *low = strchr(digits, tolower((unsigned char)text[1]));
        if (!high || !low || (i + 1 < UNITS_MAC_BYTES && text[2] != ':'))
            return -EINVAL;
        mac[i] = (uint8_t)((high - digits) << 4 | (low - digits));
    }
    return mac[0] & 1 ? -EINVAL : 0; /* of a group */
}
