/* test_coord_compact.c - which segments are rewritten, what the store and the nodes see of it. */
#include "coord_fixture.h"
#include "coord/co_compact.h"
#include "base/fault.h"
#include "schema/types.h"
#include <unistd.h>

enum { ROWS = 500 };

#define WAIT(cond)                                                                                 \
    do {                                                                                           \
        int64_t wait_until_ = clock_mono_ms() + 20000;                                             \
        while (!(cond)) {                                                                          \
            if (clock_mono_ms() > wait_until_) {                                                   \
                fail_msg("%s:%d: waited too long for %s\n%s", __FILE__, __LINE__, #cond, fx->log); \
            }                                                                                      \
            usleep(500);                                                                           \
        }                                                                                          \
    } while (0)

struct coll {
    struct fx *fx;
    const char *name;
    int64_t id, part;
    const char *vchannel;
};

static struct coll make(struct fx *fx, const char *name)
{
    Elanus__CollectionInfo info;
    fx_create(fx, "", name);
    ASSERT_CALL(fx_describe(fx, "", name, &info));
    return (struct coll){ fx, name, info.collection->id, info.partitions[0]->id,
                          info.collection->vchannels[0] };
}

static void data_node(struct fx *fx)
{
    struct status st = STATUS_INIT;
    ASSERT_OK(fx_register(fx, DN_ID, "datanode", &st));
}

static void set_property(struct coll c, const char *key, const char *value)
{
    Elanus__AlterCollectionReq req = ELANUS__ALTER_COLLECTION_REQ__INIT;
    pb_kv *kv = fx_kv(c.fx, key, value);
    req.name = c.name;
    req.properties = &kv;
    req.n_properties = 1;
    ASSERT_CALL(CALL_E(c.fx, root, alter_collection, &req));
}

static struct coll make_auto(struct fx *fx, const char *name)
{
    struct coll c = make(fx, name);
    set_property(c, "collection.autocompaction.enabled", "true");
    return c;
}

/* Segment `seg` with rows inserted at second s .. s + 9, log positions 10 * seg .. + 9; the shard's
 * checkpoint goes to `checkpoint`. */
struct flushed {
    int64_t seg, rows, part;
    int64_t second;
    uint64_t checkpoint;
    int64_t delta, deleted, deleted_second; /* a delete file; 0: none */
    int64_t delta_part;                     /* 0: all */
};

static void flush_as(struct coll c, struct flushed f)
{
    Elanus__CommitFlushReq req = ELANUS__COMMIT_FLUSH_REQ__INIT;
    Elanus__Segment *s = ARENA_NEW(c.fx->ar, Elanus__Segment);
    Elanus__Delta *d = ARENA_NEW(c.fx->ar, Elanus__Delta);
    struct file_part part = { "rows", 4 };
    struct status st = STATUS_INIT;
    elanus__segment__init(s);
    elanus__delta__init(d);
    s->id = f.seg;
    s->collection_id = c.id;
    s->partition_id = f.part ? f.part : c.part;
    s->num_rows = f.rows;
    s->size_bytes = f.rows * 10;
    s->min_ts = hts_make(f.second * 1000, 0);
    s->max_ts = hts_make(f.second * 1000 + 9000, 0);
    s->first_position = (uint64_t)f.seg * 10;
    s->last_position = (uint64_t)f.seg * 10 + 9;
    s->object_prefix = arena_printf(c.fx->ar, "segments/%" PRId64 "/%" PRId64 "/%" PRId64, c.id,
                                    s->partition_id, f.seg);
    d->id = f.delta;
    d->collection_id = c.id;
    d->vchannel = c.vchannel;
    d->num_rows = f.deleted;
    d->min_ts = d->max_ts = hts_make(f.deleted_second * 1000, 0);
    d->object_key = arena_printf(c.fx->ar, "deltas/%" PRId64 "/%s/%" PRId64, c.id, c.vchannel, f.delta);
    d->last_position = (uint64_t)f.seg * 10 + 9;
    d->partition_ids = &f.delta_part;
    d->n_partition_ids = f.delta_part != 0;
    req.vchannel = c.vchannel;
    req.collection_id = c.id;
    req.term = 99;
    if (f.seg && f.rows) {
        req.segments = &s;
        req.n_segments = 1;
        ASSERT_OK(object_put(c.fx->os, slice_of(arena_printf(c.fx->ar, "%s/rows.seg", s->object_prefix)),
                             &part, 1, &st));
    }
    if (f.delta) {
        req.deltas = &d;
        req.n_deltas = 1;
        ASSERT_OK(object_put(c.fx->os, slice_of(d->object_key), &part, 1, &st));
    }
    req.checkpoint = f.checkpoint ? f.checkpoint : (uint64_t)f.seg * 10 + 10;
    ASSERT_CALL(CALL_E(c.fx, data, commit_flush, &req));
}

static void flush(struct coll c, int64_t seg, int64_t rows)
{
    flush_as(c, (struct flushed){ .seg = seg, .rows = rows, .second = 1000 + seg * 10 });
}

static Elanus__SegmentsResp *list(struct coll c)
{
    Elanus__SegmentsReq req = ELANUS__SEGMENTS_REQ__INIT;
    Elanus__SegmentsResp *resp = ARENA_NEW(c.fx->ar, Elanus__SegmentsResp);
    elanus__segments_resp__init(resp);
    req.collection_id = c.id;
    ASSERT_CALL(CALL(c.fx, data, list_segments, &req, resp));
    return resp;
}

static Elanus__CompactSegmentsResp ask(struct coll c, bool deletes_only, int64_t target_bytes)
{
    Elanus__CompactSegmentsReq req = ELANUS__COMPACT_SEGMENTS_REQ__INIT;
    Elanus__CompactSegmentsResp resp = ELANUS__COMPACT_SEGMENTS_RESP__INIT;
    req.collection_id = c.id;
    req.deletes_only = deletes_only;
    req.target_bytes = target_bytes;
    ASSERT_CALL(CALL(c.fx, data, compact, &req, &resp));
    return resp;
}

static Elanus__CompactionStateResp *state_of(struct coll c, int64_t id)
{
    Elanus__CompactionStateReq req = ELANUS__COMPACTION_STATE_REQ__INIT;
    Elanus__CompactionStateResp *resp = ARENA_NEW(c.fx->ar, Elanus__CompactionStateResp);
    elanus__compaction_state_resp__init(resp);
    req.compaction_id = id;
    ASSERT_CALL(CALL(c.fx, data, compaction_state, &req, resp));
    return resp;
}

static bool all_in(struct coll c, int64_t id, Elanus__CompactionPlanState s)
{
    Elanus__CompactionStateResp *r = state_of(c, id);
    for (size_t i = 0; i < r->n_plans; i++) {
        if (r->plans[i]->state != s) {
            return false;
        }
    }
    return true;
}
#define DONE ELANUS__COMPACTION_PLAN_STATE__PLAN_DONE
#define FAILED ELANUS__COMPACTION_PLAN_STATE__PLAN_FAILED

static size_t objects(struct fx *fx, const char *prefix)
{
    struct object_range range = { .prefix = slice_of(prefix) };
    struct object_list found = { 0 };
    struct status st = STATUS_INIT;
    ASSERT_OK(object_list(fx->os, &range, fx->ar, &found, &st));
    return found.n;
}

static void test_segments_when_small_then_merged_and_the_old_ones_are_gone(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make_auto(fx, "c");
    Elanus__Segment *s;
    data_node(fx);
    flush(c, 5, ROWS);
    flush(c, 6, ROWS);
    usleep(20000);
    assert_false(fx_told(fx, "compact(")); /* two of a size: not worth it yet */
    flush(c, 7, ROWS);
    WAIT(list(c)->n_segments == 1);
    s = list(c)->segments[0];
    assert_true(s->id > 7);
    assert_int_equal(s->num_rows, 3 * ROWS);
    assert_int_equal(s->size_bytes, 30 * ROWS);
    assert_int_equal(s->min_ts, hts_make(1050000, 0));
    assert_int_equal(s->max_ts, hts_make(1079000, 0));
    assert_int_equal(s->first_position, 50);
    assert_int_equal(s->last_position, 79);
    assert_string_equal(s->vchannel, c.vchannel);
    assert_int_equal(s->state, ELANUS__SEG_STATE__SEG_FLUSHED);
    WAIT(fx_told(fx, "replace(5+6+7,rows=1500,deltas=)"));
    WAIT(objects(fx, "segments/") == 1);
    assert_int_equal(objects(fx, s->object_prefix), 1);
    assert_int_equal(fx_keys(fx, "/elanus/data/segment/"), 1);
    fx_restart(fx);
    assert_int_equal(list(c)->n_segments, 1);
    assert_int_equal(objects(fx, "segments/"), 1);
    fx_free(fx);
}

static size_t plans(struct fx *fx)
{
    struct co_compacts *k = fx->co->compacts;
    lock_acquire(&k->lock);
    size_t n = k->n;
    lock_release(&k->lock);
    return n;
}

/* Plans take ids in blocks of 16; nothing wakes the thread between. */
static void test_collections_when_many_are_found_at_once_then_all_have_plans(void **state)
{
    enum { COLLS = 40 };
    struct fx *fx = fx_new();
    struct coll c[COLLS];
    for (int i = 0; i < COLLS; i++) {
        c[i] = make_auto(fx, arena_printf(fx->ar, "c%d", i));
        for (int s = 0; s < 3; s++) {
            flush(c[i], 5 + 3 * i + s, ROWS);
        }
    }
    fx_restart(fx);
    WAIT(plans(fx) == COLLS);
    data_node(fx);
    for (int i = 0; i < COLLS; i++) {
        WAIT(list(c[i])->n_segments == 1);
    }
    fx_free(fx);
}

/* The answer to the first commit was lost; meanwhile the segment was rewritten. */
static void test_flush_when_committed_again_after_a_rewriting_then_rows_do_not_come_twice(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    data_node(fx);
    flush(c, 5, ROWS);
    flush(c, 6, ROWS);
    ask(c, false, 0);
    WAIT(list(c)->n_segments == 1);
    flush(c, 6, ROWS);
    assert_int_equal(list(c)->n_segments, 1);
    flush(c, 7, ROWS); /* while others are taken */
    assert_int_equal(list(c)->n_segments, 2);
    fx_free(fx);
}

static void test_segments_when_the_log_is_needed_for_them_then_left_alone(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make_auto(fx, "c");
    data_node(fx);
    for (int i = 5; i < 9; i++) {
        flush_as(c, (struct flushed){ .seg = i, .rows = ROWS, .checkpoint = 59 });
    }
    usleep(50000);
    assert_false(fx_told(fx, "compact("));
    assert_int_equal(ask(c, false, 0).plan_count, 0); /* not even when asked */
    flush_as(c, (struct flushed){ .seg = 9, .rows = ROWS, .checkpoint = 80 });
    WAIT(fx_told(fx, "compact(5+6+7,"));
    fx_free(fx);
}

static void test_segments_when_of_other_partitions_or_not_wanted_then_not_merged(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make_auto(fx, "c"), off = make(fx, "off");
    Elanus__CollectionInfo info;
    data_node(fx);
    ASSERT_CALL(fx_partition(fx, true, "c", "p"));
    ASSERT_CALL(fx_describe(fx, "", "c", &info));
    for (int i = 5; i < 9; i++) {
        flush_as(c, (struct flushed){ .seg = i, .rows = ROWS,
                                      .part = info.partitions[i % 2]->id });
        flush(off, 100 + i, ROWS);
    }
    usleep(50000);
    assert_false(fx_told(fx, "compact("));
    assert_int_equal(ask(c, false, 0).plan_count, 2);
    WAIT(list(c)->n_segments == 2);
    assert_true(fx_told(fx, "compact(5+7,"));
    assert_true(fx_told(fx, "compact(6+8,"));
    assert_int_equal(list(off)->n_segments, 4);
    set_property(off, "collection.autocompaction.enabled", "true");
    WAIT(list(off)->n_segments == 1);
    fx_free(fx);
}

static void test_segments_when_indexed_then_the_new_one_has_its_file_before_it_is_read(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make_auto(fx, "c");
    const char *build, *replace;
    char *text;
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "HNSW"));
    ASSERT_CALL(fx_load(fx, "c", NULL));
    fx->build_hold = true;
    data_node(fx);
    for (int i = 5; i < 8; i++) {
        flush(c, i, 5000);
    }
    WAIT(fx->building == 1);
    usleep(20000);
    assert_false(fx_told(fx, "compact(")); /* fresh rows get their indexes first */
    fx->build_hold = false;
    WAIT(list(c)->n_segments == 1);
    WAIT(fx_told(fx, "replace(5+6+7,"));
    text = arena_printf(fx->ar, "build(%" PRId64 ",v)", list(c)->segments[0]->id);
    build = strstr(fx->log, text);
    replace = strstr(fx->log, "replace(");
    assert_true(build && replace && build < replace);
    assert_int_equal(fx_keys(fx, "/elanus/data/segindex/"), 1);
    assert_int_equal(fx_count(fx, text), 1);
    WAIT(objects(fx, "segments/") == 2);
    fx_restart(fx);
    assert_int_equal(fx_keys(fx, "/elanus/data/segindex/"), 1);
    assert_int_equal(objects(fx, "segments/"), 2);
    fx_free(fx);
}

