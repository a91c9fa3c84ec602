/*
 * Streams for tests of virtio sockets, the same program in the guest and on its host.
 *
 *   streams echo ADDRESS               take connections and give back what comes on each, until killed
 *   streams talk ADDRESS COUNT BYTES   open COUNT connections, then send BYTES on each at once and expect them back
 *
 * ADDRESS is `vsock:CID:PORT` (CID is ignored by echo), `unix:PATH`, or `husk:PATH:PORT`: the UNIX socket of a guest's
 * device, which is asked for a port by CONNECT.
 *
 * talk prints "connected COUNT" when all are open and "echoed COUNT" at the end; "broken N" and exit status 3 if N of them
 * ended before they should. Status 4: wrong bytes.
 */
#include <errno.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { ENDED = 0, FAILED = 1, USAGE = 2, BROKEN = 3, WRONG = 4 };

struct stream {
    int fd; /* -1: done or broken */
    unsigned number;
    size_t sent, got;
};

static void fail(const char *what)
{
    fprintf(stderr, "streams: %s: %s\n", what, strerror(errno));
    exit(FAILED);
}

static unsigned char byte_at(unsigned number, size_t at)
{
    return (unsigned char)(number * 31 + at * 7 + (at >> 8));
}

static int unix_socket(const char *path, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof(address->sun_path), "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0)
        fail("socket");
    return fd;
}

static int vsock_socket(const char *words, struct sockaddr_vm *address)
{
    unsigned cid, port;
    if (sscanf(words, "%u:%u", &cid, &port) != 2)
        exit(USAGE);
    *address = (struct sockaddr_vm){.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = port};
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    if (fd < 0)
        fail("socket");
    return fd;
}

/** handshake() - ask a guest's device for a port. */
static void handshake(int fd, unsigned port)
{
    char line[64];
    int len = snprintf(line, sizeof(line), "CONNECT %u\n", port);
    if (write(fd, line, (size_t)len) != len)
        fail("CONNECT");
    for (size_t n = 0; n < sizeof(line) - 1; n++) {
        if (read(fd, line + n, 1) != 1)
            fail("no answer to CONNECT");
        if (line[n] != '\n')
            continue;
        line[n] = '\0';
        if (strncmp(line, "OK ", 3) == 0)
            return;
        break;
    }
    errno = EPROTO;
    fail(line);
}

static int open_stream(const char *address)
{
    struct sockaddr_un un;
    struct sockaddr_vm vm;
    int fd;
    if (strncmp(address, "vsock:", 6) == 0) {
        fd = vsock_socket(address + 6, &vm);
        if (connect(fd, (struct sockaddr *)&vm, sizeof(vm)) < 0)
            fail("connect");
    } else if (strncmp(address, "husk:", 5) == 0) {
        const char *port = strrchr(address, ':');
        char path[128];
        snprintf(path, sizeof(path), "%.*s", (int)(port - address - 5), address + 5);
        fd = unix_socket(path, &un);
        if (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0)
            fail("connect");
        handshake(fd, (unsigned)atoi(port + 1));
    } else {
        exit(USAGE);
    }
    return fd;
}

static int listen_at(const char *address)
{
    struct sockaddr_un un;
    struct sockaddr_vm vm;
    int fd, ret;
    if (strncmp(address, "vsock:", 6) == 0) {
        fd = vsock_socket(address + 6, &vm);
        vm.svm_cid = VMADDR_CID_ANY;
        ret = bind(fd, (struct sockaddr *)&vm, sizeof(vm));
    } else if (strncmp(address, "unix:", 5) == 0) {
        fd = unix_socket(address + 5, &un);
        ret = bind(fd, (struct sockaddr *)&un, sizeof(un));
    } else {
        exit(USAGE);
    }
    if (ret < 0 || listen(fd, 128) < 0)
        fail("listen");
    return fd;
}

static void give_back(int fd)
{
    char data[16384];
    ssize_t n;
    while ((n = read(fd, data, sizeof(data))) > 0)
        for (ssize_t at = 0, put; at < n; at += put)
            if ((put = write(fd, data + at, (size_t)(n - at))) < 0)
                exit(BROKEN);
    exit(n < 0 ? BROKEN : ENDED);
}

_Noreturn static void echo(const char *address)
{
    int listener = listen_at(address);
    signal(SIGCHLD, SIG_IGN);
    puts("listening");
    fflush(stdout);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        if (fd < 0)
            fail("accept");
        if (fork() == 0) {
            close(listener);
            give_back(fd);
        }
        close(fd);
    }
}

/** send_some() - returns false if the other side is gone. */
static bool send_some(struct stream *stream, size_t bytes)
{
    unsigned char data[4096];
    size_t n = 0;
    for (; n < sizeof(data) && stream->sent + n < bytes; n++)
        data[n] = byte_at(stream->number, stream->sent + n);
    ssize_t sent = send(stream->fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN;
    stream->sent += (size_t)sent;
    if (stream->sent == bytes)
        shutdown(stream->fd, SHUT_WR);
    return true;
}

/** take_some() - returns false if the other side is gone. */
static bool take_some(struct stream *stream, size_t bytes)
{
    unsigned char data[16384];
    ssize_t n = recv(stream->fd, data, sizeof(data), MSG_DONTWAIT);
    if (n < 0)
        return errno == EAGAIN;
    if (n == 0) {
        close(stream->fd);
        stream->fd = -1;
        return stream->got == bytes;
    }
    for (ssize_t i = 0; i < n; i++)
        if (data[i] != byte_at(stream->number, stream->got + (size_t)i))
            exit(WRONG);
    stream->got += (size_t)n;
    return true;
}

/** go_on() - with one stream that is ready for @events. Returns 1 if it broke. */
static unsigned go_on(struct stream *stream, short events, size_t bytes)
{
    bool good = true;
    if (events & POLLOUT && stream->sent < bytes)
        good = send_some(stream, bytes);
    if (good && events & (POLLIN | POLLHUP | POLLERR))
        good = take_some(stream, bytes);
    if (!good && stream->fd >= 0) {
        close(stream->fd);
        stream->fd = -1;
    }
    return !good;
}

static int talk(const char *address, unsigned count, size_t bytes)
{
    struct stream *streams = calloc(count, sizeof(*streams));
    struct pollfd *polls = calloc(count, sizeof(*polls));
    if (!streams || !polls)
        fail("memory");
    for (unsigned i = 0; i < count; i++)
        streams[i] = (struct stream){.fd = open_stream(address), .number = i};
    printf("connected %u\n", count);
    fflush(stdout);
    unsigned left, broken = 0;
    do {
        left = 0;
        for (unsigned i = 0; i < count; i++) {
            short events = POLLIN | (streams[i].sent < bytes ? POLLOUT : 0);
            polls[i] = (struct pollfd){.fd = streams[i].fd, .events = events};
            left += streams[i].fd >= 0;
        }
        if (left && poll(polls, count, -1) < 0)
            fail("poll");
        for (unsigned i = 0; i < count; i++)
            if (streams[i].fd >= 0 && polls[i].revents)
                broken += go_on(&streams[i], polls[i].revents, bytes);
    } while (left);
    printf(broken ? "broken %u\n" : "echoed %u\n", broken ? broken : count);
    return broken ? BROKEN : ENDED;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "echo") == 0)
        echo(argv[2]);
    if (argc == 5 && strcmp(argv[1], "talk") == 0)
        return talk(argv[2], (unsigned)atoi(argv[3]), strtoull(argv[4], NULL, 10));
    fputs("usage: streams echo ADDRESS | talk ADDRESS COUNT BYTES\n", stderr);
    return USAGE;
}
