/*
 * fuzz_index.c - index files from somebody else.
 *
 * INPUT       type, shape, flags, then changes of four bytes: place (three, counted over head,
 *             sections, table and tail without the padding between them) and the value put there.
 *             The target builds the file of 40 rows itself (the same every time), changes it, mends
 *             the checksums if bit 0 of flags says so, cuts it if bit 1 does, opens and searches in
 *             every way. With bit 2 a graph's file has bits, which so few rows do not get. So every
 *             number inside can be a lie that only the checks behind the sums find: nothing may be
 *             read outside of the bytes, nothing may run for ever.
 */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bitset.h"
#include "base/hash.h"
#include "base/status.h"
#include "index/ann_int.h"
#include "index/graph/graph_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NROWS 40
#define DIM 16

struct shape {
    enum metric metric;
    enum vec_type type;
};
static const struct shape shapes[] = {
    { METRIC_L2, VEC_F32 },      { METRIC_IP, VEC_F32 },      { METRIC_COSINE, VEC_F32 },
    { METRIC_L2, VEC_F16 },      { METRIC_COSINE, VEC_I8 },   { METRIC_HAMMING, VEC_BIN },
    { METRIC_JACCARD, VEC_BIN },
};

static uint8_t vectors[(NROWS + 2) * DIM * 4];

static void fill_vectors(void)
{
    uint64_t s = 7;
    for (size_t i = 0; i < sizeof vectors / 4; i++) {
        float f;
        s = s * 6364136223846793005u + 1442695040888963407u;
        f = (float)(s >> 40) * 0x1p-24f;
        memcpy(vectors + 4 * i, &f, 4);
    }
}

static void search_all(const struct index *ix, const struct index_rows *rows)
{
    uint64_t allow[1] = { UINT64_C(0xa5a5a5a5a5) };
    for (uint32_t strategy = 0; strategy < STRAT_COUNT; strategy++) {
        for (int filtered = 0; filtered < 2; filtered++) {
            struct status st = STATUS_INIT;
            struct topk *tk = NULL;
            struct index_search_params sp;
            index_search_params_init(&sp);
            sp.strategy = strategy;
            struct index_query q = { .queries = vectors + NROWS * rows->stride,
                                     .query_stride = rows->stride, .nq = 2, .params = &sp,
                                     .allow = filtered ? allow : NULL,
                                     .allow_count = (uint32_t)bits_count(allow, NROWS) };
            if (topk_new(2, 5, metric_larger_is_better(rows->metric), NULL, &tk, &st) == 0) {
                (void)index_search(ix, &q, tk, NULL, &st);
            }
            topk_free(tk);
        }
    }
}

/* Sums that fit, wherever table and sections can be found at all. */
static void mend(uint8_t *p, size_t n)
{
    struct ix_head *h = (struct ix_head *)(void *)p;
    if (n < sizeof *h + 32 || n % 8 != 0) {
        return;
    }
    uint8_t *tail = p + n - 32;
    uint64_t table;
    uint32_t count, crc;
    memcpy(&table, tail, 8);
    memcpy(&count, tail + 8, 4);
    if (table > n - 32 || table % 8 != 0 || count > IX_SECTIONS_MAX ||
        (n - 32 - table) / sizeof(struct ix_entry) < count) {
        return;
    }
    struct ix_entry *e = (struct ix_entry *)(void *)(p + table);
    for (uint32_t i = 0; i < count; i++) {
        if (e[i].offset <= table && e[i].size <= table - e[i].offset) {
            e[i].crc = crc32c(0, p + e[i].offset, e[i].size);
        }
    }
    h->crc = crc32c(0, h, offsetof(struct ix_head, crc));
    crc = crc32c(0, e, count * sizeof *e);
    memcpy(tail + 12, &crc, 4);
    crc = crc32c(0, tail, 28);
    memcpy(tail + 28, &crc, 4);
}

static void use(const uint8_t *p, size_t n, const struct index_rows *rows)
{
    struct status st = STATUS_INIT;
    struct index_source src = { .map = p, .size = n, .fd = -1 };
    struct index *ix = NULL;
    if (index_open(&src, rows, &ix, &st) == 0) {
        struct index_memory mem;
        index_memory(ix, &mem);
        (void)index_validate(ix, &st);
        search_all(ix, rows);
    }
    index_free(ix);
}

struct file {
    uint8_t *p;
    size_t n, cap;
};

static int keep(void *arg, const void *p, size_t n, struct status *st)
{
    struct file *f = arg;
    (void)st;
    if (f->n + n > f->cap) {
        f->cap = (f->n + n) * 2;
        f->p = xrealloc(f->p, f->cap);
    }
    memcpy(f->p + f->n, p, n);
    f->n += n;
    return 0;
}

