/* dn_int.h - the data node inside: what its tasks share. */
#pragma once
#include "base/lock.h"
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

/* dn_build.c, dn_compact.c */
int dn__build_index(void *self, const struct call *call, const Elanus__BuildIndexReq *req,
                    Elanus__BuildIndexResp *resp, struct status *st);
int dn__compact(void *self, const struct call *call, const Elanus__CompactReq *req,
                Elanus__CompactResp *resp, struct status *st);
