#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "config/options.h"
#include "config/table.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

/* Every field that can be set beside the others. */
static const char *const full_words[] = {
    "--firmware",
    "/boot/OVMF.fd",
    "--kernel",
    "/boot/vmlinuz",
    "--initramfs",
    "initrd",
    "--cmdline",
    "a=\"b,c\" \\ \t",
    "--host-data",
    "00ff",
    "--fw-cfg-config",
    "e820=off,kernel=on,cmdline=off,initramfs=on,acpi_table=off,disable,"
    "items=[name=opt/a,file=/f:name=opt/b,string=\"x:y,z\"]",
    "--cpus",
    "boot=2,max=4,topology=1:2:1:2,affinity=[0@[0-3,5],3@[2]],core_scheduling=vcpu",
    "--memory",
    "size=1G,shared=on,hugepages=on,hugepage_size=2M,thp=off,prefault=on,reserve=on",
    "--igvm",
    "/boot/guest.igvm",
    "--platform",
    "chipset=q35,sev_snp=off,sw_protected=off,policy=0x30000,vmsa_features=1,kernel_hashes=off,"
    "id_block=/b,id_auth=/"
    "a,author_key=on,vcek_disabled=on,certs=/"
    "c,gosvw=00,system_manufacturer=m,system_product_name=p,system_"
    "version=v,system_"
    "serial_number="
    "s,"
    "system_uuid=123e4567-e89b-12d3-a456-426614174000,system_sku_number=k,system_family=f,"
    "chassis_asset_tag=c,oem_strings=[o1,\"o,2\"]",
    "--disk",
    "path=/a,readonly=on,direct=on,num_queues=2,queue_size=64,serial=s,id=d,lock_granularity=full,"
    "bw_size=1,bw_one_time_burst=2,bw_refill_time=3,ops_size=4,ops_one_time_burst=5,"
    "ops_refill_time=6,socket=/s",
    "--net",
    "tap=t0,ip=10.0.0.1,mask=255.255.0.0,mac=52:54:00:12:34:56,mtu=9000,num_queues=4,queue_size=64,"
    "id=n,fd=[7,8],offload_tso=off,offload_ufo=off,offload_csum=off,bw_size=1,bw_one_time_burst=2,"
    "bw_refill_time=3,ops_size=4,ops_one_time_burst=5,ops_refill_time=6,vhost_user=on,socket=/n",
    "--fs",
    "tag=shared,socket=/run/fs,num_queues=2,queue_size=64,id=f",
    "--rng",
    "src=/dev/urandom",
    "--vsock",
    "cid=3,socket=/run/v",
    "--seccomp",
    "errno",
    "--landlock",
    "--landlock-rules",
    "path=/run/guest,access=r",
    "--pvpanic",
    "--serial",
    "socket=/run/s",
    "--console",
    "null",
    "--debug-console",
    "file=/tmp/d,iobase=0x402",
    "--no-shutdown",
    "--no-reboot",
    "--event-monitor",
    "path=/tmp/events,fd=3",
    "--log-file",
    "/tmp/log",
    "--log-format",
    "json",
    "-vv",
    NULL};

static void read_words(struct vm_config *config, const char *const *words)
{
    struct config_request request;
    struct error err = ERROR_INIT;
    int argc = 0;
    while (words[argc])
        argc++;
    assert_int_equal(config_parse_args(config, argc, (char **)words, &request, &err), 0);
    config_request_release(&request);
}

/** read_json() - over the defaults. Returns what config_from_json() does. */
static int read_json(struct vm_config *config, const char *text, struct error *err)
{
    config_init_defaults(config);
    *err = ERROR_INIT;
    return config_from_json(config, text, strlen(text), err);
}

static void assert_refused(const char *text, const char *message)
{
    struct vm_config config;
    struct error err;
    assert_int_equal(read_json(&config, text, &err), -EINVAL);
    assert_string_equal(err.message, message);
    config_release(&config);
}

static void assert_same_config(const struct vm_config *a, const struct vm_config *b)
{
    _cleanup_free_ char *a_text = config_to_json(a);
    _cleanup_free_ char *b_text = config_to_json(b);
    assert_non_null(a_text);
    assert_non_null(b_text);
    assert_string_equal(a_text, b_text);
}

