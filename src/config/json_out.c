/* The configuration as JSON, in Cloud Hypervisor's shape and names. */
#include "config/options.h"
#include "config/table.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

static const void *const_field(const void *base, const struct option_key *key)
{
    return (const char *)base + key->offset;
}

static json_t *strings_json(const struct string_list *list)
{
    if (list->n == 0)
        return NULL;
    json_t *array = json_array();
    for (size_t i = 0; i < list->n; i++)
        json_array_append_new(array, json_string(list->items[i]));
    return array;
}

static json_t *fds_json(const struct fd_list *list)
{
    if (list->n == 0)
        return NULL;
    json_t *array = json_array();
    for (size_t i = 0; i < list->n; i++)
        json_array_append_new(array, json_integer(list->fds[i]));
    return array;
}

static json_t *topology_json(const struct cpu_topology *topology)
{
    if (!topology->packages)
        return NULL;
    return json_pack(
        "{s:I, s:I, s:I, s:I}", "threads_per_core", (json_int_t)topology->threads_per_core,
        "cores_per_die", (json_int_t)topology->cores_per_die, "dies_per_package",
        (json_int_t)topology->dies_per_package, "packages", (json_int_t)topology->packages);
}

static json_t *affinity_json(const struct cpus_config *cpus)
{
    if (cpus->n_affinity == 0)
        return NULL;
    json_t *array = json_array();
    for (size_t i = 0; i < cpus->n_affinity; i++) {
        const struct cpu_affinity *affinity = &cpus->affinity[i];
        json_t *host_cpus = json_array();
        for (size_t j = 0; j < affinity->n_host_cpus; j++)
            json_array_append_new(host_cpus, json_integer(affinity->host_cpus[j]));
        json_array_append_new(array, json_pack("{s:I, s:o}", "vcpu", (json_int_t)affinity->vcpu,
                                               "host_cpus", host_cpus));
    }
    return array;
}

static json_t *number_json(const void *base, const struct option_key *key)
{
    uint64_t value = option_get_number(base, key);
    if (key->type == OPTION_FD && value == key->initial)
        return NULL;
    if (value == 0 && key->min > 0) /* not given */
        return NULL;
    return json_integer((json_int_t)value);
}

static json_t *list_json(const void *base, const struct option *option);

/** key_json() - the value of @key; NULL if it is not given. */
static json_t *key_json(const void *base, const struct option_key *key)
{
    switch (key->type) {
    case OPTION_FLAG:
    case OPTION_BOOL:
        if (key->type == OPTION_FLAG && key->name && !option_get_number(base, key))
            return NULL;
        return json_boolean(option_get_number(base, key));
    case OPTION_SWITCH: {
        uint64_t state = option_get_number(base, key);
        return state == SWITCH_UNSET ? NULL : json_boolean(state == SWITCH_ON);
    }
    case OPTION_ENUM:
        return json_string(key->names[option_get_number(base, key)].json);
    case OPTION_STRING: {
        const char *text = *(char *const *)const_field(base, key);
        return text ? json_string(text) : NULL;
    }
    case OPTION_STRINGS:
        return strings_json(const_field(base, key));
    case OPTION_FDS:
        return fds_json(const_field(base, key));
    case OPTION_TOPOLOGY:
        return topology_json(const_field(base, key));
    case OPTION_AFFINITY:
        return affinity_json(const_field(base, key));
    case OPTION_ITEMS:
        return list_json(base, key->items);
    default:
        return number_json(base, key);
    }
}

/** add_mode() - "mode", and "file" or "socket", if @key is the mode that is chosen. */
static void add_mode(json_t *object, const struct vm_config *config, const struct option_key *key)
{
    if (option_get_number(config, key) != key->initial)
        return;
    json_object_set_new(object, "mode", json_string(key->json));
    const struct console_config *console = const_field(config, key);
    if (key->type == OPTION_MODE_PATH && console->path)
        json_object_set_new(object, key->name, json_string(console->path));
}

/** set_nested() - @value at @path, whose dots lead into objects that are made as they are needed. */
static void set_nested(json_t *object, const char *path, json_t *value)
{
    const char *dot;
    while ((dot = strchr(path, '.'))) {
        char name[64];
        snprintf(name, sizeof(name), "%.*s", (int)(dot - path), path);
        json_t *inner = json_object_get(object, name);
        if (!inner) {
            inner = json_object();
            json_object_set_new(object, name, inner);
        }
        object = inner;
        path = dot + 1;
    }
    json_object_set_new(object, path, value);
}

/** list_json() - the items of an option that may be given several times; NULL if there is none. */
static json_t *list_json(const void *base, const struct option *option)
{
    if (option_n_items(base, option) == 0)
        return NULL;
    json_t *array = json_array();
    for (size_t i = 0; i < option_n_items(base, option); i++) {
        json_t *object = json_object();
        for (size_t j = 0; j < option->n_keys; j++) {
            json_t *value = key_json(option_item(base, option, i), &option->keys[j]);
            if (value)
                set_nested(object, option_key_json(&option->keys[j]), value);
        }
        json_array_append_new(array, object);
    }
    return array;
}

char *config_to_json(const struct vm_config *config)
{
    json_t *root = json_object();
    for (size_t i = 0; i < option_table_len; i++) {
        const struct option *option = &option_table[i];
        if (option->request)
            continue;
        if (option->list) {
            json_t *array = list_json(config, option);
            if (array)
                json_object_set_new(root, option->json, array);
            continue;
        }
        json_t *object = option->json ? json_object_get(root, option->json) : root;
        if (!object) {
            object = json_object();
            json_object_set_new(root, option->json, object);
        }
        for (size_t j = 0; j < option->n_keys; j++) {
            const struct option_key *key = &option->keys[j];
            json_t *value = key->alias || option_is_mode(key) ? NULL : key_json(config, key);
            if (option_is_mode(key))
                add_mode(object, config, key);
            else if (value)
                set_nested(object, option_key_json(key), value);
        }
        if (option->json && json_object_size(object) == 0)
            json_object_del(root, option->json);
    }
    char *text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    return text;
}
