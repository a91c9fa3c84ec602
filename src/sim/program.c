/* Which programs the library can be loaded into. */
#include "sim/sim.h"

#include "base/bytes.h"
#include "base/cleanup.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#define SCRIPTS_MAX 4
#define HEADERS_MAX 64u

/** check_identity() - the dynamic loader ignores LD_PRELOAD when a start changes who the process is. */
static int check_identity(const char *path, int fd, struct error *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return error_set_errno(err, -errno, "could not look at %s", path);
    if (!S_ISREG(st.st_mode))
        return error_set(err, -EACCES, "%s is not a regular file", path);
    if (((st.st_mode & S_ISUID) && st.st_uid != getuid()) ||
        ((st.st_mode & S_ISGID) && st.st_gid != getgid()))
        error_set(err, -EPERM, "%s is a set-user-ID or set-group-ID program", path);
    else if (getuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
        error_set(err, -EPERM, "%s has file capabilities", path);
    else
        return 0;
    return error_hint(
        err, "the simulator is a preloaded library, and the dynamic loader loads none into such a "
             "program; run a copy of it without the bits");
}

/** is_loader() - whether a shared object is the dynamic loader itself, which loads what it is told to. */
static bool is_loader(const char *path)
{
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    return strncmp(name, "ld-linux", 8) == 0 || strncmp(name, "ld-musl", 7) == 0 ||
           strcmp(name, "ld.so") == 0;
}

static int check_elf(const char *path, int fd, struct error *err)
{
    Elf64_Ehdr header;
    if (pread(fd, &header, sizeof(header), 0) != (ssize_t)sizeof(header) ||
        header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_machine != EM_X86_64)
        return error_set(err, -ENOEXEC, "%s is not an x86-64 program", path);
    if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum > HEADERS_MAX)
        return error_set(err, -ENOEXEC, "%s has a program header table that makes no sense", path);
    for (unsigned i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr segment;
        off_t at = (off_t)(header.e_phoff + i * sizeof(segment));
        if (pread(fd, &segment, sizeof(segment), at) != (ssize_t)sizeof(segment))
            return error_set(err, -ENOEXEC, "%s ends within its program headers", path);
        if (segment.p_type == PT_INTERP)
            return 0;
    }
    if (is_loader(path))
        return 0;
    error_set(err, -ENOEXEC, "%s is a statically linked program", path);
    return error_hint(err, "the simulator is a preloaded library; link the program dynamically");
}

/** script_interpreter() - the path behind "#!" in @line, cut out in place; NULL if there is none. */
static char *script_interpreter(char *line)
{
    if (strncmp(line, "#!", 2) != 0)
        return NULL;
    char *path = line + 2 + strspn(line + 2, " \t");
    path[strcspn(path, " \t\n")] = '\0';
    return *path ? path : NULL;
}

int sim_check_program(const char *path, struct error *err)
{
    char current[4096];
    if (strlen(path) >= sizeof(current))
        return error_set(err, -ENAMETOOLONG, "the program's path is too long");
    memcpy(current, path, strlen(path) + 1);
    for (int depth = 0; depth < SCRIPTS_MAX; depth++) {
        _cleanup_close_ int fd = open(current, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return error_set_errno(err, -errno, "could not open %s", current);
        int r = check_identity(current, fd, err);
        if (r)
            return r;
        char line[256] = {0};
        if (pread(fd, line, sizeof(line) - 1, 0) < 0)
            return error_set_errno(err, -errno, "could not read %s", current);
        const char *next = script_interpreter(line);
        if (!next)
            return check_elf(current, fd, err);
        memcpy(current, next, strlen(next) + 1);
    }
    return error_set(err, -ELOOP, "%s is a script of a script of a script", path);
}
