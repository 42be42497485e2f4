/*
 * codec.c - the blob every codec is made of, and what is the same for all kinds.
 *
 * FORMAT      struct codec_head, then the kind's payload (see the head of its file). The head's
 *             CRC-32C covers all of it, so a blob that opens is one that was written; sizes and
 *             values are checked again nevertheless, by the kind.
 * THREADS     See codec.h.
 * MEMORY      A trained codec owns its blob; an opened one borrows it, unless it lies at an
 *             address that is no multiple of 8: then it is copied.
 * NOT HERE    Codes in blocks for scans of many rows: index/scan, index/ivf.
 */
#include "index/quant/codec_int.h"

#include <math.h>
#include <string.h>

#include "base/hash.h"

static const struct codec_ops *const kinds[CODEC_COUNT] = {
    [CODEC_F32] = &codec__narrow,
    [CODEC_F16] = &codec__narrow,
    [CODEC_BF16] = &codec__narrow,
    [CODEC_I8] = &codec__i8,
    [CODEC_SQ8] = &codec__sq,
    [CODEC_SQ6] = &codec__sq,
    [CODEC_SQ4] = &codec__sq,
    [CODEC_PQ] = &codec__pq,
    [CODEC_PRQ] = &codec__pq,
    [CODEC_RABITQ] = &codec__rabitq,
    [CODEC_BIN] = &codec__bin,
};

static int check_fit(enum codec_kind kind, enum metric metric, enum vec_type type, size_t dim,
                     struct status *st)
{
    size_t dim_max = type == VEC_BIN ? INDEX_BIN_DIM_MAX : INDEX_DIM_MAX;
    if (kind >= CODEC_COUNT || !metric_fits_type(metric, type) ||
        !(kinds[kind]->types >> type & 1)) {
        return st_fail(st, ST_INVALID, "codec %d does not take vectors of type %d with metric %s",
                       (int)kind, (int)type, metric_name(metric));
    }
    if (dim == 0 || dim > dim_max || (type == VEC_BIN && dim % 8 != 0)) {
        return st_fail(st, ST_INVALID, "codec of dimension %zu, between 1 and %zu wanted", dim,
                       dim_max);
    }
    return 0;
}

static uint32_t blob_crc(const struct codec_head *h)
{
    size_t skip = offsetof(struct codec_head, version);
    return crc32c(0, (const uint8_t *)h + skip, (size_t)h->size - skip);
}

/* Everything an open codec needs from a blob that is in place. */
static int attach(struct codec *c, const struct codec_head *h, struct status *st)
{
    c->ops = kinds[h->kind];
    c->simd = simd_ops();
    c->metric = (enum metric)h->metric;
    c->type = (enum vec_type)h->type;
    c->dim = (size_t)h->dim;
    c->bounds = h->bounds != 0;
    c->head = h;
    c->payload = (const uint8_t *)(h + 1);
    return c->ops->open(c, st);
}

static int make(const struct codec_spec *spec, enum metric metric, enum vec_type type, size_t dim,
                const struct codec_train *t, struct codec **ret_codec, struct status *st)
{
    int rc;
    size_t payload = 0, size;
    struct codec *c = NULL;
    TRY(check_fit(spec->kind, metric, type, dim, st));
    const struct codec_ops *ops = kinds[spec->kind];
    if (!t && ops->trains) {
        FAIL(st, ST_INVALID, "codec %d needs rows to learn from", (int)spec->kind);
    }
    struct codec_head head = { .magic = CODEC_MAGIC,
                               .version = CODEC_VERSION,
                               .kind = spec->kind,
                               .metric = metric,
                               .type = type,
                               .m = spec->m,
                               .nbits = spec->nbits,
                               .nrq = spec->nrq,
                               .bits = spec->bits,
                               .bounds = spec->bounds,
                               .trained = t != NULL,
                               .dim = dim,
                               .seed = spec->seed };
    if (ops->payload) {
        TRY(ops->payload(&head, &payload, st));
    }
    if (ops->fit && t) {
        TRY(ops->fit(&head, t->rows, st));
    }
    if (!add_size(payload, sizeof head, &size) || size > SIZE_MAX - 64) {
        FAIL(st, ST_INVALID, "codec too large: %zu bytes", payload);
    }
    head.size = size;
    c = xalloc(sizeof *c);
    c->own = alloc_try_aligned(64, ROUND_UP(size, 64));
    if (!c->own) {
        FAIL(st, ST_NO_MEMORY, "no memory for a codec of %zu bytes", size);
    }
    memset(c->own, 0, size);
    memcpy(c->own, &head, sizeof head);
    c->ops = ops;
    c->simd = simd_ops();
    c->metric = metric;
    c->type = type;
    c->dim = dim;
    c->bounds = spec->bounds;
    c->head = c->own;
    c->payload = (const uint8_t *)(c->head + 1);
    if (ops->train) {
        TRY(ops->train(c, (uint8_t *)c->own + sizeof head, t, st));
    }
    ((struct codec_head *)c->own)->crc = blob_crc(c->own);
    TRY(attach(c, c->own, st));
    *ret_codec = TAKE(c);
out:
    codec_free(c);
    return rc;
}

