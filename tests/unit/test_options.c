#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "config/options.h"
#include "config/table.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#define ARGS_MAX 32

/* One command line, read. */
struct parsed {
    struct vm_config config;
    struct config_request request;
    struct error err;
    int ret;
};

static void parsed_release(struct parsed *p)
{
    config_release(&p->config);
    config_request_release(&p->request);
}

#define _cleanup_parsed_ _cleanup_(parsed_release)

/** parse() - words closed by NULL; validated too if @validate. */
static struct parsed parse(bool validate, const char *const *words)
{
    struct parsed p = {.err = ERROR_INIT};
    int argc = 0;
    while (words[argc])
        argc++;
    p.ret = config_parse_args(&p.config, argc, (char **)words, &p.request, &p.err);
    if (p.ret == 0 && validate)
        p.ret = config_validate(&p.config, &p.err);
    return p;
}

#define PARSE(...) parse(false, (const char *const[]){__VA_ARGS__, NULL})
#define VALIDATE(...) parse(true, (const char *const[]){"--kernel", "k", __VA_ARGS__, NULL})

/** assert_refused() - with this message, in one line, and a hint in one more. */
static void assert_refused(struct parsed p, const char *message)
{
    assert_int_equal(p.ret, -EINVAL);
    assert_string_equal(p.err.message, message);
    assert_null(strchr(p.err.message, '\n'));
    assert_null(strchr(p.err.hint, '\n'));
    assert_string_not_equal(p.err.hint, "");
    parsed_release(&p);
}

static void assert_hint(struct parsed p, const char *start)
{
    assert_int_equal(p.ret, -EINVAL);
    assert_int_equal(strncmp(p.err.hint, start, strlen(start)), 0);
    parsed_release(&p);
}

static void nothing_given_means_the_defaults(void **state)
{
    (void)state;
    _cleanup_parsed_ struct parsed p = VALIDATE("--log-format", "text");
    assert_int_equal(p.ret, 0);
    assert_string_equal(p.config.payload.kernel, "k");
    assert_null(p.config.payload.initramfs);
    assert_null(p.config.payload.cmdline);
    assert_int_equal(p.config.cpus.boot, 1);
    assert_int_equal(p.config.cpus.max, 1);
    assert_int_equal(p.config.cpus.core_scheduling, CORE_SCHEDULING_VM);
    assert_int_equal(p.config.memory.size, 512 << 20);
    assert_true(p.config.memory.thp);
    assert_false(p.config.memory.shared || p.config.memory.hugepages || p.config.memory.prefault ||
                 p.config.memory.reserve);
    assert_int_equal(p.config.serial.mode, CONSOLE_NULL);
    assert_int_equal(p.config.console.mode, CONSOLE_OFF);
    assert_int_equal(p.config.debug_console.mode, CONSOLE_OFF);
    assert_int_equal(p.config.debug_console.iobase, 0xe9);
    assert_int_equal(p.config.event_monitor.fd, -1);
    assert_false(p.config.pvpanic || p.config.no_shutdown || p.config.no_reboot);
}

