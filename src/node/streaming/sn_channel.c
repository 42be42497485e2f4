/*
 * sn_channel.c - the sequencer of one physical channel: queue, timestamps, log, apply, acknowledge.
 *
 * WHAT      Writers put a decoded message in the queue and wait. The sequencer takes all that is
 *           there (within bounds), gets that many timestamps in one call, appends all records with
 *           one sync, applies them and wakes the writers: group commit without a timer.
 * INVARIANTS  `busy` is set, under the lock, before timestamps are taken, and cleared after the
 *             batch is applied. So a reader who holds a timestamp T from the oracle and finds the
 *             channel not busy knows that every message with a timestamp <= T is applied; if busy,
 *             the batch in flight is the only one that may have some, and waiting for its epoch is
 *             enough.
 * THREADS   The lock covers queue, busy, epoch and completion; no call is made under it.
 * FAILURE   Before the append: the message fails, nothing happened. The append itself fails: the
 *           batch fails. After it: memory that cannot follow the log marks the shard failed: reads
 *           and writes answer with the reason, and its part of the log stays for the next start.
 */
#include "node/streaming/sn_int.h"
#include "base/alloc.h"
#include "base/fault.h"
#include "base/log.h"
#include "schema/errors.h"
#include <stdio.h>

#define LOG_ROOM "node"

#define BATCH_MESSAGES 1024u
#define BATCH_BYTES ((size_t)64 << 20)
#define QUEUE_MESSAGES 65536u
#define QUEUE_BYTES ((size_t)1 << 30)
#define ID_STOCK 16u
/* A segment holds 64 Mi rows, and one batch of the log may bring some millions more. */
#define SEGMENT_ROWS_MAX (40u << 20)

/* ---- queue ---- */

int sn__submit(struct sn_channel *ch, struct sn_msg *m, struct status *st)
{
    m->next = NULL;
    m->done = false;
    cond_init(&m->cond);
    lock_acquire(&ch->lock);
    if (ch->stop || ch->queued >= QUEUE_MESSAGES || ch->queued_bytes + m->bytes > QUEUE_BYTES) {
        bool stop = ch->stop;
        lock_release(&ch->lock);
        cond_done(&m->cond);
        return stop ? st_fail(st, ST_NOT_READY, "the server is stopping")
                    : st_fail(st, ST_BUSY, "the write queue is full: try again later");
    }
    if (ch->tail) {
        ch->tail->next = m;
    } else {
        ch->head = m;
        cond_signal(&ch->wake);
    }
    ch->tail = m;
    ch->queued++;
    ch->queued_bytes += m->bytes;
    net_wait_begin();
    while (!m->done) {
        cond_wait(&m->cond, &ch->lock);
    }
    lock_release(&ch->lock);
    net_wait_end();
    cond_done(&m->cond); /* the sequencer signalled under the lock and is done with m */
    if (m->st.code != 0) {
        *st = m->st;
    }
    return m->st.code;
}

int sn__control(struct sn_channel *ch, struct sn_shard *sh,
                int (*fn)(struct sn_channel *ch, struct sn_msg *m), void *arg, struct status *st)
{
    struct sn_msg m = { .shard = sh, .control = fn, .arg = arg };
    return sn__submit(ch, &m, st);
}

/* Takes a run of writes, or one control message. NULL when stopping and nothing is left. */
static struct sn_msg *take_batch(struct sn_channel *ch, size_t *ret_n)
{
    struct sn_msg *first, *last;
    size_t n = 1, bytes;

    lock_acquire(&ch->lock);
    while (!ch->head && !ch->stop) {
        cond_wait(&ch->wake, &ch->lock);
    }
    first = last = ch->head;
    if (!first) {
        lock_release(&ch->lock);
        return NULL;
    }
    bytes = first->bytes;
    if (!first->control) {
        while (last->next && !last->next->control && n < BATCH_MESSAGES &&
               bytes + last->next->bytes <= BATCH_BYTES) {
            last = last->next;
            bytes += last->bytes;
            n++;
        }
        ch->busy = true;
    }
    ch->head = last->next;
    if (!ch->head) {
        ch->tail = NULL;
    }
    last->next = NULL;
    ch->queued -= n;
    ch->queued_bytes -= bytes;
    lock_release(&ch->lock);
    *ret_n = n;
    return first;
}

