/*
 * plan.h - a typed filter: what the parser produces, the evaluator runs and roles exchange.
 *
 * A plan is a tree of struct expr in one arena, immutable once built. Every node's type is known;
 * comparisons have been normalised (field or path on the left), constants folded, templates
 * filled in. plan_encode()/plan_decode() carry it between roles as bytes (format version first);
 * decode checks everything, including depth (PLAN_DEPTH_MAX), and is fuzzed.
 */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/slice.h"
#include "base/status.h"
#include "schema/schema.h"

#define PLAN_DEPTH_MAX 256   /* nesting after and/or chains have been flattened */

enum value_type { VAL_NULL, VAL_BOOL, VAL_INT, VAL_DOUBLE, VAL_STRING, VAL_ARRAY };

struct value {
    enum value_type type;
    union {
        bool b;
        int64_t i;
        double d;
        struct slice s;
        struct {
            const struct value *items;
            uint32_t n;
        } a;
    };
};

/* A column, a JSON path or an array element. */
struct path_step {
    bool is_index;
    struct slice key;
    uint32_t index;
};
struct operand {
    int64_t field_id;
    enum dtype type, elem;
    uint32_t nsteps;               /* JSON: keys and indexes; Array: one index */
    const struct path_step *steps;
};

enum expr_kind {
    EX_CONST,        /* value.b: all or nothing */
    EX_AND, EX_OR,   /* nkids >= 2 */
    EX_NOT,          /* one kid */
    EX_CMP,          /* operand op value */
    EX_CMP_FIELDS,   /* operand op operand2 */
    EX_CMP_ARITH,    /* (chain of arithmetic over operand) op value */
    EX_RANGE,        /* lo (<|<=) operand (<|<=) hi */
    EX_IN,           /* operand in value.a (sorted by the parser); negate for `not in` */
    EX_LIKE,         /* operand like pattern */
    EX_IS_NULL,      /* negate: is not null */
    EX_EXISTS,       /* JSON path present and not null */
    EX_CONTAINS,     /* json_contains / array_contains family; mode below */
    EX_BOOL,         /* a Bool column or element as a condition of its own */
};
enum cmp_op { OP_EQ, OP_NE, OP_LT, OP_LE, OP_GT, OP_GE };
enum arith_op { AR_ADD, AR_SUB, AR_MUL, AR_DIV, AR_MOD, AR_POW, AR_BIT_AND, AR_BIT_OR, AR_BIT_XOR, AR_SHL, AR_SHR, AR_LENGTH };
enum contains_mode { CONTAINS_ONE, CONTAINS_ALL, CONTAINS_ANY };

/* One step of EX_CMP_ARITH, applied left to right: x = x op value, or value op x when reversed. */
struct arith_step {
    enum arith_op op;
    bool reversed;
    struct value value;
};

struct expr {
    enum expr_kind kind;
    uint32_t nkids;
    const struct expr *const *kids;
    struct operand operand, operand2;
    enum cmp_op op;
    struct value value;               /* EX_CMP, EX_CMP_ARITH, EX_IN, EX_LIKE (pattern), EX_CONTAINS */
    struct value lo, hi;              /* EX_RANGE */
    bool lo_inclusive, hi_inclusive;
    bool negate;                      /* EX_IN, EX_IS_NULL */
    enum contains_mode mode;
    uint32_t nsteps;
    const struct arith_step *steps;   /* EX_CMP_ARITH */
};

bool plan_encode(const struct expr *e, struct buf *out);
int plan_decode(struct slice bytes, struct arena *ar, const struct expr **ret_expr,
                struct status *st);
/* Readable form for logs and tests; parses back to an equal plan. */
bool plan_dump(const struct expr *e, const struct schema *s, struct buf *out);

/* When the filter can only be true for certain primary keys (key == v, key in [...], possibly
 * inside `and`), returns that list (a VAL_ARRAY: sorted, each key once), else NULL. Lets readers use
 * key look-up instead of a scan and gives delete its count. exact says that the filter is nothing
 * but this condition. */
const struct value *plan_pk_list(const struct expr *e, int64_t pk_field_id, bool *ret_exact);
/* The same for any field: used for partition keys. */
const struct value *plan_field_list(const struct expr *e, int64_t field_id);
