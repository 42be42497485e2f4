/*
 * wal_recover.c - finds the end of the last file of a log, and tells a torn tail from damage.
 *
 * The rules are in wal_format.c, "The end of a log". Nothing is written here: wal_local.c cuts the
 * tail that this finds.
 *
 * MEMORY  One window: 256 KiB, or the largest record in the file.
 */
#include "base/alloc.h"
#include "base/hash.h"
#include "wal/wal_int.h"

enum verdict { REC_OK, REC_NONE, REC_BAD };

struct scan {
    struct wal_window win;
    uint64_t size, salt;
};

/* Is there a record at off with a position in [min, max]? REC_NONE: zeros, or the end. */
static int record_at(struct scan *s, uint64_t off, uint64_t min, uint64_t max, enum verdict *ret_v,
                     struct wal_record_header *ret, struct status *st)
{
    static const uint8_t zeros[WAL_RECORD_HEADER];
    const uint8_t *p;
    struct wal_record_header h;
    uint32_t crc;
    int rc = 0;

    *ret_v = REC_NONE;
    if (off >= s->size) {
        goto out;
    }
    *ret_v = REC_BAD;
    if (s->size - off < WAL_RECORD_HEADER) {
        goto out;
    }
    TRY(wal__window_get(&s->win, off, WAL_RECORD_HEADER, &p, st));
    if (!p) {
        goto out; /* the file became shorter while we looked */
    }
    h = wal__record_header_get(p);
    /* A record without all of its padding is torn too: the next one would not be aligned. */
    if (h.position < min || h.position > max || h.len > WAL_RECORD_MAX ||
        s->size - off < wal__record_size(h.len)) {
        *ret_v = memcmp(p, zeros, sizeof zeros) == 0 ? REC_NONE : REC_BAD;
        goto out;
    }
    crc = wal__record_crc(s->salt, p);
    TRY(wal__window_get(&s->win, off, (size_t)WAL_RECORD_HEADER + h.len, &p, st));
    if (p && crc32c(crc, p + WAL_RECORD_HEADER, h.len) == h.crc) {
        *ret = h;
        *ret_v = REC_OK;
    }
out:
    return rc;
}

/* Offset of the last byte that is not zero, plus 1; at least from. */
static int used_end(struct scan *s, uint64_t from, uint64_t *ret, struct status *st)
{
    uint64_t end = from;
    const uint8_t *p;
    int rc = 0;
    for (uint64_t off = from; off < s->size;) {
        size_t n = (size_t)MIN(s->size - off, (uint64_t)4096);
        TRY(wal__window_get(&s->win, off, n, &p, st));
        if (!p) {
            break;
        }
        for (size_t i = n; i > 0; i--) {
            if (p[i - 1]) {
                end = off + i;
                break;
            }
        }
        off += n;
    }
    *ret = end;
out:
    return rc;
}

/* Looks behind the end for a record that proves that position `lost` was durable once. */
static int find_proof(struct scan *s, uint64_t from, uint64_t to, uint64_t lost, bool *ret,
                      struct status *st)
{
    uint64_t max = lost + s->size / WAL_RECORD_HEADER;
    int rc = 0;
    *ret = false;
    for (uint64_t off = from; off < to && !*ret;) {
        struct wal_record_header h;
        enum verdict v;
        TRY(record_at(s, off, lost, max, &v, &h, st));
        if (v != REC_OK) {
            off += WAL_ALIGN;
            continue;
        }
        *ret = h.unsynced != UINT32_MAX && h.position - h.unsynced >= lost;
        off += wal__record_size(h.len);
    }
out:
    return rc;
}

int wal__scan(const char *dir, uint64_t first, struct wal_scan *ret, struct status *st)
{
    struct wal_scan r = {0};
    struct scan s = {0};
    char *path = wal__file_path(dir, first);
    uint64_t off = WAL_FILE_HEADER, position = first, used;
    enum verdict v;
    bool damaged;
    int rc;

    TRY(wal__file_open(dir, first, FILE_READ, &s.win.f, &r.header, st));
    TRY(file_size(s.win.f, &r.size, st));
    s.size = r.size;
    s.salt = r.header.salt;
    r.last = first - 1;
    r.end = off;
    for (;;) {
        struct wal_record_header h;
        TRY(record_at(&s, off, position, position, &v, &h, st));
        if (v != REC_OK) {
            break;
        }
        off += wal__record_size(h.len);
        if (h.flags & WAL_FLAG_LAST) {
            r.last = position;
            r.end = off;
        }
        position++;
    }
    TRY(used_end(&s, r.end, &used, st));
    if (used > r.end) {
        r.cut_bytes = used - r.end;
        TRY(find_proof(&s, r.end, used, r.last + 1, &damaged, st));
        if (damaged) {
            FAIL(st, ST_CORRUPT,
                 "%s is damaged at offset %llu: record %llu is not readable, later ones are", path,
                 (unsigned long long)off, (unsigned long long)position);
        }
    }
    *ret = r;
out:
    file_close(s.win.f);
    wal__window_done(&s.win);
    mem_free(path);
    return rc;
}