/* A message belongs to its writer again as soon as it is done: read `next` before. */
static void complete(struct sn_channel *ch, struct sn_msg *list, bool batch, hts applied)
{
    lock_acquire(&ch->lock);
    if (batch) {
        if (applied > ch->applied_ts) {
            ch->applied_ts = applied;
        }
        ch->busy = false;
        ch->epoch++;
        cond_broadcast(&ch->applied);
    }
    while (list) {
        struct sn_msg *next = list->next;
        list->done = true;
        cond_signal(&list->cond);
        list = next;
    }
    lock_release(&ch->lock);
}

/* ---- one batch ---- */

int sn__take_timestamps(struct sn_channel *ch, size_t n, struct arena *ar, hts *ret,
                        struct status *st)
{
    const struct root_service *root = ch->sn->opts.root;
    struct call call = call_internal(ar);
    Elanus__AllocReq req;
    Elanus__AllocResp resp;
    int rc;

    elanus__alloc_req__init(&req);
    elanus__alloc_resp__init(&resp);
    req.count = (uint32_t)n;
    TRY(root->alloc_ts(root->self, &call, &req, &resp, st));
    *ret = resp.first;
out:
    return rc;
}

int sn__take_id(struct sn_channel *ch, struct arena *ar, int64_t *ret, struct status *st)
{
    const struct root_service *root = ch->sn->opts.root;
    struct call call = call_internal(ar);
    Elanus__AllocReq req;
    Elanus__AllocResp resp;
    int rc = 0;

    if (ch->next_id == ch->ids_end) {
        elanus__alloc_req__init(&req);
        elanus__alloc_resp__init(&resp);
        req.count = ID_STOCK;
        TRY(root->alloc_id(root->self, &call, &req, &resp, st));
        ch->next_id = (int64_t)resp.first;
        ch->ids_end = (int64_t)resp.first + resp.count;
    }
    *ret = ch->next_id++;
out:
    return rc;
}

/* The open growing segment of a partition, made when there is none. */
static int assign_segment(struct sn_channel *ch, struct sn_shard *sh, int64_t partition_id,
                          struct arena *ar, int64_t *ret, struct status *st)
{
    struct sn_growing *g;
    int64_t id;
    int rc = 0;

    for (size_t i = 0; i < sh->ngrowing; i++) {
        g = &sh->growing[i];
        if (g->partition_id != partition_id || g->sealed) {
            continue;
        }
        if (g->nrows < SEGMENT_ROWS_MAX) {
            *ret = g->id;
            goto out;
        }
        g->sealed = true;
        sn__flush_queue(ch->sn, sh);
    }
    TRY(sn__take_id(ch, ar, &id, st));
    TRY(sn__growing_add(sh, id, partition_id, &g, st));
    sn__view_publish(sh); /* readers know the segment before it has rows */
    *ret = id;
out:
    return rc;
}

/* Everything that could make the record unusable is found out now. */
static int check_write(const struct sn_shard *sh, const struct sn_msg *m, struct status *st)
{
    const struct sn_record *r = &m->record;
    const struct field *pk = sh->schema->pk;
    int rc = 0;

    if (sh->dropped) {
        FAIL(st, ERR_COLLECTION_NOT_FOUND, "collection not found[collection=%lld]",
             (long long)sh->collection_id);
    }
    if (sh->failed.code != 0) {
        *st = sh->failed;
        rc = st->code;
        goto out;
    }
    for (uint32_t i = 0; i < r->nparts; i++) {
        if (sn__partition_is_dropped(sh, r->parts[i].partition_id)) {
            FAIL(st, ERR_PARTITION_NOT_FOUND, "partition not found[partition=%lld]",
                 (long long)r->parts[i].partition_id);
        }
        TRY(sn__check_rows(sh->schema, &m->batches[i], st));
    }
    if (m->deletes.ncols && m->deletes.cols[0].type != pk->type) {
        FAIL(st, ST_INVALID, "deleted keys are %s, field %s is %s",
             dtype_name(m->deletes.cols[0].type), pk->name, dtype_name(pk->type));
    }
out:
    return rc;
}

