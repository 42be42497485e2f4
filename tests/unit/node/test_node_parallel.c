/*
 * test_node_parallel.c - writers, deleters, flushes, loads, replaced segments and readers at the same
 * time, checked against a model: a reader at T sees exactly what was acknowledged or in flight up to T.
 *
 * Each writer owns a range of keys and writes down, per operation, what it did and the timestamp it
 * was acknowledged with. A reader takes a timestamp from the oracle, reads with it, and remembers
 * the answer. Afterwards every answer is computed again from the writers' notes and compared.
 */
#include "merge_fixture.h"
#include <stdio.h>

enum { WRITERS = 3, READERS = 2, KEYS = 40, OPS = 600, READS = 150, OPS_A_REPLACEMENT = 100 };

struct op {
    hts ts;
    int64_t from, n;      /* keys from .. from + count - 1 */
    uint8_t count;
    enum rwrite what;
};
struct writer {
    struct rcoll *c;
    int64_t first;        /* its keys are first .. first + KEYS - 1 */
    uint64_t seed;
    struct op ops[OPS];
    size_t nops;
    struct thread *t;
};
struct answer {
    hts ts;
    struct rrow *rows;
    size_t n;
    int64_t count;
};
struct looker {
    struct rcoll *c;
    struct arena *ar;
    uint64_t seed;
    _Atomic hts since;    /* all its reads from now on are at this or later */
    struct answer answers[READS];
    size_t n;
    struct thread *t;
};

static _Atomic int writers_left;
static _Atomic size_t replacements; /* SIZE_MAX: nothing is replaced */

static uint32_t rnd(uint64_t *seed, uint32_t n)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*seed >> 33) % n;
}

static void write_main(void *arg)
{
    struct writer *w = arg;
    while (w->nops < OPS) {
        struct op *op = &w->ops[w->nops];
        struct status st = STATUS_INIT;
        int64_t keys[8];
        while (replacements < w->nops / OPS_A_REPLACEMENT) {
            usleep(200);
        }
        /* Plain inserts would leave equal keys visible; upserts and deletes have one outcome. */
        op->what = rnd(&w->seed, 3) ? R_UPSERT : R_DELETE;
        op->count = w->c->nshards > 1 ? 1 : (uint8_t)(1 + rnd(&w->seed, 8)); /* one record each */
        op->from = w->first + rnd(&w->seed, KEYS - 8);
        op->n = (int64_t)w->nops;
        for (int i = 0; i < op->count; i++) {
            keys[i] = op->from + i;
        }
        int rc = rcoll_write(w->c, op->what, NULL, (struct rkeys){ keys, op->count }, op->n,
                             &op->ts, &st);
        if (rc != 0) {
            fprintf(stderr, "write: %d %s\n", rc, st.msg);
        }
        CHECK(rc == 0);
        w->nops++;
    }
    writers_left--;
}

static void read_main(void *arg)
{
    struct looker *rd = arg;
    while (rd->n < READS) {
        struct answer *a = &rd->answers[rd->n];
        struct status st = STATUS_INIT;
        struct arena *ar = arena_new(0);
        struct call call = call_internal(ar);
        struct root_service *root = &rd->c->r->root;
        Elanus__AllocReq req = ELANUS__ALLOC_REQ__INIT;
        Elanus__AllocResp resp = ELANUS__ALLOC_RESP__INIT;
        int64_t *hits;
        size_t nhits;
        req.count = 1;
        CHECK(root->alloc_ts(root->self, &call, &req, &resp, &st) == 0);
        a->ts = resp.first;
        rd->since = a->ts;
        int rc = rcoll_query(rd->c, NULL, NULL, a->ts, rd->ar, &a->rows, &a->n, &st);
        if (rc == 0) {
            rc = rcoll_count(rd->c, NULL, a->ts, &a->count, &st);
        }
        if (rc == 0) {
            rc = rcoll_search(rd->c, "n >= 0", (float)rnd(&rd->seed, 100), 1000, a->ts, ar, &hits,
                              &nhits, &st);
            CHECK(rc != 0 || nhits == a->n);
        }
        arena_free(ar);
        if (rc == ERR_COLLECTION_NOT_LOADED) {
            continue; /* released at the moment */
        }
        if (rc != 0) {
            fprintf(stderr, "read: %d %s\n", rc, st.msg);
        }
        CHECK(rc == 0);
        rd->n++;
    }
}

/* State of all keys at ts, from the notes. */
static size_t model(const struct writer *w, size_t nwriters, hts ts, struct rrow *rows)
{
    size_t n = 0;
    for (size_t i = 0; i < nwriters; i++) {
        for (int64_t k = w[i].first; k < w[i].first + KEYS; k++) {
            const struct op *last = NULL;
            for (size_t j = 0; j < w[i].nops && w[i].ops[j].ts <= ts; j++) {
                const struct op *op = &w[i].ops[j];
                if (k >= op->from && k < op->from + op->count) {
                    last = op;
                }
            }
            if (last && last->what == R_UPSERT) {
                rows[n++] = (struct rrow){ k, last->n, last->ts };
            }
        }
    }
    return n;
}