static void every_field_survives_the_round_trip(void **state)
{
    (void)state;
    _cleanup_(config_release) struct vm_config first, second;
    read_words(&first, full_words);
    _cleanup_free_ char *text = config_to_json(&first);
    assert_non_null(text);
    struct error err;
    assert_int_equal(read_json(&second, text, &err), 0);
    assert_same_config(&first, &second);

    /* And the text is not merely the same twice: the struct is what was asked for. */
    assert_string_equal(second.payload.cmdline, "a=\"b,c\" \\ \t");
    assert_int_equal(second.cpus.max, 4);
    assert_int_equal(second.cpus.topology.packages, 2);
    assert_int_equal(second.cpus.n_affinity, 2);
    assert_int_equal(second.cpus.affinity[0].host_cpus[4], 5);
    assert_int_equal(second.cpus.core_scheduling, CORE_SCHEDULING_VCPU);
    assert_int_equal(second.memory.hugepage_size, 2 << 20);
    assert_false(second.memory.thp);
    assert_int_equal(second.serial.mode, CONSOLE_SOCKET);
    assert_string_equal(second.serial.path, "/run/s");
    assert_int_equal(second.debug_console.iobase, 0x402);
    assert_string_equal(second.payload.igvm, "/boot/guest.igvm");
    assert_int_equal(second.platform.sev_snp, SWITCH_OFF);
    assert_int_equal(second.platform.chipset, CHIPSET_Q35);
    assert_int_equal(second.payload.fw_cfg.e820, SWITCH_OFF);
    assert_int_equal(second.payload.fw_cfg.n_items, 2);
    assert_string_equal(second.payload.fw_cfg.items[0].file, "/f");
    assert_string_equal(second.payload.fw_cfg.items[1].string, "x:y,z");
    assert_string_equal(second.platform.oem_strings.items[1], "o,2");
    assert_int_equal(second.event_monitor.fd, 3);
    assert_int_equal(second.logging.verbosity, 2);
    assert_true(second.no_shutdown && second.no_reboot && second.pvpanic);
}

static void every_key_of_the_table_is_in_the_full_text(void **state)
{
    (void)state;
    _cleanup_(config_release) struct vm_config config;
    read_words(&config, full_words);
    _cleanup_free_ char *text = config_to_json(&config);
    json_t *root = json_loads(text, 0, NULL);
    assert_non_null(root);
    size_t keys = 0;
    for (size_t i = 0; i < option_table_len; i++) {
        const struct option *option = &option_table[i];
        for (size_t j = 0; !option->request && j < option->n_keys; j++) {
            const struct option_key *key = &option->keys[j];
            const json_t *object = option->json ? json_object_get(root, option->json) : root;
            const char *name = option_is_mode(key) ? "mode" : option_key_json(key);
            const char *dot;
            if (option->list)
                object = json_array_get(object, 0);
            for (; (dot = strchr(name, '.')); name = dot + 1)
                object = json_object_getn(object, name, (size_t)(dot - name));
            if (!key->alias && !json_object_get(object, name))
                fail_msg("%s %s is not written", option->json, name);
            keys++;
        }
    }
    assert_true(keys > 40);
    json_decref(root);
}

static void the_defaults_survive_the_round_trip(void **state)
{
    (void)state;
    _cleanup_(config_release) struct vm_config first, second;
    config_init_defaults(&first);
    _cleanup_free_ char *text = config_to_json(&first);
    struct error err;
    assert_int_equal(read_json(&second, text, &err), 0);
    assert_memory_equal(&first, &second, sizeof(first));
}

