#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "config/options.h"

#include <errno.h>
#include <string.h>

#define WORDS_MAX 16

/** read_words() - "--kernel k" and @words, validated. Returns 0 or -errno with @err filled. */
static int read_words(struct vm_config *config, struct error *err, ...)
{
    const char *argv[WORDS_MAX] = {"--kernel", "k"};
    int argc = 2;
    va_list args;
    va_start(args, err);
    while ((argv[argc] = va_arg(args, const char *)))
        argc++;
    va_end(args);
    struct config_request request;
    *err = ERROR_INIT;
    int ret = config_parse_args(config, argc, (char **)argv, &request, err);
    config_request_release(&request);
    return ret < 0 ? ret : config_validate(config, err);
}

/** assert_refused() - `--disk @value` is wrong, and the message says @why. */
static void assert_refused(const char *value, const char *why)
{
    struct vm_config config;
    struct error err;
    int ret = read_words(&config, &err, "--disk", value, NULL);
    if (ret != -EINVAL || !strstr(err.message, why))
        fail_msg("'%s' gave %d, '%s', not '%s'", value, ret, err.message, why);
    config_release(&config);
}

static void every_key_of_a_disk_is_kept(void **state)
{
    (void)state;
    struct vm_config config;
    struct error err;
    assert_int_equal(
        read_words(&config, &err, "--disk",
                   "path=/a,readonly=on,direct=on,num_queues=4,queue_size=256,serial=S1,id=root,"
                   "lock_granularity=full,image_type=raw,bw_size=1M,bw_one_time_burst=2M,"
                   "bw_refill_time=100,ops_size=50,ops_one_time_burst=60,ops_refill_time=1000",
                   NULL),
        0);
    assert_int_equal(config.n_disks, 1);
    const struct disk_config *disk = &config.disks[0];
    assert_string_equal(disk->path, "/a");
    assert_true(disk->readonly);
    assert_true(disk->direct);
    assert_false(disk->vhost_user);
    assert_int_equal(disk->num_queues, 4);
    assert_int_equal(disk->queue_size, 256);
    assert_string_equal(disk->serial, "S1");
    assert_string_equal(disk->id, "root");
    assert_int_equal(disk->lock_granularity, LOCK_FULL);
    assert_int_equal(disk->bandwidth.size, 1 << 20);
    assert_int_equal(disk->bandwidth.one_time_burst, 2 << 20);
    assert_int_equal(disk->bandwidth.refill_time, 100);
    assert_int_equal(disk->ops.size, 50);
    assert_int_equal(disk->ops.one_time_burst, 60);
    assert_int_equal(disk->ops.refill_time, 1000);
    config_release(&config);
}

static void a_disk_has_one_queue_of_128_and_a_lock_if_nothing_is_said(void **state)
{
    (void)state;
    struct vm_config config;
    struct error err;
    assert_int_equal(read_words(&config, &err, "--disk", "path=/a", NULL), 0);
    const struct disk_config *disk = &config.disks[0];
    assert_int_equal(disk->num_queues, 1);
    assert_int_equal(disk->queue_size, 128);
    assert_int_equal(disk->lock_granularity, LOCK_BYTE_RANGE);
    assert_int_equal(disk->bandwidth.size, 0);
    assert_false(disk->readonly);
    assert_null(disk->serial);
    config_release(&config);
}

static void disks_add_up_in_their_order_and_are_named(void **state)
{
    (void)state;
    struct vm_config config;
    struct error err;
    assert_int_equal(read_words(&config, &err, "--disk", "path=/a", "path=/b,id=_disk0",
                                "--disk=path=/c", "--disk", "vhost_user=on,socket=/s", "--cmdline",
                                "x", NULL),
                     0);
    assert_int_equal(config.n_disks, 4);
    assert_string_equal(config.disks[0].id, "_disk1");
    assert_string_equal(config.disks[1].path, "/b");
    assert_string_equal(config.disks[2].id, "_disk2");
    assert_string_equal(config.disks[3].socket, "/s");
    assert_string_equal(config.payload.cmdline, "x");
    config_release(&config);
}