static void every_option_reaches_its_field(void **state)
{
    (void)state;
    _cleanup_parsed_ struct parsed p = PARSE(
        "--kernel=/boot/vmlinuz", "--initramfs", "initrd", "--cmdline", "console=ttyS0 a=\"b,c\"",
        "--cpus",
        "boot=2,max=4,topology=2:2:1:1,affinity=[0@[0-3,5],1@[2],3@7],core_scheduling=OFF",
        "--memory", "size=0x40000000,shared=on,hugepages=true,hugepage_size=1G,thp=off,prefault=On",
        "--serial", "file=/tmp/s", "--console", "null", "--debug-console",
        "socket=/run/d,iobase=0x402", "--platform",
        "uuid=123e4567-e89b-12d3-a456-426614174000,system_family=f,oem_strings=[a,\"b,c\"]",
        "--event-monitor", "fd=7", "--log-file", "log", "--log-format", "json", "-vv", "-v",
        "--no-shutdown", "--no-reboot", "--pvpanic", "--print-config");
    assert_string_equal(p.err.message, "");
    assert_int_equal(p.ret, 0);
    const struct vm_config *c = &p.config;
    assert_string_equal(c->payload.kernel, "/boot/vmlinuz");
    assert_string_equal(c->payload.initramfs, "initrd");
    assert_string_equal(c->payload.cmdline, "console=ttyS0 a=\"b,c\"");
    assert_int_equal(c->cpus.boot, 2);
    assert_int_equal(c->cpus.max, 4);
    assert_int_equal(c->cpus.topology.threads_per_core, 2);
    assert_int_equal(c->cpus.topology.packages, 1);
    assert_int_equal(c->cpus.n_affinity, 3);
    assert_int_equal(c->cpus.affinity[0].n_host_cpus, 5);
    assert_int_equal(c->cpus.affinity[0].host_cpus[3], 3);
    assert_int_equal(c->cpus.affinity[0].host_cpus[4], 5);
    assert_int_equal(c->cpus.affinity[2].vcpu, 3);
    assert_int_equal(c->cpus.affinity[2].host_cpus[0], 7);
    assert_int_equal(c->cpus.core_scheduling, CORE_SCHEDULING_OFF);
    assert_int_equal(c->memory.size, 1 << 30);
    assert_int_equal(c->memory.hugepage_size, 1 << 30);
    assert_true(c->memory.shared && c->memory.hugepages && c->memory.prefault);
    assert_false(c->memory.thp);
    assert_int_equal(c->serial.mode, CONSOLE_FILE);
    assert_string_equal(c->serial.path, "/tmp/s");
    assert_int_equal(c->console.mode, CONSOLE_NULL);
    assert_int_equal(c->debug_console.mode, CONSOLE_SOCKET);
    assert_string_equal(c->debug_console.path, "/run/d");
    assert_int_equal(c->debug_console.iobase, 0x402);
    assert_string_equal(c->platform.system_uuid, "123e4567-e89b-12d3-a456-426614174000");
    assert_string_equal(c->platform.system_family, "f");
    assert_int_equal(c->platform.oem_strings.n, 2);
    assert_string_equal(c->platform.oem_strings.items[1], "b,c");
    assert_int_equal(c->event_monitor.fd, 7);
    assert_string_equal(c->logging.file, "log");
    assert_int_equal(c->logging.format, 1);
    assert_int_equal(c->logging.verbosity, 3);
    assert_true(c->no_shutdown && c->no_reboot && c->pvpanic && p.request.print_config);
}

static void quotes_protect_commas_and_double_to_one(void **state)
{
    (void)state;
    _cleanup_parsed_ struct parsed p =
        PARSE("--platform", " system_version = \"a,b[\" ,system_family=x\"y\"\"z\"", "--serial",
              "file=\"/tmp/a,b\"");
    assert_int_equal(p.ret, 0);
    assert_string_equal(p.config.platform.system_version, "a,b[");
    assert_string_equal(p.config.platform.system_family, "xy\"z");
    assert_string_equal(p.config.serial.path, "/tmp/a,b");
}

static void an_unknown_word_is_named_with_the_nearest(void **state)
{
    (void)state;
    assert_refused(PARSE("--memory", "sise=1G"), "--memory: unknown key 'sise' in 'sise=1G'");
    assert_hint(PARSE("--memory", "sise=1G"), "did you mean 'size'?");
    assert_refused(PARSE("--memroy", "size=1G"), "unknown option '--memroy'");
    assert_hint(PARSE("--memroy", "size=1G"), "did you mean '--memory'?");
    assert_hint(PARSE("--mem", "size=1G"), "did you mean '--memory'?");
    assert_hint(PARSE("-memory", "size=1G"), "did you mean '--memory'?");
    assert_hint(PARSE("memory", "size=1G"), "did you mean '--memory'?");
    assert_refused(PARSE("--serial", "ttty"), "--serial: unknown key 'ttty'");
    assert_hint(PARSE("--serial", "ttty"), "did you mean 'tty'?");
    assert_refused(PARSE("--cpus", "core_scheduling=vmm"),
                   "--cpus: core_scheduling: 'vmm' is none of vm, vcpu, off");
    assert_hint(PARSE("--cpus", "core_scheduling=vmm"), "did you mean 'vm'?");
    assert_hint(PARSE("--memory", "1G"), "did you mean 'size=1G'?");
    assert_hint(PARSE("--cpus", "4"), "did you mean 'boot=4'?");
    assert_refused(PARSE("--xyzzy"), "unknown option '--xyzzy'");
    assert_hint(PARSE("--xyzzy"), "`husk run --help`");
    assert_refused(PARSE("-x"), "unknown option '-x' in '-x'");
    assert_refused(PARSE("disk.img"), "unexpected word 'disk.img'");
    assert_refused(PARSE("--"), "unexpected word '--'");
    assert_refused(PARSE(""), "unexpected word ''");
    assert_refused(PARSE("--pmem", "file=a"),
                   "--pmem: husk does not have this option of Cloud Hypervisor's yet");
}

