/* test_plan.c - plans as bytes, damaged bytes, keys of a plan. */
#include "query_fixture.h"
#include "schema/errors.h"
#include "expect.h"

static const char *const filters[] = {
    "true",
    "b and i8 == 1 and not (s like 'a%')",
    "i64 > 5 or d <= 1.5",
    "i64 == f",
    "(3 - i32) * 2 % 5 == 1",
    "1 < i32 <= 10",
    "s not in ['a', 'b']",
    "j['a'][0] is not null",
    "exists $meta['k']",
    "json_contains_all(j['t'], [1, 'x', [2.5, true]])",
    "ab[1]",
    "ai == [1, 2, 3]",
    "array_length(av) == 3",
};

static const struct expr *parsed(struct fx *fx, const char *text)
{
    const struct expr *e;
    OK(filter_parse(slice_of(text), &fx->schema, NULL, 0, fx->ar, &e, st));
    return e;
}

static struct buf encoded(const struct expr *e)
{
    struct buf b;
    buf_init(&b, SIZE_MAX / 2);
    assert_true(plan_encode(e, &b));
    return b;
}

static void test_plan_decode_of_encoded_plans_gives_the_same_bytes(void **state)
{
    struct fx *fx = fx_new(1, 1, false);
    for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
        const struct expr *e;
        struct buf a = encoded(parsed(fx, filters[i]));
        OK(plan_decode(buf_slice(&a), fx->ar, &e, st));
        struct buf b = encoded(e);
        assert_true(slice_eq(buf_slice(&a), buf_slice(&b)));
        buf_done(&a);
        buf_done(&b);
    }
    fx_free(fx);
}

static void test_plan_decode_of_truncated_bytes_is_corrupt(void **state)
{
    struct fx *fx = fx_new(1, 1, false);
    for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
        struct buf a = encoded(parsed(fx, filters[i]));
        for (size_t n = 0; n < a.n; n++) {
            const struct expr *e = (const struct expr *)fx;
            uint8_t *cut = xalloc(n + 1);
            memcpy(cut, a.p, n);
            FAILS(plan_decode(slice_n(cut, n), fx->ar, &e, st), ST_CORRUPT, "plan of");
            assert_ptr_equal(e, fx);
            mem_free(cut);
        }
        buf_putc(&a, '\0');
        const struct expr *e;
        FAILS(plan_decode(buf_slice(&a), fx->ar, &e, st), ST_CORRUPT, "not well-formed");
        buf_done(&a);
    }
    fx_free(fx);
}

static void test_plan_decode_of_changed_bytes_never_breaks_the_evaluator(void **state)
{
    struct fx *fx = fx_new(2, 100, false);
    uint64_t bits[2];
    uint64_t rng = 5;
    for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
        struct buf a = encoded(parsed(fx, filters[i]));
        for (int k = 0; k < 2000; k++) {
            struct arena *ar = arena_new((size_t)16 << 20);
            struct status st = STATUS_INIT;
            const struct expr *e;
            uint8_t *copy = xalloc(a.n);
            memcpy(copy, a.p, a.n);
            for (uint32_t m = 0; m <= fx_below(&rng, 3); m++) {
                copy[fx_below(&rng, (uint32_t)a.n)] = (uint8_t)fx_next(&rng);
            }
            if (plan_decode(slice_n(copy, a.n), ar, &e, &st) == 0) {
                int rc = filter_eval(e, &fx->cr, ar, bits, &st);
                assert_true(rc == 0 || rc == ST_INVALID || rc == ERR_FIELD_NOT_FOUND ||
                            rc == ST_NO_MEMORY);
            } else {
                assert_true(st.code == ST_CORRUPT || st.code == ST_NO_MEMORY);
            }
            mem_free(copy);
            arena_free(ar);
        }
        buf_done(&a);
    }
    fx_free(fx);
}

static void test_plan_decode_past_the_depth_limit_is_corrupt(void **state)
{
    struct arena *ar = arena_new(0);
    for (int depth = PLAN_DEPTH_MAX - 2; depth < PLAN_DEPTH_MAX + 2; depth++) {
        struct buf b;
        const struct expr *e;
        struct status st = STATUS_INIT;
        buf_init(&b, SIZE_MAX / 2);
        buf_put_u8(&b, 1);
        for (int i = 1; i < depth; i++) {
            buf_put_u8(&b, EX_NOT);
            buf_put_u32(&b, 1);
        }
        buf_put_u8(&b, EX_CONST);
        buf_put_u8(&b, VAL_BOOL);
        buf_put_u8(&b, 1);
        int rc = plan_decode(buf_slice(&b), ar, &e, &st);
        assert_int_equal(rc, depth <= PLAN_DEPTH_MAX ? 0 : ST_CORRUPT);
        if (rc == 0) {
            struct chunk_reader cr = {.nrows = 1};
            uint64_t bits[1];
            ASSERT_OK(filter_eval(e, &cr, ar, bits, &st));
            assert_int_equal(bits[0], depth % 2);
        }
        buf_done(&b);
    }
    arena_free(ar);
}

