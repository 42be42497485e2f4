/*
 * policy_index.c - which segments get an index file, which is built next, and when a failed build is
 * tried again.
 *
 * Collections that are being searched come first, because every search of theirs scans the segment
 * meanwhile; then builds that have failed less often, so that one that always fails holds up
 * nobody; then the older segment. A build that the parameters or the data rule out is given up at
 * once, one that broke on damage after a few tries; what the surroundings were to blame for (room,
 * memory, a node that is away) is tried for ever, ever more rarely.
 *
 * A file that is refused when it is opened costs a whole build each time. One that aged or was
 * damaged is built anew at once; if its successor is refused too, once more after a pause. Then data
 * and query node do not agree on its format, or the storage spoils what is written, and no build
 * mends that.
 */
#include "coord/policy.h"
#include "base/status.h"
#include "schema/errors.h"
#include <string.h>

#define PAUSE_FIRST_MS 200
#define PAUSE_MAX_MS 300000
#define TRIES_MAX 8
#define REFUSED_PAUSE_MS 3000
#define REFUSED_MAX 3

bool policy_index_has_file(const char *index_type, int64_t rows, int64_t rows_min)
{
    return rows >= rows_min && strcmp(index_type, "BIN_FLAT") != 0;
}

bool policy_index_orders(const char *index_type)
{
    return strncmp(index_type, "HNSW", 4) == 0 || strcmp(index_type, "AUTOINDEX") == 0;
}

static bool before(const struct policy_build *a, const struct policy_build *b)
{
    if (a->loaded != b->loaded) {
        return a->loaded;
    }
    if (a->tries != b->tries) {
        return a->tries < b->tries;
    }
    return a->segment_id < b->segment_id ||
           (a->segment_id == b->segment_id && a->index_id < b->index_id);
}

size_t policy_build_next(const struct policy_build *builds, size_t n, int64_t now_ms,
                         int64_t *ret_next_ms)
{
    size_t best = n;

    *ret_next_ms = INT64_MAX;
    for (size_t i = 0; i < n; i++) {
        const struct policy_build *b = &builds[i];
        if (b->taken) {
            continue;
        }
        if (b->due_ms > now_ms) {
            *ret_next_ms = MIN(*ret_next_ms, b->due_ms);
        } else if (best == n || before(b, &builds[best])) {
            best = i;
        }
    }
    return best;
}

int64_t policy_build_pause_ms(int tries, int code)
{
    int64_t pause = PAUSE_FIRST_MS;

    switch (code) {
    case ST_INVALID:
    case ST_UNSUPPORTED:
    case ST_TOO_LARGE:
    case ERR_INDEX_NOT_SUPPORTED:
    case ERR_PARAMETER_INVALID:
        return -1;
    case ST_CORRUPT:
    case ST_NOT_FOUND:
    case ST_INTERNAL:
        if (tries >= TRIES_MAX) {
            return -1;
        }
        break;
    default:
        break;
    }
    for (int i = 1; i < tries && pause < PAUSE_MAX_MS; i++) {
        pause *= 2;
    }
    return MIN(pause, (int64_t)PAUSE_MAX_MS);
}

int64_t policy_refused_pause_ms(int n)
{
    if (n >= REFUSED_MAX) {
        return -1;
    }
    return n <= 1 ? 0 : REFUSED_PAUSE_MS;
}
