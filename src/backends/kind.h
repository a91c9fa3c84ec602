/* A kind of back-end (blk, ...) as husk-backend's main() knows it: its options and how its device is opened. */
#ifndef HUSK_BACKENDS_KIND_H
#define HUSK_BACKENDS_KIND_H

#include "backends/server.h"
#include "sandbox/roles.h"

#include <getopt.h>

/* Values below are main()'s own options. */
#define BACKEND_OPTION_FIRST 1000

struct backend_kind {
    const char *name;
    enum cage_role role; /* what it may call */
    const char *summary; /* one line of the overview */
    const char *help;    /* the kind's own options for --help, a line each, ended by a line break */
    /* getopt_long's table without the common options, ended by a zero entry; .flag is NULL, .val from
     * BACKEND_OPTION_FIRST. */
    const struct option *options;
    /** create() - what the options are stored in; NULL if memory ran out. */
    void *(*create)(void);
    /** set() - option @val with its @value (NULL if it has none). Returns 0 or -errno with @err filled. */
    int (*set)(void *kind_state, int val, const char *value, struct error *err);
    /**
     * open() - after all options: open what they name, fill @backend (but for .name).
     *
     * Return: 0; -EINVAL if the options make no sense together (exit status 2); another -errno (exit status 1).
     */
    int (*open)(void *kind_state, struct vu_backend *backend, struct error *err);
    /** destroy() - close and free everything; after create() alone, too. */
    void (*destroy)(void *kind_state);
};

#endif
