/* test_node_order.c - segments whose rows lie in the order of their graph index: compaction makes
 * them, builds follow them, and no answer changes. */
#include "merge_fixture.h"
#include "index/graph/graph_int.h"
#include "index/ixfile.h"
#include <stdio.h>
#include <unistd.h>

enum { FLUSHES = 3, FLUSH_ROWS = 1400, ROWS = FLUSHES * FLUSH_ROWS };

static struct roles *start(const char *index_type)
{
    struct roles_opts o = { .rocksdb = true, .index_rows_min = 100, .compute_threads = 1,
                            .index_type = index_type };
    return roles_new(&o);
}

static void same(const char *a, const char *b)
{
    size_t i = 0, line = 0;
    for (; a[i] && a[i] == b[i]; i++) {
        line = a[i] == '\n' ? i + 1 : line;
    }
    if (a[i] != b[i]) {
        fail_msg("before: %.300s\nafter: %.300s\n", a + line, b + line);
    }
}

/* Keys that are neighbours come in different flushes; some rows are deleted or written twice. */
static struct rcoll *filled(struct roles *r)
{
    struct rcoll *c = rcoll_new(r, "c", 1);
    struct status st = STATUS_INIT;
    int64_t keys[FLUSH_ROWS];
    hts ts;
    rcoll_load(c, NULL);
    for (int64_t i = 0; i < FLUSHES; i++) {
        for (int64_t k = 0; k < FLUSH_ROWS; k++) {
            keys[k] = (i * FLUSH_ROWS + k) * 1009 % ROWS;
        }
        ASSERT_OK(rcoll_write(c, R_INSERT, NULL, (struct rkeys){ keys, FLUSH_ROWS }, i, &ts, &st));
        if (i == 1) {
            rcoll_delete(c, NULL, 10, 20);
            rcoll_upsert(c, NULL, 25, 100, 7);
        }
        rcoll_flush(c);
    }
    return c;
}

static Elanus__Segment *only_segment(struct rcoll *c)
{
    Elanus__SegmentsResp resp;
    struct status st = STATUS_INIT;
    ASSERT_OK(merge_list(c, c->r->ar, &resp, &st));
    assert_int_equal(resp.n_segments, 1);
    return resp.segments[0];
}

/* The answer to a request, when all its plans are done. */
static int compact(struct rcoll *c)
{
    Elanus__CompactSegmentsReq req = ELANUS__COMPACT_SEGMENTS_REQ__INIT;
    Elanus__CompactSegmentsResp resp = ELANUS__COMPACT_SEGMENTS_RESP__INIT;
    Elanus__CompactionStateReq sreq = ELANUS__COMPACTION_STATE_REQ__INIT;
    struct roles *r = c->r;
    struct status st = STATUS_INIT;
    bool done;
    req.collection_id = c->id;
    ASSERT_OK(r->data.compact(r->data.self, &r->call, &req, &resp, &st));
    sreq.compaction_id = resp.compaction_id;
    do {
        Elanus__CompactionStateResp state = ELANUS__COMPACTION_STATE_RESP__INIT;
        usleep(1000);
        ASSERT_OK(r->data.compaction_state(r->data.self, &r->call, &sreq, &state, &st));
        done = !state.waiting;
        for (size_t i = 0; i < state.n_plans; i++) {
            assert_int_not_equal(state.plans[i]->state, ELANUS__COMPACTION_PLAN_STATE__PLAN_FAILED);
            done &= state.plans[i]->state == ELANUS__COMPACTION_PLAN_STATE__PLAN_DONE;
        }
    } while (!done);
    return resp.plan_count;
}

static size_t objects(struct rcoll *c, const char *prefix)
{
    struct object_range range = { .prefix = slice_of(prefix) };
    struct object_list list = { 0 };
    struct status st = STATUS_INIT;
    ASSERT_OK(object_list(c->r->os, &range, c->r->ar, &list, &st));
    return list.n;
}

static const char *below(struct rcoll *c, const char *name)
{
    return arena_printf(c->r->ar, "%s/%s", only_segment(c)->object_prefix, name);
}

static const char *plan_key(struct rcoll *c)
{
    return below(c, arena_printf(c->r->ar, "order.%lld", (long long)c->schema->fields[1].id));
}

