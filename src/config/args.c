/* The command line: words into options, and each option's value into the struct. */
#include "base/buf.h"
#include "base/cleanup.h"
#include "config/options.h"
#include "config/table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* One option as it was found on the command line. */
struct given {
    const struct option *option;
    const char *value; /* NULL if it takes none */
};

struct given_list {
    struct given *items;
    size_t n;
};

static void given_list_release(struct given_list *list)
{
    free(list->items);
}

void config_request_release(struct config_request *request)
{
    free(request->config_file);
    *request = CONFIG_REQUEST_INIT;
}

/** say_nearest() - the hint for a mistyped @word, with @dashes in front of what was meant. */
static void say_nearest(struct error *err, const char *word, const char *dashes,
                        const char *const *candidates, size_t n)
{
    const char *near = option_nearest(word, candidates, n);
    if (near)
        error_hint(err, "did you mean '%s%s'? `husk run --help` lists all options", dashes, near);
}

static const struct option *find_option(const char *name, size_t len)
{
    for (size_t i = 0; i < option_table_len; i++) {
        const char *candidate = option_table[i].name;
        if (candidate && strncmp(candidate, name, len) == 0 && candidate[len] == '\0')
            return &option_table[i];
    }
    return NULL;
}

/** find_word() - the option that @word, "name" or "name=value", names. */
static const struct option *find_word(const char *word)
{
    const char *equals = strchrnul(word, '=');
    return find_option(word, (size_t)(equals - word));
}

static const struct option *find_letter(char letter)
{
    for (size_t i = 0; i < option_table_len; i++)
        if (letter && option_table[i].letter == letter)
            return &option_table[i];
    return NULL;
}

static int unknown_option(const char *name, size_t len, struct error *err)
{
    _cleanup_free_ char *word = strndup(name, len);
    if (!word)
        return error_set_errno(err, -ENOMEM, "could not read the command line");
    for (const char *const *missing = options_not_built; *missing; missing++)
        if (strcmp(word, *missing) == 0) {
            error_set(err, -EINVAL,
                      "--%s: husk does not have this option of Cloud Hypervisor's yet", word);
            return error_hint(err, "`husk run --help` lists the options there are");
        }
    const char *names[64];
    size_t n = 0;
    for (size_t i = 0; i < option_table_len && n < COUNT(names); i++)
        if (option_table[i].name)
            names[n++] = option_table[i].name;
    error_set(err, -EINVAL, "unknown option '--%s'", option_excerpt(word, len).text);
    say_nearest(err, word, "--", names, n);
    return -EINVAL;
}

static int add_given(struct given_list *list, const struct option *option, const char *value,
                     struct error *err)
{
    if (option->keys[0].type != OPTION_COUNT && !option->list)
        for (size_t i = 0; i < list->n; i++)
            if (list->items[i].option == option)
                return error_set(err, -EINVAL, "--%s: given twice", option->name);
    struct given *items = reallocarray(list->items, list->n + 1, sizeof(*items));
    if (!items)
        return error_set_errno(err, -ENOMEM, "could not read the command line");
    list->items = items;
    list->items[list->n++] = (struct given){option, value};
    return 0;
}

/** read_letters() - "-v", "-vv": each letter an option without a value. */
static int read_letters(const char *word, struct given_list *list, struct error *err)
{
    const char *letters = word + 1;
    for (const char *letter = letters; *letter; letter++) {
        const struct option *option = find_letter(*letter);
        if (!option) {
            error_set(err, -EINVAL, "unknown option '-%s' in '%s'", option_excerpt(letter, 1).text,
                      option_excerpt(word, strlen(word)).text);
            if (find_word(letters))
                error_hint(err, "did you mean '-%s'? `husk run --help` lists all options",
                           option_excerpt(word, strlen(word)).text);
            return -EINVAL;
        }
        int ret = add_given(list, option, NULL, err);
        if (ret < 0)
            return ret;
    }
    return 0;
}

