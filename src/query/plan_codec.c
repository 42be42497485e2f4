/*
 * plan_codec.c - plans as bytes between roles.
 *
 * FORMAT   u8 version (1), then the root node. A node: u8 kind, then by kind
 *   const         value
 *   and or not    u32 number of kids, kids
 *   cmp           operand, u8 op, value
 *   cmp_fields    operand, u8 op, operand
 *   cmp_arith     operand, u8 op, value, u32 number of steps, steps
 *   range         operand, u8 flags (1 lo inclusive, 2 hi inclusive), value lo, value hi
 *   in            operand, u8 negate, value (a list)
 *   like          operand, value
 *   is_null       operand, u8 negate
 *   exists bool   operand
 *   contains      operand, u8 mode, value
 * operand: u64 field id, u32 type, u32 element type, u32 number of path steps, each u8 is_index and
 * u32 index or a string. arithmetic step: u8 op, u8 reversed, value. value: u8 type, then u8
 * (bool), u64 (int, double bits), a string, or u32 count and values. string: u32 length, bytes. All
 * integers little-endian. A list carries u32 count once and values with their own types.
 *
 * Both ends are of one release, so an unknown version is simply refused. Decoding borrows strings
 * from the input, checks every count against the bytes left before it allocates, bounds depth, and
 * runs plan__check_node() on every node.
 *
 * THREADS  pure.
 */
#include "query/query_int.h"

#define PLAN_VERSION 1
#define VALUE_DEPTH_MAX PLAN_DEPTH_MAX

/* ---- writing */

static bool put_string(struct buf *b, struct slice s)
{
    return buf_put_u32(b, (uint32_t)s.n) && buf_put_slice(b, s);
}

static bool put_value(struct buf *b, const struct value *v)
{
    uint64_t bits;
    buf_put_u8(b, (uint8_t)v->type);
    switch (v->type) {
    case VAL_NULL:
        break;
    case VAL_BOOL:
        buf_put_u8(b, v->b);
        break;
    case VAL_INT:
        buf_put_u64(b, (uint64_t)v->i);
        break;
    case VAL_DOUBLE:
        memcpy(&bits, &v->d, 8);
        buf_put_u64(b, bits);
        break;
    case VAL_STRING:
        put_string(b, v->s);
        break;
    case VAL_ARRAY:
        buf_put_u32(b, v->a.n);
        for (uint32_t i = 0; i < v->a.n; i++) {
            put_value(b, &v->a.items[i]);
        }
        break;
    }
    return !b->failed;
}

static void put_operand(struct buf *b, const struct operand *o)
{
    buf_put_u64(b, (uint64_t)o->field_id);
    buf_put_u32(b, (uint32_t)o->type);
    buf_put_u32(b, (uint32_t)o->elem);
    buf_put_u32(b, o->nsteps);
    for (uint32_t i = 0; i < o->nsteps; i++) {
        buf_put_u8(b, o->steps[i].is_index);
        if (o->steps[i].is_index) {
            buf_put_u32(b, o->steps[i].index);
        } else {
            put_string(b, o->steps[i].key);
        }
    }
}

static void put_arith(struct buf *b, const struct expr *e)
{
    buf_put_u8(b, (uint8_t)e->op);
    put_value(b, &e->value);
    buf_put_u32(b, e->nsteps);
    for (uint32_t i = 0; i < e->nsteps; i++) {
        buf_put_u8(b, (uint8_t)e->steps[i].op);
        buf_put_u8(b, e->steps[i].reversed);
        put_value(b, &e->steps[i].value);
    }
}

