#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/device_list.h"
#include "config/options.h"

#include <errno.h>
#include <string.h>

/** read_value() - `--kernel k --fs @value`, validated. Returns 0 or -errno with @err filled. */
static int read_value(struct vm_config *config, const char *value, struct error *err)
{
    const char *const argv[] = {"--kernel", "k", "--rng", "src=/dev/urandom", "--fs", value};
    struct config_request request;
    *err = ERROR_INIT;
    int ret = config_parse_args(config, 6, (char **)argv, &request, err);
    config_request_release(&request);
    return ret < 0 ? ret : config_validate(config, err);
}

/** assert_refused() - `--fs @value` is wrong, and the message says @why. */
static void assert_refused(const char *value, const char *why)
{
    struct vm_config config;
    struct error err;
    int ret = read_value(&config, value, &err);
    if (ret != -EINVAL || !strstr(err.message, why))
        fail_msg("'%s' gave %d, '%s', not '%s'", value, ret, err.message, why);
    config_release(&config);
}

static void every_key_of_a_file_system_is_kept(void **state)
{
    (void)state;
    struct vm_config config;
    struct error err;
    assert_int_equal(
        read_value(&config, "tag=a,socket=/run/s,num_queues=3,queue_size=64,id=f", &err), 0);
    assert_int_equal(config.n_filesystems, 1);
    const struct fs_config *fs = &config.filesystems[0];
    assert_string_equal(fs->tag, "a");
    assert_string_equal(fs->socket, "/run/s");
    assert_string_equal(fs->id, "f");
    assert_int_equal(fs->num_queues, 3);
    assert_int_equal(fs->queue_size, 64);
    config_release(&config);
}

static void what_is_not_given_has_a_value_and_a_name(void **state)
{
    (void)state;
    struct vm_config config;
    struct error err;
    assert_int_equal(read_value(&config, "tag=a,socket=/run/s", &err), 0);
    assert_int_equal(config.filesystems[0].num_queues, 1);
    assert_int_equal(config.filesystems[0].queue_size, 1024);
    assert_string_equal(config.filesystems[0].id, "_fs0");
    config_release(&config);
}

static void devices_are_counted_in_order(void **state)
{
    (void)state;
    struct vm_config config;
    struct error err;
    assert_int_equal(read_value(&config, "tag=a,socket=/run/s", &err), 0);
    assert_int_equal(config_n_devices(&config), 2);
    struct device_entry fs = config_device(&config, 0);
    assert_int_equal(fs.kind, DEVICE_FS);
    assert_string_equal(fs.socket, "/run/s");
    assert_int_equal(config_device(&config, 1).kind, DEVICE_RNG);
    config_release(&config);
}

static void what_cannot_be_is_refused(void **state)
{
    (void)state;
    assert_refused("socket=/run/s", "--fs: /run/s: needs tag=<name>");
    assert_refused("tag=a", "--fs: a: needs socket=<socket>");
    assert_refused("tag=a,socket=/s,queue_size=100", "queue_size=100 is not a power of two");
    assert_refused("tag=a,socket=/s,num_queues=0", "num_queues");
    assert_refused("tag=a,socket=/s,num_queues=64", "num_queues");
    assert_refused("tag=a,socket=/s,queue_size=2048", "queue_size");
    assert_refused("tag=0123456789012345678901234567890123456,socket=/s", "tag");
    assert_refused("tag=a,socket=/s,pci_segment=1", "pci_segment");
}

static void two_of_one_tag_are_refused(void **state)
{
    (void)state;
    static const char text[] =
        "{\"payload\":{\"kernel\":\"k\"},\"fs\":[{\"tag\":\"a\",\"socket\":\"/s\"},"
        "{\"tag\":\"a\",\"socket\":\"/t\"}]}";
    struct vm_config config;
    struct error err = ERROR_INIT;
    config_init_defaults(&config);
    assert_int_equal(config_from_json(&config, text, strlen(text), &err), 0);
    assert_int_equal(config_validate(&config, &err), -EINVAL);
    assert_string_equal(err.message, "--fs: a: two have the tag 'a'");
    config_release(&config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_of_a_file_system_is_kept),
        cmocka_unit_test(what_is_not_given_has_a_value_and_a_name),
        cmocka_unit_test(devices_are_counted_in_order),
        cmocka_unit_test(what_cannot_be_is_refused),
        cmocka_unit_test(two_of_one_tag_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
