/* test_filter_eval.c - rows written out by hand: nulls, shapes of columns, missing columns,
 * strings, JSON and long lists. The breadth is in test_filter_random.c. */
#include "query_fixture.h"
#include "schema/errors.h"
#include "expect.h"

/* Rows that match, as "0 3 5". */
static const char *matches(struct fx *fx, const char *text)
{
    const struct expr *e;
    uint64_t *bits = arena_alloc(fx->ar, bits_words(fx->cr.nrows) * 8 + 8);
    struct buf b;
    OK(filter_parse(slice_of(text), &fx->schema, NULL, 0, fx->ar, &e, st));
    OK(filter_eval(e, &fx->cr, fx->ar, bits, st));
    buf_init(&b, SIZE_MAX / 2);
    for (uint32_t i = 0; i < fx->cr.nrows; i++) {
        if (bit_get(bits, i)) {
            buf_printf(&b, b.n ? " %u" : "%u", i);
        }
    }
    const char *s = arena_strndup(fx->ar, b.n ? (char *)b.p : "", b.n);
    buf_done(&b);
    return s;
}

static struct fx *rows_of_strings(enum dtype t, uint32_t k, const char *const *cells, uint32_t n,
                                  bool refs)
{
    struct fx *fx = fx_new(1, n, refs);
    struct column *c = &fx->cols[k];
    struct slice *r = arena_alloc(fx->ar, n * sizeof *r);
    uint64_t *valid = arena_alloc(fx->ar, bits_words(n) * 8);
    for (uint32_t i = 0; i < n; i++) {
        r[i] = slice_of(cells[i]);
        if (cells[i]) {
            bit_set(valid, i);
        }
    }
    *c = (struct column){
        .field_id = FX_FIELD_ID(k), .type = t, .nrows = n, .refs = r, .valid = valid};
    if (!refs) {
        struct buf b;
        uint64_t *ends = arena_alloc(fx->ar, n * sizeof *ends);
        buf_init(&b, SIZE_MAX / 2);
        for (uint32_t i = 0; i < n; i++) {
            buf_put_slice(&b, r[i]);
            ends[i] = b.n;
        }
        c->data = (const uint8_t *)arena_strndup(fx->ar, (char *)b.p, b.n);
        c->ends = ends;
        c->refs = NULL;
        buf_done(&b);
    }
    return fx;
}

static void test_filter_eval_without_filter_selects_every_row(void **state)
{
    struct fx *fx = fx_new(1, 70, false);
    uint64_t bits[2] = {0, 0};
    OK(filter_eval(NULL, &fx->cr, fx->ar, bits, st));
    assert_int_equal(bits_count(bits, 70), 70);
    fx_free(fx);
}

static void test_filter_eval_null_strings_match_neither_way(void **state)
{
    static const char *const cells[] = {"a", NULL, "b", "", "abc"};
    for (int refs = 0; refs < 2; refs++) {
        struct fx *fx = rows_of_strings(DT_VARCHAR, FX_S, cells, 5, refs);
        assert_string_equal(matches(fx, "s == 'a'"), "0");
        assert_string_equal(matches(fx, "s != 'a'"), "2 3 4");
        assert_string_equal(matches(fx, "not (s == 'a')"), "2 3 4");
        assert_string_equal(matches(fx, "s not in ['a', 'b']"), "3 4");
        assert_string_equal(matches(fx, "s in []"), "");
        assert_string_equal(matches(fx, "s not in []"), "0 2 3 4");
        assert_string_equal(matches(fx, "s is null"), "1");
        assert_string_equal(matches(fx, "not (s is null)"), "0 2 3 4");
        assert_string_equal(matches(fx, "s is not null and s like 'a%'"), "0 4");
        assert_string_equal(matches(fx, "not (s like 'a%')"), "2 3");
        assert_string_equal(matches(fx, "s == 'a' or s is null"), "0 1");
        assert_string_equal(matches(fx, "not (s == 'a' and s is null)"), "0 2 3 4");
        assert_string_equal(matches(fx, "'a' < s <= 'b'"), "2 4");
        fx_free(fx);
    }
}