static void put_node(struct buf *b, const struct expr *e)
{
    buf_put_u8(b, (uint8_t)e->kind);
    if (e->kind > EX_NOT) {
        put_operand(b, &e->operand);
    }
    switch (e->kind) {
    case EX_CONST:
    case EX_LIKE:
        put_value(b, &e->value);
        break;
    case EX_AND:
    case EX_OR:
    case EX_NOT:
        buf_put_u32(b, e->nkids);
        for (uint32_t i = 0; i < e->nkids; i++) {
            put_node(b, e->kids[i]);
        }
        break;
    case EX_CMP:
        buf_put_u8(b, (uint8_t)e->op);
        put_value(b, &e->value);
        break;
    case EX_CMP_FIELDS:
        buf_put_u8(b, (uint8_t)e->op);
        put_operand(b, &e->operand2);
        break;
    case EX_CMP_ARITH:
        put_arith(b, e);
        break;
    case EX_RANGE:
        buf_put_u8(b, (uint8_t)(e->lo_inclusive | e->hi_inclusive << 1));
        put_value(b, &e->lo);
        put_value(b, &e->hi);
        break;
    case EX_IN:
        buf_put_u8(b, e->negate);
        put_value(b, &e->value);
        break;
    case EX_IS_NULL:
        buf_put_u8(b, e->negate);
        break;
    case EX_CONTAINS:
        buf_put_u8(b, (uint8_t)e->mode);
        put_value(b, &e->value);
        break;
    case EX_EXISTS:
    case EX_BOOL:
        break;
    }
}

bool plan_encode(const struct expr *e, struct buf *out)
{
    buf_put_u8(out, PLAN_VERSION);
    put_node(out, e);
    return !out->failed;
}

/* ---- reading */

struct decoder {
    struct reader r;
    struct arena *ar;
    bool no_memory;
};

static void *get_array(struct decoder *d, uint32_t n, size_t size)
{
    void *p = arena_try_array(d->ar, MAX(n, 1u), size);
    d->no_memory = d->no_memory || !p;
    return p;
}

/* A count of things of at least one byte each. */
static bool get_count(struct decoder *d, uint32_t *ret)
{
    return reader_u32(&d->r, ret) && *ret <= reader_left(&d->r);
}

static bool get_bool(struct decoder *d, bool *ret)
{
    uint8_t v;
    if (!reader_u8(&d->r, &v) || v > 1) {
        return false;
    }
    *ret = v;
    return true;
}

static bool get_enum(struct decoder *d, uint8_t max, uint8_t *ret)
{
    return reader_u8(&d->r, ret) && *ret <= max;
}

static bool get_string(struct decoder *d, struct slice *ret)
{
    uint32_t n;
    return reader_u32(&d->r, &n) && reader_bytes(&d->r, n, ret);
}

static bool get_value(struct decoder *d, int depth, struct value *ret)
{
    uint8_t type;
    uint64_t bits;
    struct value v = {0};
    if (!get_enum(d, VAL_ARRAY, &type) || depth > VALUE_DEPTH_MAX) {
        return false;
    }
    v.type = (enum value_type)type;
    switch (v.type) {
    case VAL_NULL:
        break;
    case VAL_BOOL:
        if (!get_bool(d, &v.b)) {
            return false;
        }
        break;
    case VAL_INT:
        if (!reader_u64(&d->r, &bits)) {
            return false;
        }
        v.i = (int64_t)bits;
        break;
    case VAL_DOUBLE:
        if (!reader_u64(&d->r, &bits)) {
            return false;
        }
        memcpy(&v.d, &bits, 8);
        break;
    case VAL_STRING:
        if (!get_string(d, &v.s)) {
            return false;
        }
        break;
    case VAL_ARRAY: {
        uint32_t n;
        struct value *items = get_count(d, &n) ? get_array(d, n, sizeof *items) : NULL;
        if (!items) {
            return false;
        }
        for (uint32_t i = 0; i < n; i++) {
            if (!get_value(d, depth + 1, &items[i])) {
                return false;
            }
        }
        v.a.items = items;
        v.a.n = n;
        break;
    }
    }
    *ret = v;
    return true;
}

static bool get_operand(struct decoder *d, struct operand *ret)
{
    uint64_t id;
    uint32_t type, elem, n;
    if (!reader_u64(&d->r, &id) || !reader_u32(&d->r, &type) || !reader_u32(&d->r, &elem) ||
        !get_count(d, &n) || type > INT32_MAX || elem > INT32_MAX || !dtype_known((int)type)) {
        return false;
    }
    struct path_step *steps = get_array(d, n, sizeof *steps);
    if (!steps) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!get_bool(d, &steps[i].is_index) ||
            !(steps[i].is_index ? reader_u32(&d->r, &steps[i].index)
                                : get_string(d, &steps[i].key))) {
            return false;
        }
    }
    *ret = (struct operand){(int64_t)id, (enum dtype)type, (enum dtype)elem, n, steps};
    return true;
}

