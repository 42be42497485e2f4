/*
 * eval_fixed.c - comparisons and ranges over fixed-width columns, 64 rows at a time.
 *
 * Each loop compares into 64 bytes, which compilers vectorise, and packs those into one word.
 * Ranges are closed intervals: an exclusive bound moves to the neighbouring value of the type
 * first.
 *
 * THREADS  pure.
 */
#include "query/eval_int.h"
#include <float.h>
#include <math.h>

#define BLOCKS(T, cond)                                                                            \
    do {                                                                                           \
        const unaligned_##T *p_ = (const void *)c->data;                                           \
        uint8_t b_[64];                                                                            \
        size_t w_ = 0;                                                                             \
        for (; w_ < c->nrows / 64; w_++, p_ += 64) {                                               \
            for (uint32_t j_ = 0; j_ < 64; j_++) {                                                 \
                const T x = p_[j_];                                                                \
                b_[j_] = (uint8_t)(cond);                                                          \
            }                                                                                      \
            out[w_] = pack64(b_);                                                                  \
        }                                                                                          \
        if (c->nrows % 64) {                                                                       \
            memset(b_, 0, sizeof b_);                                                              \
            for (uint32_t j_ = 0; j_ < c->nrows % 64; j_++) {                                      \
                const T x = p_[j_];                                                                \
                b_[j_] = (uint8_t)(cond);                                                          \
            }                                                                                      \
            out[w_] = pack64(b_);                                                                  \
        }                                                                                          \
    } while (0)

#define DEFINE_CMP(name, T)                                                                        \
    static void name(const struct column *c, enum cmp_op op, T v, uint64_t *out)                   \
    {                                                                                              \
        switch (op) {                                                                              \
        case OP_EQ:                                                                                \
            BLOCKS(T, x == v);                                                                     \
            break;                                                                                 \
        case OP_NE:                                                                                \
            BLOCKS(T, x != v);                                                                     \
            break;                                                                                 \
        case OP_LT:                                                                                \
            BLOCKS(T, x < v);                                                                      \
            break;                                                                                 \
        case OP_LE:                                                                                \
            BLOCKS(T, x <= v);                                                                     \
            break;                                                                                 \
        case OP_GT:                                                                                \
            BLOCKS(T, x > v);                                                                      \
            break;                                                                                 \
        case OP_GE:                                                                                \
            BLOCKS(T, x >= v);                                                                     \
            break;                                                                                 \
        }                                                                                          \
    }

DEFINE_CMP(cmp_i8, int8_t)
DEFINE_CMP(cmp_i16, int16_t)
DEFINE_CMP(cmp_i32, int32_t)
DEFINE_CMP(cmp_i64, int64_t)
DEFINE_CMP(cmp_f32, float)
DEFINE_CMP(cmp_f64, double)

/* A Float column against a constant beyond FLT_MAX. */
static void cmp_f32_wide(const struct column *c, enum cmp_op op, double v, uint64_t *out)
{
    BLOCKS(float, cmp_holds(op, num_cmp_dd((double)x, v)));
}

static void fill(const struct column *c, bool v, uint64_t *out)
{
    bits_fill(out, c->nrows, v);
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
    switch (c->type) {
    case DT_INT8:
        cmp_i8(c, op, (int8_t)v, out);
        break;
    case DT_INT16:
        cmp_i16(c, op, (int16_t)v, out);
        break;
    case DT_INT32:
        cmp_i32(c, op, (int32_t)v, out);
        break;
    default:
        cmp_i64(c, op, v, out);
        break;
    }
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
        bool want = k.b == (op == OP_EQ);
        BLOCKS(uint8_t, (x != 0) == want);
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

#define DEFINE_INT_RANGE(name, T, U)                                                               \
    static void name(const struct column *c, int64_t lo, int64_t hi, uint64_t *out)                \
    {                                                                                              \
        const U from = (U)lo, span = (U)((U)hi - (U)lo);                                           \
        BLOCKS(T, (U)((U)x - from) <= span);                                                       \
    }

DEFINE_INT_RANGE(range_i8, int8_t, uint8_t)
DEFINE_INT_RANGE(range_i16, int16_t, uint16_t)
DEFINE_INT_RANGE(range_i32, int32_t, uint32_t)
DEFINE_INT_RANGE(range_i64, int64_t, uint64_t)

static void range_f32(const struct column *c, float lo, float hi, uint64_t *out)
{
    BLOCKS(float, (x >= lo) & (x <= hi));
}

static void range_f64(const struct column *c, double lo, double hi, uint64_t *out)
{
    BLOCKS(double, (x >= lo) & (x <= hi));
}

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
    switch (c->type) {
    case DT_INT8:
        range_i8(c, lo, hi, out);
        break;
    case DT_INT16:
        range_i16(c, lo, hi, out);
        break;
    case DT_INT32:
        range_i32(c, lo, hi, out);
        break;
    default:
        range_i64(c, lo, hi, out);
        break;
    }
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
        range_f64(c, closed_bound(&lo, e->lo_inclusive, INFINITY),
                  closed_bound(&hi, e->hi_inclusive, -INFINITY), out);
    } else if (c->type != DT_FLOAT) {
        int_range(e, c, out);
    } else if (fabs(lo.d) <= (double)FLT_MAX && fabs(hi.d) <= (double)FLT_MAX) {
        float from = (float)lo.d, to = (float)hi.d;
        range_f32(c, e->lo_inclusive ? from : nextafterf(from, INFINITY),
                  e->hi_inclusive ? to : nextafterf(to, -INFINITY), out);
    } else {
        enum cmp_op lo_op = e->lo_inclusive ? OP_GE : OP_GT;
        enum cmp_op hi_op = e->hi_inclusive ? OP_LE : OP_LT;
        BLOCKS(float, cmp_holds(lo_op, num_cmp_dd((double)x, lo.d)) &&
                          cmp_holds(hi_op, num_cmp_dd((double)x, hi.d)));
    }
}
