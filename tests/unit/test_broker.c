#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "broker_fixture.h"

#include "base/cleanup.h"
#include "sandbox/broker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void a_back_end_gets_its_words_and_five_descriptors(void **state)
{
    struct fixture *f = *state;
    configure_image(f, ",num_queues=2,queue_size=64,serial=S1,id=root,direct=off,readonly=on,"
                       "lock_granularity=full,bw_size=1M,bw_refill_time=100,ops_size=7,"
                       "ops_one_time_burst=8,ops_refill_time=9");
    struct broker *broker = start(f);
    struct link link = link_to(broker, 0, false);
    char text[2048], expected[512];
    read_line(link.fd, text, sizeof(text));
    snprintf(expected, sizeof(expected),
             "blk --fd 3 --name root --file-fd 4 --file-name %s --num-queues 2 --queue-size 64 "
             "--lock full --readonly --serial S1 --bw-size 1048576 --bw-refill-time 100 "
             "--ops-size 7 --ops-one-time-burst 8 --ops-refill-time 9 fds 0 1 2 3 4",
             f->image);
    assert_string_equal(text, expected);
    unlink_from(&link);
    broker_stop(broker);
}

static void a_back_end_is_told_of_the_mode_of_filters(void **state)
{
    struct fixture *f = *state;
    const char *words[] = {"--rng", "src=/dev/urandom", "--seccomp", "log"};
    configure_words(f, words, 4);
    struct broker *broker = start(f);
    struct link link = link_to(broker, 0, false);
    char text[2048];
    read_line(link.fd, text, sizeof(text));
    assert_string_equal(text, "rng --fd 3 --name _rng --src-fd 4 --seccomp log fds 0 1 2 3 4");
    unlink_from(&link);
    broker_stop(broker);
}

static void a_source_of_randomness_is_opened_for_its_back_end_alone(void **state)
{
    struct fixture *f = *state;
    char disk[256];
    snprintf(disk, sizeof(disk), "path=%s", f->image);
    const char *words[] = {"--disk", disk, "--rng", "src=/dev/urandom"};
    configure_words(f, words, 4);
    struct broker *broker = start(f);
    struct link first = link_to(broker, 0, false), second = link_to(broker, 1, false);
    char text[2048];
    read_line(first.fd, text, sizeof(text));
    assert_non_null(strstr(text, "blk --fd 3 --name _disk0 --file-fd 4 "));
    read_line(second.fd, text, sizeof(text));
    assert_string_equal(text, "rng --fd 3 --name _rng --src-fd 4 fds 0 1 2 3 4");
    unlink_from(&first);
    unlink_from(&second);
    broker_stop(broker);
}

static void what_cannot_be_a_source_of_randomness_is_refused(void **state)
{
    struct fixture *f = *state;
    char path[256];
    snprintf(path, sizeof(path), "src=%s", f->image);
    const char *words[] = {"--rng", path};
    configure_words(f, words, 2);
    assert_refused(f, -EINVAL, "is neither a character device nor a pipe", "src=/dev/urandom");
    words[1] = "src=/nonexistent/r";
    configure_words(f, words, 2);
    assert_refused(f, -ENOENT, "--rng: _rng: could not open '/nonexistent/r'", "");
    /* A pipe without a writer neither holds husk up nor is refused. */
    assert_int_equal(mkfifo(f->socket, 0600), 0);
    snprintf(path, sizeof(path), "src=%s", f->socket);
    words[1] = path;
    configure_words(f, words, 2);
    struct broker *broker = start(f);
    struct link link = link_to(broker, 0, false);
    skip_line(link.fd);
    struct error err = ERROR_INIT;
    assert_int_equal(rename(f->other, f->socket), 0);
    unlink_from(&link);
    assert_int_equal(broker_connect(broker, 0, true, &link.fd, &link.pidfd, &err), -ESTALE);
    broker_stop(broker);
}

