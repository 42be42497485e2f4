/* qn_int.h - the query node inside: the table of loaded segments. */
#pragma once
#include "base/lock.h"
#include "base/map.h"
#include "node/nd_read.h"
#include "node/node.h"
#include "segment/segment.h"

#define QN_STRIPES 16u

struct qn_coll {
    struct schema *schema;
    struct id_map *segs;    /* id -> struct segment *, served */
    struct id_map *loading; /* the same, until their shard has sent every delete */
};

struct qn {
    struct qn_opts opts;
    struct rwlock lock;     /* RANK_NODE_SHARD: colls and everything below */
    struct id_map *colls;   /* id -> struct qn_coll * */
    struct lock deleting[QN_STRIPES]; /* RANK_NODE_FLUSH: seg_delete() is for one at a time */
    struct qn_indexes *indexes;
    struct nd_measures measures;
    struct nd_ahead *ahead;
};

/* Whether served or still loading; NULL: neither. Holds: lock */
static inline struct segment *qn__find(const struct qn_coll *c, int64_t id)
{
    struct segment *seg = id_map_ptr(c->segs, id);
    return seg ? seg : id_map_ptr(c->loading, id);
}

/* ---- qn_index.c ---- */

void qn__indexes_new(struct qn *qn);
void qn__indexes_free(struct qn *qn); /* stops its thread */
/* The segments' index files will be asked for and opened in the background. */
void qn__indexes_want(struct qn *qn, int64_t collection_id, const int64_t *ids, size_t n);
int qn__refresh_indexes(void *self, const struct call *call,
                        const Elanus__RefreshIndexesReq *req, Elanus__Empty *resp,
                        struct status *st);
