/*
 * eval_arith.c - arithmetic before a comparison, and numeric fields compared with each other.
 *
 * SEMANTICS  Integers wrap around at 64 bits (INT64_MIN / -1 is INT64_MIN, % -1 is 0) and divide
 * towards zero. A double constant, or `**`, turns what follows into doubles. Arithmetic over a
 * Float column is in single precision, constants included, so that `f + 0.1 == 0.3` means the same
 * as over the stored values. A zero divisor makes the row unknown. % over a JSON double is unknown.
 * METHOD     64 rows at a time: load and widen, one loop per step, one loop for the comparison.
 * THREADS    pure.
 */
#include "query/eval_int.h"

struct block {
    uint32_t n;
    bool is_double;
    uint64_t bad; /* rows without a result */
    int64_t i[64];
    double d[64];
};

#define LOAD(T, member)                                                                            \
    do {                                                                                           \
        const unaligned_##T *p_ = (const unaligned_##T *)(const void *)c->data + row;              \
        for (uint32_t j_ = 0; j_ < b->n; j_++) {                                                   \
            b->member[j_] = p_[j_];                                                                \
        }                                                                                          \
    } while (0)

static void load(struct block *b, const struct column *c, size_t row, uint32_t n)
{
    b->n = n;
    b->bad = 0;
    b->is_double = dtype_is_float(c->type);
    switch (c->type) {
    case DT_BOOL:
        LOAD(uint8_t, i);
        for (uint32_t j = 0; j < n; j++) {
            b->i[j] = b->i[j] != 0;
        }
        break;
    case DT_INT8:
        LOAD(int8_t, i);
        break;
    case DT_INT16:
        LOAD(int16_t, i);
        break;
    case DT_INT32:
        LOAD(int32_t, i);
        break;
    case DT_INT64:
        LOAD(int64_t, i);
        break;
    case DT_FLOAT:
        LOAD(float, d);
        break;
    default:
        LOAD(double, d);
        break;
    }
}

static void to_doubles(struct block *b)
{
    if (!b->is_double) {
        for (uint32_t j = 0; j < b->n; j++) {
            b->d[j] = (double)b->i[j];
        }
        b->is_double = true;
    }
}

static double as_double(const struct value *v)
{
    return v->type == VAL_INT ? (double)v->i : v->d;
}

#define EACH_INT(result)                                                                           \
    for (uint32_t j = 0; j < b->n; j++) {                                                          \
        const uint64_t x = (uint64_t)b->i[j];                                                      \
        b->i[j] = (int64_t)(result);                                                               \
    }

static void int_step(struct block *b, const struct arith_step *s)
{
    const uint64_t k = (uint64_t)s->value.i;
    if (s->op == AR_ADD) {
        EACH_INT(x + k)
    } else if (s->op == AR_MUL) {
        EACH_INT(x * k)
    } else if (s->op == AR_SUB && s->reversed) {
        EACH_INT(k - x)
    } else if (s->op == AR_SUB) {
        EACH_INT(x - k)
    } else {
        for (uint32_t j = 0; j < b->n; j++) {
            bool ok;
            int64_t x = b->i[j];
            b->i[j] = num__int_step(s->op, s->reversed ? s->value.i : x,
                                    s->reversed ? x : s->value.i, &ok);
            b->bad |= (uint64_t)!ok << j;
        }
    }
}

#define EACH_DOUBLE(result)                                                                        \
    for (uint32_t j = 0; j < b->n; j++) {                                                          \
        const double x = b->d[j];                                                                  \
        b->d[j] = (result);                                                                        \
    }

static void double_step(struct block *b, const struct arith_step *s, bool single)
{
    struct value narrow = eval__narrow(single ? DT_FLOAT : DT_DOUBLE, &s->value);
    const double k = as_double(&narrow);
    if (s->op == AR_ADD) {
        EACH_DOUBLE(x + k)
    } else if (s->op == AR_MUL) {
        EACH_DOUBLE(x * k)
    } else if (s->op == AR_SUB && s->reversed) {
        EACH_DOUBLE(k - x)
    } else if (s->op == AR_SUB) {
        EACH_DOUBLE(x - k)
    } else {
        for (uint32_t j = 0; j < b->n; j++) {
            bool ok;
            double x = b->d[j];
            b->d[j] = num__double_step(s->op, s->reversed ? k : x, s->reversed ? x : k, &ok);
            b->bad |= (uint64_t)!ok << j;
        }
    }
    if (single) {
        EACH_DOUBLE((double)(float)x)
    }
}

static void apply(struct block *b, const struct expr *e, bool single)
{
    for (uint32_t i = 0; i < e->nsteps; i++) {
        const struct arith_step *s = &e->steps[i];
        if (!b->is_double && (s->op == AR_POW || s->value.type == VAL_DOUBLE)) {
            to_doubles(b);
        }
        if (b->is_double) {
            double_step(b, s, single);
        } else {
            int_step(b, s);
        }
    }
}

