/*
 * Writing files. The variable headers are kept as they will stand in the file, with file offsets counted as if the
 * file data began at data_base; writing moves them to where it does begin.
 */
#include "igvm_internal.h"

#include <stdlib.h>

struct bytes {
    uint8_t *data;
    size_t len, cap;
};

/* Where file data of one kind stands, so that equal data is stored once. */
struct stored {
    uint64_t hash;
    uint32_t at, len; /* len 0: a free slot */
};

struct igvm_builder {
    uint32_t version, architecture;
    uint32_t data_base;
    struct bytes gap; /* between the fixed header and the variable ones */
    struct bytes headers;
    struct bytes data;
    uint32_t *offsets; /* of each header in headers */
    uint32_t n, cap;
    struct stored *stored;
    size_t n_stored, cap_stored; /* cap is a power of two, or 0 */
};

static bool reserve(struct bytes *b, size_t more)
{
    if (b->cap - b->len >= more)
        return true;
    size_t cap = MAX(b->cap * 2, b->len + more);
    uint8_t *data = realloc(b->data, cap);
    if (!data)
        return false;
    b->data = data;
    b->cap = cap;
    return true;
}

static bool append(struct bytes *b, const void *data, size_t len)
{
    if (len == 0)
        return true;
    if (!reserve(b, len))
        return false;
    memcpy(b->data + b->len, data, len);
    b->len += len;
    return true;
}

IGVM_EXPORT struct igvm_builder *igvm_builder_new(uint32_t version, IgvmArchitecture architecture)
{
    struct igvm_builder *b = calloc(1, sizeof(*b));
    if (!b)
        return NULL;
    b->version = version;
    b->architecture = architecture;
    b->data_base = sizeof(IGVM_FIXED_HEADER); /* any number but 0, which means no data */
    return b;
}

IGVM_EXPORT struct igvm_builder *igvm_builder_from(const struct igvm_file *file)
{
    struct igvm_builder *b = igvm_builder_new(file->version, file->architecture);
    if (!b)
        return NULL;
    b->data_base = file->var_end;
    b->n = b->cap = file->n;
    b->offsets = malloc((b->n + 1) * sizeof(*b->offsets));
    if (!b->offsets ||
        !append(&b->gap, file->data + file->fixed_size, file->var_start - file->fixed_size) ||
        !append(&b->headers, file->data + file->var_start, file->var_end - file->var_start) ||
        !append(&b->data, file->data + file->var_end, file->size - file->var_end)) {
        igvm_builder_free(b);
        return NULL;
    }
    for (uint32_t i = 0; i < b->n; i++)
        b->offsets[i] = file->offsets[i] - file->var_start;
    return b;
}

IGVM_EXPORT void igvm_builder_free(struct igvm_builder *b)
{
    if (!b)
        return;
    free(b->gap.data);
    free(b->headers.data);
    free(b->data.data);
    free(b->offsets);
    free(b->stored);
    free(b);
}

/* FNV-1a over 64-bit words, the last one padded: only speed depends on its quality. */
static uint64_t hash_bytes(const uint8_t *data, size_t len)
{
    uint64_t hash = 0xcbf29ce484222325u ^ len;
    for (; len >= 8; len -= 8, data += 8)
        hash = (hash ^ load_le64(data)) * 0x100000001b3u, hash ^= hash >> 29;
    uint64_t last = 0;
    memcpy(&last, data, len);
    hash = (hash ^ last) * 0x100000001b3u;
    return hash ^ hash >> 32;
}

/** find_stored() - the slot of equal data, or the free one where it would go. */
static struct stored *find_stored(const struct igvm_builder *b, uint64_t hash, const void *data,
                                  uint32_t len)
{
    for (size_t i = hash & (b->cap_stored - 1);; i = (i + 1) & (b->cap_stored - 1)) {
        struct stored *s = &b->stored[i];
        if (s->len == 0 || (s->hash == hash && s->len == len &&
                            (!data || memcmp(b->data.data + s->at, data, len) == 0)))
            return s;
    }
}

static bool grow_stored(struct igvm_builder *b)
{
    size_t old_cap = b->cap_stored;
    struct stored *old = b->stored;
    struct stored *grown = calloc(old_cap ? old_cap * 2 : 64, sizeof(*grown));
    if (!grown)
        return false;
    b->stored = grown;
    b->cap_stored = old_cap ? old_cap * 2 : 64;
    for (size_t i = 0; i < old_cap; i++)
        if (old[i].len)
            *find_stored(b, old[i].hash, b->data.data + old[i].at, old[i].len) = old[i];
    free(old);
    return true;
}

/** store() - put @data into the file data, or find it there. Returns IGVMAPI_OK and *at, its file_offset. */
static IgvmResult store(struct igvm_builder *b, const void *data, uint32_t len, uint32_t *at)
{
    if (2 * (b->n_stored + 1) > b->cap_stored && !grow_stored(b))
        return IGVMAPI_FILE_DATA_SECTION_TOO_LARGE;
    uint64_t hash = hash_bytes(data, len);
    struct stored *slot = find_stored(b, hash, data, len);
    if (slot->len == 0) {
        if (b->data.len + len + b->data_base > UINT32_MAX || !append(&b->data, data, len))
            return IGVMAPI_FILE_DATA_SECTION_TOO_LARGE;
        *slot = (struct stored){.hash = hash, .at = (uint32_t)(b->data.len - len), .len = len};
        b->n_stored++;
    }
    *at = slot->at + b->data_base;
    return IGVMAPI_OK;
}

