/*
 * The grammar of one option's value, as Cloud Hypervisor's option parser has it: parts between commas; brackets nest
 * and keep commas inside together; within double quotes nothing but the closing quote is special.
 */
#include "config/table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

int option_check_balance(struct option_text text, struct error *err)
{
    size_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.start[i];
        if (c == '"')
            quoted = !quoted;
        else if (quoted)
            continue;
        else if (c == '[')
            depth++;
        else if (c == ']' && depth-- == 0)
            return error_set(err, -EINVAL, "']' without '[' in '%s'",
                             option_excerpt(text.start, text.len).text);
    }
    if (quoted)
        return error_set(err, -EINVAL, "missing '\"' in '%s'",
                         option_excerpt(text.start, text.len).text);
    if (depth)
        return error_set(err, -EINVAL, "missing ']' in '%s'",
                         option_excerpt(text.start, text.len).text);
    return 0;
}

/** cut() - the next part off *@rest, up to a @separator outside brackets and quotes. */
static bool cut(struct option_text *rest, struct option_text *part, char separator)
{
    if (!rest->start)
        return false;
    size_t depth = 0;
    bool quoted = false;
    for (size_t i = 0; i < rest->len; i++) {
        char c = rest->start[i];
        if (c == '"') {
            quoted = !quoted;
        } else if (quoted) {
            continue;
        } else if (c == '[') {
            depth++;
        } else if (c == ']' && depth) {
            depth--;
        } else if (c == separator && depth == 0) {
            *part = (struct option_text){rest->start, i};
            rest->start += i + 1;
            rest->len -= i + 1;
            return true;
        }
    }
    *part = *rest;
    *rest = (struct option_text){NULL, 0};
    return true;
}

bool option_next_part(struct option_text *rest, struct option_text *part)
{
    return cut(rest, part, ',');
}

bool option_next_item(struct option_text *rest, struct option_text *part)
{
    return cut(rest, part, ':');
}

struct option_text option_trim(struct option_text text)
{
    while (text.len && is_space(text.start[0])) {
        text.start++;
        text.len--;
    }
    while (text.len && is_space(text.start[text.len - 1]))
        text.len--;
    return text;
}

bool option_unbracket(struct option_text *text)
{
    if (text->len < 2 || text->start[0] != '[' || text->start[text->len - 1] != ']')
        return false;
    text->start++;
    text->len -= 2;
    return true;
}

char *option_dequote(struct option_text text)
{
    char *copy = malloc(text.len + 1);
    if (!copy)
        return NULL;
    size_t used = 0;
    bool quoted = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.start[i];
        if (c != '"') {
            copy[used++] = c;
            continue;
        }
        /* A quote that opens right behind one that closed stands for itself. */
        if (!quoted && i > 0 && text.start[i - 1] == '"')
            copy[used++] = '"';
        quoted = !quoted;
    }
    copy[used] = '\0';
    return copy;
}
