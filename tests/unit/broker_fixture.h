/* What the tests of the broker start from: a folder with a disk image, a broker, links to its back-ends' stand-in. */
#ifndef HUSK_TESTS_BROKER_FIXTURE_H
#define HUSK_TESTS_BROKER_FIXTURE_H

#include "config/options.h"
#include "sandbox/broker.h"

#include <stdbool.h>
#include <stddef.h>

/* How long anything may take, milliseconds. */
#define WAIT_MS 60000

/* A folder of its own for each test, with a disk image in it. */
struct fixture {
    char folder[64];
    char image[96], other[96], socket[96];
    struct vm_config config;
};

/* To a back-end: its socket and its process. */
struct link {
    int fd, pidfd;
};

int set_up(void **state);

int tear_down(void **state);

/** configure_words() - "--kernel k" and @n words. */
void configure_words(struct fixture *f, const char *const *words, int n);

/** configure() - "--disk @first", "--disk @second" if it is not NULL. */
void configure(struct fixture *f, const char *first, const char *second);

struct fixture *configure_image(struct fixture *f, const char *more);

struct broker *start_lending(struct fixture *f, const struct broker_lent *lent);

struct broker *start(struct fixture *f);

struct link link_to(struct broker *broker, unsigned device, bool again);

void unlink_from(struct link *link);

/** read_line() - up to the line break, which is left out. */
void read_line(int fd, char *text, size_t size);

void skip_line(int fd);

/** ask() - one command of the stand-in's, done when this returns. */
void ask(int fd, char command);

void assert_ends(int pidfd);

/** pid_field() - field @name, a process id, of /proc/<pid>/status. */
int pid_field(int pid, const char *name);

/** pid_of() - the process of @pidfd, from its fdinfo. */
int pid_of(int pidfd);

int broker_pid_of(const struct link *link);

void assert_refused(struct fixture *f, int code, const char *message, const char *hint);

#endif
