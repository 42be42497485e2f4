/*
 * query_int.h - shared inside the room: the syntax tree, numbers compared exactly, plan checks.
 *
 * PIPELINE   text -> filter_lex.c tokens -> filter_parse.c syntax tree (constants already folded by
 * filter_const.c) -> filter_type.c plan -> eval*.c bitset. The tree and the plan live in the
 * caller's arena.
 */
#pragma once
#include "query/filter.h"
#include "query/plan.h"

/* ---- tokens (filter_lex.c) */

enum tok {
    TK_END,
    TK_INT,      /* value.i; big set when only INT64_MIN's magnitude fits */
    TK_DOUBLE,   /* value.d */
    TK_STRING,   /* value.s, decoded */
    TK_BOOL,     /* value.b */
    TK_IDENT,
    TK_META,     /* $meta */
    TK_DOLLAR,   /* $ on its own: an element of a struct array */
    TK_LPAREN, TK_RPAREN, TK_LBRACKET, TK_RBRACKET, TK_LBRACE, TK_RBRACE, TK_COMMA,
    TK_LT, TK_LE, TK_GT, TK_GE, TK_EQ, TK_NE,
    TK_ADD, TK_SUB, TK_MUL, TK_DIV, TK_MOD, TK_POW, TK_SHL, TK_SHR,
    TK_BAND, TK_BOR, TK_BXOR, TK_BNOT,
    TK_AND, TK_OR, TK_NOT, TK_IN, TK_LIKE, TK_EXISTS,
    TK_REGEX, TK_NOT_REGEX, TK_ASSIGN,
};

struct token {
    enum tok kind;
    bool big;             /* the literal 9223372036854775808: legal only after a minus */
    struct slice text;    /* as written */
    struct value value;
};

struct lexer {
    const char *p, *end, *start;
    struct arena *ar;
};

int lex__next(struct lexer *lx, struct token *ret, struct status *st);

/* ---- syntax tree (filter_parse.c) */

enum node_kind {
    ND_VALUE,    /* a constant, lists included */
    ND_NAME,     /* identifier or $meta with its steps */
    ND_UNARY,    /* op: TK_SUB TK_ADD TK_NOT */
    ND_BINARY,   /* op: arithmetic or comparison token */
    ND_LOGIC,    /* op: TK_AND TK_OR; all terms of a chain are kids of one node */
    ND_CHAIN,    /* kid op kid op2 kid */
    ND_IN,       /* kids: what, list; negate */
    ND_LIKE,     /* kids: what, pattern */
    ND_IS_NULL,  /* kid: name; negate */
    ND_EXISTS,   /* kid: name */
    ND_CALL,     /* fn, kids */
};
enum filter_fn {
    FN_NONE,
    FN_CONTAINS, FN_CONTAINS_ALL, FN_CONTAINS_ANY,
    FN_LENGTH,
};

struct node {
    enum node_kind kind;
    enum tok op, op2;
    enum filter_fn fn;
    bool negate, is_meta;
    uint32_t depth;           /* of the tree below, for the bound */
    uint32_t nkids, nsteps;
    const struct node *const *kids;
    const struct path_step *steps;
    struct slice name;
    struct value value;
    struct slice text;        /* source, for messages */
};

/* Below PLAN_DEPTH_MAX: typing may add a node per level at the leaves. */
#define FILTER_DEPTH_MAX 200

/* text has at least one character that is not blank. Fills st with the bare reason; filter_parse()
 * puts the text in front. */
int parse__tree(struct slice text, const struct template_value *templates, size_t ntemplates,
                struct arena *ar, const struct node **ret_node, struct status *st);

/* A list that grows in an arena. */
struct vec {
    void *p;
    uint32_t n, cap;
};
bool vec__push(struct vec *v, struct arena *ar, const void *item, size_t size) NODISCARD;

/* ---- constants (filter_const.c) */

/* l op r of two constants. For comparisons the result is a Bool. */
int const__binary(enum tok op, const struct value *l, const struct value *r, struct slice text,
                  struct value *ret, struct status *st);
int const__unary(enum tok op, const struct value *v, struct value *ret, struct status *st);
/* "int64_val:1", for messages; memory from ar. */
const char *const__text(const struct value *v, struct arena *ar);
/* Finite numbers only, arrays included. */
bool const__finite(const struct value *v);
const char *const__type_name(const struct value *v);

/* ---- numbers (inline: used by the evaluator per row) */

#define NUM_UNORDERED 2
#define TWO_63 9223372036854775808.0
#define TWO_64 18446744073709551616.0

/* Sign of i - d without loss; NUM_UNORDERED for NaN. */
static inline int num_cmp_id(int64_t i, double d)
{
    if (d != d) {
        return NUM_UNORDERED;
    }
    if (d >= TWO_63) {
        return -1;
    }
    if (d < -TWO_63) {
        return 1;
    }
    int64_t t = (int64_t)d;
    if (i != t) {
        return i < t ? -1 : 1;
    }
    double frac = d - (double)t;
    return (frac < 0) - (frac > 0);
}
static inline int num_cmp_ud(uint64_t u, double d)
{
    if (d != d) {
        return NUM_UNORDERED;
    }
    if (d >= TWO_64) {
        return -1;
    }
    if (d < 0) {
        return 1;
    }
    uint64_t t = (uint64_t)d;
    if (u != t) {
        return u < t ? -1 : 1;
    }
    return -(d - (double)t > 0);
}
static inline int num_cmp_dd(double a, double b)
{
    return a < b ? -1 : a > b ? 1 : a == b ? 0 : NUM_UNORDERED;
}
static inline int num_cmp_ii(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}
/* Whether a comparison whose outcome was c holds. */
static inline bool cmp_holds(enum cmp_op op, int c)
{
    switch (op) {
    case OP_EQ:
        return c == 0;
    case OP_NE:
        return c != 0;
    case OP_LT:
        return c == -1;
    case OP_LE:
        return c == -1 || c == 0;
    case OP_GT:
        return c == 1;
    case OP_GE:
        return c == 1 || c == 0;
    }
    return false;
}

/* Integer arithmetic wraps around like two's complement; *ok = false for a zero divisor. */
int64_t num__int_step(enum arith_op op, int64_t a, int64_t b, bool *ok);
double num__double_step(enum arith_op op, double a, double b, bool *ok);

/* ---- plans (plan_check.c) */

/* What a row's value of this operand is. */
enum opd_class { CLS_NONE, CLS_BOOL, CLS_INT, CLS_FLOAT, CLS_STRING, CLS_JSON, CLS_ARRAY };
enum opd_class plan__class(const struct operand *o);
/* Type of one value: the element type for an element of an array. */
enum dtype plan__type(const struct operand *o);
/* Total order used in EX_IN lists: Bool < numbers < strings; numbers by value. */
int plan__value_cmp(const struct value *a, const struct value *b);
bool plan__value_eq(const struct value *a, const struct value *b);
/* One node without its kids: every combination the evaluator relies on. NULL: fine, else what is
 * wrong. */
const char *plan__check_node(const struct expr *e);
bool plan__operand_eq(const struct operand *a, const struct operand *b);

/* ---- like.c */

struct like;
/* NULL past the arena's limit. */
const struct like *like__compile(struct slice pattern, struct arena *ar);
bool like__match(const struct like *lk, struct slice s);
