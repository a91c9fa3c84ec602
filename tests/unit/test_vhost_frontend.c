#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "scripted_backend.h"
#include "virtio/frontend.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define TIMEOUT_MS 100 /* where it is to be met */
#define PATIENCE_MS 60000

struct fixture {
    struct scripted_backend backend;
    struct vhost_user_frontend frontend;
    struct error err;
    int timeout_ms; /* where the back-end is never to answer */
};

static int setup(void **state)
{
    static struct fixture fixture;
    fixture = (struct fixture){.frontend = VHOST_USER_FRONTEND_INIT, .timeout_ms = TIMEOUT_MS};
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    frontend_close(&fixture->frontend);
    scripted_stop(&fixture->backend);
    return 0;
}

static unsigned open_descriptors(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int open_it(struct fixture *fixture)
{
    fixture->err = ERROR_INIT;
    int fd = scripted_start(&fixture->backend);
    assert_true(fd >= 0);
    enum scripted_fault fault = fixture->backend.fault;
    bool never = fault == FAULT_SILENT || fault == FAULT_LATE || fault == FAULT_HALF ||
                 fault == FAULT_CHANNEL_FLOOD;
    int timeout = never ? fixture->timeout_ms : PATIENCE_MS;
    return frontend_open(&fixture->frontend, fd, timeout, &fixture->err);
}

/** whole_life() - every message there is; each call's failure ends it. */
static int whole_life(struct fixture *fixture)
{
    struct vhost_user_frontend *f = &fixture->frontend;
    struct error *err = &fixture->err;
    uint8_t config[SCRIPTED_CONFIG_BYTES], ram[PAGE_BYTES] = {0};
    struct guest_memory memory = {
        .fd = STDERR_FILENO,
        .base = ram,
        .size = sizeof(ram),
        .regions = {{.gpa = 0, .len = 2048, .offset = 0},
                    {.gpa = GIB(4), .len = 2048, .offset = 2048}},
        .n_regions = 2,
    };
    struct vhost_user_inflight where = {.n_queues = 1, .queue_size = 16};
    struct vhost_user_queue queue = {
        .index = 0, .size = 16, .base = 3, .kick_fd = 2, .call_fd = 2, .err_fd = 2};
    int ret = open_it(fixture);
    if (ret == 0)
        ret = frontend_get_config(f, 0, config, sizeof(config), err);
    if (ret == 0)
        ret = frontend_set_config(f, 32, config, 1, err);
    if (ret == 0)
        ret = frontend_set_features(f, 1ull << 32, err);
    if (ret == 0)
        ret = frontend_set_memory(f, &memory, err);
    int fd = ret == 0 ? frontend_get_inflight(f, &where, err) : ret;
    if (fd >= 0)
        ret = frontend_set_inflight(f, &where, fd, err);
    else
        ret = fd;
    if (fd >= 0)
        close(fd);
    if (ret == 0)
        ret = frontend_start_queue(f, &queue, err);
    if (ret == 0)
        ret = frontend_stop_queue(f, 0, err);
    if (ret == 0)
        ret = frontend_reset(f, err);
    return ret;
}

static void everything_is_said_in_order_and_arrives(void **state)
{
    struct fixture *fixture = *state;
    static const uint32_t order[] = {
        VHOST_USER_GET_FEATURES,
        VHOST_USER_GET_PROTOCOL_FEATURES,
        VHOST_USER_SET_PROTOCOL_FEATURES,
        VHOST_USER_GET_QUEUE_NUM,
        VHOST_USER_SET_OWNER,
        VHOST_USER_SET_BACKEND_REQ_FD,
        VHOST_USER_GET_CONFIG,
        VHOST_USER_SET_CONFIG,
        VHOST_USER_SET_FEATURES,
        VHOST_USER_SET_MEM_TABLE,
        VHOST_USER_GET_INFLIGHT_FD,
        VHOST_USER_SET_INFLIGHT_FD,
        VHOST_USER_SET_VRING_NUM,
        VHOST_USER_SET_VRING_BASE,
        VHOST_USER_SET_VRING_ADDR,
        VHOST_USER_SET_VRING_CALL,
        VHOST_USER_SET_VRING_ERR,
        VHOST_USER_SET_VRING_KICK,
        VHOST_USER_SET_VRING_ENABLE,
        VHOST_USER_GET_VRING_BASE,
        VHOST_USER_RESET_DEVICE,
    };
    assert_int_equal(whole_life(fixture), 0);
    struct scripted_backend *b = &fixture->backend;
    scripted_stop(b);
    assert_int_equal(b->n_seen, ARRAY_SIZE(order));
    assert_memory_equal(b->seen, order, sizeof(order));
    assert_int_equal(fixture->frontend.n_queues, SCRIPTED_QUEUES);
    assert_int_equal(b->acked_features, (1ull << 32) | VHOST_FEATURE_PROTOCOL_FEATURES);
    assert_int_equal(b->table.n_regions, 2);
    assert_int_equal(b->n_table_fds, 2);
    assert_int_equal(b->table.regions[1].gpa, GIB(4));
    assert_int_equal(b->table.regions[1].offset, 2048);
    assert_int_equal(b->table.regions[1].user_addr, b->table.regions[0].user_addr + 2048);
    assert_int_equal(b->queues[0].size, 16);
    assert_int_equal(b->queues[0].base, 3);
    assert_true(b->queues[0].has_kick && b->queues[0].has_call && b->queues[0].enabled);
}

static void back_end_that_knows_the_least_is_served(void **state)
{
    struct fixture *fixture = *state;
    fixture->backend.protocol = VHOST_USER_PROTOCOL_CONFIG;
    assert_int_equal(open_it(fixture), 0);
    assert_int_equal(fixture->frontend.n_queues, 1);
    assert_int_equal(fixture->frontend.backend_fd, -1);
    struct vhost_user_queue queue = {
        .index = 0, .size = 16, .kick_fd = 2, .call_fd = 2, .err_fd = 2};
    struct vhost_user_inflight where = {.n_queues = 1, .queue_size = 16};
    assert_int_equal(frontend_set_features(&fixture->frontend, 1ull << 32, &fixture->err), 0);
    assert_int_equal(frontend_get_inflight(&fixture->frontend, &where, &fixture->err), -ENOTSUP);
    assert_int_equal(frontend_start_queue(&fixture->frontend, &queue, &fixture->err), 0);
    assert_int_equal(frontend_stop_queue(&fixture->frontend, 0, &fixture->err), 0);
    assert_int_equal(frontend_reset(&fixture->frontend, &fixture->err), 0);
    assert_int_equal(scripted_saw(&fixture->backend, VHOST_USER_GET_QUEUE_NUM), 0);
    assert_int_equal(scripted_saw(&fixture->backend, VHOST_USER_RESET_DEVICE), 0);
    assert_int_equal(scripted_saw(&fixture->backend, VHOST_USER_SET_VRING_ENABLE), 1);
}

static void back_end_without_what_is_needed_is_refused_with_a_sentence(void **state)
{
    struct fixture *fixture = *state;
    static const struct {
        uint64_t features, protocol;
        const char *says;
    } lacking[] = {
        {VHOST_FEATURE_PROTOCOL_FEATURES, 0, "virtio before 1.0"},
        {1ull << 32, 0, "no protocol features"},
    };
    for (size_t i = 0; i < ARRAY_SIZE(lacking); i++) {
        fixture->backend = (struct scripted_backend){.features = lacking[i].features,
                                                     .protocol = lacking[i].protocol};
        assert_int_equal(open_it(fixture), -ENOTSUP);
        assert_non_null(strstr(fixture->err.message, lacking[i].says));
        assert_int_equal(fixture->frontend.fd, -1);
        scripted_stop(&fixture->backend);
    }
}

/** expected() - what @fault in the answer to @request must end in; 0: nothing. */
static int expected(enum scripted_fault fault, uint32_t request)
{
    switch (fault) {
    case FAULT_SILENT:
    case FAULT_CHANNEL_FLOOD:
        return -ETIMEDOUT;
    case FAULT_CLOSE:
        return -ECONNRESET;
    case FAULT_REFUSE: /* meant for what is only acknowledged; in others it is a value */
        return -EREMOTEIO;
    case FAULT_DESCRIPTORS:
        return request == VHOST_USER_GET_INFLIGHT_FD ? -EPROTO : 0;
    case FAULT_CHANNEL_FIRST:
    case FAULT_CHANNEL_HALF:
        return 0;
    default:
        return -EPROTO;
    }
}

static bool fault_fits(enum scripted_fault fault, uint32_t request)
{
    bool queries = request == VHOST_USER_GET_FEATURES ||
                   request == VHOST_USER_GET_PROTOCOL_FEATURES ||
                   request == VHOST_USER_GET_QUEUE_NUM || request == VHOST_USER_GET_CONFIG ||
                   request == VHOST_USER_GET_INFLIGHT_FD || request == VHOST_USER_GET_VRING_BASE;
    bool early = queries && request != VHOST_USER_GET_CONFIG &&
                 request != VHOST_USER_GET_INFLIGHT_FD && request != VHOST_USER_GET_VRING_BASE;
    if (fault == FAULT_REFUSE)
        return !queries;
    if (fault == FAULT_WRONG_INDEX)
        return request == VHOST_USER_GET_CONFIG || request == VHOST_USER_GET_VRING_BASE;
    if (fault >= FAULT_CHANNEL_FIRST)
        return !early && request != VHOST_USER_SET_OWNER &&
               request != VHOST_USER_SET_BACKEND_REQ_FD;
    return true;
}

static void each_answer_missing_late_or_wrong_ends_in_an_error_in_time(void **state)
{
    struct fixture *fixture = *state;
    static const uint32_t requests[] = {
        VHOST_USER_GET_FEATURES,    VHOST_USER_GET_PROTOCOL_FEATURES, VHOST_USER_GET_QUEUE_NUM,
        VHOST_USER_SET_OWNER,       VHOST_USER_SET_BACKEND_REQ_FD,    VHOST_USER_GET_CONFIG,
        VHOST_USER_SET_CONFIG,      VHOST_USER_SET_FEATURES,          VHOST_USER_SET_MEM_TABLE,
        VHOST_USER_GET_INFLIGHT_FD, VHOST_USER_SET_INFLIGHT_FD,       VHOST_USER_SET_VRING_NUM,
        VHOST_USER_SET_VRING_BASE,  VHOST_USER_SET_VRING_ADDR,        VHOST_USER_SET_VRING_CALL,
        VHOST_USER_SET_VRING_KICK,  VHOST_USER_SET_VRING_ENABLE,      VHOST_USER_GET_VRING_BASE,
        VHOST_USER_RESET_DEVICE,
    };
    unsigned before = open_descriptors();
    for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
        for (unsigned fault = FAULT_SILENT; fault < FAULTS; fault++) {
            if (fault == FAULT_LATE || !fault_fits(fault, requests[i]))
                continue;
            fixture->backend = (struct scripted_backend){.fault = fault, .fault_at = requests[i]};
            int64_t start = now_ms();
            int ret = whole_life(fixture);
            bool early = scripted_saw(&fixture->backend, requests[i]) == 0 ||
                         expected(fault, requests[i]) != -ETIMEDOUT;
            if (ret == -ETIMEDOUT && early && fixture->timeout_ms < 5000) {
                /* The machine is too slow to come that far in this time: again, with more. */
                fixture->timeout_ms *= 2;
                frontend_close(&fixture->frontend);
                scripted_stop(&fixture->backend);
                fault--;
                continue;
            }
            fixture->timeout_ms = TIMEOUT_MS;
            if (ret != expected(fault, requests[i]))
                fail_msg("%s, fault %u: %d (%s)", vhost_user_request_name(requests[i]), fault, ret,
                         fixture->err.message);
            assert_true(now_ms() - start < PATIENCE_MS);
            if (ret < 0)
                assert_true(fixture->err.message[0]);
            frontend_close(&fixture->frontend);
            scripted_stop(&fixture->backend);
        }
    }
    assert_int_equal(open_descriptors(), before);
}