/** is_option() - whether @word names an option, so that it is not the value of the one before it. */
static bool is_option(const char *word)
{
    return strncmp(word, "--", 2) == 0 && find_word(word + 2);
}

/** read_long() - the option at argv[*i]; *i is left at its last word. */
static int read_long(int argc, char **argv, int *i, struct given_list *list, struct error *err)
{
    const char *name = argv[*i] + 2;
    size_t len = strcspn(name, "=");
    const struct option *option = find_option(name, len);
    if (!option)
        return unknown_option(name, len, err);

    const char *value = name[len] == '=' ? name + len + 1 : NULL;
    if (!option_takes_value(option)) {
        if (value)
            return error_set(err, -EINVAL, "--%s: takes no value, but '%s' was given", option->name,
                             option_excerpt(value, strlen(value)).text);
    } else if (!value) {
        if (*i + 1 == argc || is_option(argv[*i + 1]))
            return error_set(err, -EINVAL, "--%s: needs a value", option->name);
        value = argv[++*i];
    }
    int ret = add_given(list, option, value, err);
    /* "--disk path=a path=b", as Cloud Hypervisor takes it. */
    while (ret == 0 && option->list && *i + 1 < argc && argv[*i + 1][0] != '-')
        ret = add_given(list, option, argv[++*i], err);
    return ret;
}

/** read_words() - the whole command line, up to a request for help or the version. */
static int read_words(int argc, char **argv, struct given_list *list, struct error *err)
{
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];
        size_t before = list->n;
        int ret;
        if (strncmp(word, "--", 2) == 0 && word[2])
            ret = read_long(argc, argv, &i, list, err);
        else if (word[0] == '-' && word[1] && word[1] != '-')
            ret = read_letters(word, list, err);
        else
            ret = error_set(err, -EINVAL, "unexpected word '%s'",
                            option_excerpt(word, strlen(word)).text);
        if (ret < 0) {
            if (word[0] != '-' && find_word(word))
                error_hint(err, "did you mean '--%s'? `husk run --help` lists all options",
                           option_excerpt(word, strlen(word)).text);
            return ret;
        }
        for (size_t j = before; j < list->n; j++) {
            char letter = list->items[j].option->letter;
            if (letter == 'h' || letter == 'V')
                return 0;
        }
    }
    return 0;
}

static int unknown_key(const struct option *option, struct option_text part, const char *name,
                       struct error *err)
{
    for (const char *const *missing = option->keys_not_built; missing && *missing; missing++)
        if (strcmp(name, *missing) == 0)
            return error_set(err, -EINVAL,
                             "husk does not have Cloud Hypervisor's key '%s' of this option yet",
                             name);
    const char *names[32];
    size_t n = 0;
    for (size_t i = 0; i < option->n_keys && n < COUNT(names); i++)
        names[n++] = option->keys[i].name;
    struct option_excerpt shown = option_excerpt(name, strlen(name));
    if (strlen(name) == part.len)
        error_set(err, -EINVAL, "unknown key '%s'", shown.text);
    else
        error_set(err, -EINVAL, "unknown key '%s' in '%s'", shown.text,
                  option_excerpt(part.start, part.len).text);
    /* "--memory 1G", as other programs have it. */
    bool number = name[0] >= '0' && name[0] <= '9' && strlen(name) == part.len;
    if (number && !option_is_mode(&option->keys[0]))
        return error_hint(err, "did you mean '%s=%s'? `husk run --help` lists all options",
                          option->keys[0].name, shown.text);
    say_nearest(err, name, "", names, n);
    return -EINVAL;
}

/** check_once() - @key must not be given together with itself, an alias or, for a mode, another mode. */
static int check_once(const struct option *option, uint64_t given, const struct option_key *key,
                      struct error *err)
{
    for (size_t i = 0; i < option->n_keys; i++) {
        const struct option_key *other = &option->keys[i];
        if (!(given & 1ULL << i))
            continue;
        if (other == key)
            return error_set(err, -EINVAL, "'%s' is given twice", key->name);
        if (option_is_mode(other) && option_is_mode(key))
            return error_set(err, -EINVAL, "'%s' and '%s' exclude each other", other->name,
                             key->name);
        if (other->offset == key->offset && (other->alias || key->alias))
            return error_set(err, -EINVAL, "'%s' and '%s' are the same", other->name, key->name);
    }
    return 0;
}

