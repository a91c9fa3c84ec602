#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "front_end.h"

#include "base/bytes.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct wrong {
    struct vhost_user_msg msg;
    unsigned n_fds;
};

static void messages_that_are_wrong_are_refused_and_harm_nothing(void **state)
{
    (void)state;
    struct front *f = front_served();
    front_set_up(f);
    struct vhost_user_msg huge = front_table_msg(f, 1), nine = front_table_msg(f, 3),
                          longer = front_table_msg(f, 1);
    huge.payload.table.regions[0].len = DRIVER_RAM_BYTES + 1;
    nine.payload.table.n_regions = 9;
    longer.len += 8;
    struct vhost_user_msg addr = {.request = VHOST_USER_SET_VRING_ADDR,
                                  .len = sizeof(struct vhost_user_vring_addr),
                                  .payload.addr = ring_driver_addr(QUEUES)};
    struct vhost_user_msg flags = addr;
    flags.payload.addr = ring_driver_addr(1);
    flags.payload.addr.flags = 2;
    const struct wrong wrongs[] = {
        {u64_msg(VHOST_USER_SET_FEATURES, FEATURES | 1ull << 33), 0},
        {u64_msg(VHOST_USER_SET_FEATURES, FEATURES), 1},
        {state_msg(VHOST_USER_SET_VRING_NUM, QUEUES, NUM), 0},
        {state_msg(VHOST_USER_SET_VRING_NUM, 1, 0), 0},
        {state_msg(VHOST_USER_SET_VRING_NUM, 1, 48), 0},
        {state_msg(VHOST_USER_SET_VRING_NUM, 1, 128), 0},
        {state_msg(VHOST_USER_SET_VRING_NUM, 1, 0x10010), 0},
        {state_msg(VHOST_USER_SET_VRING_BASE, UINT32_MAX, 0), 0},
        {state_msg(VHOST_USER_SET_VRING_BASE, 1, 0x10000), 0},
        {state_msg(VHOST_USER_SET_VRING_ENABLE, 1, 2), 0},
        {state_msg(VHOST_USER_SET_VRING_ENABLE, QUEUES, 1), 0},
        {addr, 0},
        {flags, 0},
        {u64_msg(VHOST_USER_SET_VRING_KICK, 1), 0},
        {u64_msg(VHOST_USER_SET_VRING_KICK, 1), 2},
        {u64_msg(VHOST_USER_SET_VRING_CALL, 1 | VHOST_USER_VRING_NO_FD), 1},
        {u64_msg(VHOST_USER_SET_VRING_ERR, 1 | 1ull << 9), 1},
        {u64_msg(VHOST_USER_SET_VRING_KICK, 255), 1},
        {huge, 1},
        {nine, 3},
        {longer, 1},
        {front_table_msg(f, 2), 1},
        {front_table_msg(f, 1), 2},
        {{.request = VHOST_USER_SET_MEM_TABLE, .len = 4}, 0},
        {front_region_msg(f, VHOST_USER_ADD_MEM_REG, 0), 0},
        {front_region_msg(f, VHOST_USER_REM_MEM_REG, 0), 2},
        {{.request = VHOST_USER_SET_LOG_FD}, 0},
        {{.request = VHOST_USER_SET_BACKEND_REQ_FD}, 0},
        {{.request = VHOST_USER_SET_CONFIG, .len = 11}, 0},
        {{.request = VHOST_USER_SET_INFLIGHT_FD, .len = 8}, 1},
        {{.request = VHOST_USER_SET_OWNER, .len = 1}, 0},
        {{.request = VHOST_USER_NET_SET_MTU, .len = 8}, 0},
        {{.request = VHOST_USER_SET_DEVICE_STATE_FD, .len = 8}, 1},
        {{.request = 0}, 0},
        {{.request = 77}, 0},
        {{.request = UINT32_MAX}, 8},
    };
    int fds[VHOST_USER_MEM_REGIONS_MAX];
    for (unsigned i = 0; i < ARRAY_SIZE(fds); i++)
        fds[i] = f->driver.memfd;
    for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
        if (front_ask_with(f, wrongs[i].msg, fds, wrongs[i].n_fds) == 0)
            fail_msg("number %zu was not refused", i);
        front_round_trip(f, (unsigned)(i % 8), "0123456789abcdef");
    }
    assert_int_equal(front_hang_up(f), 0);
    front_free(f);
}