static void test_compact_when_asked_then_its_state_tells_and_full_ones_stay(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    Elanus__CompactSegmentsResp r, later;
    Elanus__CompactionStateResp *s;
    flush(c, 5, ROWS);
    flush(c, 6, ROWS);
    flush(c, 7, ROWS * 100);
    fx->compact_hold = true;
    r = ask(c, false, ROWS * 10 * 50);
    assert_int_equal(r.plan_count, 1);
    assert_int_equal(state_of(c, r.compaction_id)->plans[0]->state,
                     ELANUS__COMPACTION_PLAN_STATE__PLAN_WAITING); /* nobody does it yet */
    data_node(fx);
    WAIT(fx_told(fx, "compact(5+6,deltas=0,expire=0)"));
    assert_int_equal(state_of(c, r.compaction_id)->plans[0]->state,
                     ELANUS__COMPACTION_PLAN_STATE__PLAN_RUNNING);
    later = ask(c, false, 0); /* planned when this one is done */
    assert_int_equal(later.plan_count, 0);
    assert_true(state_of(c, later.compaction_id)->waiting);
    fx->compact_hold = false;
    WAIT(all_in(c, r.compaction_id, DONE));
    s = state_of(c, r.compaction_id);
    assert_int_equal(s->n_plans, 1);
    assert_int_equal(s->plans[0]->n_sources, 2);
    assert_int_equal(s->plans[0]->n_sources, 2);
    WAIT(!state_of(c, later.compaction_id)->waiting && all_in(c, later.compaction_id, DONE));
    assert_int_equal(list(c)->n_segments, 1);
    assert_int_equal(state_of(c, later.compaction_id)->plans[0]->n_sources, 2);
    assert_int_equal(state_of(c, later.compaction_id)->plans[0]->sources[1], s->plans[0]->target);
    assert_int_equal(state_of(c, 12345)->n_plans, 0);
    assert_false(state_of(c, 12345)->waiting);
    fx_free(fx);
}

