/*
 * The broker's own cage. Of the host's files it keeps those that devices are made of, husk-backend with what that is linked
 * to, and the folders of sockets that it removes.
 */
#include "sandbox/broker_internal.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "sandbox/cage.h"

#include <errno.h>
#include <libgen.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

/* Where Debian and others keep libraries and what the C library reads at a program's start; what is not there is left out. */
static const char *const read_at_start[] = {
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/localtime",
};

#define PATHS_FIXED (ARRAY_SIZE(read_at_start) + 3 + BROKER_CONSOLES)
#define PATHS_OF_DEVICE 2
#define PATHS_OF_ENVIRONMENT 64

struct paths {
    struct landlock_path *all;
    char **owned; /* to be freed */
    size_t n, n_owned, room;
};

static void release_paths(struct paths *paths)
{
    while (paths->n_owned)
        free(paths->owned[--paths->n_owned]);
    free(paths->owned);
    free(paths->all);
}

/** add() - @path, which must outlive @paths. */
static void add(struct paths *paths, const char *path, unsigned access)
{
    if (path && paths->n < paths->room)
        paths->all[paths->n++] = (struct landlock_path){path, access};
}

/** add_copy() - the same of a path that need not; @folder: the folder that it is in. */
static void add_copy(struct paths *paths, const char *path, bool folder, unsigned access)
{
    char *copy = paths->n_owned < paths->room ? strdup(path) : NULL;
    if (!copy)
        return;
    paths->owned[paths->n_owned++] = copy;
    add(paths, folder ? dirname(copy) : copy, access);
}

/** interpreter() - the loader that this program was started by, which is that of husk-backend; NULL if there is none. */
static const char *interpreter(void)
{
    const ElfW(Phdr) *headers = (const ElfW(Phdr) *)getauxval(AT_PHDR);
    const ElfW(Phdr) *self = NULL, *name = NULL;
    for (unsigned long i = 0; headers && i < getauxval(AT_PHNUM); i++) {
        if (headers[i].p_type == PT_PHDR)
            self = &headers[i];
        if (headers[i].p_type == PT_INTERP)
            name = &headers[i];
    }
    if (!self || !name)
        return NULL;
    return (const char *)headers - self->p_vaddr + name->p_vaddr;
}

/** add_environment() - what @variable names, which the loader goes by: paths between colons or spaces. */
static void add_environment(struct paths *paths, const char *variable)
{
    const char *value = getenv(variable);
    _cleanup_free_ char *copy = value ? strdup(value) : NULL;
    char *rest = copy;
    for (unsigned i = 0; i < PATHS_OF_ENVIRONMENT && rest; i++) {
        const char *one = strsep(&rest, ": ");
        if (*one)
            add_copy(paths, one, false, LANDLOCK_READ);
    }
}

static void add_program(struct paths *paths, const char *program)
{
    for (size_t i = 0; i < ARRAY_SIZE(read_at_start); i++)
        add(paths, read_at_start[i], LANDLOCK_READ);
    add(paths, program, LANDLOCK_READ | LANDLOCK_EXECUTE);
    add(paths, interpreter(), LANDLOCK_READ | LANDLOCK_EXECUTE);
    add_copy(paths, program, true, LANDLOCK_READ);
    add_environment(paths, "LD_LIBRARY_PATH");
    add_environment(paths, "LD_PRELOAD");
}

/** add_socket() - of another program, which may make a new one in its folder, unless that is the root, when it is started again. */
static void add_socket(struct paths *paths, const char *path)
{
    _cleanup_free_ char *real = realpath(path, NULL);
    add(paths, path, 0); /* in sight, with the way to it */
    if (real)
        add_copy(paths, real, strrchr(real, '/') != real, LANDLOCK_CONNECT);
}

static void add_device(struct paths *paths, const struct device_entry *device)
{
    if (device->socket) {
        add_socket(paths, device->socket);
        return;
    }
    if (device->kind == DEVICE_DISK)
        add(paths, device->disk->path,
            LANDLOCK_READ | LANDLOCK_DEVICE | (device->disk->readonly ? 0 : LANDLOCK_WRITE));
    if (device->kind == DEVICE_RNG)
        add(paths, device->rng->src, LANDLOCK_READ | LANDLOCK_WRITE | LANDLOCK_DEVICE);
    if (device->kind == DEVICE_VSOCK)
        add_copy(paths, device->vsock->socket, true, LANDLOCK_REMOVE | LANDLOCK_CONNECT);
}

/** calls_for() - of enum cage_extra: what is to be let through for the devices of @config and for no others. */
static unsigned calls_for(const struct vm_config *config)
{
    static const unsigned of_kind[] = {
        [DEVICE_DISK] = CAGE_DISKS,
        [DEVICE_NET] = CAGE_TAPS,
        [DEVICE_CONSOLE] = CAGE_CONSOLES,
        [DEVICE_VSOCK] = CAGE_STREAMS | CAGE_CONNECTS,
        [DEVICE_RNG] = 0,
    };
    unsigned extra = 0;
    for (unsigned i = 0; i < config_n_devices(config); i++) {
        struct device_entry device = config_device(config, i);
        /* Another program's back-end is connected to. */
        extra |= device.socket ? CAGE_CONNECTS : of_kind[device.kind];
    }
    return extra;
}

/** add_all() - everything that a broker of @context has to come to. */
static void add_all(struct paths *paths, const struct broker_context *context)
{
    const struct vm_config *config = context->config;
    if (context->program[0])
        add_program(paths, context->program);
    for (unsigned i = 0; i < config_n_devices(config); i++) {
        struct device_entry device = config_device(config, i);
        add_device(paths, &device);
    }
    for (unsigned i = 0; i < BROKER_CONSOLES; i++) {
        const struct console_config *console = broker_console(config, i);
        if (console)
            add_copy(paths, console->path, true, LANDLOCK_REMOVE);
    }
}

int broker_cage(const struct broker_context *context, struct error *err)
{
    const struct vm_config *config = context->config;
    struct paths paths = {.room = PATHS_FIXED + (size_t)PATHS_OF_DEVICE * config_n_devices(config) +
                                  (size_t)2 * PATHS_OF_ENVIRONMENT};
    paths.all = calloc(paths.room, sizeof(*paths.all));
    paths.owned = calloc(paths.room, sizeof(*paths.owned));
    if (!paths.all || !paths.owned) {
        release_paths(&paths);
        return error_set(err, -ENOMEM, "out of memory");
    }
    add_all(&paths, context);
    const struct cage cage = {.role = CAGE_BROKER,
                              .extra = calls_for(config),
                              .seccomp = (enum seccomp_mode)config->seccomp,
                              .root_fd = -1};
    int ret = cage_broker(&cage, paths.all, paths.n, err);
    release_paths(&paths);
    return ret;
}
