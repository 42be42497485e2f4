/* test_ixfile.c - the head of an index file: age is not damage, and damage is not age. */
#include "conform.h"

#include "base/hash.h"

static struct cf_set set;

/* What opening the file says with its head changed by `how`, the sum mended or not. */
static int open_changed(struct cf_index *x, void (*how)(struct ix_head *h), bool mend,
                        struct status *st)
{
    uint8_t *copy = alloc_try_aligned(IX_ALIGN, ROUND_UP(x->file.n, IX_ALIGN));
    struct cf_file file = { .p = copy, .n = x->file.n };
    struct ix_head *h = (struct ix_head *)(void *)copy;
    struct index *ix = NULL;
    int rc;
    memcpy(copy, x->file.p, x->file.n);
    how(h);
    if (mend) {
        h->crc = crc32c(0, h, offsetof(struct ix_head, crc));
    }
    st_clear(st);
    rc = cf_open(&set, &file, &ix, st);
    index_free(ix);
    mem_free(copy);
    return rc;
}

static void as_it_is(struct ix_head *h)
{
    (void)h;
}
static void format_0(struct ix_head *h)
{
    h->format = 0;
}
static void format_1(struct ix_head *h)
{
    h->format = 1;
}
static void format_3(struct ix_head *h)
{
    h->format = 3;
}
static void version_2(struct ix_head *h)
{
    h->version = 2;
}
static void type_200(struct ix_head *h)
{
    h->type = 200;
}
static void other_rows(struct ix_head *h)
{
    h->nrows++;
}

static void test_build_then_the_head_carries_the_format_of_its_type(void **state)
{
    struct cf_index x;
    cf_index_new(&x, &set, INDEX_HNSW);
    assert_int_equal(((const struct ix_head *)(const void *)x.file.p)->format,
                     index__format(INDEX_HNSW));
    assert_int_equal(((const struct ix_head *)(const void *)x.file.p)->version, IX_VERSION);
    cf_index_done(&x);
    for (int t = 0; t < INDEX_TYPE_COUNT; t++) {
        assert_int_equal(index__format((enum index_type)t) > 0,
                         index__ops((enum index_type)t) != NULL);
    }
}

static void test_open_when_format_is_another_then_unsupported_and_both_are_named(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_index x;
    cf_index_new(&x, &set, INDEX_HNSW);
    ASSERT_OK(open_changed(&x, as_it_is, true, &st));
    assert_int_equal(open_changed(&x, format_1, true, &st), ST_UNSUPPORTED);
    assert_non_null(strstr(st.msg, "HNSW of format 1, this program reads 2"));
    assert_int_equal(open_changed(&x, format_0, true, &st), ST_UNSUPPORTED);
    assert_non_null(strstr(st.msg, "HNSW of format 1, this program reads 2"));
    assert_int_equal(open_changed(&x, format_3, true, &st), ST_UNSUPPORTED);
    assert_non_null(strstr(st.msg, "HNSW of format 3, this program reads 2"));
    assert_int_equal(open_changed(&x, version_2, true, &st), ST_UNSUPPORTED);
    assert_non_null(strstr(st.msg, "version 2, this program reads 1"));
    assert_int_equal(open_changed(&x, type_200, true, &st), ST_UNSUPPORTED);
    assert_non_null(strstr(st.msg, "type 200"));
    assert_int_equal(open_changed(&x, other_rows, true, &st), ST_INVALID);
    cf_index_done(&x);
}

static void test_open_when_file_is_from_before_formats_then_it_is_of_format_1(void **state)
{
    struct status st = STATUS_INIT;
    struct cf_index x;
    cf_index_new(&x, &set, INDEX_IVF_FLAT);
    ASSERT_OK(open_changed(&x, format_0, true, &st));
    ASSERT_OK(open_changed(&x, format_1, true, &st));
    assert_int_equal(open_changed(&x, format_3, true, &st), ST_UNSUPPORTED);
    cf_index_done(&x);
}

static void test_open_when_a_number_was_hit_by_accident_then_it_is_damage(void **state)
{
    static void (*const hits[])(struct ix_head *h) = { format_1, version_2, type_200, other_rows };
    struct status st = STATUS_INIT;
    struct cf_index x;
    cf_index_new(&x, &set, INDEX_HNSW);
    for (size_t i = 0; i < ARRAY_LEN(hits); i++) {
        assert_int_equal(open_changed(&x, hits[i], false, &st), ST_CORRUPT);
    }
    cf_index_done(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_build_then_the_head_carries_the_format_of_its_type),
        cmocka_unit_test(test_open_when_format_is_another_then_unsupported_and_both_are_named),
        cmocka_unit_test(test_open_when_file_is_from_before_formats_then_it_is_of_format_1),
        cmocka_unit_test(test_open_when_a_number_was_hit_by_accident_then_it_is_damage),
    };
    int failed;
    cf_set_new(&set, METRIC_L2, VEC_F32, 8, 200, 1, 6, 9);
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    cf_set_done(&set);
    return failed;
}
