/* Which token is what. Found by inode: a number says nothing about what a descriptor is. */
#include "sim/preload/preload.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define BUCKETS 256u
#define KVM_MAJOR 10u
#define KVM_MINOR 232u

static _Atomic(struct entry *) buckets[BUCKETS];

bool is_kvm_device(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) &&
           st.st_rdev == makedev(KVM_MAJOR, KVM_MINOR);
}

static struct entry *find(uint64_t inode)
{
    struct entry *entry = atomic_load(&buckets[inode % BUCKETS]);
    while (entry && atomic_load(&entry->inode) != inode)
        entry = entry->next;
    return entry;
}

static struct entry *insert(enum sim_kind kind, uint32_t id, uint64_t inode)
{
    struct entry *entry = calloc(1, sizeof(*entry));
    if (!entry)
        return NULL;
    entry->kind = kind;
    entry->id = id;
    entry->real = -1;
    entry->sev_number = UINT32_MAX;
    atomic_store(&entry->inode, inode);
    _Atomic(struct entry *) *bucket = &buckets[inode % BUCKETS];
    struct entry *first = atomic_load(bucket);
    do {
        entry->next = first;
    } while (!atomic_compare_exchange_weak(bucket, &first, entry));
    return entry;
}

struct entry *entry_add(enum sim_kind kind, const struct sim_reply *reply)
{
    return insert(kind, (uint32_t)reply->value[4], reply->value[5]);
}

struct entry *entry_of(int fd)
{
    struct stat st;
    int saved = errno;
    struct entry *entry = NULL;
    if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) && connection_ready()) {
        entry = find(st.st_ino);
        if (!entry) {
            /* Inherited over exec, or sent by another process: the simulator knows. */
            struct exchange x = {.head = {.op = SIM_OP_RESOLVE, .arg = {st.st_ino}}};
            if (exchange_run(&x) == 0)
                entry =
                    insert((enum sim_kind)x.reply.value[0], (uint32_t)x.reply.value[1], st.st_ino);
        }
    }
    errno = saved;
    return entry;
}

uint32_t entry_id(int fd, enum sim_kind kind, bool *open)
{
    struct stat st;
    *open = fstat(fd, &st) == 0;
    const struct entry *entry = *open ? entry_of(fd) : NULL;
    return entry && entry->kind == kind ? entry->id : 0;
}

struct entry *entry_with_real(int fd)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct entry *entry = atomic_load(&buckets[i]); entry; entry = entry->next) {
            if (entry->real == fd && atomic_load(&entry->inode))
                return entry;
        }
    }
    return NULL;
}

void entry_gone(uint32_t id)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct entry *entry = atomic_load(&buckets[i]); entry; entry = entry->next) {
            if (entry->id != id || !atomic_load(&entry->inode))
                continue;
            atomic_store(&entry->inode, 0);
            if (entry->real >= 0)
                raw_close(entry->real);
            entry->real = -1;
            if (entry->memory)
                munmap(entry->memory, entry->memory_len);
            entry->memory = NULL;
        }
    }
}
