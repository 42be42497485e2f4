/*
 * ivf_codec.c - what the codes of lists have in common: layout, the section they are saved as,
 * dispatch.
 *
 * FORMAT      struct ivf_blob_head, then arrays, each starting at a multiple of 64 bytes:
 *                 SQ8      mean f32[dim], step f32[dim]
 *                 PQ       mean f32[dim], sub_at u32[nsub + 1], book f32[dim x words]
 *                 RABITQ   flips u8[ROTATE_ROUNDS x dim]
 */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "index/ivf/ivf_int.h"

#define BLOB_ALIGN 64u

struct ivf_blob_head {
    uint32_t kind, kernel, dim, nsub, words, bits;
    float eta;
    uint32_t zero[9];
};

/* Codes take nsteps; then arrays of a f32 per row, as far as wanted. */
static void lay_out(struct ivf_codec *c, enum ivf_kernel kernel, size_t nsteps, bool add, bool mul,
                    bool err)
{
    struct ivf_layout *lay = &c->lay;
    lay->kernel = kernel;
    lay->block_rows = kernel == IVF_LUT8 ? SCAN_ROWS8 : SCAN_ROWS;
    lay->nsteps = nsteps;
    size_t at = nsteps * SCAN_STEP, each = lay->block_rows * sizeof(float);
    lay->add_at = add ? at : SIMD_NO_FIELD;
    at += add ? each : 0;
    lay->mul_at = mul ? at : SIMD_NO_FIELD;
    at += mul ? each : 0;
    lay->err_at = err ? at : SIMD_NO_FIELD;
    at += err ? each : 0;
    lay->block_bytes = at;
}

void ivf_codec_init_coarse(enum metric metric, size_t dim, struct ivf_codec *ret_c)
{
    *ret_c = (struct ivf_codec){ .kind = IVF_CODE_SQ8,
                                 .metric = metric == METRIC_L2 ? METRIC_L2 : METRIC_IP,
                                 .dim = dim };
    lay_out(ret_c, IVF_DOT8, (dim + 3) / 4, metric == METRIC_L2, false, true);
}

void ivf_codec_init(const struct index_params *p, enum metric metric, size_t dim,
                    struct ivf_codec *ret_c)
{
    struct ivf_codec *c = ret_c;
    size_t nsub;
    *c = (struct ivf_codec){ .metric = metric, .dim = dim };
    switch (p->type) {
    case INDEX_IVF_PQ:
    case INDEX_SCANN:
        c->kind = IVF_CODE_PQ;
        nsub = p->type == INDEX_SCANN ? dim / p->sub_dim : p->m;
        nsub *= p->type == INDEX_IVF_PQ && p->nbits > 8 && dim / nsub > 1 ? 2 : 1;
        c->nsub = (uint32_t)nsub;
        if (p->type == INDEX_SCANN || p->nbits <= 4) {
            c->words = 16;
            lay_out(c, IVF_LUT4, (nsub + 7) / 8, metric == METRIC_L2, false, metric == METRIC_IP);
        } else {
            c->words = 256;
            lay_out(c, IVF_LUT8, nsub, metric == METRIC_L2, false, metric == METRIC_IP);
        }
        break;
    case INDEX_IVF_RABITQ:
        c->kind = IVF_CODE_RABITQ;
        c->bits = p->rbq_bits <= 2 ? p->rbq_bits : p->rbq_bits <= 4 ? 4 : 8;
        if (c->bits == 8) {
            lay_out(c, IVF_DOT8, (dim + 3) / 4, true, true, true);
        } else {
            lay_out(c, IVF_LUT4, (dim * c->bits + 31) / 32, true, true, true);
        }
        break;
    default:
        c->kind = IVF_CODE_SQ8;
        lay_out(c, IVF_DOT8, (dim + 3) / 4, metric == METRIC_L2, false, true);
        break;
    }
}

void ivf_codec_done(struct ivf_codec *c)
{
    mem_free(c->heap);
    c->heap = NULL;
}

/* ---- The section ---- */

struct part {
    const void *p;
    size_t size;
};

/* The kind's arrays, in order. Returns their number. */
static size_t parts_of(const struct ivf_codec *c, struct part part[3])
{
    size_t dim = c->dim;
    switch (c->kind) {
    case IVF_CODE_SQ8:
        part[0] = (struct part){ c->mean, dim * sizeof(float) };
        part[1] = (struct part){ c->step, dim * sizeof(float) };
        return 2;
    case IVF_CODE_PQ:
        part[0] = (struct part){ c->mean, dim * sizeof(float) };
        part[1] = (struct part){ c->sub_at, ((size_t)c->nsub + 1) * sizeof(uint32_t) };
        part[2] = (struct part){ c->book, dim * c->words * sizeof(float) };
        return 3;
    default:
        part[0] = (struct part){ c->flips, ROTATE_ROUNDS * dim };
        return 1;
    }
}