static void each_back_end_of_a_console_has_the_ends_that_husk_lent(void **state)
{
    struct fixture *f = *state;
    const char *words[] = {"--console", "tty"};
    int pair[2], pipe_fds[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    const struct broker_lent lent = {.console = {pair[1], pipe_fds[0], pipe_fds[1]}};
    configure_words(f, words, 2);
    struct broker *broker = start_lending(f, &lent);
    /* The broker's copies are all that is left of them here. */
    close(pair[1]);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    assert_int_equal(write(pair[0], "x", 1), 1);
    for (int i = 0; i < 2; i++) {
        struct link link = link_to(broker, 0, i > 0);
        char text[2048];
        read_line(link.fd, text, sizeof(text));
        assert_string_equal(text, "console --fd 3 --name _console --data-fd 4 --size-fd 5 "
                                  "--change-fd 6 fds 0 1 2 3 4 5 6");
        unlink_from(&link);
    }
    broker_stop(broker);
    char byte;
    assert_int_equal(recv(pair[0], &byte, 1, 0), -1); /* reset: nobody has read */
    assert_int_equal(errno, ECONNRESET);
    close(pair[0]);

    words[1] = "null";
    configure_words(f, words, 2);
    broker = start(f);
    struct link link = link_to(broker, 0, false);
    char text[2048];
    read_line(link.fd, text, sizeof(text));
    assert_string_equal(text, "console --fd 3 --name _console --null fds 0 1 2 3");
    unlink_from(&link);
    broker_stop(broker);
}

static void a_back_end_writes_to_the_file_that_was_named(void **state)
{
    struct fixture *f = configure_image(*state, "");
    struct broker *broker = start(f);
    struct link link = link_to(broker, 0, false);
    skip_line(link.fd);
    ask(link.fd, 'w');
    unlink_from(&link);
    broker_stop(broker);
    char text[17] = "";
    _cleanup_close_ int fd = open(f->image, O_RDONLY | O_CLOEXEC);
    assert_int_equal(read(fd, text, 16), 16);
    assert_string_equal(text, "written789abcdef");
}

static void a_back_end_that_died_is_started_again_and_waits_for_the_lock(void **state)
{
    struct fixture *f = configure_image(*state, "");
    struct broker *broker = start(f);
    struct link link = link_to(broker, 0, false);
    int first = pid_of(link.pidfd);
    skip_line(link.fd);
    assert_int_equal(write(link.fd, "x", 1), 1);
    assert_ends(link.pidfd);
    unlink_from(&link);
    link = link_to(broker, 0, true);
    char text[2048];
    read_line(link.fd, text, sizeof(text));
    assert_non_null(strstr(text, " --lock-wait "));
    assert_int_not_equal(pid_of(link.pidfd), first);
    unlink_from(&link);
    broker_stop(broker);
}

static void a_stopped_back_end_can_be_killed(void **state)
{
    struct fixture *f = configure_image(*state, "");
    struct broker *broker = start(f);
    struct link link = link_to(broker, 0, false);
    skip_line(link.fd);
    assert_int_equal(pidfd_send_signal(link.pidfd, SIGSTOP, NULL, 0), 0);
    broker_kill(broker, 0);
    assert_ends(link.pidfd);
    unlink_from(&link);
    broker_stop(broker);
}

/** stop_child() - the one process that this one has started, until so many milliseconds later. Returns the process that has it go on. */
static pid_t stop_child(long ms)
{
    char path[64], text[64];
    snprintf(path, sizeof(path), "/proc/self/task/%d/children", getpid());
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    read_line(fd, text, sizeof(text));
    close(fd);
    pid_t child = (pid_t)strtol(text, NULL, 10);
    assert_true(child > 0);
    assert_int_equal(kill(child, SIGSTOP), 0);
    pid_t waker = fork();
    assert_true(waker >= 0);
    if (waker == 0) {
        nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
        _exit(kill(child, SIGCONT) < 0);
    }
    return waker;
}

static void a_broker_on_a_busy_host_is_waited_for_at_the_start(void **state)
{
    struct fixture *f = configure_image(*state, "");
    struct broker *broker = start(f);
    pid_t waker = stop_child(5500); /* longer than it may take later */
    struct link link = link_to(broker, 0, false);
    unlink_from(&link);
    assert_int_equal(waitpid(waker, NULL, 0), waker);
    broker_stop(broker);
}

static void the_one_before_has_ended_when_the_next_is_started(void **state)
{
    struct fixture *f = configure_image(*state, "");
    struct broker *broker = start(f);
    struct link first = link_to(broker, 0, false);
    skip_line(first.fd);
    assert_int_equal(write(first.fd, "s", 1), 1); /* it ends by no means but being killed */
    struct link second = link_to(broker, 0, false);
    struct pollfd ended = {.fd = first.pidfd, .events = POLLIN};
    assert_int_equal(poll(&ended, 1, 0), 1);
    skip_line(second.fd);
    ask(second.fd, 'w');
    unlink_from(&first);
    unlink_from(&second);
    broker_stop(broker);
}

/** trace() - the process of @pidfd, until a moment after its end. Returns whether the tracing began. */
static bool trace(int pidfd, pid_t *tracer)
{
    int ready[2];
    char begun = 0;
    assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
    pid_t pid = pid_of(pidfd);
    *tracer = fork();
    assert_true(*tracer >= 0);
    if (*tracer == 0) {
        if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0 || write(ready[1], "t", 1) != 1)
            _exit(1);
        struct pollfd ended = {.fd = pidfd, .events = POLLIN};
        poll(&ended, 1, WAIT_MS);
        usleep(100000);
        _exit(0);
    }
    close(ready[1]);
    bool is_traced = read(ready[0], &begun, 1) == 1;
    close(ready[0]);
    return is_traced;
}