static void test_filter_eval_json_paths_of_other_types_are_unknown(void **state)
{
    static const char *const cells[] = {
        "{\"a\":1}",       "{\"a\":1.0}",
        "{\"a\":\"1\"}",   "{}",
        "{\"a\":null}",    NULL,
        "{\"a\":[1,2,3]}", "{\"a\":{\"b\":18446744073709551615}}",
        "{\"a\":true}",    " {\"a\" : -5 } ",
    };
    for (int refs = 0; refs < 2; refs++) {
        struct fx *fx = rows_of_strings(DT_JSON, FX_J, cells, 10, refs);
        assert_string_equal(matches(fx, "j['a'] == 1"), "0 1");
        assert_string_equal(matches(fx, "j['a'] != 1"), "9");
        assert_string_equal(matches(fx, "not (j['a'] == 1)"), "9");
        assert_string_equal(matches(fx, "j['a'] == '1'"), "2");
        assert_string_equal(matches(fx, "j['a'] < 0.5"), "9");
        assert_string_equal(matches(fx, "j['a'] == true"), "8");
        assert_string_equal(matches(fx, "j['a'] in [true, '1']"), "2 8");
        assert_string_equal(matches(fx, "j['a'] not in [1, 'x']"), "2 9");
        assert_string_equal(matches(fx, "exists j['a']"), "0 1 2 6 7 8 9");
        assert_string_equal(matches(fx, "not exists j['a']"), "3 4 5");
        assert_string_equal(matches(fx, "j['a'] is null"), "3 4 5");
        assert_string_equal(matches(fx, "j['a'] is not null"), "0 1 2 6 7 8 9");
        assert_string_equal(matches(fx, "j is null"), "5");
        assert_string_equal(matches(fx, "j['a'][1] == 2"), "6");
        assert_string_equal(matches(fx, "j['a'][3] == 2"), "");
        assert_string_equal(matches(fx, "j['a']['b'] > 9223372036854775807"), "7");
        assert_string_equal(matches(fx, "j['a']['b'] == 1.8446744073709552e19"), "");
        assert_string_equal(matches(fx, "json_contains(j['a'], 2)"), "6");
        assert_string_equal(matches(fx, "json_contains(j['a'], 2.0)"), "6");
        assert_string_equal(matches(fx, "not json_contains(j['a'], 9)"), "6");
        assert_string_equal(matches(fx, "json_contains_all(j['a'], [3, 1])"), "6");
        assert_string_equal(matches(fx, "array_length(j['a']) == 3"), "6");
        assert_string_equal(matches(fx, "j['a'] + 1 == 2"), "0 1");
        assert_string_equal(matches(fx, "j['a'] % 2 == 1"), "0");
        fx_free(fx);
    }
}

static void test_filter_eval_json_strings_with_escapes_are_decoded(void **state)
{
    static const char *const cells[] = {
        "{\"k\\u0065y\":\"x\\\"y\"}",
        "{\"key\":\"\\u4e2d\\u6587\"}",
        "{\"key\":\"a\\nb\"}",
        "{\"key\":\"plain\"}",
    };
    struct fx *fx = rows_of_strings(DT_JSON, FX_J, cells, 4, true);
    assert_string_equal(matches(fx, "j['key'] == 'x\"y'"), "0");
    assert_string_equal(matches(fx, "j['key'] == '\xE4\xB8\xAD\xE6\x96\x87'"), "1");
    assert_string_equal(matches(fx, "j['key'] like '__'"), "1");
    assert_string_equal(matches(fx, "j['key'] in ['a\\nb', 'plain']"), "2 3");
    assert_string_equal(matches(fx, "j['key'] < 'b'"), "2");
    fx_free(fx);
}

