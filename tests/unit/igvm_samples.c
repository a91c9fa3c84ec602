#include "igvm_samples.h"

#include <stdlib.h>
#include <string.h>

void put(struct payload *p, unsigned width, uint64_t value)
{
    for (unsigned i = 0; i < width; i++)
        p->bytes[p->len++] = (uint8_t)(value >> (8 * i));
}

void put_fill(struct payload *p, uint8_t value, size_t n)
{
    memset(p->bytes + p->len, value, n);
    p->len += n;
}

void sample_add(struct sample *s, uint32_t type, const struct payload *p, int data_at)
{
    struct payload header = {0};
    put(&header, 4, type);
    put(&header, 4, p->len);
    s->types[s->n] = type;
    s->starts[s->n++] = s->var_len;
    memcpy(s->var + s->var_len, header.bytes, header.len);
    s->var_len += header.len;
    if (data_at >= 0)
        s->offset_fields[s->n_offset_fields++] = s->var_len + (size_t)data_at;
    memcpy(s->var + s->var_len, p->bytes, p->len);
    s->var_len += (p->len + 7) / 8 * 8;
}

uint32_t sample_data(struct sample *s, uint8_t fill, size_t len)
{
    uint32_t at = (uint32_t)s->data_len;
    memset(s->data + at, fill, len);
    s->data_len += len;
    return at;
}

void sample_platform(struct sample *s, uint32_t mask, uint8_t platform)
{
    struct payload p = {0};
    put(&p, 4, mask);
    put(&p, 1, 0);
    put(&p, 1, platform);
    put(&p, 2, 1);
    put(&p, 8, 0);
    sample_add(s, 0x1, &p, -1);
}

void sample_policy(struct sample *s, uint64_t policy, uint32_t mask)
{
    struct payload p = {0};
    put(&p, 8, policy);
    put(&p, 4, mask);
    put(&p, 4, 0);
    sample_add(s, 0x101, &p, -1);
}

void sample_page(struct sample *s, uint64_t gpa, uint32_t mask, int fill, uint32_t flags,
                 uint16_t type)
{
    struct payload p = {0};
    put(&p, 8, gpa);
    put(&p, 4, mask);
    put(&p, 4, fill >= 0 ? sample_data(s, (uint8_t)fill, 4096) : 0);
    put(&p, 4, flags);
    put(&p, 2, type);
    put(&p, 2, 0);
    sample_add(s, 0x302, &p, fill >= 0 ? 12 : -1);
}

void sample_area(struct sample *s, uint64_t bytes, uint32_t index)
{
    struct payload p = {0};
    put(&p, 8, bytes);
    put(&p, 4, index);
    put(&p, 4, 0);
    sample_add(s, 0x301, &p, -1);
}

void sample_parameter(struct sample *s, uint32_t type, uint32_t index, uint32_t offset)
{
    struct payload p = {0};
    put(&p, 4, index);
    put(&p, 4, offset);
    sample_add(s, type, &p, -1);
}

void sample_insert(struct sample *s, uint64_t gpa, uint32_t mask, uint32_t index)
{
    struct payload p = {0};
    put(&p, 8, gpa);
    put(&p, 4, mask);
    put(&p, 4, index);
    sample_add(s, 0x303, &p, -1);
}

void sample_context(struct sample *s, uint64_t gpa, uint32_t mask, uint16_t index,
                    uint32_t data_offset)
{
    struct payload p = {0};
    put(&p, 8, gpa);
    put(&p, 4, mask);
    put(&p, 4, data_offset);
    put(&p, 2, index);
    put(&p, 2, 0);
    sample_add(s, 0x304, &p, 12);
}

/* One bit at a time: slow, and plain to see. */
static uint32_t crc32_bits(uint32_t crc, const uint8_t *data, size_t len)
{
    crc = ~crc;
    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? crc >> 1 ^ 0xEDB88320u : crc >> 1;
    }
    return ~crc;
}

static uint32_t load32(const uint8_t *p)
{
    return (uint32_t)(p[0] | p[1] << 8 | p[2] << 16) | (uint32_t)p[3] << 24;
}

static void store32(uint8_t *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> (8 * i));
}

