/*
 * The published C interface: files and buffers by handle. Numbers are given out in ascending order and are not used
 * again until 2^31 others have been, so that a handle that was freed, or belongs to another file, is told from a live
 * one. Buffers point into the file's copy; nothing else is copied.
 */
#include "igvm_internal.h"

#include <pthread.h>
#include <stdlib.h>

/* Handles of one kind: open addressing with linear probing; a slot with handle 0 is free. */
struct slot {
    IgvmHandle handle;
    uint32_t len;
    const void *ptr;
};

struct map {
    struct slot *slots;
    size_t n, cap; /* cap is a power of two, or 0 */
};

struct instance {
    struct igvm_file *file;
    uint8_t *copy;
    uint32_t *index; /* of each header that is not optional, in the order of the file */
    uint32_t first[IGVM_SECTIONS + 1]; /* where each section starts in index[] */
    struct map buffers;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct map files;
static IgvmHandle next_handle = 1;

static size_t home(const struct map *map, IgvmHandle handle)
{
    uint32_t hash = (uint32_t)handle * 0x9E3779B1u;
    return hash & (map->cap - 1);
}

static struct slot *map_find(const struct map *map, IgvmHandle handle)
{
    if (handle <= 0 || map->n == 0)
        return NULL;
    for (size_t i = home(map, handle); map->slots[i].handle; i = (i + 1) & (map->cap - 1))
        if (map->slots[i].handle == handle)
            return &map->slots[i];
    return NULL;
}

static void map_put(struct map *map, struct slot slot)
{
    size_t i = home(map, slot.handle);
    while (map->slots[i].handle)
        i = (i + 1) & (map->cap - 1);
    map->slots[i] = slot;
    map->n++;
}

static bool map_add(struct map *map, struct slot slot)
{
    if (2 * (map->n + 1) > map->cap) {
        struct map grown = {.cap = map->cap ? map->cap * 2 : 16};
        grown.slots = calloc(grown.cap, sizeof(*grown.slots));
        if (!grown.slots)
            return false;
        for (size_t i = 0; i < map->cap; i++)
            if (map->slots[i].handle)
                map_put(&grown, map->slots[i]);
        free(map->slots);
        *map = grown;
    }
    map_put(map, slot);
    return true;
}

/** map_remove() - free @slot and close the gap, so that what was pushed behind it is still found. */
static void map_remove(struct map *map, struct slot *slot)
{
    size_t hole = (size_t)(slot - map->slots);
    for (size_t i = (hole + 1) & (map->cap - 1); map->slots[i].handle;
         i = (i + 1) & (map->cap - 1)) {
        size_t wanted = home(map, map->slots[i].handle);
        if (((i - wanted) & (map->cap - 1)) >= ((i - hole) & (map->cap - 1))) {
            map->slots[hole] = map->slots[i];
            hole = i;
        }
    }
    map->slots[hole] = (struct slot){0};
    map->n--;
}

/** new_handle() - a number that is in use in neither map. */
static IgvmHandle new_handle(const struct map *buffers)
{
    IgvmHandle handle;
    do {
        handle = next_handle;
        next_handle = next_handle == INT32_MAX ? 1 : next_handle + 1;
    } while (map_find(&files, handle) || (buffers && map_find(buffers, handle)));
    return handle;
}

static void instance_free(struct instance *instance)
{
    igvm_file_close(instance->file);
    free(instance->copy);
    free(instance->index);
    free(instance->buffers.slots);
    free(instance);
}

/** make_index() - sort the headers into sections, those that a loader may ignore left out. */
static bool make_index(struct instance *instance)
{
    const struct igvm_file *file = instance->file;
    instance->index = malloc((file->n + 1) * sizeof(*instance->index));
    if (!instance->index)
        return false;
    uint32_t n = 0;
    int section = IGVM_HEADER_SECTION_PLATFORM;
    for (uint32_t i = 0; i < file->n; i++) {
        struct igvm_header header = igvm_at(file, i);
        int own = igvm_type_section(header.type);
        if (own < 0)
            continue;
        while (section < own)
            instance->first[++section] = n;
        instance->index[n++] = i;
    }
    while (section < (int)IGVM_SECTIONS)
        instance->first[++section] = n;
    return true;
}

IGVM_EXPORT IgvmHandle igvm_new_from_binary(const uint8_t *data, uint32_t len)
{
    if (!data)
        return IGVMAPI_INVALID_PARAMETER;
    struct instance *instance = calloc(1, sizeof(*instance));
    uint8_t *copy = malloc(len ? len : 1);
    if (!instance || !copy) {
        free(instance);
        free(copy);
        return IGVMAPI_TOTAL_FILE_SIZE_TOO_LARGE;
    }
    memcpy(copy, data, len);
    instance->copy = copy;
    IgvmResult result = igvm_file_open(copy, len, NULL, NULL, &instance->file);
    if (result == IGVMAPI_OK && !make_index(instance))
        result = IGVMAPI_TOTAL_FILE_SIZE_TOO_LARGE;
    if (result == IGVMAPI_OK) {
        pthread_mutex_lock(&lock);
        struct slot slot = {.handle = new_handle(NULL), .ptr = instance};
        result = map_add(&files, slot) ? slot.handle : IGVMAPI_TOTAL_FILE_SIZE_TOO_LARGE;
        pthread_mutex_unlock(&lock);
    }
    if (result < 0)
        instance_free(instance);
    return result;
}

/** find_instance() - the file of @handle, NULL if there is none. Call with the lock held. */
static struct instance *find_instance(IgvmHandle handle)
{
    struct slot *slot = map_find(&files, handle);
    return slot ? (struct instance *)(uintptr_t)slot->ptr : NULL;
}

IGVM_EXPORT void igvm_free(IgvmHandle handle)
{
    pthread_mutex_lock(&lock);
    struct slot *slot = map_find(&files, handle);
    struct instance *instance = slot ? (struct instance *)(uintptr_t)slot->ptr : NULL;
    if (slot)
        map_remove(&files, slot);
    if (files.n == 0) {
        free(files.slots);
        files = (struct map){0};
    }
    pthread_mutex_unlock(&lock);
    if (instance)
        instance_free(instance);
}

/** find_header() - header @index of @section. Returns IGVMAPI_OK or why not. Call with the lock held. */
static IgvmResult find_header(const struct instance *instance, IgvmHeaderSection section,
                              uint32_t index, struct igvm_header *header)
{
    if (!instance)
        return IGVMAPI_INVALID_HANDLE;
    if (section >= IGVM_SECTIONS ||
        index >= instance->first[section + 1] - instance->first[section])
        return IGVMAPI_INVALID_PARAMETER;
    *header = igvm_at(instance->file, instance->index[instance->first[section] + index]);
    return IGVMAPI_OK;
}

/** new_buffer() - a handle for @len bytes at @ptr. Call with the lock held. */
static IgvmHandle new_buffer(struct instance *instance, const uint8_t *ptr, uint32_t len)
{
    if (len > INT32_MAX) /* igvm_get_buffer_size() could not say it */
        return IGVMAPI_INVALID_FILE;
    struct slot slot = {.handle = new_handle(&instance->buffers), .ptr = ptr, .len = len};
    return map_add(&instance->buffers, slot) ? slot.handle : IGVMAPI_INVALID_FILE;
}

IGVM_EXPORT int32_t igvm_header_count(IgvmHandle handle, IgvmHeaderSection section)
{
    pthread_mutex_lock(&lock);
    const struct instance *instance = find_instance(handle);
    int32_t result = IGVMAPI_INVALID_PARAMETER;
    if (!instance)
        result = IGVMAPI_INVALID_HANDLE;
    else if (section < IGVM_SECTIONS)
        result = (int32_t)(instance->first[section + 1] - instance->first[section]);
    pthread_mutex_unlock(&lock);
    return result;
}

IGVM_EXPORT int32_t igvm_get_header_type(IgvmHandle handle, IgvmHeaderSection section,
                                         uint32_t index)
{
    pthread_mutex_lock(&lock);
    struct igvm_header header;
    int32_t result = find_header(find_instance(handle), section, index, &header);
    if (result == IGVMAPI_OK)
        result = (int32_t)header.type;
    pthread_mutex_unlock(&lock);
    return result;
}

IGVM_EXPORT IgvmHandle igvm_get_header(IgvmHandle handle, IgvmHeaderSection section, uint32_t index)
{
    pthread_mutex_lock(&lock);
    struct instance *instance = find_instance(handle);
    struct igvm_header header;
    IgvmHandle result = find_header(instance, section, index, &header);
    if (result == IGVMAPI_OK)
        result = new_buffer(instance, header.payload - IGVM_VLH_SIZE,
                            IGVM_VLH_SIZE + (uint32_t)align_up(header.length, 8));
    pthread_mutex_unlock(&lock);
    return result;
}

IGVM_EXPORT IgvmHandle igvm_get_header_data(IgvmHandle handle, IgvmHeaderSection section,
                                            uint32_t index)
{
    pthread_mutex_lock(&lock);
    struct instance *instance = find_instance(handle);
    struct igvm_header header;
    IgvmHandle result = find_header(instance, section, index, &header);
    if (result == IGVMAPI_OK && section == IGVM_HEADER_SECTION_PLATFORM)
        result = IGVMAPI_INVALID_PARAMETER;
    if (result == IGVMAPI_OK) {
        uint64_t len;
        const uint8_t *data = igvm_file_data(instance->file, &header, &len);
        result = data ? new_buffer(instance, data, (uint32_t)len) : IGVMAPI_NO_DATA;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

/** find_buffer() - a buffer of a file, NULL if either handle is wrong. Call with the lock held. */
static struct slot *find_buffer(IgvmHandle igvm_handle, IgvmHandle buffer_handle)
{
    const struct instance *instance = find_instance(igvm_handle);
    return instance ? map_find(&instance->buffers, buffer_handle) : NULL;
}

IGVM_EXPORT const uint8_t *igvm_get_buffer(IgvmHandle igvm_handle, IgvmHandle buffer_handle)
{
    pthread_mutex_lock(&lock);
    const struct slot *slot = find_buffer(igvm_handle, buffer_handle);
    const uint8_t *result = slot ? slot->ptr : NULL;
    pthread_mutex_unlock(&lock);
    return result;
}

IGVM_EXPORT int32_t igvm_get_buffer_size(IgvmHandle igvm_handle, IgvmHandle buffer_handle)
{
    pthread_mutex_lock(&lock);
    const struct slot *slot = find_buffer(igvm_handle, buffer_handle);
    int32_t result = slot ? (int32_t)slot->len : IGVMAPI_INVALID_HANDLE;
    pthread_mutex_unlock(&lock);
    return result;
}

IGVM_EXPORT void igvm_free_buffer(IgvmHandle igvm_handle, IgvmHandle buffer_handle)
{
    pthread_mutex_lock(&lock);
    struct instance *instance = find_instance(igvm_handle);
    struct slot *slot = instance ? map_find(&instance->buffers, buffer_handle) : NULL;
    if (slot)
        map_remove(&instance->buffers, slot);
    pthread_mutex_unlock(&lock);
}
