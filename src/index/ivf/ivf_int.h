/* ivf_int.h - inside of the inverted file types: what is open, the codes of lists, one query. */
#pragma once
#include <stdatomic.h>
#include <string.h>

#include "index/ann_int.h"
#include "simd/simd_scan.h"

/* ---- Codes of lists ----
 * One codec per file. Rows come as f32, divided by their length for COSINE; keys are topk.h's. A
 * code lies in a block of simd_scan.h, followed in the block by arrays of one f32 per row. */

enum ivf_code_kind { IVF_CODE_SQ8, IVF_CODE_PQ, IVF_CODE_RABITQ };
enum ivf_kernel { IVF_DOT8, IVF_LUT4, IVF_LUT8 };

struct ivf_layout {
    enum ivf_kernel kernel;
    size_t block_rows, nsteps, block_bytes;
    size_t add_at, mul_at, err_at; /* see struct simd_cut; SIMD_NO_FIELD: absent */
};

struct ivf_codec {
    enum ivf_code_kind kind;
    enum metric metric;
    size_t dim;
    struct ivf_layout lay;
    const float *mean; /* SQ8, PQ: dim; what rows are coded about for L2 */
    /* SQ8 */
    const float *step; /* dim */
    /* PQ: sub-code j covers dimensions sub_at[j] .. sub_at[j + 1]; element k of its word w is
     * book[k * words + w], k the dimension of the row. */
    uint32_t nsub, words; /* words: 16 or 256; with small nbits the rest repeats the first */
    const uint32_t *sub_at;
    const float *book;
    float eta;    /* weight of the error along the row against across it; 1: none */
    /* RABITQ */
    uint32_t bits; /* 1, 2, 4, 8 */
    const uint8_t *flips; /* ROTATE_ROUNDS x dim, 0 or 1 */
    void *heap; /* what a training made; NULL when the views lie in a file */
};

/* What training sees: a sample of rows as f32 and, per row, its centroid. */
struct ivf_sample {
    const float *x, *residual; /* n x dim each */
    size_t n;
};

/* All return 0 or ST_NO_MEMORY (or what check gave). */
int ivf_sq8_train(const struct ivf_sample *s, struct ivf_codec *c, struct status *st);
int ivf_pq_train(const struct ivf_sample *s, const struct index_build *b, struct ivf_codec *c,
                 struct status *st);
int ivf_rabitq_train(const struct index_params *p, struct ivf_codec *c, struct status *st);
void ivf_codec_done(struct ivf_codec *c);

/* Kind and layout of the lists' codes; views are empty until a training or an opening. */
void ivf_codec_init(const struct index_params *p, enum metric metric, size_t dim,
                    struct ivf_codec *ret_c);
/* The same for centroids: SQ8, by L2 or by inner product. */
void ivf_codec_init_coarse(enum metric metric, size_t dim, struct ivf_codec *ret_c);
/* One section: struct ivf_blob_head, then the kind's arrays. */
int ivf_codec_save(const struct ivf_codec *c, uint32_t tag, struct ixw *w, struct status *st);
/* c has been initialised. ST_CORRUPT where the section is not what c says. */
int ivf_codec_open(const struct ix_file *f, uint32_t tag, struct ivf_codec *c, struct status *st);
static inline size_t ivf_block_count(const struct ivf_layout *lay, size_t nrows)
{
    return (nrows + lay->block_rows - 1) / lay->block_rows;
}

/* Bytes of scratch for encoding n rows. */
size_t ivf_encode_scratch(const struct ivf_codec *c, size_t n);
/* n rows of one list into zeroed blocks. x is scratch too: it may be changed. Returns the sum of
 * the squared coding errors (PQ; others 0). */
double ivf_encode(const struct ivf_codec *c, float *x, size_t n, const float *centroid,
                uint8_t *blocks, void *scratch);
void ivf_sq8_encode(const struct ivf_codec *c, const float *x, size_t n, uint8_t *blocks);
double ivf_pq_encode(const struct ivf_codec *c, float *x, size_t n, const float *centroid,
                     uint8_t *blocks, void *scratch);
void ivf_rabitq_encode(const struct ivf_codec *c, float *x, size_t n, const float *centroid,
                       uint8_t *blocks, void *scratch);
