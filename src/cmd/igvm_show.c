/* husk igvm show: text, JSON, findings. */
#include "base/bytes.h"
#include "base/cleanup.h"
#include "cmd/igvm_cmd.h"
#include "cmd/igvm_fields.h"
#include "cmd/launch_words.h"
#include "cmd/words.h"
#include "snp/policy.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define HEX_MAX 72 /* the widest field that is shown as hexadecimal digits */

/* Output goes on its way in pieces of this size: a file may have millions of headers. */
#define PIECE (1u << 20)

/** drain() - write what @out holds. A failure is told when standard output is closed. */
static void drain(struct buf *out, size_t least)
{
    if (out->len < least || buf_failed(out))
        return;
    (void)!fwrite(out->data, 1, out->len, stdout);
    out->len = 0;
}

static const char *page_kind(const struct igvm_header *h)
{
    static const char *const kinds[] = {"NORMAL", "SECRETS", "CPUID_DATA", "CPUID_XF"};
    uint16_t type = load_le16(h->payload + 20);
    if (type == IGVM_PAGE_DATA_TYPE_NORMAL && load_le32(h->payload + 12) == 0)
        return "NORMAL, empty";
    return type < ARRAY_SIZE(kinds) ? kinds[type] : "unknown";
}

static uint64_t page_bytes(const struct igvm_header *h)
{
    return load_le32(h->payload + 16) & 1 ? IGVM_X64_LARGE_PAGE_SIZE : PAGE_BYTES;
}

/** same_run() - whether page @b follows page @a in memory and differs from it in nothing else. */
static bool same_run(const struct igvm_header *a, const struct igvm_header *b)
{
    return b->type == IGVM_VHT_PAGE_DATA &&
           load_le64(a->payload) + page_bytes(a) == load_le64(b->payload) &&
           memcmp(a->payload + 8, b->payload + 8, 4) == 0 &&
           memcmp(a->payload + 16, b->payload + 16, 8) == 0 &&
           !load_le32(a->payload + 12) == !load_le32(b->payload + 12);
}

static void show_run(const struct igvm_header *first, const struct igvm_header *last,
                     struct buf *out)
{
    char numbers[32];
    uint32_t flags = load_le32(first->payload + 16);
    if (first->number == last->number)
        snprintf(numbers, sizeof(numbers), "%" PRIu32, first->number);
    else
        snprintf(numbers, sizeof(numbers), "%" PRIu32 "-%" PRIu32, first->number, last->number);
    uint32_t pages = last->number - first->number + 1;
    buf_printf(out,
               "%11s  PAGE_DATA  0x%" PRIx64 "-0x%" PRIx64 "  %" PRIu32
               " page%s%s, %s%s%s, mask 0x%" PRIx32 "\n",
               numbers, load_le64(first->payload), load_le64(last->payload) + page_bytes(last) - 1,
               pages, flags & 1 ? " of 2 MiB" : "", pages == 1 ? "" : "s", page_kind(first),
               flags & 2 ? ", unmeasured" : "", flags & 4 ? ", shared" : "",
               load_le32(first->payload + 8));
}

/** append_number() - " name 0x1f", without printf: a file may have millions of fields. */
static void append_number(struct buf *out, const char *name, uint64_t value)
{
    char text[64], digits[16];
    size_t n = 0, len = MIN(strlen(name), sizeof(text) - 20);
    do {
        digits[n++] = "0123456789abcdef"[value & 15];
        value >>= 4;
    } while (value);
    text[0] = ' ';
    memcpy(text + 1, name, len);
    memcpy(text + 1 + len, " 0x", 3);
    for (len += 4; n > 0; len++)
        text[len] = digits[--n];
    buf_append(out, text, len);
}

