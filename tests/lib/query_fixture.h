/*
 * query_fixture.h - a schema with a field of every kind, rows as plain values, and the chunk of
 * columns that holds them: what tests and fuzz targets of filters run against.
 *
 * Rows are made from a seed. JSON cells are written from the same values, with blanks, shuffled
 * keys and escapes, so that a test can know every answer without reading JSON.
 */
#pragma once
#include "base/arena.h"
#include "base/bitset.h"
#include "base/buf.h"
#include "query/filter.h"
#include <inttypes.h>
#include <stdio.h>

enum fx_kind { FX_NONE, FX_BOOL, FX_INT, FX_UINT, FX_DOUBLE, FX_STRING };
struct fx_val {
    enum fx_kind kind; /* FX_NONE: null, or not there */
    bool b;
    int64_t i;
    uint64_t u;
    double d;
    struct slice s;
};
#define FX_ITEMS_MAX 4
struct fx_list {
    bool none; /* null, or no array there */
    uint32_t n;
    struct fx_val items[FX_ITEMS_MAX];
};
struct fx_object {
    bool none;
    bool a_null, t_scalar; /* "a": null;  "t": 5 instead of an array */
    struct fx_val a, x;    /* {"a": ..., "n": {"x": ...}, "t": [...]} */
    struct fx_list t;
};

enum {
    FX_ID,
    FX_I8,
    FX_I16,
    FX_I32,
    FX_I64,
    FX_F,
    FX_D,
    FX_B,
    FX_S,
    FX_S2,
    FX_J,
    FX_AI,
    FX_AV,
    FX_AF,
    FX_AB,
    FX_V,
    FX_TS,
    FX_PART,
    FX_LATE,
    FX_GONE,
    FX_META,
    FX_NFIELDS
};
#define FX_FIELD_ID(k) (100 + (int64_t)(k))

struct fx_row {
    struct fx_val val[FX_NFIELDS];    /* scalar fields */
    struct fx_list list[FX_NFIELDS];  /* Array fields */
    struct fx_object obj[FX_NFIELDS]; /* JSON fields */
};

struct fx {
    struct chunk_reader cr;
    struct schema schema;
    struct field fields[FX_NFIELDS];
    struct column cols[FX_NFIELDS];
    bool have[FX_NFIELDS];
    struct fx_row *rows;
    struct arena *ar;
    uint64_t rng;
};

static inline uint64_t fx_next(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}
static inline uint32_t fx_below(uint64_t *rng, uint32_t n)
{
    return (uint32_t)(fx_next(rng) % n);
}

/* ---- schema */

