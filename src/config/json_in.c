/* JSON into the configuration. Every message begins with the path of the field it is about. */
#include "base/cleanup.h"
#include "config/options.h"
#include "config/table.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void cleanup_json(json_t **json)
{
    json_decref(*json);
}

/**
 * at_path() - put a piece of the field's path ("[2]", ".vcpu") in front of the message, which may begin with the
 * pieces that come after it. Returns the code.
 */
static int __attribute__((format(printf, 2, 3))) at_path(struct error *err, const char *fmt, ...)
{
    if (!err)
        return -EINVAL;
    char piece[128], rest[ERROR_MESSAGE_MAX];
    va_list args;
    va_start(args, fmt);
    vsnprintf(piece, sizeof(piece), fmt, args);
    va_end(args);
    memcpy(rest, err->message, sizeof(rest));
    bool more_path = rest[0] == '.' || rest[0] == '[';
    snprintf(err->message, sizeof(err->message), "%s%s%.*s", piece, more_path ? "" : ": ",
             (int)(sizeof(rest) - sizeof(piece) - 4), rest);
    return err->code;
}

static const char *type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "a whole number";
    case JSON_REAL:
        return "a fraction";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        return "null";
    }
    return "something else";
}

static int wrong_type(const json_t *value, const char *wanted, struct error *err)
{
    return error_set(err, -EINVAL, "must be %s, not %s", wanted, type_name(value));
}

static int read_number(const json_t *value, uint64_t *number, struct error *err)
{
    if (!json_is_integer(value))
        return wrong_type(value, "a whole number", err);
    if (json_integer_value(value) < 0)
        return error_set(err, -EINVAL, "must not be negative, but is %" JSON_INTEGER_FORMAT,
                         json_integer_value(value));
    *number = (uint64_t)json_integer_value(value);
    return 0;
}

static int read_enum(const json_t *value, const struct option_key *key, uint64_t *number,
                     struct error *err)
{
    const char *names[8];
    size_t n = 0;
    if (!json_is_string(value))
        return wrong_type(value, "a string", err);
    const char *word = json_string_value(value);
    for (; n < COUNT(names) && key->names[n].text; n++) {
        names[n] = key->names[n].json;
        *number = n;
        if (strcmp(names[n], word) == 0)
            return 0;
    }
    error_set(err, -EINVAL, "unknown value '%s'", option_excerpt(word, strlen(word)).text);
    const char *near = option_nearest(word, names, n);
    if (near)
        error_hint(err, "did you mean '%s'?", near);
    return -EINVAL;
}

static int read_strings(void *base, const struct option_key *key, const json_t *value,
                        struct error *err)
{
    if (!json_is_array(value))
        return wrong_type(value, "an array", err);
    option_reset_key(base, key);
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *item = json_array_get(value, i);
        int ret = json_is_string(item) ? option_add_string(base, key, json_string_value(item),
                                                           json_string_length(item), err)
                                       : wrong_type(item, "a string", err);
        if (ret < 0)
            return at_path(err, "[%zu]", i);
    }
    return 0;
}

static int read_fds(void *base, const struct option_key *key, const json_t *value,
                    struct error *err)
{
    if (!json_is_array(value))
        return wrong_type(value, "an array", err);
    option_reset_key(base, key);
    for (size_t i = 0; i < json_array_size(value); i++) {
        uint64_t fd = 0;
        int ret = read_number(json_array_get(value, i), &fd, err);
        if (ret == 0)
            ret = option_add_fd(base, key, fd, err);
        if (ret < 0)
            return at_path(err, "[%zu]", i);
    }
    return 0;
}

/** unknown_name() - the message for a field that is none of @n names. Returns -EINVAL. */
static int unknown_name(const char *name, const char *const *names, size_t n, struct error *err)
{
    error_set(err, -EINVAL, "unknown field '%s'", option_excerpt(name, strlen(name)).text);
    const char *near = option_nearest(name, names, n);
    if (near)
        error_hint(err, "did you mean '%s'?", near);
    return -EINVAL;
}

/** check_fields() - no field of @object but the @n named ones. */
static int check_fields(json_t *object, const char *const *names, size_t n, struct error *err)
{
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        size_t i = 0;
        while (i < n && strcmp(names[i], name) != 0)
            i++;
        if (i == n)
            return unknown_name(name, names, n, err);
    }
    return 0;
}

