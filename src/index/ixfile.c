/*
 * ixfile.c - writing and checking the container of ixfile.h.
 *
 * Every size and offset read is compared with the file's own bounds before it is used; sums make
 * accidents visible, and types check what they follow (ids, offsets) on their own, so that a file
 * made by hand with right sums cannot lead outside the mapping either.
 */
#include "index/ixfile.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/status.h"
#include "index/ann_int.h"

static const char head_magic[8] = { 'e', 'l', 'a', 'n', 'u', 's', 'I', 'X' };

struct ix_tail {
    uint64_t table_offset;
    uint32_t count, table_crc;
    char magic[8];
    uint32_t zero, crc; /* crc: of everything before it */
};
_Static_assert(sizeof(struct ix_head) <= IX_ALIGN, "the head is one page");
_Static_assert(offsetof(struct ix_head, type) == 12 && offsetof(struct ix_head, crc) == 552,
               "where they were before there was a format");
_Static_assert(sizeof(struct ix_entry) == 24 && sizeof(struct ix_tail) == 32, "no padding");

struct ixw {
    index_sink_fn *sink;
    void *sink_arg;
    uint64_t at; /* bytes written */
    uint32_t count;
    bool is_open;
    struct ix_entry entries[IX_SECTIONS_MAX];
};

/* ---- Writing ---- */

static int out_bytes(struct ixw *w, const void *p, size_t n, struct status *st)
{
    int rc;
    if (n == 0) {
        return 0;
    }
    TRY(w->sink(w->sink_arg, p, n, st));
    w->at += n;
out:
    return rc;
}

static int align_up(struct ixw *w, struct status *st)
{
    static const uint8_t zeros[IX_ALIGN];
    return out_bytes(w, zeros, (size_t)(ROUND_UP(w->at, IX_ALIGN) - w->at), st);
}

int ixw_new(const struct index_rows *rows, const struct index_params *params, index_sink_fn *sink,
            void *sink_arg, struct ixw **ret_w, struct status *st)
{
    const uint16_t format = index__format(params->type);
    struct ix_head head = { .version = IX_VERSION,
                            .format = format > 1 ? format : 0, /* as before formats were counted */
                            .type = params->type,
                            .metric = rows->metric,
                            .vec_type = rows->type,
                            .dim = rows->dim,
                            .nrows = rows->nrows };
    struct ixw *w = xalloc(sizeof *w);
    int rc;
    w->sink = sink;
    w->sink_arg = sink_arg;
    memcpy(head.magic, head_magic, sizeof head.magic);
    if (index_params_print(params, head.params, sizeof head.params) >= sizeof head.params) {
        FAIL(st, ST_INTERNAL, "index parameters do not fit the head of an index file");
    }
    head.crc = crc32c(0, &head, offsetof(struct ix_head, crc));
    TRY(out_bytes(w, &head, sizeof head, st));
    *ret_w = TAKE(w);
out:
    ixw_free(w);
    return rc;
}

int ixw_begin(struct ixw *w, uint32_t tag, struct status *st)
{
    int rc;
    if (w->is_open || w->count == IX_SECTIONS_MAX) {
        FAIL(st, ST_INTERNAL, "index file: section out of turn");
    }
    TRY(align_up(w, st));
    w->entries[w->count] = (struct ix_entry){ .tag = tag, .offset = w->at };
    w->is_open = true;
out:
    return rc;
}

int ixw_put(struct ixw *w, const void *p, size_t n, struct status *st)
{
    struct ix_entry *e = &w->entries[w->count];
    e->crc = crc32c(e->crc, p, n);
    e->size += n;
    return out_bytes(w, p, n, st);
}

int ixw_end(struct ixw *w, struct status *st)
{
    (void)st;
    w->is_open = false;
    w->count++;
    return 0;
}

int ixw_section(struct ixw *w, uint32_t tag, const void *p, size_t n, struct status *st)
{
    int rc;
    TRY(ixw_begin(w, tag, st));
    TRY(ixw_put(w, p, n, st));
    TRY(ixw_end(w, st));
out:
    return rc;
}

int ixw_finish(struct ixw *w, struct status *st)
{
    struct ix_tail tail = { .count = w->count };
    size_t table = w->count * sizeof w->entries[0];
    int rc;
    TRY(align_up(w, st));
    tail.table_offset = w->at;
    tail.table_crc = crc32c(0, w->entries, table);
    memcpy(tail.magic, head_magic, sizeof tail.magic);
    tail.crc = crc32c(0, &tail, offsetof(struct ix_tail, crc));
    TRY(out_bytes(w, w->entries, table, st));
    TRY(out_bytes(w, &tail, sizeof tail, st));
out:
    return rc;
}

void ixw_free(struct ixw *w)
{
    mem_free(w);
}

/* ---- Reading ---- */

/* After the sums: a number that was hit by accident is damage. */
static int check_age(const struct ix_head *h, struct status *st)
{
    const uint32_t format = MAX(h->format, 1u);
    uint32_t ours;
    if (h->version != IX_VERSION) {
        return st_fail(st, ST_UNSUPPORTED,
                       "index file of version %u, this program reads %u: it has to be built anew",
                       h->version, IX_VERSION);
    }
    if (h->type >= INDEX_TYPE_COUNT) {
        return st_fail(st, ST_UNSUPPORTED,
                       "index file of type %u, which this program does not know", h->type);
    }
    ours = index__format((enum index_type)h->type);
    if (ours != 0 && format != ours) {
        return st_fail(st, ST_UNSUPPORTED,
                       "index file: %s of format %u, this program reads %u: it has to be built "
                       "anew", index_type_name((enum index_type)h->type), format, ours);
    }
    return 0;
}

