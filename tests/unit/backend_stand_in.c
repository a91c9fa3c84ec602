/*
 * What the broker's tests start in place of husk-backend. It tells its words and its descriptors on the connection, then
 * does what single bytes ask for, and ends with status 0 when the connection closes.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fd_of(int argc, char **argv, const char *name)
{
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return atoi(argv[i + 1]);
    return -1;
}

int main(int argc, char **argv)
{
    int socket_fd = fd_of(argc, argv, "--fd"), file_fd = fd_of(argc, argv, "--file-fd");
    char text[2048] = "";
    size_t len = 0;
    /* The last of its words: what the host knows it by, which it does not tell. */
    if (fd_of(argc, argv, "--pid") > 1)
        argc -= 2;
    /* Before that, where the kernel lets the broker make it, and the last of its descriptors. */
    int root_fd = fd_of(argc, argv, "--root-fd");
    if (root_fd >= 0) {
        close(root_fd);
        argc -= 2;
    }
    for (int i = 1; i < argc; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s ", argv[i]);
    len += (size_t)snprintf(text + len, sizeof(text) - len, "fds");
    for (int i = 0; i < 1024; i++)
        if (lseek(i, 0, SEEK_CUR) >= 0 || errno != EBADF)
            len += (size_t)snprintf(text + len, sizeof(text) - len, " %d", i);
    len += (size_t)snprintf(text + len, sizeof(text) - len, "\n");
    if (write(socket_fd, text, len) != (ssize_t)len)
        return 3;

    char command;
    while (read(socket_fd, &command, 1) == 1) {
        if (command == 'x')
            return 7;
        if (command == 'w' && pwrite(file_fd, "written", 7, 0) != 7)
            return 4;
        if (command == 's')
            for (;;)
                poll(NULL, 0, -1); /* which the broker's filter allows */
        if (write(socket_fd, &command, 1) != 1)
            return 5;
    }
    return 0;
}
