/*
 * nd_work.c - what searches did, as sums for /metrics.
 *
 * THREADS   A node finds its measures once, when it is made; adding is an atomic addition each.
 */
#include "base/metrics.h"
#include "node/nd_read.h"

static const struct {
    const char *name, *labels, *help;
} rows[ND_MEASURES] = {
    [ND_DISTANCES] = { "elanus_search_distances_total", "on=\"codes\"",
                       "distances computed by searches" },
    [ND_EXACT] = { "elanus_search_distances_total", "on=\"vectors\"",
                   "distances computed by searches" },
    [ND_HOPS] = { "elanus_search_hops_total", "", "nodes of graphs and trees visited by searches" },
    [ND_LISTS] = { "elanus_search_lists_total", "", "inverted lists and clusters scanned" },
    [ND_BYTES] = { "elanus_search_bytes_total", "",
                   "bytes of codes, links and vectors touched by searches" },
    [ND_READS] = { "elanus_search_reads_total", "", "reads from disk by searches" },
    [ND_FALLBACKS] = { "elanus_search_fallbacks_total", "",
                       "queries that an index left short and a scan finished" },
    [ND_INDEXED] = { "elanus_search_segments_total", "by=\"index\"", "segments searched" },
    [ND_OTHER] = { "elanus_search_segments_total", "by=\"scan\"", "segments searched" },
};

void nd_measures_find(struct nd_measures *m)
{
    for (int i = 0; i < ND_MEASURES; i++) {
        m->v[i] = metric_get(METRIC_COUNTER, rows[i].name, rows[i].labels, rows[i].help);
    }
}

void nd_measures_add(const struct nd_measures *m, const Elanus__SearchWork *w)
{
    const uint64_t by[ND_MEASURES] = {
        [ND_DISTANCES] = w->distances,       [ND_EXACT] = w->exact,
        [ND_HOPS] = w->hops,                 [ND_LISTS] = w->lists,
        [ND_BYTES] = w->bytes,               [ND_READS] = w->reads,
        [ND_FALLBACKS] = w->fallbacks,       [ND_INDEXED] = w->indexed_segments,
        [ND_OTHER] = w->other_segments,
    };

    for (int i = 0; i < ND_MEASURES; i++) {
        if (by[i]) {
            metric_add(m->v[i], (int64_t)by[i]);
        }
    }
}

void nd_work_add(Elanus__SearchWork *sum, const Elanus__SearchWork *w)
{
    sum->strategies |= w->strategies;
    sum->distances += w->distances;
    sum->exact += w->exact;
    sum->hops += w->hops;
    sum->lists += w->lists;
    sum->bytes += w->bytes;
    sum->reads += w->reads;
    sum->fallbacks += w->fallbacks;
    sum->indexed_segments += w->indexed_segments;
    sum->other_segments += w->other_segments;
}
