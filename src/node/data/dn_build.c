/*
 * dn_build.c - index files of sealed segments: maps the segment, builds the index of one field,
 * writes it as one object.
 *
 * THREADS   On the task's thread and a pool made for it.
 * MEMORY    opts.index_memory bounds what a build may take from the heap; the file goes to the store
 *           as it is made.
 * ORDER     Where rows lie in the order of the field (dn_order.c) the build is given the plan of it. A
 *           plan that is gone, or damaged, or of another program, costs what the order would have won.
 */
#include "base/fault.h"
#include "base/pool.h"
#include "index/ann.h"
#include "index/flat.h"
#include "index/ixfile.h"
#include "node/data/dn_int.h"
#include "schema/errors.h"
#include "segment/segment.h"
#include <inttypes.h>
#include <string.h>

#define LOG_ROOM "node"
#include "base/log.h"

/* The file on its way to the store; its head is kept, for it tells what AUTOINDEX became. */
struct sink {
    struct object_writer *ow;
    size_t n;
    struct ix_head head;
};

static int sink(void *arg, const void *p, size_t n, struct status *st)
{
    struct sink *s = arg;
    size_t part = MIN(n, sizeof s->head - s->n);

    memcpy((uint8_t *)&s->head + s->n, p, part);
    s->n += part;
    return object_append(s->ow, p, n, st);
}

static const char *param(const Elanus__Index *idx, const char *key)
{
    for (size_t i = 0; i < idx->n_params; i++) {
        if (strcmp(idx->params[i]->key, key) == 0) {
            return idx->params[i]->value;
        }
    }
    return "";
}

int dn__index_params(const Elanus__Index *idx, struct index_params *ret, enum metric *ret_metric,
                     struct status *st)
{
    const char *name = param(idx, "index_type"), *metric = param(idx, "metric_type");
    enum index_type type;
    bool known;
    int m = 0, rc = 0;

    if (!index_type_find(name, &type)) {
        FAIL(st, ERR_INDEX_NOT_SUPPORTED, "%s[indexType=%s]", err_text(ERR_INDEX_NOT_SUPPORTED),
             name);
    }
    while (m < METRIC_COUNT && strcmp(metric_name((enum metric)m), metric) != 0) {
        m++;
    }
    if (m == METRIC_COUNT) {
        FAIL(st, ERR_INDEX_NOT_SUPPORTED, "%s[indexType=%s][metricType=%s]",
             err_text(ERR_INDEX_NOT_SUPPORTED), name, metric);
    }
    *ret_metric = (enum metric)m;
    index_params_init(ret, type);
    for (size_t i = 0; i < idx->n_params; i++) {
        TRY(index_params_set(ret, idx->params[i]->key, idx->params[i]->value, &known, st));
    }
out:
    return rc;
}

bool dn__vectors(const struct segment *seg, int64_t field_id, enum metric metric,
                 struct index_rows *ret)
{
    const uint64_t *valid;
    struct flat_rows raw;

    if (!seg_vectors(seg, field_id, &raw, &valid)) {
        return false;
    }
    *ret = (struct index_rows){ .metric = metric,
                                .type = raw.type,
                                .dim = raw.dim,
                                .base = raw.base,
                                .stride = raw.stride,
                                .nrows = (uint32_t)raw.nrows };
    return true;
}

struct pool *dn__index_pool(const struct dn *dn)
{
    int threads = dn->opts.index_threads;

    return threads > 1 ? pool_new("dn-build", threads - 1, 64) : NULL;
}

