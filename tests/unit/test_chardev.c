#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/loop.h"
#include "base/unix_socket.h"
#include "devices/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* The guest's side: takes @room bytes at a time, and stops the loop once @want bytes are there. */
struct guest {
    struct loop *loop;
    struct chardev *chardev;
    char got[4096];
    size_t n, want, room;
};

static size_t take(void *ctx, const uint8_t *data, size_t len)
{
    struct guest *guest = ctx;
    size_t n = len < guest->room ? len : guest->room;
    assert_in_range(guest->n + n, 0, sizeof(guest->got));
    memcpy(guest->got + guest->n, data, n);
    guest->n += n;
    guest->room -= n;
    if (guest->n >= guest->want || guest->room == 0)
        loop_stop(guest->loop, 0);
    return n;
}

static struct chardev *open_or_fail(struct loop *loop, enum chardev_mode mode, const char *path)
{
    struct error err = ERROR_INIT;
    struct chardev_params params = {
        .mode = mode, .path = path, .name = "--serial", .flush_ms = 60000};
    struct unix_listener listener;
    if (mode == CHARDEV_SOCKET && unix_listen(path, 1, &listener, &err) < 0)
        fail_msg("%s", err.message);
    if (mode == CHARDEV_SOCKET)
        params.listen_fd = listener.fd;
    struct chardev *chardev = chardev_open(&params, loop, &err);
    if (!chardev)
        fail_msg("%s", err.message);
    return chardev;
}

