/*
 * simd.h - distance kernels: one query against many rows, behind one table of function pointers.
 *
 * A search fetches the table once (simd_ops()) and calls a slot per batch of rows, never per pair.
 * Two shapes share one signature family:
 *
 *     rows   n rows that lie `stride` bytes apart, starting at base
 *     ids    n rows picked by number: row ids[i] lies at base + ids[i] * stride (prefetched inside)
 *
 * and both write out[0..n). The score of one (query, row) pair is bit for bit the same in both
 * shapes and wherever in a batch the row stands; it may differ between levels within the bound.
 *
 * CONTRACT    Kernels do not allocate, fail or keep state; any thread. Nothing is read outside the
 *             query's and the rows' dim elements (prefetch hints excepted). No alignment assumed:
 *             elements may be misaligned, stride may be any number of bytes. n may be 0, dim may be
 *             0 (every sum is 0 then). out may not overlap the inputs.
 * f32         Sums accumulate in f32, in any order, fused or not. With u = 2^-24 and
 *             m = SIMD_SUM_STEPS(dim): |ip - exact| <= m * u * sum |q_i x_i| + dim * 2^-149,
 *             |l2 - exact| <= (m + 2) * u * exact + dim * 2^-149, as long as no intermediate
 *             overflows; |cos - exact| <= (2 m + 8) * u when |q|^2 and |x|^2 lie within
 *             [2^-100, 2^126].
 * f16, bf16   Elements are widened exactly to f32, then as f32. bf16 levels with a dot product
 *             instruction may flush denormal elements and sums: + dim * 2^-125 of slack absolute.
 * i8          Sums are exact in int32 up to dim 32,768 (65,025 * 32,768 < 2^31), then rounded once
 *             to f32. Cosine is computed from the exact sums in double.
 * bits        dim counts bits and is a multiple of 8. Counts are exact; HAMMING results are exact
 *             up to dim 2^24, JACCARD is rounded once.
 * NaN, Inf    Follow IEEE: a NaN element gives a NaN score, an infinite one gives Inf or NaN.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum simd_type { SIMD_F32, SIMD_F16, SIMD_BF16, SIMD_I8, SIMD_NTYPES };

/* Levels in rising order; a level includes the ones below it on the same kind of machine. */
enum simd_level {
    SIMD_LEVEL_REF,         /* plain C, scalar: the meaning of every slot */
    SIMD_LEVEL_AVX2,        /* AVX2, FMA, F16C, POPCNT */
    SIMD_LEVEL_AVX512,      /* AVX-512 F, BW, DQ, VL */
    SIMD_LEVEL_AVX512_VNNI, /* + VNNI */
    SIMD_LEVEL_AVX512_POP,  /* + VPOPCNTDQ, BITALG */
    SIMD_LEVEL_AVX512_BF16, /* + BF16 */
    SIMD_LEVEL_NEON,        /* aarch64 */
    SIMD_NLEVELS
};

/* Largest dim of the i8 slots. */
#define SIMD_I8_DIM_MAX 32768
/* Sequential f32 roundings a sum over dim elements may contain at any level. */
#define SIMD_SUM_STEPS(dim) ((double)(dim) + 16.0)

typedef void simd_rows_fn(const void *q, const void *base, size_t stride, size_t n, size_t dim,
                          float *out);
typedef void simd_ids_fn(const void *q, const void *base, size_t stride, const uint32_t *ids,
                         size_t n, size_t dim, float *out);

struct simd_dist {
    simd_rows_fn *rows;
    simd_ids_fn *ids;
};

/* Many f32 queries against a block of f32 rows, keeping only what can matter: for each query j and
 * row i with   ip(j, i) + row_bias[i] * q_weight[j] > q_cut[j]   or either side NaN, a hit.
 * L2, IP and COSINE thresholds all take this form (index/flat_batch.c derives it).
 * Queries are packed by simd_pack_f32 in groups of SIMD_TILE; q_weight and q_cut have
 * SIMD_TILE * groups entries, of which those past nq never give a hit. */
#define SIMD_TILE 16
struct simd_hit {
    uint32_t query, row; /* row counts from the block's first */
};
struct simd_tile {
    const float *qpack;
    size_t nq, dim;
    const float *q_weight, *q_cut;
    const void *base;
    size_t stride, nrows;
    const float *row_bias; /* nrows entries */
    const void *ahead;     /* NULL, or where the next block starts: fetched along the way */
};

