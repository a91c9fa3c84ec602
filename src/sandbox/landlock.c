#include "sandbox/landlock.h"

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

/* Linux's include/uapi/linux/landlock.h as of interface 10; older headers lack the later half. */
#define ACCESS_EXECUTE (1ull << 0)
#define ACCESS_WRITE_FILE (1ull << 1)
#define ACCESS_READ_FILE (1ull << 2)
#define ACCESS_READ_DIR (1ull << 3)
#define ACCESS_REMOVE_FILE (1ull << 5)
#define ACCESS_MAKE_ALL (0x1fc0ull) /* character device to symbolic link */
#define ACCESS_REMOVE_DIR (1ull << 4)
#define ACCESS_REFER (1ull << 13)        /* interface 2 */
#define ACCESS_TRUNCATE (1ull << 14)     /* 3 */
#define ACCESS_IOCTL_DEV (1ull << 15)    /* 5 */
#define ACCESS_RESOLVE_UNIX (1ull << 16) /* 9 */
#define ACCESS_FIRST ((1ull << 13) - 1)
#define NET_BIND_AND_CONNECT_TCP 3ull /* 4 */
#define NET_BIND_AND_SEND_UDP 12ull   /* 10 */
#define SCOPE_ABSTRACT 1ull           /* 6 */
#define SCOPE_SIGNAL 2ull
#define OF_FILES                                                                                  \
    (ACCESS_EXECUTE | ACCESS_WRITE_FILE | ACCESS_READ_FILE | ACCESS_TRUNCATE | ACCESS_IOCTL_DEV | \
     ACCESS_RESOLVE_UNIX)

#define RULE_PATH_BENEATH 1
#define CREATE_RULESET_VERSION 1u

struct ruleset_attr {
    uint64_t handled_access_fs, handled_access_net, scoped;
};

struct __attribute__((packed)) path_beneath_attr {
    uint64_t allowed_access;
    int32_t parent_fd;
};

_Static_assert(sizeof(struct path_beneath_attr) == 12, "as the kernel has it");

int landlock_version(void)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);
    return version < 0 ? 0 : (int)version;
}

/** create_ruleset() - that handles everything that interface @version knows. */
static int create_ruleset(int version, enum landlock_signals signals, struct ruleset_attr *attr)
{
    *attr = (struct ruleset_attr){
        .handled_access_fs = ACCESS_FIRST | (version >= 2 ? ACCESS_REFER : 0) |
                             (version >= 3 ? ACCESS_TRUNCATE : 0) |
                             (version >= 5 ? ACCESS_IOCTL_DEV : 0) |
                             (version >= 9 ? ACCESS_RESOLVE_UNIX : 0),
        .handled_access_net = (version >= 4 ? NET_BIND_AND_CONNECT_TCP : 0) |
                              (version >= 10 ? NET_BIND_AND_SEND_UDP : 0),
        .scoped = version < 6                          ? 0
                  : signals == LANDLOCK_SIGNALS_INSIDE ? SCOPE_ABSTRACT | SCOPE_SIGNAL
                                                       : SCOPE_ABSTRACT,
    };
    size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
    return (int)syscall(SYS_landlock_create_ruleset, attr, size, 0);
}

static uint64_t rights(unsigned access)
{
    uint64_t bits = 0;
    if (access & LANDLOCK_READ)
        bits |= ACCESS_READ_FILE | ACCESS_READ_DIR;
    if (access & LANDLOCK_WRITE)
        bits |= ACCESS_WRITE_FILE | ACCESS_TRUNCATE | ACCESS_MAKE_ALL | ACCESS_REMOVE_FILE |
                ACCESS_REMOVE_DIR;
    if (access & LANDLOCK_EXECUTE)
        bits |= ACCESS_EXECUTE | ACCESS_READ_FILE;
    if (access & LANDLOCK_REMOVE)
        bits |= ACCESS_REMOVE_FILE;
    if (access & LANDLOCK_DEVICE)
        bits |= ACCESS_IOCTL_DEV;
    if (access & LANDLOCK_CONNECT)
        bits |= ACCESS_RESOLVE_UNIX;
    return bits;
}

static int add_path(int ruleset, const struct ruleset_attr *attr, const struct landlock_path *path,
                    struct error *err)
{
    _cleanup_close_ int fd = open(path->path, O_PATH | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        log_debug("'%s' is not there, and may not be opened later", path->path);
        return 0;
    }
    struct path_beneath_attr rule = {
        .allowed_access = rights(path->access) & attr->handled_access_fs,
        .parent_fd = fd,
    };
    if (!S_ISDIR(st.st_mode))
        rule.allowed_access &= OF_FILES;
    if (rule.allowed_access &&
        syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) < 0)
        return error_set_errno(err, -errno, "Landlock refused a rule for '%s'", path->path);
    return 0;
}

int landlock_make(const char *who, const struct landlock_path *paths, size_t n,
                  enum landlock_signals signals, int *made, struct error *err)
{
    int version = landlock_version();
    *made = -1;
    if (!version) {
        log_info("%s: this kernel has no Landlock", who);
        return 0;
    }
    struct ruleset_attr attr;
    _cleanup_close_ int ruleset = create_ruleset(version, signals, &attr);
    if (ruleset < 0)
        return error_set_errno(err, -errno, "Landlock made no set of rules");
    for (size_t i = 0; i < n; i++) {
        int ret = add_path(ruleset, &attr, &paths[i], err);
        if (ret < 0)
            return ret;
    }
    log_debug("%s: Landlock, interface %d", who, version);
    *made = take_fd(&ruleset);
    return 0;
}

int landlock_apply(int made, struct error *err)
{
    _cleanup_close_ int ruleset = made;
    if (ruleset >= 0 && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
                         syscall(SYS_landlock_restrict_self, ruleset, 0) < 0))
        return error_set_errno(err, -errno, "Landlock refused its rules");
    return 0;
}

int landlock_enter(const char *who, const struct landlock_path *paths, size_t n, struct error *err)
{
    int made;
    int ret = landlock_make(who, paths, n, LANDLOCK_SIGNALS_INSIDE, &made, err);
    return ret < 0 ? ret : landlock_apply(made, err);
}
