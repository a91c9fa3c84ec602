#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "sim/server.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* A server in a thread, and the way to it. */
struct fixture {
    struct model model;
    struct loop *loop;
    struct server *server;
    pthread_t thread;
    int door[2];
};

static void *serve(void *ctx)
{
    struct fixture *f = ctx;
    loop_run(f->loop);
    return NULL;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct error err = ERROR_INIT;
    assert_non_null(f);
    f->model.launch_only = true;
    f->model.asids = 4;
    f->model.report.quiet = true;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, f->door), 0);
    f->loop = loop_new();
    f->server = server_new(&f->model, f->loop, f->door[0], NULL, NULL, &err);
    assert_non_null(f->server);
    assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    loop_stop(f->loop, 0);
    pthread_join(f->thread, NULL);
    server_free(f->server);
    assert_int_equal(f->model.objects_used, 0);
    assert_int_equal(f->model.asids_used, 0);
    loop_free(f->loop);
    close(f->door[0]);
    close(f->door[1]);
    report_close(&f->model.report);
    free(f);
    return 0;
}

static void send_fd(int door, int fd)
{
    char byte = 'h';
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
    struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
    cmsg->cmsg_level = SOL_SOCKET;
    cmsg->cmsg_type = SCM_RIGHTS;
    cmsg->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(cmsg), &fd, sizeof(int));
    assert_int_equal(sendmsg(door, &message, MSG_NOSIGNAL), 1);
}

/** receive() - one reply; its first descriptor, if it has one, in *fd. Returns its length. */
static ssize_t receive(int connection, struct sim_reply *reply, int *fd)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = reply, .iov_len = sizeof(*reply)};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.space,
                             .msg_controllen = sizeof(control.space)};
    ssize_t n = recvmsg(connection, &message, 0);
    *fd = -1;
    struct cmsghdr *cmsg = n < 0 ? NULL : CMSG_FIRSTHDR(&message);
    if (cmsg)
        memcpy(fd, CMSG_DATA(cmsg), sizeof(int));
    return n;
}

/** connect_to() - a connection that has been greeted. */
static int connect_to(struct fixture *f)
{
    int pair[2];
    struct sim_reply hello;
    int window;
    assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
    send_fd(f->door[1], pair[1]);
    close(pair[1]);
    assert_int_equal(receive(pair[0], &hello, &window), sizeof(hello));
    assert_true(window >= 0);
    assert_int_equal(ftruncate(window, 0), -1); /* or the server would fall over its own mapping */
    close(window);
    return pair[0];
}

static struct sim_reply ask(int connection, const struct sim_request *request, int *fd)
{
    struct sim_reply reply = {0};
    assert_int_equal(send(connection, request, sizeof(*request), 0), sizeof(*request));
    assert_int_equal(receive(connection, &reply, fd), sizeof(reply));
    return reply;
}

/** answers() - whether a connection is still served. */
static bool answers(int connection)
{
    struct sim_request request = {.op = SIM_OP_CHECK_CAP, .arg = {235}};
    struct sim_reply reply;
    int fd;
    if (send(connection, &request, sizeof(request), MSG_NOSIGNAL) < 0)
        return false;
    return receive(connection, &reply, &fd) == (ssize_t)sizeof(reply) && reply.value[0] == 17;
}

/** closed() - the server ends a connection that it can make nothing of. */
static bool closed(int connection)
{
    struct pollfd pollfd = {.fd = connection, .events = POLLIN};
    char byte;
    return poll(&pollfd, 1, 60000) == 1 && recv(connection, &byte, 1, 0) <= 0;
}

static void a_message_that_is_none_ends_its_connection_only(void **state)
{
    struct fixture *f = *state;
    int good = connect_to(f);
    const size_t lengths[] = {1, sizeof(struct sim_request) - 1, sizeof(struct sim_message_in) + 1};
    for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
        int bad = connect_to(f);
        char *data = calloc(1, lengths[i]);
        assert_int_equal(send(bad, data, lengths[i], 0), lengths[i]);
        assert_true(closed(bad));
        assert_true(answers(good));
        free(data);
        close(bad);
    }
    close(good);
}

static void what_comes_in_by_the_door_need_not_be_a_socket(void **state)
{
    struct fixture *f = *state;
    int pair[2];
    int stream[2];
    assert_int_equal(pipe(pair), 0);
    send_fd(f->door[1], pair[0]);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, stream), 0);
    send_fd(f->door[1], stream[1]);
    close(stream[1]);
    assert_int_equal(send(f->door[1], "x", 1, 0), 1); /* nor be anything */
    assert_true(closed(stream[0]));
    int good = connect_to(f);
    assert_true(answers(good));
    close(good);
    close(stream[0]);
    close(pair[0]);
    close(pair[1]);
}

