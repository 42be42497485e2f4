/*
 * codec.h - quantisers: rows as short codes, and estimates of a query's distance to many codes.
 *
 * One interface for every precision, so that a graph, a list and a scan are written once:
 *
 *     CODEC_F32, F16, BF16   the row itself, narrower
 *     CODEC_I8               int8 rows as they are
 *     CODEC_SQ8, SQ6, SQ4    one scale and offset for all rows and dimensions or one per dimension
 *                            (quant/sq.c says which and why), uniform steps
 *     CODEC_PQ               m sub-spaces of nbits each; nbits 4 is laid out for fast scans too
 *     CODEC_PRQ              nrq rounds of CODEC_PQ on what the round before left
 *     CODEC_RABITQ           random rotation, then 1 .. 9 bits a dimension about a centre
 *     CODEC_BIN              packed bits as they are
 *
 * COSINE rows are divided by their length before coding, so codes know L2 and IP only.
 *
 * KEYS        Distances come as keys, smaller is better, in the metric's own scale: squared L2,
 *             minus the inner product, minus the cosine, Hamming count, Jaccard distance.
 * CODES       Row-major, codec_stride() bytes each (padding included, zeroed), no alignment
 *             assumed; codes of one codec may lie anywhere and be appended one by one.
 * BLOB        A trained codec is saved as bytes and opened from them in place: a section of a file.
 * THREADS     Immutable after training or opening; a prepared query belongs to one thread.
 * MEMORY      codec_query() writes into the caller's buffer of codec_query_bytes(); nothing else
 *             on the search path allocates.
 */
#pragma once
#include "index/ann.h"

enum codec_kind {
    CODEC_F32,
    CODEC_F16,
    CODEC_BF16,
    CODEC_I8,
    CODEC_SQ8,
    CODEC_SQ6,
    CODEC_SQ4,
    CODEC_PQ,
    CODEC_PRQ,
    CODEC_RABITQ,
    CODEC_BIN,
    CODEC_COUNT
};

struct codec_spec {
    enum codec_kind kind;
    uint32_t m, nbits; /* PQ, PRQ */
    uint32_t nrq;      /* PRQ */
    uint32_t bits;     /* RABITQ */
    uint64_t seed;
    /* Codes of F32, F16, BF16 and SQ* carry the length of their error, which codec_*_bound() needs:
     * 4 to 8 bytes more. I8, BIN and RABITQ have bounds anyway. */
    bool bounds;
};

struct codec;

/* Learns what the kind needs from rows (a sample is drawn inside). Metric, type and dim are the
 * rows'. The result depends on rows, spec and nothing else. check and pool as in index_build.
 * Fails: ST_INVALID, ST_NO_MEMORY, what check returned. Caller frees with codec_free(). */
int codec_train(const struct codec_spec *spec, const struct index_rows *rows, struct pool *pool,
                index_check_fn *check, void *check_arg, struct codec **ret_codec,
                struct status *st);
/* A codec that needs no training data (F32 .. I8, BIN, RABITQ about zero). */
int codec_new(const struct codec_spec *spec, enum metric metric, enum vec_type type, size_t dim,
              struct codec **ret_codec, struct status *st);
void codec_free(struct codec *c);

/* The bytes of a trained codec; valid as long as c. */
const void *codec_blob(const struct codec *c, size_t *ret_size);
/* Keeps blob (in place). ST_CORRUPT: not a codec, or not of this metric, type and dim;
 * ST_UNSUPPORTED: of another version. */
int codec_open(const void *blob, size_t size, enum metric metric, enum vec_type type, size_t dim,
               struct codec **ret_codec, struct status *st);

enum codec_kind codec_kind_of(const struct codec *c);
size_t codec_stride(const struct codec *c); /* bytes of one code */

/* n rows, of the type the codec was made for, into codes one stride apart. Thread: any. */
void codec_encode(const struct codec *c, const void *rows, size_t row_stride, size_t n,
                  uint8_t *codes);
/* The row a code stands for, as f32 (normalised for COSINE). */
void codec_decode(const struct codec *c, const uint8_t *code, float *out);

/* ---- Distances ---- */

size_t codec_query_bytes(const struct codec *c); /* of a prepared query; align 64 */
/* Prepares a query of the rows' type. */
void codec_query(const struct codec *c, const void *query, void *ret_pq);
/* The same from a code: how rows are compared with each other while a graph is built. */
void codec_query_code(const struct codec *c, const uint8_t *code, void *ret_pq);

/* keys[i] = estimate for the code at base + ids[i] * stride; prefetched inside. stride may be
 * larger than codec_stride(): codes inside records. */
void codec_ids(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
               const uint32_t *ids, size_t n, float *keys);
/* n codes one after the other, stride bytes apart. */
void codec_rows(const struct codec *c, const void *pq, const uint8_t *base, size_t stride, size_t n,
                float *keys);
/* Also a lower bound of the true key: rigorous for SQ*, F16, BF16 (their error is stored), holding
 * with the kind's documented probability for RABITQ. False: the kind has none. */
bool codec_rows_bound(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                      size_t n, float *keys, float *lows);
bool codec_ids_bound(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                     const uint32_t *ids, size_t n, float *keys, float *lows);

/* Bounds of a CODEC_RABITQ query lie so many standard deviations below the keys, not three. */
void codec_query_spread(const struct codec *c, void *pq, float deviations);

/* ---- Signs: CODEC_RABITQ of one bit ---- */

/* What a comparison of signs alone rests on: a row's residual r about the centre or a query's p,
 * rotated, have these lengths, and key = query add + row add - p.r (L2: - 2 p.r). Signs are words of
 * 64 bits, codec_sign_words() of them; the share of them that differs is near the angle between p
 * and r over pi. A row that has no usable code: len is NaN. */
struct codec_signs {
    float add, len;
    float zeros; /* of a query: elements that its rounding made 0 */
};
size_t codec_sign_words(const struct codec *c);
/* Elements of the query that its rounding made 0 count as positive. */
void codec_query_signs(const struct codec *c, const void *pq, uint64_t *words,
                       struct codec_signs *ret);
void codec_row_signs(const struct codec *c, const uint8_t *code, uint64_t *words,
                     struct codec_signs *ret);
