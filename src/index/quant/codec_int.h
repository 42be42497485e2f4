/*
 * codec_int.h - what the kinds of codec implement and share; not for other folders.
 *
 * A codec is its blob plus a few numbers derived from it. The blob is a head and a payload of the
 * kind: numbers in the machine's (little-endian) order at offsets that are multiples of 4.
 */
#pragma once
#include "base/alloc.h"
#include "base/compiler.h"
#include "base/status.h"
#include "index/quant/codec.h"
#include "simd/simd.h"

#define CODEC_MAGIC 0x4e515145u /* "EQQN" */
#define CODEC_VERSION 1u
/* Values above this are not met in data; what would overflow below is held to it. */
#define CODEC_HUGE 1e30f

struct codec_head {
    uint32_t magic;
    uint32_t crc; /* CRC-32C of everything after this field */
    uint32_t version;
    uint32_t kind, metric, type; /* the enums' values */
    uint32_t m, nbits, nrq, bits, bounds, trained;
    uint64_t dim, seed, size; /* size: of the blob */
};

struct codec_ops;

struct codec {
    const struct codec_ops *ops;
    const struct simd_ops *simd;
    enum metric metric;
    enum vec_type type;
    size_t dim;
    bool bounds;
    const struct codec_head *head; /* the blob */
    const uint8_t *payload;
    void *own; /* the blob when it is ours */
    /* Set by ops->open. */
    size_t stride, query_bytes;
    union {
        struct {
            enum simd_type type;
        } narrow;
        struct {
            enum simd_sq_bits bits;
            const float *offset, *step; /* of each dimension */
            size_t term_at, err_at;     /* in a code; 0: not there */
            double box;                 /* no code decodes to a longer row */
            const struct simd_sq_dist *dist;
        } sq;
        struct {
            size_t m, nbits, rounds, sub_dim, ncent;
            const float *books; /* round, piece, centroid, element */
            float *by_dim;      /* heap: round, piece, element, centroid; not when wide */
            size_t code_bytes;  /* without the norm */
            bool wide;          /* more than 8 bits: no tables */
        } pq;
        struct {
            size_t padded, words;
            uint32_t bits;
            const float *centre; /* NULL: zero */
            double centre2;      /* its square */
            float *signs;        /* of the rotation; heap */
        } rbq;
    } u;
};

/* What train gets beside the codec. */
struct codec_train {
    const struct index_rows *rows;
    struct pool *pool;
    index_check_fn *check;
    void *check_arg;
};

/* One constant per kind. */
struct codec_ops {
    enum codec_kind kind;
    uint32_t types; /* bit 1 << enum vec_type */
    bool float_code; /* encode and query get f32, divided by its length for COSINE */
    bool trains;     /* codec_new() cannot make it */
    /* The head's parameters are sane; bytes of payload, SIZE_MAX: too many. May set defaults. */
    int (*payload)(struct codec_head *h, size_t *ret_size, struct status *st);
    /* The rows are enough to learn from. NULL: any are. */
    int (*fit)(const struct codec_head *h, const struct index_rows *rows, struct status *st);
    /* Fills the zeroed payload. NULL: zeros are right. t is NULL in codec_new(). */
    int (*train)(struct codec *c, uint8_t *payload, const struct codec_train *t, struct status *st);
    /* Checks the payload's values, sets stride, query_bytes and u. */
    int (*open)(struct codec *c, struct status *st);
    void (*close)(struct codec *c); /* NULL: nothing */
    /* row: f32 when float_code, else the row. code is stride bytes, zeroed. */
    void (*encode)(const struct codec *c, const void *row, uint8_t *code);
    void (*decode)(const struct codec *c, const uint8_t *code, float *out);
    void (*query)(const struct codec *c, const void *query, void *pq);
    void (*query_code)(const struct codec *c, const uint8_t *code, void *pq); /* NULL: decode */
    void (*rows)(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                 size_t n, float *keys);
    void (*ids)(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                const uint32_t *ids, size_t n, float *keys);
    /* ids NULL: rows. NULL: no bounds. Only called with c->bounds or bounds_free. */
    void (*bound)(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                  const uint32_t *ids, size_t n, float *keys, float *lows);
    bool bounds_free;
};

extern const struct codec_ops codec__narrow, codec__i8, codec__bin, codec__sq, codec__pq,
    codec__rabitq;

/* n rows spread over rows, widened and, for COSINE, normalised; at most max_rows and max_bytes.
 * Caller frees with mem_free(). */
int codec__sample(const struct codec *c, const struct codec_train *t, size_t max_rows,
                  size_t max_bytes, float **ret_rows, size_t *ret_n, struct status *st);
/* row as f32, divided by its length for COSINE. */
void codec__widen(const struct codec *c, const void *row, float *out);
double codec__norm(const float *v, size_t n);
/* x rounded up to f32. */
float codec__up(double x);

static inline float codec__f32(const uint8_t *p)
{
    float f;
    __builtin_memcpy(&f, p, sizeof f);
    return f;
}

static inline const uint8_t *codec__at(const uint8_t *base, size_t stride, const uint32_t *ids,
                                       size_t i)
{
    return base + (ids ? ids[i] : i) * stride;
}

/* Largest relative error of an f32 kernel's sum over dim elements. */
static inline double codec__sum_error(size_t dim)
{
    return (SIMD_SUM_STEPS(dim) + 4) * 0x1p-24;
}