static int check_head(const struct ix_head *h, struct status *st)
{
    if (memcmp(h->magic, head_magic, sizeof h->magic) != 0) {
        return st_fail(st, ST_CORRUPT, "not an index file: offset 0 has no mark");
    }
    if (h->crc != crc32c(0, h, offsetof(struct ix_head, crc))) {
        return st_fail(st, ST_CORRUPT, "index file: head at offset 0 is damaged");
    }
    if (check_age(h, st) != 0) {
        return st->code;
    }
    if (h->metric >= METRIC_COUNT || h->vec_type >= VEC_COUNT ||
        h->nrows >= UINT64_C(1) << 31 || memchr(h->params, 0, sizeof h->params) == NULL) {
        return st_fail(st, ST_CORRUPT, "index file: head at offset 0 makes no sense");
    }
    return 0;
}

static void tag_text(uint32_t tag, char out[5])
{
    for (int i = 0; i < 4; i++) {
        int c = (int)(tag >> (8 * i) & 0xff);
        out[i] = (char)(c > ' ' && c < 127 ? c : '?');
    }
    out[4] = 0;
}

static int check_entries(const struct ix_file *f, uint64_t table_offset, bool sums,
                         struct status *st)
{
    uint64_t end = sizeof(struct ix_head);
    char tag[5];
    for (uint32_t i = 0; i < f->nsections; i++) {
        const struct ix_entry *e = &f->entries[i];
        tag_text(e->tag, tag);
        if (e->offset % IX_ALIGN != 0 || e->offset < end || e->offset > table_offset ||
            e->size > table_offset - e->offset) {
            return st_fail(st, ST_CORRUPT, "index file: section %s lies outside its place", tag);
        }
        if (sums && e->crc != crc32c(0, f->map + e->offset, e->size)) {
            return st_fail(st, ST_CORRUPT, "index file: section %s at offset %llu is damaged", tag,
                           (unsigned long long)e->offset);
        }
        end = e->offset + e->size;
    }
    return 0;
}

int ix_file_open(const struct index_source *src, struct ix_file *ret, struct status *st)
{
    struct ix_file f = { .map = src->map, .size = src->size };
    const struct ix_tail *tail;
    int rc;
    if (src->size < sizeof(struct ix_head) + sizeof(struct ix_tail)) {
        FAIL(st, ST_CORRUPT, "index file of %zu bytes is cut short", src->size);
    }
    f.head = src->map;
    TRY(check_head(f.head, st));
    /* The table starts on a page and its entries are 24 bytes: the tail is aligned too. */
    if (src->size % 8 != 0) {
        FAIL(st, ST_CORRUPT, "index file of %zu bytes is cut short", src->size);
    }
    tail = (const struct ix_tail *)(const void *)(f.map + f.size - sizeof *tail);
    if (memcmp(tail->magic, head_magic, sizeof tail->magic) != 0 ||
        tail->crc != crc32c(0, tail, offsetof(struct ix_tail, crc)) ||
        tail->count > IX_SECTIONS_MAX || tail->table_offset % IX_ALIGN != 0 ||
        tail->table_offset > f.size ||
        f.size - tail->table_offset != tail->count * sizeof(struct ix_entry) + sizeof *tail) {
        FAIL(st, ST_CORRUPT, "index file: its end is missing or damaged");
    }
    f.nsections = tail->count;
    f.entries = (const struct ix_entry *)(const void *)(f.map + tail->table_offset);
    if (tail->table_crc != crc32c(0, f.entries, f.nsections * sizeof *f.entries)) {
        FAIL(st, ST_CORRUPT, "index file: table at offset %llu is damaged",
             (unsigned long long)tail->table_offset);
    }
    TRY(check_entries(&f, tail->table_offset, !src->trusted, st));
    *ret = f;
out:
    return rc;
}

static const struct ix_entry *entry_of(const struct ix_file *f, uint32_t tag)
{
    for (uint32_t i = 0; i < f->nsections; i++) {
        if (f->entries[i].tag == tag) {
            return &f->entries[i];
        }
    }
    return NULL;
}

bool ix_has_section(const struct ix_file *f, uint32_t tag)
{
    return entry_of(f, tag) != NULL;
}

int ix_section(const struct ix_file *f, uint32_t tag, size_t want, const void **ret_p,
               size_t *ret_size, struct status *st)
{
    const struct ix_entry *e = entry_of(f, tag);
    char text[5];
    tag_text(tag, text);
    if (!e) {
        return st_fail(st, ST_CORRUPT, "index file: section %s is missing", text);
    }
    if (want != SIZE_MAX && e->size != want) {
        return st_fail(st, ST_CORRUPT, "index file: section %s has %llu bytes, not %zu", text,
                       (unsigned long long)e->size, want);
    }
    *ret_p = f->map + e->offset;
    if (ret_size) {
        *ret_size = e->size;
    }
    return 0;
}
