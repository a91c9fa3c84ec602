#include "x86/acpi_aml.h"

#include "base/bytes.h"

#include <string.h>

enum {
    OP_ZERO = 0x00,
    OP_ONE = 0x01,
    OP_NAME = 0x08,
    OP_BYTE = 0x0a,
    OP_WORD = 0x0b,
    OP_DWORD = 0x0c,
    OP_STRING = 0x0d,
    OP_QWORD = 0x0e,
    OP_SCOPE = 0x10,
    OP_BUFFER = 0x11,
    OP_PACKAGE = 0x12,
    OP_METHOD = 0x14,
    OP_DUAL_NAME = 0x2e,
    OP_MULTI_NAME = 0x2f,
    OP_EXT = 0x5b,
    OP_EXT_REGION = 0x80,
    OP_EXT_FIELD = 0x81,
    OP_EXT_DEVICE = 0x82,
    OP_LOCAL0 = 0x60,
    OP_STORE = 0x70,
    OP_AND = 0x7b,
    OP_NOTIFY = 0x86,
    OP_IF = 0xa0,
};

#define SEGMENT_BYTES 4
#define REGION_SYSTEM_IO 1
#define FIELD_BYTE_ACC 1

/** begin() - what follows is counted until aml_end(). */
static void begin(struct aml *aml)
{
    if (aml->depth == AML_DEPTH_MAX)
        aml->out->failed = true;
    else
        aml->open[aml->depth++] = aml->out->len;
}

/** encode_length() - PkgLength (ACPI 6.5, 20.2.4) of @len bytes that follow it; it counts itself. Returns its size. */
static size_t encode_length(size_t len, uint8_t to[4])
{
    size_t bytes = len + 1 < 1u << 6 ? 1 : len + 2 < 1u << 12 ? 2 : len + 3 < 1u << 20 ? 3 : 4;
    len += bytes;
    if (bytes == 1) {
        to[0] = (uint8_t)len;
        return bytes;
    }
    to[0] = (uint8_t)((bytes - 1) << 6 | (len & 0xf));
    for (size_t i = 1; i < bytes; i++)
        to[i] = (uint8_t)(len >> (8 * i - 4));
    return bytes;
}

void aml_end(struct aml *aml)
{
    struct buf *out = aml->out;
    if (buf_failed(out) || aml->depth == 0)
        return;
    size_t start = aml->open[--aml->depth], len = out->len - start;
    uint8_t encoded[4];
    size_t bytes = encode_length(len, encoded);
    if (!buf_extend(out, bytes))
        return;
    memmove(out->data + start + bytes, out->data + start, len);
    memcpy(out->data + start, encoded, bytes);
}

void aml_path(struct aml *aml, const char *path)
{
    if (*path == '\\')
        buf_append_u8(aml->out, (uint8_t)*path++);
    size_t segments = (strlen(path) + 1) / (SEGMENT_BYTES + 1);
    if (segments == 2) {
        buf_append_u8(aml->out, OP_DUAL_NAME);
    } else if (segments > 2) {
        buf_append_u8(aml->out, OP_MULTI_NAME);
        buf_append_u8(aml->out, (uint8_t)segments);
    }
    for (size_t i = 0; i < segments; i++)
        buf_append(aml->out, path + i * (SEGMENT_BYTES + 1), SEGMENT_BYTES);
}

void aml_scope(struct aml *aml, const char *path)
{
    buf_append_u8(aml->out, OP_SCOPE);
    begin(aml);
    aml_path(aml, path);
}

void aml_device(struct aml *aml, const char *name)
{
    buf_append_u8(aml->out, OP_EXT);
    buf_append_u8(aml->out, OP_EXT_DEVICE);
    begin(aml);
    aml_path(aml, name);
}

void aml_method(struct aml *aml, const char *name, unsigned args, bool serialized)
{
    buf_append_u8(aml->out, OP_METHOD);
    begin(aml);
    aml_path(aml, name);
    buf_append_u8(aml->out, (uint8_t)((args & 7) | (serialized ? BIT(3) : 0)));
}

void aml_if(struct aml *aml)
{
    buf_append_u8(aml->out, OP_IF);
    begin(aml);
}

void aml_package(struct aml *aml, uint8_t elements)
{
    buf_append_u8(aml->out, OP_PACKAGE);
    begin(aml);
    buf_append_u8(aml->out, elements);
}

void aml_name(struct aml *aml, const char *name)
{
    buf_append_u8(aml->out, OP_NAME);
    aml_path(aml, name);
}

void aml_integer(struct aml *aml, uint64_t value)
{
    struct buf *out = aml->out;
    if (value <= 1) {
        buf_append_u8(out, value ? OP_ONE : OP_ZERO);
    } else if (value <= UINT8_MAX) {
        buf_append_u8(out, OP_BYTE);
        buf_append_u8(out, (uint8_t)value);
    } else if (value <= UINT16_MAX) {
        buf_append_u8(out, OP_WORD);
        buf_append_le16(out, (uint16_t)value);
    } else if (value <= UINT32_MAX) {
        buf_append_u8(out, OP_DWORD);
        buf_append_le32(out, (uint32_t)value);
    } else {
        buf_append_u8(out, OP_QWORD);
        buf_append_le64(out, value);
    }
}

void aml_string(struct aml *aml, const char *text)
{
    buf_append_u8(aml->out, OP_STRING);
    buf_append(aml->out, text, strlen(text) + 1);
}

