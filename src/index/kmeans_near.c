/*
 * kmeans_near.c - the nearest centroid of many rows.
 *
 * WHAT        Rows go in blocks through the kernel that keeps only each row's best centroid
 *             (simd_scan.h, nearest). By L2 the best is the largest x.c - |c|^2 / 2; rows and
 *             centroids are taken about the centroids' mean first, so that data far from zero
 *             loses no digits. Unit rows are compared by x.c.
 *             Above KM_FLAT_MAX centroids, they are clustered themselves into about their root;
 *             a row looks at the centroids of the PROBES groups whose centres are nearest.
 * INVARIANTS  A row's list depends on the row and the centroids only: blocks are cut by number, and
 *             sums run over dim in one order wherever a row stands in a block.
 * THREADS     km_near is immutable; blocks run on the pool.
 * MEMORY      Centroids twice (packed); per running block 256 rows as f32, at most 1 MiB or 16 rows.
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/pool.h"
#include "index/kmeans_int.h"
#include "simd/simd_scan.h"

#define BLOCK_ROWS 256
#define PROBES 12
#define TREE_ROUNDS 6

struct km_near {
    uint32_t nlist;
    size_t dim;
    bool unit;
    float *mean; /* zeros for unit rows */
    /* ngroups 0: pack and bias of all centroids. Otherwise of the group centres, then each group's
     * own: pack_at and bias_at in floats, lists in group order. */
    uint32_t ngroups;
    float *pack, *bias;
    float *group_pack, *group_bias;
    size_t *pack_at, *bias_at;
    uint32_t *group_start, *group_list;
};

/* ---- Running blocks ---- */

struct km_job {
    struct km_work work;
    km_block_fn *fn;
    void *arg;
};

static void run_block(void *ctx, size_t i)
{
    struct km_job *job = ctx;
    struct km_work *w = &job->work;
    struct status st = STATUS_INIT;
    int none = 0;
    if (atomic_load_explicit(&w->failed, memory_order_relaxed)) {
        return;
    }
    void *scratch = scratch_take(&w->pool);
    int rc = w->o->check ? w->o->check(w->o->check_arg, &st) : 0;
    if (rc == 0 && !scratch && !(scratch = alloc_try_aligned(64, w->scratch_bytes))) {
        rc = st_fail(&st, ST_NO_MEMORY, "no memory for %zu bytes of clustering", w->scratch_bytes);
    }
    if (rc == 0) {
        job->fn(job->arg, i, scratch);
    } else if (atomic_compare_exchange_strong(&w->failed, &none, rc)) {
        w->st = st; /* published by the end of parallel_for */
    }
    if (scratch && !scratch_give(&w->pool, scratch)) {
        mem_free(scratch);
    }
}

int km__run(const struct kmeans_opts *o, size_t nblocks, size_t scratch_bytes, km_block_fn *fn,
            void *arg, struct status *st)
{
    struct km_job job = { .work = { .o = o, .scratch_bytes = ROUND_UP(scratch_bytes + 64, 64) },
                          .fn = fn,
                          .arg = arg };
    parallel_for(o->pool, nblocks, run_block, &job);
    for (int i = 0; i < SCRATCH_SLOTS; i++) {
        mem_free(atomic_load(&job.work.pool.slot[i]));
    }
    int rc = atomic_load(&job.work.failed);
    if (rc != 0) {
        *st = job.work.st;
    }
    return rc;
}

static size_t block_rows(size_t dim)
{
    size_t fit = (1u << 20) / (dim * sizeof(float));
    return MAX(MIN(fit, (size_t)BLOCK_ROWS), (size_t)16);
}

/* ---- Making centroids ready ---- */

/* Centroid list[i], or i, of n into pack and bias. */
static int pack_some(const struct km_near *near, const float *centroids, const uint32_t *list,
                     size_t n, float *pack, float *bias, struct status *st)
{
    size_t dim = near->dim, lanes = ROUND_UP(n, (size_t)SIMD_TILE);
    float *moved = alloc_try(MAX(n, (size_t)1) * dim * sizeof(float));
    if (!moved) {
        return st_fail(st, ST_NO_MEMORY, "no memory for %zu centroids of dimension %zu", n, dim);
    }
    for (size_t i = 0; i < n; i++) {
        const float *c = centroids + (list ? list[i] : i) * dim;
        double norm2 = 0;
        for (size_t k = 0; k < dim; k++) {
            float v = c[k] - near->mean[k];
            moved[i * dim + k] = v;
            norm2 += (double)v * v;
        }
        bias[i] = near->unit ? 0 : (float)(-norm2 / 2);
    }
    for (size_t i = n; i < lanes; i++) {
        bias[i] = -INFINITY;
    }
    simd_pack_f32(moved, dim * sizeof(float), n, dim, NULL, pack);
    mem_free(moved);
    return 0;
}

