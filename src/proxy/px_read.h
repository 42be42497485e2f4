/*
 * px_read.h - reading from the shards, shared by Search, HybridSearch, Query.
 */
#pragma once
#include "base/json.h"
#include "proxy/px_int.h"
#include "proxy/px_plan.h"
#include "query/reduce.h"

/* INDEX_TOPK_MAX of the index room: no shard answers more hits of one query. */
#define PX_TOPK_MAX 16384u

/* Hits of one search over all shards, merged: counts[nq] lists one after the other. */
struct px_hits {
    uint32_t nq;
    uint32_t *counts;
    size_t total;
    float *scores;
    struct column pks;          /* total rows */
    struct batch fields;        /* the output fields, rows as the hits; ncols 0 when none asked */
    hts read_ts;
    Elanus__SearchWork work;    /* of all shards */
};

/* Several reads of one request that must see the same rows share a snapshot: one timestamp for each
 * shard, 0 until the shard has been read. From the call's arena; NULL past its limit. */
hts *px_snapshot(struct px_call *pc, const struct px_coll *coll);

/* Sends req to every shard (vchannel is filled in here) and merges. snapshot may be NULL. */
int px_search_shards(struct px_call *pc, const struct px_coll *coll, Elanus__SearchReq *req,
                     hts *snapshot, struct px_hits *ret, struct status *st);
/* The same for queries: rows by ascending key, at most req->limit of them (-1: all), the key first.
 * plan is what req->plan says (NULL: everything): when it names keys, only their shards are
 * asked. */
struct px_rows {
    int64_t count;
    struct batch rows;
    hts read_ts;
};
int px_query_shards(struct px_call *pc, const struct px_coll *coll, Elanus__QueryReq *req,
                    const struct expr *plan, hts *snapshot, struct px_rows *ret,
                    struct status *st);

/* Rows by key: (*ret_at)[i] is the row of pks[i] in *ret_rows, PX_NO_ROW when there is none. Keys
 * may repeat. */
#define PX_NO_ROW UINT32_MAX
struct px_fetch {
    const struct column *pks;
    int64_t *field_ids, *partition_ids;   /* partitions: none given: all */
    size_t nfields, npartitions;
    hts guarantee_ts;
    hts *snapshot;                        /* may be NULL */
    int64_t max_bytes;
};
int px_fetch(struct px_call *pc, const struct px_coll *coll, const struct px_fetch *f,
             struct batch *ret_rows, uint32_t **ret_at, struct status *st);

/* fields of a batch as FieldData, in the order of out->field_ids; rows NULL: all. */
int px_fill_fields(struct px_call *pc, const struct px_coll *coll, const struct px_output *out,
                   const struct batch *b, const uint32_t *rows, uint32_t n,
                   Milvus__Proto__Schema__FieldData ***ret, size_t *ret_n, struct status *st);

/* A request's `params`: JSON text of search parameters, and the other keys. */
struct px_search_params {
    int64_t topk, offset;
    const char *anns_field;
    const char *metric;           /* as sent, or NULL */
    int round_decimal;            /* -1: none */
    bool ignore_growing, iterator;
    bool has_radius, has_range_filter;
    double radius, range_filter;
    const char *params;           /* JSON, "" when absent */
    bool has_inner;
    struct json_value inner;      /* the same, parsed */
    bool explain;                 /* log what the search did */
    /* iterator v2 */
    bool iter_v2, has_bound;
    float bound;
    int64_t iter_batch;
    const char *iter_id;
    /* grouping */
    const char *group_by;         /* NULL: none */
    uint32_t group_size;
    bool strict_group_size;
};
int px_search_params(struct px_call *pc, size_t n,
                     Milvus__Proto__Common__KeyValuePair *const *kv, struct px_search_params *ret,
                     struct status *st);
/* The keys of grouping alone; rank_params of a hybrid search have them as well. */
int px_group_params(size_t n, Milvus__Proto__Common__KeyValuePair *const *kv,
                    struct px_search_params *p, struct status *st);
/* How a group's score is made of its rows' scores. */
enum px_group_scorer { PX_GROUP_MAX, PX_GROUP_SUM, PX_GROUP_AVG };
/* A hybrid search's rank_params. */
struct px_rank {
    bool weighted, normalise;     /* weighted: else rrf */
    double rrf_k;
    size_t nweights;              /* one for each request */
    double *weights;
    int64_t limit, offset;
    int round_decimal;            /* -1: none */
    struct px_search_params group; /* group_by and what goes with it */
    enum px_group_scorer scorer;
};
int px_rank_params(struct px_call *pc, const Milvus__Proto__Milvus__HybridSearchRequest *req,
                   struct px_rank *ret, struct status *st);
/* enum metric of index/index.h from the API's name; -1 unknown. Larger scores are better? */
int px_metric_parse(const char *name);
bool px_metric_descends(int metric);

/* Everything of one SearchRequest. */
struct px_search {
    const struct px_coll *coll;
    struct px_search_params sp;
    const struct field *field;    /* searched */
    int metric;
    struct px_output out;
    Elanus__SearchReq req;        /* what the shards are asked */
    hts *snapshot;                /* given by the caller, or made here */
    struct px_hits hits;          /* merged: topk + offset for each query, more when grouped */
    /* The answer: topks[nq] and rows of hits, one list after the other. */
    const struct field *group;    /* NULL: no grouping */
    int64_t *topks;
    uint32_t *rows;
    size_t nrows;
    /* The output fields lie in `fields`, at field_rows (NULL: all rows, in order). */
    struct batch fields;
    uint32_t *field_rows;
};
/* Up to the answer's rows. with_fields: and their output fields. *ret is zero but for snapshot. */
int px_search_run(struct px_call *pc, const Milvus__Proto__Milvus__SearchRequest *req,
                  bool with_fields, struct px_search *ret, struct status *st);

/* What searches like this one have in common: field, number of vectors and of hits, parameters, and
 * whether there is a filter. */
struct px_kind px_search_kind(const struct px_search *s);

/* The pieces: queries of req->ids (px_search_ids.c), groups (px_group.c), pages of iterators. */
int px_queries_of_ids(struct px_call *pc, const struct px_search *s,
                      const Milvus__Proto__Schema__IDs *ids, ProtobufCBinaryData *ret_queries,
                      uint32_t *ret_nq, struct status *st);
int px_group_field(struct px_search *s, struct status *st);
int px_group_search(struct px_call *pc, struct px_search *s, struct status *st);
int px_iterator_search(struct px_call *pc, struct px_search *s, struct status *st);
void px_iterator_fill(struct px_call *pc, const struct px_search *s,
                      Milvus__Proto__Schema__SearchResultData *rd);
