/*
 * dn_order.c - a new segment's rows in the order of an index that will be built over them.
 *
 * WHAT      Clusters are found over rows that lie in one place, and rows can be laid only when they are
 *           known: so they are written twice, first as they come (<prefix>/tmp/rows.seg), then in order.
 *           A source that stays as it is serves as the first. Beside the segment's file goes what builds
 *           need to follow the order, the plan (index/graph/order.h).
 * FAILURE   Rows that give no order, or an order that memory does not allow, are no failure: they stay
 *           as they come, and the answer says so. All objects lie below the target's prefix, which the
 *           coordinator removes when the task fails; `tmp` is gone before it succeeds, since below a
 *           segment that is in use nothing is looked for again.
 * MEMORY    16 bytes a row while the order is found, 8 while it is written, and the plan.
 * NOT HERE  Whether a segment is to be ordered, and by which index: coord/co_rewrite.c.
 */
#include "base/pool.h"
#include "index/graph/order.h"
#include "index/scan/plan.h"
#include "node/data/dn_int.h"
#include "schema/errors.h"
#include "segment/segment.h"
#include <inttypes.h>

#define LOG_ROOM "node"
#include "base/log.h"

#define ORDER_ROWS_MIN 4096u /* fewer are scanned as fast in any order */

struct ordering {
    int64_t field_id;
    struct index_params params;
    enum metric metric;
};

const char *dn__order_key(const Elanus__Segment *seg, int64_t field_id, struct arena *ar)
{
    return arena_printf(ar, "%s/order.%" PRId64, seg->object_prefix, field_id);
}

/* Whether an index over such rows has an order. */
static int check_type(const struct ordering *o, const struct index_rows *rows, struct status *st)
{
    struct index_params p = o->params;
    int rc = index_params_resolve(&p, rows->metric, rows->type, rows->dim, rows->nrows, st);

    if (rc == 0 && p.type != INDEX_HNSW && p.type != INDEX_HNSW_SQ && p.type != INDEX_HNSW_PQ &&
        p.type != INDEX_HNSW_PRQ) {
        rc = st_fail(st, ST_UNSUPPORTED, "index type %s has no order", index_type_name(p.type));
    }
    return rc;
}

/* Whether it is worth trying, before anything is written. */
static int check_request(const struct dn_task *t, const struct seg_merge *m, struct ordering *ret,
                         struct status *st)
{
    const Elanus__CompactReq *req = t->req;
    struct index_rows rows = { 0 };
    uint64_t nrows = 0;
    bool any = false;
    int rc;

    ret->field_id = req->order_by->field_id;
    TRY(dn__index_params(req->order_by, &ret->params, &ret->metric, st));
    for (size_t i = 0; i < m->nfrom; i++) {
        struct seg_info info;
        seg_get_info(m->from[i], &info);
        nrows += info.nrows;
        any = any || dn__vectors(m->from[i], ret->field_id, ret->metric, &rows);
    }
    if (!any || nrows < ORDER_ROWS_MIN) {
        FAIL(st, ST_UNSUPPORTED, "%" PRIu64 " rows%s", nrows, any ? "" : " without vectors");
    }
    rows.nrows = (uint32_t)MIN(nrows, (uint64_t)INT32_MAX);
    TRY(check_type(ret, &rows, st));
out:
    return rc;
}

static int find_order(struct dn_task *t, struct ordering *o, const struct segment *seg,
                      struct index_order **ret_order, struct status *st)
{
    const struct dn_opts *opts = &t->dn->opts;
    struct pool *pool = NULL;
    struct index_rows rows;
    int rc = 0;

    if (!dn__vectors(seg, o->field_id, o->metric, &rows) || rows.nrows < ORDER_ROWS_MIN) {
        FAIL(st, ST_UNSUPPORTED, "too few rows are left");
    }
    if (o->params.type == INDEX_AUTOINDEX) {
        TRY(plan_auto_rows(&o->params, &rows, st));
    }
    TRY(check_type(o, &rows, st));
    pool = dn__index_pool(t->dn);
    struct index_build b = {
        .rows = &rows,
        .params = &o->params,
        .pool = pool,
        .check = dn__check,
        .check_arg = t,
        .memory_max = opts->index_memory,
    };
    TRY(index_order_new(&b, ret_order, st));
out:
    pool_free(pool);
    return rc;
}

/* order NULL: as they lie. */
static int write_laid(struct dn_task *t, const struct seg_merge *m, struct segment *seg,
                      const struct index_order *order, struct seg_merged *ret, struct status *st)
{
    const Elanus__CompactReq *req = t->req;
    Elanus__CompactResp *resp = t->resp;
    struct object_store *os = t->dn->opts.os;
    struct seg_merge laid = *m;
    struct file_part plan;
    int rc;

    laid.from = &seg;
    laid.nfrom = 1;
    laid.gone_before = laid.expired_before = 0;
    laid.order = order ? index_order_rows(order) : NULL;
    TRY(seg_merge_files(&laid, os, req->target->object_prefix, ret, st));
    if (order) {
        int64_t field_id = req->order_by->field_id;
        plan.p = index_order_plan(order, &plan.n);
        TRY(object_put(os, slice_of(dn__order_key(req->target, field_id, t->call->ar)), &plan, 1,
                       st));
        ret->bytes += plan.n;
        resp->ordered_by = field_id;
    }
out:
    return rc;
}

/* Whether the task goes on with rows as they come; then why is told. */
static bool stay_as_they_come(const Elanus__Segment *to, int rc, struct status *st)
{
    if (rc != ST_UNSUPPORTED && rc != ST_INVALID && rc != ST_NO_MEMORY &&
        rc != ERR_INDEX_NOT_SUPPORTED) {
        return false;
    }
    LOG_I("rows lie as they came: seg=%" PRId64 " reason=\"%s\"", to->id, st->msg);
    st_clear(st);
    return true;
}

static bool is_whole(const struct seg_merge *m)
{
    struct seg_info info;

    seg_get_info(m->from[0], &info);
    return m->nfrom == 1 && info.deleted_rows == 0 && info.min_ts >= m->expired_before;
}

int dn__write_ordered(struct dn_task *t, const struct seg_merge *m, struct seg_merged *ret,
                      struct status *st)
{
    const Elanus__Segment *to = ((const Elanus__CompactReq *)t->req)->target;
    struct object_store *os = t->dn->opts.os;
    const char *tmp = arena_printf(t->call->ar, "%s/tmp", to->object_prefix);
    const bool whole = is_whole(m);
    struct index_order *order = NULL;
    struct segment *seg = NULL;
    struct ordering o;
    int rc = check_request(t, m, &o, st);

    if (rc != 0) {
        return stay_as_they_come(to, rc, st) ? seg_merge_files(m, os, to->object_prefix, ret, st)
                                             : rc;
    }
    if (whole) {
        seg = seg_ref(m->from[0]);
    } else {
        TRY(seg_merge_files(m, os, tmp, ret, st));
        if (ret->nrows == 0) {
            goto out;
        }
        TRY(seg_open(m->id, m->collection_id, m->partition_id, m->schema, os, tmp, &seg, st));
    }
    rc = find_order(t, &o, seg, &order, st);
    if (rc != 0 && !stay_as_they_come(to, rc, st)) {
        goto out;
    }
    TRY(write_laid(t, m, seg, order, ret, st));
    seg_unref(TAKE(seg));
    if (!whole) {
        TRY(object_delete_prefix(os, slice_of(arena_printf(t->call->ar, "%s/", tmp)), st));
    }
out:
    index_order_free(order);
    seg_unref(seg);
    return rc;
}