static void one_that_a_tracer_holds_is_waited_for(void **state)
{
    struct fixture *f = configure_image(*state, "");
    struct broker *broker = start(f);
    struct link link = link_to(broker, 0, false);
    pid_t tracer;
    skip_line(link.fd);
    if (!trace(link.pidfd, &tracer)) {
        print_message("needs leave to trace processes (kernel.yama.ptrace_scope)\n");
        skip();
    }
    struct link next = link_to(broker, 0, true);
    skip_line(next.fd);
    assert_int_equal(waitpid(tracer, NULL, 0), tracer);
    unlink_from(&link);
    unlink_from(&next);
    broker_stop(broker);
}

static void a_file_that_took_the_place_of_the_disk_is_refused(void **state)
{
    struct fixture *f = configure_image(*state, "");
    struct broker *broker = start(f);
    struct link link = link_to(broker, 0, false);
    struct error err = ERROR_INIT;
    assert_int_equal(rename(f->other, f->image), 0);
    unlink_from(&link);
    assert_int_equal(broker_connect(broker, 0, true, &link.fd, &link.pidfd, &err), -ESTALE);
    assert_non_null(strstr(err.message, "is another file than when husk started"));
    assert_int_equal(broker_connect(broker, 7, false, &link.fd, &link.pidfd, &err), -ENODEV);
    broker_stop(broker);
}