static void the_most_disks_are_as_many_as_the_bus_has_room_for(void **state)
{
    (void)state;
    const char *argv[66] = {"--kernel", "k"};
    for (int i = 0; i < 32; i++) {
        argv[2 + 2 * i] = "--disk";
        argv[3 + 2 * i] = "path=/a";
    }
    struct vm_config config;
    struct config_request request;
    struct error err = ERROR_INIT;
    assert_int_equal(config_parse_args(&config, 64, (char **)argv, &request, &err), 0);
    assert_int_equal(config.n_disks, 31);
    config_request_release(&request);
    config_release(&config);
    assert_int_equal(config_parse_args(&config, 66, (char **)argv, &request, &err), -EINVAL);
    assert_string_equal(err.message, "--disk: is given more than 31 times");
    config_request_release(&request);
    config_release(&config);
}

static void what_does_not_go_together_is_refused(void **state)
{
    (void)state;
    assert_refused("readonly=on", "needs path=<file>");
    assert_refused("path=/a,socket=/s", "'socket' is for vhost_user=on only");
    assert_refused("vhost_user=on", "vhost_user=on needs socket=<socket>");
    assert_refused("vhost_user=on,socket=/s,path=/a", "'path' is the back-end's matter");
    assert_refused("vhost_user=on,socket=/s,direct=on", "'direct' is the back-end's matter");
    assert_refused("path=/a,bw_size=1M", "make a limit together only");
    assert_refused("path=/a,ops_refill_time=5", "make a limit together only");
    assert_refused("path=/a,ops_one_time_burst=5", "ops_one_time_burst needs ops_size");
    assert_refused("path=/a,queue_size=100", "is not a power of two");
    assert_refused("path=/a,queue_size=2", "must be 4 to 1024");
    assert_refused("path=/a,num_queues=0", "must be 1 to 64");
    assert_refused("path=/a,serial=123456789012345678901", "at most 20 bytes");
    assert_refused("path=/a,id=a/b", "has more than letters");
    assert_refused("path=/a,lock_granularity=none", "is none of byte-range, full");
}

static void two_disks_of_one_name_are_refused(void **state)
{
    (void)state;
    struct vm_config config;
    struct error err;
    assert_int_equal(read_words(&config, &err, "--disk", "path=/a,id=x", "path=/b,id=x", NULL),
                     -EINVAL);
    assert_string_equal(err.message, "--disk: x: id: two devices are called 'x'");
    config_release(&config);
}

static void an_image_that_is_not_raw_is_sent_to_qemu_storage_daemon(void **state)
{
    (void)state;
    struct vm_config config;
    struct error err;
    assert_int_equal(read_words(&config, &err, "--disk", "path=/a,image_type=qcow2", NULL),
                     -EINVAL);
    assert_string_equal(err.message, "--disk: /a: husk itself serves raw images only");
    assert_non_null(strstr(err.hint, "qemu-storage-daemon"));
    assert_non_null(strstr(err.hint, "vhost_user=on"));
    config_release(&config);
}

static void keys_of_cloud_hypervisor_that_are_missing_are_told_from_slips(void **state)
{
    (void)state;
    assert_refused("path=/a,iommu=on", "does not have Cloud Hypervisor's key 'iommu'");
    assert_refused("path=/a,queue_affinity=[0@[1]]", "key 'queue_affinity'");
    assert_refused("path=/a,rate_limit_group=g", "key 'rate_limit_group'");
    assert_refused("path=/a,readnly=on", "unknown key 'readnly'");
}