static void test_filter_eval_json_contains_compares_nested_arrays(void **state)
{
    static const char *const cells[] = {"[[1,2],3]", "[[1,2.0,\"x\"]]", "[]", "5",
                                        "[\"a\",null,{}]"};
    struct fx *fx = rows_of_strings(DT_JSON, FX_J, cells, 5, false);
    assert_string_equal(matches(fx, "json_contains(j, [1, 2])"), "0");
    assert_string_equal(matches(fx, "json_contains_any(j, [[1, 2, 'x'], 3])"), "0 1");
    assert_string_equal(matches(fx, "json_contains_all(j, [3, [1, 2]])"), "0");
    assert_string_equal(matches(fx, "json_contains_all(j, [])"), "0 1 2 4");
    assert_string_equal(matches(fx, "json_contains_any(j, [])"), "");
    assert_string_equal(matches(fx, "json_contains(j, 'a')"), "4");
    assert_string_equal(matches(fx, "j == 5"), "3");
    assert_string_equal(matches(fx, "array_length(j) == 0"), "2");
    fx_free(fx);
}

static void test_filter_eval_missing_columns_are_default_or_null(void **state)
{
    struct fx *fx = fx_new(3, 3, false);
    assert_string_equal(matches(fx, "late == 7"), "0 1 2");
    assert_string_equal(matches(fx, "late > 7"), "");
    assert_string_equal(matches(fx, "late is null"), "");
    assert_string_equal(matches(fx, "gone == 'x'"), "");
    assert_string_equal(matches(fx, "not (gone == 'x')"), "");
    assert_string_equal(matches(fx, "gone is null"), "0 1 2");
    assert_string_equal(matches(fx, "gone is not null"), "");
    fx->have[FX_META] = false;
    assert_string_equal(matches(fx, "exists color"), "");
    assert_string_equal(matches(fx, "not exists color"), "0 1 2");
    assert_string_equal(matches(fx, "color is null"), "0 1 2");
    assert_string_equal(matches(fx, "color == 1 or late == 7"), "0 1 2");
    fx_free(fx);
}

static void test_filter_eval_column_of_another_type_is_an_error(void **state)
{
    struct fx *fx = fx_new(4, 10, false);
    const struct expr *e;
    uint64_t bits[1];
    OK(filter_parse(SLICE_LIT("i64 == 1"), &fx->schema, NULL, 0, fx->ar, &e, st));
    fx->cols[FX_I64].type = DT_INT32;
    FAILS(filter_eval(e, &fx->cr, fx->ar, bits, st), ST_INVALID, "plan wants field 104 as Int64");
    OK(filter_parse(SLICE_LIT("s == 'a' and s2 == 'b'"), &fx->schema, NULL, 0, fx->ar, &e, st));
    fx->cr.schema = &(struct schema){.nfields = 0};
    fx->have[FX_S] = false;
    FAILS(filter_eval(e, &fx->cr, fx->ar, bits, st), ERR_FIELD_NOT_FOUND,
          "field not found[field=108]");
    fx_free(fx);
}

static void test_filter_eval_past_the_arena_limit_reports_memory(void **state)
{
    struct fx *fx = fx_new(5, 5000, false);
    const struct expr *e;
    uint64_t *bits = arena_alloc(fx->ar, bits_words(5000) * 8);
    OK(filter_parse(SLICE_LIT("i64 > 1 and (late > 3 or s like 'a%') and j['a'] in [1, 2]"),
                    &fx->schema, NULL, 0, fx->ar, &e, st));
    int failed = 0;
    for (size_t limit = 512; limit < ((size_t)1 << 20); limit *= 2) {
        struct arena *ar = arena_new(limit);
        struct status st = STATUS_INIT;
        int rc = filter_eval(e, &fx->cr, ar, bits, &st);
        assert_true(rc == 0 || rc == ST_NO_MEMORY);
        failed += rc != 0;
        arena_free(ar);
    }
    assert_true(failed > 2 && failed < 11);
    fx_free(fx);
}