static void a_disk_that_somebody_else_locks_is_refused_with_his_name(void **state)
{
    struct fixture *f = configure_image(*state, "");
    _cleanup_close_ int fd = open(f->image, O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    char text[256];
    snprintf(text, sizeof(text),
             "--disk: _disk0: '%s' is in use by test-broker (pid %d): it is locked against other "
             "users",
             f->image, (int)getpid());
    assert_refused(f, -EBUSY, text, "");
    /* A reader's lock keeps writers away, and no other reader. */
    lock.l_type = F_RDLCK;
    assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
    assert_refused(f, -EBUSY, "is locked against writers", "readonly=on");
    configure_image(f, ",readonly=on");
    broker_stop(start(f));
}

static void what_cannot_be_a_disk_is_refused_with_a_sentence(void **state)
{
    struct fixture *f = *state;
    configure(f, "path=/nonexistent/disk", NULL);
    assert_refused(f, -ENOENT,
                   "--disk: _disk0: could not open '/nonexistent/disk' for reading and writing: No "
                   "such file",
                   "truncate");
    configure(f, "path=/tmp,id=d", NULL);
    assert_refused(f, -EISDIR, "--disk: d: '/tmp' is a directory, not an image", "");
    configure(f, "path=/tmp,readonly=on", NULL);
    assert_refused(f, -EISDIR, "'/tmp' is a directory, not an image", "");
    configure(f, "path=/dev/null", NULL);
    assert_refused(f, -EINVAL, "'/dev/null' is a character device, not an image", "");
    assert_int_equal(mkfifo(f->socket, 0600), 0);
    char text[256];
    snprintf(text, sizeof(text), "path=%s", f->socket);
    configure(f, text, NULL);
    assert_refused(f, -EINVAL, "is a pipe, not an image", "");
    configure(f, "vhost_user=on,socket=/nonexistent/s", NULL);
    assert_refused(f, -ENOENT, "could not find the socket '/nonexistent/s'", "before husk");
    configure(f, "vhost_user=on,socket=/dev/null", NULL);
    assert_refused(f, -ENOTSOCK, "'/dev/null' is not a socket", "");
}

static void one_file_is_two_disks_only_if_both_are_read(void **state)
{
    struct fixture *f = *state;
    char writer[256], reader[256];
    snprintf(writer, sizeof(writer), "path=%s,id=w", f->image);
    snprintf(reader, sizeof(reader), "path=%s,readonly=on", f->image);
    configure(f, writer, reader);
    assert_refused(f, -EBUSY, "is the disk w too", "");
    configure(f, reader, reader);
    broker_stop(start(f));
}

static void a_socket_of_somebody_elses_is_connected_to(void **state)
{
    struct fixture *f = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, f->socket);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(listen(listener, 1), 0);
    char text[256];
    snprintf(text, sizeof(text), "vhost_user=on,socket=%s", f->socket);
    configure(f, text, NULL);
    struct broker *broker = start(f);
    struct link link = link_to(broker, 0, false);
    assert_int_equal(link.pidfd, -1);
    _cleanup_close_ int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    assert_int_equal(write(peer, "hello", 5), 5);
    assert_int_equal(read(link.fd, text, sizeof(text)), 5);
    broker_kill(broker, 0); /* not husk's: nothing happens to it */
    assert_int_equal(write(link.fd, "x", 1), 1);
    unlink_from(&link);

    close(listener);
    struct error err = ERROR_INIT;
    assert_int_equal(broker_connect(broker, 0, true, &link.fd, &link.pidfd, &err), -ECONNREFUSED);
    assert_non_null(strstr(err.message, "could not connect to"));
    broker_stop(broker);
}

static void the_terminals_signals_end_neither_broker_nor_back_end(void **state)
{
    struct fixture *f = configure_image(*state, "");
    struct broker *broker = start(f);
    struct link link = link_to(broker, 0, false);
    skip_line(link.fd);
    int broker_pid = broker_pid_of(&link);
    assert_int_equal(getsid(broker_pid), broker_pid);
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        assert_int_equal(kill(broker_pid, signals[i]), 0);
        assert_int_equal(pidfd_send_signal(link.pidfd, signals[i], NULL, 0), 0);
        ask(link.fd, 'w');
    }
    struct link second = link_to(broker, 0, true);
    unlink_from(&link);
    unlink_from(&second);
    broker_stop(broker);
}

