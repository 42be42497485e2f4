/* test_px_cache.c - look-ups through the cache, and invalidations that race with them. */
#include "px_fixture.h"
#include <pthread.h>
#include <sched.h>

static void test_second_look_up_does_not_ask(void **state)
{
    const struct px_coll *a, *b;
    struct status st = STATUS_INIT;
    struct fx fx;

    fx_start(&fx, NULL);
    ASSERT_OK(px_collection(&fx.pc, "", "c", &a, &st));
    ASSERT_OK(px_collection(&fx.pc, "default", "c", &b, &st));
    assert_ptr_equal(a, b);
    assert_int_equal(fx.describes, 1);
    assert_int_equal(a->nvectors, 1);
    assert_int_equal(a->first_vector->id, 101);
    fx_stop(&fx);
}

static void test_a_miss_is_told_in_the_api_s_words_and_not_kept(void **state)
{
    const struct px_coll *c;
    struct status st = STATUS_INIT;
    struct fx fx;

    fx_start(&fx, NULL);
    assert_int_equal(px_collection(&fx.pc, "", "nope", &c, &st), ERR_COLLECTION_NOT_FOUND);
    assert_string_equal(st.msg, "collection not found[database=default][collection=nope]");
    st_clear(&st);
    assert_int_equal(px_collection_or_id(&fx.pc, "d", "nope", 0, &c, &st),
                     ERR_COLLECTION_NOT_FOUND);
    assert_string_equal(st.msg, "can't find collection[database=d][collection=nope]");
    assert_int_equal(px_cache_count(fx.px->cache), 0);
    fx_stop(&fx);
}

static void test_an_illegal_name_never_reaches_the_coordinator(void **state)
{
    const struct px_coll *c;
    struct status st = STATUS_INIT;
    struct fx fx;

    fx_start(&fx, NULL);
    assert_int_equal(px_collection(&fx.pc, "", "1c", &c, &st), ERR_PARAMETER_INVALID);
    assert_non_null(strstr(st.msg, "Invalid collection name: 1c."));
    assert_int_equal(px_collection(&fx.pc, "", "", &c, &st), ERR_PARAMETER_INVALID);
    assert_int_equal(fx.describes, 0);
    fx_stop(&fx);
}

static void test_by_id_when_there_is_no_name(void **state)
{
    const struct px_coll *c;
    struct status st = STATUS_INIT;
    struct fx fx;

    fx_start(&fx, NULL);
    ASSERT_OK(px_collection_or_id(&fx.pc, "", "", FX_COLL, &c, &st));
    assert_string_equal(c->pb->name, "c");
    assert_int_equal(px_cache_count(fx.px->cache), 0);
    fx_stop(&fx);
}

static void test_invalidation_by_id_takes_aliases_along(void **state)
{
    const struct px_coll *c;
    struct status st = STATUS_INIT;
    struct fx fx;

    fx_start(&fx, NULL);
    ASSERT_OK(px_collection(&fx.pc, "", "c", &c, &st));
    ASSERT_OK(px_collection(&fx.pc, "", "other", &c, &st));
    assert_int_equal(px_cache_count(fx.px->cache), 2);
    fx_invalidate(&fx, FX_COLL, NULL);
    assert_int_equal(px_cache_count(fx.px->cache), 0);
    /* What a call has pinned lives on. */
    assert_string_equal(c->pb->name, "c");
    ASSERT_OK(px_collection(&fx.pc, "", "c", &c, &st));
    assert_int_equal(fx.describes, 3);
    fx_stop(&fx);
}

static void test_invalidation_by_name_alone(void **state)
{
    const struct px_coll *c;
    struct status st = STATUS_INIT;
    struct fx fx;

    fx_start(&fx, NULL);
    ASSERT_OK(px_collection(&fx.pc, "", "c", &c, &st));
    fx_invalidate(&fx, 0, "c");
    assert_int_equal(px_cache_count(fx.px->cache), 0);
    fx_stop(&fx);
}

static void load_and_tell(struct fx *fx)
{
    fx->loaded = true;
    fx_invalidate(fx, FX_COLL, "c");
}

