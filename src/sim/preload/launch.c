/* KVM_MEMORY_ENCRYPT_OP: commands are passed on, and page contents with them. */
#include "sim/preload/preload.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static uint32_t sev_object(uint32_t number)
{
    bool open;
    return entry_id((int)number, SIM_KIND_SEV, &open);
}

/** store_error() - the firmware's status, where the kernel stores one. */
static void store_error(struct abi_sev_cmd *cmd, const struct sim_reply *reply)
{
    if (reply->value[1])
        cmd->error = (uint32_t)reply->value[0];
}

/** readable() - how many of @pages of the program's memory can be read: the kernel says, when it sends a byte of each. */
static uint64_t readable(uint64_t uaddr, uint64_t pages)
{
    struct iovec bytes[SIM_WINDOW_HALF_PAGES + 1];
    for (uint64_t i = 0; i < pages; i++)
        bytes[i] = (struct iovec){.iov_base = (void *)(uaddr + i * SIM_PAGE), .iov_len = 1};
    /* The end of a source that is not page aligned is on one page more. */
    bytes[pages] = (struct iovec){.iov_base = (void *)(uaddr + pages * SIM_PAGE - 1), .iov_len = 1};
    struct exchange x = {.head = {.op = SIM_OP_PROBE}};
    if (exchange_send(&x, bytes, pages + 1) == 0)
        return pages;
    for (uint64_t good = 0; good < pages; good++) {
        struct iovec page = {.iov_base = (void *)(uaddr + good * SIM_PAGE), .iov_len = SIM_PAGE};
        if (exchange_send(&x, &page, 1))
            return good;
    }
    return pages;
}

/* The transfer of one LAUNCH_UPDATE's pages. */
struct transfer {
    const struct entry *vm;
    uint64_t uaddr;
    uint64_t pages;
    bool zero;   /* ZERO pages have no contents */
    uint8_t *to; /* the guest page, NULL where there is no KVM */
    uint64_t sent;
    uint64_t taken;
    uint64_t pending[SIM_WINDOW_HALVES]; /* pages in each half that wait for an answer */
    bool stopped;
};

/** collect() - the answer for one half: what was taken goes into the guest. */
static int collect(struct transfer *t, uint64_t half)
{
    struct exchange x = {0};
    int r = exchange_receive(&x);
    uint64_t taken = r < 0 ? 0 : (uint64_t)r;
    if (taken > t->pending[half])
        return -EIO;
    if (t->to && taken && !t->zero)
        memcpy(t->to + t->taken * SIM_PAGE, connection_window() + half * SIM_WINDOW_HALF,
               taken * SIM_PAGE);
    t->taken += taken;
    if (taken < t->pending[half])
        t->stopped = true;
    t->pending[half] = 0;
    return r < 0 ? r : 0;
}

/** send_half() - fill one half of the window and offer it. */
static int send_half(struct transfer *t, uint64_t half)
{
    uint64_t pages = t->pages - t->sent;
    uint64_t most = t->zero ? SIM_ZERO_PAGES : SIM_WINDOW_HALF_PAGES;
    if (pages > most)
        pages = most;
    uint64_t good = pages;
    if (!t->zero) {
        uint64_t from = t->uaddr + t->sent * SIM_PAGE;
        good = readable(from, pages);
        memcpy(connection_window() + half * SIM_WINDOW_HALF, (const void *)from, good * SIM_PAGE);
    }
    struct exchange x = {
        .head = {.op = SIM_OP_PAGES, .object = t->vm->id, .arg = {half, good, good < pages}}};
    int r = exchange_send(&x, NULL, 0);
    if (r)
        return r;
    t->pending[half] = good;
    t->sent += good;
    if (good < pages)
        t->pages = t->sent;
    return 0;
}

/** send_pages() - one half is filled while the simulator works on the other. */
static int send_pages(struct transfer *t)
{
    uint64_t half = 0;
    bool waiting = false;
    int r = 0;
    while (!r && !t->stopped && t->sent < t->pages) {
        r = send_half(t, half);
        if (!r && waiting)
            r = collect(t, half ^ 1);
        waiting = !r || waiting;
        half ^= 1;
    }
    if (waiting) {
        int last = collect(t, half ^ 1);
        r = r ? r : last;
    }
    return r;
}

/** write_back() - the page that the firmware corrected, to where it came from; the kernel minds an address that is none. */
static void write_back(const struct sim_reply *end)
{
    struct exchange x = {.head = {.op = SIM_OP_FETCH, .arg = {end->value[3]}},
                         .out = (void *)end->value[4],
                         .out_cap = SIM_PAGE};
    if (exchange_send(&x, NULL, 0) == 0)
        exchange_receive(&x);
}