/* Orthogonal: x becomes the rotated x, dim elements. */
#define ROTATE_ROUNDS 4
void ivf_rotate(const uint8_t *flips, float *x, size_t dim);

/* ---- A query against a codec ---- */

/* How far a key may be off. LINEAR: w e + w0. ROOT: 2 sqrt(T) f e + w0 at a bound of T, as the
 * triangle inequality gives for squared distances. */
enum ivf_margin { IVF_LINEAR, IVF_ROOT };

struct ivf_query_code {
    float *q; /* dim: the query, normalised for COSINE */
    float *tmp; /* ivf_query_tmp() floats; lent while a query is prepared */
    float norm2;
    uint8_t *lut;    /* LUT4, LUT8 */
    int8_t *hi, *lo; /* DOT8 */
    float a, b, c;   /* as in struct simd_cut; c without the list's part */
    enum ivf_margin margin;
    float w, w0;     /* LINEAR: w; ROOT: f */
    bool minus_err2; /* keys are e^2 lower than the estimate (SQ8 by L2) */
    bool list_key;   /* the distance of query and centroid belongs into keys */
    bool list_scale; /* w is in times the distance of query and centroid */
};
size_t ivf_query_bytes(const struct ivf_codec *c); /* of q, lut, hi, lo; align 64 */
size_t ivf_query_tmp(const struct ivf_codec *c);
/* Points the buffers of qc, but tmp, into mem. */
void ivf_query_place(const struct ivf_codec *c, void *mem, struct ivf_query_code *qc);
/* qc->q is filled. False: its numbers are too large to bound anything. */
bool ivf_query_prepare(const struct ivf_codec *c, struct ivf_query_code *qc);
void ivf_sq8_query(const struct ivf_codec *c, struct ivf_query_code *qc);
void ivf_pq_query(const struct ivf_codec *c, struct ivf_query_code *qc);
void ivf_rabitq_query(const struct ivf_codec *c, struct ivf_query_code *qc);
/* 15-bit weights of v in two planes of 4 * nsteps; returns the scale. *ret_sum is the sum of the
 * weights, *ret_abs of their magnitudes, *ret_off the sum of |rounding| * 127.5, in units of the
 * scale. */
float ivf_planes(const float *v, size_t dim, size_t nsteps, int8_t *hi, int8_t *lo, double *ret_sum,
                 double *ret_abs, double *ret_off);
/* ---- An open file ---- */

struct ivf {
    struct index head; /* first */
    uint32_t nlist;
    const float *centroids;    /* nlist x dim */
    const uint8_t *bit_cents;  /* BIN_IVF_FLAT */
    const uint32_t *start;     /* nlist + 1: first position of each list */
    const uint32_t *rows;      /* row at each position */
    const float *list_err;     /* nlist: e of every row of a list; NULL: rows have their own */
    uint32_t *block_at;        /* nlist + 1: first block of each list; not for BIN_IVF_FLAT */
    const uint8_t *blocks;     /* BIN_IVF_FLAT: the rows themselves, in list order */
    struct ivf_codec codec;
    struct ivf_codec coarse;   /* SQ8 of the centroids */
    const uint8_t *coarse_blocks;
    size_t resident, heap;
    struct scratch_pool scratch;
    _Atomic size_t scratch_bytes;
};

#define IVF_TAG_CODEC IX_TAG('C', 'O', 'D', 'C')
#define IVF_TAG_START IX_TAG('L', 'S', 'T', 'A')
#define IVF_TAG_ROWS IX_TAG('L', 'R', 'O', 'W')
#define IVF_TAG_CENT IX_TAG('C', 'E', 'N', 'T')
#define IVF_TAG_COARSE IX_TAG('C', 'S', 'Q', '8')
#define IVF_TAG_COARSE_BLOCKS IX_TAG('C', 'B', 'L', 'K')
#define IVF_TAG_BLOCKS IX_TAG('B', 'L', 'K', 'S')
#define IVF_TAG_ERRORS IX_TAG('L', 'E', 'R', 'R')

int ivf_build(const struct index_build *b, struct ixw *w, struct status *st);
int ivf_bin_build(const struct index_build *b, struct ixw *w, struct status *st);
int ivf_search(const struct index *ix, const struct index_query *q, struct topk *tk,
               struct index_counters *c, struct status *st);
