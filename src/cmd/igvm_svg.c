/*
 * A picture of a file: the guest's address space from top to bottom, low addresses at the bottom, with a break where
 * nothing is loaded. Heights are to scale within the picture, but no range is lower than its line of text.
 */
#include "base/bytes.h"
#include "base/cleanup.h"
#include "cmd/igvm_cmd.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define WIDTH 1000
#define BAR_X 190
#define BAR_WIDTH 250
#define ROW 22     /* the least height of a range */
#define BREAK 34   /* the height of a break */
#define SCALED 420 /* what the heights to scale add up to */
#define TOP 116
#define RANGES_MAX 200 /* more would not be looked at */

enum kind {
    KIND_DATA,
    KIND_EMPTY,
    KIND_UNMEASURED,
    KIND_SECRETS,
    KIND_CPUID,
    KIND_PARAMETERS,
    KIND_SHARED,
    KINDS,
};

static const struct {
    const char *name, *colour;
} kinds[KINDS] = {
    [KIND_DATA] = {"data", "#4e79a7"},
    [KIND_EMPTY] = {"empty pages", "#c9d5e3"},
    [KIND_UNMEASURED] = {"unmeasured data", "#f1ce63"},
    [KIND_SECRETS] = {"secrets", "#e15759"},
    [KIND_CPUID] = {"CPUID", "#b07aa1"},
    [KIND_PARAMETERS] = {"parameter area", "#f28e2b"},
    [KIND_SHARED] = {"shared with the host", "#76b7b2"},
};

struct range {
    uint64_t gpa, len;
    enum kind kind;
    uint32_t first, last; /* headers */
    uint32_t mask;
};

struct picture {
    struct range ranges[RANGES_MAX];
    size_t n;
    unsigned contexts;
    uint32_t declared; /* masks of all platforms */
};

static enum kind page_kind(const struct igvm_header *h)
{
    uint32_t flags = load_le32(h->payload + 16);
    uint16_t type = load_le16(h->payload + 20);
    if (flags & 4)
        return KIND_SHARED;
    if (type == IGVM_PAGE_DATA_TYPE_SECRETS)
        return KIND_SECRETS;
    if (type == IGVM_PAGE_DATA_TYPE_CPUID_DATA || type == IGVM_PAGE_DATA_TYPE_CPUID_XF)
        return KIND_CPUID;
    if (flags & 2)
        return KIND_UNMEASURED;
    return load_le32(h->payload + 12) ? KIND_DATA : KIND_EMPTY;
}

/** area_bytes() - the size of the parameter area that @insert inserts. */
static uint64_t area_bytes(const struct igvm_file *file, const struct igvm_header *insert)
{
    struct igvm_header h;
    for (uint32_t i = insert->number - 1; i > 0 && igvm_file_header(file, i, &h); i--)
        if (h.type == IGVM_VHT_PARAMETER_AREA &&
            load_le32(h.payload + 8) == load_le32(insert->payload + 12))
            return load_le64(h.payload);
    return PAGE_BYTES;
}

static void add_range(struct picture *p, struct range range)
{
    struct range *last = p->n ? &p->ranges[p->n - 1] : NULL;
    if (last && last->kind == range.kind && last->mask == range.mask &&
        last->gpa + last->len == range.gpa && last->last + 1 == range.first) {
        last->len += range.len;
        last->last = range.last;
    } else if (p->n < RANGES_MAX) {
        p->ranges[p->n++] = range;
    }
}

static int compare(const void *a, const void *b)
{
    const struct range *x = a, *y = b;
    return x->gpa < y->gpa ? 1 : x->gpa > y->gpa ? -1 : 0; /* high addresses first */
}