static void late_answer_is_passed_over_by_the_next_call(void **state)
{
    struct fixture *fixture = *state;
    uint8_t config[SCRIPTED_CONFIG_BYTES];
    assert_int_equal(open_it(fixture), 0);
    fixture->backend.fault_at = VHOST_USER_GET_VRING_BASE;
    fixture->backend.fault = FAULT_LATE;
    frontend_begin(&fixture->frontend, TIMEOUT_MS);
    assert_int_equal(frontend_stop_queue(&fixture->frontend, 1, &fixture->err), -ETIMEDOUT);
    assert_true(fixture->frontend.owed);
    /* Nothing is sent while the answer is owed. */
    frontend_begin(&fixture->frontend, 50);
    assert_int_equal(
        frontend_get_config(&fixture->frontend, 0, config, sizeof(config), &fixture->err),
        -ETIMEDOUT);
    assert_int_equal(scripted_saw(&fixture->backend, VHOST_USER_GET_CONFIG), 0);
    scripted_release(&fixture->backend);
    frontend_begin(&fixture->frontend, PATIENCE_MS);
    assert_int_equal(
        frontend_get_config(&fixture->frontend, 0, config, sizeof(config), &fixture->err), 0);
    assert_int_equal(load_le64(config), 2048);
    assert_false(fixture->frontend.owed);
}

