/*
 * nd_merge.c - answers of several sources as one.
 *
 * WHAT      What a shard got from its growing segments and from query nodes, each sorted: hits by
 *           score, rows by key, equal keys once (query/reduce.h).
 * THREADS   Pure.
 * MEMORY    The answer and all scratch lie in the call's arena.
 */
#include "node/nd_int.h"
#include "query/reduce.h"

int nd__resp_reserve(Elanus__SearchResp *resp, uint32_t nq, size_t most, struct arena *ar,
                     struct status *st)
{
    resp->counts = arena_try_array(ar, nq, sizeof *resp->counts);
    resp->scores = arena_try_array(ar, most, sizeof *resp->scores);
    resp->segment_ids = arena_try_array(ar, most, sizeof *resp->segment_ids);
    resp->rows = arena_try_array(ar, most, sizeof *resp->rows);
    resp->timestamps = arena_try_array(ar, most, sizeof *resp->timestamps);
    if (!resp->counts || (most && (!resp->scores || !resp->segment_ids || !resp->rows ||
                                   !resp->timestamps))) {
        return nd__no_memory(st);
    }
    resp->n_counts = nq;
    return 0;
}

void nd__resp_set_total(Elanus__SearchResp *resp, size_t total)
{
    resp->n_scores = total;
    resp->n_segment_ids = total;
    resp->n_rows = total;
    resp->n_timestamps = total;
}
int nd_merge_search(const Elanus__SearchResp *const *parts, size_t nparts,
                    const struct nd_merge *how, const struct call *call, Elanus__SearchResp *resp,
                    uint32_t **ret_part_of_hit, bool *retry_k, struct status *st)
{
    uint32_t nq = how->nq, k = how->k;
    struct arena *ar = call->ar;
    struct batch *pks = arena_try_array(ar, nparts + 1, sizeof *pks);
    size_t *first = arena_try_array(ar, nparts + 1, sizeof *first);
    struct hit_list *lists = arena_try_array(ar, nparts + 1, sizeof *lists);
    struct merged_hit *merged = arena_try_array(ar, k, sizeof *merged);
    struct column_builder *cb = NULL;
    struct column pk_col;
    uint32_t *part_of = NULL;
    size_t most = 0, total = 0;
    Elanus__SearchWork *work = ARENA_NEW(ar, Elanus__SearchWork);
    bool more = false;
    int rc = 0;

    if (!pks || !first || !lists || !merged) {
        return nd__no_memory(st);
    }
    elanus__search_work__init(work);
    resp->work = work;
    for (size_t i = 0; i < nparts; i++) {
        TRY(nd__decode_bytes(&parts[i]->pks, ar, &pks[i], st));
        if (parts[i]->n_counts != nq || pks[i].nrows != parts[i]->n_scores) {
            FAIL(st, ST_INTERNAL, "a part of the answer has %zu lists, %u expected",
                 parts[i]->n_counts, nq);
        }
        most += parts[i]->n_scores;
        resp->searched_rows += parts[i]->searched_rows;
        if (parts[i]->work) {
            nd_work_add(work, parts[i]->work);
        }
    }
    TRY(nd__resp_reserve(resp, nq, most, ar, st));
    part_of = arena_try_array(ar, most + 1, sizeof *part_of);
    if (!part_of) {
        rc = nd__no_memory(st);
        goto out;
    }
    for (uint32_t q = 0; q < nq; q++) {
        uint32_t dups = 0, n;
        bool full = false;
        for (size_t i = 0; i < nparts; i++) {
            lists[i] = (struct hit_list){
                .n = parts[i]->counts[q],
                .scores = parts[i]->scores + first[i],
                .pks = pks[i].ncols ? &pks[i].cols[0] : NULL,
                .first_row = (uint32_t)first[i],
            };
            full = full || parts[i]->counts[q] >= how->asked;
        }
        n = reduce_hits(lists, (uint32_t)nparts, !how->larger_is_better, 0, k, ar, merged, &dups);
        more = more || (n < k && dups > 0 && full);
        for (uint32_t j = 0; j < n; j++, total++) {
            const Elanus__SearchResp *p = parts[merged[j].list];
            uint32_t at = merged[j].row;
            const struct column *col = &pks[merged[j].list].cols[0];
            resp->scores[total] = merged[j].score;
            resp->segment_ids[total] = p->segment_ids[at];
            resp->rows[total] = p->rows[at];
            resp->timestamps[total] = p->timestamps[at];
            part_of[total] = merged[j].list;
            if (!cb) {
                cb = column_builder_new(ar, col->field_id, col->type, col->elem, col->dim,
                                        (uint32_t)most);
            }
            if (!column_builder_take(cb, col, at)) {
                rc = nd__no_memory(st);
                goto out;
            }
        }
        resp->counts[q] = n;
        for (size_t i = 0; i < nparts; i++) {
            first[i] += parts[i]->counts[q];
        }
    }
    nd__resp_set_total(resp, total);
    if (cb) {
        column_builder_finish(cb, &pk_col);
        struct batch b = { .nrows = (uint32_t)total, .ncols = 1, .cols = &pk_col };
        TRY(nd_batch_bytes(&b, ar, &resp->pks, st));
    }
    *ret_part_of_hit = part_of;
    if (retry_k) {
        *retry_k = more;
    }
out:
    return rc;
}