static inline void fx_schema(struct fx *fx, bool dynamic)
{
    static const struct {
        const char *name;
        enum dtype type, elem;
        bool nullable;
    } rows[FX_NFIELDS] = {
        [FX_ID] = {"id", DT_INT64, DT_NONE, false},
        [FX_I8] = {"i8", DT_INT8, DT_NONE, false},
        [FX_I16] = {"i16", DT_INT16, DT_NONE, true},
        [FX_I32] = {"i32", DT_INT32, DT_NONE, false},
        [FX_I64] = {"i64", DT_INT64, DT_NONE, true},
        [FX_F] = {"f", DT_FLOAT, DT_NONE, false},
        [FX_D] = {"d", DT_DOUBLE, DT_NONE, true},
        [FX_B] = {"b", DT_BOOL, DT_NONE, true},
        [FX_S] = {"s", DT_VARCHAR, DT_NONE, true},
        [FX_S2] = {"s2", DT_VARCHAR, DT_NONE, false},
        [FX_J] = {"j", DT_JSON, DT_NONE, true},
        [FX_AI] = {"ai", DT_ARRAY, DT_INT64, true},
        [FX_AV] = {"av", DT_ARRAY, DT_VARCHAR, false},
        [FX_AF] = {"af", DT_ARRAY, DT_FLOAT, false},
        [FX_AB] = {"ab", DT_ARRAY, DT_BOOL, false},
        [FX_V] = {"v", DT_FLOAT_VECTOR, DT_NONE, false},
        [FX_TS] = {"ts", DT_TIMESTAMPTZ, DT_NONE, true},
        [FX_PART] = {"part", DT_VARCHAR, DT_NONE, false},
        [FX_LATE] = {"late", DT_INT32, DT_NONE, false},
        [FX_GONE] = {"gone", DT_VARCHAR, DT_NONE, true},
        [FX_META] = {"$meta", DT_JSON, DT_NONE, true},
    };
    static const int32_t seven = 7;
    uint32_t n = dynamic ? FX_NFIELDS : FX_META;
    for (uint32_t k = 0; k < n; k++) {
        fx->fields[k] = (struct field){.id = FX_FIELD_ID(k),
                                       .name = rows[k].name,
                                       .type = rows[k].type,
                                       .elem = rows[k].elem,
                                       .dim = rows[k].type == DT_FLOAT_VECTOR ? 2 : 0,
                                       .nullable = rows[k].nullable};
    }
    fx->fields[FX_ID].is_pk = true;
    fx->fields[FX_PART].is_partition_key = true;
    fx->fields[FX_LATE].has_default = true;
    fx->fields[FX_LATE].default_cell = slice_n(&seven, sizeof seven);
    fx->fields[FX_META].is_dynamic = dynamic;
    fx->schema = (struct schema){.collection_name = "c",
                                 .nfields = n,
                                 .fields = fx->fields,
                                 .pk = &fx->fields[FX_ID],
                                 .partition_key = &fx->fields[FX_PART],
                                 .dynamic = dynamic ? &fx->fields[FX_META] : NULL};
}

/* ---- values */

static inline struct fx_val fx_int(int64_t i)
{
    return (struct fx_val){.kind = FX_INT, .i = i};
}
static inline struct fx_val fx_double(double d)
{
    return (struct fx_val){.kind = FX_DOUBLE, .d = d};
}

static const int64_t fx_ints[] = {-3,
                                  -2,
                                  -1,
                                  0,
                                  1,
                                  2,
                                  3,
                                  4,
                                  5,
                                  7,
                                  100,
                                  -128,
                                  127,
                                  128,
                                  32767,
                                  -32768,
                                  2147483647,
                                  INT64_C(-2147483648),
                                  INT64_C(9007199254740992),
                                  INT64_C(9007199254740993),
                                  INT64_MAX,
                                  INT64_MAX - 1,
                                  INT64_MIN,
                                  INT64_MIN + 1,
                                  INT64_C(1) << 62};
static const double fx_doubles[] = {-2.5,
                                    -1,
                                    -0.5,
                                    0,
                                    0.1,
                                    0.5,
                                    1,
                                    1.5,
                                    2,
                                    2.5,
                                    3,
                                    7,
                                    100.25,
                                    9007199254740992.0,
                                    9223372036854775808.0,
                                    -1e300,
                                    1e18,
                                    -9223372036854775808.0,
                                    16777217,
                                    3.4e38,
                                    1e39};
static const char *const fx_strings[] = {"",
                                         "a",
                                         "ab",
                                         "abc",
                                         "b",
                                         "ba",
                                         "bab",
                                         "cab",
                                         "a%b",
                                         "a_b",
                                         "a\\b",
                                         "\"q'",
                                         "\xC3\xA9",
                                         "a\xC3\xA9z",
                                         "\xE4\xB8\xAD\xE6\x96\x87",
                                         "line\nbreak",
                                         "abcabcabc",
                                         "zzz"};

