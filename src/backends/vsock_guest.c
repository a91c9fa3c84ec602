/* Packets of the driver's, and for it: virtio 1.2, 5.10.6. */
#include "backends/vsock.h"

#include "base/bytes.h"

#include <errno.h>
#include <sys/uio.h>

#define DATA_MAX (64u << 10) /* of one packet, so that one stream does not hold up the others */

bool vsock_guest_refuse(struct vsock_device *device, const struct vsock_header *header)
{
    if (header->op == VSOCK_OP_RST)
        return true;
    if (device->n_refusals == VSOCK_REFUSALS_MAX)
        return false;
    device->refusals[device->n_refusals++] = (struct vsock_header){
        .src_cid = header->dst_cid,
        .dst_cid = header->src_cid,
        .src_port = header->dst_port,
        .dst_port = header->src_port,
        .type = header->type,
        .op = VSOCK_OP_RST,
    };
    return true;
}

/** reset() - the guest broke the rules of its own stream. */
static void reset(struct vsock_connection *connection)
{
    struct vsock_header header = {
        .src_cid = connection->device->cid,
        .dst_cid = VSOCK_CID_HOST,
        .src_port = connection->guest_port,
        .dst_port = connection->host_port,
        .type = VSOCK_TYPE_STREAM,
        .op = VSOCK_OP_RW,
    };
    vsock_guest_refuse(connection->device, &header);
    vsock_drop(connection);
}

static void request(struct vsock_device *device, const struct vsock_header *header)
{
    struct vsock_connection *connection =
        vsock_add(device, VSOCK_ASKED, header->src_port, header->dst_port);
    if (!connection) {
        vsock_guest_refuse(device, header);
        return;
    }
    vsock_credit_heard(&connection->credit, header->buf_alloc, header->fwd_cnt);
    vsock_host_ask(connection);
}

static void receive(struct vsock_connection *connection, const struct vsock_header *header,
                    struct vsock_iov *data)
{
    bool may = connection->state == VSOCK_CLOSING ||
               (connection->state == VSOCK_OPEN && !(connection->guest_shut & VSOCK_SHUT_SEND));
    if (!may || !vsock_credit_receive(&connection->credit, header->len))
        reset(connection);
    else
        vsock_host_write(connection, data);
}

/** hear_credit() - which every packet tells: there may be room now for what waits. Returns false if it cannot be true. */
static bool hear_credit(struct vsock_connection *connection, const struct vsock_header *header)
{
    if (!vsock_credit_heard(&connection->credit, header->buf_alloc, header->fwd_cnt))
        return false;
    if (connection->readable)
        vsock_make_ready(connection);
    return true;
}

static void act(struct vsock_connection *connection, const struct vsock_header *header,
                struct vsock_iov *data)
{
    switch (header->op) {
    case VSOCK_OP_RESPONSE:
        if (connection->state == VSOCK_REQUESTED)
            vsock_host_accepted(connection);
        else
            reset(connection);
        break;
    case VSOCK_OP_RST:
        vsock_host_end(connection);
        break;
    case VSOCK_OP_SHUTDOWN:
        connection->guest_shut |= header->flags & VSOCK_SHUT_BOTH;
        if (connection->state == VSOCK_CLOSING)
            vsock_owe_only_reset(connection);
        else
            vsock_host_shut(connection);
        break;
    case VSOCK_OP_RW:
        receive(connection, header, data);
        break;
    case VSOCK_OP_CREDIT_REQUEST:
        vsock_owe(connection, VSOCK_OWES_CREDIT);
        break;
    case VSOCK_OP_CREDIT_UPDATE: /* heard already */
        break;
    default:
        reset(connection);
    }
}

void vsock_guest_packet(struct vsock_device *device, const struct vsock_header *header,
                        struct vsock_iov *data)
{
    /* Only its own address is the guest's to send from, and there is nobody but the host to send to. */
    if (header->src_cid != device->cid || header->dst_cid != VSOCK_CID_HOST)
        return;
    if (header->type != VSOCK_TYPE_STREAM) {
        vsock_guest_refuse(device, header);
        return;
    }
    struct vsock_connection *connection = vsock_find(device, header->src_port, header->dst_port);
    if (!connection && header->op == VSOCK_OP_REQUEST)
        request(device, header);
    else if (!connection)
        vsock_guest_refuse(device, header);
    else if (!hear_credit(connection, header))
        reset(connection);
    else
        act(connection, header, data);
}

