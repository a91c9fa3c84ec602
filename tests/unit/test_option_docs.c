#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "config/options.h"
#include "config/table.h"

#include <stdlib.h>
#include <string.h>

/** captured() - what @print writes, to be freed. */
static char *captured(void (*print)(FILE *))
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    assert_non_null(out);
    print(out);
    fclose(out);
    return text;
}

/** options_page() - docs/options.md, to be freed. */
static char *options_page(void)
{
    const char *folder = getenv("HUSK_DOCS");
    assert_non_null(folder);
    char path[4096];
    snprintf(path, sizeof(path), "%s/options.md", folder);
    _cleanup_fclose_ FILE *in = fopen(path, "re");
    assert_non_null(in);
    char *text = NULL;
    size_t size = 0;
    assert_true(getdelim(&text, &size, '\0', in) > 0);
    return text;
}

/** unescaped() - @roff without the backslash of "\-" and the font changes, to be freed. */
static char *unescaped(const char *roff)
{
    char *text = malloc(strlen(roff) + 1);
    assert_non_null(text);
    char *to = text;
    for (const char *p = roff; *p; p++) {
        if (p[0] == '\\' && p[1] == 'f')
            p += 2;
        else if (p[0] == '\\' && p[1] == '-')
            continue;
        else
            *to++ = *p;
    }
    *to = '\0';
    return text;
}

static void the_help_names_every_option_key_and_default(void **state)
{
    (void)state;
    _cleanup_free_ char *help = captured(config_print_help);
    size_t keys = 0;
    for (size_t i = 0; i < option_table_len; i++) {
        const struct option *option = &option_table[i];
        char line[300];
        snprintf(line, sizeof(line), "\n  %s", option_usage(option).text);
        if (!strstr(help, line))
            fail_msg("the help lacks '%s'", option_usage(option).text);
        for (size_t j = 0; j < option->n_keys; j++) {
            const struct option_key *key = &option->keys[j];
            struct option_words usage = option_key_usage(key);
            struct option_words shown = option_key_default(key);
            if (key->name && !strstr(help, usage.text))
                fail_msg("the help lacks '%s'", usage.text);
            snprintf(line, sizeof(line), "[default: %s]", shown.text);
            if (key->name && shown.text[0] && !strstr(help, line))
                fail_msg("the help lacks '%s'", line);
            keys++;
        }
    }
    assert_true(keys > 50);
}

static void the_help_fits_in_a_hundred_columns(void **state)
{
    (void)state;
    _cleanup_free_ char *help = captured(config_print_help);
    for (const char *line = help; *line;) {
        size_t len = strcspn(line, "\n");
        if (len > 100 || (len && line[len - 1] == ' '))
            fail_msg("'%.*s' is %zu columns wide", (int)len, line, len);
        line += len + (line[len] == '\n');
    }
}

static void the_manual_page_names_every_option_and_key(void **state)
{
    (void)state;
    _cleanup_free_ char *roff = captured(config_print_man);
    _cleanup_free_ char *man = unescaped(roff);
    for (size_t i = 0; i < option_table_len; i++) {
        const struct option *option = &option_table[i];
        if (option->name) {
            char word[64];
            snprintf(word, sizeof(word), "--%s", option->name);
            if (!strstr(man, word))
                fail_msg("the manual page lacks '%s'", word);
        }
        for (size_t j = 0; j < option->n_keys; j++) {
            char word[64];
            snprintf(word, sizeof(word), ".TP\n%s",
                     option->keys[j].name ? option->keys[j].name : "");
            if (!strstr(man, word))
                fail_msg("the manual page lacks '%s'", word);
        }
    }
    /* No line begins with a control character by accident. */
    assert_null(strstr(roff, "\n'"));
}

static void the_page_of_options_names_every_option_and_key(void **state)
{
    (void)state;
    _cleanup_free_ char *page = options_page();
    for (size_t i = 0; i < option_table_len; i++) {
        const struct option *option = &option_table[i];
        char word[64];
        snprintf(word, sizeof(word), option->name ? "`--%s`" : "`-%s`",
                 option->name ? option->name : (const char[]){option->letter, '\0'});
        if (!strstr(page, word))
            fail_msg("docs/options.md lacks %s", word);
        for (size_t j = 0; j < option->n_keys; j++) {
            snprintf(word, sizeof(word), "`%s`", option->keys[j].name);
            if (option->keys[j].name && !strstr(page, word))
                fail_msg("docs/options.md lacks %s", word);
        }
    }
    for (const char *const *missing = options_not_built; *missing; missing++) {
        char word[64];
        snprintf(word, sizeof(word), "`--%s`", *missing);
        if (!strstr(page, word))
            fail_msg("docs/options.md lacks %s", word);
    }
}

/** is_known() - an option of the table, or one that is listed as not built. */
static bool is_known(const char *name, size_t len)
{
    for (size_t i = 0; i < option_table_len; i++) {
        const char *known = option_table[i].name;
        if (known && strlen(known) == len && memcmp(known, name, len) == 0)
            return true;
    }
    for (const char *const *missing = options_not_built; *missing; missing++)
        if (strlen(*missing) == len && memcmp(*missing, name, len) == 0)
            return true;
    return false;
}

static void the_page_of_options_names_no_other_option(void **state)
{
    (void)state;
    _cleanup_free_ char *page = options_page();
    size_t n = 0;
    for (const char *p = strstr(page, "`--"); p; p = strstr(p + 1, "`--"), n++) {
        size_t len = strcspn(p + 3, "` =");
        if (!is_known(p + 3, len))
            fail_msg("docs/options.md has '--%.*s', husk has not", (int)len, p + 3);
    }
    assert_true(n > 40);
}

static void no_option_is_both_there_and_not_built(void **state)
{
    (void)state;
    for (const char *const *missing = options_not_built; *missing; missing++)
        for (size_t i = 0; i < option_table_len; i++)
            if (option_table[i].name)
                assert_string_not_equal(option_table[i].name, *missing);
}

static void names_and_letters_are_unique(void **state)
{
    (void)state;
    for (size_t i = 0; i < option_table_len; i++) {
        const struct option *a = &option_table[i];
        for (size_t j = 0; j < i; j++) {
            const struct option *b = &option_table[j];
            assert_false(a->name && b->name && strcmp(a->name, b->name) == 0);
            assert_false(a->letter && a->letter == b->letter);
        }
        for (size_t j = 0; j < a->n_keys; j++)
            for (size_t k = 0; a->keys[0].name && k < j; k++)
                assert_string_not_equal(a->keys[j].name, a->keys[k].name);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_help_names_every_option_key_and_default),
        cmocka_unit_test(the_help_fits_in_a_hundred_columns),
        cmocka_unit_test(the_manual_page_names_every_option_and_key),
        cmocka_unit_test(the_page_of_options_names_every_option_and_key),
        cmocka_unit_test(the_page_of_options_names_no_other_option),
        cmocka_unit_test(no_option_is_both_there_and_not_built),
        cmocka_unit_test(names_and_letters_are_unique),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