static void a_wrong_form_is_refused(void **state)
{
    (void)state;
    assert_refused(PARSE("--kernel"), "--kernel: needs a value");
    assert_refused(PARSE("--kernel", "--serial", "tty"), "--kernel: needs a value");
    assert_refused(PARSE("--kernel", ""), "--kernel: must not be empty");
    assert_refused(PARSE("--pvpanic=on"), "--pvpanic: takes no value, but 'on' was given");
    assert_refused(PARSE("--serial", "tty", "--serial", "tty"), "--serial: given twice");
    assert_refused(PARSE("--memory", "size=1G,size=2G"), "--memory: 'size' is given twice");
    assert_refused(PARSE("--serial", "tty,file=x"),
                   "--serial: 'tty' and 'file' exclude each other");
    assert_refused(PARSE("--platform", "uuid=a,system_uuid=b"),
                   "--platform: 'uuid' and 'system_uuid' are the same");
    assert_refused(PARSE("--serial", ""),
                   "--serial: needs one of null, off, tty, pty, file=<path>, socket=<path>");
    assert_refused(PARSE("--debug-console", "iobase=0xe9"),
                   "--debug-console: needs one of off, null, tty, pty, file=<path>, socket=<path>");
    assert_refused(PARSE("--event-monitor", ""),
                   "--event-monitor: needs one of path=<path>, fd=<number>");
    assert_refused(PARSE("--serial", "tty=1"), "--serial: 'tty' takes no value");
    assert_refused(PARSE("--serial", "file="), "--serial: 'file' needs a value, as file=<path>");
    assert_refused(PARSE("--memory", "thp"), "--memory: 'thp' needs a value, as thp=on");
    assert_refused(PARSE("--memory", "size=1G,"),
                   "--memory: a comma without anything before or behind it");
    assert_refused(PARSE("--cpus", "affinity=[0@[1]"), "--cpus: missing ']' in 'affinity=[0@[1]'");
    assert_refused(PARSE("--cpus", "affinity=0]"), "--cpus: ']' without '[' in 'affinity=0]'");
    assert_refused(PARSE("--platform", "uuid=\"a"), "--platform: missing '\"' in 'uuid=\"a'");
}