static uint32_t hex_digit(char c)
{
    return (uint32_t)(c <= '9' ? c - '0' : c - 'A' + 10);
}

void aml_eisa_id(struct aml *aml, const char *id)
{
    uint32_t v = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 |
                 (uint32_t)(id[2] - '@') << 16 | hex_digit(id[3]) << 12 | hex_digit(id[4]) << 8 |
                 hex_digit(id[5]) << 4 | hex_digit(id[6]);
    buf_append_u8(aml->out, OP_DWORD);
    buf_append_le32(aml->out, __builtin_bswap32(v));
}

void aml_region_io(struct aml *aml, const char *name, uint16_t port, uint8_t len)
{
    buf_append_u8(aml->out, OP_EXT);
    buf_append_u8(aml->out, OP_EXT_REGION);
    aml_path(aml, name);
    buf_append_u8(aml->out, REGION_SYSTEM_IO);
    aml_integer(aml, port);
    aml_integer(aml, len);
}

void aml_field_byte(struct aml *aml, const char *region, const char *element)
{
    buf_append_u8(aml->out, OP_EXT);
    buf_append_u8(aml->out, OP_EXT_FIELD);
    begin(aml);
    aml_path(aml, region);
    buf_append_u8(aml->out, FIELD_BYTE_ACC);
    buf_append(aml->out, element, SEGMENT_BYTES);
    buf_append_u8(aml->out, 8); /* bits, as a PkgLength */
    aml_end(aml);
}

void aml_and_local0(struct aml *aml, uint64_t mask)
{
    buf_append_u8(aml->out, OP_AND);
    buf_append_u8(aml->out, OP_LOCAL0);
    aml_integer(aml, mask);
    buf_append_u8(aml->out, OP_ZERO); /* no target */
}

void aml_store_local0(struct aml *aml, const char *path)
{
    buf_append_u8(aml->out, OP_STORE);
    aml_path(aml, path);
    buf_append_u8(aml->out, OP_LOCAL0);
}

void aml_notify(struct aml *aml, const char *path, uint8_t value)
{
    buf_append_u8(aml->out, OP_NOTIFY);
    aml_path(aml, path);
    aml_integer(aml, value);
}

void aml_resources(struct aml *aml, const struct buf *descriptors)
{
    static const uint8_t end_tag[] = {0x79, 0x00};
    aml_name(aml, "_CRS");
    buf_append_u8(aml->out, OP_BUFFER);
    begin(aml);
    aml_integer(aml, descriptors->len + sizeof(end_tag));
    buf_append(aml->out, descriptors->data, descriptors->len);
    buf_append(aml->out, end_tag, sizeof(end_tag));
    aml_end(aml);
    if (buf_failed(descriptors))
        aml->out->failed = true;
}

/** window_head() - the bytes that the three address space descriptors share; the guest may not move the window. */
static void window_head(struct buf *b, uint8_t tag, uint16_t len, enum aml_window kind)
{
    static const uint8_t type_flags[] = {
        [AML_WINDOW_MEMORY] = 0x01, /* read-write, not cacheable */
        [AML_WINDOW_IO] = 0x03,     /* entire range */
        [AML_WINDOW_BUS] = 0x00,
    };
    buf_append_u8(b, tag);
    buf_append_le16(b, len);
    buf_append_u8(b, (uint8_t)kind);
    buf_append_u8(b, 0x0c); /* minimum and maximum fixed */
    buf_append_u8(b, type_flags[kind]);
}

void res_window16(struct buf *b, enum aml_window kind, uint16_t min, uint16_t max)
{
    window_head(b, 0x88, 13, kind);
    buf_append_le16(b, 0); /* granularity */
    buf_append_le16(b, min);
    buf_append_le16(b, max);
    buf_append_le16(b, 0); /* translation */
    buf_append_le16(b, (uint16_t)(max - min + 1));
}

void res_window32(struct buf *b, enum aml_window kind, uint32_t min, uint32_t max)
{
    window_head(b, 0x87, 23, kind);
    buf_append_le32(b, 0);
    buf_append_le32(b, min);
    buf_append_le32(b, max);
    buf_append_le32(b, 0);
    buf_append_le32(b, max - min + 1);
}

void res_window64(struct buf *b, enum aml_window kind, uint64_t min, uint64_t max)
{
    window_head(b, 0x8a, 43, kind);
    buf_append_le64(b, 0);
    buf_append_le64(b, min);
    buf_append_le64(b, max);
    buf_append_le64(b, 0);
    buf_append_le64(b, max - min + 1);
}

void res_io(struct buf *b, uint16_t port, uint8_t len)
{
    buf_append_u8(b, 0x47);
    buf_append_u8(b, 0x01); /* decodes 16 bits */
    buf_append_le16(b, port);
    buf_append_le16(b, port);
    buf_append_u8(b, 1); /* alignment */
    buf_append_u8(b, len);
}

void res_memory32(struct buf *b, uint32_t base, uint32_t len)
{
    buf_append_u8(b, 0x86);
    buf_append_le16(b, 9);
    buf_append_u8(b, 0x01); /* read-write */
    buf_append_le32(b, base);
    buf_append_le32(b, len);
}

void res_interrupt_edge(struct buf *b, uint32_t gsi)
{
    buf_append_u8(b, 0x89);
    buf_append_le16(b, 6);
    buf_append_u8(b, 0x03); /* consumer, edge-triggered */
    buf_append_u8(b, 1);
    buf_append_le32(b, gsi);
}