/* Asks, and waits for what comes of it: how many were rewritten. */
static int ask_and_wait(struct coll c, bool deletes_only)
{
    struct fx *fx = c.fx;
    Elanus__CompactSegmentsResp r = ask(c, deletes_only, 0);
    WAIT(all_in(c, r.compaction_id, DONE));
    return r.plan_count;
}

static void test_segment_when_an_index_would_have_it_in_order_then_rewritten_when_asked_once(void **state)
{
    for (int ordered = 0; ordered < 2; ordered++) {
        struct fx *fx = fx_new();
        struct coll c = make(fx, "c");
        fx->compact_in_order = ordered;
        data_node(fx);
        flush(c, 5, 5000);
        assert_int_equal(ask_and_wait(c, false), 0); /* no index */
        ASSERT_CALL(fx_index(fx, "c", "vec", "v", "HNSW"));
        set_property(c, "collection.autocompaction.enabled", "true");
        WAIT(fx_told(fx, "build(5,v)"));
        usleep(20000);
        assert_false(fx_told(fx, "compact(")); /* not by itself */
        assert_int_equal(ask_and_wait(c, true), 0);
        assert_int_equal(ask_and_wait(c, false), 1);
        assert_true(fx_told(fx, "compact(5,deltas=0,expire=0) order_by(v)"));
        Elanus__Segment *s = list(c)->segments[0];
        assert_int_equal(s->num_rows, 5000);
        assert_true(ordered ? s->ordered_by > 0 : s->ordered_by == -1);
        assert_int_equal(ask_and_wait(c, false), 0); /* whatever came of it */
        fx_restart(fx);
        data_node(fx);
        assert_int_equal(list(c)->segments[0]->ordered_by, s->ordered_by);
        assert_int_equal(ask_and_wait(c, false), 0);
        fx_free(fx);
    }
}

