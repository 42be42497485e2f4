/* test_node_index.c - index files from build to use: the same answers as without, whatever happens
 * to files and processes. The type is exact, so that answers can be compared as text. */
#include "roles.h"
#include "base/fault.h"
#include "base/hash.h"
#include "index/ixfile.h"
#include <stdio.h>
#include <unistd.h>

enum { ROWS = 600 };

static struct roles *start(void)
{
    struct roles_opts o = { .rocksdb = true, .index_rows_min = 100, .compute_threads = 1 };
    return roles_new(&o);
}

static void same(const char *a, const char *b)
{
    if (strcmp(a, b) != 0) {
        print_message("--- before\n%s\n--- after\n%s\n", a, b);
    }
    assert_string_equal(a, b);
}

static const char *FILTER = "n == 2 and not (s like \"s3%\")";

/* A loaded collection with rows, some of them deleted or written twice. */
static struct rcoll *filled(struct roles *r, int shards)
{
    struct rcoll *c = rcoll_new(r, "c", shards);
    rcoll_load(c, NULL);
    rcoll_insert(c, NULL, 0, ROWS, 1);
    rcoll_delete(c, NULL, 10, 20);
    rcoll_upsert(c, NULL, 25, 200, 2);
    return c;
}

static Elanus__SegmentIndexesResp *files(struct rcoll *c)
{
    Elanus__SegmentIndexesReq req = ELANUS__SEGMENT_INDEXES_REQ__INIT;
    Elanus__SegmentIndexesResp *resp = ARENA_NEW(c->r->ar, Elanus__SegmentIndexesResp);
    struct status st = STATUS_INIT;
    elanus__segment_indexes_resp__init(resp);
    req.collection_id = c->id;
    ASSERT_OK(c->r->data.segment_indexes(c->r->data.self, &c->r->call, &req, resp, &st));
    return resp;
}

/* The id of the only file, 0 when there is none: between two questions it may go. */
static int64_t file_id(struct rcoll *c)
{
    Elanus__SegmentIndexesResp *resp = files(c);
    return resp->n_files == 1 ? resp->files[0]->build_id : 0;
}

static void test_index_when_built_restarted_loaded_then_answers_are_identical(void **state)
{
    for (int shards = 1; shards <= 2; shards++) {
        struct roles *r = start();
        struct rcoll *c = filled(r, shards);
        const char *all = rcoll_dump(c, NULL, 0), *some = rcoll_dump(c, FILTER, 0);
        hts before = roles_now(r);
        size_t n = (size_t)shards;
        rcoll_flush(c);
        R_WAIT(rcoll_indexed_segments(c) == n);
        assert_int_equal(files(c)->n_files, n);
        same(all, rcoll_dump(c, NULL, 0));
        same(some, rcoll_dump(c, FILTER, 0));
        rcoll_delete(c, NULL, 300, 100);
        same(all, rcoll_dump(c, NULL, before)); /* deletes hide nothing from earlier readers */
        all = rcoll_dump(c, NULL, 0);
        some = rcoll_dump(c, FILTER, 0);
        rcoll_release(c, NULL);
        rcoll_load(c, NULL);
        assert_int_equal(rcoll_indexed_segments(c), n); /* when the load has returned */
        same(all, rcoll_dump(c, NULL, 0));
        roles_restart(r);
        R_WAIT(rcoll_indexed_segments(c) == n);
        same(all, rcoll_dump(c, NULL, 0));
        same(some, rcoll_dump(c, FILTER, 0));
        assert_int_equal(files(c)->n_files, n);
        rcoll_free(c);
        roles_free(r);
    }
}

static void damage(struct roles *r, const char *key)
{
    char *path = arena_printf(r->ar, "%s/objects/%s", r->dir, key);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, 20, SEEK_SET);
    fputc(0x5a, f);
    fclose(f);
}

/* As a program would have written it whose files are of another format. */
static void age(struct roles *r, const char *key)
{
    char *path = arena_printf(r->ar, "%s/objects/%s", r->dir, key);
    FILE *f = fopen(path, "r+b");
    struct ix_head h;
    assert_non_null(f);
    assert_int_equal(fread(&h, sizeof h, 1, f), 1);
    h.format += 7;
    h.crc = crc32c(0, &h, offsetof(struct ix_head, crc));
    rewind(f);
    assert_int_equal(fwrite(&h, sizeof h, 1, f), 1);
    fclose(f);
}