static void show_field(const struct igvm_header *h, const struct igvm_field *f, struct buf *out)
{
    char text[2 * HEX_MAX + 1];
    bool mask = strcmp(f->name, "compatibility_mask") == 0;
    if (f->width > 8)
        buf_printf(out, " %s %s", f->name,
                   hex_text(h->payload + f->at, MIN(f->width, HEX_MAX), text));
    else
        append_number(out, mask ? "mask" : f->name, igvm_field_value(h, f));
}

static void show_header(const struct igvm_header *h, struct buf *out)
{
    buf_printf(out, "%11" PRIu32 "  %s ", h->number,
               h->type & IGVM_VHT_OPTIONAL ? "optional" : igvm_type_name(h->type));
    size_t n;
    const struct igvm_field *fields = igvm_fields(h->type, &n);
    if (n == 0)
        buf_printf(out, " type 0x%" PRIx32 ", %" PRIu32 " bytes", h->type, h->length);
    for (size_t i = 0; i < n; i++)
        show_field(h, &fields[i], out);
    if (h->type == IGVM_VHT_SUPPORTED_PLATFORM)
        buf_printf(out, " (%s)", igvm_platform_name(h->payload[5]));
    char text[SNP_POLICY_TEXT];
    if (h->type == IGVM_VHT_GUEST_POLICY)
        buf_printf(out, " (%s)", snp_policy_describe(load_le64(h->payload), text));
    buf_printf(out, "\n");
}

int igvm_show_text(const struct igvm_source *source, const char *path, struct buf *out)
{
    const struct igvm_file *file = source->file;
    uint32_t n = igvm_file_count(file);
    buf_printf(out, "%s: IGVM version %" PRIu32 ", %s, %" PRIu64 " bytes, %" PRIu32 " headers\n",
               path, igvm_file_version(file),
               igvm_file_architecture(file) == IGVM_ARCHITECTURE_X64 ? "x64" : "AArch64",
               source->size, n);
    for (uint32_t i = 1; i <= n; i++) {
        struct igvm_header h, last, next;
        igvm_file_header(file, i, &h);
        drain(out, PIECE);
        if (h.type != IGVM_VHT_PAGE_DATA) {
            show_header(&h, out);
            continue;
        }
        last = h;
        while (igvm_file_header(file, i + 1, &next) && same_run(&last, &next)) {
            last = next;
            i++;
        }
        show_run(&h, &last, out);
    }
    return buf_failed(out) ? -ENOMEM : 0;
}

static void append_hex(struct buf *out, const uint8_t *bytes, size_t len)
{
    for (size_t at = 0; at < len; at += HEX_MAX) {
        char text[2 * HEX_MAX + 1];
        size_t n = MIN(len - at, (size_t)HEX_MAX);
        hex_text(bytes + at, n, text);
        buf_append(out, text, 2 * n);
    }
}

static void json_header(const struct igvm_header *h, struct buf *out)
{
    buf_printf(out,
               "    {\"number\": %" PRIu32 ", \"type\": %" PRIu32
               ", \"name\": \"%s\", \"offset\": %" PRIu32 ", \"length\": %" PRIu32,
               h->number, h->type,
               h->type & IGVM_VHT_OPTIONAL ? "optional" : igvm_type_name(h->type), h->offset,
               h->length);
    size_t n;
    const struct igvm_field *fields = igvm_fields(h->type, &n);
    for (size_t i = 0; i < n; i++) {
        const struct igvm_field *f = &fields[i];
        buf_printf(out, ", \"%s\": ", f->name);
        if (f->width <= 8) {
            buf_printf(out, "%" PRIu64, igvm_field_value(h, f));
            continue;
        }
        buf_printf(out, "\"");
        append_hex(out, h->payload + f->at, f->width);
        buf_printf(out, "\"");
    }
    buf_printf(out, ", \"payload\": \"");
    append_hex(out, h->payload, h->length);
    buf_printf(out, "\"}");
}