static void test_an_answer_older_than_an_invalidation_is_not_kept(void **state)
{
    const struct px_coll *c;
    struct status st = STATUS_INIT;
    struct fx fx;

    fx_start(&fx, NULL);
    fx.during_describe = load_and_tell;
    ASSERT_OK(px_collection(&fx.pc, "", "c", &c, &st));
    assert_null(c->info->load); /* this request may see the old state ... */
    assert_int_equal(px_cache_count(fx.px->cache), 0);
    ASSERT_OK(px_collection(&fx.pc, "", "c", &c, &st));
    assert_non_null(c->info->load); /* ... the next one must not */
    fx_stop(&fx);
}

static void test_not_loaded_is_checked_before_it_is_said(void **state)
{
    const struct px_coll *c;
    struct status st = STATUS_INIT;
    struct fx fx;

    fx_start(&fx, NULL);
    assert_int_equal(px_collection_loaded(&fx.pc, "", "c", &c, &st), ERR_COLLECTION_NOT_LOADED);
    assert_string_equal(st.msg, "collection not loaded[collection=c]");
    st_clear(&st);
    fx.loaded = true; /* nobody told the proxy */
    ASSERT_OK(px_collection_loaded(&fx.pc, "", "c", &c, &st));
    fx_stop(&fx);
}

static void test_failure_of_the_coordinator_passes_through(void **state)
{
    const struct px_coll *c;
    struct status st = STATUS_INIT;
    struct fx fx;

    fx_start(&fx, NULL);
    fx.fail_code = ST_UNAVAILABLE;
    assert_int_equal(px_collection(&fx.pc, "", "c", &c, &st), ST_UNAVAILABLE);
    assert_true(st.retriable);
    fx_stop(&fx);
}

static void test_partition_ids(void **state)
{
    static const char *const names[] = { "p1", "_default" };
    const struct px_coll *c;
    struct status st = STATUS_INIT;
    int64_t *ids;
    size_t n;
    struct fx fx;

    fx_start(&fx, NULL);
    ASSERT_OK(px_collection(&fx.pc, "", "c", &c, &st));
    ASSERT_OK(px_partition_ids(&fx.pc, c, 0, NULL, &ids, &n, &st));
    assert_int_equal(n, 0);
    assert_int_equal(px_partition_ids(&fx.pc, c, 2, names, &ids, &n, &st),
                     ERR_PARTITION_NOT_FOUND);
    assert_string_equal(st.msg, "partition name p1 not found");
    st_clear(&st);
    fx.partitions[fx.npartitions++] = "p1"; /* newer than the cache */
    ASSERT_OK(px_partition_ids(&fx.pc, c, 2, names, &ids, &n, &st));
    assert_int_equal(ids[0], 71);
    assert_int_equal(ids[1], 70);
    fx_stop(&fx);
}

static void test_partition_names_are_refused_with_a_partition_key(void **state)
{
    static const char *const names[] = { "_default" };
    const struct px_coll *c;
    struct status st = STATUS_INIT;
    int64_t *ids;
    size_t n;
    struct fx fx;

    fx_start(&fx, NULL);
    fx.partition_key = true;
    ASSERT_OK(px_collection(&fx.pc, "", "c", &c, &st));
    assert_int_equal(px_partition_ids(&fx.pc, c, 1, names, &ids, &n, &st), ERR_PARAMETER_INVALID);
    assert_non_null(strstr(st.msg, "not support manually specifying the partition names if "
                                   "partition key mode is used"));
    fx_stop(&fx);
}

static void test_the_route_is_asked_for_once(void **state)
{
    const struct px_coll *c;
    struct status st = STATUS_INIT;
    struct px_shard *shards;
    size_t n;
    struct fx fx;

    fx_start(&fx, NULL);
    ASSERT_OK(px_collection(&fx.pc, "", "c", &c, &st));
    ASSERT_OK(px_shards(&fx.pc, c, &shards, &n, &st));
    ASSERT_OK(px_shards(&fx.pc, c, &shards, &n, &st));
    assert_int_equal(n, 1);
    assert_string_equal(shards[0].vchannel, "dml_0_7v0");
    assert_ptr_equal(shards[0].sn, &fx.snode);
    assert_int_equal(fx.locates, 1);
    px_collection_forget(&fx.pc, c);
    ASSERT_OK(px_collection(&fx.pc, "", "c", &c, &st));
    ASSERT_OK(px_shards(&fx.pc, c, &shards, &n, &st));
    assert_int_equal(fx.locates, 2);
    fx_stop(&fx);
}

