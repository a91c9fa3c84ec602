/* The OPTIONS part of the manual page husk(1), in the man macros of roff. */
#include "config/options.h"
#include "config/table.h"

#include <string.h>

/** put_roff() - @text with roff's special characters escaped. */
static void put_roff(FILE *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '\\')
            fputs("\\e", out);
        else if (*p == '-')
            fputs("\\-", out);
        else if (*p == '\'')
            fputs("\\(aq", out);
        else if (*p == '"')
            fputs("\\(dq", out);
        else
            fputc(*p, out);
    }
}

/** put_usage() - "--name <value>": what is typed in bold, what stands for something in italics. */
static void put_usage(FILE *out, const char *usage)
{
    fputs("\\fB", out);
    char run[128];
    for (const char *p = usage; *p;) {
        size_t len = strcspn(*p == '<' ? p + 1 : p, *p == '<' ? ">" : "<");
        bool placeholder = *p == '<';
        if (placeholder && p[len + 1] == '>')
            len += 2;
        snprintf(run, sizeof(run), "%.*s", (int)len, p);
        if (placeholder) {
            run[len - 1] = '\0';
            fputs("\\fI", out);
            put_roff(out, run + 1);
            fputs("\\fB", out);
        } else {
            put_roff(out, run);
        }
        p += len;
    }
    fputs("\\fR\n", out);
}

static void put_entry(FILE *out, const char *usage, const char *help, const char *shown_default)
{
    fputs(".TP\n", out);
    put_usage(out, usage);
    fputs("\\&", out);
    put_roff(out, help);
    fputs(".\n", out);
    if (shown_default[0]) {
        fputs("Default: ", out);
        put_roff(out, shown_default);
        fputs(".\n", out);
    }
}

static void put_option(FILE *out, const struct option *option)
{
    put_entry(out, option_usage(option).text, option->help, option_default(option).text);
    bool indented = false;
    for (size_t i = 0; i < option->n_keys; i++) {
        const struct option_key *key = &option->keys[i];
        if (!key->name)
            continue;
        if (!indented)
            fputs(".RS\n", out);
        indented = true;
        put_entry(out, option_key_usage(key).text, key->help, option_key_default(key).text);
    }
    if (indented)
        fputs(".RE\n", out);
}

void config_print_man(FILE *out)
{
    for (int topic = 0; topic < OPTION_TOPICS; topic++) {
        fprintf(out, ".SS %s\n", option_topic_titles[topic]);
        for (size_t i = 0; i < option_table_len; i++)
            if (option_table[i].topic == (enum option_topic)topic)
                put_option(out, &option_table[i]);
    }
}
