/*
 * Opening a file: the fixed header, then one walk over the variable headers that notes where each one starts, then
 * the checks. Nothing is copied.
 */
#include "igvm_internal.h"

#include <inttypes.h>
#include <stdlib.h>

IGVM_EXPORT uint32_t igvm_checksum(const void *file, size_t size)
{
    static const uint8_t no_checksum[4];
    const uint8_t *data = file;
    if (size < sizeof(IGVM_FIXED_HEADER))
        return 0;
    uint32_t fixed = load_le32(data + 4) == IGVM_FORMAT_VERSION_2 ? sizeof(IGVM_FIXED_HEADER_V2)
                                                                  : sizeof(IGVM_FIXED_HEADER);
    uint32_t start = load_le32(data + 8), len = load_le32(data + 12);
    if (size < fixed || !range_within(start, len, size))
        return 0;
    uint32_t crc = igvm_crc32(0, data, 20);
    crc = igvm_crc32(crc, no_checksum, sizeof(no_checksum));
    crc = igvm_crc32(crc, data + 24, fixed - 24);
    return igvm_crc32(crc, data + start, len);
}

/** check_fixed_header() - fill @file from it. Returns false if the variable headers cannot be found. */
static bool check_fixed_header(struct igvm_file *file, struct igvm_reporter *reporter)
{
    const uint8_t *data = file->data;
    if (file->size < sizeof(IGVM_FIXED_HEADER) || load_le32(data) != IGVM_MAGIC_VALUE) {
        igvm_report(reporter, NULL, IGVMAPI_INVALID_FIXED_HEADER,
                    "not an IGVM file: it does not start with the 24-byte header with \"IGVM\"");
        return false;
    }
    file->version = load_le32(data + 4);
    file->fixed_size = sizeof(IGVM_FIXED_HEADER);
    file->page_size = IGVM_PAGE_SIZE_4K;
    if (file->version == IGVM_FORMAT_VERSION_2)
        file->fixed_size = sizeof(IGVM_FIXED_HEADER_V2);
    else if (file->version != IGVM_FORMAT_VERSION_1) {
        igvm_report(reporter, NULL, IGVMAPI_INVALID_FIXED_HEADER,
                    "format version %" PRIu32 "; versions 1 and 2 are known", file->version);
        return false;
    }
    uint32_t var_offset = load_le32(data + 8), var_size = load_le32(data + 12);
    uint32_t total = load_le32(data + 16);
    if (total != file->size)
        igvm_report(reporter, NULL, IGVMAPI_INVALID_FIXED_HEADER,
                    "total_file_size is %" PRIu32 " but the file has %zu bytes", total, file->size);
    uint64_t var_end = (uint64_t)var_offset + var_size;
    if (var_offset < file->fixed_size || var_end > file->size || file->size < file->fixed_size) {
        igvm_report(reporter, NULL, IGVMAPI_INVALID_FIXED_HEADER,
                    "variable headers at 0x%" PRIx32 ", length 0x%" PRIx32
                    ", do not lie between the fixed header and the end of the file",
                    var_offset, var_size);
        return false;
    }
    if (!is_aligned(var_offset, 8)) {
        igvm_report(reporter, NULL, IGVMAPI_INVALID_FIXED_HEADER,
                    "variable_header_offset 0x%" PRIx32 " is not a multiple of 8", var_offset);
        return false;
    }
    if (file->version == IGVM_FORMAT_VERSION_2) {
        file->architecture = load_le32(data + 24);
        file->page_size = load_le32(data + 28);
        if (file->architecture > IGVM_ARCHITECTURE_AARCH64)
            igvm_report(reporter, NULL, IGVMAPI_INVALID_FIXED_HEADER,
                        "architecture %" PRIu32 "; 0 (x64) and 1 (AArch64) are known",
                        file->architecture);
        if (file->page_size != IGVM_PAGE_SIZE_4K) {
            igvm_report(reporter, NULL, IGVMAPI_UNSUPPORTED_PAGE_SIZE,
                        "page_size is %" PRIu32 "; only 4096 is supported", file->page_size);
            file->page_size = IGVM_PAGE_SIZE_4K;
        }
    }
    file->var_start = var_offset;
    file->var_end = (uint32_t)var_end;

    uint32_t crc = igvm_checksum(data, file->size);
    if (crc != load_le32(data + 20))
        igvm_report(reporter, NULL, IGVMAPI_INVALID_CHECKSUM,
                    "checksum is 0x%08" PRIx32 " but the headers' CRC-32 is 0x%08" PRIx32,
                    load_le32(data + 20), crc);
    return true;
}