static void a_wrong_message_that_wants_no_answer_ends_the_connection(void **state)
{
    (void)state;
    struct vhost_user_msg reply_bit = {.request = VHOST_USER_SET_OWNER,
                                       .flags = VHOST_USER_FLAG_REPLY};
    struct vhost_user_msg unasked = {.request = VHOST_USER_GET_MAX_MEM_SLOTS};
    struct vhost_user_msg log_of_old = u64_msg(VHOST_USER_SET_LOG_BASE, 0);
    struct vhost_user_msg wrongs[] = {
        state_msg(VHOST_USER_GET_VRING_BASE, QUEUES, 0),
        state_msg(VHOST_USER_SET_VRING_NUM, 0, 3),
        {.request = VHOST_USER_GET_FEATURES, .len = 4},
        {.request = VHOST_USER_GET_FEATURES, .flags = 2}, /* becomes version 3 */
        u64_msg(VHOST_USER_SET_PROTOCOL_FEATURES, PROTOCOL | 1ull << 63),
        reply_bit,
        unasked,
        log_of_old,
    };
    for (size_t i = 0; i < ARRAY_SIZE(wrongs); i++) {
        struct front *f = front_served();
        front_say_with(f, &wrongs[i], NULL, 0);
        struct pollfd of = {f->fd, POLLIN, 0};
        assert_int_equal(poll(&of, 1, PATIENCE_MS), 1);
        char byte;
        assert_int_equal(recv(f->fd, &byte, 1, 0), 0);
        assert_true(front_hang_up(f) < 0);
        assert_string_not_equal(f->why.message, "");
        front_free(f);
    }
}

static void a_message_cut_short_ends_the_connection(void **state)
{
    (void)state;
    const uint32_t bytes[] = {VHOST_USER_SET_FEATURES, VHOST_USER_FLAG_VERSION, 8, 0};
    for (size_t len = 1; len < sizeof(bytes); len++) {
        struct front *f = front_served();
        assert_int_equal(write(f->fd, bytes, len), len);
        assert_true(front_hang_up(f) < 0);
        front_free(f);
    }
}