static void check(const struct writer *w, size_t nwriters, const struct answer *a)
{
    struct rrow want[WRITERS * KEYS];
    size_t n = model(w, nwriters, a->ts, want);
    assert_int_equal(a->n, n);
    assert_int_equal(a->count, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(a->rows[i].key, want[i].key);
        assert_int_equal(a->rows[i].n, want[i].n);
        assert_int_equal(a->rows[i].ts, want[i].ts);
    }
}

struct disturber {
    struct rcoll *c;
    bool release;
    struct thread *t;
};

static void disturb_main(void *arg)
{
    struct disturber *d = arg;
    struct roles *r = d->c->r;
    while (writers_left > 0) {
        struct arena *ar = arena_new(0);
        struct call call = call_internal(ar);
        struct status st = STATUS_INIT;
        if (d->release) {
            Elanus__LoadReq lreq = ELANUS__LOAD_REQ__INIT;
            Elanus__ReleaseReq rreq = ELANUS__RELEASE_REQ__INIT;
            Elanus__Empty e = ELANUS__EMPTY__INIT;
            rreq.collection_name = lreq.collection_name = d->c->name;
            CHECK(r->query.release(r->query.self, &call, &rreq, &e, &st) == 0);
            while (r->query.load(r->query.self, &call, &lreq, &e, &st) != 0) {
                /* The shard has not been told yet what takes the place of segments without a node. */
                CHECK(st.code == ST_UNAVAILABLE && replacements != SIZE_MAX);
                st_clear(&st);
                usleep(2000);
            }
        } else {
            Elanus__FlushReq req = ELANUS__FLUSH_REQ__INIT;
            Elanus__FlushResp resp = ELANUS__FLUSH_RESP__INIT;
            req.collection_ids = &d->c->id;
            req.n_collection_ids = 1;
            CHECK(r->data.flush(r->data.self, &call, &req, &resp, &st) == 0);
        }
        arena_free(ar);
        usleep(d->release ? 20000 : 5000);
    }
}

/* ---- segments that take the place of others ---- */

struct replacer {
    struct rcoll *c;
    struct looker *readers;
    uint64_t seed;
    struct thread *t;
};

static hts oldest_read(const struct replacer *rp)
{
    hts oldest = UINT64_MAX;
    for (int i = 0; i < READERS; i++) {
        oldest = MIN(oldest, rp->readers[i].since);
    }
    return oldest;
}

/* What a replay would not bring back. */
static size_t behind_checkpoint(const struct rcoll *c, const Elanus__SegmentsResp *known,
                                size_t shard, Elanus__Segment **ret)
{
    uint64_t checkpoint = 0;
    size_t n = 0;
    for (size_t i = 0; i < known->n_shards; i++) {
        checkpoint = strcmp(known->shards[i]->vchannel, c->vchannels[shard]) == 0
                         ? known->shards[i]->checkpoint : checkpoint;
    }
    for (size_t i = 0; i < known->n_segments; i++) {
        if (strcmp(known->segments[i]->vchannel, c->vchannels[shard]) == 0 &&
            known->segments[i]->last_position < checkpoint) {
            ret[n++] = known->segments[i];
        }
    }
    return n;
}

static void replace_main(void *arg)
{
    struct replacer *rp = arg;
    while (writers_left > 0) {
        struct arena *ar = arena_new(0);
        struct status st = STATUS_INIT;
        size_t shard = rnd(&rp->seed, (uint32_t)rp->c->nshards), n;
        Elanus__Segment **sources, *target;
        Elanus__SegmentsResp known;
        CHECK(merge_list(rp->c, ar, &known, &st) == 0);
        sources = arena_alloc(ar, (known.n_segments + 1) * sizeof(Elanus__Segment *));
        n = behind_checkpoint(rp->c, &known, shard, sources);
        if (n > 0) {
            int rc = merge_write(rp->c, &known, sources, n, oldest_read(rp), ar, &target, &st);
            rc = rc ? rc : merge_commit(rp->c, sources, n, target, &st);
            if (rc != 0) {
                fprintf(stderr, "merge: %d %s\n", rc, st.msg);
            }
            CHECK(rc == 0);
            while ((rc = merge_tell(rp->c, rp->c->vchannels[shard], sources, n, target, &st)) != 0) {
                CHECK(st.retriable); /* released at the moment, or the node fails */
                st_clear(&st);
                usleep(2000);
            }
            CHECK(merge_clean(rp->c, sources, n, &st) == 0);
            replacements++;
        }
        arena_free(ar);
        usleep(3000);
    }
}