/* The same graph with bits, as graph_bits.c puts them behind larger ones. */
static int add_bits(const struct file *from, const struct index_rows *rows,
                    const struct index_params *params, struct file *ret, struct status *st)
{
    int rc = 0;
    const struct codec_spec spec = { .kind = CODEC_RABITQ, .bits = 1 };
    const struct index_source src = { .map = from->p, .size = from->n, .fd = -1 };
    struct ix_file f;
    struct ixw *w = NULL;
    struct codec *codec = NULL;
    uint8_t *codes = NULL;
    const void *p;
    size_t size;
    TRY(ix_file_open(&src, &f, st));
    TRY(codec_train(&spec, rows, NULL, NULL, NULL, &codec, st));
    TRY(ixw_new(rows, params, keep, ret, &w, st));
    for (uint32_t i = 0; i < f.nsections; i++) {
        TRY(ixw_section(w, f.entries[i].tag, f.map + f.entries[i].offset, f.entries[i].size, st));
    }
    p = codec_blob(codec, &size);
    TRY(ixw_section(w, GRAPH_BCOD, p, size, st));
    codes = xalloc(NROWS * codec_stride(codec));
    TRY(ix_section(&f, GRAPH_PERM, NROWS * sizeof(uint32_t), &p, NULL, st));
    for (uint32_t i = 0; i < NROWS; i++) {
        codec_encode(codec, index_row(rows, ((const uint32_t *)p)[i]), rows->stride, 1,
                     codes + i * codec_stride(codec));
    }
    TRY(ixw_section(w, GRAPH_BITS, codes, NROWS * codec_stride(codec), st));
    TRY(ixw_finish(w, st));
out:
    mem_free(codes);
    codec_free(codec);
    ixw_free(w);
    return rc;
}

/* Built once each; empty when the type does not take such rows. */
static const struct file *file_of(enum index_type type, size_t shape, bool bits,
                                  const struct index_rows *rows)
{
    static struct file files[2][INDEX_TYPE_COUNT][ARRAY_LEN(shapes)];
    static bool built[2][INDEX_TYPE_COUNT][ARRAY_LEN(shapes)];
    bits = bits && (type == INDEX_HNSW || type == INDEX_HNSW_SQ) &&
           (rows->type == VEC_F32 || rows->type == VEC_F16);
    struct file *f = &files[bits][type][shape];
    if (!built[bits][type][shape]) {
        struct status st = STATUS_INIT;
        struct index_params p;
        struct index_build b = { .rows = rows, .params = &p };
        struct file plain = { 0 }, *to = bits ? &plain : f;
        built[bits][type][shape] = true;
        index_params_init(&p, type);
        p.nlist = 4;
        p.m = 4;
        p.nbits = 4;
        p.M = 4;
        p.ef_construction = 20;
        p.n_trees = 3;
        p.max_degree = 8;
        if (index_build(&b, keep, to, &st) != 0 ||
            (bits && add_bits(&plain, rows, &p, f, &st) != 0)) {
            f->n = 0;
        }
        mem_free(plain.p);
    }
    return f;
}

/* The change's place counts bytes that mean something. */
static void change(uint8_t *p, size_t n, size_t at, uint8_t value)
{
    struct ix_file f;
    struct status st = STATUS_INIT;
    struct index_source src = { .map = p, .size = n, .fd = -1, .trusted = true };
    if (at < sizeof(struct ix_head)) {
        p[at] = value;
        return;
    }
    at -= sizeof(struct ix_head);
    if (ix_file_open(&src, &f, &st) == 0) {
        for (uint32_t i = 0; i < f.nsections; i++) {
            if (at < f.entries[i].size) {
                p[f.entries[i].offset + at] = value;
                return;
            }
            at -= f.entries[i].size;
        }
    }
    p[n - 1 - at % MIN(n, (size_t)512)] = value; /* table and tail */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3 || size > 400) {
        return 0;
    }
    if (!vectors[0]) {
        fill_vectors();
    }
    size_t shape = data[1] % ARRAY_LEN(shapes);
    const struct shape *s = &shapes[shape];
    struct index_rows rows = { .metric = s->metric, .type = s->type, .dim = DIM, .base = vectors,
                               .stride = vec_bytes(s->type, DIM), .nrows = NROWS };
    const struct file *f = file_of((enum index_type)(data[0] % INDEX_TYPE_COUNT), shape,
                                   data[2] & 4, &rows);
    size_t n = f->n;
    if (n == 0) {
        return 0;
    }
    if (data[2] & 2) {
        n -= (size_t)data[2] * 8 % n;
    }
    uint8_t *copy = alloc_try_aligned(IX_ALIGN, ROUND_UP(n, IX_ALIGN));
    if (copy) {
        memcpy(copy, f->p, n);
        for (size_t i = 3; i + 4 <= size; i += 4) {
            size_t at = data[i] | (size_t)data[i + 1] << 8 | (size_t)data[i + 2] << 16;
            change(copy, n, at % f->n, data[i + 3]);
            if (data[2] & 1) {
                mend(copy, n); /* after each: the next place is found through the table */
            }
        }
        use(copy, n, &rows);
    }
    mem_free(copy);
    return 0;
}