int igvm_show_json(const struct igvm_source *source, struct buf *out)
{
    const struct igvm_file *file = source->file;
    uint32_t start = load_le32(source->bytes + 8), fixed = igvm_file_version(file) == 2 ? 32 : 24;
    buf_printf(out,
               "{\n  \"version\": %" PRIu32 ",\n  \"architecture\": %" PRIu32
               ",\n  \"page_size\": %" PRIu32 ",\n  \"total_file_size\": %" PRIu64
               ",\n  \"checksum\": %" PRIu32 ",\n  \"variable_header_offset\": %" PRIu32
               ",\n  \"gap\": \"",
               igvm_file_version(file), igvm_file_architecture(file), igvm_file_page_size(file),
               source->size, load_le32(source->bytes + 20), start);
    append_hex(out, source->bytes + fixed, start - fixed);
    buf_printf(out, "\",\n  \"headers\": [\n");
    uint32_t n = igvm_file_count(file);
    for (uint32_t i = 1; i <= n; i++) {
        struct igvm_header h;
        igvm_file_header(file, i, &h);
        drain(out, PIECE);
        json_header(&h, out);
        buf_printf(out, i < n ? ",\n" : "\n");
    }
    buf_printf(out, "  ]\n}\n");
    return buf_failed(out) ? -ENOMEM : 0;
}

/* --verify: every finding on standard output. */
static void print_finding(const struct igvm_finding *finding, void *opaque)
{
    char text[IGVM_FINDING_TEXT];
    size_t *n = opaque;
    *n += finding->more ? finding->more : 1;
    puts(igvm_finding_text(finding, text));
}

static int verify(const char *path, struct error *err)
{
    _cleanup_(igvm_source_release) struct igvm_source source = IGVM_SOURCE_INIT;
    size_t n = 0;
    int r = igvm_source_open(&source, path, print_finding, &n, err);
    if (n == 0)
        return r;
    printf("%s: %zu finding%s\n", path, n, n == 1 ? "" : "s");
    return 1;
}

static void warn_finding(const struct igvm_finding *finding, void *opaque)
{
    char text[IGVM_FINDING_TEXT];
    if (finding->tolerated)
        print_warning(igvm_finding_text(finding, text), opaque);
}

static int show(const char *path, bool json, const char *svg, struct error *err)
{
    _cleanup_(igvm_source_release) struct igvm_source source = IGVM_SOURCE_INIT;
    int r = igvm_source_open(&source, path, warn_finding, NULL, err);
    if (r < 0)
        return r;
    _cleanup_buf_ struct buf out = BUF_INIT;
    if (svg)
        r = igvm_show_svg(&source, path, &out);
    else
        r = json ? igvm_show_json(&source, &out) : igvm_show_text(&source, path, &out);
    if (r < 0)
        return error_set(err, r, "out of memory while showing %s", path);
    if (svg)
        return write_file(svg, out.data, out.len, err);
    drain(&out, 1);
    return fflush(stdout) || ferror(stdout)
               ? error_set(err, -EIO, "could not write what is in %s", path)
               : 0;
}

int igvm_cmd_show(int argc, char **argv, struct error *err)
{
    const char *svg = NULL;
    bool json = false, check = false, help = false;
    const struct word_option options[] = {
        {"json", NULL, "every header as JSON, without file data", .flag = &json},
        {"svg", "<file>", "a picture of the guest's address space", .text = &svg},
        {"verify", NULL, "list everything that is wrong; exit 1 if anything is", .flag = &check},
        {"help", NULL, "this text", .flag = &help},
    };
    int r = words_take(options, ARRAY_SIZE(options), &argc, argv, true, err);
    if (r < 0)
        return r;
    if (help) {
        puts("Usage: husk igvm show <file> [--json | --svg <file> | --verify]\n");
        words_print(options, ARRAY_SIZE(options));
        return 0;
    }
    if (argc != 1 || json + check + (svg != NULL) > 1)
        return error_set(err, -EINVAL, "`husk igvm show` takes one file and at most one option");
    return check ? verify(argv[0], err) : show(argv[0], json, svg, err);
}