static void test_segment_when_small_or_of_other_indexes_then_order_is_no_reason(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c"), other = make(fx, "other");
    data_node(fx);
    ASSERT_CALL(fx_index(fx, "c", "vec", "v", "HNSW"));
    ASSERT_CALL(fx_index(fx, "other", "vec", "v", "IVF_FLAT"));
    flush(c, 5, 4095);
    flush(other, 15, 5000);
    assert_int_equal(ask_and_wait(c, false), 0);
    assert_int_equal(ask_and_wait(other, false), 0);
    flush(other, 16, 5000);
    assert_int_equal(ask_and_wait(other, false), 1);
    assert_true(fx_told(fx, "compact(15+16,"));
    assert_false(fx_told(fx, "order_by("));
    assert_int_equal(list(other)->segments[0]->ordered_by, 0);
    flush(c, 6, 1);
    assert_int_equal(ask_and_wait(c, false), 1); /* what is rewritten anyway is ordered */
    assert_true(fx_told(fx, "order_by(v)"));
    fx_free(fx);
}

static void test_rows_when_none_is_left_then_segments_go_without_another(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    Elanus__CompactSegmentsResp r;
    data_node(fx);
    flush(c, 5, ROWS);
    flush(c, 6, ROWS);
    fx->compact_rows = 0;
    r = ask(c, false, 0);
    WAIT(all_in(c, r.compaction_id, DONE));
    assert_true(fx_told(fx, "replace(5+6,rows=0,deltas=)"));
    assert_int_equal(list(c)->n_segments, 0);
    WAIT(objects(fx, "segments/") == 0);
    fx_restart(fx);
    assert_int_equal(list(c)->n_segments, 0);
    fx_free(fx);
}

