#include "sandbox/namespaces.h"

#include "base/cleanup.h"
#include "base/log.h"
#include "sandbox/capabilities.h"
#include "sandbox/view.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Any folder that is there on every Linux: it is mounted over in a namespace of its own. */
#define MOUNT_POINT "/proc"

#define FOLDER_FLAGS (MS_NOSUID | MS_NODEV | MS_NOEXEC)

/**
 * mount_folder() - an empty folder at MOUNT_POINT in a mount namespace of this process's own. What the host unmounts goes from
 * there too (MS_SLAVE), so that nothing of the host's is held. Returns 0 or -errno.
 */
static int mount_folder(unsigned long more_flags, const char *options)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0 ||
        mount("none", MOUNT_POINT, "tmpfs", FOLDER_FLAGS | more_flags, options) < 0)
        return -errno;
    return 0;
}

/** enter_folder() - at MOUNT_POINT: it is this process's root, and the one before is out of sight. Returns 0 or -errno. */
static int enter_folder(void)
{
    if (chdir(MOUNT_POINT) < 0)
        return -errno;
    /* An initramfs, which is the root of all, can be moved out of sight only. */
    if (syscall(SYS_pivot_root, ".", ".") == 0) {
        if (umount2(".", MNT_DETACH) < 0)
            return -errno;
    } else if (mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0) {
        return -errno;
    }
    return chdir("/") < 0 ? -errno : 0;
}

/** empty_root() - a mount namespace of this process's own, whose root is an empty folder. Returns 0 or -errno. */
static int empty_root(void)
{
    int ret = mount_folder(MS_RDONLY, "size=4k,mode=0555");
    return ret < 0 ? ret : enter_folder();
}

/** write_text() - to the file @path. Returns 0 or -errno. */
static int write_text(const char *path, const char *text)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        return -errno;
    return 0;
}

/** keep_rights() - those that joining the empty root needs, over the exec of a back-end, which drops them. */
static int keep_rights(void)
{
    static const int rights[] = {CAP_SYS_ADMIN, CAP_SYS_CHROOT};
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
    if (syscall(SYS_capget, &head, data) < 0)
        return -errno;
    for (size_t i = 0; i < sizeof(rights) / sizeof(rights[0]); i++)
        data[rights[i] / 32].inheritable |= 1u << (rights[i] % 32);
    if (syscall(SYS_capset, &head, data) < 0)
        return -errno;
    for (size_t i = 0; i < sizeof(rights) / sizeof(rights[0]); i++)
        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, rights[i], 0, 0) < 0)
            return -errno;
    return 0;
}

/** become_owner() - of a user namespace, with this process's own number in it and all rights there. Returns 0 or -errno. */
static int become_owner(const char *who, int others)
{
    char users[64], groups[64];
    snprintf(users, sizeof(users), "%u %u 1", geteuid(), geteuid());
    snprintf(groups, sizeof(groups), "%u %u 1", getegid(), getegid());
    if (unshare(CLONE_NEWUSER | others) < 0)
        return -errno;
    int ret = write_text("/proc/self/uid_map", users);
    /* Without a group in it nothing can be made there (user_namespaces(7)). */
    if (ret == 0)
        ret = write_text("/proc/self/setgroups", "deny");
    if (ret == 0)
        ret = write_text("/proc/self/gid_map", groups);
    if (ret < 0)
        log_info("%s: is nobody in its user namespace: %s", who, strerror(-ret));
    return keep_rights();
}

/** hold_open() - of make_root(): the child, whose namespace is taken up as long as it is there. */
static _Noreturn void hold_open(int to_parent, int from_parent)
{
    int code = empty_root();
    char end;
    (void)!write(to_parent, &code, sizeof(code));
    (void)!read(from_parent, &end, sizeof(end));
    _exit(0);
}

