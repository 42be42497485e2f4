/*
 * fuzz_segment.c - segment files and delete files from somebody else.
 *
 * The input is taken as it is, and once more with fitting checksums, so that every number in the
 * footer and every offset in the blocks can be a lie that only checks behind the checksums find.
 * Whatever opens is read in all ways and merged with itself: nothing may be read outside of the
 * bytes, and out of a segment that is in order comes one that is.
 * Seeds: files of 20 rows with the schema below, Int64 key.
 */
#include "base/hash.h"
#include "file_crash.h"
#include "segment/sealed_int.h"
#include "../unit/segment/seg_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fields f1 .. f20 are those of fx_all. */
static const char *const filters[] = {
    "f1 == true and f2 > 1 and f3 < 3",
    "f4 in [1, 2, 42] or f6 > 1.5 or f7 <= 2.5 or f5 is null",
    "f8 like 'a%' and f9 != 'b'",
    "f10['a'] > 3 or exists f10['b']",
    "array_contains(f11, 1) or array_length(f11) == 2 or f11[0] == 1",
    "array_contains(f12, 'z') or f12[1] == 'zz'",
    "f0 in [1, 5, 7] and f2 >= 0",
};

static void try_filter(const struct segment *seg, const struct schema *s, const char *text,
                       struct arena *ar)
{
    struct status st = STATUS_INIT;
    struct seg_filter f = { .ts = UINT64_MAX };
    const uint32_t *rows = NULL;
    uint32_t n = 0;
    if (filter_parse(slice_of(text), s, NULL, 0, ar, &f.expr, &st) == 0) {
        (void)seg_query(seg, &f, 5, INT64_MAX, &rows, &n, ar, &st);
    }
}

static void try_search(const struct segment *seg, int64_t field_id, enum metric metric,
                       struct arena *ar)
{
    static const float query[16] = { 1, 2, 3 };
    struct status st = STATUS_INIT;
    struct seg_search q = { .filter = { .ts = UINT64_MAX }, .field_id = field_id,
                            .metric = metric, .queries = query, .nq = 1,
                            .deadline_us = INT64_MAX };
    struct topk *tk = NULL;
    if (seg_topk_new(&q, 3, &tk, &st) == 0) {
        (void)seg_search(seg, &q, tk, ar, &st);
    }
    topk_free(tk);
}

static void try_fetch(const struct segment *seg, const struct schema *s, struct arena *ar)
{
    struct seg_info info;
    seg_get_info(seg, &info);
    uint32_t n = MIN(info.nrows, 100u);
    uint32_t *rows = arena_alloc(ar, (n + 1) * sizeof *rows);
    volatile uint8_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        rows[i] = info.nrows - 1 - i;
    }
    for (uint32_t i = 0; i < s->nfields; i++) {
        struct status st = STATUS_INIT;
        struct column col;
        if (seg_fetch(seg, s->fields[i].id, rows, n, ar, &col, &st) != 0) {
            continue;
        }
        for (uint32_t r = 0; r < n; r++) {
            struct slice cell = column_cell(&col, r);
            for (size_t k = 0; k < cell.n; k++) {
                sum = (uint8_t)(sum + (uint8_t)cell.p[k]);
            }
        }
    }
}

static void try_merge(struct segment *seg, const struct schema *s, hts expired_before, bool valid)
{
    struct segment *from[] = { seg, seg }, *merged = NULL;
    struct seg_merge m = { .from = from, .nfrom = 2, .schema = s, .gone_before = 90,
                           .expired_before = expired_before };
    struct crash_fs *fs = crash_fs_new(1); /* in memory */
    struct object_store *os = NULL;
    struct status st = STATUS_INIT;
    struct seg_merged got;
    CHECK(object_local_open("store", &os, &st) == 0);
    int rc = seg_merge_files(&m, os, "to", &got, &st);
    CHECK(rc == 0 || !valid);
    if (rc == 0 && got.nrows) {
        CHECK(seg_open(1, 2, 3, s, os, "to", &merged, &st) == 0);
        CHECK(seg_validate(merged, &st) == 0 || !valid);
    }
    seg_unref(merged);
    object_close(os);
    crash_fs_free(fs);
}