static void collect(struct picture *p, const struct igvm_file *file)
{
    unsigned inserts = 0;
    for (uint32_t i = 1; i <= igvm_file_count(file); i++) {
        struct igvm_header h;
        igvm_file_header(file, i, &h);
        struct range range = {.first = i, .last = i, .mask = igvm_header_mask(&h)};
        if (h.type == IGVM_VHT_PAGE_DATA) {
            range.kind = page_kind(&h);
            range.len = load_le32(h.payload + 16) & 1 ? IGVM_X64_LARGE_PAGE_SIZE : PAGE_BYTES;
        } else if (h.type == IGVM_VHT_PARAMETER_INSERT && inserts++ < RANGES_MAX) {
            range.kind = KIND_PARAMETERS;
            range.len = area_bytes(file, &h);
        } else if (h.type == IGVM_VHT_ERROR_RANGE) {
            range.kind = KIND_SHARED;
            range.len = load_le32(h.payload + 12);
        } else {
            p->contexts += h.type == IGVM_VHT_VP_CONTEXT;
            continue;
        }
        range.gpa = load_le64(h.payload);
        add_range(p, range);
    }
    qsort(p->ranges, p->n, sizeof(*p->ranges), compare);
}

/** size_text() - exact where that is short, else to a tenth. */
static void size_text(uint64_t bytes, char *text, size_t room)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB"};
    unsigned unit = 0;
    while (unit + 1 < ARRAY_SIZE(units) && bytes >> (10 * (unit + 2)))
        unit++;
    uint64_t whole = 1ull << (10 * (unit + 1));
    if (bytes % whole == 0)
        snprintf(text, room, "%" PRIu64 " %s", bytes / whole, units[unit]);
    else
        snprintf(text, room, "%.1f %s", (double)bytes / (double)whole, units[unit]);
}

static void text_at(struct buf *out, int x, int y, const char *style, const char *text)
{
    buf_printf(out, "<text x=\"%d\" y=\"%d\" %s>%s</text>\n", x, y, style, text);
}

static void draw_break(struct buf *out, int y, uint64_t gap)
{
    char text[64], size[32];
    size_text(gap, size, sizeof(size));
    buf_printf(out,
               "<path d=\"M%d %d l12 -6 l24 12 l24 -12 l24 12 l24 -12 l24 12 l24 -12 l24 12 l24 "
               "-12 l24 12 "
               "l22 -6\" fill=\"none\" stroke=\"#999\" stroke-width=\"1.5\"/>\n",
               BAR_X, y + BREAK / 2);
    snprintf(text, sizeof(text), "%s not loaded", size);
    text_at(out, BAR_X + BAR_WIDTH + 20, y + BREAK / 2 + 5, "fill=\"#888\"", text);
}

static void draw_range(struct buf *out, const struct picture *p, const struct range *r, int y,
                       int height)
{
    char text[160], size[32];
    buf_printf(out,
               "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" fill=\"%s\" stroke=\"#333\"/>\n",
               BAR_X, y, BAR_WIDTH, height, kinds[r->kind].colour);
    snprintf(text, sizeof(text), "0x%" PRIx64, r->gpa + r->len - 1);
    if (height >= 2 * ROW)
        text_at(out, BAR_X - 12, y + 14, "text-anchor=\"end\" class=\"a\"", text);
    snprintf(text, sizeof(text), "0x%" PRIx64, r->gpa);
    text_at(out, BAR_X - 12, y + height - 6, "text-anchor=\"end\" class=\"a\"", text);
    size_text(r->len, size, sizeof(size));
    if (r->first == r->last)
        snprintf(text, sizeof(text), "%s, %s &#183; header %" PRIu32, kinds[r->kind].name, size,
                 r->first);
    else
        snprintf(text, sizeof(text), "%s, %s &#183; headers %" PRIu32 " to %" PRIu32,
                 kinds[r->kind].name, size, r->first, r->last);
    if (p->declared & ~r->mask)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), " &#183; mask 0x%" PRIx32,
                 r->mask);
    text_at(out, BAR_X + BAR_WIDTH + 20, y + height / 2 + 5, "", text);
}