static void run_with(struct roles_opts o, int shards, bool release, bool failing, bool replace)
{
    struct roles *r = roles_new(&o);
    struct rcoll *c = rcoll_new(r, "c", shards);
    struct writer *w = xalloc(WRITERS * sizeof *w);
    struct looker *rd = xalloc(READERS * sizeof *rd);
    struct disturber flusher = { .c = c }, loader = { .c = c, .release = true };
    struct replacer rp = { .c = c, .readers = rd, .seed = 3 };
    struct answer last = { 0 };
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;

    rcoll_load(c, NULL);
    writers_left = WRITERS;
    replacements = replace ? 0 : SIZE_MAX;
    for (int i = 0; i < WRITERS; i++) {
        w[i].c = c;
        w[i].first = i * 1000;
        w[i].seed = (uint64_t)i + 7;
        w[i].t = thread_start("writer", write_main, &w[i]);
    }
    for (int i = 0; i < READERS; i++) {
        rd[i].c = c;
        rd[i].ar = arena_new(0);
        rd[i].seed = (uint64_t)i + 99;
        rd[i].t = thread_start("reader", read_main, &rd[i]);
    }
    flusher.t = thread_start("flusher", disturb_main, &flusher);
    loader.t = release ? thread_start("loader", disturb_main, &loader) : NULL;
    rp.t = replace ? thread_start("replacer", replace_main, &rp) : NULL;
    for (int i = 0; failing && writers_left > 0; i++) {
        r->fail_load = i % 2;
        usleep(10000);
    }
    for (int i = 0; i < WRITERS; i++) {
        thread_join(w[i].t);
    }
    thread_join(flusher.t);
    if (release) {
        thread_join(loader.t);
    }
    r->fail_load = 0;
    if (replace) {
        thread_join(rp.t);
    }
    for (int i = 0; i < READERS; i++) {
        thread_join(rd[i].t);
        for (size_t j = 0; j < rd[i].n; j++) {
            check(w, WRITERS, &rd[i].answers[j]);
        }
        arena_free(rd[i].ar);
    }
    for (int i = 0; i < 3; i++) { /* now, all flushed, started again */
        last.ts = roles_now(r);
        ASSERT_OK(rcoll_query(c, NULL, NULL, last.ts, ar, &last.rows, &last.n, &st));
        ASSERT_OK(rcoll_count(c, NULL, last.ts, &last.count, &st));
        check(w, WRITERS, &last);
        if (i == 0) {
            rcoll_flush(c);
        } else {
            roles_restart(r);
        }
    }
    arena_free(ar);
    mem_free(w);
    mem_free(rd);
    rcoll_free(c);
    roles_free(r);
}

static void run(int shards, bool release, bool failing, bool replace)
{
    struct roles_opts o = { .compute_threads = 2, .seal_bytes = 30000, .wal_file_size = 20000 };
    run_with(o, shards, release, failing, replace);
}

static void test_readers_when_everything_moves_then_snapshots_are_exact(void **state)
{
    (void)state;
    run(1, false, false, false);
}

static void test_readers_when_released_and_loaded_then_snapshots_are_exact(void **state)
{
    (void)state;
    run(2, true, false, false);
}

static void test_readers_when_loads_fail_then_snapshots_are_exact(void **state)
{
    (void)state;
    run(1, false, true, false);
}

static void test_readers_when_segments_are_replaced_then_snapshots_are_exact(void **state)
{
    (void)state;
    run(1, false, false, true);
}

static void test_readers_when_replaced_while_released_then_snapshots_are_exact(void **state)
{
    (void)state;
    run(2, true, false, true);
}

static void test_readers_when_replaced_while_loads_fail_then_snapshots_are_exact(void **state)
{
    (void)state;
    run(1, false, true, true);
}

/* The whole way: the coordinator chooses, a data node writes and indexes, shards change over. */
static void test_readers_when_segments_are_rewritten_by_themselves_then_snapshots_are_exact(void **state)
{
    struct roles_opts o = { .compute_threads = 2, .seal_bytes = 30000, .wal_file_size = 20000,
                            .compaction = true, .index_type = "IVF_FLAT", .index_rows_min = 50 };
    (void)state;
    run_with(o, 2, false, false, false);
    run_with(o, 1, true, false, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_readers_when_everything_moves_then_snapshots_are_exact),
        cmocka_unit_test(test_readers_when_released_and_loaded_then_snapshots_are_exact),
        cmocka_unit_test(test_readers_when_loads_fail_then_snapshots_are_exact),
        cmocka_unit_test(test_readers_when_segments_are_replaced_then_snapshots_are_exact),
        cmocka_unit_test(test_readers_when_replaced_while_released_then_snapshots_are_exact),
        cmocka_unit_test(test_readers_when_replaced_while_loads_fail_then_snapshots_are_exact),
        cmocka_unit_test(
            test_readers_when_segments_are_rewritten_by_themselves_then_snapshots_are_exact),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