/* ---- Scalar quantised codes ----
 *
 * A row is dim unsigned codes c_i of 8, 6 or 4 bits, packed as SIMD_SQ_BYTES() says:
 *     8   byte i
 *     4   byte i/2: even i in the low nibble, odd i in the high one
 *     6   the low nibbles as for 4, then per block of 128 codes 32 bytes of their upper 2 bits:
 *         byte t has codes 2t, 2t+64, 2t+1, 2t+65 of the block, lowest bits first; a last block of
 *         r codes has min(32, (r+1)/2) bytes
 * The query is a vector v of 15-bit integers in two signed planes, v_i = 128 hi_i + lo_i with lo_i
 * in [-64, 63]. With C = sum c_i v_i and S = sum c_i (c_i - 128) for 8 bits, sum c_i^2 for others:
 *     l2      add + self * S + cross * C, at least 0
 *     ip      add + cross * C
 *     term    add + cross * C + the f32 that follows the row's codes (unaligned), at least 0
 * 4-bit kernels do not read lo: it counts as zero there.
 * S and C are exact integers in 32-bit lanes up to dim SIMD_SQ_DIM_MAX; the rest is f32, in any
 * order: |error| <= 48 * 2^-24 * (|add| + |self| sum c_i (c_i + 128) + |cross| sum c_i (|128 hi_i| +
 * |lo_i|)) (+ |term|). */
enum simd_sq_bits { SIMD_SQ8, SIMD_SQ6, SIMD_SQ4, SIMD_SQ_NBITS };
#define SIMD_SQ_DIM_MAX 32768
#define SIMD_SQ_BYTES(bits, dim)                                                                   \
    ((bits) == SIMD_SQ8   ? (dim)                                                                  \
     : (bits) == SIMD_SQ4 ? ((dim) + 1) / 2                                                        \
                          : ((dim) + 1) / 2 + (dim) / 128 * 32 +                                   \
                              ((dim) % 128 > 63 ? 32 : ((dim) % 128 + 1) / 2))
struct simd_sq {
    /* simd_sq_plane() says where element i lies; SIMD_SQ_PLANE(dim) bytes each, 64-byte aligned,
     * the rest zeros. */
    const int8_t *hi, *lo;
    size_t dim;
    float add, self, cross;
};
#define SIMD_SQ_PLANE(dim) (((dim) + 127) / 128 * 128)
/* Codes of 6 and 4 bits come out of their nibbles evens first. */
static inline size_t simd_sq_plane(enum simd_sq_bits bits, size_t i)
{
    return bits == SIMD_SQ8 ? i : i / 128 * 128 + i % 2 * 64 + i % 128 / 2;
}
/* Code i of a row of dim. */
static inline uint32_t simd_sq_code(enum simd_sq_bits bits, const uint8_t *x, size_t dim, size_t i)
{
    if (bits == SIMD_SQ8) {
        return x[i];
    }
    uint32_t low = (uint32_t)x[i / 2] >> (i % 2 * 4) & 15u;
    if (bits == SIMD_SQ4) {
        return low;
    }
    size_t j = i % 128 / 2; /* of its block's evens or odds */
    uint32_t high = x[(dim + 1) / 2 + i / 128 * 32 + j % 32];
    return low | (high >> (i % 2 * 4 + j / 32 * 2) & 3u) << 4;
}
typedef void simd_sq_rows_fn(const struct simd_sq *q, const void *base, size_t stride, size_t n,
                             float *out);
typedef void simd_sq_ids_fn(const struct simd_sq *q, const void *base, size_t stride,
                            const uint32_t *ids, size_t n, float *out);
struct simd_sq_dist {
    simd_sq_rows_fn *rows;
    simd_sq_ids_fn *ids;
};

