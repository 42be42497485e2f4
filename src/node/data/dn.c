/*
 * dn.c - the data node: builds index files of sealed segments for the coordinator.
 *
 * WHAT      One call is one task: map the segment, build the index of one field, write it as one
 *           object. The node remembers nothing between calls and decides nothing: which file is
 *           needed, under which key, and what becomes of it, is the coordinator's (co_build.c).
 * THREADS   A task runs on a thread of its own and on a pool made for it: both get what is left of
 *           the processors (SCHED_BATCH and a high nice value, which new threads inherit), so that
 *           searches go first. The thread that brought the call waits, its place given away.
 * FAILURE   The object is put whole or not at all. A crash leaves nothing, or an object that nobody
 *           knows, which is the coordinator's to remove. When the caller goes away the build stops.
 * MEMORY    opts.index_memory bounds what a build may take from the heap; the file goes to the store
 *           as it is made.
 */
#include "base/alloc.h"
#include "base/fault.h"
#include "base/lock.h"
#include "index/ann.h"
#include "index/flat.h"
#include "index/ixfile.h"
#include "node/node.h"
#include "schema/errors.h"
#include "segment/segment.h"
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NICE 10

struct dn {
    struct dn_opts opts;
    struct lock lock; /* RANK_NODE_REGISTRY */
    struct cond idle;
    size_t running;
    _Atomic bool stop;
};

int dn_new(const struct dn_opts *o, struct dn **ret_dn, struct status *st)
{
    struct dn *dn = xalloc(sizeof *dn);

    (void)st;
    dn->opts = *o;
    lock_init(&dn->lock, RANK_NODE_REGISTRY);
    cond_init(&dn->idle);
    *ret_dn = dn;
    return 0;
}

void dn_stop(struct dn *dn)
{
    dn->stop = true;
    lock_acquire(&dn->lock);
    while (dn->running > 0) {
        cond_wait(&dn->idle, &dn->lock);
    }
    lock_release(&dn->lock);
}

void dn_free(struct dn *dn)
{
    if (dn) {
        dn_stop(dn);
        cond_done(&dn->idle);
        lock_done(&dn->lock);
        mem_free(dn);
    }
}

int dn_start(struct dn *dn, struct status *st)
{
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    Elanus__NodeInfo node;
    Elanus__RegisterReq req;
    Elanus__RegisterResp resp;
    int rc;

    elanus__node_info__init(&node);
    elanus__register_req__init(&req);
    elanus__register_resp__init(&resp);
    node.node_id = dn->opts.node_id;
    node.role = "datanode";
    node.address = dn->opts.address;
    req.node = &node;
    rc = dn->opts.streaming->register_node(dn->opts.streaming->self, &call, &req, &resp, st);
    arena_free(ar);
    return rc;
}

/* ---- one task ---- */

struct task {
    struct dn *dn;
    const struct call *call;
    const Elanus__BuildIndexReq *req;
    Elanus__BuildIndexResp *resp;
    int rc;
    struct status st;
};

static int check(void *arg, struct status *st)
{
    const struct task *t = arg;

    if (atomic_load_explicit(&t->dn->stop, memory_order_relaxed) ||
        (t->call->cancel && atomic_load_explicit(t->call->cancel, memory_order_relaxed))) {
        return st_fail(st, ST_CANCELLED, "the build was cancelled");
    }
    return 0;
}

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

static int parse_params(const Elanus__Index *idx, struct index_params *ret, enum metric *ret_metric,
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

/* Low priority, which the pool's threads inherit. A refusal changes nothing but the pace. */
static void step_back(void)
{
    struct sched_param none = { 0 };

    (void)sched_setscheduler(0, SCHED_BATCH, &none);
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
}

static int write_file(struct task *t, const struct index_rows *rows,
                      const struct index_params *params, struct status *st)
{
    const struct dn_opts *o = &t->dn->opts;
    struct sink to = { 0 };
    struct pool *pool = o->index_threads > 1
                            ? pool_new("dn-build", o->index_threads - 1, 64) : NULL;
    struct index_build b = {
        .rows = rows,
        .params = params,
        .pool = pool,
        .check = check,
        .check_arg = t,
        .memory_max = o->index_memory,
    };
    int rc;

    TRY(object_writer_open(o->os, slice_of(t->req->object_key), &to.ow, st));
    TRY(index_build(&b, sink, &to, st));
    TRY(FAULT_POINT("index_before_file", st));
    t->resp->size_bytes = (int64_t)object_writer_size(to.ow);
    t->resp->format_version = to.head.format;
    t->resp->params = arena_strndup(t->call->ar, to.head.params,
                                    strnlen(to.head.params, sizeof to.head.params));
    TRY(object_commit(TAKE(to.ow), st));
    TRY(FAULT_POINT("index_after_file", st));
out:
    object_abort(to.ow);
    pool_free(pool);
    return rc;
}

static int build(struct task *t, struct status *st)
{
    const Elanus__Segment *meta = t->req->segment;
    struct schema *schema = NULL;
    struct segment *seg = NULL;
    struct index_params params;
    struct index_rows rows = { 0 };
    struct flat_rows raw;
    const uint64_t *valid;
    int rc;

    TRY(parse_params(t->req->index, &params, &rows.metric, st));
    TRY(schema_new(t->req->collection->schema, &schema, st));
    TRY(seg_open(meta->id, meta->collection_id, meta->partition_id, schema, t->dn->opts.os,
                 meta->object_prefix, &seg, st));
    if (!seg_vectors(seg, t->req->index->field_id, &raw, &valid)) {
        goto out; /* the field was added after these rows */
    }
    rows.type = raw.type;
    rows.dim = raw.dim;
    rows.base = raw.base;
    rows.stride = raw.stride;
    rows.nrows = (uint32_t)raw.nrows;
    TRY(write_file(t, &rows, &params, st));
out:
    seg_unref(seg);
    schema_unref(schema);
    return rc;
}

static void task_main(void *arg)
{
    struct task *t = arg;

    step_back();
    t->rc = build(t, &t->st);
}

static int do_build_index(void *self, const struct call *call, const Elanus__BuildIndexReq *req,
                          Elanus__BuildIndexResp *resp, struct status *st)
{
    struct dn *dn = self;
    struct task t = { .dn = dn, .call = call, .req = req, .resp = resp, .st = STATUS_INIT };

    if (!req->collection || !req->collection->schema || !req->segment || !req->index ||
        !req->object_key[0]) {
        return st_fail(st, ST_INVALID, "build_index without a segment, an index or a key");
    }
    lock_acquire(&dn->lock);
    dn->running++;
    lock_release(&dn->lock);
    if (!dn->stop) {
        net_wait_begin();
        thread_join(thread_start("dn-task", task_main, &t));
        net_wait_end();
    } else {
        t.rc = st_fail(&t.st, ST_NOT_READY, "the data node is stopping");
    }
    lock_acquire(&dn->lock);
    if (--dn->running == 0) {
        cond_broadcast(&dn->idle);
    }
    lock_release(&dn->lock);
    if (t.rc != 0) {
        *st = t.st;
    }
    return t.rc;
}

struct dnode_service dn_service(struct dn *dn)
{
    return (struct dnode_service){ .self = dn, .build_index = do_build_index };
}
