/* test_node_replace.c - one segment takes the place of others, and nobody who reads can tell. */
#include "merge_fixture.h"
#include "base/fault.h"
#include <stdio.h>

static struct roles *start(void)
{
    struct roles_opts o = { .compute_threads = 1 };
    return roles_new(&o);
}

static void same(const char *a, const char *b)
{
    if (strcmp(a, b) != 0) {
        print_message("--- before\n%s\n--- after\n%s\n", a, b);
    }
    assert_string_equal(a, b);
}

/* One compaction, of the segments of one shard and partition. */
struct merge {
    struct rcoll *c;
    const char *vchannel;
    Elanus__Segment *sources[64], *target;
    size_t n;
};

/* The segments that metadata has now are to be replaced; the target is written and committed. */
static int merge_begin(struct merge *m, struct rcoll *c, size_t shard, int64_t partition,
                       hts gone_before, struct arena *ar, struct status *st)
{
    Elanus__SegmentsResp known;
    int rc;

    *m = (struct merge){ .c = c, .vchannel = c->vchannels[shard] };
    TRY(merge_list(c, ar, &known, st));
    for (size_t i = 0; i < known.n_segments; i++) {
        if (strcmp(known.segments[i]->vchannel, m->vchannel) == 0 &&
            known.segments[i]->partition_id == partition) {
            CHECK(m->n < ARRAY_LEN(m->sources));
            m->sources[m->n++] = known.segments[i];
        }
    }
    CHECK(m->n > 0);
    TRY(merge_write(c, &known, m->sources, m->n, gone_before, ar, &m->target, st));
    TRY(merge_commit(c, m->sources, m->n, m->target, st));
out:
    return rc;
}

static struct merge begin(struct rcoll *c, size_t shard, const char *partition, hts gone_before)
{
    int64_t id = rcoll_partition(c, partition ? partition : "_default");
    struct status st = STATUS_INIT;
    struct merge m;

    ASSERT_OK(merge_begin(&m, c, shard, id, gone_before, c->r->ar, &st));
    return m;
}

static int tell(const struct merge *m, struct status *st)
{
    st_clear(st);
    return merge_tell(m->c, m->vchannel, m->sources, m->n, m->target, st);
}

/* Answered: then nobody needs the sources' files. */
static void finish(const struct merge *m)
{
    struct status st = STATUS_INIT;
    ASSERT_OK(tell(m, &st));
    ASSERT_OK(merge_clean(m->c, m->sources, m->n, &st));
}

/* The ids that the shard shows, from its view; growing segments without rows are not counted. */
static size_t shown(struct rcoll *c, size_t shard, size_t *ret_growing)
{
    struct sn_shard *sh = rcoll_shard(c, shard);
    struct sn_view *vw = sn__view_get(sh);
    size_t n = vw->nsealed;

    *ret_growing = 0;
    for (size_t i = 0; i < vw->ngrowing; i++) {
        struct seg_info info;
        seg_get_info(vw->growing[i], &info);
        *ret_growing += info.nrows > 0;
    }
    assert_int_equal(vw->nmissing, 0);
    sn__view_unref(vw);
    sn__shard_unref(sh);
    return n;
}

static void shows_target_only(const struct merge *m, size_t shard)
{
    struct sn_shard *sh = rcoll_shard(m->c, shard);
    struct sn_view *vw = sn__view_get(sh);

    assert_int_equal(vw->nmissing, 0);
    assert_int_equal(vw->nsealed, 1);
    assert_int_equal(vw->sealed[0].meta->id, m->target->id);
    for (size_t i = 0; i < vw->ngrowing; i++) {
        for (size_t j = 0; j < m->n; j++) {
            struct seg_info info;
            seg_get_info(vw->growing[i], &info);
            assert_int_not_equal(info.id, m->sources[j]->id);
        }
    }
    sn__view_unref(vw);
    sn__shard_unref(sh);
}

static void fill(struct rcoll *c)
{
    for (int i = 0; i < 3; i++) {
        rcoll_insert(c, NULL, i * 100, 100, 1);
        rcoll_delete(c, NULL, i * 60, 20);
        rcoll_upsert(c, NULL, i * 90, 25, i + 2);
        rcoll_flush(c);
    }
}