/** update_locked() - the whole of one LAUNCH_UPDATE; @begin: its first message. */
static int update_locked(const struct entry *vm, struct exchange *begin,
                         struct abi_snp_update *params, struct abi_sev_cmd *cmd)
{
    int r = exchange_send(begin, NULL, 0);
    if (!r)
        r = exchange_receive(begin);
    store_error(cmd, &begin->reply);
    if (r < 0)
        return r;
    struct transfer t = {.vm = vm,
                         .uaddr = params->uaddr,
                         .pages = begin->reply.value[2],
                         .zero = params->type == ABI_PAGE_ZERO};
    if (vm->real >= 0)
        t.to = (uint8_t *)begin->reply.value[3];
    r = send_pages(&t);
    if (r)
        return r;
    struct sim_update_end end = {0};
    struct exchange last = {
        .head = {.op = SIM_OP_UPDATE_END, .object = vm->id}, .out = &end, .out_cap = sizeof(end)};
    r = exchange_send(&last, NULL, 0);
    if (!r)
        r = exchange_receive(&last);
    store_error(cmd, &last.reply);
    if (last.reply.value[2])
        write_back(&last.reply);
    if (r < 0)
        return r;
    uint64_t done = (params->len - end.len) / SIM_PAGE;
    if (params->type == ABI_PAGE_ZERO && t.to && done)
        madvise(t.to, done * SIM_PAGE, MADV_REMOVE);
    params->gfn_start = end.gfn_start;
    params->uaddr = end.uaddr;
    params->len = end.len;
    return 0;
}

static int launch_update(const struct entry *vm, struct abi_sev_cmd *cmd)
{
    struct abi_snp_update params;
    if (!cmd->data)
        return -EFAULT;
    memcpy(&params, (const void *)cmd->data, sizeof(params));
    struct exchange begin = {.head = {.op = SIM_OP_UPDATE_BEGIN,
                                      .object = vm->id,
                                      .arg = {cmd->id, sev_object(cmd->sev_fd)}},
                             .payload = &params,
                             .payload_len = sizeof(params)};
    connection_lock();
    int r = update_locked(vm, &begin, &params, cmd);
    connection_unlock();
    if (!r)
        memcpy((void *)cmd->data, &params, sizeof(params));
    return r;
}

/** fetch() - copy from the program, unless the kernel says that it cannot be read. */
static bool fetch(void *to, uint64_t from, size_t len)
{
    struct iovec iov = {.iov_base = (void *)from, .iov_len = len};
    struct exchange x = {.head = {.op = SIM_OP_PROBE}};
    connection_lock();
    bool good = from && exchange_send(&x, &iov, 1) == 0;
    connection_unlock();
    if (good)
        memcpy(to, (const void *)from, len);
    return good;
}

static int launch_finish(const struct entry *vm, struct abi_sev_cmd *cmd)
{
    struct abi_snp_finish params;
    struct sim_finish finish = {0};
    if (!cmd->data)
        return -EFAULT;
    memcpy(&params, (const void *)cmd->data, sizeof(params));
    memcpy(finish.params, &params, sizeof(params));
    finish.stored_sev_object = sev_object(vm->sev_number);
    if (params.id_block_en)
        finish.id_block_fault = !fetch(finish.id_block, params.id_block_uaddr, SIM_ID_BLOCK) ||
                                !fetch(finish.id_auth, params.id_auth_uaddr, SIM_ID_AUTH);
    struct exchange x = {.head = {.op = SIM_OP_SEV_COMMAND,
                                  .object = vm->id,
                                  .arg = {cmd->id, sev_object(cmd->sev_fd)}},
                         .payload = &finish,
                         .payload_len = sizeof(finish)};
    int r = exchange_run(&x);
    store_error(cmd, &x.reply);
    return r;
}

/** other_command() - a command whose parameters are one small structure. */
static int other_command(struct entry *vm, struct abi_sev_cmd *cmd)
{
    uint8_t params[64];
    size_t len = 0;
    if (cmd->id == ABI_SEV_INIT2)
        len = sizeof(struct abi_sev_init);
    else if (cmd->id == ABI_SNP_LAUNCH_START)
        len = sizeof(struct abi_snp_start);
    if (len && !fetch(params, cmd->data, len))
        len = 0;
    struct exchange x = {.head = {.op = SIM_OP_SEV_COMMAND,
                                  .object = vm->id,
                                  .arg = {cmd->id, sev_object(cmd->sev_fd)}},
                         .payload = params,
                         .payload_len = len};
    int r = exchange_run(&x);
    store_error(cmd, &x.reply);
    if (!r && cmd->id == ABI_SNP_LAUNCH_START)
        vm->sev_number = cmd->sev_fd;
    return r;
}

int memory_encrypt_op(struct entry *vm, unsigned long arg)
{
    struct abi_sev_cmd cmd;
    if (!arg)
        return 0; /* sev_mem_enc_ioctl(): asks whether there is SEV */
    memcpy(&cmd, (const void *)arg, sizeof(cmd));
    int r;
    if (cmd.id == ABI_SNP_LAUNCH_UPDATE)
        r = launch_update(vm, &cmd);
    else if (cmd.id == ABI_SNP_LAUNCH_FINISH)
        r = launch_finish(vm, &cmd);
    else
        r = other_command(vm, &cmd);
    memcpy((void *)arg, &cmd, sizeof(cmd));
    return fail(r);
}
