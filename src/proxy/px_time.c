/*
 * px_time.c - timestamps of the oracle, and what a request has to wait for.
 *
 * CONSISTENCY  Strong reads wait for everything before their beginning, bounded ones for all but
 *              the last seconds, eventual ones for nothing; session and customized reads name their
 *              timestamp. A shard waits for the guarantee itself; here only a guarantee ahead of
 *              the oracle is waited for: no shard can get past a time that does not exist yet.
 * DEFINITIONS  A change of a collection is no record of the log: its nodes are told one after the
 *              other, after it is in metadata and before it is answered. Who looks the collection
 *              up in between, in a change that somebody else makes, can name a field that a shard
 *              has not heard of. No timestamp says when it will have; so it is asked again.
 * THREADS      Any. last_ts only grows; relaxed, as it is a hint that saves a question.
 */
#include "proxy/px_int.h"
#include <stdatomic.h>
#include <time.h>

/* Guarantee timestamps of old clients with a meaning of their own. */
#define TS_STRONG 0
#define TS_EVENTUALLY 1
#define TS_BOUNDED 2

/* How long a read without a deadline waits for the oracle. */
#define WAIT_MAX_MS 60000
#define WAIT_STEP_MS 5
/* How often a shard is asked again that does not know a field: for two seconds, or longer. */
#define BEHIND_MAX 400

enum {
    LEVEL_STRONG = MILVUS__PROTO__COMMON__CONSISTENCY_LEVEL__Strong,
    LEVEL_BOUNDED = MILVUS__PROTO__COMMON__CONSISTENCY_LEVEL__Bounded,
    LEVEL_EVENTUALLY = MILVUS__PROTO__COMMON__CONSISTENCY_LEVEL__Eventually,
};

void px_saw_ts(struct proxy *px, hts ts)
{
    uint64_t seen = atomic_load_explicit(&px->last_ts, memory_order_relaxed);

    while (seen < ts && !atomic_compare_exchange_weak_explicit(&px->last_ts, &seen, ts,
                                                               memory_order_relaxed,
                                                               memory_order_relaxed)) {
    }
}

int px_now_ts(struct px_call *pc, hts *ret, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__AllocReq req = ELANUS__ALLOC_REQ__INIT;
    Elanus__AllocResp resp = ELANUS__ALLOC_RESP__INIT;
    int rc;

    req.count = 1;
    TRY(root->alloc_ts(root->self, &pc->call, &req, &resp, st));
    px_saw_ts(pc->px, resp.first);
    *ret = resp.first;
out:
    return rc;
}

static void pause_ms(int64_t ms)
{
    struct timespec t = { .tv_sec = 0, .tv_nsec = (long)ms * 1000000 };

    net_wait_begin();
    (void)nanosleep(&t, NULL); /* woken early: the caller looks at the clock again */
    net_wait_end();
}

bool px_shard_behind(struct px_call *pc, int *io_asked, int rc, struct status *st)
{
    bool behind = rc == ERR_FIELD_NOT_FOUND || rc == ERR_SCHEMA_MISMATCH;

    if (!behind || pc->call.no_wait || ++*io_asked > BEHIND_MAX ||
        clock_mono_us() >= pc->call.deadline_us ||
        (pc->call.cancel && atomic_load(pc->call.cancel))) {
        return false;
    }
    pause_ms(WAIT_STEP_MS);
    st_clear(st);
    return true;
}

static int lag_error(hts want, hts now, struct status *st)
{
    return st_fail(st, ST_TIMEOUT, "guarantee timestamp %llu lies %lld ms ahead: %s",
                   (unsigned long long)want,
                   (long long)(hts_physical_ms(want) - hts_physical_ms(now)), err_text(11));
}

/* Returns when the oracle has passed ts. */
static int wait_for_oracle(struct px_call *pc, hts ts, struct status *st)
{
    int64_t end = MIN(pc->call.deadline_us, deadline_in_ms(WAIT_MAX_MS));
    hts now;
    int rc = 0;

    if (ts <= atomic_load_explicit(&pc->px->last_ts, memory_order_relaxed)) {
        return 0;
    }
    for (;;) {
        TRY(px_now_ts(pc, &now, st));
        if (ts <= now) {
            break;
        }
        if (pc->call.no_wait) {
            FAIL(st, ST_WOULD_WAIT, "the oracle is behind the guarantee");
        }
        int64_t left_ms = (end - clock_mono_us()) / 1000;
        int64_t gap_ms = hts_physical_ms(ts) - hts_physical_ms(now);
        if (gap_ms >= left_ms) {
            rc = lag_error(ts, now, st);
            goto out;
        }
        if (pc->call.cancel && atomic_load(pc->call.cancel)) {
            FAIL(st, ST_CANCELLED, "the client does not wait any more");
        }
        pause_ms(MIN(MAX(gap_ms, (int64_t)1), (int64_t)WAIT_STEP_MS));
    }
out:
    return rc;
}

static hts bounded(const struct proxy *px, hts now)
{
    int64_t ms = hts_physical_ms(now);

    return ms <= px->lim.graceful_ms ? TS_EVENTUALLY : hts_make(ms - px->lim.graceful_ms, 0);
}

int px_guarantee(struct px_call *pc, const struct px_coll *coll, int level, bool use_default,
                 uint64_t guarantee_ts, bool is_iterator, hts *ret_guarantee, hts *ret_read_ts,
                 struct status *st)
{
    hts guarantee = guarantee_ts, read_ts = 0, now;
    int rc = 0;

    if (use_default) {
        level = coll->pb->consistency_level;
    }
    if (is_iterator && guarantee_ts > TS_BOUNDED) {
        /* The pages of an iterator all look at the first one's snapshot. */
        read_ts = guarantee_ts;
    } else if (!use_default && level == LEVEL_STRONG && guarantee_ts > 0) {
        /* Clients that know no levels say it all with the timestamp. */
        level = guarantee_ts == TS_BOUNDED ? LEVEL_BOUNDED : -1;
    }
    if (read_ts == 0 && (level == LEVEL_STRONG || level == LEVEL_BOUNDED)) {
        TRY(px_now_ts(pc, &now, st));
        guarantee = level == LEVEL_STRONG ? now : bounded(pc->px, now);
    } else if (read_ts == 0 && level == LEVEL_EVENTUALLY) {
        guarantee = TS_EVENTUALLY;
    } else if (guarantee > TS_BOUNDED) {
        TRY(wait_for_oracle(pc, guarantee, st));
    }
    *ret_guarantee = guarantee;
    *ret_read_ts = read_ts;
out:
    return rc;
}