static void test_answers_when_replaced_then_identical(void **state)
{
    static const char *const filter = "n == 2 and not (s like \"s3%\")";
    for (int shards = 1; shards <= 2; shards++) {
        for (int varchar = 0; varchar < 2; varchar++) {
            struct roles_opts o = { .varchar_pk = varchar, .compute_threads = 1 };
            struct roles *r = roles_new(&o);
            struct rcoll *c = rcoll_new(r, "c", shards);
            size_t growing;
            rcoll_load(c, NULL);
            fill(c);
            hts then = roles_now(r);
            const char *old = rcoll_dump(c, NULL, then);
            rcoll_delete(c, NULL, 200, 30); /* pending */
            rcoll_upsert(c, NULL, 250, 30, 9); /* and growing rows in place of flushed ones */
            const char *all = rcoll_dump(c, NULL, 0), *some = rcoll_dump(c, filter, 0);
            for (int i = 0; i < shards; i++) {
                struct merge m = begin(c, (size_t)i, NULL, then);
                same(all, rcoll_dump(c, NULL, 0)); /* committed, not told */
                assert_int_equal(m.n, 3);
                assert_true(m.target->num_rows < m.sources[0]->num_rows + m.sources[1]->num_rows +
                                                     m.sources[2]->num_rows);
                finish(&m);
                assert_int_equal(shown(c, (size_t)i, &growing), 1);
                same(all, rcoll_dump(c, NULL, 0));
            }
            assert_int_equal(rcoll_qnode_segments(c), shards); /* the others are released */
            assert_int_equal(rcoll_flushed(c), shards);
            same(some, rcoll_dump(c, filter, 0));
            same(old, rcoll_dump(c, NULL, then));
            roles_restart(r);
            same(all, rcoll_dump(c, NULL, 0));
            rcoll_release(c, NULL);
            rcoll_load(c, NULL);
            same(all, rcoll_dump(c, NULL, 0));
            rcoll_flush(c);
            same(all, rcoll_dump(c, NULL, 0));
            for (int i = 0; i < shards; i++) { /* the target is a source like any other */
                struct merge m = begin(c, (size_t)i, NULL, roles_now(r));
                finish(&m);
            }
            same(all, rcoll_dump(c, NULL, 0));
            same(some, rcoll_dump(c, filter, 0));
            assert_int_equal(rcoll_qnode_segments(c), shards);
            rcoll_free(c);
            roles_free(r);
        }
    }
}

/* ---- Deletes at every moment ---- */

static struct rcoll *replaced, *twin; /* the same writes; nothing is replaced in the other */

static void delete_both(int64_t from, int64_t count)
{
    rcoll_delete(replaced, NULL, from, count);
    rcoll_delete(twin, NULL, from, count);
}

static void delete_while_loaded(struct roles *r)
{
    (void)r;
    delete_both(110, 5);
    rcoll_flush(replaced); /* into a file that the load did not have */
    delete_both(120, 5);   /* pending */
    rcoll_upsert(replaced, NULL, 130, 5, 7);
    rcoll_upsert(twin, NULL, 130, 5, 7);
}

static void test_deletes_when_before_during_and_after_then_all_apply(void **state)
{
    struct roles *r = start();
    struct merge m;
    replaced = rcoll_new(r, "c", 1);
    twin = rcoll_new(r, "d", 1);
    rcoll_load(replaced, NULL);
    rcoll_load(twin, NULL);
    for (int i = 0; i < 4; i++) {
        rcoll_insert(replaced, NULL, i * 100, 100, i);
        rcoll_insert(twin, NULL, i * 100, 100, i);
        delete_both(i * 80, 5);
        rcoll_flush(replaced);
    }
    delete_both(20, 5); /* pending when the target is written */
    m = begin(replaced, 0, NULL, roles_now(r));
    delete_both(40, 5);    /* between commit and call; in a file the compaction did not have */
    rcoll_flush(replaced);
    delete_both(60, 5);
    r->on_load = delete_while_loaded;
    finish(&m);
    assert_null((void *)(uintptr_t)r->on_load);
    shows_target_only(&m, 0);
    same(rcoll_values(twin, "n", NULL), rcoll_values(replaced, "n", NULL));
    delete_both(140, 5);
    same(rcoll_values(twin, "n", NULL), rcoll_values(replaced, "n", NULL));
    assert_int_equal(rcoll_total(replaced), rcoll_total(twin));
    rcoll_flush(replaced);
    rcoll_release(replaced, NULL);
    rcoll_load(replaced, NULL);
    same(rcoll_values(twin, "n", NULL), rcoll_values(replaced, "n", NULL));
    roles_restart(r);
    same(rcoll_values(twin, "n", NULL), rcoll_values(replaced, "n", NULL));
    assert_int_equal(rcoll_total(replaced), rcoll_total(twin));
    rcoll_free(replaced);
    rcoll_free(twin);
    roles_free(r);
}

