/*
 * eval_fixed.c - comparisons and ranges over fixed-width columns, 64 rows at a time.
 *
 * Every comparison with a constant is a closed interval of the column's type, or what that leaves
 * out: an exclusive bound moves to the neighbouring value. Intervals are what simd_where() knows.
 *
 * THREADS  pure.
 */
#include "query/eval_int.h"
#include "simd/simd_where.h"
#include <float.h>
#include <math.h>

/* For what no interval says: compared into 64 bytes, which compilers vectorise. */
#define BLOCKS(T, cond)                                                                            \
    do {                                                                                           \
        const unaligned_##T *p_ = (const void *)c->data;                                           \
        uint8_t b_[64];                                                                            \
        for (size_t w_ = 0, left_ = c->nrows; left_; w_++, p_ += 64) {                             \
            const size_t n_ = MIN(left_, (size_t)64);                                              \
            memset(b_, 0, sizeof b_);                                                              \
            for (size_t j_ = 0; j_ < n_; j_++) {                                                   \
                const T x = p_[j_];                                                                \
                b_[j_] = (uint8_t)(cond);                                                          \
            }                                                                                      \
            out[w_] = pack64(b_);                                                                  \
            left_ -= n_;                                                                           \
        }                                                                                          \
    } while (0)

static void fill(const struct column *c, bool v, uint64_t *out)
{
    bits_fill(out, c->nrows, v);
}

/* Rows with a value in lo .. hi, or the others. */
static void ints_within(const struct column *c, int64_t lo, int64_t hi, bool others, uint64_t *out)
{
    const struct simd_where *ops = simd_where();
    const union simd_bound from = {.i = lo}, to = {.i = hi};
    switch (c->type) {
    case DT_BOOL:
    case DT_INT8:
        ops->i8(c->data, c->nrows, from, to, out);
        break;
    case DT_INT16:
        ops->i16(c->data, c->nrows, from, to, out);
        break;
    case DT_INT32:
        ops->i32(c->data, c->nrows, from, to, out);
        break;
    default:
        ops->i64(c->data, c->nrows, from, to, out);
        break;
    }
    if (others) {
        bits_not(out, c->nrows);
    }
}

static void floats_within(const struct column *c, float lo, float hi, bool others, uint64_t *out)
{
    simd_where()->f32(c->data, c->nrows, (union simd_bound){.f = lo}, (union simd_bound){.f = hi},
                      out);
    if (others) {
        bits_not(out, c->nrows);
    }
}

static void doubles_within(const struct column *c, double lo, double hi, bool others,
                           uint64_t *out)
{
    simd_where()->f64(c->data, c->nrows, (union simd_bound){.d = lo}, (union simd_bound){.d = hi},
                      out);
    if (others) {
        bits_not(out, c->nrows);
    }
}

/* |v| is not infinite, so that it has a neighbour on either side; it may be a NaN. */
static void cmp_f32(const struct column *c, enum cmp_op op, float v, uint64_t *out)
{
    float lo = op == OP_LT || op == OP_LE ? -INFINITY : op == OP_GT ? nextafterf(v, INFINITY) : v;
    float hi = op == OP_GT || op == OP_GE ? INFINITY : op == OP_LT ? nextafterf(v, -INFINITY) : v;
    floats_within(c, lo, hi, op == OP_NE, out);
}

static void cmp_f64(const struct column *c, enum cmp_op op, double v, uint64_t *out)
{
    if ((op == OP_LT && v == -INFINITY) || (op == OP_GT && v == INFINITY)) {
        fill(c, false, out);
        return;
    }
    double lo = op == OP_LT || op == OP_LE ? -INFINITY : op == OP_GT ? nextafter(v, INFINITY) : v;
    double hi = op == OP_GT || op == OP_GE ? INFINITY : op == OP_LT ? nextafter(v, -INFINITY) : v;
    doubles_within(c, lo, hi, op == OP_NE, out);
}

/* A Float column against a constant beyond FLT_MAX. */
static void cmp_f32_wide(const struct column *c, enum cmp_op op, double v, uint64_t *out)
{
    BLOCKS(float, cmp_holds(op, num_cmp_dd((double)x, v)));
}

struct value eval__narrow(enum dtype t, const struct value *v)
{
    struct value r = *v;
    if (t != DT_FLOAT || (v->type != VAL_INT && v->type != VAL_DOUBLE)) {
        return r;
    }
    double d = v->type == VAL_INT ? (double)v->i : v->d;
    r.type = VAL_DOUBLE;
    r.d = fabs(d) <= (double)FLT_MAX ? (double)(float)d : d;
    return r;
}

/* ---- comparisons */

static int64_t type_min(enum dtype t)
{
    return t == DT_INT8    ? INT8_MIN
           : t == DT_INT16 ? INT16_MIN
           : t == DT_INT32 ? INT32_MIN
                           : INT64_MIN;
}