static inline struct fx_val fx_random_int(uint64_t *rng)
{
    if (fx_below(rng, 2)) {
        return fx_int((int64_t)fx_below(rng, 9) - 3);
    }
    return fx_int(fx_ints[fx_below(rng, ARRAY_LEN(fx_ints))]);
}
static inline struct fx_val fx_random_double(uint64_t *rng)
{
    return fx_double(fx_doubles[fx_below(rng, ARRAY_LEN(fx_doubles))]);
}
static inline struct fx_val fx_random_string(uint64_t *rng)
{
    const char *s = fx_strings[fx_below(rng, ARRAY_LEN(fx_strings))];
    return (struct fx_val){.kind = FX_STRING, .s = slice_of(s)};
}
static inline struct fx_val fx_random_bool(uint64_t *rng)
{
    return (struct fx_val){.kind = FX_BOOL, .b = fx_below(rng, 2)};
}
/* Of a column type: clipped to what it holds. */
static inline struct fx_val fx_random_of(enum dtype t, uint64_t *rng)
{
    struct fx_val v;
    switch (t) {
    case DT_BOOL:
        return fx_random_bool(rng);
    case DT_INT8:
        v = fx_random_int(rng);
        v.i = (int8_t)v.i;
        return v;
    case DT_INT16:
        v = fx_random_int(rng);
        v.i = (int16_t)v.i;
        return v;
    case DT_INT32:
        v = fx_random_int(rng);
        v.i = (int32_t)v.i;
        return v;
    case DT_INT64:
    case DT_TIMESTAMPTZ:
        return fx_random_int(rng);
    case DT_FLOAT:
        v = fx_random_double(rng);
        v.d = v.d > 3.4e38 || v.d < -3.4e38 ? 0.25 : (double)(float)v.d;
        return v;
    case DT_DOUBLE:
        return fx_random_double(rng);
    default:
        return fx_random_string(rng);
    }
}
/* As JSON knows them. */
static inline struct fx_val fx_random_scalar(uint64_t *rng)
{
    switch (fx_below(rng, 8)) {
    case 0:
        return fx_random_bool(rng);
    case 1:
    case 2:
        return fx_random_string(rng);
    case 3:
        return fx_random_double(rng);
    case 4:
        if (fx_below(rng, 4) == 0) {
            return (struct fx_val){.kind = FX_UINT,
                                   .u = UINT64_C(9223372036854775808) + fx_below(rng, 3)};
        }
        return fx_random_int(rng);
    default:
        return fx_random_int(rng);
    }
}

/* ---- JSON text */

static inline void fx_blank(struct buf *b, uint64_t *rng)
{
    if (fx_below(rng, 4) == 0) {
        buf_putc(b, " \t\n"[fx_below(rng, 3)]);
    }
}
static inline void fx_put_string(struct buf *b, struct slice s, uint64_t *rng)
{
    bool escape = fx_below(rng, 3) == 0;
    if (!escape) {
        buf_put_json_str(b, s);
        return;
    }
    buf_putc(b, '"');
    for (size_t i = 0; i < s.n; i++) {
        if ((unsigned char)s.p[i] < 0x80) {
            buf_printf(b, "\\u%04x", s.p[i]);
        } else {
            buf_putc(b, s.p[i]);
        }
    }
    buf_putc(b, '"');
}
static inline void fx_put_json(struct buf *b, const struct fx_val *v, uint64_t *rng)
{
    size_t from = b->n;
    switch (v->kind) {
    case FX_NONE:
        buf_put_str(b, "null");
        break;
    case FX_BOOL:
        buf_put_str(b, v->b ? "true" : "false");
        break;
    case FX_INT:
        buf_printf(b, "%" PRId64, v->i);
        break;
    case FX_UINT:
        buf_printf(b, "%" PRIu64, v->u);
        break;
    case FX_DOUBLE:
        buf_printf(b, "%.17g", v->d);
        if (!memchr(b->p + from, '.', b->n - from) && !memchr(b->p + from, 'e', b->n - from)) {
            buf_put_str(b, ".0");
        }
        break;
    case FX_STRING:
        fx_put_string(b, v->s, rng);
        break;
    }
}
static inline void fx_put_member(struct buf *b, const struct fx_object *o, int which, uint64_t *rng)
{
    fx_blank(b, rng);
    if (which == 0) {
        buf_put_str(b, fx_below(rng, 3) ? "\"a\":" : "\"\\u0061\":");
        fx_blank(b, rng);
        fx_put_json(b, &o->a, rng);
    } else if (which == 1) {
        buf_put_str(b, "\"n\":{\"y\":[{}],");
        buf_put_str(b, "\"x\":");
        fx_put_json(b, &o->x, rng);
        buf_put_str(b, "}");
    } else if (o->t_scalar) {
        buf_put_str(b, "\"t\":5");
    } else {
        buf_put_str(b, "\"t\":[");
        for (uint32_t i = 0; i < o->t.n; i++) {
            buf_put_str(b, i ? "," : "");
            fx_blank(b, rng);
            fx_put_json(b, &o->t.items[i], rng);
        }
        buf_put_str(b, "]");
    }
    fx_blank(b, rng);
}
static inline void fx_put_object(struct buf *b, const struct fx_object *o, uint64_t *rng)
{
    int first = (int)fx_below(rng, 3);
    bool any = false;
    fx_blank(b, rng);
    buf_putc(b, '{');
    for (int k = 0; k < 3; k++) {
        int which = (first + k) % 3;
        bool there = which == 0   ? o->a.kind != FX_NONE || o->a_null
                     : which == 1 ? o->x.kind != FX_NONE
                                  : !o->t.none || o->t_scalar;
        if (there) {
            buf_put_str(b, any ? "," : "");
            fx_put_member(b, o, which, rng);
            any = true;
        }
    }
    buf_putc(b, '}');
    fx_blank(b, rng);
}

