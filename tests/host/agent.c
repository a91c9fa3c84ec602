/*
 * The test host's agent: runs commands for the tests, over one byte stream.
 *
 * Frames in both directions: u32 process, u8 kind, u32 length (little-endian), then length bytes. The tests choose the
 * process numbers.
 *
 *   to the agent   'S' start: u8 flags (START_PTY), then a command for /bin/sh -c
 *                  'I' bytes for its standard input      'E' end of its standard input
 *                  'K' signal: u8 number, u8 1 for its whole process group, 0 for itself alone
 *                  'W' size of its terminal's window: u16 columns, u16 rows
 *   from the agent 'H' hello, once                       'X' ended: u32 exit status, or 128 + signal
 *                  'O' from its standard output, 'R' standard error, 'V' descriptor 3
 *
 * With START_PTY descriptors 0 to 2 are a terminal, and 'O' is what it shows. A process that ends has all it wrote
 * reported before its 'X'. When the stream ends, everything that was started is killed.
 *
 * usage: agent PATH|FD            the stream, a device or an inherited descriptor
 *        agent connect PATH       instead: standard input and output to and from a UNIX socket or a terminal, until that
 *                                 closes (cat(1) is no substitute: it splices a terminal to a pipe, and while it waits for
 *                                 the terminal the kernel lets nobody read the pipe)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_PROCESSES 64
#define MAX_FRAME (1u << 20)
#define START_PTY 1
/* An emulated machine can lose the interrupt of its serial port; asking the port again finds what came. */
#define LOOK_AGAIN_MS 200

enum { STDOUT, STDERR, EVENTS, STREAMS };
static const char stream_kind[STREAMS] = {'O', 'R', 'V'};

struct frame_head {
    uint32_t process;
    uint8_t kind;
    uint32_t length;
} __attribute__((packed));

struct process {
    bool used;
    bool end_input; /* close the input once what is queued is written */
    uint32_t number;
    pid_t pid;
    int input;
    int stream[STREAMS];
    uint8_t *queued; /* input not yet taken: from queued_at to queued_len */
    size_t queued_at;
    size_t queued_len;
};

static struct process processes[MAX_PROCESSES];
static int channel;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* For the channel, which does not block: waiting inside of the kernel would be for an interrupt that may be lost. */
static void wait_for(short events)
{
    struct pollfd wait = {.fd = channel, .events = events};
    poll(&wait, 1, LOOK_AGAIN_MS);
}

static void write_all(const void *data, size_t len)
{
    const uint8_t *at = data;
    while (len > 0) {
        ssize_t done = write(channel, at, len);
        if (done < 0 && errno == EAGAIN) {
            wait_for(POLLOUT);
        } else if (done < 0 && errno != EINTR) {
            die("agent: writing to the tests");
        } else if (done > 0) {
            at += done;
            len -= (size_t)done;
        }
    }
}