static struct rcoll *flushing;
static struct data_service real_data;

/* Nobody needs the delete files of the flush: known before the flush has its answer. */
static int commit_and_forget(void *self, const struct call *call, const Elanus__CommitFlushReq *req,
                             Elanus__Empty *resp, struct status *st)
{
    struct roles *r = flushing->r;
    Elanus__ReplaceSegmentsReq gone = ELANUS__REPLACE_SEGMENTS_REQ__INIT;
    struct arena *ar = arena_new(0);
    struct co_txn tx;
    int rc;

    co__txn_init(&tx, r->co, ar);
    TRY(real_data.commit_flush(self, call, req, resp, st));
    gone.vchannel = req->vchannel;
    gone.gone_delta_ids = arena_alloc(ar, (req->n_deltas + 1) * sizeof(int64_t));
    for (size_t i = 0; i < req->n_deltas; i++) {
        co__delete(&tx, CO_DELTA, req->deltas[i]);
        gone.gone_delta_ids[gone.n_gone_delta_ids++] = req->deltas[i]->id;
    }
    TRY(co__commit(&tx, st));
    TRY(r->snode.replace_segments(r->snode.self, call, &gone, resp, st));
    for (size_t i = 0; i < req->n_deltas; i++) {
        TRY(object_delete(r->os, slice_of(req->deltas[i]->object_key), st));
    }
out:
    co__txn_done(&tx);
    arena_free(ar);
    return rc;
}

static void test_deletes_when_their_file_goes_before_the_flush_knows_then_never_opened(void **state)
{
    struct roles *r = start();
    flushing = rcoll_new(r, "c", 1);
    rcoll_load(flushing, NULL);
    rcoll_insert(flushing, NULL, 0, 50, 1);
    rcoll_delete(flushing, NULL, 0, 5);
    rcoll_flush(flushing);
    const char *all = rcoll_dump(flushing, NULL, 0);
    real_data = r->data;
    r->data.commit_flush = commit_and_forget;
    rcoll_delete(flushing, NULL, 500, 5); /* no row has these keys */
    rcoll_flush(flushing);
    r->data = real_data;
    assert_int_equal(rcoll_deltas(flushing), 1);
    rcoll_release(flushing, NULL);
    rcoll_load(flushing, NULL);
    same(all, rcoll_dump(flushing, NULL, 0));
    rcoll_delete(flushing, NULL, 10, 5);
    rcoll_flush(flushing);
    assert_int_equal(rcoll_deltas(flushing), 2); /* later ones are kept */
    assert_int_equal(rcoll_total(flushing), 40);
    roles_restart(r);
    assert_int_equal(rcoll_total(flushing), 40);
    rcoll_free(flushing);
    roles_free(r);
}

/* ---- Readers who hold the old view ---- */

static struct merge *between; /* told when a reader is on its way to a node */
static struct qnode_service real;

static void tell_between(void)
{
    struct merge *m = TAKE(between);
    struct status st = STATUS_INIT;
    if (m) {
        CHECK(tell(m, &st) == 0);
    }
}

static int late_search(void *self, const struct call *call, const Elanus__SearchReq *req,
                       Elanus__SearchResp *resp, struct status *st)
{
    tell_between();
    return real.search(self, call, req, resp, st);
}

static int late_fetch(void *self, const struct call *call, const Elanus__FetchReq *req,
                      Elanus__FetchResp *resp, struct status *st)
{
    tell_between();
    return real.fetch(self, call, req, resp, st);
}

static int late_query(void *self, const struct call *call, const Elanus__QueryReq *req,
                      Elanus__QueryResp *resp, struct status *st)
{
    tell_between();
    return real.query(self, call, req, resp, st);
}

