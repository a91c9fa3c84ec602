/*
 * Streams for tests of sockets and networks, the same program in the guest and on its host.
 *
 *   streams echo ADDRESS               take connections and give back what comes on each, until killed
 *   streams talk ADDRESS COUNT BYTES   open COUNT connections, then send BYTES on each at once and expect them back
 *   streams drain ADDRESS              take one connection, read it to its end, and print "drained BYTES SUM"
 *   streams pour ADDRESS SEED BYTES    open a connection, send BYTES that follow from SEED, wait until the other side has closed
 *                                      it, and print "poured BYTES SUM"
 *
 * ADDRESS is `vsock:CID:PORT` (CID is ignored by echo and drain), `tcp:HOST:PORT`, `unix:PATH`, or `husk:PATH:PORT`: the UNIX
 * socket of a guest's device, which is asked for a port by CONNECT. echo and drain print "listening" when they do.
 *
 * talk prints "connected COUNT" when all are open and "echoed COUNT" at the end; "broken N" and exit status 3 if N of them
 * ended before they should. Status 4: wrong bytes.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
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

static int tcp_socket(const char *words, struct sockaddr_in *address)
{
    char host[32];
    unsigned port;
    *address = (struct sockaddr_in){.sin_family = AF_INET};
    if (sscanf(words, "%31[^:]:%u", host, &port) != 2 ||
        inet_pton(AF_INET, host, &address->sin_addr) != 1)
        exit(USAGE);
    address->sin_port = htons((uint16_t)port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
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
    struct sockaddr_in in;
    int fd;
    if (strncmp(address, "tcp:", 4) == 0) {
        fd = tcp_socket(address + 4, &in);
        if (connect(fd, (struct sockaddr *)&in, sizeof(in)) < 0)
            fail("connect");
    } else if (strncmp(address, "vsock:", 6) == 0) {
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
    struct sockaddr_in in;
    int fd, ret;
    if (strncmp(address, "tcp:", 4) == 0) {
        fd = tcp_socket(address + 4, &in);
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
        ret = bind(fd, (struct sockaddr *)&in, sizeof(in));
    } else if (strncmp(address, "vsock:", 6) == 0) {
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
    puts("listening");
    fflush(stdout);
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

/* Read and written at once: few system calls, which an emulated machine takes long for. */
#define PIECE_BYTES (256u << 10)
static uint64_t piece[PIECE_BYTES / sizeof(uint64_t)];

/** add_to_sum() - of @bytes of the piece; only the last one may be no multiple of 8. */
static uint64_t add_to_sum(uint64_t sum, size_t bytes)
{
    memset((char *)piece + bytes, 0, -bytes % sizeof(uint64_t));
    for (size_t i = 0; i < (bytes + 7) / 8; i++)
        sum = (sum ^ piece[i]) * 0x100000001b3u + 1; /* as FNV-1a, a word at a time */
    return sum;
}

/** read_piece() - as much as there will be, up to a whole one. */
static size_t read_piece(int fd)
{
    size_t got = 0;
    while (got < PIECE_BYTES) {
        ssize_t n = read(fd, (char *)piece + got, PIECE_BYTES - got);
        if (n < 0)
            fail("read");
        if (n == 0)
            break;
        got += (size_t)n;
    }
    return got;
}

static int drain(const char *address)
{
    int fd = accept(listen_at(address), NULL, NULL);
    if (fd < 0)
        fail("accept");
    uint64_t sum = 0;
    size_t total = 0, n;
    while ((n = read_piece(fd)) > 0) {
        sum = add_to_sum(sum, n);
        total += n;
    }
    printf("drained %zu %016llx\n", total, (unsigned long long)sum);
    return ENDED;
}

static int pour(const char *address, uint64_t seed, size_t bytes)
{
    int fd = open_stream(address);
    uint64_t sum = 0, state = seed * 2 + 1;
    for (size_t left = bytes, n; left; left -= n) {
        n = left < PIECE_BYTES ? left : PIECE_BYTES;
        for (size_t i = 0; i < PIECE_BYTES / sizeof(uint64_t); i++) {
            state ^= state << 13; /* xorshift64 */
            state ^= state >> 7;
            state ^= state << 17;
            piece[i] = state;
        }
        for (size_t at = 0; at < n;) {
            ssize_t put = write(fd, (char *)piece + at, n - at);
            if (put < 0)
                fail("write");
            at += (size_t)put;
        }
        sum = add_to_sum(sum, n);
    }
    char end;
    if (shutdown(fd, SHUT_WR) < 0 || read(fd, &end, 1) != 0)
        fail("the end");
    printf("poured %zu %016llx\n", bytes, (unsigned long long)sum);
    return ENDED;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "echo") == 0)
        echo(argv[2]);
    if (argc == 5 && strcmp(argv[1], "talk") == 0)
        return talk(argv[2], (unsigned)atoi(argv[3]), strtoull(argv[4], NULL, 10));
    if (argc == 3 && strcmp(argv[1], "drain") == 0)
        return drain(argv[2]);
    if (argc == 5 && strcmp(argv[1], "pour") == 0)
        return pour(argv[2], strtoull(argv[3], NULL, 10), strtoull(argv[4], NULL, 10));
    fputs("usage: streams echo ADDRESS | talk ADDRESS COUNT BYTES | drain ADDRESS | pour ADDRESS "
          "SEED BYTES\n",
          stderr);
    return USAGE;
}