int codec_train(const struct codec_spec *spec, const struct index_rows *rows, struct pool *pool,
                index_check_fn *check, void *check_arg, struct codec **ret_codec, struct status *st)
{
    struct codec_train t = {
        .rows = rows, .pool = pool, .check = check, .check_arg = check_arg
    };
    return make(spec, rows->metric, rows->type, rows->dim, &t, ret_codec, st);
}

int codec_new(const struct codec_spec *spec, enum metric metric, enum vec_type type, size_t dim,
              struct codec **ret_codec, struct status *st)
{
    return make(spec, metric, type, dim, NULL, ret_codec, st);
}

void codec_free(struct codec *c)
{
    if (c) {
        if (c->ops && c->ops->close) {
            c->ops->close(c);
        }
        mem_free(c->own);
        mem_free(c);
    }
}

const void *codec_blob(const struct codec *c, size_t *ret_size)
{
    *ret_size = (size_t)c->head->size;
    return c->head;
}

/* Head, size and sum of a blob at an aligned address. */
static int check_blob(const struct codec_head *h, size_t size, enum metric metric,
                      enum vec_type type, size_t dim, struct status *st)
{
    if (h->magic != CODEC_MAGIC || h->size != size || h->crc != blob_crc(h)) {
        return st_fail(st, ST_CORRUPT, "codec blob of %zu bytes: bad head or checksum", size);
    }
    if (h->version != CODEC_VERSION) { /* the sum is right: no damage */
        return st_fail(st, ST_UNSUPPORTED,
                       "codec blob of version %u, this program reads %u: it has to be built anew",
                       h->version, CODEC_VERSION);
    }
    if (h->metric != metric || h->type != type || h->dim != dim) {
        return st_fail(st, ST_CORRUPT, "codec blob is of metric %u, type %u, dimension %llu",
                       h->metric, h->type, (unsigned long long)h->dim);
    }
    size_t payload = 0;
    struct codec_head copy = *h;
    if (h->kind >= CODEC_COUNT || check_fit((enum codec_kind)h->kind, metric, type, dim, st) ||
        (kinds[h->kind]->payload && kinds[h->kind]->payload(&copy, &payload, st)) ||
        payload != size - sizeof *h || memcmp(&copy, h, sizeof copy) != 0) {
        return st_fail(st, ST_CORRUPT, "codec blob of %zu bytes: parameters do not fit", size);
    }
    return 0;
}

int codec_open(const void *blob, size_t size, enum metric metric, enum vec_type type, size_t dim,
               struct codec **ret_codec, struct status *st)
{
    int rc;
    struct codec *c = NULL;
    if (size < sizeof(struct codec_head)) {
        FAIL(st, ST_CORRUPT, "codec blob of %zu bytes is too short", size);
    }
    c = xalloc(sizeof *c);
    if ((uintptr_t)blob % 8 != 0) {
        c->own = alloc_try_aligned(64, ROUND_UP(size, 64));
        if (!c->own) {
            FAIL(st, ST_NO_MEMORY, "no memory for a codec of %zu bytes", size);
        }
        memcpy(c->own, blob, size);
        blob = c->own;
    }
    TRY(check_blob(blob, size, metric, type, dim, st));
    TRY(attach(c, blob, st));
    *ret_codec = TAKE(c);
out:
    codec_free(c);
    return rc;
}

enum codec_kind codec_kind_of(const struct codec *c)
{
    return (enum codec_kind)c->head->kind;
}

size_t codec_stride(const struct codec *c)
{
    return c->stride;
}

size_t codec_query_bytes(const struct codec *c)
{
    return c->query_bytes;
}

/* ---- Rows ---- */

/* Four sums, so that the additions do not wait for each other. */
double codec__norm(const float *v, size_t n)
{
    double s[4] = { 0 };
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        for (int k = 0; k < 4; k++) {
            s[k] += (double)v[i + k] * (double)v[i + k];
        }
    }
    for (; i < n; i++) {
        s[0] += (double)v[i] * (double)v[i];
    }
    return sqrt(s[0] + s[1] + s[2] + s[3]);
}

