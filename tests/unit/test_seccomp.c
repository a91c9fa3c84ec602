#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/log.h"
#include "sandbox/cage.h"
#include "sandbox/roles.h"
#include "sandbox/seccomp.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/** in_filter_of() - run @act in a process in the filter of @role; its standard error goes to @text. Returns its status. */
static int in_filter_of(enum cage_role role, enum seccomp_mode mode, int (*act)(void),
                        char text[static 512])
{
    struct call_list lists[CAGE_LISTS_MAX];
    struct seccomp_program program;
    int ends[2];
    assert_int_equal(
        seccomp_build(lists, cage_calls(role, 0, lists), mode, &program, &(struct error){0}), 0);
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        signal(SIGSYS, SIG_DFL); /* cmocka watches it */
        if (dup2(ends[1], STDERR_FILENO) < 0 || seccomp_report("a test", &(struct error){0}) < 0 ||
            seccomp_install(&program, &(struct error){0}) < 0)
            syscall(SYS_exit_group, 99); /* without what a sanitizer does on the way */
        syscall(SYS_exit_group, act());
    }
    seccomp_free(&program);
    close(ends[1]);
    ssize_t n = read(ends[0], text, 511);
    text[n < 0 ? 0 : n] = '\0';
    close(ends[0]);
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return status;
}

static int in_filter(enum seccomp_mode mode, int (*act)(void), char text[static 512])
{
    return in_filter_of(CAGE_RNG, mode, act, text);
}

static int ask_for_terminal(void)
{
    struct winsize size;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 ? errno : 0;
}

static int ask_for_child(void)
{
    return (int)syscall(SYS_fork) < 0 ? errno : 0;
}

static int ask_for_key(void)
{
    return syscall(SYS_add_key, "user", "husk-test", "x", 1, -1 /* of the thread */) < 0 ? errno
                                                                                         : 0;
}

static int pair_of(int type)
{
    int pair[2];
    return socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) < 0 ? errno : 0;
}

static int pair_of_streams(void)
{
    return pair_of(SOCK_STREAM);
}

static int pair_of_mailboxes(void)
{
    return pair_of(SOCK_DGRAM);
}

static int write_only(void)
{
    return write(STDERR_FILENO, "done", 4) == 4 ? 0 : 1;
}

static void what_is_allowed_is_carried_out(void **state)
{
    (void)state;
    char text[512];
    assert_int_equal(in_filter(SECCOMP_ON, write_only, text), 0);
    assert_string_equal(text, "done");
}

static void a_forbidden_call_is_named_with_its_request_and_ends_the_process(void **state)
{
    (void)state;
    char text[512];
    int status = in_filter(SECCOMP_ON, ask_for_terminal, text);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    assert_non_null(strstr(text, "error: a test made the system call ioctl (16, request 0x5413), "
                                 "which its filter forbids, and is ended\n"));
    status = in_filter(SECCOMP_ON, ask_for_child, text);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    assert_non_null(strstr(text, "a test made the system call fork (57), which"));
}

static void with_a_log_in_json_a_forbidden_call_is_told_of_in_json(void **state)
{
    (void)state;
    char text[512];
    log_set_format(LOG_FORMAT_JSON);
    log_set_pid(4711);
    int status = in_filter(SECCOMP_ON, ask_for_child, text);
    log_set_pid(0);
    log_set_format(LOG_FORMAT_TEXT);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
    assert_string_equal(text,
                        "{\"level\":\"error\",\"pid\":4711,\"message\":\"a test made the system "
                        "call fork (57), which its filter forbids, and is ended\"}\n");
}

static void in_mode_errno_a_forbidden_call_fails_and_the_process_goes_on(void **state)
{
    (void)state;
    char text[512];
    int status = in_filter(SECCOMP_ERRNO, ask_for_child, text);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), EPERM);
    assert_string_equal(text, "");
}

static void in_mode_log_a_forbidden_call_is_carried_out(void **state)
{
    (void)state;
    char text[512];
    /* Where the machine lets nobody have keys that is what is said, and not the filter's word. */
    int without = ask_for_key();
    int status = in_filter(SECCOMP_LOG, ask_for_key, text);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), without);
    status = in_filter(SECCOMP_LOG, ask_for_terminal, text);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), ENOTTY);
    assert_string_equal(text, "");
}

static void both_arguments_of_a_pair_of_sockets_are_looked_at(void **state)
{
    (void)state;
    char text[512];
    static const enum cage_role roles[] = {CAGE_VMM, CAGE_BROKER};
    for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
        assert_int_equal(in_filter_of(roles[i], SECCOMP_ON, pair_of_streams, text), 0);
        int status = in_filter_of(roles[i], SECCOMP_ERRNO, pair_of_mailboxes, text);
        assert_int_equal(WEXITSTATUS(status), EPERM);
    }
}

/* More for each thread than malloc keeps for later. */
enum { THREADS = 20, BLOCKS = 100, BLOCK_BYTES = 10000 };
static pthread_barrier_t all_have_memory;

static void *allocate(void *unused)
{
    (void)unused;
    void *memory[BLOCKS];
    for (unsigned i = 0; i < BLOCKS; i++)
        memory[i] = malloc(BLOCK_BYTES);
    pthread_barrier_wait(&all_have_memory);
    for (unsigned i = BLOCKS; i-- > 0;)
        free(memory[i]);
    return NULL;
}

static int allocate_in_many_threads(void)
{
    pthread_t threads[THREADS];
    pthread_barrier_init(&all_have_memory, NULL, THREADS);
    for (unsigned i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, allocate, NULL) != 0)
            return 1;
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

static void memory_for_many_threads_needs_no_file(void **state)
{
    (void)state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        const struct cage cage = {.role = CAGE_RNG, .seccomp = SECCOMP_ON, .root_fd = -1};
        signal(SIGSYS, SIG_DFL); /* cmocka watches it */
        int ret = cage_filter(&cage, &(struct error){0});
        syscall(SYS_exit_group, ret < 0 ? 99 : allocate_in_many_threads());
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_allowed_is_carried_out),
        cmocka_unit_test(a_forbidden_call_is_named_with_its_request_and_ends_the_process),
        cmocka_unit_test(with_a_log_in_json_a_forbidden_call_is_told_of_in_json),
        cmocka_unit_test(in_mode_errno_a_forbidden_call_fails_and_the_process_goes_on),
        cmocka_unit_test(in_mode_log_a_forbidden_call_is_carried_out),
        cmocka_unit_test(both_arguments_of_a_pair_of_sockets_are_looked_at),
        cmocka_unit_test(memory_for_many_threads_needs_no_file),
    };
    return cmocka_run_group_tests_name("seccomp", tests, NULL, NULL);
}
