/*
 * seg_format.c - checks of a segment file's frame: header, blocks' places, footer, trailer.
 *
 * WHAT        Reads a file from its end: the trailer says where the footer lies, the footer where
 *             every block lies. A footer whose checksum fits was still written by somebody else's
 *             program perhaps, so every number in it is checked against the file's length too.
 * FORMAT      docs/format.md "Segment files".
 * INVARIANTS  Blocks follow one another in the order of the footer's records, each at the next
 *             multiple of 64, with zeros between; hence none overlap and every byte is covered.
 * THREADS     Pure functions.
 */
#include "segment/seg_format.h"
#include <string.h>
#include "base/bitset.h"
#include "base/buf.h"
#include "base/hash.h"
#include "schema/types.h"

uint64_t sf_sum_add(uint64_t sum, const void *piece, size_t n)
{
    uint64_t link[2] = { sum, hash64(piece, n) };
    return hash64(link, sizeof link);
}

uint64_t sf_sum(const void *p, size_t n)
{
    uint64_t sum = 0;
    for (size_t off = 0; off < n; off += SF_PIECE) {
        sum = sf_sum_add(sum, (const uint8_t *)p + off, MIN(n - off, (size_t)SF_PIECE));
    }
    return sum;
}

static int bad(const char *name, const char *what, struct status *st)
{
    return st_fail(st, ST_CORRUPT, "%s: %s", name, what);
}

static int check_ends(const uint8_t *p, size_t n, const char *name, struct sf_file *f,
                      struct status *st)
{
    const struct sf_header *h = (const void *)p;
    if (n < sizeof *h + sizeof(struct sf_footer) + sizeof(struct sf_trailer)) {
        return bad(name, "too short for a segment file", st);
    }
    const struct sf_trailer *t = (const void *)(p + n - sizeof *t);
    if ((n & 7) != 0 || memcmp(h->magic, SF_MAGIC, 8) != 0 ||
        memcmp(t->magic, SF_END_MAGIC, 8) != 0) {
        return bad(name, "not a whole segment file (magic numbers missing)", st);
    }
    if (h->version > SF_VERSION || t->version > SF_VERSION) {
        return st_fail(st, ST_UNSUPPORTED, "%s: segment file version %u, this program reads %u",
                       name, h->version, SF_VERSION);
    }
    if (h->sum != hash64(h, offsetof(struct sf_header, sum)) ||
        h->version != SF_VERSION || h->zero0 || h->zero1[0] || h->zero1[1]) {
        return bad(name, "header is damaged (offset 0)", st);
    }
    if (t->sum != hash64(t, offsetof(struct sf_trailer, sum)) || t->version != SF_VERSION ||
        t->zero0 || t->zero1) {
        return bad(name, "trailer is damaged", st);
    }
    if (t->total_len != n || t->footer_len < sizeof(struct sf_footer) ||
        t->footer_len > n - sizeof *h - sizeof *t || t->footer_off % SF_ALIGN != 0 ||
        t->footer_off != n - sizeof *t - t->footer_len) {
        return bad(name, "trailer and length of the file do not fit", st);
    }
    if (t->footer_sum != hash64(p + t->footer_off, (size_t)t->footer_len)) {
        return bad(name, "footer is damaged", st);
    }
    f->header = h;
    f->trailer = t;
    return 0;
}

/* Whether b starts where the blocks before it end; moves *pos behind it. */
static bool block_next(const struct sf_block *b, uint64_t end, uint64_t *pos)
{
    if (b->off != *pos || b->len > end - b->off) {
        return false;
    }
    uint64_t next = ROUND_UP(b->off + b->len, (uint64_t)SF_ALIGN);
    if (next > end) {
        return false;
    }
    *pos = next;
    return true;
}

