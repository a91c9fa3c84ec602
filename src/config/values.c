/* Values into and out of the struct, with their limits. */
#include "base/units.h"
#include "config/table.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* Linux is built for at most 8192 CPUs. */
#define HOST_CPU_MAX 8191
#define STRINGS_MAX 255
/* As many as a PCI bus has room for, beside the host bridge. */
#define LIST_MAX 31

static void *field(void *base, const struct option_key *key)
{
    return (char *)base + key->offset;
}

static const void *const_field(const void *base, const struct option_key *key)
{
    return (const char *)base + key->offset;
}

static void reset_list(void *base, const struct option *option);

/** free_field() - what @key owns; the field's bytes are left as they are. */
static void free_field(void *base, const struct option_key *key)
{
    if (key->type == OPTION_STRING) {
        free(*(char **)field(base, key));
    } else if (key->type == OPTION_STRINGS) {
        struct string_list *list = field(base, key);
        for (size_t i = 0; i < list->n; i++)
            free(list->items[i]);
        free(list->items);
    } else if (key->type == OPTION_MODE_PATH) {
        struct console_config *console = field(base, key);
        free(console->path);
        console->path = NULL; /* two keys of a console, file and socket, have one path */
    } else if (key->type == OPTION_AFFINITY) {
        struct cpus_config *cpus = field(base, key);
        for (size_t i = 0; i < cpus->n_affinity; i++)
            free(cpus->affinity[i].host_cpus);
        free(cpus->affinity);
    } else if (key->type == OPTION_ITEMS) {
        reset_list(base, key->items);
    }
}

static void store_number(void *base, const struct option_key *key, uint64_t value)
{
    void *at = field(base, key);
    switch (key->type) {
    case OPTION_FLAG:
    case OPTION_BOOL:
        *(bool *)at = value != 0;
        break;
    case OPTION_COUNT:
    case OPTION_U32:
        *(uint32_t *)at = (uint32_t)value;
        break;
    case OPTION_PORT:
        *(uint16_t *)at = (uint16_t)value;
        break;
    case OPTION_FD:
    case OPTION_ENUM:
    case OPTION_SWITCH:
        *(int *)at = (int)value;
        break;
    case OPTION_MODE:
    case OPTION_MODE_PATH:
        ((struct console_config *)at)->mode = (enum console_mode)value;
        break;
    case OPTION_SIZE:
    case OPTION_NUMBER:
        *(uint64_t *)at = value;
        break;
    case OPTION_FDS:
    case OPTION_STRING:
    case OPTION_STRINGS:
    case OPTION_TOPOLOGY:
    case OPTION_AFFINITY:
    case OPTION_ITEMS:
        break;
    }
}

uint64_t option_get_number(const void *base, const struct option_key *key)
{
    const void *at = const_field(base, key);
    switch (key->type) {
    case OPTION_FLAG:
    case OPTION_BOOL:
        return *(const bool *)at;
    case OPTION_COUNT:
    case OPTION_U32:
        return *(const uint32_t *)at;
    case OPTION_PORT:
        return *(const uint16_t *)at;
    case OPTION_FD:
    case OPTION_ENUM:
    case OPTION_SWITCH:
        return (uint64_t) * (const int *)at;
    case OPTION_MODE:
    case OPTION_MODE_PATH:
        return ((const struct console_config *)at)->mode;
    case OPTION_SIZE:
    case OPTION_NUMBER:
        return *(const uint64_t *)at;
    case OPTION_FDS:
    case OPTION_STRING:
    case OPTION_STRINGS:
    case OPTION_TOPOLOGY:
    case OPTION_AFFINITY:
    case OPTION_ITEMS:
        break;
    }
    return 0;
}

void option_reset_key(void *base, const struct option_key *key)
{
    free_field(base, key);
    switch (key->type) {
    case OPTION_STRING:
        *(char **)field(base, key) = NULL;
        break;
    case OPTION_STRINGS:
        *(struct string_list *)field(base, key) = (struct string_list){0};
        break;
    case OPTION_FDS:
        *(struct fd_list *)field(base, key) = (struct fd_list){0};
        break;
    case OPTION_TOPOLOGY:
        *(struct cpu_topology *)field(base, key) = (struct cpu_topology){0};
        break;
    case OPTION_AFFINITY: {
        struct cpus_config *cpus = field(base, key);
        cpus->affinity = NULL;
        cpus->n_affinity = 0;
        break;
    }
    default:
        store_number(base, key, key->initial);
    }
}