/* Rows as 4-bit codes in blocks of 16, laid out so that a vector register holds the same dimensions
 * of many rows and sums need no step across lanes. A block is
 *
 *     16 f32 a0, 16 f32 a1, 16 f32 e, then for each group of 8 dimensions 64 bytes: byte 4 r + j
 *     holds dimension j of the group for row r in its low half and dimension 4 + j in its high half
 *
 * with dimensions past the last as zeros. The scan computes for every row, with a0 or a1 for a,
 *
 *     v = g * sum w_i u_i + ka * a + ke * e
 *
 * (the sum is exact) and reports rows whose v is not below cut, NaN included, in ascending order.
 * |v - exact| <= 4 * 2^-24 * (|g sum| + |ka a| + |ke e|). Largest dim: SIMD_I8_DIM_MAX. */
#define SIMD_BLOCK_ROWS 16
#define SIMD_BLOCK4_E 128    /* bytes before e */
#define SIMD_BLOCK4_HEAD 192 /* and before the first group */
struct simd_block4 {
    const uint8_t *blocks;
    size_t nblocks, groups;
    const int8_t *w; /* 8 a group, -127 .. 127 */
    bool a1;         /* which a */
    float g, ka, ke, cut;
    const uint8_t *allow; /* NULL, or two bytes a block: bit r of them set = row r may be reported */
};
static inline size_t simd_block4_bytes(size_t groups)
{
    return SIMD_BLOCK4_HEAD + groups * 64;
}

/* ---- Bit codes with factors ----
 *
 * A row is `bits` planes of 8 * words bytes, highest bit of each dimension's integer u first, then
 * four f32: add, rescale, err, qerr. The query is a vector w of integers of nplanes bits in two's
 * complement, plane k holding bit k: SIMD_RBQ_WORDS(words) words each, 64-byte aligned, the rest
 * zeros. With the exact integer U = sum u_i w_i
 *     key = query add + row add + rescale * (scale * U + bias)
 *     low = key - sqrt((query err * row err)^2 + (query qerr * row qerr)^2)
 * each in f32 with at most eight roundings. lows may be NULL. bits 1 .. 9, nplanes 1 .. 8. */
#define SIMD_RBQ_WORDS(words) (((words) + 7) / 8 * 8)
struct simd_rbq {
    const uint64_t *planes;
    size_t nplanes, bits, words;
    float add, scale, bias, err, qerr;
};

/* Rounding a query. v[i] * inv becomes the nearest integer, halves away from zero, a NaN 0; the
 * caller's inv keeps them within what the planes hold.
 * round_bytes: 15-bit integers as hi[i] * 128 + lo[i], lo in [-64, 63].
 * round_planes: integers of nplanes bits, at most 8, in two's complement as simd_rbq wants them; n
 * is a multiple of 64. *ret_sum is the sum of the integers. Returns the sum of the squares of what
 * rounding took from each v[i] * inv, in f32. */
typedef void simd_round_bytes_fn(const float *v, size_t n, float inv, int8_t *hi, int8_t *lo);
typedef float simd_round_planes_fn(const float *v, size_t n, float inv, size_t nplanes,
                                   uint64_t *planes, int64_t *ret_sum);