static void test_reads_when_sources_go_under_them_then_repeated_with_the_target(void **state)
{
    for (int what = 0; what < 3; what++) {
        struct roles *r = start();
        struct rcoll *c = rcoll_new(r, "c", 1);
        struct status st = STATUS_INIT;
        int64_t *hits, n;
        size_t nhits;
        rcoll_load(c, NULL);
        fill(c);
        rcoll_insert(c, NULL, 1000, 5, 1); /* growing */
        int64_t total = rcoll_total(c);
        struct merge m = begin(c, 0, NULL, roles_now(r));
        real = r->qnode;
        between = &m;
        if (what == 0) {
            r->qnode.query = late_query;
            ASSERT_OK(rcoll_count(c, NULL, 0, &n, &st));
            assert_int_equal(n, total);
        } else {
            r->qnode.search = what == 1 ? late_search : real.search;
            r->qnode.fetch = what == 2 ? late_fetch : real.fetch;
            ASSERT_OK(rcoll_search(c, NULL, 50.0f, 1000, 0, r->ar, &hits, &nhits, &st));
            assert_int_equal(nhits, total);
        }
        assert_null(between);
        r->qnode = real;
        shows_target_only(&m, 0);
        assert_int_equal(rcoll_total(c), total);
        rcoll_free(c);
        roles_free(r);
    }
}

/* ---- What is loaded ---- */

static void test_replace_when_not_loaded_then_load_opens_the_target(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    rcoll_load(c, NULL);
    fill(c);
    const char *all = rcoll_dump(c, NULL, 0);
    rcoll_release(c, NULL);
    struct merge m = begin(c, 0, NULL, roles_now(r));
    finish(&m);
    assert_int_equal(rcoll_qnode_segments(c), 0);
    rcoll_load(c, NULL); /* the sources' files are gone */
    same(all, rcoll_dump(c, NULL, 0));
    shows_target_only(&m, 0);
    rcoll_free(c);
    roles_free(r);
}

static void test_replace_when_partly_loaded_then_each_partition_is_right(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    rcoll_partition_new(c, "p");
    rcoll_load(c, "p");
    for (int i = 0; i < 3; i++) {
        rcoll_insert(c, NULL, i * 10, 10, 1);
        rcoll_insert(c, "p", 1000 + i * 10, 10, 2);
        rcoll_delete(c, NULL, i * 5, 2);
        rcoll_delete(c, NULL, 1000 + i * 5, 3);
        rcoll_flush(c);
    }
    assert_int_equal(rcoll_qnode_segments(c), 3);
    const char *p = rcoll_values(c, "n", NULL);
    struct merge m = begin(c, 0, NULL, roles_now(r)), mp = begin(c, 0, "p", roles_now(r));
    finish(&m);
    assert_int_equal(rcoll_qnode_segments(c), 3);
    same(p, rcoll_values(c, "n", NULL));
    finish(&mp);
    assert_int_equal(rcoll_qnode_segments(c), 1);
    same(p, rcoll_values(c, "n", NULL));
    rcoll_load(c, NULL);
    assert_int_equal(rcoll_qnode_segments(c), 2);
    assert_int_equal(rcoll_total(c), 60 - 6 - 9);
    rcoll_free(c);
    roles_free(r);
}

/* ---- Failures ---- */

static void test_replace_when_node_fails_then_sources_stay_and_again_succeeds(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct status st = STATUS_INIT;
    size_t growing;
    rcoll_load(c, NULL);
    fill(c);
    rcoll_delete(c, NULL, 33, 3); /* pending: to be sent, which fails the second time */
    struct merge m = begin(c, 0, NULL, roles_now(r));
    for (int i = 0; i < 3; i++) {
        const char *all = rcoll_dump(c, NULL, 0);
        r->fail_load = i == 0;
        r->fail_deletes = i; /* 1: the pending ones; 2: also what makes it served */
        if (i == 2) {
            rcoll_flush(c); /* nothing pending now */
            r->fail_deletes = 1;
        }
        assert_int_equal(tell(&m, &st), ST_UNAVAILABLE);
        assert_true(st.retriable);
        assert_int_equal(r->fail_load + r->fail_deletes, 0);
        assert_int_equal(shown(c, 0, &growing), 3);
        assert_int_equal(rcoll_qnode_segments(c), 3);
        same(all, rcoll_dump(c, NULL, 0));
        rcoll_delete(c, NULL, 150 + i * 3, 2);
    }
    const char *all = rcoll_dump(c, NULL, 0);
    finish(&m);
    shows_target_only(&m, 0);
    same(all, rcoll_dump(c, NULL, 0));
    roles_restart(r);
    same(all, rcoll_dump(c, NULL, 0));
    rcoll_free(c);
    roles_free(r);
}

