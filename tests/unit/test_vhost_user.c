#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "virtio/vhost_user.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

struct pair {
    int fd[2];
};

static int make_pair(void **state)
{
    static struct pair pair;
    *state = &pair;
    return socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.fd);
}

static int close_pair(void **state)
{
    struct pair *pair = *state;
    for (int i = 0; i < 2; i++)
        if (pair->fd[i] >= 0)
            close(pair->fd[i]);
    return 0;
}

static void say(struct pair *pair, const void *bytes, size_t len)
{
    assert_int_equal(write(pair->fd[0], bytes, len), len);
}

static void hang_up(struct pair *pair)
{
    close(pair->fd[0]);
    pair->fd[0] = -1;
}

static int receive(struct pair *pair, struct vhost_user_msg *msg, struct vhost_user_fds *fds,
                   struct error *err)
{
    *err = ERROR_INIT;
    return vhost_user_recv(pair->fd[1], msg, fds, 50, err);
}

static void message_and_descriptors_arrive_as_sent(void **state)
{
    struct pair *pair = *state;
    struct error err = ERROR_INIT;
    struct vhost_user_msg out = {.request = VHOST_USER_SET_MEM_TABLE,
                                 .flags = VHOST_USER_FLAG_VERSION};
    out.len = sizeof(out.payload.table);
    out.payload.table.n_regions = 8;
    for (uint64_t i = 0; i < 8; i++)
        out.payload.table.regions[i] =
            (struct vhost_user_region){i << 30, 1 << 30, i << 40, i << 20};
    int fds[8];
    for (unsigned i = 0; i < 8; i++) {
        fds[i] = eventfd(i, EFD_CLOEXEC);
        assert_true(fds[i] >= 0);
    }
    assert_int_equal(vhost_user_send(pair->fd[0], &out, fds, 8, 50, &err), 0);

    struct vhost_user_msg in;
    struct vhost_user_fds got;
    assert_int_equal(receive(pair, &in, &got, &err), 1);
    assert_int_equal(in.request, VHOST_USER_SET_MEM_TABLE);
    assert_memory_equal(&in.payload.table, &out.payload.table, sizeof(out.payload.table));
    assert_int_equal(got.n, 8);
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(fcntl(got.fd[i], F_GETFD), FD_CLOEXEC);
        uint64_t value = 0;
        if (i > 0)
            assert_int_equal(read(got.fd[i], &value, 8), 8);
        assert_int_equal(value, i);
        close(fds[i]);
    }
    vhost_user_fds_close(&got);
}

static void message_on_the_wire_is_the_specifications(void **state)
{
    struct pair *pair = *state;
    struct error err = ERROR_INIT;
    struct vhost_user_msg out = {.request = VHOST_USER_SET_VRING_NUM, .flags = 1, .len = 8};
    out.payload.state = (struct vhost_user_vring_state){.index = 2, .num = 256};
    assert_int_equal(vhost_user_send(pair->fd[0], &out, NULL, 0, 50, &err), 0);
    uint8_t wire[64];
    static const uint8_t expected[] = {8, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0, 0};
    assert_int_equal(read(pair->fd[1], wire, sizeof(wire)), sizeof(expected));
    assert_memory_equal(wire, expected, sizeof(expected));
}

static void end_between_messages_is_no_error_and_within_one_is(void **state)
{
    struct pair *pair = *state;
    struct error err;
    struct vhost_user_msg msg;
    struct vhost_user_fds fds;
    say(pair,
        "\x01\0\0\0\x01\0\0\0\0\0\0\0"
        "\x08\0\0\0\x01\0\0\0\x08\0\0\0\x02",
        25);
    hang_up(pair);
    assert_int_equal(receive(pair, &msg, &fds, &err), 1);
    assert_int_equal(receive(pair, &msg, &fds, &err), -ECONNRESET);
    assert_non_null(strstr(err.message, "SET_VRING_NUM came without all of its 8 bytes"));
    assert_int_equal(receive(pair, &msg, &fds, &err), 0);
}

static void silent_peer_is_not_waited_for_longer_than_asked(void **state)
{
    struct pair *pair = *state;
    struct error err;
    struct vhost_user_msg msg;
    struct vhost_user_fds fds;
    assert_int_equal(receive(pair, &msg, &fds, &err), -ETIMEDOUT);
    say(pair, "\x01\0\0\0\x01\0\0\0\x08\0\0\0\0\0", 14);
    assert_int_equal(receive(pair, &msg, &fds, &err), -ETIMEDOUT);
}

static void peer_that_does_not_read_is_not_waited_for_longer_than_asked(void **state)
{
    struct pair *pair = *state;
    struct error err = ERROR_INIT;
    struct vhost_user_msg out = {
        .request = VHOST_USER_SET_CONFIG, .flags = 1, .len = sizeof(out.payload.config)};
    int ret = 0;
    for (unsigned i = 0; i < 1u << 16 && ret == 0; i++)
        ret = vhost_user_send(pair->fd[0], &out, NULL, 0, 10, &err);
    assert_int_equal(ret, -ETIMEDOUT);
}

static void dead_peer_is_an_error_not_a_signal(void **state)
{
    struct pair *pair = *state;
    struct error err = ERROR_INIT;
    close(pair->fd[1]);
    pair->fd[1] = -1;
    struct vhost_user_msg out = {.request = VHOST_USER_GET_FEATURES, .flags = 1};
    assert_int_equal(vhost_user_send(pair->fd[0], &out, NULL, 0, 10, &err), -EPIPE);
}