static bool get_arith(struct decoder *d, struct expr *e)
{
    uint8_t op;
    uint32_t n;
    if (!get_value(d, 0, &e->value) || !get_count(d, &n)) {
        return false;
    }
    struct arith_step *steps = get_array(d, n, sizeof *steps);
    if (!steps) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!get_enum(d, AR_LENGTH, &op) || !get_bool(d, &steps[i].reversed) ||
            !get_value(d, 0, &steps[i].value)) {
            return false;
        }
        steps[i].op = (enum arith_op)op;
    }
    e->steps = steps;
    e->nsteps = n;
    return true;
}

static bool get_op(struct decoder *d, struct expr *e)
{
    uint8_t op = 0;
    bool ok = get_enum(d, OP_GE, &op);
    e->op = (enum cmp_op)op;
    return ok;
}

static const struct expr *get_node(struct decoder *d, int depth);

static bool get_kids(struct decoder *d, int depth, struct expr *e)
{
    uint32_t n;
    if (!get_count(d, &n)) {
        return false;
    }
    const struct expr **kids = get_array(d, n, sizeof *kids);
    if (!kids) {
        return false;
    }
    for (uint32_t i = 0; i < n; i++) {
        kids[i] = get_node(d, depth + 1);
        if (!kids[i]) {
            return false;
        }
    }
    e->kids = kids;
    e->nkids = n;
    return true;
}

static bool get_body(struct decoder *d, int depth, struct expr *e)
{
    uint8_t byte = 0;
    bool ok = false;
    if (e->kind > EX_NOT && !get_operand(d, &e->operand)) {
        return false;
    }
    switch (e->kind) {
    case EX_CONST:
    case EX_LIKE:
        ok = get_value(d, 0, &e->value);
        break;
    case EX_AND:
    case EX_OR:
    case EX_NOT:
        ok = get_kids(d, depth, e);
        break;
    case EX_CMP:
        ok = get_op(d, e) && get_value(d, 0, &e->value);
        break;
    case EX_CMP_FIELDS:
        ok = get_op(d, e) && get_operand(d, &e->operand2);
        break;
    case EX_CMP_ARITH:
        ok = get_op(d, e) && get_arith(d, e);
        break;
    case EX_RANGE:
        ok = get_enum(d, 3, &byte) && get_value(d, 0, &e->lo) && get_value(d, 0, &e->hi);
        e->lo_inclusive = byte & 1;
        e->hi_inclusive = byte & 2;
        break;
    case EX_IN:
        ok = get_bool(d, &e->negate) && get_value(d, 0, &e->value);
        break;
    case EX_IS_NULL:
        ok = get_bool(d, &e->negate);
        break;
    case EX_CONTAINS:
        ok = get_enum(d, CONTAINS_ANY, &byte) && get_value(d, 0, &e->value);
        e->mode = (enum contains_mode)byte;
        break;
    case EX_EXISTS:
    case EX_BOOL:
        ok = true;
        break;
    }
    return ok;
}

static const struct expr *get_node(struct decoder *d, int depth)
{
    uint8_t kind;
    if (depth > PLAN_DEPTH_MAX || !get_enum(d, EX_BOOL, &kind)) {
        return NULL;
    }
    struct expr *e = get_array(d, 1, sizeof *e);
    if (!e) {
        return NULL;
    }
    e->kind = (enum expr_kind)kind;
    return get_body(d, depth, e) && !plan__check_node(e) ? e : NULL;
}

int plan_decode(struct slice bytes, struct arena *ar, const struct expr **ret_expr,
                struct status *st)
{
    struct decoder d = {.r = reader_of(bytes), .ar = ar};
    uint8_t version;
    int rc = 0;
    if (!reader_u8(&d.r, &version) || version != PLAN_VERSION) {
        FAIL(st, ST_CORRUPT, "plan of %zu bytes: unknown version", bytes.n);
    }
    const struct expr *e = get_node(&d, 1);
    if (d.no_memory) {
        FAIL(st, ST_NO_MEMORY, "plan of %zu bytes takes too much memory", bytes.n);
    }
    if (!e || reader_left(&d.r) != 0) {
        FAIL(st, ST_CORRUPT, "plan of %zu bytes: not well-formed at offset %zu", bytes.n,
             bytes.n - reader_left(&d.r));
    }
    *ret_expr = e;
out:
    return rc;
}
