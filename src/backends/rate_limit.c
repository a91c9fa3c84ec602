#include "backends/rate_limit.h"

#include "base/bytes.h"

#define NS_PER_MS 1000000u

/* a * b / c, rounded down or up, without overflow in between; what does not fit is as much as there can be. */
static uint64_t scale(uint64_t a, uint64_t b, uint64_t c, bool up)
{
    unsigned __int128 product = (unsigned __int128)a * b;
    unsigned __int128 result = (product + (up ? c - 1 : 0)) / c;
    return result > UINT64_MAX ? UINT64_MAX : (uint64_t)result;
}

static uint64_t refill_ns(const struct rate_bucket *bucket)
{
    uint64_t ns;
    return __builtin_mul_overflow(bucket->params.refill_ms, NS_PER_MS, &ns) ? UINT64_MAX : ns;
}

static void bucket_init(struct rate_bucket *bucket, const struct rate_bucket_params *params,
                        uint64_t now_ns)
{
    *bucket = (struct rate_bucket){.params = *params, .last_ns = now_ns};
    bucket->burst = params->one_time_burst;
    bucket->level = params->size;
    if (!params->refill_ms)
        bucket->params.size = 0;
}

/* Bring the tokens of the time since last asked; fractions of one stay in the time. */
static void bucket_refill(struct rate_bucket *bucket, uint64_t now_ns)
{
    if (now_ns <= bucket->last_ns)
        return;
    uint64_t size = bucket->params.size, period = refill_ns(bucket);
    uint64_t brought = scale(now_ns - bucket->last_ns, size, period, false);
    if (brought == 0)
        return;
    uint64_t paid = MIN(brought, bucket->debt);
    bucket->debt -= paid;
    brought -= paid;
    if (brought >= size - bucket->level) {
        bucket->level = size;
        bucket->last_ns = now_ns;
    } else {
        bucket->level += brought;
        bucket->last_ns += scale(brought + paid, period, size, false);
    }
}

/* Nanoseconds until @tokens can be taken; 0 if they can now. */
static uint64_t bucket_wait(struct rate_bucket *bucket, uint64_t tokens, uint64_t now_ns)
{
    uint64_t size = bucket->params.size;
    if (!size || tokens <= bucket->burst)
        return 0;
    bucket_refill(bucket, now_ns);
    uint64_t needed = MIN(tokens - bucket->burst, size);
    if (bucket->debt == 0 && needed <= bucket->level)
        return 0;
    uint64_t missing = bucket->debt + (needed - MIN(needed, bucket->level));
    uint64_t wait = scale(missing, refill_ns(bucket), size, true);
    uint64_t elapsed = now_ns > bucket->last_ns ? now_ns - bucket->last_ns : 0;
    return wait > elapsed ? wait - elapsed : 1;
}

/* Take what bucket_wait() found to be there. */
static void bucket_take(struct rate_bucket *bucket, uint64_t tokens)
{
    if (!bucket->params.size)
        return;
    uint64_t of_burst = MIN(tokens, bucket->burst);
    bucket->burst -= of_burst;
    tokens -= of_burst;
    uint64_t of_level = MIN(tokens, bucket->level);
    bucket->level -= of_level;
    bucket->debt += tokens - of_level;
}

void rate_limit_init(struct rate_limit *limit, const struct rate_limit_params *params,
                     uint64_t now_ns)
{
    pthread_mutex_init(&limit->lock, NULL);
    bucket_init(&limit->bandwidth, &params->bandwidth, now_ns);
    bucket_init(&limit->ops, &params->ops, now_ns);
    limit->on = limit->bandwidth.params.size || limit->ops.params.size;
}

uint64_t rate_limit_take(struct rate_limit *limit, uint64_t bytes, uint64_t now_ns)
{
    pthread_mutex_lock(&limit->lock);
    uint64_t wait = bucket_wait(&limit->bandwidth, bytes, now_ns);
    wait = MAX(wait, bucket_wait(&limit->ops, 1, now_ns));
    if (!wait) {
        bucket_take(&limit->bandwidth, bytes);
        bucket_take(&limit->ops, 1);
    }
    pthread_mutex_unlock(&limit->lock);
    return wait;
}
