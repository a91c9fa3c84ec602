/* SMBIOS 3.0 tables (DMTF DSP0134, version 3.0): what dmidecode shows in the guest, and where cloud images look for
 * their instance data and systemd for its credentials (OEM strings).
 */
#include "x86/boot.h"
#include "x86/layout.h"
#include "x86/tables.h"

#include "base/bytes.h"

#include <errno.h>
#include <inttypes.h>

#define STRINGS_MAX 255 /* they are numbered in a byte */

enum { HANDLE_MEMORY_ARRAY = 0x1000 };

/* A structure that is being written: its fixed part is there already, its strings follow when it ends. */
struct record {
    struct buf *out;
    size_t start;
    const char *strings[STRINGS_MAX];
    uint8_t n;
};

/** begin() - a structure with @len bytes of zeros as its fixed part. */
static struct record begin(struct buf *out, uint8_t type, uint8_t len, uint16_t handle)
{
    struct record record = {.out = out, .start = out->len};
    uint8_t *fixed = buf_extend(out, len);
    if (fixed) {
        fixed[0] = type;
        fixed[1] = len;
        store_le16(fixed + 2, handle);
    }
    return record;
}

static void put(struct record *record, size_t offset, const void *bytes, size_t len)
{
    if (!buf_failed(record->out))
        memcpy(record->out->data + record->start + offset, bytes, len);
}

static void put8(struct record *record, size_t offset, uint8_t v)
{
    put(record, offset, &v, sizeof(v));
}

static void put16(struct record *record, size_t offset, uint16_t v)
{
    v = htole16(v);
    put(record, offset, &v, sizeof(v));
}

static void put32(struct record *record, size_t offset, uint32_t v)
{
    v = htole32(v);
    put(record, offset, &v, sizeof(v));
}

static void put64(struct record *record, size_t offset, uint64_t v)
{
    v = htole64(v);
    put(record, offset, &v, sizeof(v));
}

/** put_string() - the number of @text at @offset; 0, "not specified", for none. */
static void put_string(struct record *record, size_t offset, const char *text)
{
    if (!text || !*text || record->n == STRINGS_MAX)
        return;
    record->strings[record->n++] = text;
    put8(record, offset, record->n);
}

/** end() - the strings, each with its NUL, and a NUL more; two if there are none. */
static void end(struct record *record)
{
    for (unsigned i = 0; i < record->n; i++)
        buf_append(record->out, record->strings[i], strlen(record->strings[i]) + 1);
    buf_append(record->out, "\0", record->n ? 1 : 2);
}

static void add_bios(struct buf *out)
{
    struct record r = begin(out, 0, 0x18, 0x0000);
    put_string(&r, 0x04, "husk");
    put_string(&r, 0x05, "1");
    put_string(&r, 0x08,
               "01/01/2026");  /* Linux has quirks for firmware without a date, or an old one */
    put64(&r, 0x0a, BIT64(3)); /* characteristics are not supported */
    put8(&r, 0x13, BIT(4));    /* the table describes a virtual machine */
    put8(&r, 0x16, 0xff);      /* no embedded controller */
    put8(&r, 0x17, 0xff);
    end(&r);
}

static void add_system(struct buf *out, const struct smbios_in *in, const uint8_t uuid[16])
{
    struct record r = begin(out, 1, 0x1b, 0x0100);
    put_string(&r, 0x04, in->manufacturer ? in->manufacturer : "husk");
    put_string(&r, 0x05, in->product_name ? in->product_name : "husk");
    put_string(&r, 0x06, in->version);
    put_string(&r, 0x07, in->serial_number);
    put(&r, 0x08, uuid, 16);
    put8(&r, 0x18, 6); /* woken by the power switch */
    put_string(&r, 0x19, in->sku_number);
    put_string(&r, 0x1a, in->family);
    end(&r);
}

static void add_chassis(struct buf *out, const struct smbios_in *in)
{
    struct record r = begin(out, 3, 0x16, 0x0300);
    put_string(&r, 0x04, in->manufacturer ? in->manufacturer : "husk");
    put8(&r, 0x05, 1); /* type: other */
    put_string(&r, 0x08, in->chassis_asset_tag);
    put8(&r, 0x09, 3); /* boot-up, power supply and thermal state: safe */
    put8(&r, 0x0a, 3);
    put8(&r, 0x0b, 3);
    put8(&r, 0x0c, 2); /* security: unknown */
    end(&r);
}

