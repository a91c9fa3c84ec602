#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "backends/rate_limit.h"

#define MS 1000000ull
#define START (1000 * MS)

static struct rate_limit limit;

static void set_up(struct rate_bucket_params bandwidth, struct rate_bucket_params ops)
{
    struct rate_limit_params params = {.bandwidth = bandwidth, .ops = ops};
    rate_limit_init(&limit, &params, START);
}

static void without_sizes_nothing_is_limited(void **state)
{
    (void)state;
    set_up((struct rate_bucket_params){0}, (struct rate_bucket_params){.one_time_burst = 5});
    assert_false(limit.on);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(rate_limit_take(&limit, UINT64_MAX / 2, START), 0);
}

static void a_bucket_empties_and_fills_at_its_rate(void **state)
{
    (void)state;
    set_up((struct rate_bucket_params){.size = 1000, .refill_ms = 100},
           (struct rate_bucket_params){0});
    assert_true(limit.on);
    assert_int_equal(rate_limit_take(&limit, 1000, START), 0);
    assert_int_equal(rate_limit_take(&limit, 1, START), MS / 10);
    assert_int_equal(rate_limit_take(&limit, 500, START), 50 * MS);
    assert_int_equal(rate_limit_take(&limit, 500, START + 50 * MS - 1), 1);
    assert_int_equal(rate_limit_take(&limit, 500, START + 50 * MS), 0);
    assert_int_equal(rate_limit_take(&limit, 1, START + 50 * MS), MS / 10);
    /* It never holds more than its size. */
    assert_int_equal(rate_limit_take(&limit, 1000, START + 10000 * MS), 0);
    assert_int_not_equal(rate_limit_take(&limit, 1, START + 10000 * MS), 0);
}

static void the_long_run_is_exact_however_often_it_is_asked(void **state)
{
    (void)state;
    set_up((struct rate_bucket_params){0}, (struct rate_bucket_params){.size = 7, .refill_ms = 10});
    uint64_t through = 0;
    for (uint64_t at = 0; at < 1000 * MS; at += 12345)
        through += rate_limit_take(&limit, 0, START + at) == 0;
    /* 7 to begin with, and 7 in each of the 100 times 10 ms. */
    assert_in_range(through, 705, 707);
}

static void waiting_as_told_is_enough(void **state)
{
    (void)state;
    set_up((struct rate_bucket_params){.size = 3, .refill_ms = 7},
           (struct rate_bucket_params){.size = 11, .refill_ms = 13});
    uint64_t now = START;
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t wait = rate_limit_take(&limit, i % 6, now);
        if (!wait)
            continue;
        now += wait;
        assert_int_equal(rate_limit_take(&limit, i % 6, now), 0);
    }
    assert_true(now > START);
}

static void a_burst_comes_once_and_first(void **state)
{
    (void)state;
    set_up((struct rate_bucket_params){.size = 100, .one_time_burst = 250, .refill_ms = 10},
           (struct rate_bucket_params){0});
    assert_int_equal(rate_limit_take(&limit, 200, START), 0);
    assert_int_equal(rate_limit_take(&limit, 150, START), 0);
    assert_int_equal(rate_limit_take(&limit, 1, START), MS / 10);
    assert_int_equal(rate_limit_take(&limit, 100, START + 1000 * MS), 0);
    assert_int_not_equal(rate_limit_take(&limit, 100, START + 1000 * MS), 0);
}

static void a_request_larger_than_the_bucket_is_paid_for_by_those_after_it(void **state)
{
    (void)state;
    set_up((struct rate_bucket_params){.size = 100, .refill_ms = 10},
           (struct rate_bucket_params){0});
    assert_int_equal(rate_limit_take(&limit, 1000, START), 0);
    /* 900 owed take 90 ms, and 100 more 10. */
    assert_int_equal(rate_limit_take(&limit, 1000, START), 100 * MS);
    assert_int_equal(rate_limit_take(&limit, 1, START + 90 * MS), MS / 10);
    assert_int_equal(rate_limit_take(&limit, 1000, START + 100 * MS), 0);
}

static void both_buckets_must_have_enough_or_neither_is_taken_from(void **state)
{
    (void)state;
    set_up((struct rate_bucket_params){.size = 100, .refill_ms = 1000},
           (struct rate_bucket_params){.size = 2, .refill_ms = 10});
    assert_int_equal(rate_limit_take(&limit, 10, START), 0);
    assert_int_equal(rate_limit_take(&limit, 10, START), 0);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(rate_limit_take(&limit, 80, START), 5 * MS);
    assert_int_equal(rate_limit_take(&limit, 80, START + 5 * MS), 0);
    assert_int_not_equal(rate_limit_take(&limit, 80, START + 100 * MS), 0);
}

static void the_largest_numbers_do_not_wrap(void **state)
{
    (void)state;
    struct rate_bucket_params huge = {
        .size = UINT64_MAX, .one_time_burst = UINT64_MAX, .refill_ms = UINT64_MAX};
    set_up(huge, huge);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(rate_limit_take(&limit, UINT64_MAX / 2, START + i), 0);
    struct rate_bucket_params slow = {.size = 1, .refill_ms = UINT64_MAX};
    set_up(slow, slow);
    assert_int_equal(rate_limit_take(&limit, UINT64_MAX, START), 0);
    assert_int_equal(rate_limit_take(&limit, UINT64_MAX, START), UINT64_MAX);
}

static void a_clock_that_stands_still_or_goes_back_brings_nothing(void **state)
{
    (void)state;
    set_up((struct rate_bucket_params){.size = 10, .refill_ms = 10},
           (struct rate_bucket_params){0});
    assert_int_equal(rate_limit_take(&limit, 10, START), 0);
    assert_int_equal(rate_limit_take(&limit, 1, START - 5 * MS), MS);
    assert_int_equal(rate_limit_take(&limit, 1, START), MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_sizes_nothing_is_limited),
        cmocka_unit_test(a_bucket_empties_and_fills_at_its_rate),
        cmocka_unit_test(the_long_run_is_exact_however_often_it_is_asked),
        cmocka_unit_test(waiting_as_told_is_enough),
        cmocka_unit_test(a_burst_comes_once_and_first),
        cmocka_unit_test(a_request_larger_than_the_bucket_is_paid_for_by_those_after_it),
        cmocka_unit_test(both_buckets_must_have_enough_or_neither_is_taken_from),
        cmocka_unit_test(the_largest_numbers_do_not_wrap),
        cmocka_unit_test(a_clock_that_stands_still_or_goes_back_brings_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