static char folder[] = "/tmp/husk-chardev-XXXXXX";
static char path[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder + sizeof(folder) - 7, "XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/console", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static int connect_to(const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

/* What a loop in a thread of its own needs, so that the test can be the client. */
static void *run_loop(void *loop)
{
    loop_run(loop);
    return NULL;
}

static void read_exactly(int fd, char *to, size_t len)
{
    for (size_t n = 0; n < len;) {
        ssize_t got = read(fd, to + n, len - n);
        assert_true(got > 0);
        n += (size_t)got;
    }
}

static void a_file_is_emptied_and_written(void **state)
{
    (void)state;
    FILE *old = fopen(path, "w");
    fputs("old contents that are longer", old);
    fclose(old);
    struct loop *loop = loop_new();
    struct chardev *chardev = open_or_fail(loop, CHARDEV_FILE, path);
    chardev_write(chardev, "new", 3);
    chardev_close(chardev);
    char text[64] = "";
    FILE *file = fopen(path, "r");
    assert_non_null(fgets(text, sizeof(text), file));
    fclose(file);
    assert_string_equal(text, "new");
    loop_free(loop);
}

static void a_socket_and_a_pipe_without_a_reader_are_no_files(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    const struct chardev_params params = {.mode = CHARDEV_FILE, .path = path, .name = "--serial"};
    struct error err = ERROR_INIT;
    struct unix_listener listener;
    assert_int_equal(unix_listen(path, 1, &listener, &err), 0);
    assert_null(chardev_open(&params, loop, &err));
    assert_non_null(strstr(err.message, "is a socket, not a file"));
    close(listener.fd);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_null(chardev_open(&params, loop, &err));
    assert_non_null(strstr(err.message, "nobody reads from"));
    loop_free(loop);
}

static void a_client_gets_what_was_written_before_it_came(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct chardev *chardev = open_or_fail(loop, CHARDEV_SOCKET, path);
    chardev_write(chardev, "early ", 6);
    pthread_t thread;
    pthread_create(&thread, NULL, run_loop, loop);
    int client = connect_to(path);
    char text[16] = "";
    read_exactly(client, text, 6);
    assert_string_equal(text, "early ");
    chardev_write(chardev, "late", 4);
    read_exactly(client, text, 4);
    assert_memory_equal(text, "late", 4);

    /* One client at a time: a second one is turned away at once. */
    int second = connect_to(path);
    assert_int_equal(read(second, text, 1), 0);
    close(second);
    loop_stop(loop, 0);
    pthread_join(thread, NULL);
    close(client);
    chardev_close(chardev);
    loop_free(loop);
}

static void the_next_client_gets_what_nobody_read(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct chardev *chardev = open_or_fail(loop, CHARDEV_SOCKET, path);
    struct guest guest = {.loop = loop, .want = 1, .room = 100};
    chardev_set_input(chardev, take, &guest);
    int first = connect_to(path);
    assert_int_equal(write(first, "x", 1), 1);
    loop_run(loop); /* until the byte has arrived */
    close(first);
    pthread_t thread;
    pthread_create(&thread, NULL, run_loop, loop);
    /* The hang-up is on its way through the loop: only when it is through is a client let in. */
    char text[8] = "";
    for (;;) {
        int client = connect_to(path);
        chardev_write(chardev, "?", 1);
        if (read(client, text, 1) == 1) {
            assert_int_equal(text[0], '?');
            close(client);
            break;
        }
        close(client);
    }
    loop_stop(loop, 0);
    pthread_join(thread, NULL);
    chardev_close(chardev);
    loop_free(loop);
}

static void a_client_that_does_not_read_blocks_nobody(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct chardev *chardev = open_or_fail(loop, CHARDEV_SOCKET, path);
    pthread_t thread;
    pthread_create(&thread, NULL, run_loop, loop);
    int client = connect_to(path);
    char hello[2];
    chardev_write(chardev, "hi", 2);
    read_exactly(client, hello, 2);
    char line[1024];
    memset(line, 'x', sizeof(line));
    for (int i = 0; i < 4096; i++) /* 4 MiB: more than socket buffer and queue hold */
        chardev_write(chardev, line, sizeof(line));
    chardev_write(chardev, "the end", 7);
    /* The newest is kept: it comes last, once the client reads again. */
    char tail[8] = "";
    while (strcmp(tail, "the end") != 0) {
        memmove(tail, tail + 1, 6);
        read_exactly(client, tail + 6, 1);
    }
    loop_stop(loop, 0);
    pthread_join(thread, NULL);
    close(client);
    chardev_close(chardev);
    loop_free(loop);
}

static void input_waits_for_room_and_nothing_is_lost(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct chardev *chardev = open_or_fail(loop, CHARDEV_SOCKET, path);
    struct guest guest = {.loop = loop, .chardev = chardev, .want = 1000};
    int client = connect_to(path);
    char text[1000];
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)('a' + i % 23);
    assert_int_equal(write(client, text, sizeof(text)), sizeof(text));
    chardev_set_input(chardev, take, &guest);
    while (guest.n < sizeof(text)) {
        guest.room = 3;
        chardev_input_ready(chardev);
        loop_run(loop);
    }
    assert_memory_equal(guest.got, text, sizeof(text));
    close(client);
    chardev_close(chardev);
    loop_free(loop);
}

static void a_pseudo_terminal_carries_bytes_both_ways_unchanged(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct chardev *chardev = open_or_fail(loop, CHARDEV_PTY, NULL);
    struct guest guest = {.loop = loop, .want = 4, .room = 100};
    chardev_set_input(chardev, take, &guest);
    chardev_write(chardev, "early\r\n", 7); /* before anybody has opened it */
    const char *slave = chardev_pty_path(chardev);
    assert_non_null(slave);
    for (int i = 0; i < 2; i++) { /* users come and go */
        int fd = open(slave, O_RDWR | O_NOCTTY);
        assert_true(fd >= 0);
        char text[8] = "";
        if (i)
            chardev_write(chardev, "again\r\n", 7);
        read_exactly(fd, text, 7);
        assert_memory_equal(text, i ? "again\r\n" : "early\r\n", 7);
        guest.n = 0;
        assert_int_equal(write(fd, "\x03\x04\r\n", 4), 4);
        loop_run(loop);
        assert_memory_equal(guest.got, "\x03\x04\r\n", 4);
        close(fd);
    }
    chardev_close(chardev);
    loop_free(loop);
}

/* Reads until the other side hangs up. */
struct reader {
    int fd;
    size_t n;
};

static void *read_all(void *arg)
{
    struct reader *reader = arg;
    char text[512];
    ssize_t n;
    while ((n = read(reader->fd, text, sizeof(text))) > 0)
        reader->n += (size_t)n;
    return NULL;
}

static void the_last_lines_reach_a_pseudo_terminals_user(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct loop *loop = loop_new();
        struct chardev *chardev = open_or_fail(loop, CHARDEV_PTY, NULL);
        struct reader reader = {.fd = open(chardev_pty_path(chardev), O_RDONLY | O_NOCTTY)};
        assert_true(reader.fd >= 0);
        pthread_t thread;
        pthread_create(&thread, NULL, read_all, &reader);
        char text[20000]; /* more than the kernel holds */
        memset(text, 'x', sizeof(text));
        chardev_write(chardev, text, sizeof(text));
        chardev_close(chardev);
        pthread_join(thread, NULL);
        assert_int_equal(reader.n, sizeof(text));
        close(reader.fd);
        loop_free(loop);
    }
}

static void what_a_full_disk_takes_is_written_and_the_rest_is_given_up(void **state)
{
    (void)state;
    struct loop *loop = loop_new();
    struct chardev *chardev = open_or_fail(loop, CHARDEV_FILE, path);
    struct rlimit limit, small = {.rlim_cur = 6};
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small.rlim_max = limit.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    chardev_write(chardev, "123456789", 9);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 6);
    chardev_close(chardev);
    loop_free(loop);
}

/* Standard input and output replaced for one test. */
struct standard {
    int in, out;
};