static void reset_list(void *base, const struct option *option)
{
    void **list = (void **)((char *)base + option->list_offset);
    size_t *length = (size_t *)((char *)base + option->length_offset);
    for (size_t i = 0; i < *length; i++)
        for (size_t j = 0; j < option->n_keys; j++)
            free_field(option_item(base, option, i), &option->keys[j]);
    free(*list);
    *list = NULL;
    *length = 0;
}

void *option_add_item(void *base, const struct option *option, struct error *err)
{
    void **list = (void **)((char *)base + option->list_offset);
    size_t *length = (size_t *)((char *)base + option->length_offset);
    size_t max = option->list_max ? option->list_max : LIST_MAX;
    if (*length == max) {
        error_set(err, -EINVAL, "is given more than %zu times", max);
        return NULL;
    }
    void *items = reallocarray(*list, *length + 1, option->item_size);
    if (!items) {
        error_set_errno(err, -ENOMEM, "could not keep the value");
        return NULL;
    }
    *list = items;
    void *item = option_item(base, option, (*length)++);
    memset(item, 0, option->item_size);
    for (size_t i = 0; i < option->n_keys; i++)
        option_reset_key(item, &option->keys[i]);
    return item;
}

void option_reset(void *base, const struct option *option)
{
    if (option->list) {
        reset_list(base, option);
        return;
    }
    for (size_t i = 0; i < option->n_keys; i++)
        if (!option->keys[i].alias)
            option_reset_key(base, &option->keys[i]);
    if (option_is_mode(&option->keys[0]))
        option_reset_key(base, &option->keys[0]); /* the first mode is the default */
}

int option_check_number(const struct option_key *key, uint64_t value, struct error *err)
{
    uint64_t max = key->max;
    if (key->type == OPTION_BOOL || key->type == OPTION_SWITCH || key->type == OPTION_ENUM ||
        option_is_mode(key))
        return 0;
    if (value >= key->min && value <= max)
        return 0;
    if (key->type == OPTION_SIZE) {
        char from[UNITS_SIZE_TEXT], to[UNITS_SIZE_TEXT], is[UNITS_SIZE_TEXT];
        return error_set(err, -EINVAL, "must be %s to %s, not %s",
                         units_format_size(key->min, from), units_format_size(max, to),
                         units_format_size(value, is));
    }
    if (key->type == OPTION_PORT)
        return error_set(err, -EINVAL, "must be 0x%" PRIx64 " to 0x%" PRIx64 ", not 0x%" PRIx64,
                         key->min, max, value);
    return error_set(err, -EINVAL, "must be %" PRIu64 " to %" PRIu64 ", not %" PRIu64, key->min,
                     max, value);
}

int option_set_number(void *base, const struct option_key *key, uint64_t value, struct error *err)
{
    int ret = option_check_number(key, value, err);
    if (ret == 0)
        store_number(base, key, value);
    return ret;
}

/** copy_string() - checked copy of a value of @key, to be freed. Returns 0 or -errno. */
static int copy_string(const struct option_key *key, const char *text, size_t len, char **copy,
                       struct error *err)
{
    if (len < key->min)
        return error_set(err, -EINVAL, "must not be empty");
    if (len > key->max)
        return error_set(err, -EINVAL, "must be at most %" PRIu64 " bytes long, not %zu", key->max,
                         len);
    if (memchr(text, '\0', len))
        return error_set(err, -EINVAL, "contains a NUL character");
    json_t *utf8 = json_stringn(text, len);
    if (!utf8)
        return error_set(err, -EINVAL, "is not valid UTF-8 text");
    json_decref(utf8);
    *copy = strndup(text, len);
    return *copy ? 0 : error_set_errno(err, -ENOMEM, "could not keep the value");
}

int option_set_string(void *base, const struct option_key *key, const char *text, size_t len,
                      struct error *err)
{
    char *copy = NULL;
    int ret = copy_string(key, text, len, &copy, err);
    if (ret < 0)
        return ret;
    bool is_mode = key->type == OPTION_MODE_PATH;
    char **to =
        is_mode ? &((struct console_config *)field(base, key))->path : (char **)field(base, key);
    free(*to);
    *to = copy;
    if (is_mode)
        store_number(base, key, key->initial);
    return 0;
}