static void all_calls_together_have_one_deadline(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(open_it(fixture), 0);
    frontend_begin(&fixture->frontend, 0);
    uint8_t byte;
    int ret = 0;
    for (unsigned i = 0; i < 1000 && ret == 0; i++)
        ret = frontend_get_config(&fixture->frontend, 0, &byte, 1, &fixture->err);
    assert_true(ret == -ETIMEDOUT || ret == -EPROTO);
}

static void request_of_the_back_end_is_answered_while_its_answer_is_awaited(void **state)
{
    struct fixture *fixture = *state;
    fixture->backend.fault = FAULT_CHANNEL_FIRST;
    fixture->backend.fault_at = VHOST_USER_GET_VRING_BASE;
    assert_int_equal(open_it(fixture), 0);
    frontend_begin(&fixture->frontend, PATIENCE_MS);
    assert_int_equal(frontend_stop_queue(&fixture->frontend, 0, &fixture->err), 0);
    assert_true(fixture->frontend.config_changed);
}

static void channel_closes_on_what_cannot_be_a_request_and_the_rest_goes_on(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(open_it(fixture), 0);
    uint32_t header[3] = {VHOST_USER_BACKEND_CONFIG_CHANGE_MSG, VHOST_USER_FLAG_VERSION,
                          UINT32_MAX};
    assert_int_equal(scripted_saw(&fixture->backend, VHOST_USER_SET_BACKEND_REQ_FD), 1);
    scripted_say(&fixture->backend, true, header, sizeof(header));
    assert_int_equal(frontend_backend_request(&fixture->frontend, &fixture->err), -EPROTO);
    assert_int_equal(fixture->frontend.backend_fd, -1);
    frontend_begin(&fixture->frontend, PATIENCE_MS);
    assert_int_equal(frontend_stop_queue(&fixture->frontend, 0, &fixture->err), 0);
}