static void wrong_version_and_length_are_refused(void **state)
{
    struct pair *pair = *state;
    struct error err;
    struct vhost_user_msg msg;
    struct vhost_user_fds fds;
    say(pair, "\x01\0\0\0\x02\0\0\0\0\0\0\0", 12);
    assert_int_equal(receive(pair, &msg, &fds, &err), -EPROTO);
    assert_non_null(strstr(err.message, "version 2"));
    say(pair, "\x05\0\0\0\x01\0\0\0\xff\xff\xff\xff", 12);
    assert_int_equal(receive(pair, &msg, &fds, &err), -EPROTO);
    assert_non_null(strstr(err.message, "SET_MEM_TABLE) of 4294967295 bytes"));
}

/** send_raw() - @len bytes with @n copies of a descriptor. */
static void send_raw(int to, const void *bytes, size_t len, unsigned n)
{
    _Alignas(struct cmsghdr) uint8_t control[CMSG_SPACE(sizeof(int) * 32)] = {0};
    struct iovec iov = {.iov_base = (void *)bytes, .iov_len = len};
    struct msghdr header = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = control,
                            .msg_controllen = CMSG_SPACE(sizeof(int) * n)};
    struct cmsghdr *of = CMSG_FIRSTHDR(&header);
    of->cmsg_level = SOL_SOCKET;
    of->cmsg_type = SCM_RIGHTS;
    of->cmsg_len = CMSG_LEN(sizeof(int) * n);
    for (unsigned i = 0; i < n; i++)
        memcpy(CMSG_DATA(of) + i * sizeof(int), &to, sizeof(to));
    assert_int_equal(sendmsg(to, &header, 0), len);
}

static unsigned open_descriptors(void)
{
    unsigned n = 0;
    for (int fd = 0; fd < 1024; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void descriptors_beyond_eight_are_refused_and_none_is_kept(void **state)
{
    struct pair *pair = *state;
    struct error err;
    struct vhost_user_msg msg;
    struct vhost_user_fds fds;
    unsigned before = open_descriptors();
    send_raw(pair->fd[0], "\x05\0\0\0\x01\0\0\0\0\0\0\0", 12, 9);
    assert_int_equal(receive(pair, &msg, &fds, &err), -EPROTO);
    assert_int_equal(fds.n, 0);
    send_raw(pair->fd[0], "\x05\0\0\0\x01\0\0\0\0\0\0\0", 12, 32);
    assert_int_equal(receive(pair, &msg, &fds, &err), -EPROTO);
    /* Eight with the header and one with the payload: nine of one message. */
    send_raw(pair->fd[0], "\x08\0\0\0\x01\0\0\0\x08\0\0\0", 12, 8);
    send_raw(pair->fd[0], "\x08\0\0\0\x01\0\0\0", 8, 1);
    assert_int_equal(receive(pair, &msg, &fds, &err), -EPROTO);
    assert_int_equal(open_descriptors(), before);
}

static void only_one_descriptor_is_taken(void **state)
{
    (void)state;
    unsigned before = open_descriptors();
    struct vhost_user_fds one = {{eventfd(0, 0)}, 1};
    struct vhost_user_fds two = {{eventfd(0, 0), eventfd(0, 0)}, 2};
    struct vhost_user_fds none = {{0}, 0};
    int taken = vhost_user_fds_take(&one);
    assert_true(taken >= 0);
    assert_int_equal(close(taken), 0);
    assert_int_equal(vhost_user_fds_take(&two), -1);
    assert_int_equal(vhost_user_fds_take(&none), -1);
    assert_int_equal(open_descriptors(), before);
}

static void every_request_has_a_name_and_no_number_is_out_of_range(void **state)
{
    (void)state;
    assert_string_equal(vhost_user_request_name(VHOST_USER_GET_FEATURES), "GET_FEATURES");
    assert_string_equal(vhost_user_request_name(VHOST_USER_CHECK_DEVICE_STATE),
                        "CHECK_DEVICE_STATE");
    assert_string_equal(vhost_user_request_name(0), "an unknown request");
    assert_string_equal(vhost_user_request_name(UINT32_MAX), "an unknown request");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(message_and_descriptors_arrive_as_sent, make_pair,
                                        close_pair),
        cmocka_unit_test_setup_teardown(message_on_the_wire_is_the_specifications, make_pair,
                                        close_pair),
        cmocka_unit_test_setup_teardown(end_between_messages_is_no_error_and_within_one_is,
                                        make_pair, close_pair),
        cmocka_unit_test_setup_teardown(silent_peer_is_not_waited_for_longer_than_asked, make_pair,
                                        close_pair),
        cmocka_unit_test_setup_teardown(peer_that_does_not_read_is_not_waited_for_longer_than_asked,
                                        make_pair, close_pair),
        cmocka_unit_test_setup_teardown(dead_peer_is_an_error_not_a_signal, make_pair, close_pair),
        cmocka_unit_test_setup_teardown(wrong_version_and_length_are_refused, make_pair,
                                        close_pair),
        cmocka_unit_test_setup_teardown(descriptors_beyond_eight_are_refused_and_none_is_kept,
                                        make_pair, close_pair),
        cmocka_unit_test(only_one_descriptor_is_taken),
        cmocka_unit_test(every_request_has_a_name_and_no_number_is_out_of_range),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