static void the_json_of_disks_has_cloud_hypervisors_shape(void **state)
{
    (void)state;
    static const char text[] =
        "{\"payload\":{\"kernel\":\"k\"},\"disks\":[{\"path\":\"/a\",\"readonly\":true,\"id\":null,"
        "\"rate_limiter_config\":{\"bandwidth\":{\"size\":100,\"one_time_burst\":5,"
        "\"refill_time\":10},\"ops\":null},\"lock_granularity\":\"Full\"},"
        "{\"vhost_user\":true,\"vhost_socket\":\"/s\",\"num_queues\":2}]}";
    struct vm_config config, again;
    struct error err = ERROR_INIT;
    config_init_defaults(&config);
    assert_int_equal(config_from_json(&config, text, strlen(text), &err), 0);
    assert_int_equal(config_validate(&config, &err), 0);
    assert_int_equal(config.n_disks, 2);
    assert_true(config.disks[0].readonly);
    assert_int_equal(config.disks[0].bandwidth.size, 100);
    assert_int_equal(config.disks[0].bandwidth.one_time_burst, 5);
    assert_int_equal(config.disks[0].bandwidth.refill_time, 10);
    assert_int_equal(config.disks[0].lock_granularity, LOCK_FULL);
    assert_string_equal(config.disks[1].socket, "/s");
    assert_int_equal(config.disks[1].num_queues, 2);

    _cleanup_free_ char *written = config_to_json(&config);
    config_init_defaults(&again);
    assert_int_equal(config_from_json(&again, written, strlen(written), &err), 0);
    assert_int_equal(config_validate(&again, &err), 0);
    _cleanup_free_ char *rewritten = config_to_json(&again);
    assert_string_equal(written, rewritten);
    assert_non_null(strstr(written, "\"rate_limiter_config\""));
    config_release(&config);
    config_release(&again);
}

static void wrong_json_of_disks_is_named_by_its_path(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\"disks\":{}}", "disks: must be an array, not an object"},
        {"{\"disks\":[1]}", "disks[0]: must be an object, not a whole number"},
        {"{\"disks\":[{\"path\":\"a\"},{\"pth\":\"b\"}]}", "disks[1]: unknown field 'pth'"},
        {"{\"disks\":[{\"path\":1}]}", "disks[0].path: must be a string, not a whole number"},
        {"{\"disks\":[{\"rate_limiter_config\":1}]}",
         "disks[0].rate_limiter_config: must be an object, not a whole number"},
        {"{\"disks\":[{\"rate_limiter_config\":{\"ops\":{\"size\":true}}}]}",
         "disks[0].rate_limiter_config.ops.size: must be a whole number, not a boolean"},
        {"{\"disks\":[{\"rate_limiter_config\":{\"x\":{}}}]}",
         "disks[0].rate_limiter_config: unknown field 'x'"},
        {"{\"disks\":[{\"rate_limiter_config.ops.size\":1}]}",
         "disks[0]: unknown field 'rate_limiter_config.ops.size'"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct vm_config config;
        struct error err = ERROR_INIT;
        config_init_defaults(&config);
        assert_int_equal(config_from_json(&config, cases[i].text, strlen(cases[i].text), &err),
                         -EINVAL);
        assert_string_equal(err.message, cases[i].message);
        config_release(&config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_of_a_disk_is_kept),
        cmocka_unit_test(a_disk_has_one_queue_of_128_and_a_lock_if_nothing_is_said),
        cmocka_unit_test(disks_add_up_in_their_order_and_are_named),
        cmocka_unit_test(the_most_disks_are_as_many_as_the_bus_has_room_for),
        cmocka_unit_test(what_does_not_go_together_is_refused),
        cmocka_unit_test(two_disks_of_one_name_are_refused),
        cmocka_unit_test(an_image_that_is_not_raw_is_sent_to_qemu_storage_daemon),
        cmocka_unit_test(keys_of_cloud_hypervisor_that_are_missing_are_told_from_slips),
        cmocka_unit_test(the_json_of_disks_has_cloud_hypervisors_shape),
        cmocka_unit_test(wrong_json_of_disks_is_named_by_its_path),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
