#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sandbox/view.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A folder with a view at "view", and files of the host at "host". */
static char folder[64];

static int set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/husk-view-XXXXXX");
    return mkdtemp(folder) && chdir(folder) == 0 &&
                   system("mkdir -p view host/disks host/other host/deep/er && "
                          "echo disk >host/disks/disk && echo secret >host/other/secret && "
                          "echo library >host/library && ln -s ../disks/disk host/other/link && "
                          "ln -s round host/round && ln -s $PWD/host/other/link host/deep/far && "
                          "ln -s er/../../disks host/deep/back") == 0
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof(command), "rm -rf --one-file-system %s", folder);
    return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

/** without_rights() - skips a test that nobody but root can do. */
static void without_rights(void)
{
    if (geteuid() != 0)
        skip();
}

/**
 * look() - run the shell command @check in the view that @paths make, at its root; its own root is still the host's.
 *
 * Return: the command's exit status; 100 if there is no right to mount; 200 and an errno if the view was not made.
 */
static int look(const struct landlock_path *paths, size_t n, const char *check)
{
    char root[80];
    snprintf(root, sizeof(root), "%s/view", folder);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
            mount("none", root, "tmpfs", 0, NULL) < 0)
            _exit(100);
        int ret = view_make(root, folder, paths, n);
        if (ret < 0)
            _exit(200 - ret > 255 ? 255 : 200 - ret);
        if (chdir(root) < 0 || chdir(folder + 1) < 0) /* the way to it from the view's root */
            _exit(101);
        int status = system(check);
        _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 102);
    }
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status);
}

static void skip_or_succeed(int status)
{
    if (status == 100)
        skip();
    assert_int_equal(status, 0);
}

static void a_file_is_there_with_its_folder_and_nothing_beside_that(void **state)
{
    (void)state;
    without_rights();
    const struct landlock_path paths[] = {{"host/disks/disk", LANDLOCK_READ | LANDLOCK_WRITE}};
    skip_or_succeed(
        look(paths, 1,
             "test \"$(cat host/disks/disk)\" = disk && test \"$(ls host)\" = disks && "
             "test \"$(ls)\" = host && rm host/disks/disk && echo new >host/disks/disk"));
    /* It is the host's own. */
    assert_int_equal(system("grep -q new host/disks/disk"), 0);
}

static void what_is_only_read_is_there_alone(void **state)
{
    (void)state;
    without_rights();
    const struct landlock_path paths[] = {{"host/library", LANDLOCK_READ}};
    skip_or_succeed(
        look(paths, 1, "test \"$(cat host/library)\" = library && test \"$(ls host)\" = library"));
}

static void links_lead_where_they_lead_on_the_host(void **state)
{
    (void)state;
    without_rights();
    char far[96];
    snprintf(far, sizeof(far), "%s//host/./deep/far", folder);
    const struct landlock_path paths[] = {{far, LANDLOCK_READ | LANDLOCK_WRITE},
                                          {"host/deep/back/disk", 0}};
    skip_or_succeed(look(paths, 2,
                         "test \"$(readlink host/other/link)\" = ../disks/disk && "
                         "test \"$(cat host/other/link)\" = disk && "
                         "test \"$(readlink host/deep/back)\" = er/../../disks && "
                         "! test -e host/other/secret && test -L host/deep/far"));
}

static void what_is_not_there_is_left_out_and_links_in_circles_are_refused(void **state)
{
    (void)state;
    without_rights();
    const struct landlock_path gone[] = {{"host/none/at/all", LANDLOCK_WRITE},
                                         {"host/library/below", LANDLOCK_WRITE},
                                         {NULL, LANDLOCK_WRITE}};
    skip_or_succeed(look(gone, 3, "test -z \"$(ls)\""));
    const struct landlock_path round[] = {{"host/round", LANDLOCK_WRITE}};
    assert_int_equal(look(round, 1, "true"), 200 + ELOOP);
    /* Libraries are looked for in many places. */
    const struct landlock_path read[] = {{"host/round", LANDLOCK_READ}, {"/", LANDLOCK_READ}};
    skip_or_succeed(look(read, 2, "test -L host/round"));
}

static void the_hosts_root_is_not_to_be_had(void **state)
{
    (void)state;
    without_rights();
    const struct landlock_path paths[] = {{"/../", LANDLOCK_REMOVE}};
    int status = look(paths, 1, "true");
    if (status == 100)
        skip();
    assert_int_equal(status, 200 + EINVAL);
}

static void nothing_is_made_on_the_host(void **state)
{
    (void)state;
    without_rights();
    const struct landlock_path paths[] = {{"host", LANDLOCK_READ | LANDLOCK_WRITE},
                                          {"host/disks/disk", LANDLOCK_WRITE},
                                          {"host/deep/er/none", LANDLOCK_WRITE},
                                          {"host/other/link", LANDLOCK_WRITE}};
    assert_int_equal(system("find host | sort >before"), 0);
    skip_or_succeed(look(paths, 4, "test -e host/other/secret"));
    assert_int_equal(system("find host | sort | cmp - before"), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_is_there_with_its_folder_and_nothing_beside_that),
        TEST(what_is_only_read_is_there_alone),
        TEST(links_lead_where_they_lead_on_the_host),
        TEST(what_is_not_there_is_left_out_and_links_in_circles_are_refused),
        TEST(the_hosts_root_is_not_to_be_had),
        TEST(nothing_is_made_on_the_host),
    };
    return cmocka_run_group_tests_name("view", tests, NULL, NULL);
}