static void unknown_request_of_the_back_end_is_refused(void **state)
{
    struct fixture *fixture = *state;
    assert_int_equal(open_it(fixture), 0);
    struct vhost_user_msg msg = {.request = 77,
                                 .flags = VHOST_USER_FLAG_VERSION | VHOST_USER_FLAG_NEED_REPLY};
    struct vhost_user_fds fds;
    int channel = fixture->backend.channel_fd;
    assert_int_equal(vhost_user_send(channel, &msg, (int[]){2, 2}, 2, 100, &fixture->err), 0);
    unsigned before = open_descriptors();
    assert_int_equal(frontend_backend_request(&fixture->frontend, &fixture->err), 0);
    assert_int_equal(open_descriptors(), before);
    assert_int_equal(vhost_user_recv(channel, &msg, &fds, 1000, &fixture->err), 1);
    assert_int_equal(msg.request, 77);
    assert_int_not_equal(msg.payload.u64, 0);
    assert_false(fixture->frontend.config_changed);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(everything_is_said_in_order_and_arrives),
        TEST(back_end_that_knows_the_least_is_served),
        TEST(back_end_without_what_is_needed_is_refused_with_a_sentence),
        TEST(each_answer_missing_late_or_wrong_ends_in_an_error_in_time),
        TEST(late_answer_is_passed_over_by_the_next_call),
        TEST(all_calls_together_have_one_deadline),
        TEST(request_of_the_back_end_is_answered_while_its_answer_is_awaited),
        TEST(channel_closes_on_what_cannot_be_a_request_and_the_rest_goes_on),
        TEST(unknown_request_of_the_back_end_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
