/*
 * fuzz_order.c - plans of how rows lie, from somebody else (index/graph/order.h).
 *
 * INPUT       flags, then changes of four bytes: place (three) and the value put there. The target
 *             makes the plan of its own rows (the same every time), changes it, mends the checksum if
 *             bit 0 of flags says so, cuts it if bit 1 does, and builds a graph over it. A plan that is
 *             taken gives a file that opens, is valid and can be searched; nothing is read outside
 *             of the bytes, nothing runs for ever.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/status.h"
#include "index/ann_int.h"
#include "index/graph/order.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NROWS 2200 /* a few clusters */
#define DIM 2
#define HEAD 48   /* bytes of the plan's head */
#define CRC_AT 40 /* in it */

static float vectors[NROWS][DIM];
static uint8_t *plan;
static size_t plan_size;

static struct index_rows rows_of(void)
{
    return (struct index_rows){ .metric = METRIC_L2, .type = VEC_F32, .dim = DIM, .base = vectors,
                                .stride = sizeof vectors[0], .nrows = NROWS };
}

static struct index_params params_of(void)
{
    struct index_params p;
    index_params_init(&p, INDEX_HNSW);
    p.M = 2;
    p.ef_construction = 4;
    return p;
}

static void make_plan(void)
{
    struct index_rows rows = rows_of();
    struct index_params p = params_of();
    struct index_build b = { .rows = &rows, .params = &p };
    struct index_order *o = NULL;
    struct status st = STATUS_INIT;
    uint64_t s = 7;
    for (size_t i = 0; i < NROWS; i++) {
        for (size_t j = 0; j < DIM; j++) {
            s = s * 6364136223846793005u + 1442695040888963407u;
            vectors[i][j] = (float)(s >> 40) * 0x1p-24f;
        }
    }
    if (index_order_new(&b, &o, &st) != 0) {
        abort();
    }
    const void *made = index_order_plan(o, &plan_size);
    static float laid[NROWS][DIM];
    for (size_t i = 0; i < NROWS; i++) {
        memcpy(laid[i], vectors[index_order_rows(o)[i]], sizeof laid[i]);
    }
    memcpy(vectors, laid, sizeof vectors);
    plan = xalloc(plan_size);
    memcpy(plan, made, plan_size);
    index_order_free(o);
}

struct file {
    uint8_t *p;
    size_t n;
};

static int keep(void *arg, const void *p, size_t n, struct status *st)
{
    struct file *f = arg;
    (void)st;
    f->p = xrealloc(f->p, f->n + n);
    memcpy(f->p + f->n, p, n);
    f->n += n;
    return 0;
}

/* A plan that was taken is a right one, as far as the file can tell. */
static void use(const struct file *f, const struct index_rows *rows)
{
    struct status st = STATUS_INIT;
    struct index_search_params sp;
    struct index *ix = NULL;
    struct topk *tk = NULL;
    uint8_t *copy = alloc_try_aligned(IX_ALIGN, ROUND_UP(f->n, (size_t)IX_ALIGN));
    if (!copy) {
        return;
    }
    memcpy(copy, f->p, f->n);
    struct index_source src = { .map = copy, .size = f->n, .fd = -1 };
    if (index_open(&src, rows, &ix, &st) != 0 || index_validate(ix, &st) != 0) {
        abort();
    }
    index_search_params_init(&sp);
    struct index_query q = { .queries = vectors, .query_stride = rows->stride, .nq = 2,
                             .params = &sp };
    if (topk_new(2, 5, false, NULL, &tk, &st) == 0) {
        (void)index_search(ix, &q, tk, NULL, &st);
    }
    topk_free(tk);
    index_free(ix);
    mem_free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 200) {
        return 0;
    }
    if (!plan) {
        make_plan();
    }
    struct index_rows rows = rows_of();
    struct index_params p = params_of();
    size_t n = data[0] & 2 ? plan_size - (size_t)data[0] * 4 % plan_size : plan_size;
    uint8_t *changed = xalloc(n); /* no byte more: the sanitizer sees a read past the end */
    memcpy(changed, plan, n);
    for (size_t i = 1; i + 4 <= size && n; i += 4) {
        size_t at = data[i] | (size_t)data[i + 1] << 8 | (size_t)data[i + 2] << 16;
        changed[at % n] = data[i + 3];
    }
    if (data[0] & 1 && n >= HEAD) {
        uint32_t crc = crc32c(0, changed + HEAD, n - HEAD);
        memcpy(changed + CRC_AT, &crc, sizeof crc);
    }
    struct index_build b = { .rows = &rows, .params = &p, .plan = changed, .plan_size = n };
    struct file f = { 0 };
    struct status st = STATUS_INIT;
    if (index_build(&b, keep, &f, &st) == 0) {
        use(&f, &rows);
    } else if (size == 1 && data[0] == 0) { /* nothing was changed */
        abort();
    }
    mem_free(f.p);
    mem_free(changed);
    return 0;
}
