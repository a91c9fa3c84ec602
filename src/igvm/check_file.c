/* What several headers say together: order of sections, platforms, parameter areas, contexts, addresses. */
#include "igvm_internal.h"

#include <inttypes.h>
#include <stdlib.h>

#define VP_INDEXES 65536u
/* More than any machine has processors; what they point to may overlap, so without a bound time is not linear. */
#define CONTEXTS_MAX (4 * VP_INDEXES)

#define BLOCK ((size_t)64) /* areas that are looked through together */

struct check {
    const struct igvm_file *file;
    struct igvm_reporter *reporter;
    struct igvm_range *areas; /* parameter areas, by their index in the place of the address */
    uint32_t *indexes;        /* of areas[], close together: they are searched often */
    uint32_t *block_ends;     /* of indexes[], the last of each block */
    size_t n_areas;
    uint8_t *inserted; /* one bit a header: whether the area it made has been inserted */
    uint8_t
        *duplicate; /* one bit a header: whether it makes an area whose index was taken before */
    struct igvm_range *pages; /* what is loaded */
    size_t n_pages;
    struct igvm_range *regions; /* what can be relocated */
    size_t n_regions;
    struct igvm_range tables[32]; /* page tables: at most one for each bit of a mask */
    size_t n_tables;
    uint8_t *contexts; /* one bit a vp_index, for each mask bit that is declared */
    uint32_t n_contexts;
    uint32_t policies, id_blocks, page_tables, documents, signatures; /* masks seen */
};

static bool loads_memory(uint32_t type)
{
    return type == IGVM_VHT_PAGE_DATA || type == IGVM_VHT_PARAMETER_INSERT ||
           type == IGVM_VHT_ERROR_RANGE;
}

static bool relocates(uint32_t type)
{
    return type == IGVM_VHT_RELOCATABLE_REGION || type == IGVM_VHT_PAGE_TABLE_RELOCATION_REGION;
}

/** well_formed() - whether @h is of a known type and length, so that its fields can be read. */
static bool well_formed(const struct igvm_header *h)
{
    const struct igvm_type_info *info = igvm_type_info(h->type);
    return info && info->size == h->length;
}

static bool get_bit(const uint8_t *bits, uint32_t number)
{
    return bits[number / 8] & BIT(number % 8);
}

static void set_bit(uint8_t *bits, uint32_t number)
{
    bits[number / 8] |= (uint8_t)BIT(number % 8);
}

/** lower_bound() - how many of the @n sorted numbers are below @index. */
static size_t lower_bound(const uint32_t *sorted, size_t n, uint32_t index)
{
    size_t low = 0;
    while (n > 0) {
        size_t half = (n + 1) / 2;
        low += sorted[low + half - 1] < index ? half : 0;
        n -= half;
    }
    return low;
}

/** find_area() - the first PARAMETER_AREA of the file with @index, NULL if there is none. */
static const struct igvm_range *find_area(const struct check *c, uint32_t index)
{
    /* The last index of each block first: they stay in the processor's cache however many areas there are. */
    size_t start = lower_bound(c->block_ends, c->n_areas / BLOCK, index) * BLOCK;
    size_t at = start + lower_bound(c->indexes + start, MIN(c->n_areas - start, BLOCK), index);
    return at < c->n_areas && c->indexes[at] == index ? &c->areas[at] : NULL;
}

/** index_areas() - so that they are found by index. A hash could be made to collide by who wrote the file. */
static bool index_areas(struct check *c)
{
    for (uint32_t i = 0; i < c->file->n; i++) {
        struct igvm_header h = igvm_at(c->file, i);
        if (h.type == IGVM_VHT_PARAMETER_AREA && well_formed(&h))
            c->areas[c->n_areas++] =
                (struct igvm_range){load_le32(h.payload + 8), load_le64(h.payload), i, 0};
    }
    if (!igvm_sort_ranges(c->areas, c->n_areas))
        return false;
    for (size_t i = 0; i < c->n_areas; i++) {
        c->indexes[i] = (uint32_t)c->areas[i].gpa;
        if (i > 0 && c->indexes[i] == c->indexes[i - 1])
            set_bit(c->duplicate, c->areas[i].header);
        if (i % BLOCK == BLOCK - 1)
            c->block_ends[i / BLOCK] = c->indexes[i];
    }
    return true;
}

