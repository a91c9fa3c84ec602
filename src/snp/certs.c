#include "snp/certs.h"

#include "base/bytes.h"

#include <errno.h>
#include <inttypes.h>

#define GUID_BYTES 16
#define ENTRY_BYTES 24

static bool is_zero(const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (bytes[i])
            return false;
    return true;
}

int snp_certs_check(const uint8_t *table, size_t len, struct error *err)
{
    for (size_t at = 0; ENTRY_BYTES <= len - at; at += ENTRY_BYTES) {
        const uint8_t *entry = table + at;
        uint32_t offset = load_le32(entry + GUID_BYTES), bytes = load_le32(entry + GUID_BYTES + 4);
        if (is_zero(entry, ENTRY_BYTES))
            return 0;
        if (offset > len || bytes > len - offset)
            return error_set(err, -EINVAL,
                             "certificate %zu lies at 0x%" PRIx32 ", 0x%" PRIx32
                             " bytes, and the table has 0x%zx",
                             at / ENTRY_BYTES + 1, offset, bytes, len);
    }
    return error_set(err, -EINVAL, "it is no table of certificates: no entry of zeros closes it");
}
