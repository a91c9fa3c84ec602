#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/event_monitor.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void an_event_is_one_json_line(void **state)
{
    (void)state;
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    struct error err = ERROR_INIT;
    struct event_monitor *monitor = event_monitor_open(NULL, pipe_fds[1], &err);
    assert_non_null(monitor);
    event_emit(monitor, "vm", "booted", NULL);
    event_emit(monitor, "guest", "panic", "why", "a \"quote\"\n", "vcpu", "0", NULL);
    event_monitor_close(monitor);

    FILE *lines = fdopen(pipe_fds[0], "r");
    char line[1024];
    assert_non_null(fgets(line, sizeof(line), lines));
    json_t *event = json_loads(line, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(event, "source")), "vm");
    assert_string_equal(json_string_value(json_object_get(event, "event")), "booted");
    assert_true(json_is_null(json_object_get(event, "properties")));
    assert_true(json_is_integer(json_object_get(json_object_get(event, "timestamp"), "nanos")));
    json_decref(event);

    assert_non_null(fgets(line, sizeof(line), lines));
    event = json_loads(line, 0, NULL);
    const json_t *properties = json_object_get(event, "properties");
    assert_string_equal(json_string_value(json_object_get(properties, "why")), "a \"quote\"\n");
    assert_string_equal(json_string_value(json_object_get(properties, "vcpu")), "0");
    json_decref(event);
    assert_null(fgets(line, sizeof(line), lines));
    fclose(lines);
}

static void a_reader_that_stalls_is_not_waited_for(void **state)
{
    (void)state;
    int pipe_fds[2];
    assert_int_equal(pipe(pipe_fds), 0);
    struct error err = ERROR_INIT;
    struct event_monitor *monitor = event_monitor_open(NULL, pipe_fds[1], &err);
    assert_non_null(monitor);
    for (int i = 0; i < 10000; i++)
        event_emit(monitor, "vm", "booted", NULL);
    event_monitor_close(monitor);

    /* What did arrive is whole lines. */
    FILE *lines = fdopen(pipe_fds[0], "r");
    char line[1024];
    int n = 0;
    while (fgets(line, sizeof(line), lines)) {
        assert_int_equal(line[strlen(line) - 1], '\n');
        assert_int_equal(line[0], '{');
        n++;
    }
    assert_in_range(n, 100, 9999);
    fclose(lines);
}

static void a_target_that_cannot_be_written_is_refused(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    assert_null(event_monitor_open(NULL, 987, &err));
    assert_int_equal(err.code, -EBADF);
    int read_only = open("/dev/null", O_RDONLY);
    assert_null(event_monitor_open(NULL, read_only, &err));
    assert_non_null(strstr(err.message, "not open for writing"));
    close(read_only);
    assert_null(event_monitor_open("/nonexistent/events", -1, &err));
    assert_int_equal(err.code, -ENOENT);

    char fifo[] = "/tmp/husk-test-XXXXXX";
    assert_non_null(mkdtemp(fifo));
    char path[64];
    snprintf(path, sizeof(path), "%s/fifo", fifo);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_null(event_monitor_open(path, -1, &err));
    assert_non_null(strstr(err.message, "nobody reads"));
    unlink(path);
    rmdir(fifo);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_event_is_one_json_line),
        cmocka_unit_test(a_reader_that_stalls_is_not_waited_for),
        cmocka_unit_test(a_target_that_cannot_be_written_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
