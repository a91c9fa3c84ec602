#include "cmd/measure_steps.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/fd.h"
#include "cmd/launch_words.h"
#include "snp/firmware.h"

#include "igvm/igvm_defs.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

/* JSON of a measurement that is longer than this is not read. */
#define JSON_MAX (1u << 30)

struct step_record {
    uint64_t gpa;
    uint32_t directive;
    uint32_t vcpu;
    uint8_t type;
    bool has_contents, vmsa;
    uint8_t contents[SHA384_BYTES];
    uint8_t digest[SHA384_BYTES];
    char origin[24];
};

void steps_release(struct steps *steps)
{
    buf_release(&steps->records);
}

static size_t count(const struct steps *steps)
{
    return steps->records.len / sizeof(struct step_record);
}

static const struct step_record *at(const struct steps *steps, size_t i)
{
    return (const struct step_record *)(const void *)steps->records.data + i;
}

void steps_add(const struct digest_step *step, void *opaque)
{
    struct steps *steps = opaque;
    struct step_record record = {.gpa = step->gpa,
                                 .directive = step->directive,
                                 .vcpu = step->vcpu,
                                 .type = (uint8_t)step->type,
                                 .vmsa = step->vmsa,
                                 .has_contents = step->contents};
    if (step->contents)
        memcpy(record.contents, step->contents, SHA384_BYTES);
    memcpy(record.digest, step->digest, SHA384_BYTES);
    snprintf(record.origin, sizeof(record.origin), "%s", step->origin);
    buf_append(&steps->records, &record, sizeof(record));
}

static void step_to_json(const struct step_record *s, struct buf *out)
{
    char text[HEX_384_TEXT];
    buf_printf(out, "\n    {\"type\": \"%s\", \"gpa\": \"0x%" PRIx64 "\", \"origin\": \"%s\"",
               snp_page_type_name(s->type), s->gpa, s->origin);
    if (s->directive)
        buf_printf(out, ", \"directive\": %" PRIu32, s->directive);
    if (s->vmsa)
        buf_printf(out, ", \"vcpu\": %" PRIu32, s->vcpu);
    if (s->has_contents)
        buf_printf(out, ", \"contents\": \"%s\"", hex_text(s->contents, SHA384_BYTES, text));
    buf_printf(out, ", \"launch_digest\": \"%s\"}", hex_text(s->digest, SHA384_BYTES, text));
}

int steps_to_json(const struct steps *steps, FILE *file)
{
    _cleanup_buf_ struct buf out = BUF_INIT;
    fputs("  \"steps\": [", file);
    for (size_t i = 0; i < count(steps) && !buf_failed(&out); i++) {
        if (i)
            fputc(',', file);
        step_to_json(at(steps, i), &out);
        fwrite(out.data, 1, out.len, file);
        out.len = 0;
    }
    fputs("\n  ]\n}\n", file);
    return buf_failed(&out) ? -ENOMEM : 0;
}

static enum snp_page_type type_by_name(const char *name)
{
    for (enum snp_page_type type = SNP_PAGE_NORMAL; type <= SNP_PAGE_CPUID; type++)
        if (strcmp(name, snp_page_type_name(type)) == 0)
            return type;
    return SNP_PAGE_NORMAL;
}