static void test_deletes_when_many_then_rewritten_and_their_file_goes_when_nobody_needs_it(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make_auto(fx, "c");
    data_node(fx);
    flush(c, 5, 100000); /* far apart in size: no merge */
    flush(c, 6, ROWS);
    flush_as(c, (struct flushed){ .seg = 9, .delta = 70, .deleted = 1000, .deleted_second = 1200 });
    usleep(20000);
    assert_false(fx_told(fx, "compact("));
    flush_as(c, (struct flushed){ .seg = 10, .delta = 71, .deleted = 30000, .deleted_second = 1210 });
    WAIT(fx_told(fx, "replace(6,rows=500,deltas=)")); /* the smaller first; 5 needs the files */
    WAIT(fx_told(fx, "replace(5,rows=100000,deltas=70+71)"));
    assert_true(fx_told(fx, "compact(6,deltas=2,"));
    assert_int_equal(list(c)->n_segments, 2);
    assert_int_equal(list(c)->n_deltas, 0);
    assert_int_equal(fx_keys(fx, "/elanus/data/delta/"), 0);
    WAIT(objects(fx, "deltas/") == 0);
    usleep(20000); /* and not over and over */
    assert_int_equal(fx_count(fx, "compact("), 2);
    fx_free(fx);
}

static void test_deletes_when_of_a_growing_row_or_another_segment_then_their_file_stays(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    Elanus__CollectionInfo info;
    data_node(fx);
    ASSERT_CALL(fx_partition(fx, true, "c", "p"));
    ASSERT_CALL(fx_describe(fx, "", "c", &info));
    flush(c, 5, ROWS);
    flush_as(c, (struct flushed){ .seg = 6, .rows = ROWS, .part = info.partitions[1]->id,
                                  .second = 1000 });
    flush_as(c, (struct flushed){ .seg = 7, .delta = 70, .deleted = 10, .deleted_second = 1200,
                                  .delta_part = c.part });            /* of 5 alone */
    flush_as(c, (struct flushed){ .seg = 8, .delta = 71, .deleted = 10, .deleted_second = 1200,
                                  .delta_part = info.partitions[1]->id }); /* of 6 alone */
    flush_as(c, (struct flushed){ .seg = 9, .delta = 72, .deleted = 10, .deleted_second = 1200,
                                  .delta_part = c.part, .checkpoint = 95 }); /* rows before 99 grow */
    Elanus__CompactSegmentsReq req = ELANUS__COMPACT_SEGMENTS_REQ__INIT;
    Elanus__CompactSegmentsResp resp = ELANUS__COMPACT_SEGMENTS_RESP__INIT;
    req.collection_id = c.id;
    req.partition_ids = &c.part;
    req.n_partition_ids = 1;
    ASSERT_CALL(CALL(fx, data, compact, &req, &resp));
    assert_int_equal(resp.plan_count, 1);
    WAIT(fx_told(fx, "replace(5,rows=500,deltas=70)"));
    assert_true(fx_told(fx, "compact(5,deltas=2,"));
    assert_int_equal(list(c)->n_deltas, 2);
    fx_free(fx);
}

static void test_deletes_when_young_then_rewritten_once_they_are_old_enough(void **state)
{
    struct fx *fx = fx_new();
    struct coll c;
    struct status st = STATUS_INIT;
    int64_t now = clock_now_ms() / 1000;
    ASSERT_OK(config_set(fx->cfg, "common.retentionDuration", SLICE_LIT("2"), &st));
    fx_restart(fx);
    c = make_auto(fx, "c");
    data_node(fx);
    flush(c, 5, ROWS);
    flush_as(c, (struct flushed){ .seg = 6, .delta = 70, .deleted = 200, .deleted_second = now });
    usleep(100000);
    assert_false(fx_told(fx, "compact("));
    assert_int_equal(ask(c, true, 0).plan_count, 0); /* for reads that began before */
    WAIT(fx_told(fx, "replace(5,rows=500,deltas=70)"));
    assert_true(clock_now_ms() >= now * 1000 + 2000);
    fx_free(fx);
}

