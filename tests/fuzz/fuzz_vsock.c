/*
 * The socket device behind a hostile driver, among host programs that come, talk and go as the input says. The input is a
 * list of steps, a byte each with what it needs behind it: packets whose header fields are mostly plausible, buffers for
 * packets, host programs that connect and say anything, that send, read, shut down or leave, answers of the connector, and
 * turns, in which the device serves its queues.
 *
 * Each packet that the device gives has to be whole, its own, and of a stream within the credit that the driver told, and each
 * stream that the guest began ends at the socket which the connector gave for that port. A device that sleeps with work undone
 * sleeps for ever. The fake queues check that each request comes back once, the sanitizers and guard pages that nothing else was
 * touched.
 */
#include "backends/vsock.h"
#include "base/bytes.h"
#include "base/log.h"
#include "fake_queue.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CID 3u
#define ARENA_BYTES KIB(1024)
#define PROGRAMS_MAX 8
#define REQUESTS_MAX 192 /* batches, and more refusals than the device remembers */
#define STEPS_MAX 400
#define SERVES_MAX 100 /* more than there is to do in a turn */
/* Few, so that packets meet connections. */
#define PORTS 4u

struct input {
    const uint8_t *data;
    size_t size;
};

struct world {
    struct vsock_device device;
    struct vu_queue queues[VSOCK_QUEUES];
    int far_connector;          /* the connector's end of its socket */
    int programs[PROGRAMS_MAX]; /* host programs; -1: none */
    /* Sockets that the connector gave, and the ports that it was asked for. */
    struct {
        ino_t ino;
        uint32_t port;
    } given[STEPS_MAX];
    unsigned n_given;
    uint32_t host_ports[PORTS]; /* that the device chose last */
    struct sockaddr_un address;
    socklen_t address_len;
    uint8_t *arena;
    size_t arena_used;
};

static struct world world;

static void check(bool holds)
{
    if (!holds)
        abort();
}

static uint8_t next(struct input *in)
{
    if (!in->size)
        return 0;
    in->size--;
    return *in->data++;
}

static size_t next_len(struct input *in)
{
    uint8_t low = next(in);
    return low | (size_t)next(in) << 8;
}

/** has_requests() - whether the device could take one of queue @index. */
static bool has_requests(unsigned index)
{
    const struct vu_queue *queue = &world.queues[index];
    return queue->n_popped < queue->n_requests &&
           !(queue->break_after && queue->n_popped == queue->break_after);
}

/** is_done() - nothing that the device has waits for what the driver has given it already. */
static bool is_done(void)
{
    return !(has_requests(VSOCK_TX) && world.device.n_refusals < VSOCK_REFUSALS_MAX) &&
           !(has_requests(VSOCK_RX) && vsock_guest_waits(&world.device)) &&
           !(has_requests(VSOCK_EVENT) && world.device.lost_before);
}

