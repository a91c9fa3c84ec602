#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker_fixture.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "config/options.h"
#include "sandbox/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void write_file(const char *path, const char *text)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    strcpy(f->folder, "/tmp/husk-broker-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->image, sizeof(f->image), "%s/a.img", f->folder);
    snprintf(f->other, sizeof(f->other), "%s/b.img", f->folder);
    snprintf(f->socket, sizeof(f->socket), "%s/s", f->folder);
    write_file(f->image, "0123456789abcdef");
    write_file(f->other, "other");
    config_init_defaults(&f->config);
    log_set_level(LOG_ERROR);
    *state = f;
    return 0;
}

int tear_down(void **state)
{
    struct fixture *f = *state;
    unlink(f->image);
    unlink(f->other);
    unlink(f->socket);
    rmdir(f->folder);
    config_release(&f->config);
    free(f);
    return 0;
}

void configure_words(struct fixture *f, const char *const *words, int n)
{
    const char *argv[8] = {"--kernel", "k"};
    memcpy(argv + 2, words, (size_t)n * sizeof(words[0]));
    struct config_request request;
    struct error err = ERROR_INIT;
    config_release(&f->config);
    assert_int_equal(config_parse_args(&f->config, n + 2, (char **)argv, &request, &err), 0);
    config_request_release(&request);
    assert_int_equal(config_validate(&f->config, &err), 0);
}

void configure(struct fixture *f, const char *first, const char *second)
{
    const char *words[] = {"--disk", first, second};
    configure_words(f, words, second ? 3 : 2);
}

struct fixture *configure_image(struct fixture *f, const char *more)
{
    char text[256];
    snprintf(text, sizeof(text), "path=%s%s", f->image, more);
    configure(f, text, NULL);
    return f;
}

struct broker *start_lending(struct fixture *f, const struct broker_lent *lent)
{
    struct error err = ERROR_INIT;
    struct broker *broker = broker_start(&f->config, lent, &err);
    if (!broker)
        fail_msg("%s", err.message);
    return broker;
}

struct broker *start(struct fixture *f)
{
    return start_lending(f, &BROKER_LENT_NONE);
}

struct link link_to(struct broker *broker, unsigned device, bool again)
{
    struct link link = {-1, -1};
    struct error err = ERROR_INIT;
    int64_t deadline = clock_ms() + WAIT_MS;
    int ret;
    /* As husk does: the one before may be slow to end. */
    do
        ret = broker_connect(broker, device, again, &link.fd, &link.pidfd, &err);
    while (ret == -EBUSY && clock_ms() < deadline);
    if (ret < 0)
        fail_msg("%s", err.message);
    return link;
}

void unlink_from(struct link *link)
{
    cleanup_close(&link->fd);
    cleanup_close(&link->pidfd);
}

void read_line(int fd, char *text, size_t size)
{
    size_t len = 0;
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    while (len + 1 < size && poll(&ready, 1, WAIT_MS) == 1 && read(fd, text + len, 1) == 1 &&
           text[len] != '\n')
        len++;
    text[len] = '\0';
}

void skip_line(int fd)
{
    char text[2048];
    read_line(fd, text, sizeof(text));
    assert_non_null(strstr(text, "fds"));
}

void ask(int fd, char command)
{
    char answer = 0;
    assert_int_equal(write(fd, &command, 1), 1);
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&ready, 1, WAIT_MS), 1);
    assert_int_equal(read(fd, &answer, 1), 1);
    assert_int_equal(answer, command);
}

void assert_ends(int pidfd)
{
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    assert_int_equal(poll(&ended, 1, WAIT_MS), 1);
}

/** pid_field() - field @name, a process id, of /proc/<pid>/status. */
int pid_field(int pid, const char *name)
{
    char path[64], line[256];
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    _cleanup_fclose_ FILE *in = fopen(path, "re");
    assert_non_null(in);
    while (fgets(line, sizeof(line), in))
        if (strncmp(line, name, strlen(name)) == 0)
            return atoi(line + strlen(name) + 1);
    fail_msg("%s has no %s", path, name);
    return -1;
}

int pid_of(int pidfd)
{
    char path[64], line[256];
    snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
    _cleanup_fclose_ FILE *in = fopen(path, "re");
    assert_non_null(in);
    while (fgets(line, sizeof(line), in))
        if (strncmp(line, "Pid:", 4) == 0)
            return atoi(line + 4);
    fail_msg("%s has no Pid", path);
    return -1;
}

int broker_pid_of(const struct link *link)
{
    return pid_field(pid_of(link->pidfd), "PPid:");
}

void assert_refused(struct fixture *f, int code, const char *message, const char *hint)
{
    struct error err = ERROR_INIT;
    assert_null(broker_start(&f->config, &BROKER_LENT_NONE, &err));
    if (!strstr(err.message, message) || !strstr(err.hint, hint))
        fail_msg("'%s' (%s) is not '%s' (%s)", err.message, err.hint, message, hint);
    assert_int_equal(err.code, code);
}