static void test_replace_when_told_again_or_of_unknown_sources_then_ok(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct status st = STATUS_INIT;
    rcoll_load(c, NULL);
    fill(c);
    const char *all = rcoll_dump(c, NULL, 0);
    struct merge m = begin(c, 0, NULL, roles_now(r));
    finish(&m);
    ASSERT_OK(tell(&m, &st));
    same(all, rcoll_dump(c, NULL, 0));
    roles_restart(r); /* the shard is opened with the target */
    ASSERT_OK(tell(&m, &st));
    shows_target_only(&m, 0);
    same(all, rcoll_dump(c, NULL, 0));
    rcoll_release(c, NULL);
    ASSERT_OK(tell(&m, &st));
    rcoll_load(c, NULL);
    same(all, rcoll_dump(c, NULL, 0));
    assert_int_equal(rcoll_qnode_segments(c), 1);
    rcoll_free(c);
    roles_free(r);
}

/* Metadata had both when the shard was opened: as a coordinator that writes them in two steps. */
static void test_replace_when_opened_with_both_then_sources_leave(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct status st = STATUS_INIT;
    rcoll_load(c, NULL);
    fill(c);
    const char *all = rcoll_dump(c, NULL, 0);
    struct merge m = begin(c, 0, NULL, roles_now(r));
    struct co_txn tx;
    co__txn_init(&tx, r->co, r->ar);
    for (size_t i = 0; i < m.n; i++) {
        co__put(&tx, CO_SEGMENT, m.sources[i]);
    }
    ASSERT_OK(co__commit(&tx, &st));
    co__txn_done(&tx);
    roles_restart(r);
    assert_int_equal(rcoll_qnode_segments(c), 4);
    ASSERT_OK(tell(&m, &st));
    shows_target_only(&m, 0);
    same(all, rcoll_dump(c, NULL, 0));
    assert_int_equal(rcoll_qnode_segments(c), 1);
    rcoll_free(c);
    roles_free(r);
}

static void test_replace_when_nothing_is_left_then_sources_leave(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 50, 1);
    rcoll_flush(c);
    rcoll_insert(c, NULL, 50, 50, 1);
    rcoll_flush(c);
    rcoll_delete(c, NULL, 0, 100);
    rcoll_flush(c);
    rcoll_insert(c, NULL, 200, 7, 1);
    const char *all = rcoll_dump(c, NULL, 0);
    struct merge m = begin(c, 0, NULL, roles_now(r));
    assert_null(m.target);
    finish(&m);
    finish(&m);
    assert_int_equal(rcoll_qnode_segments(c), 0);
    same(all, rcoll_dump(c, NULL, 0));
    assert_int_equal(rcoll_total(c), 7);
    roles_restart(r);
    same(all, rcoll_dump(c, NULL, 0));
    rcoll_free(c);
    roles_free(r);
}

static void test_replace_when_asked_for_what_would_not_add_up_then_refused(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct status st = STATUS_INIT;
    rcoll_partition_new(c, "p");
    rcoll_load(c, NULL);
    fill(c);
    rcoll_insert(c, NULL, 5000, 5, 1);
    const char *all = rcoll_dump(c, NULL, 0);
    struct merge good = begin(c, 0, NULL, roles_now(r));
    struct sn_shard *sh = rcoll_shard(c, 0);
    int64_t open = sh->growing[0].id;
    sn__shard_unref(sh);
    for (int i = 0; i < 6; i++) {
        struct merge m = good;
        Elanus__Segment t = *good.target, s = *good.sources[0];
        m.target = &t;
        m.sources[0] = &s;
        static const char *const words[] = { "target: segment", "target: segment", "target: segment",
                                             "source_ids: segment", "source_ids: segment",
                                             "target: segment" };
        switch (i) {
        case 0: t.collection_id++; break;
        case 1: t.vchannel = "other"; break;
        case 2: t.id = s.id; break;
        case 3: t.partition_id = rcoll_partition(c, "p"); break;
        case 4: s.id = open; break;
        default: t.id = 0; break;
        }
        assert_int_equal(tell(&m, &st), ST_INVALID);
        assert_non_null(strstr(st.msg, words[i]));
        same(all, rcoll_dump(c, NULL, 0));
    }
    struct merge elsewhere = good;
    elsewhere.vchannel = "nowhere";
    assert_int_equal(tell(&elsewhere, &st), ERR_CHANNEL_NOT_AVAILABLE);
    assert_true(st.retriable);
    finish(&good);
    same(all, rcoll_dump(c, NULL, 0));
    rcoll_free(c);
    roles_free(r);
}