static int64_t type_max(enum dtype t)
{
    return t == DT_INT8    ? INT8_MAX
           : t == DT_INT16 ? INT16_MAX
           : t == DT_INT32 ? INT32_MAX
                           : INT64_MAX;
}

static void int_cmp(const struct column *c, enum cmp_op op, int64_t v, uint64_t *out)
{
    if (v < type_min(c->type) || v > type_max(c->type)) {
        fill(c, cmp_holds(op, v < 0 ? 1 : -1), out);
        return;
    }
    if ((op == OP_LT && v == INT64_MIN) || (op == OP_GT && v == INT64_MAX)) {
        fill(c, false, out);
        return;
    }
    int64_t lo = op == OP_LT || op == OP_LE ? type_min(c->type) : op == OP_GT ? v + 1 : v;
    int64_t hi = op == OP_GT || op == OP_GE ? type_max(c->type) : op == OP_LT ? v - 1 : v;
    if (lo > hi) {
        fill(c, false, out);
        return;
    }
    ints_within(c, lo, hi, op == OP_NE, out);
}

/* A Double column against an integer that no double equals: the bound moves to a neighbour. */
static void double_cmp_int(const struct column *c, enum cmp_op op, int64_t v, uint64_t *out)
{
    double near = (double)v;
    int side = num_cmp_id(v, near); /* sign of v - near */
    if (side == 0) {
        cmp_f64(c, op, near, out);
    } else if (op == OP_EQ || op == OP_NE) {
        fill(c, op == OP_NE, out);
    } else if (op == OP_LT || op == OP_LE) {
        cmp_f64(c, side > 0 ? OP_LE : OP_LT, near, out);
    } else {
        cmp_f64(c, side > 0 ? OP_GT : OP_GE, near, out);
    }
}

void eval__fixed_cmp(const struct column *c, enum cmp_op op, const struct value *v, uint64_t *out)
{
    struct value k = eval__narrow(c->type, v);
    if (c->type == DT_BOOL) {
        ints_within(c, 0, 0, k.b == (op == OP_EQ), out);
    } else if (c->type == DT_FLOAT) {
        if (fabs(k.d) <= (double)FLT_MAX) {
            cmp_f32(c, op, (float)k.d, out);
        } else {
            cmp_f32_wide(c, op, k.d, out);
        }
    } else if (c->type == DT_DOUBLE) {
        if (k.type == VAL_INT) {
            double_cmp_int(c, op, k.i, out);
        } else {
            cmp_f64(c, op, k.d, out);
        }
    } else {
        int_cmp(c, op, k.i, out);
    }
}

/* ---- ranges */

static void int_range(const struct expr *e, const struct column *c, uint64_t *out)
{
    int64_t lo = e->lo.i, hi = e->hi.i;
    bool none = (!e->lo_inclusive && __builtin_add_overflow(lo, (int64_t)1, &lo)) ||
                (!e->hi_inclusive && __builtin_sub_overflow(hi, (int64_t)1, &hi));
    lo = MAX(lo, type_min(c->type));
    hi = MIN(hi, type_max(c->type));
    if (none || lo > hi) {
        fill(c, false, out);
        return;
    }
    ints_within(c, lo, hi, false, out);
}

/* A bound of a Double range as a closed one: the nearest double on the inner side. */
static double closed_bound(const struct value *v, bool inclusive, double inner)
{
    double near = v->type == VAL_INT ? (double)v->i : v->d;
    int side = v->type == VAL_INT ? num_cmp_id(v->i, near) : 0;
    bool outside = inner > 0 ? side > 0 : side < 0; /* near is beyond the bound: excluded */
    bool inside = side != 0 && !outside;            /* near lies inside: included */
    return outside || (!inclusive && !inside) ? nextafter(near, inner) : near;
}

void eval__fixed_range(const struct expr *e, const struct column *c, uint64_t *out)
{
    struct value lo = eval__narrow(c->type, &e->lo), hi = eval__narrow(c->type, &e->hi);
    if (c->type == DT_DOUBLE) {
        doubles_within(c, closed_bound(&lo, e->lo_inclusive, INFINITY),
                       closed_bound(&hi, e->hi_inclusive, -INFINITY), false, out);
    } else if (c->type != DT_FLOAT) {
        int_range(e, c, out);
    } else if (fabs(lo.d) <= (double)FLT_MAX && fabs(hi.d) <= (double)FLT_MAX) {
        float from = (float)lo.d, to = (float)hi.d;
        floats_within(c, e->lo_inclusive ? from : nextafterf(from, INFINITY),
                      e->hi_inclusive ? to : nextafterf(to, -INFINITY), false, out);
    } else {
        enum cmp_op lo_op = e->lo_inclusive ? OP_GE : OP_GT;
        enum cmp_op hi_op = e->hi_inclusive ? OP_LE : OP_LT;
        BLOCKS(float, cmp_holds(lo_op, num_cmp_dd((double)x, lo.d)) &&
                          cmp_holds(hi_op, num_cmp_dd((double)x, hi.d)));
    }
}