static void *need(size_t n, size_t size, struct status *st)
{
    size_t bytes;
    void *p = mul_size(n, size, &bytes) ? alloc_try(bytes + 64) : NULL;
    if (!p) {
        st_fail(st, ST_NO_MEMORY, "no memory for %zu x %zu bytes of clustering", n, size);
    }
    return p;
}

/* The centroids' own clusters: which centroids each has, their packs one after the other. */
static int make_tree(struct km_near *near, const float *centroids, const struct kmeans_opts *o,
                     struct status *st)
{
    uint32_t nlist = near->nlist, ngroups = (uint32_t)ceil(sqrt(nlist)), *list = NULL;
    size_t dim = near->dim, floats = 0, lanes = 0;
    struct index_rows rows = { .metric = near->unit ? METRIC_COSINE : METRIC_L2,
                               .type = VEC_F32,
                               .dim = dim,
                               .base = centroids,
                               .stride = dim * sizeof(float),
                               .nrows = nlist };
    struct km_rows all = { .rows = &rows, .n = nlist, .unit = near->unit };
    struct kmeans_opts tree = *o;
    struct km_near *top = NULL;
    float *centres = NULL;
    int rc = ST_NO_MEMORY;
    tree.nlist = ngroups;
    tree.rounds = TREE_ROUNDS;
    tree.balance = true;
    tree.sample_per_list = 0;
    if (!(centres = need((size_t)ngroups * dim, sizeof(float), st)) ||
        !(list = need(nlist, sizeof *list, st)) ||
        !(near->group_start = need(ngroups + 1, sizeof *near->group_start, st)) ||
        !(near->group_list = need(nlist, sizeof *near->group_list, st)) ||
        !(near->pack_at = need(ngroups, sizeof *near->pack_at, st)) ||
        !(near->bias_at = need(ngroups, sizeof *near->bias_at, st))) {
        goto out;
    }
    TRY(km__lloyd(&all, ngroups, &tree, centres, st));
    TRY(km__near_new(centres, ngroups, dim, near->unit, o, &top, st));
    TRY(km__near_assign(top, &all, o, list, st));
    km__group(list, nlist, ngroups, near->group_start, near->group_list);
    for (uint32_t g = 0; g < ngroups; g++) {
        size_t n = near->group_start[g + 1] - near->group_start[g];
        near->pack_at[g] = floats;
        near->bias_at[g] = lanes;
        floats += simd_pack_len(n, dim);
        lanes += ROUND_UP(n, (size_t)SIMD_TILE);
    }
    rc = ST_NO_MEMORY;
    if (!(near->group_pack = need(floats, sizeof(float), st)) ||
        !(near->group_bias = need(lanes, sizeof(float), st)) ||
        !(near->pack = need(simd_pack_len(ngroups, dim), sizeof(float), st)) ||
        !(near->bias = need(ROUND_UP(ngroups, 16u), sizeof(float), st))) {
        goto out;
    }
    near->ngroups = ngroups;
    TRY(pack_some(near, centres, NULL, ngroups, near->pack, near->bias, st));
    for (uint32_t g = 0; g < ngroups; g++) {
        TRY(pack_some(near, centroids, near->group_list + near->group_start[g],
                      near->group_start[g + 1] - near->group_start[g],
                      near->group_pack + near->pack_at[g], near->group_bias + near->bias_at[g],
                      st));
    }
out:
    mem_free(centres);
    mem_free(list);
    km__near_free(top);
    return rc;
}

int km__near_new(const float *centroids, uint32_t nlist, size_t dim, bool unit,
                 const struct kmeans_opts *o, struct km_near **ret_near, struct status *st)
{
    struct km_near *near = xalloc(sizeof *near);
    int rc = ST_NO_MEMORY;
    near->nlist = nlist;
    near->dim = dim;
    near->unit = unit;
    if (!(near->mean = need(dim, sizeof(float), st))) {
        goto out;
    }
    for (size_t k = 0; k < dim; k++) {
        double sum = 0;
        for (uint32_t i = 0; !unit && i < nlist; i++) {
            sum += centroids[i * dim + k];
        }
        near->mean[k] = nlist && isfinite(sum) ? (float)(sum / nlist) : 0;
    }
    if (nlist > KM_FLAT_MAX) {
        TRY(make_tree(near, centroids, o, st));
    } else {
        if (!(near->pack = need(simd_pack_len(nlist, dim), sizeof(float), st)) ||
            !(near->bias = need(ROUND_UP(nlist, 16u), sizeof(float), st))) {
            goto out;
        }
        TRY(pack_some(near, centroids, NULL, nlist, near->pack, near->bias, st));
    }
    rc = 0;
    *ret_near = TAKE(near);
out:
    km__near_free(near);
    return rc;
}