static void a_wrong_value_is_refused(void **state)
{
    (void)state;
    assert_refused(PARSE("--memory", "size=1X"),
                   "--memory: size: '1X' is not a size, as 512M or 4G");
    assert_refused(PARSE("--memory", "size=99999999999G"),
                   "--memory: size: '99999999999G' is too large");
    assert_refused(PARSE("--memory", "size=1M"), "--memory: size: must be 2M to 64T, not 1M");
    assert_refused(PARSE("--memory", "thp=maybe"), "--memory: thp: 'maybe' is neither on nor off");
    assert_refused(PARSE("--cpus", "boot=0"), "--cpus: boot: must be 1 to 254, not 0");
    assert_refused(PARSE("--cpus", "boot=255"), "--cpus: boot: must be 1 to 254, not 255");
    assert_refused(PARSE("--cpus", "max=0"), "--cpus: max: must be 1 to 254, not 0");
    assert_refused(PARSE("--cpus", "boot=-1"), "--cpus: boot: '-1' is not a decimal number");
    assert_refused(PARSE("--cpus", "boot=0x2"), "--cpus: boot: '0x2' is not a decimal number");
    assert_refused(PARSE("--cpus", "boot=99999999999999999999"),
                   "--cpus: boot: '99999999999999999999' is too large");
    assert_refused(PARSE("--cpus", "topology=1:2:3"),
                   "--cpus: topology: '1:2:3' is not <threads>:<cores>:<dies>:<packages>");
    assert_refused(PARSE("--cpus", "topology=1:2:3:4:5"),
                   "--cpus: topology: '1:2:3:4:5' is not <threads>:<cores>:<dies>:<packages>");
    assert_refused(PARSE("--cpus", "topology=1::1:1"),
                   "--cpus: topology: '1::1:1' is not <threads>:<cores>:<dies>:<packages>");
    assert_refused(PARSE("--cpus", "topology=0:1:1:1"),
                   "--cpus: topology: each part must be 1 to 254");
    assert_refused(PARSE("--cpus", "affinity=0@[1]"),
                   "--cpus: affinity: '0@[1]' is not a list in brackets, as [0@[0-3,5],1@[2]]");
    assert_refused(PARSE("--cpus", "affinity=[0]"),
                   "--cpus: affinity: '0' is not <vcpu>@[<host CPUs>]");
    assert_refused(PARSE("--cpus", "affinity=[0@[]]"),
                   "--cpus: affinity: '' is not a decimal number");
    assert_refused(PARSE("--cpus", "affinity=[0@[3-1]]"),
                   "--cpus: affinity: the range 3-1 is empty");
    assert_refused(PARSE("--cpus", "affinity=[0@[0-4294967295]]"),
                   "--cpus: affinity: there is no host CPU 4294967295, they are 0 to 8191");
    assert_refused(PARSE("--cpus", "affinity=[0@[1-3,2]]"),
                   "--cpus: affinity: host CPU 2 is listed twice for vCPU 0");
    assert_refused(PARSE("--cpus", "affinity=[0@[1],0@[2]]"),
                   "--cpus: affinity: vCPU 0 is listed twice");
    assert_refused(PARSE("--debug-console", "tty,iobase=e9"),
                   "--debug-console: iobase: 'e9' is not an I/O port in hexadecimal, as 0xe9");
    assert_refused(PARSE("--debug-console", "tty,iobase=0x10000"),
                   "--debug-console: iobase: must be 0x0 to 0xffff, not 0x10000");
    assert_refused(PARSE("--event-monitor", "fd=2147483648"),
                   "--event-monitor: fd: must be 0 to 2147483647, not 2147483648");
    assert_refused(PARSE("--kernel", "a\xff"), "--kernel: is not valid UTF-8 text");
    assert_refused(PARSE("--platform", "oem_strings=[a,,b]"),
                   "--platform: oem_strings: must not be empty");
}

static void items_of_fw_cfg_are_read_and_checked(void **state)
{
    (void)state;
    struct parsed p = VALIDATE("--fw-cfg-config",
                               "kernel=off,items=[name=opt/a,file=/f:name=opt/b,string=\"x:y,z\"]");
    assert_int_equal(p.ret, 0);
    const struct fw_cfg_config *told = &p.config.payload.fw_cfg;
    assert_int_equal(told->kernel, SWITCH_OFF);
    assert_int_equal(told->initramfs, SWITCH_UNSET);
    assert_int_equal(told->n_items, 2);
    assert_string_equal(told->items[0].name, "opt/a");
    assert_string_equal(told->items[0].file, "/f");
    assert_null(told->items[0].string);
    assert_string_equal(told->items[1].string, "x:y,z");
    config_release(&p.config);

    assert_refused(VALIDATE("--fw-cfg-config", "items=[name=opt/a]"),
                   "--fw-cfg-config: items: 'opt/a' needs either a file or a string");
    assert_refused(VALIDATE("--fw-cfg-config", "items=[name=opt/a,file=f,string=s]"),
                   "--fw-cfg-config: items: 'opt/a' needs either a file or a string");
    assert_refused(VALIDATE("--fw-cfg-config", "items=[string=s]"),
                   "--fw-cfg-config: items: item 1 has no name");
    assert_refused(VALIDATE("--fw-cfg-config", "items=[name=a,string=s:name=a,string=t]"),
                   "--fw-cfg-config: items: 'a' is given twice");
    assert_refused(
        VALIDATE(
            "--fw-cfg-config",
            "items=[name=opt/567890123456789012345678901234567890123456789012345678,string=s]"),
        "--fw-cfg-config: items: name: must be at most 55 bytes long, not 58");
    assert_refused(PARSE("--fw-cfg-config", "items=name=a"),
                   "--fw-cfg-config: items: 'name=a' is not a list in brackets, as "
                   "[name=<name>,file=<file>:name=<name>,string=<text>:...]");
    assert_refused(PARSE("--fw-cfg-config", "items=[name=a,name=b]"),
                   "--fw-cfg-config: items: 'name' is given twice");
    assert_refused(PARSE("--fw-cfg-config", "disable=on"),
                   "--fw-cfg-config: 'disable' takes no value");
    assert_refused(VALIDATE("--fw-cfg-config", "disable,e820=on"),
                   "--fw-cfg-config: disable goes with nothing else");
    assert_refused(VALIDATE("--firmware", "f", "--fw-cfg-config", "disable"),
                   "--fw-cfg-config: disable leaves the firmware no way to the kernel");
}