/* plan: NULL, or of the order in which rows lie. */
static int write_file(struct dn_task *t, const struct index_rows *rows,
                      const struct index_params *params, const struct mapping *plan,
                      struct status *st)
{
    const Elanus__BuildIndexReq *req = t->req;
    Elanus__BuildIndexResp *resp = t->resp;
    const struct dn_opts *o = &t->dn->opts;
    struct sink to = { 0 };
    struct pool *pool = dn__index_pool(t->dn);
    struct index_build b = {
        .rows = rows,
        .params = params,
        .pool = pool,
        .check = dn__check,
        .check_arg = t,
        .memory_max = o->index_memory,
        .plan = plan ? plan->p : NULL,
        .plan_size = plan ? plan->n : 0,
    };
    int rc;

    TRY(object_writer_open(o->os, slice_of(req->object_key), &to.ow, st));
    TRY(index_build(&b, sink, &to, st));
    TRY(FAULT_POINT("index_before_file", st));
    resp->size_bytes = (int64_t)object_writer_size(to.ow);
    resp->format_version = to.head.format;
    resp->params = arena_strndup(t->call->ar, to.head.params,
                                    strnlen(to.head.params, sizeof to.head.params));
    TRY(object_commit(TAKE(to.ow), st));
    TRY(FAULT_POINT("index_after_file", st));
out:
    object_abort(to.ow);
    pool_free(pool);
    return rc;
}

/* *ret_map stays NULL when there is none. */
static int map_plan(struct dn_task *t, struct mapping **ret_map, struct status *st)
{
    const Elanus__BuildIndexReq *req = t->req;
    int rc = 0;

    if (req->segment->ordered_by != req->index->field_id) {
        goto out;
    }
    rc = object_map(t->dn->opts.os,
                    slice_of(dn__order_key(req->segment, req->index->field_id, t->call->ar)),
                    ret_map, st);
    if (rc == ST_NOT_FOUND) {
        LOG_W("rows lie in an order whose plan is gone: seg=%" PRId64, req->segment->id);
        st_clear(st);
        rc = 0;
    }
out:
    return rc;
}

static int write_index(struct dn_task *t, const struct index_rows *rows,
                       const struct index_params *params, struct status *st)
{
    const Elanus__BuildIndexReq *req = t->req;
    struct mapping *plan = NULL;
    int rc;

    TRY(map_plan(t, &plan, st));
    rc = write_file(t, rows, params, plan, st);
    if (plan && (rc == ST_CORRUPT || rc == ST_INVALID || rc == ST_UNSUPPORTED)) {
        LOG_W("built without the plan of its rows' order: seg=%" PRId64 " error=\"%s\"",
              req->segment->id, st->msg);
        st_clear(st);
        rc = write_file(t, rows, params, NULL, st);
    }
out:
    mapping_free(plan);
    return rc;
}

static int build(struct dn_task *t, struct status *st)
{
    const Elanus__BuildIndexReq *req = t->req;
    const Elanus__Segment *meta = req->segment;
    struct schema *schema = NULL;
    struct segment *seg = NULL;
    struct index_params params;
    struct index_rows rows;
    enum metric metric;
    int rc;

    TRY(dn__index_params(req->index, &params, &metric, st));
    TRY(schema_new(req->collection->schema, &schema, st));
    TRY(seg_open(meta->id, meta->collection_id, meta->partition_id, schema, t->dn->opts.os,
                 meta->object_prefix, &seg, st));
    if (!dn__vectors(seg, req->index->field_id, metric, &rows)) {
        goto out; /* the field was added after these rows */
    }
    TRY(write_index(t, &rows, &params, st));
out:
    seg_unref(seg);
    schema_unref(schema);
    return rc;
}

int dn__build_index(void *self, const struct call *call, const Elanus__BuildIndexReq *req,
                    Elanus__BuildIndexResp *resp, struct status *st)
{
    struct dn_task t = { .dn = self, .call = call, .run = build, .req = req, .resp = resp,
                         .st = STATUS_INIT };

    if (!req->collection || !req->collection->schema || !req->segment || !req->index ||
        !req->object_key[0]) {
        return st_fail(st, ST_INVALID, "build_index without a segment, an index or a key");
    }
    return dn__run(&t, st);
}