/* ---- rows */

static inline struct fx_list fx_random_list(enum dtype elem, uint64_t *rng)
{
    struct fx_list l = {.n = fx_below(rng, FX_ITEMS_MAX + 1)};
    for (uint32_t i = 0; i < l.n; i++) {
        l.items[i] = elem == DT_JSON ? fx_random_scalar(rng) : fx_random_of(elem, rng);
    }
    return l;
}
static inline struct fx_object fx_random_object(uint64_t *rng)
{
    struct fx_object o = {0};
    o.a_null = fx_below(rng, 8) == 0;
    if (!o.a_null && fx_below(rng, 6)) {
        o.a = fx_random_scalar(rng);
    }
    if (fx_below(rng, 3)) {
        o.x = fx_random_scalar(rng);
    }
    o.t_scalar = fx_below(rng, 8) == 0;
    o.t = fx_random_list(DT_JSON, rng);
    o.t.none = o.t_scalar || fx_below(rng, 5) == 0;
    return o;
}
static inline void fx_row(struct fx *fx, struct fx_row *r)
{
    memset(r, 0, sizeof *r);
    for (uint32_t k = 0; k < fx->schema.nfields; k++) {
        const struct field *f = &fx->fields[k];
        bool null = f->nullable && fx_below(&fx->rng, 4) == 0;
        if (f->type == DT_ARRAY) {
            r->list[k] = fx_random_list(f->elem, &fx->rng);
            r->list[k].none = null;
        } else if (f->type == DT_JSON) {
            r->obj[k] = fx_random_object(&fx->rng);
            r->obj[k].none = null;
        } else if (f->type != DT_FLOAT_VECTOR && !null) {
            r->val[k] = fx_random_of(f->type, &fx->rng);
        }
    }
    r->val[FX_LATE] = fx_int(7);
    r->val[FX_GONE].kind = FX_NONE;
}

/* ---- columns */

static inline void fx_put_cell(struct buf *b, enum dtype t, const struct fx_val *v)
{
    float f32 = t == DT_FLOAT ? (float)v->d : 0;
    switch (t) {
    case DT_BOOL:
        buf_put_u8(b, v->b);
        break;
    case DT_INT8:
    case DT_INT16:
    case DT_INT32:
    case DT_INT64:
    case DT_TIMESTAMPTZ:
        buf_put(b, &v->i, dtype_width(t, 0));
        break;
    case DT_FLOAT:
        buf_put(b, &f32, sizeof f32);
        break;
    case DT_DOUBLE:
        buf_put(b, &v->d, sizeof v->d);
        break;
    default:
        buf_put_slice(b, v->s);
        break;
    }
}
static inline void fx_put_array(struct buf *b, enum dtype elem, const struct fx_list *l)
{
    uint32_t end = 0;
    if (elem == DT_VARCHAR) {
        buf_put_u32(b, l->n);
        for (uint32_t i = 0; i < l->n; i++) {
            end += (uint32_t)l->items[i].s.n;
            buf_put_u32(b, end);
        }
    }
    for (uint32_t i = 0; i < l->n; i++) {
        fx_put_cell(b, elem, &l->items[i]);
    }
}
/* refs: the shape of growing segments; else packed. The data of fixed columns is off by one byte
 * when odd, as it can be in a message. */