int nd_merge_query(const Elanus__QueryResp *const *parts, size_t nparts, int64_t limit,
                   int64_t max_bytes, const struct call *call, Elanus__QueryResp *resp,
                   struct status *st)
{
    struct arena *ar = call->ar;
    struct batch *b = arena_try_array(ar, nparts + 1, sizeof *b);
    struct row_list *lists = arena_try_array(ar, nparts + 1, sizeof *lists);
    struct merged_row *keep;
    struct column *cols;
    struct batch out = { 0 };
    uint32_t most = limit < 0 || limit > UINT32_MAX ? UINT32_MAX : (uint32_t)limit;
    uint32_t nkeep;
    size_t total = 0, bytes = 0, model = 0;
    int rc = 0;

    if (!b || !lists) {
        return nd__no_memory(st);
    }
    for (size_t i = 0; i < nparts; i++) {
        resp->count += parts[i]->count;
        TRY(nd__decode_bytes(&parts[i]->batch, ar, &b[i], st));
        if (b[i].nrows != parts[i]->n_timestamps) {
            FAIL(st, ST_INTERNAL, "a part of the answer has %u rows and %zu timestamps",
                 b[i].nrows, parts[i]->n_timestamps);
        }
        lists[i] = (struct row_list){ .n = b[i].nrows,
                                      .pks = b[i].ncols ? &b[i].cols[0] : NULL,
                                      .timestamps = parts[i]->timestamps };
        total += b[i].nrows;
        model = b[i].ncols ? i : model;
    }
    if (nparts == 0 || b[model].ncols == 0) { /* counts only */
        goto out;
    }
    keep = arena_try_array(ar, MIN(total, (size_t)most) + 1, sizeof *keep);
    cols = arena_try_array(ar, b[model].ncols, sizeof *cols);
    if (!keep || !cols) {
        rc = nd__no_memory(st);
        goto out;
    }
    nkeep = reduce_rows(lists, (uint32_t)nparts, 0, most, ar, keep);
    resp->count = nkeep;
    resp->timestamps = arena_try_array(ar, nkeep + 1u, sizeof *resp->timestamps);
    if (!resp->timestamps) {
        rc = nd__no_memory(st);
        goto out;
    }
    resp->n_timestamps = nkeep;
    for (uint32_t i = 0; i < nkeep; i++) {
        resp->timestamps[i] = parts[keep[i].list]->timestamps[keep[i].row];
    }
    for (uint32_t c = 0; c < b[model].ncols; c++) {
        const struct column *m = &b[model].cols[c];
        struct column_builder *cb =
            column_builder_new(ar, m->field_id, m->type, m->elem, m->dim, nkeep);
        for (uint32_t i = 0; i < nkeep; i++) {
            const struct column *from = &b[keep[i].list].cols[c];
            if (max_bytes > 0) {
                bytes += column_cell(from, keep[i].row).n;
            }
            if (!column_builder_take(cb, from, keep[i].row)) {
                rc = nd__no_memory(st);
                goto out;
            }
        }
        column_builder_finish(cb, &cols[c]);
    }
    if (max_bytes > 0 && bytes > (size_t)max_bytes) {
        FAIL(st, ST_TOO_LARGE, "query results exceed the maxOutputSize Limit %lld: narrow the "
             "filter, name fewer output_fields or set a limit", (long long)max_bytes);
    }
    out = (struct batch){ .nrows = nkeep, .ncols = b[model].ncols, .cols = cols };
    TRY(nd_batch_bytes(&out, ar, &resp->batch, st));
out:
    return rc;
}
