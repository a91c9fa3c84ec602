#include "snp/firmware.h"

#include "base/bytes.h"
#include "snp/guid.h"

#include <errno.h>
#include <inttypes.h>

/* The table ends 32 bytes below the end of the image: there the reset vector's code begins. */
#define TABLE_END_OFFSET 32
#define ENTRY_TAIL (2 + GUID_BYTES) /* each entry ends with its length and its GUID */

static const uint8_t footer_guid[] =
    GUID(0x96b582de, 0x1fb2, 0x45f7, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d);
static const uint8_t reset_guid[] =
    GUID(0x00f771de, 0x1a7e, 0x4fcb, 0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e);
static const uint8_t hashes_guid[] =
    GUID(0x7255371f, 0x3a3b, 0x4b04, 0x92, 0x7b, 0x1d, 0xa6, 0xef, 0xa8, 0xd4, 0x54);
static const uint8_t metadata_guid[] =
    GUID(0xdc886566, 0x984a, 0x4798, 0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc);
static const uint8_t igvm_guid[] =
    GUID(0x784fa70e, 0x3176, 0x4677, 0x8a, 0x20, 0x04, 0xb6, 0x86, 0x99, 0xe3, 0x74);

#define METADATA_HEADER 16 /* signature, length, version, number of entries */
#define METADATA_ENTRY 12  /* base, length, type */
#define METADATA_VERSION 1

#define IGVM_PARAMETER_AREA 0x100
#define IGVM_MEMORY_MAP 0x101
#define IGVM_VP_COUNT 0x102

const char *firmware_section_name(uint32_t type)
{
    switch (type) {
    case FIRMWARE_SEC_MEM:
        return "SEC_MEM";
    case FIRMWARE_SECRETS:
        return "SECRETS";
    case FIRMWARE_CPUID:
        return "CPUID";
    case FIRMWARE_SVSM_CAA:
        return "SVSM_CAA";
    case FIRMWARE_KERNEL_HASHES:
        return "KERNEL_HASHES";
    default:
        return "unknown";
    }
}

/**
 * metadata_list() - the entries of a list that lies @offset bytes before the end of the image.
 * @n: how many there are.
 *
 * Return: the first entry, NULL with @err filled if the list is not whole.
 */
static const uint8_t *metadata_list(const struct firmware *fw, uint32_t offset,
                                    const char signature[4], uint32_t *n, struct error *err)
{
    if (offset > fw->size || offset < METADATA_HEADER ||
        memcmp(fw->data + fw->size - offset, signature, 4) != 0) {
        error_set(err, -EINVAL,
                  "the firmware's %.4s metadata is not where its table says: 0x%" PRIx32
                  " bytes before its end",
                  signature, offset);
        return NULL;
    }
    const uint8_t *list = fw->data + fw->size - offset;
    uint32_t len = load_le32(list + 4), version = load_le32(list + 8);
    *n = load_le32(list + 12);
    if (version != METADATA_VERSION) {
        error_set(err, -EINVAL,
                  "the firmware's %.4s metadata has version %" PRIu32 ", only 1 is known",
                  signature, version);
        return NULL;
    }
    if (*n > FIRMWARE_SECTIONS_MAX ||
        METADATA_HEADER + (uint64_t)*n * METADATA_ENTRY > MIN(len, offset)) {
        error_set(err, -EINVAL,
                  "the firmware's %.4s metadata claims %" PRIu32 " entries in 0x%" PRIx32 " bytes",
                  signature, *n, MIN(len, offset));
        return NULL;
    }
    return list + METADATA_HEADER;
}

/** find_overlap() - a section that shares memory with @section, or NULL. */
static const struct firmware_section *find_overlap(const struct firmware *fw,
                                                   const struct firmware_section *section)
{
    for (size_t i = 0; i < fw->n_sections; i++) {
        const struct firmware_section *s = &fw->sections[i];
        if (s->gpa < section->gpa + (uint64_t)section->len &&
            section->gpa < s->gpa + (uint64_t)s->len)
            return s;
    }
    return NULL;
}