static int prepare_write(struct sn_channel *ch, struct sn_msg *m, struct arena *ar,
                         struct wal_entry *ret_entry)
{
    struct sn_record *r = &m->record;
    struct file_part *parts;
    size_t nparts;
    int rc;

    TRY(check_write(m->shard, m, &m->st));
    r->ts = m->ts;
    for (uint32_t i = 0; i < r->nparts; i++) {
        TRY(assign_segment(ch, m->shard, r->parts[i].partition_id, ar, &r->parts[i].segment_id,
                           &m->st));
    }
    TRY(sn_record_encode(r, ar, &parts, &nparts, &m->st));
    *ret_entry = (struct wal_entry){ .parts = parts, .nparts = nparts, .type = SN_RECORD_WRITE };
out:
    return rc;
}

static void seal_when_full(struct sn_channel *ch, struct sn_shard *sh, uint64_t position)
{
    bool any = sh->deletes.bytes > ch->sn->opts.seal_bytes / 4;

    if (any) {
        sh->flush_deletes_to = position;
    }
    for (size_t i = 0; i < sh->ngrowing; i++) {
        if (!sh->growing[i].sealed && sh->growing[i].bytes >= ch->sn->opts.seal_bytes) {
            sh->growing[i].sealed = true;
            any = true;
        }
    }
    if (any) {
        sn__flush_queue(ch->sn, sh);
    }
}

static void apply_write(struct sn_channel *ch, struct sn_msg *m)
{
    struct sn_shard *sh = m->shard;
    int rc = 0;

    if (m->deletes.ncols) {
        struct sn_scope scope = { m->record.ndelete_partitions, m->record.delete_partitions };
        TRY(sn__apply_deletes(sh, &m->deletes.cols[0], &scope, m->ts, m->position, true, &m->st));
    }
    for (uint32_t i = 0; i < m->record.nparts; i++) {
        struct sn_growing *g = sn__growing_find(sh, m->record.parts[i].segment_id);
        CHECK(g); /* assigned in this batch; segments go in control messages only */
        TRY(sn__apply_insert(sh, g, &m->batches[i], m->ts, m->position, &m->st));
    }
    seal_when_full(ch, sh, m->position);
out:
    if (rc != 0) {
        LOG_E("write is in the log but not in memory: shard=%s position=%llu error=\"%s\"",
              sh->vchannel, (unsigned long long)m->position, m->st.msg);
        if (!sh->failed_position) {
            sh->failed_position = m->position;
        }
        sn__set_failed(sh, &m->st);
    }
}

static void run_batch(struct sn_channel *ch, struct sn_msg *list, size_t n, struct arena *ar)
{
    struct wal_entry *entries = arena_try_array(ar, n, sizeof *entries);
    struct status st = STATUS_INIT;
    hts next_ts = 0;
    size_t nentries = 0;
    uint64_t position;
    int rc = 0;

    if (!entries) {
        FAIL(&st, ST_NO_MEMORY, "no memory for a batch of %zu writes", n);
    }
    TRY(sn__take_timestamps(ch, n, ar, &next_ts, &st));
    for (struct sn_msg *m = list; m; m = m->next) {
        m->ts = next_ts++;
        if (prepare_write(ch, m, ar, &entries[nentries]) == 0) {
            nentries++;
        }
    }
    if (nentries == 0) {
        goto out;
    }
    TRY(wal_append(ch->wal, entries, nentries, &position, &st));
    for (struct sn_msg *m = list; m; m = m->next) {
        if (m->st.code == 0) {
            m->position = position++;
            apply_write(ch, m);
            ch->applied_position = m->position;
        }
    }
out:
    if (rc != 0) {
        for (struct sn_msg *m = list; m; m = m->next) {
            m->st = m->st.code ? m->st : st;
        }
    }
    complete(ch, list, true, next_ts ? next_ts - 1 : 0);
}

static void sequencer(void *arg)
{
    struct sn_channel *ch = arg;
    struct arena *ar = arena_new(0);
    struct sn_msg *list;
    size_t n;

    while ((list = take_batch(ch, &n))) {
        if (list->control) {
            (void)list->control(ch, list); /* its status is in the message */
            complete(ch, list, false, 0);
        } else {
            run_batch(ch, list, n, ar);
        }
        arena_reset(ar);
    }
    arena_free(ar);
}

/* ---- readers ---- */