static void add_processor(struct buf *out, const struct smbios_in *in)
{
    uint8_t count = (uint8_t)MIN(in->vcpus, 0xffu);
    struct record r = begin(out, 4, 0x30, 0x0400);
    put_string(&r, 0x04, "CPU 0");
    put8(&r, 0x05, 3);    /* central processor */
    put8(&r, 0x06, 1);    /* family: other */
    put8(&r, 0x18, 0x41); /* populated, enabled */
    put8(&r, 0x19, 1);    /* upgrade: other */
    for (size_t cache = 0x1a; cache <= 0x1e; cache += 2)
        put16(&r, cache, 0xffff); /* no cache information */
    for (size_t cores = 0x23; cores <= 0x25; cores++)
        put8(&r, cores, count); /* cores, enabled cores, threads */
    put16(&r, 0x26, BIT(2));    /* 64-bit capable */
    put16(&r, 0x28, 1);         /* family again, in 16 bits; then the counts */
    for (size_t cores = 0x2a; cores <= 0x2e; cores += 2)
        put16(&r, cores, (uint16_t)MIN(in->vcpus, 0xffffu));
    end(&r);
}

static void add_oem_strings(struct buf *out, const struct smbios_in *in)
{
    if (in->n_oem_strings == 0)
        return;
    struct record r = begin(out, 11, 5, 0x0b00);
    for (size_t i = 0; i < in->n_oem_strings; i++)
        put_string(&r, 0x04, in->oem_strings[i]); /* ends as their count */
    end(&r);
}

static void add_memory_array(struct buf *out, uint64_t ram_bytes)
{
    uint64_t kib = ram_bytes >> 10;
    struct record r = begin(out, 16, 0x17, HANDLE_MEMORY_ARRAY);
    put8(&r, 0x04, 1); /* location: other */
    put8(&r, 0x05, 3); /* use: system memory */
    put8(&r, 0x06, 3); /* no error correction */
    put32(&r, 0x07, kib < 0x80000000 ? (uint32_t)kib : 0x80000000);
    put16(&r, 0x0b, 0xfffe); /* no error information */
    put16(&r, 0x0d, 1);      /* devices */
    if (kib >= 0x80000000)
        put64(&r, 0x0f, ram_bytes);
    end(&r);
}

static void add_memory_device(struct buf *out, uint64_t ram_bytes)
{
    uint64_t mib = ram_bytes >> 20;
    struct record r = begin(out, 17, 0x28, 0x1100);
    put16(&r, 0x04, HANDLE_MEMORY_ARRAY);
    put16(&r, 0x06, 0xfffe);
    put16(&r, 0x08, 0xffff); /* widths: unknown */
    put16(&r, 0x0a, 0xffff);
    put16(&r, 0x0c, mib < 0x7fff ? (uint16_t)mib : 0x7fff);
    put8(&r, 0x0e, 9); /* DIMM */
    put_string(&r, 0x10, "DIMM 0");
    put8(&r, 0x12, 7);  /* RAM */
    put16(&r, 0x13, 2); /* detail: other */
    put_string(&r, 0x17, "husk");
    if (mib >= 0x7fff)
        put32(&r, 0x1c, (uint32_t)MIN(mib, 0x7fffffffu));
    end(&r);
}

/** add_mapped() - a range of RAM; 32-bit fields count KiB, and say so if that is not enough. */
static void add_mapped(struct buf *out, uint16_t handle, uint64_t base, uint64_t len)
{
    uint64_t last = base + len - 1;
    bool extended = last >> 10 >= UINT32_MAX;
    struct record r = begin(out, 19, 0x1f, handle);
    put32(&r, 0x04, extended ? UINT32_MAX : (uint32_t)(base >> 10));
    put32(&r, 0x08, extended ? UINT32_MAX : (uint32_t)(last >> 10));
    put16(&r, 0x0c, HANDLE_MEMORY_ARRAY);
    put8(&r, 0x0e, 1); /* one device a row */
    put64(&r, 0x0f, extended ? base : 0);
    put64(&r, 0x17, extended ? last : 0);
    end(&r);
}

static void add_memory(struct buf *out, uint64_t ram_bytes, uint64_t low)
{
    add_memory_array(out, ram_bytes);
    add_memory_device(out, ram_bytes);
    if (low)
        add_mapped(out, 0x1300, 0, low);
    if (ram_bytes > low)
        add_mapped(out, 0x1301, LAYOUT_HIGH_RAM_BASE, ram_bytes - low);
}

