#include "backends/vsock_credit.h"

#include "base/bytes.h"

#define ROOM_MAX (1u << 30) /* so that a count that went back is told from one that ran ahead */

bool vsock_credit_heard(struct vsock_credit *credit, uint32_t buf_alloc, uint32_t fwd_cnt)
{
    uint32_t under_way = credit->sent - credit->peer_forwarded;
    uint32_t taken = fwd_cnt - credit->peer_forwarded;
    credit->peer_room = MIN(buf_alloc, ROOM_MAX);
    /* A driver's threads write headers at the same time and may queue them the other way round: a count may be old. */
    if (taken > UINT32_MAX / 2)
        return true;
    if (taken > under_way)
        return false;
    credit->peer_forwarded = fwd_cnt;
    return true;
}

uint32_t vsock_credit_left(const struct vsock_credit *credit)
{
    uint32_t under_way = credit->sent - credit->peer_forwarded;
    /* A peer may make its room smaller than what is in it. */
    return under_way < credit->peer_room ? credit->peer_room - under_way : 0;
}

bool vsock_credit_receive(struct vsock_credit *credit, uint32_t len)
{
    if (len > credit->room - (credit->received - credit->forwarded))
        return false;
    credit->received += len;
    return true;
}

uint32_t vsock_credit_tell(struct vsock_credit *credit)
{
    return credit->told = credit->forwarded;
}

bool vsock_credit_due(const struct vsock_credit *credit)
{
    uint32_t known = credit->room - (credit->received - credit->told);
    return credit->told != credit->forwarded && known < credit->room / 2;
}