static void test_rows_when_expired_then_segments_leave(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make_auto(fx, "c");
    data_node(fx);
    flush(c, 5, 100000);
    flush_as(c, (struct flushed){ .seg = 6, .rows = ROWS, .second = clock_now_ms() / 1000 });
    usleep(20000);
    assert_false(fx_told(fx, "compact("));
    fx->compact_rows = 0;
    set_property(c, "collection.ttl.seconds", "3600");
    WAIT(fx_told(fx, "replace(5,rows=0,"));
    assert_true(fx_told(fx, "compact(5,deltas=0,expire=1)"));
    WAIT(list(c)->n_segments == 1);
    assert_int_equal(list(c)->segments[0]->id, 6);
    fx_free(fx);
}

/* Who asks for rows to be kept longer finds those that are there. */
static void test_rows_when_kept_longer_meanwhile_then_they_stay(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make_auto(fx, "c");
    data_node(fx);
    flush(c, 5, 100000);
    fx->compact_rows = 0;
    fx->compact_hold = true;
    set_property(c, "collection.ttl.seconds", "3600");
    WAIT(fx_told(fx, "compact(5,deltas=0,expire=1)"));
    set_property(c, "collection.ttl.seconds", "3155760000");
    fx->compact_hold = false;
    usleep(600000); /* past the next try */
    assert_int_equal(list(c)->n_segments, 1);
    assert_false(fx_told(fx, "replace("));
    set_property(c, "collection.ttl.seconds", "7200"); /* and it is looked at again */
    WAIT(fx_told(fx, "replace(5,rows=0,"));
    WAIT(list(c)->n_segments == 0);
    fx_free(fx);
}

/* As if built. */
static void have_index_files(struct coll c, int64_t segment)
{
    struct co_coll *coll = co__by_id(c.fx->co, c.id);
    struct status st = STATUS_INIT;
    struct co_txn tx;
    co__txn_init(&tx, c.fx->co, c.fx->ar);
    for (size_t i = 0; i < coll->indexes.n; i++) {
        Elanus__SegmentIndex *file = ARENA_NEW(c.fx->ar, Elanus__SegmentIndex);
        elanus__segment_index__init(file);
        file->collection_id = c.id;
        file->index_id = coll->indexes.v[i]->id;
        file->segment_id = segment;
        file->build_id = segment;
        co__put(&tx, CO_SEGINDEX, file);
    }
    ASSERT_OK(co__commit(&tx, &st));
    co__txn_done(&tx);
}

/* A source goes with a file of every index: fewer fit into a transaction. */
static void test_compact_when_indexes_are_many_then_the_change_fits_one_transaction(void **state)
{
    enum { FIELDS = 8, SEGMENTS = 128 };
    struct fx *fx = fx_new();
    Elanus__CreateCollectionReq *req = fx_create_req(fx, "", "c");
    Elanus__CollectionInfo info = ELANUS__COLLECTION_INFO__INIT;
    Elanus__CompactSegmentsResp r;
    struct coll c;
    req->schema->fields = arena_alloc(fx->ar, (FIELDS + 1) * sizeof(pb_field *));
    req->schema->fields[0] = fx_field(fx, "id", 5);
    req->schema->fields[0]->is_primary_key = true;
    for (int i = 0; i < FIELDS; i++) {
        req->schema->fields[i + 1] = fx_field(fx, arena_printf(fx->ar, "v%d", i), 101);
        fx_param(fx, req->schema->fields[i + 1], "dim", "4");
    }
    req->schema->n_fields = FIELDS + 1;
    ASSERT_CALL(CALL(fx, root, create_collection, req, &info));
    ASSERT_CALL(fx_describe(fx, "", "c", &info));
    c = (struct coll){ fx, "c", info.collection->id, info.partitions[0]->id,
                       info.collection->vchannels[0] };
    for (int i = 0; i < FIELDS; i++) {
        ASSERT_CALL(fx_index(fx, "c", arena_printf(fx->ar, "v%d", i), arena_printf(fx->ar, "i%d", i),
                             "HNSW"));
    }
    for (int i = 0; i < SEGMENTS; i++) {
        flush(c, 1000 + i, 5000);
        have_index_files(c, 1000 + i);
    }
    assert_int_equal(fx_keys(fx, "/elanus/data/segindex/"), FIELDS * SEGMENTS);
    data_node(fx);
    r = ask(c, false, INT64_C(1) << 40);
    WAIT(all_in(c, r.compaction_id, DONE));
    assert_int_equal(list(c)->n_segments, r.plan_count);
    assert_true(r.plan_count < 5);
    fx_free(fx);
}