static void cut(struct roles *r, const char *key)
{
    char *path = arena_printf(r->ar, "%s/objects/%s", r->dir, key);
    assert_int_equal(truncate(path, 5000), 0);
}

static void test_file_when_aged_damaged_or_gone_then_exact_answers_and_built_anew(void **state)
{
    struct roles *r = start();
    struct rcoll *c = filled(r, 1);
    const char *all = rcoll_dump(c, NULL, 0);
    struct status st = STATUS_INIT;
    int64_t build_id, id;
    rcoll_flush(c);
    for (int i = 0; i < 4; i++) {
        R_WAIT(rcoll_indexed_segments(c) == 1);
        build_id = file_id(c);
        assert_true(build_id != 0);
        if (i < 3) {
            void (*const how[])(struct roles *, const char *) = { damage, age, cut };
            how[i](r, files(c)->files[0]->object_key);
        } else {
            ASSERT_OK(object_delete(r->os, slice_of(files(c)->files[0]->object_key), &st));
        }
        roles_restart(r);
        same(all, rcoll_dump(c, NULL, 0));
        R_WAIT((id = file_id(c)) != 0 && id != build_id);
        R_WAIT(rcoll_indexed_segments(c) == 1);
        same(all, rcoll_dump(c, NULL, 0));
    }
    rcoll_free(c);
    roles_free(r);
}

/* Every step of a build fails once. */
static void test_build_when_a_step_fails_then_tried_again_and_one_file_is_left(void **state)
{
#ifdef ELANUS_FAULTS
    static const char *const points[] = {
        "index_before_build:error:1", "index_before_file:error:1", "index_after_file:error:1",
        "index_before_commit:error:1"
    };
    struct roles *r = start();
    struct rcoll *c = filled(r, 1);
    const char *all = rcoll_dump(c, NULL, 0);
    struct status st = STATUS_INIT;
    rcoll_flush(c);
    for (size_t i = 0; i < ARRAY_LEN(points); i++) {
        struct object_range range = { .prefix = SLICE_LIT("segments/") };
        struct object_list list = { 0 };
        R_WAIT(rcoll_indexed_segments(c) == 1);
        damage(r, files(c)->files[0]->object_key);
        fault_arm(points[i]);
        roles_restart(r);
        same(all, rcoll_dump(c, NULL, 0));
        R_WAIT(rcoll_indexed_segments(c) == 1);
        fault_arm(NULL);
        same(all, rcoll_dump(c, NULL, 0));
        roles_restart(r); /* what is left over goes */
        ASSERT_OK(object_list(r->os, &range, r->ar, &list, &st));
        assert_int_equal(list.n, 2);
    }
    rcoll_free(c);
    roles_free(r);
#else
    skip();
#endif
}

static void test_index_when_collection_is_dropped_then_no_file_and_no_key_is_left(void **state)
{
    struct roles *r = start();
    struct rcoll *c = filled(r, 2);
    struct object_range range = { .prefix = SLICE_LIT("segments/") };
    struct object_list list = { 0 };
    struct meta_range keys = { .prefix = SLICE_LIT("/elanus/data/"), .keys_only = true };
    struct meta_list found = { 0 };
    struct status st = STATUS_INIT;
    rcoll_flush(c);
    R_WAIT(rcoll_indexed_segments(c) == 2);
    ASSERT_OK(rcoll_drop(c));
    R_WAIT(object_list(r->os, &range, r->ar, &list, &st) == 0 && list.n == 0);
    ASSERT_OK(meta_list(r->meta, &keys, r->ar, &found, &st));
    assert_int_equal(found.n, 0);
    rcoll_free(c);
    roles_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index_when_built_restarted_loaded_then_answers_are_identical),
        cmocka_unit_test(test_file_when_aged_damaged_or_gone_then_exact_answers_and_built_anew),
        cmocka_unit_test(test_build_when_a_step_fails_then_tried_again_and_one_file_is_left),
        cmocka_unit_test(test_index_when_collection_is_dropped_then_no_file_and_no_key_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