/** make_root() - an empty mount namespace that this process is not in. Returns its descriptor or -errno. */
static int make_root(void)
{
    int up[2], down[2], code = 0;
    char path[64];
    if (pipe2(up, O_CLOEXEC) < 0)
        return -errno;
    _cleanup_close_ int from_child = up[0], to_parent = up[1];
    if (pipe2(down, O_CLOEXEC) < 0)
        return -errno;
    _cleanup_close_ int from_parent = down[0], to_child = down[1];
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0) {
        close(to_child);
        hold_open(to_parent, from_parent);
    }
    cleanup_close(&to_parent);
    to_parent = -1;
    int fd = -EIO;
    if (read(from_child, &code, sizeof(code)) == (ssize_t)sizeof(code)) {
        snprintf(path, sizeof(path), "/proc/%d/ns/mnt", (int)pid);
        fd = code < 0 ? code : open(path, O_RDONLY | O_CLOEXEC);
        if (code == 0 && fd < 0)
            fd = -errno;
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return fd;
}

/**
 * leave_network() - and IPC, with the right to do so or as the owner of a user namespace. Whoever has some rights but not that one, as
 * root of a container, stays: it would lose them all, and with them files that it was given.
 */
static void leave_network(const char *who)
{
    int others = CLONE_NEWNET | CLONE_NEWIPC;
    int ret = unshare(others) < 0 ? -errno : 0;
    if (ret == -EPERM && !capabilities_any())
        ret = become_owner(who, others);
    if (ret < 0)
        log_info("%s: stays in the host's network and IPC namespaces: %s", who, strerror(-ret));
}

void namespaces_enter_broker(const char *who, struct namespaces *namespaces)
{
    *namespaces = NAMESPACES_NONE;
    leave_network(who);
    namespaces->root_fd = make_root();
    if (namespaces->root_fd < 0) {
        log_info("%s: back-ends keep the host's files in sight: %s", who,
                 strerror(-namespaces->root_fd));
        namespaces->root_fd = -1;
    }
}

void namespaces_enter_vmm(const char *who)
{
    leave_network(who);
    int ret = empty_root();
    if (ret < 0)
        log_info("%s: keeps the host's files in sight: %s", who, strerror(-ret));
}

/** make_view() - a root of this process's own with what is at @paths, and the working directory @cwd. Returns 0 or -errno. */
static int make_view(const char *cwd, const struct landlock_path *paths, size_t n)
{
    int ret = mount_folder(0, "size=1m,mode=0755");
    if (ret < 0)
        return ret;
    ret = view_make(MOUNT_POINT, cwd, paths, n);
    if (ret == 0 &&
        mount(NULL, MOUNT_POINT, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | FOLDER_FLAGS, NULL) < 0)
        ret = -errno;
    if (ret == 0)
        ret = enter_folder();
    if (ret < 0) {
        umount2(MOUNT_POINT, MNT_DETACH);
        return ret;
    }
    return chdir(cwd) < 0 ? -errno : 0;
}

void namespaces_show_only(const char *who, const struct landlock_path *paths, size_t n)
{
    _cleanup_free_ char *cwd = getcwd(NULL, 0);
    int ret = !cwd ? -errno : *cwd != '/' ? -ENOENT : make_view(cwd, paths, n);
    /* That there is no right to do so is no news where others are not to be had either. */
    if (ret < 0)
        log_message(ret == -EPERM || ret == -ENOSYS ? LOG_INFO : LOG_WARN,
                    "%s: keeps the host's files in sight: %s", who, strerror(-ret));
}

pid_t namespaces_fork(int *pidfd)
{
    long pid = syscall(SYS_clone, CLONE_PIDFD | CLONE_NEWPID | SIGCHLD, NULL, pidfd, NULL, NULL);
    if (pid < 0 && errno != EAGAIN && errno != ENOMEM)
        pid = syscall(SYS_clone, CLONE_PIDFD | SIGCHLD, NULL, pidfd, NULL, NULL);
    return (pid_t)pid;
}

void namespaces_join_root(const char *who, int root_fd)
{
    if (root_fd < 0)
        return;
    if (setns(root_fd, CLONE_NEWNS) < 0)
        log_info("%s: keeps the host's files in sight: %s", who, strerror(errno));
    close(root_fd);
}
