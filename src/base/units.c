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