static int read_topology(void *base, const struct option_key *key, json_t *value, struct error *err)
{
    static const char *const names[] = {"threads_per_core", "cores_per_die", "dies_per_package",
                                        "packages"};
    if (!json_is_object(value))
        return wrong_type(value, "an object", err);
    int ret = check_fields(value, names, COUNT(names), err);
    uint64_t parts[COUNT(names)] = {0};
    for (size_t i = 0; ret == 0 && i < COUNT(names); i++) {
        const json_t *part = json_object_get(value, names[i]);
        ret = part ? read_number(part, &parts[i], err) : error_set(err, -EINVAL, "is missing");
        if (ret < 0)
            at_path(err, ".%s", names[i]);
    }
    return ret < 0 ? ret : option_set_topology(base, key, parts, err);
}

static int read_affinity_item(void *base, const struct option_key *key, json_t *item,
                              struct error *err)
{
    static const char *const names[] = {"vcpu", "host_cpus"};
    if (!json_is_object(item))
        return wrong_type(item, "an object", err);
    int ret = check_fields(item, names, COUNT(names), err);
    if (ret < 0)
        return ret;
    const json_t *vcpu = json_object_get(item, "vcpu");
    const json_t *host_cpus = json_object_get(item, "host_cpus");
    if (!vcpu || !host_cpus)
        return error_set(err, -EINVAL, "'%s' is missing", vcpu ? "host_cpus" : "vcpu");
    uint64_t number = 0;
    ret = read_number(vcpu, &number, err);
    struct cpu_affinity *affinity = ret == 0 ? option_add_affinity(base, key, number, err) : NULL;
    if (!affinity)
        return at_path(err, ".vcpu");
    if (!json_is_array(host_cpus)) {
        wrong_type(host_cpus, "an array", err);
        return at_path(err, ".host_cpus");
    }
    for (size_t i = 0; i < json_array_size(host_cpus); i++) {
        ret = read_number(json_array_get(host_cpus, i), &number, err);
        if (ret == 0)
            ret = option_add_host_cpus(affinity, number, number, err);
        if (ret < 0)
            return at_path(err, ".host_cpus[%zu]", i);
    }
    return 0;
}

static int read_affinity(void *base, const struct option_key *key, const json_t *value,
                         struct error *err)
{
    if (!json_is_array(value))
        return wrong_type(value, "an array", err);
    option_reset_key(base, key);
    for (size_t i = 0; i < json_array_size(value); i++)
        if (read_affinity_item(base, key, json_array_get(value, i), err) < 0)
            return at_path(err, "[%zu]", i);
    return 0;
}

static int read_list(void *base, const struct option *option, const json_t *array,
                     struct error *err);

static int read_key(void *base, const struct option_key *key, json_t *value, struct error *err)
{
    uint64_t number = 0;
    int ret = 0;
    switch (key->type) {
    case OPTION_FLAG:
    case OPTION_BOOL:
        if (!json_is_boolean(value))
            return wrong_type(value, "a boolean", err);
        number = json_is_true(value);
        break;
    case OPTION_SWITCH:
        if (!json_is_boolean(value))
            return wrong_type(value, "a boolean", err);
        number = json_is_true(value) ? SWITCH_ON : SWITCH_OFF;
        break;
    case OPTION_ENUM:
        ret = read_enum(value, key, &number, err);
        break;
    case OPTION_STRING:
    case OPTION_MODE_PATH:
        if (!json_is_string(value))
            return wrong_type(value, "a string", err);
        return option_set_string(base, key, json_string_value(value), json_string_length(value),
                                 err);
    case OPTION_STRINGS:
        return read_strings(base, key, value, err);
    case OPTION_FDS:
        return read_fds(base, key, value, err);
    case OPTION_TOPOLOGY:
        return read_topology(base, key, value, err);
    case OPTION_AFFINITY:
        return read_affinity(base, key, value, err);
    case OPTION_ITEMS:
        return read_list(base, key->items, value, err);
    default:
        ret = read_number(value, &number, err);
    }
    return ret < 0 ? ret : option_set_number(base, key, number, err);
}

/** read_mode() - where a console's output goes; "file" and "socket" are read after it. */
static int read_mode(struct vm_config *config, const struct option *option, const json_t *value,
                     struct error *err)
{
    const char *names[16];
    size_t n = 0;
    if (!json_is_string(value))
        return wrong_type(value, "a string", err);
    const char *word = json_string_value(value);
    for (size_t i = 0; i < option->n_keys && n < COUNT(names); i++) {
        const struct option_key *key = &option->keys[i];
        if (!option_is_mode(key))
            continue;
        if (strcmp(key->json, word) == 0) {
            option_reset(config, option);
            option_reset_key(config, key);
            return 0;
        }
        names[n++] = key->json;
    }
    error_set(err, -EINVAL, "unknown value '%s'", option_excerpt(word, strlen(word)).text);
    const char *near = option_nearest(word, names, n);
    if (near)
        error_hint(err, "did you mean '%s'?", near);
    return -EINVAL;
}