static int draw_ranges(struct buf *out, const struct picture *p, uint64_t total)
{
    int y = TOP;
    for (size_t i = 0; i < p->n; i++) {
        const struct range *r = &p->ranges[i];
        int height = ROW + (int)((double)r->len * SCALED / (double)total);
        draw_range(out, p, r, y, height);
        y += height;
        if (i + 1 < p->n) {
            uint64_t next_end = p->ranges[i + 1].gpa + p->ranges[i + 1].len;
            if (next_end < r->gpa) {
                draw_break(out, y, r->gpa - next_end);
                y += BREAK;
            }
        }
    }
    return y;
}

static void draw_legend(struct buf *out, const struct picture *p, int y)
{
    bool used[KINDS] = {false};
    for (size_t i = 0; i < p->n; i++)
        used[p->ranges[i].kind] = true;
    int x = 30;
    for (int kind = 0; kind < KINDS; kind++) {
        if (!used[kind])
            continue;
        buf_printf(
            out,
            "<rect x=\"%d\" y=\"%d\" width=\"16\" height=\"16\" fill=\"%s\" stroke=\"#333\"/>\n", x,
            y, kinds[kind].colour);
        text_at(out, x + 24, y + 13, "", kinds[kind].name);
        x += 50 + 8 * (int)strlen(kinds[kind].name);
    }
}

/** append_escaped() - text that may hold anything, as XML text; what is not printable ASCII becomes '?'. */
static void append_escaped(struct buf *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '<' || *text == '>' || *text == '&' || *text == '"')
            buf_printf(out, "&#%d;", *text);
        else
            buf_printf(out, "%c", *text >= 0x20 && *text < 0x7f ? *text : '?');
    }
}

static void draw_title(struct buf *out, const struct igvm_source *source, const struct picture *p,
                       const char *path)
{
    const char *name = strrchr(path, '/');
    buf_printf(out, "<text x=\"30\" y=\"36\" class=\"t\">");
    append_escaped(out, name ? name + 1 : path);
    buf_printf(out,
               "</text>\n<text x=\"30\" y=\"62\" fill=\"#555\">IGVM version %" PRIu32 ", %" PRIu32
               " headers, VP contexts: %u</text>\n<text x=\"30\" y=\"84\" fill=\"#555\">for",
               igvm_file_version(source->file), igvm_file_count(source->file), p->contexts);
    const char *between = " ";
    for (unsigned type = 0; type <= IGVM_PLATFORM_TYPE_CCA; type++) {
        uint32_t mask = igvm_file_platform_mask(source->file, (IgvmPlatformType)type);
        if (!mask)
            continue;
        buf_printf(out, "%s%s (mask 0x%" PRIx32 ")", between,
                   igvm_platform_name((IgvmPlatformType)type), mask);
        between = ", ";
    }
    buf_printf(out, "</text>\n");
}

int igvm_show_svg(const struct igvm_source *source, const char *path, struct buf *out)
{
    _cleanup_free_ struct picture *p = calloc(1, sizeof(*p));
    if (!p)
        return -ENOMEM;
    for (unsigned type = 0; type <= IGVM_PLATFORM_TYPE_CCA; type++)
        p->declared |= igvm_file_platform_mask(source->file, (IgvmPlatformType)type);
    collect(p, source->file);
    uint64_t total = 1;
    for (size_t i = 0; i < p->n; i++)
        total += p->ranges[i].len;
    _cleanup_buf_ struct buf body = BUF_INIT;
    int y = draw_ranges(&body, p, total) + 24;
    if (p->n == 0)
        text_at(&body, 30, y, "", "no page is loaded");
    if (p->n == RANGES_MAX) {
        text_at(&body, 30, y, "fill=\"#888\"", "there is more than can be drawn");
        y += 24;
    }
    draw_legend(&body, p, y);
    buf_printf(out,
               "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
               "viewBox=\"0 0 %d %d\">\n<style>text{font:15px sans-serif}.a{font:14px monospace}"
               ".t{font:bold 20px sans-serif}</style>\n"
               "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
               WIDTH, y + 40, WIDTH, y + 40);
    draw_title(out, source, p, path);
    if (!buf_failed(&body))
        buf_append(out, body.data, body.len);
    buf_printf(out, "</svg>\n");
    return buf_failed(out) || buf_failed(&body) ? -ENOMEM : 0;
}