/* Lists long enough for bitmaps, tables and halving, with members and near misses. */
static void long_list(struct fx *fx, const char *field, uint32_t k, uint32_t n, int64_t stride)
{
    struct value *items = arena_alloc(fx->ar, n * sizeof *items);
    struct template_value t = {SLICE_LIT("l"), {.type = VAL_ARRAY, .a = {items, n}}};
    const struct expr *e;
    uint64_t *bits = arena_alloc(fx->ar, bits_words(fx->cr.nrows) * 8);
    for (uint32_t i = 0; i < n; i++) {
        items[i] = (struct value){.type = VAL_INT, .i = ((int64_t)i - 3) * stride};
    }
    OK(filter_parse(slice_of(arena_printf(fx->ar, "%s in {l}", field)), &fx->schema, &t, 1, fx->ar,
                    &e, st));
    OK(filter_eval(e, &fx->cr, fx->ar, bits, st));
    for (uint32_t i = 0; i < fx->cr.nrows; i++) {
        const struct fx_val *v = &fx->rows[i].val[k];
        bool in = false;
        for (uint32_t m = 0; m < n; m++) {
            in = in || (v->kind == FX_INT && v->i == items[m].i) ||
                 (v->kind == FX_DOUBLE && v->d == (double)items[m].i);
        }
        assert_int_equal(bit_get(bits, i), in);
    }
}

static void test_filter_eval_long_lists_of_numbers_find_their_members(void **state)
{
    struct fx *fx = fx_new(6, 300, true);
    static const uint32_t counts[] = {7, 8, 9, 100, 1000};
    static const int64_t strides[] = {1, 3, INT64_C(1) << 40};
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        for (size_t s = 0; s < ARRAY_LEN(strides); s++) {
            long_list(fx, "i64", FX_I64, counts[i], strides[s]);
            long_list(fx, "i8", FX_I8, counts[i], strides[s]);
            long_list(fx, "d", FX_D, counts[i], strides[s]);
        }
    }
    fx_free(fx);
}

static void test_filter_eval_long_lists_of_strings_find_their_members(void **state)
{
    enum { N = 1000 };
    static const char *const cells[] = {"k7", "k1000", "",     "k999", "k0",   "k",
                                        "zz", "k12",   "k12x", "a",    "k500", "k501"};
    struct fx *fx = rows_of_strings(DT_VARCHAR, FX_S, cells, 12, false);
    struct buf b;
    for (int n = 5; n <= N; n *= 10) { /* 5, 50, 500: linear, halving */
        buf_init(&b, SIZE_MAX / 2);
        buf_put_str(&b, "s in [''");
        for (int i = 0; i < n; i++) {
            buf_printf(&b, ",'k%d'", i);
        }
        buf_put_str(&b, "]");
        buf_putc(&b, '\0');
        assert_string_equal(matches(fx, (char *)b.p), n == 5    ? "2 4"
                                                      : n == 50 ? "0 2 4 7"
                                                                : "0 2 4 7");
        buf_done(&b);
    }
    fx_free(fx);
    /* a table: more rows than constants */
    const char **many = calloc(400, sizeof *many);
    for (int i = 0; i < 400; i++) {
        many[i] = cells[i % 12];
    }
    fx = rows_of_strings(DT_VARCHAR, FX_S, many, 400, true);
    const struct expr *e;
    uint64_t bits[7];
    OK(filter_parse(SLICE_LIT("s in ['k0','k1','k2','k3','k4','k5','k6','k7','k8','k12']"),
                    &fx->schema, NULL, 0, fx->ar, &e, st));
    OK(filter_eval(e, &fx->cr, fx->ar, bits, st));
    for (uint32_t i = 0; i < 400; i++) {
        assert_int_equal(bit_get(bits, i), i % 12 == 0 || i % 12 == 4 || i % 12 == 7);
    }
    fx_free(fx);
    free(many);
}

static void test_filter_eval_integer_arithmetic_wraps_and_spares_zero_divisors(void **state)
{
    struct fx *fx = fx_new(7, 4, false);
    static const int64_t cells[] = {INT64_MIN, INT64_MAX, 0, -1};
    fx->cols[FX_I64].data = (const uint8_t *)cells;
    fx->cols[FX_I64].valid = NULL;
    assert_string_equal(matches(fx, "i64 + 1 == -9223372036854775808"), "1");
    assert_string_equal(matches(fx, "i64 / -1 == -9223372036854775808"), "0");
    assert_string_equal(matches(fx, "i64 % -1 == 0"), "0 1 2 3");
    assert_string_equal(matches(fx, "10 / i64 == -10"), "3");
    assert_string_equal(matches(fx, "not (10 / i64 == -10)"), "0 1"); /* 10 / 0 is unknown */
    assert_string_equal(matches(fx, "-9223372036854775808 / i64 == -9223372036854775808"), "3");
    assert_string_equal(matches(fx, "i64 * 2 == -2"), "1 3");
    assert_string_equal(matches(fx, "i64 + 0.5 > 9e18"), "1");
    fx_free(fx);
}