/* ---- Sources that are growing still ---- */

static void test_replace_when_sources_were_never_loaded_then_their_rows_leave_memory(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct status st = STATUS_INIT;
    size_t growing;
    rcoll_load(c, NULL);
    r->fail_load = INT32_MAX;
    rcoll_insert(c, NULL, 0, 100, 1);
    rcoll_seal(c);
    R_WAIT(rcoll_flushed(c) == 1);
    rcoll_insert(c, NULL, 100, 100, 1);
    rcoll_upsert(c, NULL, 20, 20, 2);
    rcoll_seal(c);
    R_WAIT(rcoll_flushed(c) == 2);
    rcoll_delete(c, NULL, 0, 10);
    const char *all = rcoll_dump(c, NULL, 0);
    assert_int_equal(shown(c, 0, &growing), 0);
    assert_int_equal(growing, 2);
    struct merge m = begin(c, 0, NULL, roles_now(r));
    assert_int_equal(tell(&m, &st), ST_UNAVAILABLE);
    same(all, rcoll_dump(c, NULL, 0));
    r->fail_load = 0;
    finish(&m);
    shows_target_only(&m, 0);
    rcoll_wait_swapped(c);
    same(all, rcoll_dump(c, NULL, 0));
    roles_restart(r);
    same(all, rcoll_dump(c, NULL, 0));
    rcoll_free(c);
    roles_free(r);
}

/* The whole compaction happens while a flush that is committed does not know it yet. */
static struct {
    int (*commit)(void *, const struct call *, const Elanus__CommitFlushReq *, Elanus__Empty *,
                  struct status *);
    struct merge m;
    struct arena *ar;
    struct status st;
    _Atomic bool armed, done;
} quick;

static int commit_and_compact(void *self, const struct call *call,
                              const Elanus__CommitFlushReq *req, Elanus__Empty *resp,
                              struct status *st)
{
    int rc = quick.commit(self, call, req, resp, st);
    if (rc == 0 && req->n_segments && atomic_exchange(&quick.armed, false)) {
        int failed = merge_begin(&quick.m, replaced, 0, req->segments[0]->partition_id, 0, quick.ar,
                                 &quick.st);
        failed = failed ? failed : tell(&quick.m, &quick.st);
        quick.done = true;
    }
    return rc;
}

static void test_replace_when_a_flush_does_not_know_yet_then_source_does_not_come_back(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    replaced = c;
    quick.ar = arena_new(0);
    quick.commit = r->data.commit_flush;
    r->data.commit_flush = commit_and_compact;
    rcoll_load(c, NULL);
    fill(c);
    rcoll_insert(c, NULL, 1000, 100, 1);
    rcoll_delete(c, NULL, 1010, 10);
    const char *all = rcoll_dump(c, NULL, 0);
    quick.armed = true;
    rcoll_seal(c);
    R_WAIT(quick.done);
    assert_string_equal(quick.st.msg, "");
    rcoll_wait_swapped(c);
    shows_target_only(&quick.m, 0);
    same(all, rcoll_dump(c, NULL, 0));
    rcoll_flush(c);
    shows_target_only(&quick.m, 0);
    same(all, rcoll_dump(c, NULL, 0));
    roles_stop(r);
    assert_int_equal(roles_start(r), 0);
    same(all, rcoll_dump(c, NULL, 0));
    arena_free(quick.ar);
    rcoll_free(c);
    roles_free(r);
}

/* ---- Drops and definitions meanwhile ---- */

/* The coordinator drops what is released, so it does not come between; the shard does not rely on it. */
static void drop_p(struct roles *r)
{
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    struct status st = STATUS_INIT;
    Elanus__DropPartitionReq req = ELANUS__DROP_PARTITION_REQ__INIT;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    req.vchannel = replaced->vchannels[0];
    req.partition_id = rcoll_partition(replaced, "p");
    CHECK(r->snode.drop_partition(r->snode.self, &call, &req, &e, &st) == 0);
    arena_free(ar);
}