/* ---- comparing blocks */

#define HITS(cond)                                                                                 \
    for (uint32_t j = 0; j < a->n; j++) {                                                          \
        hits[j] = (uint8_t)(cond);                                                                 \
    }

#define HITS_OF_OP(x, y)                                                                           \
    switch (op) {                                                                                  \
    case OP_EQ:                                                                                    \
        HITS((x) == (y))                                                                           \
        break;                                                                                     \
    case OP_NE:                                                                                    \
        HITS((x) != (y))                                                                           \
        break;                                                                                     \
    case OP_LT:                                                                                    \
        HITS((x) < (y))                                                                            \
        break;                                                                                     \
    case OP_LE:                                                                                    \
        HITS((x) <= (y))                                                                           \
        break;                                                                                     \
    case OP_GT:                                                                                    \
        HITS((x) > (y))                                                                            \
        break;                                                                                     \
    case OP_GE:                                                                                    \
        HITS((x) >= (y))                                                                           \
        break;                                                                                     \
    }

static int opposite(int c)
{
    return c == NUM_UNORDERED ? c : -c;
}

static uint64_t compare_const(const struct block *a, enum cmp_op op, const struct value *v)
{
    uint8_t hits[64] = {0};
    if (a->is_double && v->type == VAL_DOUBLE) {
        HITS_OF_OP(a->d[j], v->d)
    } else if (!a->is_double && v->type == VAL_INT) {
        HITS_OF_OP(a->i[j], v->i)
    } else if (a->is_double) {
        HITS(cmp_holds(op, opposite(num_cmp_id(v->i, a->d[j]))))
    } else {
        HITS(cmp_holds(op, num_cmp_id(a->i[j], v->d)))
    }
    return pack64(hits);
}

static uint64_t compare_blocks(const struct block *a, enum cmp_op op, const struct block *b)
{
    uint8_t hits[64] = {0};
    if (a->is_double && b->is_double) {
        HITS_OF_OP(a->d[j], b->d[j])
    } else if (!a->is_double && !b->is_double) {
        HITS_OF_OP(a->i[j], b->i[j])
    } else if (a->is_double) {
        HITS(cmp_holds(op, opposite(num_cmp_id(b->i[j], a->d[j]))))
    } else {
        HITS(cmp_holds(op, num_cmp_id(a->i[j], b->d[j])))
    }
    return pack64(hits);
}

void eval__fixed_arith(struct eval *ev, const struct expr *e, const struct column *c, enum tri want,
                       uint64_t *io)
{
    bool single = c->type == DT_FLOAT;
    struct value v = eval__narrow(c->type, &e->value);
    struct block b;
    for (size_t w = 0; w < ev->nwords; w++) {
        if (io[w]) {
            load(&b, c, w * 64, MIN(ev->nrows - (uint32_t)(w * 64), 64u));
            apply(&b, e, single);
            uint64_t hits = compare_const(&b, e->op, &v);
            io[w] &= (want == TRI_TRUE ? hits : ~hits) & ~b.bad;
        }
    }
}

void eval__fixed_fields(struct eval *ev, const struct expr *e, const struct column *a,
                        const struct column *b, enum tri want, uint64_t *io)
{
    struct block left, right;
    for (size_t w = 0; w < ev->nwords; w++) {
        if (io[w]) {
            uint32_t n = MIN(ev->nrows - (uint32_t)(w * 64), 64u);
            load(&left, a, w * 64, n);
            load(&right, b, w * 64, n);
            uint64_t hits = compare_blocks(&left, e->op, &right);
            io[w] &= want == TRI_TRUE ? hits : ~hits;
        }
    }
}

/* ---- one value */

bool eval__scalar_steps(const struct expr *e, uint32_t first, bool single, struct scalar *io)
{
    bool ok = true;
    if (io->t == SC_UINT) {
        *io = (struct scalar){.t = SC_DOUBLE, .d = (double)io->u};
    }
    if (io->t != SC_INT && io->t != SC_DOUBLE) {
        return false;
    }
    for (uint32_t i = first; i < e->nsteps && ok; i++) {
        const struct arith_step *s = &e->steps[i];
        if (io->t == SC_INT && s->op != AR_POW && s->value.type == VAL_INT) {
            int64_t x = io->i;
            io->i = num__int_step(s->op, s->reversed ? s->value.i : x, s->reversed ? x : s->value.i,
                                  &ok);
            continue;
        }
        struct value narrow = eval__narrow(single ? DT_FLOAT : DT_DOUBLE, &s->value);
        double k = as_double(&narrow), x = io->t == SC_INT ? (double)io->i : io->d;
        double r = num__double_step(s->op, s->reversed ? k : x, s->reversed ? x : k, &ok);
        *io = (struct scalar){.t = SC_DOUBLE, .d = single ? (double)(float)r : r};
    }
    return ok;
}