static int apply_keys(void *base, const struct option *option, struct option_text text,
                      struct error *err);

/** apply_items() - a list in brackets, each item with keys of its own. */
static int apply_items(void *base, const struct option_key *key, struct option_text text,
                       struct error *err)
{
    if (!option_unbracket(&text))
        return error_set(err, -EINVAL, "'%s' is not a list in brackets, as %s",
                         option_excerpt(text.start, text.len).text, key->value);
    option_reset_key(base, key);
    struct option_text part;
    while (option_next_item(&text, &part)) {
        void *item = option_add_item(base, key->items, err);
        int ret = item ? apply_keys(item, key->items, part, err) : err->code;
        if (ret < 0)
            return ret;
    }
    return 0;
}

/** apply_key() - one key=value, or a key alone. @given has a bit for each key seen. */
static int apply_key(void *base, const struct option *option, struct option_text part,
                     uint64_t *given, struct error *err)
{
    const char *equals = memchr(part.start, '=', part.len);
    struct option_text name_text = part;
    if (equals)
        name_text.len = (size_t)(equals - part.start);
    name_text = option_trim(name_text);
    _cleanup_free_ char *name = strndup(name_text.start, name_text.len);
    if (!name)
        return error_set_errno(err, -ENOMEM, "could not keep the value");
    if (part.len == 0)
        return error_set(err, -EINVAL, "a comma without anything before or behind it");

    size_t i = 0;
    while (i < option->n_keys && strcmp(option->keys[i].name, name) != 0)
        i++;
    if (i == option->n_keys)
        return unknown_key(option, part, name, err);
    const struct option_key *key = &option->keys[i];
    int ret = check_once(option, *given, key, err);
    if (ret < 0)
        return ret;
    *given |= 1ULL << i;

    if (key->type == OPTION_MODE || key->type == OPTION_FLAG) {
        if (equals)
            return error_set(err, -EINVAL, "'%s' takes no value", name);
        return option_set_number(base, key, key->type == OPTION_FLAG ? true : key->initial, err);
    }
    struct option_text value = {part.start + part.len, 0};
    if (equals)
        value = option_trim(
            (struct option_text){equals + 1, part.len - (size_t)(equals + 1 - part.start)});
    if (value.len == 0)
        return error_set(err, -EINVAL, "'%s' needs a value, as %s=%s", name, name,
                         key->value ? key->value : "on");
    ret = key->type == OPTION_ITEMS ? apply_items(base, key, value, err)
                                    : option_parse_value(base, key, value, err);
    if (ret < 0)
        error_context(err, "%s", name);
    return ret;
}

/** need_key() - a console must be told where its output goes, an event monitor where to write. */
static int need_key(const struct option *option, uint64_t given, struct error *err)
{
    if (!option->needs_key)
        return 0;
    bool has_modes = option_is_mode(&option->keys[0]);
    _cleanup_buf_ struct buf names = BUF_INIT;
    for (size_t i = 0; i < option->n_keys; i++) {
        const struct option_key *key = &option->keys[i];
        if (option_is_mode(key) != has_modes)
            continue;
        if (given & 1ULL << i)
            return 0;
        buf_printf(&names, "%s%s", names.len ? ", " : "", option_key_usage(key).text);
    }
    if (buf_failed(&names))
        return error_set_errno(err, -ENOMEM, "could not read the command line");
    return error_set(err, -EINVAL, "needs one of %s", (const char *)names.data);
}

static int apply_keys(void *base, const struct option *option, struct option_text text,
                      struct error *err)
{
    text = option_trim(text);
    int ret = option_check_balance(text, err);
    uint64_t given = 0;
    struct option_text part;
    if (text.len == 0)
        text.start = NULL; /* no part, where an empty text would be one that is empty */
    while (ret == 0 && option_next_part(&text, &part))
        ret = apply_key(base, option, part, &given, err);
    return ret < 0 ? ret : need_key(option, given, err);
}