static unsigned open_descriptors(void)
{
    unsigned n = 0;
    DIR *folder = opendir("/proc/self/fd");
    assert_non_null(folder);
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static void a_connection_leaves_no_descriptor_behind(void **state)
{
    (void)state;
    struct front *f = front_unserved();
    unsigned before = open_descriptors();
    for (unsigned n = 0; n < 3; n++) {
        struct vhost_user_msg msg;
        int pair[2];
        f->driver.next_avail = f->driver.next_used = 0;
        memset(f->driver.avail, 0, 4);
        memset(f->driver.used, 0, 4);
        front_serve_again(f);
        front_set_up(f);
        front_round_trip(f, 0, "0123456789abcdef");
        close(front_get_inflight(f, &msg, 20));
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
        msg = (struct vhost_user_msg){.request = VHOST_USER_SET_BACKEND_REQ_FD};
        assert_int_equal(front_ask_with(f, msg, &pair[1], 1), 0);
        close(pair[0]);
        close(pair[1]);
        const int many[] = {f->kick, f->call, f->err};
        assert_int_equal(front_ask_with(f, u64_msg(VHOST_USER_SET_VRING_CALL, 0), many, 3), 1);
        assert_int_equal(front_hang_up(f), 0);
        assert_int_equal(open_descriptors(), before);
    }
    front_free(f);
}

static void the_front_end_hears_of_another_configuration(void **state)
{
    (void)state;
    struct vu_queue queue;
    struct error err = ERROR_INIT;
    int pair[2];
    assert_int_equal(vring_init(&queue, "test", 0, NUM), 0);
    assert_int_equal(vu_queue_config_changed(&queue, &err), -ENOTCONN);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    queue.backend_fd = pair[1];
    assert_int_equal(vu_queue_config_changed(&queue, &err), 0);
    struct vhost_user_msg msg;
    struct vhost_user_fds fds;
    assert_int_equal(vhost_user_recv(pair[0], &msg, &fds, 0, &err), 1);
    assert_int_equal(msg.request, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
    assert_int_equal(msg.len, 0);
    /* A front-end that reads nothing stops nobody. */
    int ret;
    while ((ret = vu_queue_config_changed(&queue, &err)) == 0)
        ;
    assert_int_equal(ret, -ETIMEDOUT);
    close(pair[0]);
    close(pair[1]);
    vring_release(&queue);
}

static void stopping_ends_a_connection_in_use(void **state)
{
    (void)state;
    struct front *f = front_served();
    const uint64_t one = 1;
    front_set_up(f);
    front_round_trip(f, 0, "0123456789abcdef");
    assert_int_equal(write(f->stop_fd, &one, sizeof(one)), sizeof(one));
    pthread_join(f->thread, NULL);
    f->running = false;
    assert_int_equal(f->result, 0);
    front_free(f);
}

/* --- Listening. --- */

struct listener {
    struct front *front;
    char path[64];
    int result;
};

static void *listen_for_all(void *arg)
{
    struct listener *l = arg;
    l->result = vu_listen(l->path, 4, &l->front->why);
    if (l->result >= 0)
        l->result = vu_serve_path(&l->front->backend, l->result, l->path, l->front->stop_fd,
                                  &l->front->why);
    return NULL;
}

static void connect_to(struct listener *l)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, l->path, strlen(l->path));
    l->front->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    while (connect(l->front->fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        assert_true(errno == ENOENT || errno == ECONNREFUSED);
        sched_yield();
    }
}

static void one_front_end_after_another_is_served_at_a_path(void **state)
{
    (void)state;
    struct listener l = {.front = front_unserved()}, second = l;
    struct front *f = l.front;
    char folder[] = "/tmp/husk-server-XXXXXX";
    assert_non_null(mkdtemp(folder));
    snprintf(l.path, sizeof(l.path), "%s/socket", folder);
    memcpy(second.path, l.path, sizeof(l.path));
    /* What a back-end that was killed leaves behind. */
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, l.path, strlen(l.path));
    int stale = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(stale, (struct sockaddr *)&address, sizeof(address)), 0);
    close(stale);

    assert_int_equal(pthread_create(&f->thread, NULL, listen_for_all, &l), 0);
    for (unsigned n = 0; n < 3; n++) {
        connect_to(&l);
        front_agree(f);
        close(f->fd);
    }
    f->fd = -1;
    listen_for_all(&second);
    assert_int_equal(second.result, -EADDRINUSE);
    const uint64_t one = 1;
    assert_int_equal(write(f->stop_fd, &one, sizeof(one)), sizeof(one));
    pthread_join(f->thread, NULL);
    assert_int_equal(l.result, 0);
    assert_int_equal(access(l.path, F_OK), -1);

    snprintf(l.path, sizeof(l.path), "%s/not/there", folder);
    listen_for_all(&l);
    assert_int_equal(l.result, -ENOENT);
    assert_int_equal(rmdir(folder), 0);
    front_free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_that_are_wrong_are_refused_and_harm_nothing),
        cmocka_unit_test(a_wrong_message_that_wants_no_answer_ends_the_connection),
        cmocka_unit_test(a_message_cut_short_ends_the_connection),
        cmocka_unit_test(a_connection_leaves_no_descriptor_behind),
        cmocka_unit_test(the_front_end_hears_of_another_configuration),
        cmocka_unit_test(stopping_ends_a_connection_in_use),
        cmocka_unit_test(one_front_end_after_another_is_served_at_a_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