static void send_frame(uint32_t process, char kind, const void *data, size_t len)
{
    struct frame_head head = {.process = process, .kind = (uint8_t)kind, .length = (uint32_t)len};
    write_all(&head, sizeof(head));
    write_all(data, len);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* Reports what a stream holds now. False once it has ended. */
static bool forward(struct process *process, int stream)
{
    uint8_t data[16384];
    for (;;) {
        ssize_t got = read(process->stream[stream], data, sizeof(data));
        if (got > 0) {
            send_frame(process->number, stream_kind[stream], data, (size_t)got);
        } else if (got < 0 && errno == EINTR) {
            continue;
        } else {
            return got < 0 && errno == EAGAIN;
        }
    }
}

static void feed(struct process *process)
{
    while (process->queued_at < process->queued_len) {
        ssize_t done = write(process->input, process->queued + process->queued_at,
                             process->queued_len - process->queued_at);
        if (done < 0 && errno == EAGAIN)
            return;
        if (done < 0) { /* it no longer reads: nobody will miss the rest */
            process->end_input = true;
            break;
        }
        process->queued_at += (size_t)done;
    }
    process->queued_at = process->queued_len = 0;
    if (process->end_input && process->input != process->stream[STDOUT])
        close_fd(&process->input);
}

static void queue_input(struct process *process, const uint8_t *data, size_t len)
{
    if (process->input < 0)
        return;
    process->queued = realloc(process->queued, process->queued_len + len);
    if (process->queued == NULL)
        die("agent: memory");
    memcpy(process->queued + process->queued_len, data, len);
    process->queued_len += len;
    feed(process);
}

static void forget(struct process *process)
{
    /* A terminal's one descriptor is both its input and its output. */
    if (process->input == process->stream[STDOUT])
        process->input = -1;
    close_fd(&process->input);
    for (int i = 0; i < STREAMS; i++)
        close_fd(&process->stream[i]);
    free(process->queued);
    *process = (struct process){0};
}

static void make_pipe(int fds[2])
{
    if (pipe2(fds, O_CLOEXEC) < 0)
        die("agent: pipe");
}

static void nonblocking(int fd)
{
    if (fd >= 0)
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

/* The child's side: its descriptors in place, then the shell. */
static void become(const char *command, const int in[2], int out[STREAMS][2], bool pty)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (!pty) {
        setsid();
        dup2(in[0], 0);
        dup2(out[STDOUT][1], 1);
        dup2(out[STDERR][1], 2);
    }
    if (out[EVENTS][1] == 3)
        fcntl(3, F_SETFD, 0);
    else
        dup2(out[EVENTS][1], 3);
    execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    _exit(127);
}

static void start(struct process *process, uint8_t flags, const char *command)
{
    bool pty = flags & START_PTY;
    int in[2] = {-1, -1};
    int out[STREAMS][2] = {{-1, -1}, {-1, -1}, {-1, -1}};
    int terminal = -1;

    make_pipe(out[EVENTS]);
    if (!pty) {
        make_pipe(in);
        make_pipe(out[STDOUT]);
        make_pipe(out[STDERR]);
    }
    process->pid = pty ? forkpty(&terminal, NULL, NULL, NULL) : fork();
    if (process->pid < 0)
        die("agent: fork");
    if (process->pid == 0)
        become(command, in, out, pty);
    close_fd(&in[0]);
    for (int i = 0; i < STREAMS; i++) {
        close_fd(&out[i][1]);
        process->stream[i] = out[i][0];
        nonblocking(process->stream[i]);
    }
    process->input = in[1];
    if (pty) {
        fcntl(terminal, F_SETFD, FD_CLOEXEC);
        process->input = terminal;
        process->stream[STDOUT] = terminal;
    }
    nonblocking(process->input);
}

static struct process *find(uint32_t number)
{
    for (int i = 0; i < MAX_PROCESSES; i++)
        if (processes[i].used && processes[i].number == number)
            return &processes[i];
    return NULL;
}

static void handle(const struct frame_head *head, const uint8_t *data)
{
    struct process *process = find(head->process);
    if (head->kind == 'S' && process == NULL && head->length > 0) {
        for (int i = 0; i < MAX_PROCESSES && process == NULL; i++)
            if (!processes[i].used)
                process = &processes[i];
        if (process == NULL)
            die("agent: too many processes");
        *process = (struct process){.used = true, .number = head->process};
        start(process, data[0], (const char *)data + 1);
        return;
    }
    if (process == NULL) /* it has just ended */
        return;
    if (head->kind == 'I') {
        queue_input(process, data, head->length);
    } else if (head->kind == 'E') {
        process->end_input = true;
        feed(process);
    } else if (head->kind == 'K' && head->length == 2) {
        kill(data[1] ? -process->pid : process->pid, data[0]);
    } else if (head->kind == 'W' && head->length == 4) {
        struct winsize size = {.ws_col = (unsigned short)(data[0] | data[1] << 8),
                               .ws_row = (unsigned short)(data[2] | data[3] << 8)};
        ioctl(process->input, TIOCSWINSZ, &size);
    }
}

static void read_all(void *data, size_t len)
{
    uint8_t *at = data;
    while (len > 0) {
        ssize_t got = read(channel, at, len);
        if (got < 0 && errno == EAGAIN)
            wait_for(POLLIN);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got <= 0) { /* the tests are gone */
            for (int i = 0; i < MAX_PROCESSES; i++)
                if (processes[i].used)
                    kill(-processes[i].pid, SIGKILL);
            exit(0);
        }
        at += got;
        len -= (size_t)got;
    }
}