/* The file of the only segment; NULL: none yet. */
static Elanus__SegmentIndex *file(struct rcoll *c)
{
    Elanus__SegmentIndexesReq req = ELANUS__SEGMENT_INDEXES_REQ__INIT;
    Elanus__SegmentIndexesResp *resp = ARENA_NEW(c->r->ar, Elanus__SegmentIndexesResp);
    struct status st = STATUS_INIT;
    elanus__segment_indexes_resp__init(resp);
    req.collection_id = c->id;
    ASSERT_OK(c->r->data.segment_indexes(c->r->data.self, &c->r->call, &req, resp, &st));
    return resp->n_files == 1 ? resp->files[0] : NULL;
}

/* Whether nodes of the index in use are the rows themselves. */
static bool follows_rows(struct rcoll *c)
{
    struct status st = STATUS_INIT;
    struct mapping *map = NULL;
    struct ix_file ix;
    R_WAIT(rcoll_indexed_segments(c) == 1 && file(c));
    ASSERT_OK(object_map(c->r->os, slice_of(file(c)->object_key), &map, &st));
    struct index_source src = { .map = map->p, .size = map->n, .fd = -1 };
    ASSERT_OK(ix_file_open(&src, &ix, &st));
    assert_true(ix_has_section(&ix, GRAPH_LINK));
    bool follows = !ix_has_section(&ix, GRAPH_PERM);
    mapping_free(map);
    return follows;
}

static void index_anew(struct rcoll *c)
{
    Elanus__IndexReq drop = ELANUS__INDEX_REQ__INIT;
    Elanus__CreateIndexReq req = ELANUS__CREATE_INDEX_REQ__INIT;
    Elanus__Empty e = ELANUS__EMPTY__INIT;
    Milvus__Proto__Common__KeyValuePair kv[2], *params[2] = { &kv[0], &kv[1] };
    struct roles *r = c->r;
    struct status st = STATUS_INIT;
    rcoll_release(c, NULL);
    drop.collection_name = c->name;
    drop.field_name = "vec";
    ASSERT_OK(r->data.drop_index(r->data.self, &r->call, &drop, &e, &st));
    R_WAIT(objects(c, below(c, "index/")) == 0);
    for (int i = 0; i < 2; i++) {
        kv[i] = (Milvus__Proto__Common__KeyValuePair)MILVUS__PROTO__COMMON__KEY_VALUE_PAIR__INIT;
    }
    kv[0].key = "index_type";
    kv[0].value = "HNSW";
    kv[1].key = "metric_type";
    kv[1].value = "L2";
    req.collection_name = c->name;
    req.field_name = "vec";
    req.index_name = "again";
    req.params = params;
    req.n_params = 2;
    ASSERT_OK(r->data.create_index(r->data.self, &r->call, &req, &e, &st));
    R_WAIT(file(c) != NULL);
    rcoll_load(c, NULL);
}

static const char *FILTER = "n == 2 and not (s like \"s3%\")";

enum { SEARCHES = 40, TOPK = 10 };
struct answers {
    const char *rows[2]; /* all, and those that pass FILTER */
    int64_t hits[2][SEARCHES][TOPK];
};

static struct answers *answers(struct rcoll *c)
{
    struct answers *a = ARENA_NEW(c->r->ar, struct answers);
    struct status st = STATUS_INIT;
    for (int f = 0; f < 2; f++) {
        const char *filter = f ? FILTER : NULL;
        char *rows = arena_strdup(c->r->ar, rcoll_dump(c, filter, 0));
        *strstr(rows, "search ") = '\0';
        a->rows[f] = rows;
        for (int i = 0; i < SEARCHES; i++) {
            int64_t *keys;
            size_t n;
            ASSERT_OK(rcoll_search(c, filter, (float)i * 7.37f + 0.123f, TOPK, 0, c->r->ar, &keys,
                                   &n, &st));
            assert_int_equal(n, TOPK);
            memcpy(a->hits[f][i], keys, sizeof a->hits[f][i]);
        }
    }
    return a;
}

/* The very rows; of the hits, which a graph may miss now and then, nearly all. */
static void same_answers(struct rcoll *c, const struct answers *a)
{
    const struct answers *b = answers(c);
    int again = 0;
    for (int f = 0; f < 2; f++) {
        same(a->rows[f], b->rows[f]);
        for (int i = 0; i < SEARCHES; i++) {
            for (int k = 0; k < TOPK * TOPK; k++) {
                again += a->hits[f][i][k / TOPK] == b->hits[f][i][k % TOPK];
            }
        }
    }
    assert_in_range(again, 2 * SEARCHES * TOPK * 98 / 100, 2 * SEARCHES * TOPK);
}