static void the_chipset_goes_with_what_is_booted(void **state)
{
    (void)state;
    assert_refused(VALIDATE("--platform", "chipset=q35"),
                   "--platform: chipset=q35 is for --firmware and --igvm: there, firmware places "
                   "the devices that a kernel started without it would not find");
    assert_refused(PARSE("--platform", "chipset=i440fx"),
                   "--platform: chipset: 'i440fx' is none of auto, q35, cloud-hypervisor");
    struct parsed p = VALIDATE("--firmware", "f", "--platform", "chipset=cloud-hypervisor");
    assert_int_equal(p.ret, 0);
    assert_int_equal(p.config.platform.chipset, CHIPSET_CLOUD_HYPERVISOR);
    config_release(&p.config);
}

static void rules_between_options_are_kept(void **state)
{
    (void)state;
    assert_refused(VALIDATE("--cpus", "boot=4,max=2"), "--cpus: max=2 is less than boot=4");
    assert_refused(VALIDATE("--cpus", "boot=2,topology=1:3:1:1"),
                   "--cpus: topology=1:3:1:1 makes 3 vCPUs, but max is 2");
    assert_refused(VALIDATE("--cpus", "boot=2,affinity=[2@[0]]"),
                   "--cpus: affinity names vCPU 2, but max=2 makes the last one 1");
    assert_refused(VALIDATE("--memory", "size=2049K"),
                   "--memory: size=2049K is not a multiple of 4K");
    assert_refused(VALIDATE("--memory", "hugepage_size=2M"),
                   "--memory: hugepage_size needs hugepages=on");
    assert_refused(VALIDATE("--memory", "hugepages=on,hugepage_size=3M"),
                   "--memory: hugepage_size=3M is not a power of two");
    assert_refused(VALIDATE("--memory", "size=3M,hugepages=on,hugepage_size=2M"),
                   "--memory: size=3M is not a multiple of 2M");
    assert_refused(VALIDATE("--serial", "tty", "--debug-console", "tty"),
                   "--serial and --debug-console are both on tty, but there is one terminal");
    assert_refused(VALIDATE("--serial", "tty", "--console", "tty"),
                   "--serial and --console are both on tty, but there is one terminal");
    assert_refused(VALIDATE("--platform", "uuid=123e4567-e89b-12d3-a456-42661417400g"),
                   "--platform: system_uuid: '123e4567-e89b-12d3-a456-42661417400g' is not a UUID, "
                   "as 123e4567-e89b-12d3-a456-426614174000");
    assert_refused(VALIDATE("--event-monitor", "path=a,fd=1"),
                   "--event-monitor: path and fd exclude each other");
    assert_refused(
        parse(true, (const char *const[]){"--pvpanic", NULL}),
        "nothing to boot: --kernel <file>, --firmware <file> or --igvm <file> is needed");
    assert_refused(
        parse(true, (const char *const[]){"--firmware", "f", "--initramfs", "i", NULL}),
        "--initramfs and --cmdline are for a kernel: --kernel <file> is needed with them");
}