void sample_checksum(uint8_t *file, size_t size)
{
    uint32_t fixed = load32(file + 4) == 2 ? 32 : 24, at = load32(file + 8),
             len = load32(file + 12);
    if (size < fixed || at > size || len > size - at)
        return;
    memset(file + 20, 0, 4);
    store32(file + 20, crc32_bits(crc32_bits(0, file, fixed), file + at, len));
}

uint8_t *sample_finish(const struct sample *s, size_t *size)
{
    size_t fixed = s->version == 2 ? 32 : 24, data_at = fixed + s->var_len;
    *size = data_at + s->data_len;
    uint8_t *file = calloc(1, *size);
    struct payload p = {0};
    put(&p, 4, 0x4D564749);
    put(&p, 4, s->version);
    put(&p, 4, fixed);
    put(&p, 4, s->var_len);
    put(&p, 4, *size);
    put(&p, 4, 0);
    if (s->version == 2) {
        put(&p, 4, s->architecture);
        put(&p, 4, 4096);
    }
    memcpy(file, p.bytes, p.len);
    memcpy(file + fixed, s->var, s->var_len);
    memcpy(file + data_at, s->data, s->data_len);
    for (size_t i = 0; i < s->n_offset_fields; i++) {
        uint8_t *field = file + fixed + s->offset_fields[i];
        store32(field, load32(field) + (uint32_t)data_at);
    }
    sample_checksum(file, *size);
    return file;
}

void sample_small(struct sample *s)
{
    memset(s, 0, sizeof(*s));
    s->version = 1;
    sample_platform(s, 1, 2);
    sample_policy(s, 0x30000, 1);
    sample_page(s, 0xFFFFF000, 1, 0x90, 0, 0);
}

static void add_regions(struct sample *s)
{
    struct payload region = {0}, table = {0};
    put(&region, 4, 1);
    put(&region, 2, 0);
    put(&region, 1, 0);
    put(&region, 1, 2);
    put(&region, 8, 0x1000);
    put(&region, 8, 0x400000);
    put(&region, 8, 0x10000);
    put(&region, 8, 0x400000);
    put(&region, 8, 0x800000);
    sample_add(s, 0x102, &region, -1);
    put(&table, 4, 1);
    put(&table, 2, 0);
    put(&table, 2, 0);
    put(&table, 8, 0x600000);
    put(&table, 8, 0x4000);
    put(&table, 8, 0x1000);
    sample_add(s, 0x103, &table, -1);
}

static void add_corim(struct sample *s, uint32_t type, uint32_t len)
{
    struct payload p = {0};
    put(&p, 4, 1);
    put(&p, 4, sample_data(s, 0xd9, len));
    put(&p, 4, len);
    put(&p, 4, 0);
    sample_add(s, type, &p, 4);
}

static void add_memory(struct sample *s)
{
    struct payload required = {0}, range = {0};
    put(&required, 8, 0x100000);
    put(&required, 4, 1);
    put(&required, 4, 0x100000);
    put(&required, 4, 0);
    put(&required, 4, 0);
    sample_add(s, 0x305, &required, -1);
    put(&range, 8, 0x900000);
    put(&range, 4, 1);
    put(&range, 4, 0x2000);
    sample_add(s, 0x30d, &range, -1);
}

static void add_contexts(struct sample *s)
{
    uint32_t vmsa = sample_data(s, 0, 4096);
    sample_context(s, 0xFFFFFFFFF000, 1, 0, vmsa);
    sample_context(s, 0, 2, 0, sample_data(s, 0, 4096));
    struct payload vbs = {0};
    put(&vbs, 4, 1);
    put_fill(&vbs, 0, 1);
    put(&vbs, 4, 0x00020010);
    put_fill(&vbs, 0, 11);
    put(&vbs, 8, 0xfff0);
    put(&vbs, 8, 0);
    uint32_t at = sample_data(s, 0, vbs.len);
    memcpy(s->data + at, vbs.bytes, vbs.len);
    sample_context(s, 0, 4, 0, at);
    sample_context(s, 0, 8, 0, sample_data(s, 0x77, 4096));
}