static inline void fx_column(struct fx *fx, uint32_t k, bool refs, bool odd)
{
    const struct field *f = &fx->fields[k];
    uint32_t n = fx->cr.nrows;
    struct column *c = &fx->cols[k];
    uint64_t *valid = arena_alloc(fx->ar, bits_words(n) * 8 + 8);
    uint64_t *ends = arena_alloc(fx->ar, (size_t)n * 8 + 8);
    struct slice *cells = arena_alloc(fx->ar, (size_t)n * sizeof *cells + 8);
    struct fx_val zero = {0};
    struct buf b;
    bool nulls = false;
    buf_init(&b, SIZE_MAX / 2);
    buf_put_zero(&b, odd);
    for (uint32_t i = 0; i < n; i++) {
        const struct fx_row *r = &fx->rows[i];
        bool null = f->type == DT_ARRAY  ? r->list[k].none
                    : f->type == DT_JSON ? r->obj[k].none
                                         : r->val[k].kind == FX_NONE && f->nullable;
        nulls = nulls || null;
        if (!null) {
            bit_set(valid, i);
        }
        if (f->type == DT_ARRAY && !null) {
            fx_put_array(&b, f->elem, &r->list[k]);
        } else if (f->type == DT_JSON && !null) {
            fx_put_object(&b, &r->obj[k], &fx->rng);
        } else if (f->type == DT_FLOAT_VECTOR) {
            buf_put_zero(&b, 8);
        } else if (f->type != DT_ARRAY && f->type != DT_JSON) {
            fx_put_cell(&b, f->type, null ? &zero : &r->val[k]);
        }
        ends[i] = b.n - odd;
    }
    char *data = arena_alloc(fx->ar, b.n + 16);
    if (b.n) {
        memcpy(data, b.p, b.n);
    }
    data += odd;
    buf_done(&b);
    *c = (struct column){.field_id = f->id,
                         .type = f->type,
                         .elem = f->elem,
                         .dim = f->dim,
                         .nrows = n,
                         .width = dtype_width(f->type, f->dim),
                         .valid = nulls ? valid : NULL};
    for (uint32_t i = 0; i < n; i++) {
        uint64_t from = i ? ends[i - 1] : 0;
        cells[i] = slice_n(data + from, ends[i] - from);
    }
    c->data = c->width || !refs ? (const uint8_t *)data : NULL;
    c->ends = c->width || refs ? NULL : ends;
    c->refs = !c->width && refs ? cells : NULL;
    fx->have[k] = k != FX_LATE && k != FX_GONE;
}

static inline const struct column *fx_get_column(const struct chunk_reader *cr, int64_t field_id)
{
    struct fx *fx = CONTAINER_OF(cr, struct fx, cr);
    int64_t k = field_id - FX_FIELD_ID(0);
    return k >= 0 && k < FX_NFIELDS && fx->have[k] ? &fx->cols[k] : NULL;
}

static inline struct fx *fx_new(uint64_t seed, uint32_t nrows, bool refs)
{
    struct arena *ar = arena_new(0);
    struct fx *fx = ARENA_NEW(ar, struct fx);
    fx->ar = ar;
    fx->rng = seed;
    fx_schema(fx, true);
    fx->cr = (struct chunk_reader){.nrows = nrows, .column = fx_get_column, .schema = &fx->schema};
    fx->rows = arena_alloc(ar, (size_t)nrows * sizeof *fx->rows + 8);
    for (uint32_t i = 0; i < nrows; i++) {
        fx_row(fx, &fx->rows[i]);
    }
    for (uint32_t k = 0; k < FX_NFIELDS; k++) {
        fx_column(fx, k, refs, refs);
    }
    return fx;
}
static inline void fx_free(struct fx *fx)
{
    arena_free(fx->ar);
}