static void limits_hold_for_a_config_that_no_parser_made(void **state)
{
    (void)state;
    struct vm_config config;
    struct error err = ERROR_INIT;
    config_init_defaults(&config);
    config.cpus.boot = 300;
    assert_int_equal(config_validate(&config, &err), -EINVAL);
    assert_string_equal(err.message, "--cpus: boot: must be 1 to 254, not 300");
    config_init_defaults(&config);
    config.memory.size = 4096;
    assert_int_equal(config_validate(&config, &err), -EINVAL);
    assert_string_equal(err.message, "--memory: size: must be 2M to 64T, not 4K");
    config_init_defaults(&config);
    config.serial.mode = CONSOLE_FILE;
    assert_int_equal(config_validate(&config, &err), -EINVAL);
    assert_string_equal(err.message, "--serial: needs the path of the file");
}

static void a_message_stays_one_short_line_whatever_was_typed(void **state)
{
    (void)state;
    char word[5000];
    memset(word, 'x', sizeof(word) - 1);
    word[sizeof(word) - 1] = '\0';
    memcpy(word, "--\n\x1b[", 5);
    _cleanup_parsed_ struct parsed p = PARSE(word);
    assert_int_equal(p.ret, -EINVAL);
    assert_true(strlen(p.err.message) < 120);
    for (const char *c = p.err.message; *c; c++)
        assert_true((unsigned char)*c >= 0x20);
}

static void help_and_version_end_the_reading(void **state)
{
    (void)state;
    _cleanup_parsed_ struct parsed help = PARSE("--help", "--nonsense");
    assert_int_equal(help.ret, 0);
    assert_true(help.request.help);
    _cleanup_parsed_ struct parsed version = PARSE("--pvpanic", "-vV", "--nonsense");
    assert_int_equal(version.ret, 0);
    assert_true(version.request.version);
}

static void a_file_is_read_first_and_options_replace_it(void **state)
{
    (void)state;
    char path[] = "/tmp/husk-test-config-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    static const char json[] =
        "{\"payload\": {\"kernel\": \"k\", \"cmdline\": \"quiet\"}, \"cpus\": {\"boot_vcpus\": 2, "
        "\"max_vcpus\": 2}, \"serial\": {\"mode\": \"File\", \"file\": \"f\"}, "
        "\"logging\": {\"verbosity\": 2}, \"pvpanic\": true}";
    assert_int_equal(write(fd, json, sizeof(json) - 1), sizeof(json) - 1);
    close(fd);
    _cleanup_parsed_ struct parsed p =
        PARSE("--cpus", "boot=4", "--serial", "tty", "--config", path, "-v");
    unlink(path);
    assert_string_equal(p.err.message, "");
    assert_int_equal(config_validate(&p.config, &p.err), 0);
    assert_string_equal(p.config.payload.cmdline, "quiet");
    assert_int_equal(p.config.cpus.boot, 4);
    assert_int_equal(p.config.cpus.max, 4);
    assert_int_equal(p.config.serial.mode, CONSOLE_TTY);
    assert_null(p.config.serial.path);
    assert_int_equal(p.config.logging.verbosity, 1);
    assert_true(p.config.pvpanic);

    _cleanup_parsed_ struct parsed missing = PARSE("--config", "/nonexistent/x");
    assert_int_equal(missing.ret, -ENOENT);
    assert_string_equal(missing.err.message,
                        "--config: could not open '/nonexistent/x': No such file or directory");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_given_means_the_defaults),
        cmocka_unit_test(every_option_reaches_its_field),
        cmocka_unit_test(quotes_protect_commas_and_double_to_one),
        cmocka_unit_test(an_unknown_word_is_named_with_the_nearest),
        cmocka_unit_test(a_wrong_form_is_refused),
        cmocka_unit_test(a_wrong_value_is_refused),
        cmocka_unit_test(items_of_fw_cfg_are_read_and_checked),
        cmocka_unit_test(the_chipset_goes_with_what_is_booted),
        cmocka_unit_test(rules_between_options_are_kept),
        cmocka_unit_test(limits_hold_for_a_config_that_no_parser_made),
        cmocka_unit_test(a_message_stays_one_short_line_whatever_was_typed),
        cmocka_unit_test(help_and_version_end_the_reading),
        cmocka_unit_test(a_file_is_read_first_and_options_replace_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
