#include "sandbox/view.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* As many symbolic links as the kernel follows. */
#define LINKS_MAX 40

struct view {
    const char *root;
    unsigned links; /* followed for the path at hand */
};

/* A path on its way to where it leads. */
struct walk {
    char done[PATH_MAX]; /* no symbolic link in it; "" is the root */
    char left[PATH_MAX]; /* without a slash in front */
};

static int print_path(char *to, const char *first, const char *second)
{
    int len = snprintf(to, PATH_MAX, "%s%s%s", first, *second && *second != '/' ? "/" : "", second);
    return len < PATH_MAX ? 0 : -ENAMETOOLONG;
}

/** make_folders() - in the view, all on the way to the folder @path of the host. Returns 0 or -errno. */
static int make_folders(const struct view *view, const char *path)
{
    char there[PATH_MAX];
    size_t fixed = strlen(view->root);
    if (!*path)
        return 0;
    int ret = print_path(there, view->root, path);
    for (char *at = there + fixed + 1; ret == 0 && *at; at++) {
        char *slash = strchrnul(at, '/');
        bool last = !*slash;
        *slash = '\0';
        if (mkdir(there, 0755) < 0 && errno != EEXIST)
            ret = -errno;
        if (last)
            break;
        *slash = '/';
        at = slash;
    }
    return ret;
}

/** parent_of() - the folder that @path is in; "" is the root. */
static void parent_of(const char *path, char *parent)
{
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 0;
    memmove(parent, path, len);
    parent[len] = '\0';
}

/** is_there() - whether the view has the same at @there as the host. */
static bool is_there(const struct stat *host, const char *there)
{
    struct stat st;
    return stat(there, &st) == 0 && st.st_dev == host->st_dev && st.st_ino == host->st_ino;
}

/** show() - what is at @path on the host, and on no symbolic link. Returns 0 or -errno. */
static int show(const struct view *view, const char *path, const struct stat *st)
{
    char there[PATH_MAX], parent[PATH_MAX];
    int ret = print_path(there, view->root, path);
    if (ret < 0 || is_there(st, there))
        return ret;
    parent_of(path, parent);
    ret = make_folders(view, S_ISDIR(st->st_mode) ? path : parent);
    if (ret == 0 && !S_ISDIR(st->st_mode)) {
        _cleanup_close_ int fd = open(there, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        ret = fd < 0 && errno != EEXIST ? -errno : 0;
    }
    if (ret == 0 && mount(path, there, NULL, MS_BIND | MS_REC, NULL) < 0)
        ret = -errno;
    return ret;
}

/** missing() - what is not there is left out: 0. What cannot be looked at is not taken for that. */
static int missing(int code)
{
    return code == ENOENT || code == ENOTDIR ? 0 : -code;
}

/** show_end() - of a walk: the file, or the folder that it is in. */
static int show_end(const struct view *view, const char *path, unsigned access)
{
    char parent[PATH_MAX];
    struct stat st;
    if (!*path)
        return -EINVAL; /* the root itself is not to be had */
    if (stat(path, &st) < 0)
        return missing(errno);
    parent_of(path, parent);
    bool alone = S_ISDIR(st.st_mode) || S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode) ||
                 access == LANDLOCK_READ || !*parent;
    if (alone)
        return show(view, path, &st);
    return stat(parent, &st) < 0 ? -errno : show(view, parent, &st);
}

/** follow() - the symbolic link @path, which the view gets too; @walk goes on where it leads. Returns 0 or -errno. */
static int follow(struct view *view, struct walk *walk, const char *path)
{
    char target[PATH_MAX], there[PATH_MAX], left[PATH_MAX];
    ssize_t n = readlink(path, target, sizeof(target) - 1);
    if (n < 0)
        return -errno;
    target[n] = '\0';
    if (++view->links > LINKS_MAX)
        return -ELOOP;
    int ret = make_folders(view, walk->done);
    if (ret == 0)
        ret = print_path(there, view->root, path);
    if (ret == 0 && symlink(target, there) < 0 && errno != EEXIST)
        ret = -errno;
    if (ret == 0)
        ret = print_path(left, target, walk->left);
    if (ret < 0)
        return ret;
    if (*target == '/')
        walk->done[0] = '\0';
    return print_path(walk->left, left, "");
}

/** step() - one part of the path further. Returns 1; 0 if it leads nowhere; -errno. */
static int step(struct view *view, struct walk *walk)
{
    char part[PATH_MAX], path[PATH_MAX];
    size_t len = (size_t)(strchrnul(walk->left, '/') - walk->left);
    memcpy(part, walk->left, len);
    part[len] = '\0';
    len += walk->left[len] == '/';
    memmove(walk->left, walk->left + len, strlen(walk->left + len) + 1);
    if (!*part || strcmp(part, ".") == 0)
        return 1;
    if (strcmp(part, "..") == 0) {
        parent_of(walk->done, walk->done);
        return 1;
    }
    struct stat st;
    int ret = print_path(path, walk->done, part);
    if (ret < 0)
        return ret;
    if (lstat(path, &st) < 0)
        return missing(errno);
    if (S_ISLNK(st.st_mode))
        ret = follow(view, walk, path);
    else
        ret = print_path(walk->done, path, "");
    return ret < 0 ? ret : 1;
}

/** show_path() - all on the way that @path leads, and what is at its end. Returns 0 or -errno. */
static int show_path(struct view *view, const char *cwd, const struct landlock_path *path)
{
    struct walk walk = {.done = ""};
    view->links = 0;
    int ret = print_path(walk.left, *path->path == '/' ? "" : cwd, path->path);
    while (ret >= 0 && *walk.left) {
        ret = step(view, &walk);
        if (ret == 0)
            return 0;
    }
    return ret < 0 ? ret : show_end(view, walk.done, path->access);
}

int view_make(const char *root, const char *cwd, const struct landlock_path *paths, size_t n)
{
    struct view view = {.root = root};
    int ret = 0;
    for (size_t i = 0; i < n && ret == 0; i++) {
        if (!paths[i].path)
            continue;
        ret = show_path(&view, cwd, &paths[i]);
        if (paths[i].access == LANDLOCK_READ)
            ret = 0; /* one of many where libraries are looked for */
    }
    return ret < 0 ? ret : make_folders(&view, cwd);
}