static void test_plan_decode_refuses_nodes_the_parser_cannot_make(void **state)
{
    struct fx *fx = fx_new(1, 1, false);
    const struct value nan = {.type = VAL_DOUBLE, .d = __builtin_nan("")};
    const struct value num = {.type = VAL_INT, .i = 1},
                       str = {.type = VAL_STRING, .s = SLICE_LIT("a")};
    const struct value unsorted[] = {{.type = VAL_INT, .i = 2}, {.type = VAL_INT, .i = 1}};
    const struct operand i64 = {.field_id = 104, .type = DT_INT64},
                         b = {.field_id = 107, .type = DT_BOOL};
    const struct operand v = {.field_id = 115, .type = DT_FLOAT_VECTOR};
    const struct arith_step zero = {.op = AR_DIV, .value = {.type = VAL_INT}};
    const struct arith_step bits = {.op = AR_BIT_AND, .value = {.type = VAL_INT, .i = 1}};
    const struct expr bad[] = {
        {.kind = EX_CMP, .operand = i64, .value = str},
        {.kind = EX_CMP, .operand = i64, .value = {.type = VAL_DOUBLE, .d = 1}},
        {.kind = EX_CMP, .operand = b, .op = OP_LT, .value = {.type = VAL_BOOL}},
        {.kind = EX_CMP, .operand = v, .value = num},
        {.kind = EX_CMP, .operand = {.field_id = 106, .type = DT_DOUBLE}, .value = nan},
        {.kind = EX_IN, .operand = i64, .value = num},
        {.kind = EX_IN, .operand = i64, .value = {.type = VAL_ARRAY, .a = {unsorted, 2}}},
        {.kind = EX_LIKE, .operand = i64, .value = str},
        {.kind = EX_EXISTS, .operand = i64},
        {.kind = EX_BOOL, .operand = i64},
        {.kind = EX_RANGE, .operand = i64, .lo = num, .hi = str},
        {.kind = EX_CMP_ARITH, .operand = i64, .value = num},
        {.kind = EX_CMP_ARITH, .operand = i64, .value = num, .nsteps = 1, .steps = &zero},
        {.kind = EX_CMP_ARITH, .operand = i64, .value = num, .nsteps = 1, .steps = &bits},
        {.kind = EX_CMP_FIELDS, .operand = i64, .operand2 = b},
        {.kind = EX_CONTAINS, .operand = i64, .value = num},
        {.kind = EX_AND},
        {.kind = EX_NOT},
        {.kind = EX_CONST, .value = num},
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct buf bytes = encoded(&bad[i]);
        const struct expr *e;
        FAILS(plan_decode(buf_slice(&bytes), fx->ar, &e, st), ST_CORRUPT, "not well-formed");
        buf_done(&bytes);
    }
    fx_free(fx);
}

static void test_plan_pk_list_finds_keys_at_the_root_and_in_and(void **state)
{
    static const struct {
        const char *text;
        int n; /* -1: none */
        bool exact;
    } rows[] = {
        {"id == 5", 1, true},
        {"id in [3, 1, 2]", 3, true},
        {"id == 1 or id == 2 or id in [1, 7]", 3, true},
        {"id in []", 0, true},
        {"id in [1, 2] and i64 > 3", 2, false},
        {"id in [1, 2] and (id == 1 and b)", 1, false},
        {"id == 1 or i64 == 3", -1, false},
        {"id not in [1]", -1, false},
        {"not (id == 1)", -1, false},
        {"id != 1", -1, false},
        {"id > 1", -1, false},
        {"i64 == 1", -1, false},
    };
    struct fx *fx = fx_new(1, 1, false);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        bool exact = !rows[i].exact;
        const struct value *v = plan_pk_list(parsed(fx, rows[i].text), FX_FIELD_ID(FX_ID), &exact);
        if (rows[i].n != (v ? (int)v->a.n : -1) || exact != rows[i].exact) {
            fail_msg("%s: %d keys, exact %d", rows[i].text, v ? (int)v->a.n : -1, exact);
        }
    }
    bool exact = true;
    assert_null(plan_pk_list(NULL, 100, &exact));
    assert_false(exact);
    const struct value *v =
        plan_field_list(parsed(fx, "part == 'b' and i64 > 1"), FX_FIELD_ID(FX_PART));
    assert_non_null(v);
    assert_true(slice_is(v->a.items[0].s, "b"));
    fx_free(fx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan_decode_of_encoded_plans_gives_the_same_bytes),
        cmocka_unit_test(test_plan_decode_of_truncated_bytes_is_corrupt),
        cmocka_unit_test(test_plan_decode_of_changed_bytes_never_breaks_the_evaluator),
        cmocka_unit_test(test_plan_decode_past_the_depth_limit_is_corrupt),
        cmocka_unit_test(test_plan_decode_refuses_nodes_the_parser_cannot_make),
        cmocka_unit_test(test_plan_pk_list_finds_keys_at_the_root_and_in_and),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