static void drop_all(struct roles *r)
{
    (void)r;
    CHECK(rcoll_drop(replaced) == 0);
}

static void test_replace_when_dropped_meanwhile_then_ok_and_nothing_stays(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct status st = STATUS_INIT;
    replaced = c;
    rcoll_partition_new(c, "p");
    rcoll_load(c, NULL);
    for (int i = 0; i < 3; i++) {
        rcoll_insert(c, "p", i * 10, 10, 1);
        rcoll_insert(c, NULL, 1000 + i * 10, 10, 2);
        rcoll_flush(c);
    }
    struct merge mp = begin(c, 0, "p", roles_now(r));
    r->on_load = drop_p;
    ASSERT_OK(tell(&mp, &st));
    assert_null((void *)(uintptr_t)r->on_load);
    assert_int_equal(rcoll_total(c), 30);
    assert_int_equal(rcoll_qnode_segments(c), 3);
    ASSERT_OK(tell(&mp, &st)); /* dropped before */
    assert_int_equal(rcoll_total(c), 30);
    assert_int_equal(rcoll_qnode_segments(c), 3);
    struct merge m = begin(c, 0, NULL, roles_now(r));
    r->on_load = drop_all;
    ASSERT_OK(tell(&m, &st));
    assert_null((void *)(uintptr_t)r->on_load);
    assert_int_equal(rcoll_qnode_segments(c), 0);
    assert_int_equal(tell(&m, &st), ERR_CHANNEL_NOT_AVAILABLE);
    rcoll_free(c);
    roles_free(r);
}

static _Atomic bool added;

static void add_field(struct roles *r)
{
    rcoll_add_field(replaced, "extra", true, 5);
    added = true;
    (void)r;
}

/* The node serves nothing else of the collection, so nobody else tells it. */
static void test_load_when_a_field_is_added_meanwhile_then_rows_have_it(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    replaced = c;
    added = false;
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 3, 1);
    r->on_load = add_field;
    struct sn_shard *sh = rcoll_shard(c, 0);
    Elanus__SealReq req = ELANUS__SEAL_REQ__INIT;
    Elanus__SealResp resp = ELANUS__SEAL_RESP__INIT;
    struct status st = STATUS_INIT;
    req.vchannel = sh->vchannel;
    ASSERT_OK(r->snode.seal(r->snode.self, &r->call, &req, &resp, &st));
    R_WAIT(added);
    rcoll_wait_swapped(c);
    assert_int_equal(rcoll_qnode_segments(c), 1);
    same("0=5 1=5 2=5", rcoll_values(c, "extra", NULL));
    sn__shard_unref(sh);
    rcoll_free(c);
    roles_free(r);
}

static void test_replace_when_a_field_is_added_meanwhile_then_rows_have_it(void **state)
{
    struct roles *r = start();
    struct rcoll *c = rcoll_new(r, "c", 1);
    replaced = c;
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, 2, 1);
    rcoll_flush(c);
    rcoll_insert(c, NULL, 2, 1, 1);
    rcoll_flush(c);
    struct merge m = begin(c, 0, NULL, 0);
    r->on_load = add_field;
    finish(&m);
    shows_target_only(&m, 0);
    same("0=5 1=5 2=5", rcoll_values(c, "extra", NULL));
    rcoll_free(c);
    roles_free(r);
}

/* ---- Guides ---- */

enum { GUIDE_ROWS = 4200, FRESH_ROWS = 3000 };

static int64_t guide_of(struct rcoll *c)
{
    struct sn_shard *sh = rcoll_shard(c, 0);
    struct sn_view *vw = sn__view_get(sh);
    int64_t id = 0;
    for (size_t i = 0; i < vw->ngrowing; i++) {
        struct seg_info info;
        seg_get_info(vw->growing[i], &info);
        id = info.nrows ? seg_guide(vw->growing[i], c->schema->fields[1].id) : id;
    }
    sn__view_unref(vw);
    sn__shard_unref(sh);
    return id;
}

/* Rows are attached, and the search before this left no note that others are missed: nothing would
 * come of further searches. */