static bool allocate(struct check *c)
{
    size_t pages = 0, regions = 0, areas = 0;
    for (uint32_t i = 0; i < c->file->n; i++) {
        uint32_t type = load_le32(c->file->data + c->file->offsets[i]);
        pages += loads_memory(type);
        regions += relocates(type);
        areas += type == IGVM_VHT_PARAMETER_AREA;
    }
    c->areas = calloc(areas + 1, sizeof(*c->areas));
    c->indexes = calloc(areas + 1, sizeof(*c->indexes));
    c->block_ends = calloc(areas / BLOCK + 1, sizeof(*c->block_ends));
    c->inserted = calloc(c->file->n / 8 + 1, 1);
    c->duplicate = calloc(c->file->n / 8 + 1, 1);
    c->pages = calloc(pages + 1, sizeof(*c->pages));
    c->regions = calloc(regions + 1, sizeof(*c->regions));
    c->contexts = calloc(32, VP_INDEXES / 8);
    return c->areas && c->indexes && c->block_ends && c->inserted && c->duplicate && c->pages &&
           c->regions && c->contexts;
}

static void release(struct check *c)
{
    free(c->areas);
    free(c->indexes);
    free(c->block_ends);
    free(c->inserted);
    free(c->duplicate);
    free(c->pages);
    free(c->regions);
    free(c->contexts);
}

/** check_sections() - platforms, then initialization, then directives. */
static void check_sections(const struct check *c)
{
    int section = IGVM_HEADER_SECTION_PLATFORM;
    for (uint32_t i = 0; i < c->file->n; i++) {
        struct igvm_header h = igvm_at(c->file, i);
        int own = igvm_type_section(h.type);
        if (own < 0)
            continue;
        if (own < section)
            igvm_report(c->reporter, &h, IGVMAPI_INVALID_BINARY_VARIABLE_HEADER_SECTION,
                        "a %s header cannot follow %s headers",
                        own == IGVM_HEADER_SECTION_PLATFORM ? "platform" : "initialization",
                        section == IGVM_HEADER_SECTION_DIRECTIVE ? "directive" : "initialization");
        else
            section = own;
    }
}

static void check_platforms(const struct check *c)
{
    uint32_t types = 0, masks = 0;
    bool any = false;
    for (uint32_t i = 0; i < c->file->n; i++) {
        struct igvm_header h = igvm_at(c->file, i);
        if (h.type != IGVM_VHT_SUPPORTED_PLATFORM || !well_formed(&h))
            continue;
        any = true;
        uint32_t mask = load_le32(h.payload);
        uint8_t platform = h.payload[5];
        if (platform < IGVM_PLATFORMS && types & BIT(platform))
            igvm_report(c->reporter, &h, IGVMAPI_MULTIPLE_PLATFORM_HEADERS_WITH_SAME_ISOLATION,
                        "platform %s is in the file already", igvm_platform_name(platform));
        else if (masks & mask)
            igvm_report(c->reporter, &h, IGVMAPI_INVALID_BINARY_PLATFORM_HEADER,
                        "compatibility_mask 0x%" PRIx32 " belongs to another platform already",
                        mask);
        if (platform < IGVM_PLATFORMS)
            types |= BIT(platform);
        masks |= mask;
    }
    if (!any)
        igvm_report(c->reporter, NULL, IGVMAPI_NO_PLATFORM_HEADERS,
                    "there is no SUPPORTED_PLATFORM header");
}

/** once() - report if @h's platforms have had such a header before. */
static void once(const struct check *c, const struct igvm_header *h, uint32_t *seen,
                 IgvmResult code)
{
    uint32_t mask = igvm_header_mask(h);
    if (*seen & mask)
        igvm_report(c->reporter, h, code, "a second %s for platform mask 0x%" PRIx32,
                    igvm_type_name(h->type), *seen & mask);
    *seen |= mask;
}

static void check_area(const struct check *c, const struct igvm_header *h)
{
    uint32_t index = load_le32(h->payload + 8);
    const struct igvm_range *first = find_area(c, index);
    if (first && get_bit(c->duplicate, h->number - 1) &&
        !igvm_report_counted(c->reporter, IGVMAPI_INVALID_PARAMETER_AREA_INDEX))
        igvm_report(c->reporter, h, IGVMAPI_INVALID_PARAMETER_AREA_INDEX,
                    "parameter_area_index %" PRIu32 " was taken by header %" PRIu32, index,
                    first->header + 1);
}

/** usable_area() - area @index; NULL and a report if @h cannot use it. */
static const struct igvm_range *usable_area(const struct check *c, const struct igvm_header *h,
                                            uint32_t index)
{
    const struct igvm_range *area = find_area(c, index);
    if (!area || area->header >= h->number)
        igvm_report(c->reporter, h, IGVMAPI_INVALID_PARAMETER_AREA_INDEX,
                    "parameter_area_index %" PRIu32 " has no PARAMETER_AREA before it", index);
    else if (get_bit(c->inserted, area->header))
        igvm_report(c->reporter, h, IGVMAPI_INVALID_PARAMETER_AREA_INDEX,
                    "parameter_area_index %" PRIu32 " has been inserted already", index);
    else
        return area;
    return NULL;
}

