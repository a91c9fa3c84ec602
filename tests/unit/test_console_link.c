/* What comes from the console's back-end, on its way to whoever reads the console. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/unix_socket.h"
#include "vmm/console_link.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* More than all sockets and queues on the way hold. */
#define OUTPUT_BYTES MIB(2)
#define PIECE 4096u

struct fixture {
    char folder[32], path[64];
    struct loop *loop;
    struct chardev *chardev;
    struct console_link *link;
    int backend_fd, client;
    pthread_t loop_thread, backend_thread;
    size_t n_output; /* that the back-end writes */
};

static uint8_t byte_at(size_t i)
{
    return (uint8_t)(i ^ i >> 8 ^ i >> 16);
}

/** make() - @flush_ms: what a reader has at the end. */
static int make(void **state, unsigned flush_ms)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct error err = ERROR_INIT;
    struct unix_listener listener;
    struct broker_lent lent = BROKER_LENT_NONE;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    *state = f;
    strcpy(f->folder, "/tmp/husk-link-XXXXXX");
    if (!mkdtemp(f->folder))
        return -1;
    snprintf(f->path, sizeof(f->path), "%s/console", f->folder);
    f->loop = loop_new();
    f->link = console_link_new(&err);
    console_link_lend(f->link, &lent);
    f->backend_fd = fcntl(lent.console[BROKER_CONSOLE_DATA], F_DUPFD_CLOEXEC, 3);
    console_link_broker_started(f->link);
    if (unix_listen(f->path, 1, &listener, &err) < 0)
        return -1;
    struct chardev_params params = {.mode = CHARDEV_SOCKET,
                                    .listen_fd = listener.fd,
                                    .name = "--console",
                                    .flush_ms = flush_ms};
    f->chardev = chardev_open(&params, f->loop, &err);
    if (console_link_attach(f->link, f->chardev, false, f->loop, &err) < 0)
        return -1;
    strcpy(address.sun_path, f->path);
    f->client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return connect(f->client, (struct sockaddr *)&address, sizeof(address));
}

static int setup(void **state)
{
    return make(state, 0);
}

/* For a reader that reads, on a machine with much else to do. */
static int setup_patient(void **state)
{
    return make(state, 60000);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    close(f->client);
    chardev_close(f->chardev);
    loop_free(f->loop);
    unlink(f->path);
    rmdir(f->folder);
    free(f);
    return 0;
}

static void *run_loop(void *opaque)
{
    loop_run(((struct fixture *)opaque)->loop);
    return NULL;
}

static void *write_output(void *opaque)
{
    const struct fixture *f = opaque;
    uint8_t piece[PIECE];
    for (size_t at = 0; at < f->n_output; at += sizeof(piece)) {
        for (size_t i = 0; i < sizeof(piece); i++)
            piece[i] = byte_at(at + i);
        assert_int_equal(write(f->backend_fd, piece, sizeof(piece)), sizeof(piece));
    }
    return NULL;
}

static void start(struct fixture *f, size_t n_output)
{
    char byte;
    f->n_output = n_output;
    /* The client is there before anything is written. */
    assert_int_equal(write(f->backend_fd, "!", 1), 1);
    assert_int_equal(pthread_create(&f->loop_thread, NULL, run_loop, f), 0);
    assert_int_equal(read(f->client, &byte, 1), 1);
    assert_int_equal(pthread_create(&f->backend_thread, NULL, write_output, f), 0);
}

static void *end(struct fixture *f)
{
    loop_stop(f->loop, 0);
    pthread_join(f->loop_thread, NULL);
    console_link_free(f->link);
    return NULL;
}

/** read_slowly() - bytes from @at to @to, all of them, some MiB each second. */
static void read_slowly(const struct fixture *f, size_t at, size_t to)
{
    const struct timespec pause = {.tv_nsec = 500000};
    uint8_t piece[PIECE];
    while (at < to) {
        ssize_t n = read(f->client, piece, MIN(sizeof(piece), to - at));
        assert_true(n > 0);
        for (ssize_t i = 0; i < n; i++)
            if (piece[i] != byte_at(at + (size_t)i))
                fail_msg("byte %zu is another", at + (size_t)i);
        at += (size_t)n;
        nanosleep(&pause, NULL);
    }
}

static void a_reader_that_is_slower_than_the_guest_gets_everything(void **state)
{
    struct fixture *f = *state;
    start(f, OUTPUT_BYTES);
    read_slowly(f, 0, OUTPUT_BYTES);
    pthread_join(f->backend_thread, NULL);
    end(f);
}

static void a_reader_that_reads_nothing_holds_up_no_guest(void **state)
{
    struct fixture *f = *state;
    int64_t began = clock_ms();
    start(f, OUTPUT_BYTES);
    pthread_join(f->backend_thread, NULL);
    assert_in_range(clock_ms() - began, 0, 10000);
    end(f);
}

static void a_reader_that_goes_holds_up_no_guest(void **state)
{
    struct fixture *f = *state;
    start(f, OUTPUT_BYTES);
    read_slowly(f, 0, OUTPUT_BYTES / 4);
    shutdown(f->client, SHUT_RDWR);
    pthread_join(f->backend_thread, NULL);
    end(f);
}

/** end_when_written() - as when the guest switches itself off behind its last byte. */
static void *end_when_written(void *opaque)
{
    struct fixture *f = opaque;
    pthread_join(f->backend_thread, NULL);
    end(f);
    chardev_close(f->chardev); /* with which the last bytes go */
    f->chardev = NULL;
    return NULL;
}

static void what_waits_at_the_end_gets_to_a_reader_that_is_slow(void **state)
{
    struct fixture *f = *state;
    pthread_t thread;
    start(f, OUTPUT_BYTES);
    assert_int_equal(pthread_create(&thread, NULL, end_when_written, f), 0);
    read_slowly(f, 0, OUTPUT_BYTES);
    pthread_join(thread, NULL);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_reader_that_is_slower_than_the_guest_gets_everything),
        TEST(a_reader_that_reads_nothing_holds_up_no_guest),
        TEST(a_reader_that_goes_holds_up_no_guest),
        cmocka_unit_test_setup_teardown(what_waits_at_the_end_gets_to_a_reader_that_is_slow,
                                        setup_patient, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
