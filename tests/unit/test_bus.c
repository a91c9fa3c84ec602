#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/bytes.h"
#include "devices/bus.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

struct probe {
    uint8_t answer;
    uint64_t last_offset;
    uint8_t last_value;
};

static void probe_read(void *device, uint64_t offset, void *data, unsigned len)
{
    struct probe *probe = device;
    probe->last_offset = offset;
    memset(data, probe->answer, len);
}

static void probe_write(void *device, uint64_t offset, const void *data, unsigned len)
{
    (void)len;
    struct probe *probe = device;
    probe->last_offset = offset;
    probe->last_value = *(const uint8_t *)data;
}

static const struct bus_ops probe_ops = {probe_read, probe_write};

static void each_range_answers_for_itself(void **state)
{
    (void)state;
    struct bus *bus = bus_new("port");
    struct probe probes[100];
    struct error err = ERROR_INIT;
    /* In an order that has to be sorted. */
    for (unsigned i = 0; i < 100; i++) {
        unsigned n = i * 37 % 100;
        probes[n] = (struct probe){.answer = (uint8_t)n};
        assert_int_equal(bus_add(bus, n * 16, 8, "probe", &probe_ops, &probes[n], &err), 0);
    }
    for (unsigned n = 0; n < 100; n++) {
        uint8_t value;
        assert_true(bus_read(bus, n * 16 + 7, &value, 1));
        assert_int_equal(value, n);
        assert_int_equal(probes[n].last_offset, 7);
        assert_false(bus_read(bus, n * 16 + 8, &value, 1));
        assert_int_equal(value, 0xff);
        value = 0x5a;
        assert_true(bus_write(bus, n * 16, &value, 1));
        assert_int_equal(probes[n].last_value, 0x5a);
    }
    for (unsigned n = 0; n < 100; n += 2)
        bus_remove(bus, n * 16);
    for (unsigned n = 0; n < 100; n++) {
        uint8_t value;
        assert_int_equal(bus_read(bus, n * 16, &value, 1), n % 2);
    }
    bus_free(bus);
}

static void what_nobody_claims_reads_as_ones(void **state)
{
    (void)state;
    struct bus *bus = bus_new("MMIO");
    struct probe probe = {0};
    struct error err = ERROR_INIT;
    assert_int_equal(bus_add(bus, 0x1000, 4, "probe", &probe_ops, &probe, &err), 0);
    uint64_t value = 0;
    /* One that leaves its range is nobody's: the device is not asked. */
    assert_false(bus_read(bus, 0x1000, &value, 8));
    assert_int_equal(value, UINT64_MAX);
    assert_false(bus_read(bus, UINT64_MAX, &value, 8));
    assert_false(bus_write(bus, 0xffc, &value, 8));
    assert_int_equal(probe.last_value, 0);
    bus_free(bus);
}

static void a_taken_range_is_refused_by_name(void **state)
{
    (void)state;
    struct bus *bus = bus_new("port");
    struct probe probe = {0};
    struct error err = ERROR_INIT;
    assert_int_equal(bus_add(bus, 0x60, 5, "i8042", &probe_ops, &probe, &err), 0);
    assert_int_equal(bus_add(bus, 0x64, 1, "other", &probe_ops, &probe, &err), -EEXIST);
    assert_string_equal(err.message, "port 0x64 (other) is taken by i8042");
    assert_int_equal(bus_add(bus, 0x5f, 2, "other", &probe_ops, &probe, &err), -EEXIST);
    assert_int_equal(bus_add(bus, 0x0, UINT64_MAX, "other", &probe_ops, &probe, &err), -EEXIST);
    assert_int_equal(bus_add(bus, 0x65, 0, "other", &probe_ops, &probe, &err), -EINVAL);
    assert_int_equal(bus_add(bus, UINT64_MAX, 2, "other", &probe_ops, &probe, &err), -EINVAL);
    assert_int_equal(bus_add(bus, UINT64_MAX, 1, "last", &probe_ops, &probe, &err), 0);
    assert_int_equal(bus_add(bus, 0x65, 1, "next", &probe_ops, &probe, &err), 0);
    bus_free(bus);
}

struct mover {
    struct bus *bus;
    struct probe probe;
    atomic_bool done;
};

static void *move_around(void *arg)
{
    struct mover *mover = arg;
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t base = 0x10000 + i % 7 * 0x1000;
        bus_add(mover->bus, base, 0x1000, "moving", &probe_ops, &mover->probe, NULL);
        bus_remove(mover->bus, base);
    }
    mover->done = true;
    return NULL;
}

static void lookups_stay_right_while_ranges_move(void **state)
{
    (void)state;
    struct mover mover = {.bus = bus_new("MMIO"), .probe = {.answer = 2}};
    struct probe low = {.answer = 1}, high = {.answer = 3};
    assert_int_equal(bus_add(mover.bus, 0x1000, 0x10, "low", &probe_ops, &low, NULL), 0);
    assert_int_equal(bus_add(mover.bus, 0x90000, 0x10, "high", &probe_ops, &high, NULL), 0);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, move_around, &mover), 0);
    uint64_t wrong = 0;
    while (!mover.done) {
        uint8_t value = 0;
        wrong += !bus_read(mover.bus, 0x1008, &value, 1) || value != 1;
        wrong += !bus_read(mover.bus, 0x90008, &value, 1) || value != 3;
        bool hit = bus_read(mover.bus, 0x12345, &value, 1);
        wrong += value != (hit ? 2 : 0xff);
    }
    pthread_join(thread, NULL);
    assert_int_equal(wrong, 0);
    bus_free(mover.bus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_range_answers_for_itself),
        cmocka_unit_test(what_nobody_claims_reads_as_ones),
        cmocka_unit_test(a_taken_range_is_refused_by_name),
        cmocka_unit_test(lookups_stay_right_while_ranges_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