/** read_json() - what steps_to_json() wrote. */
static int read_json(struct steps *steps, const char *path, const char *text, size_t len,
                     uint8_t *digest, int *digest_len, struct error *err)
{
    json_error_t where;
    json_t *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &where);
    const char *hex = json_string_value(json_object_get(root, "launch_digest"));
    bool is_digest = false;
    for (int bytes = SHA256_BYTES; hex && !is_digest && bytes <= SHA384_BYTES;
         bytes += SHA384_BYTES - SHA256_BYTES) {
        *digest_len = bytes;
        is_digest = hex_parse(hex, digest, (size_t)bytes);
    }
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(root, "steps"), i, item)
    {
        const char *gpa = json_string_value(json_object_get(item, "gpa"));
        const char *type = json_string_value(json_object_get(item, "type"));
        const char *contents = json_string_value(json_object_get(item, "contents"));
        const char *origin = json_string_value(json_object_get(item, "origin"));
        if (!gpa || !type)
            continue;
        struct step_record record = {.gpa = strtoull(gpa, NULL, 0),
                                     .type = (uint8_t)type_by_name(type)};
        record.directive = (uint32_t)json_integer_value(json_object_get(item, "directive"));
        record.has_contents = contents && hex_parse(contents, record.contents, SHA384_BYTES);
        snprintf(record.origin, sizeof(record.origin), "%s", origin ? origin : "");
        buf_append(&steps->records, &record, sizeof(record));
    }
    json_decref(root);
    if (!is_digest)
        return error_set(err, -EINVAL, "%s is not what `husk measure --json` writes", path);
    return 0;
}

int steps_read(struct steps *steps, const char *path, uint8_t digest[SHA384_BYTES], int *len,
               enum compared_kind *kind, struct error *err)
{
    uint64_t size;
    _cleanup_close_ int fd = fd_open_file(path, &size, err);
    if (fd < 0) {
        error_context(err, "--compare");
        return error_hint(err, "give a digest of 96 hexadecimal digits, or a file");
    }
    char head[256] = "";
    int r = fd_pread_full(fd, head, (size_t)MIN(size, sizeof(head) - 1), 0);
    if (r < 0)
        return error_set_errno(err, r, "could not read %s", path);
    *kind = COMPARED_FIRMWARE;
    if (size >= 4 && load_le32(head) == IGVM_MAGIC_VALUE) {
        *kind = COMPARED_IGVM;
        return 0;
    }
    for (int bytes = SHA256_BYTES; bytes <= SHA384_BYTES; bytes += SHA384_BYTES - SHA256_BYTES)
        if (size < sizeof(head) && hex_parse(head, digest, (size_t)bytes)) {
            *kind = COMPARED_DIGEST;
            *len = bytes;
            return 0;
        }
    if (head[strspn(head, " \t\r\n")] != '{' || size > JSON_MAX)
        return 0;
    *kind = COMPARED_JSON;
    _cleanup_free_ char *text = malloc(size);
    if (!text)
        return error_set(err, -ENOMEM, "out of memory for %s", path);
    r = fd_pread_full(fd, text, size, 0);
    if (r < 0)
        return error_set_errno(err, r, "could not read %s", path);
    return read_json(steps, path, text, size, digest, len, err);
}

static void print_step(const struct step_record *s, const char *whose, FILE *out)
{
    char text[HEX_384_TEXT];
    fprintf(out, "  %s: %s page at 0x%" PRIx64, whose, snp_page_type_name(s->type), s->gpa);
    if (s->origin[0])
        fprintf(out, " (%s)", s->origin);
    if (s->directive)
        fprintf(out, ", header %" PRIu32, s->directive);
    if (s->has_contents)
        fprintf(out, ", contents %.16s...", hex_text(s->contents, SHA384_BYTES, text));
    fputc('\n', out);
}

void steps_print_difference(const struct steps *a, const struct steps *b, FILE *out)
{
    size_t n_a = count(a), n_b = count(b), i = 0;
    if (n_a == 0 || n_b == 0)
        return;
    while (i < n_a && i < n_b) {
        const struct step_record *x = at(a, i), *y = at(b, i);
        if (x->gpa != y->gpa || x->type != y->type || x->has_contents != y->has_contents ||
            memcmp(x->contents, y->contents, SHA384_BYTES) != 0)
            break;
        i++;
    }
    fprintf(out, "husk: page %zu is the first that differs\n", i + 1);
    if (i < n_a)
        print_step(at(a, i), "this", out);
    else
        fprintf(out, "  this: ends after %zu pages\n", n_a);
    if (i < n_b)
        print_step(at(b, i), "other", out);
    else
        fprintf(out, "  other: ends after %zu pages\n", n_b);
}
