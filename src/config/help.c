/* --help, and the wording that it shares with the manual page. */
#include "base/units.h"
#include "config/options.h"
#include "config/table.h"

#include <inttypes.h>
#include <string.h>

#define TEXT_COLUMN 34
#define LAST_COLUMN 96

struct option_words option_key_usage(const struct option_key *key)
{
    struct option_words words = {""};
    char value[64] = "";
    if (key->type == OPTION_BOOL || key->type == OPTION_SWITCH) {
        strcpy(value, "on|off");
    } else if (key->type == OPTION_ENUM) {
        for (const struct option_name *name = key->names; name->text; name++) {
            strncat(value, value[0] ? "|" : "", sizeof(value) - strlen(value) - 1);
            strncat(value, name->text, sizeof(value) - strlen(value) - 1);
        }
    } else if (key->value) {
        snprintf(value, sizeof(value), "%s", key->value);
    }
    snprintf(words.text, sizeof(words.text), "%s%s%s", key->name ? key->name : "",
             key->name && value[0] ? "=" : "", value);
    return words;
}

struct option_words option_usage(const struct option *option)
{
    struct option_words words = {""};
    char letter[8] = "", name[48] = "", value[64] = "";
    if (option->letter)
        snprintf(letter, sizeof(letter), "-%c%s", option->letter, option->name ? ", " : "");
    if (option->name)
        snprintf(name, sizeof(name), "--%s", option->name);
    const struct option_key *first = &option->keys[0];
    if (!first->name)
        snprintf(value, sizeof(value), "%s",
                 option->value ? option->value : option_key_usage(first).text);
    else if (!option_is_mode(first))
        strcpy(value, "<key>=<value>,...");
    else if (option_is_mode(&option->keys[option->n_keys - 1]))
        strcpy(value, "<mode>");
    else
        strcpy(value, "<mode>,<key>=<value>");
    snprintf(words.text, sizeof(words.text), "%s%s%s%s", letter, name, value[0] ? " " : "", value);
    return words;
}

struct option_words option_key_default(const struct option_key *key)
{
    struct option_words words = {""};
    if (key->shown_default) {
        snprintf(words.text, sizeof(words.text), "%s", key->shown_default);
        return words;
    }
    switch (key->type) {
    case OPTION_BOOL:
        snprintf(words.text, sizeof(words.text), "%s", key->initial ? "on" : "off");
        break;
    case OPTION_U32:
    case OPTION_NUMBER:
        snprintf(words.text, sizeof(words.text), "%" PRIu64, key->initial);
        break;
    case OPTION_PORT:
        snprintf(words.text, sizeof(words.text), "0x%" PRIx64, key->initial);
        break;
    case OPTION_SIZE:
        units_format_size(key->initial, words.text);
        break;
    case OPTION_ENUM:
        snprintf(words.text, sizeof(words.text), "%s", key->names[key->initial].text);
        break;
    default:
        break;
    }
    return words;
}

struct option_words option_default(const struct option *option)
{
    struct option_words words = {""};
    const struct option_key *first = &option->keys[0];
    if (option->shown_default)
        snprintf(words.text, sizeof(words.text), "%s", option->shown_default);
    else if (option_is_mode(first))
        snprintf(words.text, sizeof(words.text), "%s", first->name);
    else if (!first->name && !option->request)
        words = option_key_default(first);
    return words;
}

/** print_entry() - @usage at column @indent, @help wrapped in the column of texts. */
static void print_entry(FILE *out, int indent, const char *usage, const char *help,
                        const char *shown_default)
{
    char text[512];
    snprintf(text, sizeof(text), "%s%s%s%s", help, shown_default[0] ? " [default: " : "",
             shown_default, shown_default[0] ? "]" : "");
    size_t column = (size_t)indent + strlen(usage);
    fprintf(out, "%*s%s", indent, "", usage);
    if (column + 2 > TEXT_COLUMN) {
        fputc('\n', out);
        column = 0;
    }
    const char *word = text;
    bool first = true;
    while (*word) {
        size_t len = strcspn(word, " ");
        /* "[default: x]" stays on one line. */
        if (word[0] == '[' && word[len] == ' ')
            len = strlen(word);
        if (!first && column + 1 + len > LAST_COLUMN) {
            fputc('\n', out);
            column = 0;
            first = true;
        }
        if (first)
            fprintf(out, "%*s", (int)(TEXT_COLUMN - column), "");
        else
            fputc(' ', out);
        column = (first ? TEXT_COLUMN : column + 1) + len;
        first = false;
        fprintf(out, "%.*s", (int)len, word);
        word += len;
        word += strspn(word, " ");
    }
    fputc('\n', out);
}

static void print_option(FILE *out, const struct option *option)
{
    print_entry(out, 2, option_usage(option).text, option->help, option_default(option).text);
    for (size_t i = 0; i < option->n_keys; i++) {
        const struct option_key *key = &option->keys[i];
        if (key->name)
            print_entry(out, 6, option_key_usage(key).text, key->help,
                        option_key_default(key).text);
    }
}

void config_print_help(FILE *out)
{
    fputs("Usage: husk run [options]\n"
          "       husk [options]\n"
          "\n"
          "Boots a virtual machine and runs it until it ends. `man husk` says more.\n"
          "A value holds several keys parted by commas; double quotes protect a comma:\n"
          "  husk run --kernel vmlinuz --cpus boot=2 --memory size=1G,thp=off --serial tty\n"
          "Sizes take K, M, G or T. --name=value is the same as --name value.\n",
          out);
    for (int topic = 0; topic < OPTION_TOPICS; topic++) {
        fprintf(out, "\n%s:\n", option_topic_titles[topic]);
        for (size_t i = 0; i < option_table_len; i++)
            if (option_table[i].topic == (enum option_topic)topic)
                print_option(out, &option_table[i]);
    }
}