static void add_id_block(struct sample *s)
{
    struct payload p = {0};
    put(&p, 4, 1);
    put(&p, 4, 0);
    put_fill(&p, 0x11, 48 + 16 + 16);
    put(&p, 4, 1);
    put(&p, 4, 7);
    put(&p, 4, 1);
    put(&p, 4, 0);
    put_fill(&p, 0x22, 144);
    put(&p, 4, 2);
    put(&p, 4, 0);
    put_fill(&p, 0x33, 144);
    put_fill(&p, 0, 144 + 152);
    sample_add(s, 0x30b, &p, -1);
}

void sample_all_x64(struct sample *s)
{
    memset(s, 0, sizeof(*s));
    s->version = 2;
    sample_platform(s, 1, 2);
    sample_platform(s, 2, 0);
    sample_platform(s, 4, 1);
    sample_platform(s, 8, 3);
    sample_policy(s, 0x30000, 1);
    add_regions(s);
    add_corim(s, 0x104, 20);
    add_corim(s, 0x105, 12);
    sample_area(s, 0x2000, 5);
    static const uint32_t parameters[] = {0x307, 0x308, 0x309, 0x30a, 0x30c,
                                          0x30e, 0x30f, 0x310, 0x312, 0x313};
    for (uint32_t i = 0; i < 10; i++)
        sample_parameter(s, parameters[i], 5, i * 0x100);
    sample_insert(s, 0x10000, 0xf, 5);
    sample_page(s, 0x1000, 0xf, 0xab, 0, 0);
    sample_page(s, 0x2000, 1, -1, 2, 0);
    sample_page(s, 0x3000, 1, -1, 0, 1);
    sample_page(s, 0x4000, 1, -1, 0, 2);
    sample_page(s, 0x200000, 1, -1, 1, 0);
    add_memory(s);
    add_contexts(s);
    add_id_block(s);
    struct payload vbs = {0};
    put(&vbs, 4, 4);
    put_fill(&vbs, 1, 860);
    sample_add(s, 0x311, &vbs, -1);
    struct payload optional = {0};
    put_fill(&optional, 0x5a, 5);
    sample_add(s, 0x80000999, &optional, -1);
}

void sample_runnable(struct sample *s)
{
    memset(s, 0, sizeof(*s));
    s->version = 2;
    sample_platform(s, 1, 2);
    sample_platform(s, 2, 0);
    sample_policy(s, 0x30000, 1);
    add_regions(s);
    add_corim(s, 0x104, 20);
    add_corim(s, 0x105, 12);
    sample_area(s, 0x2000, 5);
    static const uint32_t parameters[] = {0x307, 0x308, 0x309, 0x30a, 0x30c,
                                          0x30e, 0x30f, 0x310, 0x313};
    for (uint32_t i = 0; i < 9; i++)
        sample_parameter(s, parameters[i], 5, i * 0x200);
    sample_insert(s, 0x10000, 3, 5);
    sample_page(s, 0x1000, 3, 0xab, 0, 0);
    sample_page(s, 0x2000, 3, -1, 2, 0);
    sample_page(s, 0x3000, 1, -1, 0, 1);
    sample_page(s, 0x4000, 1, -1, 0, 2);
    sample_page(s, 0x40000000, 3, 0xcd, 4, 0);
    sample_page(s, 0x200000, 3, -1, 1, 0);
    add_memory(s);
    sample_context(s, 0xFFFFFFFFF000, 1, 0, sample_data(s, 0, 4096));
    sample_context(s, 0, 2, 0, sample_data(s, 0, 4096));
    add_id_block(s);
    struct payload optional = {0};
    put_fill(&optional, 0x5a, 5);
    sample_add(s, 0x80000999, &optional, -1);
}

void sample_all_aarch64(struct sample *s)
{
    memset(s, 0, sizeof(*s));
    s->version = 2;
    s->architecture = 1;
    sample_platform(s, 1, 6);
    struct payload policy = {0};
    put(&policy, 4, 1);
    put(&policy, 4, 0);
    put(&policy, 8, 0xf0);
    put(&policy, 8, 0x0f);
    put_fill(&policy, 0, 8);
    sample_add(s, 0x106, &policy, -1);
    sample_page(s, 0x40000000, 1, 0x1f, 0, 0);
    sample_context(s, 0, 1, 0, sample_data(s, 0x20, 4096));
}