static int read_sections(struct firmware *fw, uint32_t offset, struct error *err)
{
    uint32_t n;
    const uint8_t *entry = metadata_list(fw, offset, "ASEV", &n, err);
    if (!entry)
        return -EINVAL;
    fw->has_metadata = true;
    for (uint32_t i = 0; i < n; i++, entry += METADATA_ENTRY) {
        struct firmware_section section = {
            .gpa = load_le32(entry), .len = load_le32(entry + 4), .type = load_le32(entry + 8)};
        if (strcmp(firmware_section_name(section.type), "unknown") == 0)
            return error_set(err, -EINVAL,
                             "section %" PRIu32 " of the firmware's SEV metadata has "
                             "type 0x%" PRIx32 ", which is not known",
                             i, section.type);
        if (!is_aligned(section.gpa, PAGE_BYTES) || !is_aligned(section.len, PAGE_BYTES) ||
            section.len == 0 || !range_within(section.gpa, section.len, FIRMWARE_END))
            return error_set(err, -EINVAL,
                             "section %" PRIu32 " of the firmware's SEV metadata, 0x%" PRIx32
                             " bytes at 0x%" PRIx32 ", is not whole pages below 4 GiB",
                             i, section.len, section.gpa);
        const struct firmware_section *other = find_overlap(fw, &section);
        if (other)
            return error_set(err, -EINVAL,
                             "section %" PRIu32 " of the firmware's SEV metadata, at 0x%" PRIx32
                             ", overlaps the one at 0x%" PRIx32,
                             i, section.gpa, other->gpa);
        fw->sections[fw->n_sections++] = section;
    }
    return 0;
}

static int read_igvm(struct firmware *fw, uint32_t offset, struct error *err)
{
    uint32_t n;
    const uint8_t *entry = metadata_list(fw, offset, "IGVM", &n, err);
    if (!entry)
        return -EINVAL;
    bool map = false, count = false;
    for (uint32_t i = 0; i < n; i++, entry += METADATA_ENTRY) {
        uint32_t base = load_le32(entry), len = load_le32(entry + 4);
        switch (load_le32(entry + 8)) {
        case IGVM_PARAMETER_AREA:
            fw->parameter_gpa = base;
            fw->parameter_len = len;
            break;
        case IGVM_MEMORY_MAP:
            fw->memory_map_offset = base;
            map = true;
            break;
        case IGVM_VP_COUNT:
            fw->vp_count_offset = base;
            count = true;
            break;
        default:
            break; /* what a builder may fill, and need not */
        }
    }
    fw->has_igvm = map && count && fw->parameter_len != 0;
    if (fw->has_igvm &&
        (!is_aligned(fw->parameter_gpa, PAGE_BYTES) || !is_aligned(fw->parameter_len, PAGE_BYTES) ||
         fw->memory_map_offset >= fw->parameter_len || fw->vp_count_offset > fw->parameter_len - 4))
        return error_set(err, -EINVAL,
                         "the firmware's IGVM parameter area is not whole pages, or "
                         "its parameters lie outside of it");
    return 0;
}

/** read_entry() - one entry of the GUIDed table, its @len bytes of contents in front of length and GUID. */
static int read_entry(struct firmware *fw, const uint8_t *guid, const uint8_t *contents, size_t len,
                      struct error *err)
{
    if (memcmp(guid, reset_guid, GUID_BYTES) == 0 && len >= 4)
        fw->ap_address = load_le32(contents);
    else if (memcmp(guid, metadata_guid, GUID_BYTES) == 0 && len >= 4 && !fw->has_metadata)
        return read_sections(fw, load_le32(contents), err);
    else if (memcmp(guid, igvm_guid, GUID_BYTES) == 0 && len >= 4)
        return read_igvm(fw, load_le32(contents), err);
    else if (memcmp(guid, hashes_guid, GUID_BYTES) == 0 && len >= 8) {
        fw->hashes_gpa = load_le32(contents);
        fw->hashes_len = load_le32(contents + 4);
    }
    return 0;
}

int firmware_read(struct firmware *fw, const void *data, size_t size, struct error *err)
{
    *fw = (struct firmware){.data = data, .size = size, .gpa = FIRMWARE_END - size};
    if (size == 0 || size > FIRMWARE_BYTES_MAX || !is_aligned(size, PAGE_BYTES))
        return error_set(err, -EINVAL,
                         "a firmware image is 4 KiB to 64 MiB of whole pages, not %zu "
                         "bytes",
                         size);
    size_t end = size - TABLE_END_OFFSET;
    if (memcmp(fw->data + end - GUID_BYTES, footer_guid, GUID_BYTES) != 0)
        return 0;
    size_t total = load_le16(fw->data + end - ENTRY_TAIL);
    if (total < ENTRY_TAIL || total > end)
        return error_set(err, -EINVAL, "the firmware's GUIDed table claims %zu bytes", total);
    size_t start = end - total;
    end -= ENTRY_TAIL;
    while (end - start >= ENTRY_TAIL) {
        size_t len = load_le16(fw->data + end - ENTRY_TAIL);
        if (len < ENTRY_TAIL || len > end - start)
            return error_set(err, -EINVAL,
                             "an entry of the firmware's GUIDed table, 0x%zx bytes "
                             "before its end, claims %zu bytes",
                             size - end, len);
        int r = read_entry(fw, fw->data + end - GUID_BYTES, fw->data + end - len, len - ENTRY_TAIL,
                           err);
        if (r < 0)
            return r;
        end -= len;
    }
    return 0;
}