/* Writes something else over the plan, or removes it. */
static void spoil_plan(struct rcoll *c, int how)
{
    struct status st = STATUS_INIT;
    struct object_info info;
    char *path = arena_printf(c->r->ar, "%s/objects/%s", c->r->dir, plan_key(c));
    FILE *f = fopen(path, "r+b");
    ASSERT_OK(object_stat(c->r->os, slice_of(plan_key(c)), &info, &st));
    assert_non_null(f);
    switch (how) {
    case 0: /* in the numbers */
        fseek(f, (long)info.size / 2, SEEK_SET);
        fputc(0x5a, f);
        fputc(0xa5, f);
        break;
    case 1:
        assert_int_equal(truncate(path, 0), 0);
        break;
    default:
        assert_int_equal(unlink(path), 0);
        break;
    }
    fclose(f);
}

static void test_compact_when_a_graph_is_to_be_built_then_rows_lie_in_its_order(void **state)
{
    struct roles *r = start("HNSW");
    struct rcoll *c = filled(r);
    const struct answers *before = answers(c);
    assert_int_equal(compact(c), 1);
    Elanus__Segment *seg = only_segment(c);
    assert_int_equal(seg->ordered_by, c->schema->fields[1].id);
    assert_true(follows_rows(c));
    same_answers(c, before);
    R_WAIT(objects(c, "segments/") == 3); /* rows, plan, index; of the others and `tmp` nothing */
    assert_int_equal(objects(c, plan_key(c)), 1);
    struct object_info rows, plan;
    struct status st = STATUS_INIT;
    ASSERT_OK(object_stat(r->os, slice_of(below(c, "rows.seg")), &rows, &st));
    ASSERT_OK(object_stat(r->os, slice_of(plan_key(c)), &plan, &st));
    assert_int_equal(seg->size_bytes, rows.size + plan.size);
    assert_int_equal(compact(c), 0); /* it is in order */
    roles_restart(r);
    assert_true(follows_rows(c));
    same_answers(c, before);
    assert_int_equal(objects(c, "segments/") , 3);
    index_anew(c);
    assert_true(follows_rows(c)); /* the plan is still there */
    same_answers(c, before);
    for (int how = 0; how < 3; how++) {
        print_message("plan spoiled in way %d\n", how);
        spoil_plan(c, how);
        index_anew(c);
        assert_false(follows_rows(c));
        same_answers(c, before);
    }
    rcoll_free(c);
    roles_free(r);
}

/* One segment that stays as it is but for its order: its own file serves as the rows as they came. */
static void test_compact_when_one_segment_is_left_then_ordered_once(void **state)
{
    struct roles *r = start("FLAT");
    struct rcoll *c = filled(r);
    const struct answers *before = answers(c);
    compact(c);
    assert_int_equal(only_segment(c)->ordered_by, 0); /* nothing asks for an order */
    assert_int_equal(compact(c), 0);
    index_anew(c);
    assert_false(follows_rows(c));
    int64_t id = only_segment(c)->id;
    assert_int_equal(compact(c), 1);
    assert_int_not_equal(only_segment(c)->id, id);
    assert_int_equal(only_segment(c)->ordered_by, c->schema->fields[1].id);
    assert_true(follows_rows(c));
    same_answers(c, before);
    R_WAIT(objects(c, "segments/") == 3);
    assert_int_equal(compact(c), 0);
    rcoll_free(c);
    roles_free(r);
}

/* AUTOINDEX of so few rows is a scan. */
static void test_compact_when_the_index_has_no_order_then_rows_lie_as_they_came(void **state)
{
    struct roles *r = start("AUTOINDEX");
    struct rcoll *c = filled(r);
    const struct answers *before = answers(c);
    assert_int_equal(compact(c), 1);
    assert_int_equal(only_segment(c)->ordered_by, -1);
    same_answers(c, before);
    R_WAIT(objects(c, "segments/") == 2);
    assert_int_equal(compact(c), 0);
    rcoll_free(c);
    roles_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compact_when_a_graph_is_to_be_built_then_rows_lie_in_its_order),
        cmocka_unit_test(test_compact_when_one_segment_is_left_then_ordered_once),
        cmocka_unit_test(test_compact_when_the_index_has_no_order_then_rows_lie_as_they_came),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