int option_add_string(void *base, const struct option_key *key, const char *text, size_t len,
                      struct error *err)
{
    struct string_list *list = field(base, key);
    if (list->n == STRINGS_MAX)
        return error_set(err, -EINVAL, "has more than %d strings", STRINGS_MAX);
    char *copy = NULL;
    int ret = copy_string(key, text, len, &copy, err);
    if (ret < 0)
        return ret;
    char **items = reallocarray(list->items, list->n + 1, sizeof(*items));
    if (!items) {
        free(copy);
        return error_set_errno(err, -ENOMEM, "could not keep the value");
    }
    list->items = items;
    list->items[list->n++] = copy;
    return 0;
}

int option_add_fd(void *base, const struct option_key *key, uint64_t fd, struct error *err)
{
    struct fd_list *list = field(base, key);
    int ret = option_check_number(key, fd, err);
    if (ret < 0)
        return ret;
    if (list->n == FD_LIST_MAX)
        return error_set(err, -EINVAL, "has more than %d descriptors", FD_LIST_MAX);
    list->fds[list->n++] = (int)fd;
    return 0;
}

int option_set_topology(void *base, const struct option_key *key, const uint64_t parts[4],
                        struct error *err)
{
    for (int i = 0; i < 4; i++)
        if (parts[i] < key->min || parts[i] > key->max)
            return error_set(err, -EINVAL, "each part must be %" PRIu64 " to %" PRIu64, key->min,
                             key->max);
    *(struct cpu_topology *)field(base, key) = (struct cpu_topology){
        .threads_per_core = (uint32_t)parts[0],
        .cores_per_die = (uint32_t)parts[1],
        .dies_per_package = (uint32_t)parts[2],
        .packages = (uint32_t)parts[3],
    };
    return 0;
}

struct cpu_affinity *option_add_affinity(void *base, const struct option_key *key, uint64_t vcpu,
                                         struct error *err)
{
    struct cpus_config *cpus = field(base, key);
    if (vcpu > 253) {
        error_set(err, -EINVAL, "there is no vCPU %" PRIu64 ", they are 0 to 253", vcpu);
        return NULL;
    }
    for (size_t i = 0; i < cpus->n_affinity; i++)
        if (cpus->affinity[i].vcpu == vcpu) {
            error_set(err, -EINVAL, "vCPU %" PRIu64 " is listed twice", vcpu);
            return NULL;
        }
    struct cpu_affinity *list = reallocarray(cpus->affinity, cpus->n_affinity + 1, sizeof(*list));
    if (!list) {
        error_set_errno(err, -ENOMEM, "could not keep the value");
        return NULL;
    }
    cpus->affinity = list;
    list[cpus->n_affinity] = (struct cpu_affinity){.vcpu = (uint32_t)vcpu};
    return &list[cpus->n_affinity++];
}

int option_add_host_cpus(struct cpu_affinity *affinity, uint64_t first, uint64_t last,
                         struct error *err)
{
    if (first > last)
        return error_set(err, -EINVAL, "the range %" PRIu64 "-%" PRIu64 " is empty", first, last);
    if (last > HOST_CPU_MAX)
        return error_set(err, -EINVAL, "there is no host CPU %" PRIu64 ", they are 0 to %d", last,
                         HOST_CPU_MAX);
    for (size_t i = 0; i < affinity->n_host_cpus; i++)
        if (affinity->host_cpus[i] >= first && affinity->host_cpus[i] <= last)
            return error_set(err, -EINVAL, "host CPU %u is listed twice for vCPU %u",
                             affinity->host_cpus[i], affinity->vcpu);
    size_t n = affinity->n_host_cpus + (size_t)(last - first) + 1;
    uint32_t *cpus = reallocarray(affinity->host_cpus, n, sizeof(*cpus));
    if (!cpus)
        return error_set_errno(err, -ENOMEM, "could not keep the value");
    affinity->host_cpus = cpus;
    for (uint64_t cpu = first; cpu <= last; cpu++)
        cpus[affinity->n_host_cpus++] = (uint32_t)cpu;
    return 0;
}