static void add_boot_status_and_end(struct buf *out)
{
    struct record r = begin(out, 32, 0x0b, 0x2000); /* status 0: no errors */
    end(&r);
    r = begin(out, 127, 4, 0x7f00);
    end(&r);
}

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/**
 * parse_uuid() - the text form; none is all zeros, "not present".
 * The first three fields are little-endian in SMBIOS (DSP0134, 7.2.1).
 */
static int parse_uuid(const char *text, uint8_t uuid[16], struct error *err)
{
    static const uint8_t order[16] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
    memset(uuid, 0, 16);
    if (!text)
        return 0;
    const char *at = text;
    for (unsigned i = 0; i < 16; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && *at++ != '-')
            goto bad;
        int high = hex_value(at[0]), low = high < 0 ? -1 : hex_value(at[1]);
        if (low < 0)
            goto bad;
        uuid[order[i]] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    if (*at == '\0')
        return 0;
bad:
    error_set(err, -EINVAL, "'%s' is not a UUID", text);
    return error_hint(err, "a UUID looks like 01234567-89ab-cdef-0123-456789abcdef");
}

/** check_text() - a string must be of printable characters: a control character would be read as another string's. */
static int check_text(const char *text, const char *what, struct error *err)
{
    for (const char *c = text; c && *c; c++)
        if ((uint8_t)*c < 0x20 || *c == 0x7f)
            return error_set(err, -EINVAL,
                             "the %s has a control character, 0x%02x, at position %td", what,
                             (uint8_t)*c, c - text);
    return 0;
}

static int check_in(const struct smbios_in *in, struct error *err)
{
    const struct {
        const char *text, *what;
    } texts[] = {
        {in->manufacturer, "system manufacturer"},
        {in->product_name, "product name"},
        {in->version, "system version"},
        {in->serial_number, "serial number"},
        {in->sku_number, "SKU number"},
        {in->family, "system family"},
        {in->chassis_asset_tag, "chassis asset tag"},
    };
    int ret = 0;
    for (size_t i = 0; i < ARRAY_SIZE(texts) && ret == 0; i++)
        ret = check_text(texts[i].text, texts[i].what, err);
    if (ret == 0 && in->n_oem_strings > STRINGS_MAX)
        ret = error_set(err, -E2BIG, "%zu OEM strings are too many: SMBIOS numbers %d at most",
                        in->n_oem_strings, STRINGS_MAX);
    for (size_t i = 0; i < in->n_oem_strings && ret == 0; i++) {
        ret = check_text(in->oem_strings[i], "OEM string", err);
        if (ret == 0 && !in->oem_strings[i][0])
            ret = error_set(err, -EINVAL, "OEM string number %zu is empty, which SMBIOS cannot say",
                            i + 1);
    }
    return ret;
}

static void fill_entry_point(struct buf *out, size_t start, uint64_t base)
{
    uint8_t *entry = out->data + start, sum = 0;
    memcpy(entry, "_SM3_", 5);
    entry[6] = SMBIOS_ENTRY_POINT_BYTES;
    entry[7] = 3; /* major and minor version */
    entry[8] = 0;
    entry[10] = 1; /* entry point revision */
    store_le32(entry + 12, (uint32_t)(out->len - start - SMBIOS_TABLES_OFFSET));
    store_le64(entry + 16, base + SMBIOS_TABLES_OFFSET);
    for (unsigned i = 0; i < SMBIOS_ENTRY_POINT_BYTES; i++)
        sum = (uint8_t)(sum + entry[i]);
    entry[5] = (uint8_t)-sum;
}

int smbios_build(struct buf *out, uint64_t base, const struct smbios_in *in, struct error *err)
{
    uint8_t uuid[16];
    int ret = check_in(in, err);
    if (ret == 0)
        ret = parse_uuid(in->uuid, uuid, err);
    if (ret < 0)
        return ret;
    size_t start = out->len;
    buf_extend(out, SMBIOS_TABLES_OFFSET);
    add_bios(out);
    add_system(out, in, uuid);
    add_chassis(out, in);
    add_processor(out, in);
    add_oem_strings(out, in);
    add_memory(out, in->ram_bytes, in->low_ram);
    add_boot_status_and_end(out);
    if (buf_failed(out))
        return error_set(err, -ENOMEM, "out of memory while making the SMBIOS tables");
    if (out->len - start > LAYOUT_SMBIOS_MAX) {
        error_set(err, -E2BIG, "the SMBIOS tables take %zu bytes, more than the %d set aside",
                  out->len - start, LAYOUT_SMBIOS_MAX);
        return error_hint(err, "shorten the strings given with --platform");
    }
    fill_entry_point(out, start, base);
    return 0;
}