/** find_key() - the key whose field in the object @object (NULL: the top level) is called @name. */
static const struct option_key *find_key(const char *object, const char *name,
                                         const struct option **found)
{
    for (size_t i = 0; i < option_table_len; i++) {
        const struct option *option = &option_table[i];
        bool here = object ? option->json && strcmp(option->json, object) == 0 : !option->json;
        for (size_t j = 0; here && !option->request && j < option->n_keys; j++) {
            const struct option_key *key = &option->keys[j];
            const char *field = key->type == OPTION_MODE_PATH ? key->name : option_key_json(key);
            if (key->type != OPTION_MODE && strcmp(field, name) == 0) {
                *found = option;
                return key;
            }
        }
    }
    return NULL;
}

static bool is_object(const char *name)
{
    for (size_t i = 0; i < option_table_len; i++)
        if (option_table[i].json && strcmp(option_table[i].json, name) == 0)
            return true;
    return false;
}

/** unknown_field() - the message, and the nearest field of @object (NULL: the top level). */
static int unknown_field(const char *object, const char *name, struct error *err)
{
    const char *names[64];
    size_t n = 0;
    for (size_t i = 0; i < option_table_len; i++) {
        const struct option *option = &option_table[i];
        if (option->request)
            continue;
        if (!object && option->json && n < COUNT(names))
            names[n++] = option->json;
        bool here = object ? option->json && strcmp(option->json, object) == 0 : !option->json;
        for (size_t j = 0; here && j < option->n_keys && n < COUNT(names); j++) {
            const struct option_key *key = &option->keys[j];
            names[n++] = key->type == OPTION_MODE        ? "mode"
                         : key->type == OPTION_MODE_PATH ? key->name
                                                         : option_key_json(key);
        }
    }
    error_set(err, -EINVAL, "unknown field '%s'", option_excerpt(name, strlen(name)).text);
    const char *near = option_nearest(name, names, n);
    if (near)
        error_hint(err, "did you mean '%s%s%s'?", object ? object : "", object ? "." : "", near);
    return -EINVAL;
}

/** check_fits() - that @key, a field of @object, goes with what stands beside it. */
static int check_fits(const struct vm_config *config, const struct option *option,
                      const struct option_key *key, const json_t *object, struct error *err)
{
    if (key->type == OPTION_MODE_PATH && option_get_number(config, key) != key->initial)
        return error_set(err, -EINVAL, "is for mode '%s' only", key->json);
    for (size_t i = 0; key->alias && i < option->n_keys; i++) {
        const struct option_key *other = &option->keys[i];
        if (other->offset == key->offset && other != key && json_object_get(object, other->name))
            return error_set(err, -EINVAL, "is the same as '%s', which is given too", other->name);
    }
    return 0;
}

/** find_console() - the option whose object @name has a mode; NULL for any other object. */
static const struct option *find_console(const char *name)
{
    for (size_t i = 0; i < option_table_len; i++)
        if (option_table[i].json && strcmp(option_table[i].json, name) == 0 &&
            option_is_mode(&option_table[i].keys[0]))
            return &option_table[i];
    return NULL;
}

/**
 * read_fields() - the fields of one item of a list.
 * @prefix: what stands before them in the keys' JSON names: an object in the item holds what belongs together.
 */
static int read_fields(void *item, const struct option *option, const char *prefix, json_t *object,
                       struct error *err)
{
    if (!json_is_object(object))
        return wrong_type(object, "an object", err);
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        char full[128];
        const char *names[64];
        size_t n = 0, prefix_len = strlen(prefix);
        size_t len = (size_t)snprintf(full, sizeof(full), "%s%s", prefix, name);
        int ret = -ENOENT;
        for (size_t i = 0; ret == -ENOENT && i < option->n_keys; i++) {
            const struct option_key *key = &option->keys[i];
            const char *json = option_key_json(key);
            if (strcmp(json, full) == 0 && !strchr(name, '.')) {
                ret = json_is_null(value) ? 0 : read_key(item, key, value, err);
            } else if (len < sizeof(full) - 1 && strncmp(json, full, len) == 0 &&
                       json[len] == '.') {
                memcpy(full + len, ".", 2);
                ret = json_is_null(value) ? 0 : read_fields(item, option, full, value, err);
            } else if (strncmp(json, prefix, prefix_len) == 0 && n < COUNT(names)) {
                names[n++] = json + prefix_len;
            }
        }
        if (ret == -ENOENT)
            return unknown_name(name, names, n, err);
        if (ret < 0)
            return at_path(err, ".%s", option_excerpt(name, strlen(name)).text);
    }
    return 0;
}

