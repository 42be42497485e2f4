/*
 * px_iterator.c - pages of a search iterator (version 2 of the API).
 *
 * WHAT      The client names the last score it has seen, and the page is what lies strictly beyond
 *           it. So that equal scores at the border are neither lost nor given twice, a page ends
 *           between two scores: one hit more than the page is searched, and when the border would
 *           cut through a run of equal scores, the run is left to the next page. Only when the run
 *           is the whole page does the page grow until the run ends.
 *           No page depends on state: any proxy answers any page. The snapshot's timestamp comes
 *           with the request. Query nodes find hits ahead (node/nd_ahead.c), which saves time only.
 * LIMIT     A run of equal scores longer than a search can answer (topK) cannot be paged through
 *           and is refused.
 */
#include "base/hash.h"
#include "proxy/px_read.h"
#include <inttypes.h>

/* Where the page ends among n hits; more: there may be hits behind them. 0: not to be seen yet. */
static uint32_t page_end(const float *scores, uint32_t n, uint32_t batch, bool more)
{
    uint32_t end = batch;

    if (n <= batch && !more) {
        return n;
    }
    if (n > batch && scores[batch] != scores[batch - 1]) {
        return batch;
    }
    end = MIN(batch, n) - 1; /* the run's last known hit within the page */
    while (end > 0 && scores[end - 1] == scores[end]) {
        end--;
    }
    if (end > 0) {
        return end;
    }
    while (end < n && scores[end] == scores[0]) {
        end++;
    }
    return end < n || !more ? end : 0;
}

int px_iterator_search(struct px_call *pc, struct px_search *s, struct status *st)
{
    uint32_t max = (uint32_t)MIN(pc->px->lim.max_topk, (int64_t)PX_TOPK_MAX);
    uint32_t batch = (uint32_t)s->sp.topk, k = MIN(batch + 1, max), n, end;
    int rc;

    s->req.pages = true;
    for (;;) {
        s->req.k = k;
        TRY(px_search_shards(pc, s->coll, &s->req, s->snapshot, &s->hits, st));
        n = s->hits.counts[0];
        end = page_end(s->hits.scores, n, batch, n == k);
        if (end > 0 || n == 0) {
            break;
        }
        if (k == max) {
            FAIL(st, ERR_PARAMETER_INVALID, "%u hits have the same score %g: a search iterator "
                 "cannot page through more equal scores than topK allows, narrow the filter", n,
                 (double)s->hits.scores[0]);
        }
        k = (uint32_t)MIN((uint64_t)k * 4, (uint64_t)max);
    }
    s->hits.counts[0] = end;
    s->sp.topk = end;
out:
    return rc;
}

void px_iterator_fill(struct px_call *pc, const struct px_search *s,
                      Milvus__Proto__Schema__SearchResultData *rd)
{
    Milvus__Proto__Schema__SearchIteratorV2Results *it =
        ARENA_NEW(pc->ar, Milvus__Proto__Schema__SearchIteratorV2Results);
    int64_t seed[2] = { clock_mono_us(), atomic_fetch_add(&pc->px->next_identifier, 1) };
    uint64_t a = hash64(seed, sizeof seed), b = hash64(&a, sizeof a);

    milvus__proto__schema__search_iterator_v2_results__init(it);
    it->token = s->sp.iter_id;
    if (!it->token) { /* a new iterator: any UUID; the server keeps no state behind it */
        it->token = arena_printf(pc->ar, "%08x-%04x-4%03x-a%03x-%012" PRIx64, (unsigned)(a >> 32),
                                 (unsigned)(a >> 16) & 0xffffu, (unsigned)a & 0xfffu,
                                 (unsigned)(b >> 52) & 0xfffu, b & 0xffffffffffffu);
    }
    it->last_bound = s->nrows ? s->hits.scores[s->rows[s->nrows - 1]] : s->sp.bound;
    rd->search_iterator_v2_results = it;
}
