#include "cmd/words.h"

#include "config/table.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct word_option *find(const struct word_option *options, size_t n, const char *word,
                                      const char **value)
{
    *value = NULL;
    for (size_t i = 0; i < n; i++)
        if (word[0] == '-' && options[i].letter && word[1] == options[i].letter && !word[2])
            return &options[i];
    if (strncmp(word, "--", 2) != 0)
        return NULL;
    size_t len = strcspn(word + 2, "=");
    *value = word[2 + len] == '=' ? word + 2 + len + 1 : NULL;
    for (size_t i = 0; i < n; i++)
        if (strlen(options[i].name) == len && strncmp(options[i].name, word + 2, len) == 0)
            return &options[i];
    return NULL;
}

static int add(struct string_list *list, const char *text, struct error *err)
{
    char **items = reallocarray(list->items, list->n + 1, sizeof(*items));
    char *copy = items ? strdup(text) : NULL;
    if (items)
        list->items = items;
    if (!copy)
        return error_set(err, -ENOMEM, "out of memory while reading the command line");
    list->items[list->n++] = copy;
    return 0;
}

static int unknown(const struct word_option *options, size_t n, const char *word, struct error *err)
{
    const char *names[64];
    for (size_t i = 0; i < n && i < 64; i++)
        names[i] = options[i].name;
    error_set(err, -EINVAL, "there is no option %s", option_excerpt(word, strlen(word)).text);
    const char *near = word[1] == '-' ? option_nearest(word + 2, names, n < 64 ? n : 64) : NULL;
    return near ? error_hint(err, "did you mean --%s?", near) : err->code;
}

int words_take(const struct word_option *options, size_t n, int *argc, char **argv, bool only,
               struct error *err)
{
    int left = 0;
    for (int i = 0; i < *argc; i++) {
        const char *value = NULL;
        const struct word_option *option = find(options, n, argv[i], &value);
        if (!option) {
            if (only && argv[i][0] == '-' && argv[i][1])
                return unknown(options, n, argv[i], err);
            argv[left++] = argv[i];
            continue;
        }
        if (option->flag) {
            if (value)
                return error_set(err, -EINVAL, "--%s takes no value", option->name);
            *option->flag = true;
            continue;
        }
        if (!value && i + 1 < *argc)
            value = argv[++i];
        if (!value || !*value)
            return error_set(err, -EINVAL, "--%s needs a value: %s", option->name, option->value);
        if (option->text && *option->text)
            return error_set(err, -EINVAL, "--%s is given twice", option->name);
        if (option->text)
            *option->text = value;
        int r = option->list ? add(option->list, value, err) : 0;
        if (r < 0)
            return r;
    }
    *argc = left;
    return 0;
}

void words_free_list(struct string_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->items[i]);
    free(list->items);
    *list = (struct string_list){0};
}

void words_print(const struct word_option *options, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        char left[64];
        snprintf(left, sizeof(left), "--%s%s%s", options[i].name, options[i].value ? " " : "",
                 options[i].value ? options[i].value : "");
        printf("  %-34s %s\n", left, options[i].help);
    }
}

int words_number(const char *option, const char *text, uint64_t max, uint64_t *number,
                 struct error *err)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 0);
    if (!isdigit((unsigned char)text[0]) || *end || errno || value > max)
        return error_set(err, -EINVAL, "--%s: '%s' is not a number from 0 to %" PRIu64, option,
                         option_excerpt(text, strlen(text)).text, max);
    *number = value;
    return 0;
}