/** read_list() - the array of an option that may be given several times; it replaces what was there. */
static int read_list(void *base, const struct option *option, const json_t *array,
                     struct error *err)
{
    if (!json_is_array(array))
        return wrong_type(array, "an array", err);
    option_reset(base, option);
    for (size_t i = 0; i < json_array_size(array); i++) {
        void *item = option_add_item(base, option, err);
        if (!item)
            return err->code;
        if (read_fields(item, option, "", json_array_get(array, i), err) < 0)
            return at_path(err, "[%zu]", i);
    }
    return 0;
}

/** find_list() - the option whose items the top level's array @name has; NULL for any other name. */
static const struct option *find_list(const char *name)
{
    for (size_t i = 0; i < option_table_len; i++)
        if (option_table[i].list && strcmp(option_table[i].json, name) == 0)
            return &option_table[i];
    return NULL;
}

/** find_nested() - the option with keys in the object @name of the object @object; NULL for any other name. */
static const struct option *find_nested(const char *object, const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < option_table_len; i++) {
        const struct option *option = &option_table[i];
        bool here = option->json && strcmp(option->json, object) == 0 && !option->list;
        for (size_t j = 0; here && j < option->n_keys; j++) {
            const char *json = option_key_json(&option->keys[j]);
            if (strncmp(json, name, len) == 0 && json[len] == '.')
                return option;
        }
    }
    return NULL;
}

/** read_nested() - the fields of the object @name, all of which @option has. */
static int read_nested(struct vm_config *config, const struct option *option, const char *name,
                       json_t *value, struct error *err)
{
    char prefix[64];
    snprintf(prefix, sizeof(prefix), "%s.", name);
    option_reset(config, option);
    return read_fields(config, option, prefix, value, err);
}

static int read_object(struct vm_config *config, const char *object_name, json_t *object,
                       struct error *err)
{
    if (!json_is_object(object))
        return wrong_type(object, "an object", err);
    const struct option *console = find_console(object_name);
    json_t *mode = console ? json_object_get(object, "mode") : NULL;
    if (mode && read_mode(config, console, mode, err) < 0)
        return at_path(err, ".mode");

    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        if (value == mode || json_is_null(value))
            continue;
        const struct option *option = NULL;
        const struct option_key *key = find_key(object_name, name, &option);
        const struct option *nested = key ? NULL : find_nested(object_name, name);
        if (!key && !nested)
            return unknown_field(object_name, name, err);
        int ret = 0;
        if (nested)
            ret = read_nested(config, nested, name, value, err);
        else if ((ret = check_fits(config, option, key, object, err)) == 0)
            ret = read_key(config, key, value, err);
        if (ret < 0)
            return at_path(err, ".%s", option_excerpt(name, strlen(name)).text);
    }
    return 0;
}

static int read_root(struct vm_config *config, json_t *root, struct error *err)
{
    if (!json_is_object(root))
        return wrong_type(root, "an object", err);
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value)
    {
        if (json_is_null(value))
            continue;
        const struct option *option = NULL;
        const struct option_key *key = find_key(NULL, name, &option);
        const struct option *list = find_list(name);
        int ret;
        if (key)
            ret = read_key(config, key, value, err);
        else if (list)
            ret = read_list(config, list, value, err);
        else if (is_object(name))
            ret = read_object(config, name, value, err);
        else
            return unknown_field(NULL, name, err);
        if (ret < 0)
            return at_path(err, "%s", name);
    }
    return 0;
}

int config_from_json(struct vm_config *config, const char *text, size_t len, struct error *err)
{
    if (len > CONFIG_JSON_MAX)
        return error_set(err, -EINVAL, "is larger than %d bytes", CONFIG_JSON_MAX);
    json_error_t problem;
    _cleanup_(cleanup_json) json_t *root =
        json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &problem);
    if (!root && json_error_code(&problem) == json_error_out_of_memory)
        return error_set_errno(err, -ENOMEM, "could not read the JSON text");
    if (!root)
        return error_set(err, -EINVAL, "line %d, column %d: %s", problem.line, problem.column,
                         problem.text);
    return read_root(config, root, err);
}
