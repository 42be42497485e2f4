/*
 * test_eval_edges.c - comparisons, ranges and short lists over fixed-width columns at the ends of
 * every type, against one cell after the other. Constants lie inside, at and beyond those ends.
 */
#include <float.h>
#include <math.h>

#include "unit.h"
#include "query/eval_int.h"

#if LDBL_MANT_DIG < 64
#error "the interpreter needs a long double that holds every int64"
#endif

enum { CELLS = 70 };

static const double edges[] = { 0.0, -0.0, 1, -1, 0.1, -0.1, 0.5, 127, 128, -128, -129, 32767,
                                32768, -32768, -32769, 16777217, 2147483647.0, 2147483648.0,
                                -2147483648.0, -2147483649.0, 0x1p53, 0x1p63, -0x1p63,
                                (double)FLT_MAX, -(double)FLT_MAX, 0x1.fffffffp127, 0x1p-149,
                                -0x1p-149, 0x1p-150, DBL_MAX, -DBL_MAX, 0x1p-1074, -0x1p-1074 };
static const int64_t ints[] = { 0, 1, -1, 2, INT8_MAX, INT8_MIN, INT8_MAX + 1, INT8_MIN - 1,
                                INT16_MAX, INT16_MIN, INT16_MAX + 1, INT16_MIN - 1, INT32_MAX,
                                INT32_MIN, (int64_t)INT32_MAX + 1, (int64_t)INT32_MIN - 1,
                                INT64_MAX, INT64_MAX - 1, INT64_MIN, INT64_MIN + 1,
                                (INT64_C(1) << 53) + 1, 16777217 };
static const enum dtype types[] = { DT_INT8, DT_INT16, DT_INT32, DT_INT64, DT_FLOAT, DT_DOUBLE };

struct cells {
    struct column col;
    uint8_t data[1 + CELLS * 8];
    long double value[CELLS];
};

static void put(struct cells *c, size_t i, const void *p, long double value)
{
    memcpy(c->data + 1 + i * c->col.width, p, c->col.width);
    c->value[i] = value;
}

static void cells_new(struct cells *c, enum dtype t)
{
    c->col = (struct column){ .type = t, .nrows = CELLS, .width = dtype_width(t, 0),
                              .data = c->data + 1 };
    for (size_t i = 0; i < CELLS; i++) {
        if (dtype_is_float(t)) {
            const double odd[] = { NAN, INFINITY, -INFINITY };
            size_t k = i % (ARRAY_LEN(edges) + 3);
            double d = k < ARRAY_LEN(edges) ? edges[k] : odd[k - ARRAY_LEN(edges)];
            float f = (float)d;
            put(c, i, t == DT_FLOAT ? (void *)&f : (void *)&d, t == DT_FLOAT ? (long double)f : d);
        } else {
            int64_t v = ints[i % ARRAY_LEN(ints)];
            int8_t a = (int8_t)v;
            int16_t b = (int16_t)v;
            int32_t e = (int32_t)v;
            put(c, i, t == DT_INT8 ? (void *)&a : t == DT_INT16 ? (void *)&b
                      : t == DT_INT32 ? (void *)&e : (void *)&v,
                t == DT_INT8 ? a : t == DT_INT16 ? b : t == DT_INT32 ? e : v);
        }
    }
}

static size_t constants(enum dtype t, struct value *ret)
{
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(ints); i++) {
        ret[n++] = (struct value){ .type = VAL_INT, .i = ints[i] };
    }
    for (size_t i = 0; i < ARRAY_LEN(edges) && dtype_is_float(t); i++) {
        ret[n++] = (struct value){ .type = VAL_DOUBLE, .d = edges[i] };
    }
    return n;
}

/* Float columns see constants in single precision, as far as that holds them. */
static long double number(enum dtype t, const struct value *v)
{
    long double x = v->type == VAL_INT ? (long double)v->i : (long double)v->d;
    return t == DT_FLOAT && fabsl(x) <= (long double)FLT_MAX ? (long double)(float)(double)x : x;
}