struct simd_ops {
    enum simd_level level;
    /* Float-like types; q has the rows' type. cos is ip / (|q| |x|), 0 when either norm is 0.
     * norm2 ignores q (pass NULL) and writes the sum of squares of each row. */
    struct simd_dist l2[SIMD_NTYPES], ip[SIMD_NTYPES], cos[SIMD_NTYPES], norm2[SIMD_NTYPES];
    /* The same with an f32 query, whatever type the rows have. */
    struct simd_dist l2q[SIMD_NTYPES], ipq[SIMD_NTYPES];
    struct simd_sq_dist sq_l2[SIMD_SQ_NBITS], sq_ip[SIMD_SQ_NBITS], sq_term[SIMD_SQ_NBITS];
    void (*rbq_rows)(const struct simd_rbq *q, const void *base, size_t stride, size_t n,
                     float *keys, float *lows);
    void (*rbq_ids)(const struct simd_rbq *q, const void *base, size_t stride, const uint32_t *ids,
                    size_t n, float *keys, float *lows);
    /* Bits of rows, eight rows side by side: word w of row i is
     * blocks[(i / 8 * words + w) * 8 + i % 8]. Which of rows 0 .. n differ from q in at most limit
     * bits, ascending, into idx, which has room for n. Returns their number. Words of rows from n
     * on are not read. */
    size_t (*bits_le)(const uint64_t *q, const uint64_t *blocks, size_t words, size_t n,
                      uint64_t limit, uint32_t *idx);
    simd_round_bytes_fn *round_bytes;
    simd_round_planes_fn *round_planes;
    /* Walsh-Hadamard transform in place, not scaled; n a power of two from 16 on. The same bits at
     * every level: only additions, smallest distance first. */
    void (*hadamard)(float *x, size_t n);
    /* What goes before coding; the same bits at every level.
     * Sums of a[i] * b[i] and of x[i] in f64. out[i] = x[i] * by in f64, then rounded; out may be x.
     * The largest |x[i]|, a NaN if there is one. x[i] *= y[i]. out[i] = x[i] - y[i], limited to
     * -most .. most, a NaN stays one. Sums of hi[i] * 128 + lo[i] and of its square, of -127 .. 127 and -64 .. 63;
     * n up to SIMD_SQ_DIM_MAX, a multiple of 128. */
    double (*dot)(const float *a, const float *b, size_t n);
    double (*sum)(const float *x, size_t n);
    void (*scale)(const float *x, size_t n, double by, float *out);
    float (*largest)(const float *x, size_t n);
    void (*times)(float *x, const float *y, size_t n);
    void (*less)(const float *x, const float *y, size_t n, float most, float *out);
    void (*plane_sums)(const int8_t *hi, const int8_t *lo, size_t n, double *ret_sum,
                       double *ret_squares);
    /* Packed bits; dim in bits, a multiple of 8. jaccard is 1 - |q & x| / |q | x|, 0 when both are
     * empty. subset writes 0 where every bit of q is in x, else 1; superset 0 where every bit of x
     * is in q, else 1. */
    struct simd_dist hamming, jaccard, subset, superset;

    /* out[i * dim ..] = row i widened to f32, for n rows. */
    void (*widen[SIMD_NTYPES])(const void *base, size_t stride, size_t n, size_t dim, float *out);
    /* n floats to halves or bf16, nearest, ties to even; a NaN stays one. F16 and BF16 only. */
    void (*narrow[SIMD_NTYPES])(const float *v, size_t n, void *out);
    /* Positions i with v[i] <= bound (select_le) or v[i] >= bound (select_ge), ascending; never a
     * NaN. idx has room for n. Returns their number. */
    size_t (*select_le)(const float *v, size_t n, float bound, uint32_t *idx);
    size_t (*select_ge)(const float *v, size_t n, float bound, uint32_t *idx);
    /* Appends hits in no particular order; hits has room for nq * nrows. Returns their number. The
     * inner product is one chain of dim fused or unfused f32 steps: |error| <= (dim + 1) * 2^-24 *
     * sum |q_i x_i|. */
    size_t (*tile_f32)(const struct simd_tile *t, struct simd_hit *hits);
    /* See struct simd_block4. rows (counted from the first block's first) and v have room for every
     * row. Returns their number. */
    size_t (*scan_block4)(const struct simd_block4 *b, uint32_t *rows, float *v);
};

/* The table of the best level this machine has, at most the cap. The first call detects and fills
 * it; every later call is a load. Thread: any. */
const struct simd_ops *simd_ops(void);
/* Limits the level by name ("ref", "avx2", ... or "auto"). Call before the first simd_ops().
 * Returns false when the name is unknown or the table is in use already. */
bool simd_cap(const char *level_name);
/* Fills ops for one level regardless of the cap; false when this machine does not have it. For
 * tests and benchmarks. */
bool simd_ops_at(enum simd_level level, struct simd_ops *ops);
/* "ref", "avx2", "avx512", "avx512vnni", "avx512pop", "avx512bf16", "neon". */
const char *simd_level_name(enum simd_level level);

/* Floats in the packed form of nq queries of dim elements: whole groups of SIMD_TILE queries. */
size_t simd_pack_len(size_t nq, size_t dim);
/* Packs f32 queries for tile_f32: element k of query j goes to [j / 16][k][j % 16]; absent queries
 * are zeros. Each query is multiplied by scale[j] (scale may be NULL). */
void simd_pack_f32(const float *queries, size_t stride, size_t nq, size_t dim, const float *scale,
                   float *ret_pack);
