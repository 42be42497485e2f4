/*
 * px_plan.h - filters and output fields of requests, made ready for the shards.
 * Thread: any; results live in the call's arena.
 */
#pragma once
#include "proxy/px_int.h"
#include "query/filter.h"

/* One entry of an expr_template_values map; all generated entry types have this shape. */
struct px_template {
    const char *key;
    const Milvus__Proto__Schema__TemplateValue *value;
};

/* Filter text with templates -> typed plan (NULL: everything). `context` goes in front of errors:
 * "failed to create query plan". */
int px_plan_parse(struct px_call *pc, const struct px_coll *coll, const char *text,
                  const struct px_template *templates, size_t ntemplates, const char *context,
                  const struct expr **ret, struct status *st);
/* A plan as the bytes field of a service request; NULL gives empty bytes. */
int px_plan_bytes(struct px_call *pc, const struct expr *e, ProtobufCBinaryData *ret,
                  struct status *st);
/* "key in (these)"; keys may repeat. pks has at least one row. */
int px_plan_pk_in(struct px_call *pc, const struct px_coll *coll, const struct column *pks,
                  const struct expr **ret, struct status *st);
/* "key > pks[row] and (plan)": the page behind that key. */
const struct expr *px_plan_after(struct px_call *pc, const struct px_coll *coll,
                                 const struct expr *plan, const struct column *pks, uint32_t row);
/* The values of a plan's list on a field of type Int64 or VarChar as a column. */
int px_plan_column(struct px_call *pc, const struct field *f, const struct value *list,
                   struct column *ret, struct status *st);
/* A filter that names values of the partition key can match rows of their partitions only: these,
 * when they are fewer than all. Otherwise *ret_ids and *ret_n stay as they are. */
int px_plan_partitions(struct px_call *pc, const struct px_coll *coll, const struct expr *plan,
                       int64_t **ret_ids, size_t *ret_n, struct status *st);

/* Collects a map of the request: PX_TEMPLATES(pc, req, &templates, &n). */
#define PX_TEMPLATES(pc, req, ret, ret_n)                                                          \
    do {                                                                                           \
        *(ret_n) = (req)->n_expr_template_values;                                                  \
        *(ret) = arena_alloc((pc)->ar, (*(ret_n) + 1) * sizeof(struct px_template));               \
        for (size_t i_ = 0; i_ < *(ret_n); i_++) {                                                 \
            (*(ret))[i_].key = (req)->expr_template_values[i_]->key;                               \
            (*(ret))[i_].value = (req)->expr_template_values[i_]->value;                           \
        }                                                                                          \
    } while (0)

struct px_output {
    size_t nfields;
    int64_t *field_ids;              /* what to fetch, each once */
    size_t nnames;
    const char **names;              /* what the answer lists: "*" expanded, dynamic keys kept */
    size_t nkeys;                    /* keys of the dynamic field; none: all of it */
    struct slice *keys;
};
/* always_pk: the key is fetched even when it is not asked for (queries). */
int px_output_fields(struct px_call *pc, const struct px_coll *coll, size_t n,
                     const char *const *names, bool always_pk, struct px_output *ret,
                     struct status *st);