static void test_compact_when_the_data_node_fails_then_tried_again_or_given_up(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make_auto(fx, "c");
    Elanus__CompactSegmentsResp r;
    data_node(fx);
    fx->fail_on = "compact";
    fx->fail_code = ST_NO_SPACE;
    for (int i = 5; i < 8; i++) {
        flush(c, i, ROWS);
    }
    WAIT(list(c)->n_segments == 1);
    assert_int_equal(fx_count(fx, "compact("), 2);
    fx->fail_on = "compact";
    fx->fail_code = ST_TOO_LARGE;
    flush(c, 15, ROWS);
    r = ask(c, false, 0);
    WAIT(all_in(c, r.compaction_id, FAILED));
    assert_string_equal(state_of(c, r.compaction_id)->plans[0]->failure, "the node refuses compact");
    assert_int_equal(list(c)->n_segments, 2);
    WAIT(objects(fx, "segments/") == 2);
    fx_free(fx);
}

static void test_shard_when_it_cannot_be_told_then_old_files_stay_until_it_is(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    Elanus__CompactSegmentsResp r;
    data_node(fx);
    flush(c, 5, ROWS);
    flush(c, 6, ROWS);
    fx->fail_on = "replace";
    fx->fail_code = ST_CORRUPT; /* whatever it is */
    r = ask(c, false, 0);
    WAIT(fx_told(fx, "replace("));
    WAIT(list(c)->n_segments == 1);
    if (fx_count(fx, "replace(") == 1) {
        assert_int_equal(objects(fx, "segments/"), 3);
    }
    WAIT(all_in(c, r.compaction_id, DONE));
    assert_int_equal(fx_count(fx, "replace("), 2);
    assert_int_equal(fx_count(fx, "compact("), 1);
    WAIT(objects(fx, "segments/") == 1);
    fx_free(fx);
}

static void test_compact_when_too_many_wait_then_busy(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    Elanus__CompactSegmentsReq req = ELANUS__COMPACT_SEGMENTS_REQ__INIT;
    Elanus__CompactSegmentsResp resp = ELANUS__COMPACT_SEGMENTS_RESP__INIT;
    req.collection_id = c.id;
    data_node(fx);
    flush(c, 5, ROWS);
    flush(c, 6, ROWS);
    fx->compact_hold = true;
    ask(c, false, 0);
    WAIT(fx_told(fx, "compact("));
    for (int i = 0; i < 1000; i++) {
        ask(c, false, 0);
    }
    ASSERT_REFUSED(CALL(fx, data, compact, &req, &resp), ST_BUSY,
                   "1000 requests to compact wait: try again later");
    assert_int_equal(state_of(c, 0)->n_plans, 0); /* nobody's are not shown */
    fx->compact_hold = false;
    WAIT(list(c)->n_segments == 1);
    WAIT(CALL(fx, data, compact, &req, &resp) == 0);
    fx_free(fx);
}

static void test_collection_when_dropped_meanwhile_then_cancelled_and_nothing_is_left(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    data_node(fx);
    flush(c, 5, ROWS);
    flush(c, 6, ROWS);
    fx->compact_hold = true;
    ask(c, false, 0);
    WAIT(fx_told(fx, "compact("));
    ASSERT_CALL(fx_drop(fx, "", "c"));
    WAIT(fx_told(fx, "cancelled(compact)"));
    fx->compact_hold = false;
    WAIT(objects(fx, "segments/") == 0);
    assert_false(fx_told(fx, "replace("));
    fx_free(fx);
}

static void test_partition_when_dropped_meanwhile_then_the_plan_ends(void **state)
{
    struct fx *fx = fx_new();
    struct coll c = make(fx, "c");
    Elanus__CollectionInfo info;
    data_node(fx);
    ASSERT_CALL(fx_partition(fx, true, "c", "p"));
    ASSERT_CALL(fx_describe(fx, "", "c", &info));
    for (int i = 5; i < 7; i++) {
        flush_as(c, (struct flushed){ .seg = i, .rows = ROWS, .part = info.partitions[1]->id });
    }
    fx->compact_hold = true;
    Elanus__CompactSegmentsResp r = ask(c, false, 0);
    WAIT(fx_told(fx, "compact("));
    ASSERT_CALL(fx_partition(fx, false, "c", "p"));
    WAIT(all_in(c, r.compaction_id, DONE));
    WAIT(objects(fx, "segments/") == 0);
    assert_false(fx_told(fx, "replace("));
    fx_free(fx);
}