static void husk_killed_leaves_no_broker_and_no_back_end(void **state)
{
    struct fixture *f = *state;
    char second[256];
    snprintf(second, sizeof(second), "path=%s", f->other);
    char first[256];
    snprintf(first, sizeof(first), "path=%s", f->image);
    configure(f, first, second);
    int pipe_fds[2];
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    pid_t husk = fork();
    if (husk == 0) {
        struct error err = ERROR_INIT;
        struct broker *broker = broker_start(&f->config, &BROKER_LENT_NONE, &err);
        int pids[3] = {0}, fd, pidfd;
        for (unsigned i = 0; broker && i < 2; i++) {
            if (broker_connect(broker, i, false, &fd, &pidfd, &err) < 0)
                _exit(1);
            char text[2048];
            read_line(fd, text, sizeof(text));
            pids[i] = pid_of(pidfd);
            if (i == 1 && pidfd_send_signal(pidfd, SIGSTOP, NULL, 0) < 0)
                _exit(1);
        }
        pids[2] = pid_field(pids[0], "PPid:");
        if (write(pipe_fds[1], pids, sizeof(pids)) != (ssize_t)sizeof(pids))
            _exit(1);
        for (;;)
            pause();
    }
    close(pipe_fds[1]);
    int pids[3] = {0}, pidfds[3];
    assert_int_equal(read(pipe_fds[0], pids, sizeof(pids)), sizeof(pids));
    close(pipe_fds[0]);
    for (int i = 0; i < 3; i++) {
        pidfds[i] = pidfd_open(pids[i], 0);
        assert_true(pidfds[i] >= 0);
    }
    assert_int_equal(kill(husk, SIGKILL), 0);
    assert_int_equal(waitpid(husk, NULL, 0), husk);
    for (int i = 0; i < 3; i++) {
        assert_ends(pidfds[i]);
        close(pidfds[i]);
    }
}

static void a_dead_broker_is_told_of_and_its_back_ends_die_too(void **state)
{
    struct fixture *f = configure_image(*state, "");
    struct broker *broker = start(f);
    struct link link = link_to(broker, 0, false), none;
    skip_line(link.fd);
    assert_int_equal(kill(broker_pid_of(&link), SIGKILL), 0);
    assert_ends(link.pidfd);
    struct error err = ERROR_INIT;
    assert_true(broker_connect(broker, 0, true, &none.fd, &none.pidfd, &err) < 0);
    assert_non_null(strstr(err.message, "the broker process is gone"));
    unlink_from(&link);
    broker_stop(broker);
}

static void stopping_waits_until_the_back_ends_are_gone(void **state)
{
    struct fixture *f = configure_image(*state, "");
    struct broker *broker = start(f);
    struct link link = link_to(broker, 0, false);
    skip_line(link.fd);
    assert_int_equal(write(link.fd, "s", 1), 1);
    broker_stop(broker);
    struct pollfd ended = {.fd = link.pidfd, .events = POLLIN};
    assert_int_equal(poll(&ended, 1, 0), 1);
    unlink_from(&link);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* no child is left unreaped */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_back_end_gets_its_words_and_five_descriptors),
        TEST(a_back_end_is_told_of_the_mode_of_filters),
        TEST(a_source_of_randomness_is_opened_for_its_back_end_alone),
        TEST(what_cannot_be_a_source_of_randomness_is_refused),
        TEST(each_back_end_of_a_console_has_the_ends_that_husk_lent),
        TEST(a_back_end_writes_to_the_file_that_was_named),
        TEST(a_back_end_that_died_is_started_again_and_waits_for_the_lock),
        TEST(a_stopped_back_end_can_be_killed),
        TEST(a_broker_on_a_busy_host_is_waited_for_at_the_start),
        TEST(the_one_before_has_ended_when_the_next_is_started),
        TEST(one_that_a_tracer_holds_is_waited_for),
        TEST(a_file_that_took_the_place_of_the_disk_is_refused),
        TEST(a_disk_that_somebody_else_locks_is_refused_with_his_name),
        TEST(what_cannot_be_a_disk_is_refused_with_a_sentence),
        TEST(one_file_is_two_disks_only_if_both_are_read),
        TEST(a_socket_of_somebody_elses_is_connected_to),
        TEST(the_terminals_signals_end_neither_broker_nor_back_end),
        TEST(husk_killed_leaves_no_broker_and_no_back_end),
        TEST(a_dead_broker_is_told_of_and_its_back_ends_die_too),
        TEST(stopping_waits_until_the_back_ends_are_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