static void use(struct segment *seg, const struct schema *s)
{
    struct arena *ar = arena_new((size_t)64 << 20);
    struct status st = STATUS_INIT;
    const int64_t keys[] = { 3, 1000 };
    struct column pks = fx_keys(keys, 2);
    uint32_t hits = 0;
    (void)seg_delete(seg, &pks, (const hts[]){ 90, 91 }, 2, &hits, &st);
    for (size_t i = 0; i < ARRAY_LEN(filters); i++) {
        try_filter(seg, s, filters[i], ar);
    }
    try_search(seg, 114, METRIC_L2, ar);
    try_search(seg, 115, METRIC_COSINE, ar);
    try_search(seg, 116, METRIC_JACCARD, ar);
    try_search(seg, 119, METRIC_IP, ar);
    try_fetch(seg, s, ar);
    bool valid = seg_validate(seg, &st) == 0;
    try_merge(seg, s, 0, valid);
    try_merge(seg, s, 6, valid); /* some rows of the seeds */
    arena_free(ar);
}

static void seal_block(struct sf_block *b, const uint8_t *p, uint64_t end)
{
    if (b->off <= end && b->len <= end - b->off) {
        b->sum = sf_sum(p + b->off, (size_t)b->len);
    }
}

/* Fits all checksums to the bytes, as far as the numbers lead to bytes at all. */
static void seal(uint8_t *p, size_t n)
{
    struct sf_header *h = (void *)p;
    struct sf_trailer *t = (void *)(p + n - sizeof *t);
    h->sum = hash64(h, offsetof(struct sf_header, sum));
    if (t->footer_off % 8 == 0 && t->footer_off <= n - sizeof *t &&
        t->footer_len <= n - sizeof *t - t->footer_off &&
        t->footer_len >= sizeof(struct sf_footer)) {
        struct sf_footer *ft = (void *)(p + t->footer_off);
        struct sf_column *cols = (void *)(ft + 1);
        size_t ncols = (size_t)(t->footer_len - sizeof *ft) / sizeof *cols;
        for (size_t i = 0; i < ncols; i++) {
            seal_block(&cols[i].data, p, t->footer_off);
            seal_block(&cols[i].ends, p, t->footer_off);
            seal_block(&cols[i].valid, p, t->footer_off);
        }
        seal_block(&ft->ts, p, t->footer_off);
        seal_block(&ft->order, p, t->footer_off);
        seal_block(&ft->filter, p, t->footer_off);
        t->footer_sum = hash64(ft, (size_t)t->footer_len);
    }
    t->sum = hash64(t, offsetof(struct sf_trailer, sum));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct schema *s;
    static const struct seg_ids ids = { 1, 2, 3 };
    if (!s) {
        s = fx_schema(DT_INT64, fx_all, ARRAY_LEN(fx_all));
    }
    uint8_t *p = alloc_try_aligned(SF_ALIGN, size); /* exact: one byte too many is seen */
    if (!p) {
        return 0;
    }
    if (size) {
        memcpy(p, data, size);
    }
    for (int sealed = 0; sealed < 2; sealed++) {
        struct status st = STATUS_INIT;
        struct segment *seg = NULL;
        if (sealed && size % 8 == 0 &&
            size >= sizeof(struct sf_header) + sizeof(struct sf_trailer)) {
            seal(p, size);
        }
        if (seg__open_bytes(&ids, s, "fuzz", p, size, &seg, &st) == 0) {
            use(seg, s);
        }
        seg_unref(seg);
        struct column pks;
        const hts *ts = NULL;
        if (delta__parse(p, size, "fuzz", &pks, &ts, &st) == 0) {
            CHECK(pks.nrows == 0 || column_cell(&pks, pks.nrows - 1).n <= size);
        }
    }
    mem_free(p);
    return 0;
}