/* A page behind each end of the arena cannot be touched. */
static void set_up(void)
{
    if (world.arena)
        return;
    log_set_level((enum log_level) - 1);
    uint8_t *all =
        mmap(NULL, ARENA_BYTES + 2 * PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(all != MAP_FAILED);
    world.arena = all + PAGE_BYTES;
    check(mprotect(world.arena, ARENA_BYTES, PROT_READ | PROT_WRITE) == 0);
    for (unsigned i = 0; i < VSOCK_QUEUES; i++) {
        check(fake_queue_init(&world.queues[i]) == 0);
        world.queues[i].changes_iov = true;
        world.queues[i].may_stop = is_done;
    }
    /* They are served, and stopped, together. */
    for (unsigned i = 1; i < VSOCK_QUEUES; i++) {
        close(world.queues[i].stop_fd);
        world.queues[i].stop_fd = world.queues[0].stop_fd;
    }
}

/** begin() - a device that has just been made, and nobody who talks to it. */
static void begin(void)
{
    int ends[2];
    world.device = (struct vsock_device){.cid = CID, .connector = VSOCK_CONNECTOR_INIT};
    world.device.listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* In no file system: the kernel chooses a name. */
    world.address = (struct sockaddr_un){.sun_family = AF_UNIX};
    world.address_len = sizeof(world.address);
    check(bind(world.device.listener, (struct sockaddr *)&world.address, sizeof(sa_family_t)) == 0);
    check(listen(world.device.listener, PROGRAMS_MAX) == 0);
    check(getsockname(world.device.listener, (struct sockaddr *)&world.address,
                      &world.address_len) == 0);
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    world.device.connector.fd = ends[0];
    world.far_connector = ends[1];
    world.device.loop = loop_new();
    /* Time does not pass by itself. */
    world.device.timer_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    check(world.device.loop && world.device.timer_fd >= 0 && vsock_host_start(&world.device) == 0);
    for (unsigned i = 0; i < PROGRAMS_MAX; i++)
        world.programs[i] = -1;
    memset(world.host_ports, 0, sizeof(world.host_ports));
    world.n_given = 0;
    for (unsigned i = 0; i < VSOCK_QUEUES; i++)
        fake_queue_rewind(&world.queues[i]);
    world.arena_used = 0;
}

static void end(void)
{
    vsock_drop_all(&world.device);
    check(world.device.n_connections == 0);
    loop_free(world.device.loop);
    close(world.device.timer_fd);
    close(world.device.listener);
    close(world.device.connector.fd);
    close(world.far_connector);
    for (unsigned i = 0; i < PROGRAMS_MAX; i++)
        if (world.programs[i] >= 0)
            close(world.programs[i]);
}

/* --- The driver. --- */

/** take_room() - of the arena; NULL when that is full. */
static uint8_t *take_room(size_t len)
{
    if (len > ARENA_BYTES - world.arena_used)
        return NULL;
    world.arena_used += len;
    return world.arena + world.arena_used - len;
}

/** make_header() - plausible, but for what @how says. */
static void make_header(struct input *in, uint8_t *bytes, size_t data_len)
{
    uint8_t how = next(in), ports = next(in);
    uint32_t host_port = ports & 64 ? world.host_ports[ports & 3] : 1000 + ((ports >> 2) & 3);
    store_le64(bytes, how & 1 ? next(in) : CID);
    store_le64(bytes + 8, how & 2 ? next(in) : VSOCK_CID_HOST);
    store_le32(bytes + 16, 1 + (ports & 3));
    store_le32(bytes + 20, host_port);
    store_le32(bytes + 24, how & 4 ? (uint32_t)next_len(in) << 12 : (uint32_t)data_len);
    store_le16(bytes + 28, how & 8 ? next(in) : VSOCK_TYPE_STREAM);
    store_le16(bytes + 30, next(in) % 10);
    store_le32(bytes + 32, next(in));
    store_le32(bytes + 36, how & 16 ? (uint32_t)next_len(in) << 16 : 65536);
    store_le32(bytes + 40, how & 32 ? (uint32_t)next_len(in) : 0);
}

/** add_packet() - header and data, cut in pieces as the input says. */
static void add_packet(struct input *in)
{
    struct vu_queue *queue = &world.queues[VSOCK_TX];
    size_t data_len = next_len(in) & 0x3fff, len = VSOCK_HEADER_BYTES + data_len;
    uint8_t *bytes = take_room(len);
    if (!bytes || queue->n_requests == REQUESTS_MAX)
        return;
    memset(bytes + VSOCK_HEADER_BYTES, 0x5a, data_len);
    make_header(in, bytes, data_len);
    uint8_t cut = next(in);
    size_t first = cut & 1 ? MIN((size_t)(cut >> 1), len - 1) : 0;
    struct iovec iov[2] = {{bytes, first}, {bytes + first, len - first}};
    if (cut == 255)
        iov[1].iov_len = next(in) % VSOCK_HEADER_BYTES; /* fewer than a header has */
    fake_queue_add(queue, first ? iov : iov + 1, first ? 2 : 1, NULL, 0);
}

static void add_buffer(struct input *in)
{
    struct vu_queue *queue = &world.queues[VSOCK_RX];
    size_t first = next(in), second = next_len(in) & 0x1fff;
    struct iovec iov[2] = {{take_room(first), first}, {take_room(second), second}};
    if (iov[0].iov_base && iov[1].iov_base && queue->n_requests < REQUESTS_MAX)
        fake_queue_add(queue, NULL, 0, iov, 2);
}

static void add_event(void)
{
    struct vu_queue *queue = &world.queues[VSOCK_EVENT];
    struct iovec iov = {take_room(4), 4};
    if (iov.iov_base && queue->n_requests < 4)
        fake_queue_add(queue, NULL, 0, &iov, 1);
}

/** check_packet() - that the device gave in @request. */
static void check_packet(const struct fake_request *request)
{
    uint8_t head[VSOCK_HEADER_BYTES];
    struct iovec iov[2] = {request->iov[0], request->iov[1]};
    struct vsock_iov buffers = {iov, 2};
    struct vsock_header header;
    check(request->written >= sizeof(head));
    check(vsock_packet_parse(&header, &buffers));
    check(header.src_cid == VSOCK_CID_HOST && header.dst_cid == CID);
    check(header.len == request->written - VSOCK_HEADER_BYTES);
    check(header.op >= VSOCK_OP_REQUEST && header.op <= VSOCK_OP_CREDIT_REQUEST);
    check(header.len == 0 || header.op == VSOCK_OP_RW);
    if (header.op == VSOCK_OP_REQUEST)
        world.host_ports[header.dst_port % PORTS] = header.src_port;
}

static ino_t ino_of(int fd)
{
    struct stat st;
    check(fstat(fd, &st) == 0);
    return st.st_ino;
}

/** check_connection() - the guest is connected to whom it asked for. */
static void check_connection(const struct vsock_connection *connection)
{
    check(connection->out.len <= VSOCK_BUFFER_BYTES);
    /* Nothing is forgotten that the guest could be given. */
    bool something =
        connection->owed || (connection->readable && vsock_credit_left(&connection->credit));
    check(!something || connection->ready);
    if (connection->fd < 0)
        return;
    ino_t ino = ino_of(connection->fd);
    unsigned i = 0;
    while (i < world.n_given && world.given[i].ino != ino)
        i++;
    if (i < world.n_given)
        check(connection->host_port == world.given[i].port);
    else /* a host program came by itself */
        check(connection->host_port == 0 || connection->host_port >= 1u << 30);
}

static void check_queues(void)
{
    const struct vu_queue *rx = &world.queues[VSOCK_RX], *tx = &world.queues[VSOCK_TX];
    for (unsigned i = 0; i < rx->n_answered; i++) {
        const struct fake_request *request = &rx->requests[rx->order[i]];
        if (request->written)
            check_packet(request);
        else
            check(request->iov[0].iov_len + request->iov[1].iov_len <= VSOCK_HEADER_BYTES);
    }
    for (unsigned i = 0; i < tx->n_answered; i++)
        check(tx->requests[i].written == 0 && tx->order[i] == i);
    for (unsigned i = 0; i < VSOCK_QUEUES; i++)
        check(world.queues[i].n_popped == world.queues[i].n_answered);
    for (const struct vsock_connection *const *bucket = (const void *)world.device.buckets;
         bucket < (const struct vsock_connection *const *)world.device.buckets + VSOCK_BUCKETS;
         bucket++)
        for (const struct vsock_connection *c = *bucket; c; c = c->next)
            check_connection(c);
}

/**
 * serve() - until the device would sleep, once, and then what has happened on the host. If it slept with work undone nothing would
 * ever wake it. A broken queue would not stop it either.
 */
static void serve(void)
{
    struct vu_queue *queues[VSOCK_QUEUES];
    bool breaks = false;
    for (unsigned i = 0; i < VSOCK_QUEUES; i++) {
        queues[i] = &world.queues[i];
        breaks |= world.queues[i].break_after > 0;
    }
    if (breaks)
        check(eventfd_write(world.queues[0].stop_fd, 1) == 0);
    vsock_run_all(&world.device, queues);
    eventfd_t stopped;
    check(eventfd_read(world.queues[0].stop_fd, &stopped) == 0);
}

/** turn() - the device serves until there is nothing to do. */
static void turn(void)
{
    unsigned n = 0;
    do
        serve();
    while (!is_done() && ++n < SERVES_MAX);
    check(is_done());
    check_queues();
    for (unsigned i = 0; i < VSOCK_QUEUES; i++) {
        fake_queue_rewind(&world.queues[i]);
        world.queues[i].break_after = 0;
    }
    world.arena_used = 0;
}

/* --- The host. --- */

static void connect_program(struct input *in)
{
    unsigned which = next(in) % PROGRAMS_MAX;
    char text[64];
    if (world.programs[which] >= 0)
        close(world.programs[which]);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    check(fd >= 0);
    world.programs[which] = fd;
    if (connect(fd, (struct sockaddr *)&world.address, world.address_len) < 0)
        return;
    int len = 0;
    if (next(in) & 3)
        len = snprintf(text, sizeof(text), "CONNECT %u\n", 1 + next(in) % PORTS);
    else
        for (; len < 40 && in->size; len++)
            text[len] = (char)next(in);
    (void)!send(fd, text, (size_t)len, MSG_NOSIGNAL);
}

static void move_program(struct input *in)
{
    static uint8_t bytes[65536];
    uint8_t what = next(in);
    int *fd = &world.programs[what % PROGRAMS_MAX];
    if (*fd < 0)
        return;
    switch (what >> 6) {
    case 0:
        (void)!send(*fd, bytes, next_len(in), MSG_NOSIGNAL);
        break;
    case 1:
        (void)!recv(*fd, bytes, next_len(in), 0);
        break;
    case 2:
        shutdown(*fd, what & 8 ? SHUT_WR : SHUT_RDWR);
        break;
    default:
        close(*fd);
        *fd = -1;
    }
}

/** give_socket() - @fd in the answer @msg, which @control is for. */
static void give_socket(struct msghdr *msg, struct cmsghdr *control, int fd)
{
    msg->msg_control = control;
    msg->msg_controllen = CMSG_SPACE(sizeof(int));
    *control = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(control), &fd, sizeof(fd));
}