static void an_object_of_cloud_hypervisors_is_understood(void **state)
{
    (void)state;
    static const char text[] =
        "{\"cpus\":{\"boot_vcpus\":2,\"max_vcpus\":4,\"topology\":null,\"affinity\":[{\"vcpu\":1,"
        "\"host_cpus\":[0,2]}],\"core_scheduling\":\"Off\"},\"memory\":{\"size\":1073741824,"
        "\"shared\":true,\"hugepages\":false,\"hugepage_size\":null,\"prefault\":false,"
        "\"thp\":true},\"payload\":{\"kernel\":\"/k\",\"cmdline\":null},\"serial\":{"
        "\"file\":null,\"mode\":\"Tty\",\"socket\":null},\"debug_console\":{\"mode\":\"File\","
        "\"file\":\"/d\",\"iobase\":1026},\"platform\":{\"uuid\":"
        "\"123e4567-e89b-12d3-a456-426614174000\",\"oem_strings\":[\"a\"]},\"pvpanic\":true}";
    _cleanup_(config_release) struct vm_config config;
    struct error err;
    assert_int_equal(read_json(&config, text, &err), 0);
    assert_int_equal(config_validate(&config, &err), 0);
    assert_int_equal(config.cpus.max, 4);
    assert_int_equal(config.cpus.affinity[0].host_cpus[1], 2);
    assert_int_equal(config.cpus.core_scheduling, CORE_SCHEDULING_OFF);
    assert_true(config.memory.shared);
    assert_int_equal(config.serial.mode, CONSOLE_TTY);
    assert_string_equal(config.debug_console.path, "/d");
    assert_int_equal(config.debug_console.iobase, 0x402);
    assert_string_equal(config.platform.system_uuid, "123e4567-e89b-12d3-a456-426614174000");
    assert_true(config.pvpanic);
}

static void an_error_names_the_path_of_the_field(void **state)
{
    (void)state;
    assert_refused("{\"cpus\":{\"boot_vcpus\":300}}", "cpus.boot_vcpus: must be 1 to 254, not 300");
    assert_refused("{\"cpus\":{\"boot_vcpus\":\"2\"}}",
                   "cpus.boot_vcpus: must be a whole number, not a string");
    assert_refused("{\"cpus\":{\"boot_vcpus\":2.5}}",
                   "cpus.boot_vcpus: must be a whole number, not a fraction");
    assert_refused("{\"cpus\":{\"boot_vcpus\":-1}}",
                   "cpus.boot_vcpus: must not be negative, but is -1");
    assert_refused("{\"cpus\":[]}", "cpus: must be an object, not an array");
    assert_refused("{\"cpus\":{\"affinity\":[{\"vcpu\":0,\"host_cpus\":[1,true]}]}}",
                   "cpus.affinity[0].host_cpus[1]: must be a whole number, not a boolean");
    assert_refused("{\"cpus\":{\"affinity\":[{\"vcpu\":0,\"host_cpus\":[1,1]}]}}",
                   "cpus.affinity[0].host_cpus[1]: host CPU 1 is listed twice for vCPU 0");
    assert_refused("{\"cpus\":{\"affinity\":[{\"vcpu\":0,\"host_cpus\":[1]},{\"vcpu\":0,"
                   "\"host_cpus\":[1]}]}}",
                   "cpus.affinity[1].vcpu: vCPU 0 is listed twice");
    assert_refused("{\"cpus\":{\"affinity\":[{\"vcpu\":0}]}}",
                   "cpus.affinity[0]: 'host_cpus' is missing");
    assert_refused("{\"cpus\":{\"topology\":{\"threads_per_core\":1}}}",
                   "cpus.topology.cores_per_die: is missing");
    assert_refused("{\"cpus\":{\"topology\":{\"threads_per_core\":0,\"cores_per_die\":1,"
                   "\"dies_per_package\":1,\"packages\":1}}}",
                   "cpus.topology: each part must be 1 to 254");
    assert_refused("{\"cpus\":{\"core_scheduling\":\"vm\"}}",
                   "cpus.core_scheduling: unknown value 'vm'");
    assert_refused("{\"memory\":{\"thp\":1}}", "memory.thp: must be a boolean, not a whole number");
    assert_refused("{\"serial\":{\"mode\":\"Ttty\"}}", "serial.mode: unknown value 'Ttty'");
    assert_refused("{\"serial\":{\"mode\":3}}",
                   "serial.mode: must be a string, not a whole number");
    assert_refused("{\"serial\":{\"mode\":\"Tty\",\"file\":\"x\"}}",
                   "serial.file: is for mode 'File' only");
    assert_refused("{\"payload\":{\"kernel\":\"\"}}", "payload.kernel: must not be empty");
    assert_refused("{\"platform\":{\"uuid\":\"a\",\"system_uuid\":\"b\"}}",
                   "platform.uuid: is the same as 'system_uuid', which is given too");
    assert_refused("{\"platform\":{\"oem_strings\":[\"a\",2]}}",
                   "platform.oem_strings[1]: must be a string, not a whole number");
    assert_refused("{\"pvpanic\":\"on\"}", "pvpanic: must be a boolean, not a string");
    assert_refused("{\"debug_console\":{\"iobase\":65536}}",
                   "debug_console.iobase: must be 0x0 to 0xffff, not 0x10000");
}