/** header_end() - where the header at @at ends, padding included; 0 if it does not fit below @limit. */
static uint32_t header_end(const uint8_t *data, uint32_t at, uint32_t limit)
{
    if (limit - at < IGVM_VLH_SIZE)
        return 0;
    uint64_t end = at + IGVM_VLH_SIZE + align_up(load_le32(data + at + 4), 8);
    return end > limit ? 0 : (uint32_t)end;
}

/** index_headers() - note where each header starts, and which platforms there are. Returns 0 or an IgvmResult. */
static IgvmResult index_headers(struct igvm_file *file, struct igvm_reporter *reporter)
{
    uint32_t n = 0, at = file->var_start, end;
    for (; at < file->var_end && (end = header_end(file->data, at, file->var_end)); at = end)
        n++;
    bool truncated = at < file->var_end;
    file->offsets = malloc((n ? n : 1) * sizeof(*file->offsets));
    if (!file->offsets)
        return IGVMAPI_TOTAL_FILE_SIZE_TOO_LARGE;
    at = file->var_start;
    for (uint32_t i = 0; i < n; i++) {
        file->offsets[i] = at;
        at = header_end(file->data, at, file->var_end);
    }
    file->n = n;
    if (truncated) {
        struct igvm_header header = {.number = n + 1, .offset = at};
        if (file->var_end - at >= IGVM_VLH_SIZE) {
            header.type = load_le32(file->data + at);
            header.length = load_le32(file->data + at + 4);
        }
        igvm_report(reporter, &header, IGVMAPI_INVALID_BINARY_VARIABLE_HEADER_SECTION,
                    "%" PRIu32 " bytes are left in the variable headers, too few for it",
                    file->var_end - at);
    }
    return IGVMAPI_OK;
}

/** note_platforms() - so that masks can be told apart before they are checked. */
static void note_platforms(struct igvm_file *file)
{
    for (uint32_t i = 0; i < file->n; i++) {
        struct igvm_header header = igvm_at(file, i);
        if (header.type != IGVM_VHT_SUPPORTED_PLATFORM || header.length != 16)
            continue;
        uint8_t platform = header.payload[5];
        if (platform < IGVM_PLATFORMS && file->masks[platform] == 0)
            file->masks[platform] = load_le32(header.payload);
        file->declared |= load_le32(header.payload);
    }
}

IGVM_EXPORT IgvmResult igvm_file_open(const void *data, size_t size, igvm_finding_fn *report,
                                      void *opaque, struct igvm_file **result)
{
    *result = NULL;
    if (!data)
        return IGVMAPI_INVALID_PARAMETER;
    struct igvm_reporter reporter = {.fn = report, .opaque = opaque};
    if (size > UINT32_MAX) {
        igvm_report(&reporter, NULL, IGVMAPI_TOTAL_FILE_SIZE_TOO_LARGE,
                    "the file has %zu bytes; 32-bit offsets end at 4 GiB", size);
        return reporter.first;
    }
    struct igvm_file *file = calloc(1, sizeof(*file));
    if (!file)
        return IGVMAPI_TOTAL_FILE_SIZE_TOO_LARGE;
    file->data = data;
    file->size = size;
    if (check_fixed_header(file, &reporter)) {
        IgvmResult code = index_headers(file, &reporter);
        if (code == IGVMAPI_OK) {
            note_platforms(file);
            for (uint32_t i = 0; i < file->n; i++) {
                struct igvm_header header = igvm_at(file, i);
                igvm_check_header(file, &header, &reporter);
            }
            if (!igvm_check_file(file, &reporter))
                code = IGVMAPI_TOTAL_FILE_SIZE_TOO_LARGE;
        }
        if (code != IGVMAPI_OK)
            reporter.first = code;
    }
    igvm_report_rest(&reporter);
    if (reporter.first == IGVMAPI_OK)
        *result = file;
    else
        igvm_file_close(file);
    return reporter.first;
}