static bool column_fits(const struct sf_column *c, uint32_t nrows)
{
    if (!dtype_known((int)c->type) || c->width != dtype_width((enum dtype)c->type, c->dim) ||
        c->zero != 0 || c->nulls > nrows) {
        return false;
    }
    uint64_t valid_len = c->nulls ? bits_words(nrows) * 8 : 0;
    if (c->valid.len != valid_len) {
        return false;
    }
    if (c->width) {
        return c->data.len == (uint64_t)nrows * c->width && c->ends.len == 0;
    }
    return c->ends.len == (uint64_t)nrows * 8;
}

int sf_parse(const uint8_t *p, size_t n, const char *name, struct sf_file *ret, struct status *st)
{
    struct sf_file f = { 0 };
    int rc;
    if ((uintptr_t)p % SF_ALIGN != 0) {
        FAIL(st, ST_INTERNAL, "%s: mapped at an odd address", name);
    }
    TRY(check_ends(p, n, name, &f, st));
    f.footer = (const void *)(p + f.trailer->footer_off);
    f.cols = (const void *)(f.footer + 1);
    const struct sf_footer *ft = f.footer;
    if (ft->ncols > SF_COLUMNS_MAX ||
        f.trailer->footer_len != sizeof *ft + ft->ncols * sizeof(struct sf_column)) {
        FAIL(st, ST_CORRUPT, "%s: footer has a wrong length for %u columns", name, ft->ncols);
    }
    uint64_t pos = sizeof(struct sf_header), end = f.trailer->footer_off;
    for (uint32_t i = 0; i < ft->ncols; i++) {
        const struct sf_column *c = &f.cols[i];
        if (!column_fits(c, ft->nrows) || !block_next(&c->data, end, &pos) ||
            !block_next(&c->ends, end, &pos) || !block_next(&c->valid, end, &pos)) {
            FAIL(st, ST_CORRUPT, "%s: footer describes field %lld wrongly", name,
                 (long long)c->field_id);
        }
    }
    if (!block_next(&ft->ts, end, &pos) || !block_next(&ft->order, end, &pos) ||
        !block_next(&ft->filter, end, &pos) || pos != end ||
        (ft->ts.len != 0 && ft->ts.len != (uint64_t)ft->nrows * 8) ||
        (ft->ts.len == 0 && ft->min_ts != ft->max_ts) || ft->min_ts > ft->max_ts ||
        ft->order.len != (uint64_t)ft->nrows * 4 || ft->filter.len == 0 ||
        ft->filter.len % 32 != 0 || ft->filter.len / 32 > UINT32_MAX) {
        FAIL(st, ST_CORRUPT, "%s: footer describes timestamps, key order or key filter wrongly",
             name);
    }
    *ret = f;
    rc = 0;
out:
    return rc;
}

static int check_block(const struct sf_block *b, const uint8_t *p, const char *name,
                       const char *what, int64_t field_id, struct status *st)
{
    if (sf_sum(p + b->off, (size_t)b->len) != b->sum) {
        return st_fail(st, ST_CORRUPT, "%s: %s of field %lld at offset %llu is damaged", name, what,
                       (long long)field_id, (unsigned long long)b->off);
    }
    for (uint64_t i = b->off + b->len; i % SF_ALIGN != 0; i++) {
        if (p[i] != 0) {
            return st_fail(st, ST_CORRUPT, "%s: byte %llu between blocks is not zero", name,
                           (unsigned long long)i);
        }
    }
    return 0;
}

int sf_check_blocks(const struct sf_file *f, const uint8_t *p, const char *name, struct status *st)
{
    int rc;
    for (uint32_t i = 0; i < f->footer->ncols; i++) {
        const struct sf_column *c = &f->cols[i];
        TRY(check_block(&c->data, p, name, "data", c->field_id, st));
        TRY(check_block(&c->ends, p, name, "offsets", c->field_id, st));
        TRY(check_block(&c->valid, p, name, "null bits", c->field_id, st));
    }
    TRY(check_block(&f->footer->ts, p, name, "timestamps", FIELD_TIMESTAMP, st));
    TRY(check_block(&f->footer->order, p, name, "key order", f->footer->pk_field_id, st));
    TRY(check_block(&f->footer->filter, p, name, "key filter", f->footer->pk_field_id, st));
out:
    return rc;
}