static void test_index_and_its_params(void **state)
{
    const struct px_coll *c;
    struct status st = STATUS_INIT;
    struct fx fx;

    fx_start(&fx, NULL);
    fx.has_index = true;
    ASSERT_OK(px_collection(&fx.pc, "", "c", &c, &st));
    assert_null(px_index_of(c, 100));
    assert_string_equal(px_index_param(px_index_of(c, 101), "metric_type"), "L2");
    assert_null(px_index_param(px_index_of(c, 101), "nlist"));
    assert_null(px_property(c, "collection.ttl.seconds"));
    fx_stop(&fx);
}

/* ---- look-ups against invalidations, on threads ---- */

struct race {
    struct fx fx;
    _Atomic uint64_t version;   /* what the coordinator would answer */
    _Atomic uint64_t announced; /* every proxy has been told of this one */
    _Atomic bool stop;
};

static int race_describe(void *self, const struct call *call,
                         const Elanus__DescribeCollectionReq *req, Elanus__CollectionInfo *resp,
                         struct status *st)
{
    struct race *r = self;
    uint64_t version = atomic_load(&r->version);

    fx_info(&r->fx, call->ar, resp);
    resp->collection->created_ts = version;
    sched_yield(); /* between what is known and what arrives */
    return 0;
}

static void *race_reader(void *arg)
{
    struct race *r = arg;
    uintptr_t stale = 0;

    while (!atomic_load(&r->stop)) {
        struct arena *ar = arena_new(0);
        struct status st = STATUS_INIT;
        const struct px_coll *c;
        struct px_call pc;
        uint64_t least = atomic_load(&r->announced);

        px_call_init(&pc, r->fx.px, ar);
        if (px_collection(&pc, "", "c", &c, &st) != 0 || c->pb->created_ts < least) {
            stale++;
        }
        px_call_done(&pc);
        arena_free(ar);
    }
    return (void *)stale;
}

static void test_no_look_up_sees_what_was_invalidated_before_it(void **state)
{
    pthread_t readers[3];
    struct race r = { 0 };

    fx_start(&r.fx, NULL);
    r.fx.root.self = &r;
    r.fx.root.describe_collection = race_describe;
    for (size_t i = 0; i < ARRAY_LEN(readers); i++) {
        assert_int_equal(pthread_create(&readers[i], NULL, race_reader, &r), 0);
    }
    for (uint64_t v = 1; v <= 3000; v++) {
        atomic_store(&r.version, v);
        fx_invalidate(&r.fx, FX_COLL, "c");
        atomic_store(&r.announced, v);
        sched_yield();
    }
    atomic_store(&r.stop, true);
    for (size_t i = 0; i < ARRAY_LEN(readers); i++) {
        void *stale;
        pthread_join(readers[i], &stale);
        assert_int_equal((uintptr_t)stale, 0);
    }
    fx_stop(&r.fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_second_look_up_does_not_ask),
        cmocka_unit_test(test_a_miss_is_told_in_the_api_s_words_and_not_kept),
        cmocka_unit_test(test_an_illegal_name_never_reaches_the_coordinator),
        cmocka_unit_test(test_by_id_when_there_is_no_name),
        cmocka_unit_test(test_invalidation_by_id_takes_aliases_along),
        cmocka_unit_test(test_invalidation_by_name_alone),
        cmocka_unit_test(test_an_answer_older_than_an_invalidation_is_not_kept),
        cmocka_unit_test(test_not_loaded_is_checked_before_it_is_said),
        cmocka_unit_test(test_failure_of_the_coordinator_passes_through),
        cmocka_unit_test(test_partition_ids),
        cmocka_unit_test(test_partition_names_are_refused_with_a_partition_key),
        cmocka_unit_test(test_the_route_is_asked_for_once),
        cmocka_unit_test(test_index_and_its_params),
        cmocka_unit_test(test_no_look_up_sees_what_was_invalidated_before_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