IGVM_EXPORT void igvm_file_close(struct igvm_file *file)
{
    if (!file)
        return;
    free(file->offsets);
    free(file);
}

IGVM_EXPORT uint32_t igvm_file_version(const struct igvm_file *file)
{
    return file->version;
}

IGVM_EXPORT IgvmArchitecture igvm_file_architecture(const struct igvm_file *file)
{
    return file->architecture;
}

IGVM_EXPORT uint32_t igvm_file_page_size(const struct igvm_file *file)
{
    return file->page_size;
}

IGVM_EXPORT uint32_t igvm_file_count(const struct igvm_file *file)
{
    return file->n;
}

IGVM_EXPORT bool igvm_file_header(const struct igvm_file *file, uint32_t number,
                                  struct igvm_header *header)
{
    if (number == 0 || number > file->n)
        return false;
    *header = igvm_at(file, number - 1);
    return true;
}

uint64_t igvm_data_length(const struct igvm_file *file, const struct igvm_header *header)
{
    const uint8_t *p = header->payload;
    switch (header->type) {
    case IGVM_VHT_PARAMETER_AREA:
        return load_le64(p);
    case IGVM_VHT_PAGE_DATA:
        return (load_le32(p + 16) & 1) ? IGVM_X64_LARGE_PAGE_SIZE : IGVM_PAGE_SIZE_4K;
    case IGVM_VHT_CORIM_DOCUMENT:
    case IGVM_VHT_CORIM_SIGNATURE:
        return load_le32(p + 8);
    case IGVM_VHT_VP_CONTEXT: {
        uint32_t vbs = file->masks[IGVM_PLATFORM_TYPE_VSM_ISOLATION];
        if (!(load_le32(p + 8) & vbs))
            return IGVM_PAGE_SIZE_4K;
        uint32_t at = load_le32(p + 12);
        if (!range_within(at, sizeof(IgvmVbsVpContextHeader), file->size))
            return sizeof(IgvmVbsVpContextHeader);
        return sizeof(IgvmVbsVpContextHeader) +
               (uint64_t)load_le32(file->data + at) * sizeof(IgvmVbsVpContextRegister);
    }
    default:
        return 0;
    }
}

IGVM_EXPORT const uint8_t *igvm_file_data(const struct igvm_file *file,
                                          const struct igvm_header *header, uint64_t *len)
{
    *len = 0;
    const struct igvm_type_info *info = igvm_type_info(header->type);
    if (!info || info->data_at < 0 || header->length != info->size)
        return NULL;
    uint32_t at = load_le32(header->payload + info->data_at);
    uint64_t bytes = igvm_data_length(file, header);
    if (at == 0 || bytes == 0 || !range_within(at, bytes, file->size))
        return NULL;
    *len = bytes;
    return file->data + at;
}

IGVM_EXPORT uint32_t igvm_file_platform_mask(const struct igvm_file *file,
                                             IgvmPlatformType platform)
{
    return platform < IGVM_PLATFORMS ? file->masks[platform] : 0;
}

IGVM_EXPORT uint32_t igvm_header_mask(const struct igvm_header *header)
{
    const struct igvm_type_info *info = igvm_type_info(header->type);
    if (!info || info->mask_at < 0 || header->length != info->size)
        return UINT32_MAX;
    return load_le32(header->payload + info->mask_at);
}

IGVM_EXPORT bool igvm_next(const struct igvm_file *file, uint32_t mask, struct igvm_header *header)
{
    for (uint32_t i = header->number; i < file->n; i++) {
        struct igvm_header next = igvm_at(file, i);
        if (next.type & IGVM_VHT_OPTIONAL || next.type == IGVM_VHT_SUPPORTED_PLATFORM)
            continue;
        if (igvm_header_mask(&next) & mask) {
            *header = next;
            return true;
        }
    }
    return false;
}