/** answer_connector() - one question, if there is one, or what is no answer. */
static void answer_connector(struct input *in)
{
    static const int errors[] = {ECONNREFUSED, EAGAIN, EMFILE, EPIPE};
    struct {
        uint32_t number, port;
        int32_t code;
    } answer = {0};
    bool asked = recv(world.far_connector, &answer, 8, 0) == 8;
    uint8_t how = next(in);
    if (!asked && how < 250)
        return;
    uint32_t port = answer.port;
    answer.code = how & 1 ? -errors[(how >> 5) % ARRAY_SIZE(errors)] : 0;
    answer.number += how == 254;
    answer.port += how == 252;
    struct iovec iov = {&answer, how == 255 ? 1 : sizeof(answer)};
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    int ends[2] = {-1, -1};
    if (!(how & 3)) {
        check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
        give_socket(&msg, &control.head, ends[0]);
        check(world.n_given < STEPS_MAX);
        world.given[world.n_given].ino = ino_of(ends[0]);
        world.given[world.n_given++].port = port;
    }
    (void)!sendmsg(world.far_connector, &msg, MSG_NOSIGNAL);
    if (ends[0] < 0)
        return;
    int *program = &world.programs[(how >> 2) % PROGRAMS_MAX];
    if (*program >= 0)
        close(*program);
    *program = ends[1];
    close(ends[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    set_up();
    begin();
    for (unsigned i = 0; in.size && i < STEPS_MAX; i++) {
        uint8_t step = next(&in);
        switch (step % 8) {
        case 0:
        case 1:
            add_packet(&in);
            break;
        case 2:
            add_buffer(&in);
            break;
        case 3:
            connect_program(&in);
            break;
        case 4:
            move_program(&in);
            break;
        case 5:
            answer_connector(&in);
            break;
        case 6:
            turn();
            break;
        default:
            if (step & 32)
                world.queues[(step >> 6) % VSOCK_QUEUES].break_after = 1 + next(&in) % 8;
            else if (step & 8 && step & 64)
                world.device.lost_before = true;
            else if (step & 8)
                add_event();
            else
                vsock_host_expire(&world.device, vsock_now_ms() + (step & 16 ? 100000 : 0));
        }
    }
    turn();
    end();
    return 0;
}