int ivf_bin_search(const struct index *ix, const struct index_query *q, struct topk *tk,
                   struct index_counters *c, struct status *st);

/* Lists, ids and centroids of a build; both builders start with it. */
struct ivf_lists {
    uint32_t nlist;
    void *centroids;
    uint32_t *list, *start, *order;
};
int ivf_lists_make(const struct index_build *b, struct ivf_lists *ret, struct status *st);
int ivf_lists_save(const struct ivf_lists *l, const struct index_rows *rows, struct ixw *w,
                   struct status *st);
void ivf_lists_done(struct ivf_lists *l);

/* ---- Order of lists for one query ---- */

struct ivf_order {
    uint64_t *key;      /* nlist: the distance's bits in an order-preserving form, the list below */
    int32_t *sum;       /* nlist, up to whole blocks */
    uint32_t *pick;     /* nlist */
    float *exact;       /* nlist */
    uint32_t n, sorted; /* lists; how many in front are in their place, with exact keys */
};
/* Ascending. */
void ivf_sort(uint64_t *v, size_t n);
/* The n smallest of all to the front. */
void ivf_select(uint64_t *v, size_t all, size_t n);
/* All lists by distance of their centroids, the first want in place. coarse->q is filled. */
void ivf_order_start(const struct ivf *ivf, struct ivf_query_code *coarse, uint32_t want,
                     struct ivf_order *o);
/* At least want of them in place. */
void ivf_order_more(const struct ivf *ivf, const struct ivf_query_code *coarse, uint32_t want,
                    struct ivf_order *o);
static inline uint32_t ivf_order_list(const struct ivf_order *o, uint32_t i)
{
    return (uint32_t)o->key[i];
}
static inline uint64_t ivf_sort_key(float key, uint32_t below)
{
    uint32_t u;
    memcpy(&u, &key, sizeof u);
    u = u & 0x80000000u ? ~u : u | 0x80000000u;
    return (uint64_t)u << 32 | below;
}
static inline float ivf_sort_float(uint64_t v)
{
    uint32_t u = (uint32_t)(v >> 32);
    float key;
    u = u & 0x80000000u ? u & 0x7fffffffu : ~u;
    memcpy(&key, &u, sizeof key);
    return key;
}

/* ---- Candidates of one query ---- */

struct ivf_cand {
    float key, err; /* err: LINEAR the whole margin, ROOT f e */
    uint32_t row;
};

#define IVF_TILE 16       /* queries that go over the lists together */
#define IVF_CAND_MAX 4096 /* candidates of a query before they are looked at */

struct ivf_state {
    struct ivf_query_code code, coarse;
    struct ivf_order order;
    struct ivf_cand *cand;
    uint32_t ncand, query; /* query: which of the call */
    uint32_t probed, hits, empty; /* lists; hits of the last; lists since the last with hits */
    bool any_hit, done;
    uint64_t seen, scanned; /* allowed rows; rows */
    double want_seen;       /* below 0: not known yet */
};

/* What a thread borrows for a search. */
struct ivf_scratch {
    struct ivf_state state[IVF_TILE];
    struct topk *up; /* list i: bounds of keys that state i's k best results cannot be above */
    uint32_t up_k;
    uint64_t *sort; /* IVF_CAND_MAX */
    uint32_t *pick; /* IVF_CAND_MAX */
    struct simd_cut_hit *hit;
    int32_t *sum;
    struct ivf_pair *pair;
    void *heap;
};

struct ivf_scan {
    const struct ivf *ivf;
    const struct index_query *q;
    struct topk *tk;
    struct index_counters *c;
    struct ivf_scratch *scratch;
    bool premask; /* the filter drops so many rows that blocks are tested before they are scanned */
    bool by_rank; /* so many best estimates are looked at, whatever their margins */
    double pass;  /* share of allowed rows */
    float radius_key; /* INFINITY without */
    uint64_t work;    /* bytes since the last check */
};
void ivf_scratch_free(struct ivf_scratch *x);
/* Scans one list for one of the tile's queries; key: of query and centroid. */
void ivf_scan_list(const struct ivf_scan *s, uint32_t i, uint32_t list, float key);
/* Scores candidates that may still be results; none are left. */
void ivf_scan_finish(const struct ivf_scan *s, uint32_t i);