float codec__up(double x)
{
    float f = (float)x;
    return (double)f < x ? nextafterf(f, INFINITY) : f;
}

static void widen(const struct codec *c, const void *row, bool is_query, float *out)
{
    c->simd->widen[(enum simd_type)c->type](row, 0, 1, c->dim, out);
    if (c->metric == METRIC_COSINE) {
        /* Of rows the order of the sum is part of the format: files are checked against rows coded
         * anew. */
        double norm = is_query ? sqrt(c->simd->dot(out, out, c->dim)) : codec__norm(out, c->dim);
        c->simd->scale(out, c->dim, norm > 0 ? 1 / norm : 0, out);
    }
}

void codec__widen(const struct codec *c, const void *row, float *out)
{
    widen(c, row, false, out);
}

int codec__sample(const struct codec *c, const struct codec_train *t, size_t max_rows,
                  size_t max_bytes, float **ret_rows, size_t *ret_n, struct status *st)
{
    int rc = 0;
    size_t n = t->rows->nrows, by_bytes = max_bytes / (c->dim * sizeof(float));
    by_bytes = MAX(by_bytes, (size_t)256);
    n = MIN(n, max_rows);
    n = MIN(n, by_bytes);
    float *out = alloc_try(MAX(n, (size_t)1) * c->dim * sizeof(float));
    if (!out) {
        FAIL(st, ST_NO_MEMORY, "no memory for a sample of %zu rows", n);
    }
    for (size_t i = 0; i < n; i++) {
        /* One row of each of n equal runs, which one by a hash. */
        uint64_t from = i * (uint64_t)t->rows->nrows / n;
        uint64_t to = (i + 1) * (uint64_t)t->rows->nrows / n;
        uint64_t h = (i + 1 + c->head->seed) * UINT64_C(0x9e3779b97f4a7c15);
        h = (h ^ h >> 32) * UINT64_C(0xd6e8feb86659fd93);
        size_t at = (size_t)(from + (h >> 32) % (to - from));
        codec__widen(c, index_row(t->rows, at), out + i * c->dim);
        if (t->check && i % 4096 == 4095) {
            TRY(t->check(t->check_arg, st));
        }
    }
    *ret_rows = TAKE(out);
    *ret_n = n;
out:
    mem_free(out);
    return rc;
}

void codec_encode(const struct codec *c, const void *rows, size_t row_stride, size_t n,
                  uint8_t *codes)
{
    float row[INDEX_DIM_MAX];
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = (const uint8_t *)rows + i * row_stride;
        uint8_t *code = codes + i * c->stride;
        memset(code, 0, c->stride);
        if (c->ops->float_code) {
            codec__widen(c, p, row);
        }
        c->ops->encode(c, c->ops->float_code ? (const void *)row : p, code);
    }
}

void codec_decode(const struct codec *c, const uint8_t *code, float *out)
{
    c->ops->decode(c, code, out);
}

/* ---- Distances ---- */

void codec_query(const struct codec *c, const void *query, void *ret_pq)
{
    float row[INDEX_DIM_MAX];
    if (c->ops->float_code) {
        widen(c, query, true, row);
        query = row;
    }
    c->ops->query(c, query, ret_pq);
}

void codec_query_code(const struct codec *c, const uint8_t *code, void *ret_pq)
{
    if (c->ops->query_code) {
        c->ops->query_code(c, code, ret_pq);
        return;
    }
    float row[INDEX_DIM_MAX];
    c->ops->decode(c, code, row);
    c->ops->query(c, row, ret_pq);
}

void codec_ids(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
               const uint32_t *ids, size_t n, float *keys)
{
    c->ops->ids(c, pq, base, stride, ids, n, keys);
}

void codec_rows(const struct codec *c, const void *pq, const uint8_t *base, size_t stride, size_t n,
                float *keys)
{
    c->ops->rows(c, pq, base, stride, n, keys);
}

static bool has_bounds(const struct codec *c)
{
    return c->ops->bound && (c->bounds || c->ops->bounds_free);
}

bool codec_rows_bound(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                      size_t n, float *keys, float *lows)
{
    if (has_bounds(c)) {
        c->ops->bound(c, pq, base, stride, NULL, n, keys, lows);
    }
    return has_bounds(c);
}

bool codec_ids_bound(const struct codec *c, const void *pq, const uint8_t *base, size_t stride,
                     const uint32_t *ids, size_t n, float *keys, float *lows)
{
    if (has_bounds(c)) {
        c->ops->bound(c, pq, base, stride, ids, n, keys, lows);
    }
    return has_bounds(c);
}