/** stamp() - a packet's head, with the credit that every packet tells. */
static struct vsock_header stamp(struct vsock_connection *connection, enum vsock_op op)
{
    return (struct vsock_header){
        .src_cid = VSOCK_CID_HOST,
        .dst_cid = connection->device->cid,
        .src_port = connection->host_port,
        .dst_port = connection->guest_port,
        .type = VSOCK_TYPE_STREAM,
        .op = (uint16_t)op,
        .buf_alloc = connection->credit.room,
        .fwd_cnt = vsock_credit_tell(&connection->credit),
    };
}

/** pay() - the first packet that is owed. Returns its length; 0 if none is. After a RST the connection is over. */
static uint32_t pay(struct vsock_connection *connection, struct vsock_iov *buffers)
{
    static const struct {
        unsigned owed;
        enum vsock_op op;
    } packets[] = {
        {VSOCK_OWES_REQUEST, VSOCK_OP_REQUEST},      {VSOCK_OWES_RESPONSE, VSOCK_OP_RESPONSE},
        {VSOCK_OWES_SHUTDOWN, VSOCK_OP_SHUTDOWN},    {VSOCK_OWES_RST, VSOCK_OP_RST},
        {VSOCK_OWES_CREDIT, VSOCK_OP_CREDIT_UPDATE},
    };
    for (size_t i = 0; i < ARRAY_SIZE(packets); i++) {
        if (!(connection->owed & packets[i].owed))
            continue;
        struct vsock_header header = stamp(connection, packets[i].op);
        if (packets[i].op == VSOCK_OP_SHUTDOWN)
            header.flags = connection->our_shut;
        connection->owed &= ~(packets[i].owed | VSOCK_OWES_CREDIT);
        connection->over = packets[i].op == VSOCK_OP_RST;
        vsock_packet_put(&header, buffers);
        return VSOCK_HEADER_BYTES;
    }
    return 0;
}

/** read_host() - into @buffers, behind the header's place. Returns how much; 0 if nothing is to be sent now. */
static uint32_t read_host(struct vsock_connection *connection, struct vsock_iov *buffers)
{
    uint32_t most = MIN(vsock_credit_left(&connection->credit), DATA_MAX);
    if (!connection->readable || !most)
        return 0;
    vsock_iov_limit(buffers, most);
    ssize_t n = readv(connection->fd, buffers->iov, (int)buffers->n);
    if (n > 0)
        return (uint32_t)n;
    connection->readable = false;
    if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        /* Closed, or said only that no more comes: the end of the bytes is the same. */
        connection->our_shut |= VSOCK_SHUT_SEND;
        if (connection->our_shut == VSOCK_SHUT_BOTH || vsock_host_closed(connection)) {
            vsock_host_gone(connection);
            return 0;
        }
        connection->owed |= VSOCK_OWES_SHUTDOWN;
    }
    vsock_host_watch(connection);
    return 0;
}

/** fill() - one packet of @connection's. Returns its length; 0 if it has none. */
static uint32_t fill(struct vsock_connection *connection, struct vsock_iov *buffers)
{
    uint32_t paid = pay(connection, buffers);
    if (paid)
        return paid;
    struct iovec copy[VU_CHAIN_IOV_MAX];
    struct vsock_iov data = {copy, buffers->n};
    memcpy(copy, buffers->iov, buffers->n * sizeof(*copy));
    vsock_iov_skip(&data, VSOCK_HEADER_BYTES);
    uint32_t len = data.n ? read_host(connection, &data) : 0;
    if (!len)
        return pay(connection, buffers);
    struct vsock_header header = stamp(connection, VSOCK_OP_RW);
    header.len = len;
    connection->credit.sent += len;
    vsock_packet_put(&header, buffers);
    return VSOCK_HEADER_BYTES + len;
}

uint32_t vsock_guest_next(struct vsock_device *device, struct vsock_iov *buffers)
{
    if (device->n_refusals) {
        vsock_packet_put(&device->refusals[--device->n_refusals], buffers);
        return VSOCK_HEADER_BYTES;
    }
    struct vsock_connection *connection;
    const struct vsock_connection *first_full = NULL; /* there is no room for its bytes */
    while ((connection = vsock_take_ready(device)) != NULL) {
        if (connection == first_full) {
            vsock_make_ready(connection);
            return 0;
        }
        uint32_t len = fill(connection, buffers);
        if (connection->over)
            vsock_drop(connection);
        else if (connection->owed ||
                 (connection->readable && vsock_credit_left(&connection->credit)))
            vsock_make_ready(connection);
        if (len)
            return len;
        if (connection->ready && !first_full)
            first_full = connection;
    }
    return 0;
}

bool vsock_guest_waits(const struct vsock_device *device)
{
    return device->n_refusals || device->first_ready;
}
