#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/cleanup.h"
#include "sandbox/limits.h"
#include "sandbox/roles.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BEGIN "<!-- from the filters: begin -->\n"
#define END "<!-- from the filters: end -->\n"

/** page_path() - of docs/threat-model.md. */
static void page_path(char path[static 4096])
{
    const char *folder = getenv("HUSK_DOCS");
    assert_non_null(folder);
    snprintf(path, 4096, "%s/threat-model.md", folder);
}

/** page() - its text, to be freed. */
static char *page(void)
{
    char path[4096];
    page_path(path);
    _cleanup_fclose_ FILE *in = fopen(path, "re");
    assert_non_null(in);
    char *text = NULL;
    size_t size = 0;
    assert_true(getdelim(&text, &size, '\0', in) > 0);
    return text;
}

/** describe_rule() - a call with what it is tied to: "fcntl (F_GETFL)". */
static void describe_rule(struct buf *out, const struct call_rule *rule, bool first)
{
    buf_printf(out, "%s`%s`", first ? "" : ", ", rule->name);
    if (rule->refusal)
        buf_printf(out, " (fails: %s)", strerrorname_np(rule->refusal));
    else if (rule->text)
        buf_printf(out, " (%s)", rule->text);
}

static void describe_list(struct buf *out, const struct cage_list *list)
{
    buf_printf(out, "| %s | ", list->title);
    for (size_t i = 0; i < list->calls.n; i++)
        describe_rule(out, &list->calls.rules[i], i == 0);
    buf_printf(out, " |\n");
}

static void describe_role(struct buf *out, const struct cage_role_of *role)
{
    buf_printf(out, "| %s | %s | %s | ", role->process, role->holds, role->opens);
    for (const struct cage_list *const *list = role->lists; *list; list++)
        buf_printf(out, "%s%s", list == role->lists ? "" : "; ", (*list)->title);
    buf_printf(out, " |\n");
}

/** lists_of_all() - each list once, in the order in which roles name them. Returns how many. */
static size_t lists_of_all(const struct cage_list *all[static CAGE_ROLES * CAGE_LISTS_MAX])
{
    size_t n = 0;
    for (size_t role = 0; role < CAGE_ROLES; role++) {
        for (const struct cage_list *const *list = cage_roles[role].lists; *list; list++) {
            size_t i = 0;
            while (i < n && all[i] != *list)
                i++;
            if (i == n)
                all[n++] = *list;
        }
    }
    return n;
}

/** describe() - the part of the page that follows from the filters. */
static void describe(struct buf *out)
{
    const struct cage_list *all[CAGE_ROLES * CAGE_LISTS_MAX];
    size_t n = lists_of_all(all);
    buf_printf(out, "| process | holds | may open | may call |\n|---|---|---|---|\n");
    for (size_t role = 0; role < CAGE_ROLES; role++)
        if (cage_roles[role].name)
            describe_role(out, &cage_roles[role]);
    buf_printf(out, "\n| list | system calls |\n|---|---|\n");
    for (size_t i = 0; i < n; i++)
        describe_list(out, all[i]);
    buf_printf(out,
               "\nA back-end has %llu MiB of memory of its own and %u descriptors at most, and "
               "leaves no core dump.\n",
               (unsigned long long)(LIMIT_BACK_END_BYTES >> 20), LIMIT_BACK_END_FILES);
    assert_false(buf_failed(out));
}

/** rewrite() - the page with @part in it; for whoever changed a filter. */
static void rewrite(const char *text, const char *begin, const char *end, const struct buf *part)
{
    char path[4096];
    page_path(path);
    _cleanup_fclose_ FILE *file = fopen(path, "we");
    assert_non_null(file);
    fwrite(text, 1, (size_t)(begin - text), file);
    fwrite(part->data, 1, part->len, file);
    assert_true(fputs(end, file) >= 0);
}

static void the_page_says_what_the_filters_allow(void **state)
{
    (void)state;
    _cleanup_free_ char *text = page();
    _cleanup_buf_ struct buf expected = BUF_INIT;
    describe(&expected);
    char *begin = strstr(text, BEGIN), *end = strstr(text, END);
    assert_true(begin && end && begin < end);
    begin += strlen(BEGIN);
    if (getenv("HUSK_UPDATE_DOCS"))
        rewrite(text, begin, end, &expected);
    else if ((size_t)(end - begin) != expected.len ||
             memcmp(begin, expected.data, expected.len) != 0)
        fail_msg("docs/threat-model.md differs from the filters: HUSK_UPDATE_DOCS=1 "
                 "HUSK_DOCS=docs build/tests/unit/test-threat-model writes it anew");
}

/** is_its_purpose() - what one role exists for, so that the processes beside it can do without: a socket device's connector,
 * and the broker. */
static bool is_its_purpose(size_t role, const char *call)
{
    if (strcmp(call, "socket") == 0 || strcmp(call, "connect") == 0)
        return role == CAGE_CONNECTOR || role == CAGE_BROKER;
    static const char *const brokering[] = {"openat", "execve", "setns", "io_uring_setup"};
    for (size_t i = 0; i < sizeof(brokering) / sizeof(brokering[0]); i++)
        if (strcmp(call, brokering[i]) == 0)
            return role == CAGE_BROKER;
    return false;
}

static void only_a_broker_with_disks_makes_rings(void **state)
{
    (void)state;
    struct call_list lists[CAGE_LISTS_MAX];
    for (unsigned with = 0; with < 2; with++) {
        size_t n = cage_calls(CAGE_BROKER, with ? CAGE_DISKS : ~(unsigned)CAGE_DISKS, lists);
        bool found = false;
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < lists[i].n; j++)
                found |= strncmp(lists[i].rules[j].name, "io_uring_", 9) == 0;
        assert_int_equal(found, with);
    }
}

static void no_filter_lets_a_process_open_connect_or_execute(void **state)
{
    (void)state;
    static const char *const never[] = {
        "open",
        "openat",
        "openat2",
        "creat",
        "connect",
        "socket",
        "bind",
        "listen",
        "execve",
        "ptrace",
        "fork",
        "vfork",
        "execveat",
        "mount",
        "setns",
        "bpf",
        "keyctl",
        "unshare",
        "kill",
        "process_vm_readv",
        "process_vm_writev",
        "io_uring_setup",
        "userfaultfd",
        "perf_event_open",
        "pidfd_getfd",
        "pidfd_open",
        "sendmmsg",
        "rt_sigqueueinfo",
    };
    for (size_t role = 0; role < CAGE_ROLES; role++) {
        struct call_list lists[CAGE_LISTS_MAX];
        size_t n = cage_calls((enum cage_role)role, ~0u, lists);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < lists[i].n; j++)
                for (size_t k = 0; k < sizeof(never) / sizeof(never[0]); k++)
                    if (strcmp(lists[i].rules[j].name, never[k]) == 0 &&
                        !is_its_purpose(role, never[k]))
                        fail_msg("%s may call %s", cage_roles[role].name, never[k]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_page_says_what_the_filters_allow),
        cmocka_unit_test(only_a_broker_with_disks_makes_rings),
        cmocka_unit_test(no_filter_lets_a_process_open_connect_or_execute),
    };
    return cmocka_run_group_tests_name("threat-model", tests, NULL, NULL);
}
