/* co_compact.h - what the two halves of compaction share: co_compact.c decides what is rewritten and
 * when, co_rewrite.c does one. */
#pragma once
#include "coord/co_int.h"
#include "base/metrics.h"
#include "schema/types.h"

/* One rewriting: waits, runs, or is over and remembered for who asked. */
struct plan {
    struct coord *co;
    struct arena *ar;            /* of what does not change */
    int64_t id, trigger;         /* trigger: the request's id; 0: nobody asked */
    int64_t collection_id, partition_id;
    const char *vchannel;
    size_t nsources;
    const int64_t *sources;
    bool expired;                /* chosen because no row is kept: not to be merged instead */
    /* Behind co->compacts->lock, from here. */
    enum { PLAN_WAITS, PLAN_RUNS, PLAN_ENDED, PLAN_GAVE_UP } state;
    bool ended;                  /* its thread can be joined */
    bool committed;              /* the store has the change, a shard is still to be told */
    int tries;
    int64_t due_ms;              /* waits: not before; gave up: its segments are left alone until */
    int64_t target_id, node_id;
    struct status why;
    struct thread *thread;
    _Atomic bool cancel;
    struct co_swap *swap;        /* of the thread: kept from the commit until the shard is told */
};

/* A request that waits until no plan of its collection is under way: what it is to merge is being
 * rewritten. */
struct asked {
    int64_t id;
    size_t nids;                 /* numbers of its plans: id + 1 .. id + nids */
    struct arena *ar;
    Elanus__CompactSegmentsReq *req;
};

struct co_compacts {
    struct lock lock;            /* RANK_COORD_PLANS */
    struct cond wake;
    bool woken, stop;
    size_t n, cap;
    struct plan **v;             /* oldest first */
    size_t nasked, asked_cap;
    struct asked *asked;         /* oldest first */
    int64_t next_id, end_id;     /* for plans of our own; the thread's alone */
    struct thread *thread;
    bool enabled, automatic;
    int64_t max_bytes, retention_ms;
    size_t per_node;
    struct measure *done, *failed, *rows_in, *rows_out;
};

/* ---- co_rewrite.c ---- */

/* Carries a plan out, or goes on where it stopped. On the plan's own thread. *ret_moot: nobody wants
 * it any more. */
int co__rewrite(struct plan *t, bool *ret_moot, struct status *st);
void co__swap_free(struct co_swap *sw);
/* Milliseconds rows of the collection are kept; 0: for ever. */
int64_t co__ttl_ms(const struct co_coll *c);
/* The index in whose order rows of the collection are laid, the one of the lowest field; NULL: none. */
const Elanus__Index *co__order_index(const struct co_coll *c);
/* Whether deletes of the file may concern rows in the segment's files. */
bool co__delta_concerns(const Elanus__Delta *d, const Elanus__Segment *seg);
