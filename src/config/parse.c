/* The text of one value into the struct. Messages leave out the option's name, which the caller puts in front. */
#include "base/cleanup.h"
#include "base/units.h"
#include "config/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/** parse_decimal() - digits only, so no sign, no white space. Returns 0, -EINVAL or -ERANGE. */
static int parse_decimal(struct option_text text, uint64_t *value)
{
    if (text.len == 0)
        return -EINVAL;
    uint64_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.start[i] < '0' || text.start[i] > '9')
            return -EINVAL;
        if (__builtin_mul_overflow(n, 10, &n) ||
            __builtin_add_overflow(n, (uint64_t)(text.start[i] - '0'), &n))
            return -ERANGE;
    }
    *value = n;
    return 0;
}

/** need_decimal() - parse_decimal() with a message. */
static int need_decimal(struct option_text text, uint64_t *value, struct error *err)
{
    int ret = parse_decimal(text, value);
    if (ret == -ERANGE)
        return error_set(err, -EINVAL, "'%s' is too large",
                         option_excerpt(text.start, text.len).text);
    if (ret < 0)
        return error_set(err, -EINVAL, "'%s' is not a decimal number",
                         option_excerpt(text.start, text.len).text);
    return 0;
}

static int parse_port(struct option_text text, uint64_t *value, struct error *err)
{
    uint64_t n = 0;
    bool valid = text.len > 2 && text.start[0] == '0' && (text.start[1] | 0x20) == 'x';
    for (size_t i = 2; valid && i < text.len; i++) {
        char c = (char)(text.start[i] | 0x20);
        if (c >= '0' && c <= '9')
            n = n * 16 + (uint64_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            n = n * 16 + (uint64_t)(c - 'a') + 10;
        else
            valid = false;
        valid = valid && n <= UINT32_MAX;
    }
    if (!valid)
        return error_set(err, -EINVAL, "'%s' is not an I/O port in hexadecimal, as 0xe9",
                         option_excerpt(text.start, text.len).text);
    *value = n;
    return 0;
}

static int parse_size(const char *word, uint64_t *value, struct error *err)
{
    int ret = units_parse_size(word, value);
    if (ret == -ERANGE)
        return error_set(err, -EINVAL, "'%s' is too large",
                         option_excerpt(word, strlen(word)).text);
    if (ret < 0)
        return error_set(err, -EINVAL, "'%s' is not a size, as 512M or 4G",
                         option_excerpt(word, strlen(word)).text);
    return 0;
}

static int parse_bool(const char *word, uint64_t *value, struct error *err)
{
    if (strcasecmp(word, "on") == 0 || strcasecmp(word, "true") == 0)
        *value = true;
    else if (strcasecmp(word, "off") == 0 || strcasecmp(word, "false") == 0)
        *value = false;
    else
        return error_set(err, -EINVAL, "'%s' is neither on nor off",
                         option_excerpt(word, strlen(word)).text);
    return 0;
}

static int parse_enum(const struct option_key *key, const char *word, uint64_t *value,
                      struct error *err)
{
    const char *names[8];
    size_t n = 0;
    char list[64] = "";
    for (; n < sizeof(names) / sizeof(names[0]) && key->names[n].text; n++) {
        if (strcasecmp(word, key->names[n].text) == 0) {
            *value = n;
            return 0;
        }
        names[n] = key->names[n].text;
        strncat(list, n ? ", " : "", sizeof(list) - strlen(list) - 1);
        strncat(list, names[n], sizeof(list) - strlen(list) - 1);
    }
    error_set(err, -EINVAL, "'%s' is none of %s", option_excerpt(word, strlen(word)).text, list);
    const char *near = option_nearest(word, names, n);
    if (near)
        error_hint(err, "did you mean '%s'?", near);
    return -EINVAL;
}

static int parse_strings(void *base, const struct option_key *key, struct option_text text,
                         struct error *err)
{
    option_unbracket(&text);
    struct option_text part;
    while (option_next_part(&text, &part)) {
        _cleanup_free_ char *word = option_dequote(option_trim(part));
        if (!word)
            return error_set_errno(err, -ENOMEM, "could not keep the value");
        int ret = option_add_string(base, key, word, strlen(word), err);
        if (ret < 0)
            return ret;
    }
    return 0;
}

static int parse_topology(void *base, const struct option_key *key, struct option_text text,
                          struct error *err)
{
    uint64_t parts[4] = {0};
    size_t n = 0;
    const char *start = text.start, *end = text.start + text.len;
    for (const char *p = start;; p++) {
        if (p < end && *p != ':')
            continue;
        if (n == 4 || parse_decimal((struct option_text){start, (size_t)(p - start)}, &parts[n++]))
            n = 5;
        start = p + 1;
        if (p == end || n == 5)
            break;
    }
    if (n != 4)
        return error_set(err, -EINVAL, "'%s' is not <threads>:<cores>:<dies>:<packages>",
                         option_excerpt(text.start, text.len).text);
    return option_set_topology(base, key, parts, err);
}

static int parse_host_cpus(struct cpu_affinity *affinity, struct option_text text,
                           struct error *err)
{
    option_unbracket(&text);
    struct option_text range;
    while (option_next_part(&text, &range)) {
        range = option_trim(range);
        const char *dash = memchr(range.start, '-', range.len);
        struct option_text first_text = range, last_text = range;
        if (dash) {
            first_text.len = (size_t)(dash - range.start);
            last_text.start = dash + 1;
            last_text.len = range.len - first_text.len - 1;
        }
        uint64_t first = 0, last = 0;
        int ret = need_decimal(first_text, &first, err);
        if (ret == 0)
            ret = need_decimal(last_text, &last, err);
        if (ret == 0)
            ret = option_add_host_cpus(affinity, first, last, err);
        if (ret < 0)
            return ret;
    }
    return 0;
}

static int parse_affinity(void *base, const struct option_key *key, struct option_text text,
                          struct error *err)
{
    if (!option_unbracket(&text))
        return error_set(err, -EINVAL, "'%s' is not a list in brackets, as [0@[0-3,5],1@[2]]",
                         option_excerpt(text.start, text.len).text);
    struct option_text part;
    while (option_next_part(&text, &part)) {
        part = option_trim(part);
        const char *at = memchr(part.start, '@', part.len);
        if (!at)
            return error_set(err, -EINVAL, "'%s' is not <vcpu>@[<host CPUs>]",
                             option_excerpt(part.start, part.len).text);
        struct option_text vcpu_text = {part.start, (size_t)(at - part.start)};
        struct option_text cpus_text = {at + 1, part.len - vcpu_text.len - 1};
        uint64_t vcpu = 0;
        int ret = need_decimal(vcpu_text, &vcpu, err);
        if (ret < 0)
            return ret;
        struct cpu_affinity *affinity = option_add_affinity(base, key, vcpu, err);
        if (!affinity)
            return -EINVAL;
        ret = parse_host_cpus(affinity, cpus_text, err);
        if (ret < 0)
            return ret;
    }
    return 0;
}

/** parse_fds() - 3 or [3,4] */
static int parse_fds(void *base, const struct option_key *key, struct option_text text,
                     struct error *err)
{
    option_reset_key(base, key);
    option_unbracket(&text);
    struct option_text part;
    while (option_next_part(&text, &part)) {
        uint64_t fd = 0;
        int ret = need_decimal(option_trim(part), &fd, err);
        if (ret == 0)
            ret = option_add_fd(base, key, fd, err);
        if (ret < 0)
            return ret;
    }
    return 0;
}

int option_parse_value(void *base, const struct option_key *key, struct option_text text,
                       struct error *err)
{
    if (key->type == OPTION_STRINGS)
        return parse_strings(base, key, text, err);
    if (key->type == OPTION_FDS)
        return parse_fds(base, key, text, err);
    if (key->type == OPTION_TOPOLOGY)
        return parse_topology(base, key, text, err);
    if (key->type == OPTION_AFFINITY)
        return parse_affinity(base, key, text, err);

    /* The value of an option without keys is taken as it is: quotes in a command line are the kernel's. */
    _cleanup_free_ char *word = key->name ? option_dequote(text) : strndup(text.start, text.len);
    if (!word)
        return error_set_errno(err, -ENOMEM, "could not keep the value");
    size_t len = strlen(word);
    if (key->type == OPTION_STRING || key->type == OPTION_MODE_PATH)
        return option_set_string(base, key, word, len, err);

    uint64_t value = 0;
    int ret;
    switch (key->type) {
    case OPTION_BOOL:
        ret = parse_bool(word, &value, err);
        break;
    case OPTION_SWITCH:
        ret = parse_bool(word, &value, err);
        value = value ? SWITCH_ON : SWITCH_OFF;
        break;
    case OPTION_SIZE:
        ret = parse_size(word, &value, err);
        break;
    case OPTION_ENUM:
        ret = parse_enum(key, word, &value, err);
        break;
    case OPTION_PORT:
        ret = parse_port((struct option_text){word, len}, &value, err);
        break;
    default:
        ret = need_decimal((struct option_text){word, len}, &value, err);
    }
    return ret < 0 ? ret : option_set_number(base, key, value, err);
}