static void receive(void)
{
    static uint8_t data[MAX_FRAME + 1];
    struct frame_head head;
    read_all(&head, sizeof(head));
    if (head.length > MAX_FRAME)
        die("agent: oversized frame");
    read_all(data, head.length);
    data[head.length] = 0;
    handle(&head, data);
}

/* Reports what has ended. Orphans are collected too: in the test host the agent is the first process. */
static void reap(int signals)
{
    struct signalfd_siginfo info;
    while (read(signals, &info, sizeof(info)) == sizeof(info))
        continue;
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (int i = 0; i < MAX_PROCESSES; i++) {
            struct process *process = &processes[i];
            if (!process->used || process->pid != pid)
                continue;
            for (int stream = 0; stream < STREAMS; stream++)
                if (process->stream[stream] >= 0)
                    forward(process, stream);
            uint32_t code = WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status)
                                              : 128u + (uint32_t)WTERMSIG(status);
            send_frame(process->number, 'X', &code, sizeof(code));
            forget(process);
        }
    }
}

static void serve_process(struct process *process, const struct pollfd *polled)
{
    if (polled[0].revents & (POLLOUT | POLLERR) && process->input >= 0)
        feed(process);
    for (int i = 0; i < STREAMS; i++) {
        if (polled[1 + i].revents == 0 || process->stream[i] < 0 || forward(process, i))
            continue;
        if (process->input == process->stream[i])
            process->input = -1;
        close_fd(&process->stream[i]);
    }
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat st;
    bool terminal = stat(path, &st) == 0 && S_ISCHR(st.st_mode);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
    channel = terminal ? open(path, O_RDWR | O_NOCTTY) : socket(AF_UNIX, SOCK_STREAM, 0);
    if (channel < 0)
        die(path);
    if (!terminal && connect(channel, (struct sockaddr *)&address, sizeof(address)) < 0)
        die(path);
    struct pollfd polled[2] = {{.fd = 0, .events = POLLIN}, {.fd = channel, .events = POLLIN}};
    for (;;) {
        char data[4096];
        poll(polled, 2, -1);
        if (polled[0].revents) {
            ssize_t got = read(0, data, sizeof(data));
            if (got > 0)
                write_all(data, (size_t)got);
            else
                polled[0].fd = -1;
        }
        if (polled[1].revents) {
            ssize_t got = read(channel, data, sizeof(data));
            if (got <= 0)
                return 0;
            if (write(1, data, (size_t)got) != got)
                die("standard output");
        }
    }
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "connect") == 0)
        return connect_to(argv[2]);
    if (argc != 2)
        return 2;
    channel = argv[1][0] == '/' ? open(argv[1], O_RDWR | O_CLOEXEC) : atoi(argv[1]);
    if (channel < 0)
        die(argv[1]);
    fcntl(channel, F_SETFD, FD_CLOEXEC);
    nonblocking(channel);
    signal(SIGPIPE, SIG_IGN);
    sigset_t mask;
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_BLOCK, &mask, NULL);
    int signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals < 0)
        die("agent: signalfd");
    send_frame(0, 'H', NULL, 0);

    for (;;) {
        struct pollfd polled[2 + MAX_PROCESSES * (1 + STREAMS)];
        polled[0] = (struct pollfd){.fd = channel, .events = POLLIN};
        polled[1] = (struct pollfd){.fd = signals, .events = POLLIN};
        for (int i = 0; i < MAX_PROCESSES; i++) {
            struct process *process = &processes[i];
            struct pollfd *of = &polled[2 + i * (1 + STREAMS)];
            bool fed = process->used && process->queued_len > 0;
            of[0] = (struct pollfd){.fd = fed ? process->input : -1, .events = POLLOUT};
            for (int stream = 0; stream < STREAMS; stream++)
                of[1 + stream] = (struct pollfd){.fd = process->used ? process->stream[stream] : -1,
                                                 .events = POLLIN};
        }
        if (poll(polled, sizeof(polled) / sizeof(polled[0]), LOOK_AGAIN_MS) < 0 && errno != EINTR)
            die("agent: poll");
        for (int i = 0; i < MAX_PROCESSES; i++)
            if (processes[i].used)
                serve_process(&processes[i], &polled[2 + i * (1 + STREAMS)]);
        if (polled[1].revents)
            reap(signals);
        if (polled[0].revents)
            receive();
    }
}