static bool settled(struct rcoll *c)
{
    struct sn_shard *sh = rcoll_shard(c, 0);
    struct sn_view *vw = sn__view_get(sh);
    uint32_t attached = 0, coded = 0;
    bool wanted = sh->tend_queued;
    for (size_t i = 0; i < vw->ngrowing; i++) {
        attached = MAX(attached, seg_guide_attached(vw->growing[i], c->schema->fields[1].id, &coded));
        wanted = wanted || seg_tend_wanted(vw->growing[i]);
    }
    sn__view_unref(vw);
    sn__shard_unref(sh);
    return attached > 0 && !wanted;
}

/* Searches among the growing rows. Vectors are (key, key % 7, n, 1): of the keys near x those with
 * the remainder 6 are nearest. Returns the guide. */
static int64_t search_growing(struct rcoll *c)
{
    const int64_t x = GUIDE_ROWS + FRESH_ROWS / 2;
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    int64_t *hits;
    size_t n;

    ASSERT_OK(rcoll_search(c, NULL, (float)x, 10, 0, ar, &hits, &n, &st));
    assert_int_equal(n, 10);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(hits[i] % 7, 6);
        assert_in_range(hits[i], x - 40, x + 40);
    }
    arena_free(ar);
    return guide_of(c);
}

static void test_guide_when_replaced_then_let_go_and_the_target_takes_over(void **state)
{
    struct roles_opts o = { .index_type = "HNSW", .index_rows_min = 1000, .compute_threads = 1 };
    struct roles *r = roles_new(&o);
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct status st = STATUS_INIT;
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, GUIDE_ROWS, 1);
    rcoll_flush(c);
    R_WAIT(rcoll_indexed_segments(c) == 1);
    rcoll_insert(c, NULL, GUIDE_ROWS, FRESH_ROWS, 1);
    int64_t before = 0, after = 0;
    R_WAIT((before = search_growing(c)) != 0 && settled(c));
    struct merge m;
    Elanus__SegmentsResp known;
    ASSERT_OK(merge_list(c, r->ar, &known, &st));
    m = (struct merge){ .c = c, .vchannel = c->vchannels[0], .n = 1 };
    m.sources[0] = known.segments[0];
    assert_int_equal(m.sources[0]->id, before);
    ASSERT_OK(merge_write(c, &known, m.sources, 1, 0, r->ar, &m.target, &st));
    ASSERT_OK(merge_commit(c, NULL, 0, m.target, &st)); /* the source keeps its index's record */
    Elanus__Segment source = *m.sources[0];
    ASSERT_OK(tell(&m, &st));
    assert_int_equal(m.sources[0]->id, source.id);
    shows_target_only(&m, 0);
    R_WAIT((after = search_growing(c)) == m.target->id);
    rcoll_free(c);
    roles_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers_when_replaced_then_identical),
        cmocka_unit_test(test_deletes_when_before_during_and_after_then_all_apply),
        cmocka_unit_test(test_deletes_when_their_file_goes_before_the_flush_knows_then_never_opened),
        cmocka_unit_test(test_reads_when_sources_go_under_them_then_repeated_with_the_target),
        cmocka_unit_test(test_replace_when_not_loaded_then_load_opens_the_target),
        cmocka_unit_test(test_replace_when_partly_loaded_then_each_partition_is_right),
        cmocka_unit_test(test_replace_when_node_fails_then_sources_stay_and_again_succeeds),
        cmocka_unit_test(test_replace_when_told_again_or_of_unknown_sources_then_ok),
        cmocka_unit_test(test_replace_when_opened_with_both_then_sources_leave),
        cmocka_unit_test(test_replace_when_nothing_is_left_then_sources_leave),
        cmocka_unit_test(test_replace_when_asked_for_what_would_not_add_up_then_refused),
        cmocka_unit_test(test_replace_when_sources_were_never_loaded_then_their_rows_leave_memory),
        cmocka_unit_test(test_replace_when_a_flush_does_not_know_yet_then_source_does_not_come_back),
        cmocka_unit_test(test_replace_when_dropped_meanwhile_then_ok_and_nothing_stays),
        cmocka_unit_test(test_load_when_a_field_is_added_meanwhile_then_rows_have_it),
        cmocka_unit_test(test_replace_when_a_field_is_added_meanwhile_then_rows_have_it),
        cmocka_unit_test(test_guide_when_replaced_then_let_go_and_the_target_takes_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