int ivf_codec_save(const struct ivf_codec *c, uint32_t tag, struct ixw *w, struct status *st)
{
    static const uint8_t pad[BLOB_ALIGN];
    struct ivf_blob_head head = { .kind = c->kind,
                                  .kernel = c->lay.kernel,
                                  .dim = (uint32_t)c->dim,
                                  .nsub = c->nsub,
                                  .words = c->words,
                                  .bits = c->bits,
                                  .eta = c->eta };
    struct part part[3];
    size_t n = parts_of(c, part);
    int rc;
    TRY(ixw_begin(w, tag, st));
    TRY(ixw_put(w, &head, sizeof head, st));
    for (size_t i = 0; i < n; i++) {
        TRY(ixw_put(w, part[i].p, part[i].size, st));
        TRY(ixw_put(w, pad, ROUND_UP(part[i].size, (size_t)BLOB_ALIGN) - part[i].size, st));
    }
    TRY(ixw_end(w, st));
out:
    return rc;
}

static bool subs_fit(const struct ivf_codec *c)
{
    for (uint32_t j = 0; j < c->nsub; j++) {
        if (c->sub_at[j] >= c->sub_at[j + 1]) {
            return false;
        }
    }
    return c->sub_at[0] == 0 && c->sub_at[c->nsub] == c->dim;
}

int ivf_codec_open(const struct ix_file *f, uint32_t tag, struct ivf_codec *c, struct status *st)
{
    const uint8_t *p;
    size_t size, want = sizeof(struct ivf_blob_head), n;
    struct ivf_blob_head head;
    struct part part[3];
    int rc;
    TRY(ix_section(f, tag, SIZE_MAX, (const void **)&p, &size, st));
    if (size < sizeof head) {
        FAIL(st, ST_CORRUPT, "index file: section of codes has %zu bytes", size);
    }
    memcpy(&head, p, sizeof head);
    if (head.kind != (uint32_t)c->kind || head.kernel != (uint32_t)c->lay.kernel ||
        head.dim != c->dim || head.nsub != c->nsub || head.words != c->words ||
        head.bits != c->bits) {
        FAIL(st, ST_CORRUPT, "index file: codes are not those of the parameters");
    }
    c->eta = head.eta;
    n = parts_of(c, part);
    for (size_t i = 0; i < n; i++) {
        part[i].p = p + want;
        want += ROUND_UP(part[i].size, (size_t)BLOB_ALIGN);
    }
    if (size != want) {
        FAIL(st, ST_CORRUPT, "index file: section of codes has %zu bytes, should have %zu", size,
             want);
    }
    c->mean = part[0].p;
    c->flips = part[0].p;
    c->step = c->kind == IVF_CODE_SQ8 ? part[1].p : NULL;
    c->sub_at = c->kind == IVF_CODE_PQ ? part[1].p : NULL;
    c->book = c->kind == IVF_CODE_PQ ? part[2].p : NULL;
    if (c->kind == IVF_CODE_PQ && !subs_fit(c)) {
        FAIL(st, ST_CORRUPT, "index file: sub-vectors do not fit dimension %zu", c->dim);
    }
out:
    return rc;
}

/* ---- Dispatch ---- */

double ivf_encode(const struct ivf_codec *c, float *x, size_t n, const float *centroid,
                  uint8_t *blocks, void *scratch)
{
    switch (c->kind) {
    case IVF_CODE_SQ8:
        ivf_sq8_encode(c, x, n, blocks);
        return 0;
    case IVF_CODE_PQ:
        return ivf_pq_encode(c, x, n, centroid, blocks, scratch);
    default:
        ivf_rabitq_encode(c, x, n, centroid, blocks, scratch);
        return 0;
    }
}

static size_t table_count(const struct ivf_codec *c)
{
    return c->lay.kernel == IVF_LUT4 ? c->lay.nsteps * 8 : c->lay.nsteps;
}

static size_t table_words(const struct ivf_codec *c)
{
    return c->lay.kernel == IVF_LUT4 ? 16 : 256;
}

size_t ivf_query_bytes(const struct ivf_codec *c)
{
    size_t q = ROUND_UP(c->dim * sizeof(float), (size_t)64);
    if (c->lay.kernel == IVF_DOT8) {
        return q + 2 * ROUND_UP(4 * c->lay.nsteps, (size_t)64);
    }
    return q + ROUND_UP(table_count(c) * table_words(c), (size_t)64);
}

size_t ivf_query_tmp(const struct ivf_codec *c)
{
    size_t n = ROUND_UP(c->dim, (size_t)16);
    return c->lay.kernel == IVF_DOT8 ? n : n + table_count(c) * table_words(c);
}

void ivf_query_place(const struct ivf_codec *c, void *mem, struct ivf_query_code *qc)
{
    uint8_t *at = (uint8_t *)mem + ROUND_UP(c->dim * sizeof(float), (size_t)64);
    qc->q = mem;
    if (c->lay.kernel == IVF_DOT8) {
        qc->hi = (int8_t *)at;
        qc->lo = (int8_t *)at + ROUND_UP(4 * c->lay.nsteps, (size_t)64);
    } else {
        qc->lut = at;
    }
}

bool ivf_query_prepare(const struct ivf_codec *c, struct ivf_query_code *qc)
{
    double norm2 = 0;
    for (size_t k = 0; k < c->dim; k++) {
        norm2 += (double)qc->q[k] * qc->q[k];
    }
    qc->norm2 = (float)norm2;
    if (!(norm2 < 0x1p100)) {
        return false;
    }
    switch (c->kind) {
    case IVF_CODE_SQ8:
        ivf_sq8_query(c, qc);
        break;
    case IVF_CODE_PQ:
        ivf_pq_query(c, qc);
        break;
    default:
        ivf_rabitq_query(c, qc);
        break;
    }
    return true;
}