static void a_client_that_does_not_listen_is_dropped(void **state)
{
    struct fixture *f = *state;
    int deaf = connect_to(f);
    int good = connect_to(f);
    struct sim_request request = {.op = SIM_OP_CHECK_CAP, .arg = {235}};
    for (int i = 0; i < 100000; i++) {
        if (send(deaf, &request, sizeof(request), MSG_NOSIGNAL) < 0)
            break;
    }
    assert_int_equal(send(deaf, &request, sizeof(request), MSG_NOSIGNAL), -1);
    assert_true(answers(good));
    close(deaf);
    close(good);
}

static void unknown_operations_and_objects_are_errors(void **state)
{
    struct fixture *f = *state;
    int connection = connect_to(f);
    int fd;
    for (uint32_t op = 0; op < SIM_OP_END + 5; op++) {
        if (op == SIM_OP_PROBE)
            continue; /* has no reply */
        struct sim_request request = {
            .op = op, .object = 0x10003, .arg = {UINT64_MAX, UINT64_MAX, UINT64_MAX}};
        struct sim_reply reply = ask(connection, &request, &fd);
        assert_true(reply.result < 0 || op == SIM_OP_CHECK_CAP || op == SIM_OP_REAP);
        assert_int_equal(fd, -1);
    }
    assert_true(answers(connection));
    close(connection);
}

/** make_vm() - an SNP VM that is initialised. Returns its token. */
static int make_vm(int connection, uint32_t *id)
{
    int token;
    struct sim_request create = {.op = SIM_OP_CREATE_VM, .arg = {ABI_VM_TYPE_SNP}};
    struct sim_reply reply = ask(connection, &create, &token);
    assert_int_equal(reply.result, 0);
    *id = (uint32_t)reply.value[4];
    return token;
}

static int init2(int connection, uint32_t vm)
{
    struct {
        struct sim_request head;
        struct abi_sev_init init;
    } message = {.head = {.op = SIM_OP_SEV_COMMAND, .object = vm, .arg = {ABI_SEV_INIT2}}};
    struct sim_reply reply;
    int fd;
    assert_int_equal(send(connection, &message, sizeof(message), 0), sizeof(message));
    assert_int_equal(receive(connection, &reply, &fd), sizeof(reply));
    return reply.result;
}

static void a_closed_token_is_seen_before_the_next_request(void **state)
{
    struct fixture *f = *state;
    int connection = connect_to(f);
    for (int round = 0; round < 200; round++) {
        uint32_t ids[4];
        int tokens[4];
        for (size_t i = 0; i < 4; i++) {
            tokens[i] = make_vm(connection, &ids[i]);
            assert_int_equal(init2(connection, ids[i]), 0);
        }
        uint32_t fifth;
        int token = make_vm(connection, &fifth);
        assert_int_equal(init2(connection, fifth), -EBUSY);
        for (size_t i = 0; i < 4; i++)
            close(tokens[i]);
        assert_int_equal(init2(connection, fifth), 0);
        close(token);
    }
    close(connection);
}

static void another_process_s_vm_is_refused(void **state)
{
    struct fixture *f = *state;
    int mine = connect_to(f);
    int other = connect_to(f);
    uint32_t id;
    int token = make_vm(mine, &id);
    assert_int_equal(init2(other, id), -EIO);
    assert_int_equal(init2(mine, id), 0);
    close(mine); /* the VM's owner is gone, its token is not */
    assert_true(answers(other));
    assert_int_equal(init2(other, id), -EIO);
    close(token);
    close(other);
}

static void what_is_written_into_a_token_ends_it(void **state)
{
    struct fixture *f = *state;
    int connection = connect_to(f);
    uint32_t id;
    int token = make_vm(connection, &id);
    assert_int_equal(send(token, "x", 1, 0), 1);
    assert_int_equal(init2(connection, id), -EBADF);
    close(token);
    close(connection);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_message_that_is_none_ends_its_connection_only, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(what_comes_in_by_the_door_need_not_be_a_socket, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_client_that_does_not_listen_is_dropped, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(unknown_operations_and_objects_are_errors, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(a_closed_token_is_seen_before_the_next_request, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(another_process_s_vm_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_written_into_a_token_ends_it, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