int sn__wait_ts(struct sn_channel *ch, hts ts, const struct call *call, hts *ret_read_ts,
                struct status *st)
{
    int rc = 0;

    lock_acquire(&ch->lock);
    if (ts > ch->applied_ts && ch->busy && call->no_wait) {
        rc = st_fail(st, ST_WOULD_WAIT, "writes up to the guarantee timestamp are being applied");
    } else if (ts > ch->applied_ts && ch->busy) {
        uint64_t epoch = ch->epoch;
        net_wait_begin();
        while (ch->epoch == epoch) {
            if (!cond_wait_until(&ch->applied, &ch->lock, call->deadline_us)) {
                rc = st_fail(st, ST_TIMEOUT, "writes up to the guarantee timestamp were not "
                             "visible in time");
                break;
            }
        }
        net_wait_end();
    }
    /* A batch that began meanwhile took its timestamps after ts was given out. */
    *ret_read_ts = MAX(ts, (hts)ch->applied_ts);
    lock_release(&ch->lock);
    return rc;
}

/* ---- life ---- */

static int channel_open(struct sn *sn, const char *name, int64_t term, struct sn_channel **ret,
                        struct status *st)
{
    struct sn_channel *ch = xalloc(sizeof *ch);
    char *dir = path_join(sn->opts.wal_dir, name);
    struct wal_opts wo = {
        .dir = dir,
        .term = (uint64_t)term,
        .sync = sn->opts.wal_sync,
        .sync_interval_ms = sn->opts.wal_sync_interval_ms,
        .file_size = sn->opts.wal_file_size,
        .prealloc = sn->opts.wal_prealloc,
    };
    struct wal_stats ws;
    int rc;

    ch->sn = sn;
    ch->name = xstrdup(name);
    lock_init(&ch->lock, RANK_WAL_QUEUE);
    cond_init(&ch->wake);
    cond_init(&ch->applied);
    TRY(dir_make(dir, st));
    TRY(wal_local_open(&wo, &ch->wal, st));
    ch->applied_position = wal_last_position(ch->wal);
    wal_get_stats(ch->wal, &ws);
    if (ws.cut_bytes) {
        LOG_W("unfinished end of the log cut off: channel=%s cut_bytes=%llu last=%llu", name,
              (unsigned long long)ws.cut_bytes, (unsigned long long)ws.last);
    }
    ch->thread = thread_start("sequencer", sequencer, ch);
    *ret = TAKE(ch);
out:
    sn__channel_free(ch);
    mem_free(dir);
    return rc;
}

/* Holds: sn->lock is taken here; opening the log under it blocks only other openings. */
int sn__channel_get(struct sn *sn, const char *name, int64_t term, struct sn_channel **ret,
                    struct status *st)
{
    struct sn_channel *ch = NULL;
    int rc = 0;

    lock_acquire(&sn->lock);
    for (size_t i = 0; i < sn->nchannels; i++) {
        if (strcmp(sn->channels[i]->name, name) == 0) {
            *ret = sn->channels[i];
            goto out;
        }
    }
    if (sn->nchannels == ARRAY_LEN(sn->channels)) {
        FAIL(st, ST_QUOTA, "more than %zu log channels on one node", ARRAY_LEN(sn->channels));
    }
    TRY(channel_open(sn, name, term, &ch, st));
    sn->channels[sn->nchannels++] = ch;
    *ret = ch;
out:
    lock_release(&sn->lock);
    return rc;
}

void sn__channel_stop(struct sn_channel *ch)
{
    struct status st = STATUS_INIT;

    lock_acquire(&ch->lock);
    ch->stop = true;
    cond_signal(&ch->wake);
    lock_release(&ch->lock);
    if (ch->thread) {
        thread_join(TAKE(ch->thread));
    }
    if (ch->wal && wal_close(TAKE(ch->wal), &st) != 0) {
        LOG_E("log did not close cleanly: channel=%s error=\"%s\"", ch->name, st.msg);
    }
}

void sn__channel_free(struct sn_channel *ch)
{
    if (!ch) {
        return;
    }
    sn__channel_stop(ch);
    lock_done(&ch->lock);
    cond_done(&ch->wake);
    cond_done(&ch->applied);
    mem_free(ch->name);
    mem_free(ch);
}