static void test_filter_eval_integers_against_doubles_lose_nothing(void **state)
{
    struct fx *fx = fx_new(8, 4, false);
    static const int64_t ints[] = {INT64_C(9007199254740992), INT64_C(9007199254740993), INT64_MAX,
                                   INT64_MIN};
    static const double doubles[] = {9007199254740992.0, 9007199254740992.0, 9223372036854775808.0,
                                     -9223372036854775808.0};
    fx->cols[FX_I64].data = (const uint8_t *)ints;
    fx->cols[FX_I64].valid = NULL;
    fx->cols[FX_D].data = (const uint8_t *)doubles;
    fx->cols[FX_D].valid = NULL;
    assert_string_equal(matches(fx, "i64 == d"), "0 3");
    assert_string_equal(matches(fx, "i64 > d"), "1");
    assert_string_equal(matches(fx, "d > i64"), "2");
    assert_string_equal(matches(fx, "i64 == 9007199254740992.0"), "0");
    assert_string_equal(matches(fx, "d == 9007199254740993"), "");
    assert_string_equal(matches(fx, "d < 9007199254740993"), "0 1 3");
    assert_string_equal(matches(fx, "d >= 9007199254740993"), "2");
    assert_string_equal(matches(fx, "9007199254740993 <= d <= 9223372036854775807"), "");
    assert_string_equal(matches(fx, "-9223372036854775808 <= d < 9007199254740993"), "0 1 3");
    fx_free(fx);
}

static void test_filter_eval_float_columns_see_literals_in_single_precision(void **state)
{
    struct fx *fx = fx_new(9, 4, false);
    static const float cells[] = {0.1f, 0.3f, 16777216.0f, 0.2f};
    fx->cols[FX_F].data = (const uint8_t *)cells;
    assert_string_equal(matches(fx, "f == 0.1"), "0");
    assert_string_equal(matches(fx, "f > 0.1"), "1 2 3");
    assert_string_equal(matches(fx, "f in [0.1, 0.2]"), "0 3");
    assert_string_equal(matches(fx, "0.1 < f <= 0.3"), "1 3");
    assert_string_equal(matches(fx, "f < 1e300"), "0 1 2 3");
    assert_string_equal(matches(fx, "-1e300 < f < 0.25"), "0 3");
    assert_string_equal(matches(fx, "f + 0.1 == 0.3"), "3");
    fx_free(fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_filter_eval_without_filter_selects_every_row),
        cmocka_unit_test(test_filter_eval_null_strings_match_neither_way),
        cmocka_unit_test(test_filter_eval_json_paths_of_other_types_are_unknown),
        cmocka_unit_test(test_filter_eval_json_strings_with_escapes_are_decoded),
        cmocka_unit_test(test_filter_eval_json_contains_compares_nested_arrays),
        cmocka_unit_test(test_filter_eval_missing_columns_are_default_or_null),
        cmocka_unit_test(test_filter_eval_column_of_another_type_is_an_error),
        cmocka_unit_test(test_filter_eval_past_the_arena_limit_reports_memory),
        cmocka_unit_test(test_filter_eval_long_lists_of_numbers_find_their_members),
        cmocka_unit_test(test_filter_eval_long_lists_of_strings_find_their_members),
        cmocka_unit_test(test_filter_eval_integer_arithmetic_wraps_and_spares_zero_divisors),
        cmocka_unit_test(test_filter_eval_integers_against_doubles_lose_nothing),
        cmocka_unit_test(test_filter_eval_float_columns_see_literals_in_single_precision),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
