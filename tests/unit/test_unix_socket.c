#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "base/unix_socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char folder[] = "/tmp/husk-socket-XXXXXX";
static char path[64];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder + sizeof(folder) - 7, "XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/socket", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static struct sockaddr_un address_of_path(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(address.sun_path, path);
    return address;
}

/** bind_path() - a socket there that nobody listens on yet. */
static int bind_path(void)
{
    struct sockaddr_un address = address_of_path();
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

static struct unix_listener listen_or_fail(void)
{
    struct error err = ERROR_INIT;
    struct unix_listener listener;
    if (unix_listen(path, 1, &listener, &err) < 0)
        fail_msg("%s", err.message);
    return listener;
}

static void expect_refused(int code, const char *why)
{
    struct error err = ERROR_INIT;
    struct unix_listener listener;
    assert_int_equal(unix_listen(path, 1, &listener, &err), code);
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.message, why));
    assert_int_equal(listener.fd, -1);
    assert_int_equal(access(path, F_OK), 0); /* the failed one has not removed it */
    unix_listener_remove(path, &listener);
    assert_int_equal(access(path, F_OK), 0);
}

static void expect_in_use(void)
{
    expect_refused(-EADDRINUSE, "is in use");
}

static void only_the_owner_may_connect_and_the_file_goes_with_the_listener(void **state)
{
    (void)state;
    struct unix_listener listener = listen_or_fail();
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    unix_listener_remove(path, &listener);
    assert_int_equal(access(path, F_OK), -1);
    close(listener.fd);
}

static void a_file_that_took_its_place_is_left_alone(void **state)
{
    (void)state;
    struct unix_listener listener = listen_or_fail();
    char aside[80];
    snprintf(aside, sizeof(aside), "%s-old", path);
    assert_int_equal(rename(path, aside), 0);
    struct unix_listener other = listen_or_fail();
    unix_listener_remove(path, &listener);
    assert_int_equal(access(path, F_OK), 0);
    unix_listener_remove(path, &other);
    assert_int_equal(access(path, F_OK), -1);
    close(listener.fd);
    close(other.fd);
    unlink(aside);
}

static void a_stale_socket_is_replaced_a_live_one_is_not(void **state)
{
    (void)state;
    struct unix_listener listener = listen_or_fail();
    expect_in_use();
    unix_listener_remove(path, &listener);
    close(listener.fd);

    close(bind_path());
    listener = listen_or_fail();
    unix_listener_remove(path, &listener);
    close(listener.fd);

    /* What is no socket is not ours to remove. */
    fclose(fopen(path, "w"));
    expect_refused(-EEXIST, "is there and is no socket");
}

/* Whether anybody listens on it cannot be told, and only its folder would say who may remove it. */
static void another_users_socket_is_left_alone(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    close(bind_path());
    assert_int_equal(chmod(path, 0600), 0);
    assert_int_equal(chmod(folder, 0777), 0);
    assert_int_equal(seteuid(65534), 0);
    expect_refused(-EACCES, "Permission denied");
    assert_int_equal(seteuid(0), 0);
}

static void a_listener_that_takes_nobody_is_not_waited_for(void **state)
{
    (void)state;
    struct sockaddr_un address = address_of_path();
    int busy = bind_path(), clients[16];
    assert_int_equal(listen(busy, 1), 0);
    size_t n = 0;
    int full = 0;
    while (!full && n < ARRAY_SIZE(clients)) {
        clients[n] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
        full = connect(clients[n++], (struct sockaddr *)&address, sizeof(address)) < 0;
    }
    assert_true(full);
    expect_in_use();
    while (n)
        close(clients[--n]);
    close(busy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            only_the_owner_may_connect_and_the_file_goes_with_the_listener, make_folder,
            remove_folder),
        cmocka_unit_test_setup_teardown(a_file_that_took_its_place_is_left_alone, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_stale_socket_is_replaced_a_live_one_is_not, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(another_users_socket_is_left_alone, make_folder,
                                        remove_folder),
        cmocka_unit_test_setup_teardown(a_listener_that_takes_nobody_is_not_waited_for, make_folder,
                                        remove_folder),
    };
    return cmocka_run_group_tests_name("unix-socket", tests, NULL, NULL);
}
