/*
 * eval_int.h - shared by the files that evaluate a plan over one chunk.
 *
 * WHAT     Three-valued logic with one bitset instead of two. eval_node() is asked for the rows, of
 * those in `mask`, where a node is true (or, under an odd number of `not`, where it is false):
 *     true(a and b)  = true(a) & true(b)      false(a and b) = false(a) | false(b)
 *     true(not a)    = false(a)               false(not a)   = true(a)
 * so `not` only flips what is asked, unknown rows appear in neither answer, and a mask that shrinks
 * from term to term spares rows already decided.
 *
 * LEAVES   Fixed-width columns are computed for whole words of 64 rows, nulls included, and masked
 * afterwards. Everything else looks at the rows in the mask one by one.
 */
#pragma once
#include "base/json.h"
#include "query/query_int.h"

struct eval {
    const struct chunk_reader *cr;
    struct arena *ar;
    struct status *st;
    uint32_t nrows;
    size_t nwords;
    uint64_t **scratch; /* bitsets by depth, made when first needed */
    char *text;         /* decoded JSON string of the row at hand */
    size_t text_cap;
    uint64_t *seen; /* contains_all: which constants this row has */
    bool no_memory;
};

enum tri { TRI_FALSE, TRI_TRUE, TRI_UNKNOWN };

static inline enum tri tri_of(bool b)
{
    return b ? TRI_TRUE : TRI_FALSE;
}

/* The value of an operand in one row. */
struct scalar {
    enum { SC_NONE, SC_BOOL, SC_INT, SC_UINT, SC_DOUBLE, SC_STRING, SC_OTHER } t;
    union {
        bool b;
        int64_t i;
        uint64_t u; /* above INT64_MAX */
        double d;
        struct slice s;
    };
};

/* Cells of a borrowed buffer may lie at any address: unaligned(float) reads them there. */
typedef int8_t unaligned_int8_t __attribute__((aligned(1)));
typedef int16_t unaligned_int16_t __attribute__((aligned(1)));
typedef int32_t unaligned_int32_t __attribute__((aligned(1)));
typedef int64_t unaligned_int64_t __attribute__((aligned(1)));
typedef uint8_t unaligned_uint8_t __attribute__((aligned(1)));
typedef float unaligned_float __attribute__((aligned(1)));
typedef double unaligned_double __attribute__((aligned(1)));

/* Bytes that are 0 or 1 -> bits: the product moves byte i's lowest bit to bit 56 + i. */
static inline uint64_t pack64(const uint8_t b[64])
{
    uint64_t w = 0;
    for (int k = 0; k < 8; k++) {
        w |= (load_u64(b + k * 8) * UINT64_C(0x0102040810204080) >> 56) << (k * 8);
    }
    return w;
}

/* Leaves bit `row` set where tri_expr has the outcome wanted; looks only at rows set before. */
#define ROWS_WHERE(ev, bits, want, row, tri_expr)                                                  \
    for (size_t w_ = 0; w_ < (ev)->nwords; w_++) {                                                 \
        uint64_t left_ = (bits)[w_], hit_ = 0;                                                     \
        while (left_) {                                                                            \
            const uint32_t row = (uint32_t)(w_ * 64) + (uint32_t)__builtin_ctzll(left_);           \
            hit_ |= (uint64_t)((tri_expr) == (want)) << (row & 63);                                \
            left_ &= left_ - 1;                                                                    \
        }                                                                                          \
        (bits)[w_] = hit_;                                                                         \
    }

/* A constant as rows of type t see it: literals against Float columns are single precision, so that
 * `f == 0.1` finds what was inserted as 0.1. */
struct value eval__narrow(enum dtype t, const struct value *v);

/* eval_fixed.c: bits of whole words where the condition holds, null rows undefined. */
void eval__fixed_cmp(const struct column *c, enum cmp_op op, const struct value *v, uint64_t *out);
void eval__fixed_range(const struct expr *e, const struct column *c, uint64_t *out);
/* eval_in.c: only words with rows in mask need be right. */
void eval__fixed_in(struct eval *ev, const struct column *c, const struct value *list,
                    const uint64_t *mask, uint64_t *out);
/* Lists of strings. */
struct string_set;
const struct string_set *eval__string_set(struct eval *ev, const struct value *list);
bool string_set_has(const struct string_set *set, struct slice s);

/* eval_arith.c: io holds the rows asked for and afterwards those with the outcome wanted. */
void eval__fixed_arith(struct eval *ev, const struct expr *e, const struct column *c, enum tri want,
                       uint64_t *io);
void eval__fixed_fields(struct eval *ev, const struct expr *e, const struct column *a,
                        const struct column *b, enum tri want, uint64_t *io);
/* Arithmetic on one value; false: not a number, or a zero divisor. */
bool eval__scalar_steps(const struct expr *e, uint32_t first, bool single, struct scalar *io);

/* eval_rows.c: strings, arrays, JSON. */
void eval__rows(struct eval *ev, const struct expr *e, const struct column *c,
                const struct column *c2, enum tri want, uint64_t *io);
enum tri eval__scalar_cmp(const struct scalar *a, enum cmp_op op, const struct value *v);

/* eval_array.c, eval_json.c */
bool eval__array_get(const struct operand *o, const struct column *c, uint32_t row,
                     struct scalar *ret);
enum tri eval__array_equals(const struct expr *e, struct slice cell);
enum tri eval__array_contains(const struct expr *e, struct slice cell);
/* json_find.c: the value at the operand's path; false when there is none or it is null. A
 * container's raw text may run on to the end of the cell: walk it, do not measure it. */
bool eval__json_find(const struct operand *o, struct slice cell, struct json_value *ret);
/* A missing path and JSON null give SC_NONE. Sets ev->no_memory when a string cannot be decoded. */
void eval__json_get(struct eval *ev, const struct operand *o, struct slice cell,
                    struct scalar *ret);
bool eval__json_exists(const struct operand *o, struct slice cell);
/* -1: no array there. */
int64_t eval__json_length(const struct operand *o, struct slice cell);
enum tri eval__json_contains(struct eval *ev, const struct expr *e, struct slice cell);