static struct option_text text_of(const struct given *given)
{
    const char *value = given->value ? given->value : "";
    return (struct option_text){value, strlen(value)};
}

static int apply(struct vm_config *config, struct config_request *request,
                 const struct given *given, struct error *err)
{
    const struct option *option = given->option;
    const struct option_key *key = &option->keys[0];
    void *base = option->request ? (void *)request : (void *)config;
    int ret;
    if (option->list) {
        void *item = option_add_item(base, option, err);
        struct option_text text = text_of(given);
        ret = item ? apply_keys(item, option, text, err) : err->code;
    } else if (key->name) {
        option_reset(base, option);
        struct option_text text = text_of(given);
        ret = apply_keys(base, option, text, err);
    } else if (key->type == OPTION_COUNT) {
        ret = option_set_number(base, key, option_get_number(base, key) + 1, err);
    } else if (key->type == OPTION_FLAG) {
        ret = option_set_number(base, key, true, err);
    } else {
        option_reset(base, option);
        struct option_text text = text_of(given);
        ret = option_parse_value(base, key, text, err);
    }
    if (ret < 0 && option->name)
        error_context(err, "--%s", option->name);
    else if (ret < 0)
        error_context(err, "-%c", option->letter);
    return ret;
}

/** read_config_file() - JSON over what @config holds. */
static int read_config_file(struct vm_config *config, const char *path, struct error *err)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return error_set_errno(err, -errno, "--config: could not open '%s'",
                               option_excerpt(path, strlen(path)).text);
    _cleanup_buf_ struct buf text = BUF_INIT;
    for (;;) {
        char chunk[4096];
        ssize_t n = read(fd, chunk, sizeof(chunk));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return error_set_errno(err, -errno, "--config: could not read '%s'",
                                   option_excerpt(path, strlen(path)).text);
        buf_append(&text, chunk, (size_t)n);
        if (n == 0 || text.len > CONFIG_JSON_MAX)
            break;
    }
    if (buf_failed(&text))
        return error_set_errno(err, -ENOMEM, "--config: could not read '%s'",
                               option_excerpt(path, strlen(path)).text);
    int ret = config_from_json(config, text.data ? (const char *)text.data : "", text.len, err);
    if (ret < 0)
        error_context(err, "--config: %s", option_excerpt(path, strlen(path)).text);
    return ret;
}

static int parse(struct vm_config *config, int argc, char **argv, struct config_request *request,
                 struct error *err)
{
    _cleanup_(given_list_release) struct given_list list = {0};
    int ret = read_words(argc, argv, &list, err);
    for (size_t i = 0; ret == 0 && i < list.n; i++)
        if (list.items[i].option->request)
            ret = apply(config, request, &list.items[i], err);
    if (ret == 0 && (request->help || request->version))
        return 0;
    if (ret == 0 && request->json && !request->dry_run)
        return error_set(err, -EINVAL, "--json: needs --dry-run, whose output it is about");
    if (ret == 0 && request->config_file)
        ret = read_config_file(config, request->config_file, err);

    /* -v counts from zero, and a list begins empty, whatever the file says; the other options reset themselves. */
    for (size_t i = 0; ret == 0 && i < list.n; i++)
        if (list.items[i].option->keys[0].type == OPTION_COUNT || list.items[i].option->list)
            option_reset(config, list.items[i].option);
    for (size_t i = 0; ret == 0 && i < list.n; i++)
        if (!list.items[i].option->request)
            ret = apply(config, request, &list.items[i], err);
    return ret;
}

int config_parse_args(struct vm_config *config, int argc, char **argv,
                      struct config_request *request, struct error *err)
{
    config_init_defaults(config);
    *request = CONFIG_REQUEST_INIT;
    int ret = parse(config, argc, argv, request, err);
    if (ret == -EINVAL)
        error_hint(err, "`husk run --help` lists all options");
    return ret;
}
