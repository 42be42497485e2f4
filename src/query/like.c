/*
 * like.c - patterns with % (any run), _ (one character) and \ (takes the next byte literally).
 *
 * A pattern is cut at its % into segments. The first is tied to the start of the text, the last to
 * its end, those between are found left to right, each at its first place: if any placement works,
 * that one does. Without _ a segment is one memmem(); equal, prefix, suffix and contains need no
 * code of their own, they are patterns of one or two segments. A lone \ at the end is itself.
 *
 * THREADS  a compiled pattern is immutable.
 */
#include "query/query_int.h"
#include "base/utf8.h"

struct segment {
    const char *text;   /* literal bytes; unused where any[i] is set */
    const uint8_t *any; /* 1: one character of any kind; NULL: no _ in this segment */
    uint32_t n;         /* bytes and wildcards */
};

struct like {
    bool open_start, open_end; /* begins, ends with % */
    uint32_t nsegments;
    struct segment *segments; /* none is empty, except the single one of an empty pattern */
    size_t min_bytes;
};

const struct like *like__compile(struct slice pattern, struct arena *ar)
{
    struct like *lk = arena_try_array(ar, 1, sizeof *lk);
    char *text = arena_try(ar, pattern.n + 1);
    uint8_t *any = arena_try_array(ar, pattern.n + 1, 1);
    /* At most one segment per % and one more; every segment but one needs a byte of its own. */
    struct segment *segs = arena_try_array(ar, pattern.n / 2 + 2, sizeof *segs);
    if (!lk || !text || !any || !segs) {
        return NULL;
    }
    size_t n = 0, from = 0;
    bool wild = false;
    lk->segments = segs;
    lk->open_start = pattern.n > 0 && pattern.p[0] == '%';
    for (size_t i = 0; i <= pattern.n; i++) {
        char c = i < pattern.n ? pattern.p[i] : '%';
        if (c == '%') {
            if (n > from) {
                segs[lk->nsegments++] =
                    (struct segment){text + from, wild ? any + from : NULL, (uint32_t)(n - from)};
            }
            lk->open_end = lk->open_end || i < pattern.n;
            from = n;
            wild = false;
            continue;
        }
        lk->open_end = false;
        if (c == '\\' && i + 1 < pattern.n) {
            c = pattern.p[++i];
        } else if (c == '_') {
            any[n] = 1;
            wild = true;
        }
        text[n++] = c;
    }
    lk->min_bytes = n;
    return lk;
}

/* Where the match of seg that begins at s[at] ends, or SIZE_MAX. */
static size_t match_at(const struct segment *seg, struct slice s, size_t at)
{
    if (!seg->any) {
        bool eq = s.n - at >= seg->n && memcmp(s.p + at, seg->text, seg->n) == 0;
        return eq ? at + seg->n : SIZE_MAX;
    }
    for (uint32_t i = 0; i < seg->n; i++) {
        if (at >= s.n) {
            return SIZE_MAX;
        }
        if (seg->any[i]) {
            size_t len = utf8_sequence(slice_n(s.p + at, s.n - at));
            at += len ? len : 1;
        } else if (s.p[at++] != seg->text[i]) {
            return SIZE_MAX;
        }
    }
    return at;
}

static bool inside_character(struct slice s, size_t at)
{
    return at < s.n && ((unsigned char)s.p[at] & 0xC0) == 0x80;
}

/* First match at or after `at`; end of it, or SIZE_MAX. to_end: it must end the text. */
static size_t find(const struct segment *seg, struct slice s, size_t at, bool to_end)
{
    if (!seg->any) {
        if (to_end) {
            return s.n - at >= seg->n ? match_at(seg, s, s.n - seg->n) : SIZE_MAX;
        }
        const char *p = memmem(s.p + at, s.n - at, seg->text, seg->n);
        return p ? (size_t)(p - s.p) + seg->n : SIZE_MAX;
    }
    /* Every wildcard takes at least one byte and at most four. */
    if (to_end && s.n - at > (size_t)seg->n * 4) {
        at = s.n - (size_t)seg->n * 4;
    }
    for (; at < s.n && s.n - at >= seg->n; at++) {
        if (inside_character(s, at)) {
            continue;
        }
        size_t end = match_at(seg, s, at);
        if (end != SIZE_MAX && (!to_end || end == s.n)) {
            return end;
        }
    }
    return SIZE_MAX;
}

bool like__match(const struct like *lk, struct slice s)
{
    size_t at = 0;
    if (s.n < lk->min_bytes) {
        return false;
    }
    for (uint32_t i = 0; i < lk->nsegments; i++) {
        const struct segment *seg = &lk->segments[i];
        bool last = i + 1 == lk->nsegments && !lk->open_end;
        if (i == 0 && !lk->open_start) {
            at = match_at(seg, s, 0);
        } else {
            at = find(seg, s, at, last);
        }
        if (at == SIZE_MAX || (last && at != s.n)) {
            return false;
        }
    }
    return lk->nsegments > 0 || lk->open_start || s.n == 0;
}