static void test_compact_when_switched_off_then_refused(void **state)
{
    struct fx *fx = fx_new();
    struct status st = STATUS_INIT;
    struct coll c;
    Elanus__CompactSegmentsReq req = ELANUS__COMPACT_SEGMENTS_REQ__INIT;
    Elanus__CompactSegmentsResp resp = ELANUS__COMPACT_SEGMENTS_RESP__INIT;
    ASSERT_OK(config_set(fx->cfg, "dataCoord.enableCompaction", SLICE_LIT("false"), &st));
    fx_restart(fx);
    c = make_auto(fx, "c");
    data_node(fx);
    for (int i = 5; i < 9; i++) {
        flush(c, i, ROWS);
    }
    req.collection_id = c.id;
    ASSERT_REFUSED(CALL(fx, data, compact, &req, &resp), ST_UNSUPPORTED,
                   "compaction is switched off (dataCoord.enableCompaction)");
    usleep(20000);
    assert_false(fx_told(fx, "compact("));
    req.collection_id = 4;
    ASSERT_OK(config_set(fx->cfg, "dataCoord.enableCompaction", SLICE_LIT("true"), &st));
    fx_restart(fx);
    ASSERT_REFUSED(CALL(fx, data, compact, &req, &resp), ERR_COLLECTION_NOT_FOUND,
                   "collection not found[collection=4]");
    fx_free(fx);
}

#ifdef ELANUS_FAULTS
/* Each step fails once, then the program starts anew or goes on: the same rows, no file too many. */
static void test_steps_when_each_fails_then_no_segment_is_lost_or_twice(void **state)
{
    static const char *const points[] = { "compact_before_files:error:1", "compact_before_commit:error:1",
                                          "compact_after_commit:error:1", "meta_txn_before_commit:error:1",
                                          "meta_txn_after_commit:error:1" };
    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        for (int restart = 0; restart < 2; restart++) {
            struct fx *fx = fx_new();
            struct coll c = make(fx, "c");
            Elanus__CompactSegmentsResp r;
            data_node(fx);
            flush(c, 5, ROWS);
            flush(c, 6, ROWS);
            fault_arm(points[i]);
            r = ask(c, false, 0);
            if (restart) {
                WAIT(fx_told(fx, "compact(") || i == 0);
                usleep(10000);
                fault_arm(NULL);
                fx_restart(fx);
                assert_true(list(c)->n_segments == 1 || list(c)->n_segments == 2);
                assert_int_equal(objects(fx, "segments/"), list(c)->n_segments);
                data_node(fx);
                r = ask(c, false, 0);
            }
            WAIT(all_in(c, r.compaction_id, DONE));
            WAIT(list(c)->n_segments == 1);
            assert_int_equal(list(c)->segments[0]->num_rows, 2 * ROWS);
            fault_arm(NULL);
            fx_free(fx);
        }
    }
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_segments_when_small_then_merged_and_the_old_ones_are_gone),
        cmocka_unit_test(test_collections_when_many_are_found_at_once_then_all_have_plans),
        cmocka_unit_test(test_flush_when_committed_again_after_a_rewriting_then_rows_do_not_come_twice),
        cmocka_unit_test(test_segments_when_the_log_is_needed_for_them_then_left_alone),
        cmocka_unit_test(test_segments_when_of_other_partitions_or_not_wanted_then_not_merged),
        cmocka_unit_test(test_segments_when_indexed_then_the_new_one_has_its_file_before_it_is_read),
        cmocka_unit_test(test_compact_when_asked_then_its_state_tells_and_full_ones_stay),
        cmocka_unit_test(test_segment_when_an_index_would_have_it_in_order_then_rewritten_when_asked_once),
        cmocka_unit_test(test_segment_when_small_or_of_other_indexes_then_order_is_no_reason),
        cmocka_unit_test(test_rows_when_none_is_left_then_segments_go_without_another),
        cmocka_unit_test(test_deletes_when_many_then_rewritten_and_their_file_goes_when_nobody_needs_it),
        cmocka_unit_test(test_deletes_when_of_a_growing_row_or_another_segment_then_their_file_stays),
        cmocka_unit_test(test_deletes_when_young_then_rewritten_once_they_are_old_enough),
        cmocka_unit_test(test_rows_when_expired_then_segments_leave),
        cmocka_unit_test(test_rows_when_kept_longer_meanwhile_then_they_stay),
        cmocka_unit_test(test_compact_when_indexes_are_many_then_the_change_fits_one_transaction),
        cmocka_unit_test(test_compact_when_the_data_node_fails_then_tried_again_or_given_up),
        cmocka_unit_test(test_shard_when_it_cannot_be_told_then_old_files_stay_until_it_is),
        cmocka_unit_test(test_compact_when_too_many_wait_then_busy),
        cmocka_unit_test(test_collection_when_dropped_meanwhile_then_cancelled_and_nothing_is_left),
        cmocka_unit_test(test_partition_when_dropped_meanwhile_then_the_plan_ends),
        cmocka_unit_test(test_compact_when_switched_off_then_refused),
#ifdef ELANUS_FAULTS
        cmocka_unit_test(test_steps_when_each_fails_then_no_segment_is_lost_or_twice),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
