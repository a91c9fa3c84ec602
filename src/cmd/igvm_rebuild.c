/* A file made again from what `husk igvm show --json` and `husk igvm extract` gave: the same bytes. */
#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "cmd/igvm_cmd.h"
#include "cmd/launch_words.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>

static void cleanup_json(json_t **json)
{
    json_decref(*json);
}

/** add_header() - type, length, value and padding, as they stand in the file. */
static int add_header(struct buf *file, const json_t *header, size_t number, struct error *err)
{
    const char *hex = json_string_value(json_object_get(header, "payload"));
    json_t *type = json_object_get(header, "type");
    size_t len = hex ? strlen(hex) / 2 : 0;
    if (!hex || !json_is_integer(type) || len > UINT32_MAX)
        return error_set(err, -EINVAL, "headers[%zu] has no type or no payload", number);
    buf_append_le32(file, (uint32_t)json_integer_value(type));
    buf_append_le32(file, (uint32_t)len);
    uint8_t *payload = buf_extend(file, align_up(len, 8));
    if (!payload)
        return error_set(err, -ENOMEM, "out of memory while rebuilding the file");
    if (!hex_parse(hex, payload, len))
        return error_set(err, -EINVAL, "headers[%zu].payload is not hexadecimal", number);
    return 0;
}

static int add_gap(struct buf *file, const json_t *root, struct error *err)
{
    const char *hex = json_string_value(json_object_get(root, "gap"));
    size_t len = hex ? strlen(hex) / 2 : 0;
    uint8_t *gap = buf_extend(file, len);
    if (len && gap && !hex_parse(hex, gap, len))
        return error_set(err, -EINVAL, "gap is not hexadecimal");
    return 0;
}

/** add_fixed() - the fixed header; sizes and checksum follow when the rest is there. */
static int add_fixed(struct buf *file, const json_t *root, struct error *err)
{
    json_int_t version = json_integer_value(json_object_get(root, "version"));
    if (version != 1 && version != 2)
        return error_set(err, -EINVAL, "version is neither 1 nor 2");
    buf_append_le32(file, IGVM_MAGIC_VALUE);
    buf_append_le32(file, (uint32_t)version);
    buf_extend(file, 16);
    if (version == 2) {
        buf_append_le32(file, (uint32_t)json_integer_value(json_object_get(root, "architecture")));
        buf_append_le32(file, (uint32_t)json_integer_value(json_object_get(root, "page_size")));
    }
    return add_gap(file, root, err);
}

static int add_data(struct buf *file, const char *path, struct error *err)
{
    uint64_t size;
    _cleanup_close_ int fd = fd_open_file(path, &size, err);
    if (fd < 0)
        return fd;
    uint8_t *data = size <= UINT32_MAX ? buf_extend(file, size) : NULL;
    int r = data ? fd_pread_full(fd, data, size, 0) : -EFBIG;
    return r < 0 ? error_set_errno(err, r, "could not read %s", path) : 0;
}

int igvm_rebuild(const char *json, const char *data, uint8_t **out, size_t *size, struct error *err)
{
    json_error_t where;
    _cleanup_(cleanup_json) json_t *root = json_load_file(json, JSON_REJECT_DUPLICATES, &where);
    if (!root)
        return error_set(err, -EINVAL, "%s, line %d: %s", json, where.line, where.text);
    _cleanup_buf_ struct buf file = BUF_INIT;
    int r = add_fixed(&file, root, err);
    size_t start = file.len, i;
    json_t *header;
    json_array_foreach(json_object_get(root, "headers"), i, header)
    {
        if (r == 0)
            r = add_header(&file, header, i, err);
    }
    if (r < 0)
        return error_context(err, "%s", json);
    size_t end = file.len;
    if (data)
        r = add_data(&file, data, err);
    if (r < 0)
        return r;
    if (buf_failed(&file) || !file.data || file.len > UINT32_MAX)
        return error_set(err, -EFBIG, "the file would be too large");
    store_le32(file.data + 8, (uint32_t)start);
    store_le32(file.data + 12, (uint32_t)(end - start));
    store_le32(file.data + 16, (uint32_t)file.len);
    store_le32(file.data + 20, igvm_checksum(file.data, file.len));
    *out = file.data;
    *size = file.len;
    file = BUF_INIT;
    return 0;
}
