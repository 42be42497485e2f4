/*
 * px_read.h - reading from the shards, shared by Search, HybridSearch, Query.
 */
#pragma once
#include "proxy/px_int.h"
#include "proxy/px_plan.h"
#include "query/reduce.h"

/* Hits of one search over all shards, merged: counts[nq] lists one after the other. */
struct px_hits {
    uint32_t nq;
    uint32_t *counts;
    size_t total;
    float *scores;
    struct column pks;          /* total rows */
    struct batch fields;        /* the output fields, rows as the hits; ncols 0 when none asked */
    hts read_ts;
};

/* Sends req to every shard (vchannel is filled in here) and merges. */
int px_search_shards(struct px_call *pc, const struct px_coll *coll, Elanus__SearchReq *req,
                     struct px_hits *ret, struct status *st);
/* The same for queries: rows by ascending key, at most req->limit of them (-1: all), the key first. */
struct px_rows {
    int64_t count;
    struct batch rows;
    hts read_ts;
};
int px_query_shards(struct px_call *pc, const struct px_coll *coll, Elanus__QueryReq *req,
                    struct px_rows *ret, struct status *st);

/* fields of a batch as FieldData, in the order of out->field_ids; rows NULL: all. */
int px_fill_fields(struct px_call *pc, const struct px_coll *coll, const struct px_output *out,
                   const struct batch *b, const uint32_t *rows, uint32_t n,
                   Milvus__Proto__Schema__FieldData ***ret, size_t *ret_n, struct status *st);
int px_fill_names(struct px_call *pc, const struct px_output *out, const char ***ret,
                  size_t *ret_n);

/* A request's `params`: JSON text of search parameters, and the other keys. */
struct px_search_params {
    int64_t topk, offset;
    const char *anns_field;
    const char *metric;           /* as sent, or NULL */
    int round_decimal;            /* -1: none */
    bool ignore_growing, iterator;
    bool has_radius, has_range_filter;
    float radius, range_filter;
    const char *params;           /* JSON, "" when absent */
    /* iterator v2 */
    bool iter_v2, has_bound;
    float bound;
    int64_t iter_batch;
    const char *iter_id;
};
int px_search_params(struct px_call *pc, size_t n,
                     Milvus__Proto__Common__KeyValuePair *const *kv, struct px_search_params *ret,
                     struct status *st);
/* enum metric of index/index.h from the API's name; -1 unknown. Larger scores are better? */
int px_metric_parse(const char *name);
bool px_metric_descends(int metric);

/* Everything of one SearchRequest up to its merged hits. */
struct px_search {
    const struct px_coll *coll;
    struct px_search_params sp;
    const struct field *field;
    int metric;
    struct px_output out;
    struct px_hits hits;          /* topk + offset per query: the caller slices */
};
int px_search_run(struct px_call *pc, const Milvus__Proto__Milvus__SearchRequest *req,
                  bool with_fields, struct px_search *ret, struct status *st);