static void an_unknown_field_is_refused_with_the_nearest(void **state)
{
    (void)state;
    struct vm_config config;
    struct error err;
    assert_int_equal(read_json(&config, "{\"cpus\":{\"boot_vcpu\":1}}", &err), -EINVAL);
    assert_string_equal(err.message, "cpus: unknown field 'boot_vcpu'");
    assert_string_equal(err.hint, "did you mean 'cpus.boot_vcpus'?");
    assert_int_equal(read_json(&config, "{\"memori\":{}}", &err), -EINVAL);
    assert_string_equal(err.message, "unknown field 'memori'");
    assert_string_equal(err.hint, "did you mean 'memory'?");
    assert_refused("{\"pmem\":[]}", "unknown field 'pmem'");
    assert_refused("{\"cpus\":{\"affinity\":[{\"vcpu\":0,\"host_cpus\":[0],\"x\":1}]}}",
                   "cpus.affinity[0]: unknown field 'x'");
}

/** assert_not_json() - refused by the JSON parser, whose own words are not ours to test. */
static void assert_not_json(const char *text, const char *where)
{
    struct vm_config config;
    struct error err;
    assert_int_equal(read_json(&config, text, &err), -EINVAL);
    assert_int_equal(strncmp(err.message, where, strlen(where)), 0);
    config_release(&config);
}

static void text_that_is_not_one_object_is_refused(void **state)
{
    (void)state;
    assert_refused("[]", "must be an object, not an array");
    assert_refused("3", "must be an object, not a whole number");
    assert_not_json("", "line 1, column ");
    assert_not_json("{\n{", "line 2, column ");
    assert_not_json("{} {}", "line 1, column ");
    assert_not_json("{\"pvpanic\":true,\"pvpanic\":false}", "line 1, column ");
    assert_not_json("{\"payload\":{\"kernel\":\"a\\u0000b\"}}", "line 1, column ");
    assert_not_json("{\"payload\":{\"kernel\":\"a\xff\"}}", "line 1, column ");
    assert_not_json("{\"memory\":{\"size\":99999999999999999999}}", "line 1, column ");
}

static void deep_and_huge_texts_are_refused(void **state)
{
    (void)state;
    static char text[CONFIG_JSON_MAX + 2];
    struct vm_config config;
    struct error err = ERROR_INIT;
    memset(text, '[', sizeof(text));
    config_init_defaults(&config);
    assert_int_equal(config_from_json(&config, text, sizeof(text), &err), -EINVAL);
    assert_string_equal(err.message, "is larger than 1048576 bytes");
    assert_int_equal(config_from_json(&config, text, CONFIG_JSON_MAX, &err), -EINVAL);
    assert_int_equal(strncmp(err.message, "line 1, column ", 15), 0);

    static const char start[] = "{\"payload\":{\"kernel\":\"";
    memset(text, 'x', 10000);
    memcpy(text, start, sizeof(start) - 1);
    memcpy(text + 10000, "\"}}", 3);
    assert_int_equal(config_from_json(&config, text, 10003, &err), -EINVAL);
    assert_string_equal(err.message, "payload.kernel: must be at most 4095 bytes long, not 9978");
    assert_null(config.payload.kernel);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_field_survives_the_round_trip),
        cmocka_unit_test(every_key_of_the_table_is_in_the_full_text),
        cmocka_unit_test(the_defaults_survive_the_round_trip),
        cmocka_unit_test(an_object_of_cloud_hypervisors_is_understood),
        cmocka_unit_test(an_error_names_the_path_of_the_field),
        cmocka_unit_test(an_unknown_field_is_refused_with_the_nearest),
        cmocka_unit_test(text_that_is_not_one_object_is_refused),
        cmocka_unit_test(deep_and_huge_texts_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
