/*
 * co_txn.c - a change: one metadata transaction, then the same change to the tables.
 *
 * Records for the tables are decoded before the transaction, so nothing can fail once the store
 * has taken it. A transaction whose outcome is not known (the store failed while it answered) is
 * read back: it is atomic, so one of its keys tells. When even that fails the tables may be behind
 * the store, and the coordinator refuses further changes until it is started again.
 * THREADS   `commit` is held from the transaction to the end of its effect; see co_int.h.
 */
#include "coord/co_int.h"

#define LOG_ROOM "coord"
#include "base/log.h"

#define TXN_BYTES_MAX ((size_t)META_VALUE_MAX)

void co__txn_init(struct co_txn *tx, struct coord *co, struct arena *ar)
{
    *tx = (struct co_txn){ .co = co, .ar = ar };
}

static void txn_reset(struct co_txn *tx)
{
    for (size_t i = 0; i < tx->n; i++) {
        co__rec_free(tx->ops[i].rec);
    }
    tx->n = tx->nmops = tx->nconds = 0;
    st_clear(&tx->st);
}

void co__txn_done(struct co_txn *tx)
{
    txn_reset(tx);
    mem_free(tx->ops);
    mem_free(tx->mops);
    mem_free(tx->conds);
    *tx = (struct co_txn){ 0 };
}

void co__raw(struct co_txn *tx, struct meta_op op)
{
    if (tx->nmops == tx->mops_cap) {
        tx->mops_cap = tx->mops_cap ? tx->mops_cap * 2 : 8;
        tx->mops = xrealloc(tx->mops, tx->mops_cap * sizeof *tx->mops);
    }
    tx->mops[tx->nmops++] = op;
}

void co__cond(struct co_txn *tx, struct meta_cond cond)
{
    if (tx->nconds == tx->conds_cap) {
        tx->conds_cap = tx->conds_cap ? tx->conds_cap * 2 : 4;
        tx->conds = xrealloc(tx->conds, tx->conds_cap * sizeof *tx->conds);
    }
    tx->conds[tx->nconds++] = cond;
}

static void add_op(struct co_txn *tx, struct co_op op)
{
    if (tx->n == tx->cap) {
        tx->cap = tx->cap ? tx->cap * 2 : 8;
        tx->ops = xrealloc(tx->ops, tx->cap * sizeof *tx->ops);
    }
    tx->ops[tx->n++] = op;
}

void co__put(struct co_txn *tx, enum co_kind kind, const void *pb)
{
    struct slice key = { 0 }, value = { 0 };
    struct co_rec *rec = NULL;
    struct buf b;

    if (tx->st.code != 0) {
        return;
    }
    buf_init(&b, TXN_BYTES_MAX);
    if (co__key(kind, pb, tx->ar, &key, &tx->st) == 0) {
        if (!proto_pack(pb, &b)) {
            st_fail(&tx->st, ST_TOO_LARGE, "%.*s has more than %zu bytes", SLICE_ARG(key),
                    TXN_BYTES_MAX);
        } else {
            value = arena_copy(tx->ar, buf_slice(&b));
            if (value.n > 0 && !value.p) {
                st_fail(&tx->st, ST_NO_MEMORY, "no memory for %zu bytes of metadata", value.n);
            } else if (co__rec_new(kind, value, &rec, &tx->st) == 0) {
                add_op(tx, (struct co_op){ .kind = kind, .pb = rec->pb, .rec = rec });
                co__raw(tx, meta_op_put(key, value));
            }
        }
    }
    buf_done(&b);
}

void co__delete(struct co_txn *tx, enum co_kind kind, const void *pb)
{
    struct slice key = { 0 };

    if (tx->st.code == 0 && co__key(kind, pb, tx->ar, &key, &tx->st) == 0) {
        add_op(tx, (struct co_op){ .kind = kind, .del = true, .pb = pb });
        co__raw(tx, meta_op_delete(key));
    }
}

size_t co__txn_room(const struct co_txn *tx)
{
    return (size_t)META_TXN_OPS_MAX - MIN(tx->nmops, (size_t)META_TXN_OPS_MAX);
}

/* After an answer that tells nothing: whether the transaction happened. */
static int learn_outcome(struct co_txn *tx, bool *ret_done, int64_t *ret_revision,
                         struct status *st)
{
    const struct meta_op *probe = NULL;
    struct meta_item item;
    int rc = 0;

    for (size_t i = 0; i < tx->nmops; i++) {
        if (tx->mops[i].kind == META_PUT) {
            probe = &tx->mops[i];
            break;
        }
        if (tx->mops[i].kind == META_DELETE) {
            probe = &tx->mops[i];
        }
    }
    if (!probe) {
        FAIL(st, ST_UNAVAILABLE, "the outcome of a deletion is not known");
    }
    TRY(meta_get(tx->co->opts.meta, probe->key, tx->ar, &item, st));
    *ret_done = probe->kind == META_PUT ? item.version != 0 && slice_eq(item.value, probe->value)
                                        : item.version == 0;
    *ret_revision = item.version;
out:
    return rc;
}

static int run(struct co_txn *tx, int64_t *ret_revision, struct status *st)
{
    struct coord *co = tx->co;
    struct status read_st = STATUS_INIT;
    bool done = false;
    int rc = meta_txn(co->opts.meta, tx->conds, tx->nconds, tx->mops, tx->nmops, ret_revision, st);

    /* Room that was wanting may have been wanting for the answer only. */
    if (rc != ST_IO && rc != ST_UNAVAILABLE && rc != ST_NO_SPACE) {
        return rc;
    }
    if (learn_outcome(tx, &done, ret_revision, &read_st) != 0) {
        co->unsure = true;
        LOG_E("metadata outcome unknown, changes refused until a restart: error=\"%s\" read=\"%s\"",
              st->msg, read_st.msg);
    } else if (done) {
        st_clear(st);
        return 0;
    }
    return rc;
}

int co__commit_locked(struct co_txn *tx, struct status *st)
{
    struct coord *co = tx->co;
    int64_t revision = 0;
    int rc = 0;

    if (tx->st.code != 0) {
        *st = tx->st;
        rc = st->code;
        goto out;
    }
    if (tx->nmops == 0) {
        goto out;
    }
    if (co->unsure) {
        FAIL(st, ST_UNAVAILABLE, "the metadata store failed during a change: restart needed");
    }
    TRY(run(tx, &revision, st));
    rwlock_write(&co->state);
    for (size_t i = 0; i < tx->n; i++) {
        if (tx->ops[i].del) {
            co__apply_delete(co, tx->ops[i].kind, tx->ops[i].pb);
        } else {
            tx->ops[i].rec->version = revision;
            co__apply_put(co, tx->ops[i].kind, TAKE(tx->ops[i].rec));
        }
    }
    rwlock_release(&co->state);
out:
    txn_reset(tx);
    return rc;
}

int co__commit(struct co_txn *tx, struct status *st)
{
    int rc;

    lock_acquire(&tx->co->commit);
    rc = co__commit_locked(tx, st);
    lock_release(&tx->co->commit);
    return rc;
}