static void check_parameter(struct check *c, const struct igvm_header *h)
{
    const struct igvm_range *area = usable_area(c, h, load_le32(h->payload));
    if (!area)
        return;
    uint32_t least = 1;
    if (h->type == IGVM_VHT_VP_COUNT_PARAMETER || h->type == IGVM_VHT_ENVIRONMENT_INFO_PARAMETER)
        least = 4;
    else if (h->type == IGVM_VHT_MMIO_RANGES)
        least = sizeof(IGVM_VHS_MMIO_RANGES);
    uint32_t at = load_le32(h->payload + 4);
    if (!range_within(at, least, area->bytes))
        igvm_report(c->reporter, h, IGVMAPI_INVALID_BINARY_DIRECTIVE_HEADER,
                    "byte_offset 0x%" PRIx32 " leaves no room for %" PRIu32
                    " bytes in its area of 0x%" PRIx64,
                    at, least, area->bytes);
}

static void add_range(const struct igvm_file *file, struct igvm_range *ranges, size_t *n,
                      const struct igvm_header *h, uint64_t gpa, uint64_t bytes)
{
    /* What does not lie in the address space has been reported; it must not wrap here. */
    if (range_within(gpa, bytes, BIT64(52)))
        ranges[(*n)++] =
            (struct igvm_range){gpa, bytes, h->number - 1, igvm_header_mask(h) & file->declared};
}

static void check_insert(struct check *c, const struct igvm_header *h)
{
    const struct igvm_range *area = usable_area(c, h, load_le32(h->payload + 12));
    if (!area)
        return;
    set_bit(c->inserted, area->header);
    uint64_t gpa = load_le64(h->payload), bytes = area->bytes;
    if (!range_within(gpa, bytes, BIT64(52)))
        igvm_report(c->reporter, h, IGVMAPI_INVALID_BINARY_DIRECTIVE_HEADER,
                    "gpa 0x%" PRIx64 " and its area of 0x%" PRIx64
                    " bytes lie beyond 52 bits of address",
                    gpa, bytes);
    add_range(c->file, c->pages, &c->n_pages, h, gpa, bytes);
    for (size_t i = 0; i < c->n_tables; i++) {
        const struct igvm_range *table = &c->tables[i];
        if (table->mask & igvm_header_mask(h) && gpa < table->gpa + table->bytes &&
            (table->gpa < gpa || table->gpa - gpa < bytes))
            igvm_report(c->reporter, h, IGVMAPI_PARAMETER_INSERT_INSIDE_PAGE_TABLE_REGION,
                        "gpa 0x%" PRIx64 " lies in the page table region of header %" PRIu32, gpa,
                        table->header + 1);
    }
}

static void check_context_index(struct check *c, const struct igvm_header *h)
{
    uint16_t index = load_le16(h->payload + offsetof(IGVM_VHS_VP_CONTEXT, vp_index));
    bool told = false;
    for (uint32_t bits = igvm_header_mask(h) & c->file->declared; bits; bits &= bits - 1) {
        unsigned bit = (unsigned)__builtin_ctz(bits);
        uint8_t *seen = &c->contexts[bit * (VP_INDEXES / 8) + index / 8];
        /* VBS has a context for each VTL of a processor. */
        bool vbs = c->file->masks[IGVM_PLATFORM_TYPE_VSM_ISOLATION] == 1u << bit;
        if (*seen & BIT(index % 8) && !told && !vbs) {
            igvm_report(c->reporter, h, IGVMAPI_INVALID_BINARY_DIRECTIVE_HEADER,
                        "a second context for vp_index %u on platform mask 0x%" PRIx32, index,
                        1u << bit);
            told = true;
        }
        *seen |= (uint8_t)BIT(index % 8);
    }
}

static void check_context(struct check *c, const struct igvm_header *h)
{
    check_context_index(c, h);
    uint64_t len;
    if (++c->n_contexts == CONTEXTS_MAX)
        igvm_report(c->reporter, h, IGVMAPI_INVALID_BINARY_DIRECTIVE_HEADER,
                    "there are more than %u VP_CONTEXT headers", CONTEXTS_MAX);
    if (c->n_contexts < CONTEXTS_MAX && igvm_file_data(c->file, h, &len))
        igvm_check_vp_context(c->file, h, c->reporter);
}