static void replace_standard(struct standard *saved, int in, int out)
{
    fflush(stdout);
    saved->in = dup(STDIN_FILENO);
    saved->out = dup(STDOUT_FILENO);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
}

static void restore_standard(const struct standard *saved)
{
    dup2(saved->in, STDIN_FILENO);
    dup2(saved->out, STDOUT_FILENO);
    close(saved->in);
    close(saved->out);
}

static void standard_input_may_end_while_output_goes_on(void **state)
{
    (void)state;
    int in[2], out[2];
    assert_int_equal(pipe(in) | pipe(out), 0);
    assert_int_equal(write(in[1], "abc", 3), 3);
    close(in[1]);
    struct standard saved;
    replace_standard(&saved, in[0], out[1]);
    struct loop *loop = loop_new();
    struct chardev *chardev = open_or_fail(loop, CHARDEV_TTY, NULL);
    int flags = fcntl(STDOUT_FILENO, F_GETFL);
    restore_standard(&saved);
    /* Whoever shares standard output with husk must not find it non-blocking. */
    assert_int_equal(flags & O_NONBLOCK, 0);
    struct guest guest = {.loop = loop, .want = 3, .room = 100};
    chardev_set_input(chardev, take, &guest);
    loop_run(loop);
    assert_memory_equal(guest.got, "abc", 3);
    chardev_write(chardev, "out", 3);
    chardev_close(chardev);
    char text[4] = "";
    read_exactly(out[0], text, 3);
    assert_string_equal(text, "out");
    close(in[0]);
    close(out[0]);
    close(out[1]);
    loop_free(loop);
}

static void a_file_as_standard_input_is_read_as_fast_as_the_guest_takes_it(void **state)
{
    (void)state;
    FILE *file = fopen(path, "w");
    for (int i = 0; i < 300; i++)
        fputc('a' + i % 26, file);
    fclose(file);
    int in = open(path, O_RDONLY), null = open("/dev/null", O_WRONLY);
    struct standard saved;
    replace_standard(&saved, in, null);
    struct loop *loop = loop_new();
    struct chardev *chardev = open_or_fail(loop, CHARDEV_TTY, NULL);
    restore_standard(&saved);
    struct guest guest = {.loop = loop, .want = 300};
    chardev_set_input(chardev, take, &guest);
    while (guest.n < 300) {
        guest.room = 7;
        chardev_input_ready(chardev);
        loop_run(loop);
    }
    for (size_t i = 0; i < 300; i++)
        assert_int_equal(guest.got[i], 'a' + i % 26);
    chardev_close(chardev);
    close(in);
    close(null);
    loop_free(loop);
}

static void a_slow_reader_gets_everything_in_the_end(void **state)
{
    (void)state;
    int out[2];
    assert_int_equal(pipe(out), 0);
    int null = open("/dev/null", O_RDONLY);
    struct standard saved;
    replace_standard(&saved, null, out[1]);
    struct loop *loop = loop_new();
    struct chardev *chardev = open_or_fail(loop, CHARDEV_TTY, NULL);
    restore_standard(&saved);
    pthread_t thread;
    pthread_create(&thread, NULL, run_loop, loop);
    /* Ten times what the pipe holds, before anybody reads. */
    char line[64];
    for (int i = 0; i < 10000; i++) {
        int n = snprintf(line, sizeof(line), "%063d", i);
        chardev_write(chardev, line, (size_t)n);
    }
    char got[64] = "";
    for (int i = 0; i < 10000; i++) {
        snprintf(line, sizeof(line), "%063d", i);
        read_exactly(out[0], got, 63);
        assert_string_equal(got, line);
    }
    loop_stop(loop, 0);
    pthread_join(thread, NULL);
    chardev_close(chardev);
    close(null);
    close(out[0]);
    close(out[1]);
    loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define WITH_FOLDER(test) cmocka_unit_test_setup_teardown(test, make_folder, remove_folder)
        WITH_FOLDER(a_file_is_emptied_and_written),
        WITH_FOLDER(a_socket_and_a_pipe_without_a_reader_are_no_files),
        WITH_FOLDER(a_client_gets_what_was_written_before_it_came),
        WITH_FOLDER(the_next_client_gets_what_nobody_read),
        WITH_FOLDER(a_client_that_does_not_read_blocks_nobody),
        WITH_FOLDER(input_waits_for_room_and_nothing_is_lost),
        cmocka_unit_test(a_pseudo_terminal_carries_bytes_both_ways_unchanged),
        cmocka_unit_test(the_last_lines_reach_a_pseudo_terminals_user),
        WITH_FOLDER(what_a_full_disk_takes_is_written_and_the_rest_is_given_up),
        cmocka_unit_test(standard_input_may_end_while_output_goes_on),
        WITH_FOLDER(a_file_as_standard_input_is_read_as_fast_as_the_guest_takes_it),
        cmocka_unit_test(a_slow_reader_gets_everything_in_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
