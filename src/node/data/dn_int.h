/* dn_int.h - the data node inside: what its tasks share. */
#pragma once
#include "base/lock.h"
#include "index/ann.h"
#include "node/node.h"
#include <stdatomic.h>

struct dn {
    struct dn_opts opts;
    struct lock lock; /* RANK_NODE_REGISTRY */
    struct cond idle;
    size_t running;
    _Atomic bool stop;
};

struct dn_task {
    struct dn *dn;
    const struct call *call;
    int (*run)(struct dn_task *t, struct status *st);
    const void *req;
    void *resp;
    int rc;
    struct status st;
};
/* Runs a task on a thread of its own and waits for it. */
int dn__run(struct dn_task *t, struct status *st);
/* index_check_fn of a struct dn_task: ST_CANCELLED when the caller has gone or the node stops. */
int dn__check(void *task, struct status *st);

/* ---- dn_build.c ---- */

struct segment;
struct seg_merge;
struct seg_merged;

/* Fails: ERR_INDEX_NOT_SUPPORTED, ST_INVALID. */
int dn__index_params(const Elanus__Index *idx, struct index_params *ret, enum metric *ret_metric,
                     struct status *st);
/* A sealed segment's vectors; false: the field was added after these rows. Valid as the segment. */
bool dn__vectors(const struct segment *seg, int64_t field_id, enum metric metric,
                 struct index_rows *ret);
/* What helps the task's thread with an index; NULL: nothing. Free with pool_free(). */
struct pool *dn__index_pool(const struct dn *dn);

/* ---- dn_order.c ---- */

/* As seg_merge_files(m) to the target of a struct dn_task of compaction, in the order of
 * req->order_by where rows have one: resp->ordered_by says so. *ret counts all that was written. */
int dn__write_ordered(struct dn_task *t, const struct seg_merge *m, struct seg_merged *ret,
                      struct status *st);
/* Of the object that tells builds over the field how rows are ordered. */
const char *dn__order_key(const Elanus__Segment *seg, int64_t field_id, struct arena *ar);

/* ---- of the service ---- */

int dn__build_index(void *self, const struct call *call, const Elanus__BuildIndexReq *req,
                    Elanus__BuildIndexResp *resp, struct status *st);
int dn__compact(void *self, const struct call *call, const Elanus__CompactReq *req,
                Elanus__CompactResp *resp, struct status *st);