/** check_region_contexts() - a region's registers belong to a processor that has a context. */
static void check_region_contexts(const struct check *c)
{
    for (size_t i = 0; i < c->n_regions; i++) {
        struct igvm_header h = igvm_at(c->file, c->regions[i].header);
        uint16_t index = load_le16(h.payload + 4);
        for (uint32_t bits = c->regions[i].mask; bits; bits &= bits - 1) {
            unsigned bit = (unsigned)__builtin_ctz(bits);
            if (c->contexts[bit * (VP_INDEXES / 8) + index / 8] & BIT(index % 8))
                continue;
            igvm_report(c->reporter, &h, IGVMAPI_NO_MATCHING_VP_CONTEXT,
                        "vp_index %u has no VP_CONTEXT on platform mask 0x%" PRIx32, index,
                        1u << bit);
            break;
        }
    }
}

static void check_signature(const struct check *c, const struct igvm_header *h)
{
    uint32_t missing = igvm_header_mask(h) & ~c->documents;
    if (missing)
        igvm_report(c->reporter, h, IGVMAPI_INVALID_BINARY_INITIALIZATION_HEADER,
                    "no CORIM_DOCUMENT stands before it for platform mask 0x%" PRIx32, missing);
}

static void check_one(struct check *c, const struct igvm_header *h)
{
    const uint8_t *p = h->payload;
    switch (h->type) {
    case IGVM_VHT_GUEST_POLICY:
        once(c, h, &c->policies, IGVMAPI_INVALID_BINARY_INITIALIZATION_HEADER);
        break;
    case IGVM_VHT_RELOCATABLE_REGION:
        add_range(c->file, c->regions, &c->n_regions, h, load_le64(p + 16), load_le64(p + 24));
        break;
    case IGVM_VHT_PAGE_TABLE_RELOCATION_REGION:
        if (igvm_header_mask(h) & c->file->declared & ~c->page_tables)
            add_range(c->file, c->tables, &c->n_tables, h, load_le64(p + 8), load_le64(p + 16));
        once(c, h, &c->page_tables, IGVMAPI_MULTIPLE_PAGE_TABLE_RELOCATION_HEADERS);
        add_range(c->file, c->regions, &c->n_regions, h, load_le64(p + 8), load_le64(p + 16));
        break;
    case IGVM_VHT_CORIM_DOCUMENT:
        once(c, h, &c->documents, IGVMAPI_INVALID_BINARY_INITIALIZATION_HEADER);
        break;
    case IGVM_VHT_CORIM_SIGNATURE:
        once(c, h, &c->signatures, IGVMAPI_INVALID_BINARY_INITIALIZATION_HEADER);
        check_signature(c, h);
        break;
    case IGVM_VHT_PARAMETER_AREA:
        check_area(c, h);
        break;
    case IGVM_VHT_PAGE_DATA:
        add_range(c->file, c->pages, &c->n_pages, h, load_le64(p), igvm_data_length(c->file, h));
        break;
    case IGVM_VHT_PARAMETER_INSERT:
        check_insert(c, h);
        break;
    case IGVM_VHT_VP_CONTEXT:
        check_context(c, h);
        break;
    case IGVM_VHT_ERROR_RANGE:
        add_range(c->file, c->pages, &c->n_pages, h, load_le64(p), load_le32(p + 12));
        break;
    case IGVM_VHT_SNP_ID_BLOCK:
        once(c, h, &c->id_blocks, IGVMAPI_INVALID_BINARY_DIRECTIVE_HEADER);
        break;
    default:
        if (igvm_type_info(h->type)->size == sizeof(IGVM_VHS_PARAMETER))
            check_parameter(c, h);
        break;
    }
}

bool igvm_check_file(const struct igvm_file *file, struct igvm_reporter *reporter)
{
    struct check c = {.file = file, .reporter = reporter};
    bool done = allocate(&c) && index_areas(&c);
    if (done) {
        check_sections(&c);
        check_platforms(&c);
        for (uint32_t i = 0; i < file->n; i++) {
            struct igvm_header h = igvm_at(file, i);
            if (well_formed(&h))
                check_one(&c, &h);
        }
        done = igvm_check_ranges(file, c.pages, c.n_pages, IGVMAPI_INVALID_BINARY_DIRECTIVE_HEADER,
                                 reporter);
        check_region_contexts(&c);
        done = igvm_check_ranges(file, c.regions, c.n_regions, IGVMAPI_RELOCATION_REGIONS_OVERLAP,
                                 reporter) &&
               done;
    }
    release(&c);
    return done;
}