/** section_end() - how many headers stand before the end of @type's section. */
static uint32_t section_end(const struct igvm_builder *b, uint32_t type)
{
    int own = igvm_type_section(type);
    uint32_t end = b->n;
    while (own >= 0 && end > 0) {
        int before = igvm_type_section(load_le32(b->headers.data + b->offsets[end - 1]));
        if (before >= 0 && before <= own)
            break;
        end--;
    }
    return own < 0 ? b->n : end;
}

IGVM_EXPORT int64_t igvm_builder_add(struct igvm_builder *b, uint32_t type, const void *payload,
                                     uint32_t length, const void *data, uint32_t data_len)
{
    int data_at = igvm_type_offset_field(type);
    if (length > UINT32_MAX - 16 || (data && (data_at < 0 || data_len == 0)) ||
        (data_at >= 0 && length < (uint32_t)data_at + 4))
        return IGVMAPI_INVALID_PARAMETER;
    size_t size = IGVM_VLH_SIZE + (size_t)align_up(length, 8);
    if (b->headers.len + size > UINT32_MAX || !reserve(&b->headers, size))
        return IGVMAPI_VARIABLE_HEADER_SECTION_TOO_LARGE;
    if (b->n == b->cap) {
        uint32_t cap = b->cap ? b->cap * 2 : 64;
        uint32_t *offsets = realloc(b->offsets, cap * sizeof(*offsets));
        if (!offsets)
            return IGVMAPI_VARIABLE_HEADER_SECTION_TOO_LARGE;
        b->offsets = offsets;
        b->cap = cap;
    }
    uint32_t file_offset = 0;
    if (data) {
        IgvmResult result = store(b, data, data_len, &file_offset);
        if (result != IGVMAPI_OK)
            return result;
    }
    uint32_t index = section_end(b, type);
    uint32_t at = index < b->n ? b->offsets[index] : (uint32_t)b->headers.len;
    uint8_t *header = b->headers.data + at;
    memmove(header + size, header, b->headers.len - at);
    memset(header, 0, size);
    store_le32(header, type);
    store_le32(header + 4, length);
    memcpy(header + IGVM_VLH_SIZE, payload, length);
    if (data)
        store_le32(header + IGVM_VLH_SIZE + data_at, file_offset);
    b->headers.len += size;
    memmove(b->offsets + index + 1, b->offsets + index, (b->n - index) * sizeof(*b->offsets));
    b->offsets[index] = at;
    b->n++;
    for (uint32_t i = index + 1; i < b->n; i++)
        b->offsets[i] += (uint32_t)size;
    return index + 1;
}

IGVM_EXPORT uint8_t *igvm_builder_payload(struct igvm_builder *b, uint32_t number)
{
    if (number == 0 || number > b->n)
        return NULL;
    return b->headers.data + b->offsets[number - 1] + IGVM_VLH_SIZE;
}

IGVM_EXPORT IgvmResult igvm_builder_remove(struct igvm_builder *b, uint32_t number)
{
    if (number == 0 || number > b->n)
        return IGVMAPI_INVALID_PARAMETER;
    uint32_t at = b->offsets[number - 1];
    uint32_t end = number < b->n ? b->offsets[number] : (uint32_t)b->headers.len;
    memmove(b->headers.data + at, b->headers.data + end, b->headers.len - end);
    b->headers.len -= end - at;
    b->n--;
    for (uint32_t i = number - 1; i < b->n; i++)
        b->offsets[i] = b->offsets[i + 1] - (end - at);
    return IGVMAPI_OK;
}

/** move_offsets() - point the headers at @headers to file data that begins @delta bytes further on. */
static void move_offsets(const struct igvm_builder *b, uint8_t *headers, uint32_t delta)
{
    for (uint32_t i = 0; delta && i < b->n; i++) {
        uint8_t *header = headers + b->offsets[i];
        int data_at = igvm_type_offset_field(load_le32(header));
        if (data_at < 0)
            continue;
        uint8_t *field = header + IGVM_VLH_SIZE + data_at;
        if (load_le32(field))
            store_le32(field, load_le32(field) + delta);
    }
}

IGVM_EXPORT IgvmResult igvm_builder_write(const struct igvm_builder *b, uint8_t **result,
                                          size_t *size)
{
    uint32_t fixed = b->version == IGVM_FORMAT_VERSION_2 ? sizeof(IGVM_FIXED_HEADER_V2)
                                                         : sizeof(IGVM_FIXED_HEADER);
    size_t var_start = fixed + b->gap.len, var_end = var_start + b->headers.len;
    size_t total = var_end + b->data.len;
    if (total > UINT32_MAX)
        return IGVMAPI_TOTAL_FILE_SIZE_TOO_LARGE;
    uint8_t *out = malloc(total);
    if (!out)
        return IGVMAPI_TOTAL_FILE_SIZE_TOO_LARGE;
    store_le32(out, IGVM_MAGIC_VALUE);
    store_le32(out + 4, b->version);
    store_le32(out + 8, (uint32_t)var_start);
    store_le32(out + 12, (uint32_t)b->headers.len);
    store_le32(out + 16, (uint32_t)total);
    store_le32(out + 20, 0);
    if (fixed == sizeof(IGVM_FIXED_HEADER_V2)) {
        store_le32(out + 24, b->architecture);
        store_le32(out + 28, IGVM_PAGE_SIZE_4K);
    }
    if (b->gap.len)
        memcpy(out + fixed, b->gap.data, b->gap.len);
    if (b->headers.len)
        memcpy(out + var_start, b->headers.data, b->headers.len);
    if (b->data.len)
        memcpy(out + var_end, b->data.data, b->data.len);
    move_offsets(b, out + var_start, (uint32_t)var_end - b->data_base);
    uint32_t crc = igvm_crc32(0, out, fixed);
    store_le32(out + 20, igvm_crc32(crc, out + var_start, b->headers.len));
    *result = out;
    *size = total;
    return IGVMAPI_OK;
}