static bool holds(enum cmp_op op, long double a, long double b)
{
    return op == OP_EQ   ? a == b
           : op == OP_NE ? a != b
           : op == OP_LT ? a < b
           : op == OP_LE ? a <= b
           : op == OP_GT ? a > b
                         : a >= b;
}

static void check(const uint64_t *out, size_t i, bool want, const char *what, enum dtype t,
                  long double x, long double a, long double b)
{
    if (bit_get(out, i) != want) {
        fail_msg("%s of %s: %.20Lg with %.20Lg, %.20Lg is not %d", what, dtype_name(t), x, a, b,
                 want);
    }
}

static void test_cmp_when_at_the_ends_of_a_type_then_as_numbers_compare(void **state)
{
    struct value v[ARRAY_LEN(ints) + ARRAY_LEN(edges)];
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        struct cells c;
        cells_new(&c, types[t]);
        size_t n = constants(types[t], v);
        for (size_t k = 0; k < n * 6; k++) {
            enum cmp_op op = (enum cmp_op)(k % 6);
            long double x = number(types[t], &v[k / 6]);
            uint64_t out[2] = { 7, 7 };
            eval__fixed_cmp(&c.col, op, &v[k / 6], out);
            for (size_t i = 0; i < CELLS; i++) {
                check(out, i, holds(op, c.value[i], x), "comparison", types[t], c.value[i], x, op);
            }
            assert_int_equal(out[1] >> (CELLS - 64), 0);
        }
    }
}

static void test_range_when_at_the_ends_of_a_type_then_as_numbers_compare(void **state)
{
    struct value v[ARRAY_LEN(ints) + ARRAY_LEN(edges)];
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        struct cells c;
        cells_new(&c, types[t]);
        size_t n = constants(types[t], v);
        for (size_t k = 0; k < n * n * 4; k++) {
            struct expr e = { .kind = EX_RANGE, .lo = v[k / 4 % n], .hi = v[k / 4 / n],
                              .lo_inclusive = k & 1, .hi_inclusive = k >> 1 & 1 };
            long double lo = number(types[t], &e.lo), hi = number(types[t], &e.hi);
            uint64_t out[2] = { 7, 7 };
            eval__fixed_range(&e, &c.col, out);
            for (size_t i = 0; i < CELLS; i++) {
                bool want = holds(e.lo_inclusive ? OP_GE : OP_GT, c.value[i], lo) &&
                            holds(e.hi_inclusive ? OP_LE : OP_LT, c.value[i], hi);
                check(out, i, want, "range", types[t], c.value[i], lo, hi);
            }
        }
    }
}

static void test_in_when_constants_are_beyond_a_type_then_no_row_has_them(void **state)
{
    struct value v[ARRAY_LEN(ints) + ARRAY_LEN(edges)];
    const uint64_t mask[2] = { UINT64_MAX, (UINT64_C(1) << (CELLS - 64)) - 1 };
    struct arena *ar = arena_new(0);
    for (size_t t = 0; t < ARRAY_LEN(types); t++) {
        struct cells c;
        cells_new(&c, types[t]);
        size_t n = constants(types[t], v);
        for (size_t k = 0; k + 1 < n; k++) {
            struct eval ev = { .ar = ar, .nrows = CELLS, .nwords = 2 };
            struct value list = { .type = VAL_ARRAY, .a = { .items = &v[k], .n = 2 } };
            long double a = number(types[t], &v[k]), b = number(types[t], &v[k + 1]);
            uint64_t out[2] = { 7, 7 };
            eval__fixed_in(&ev, &c.col, &list, mask, out);
            for (size_t i = 0; i < CELLS; i++) {
                check(out, i, c.value[i] == a || c.value[i] == b, "list", types[t], c.value[i], a,
                      b);
            }
        }
    }
    arena_free(ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cmp_when_at_the_ends_of_a_type_then_as_numbers_compare),
        cmocka_unit_test(test_range_when_at_the_ends_of_a_type_then_as_numbers_compare),
        cmocka_unit_test(test_in_when_constants_are_beyond_a_type_then_no_row_has_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