void km__near_free(struct km_near *near)
{
    if (near) {
        mem_free(near->mean);
        mem_free(near->pack);
        mem_free(near->bias);
        mem_free(near->group_pack);
        mem_free(near->group_bias);
        mem_free(near->pack_at);
        mem_free(near->bias_at);
        mem_free(near->group_start);
        mem_free(near->group_list);
        mem_free(near);
    }
}

/* ---- Assigning ---- */

struct assign {
    const struct km_near *near;
    const struct km_rows *r;
    size_t block;
    uint32_t *list;
};

/* Floats of scratch: rows, and for a tree the scores of groups, rows gathered, what was found. */
static size_t scratch_floats(const struct km_near *near, size_t block)
{
    size_t n = block * near->dim;
    if (near->ngroups) {
        n += block * ROUND_UP(near->ngroups, 16u) + block * near->dim + block * (PROBES + 5);
    }
    return n + 64;
}

/* The PROBES best of ngroups scores, ties to the lower. */
static void best_groups(const float *score, uint32_t ngroups, uint32_t *pick)
{
    float best[PROBES];
    uint32_t n = 0;
    for (uint32_t g = 0; g < ngroups; g++) {
        if (n == PROBES && !(score[g] > best[n - 1])) {
            continue;
        }
        uint32_t at = n < PROBES ? n++ : n - 1;
        for (; at > 0 && score[g] > best[at - 1]; at--) {
            best[at] = best[at - 1];
            pick[at] = pick[at - 1];
        }
        best[at] = score[g];
        pick[at] = g;
    }
    while (n < PROBES) {
        pick[n++] = UINT32_MAX;
    }
}

static void assign_tree(const struct assign *a, size_t first, size_t n, float *x, float *scratch)
{
    const struct km_near *near = a->near;
    const struct simd_scan *scan = simd_scan();
    size_t dim = near->dim, lanes = ROUND_UP(near->ngroups, 16u);
    float *score = scratch, *part = score + a->block * lanes, *best = part + a->block * dim;
    float *found = best + a->block;
    uint32_t *pick = (uint32_t *)(void *)(found + a->block), *at = pick + a->block * PROBES;
    uint32_t *who = at + a->block;
    struct simd_near t = { near->pack, near->bias, near->ngroups, dim, x, dim * sizeof(float), n };
    scan->scores(&t, score);
    for (size_t i = 0; i < n; i++) {
        best_groups(score + i * lanes, near->ngroups, pick + i * PROBES);
        best[i] = -INFINITY;
        a->list[first + i] = 0;
    }
    for (uint32_t g = 0; g < near->ngroups; g++) {
        uint32_t size = near->group_start[g + 1] - near->group_start[g];
        size_t m = 0;
        for (size_t i = 0; size && i < n; i++) {
            for (int p = 0; p < PROBES; p++) {
                if (pick[i * PROBES + (size_t)p] == g) {
                    memcpy(part + m * dim, x + i * dim, dim * sizeof(float));
                    who[m++] = (uint32_t)i;
                }
            }
        }
        if (m == 0) {
            continue;
        }
        t = (struct simd_near){ near->group_pack + near->pack_at[g],
                                near->group_bias + near->bias_at[g],
                                size,
                                dim,
                                part,
                                dim * sizeof(float),
                                m };
        scan->nearest(&t, at, found);
        for (size_t i = 0; i < m; i++) {
            uint32_t list = near->group_list[near->group_start[g] + at[i]];
            uint32_t *now = &a->list[first + who[i]];
            if (found[i] > best[who[i]] || (found[i] == best[who[i]] && list < *now)) {
                best[who[i]] = found[i];
                *now = list;
            }
        }
    }
}

static void assign_block(void *arg, size_t block, void *scratch)
{
    const struct assign *a = arg;
    const struct km_near *near = a->near;
    size_t first = block * a->block, n = MIN(a->block, a->r->n - first), dim = near->dim;
    float *x = scratch, best[BLOCK_ROWS];
    index_rows_f32(a->r->rows, a->r->ids ? a->r->ids + first : NULL, first, n, a->r->unit, x);
    for (size_t i = 0; !near->unit && i < n; i++) {
        for (size_t k = 0; k < dim; k++) {
            x[i * dim + k] -= near->mean[k];
        }
    }
    if (near->ngroups) {
        assign_tree(a, first, n, x, x + ROUND_UP(a->block * dim, (size_t)16));
        return;
    }
    struct simd_near t = { near->pack, near->bias, near->nlist, dim, x, dim * sizeof(float), n };
    simd_scan()->nearest(&t, a->list + first, best);
}

int km__near_assign(const struct km_near *near, const struct km_rows *r,
                    const struct kmeans_opts *o, uint32_t *ret_list, struct status *st)
{
    struct assign a = { .near = near, .r = r, .block = block_rows(near->dim), .list = ret_list };
    size_t nblocks = (r->n + a.block - 1) / a.block;
    return km__run(o, nblocks, scratch_floats(near, a.block) * sizeof(float), assign_block, &a, st);
}
