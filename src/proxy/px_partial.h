/* px_partial.h - partial updates: given columns over stored rows. Thread: any. */
#pragma once
#include "proxy/px_int.h"

/* What to do with the given cell of one field. */
enum px_field_op { PX_REPLACE, PX_ARRAY_APPEND, PX_ARRAY_REMOVE };

/* One per schema field, from the request's field_ops. Errors name the field. */
int px_partial_ops(struct px_call *pc, const struct schema *s, size_t n,
                   Milvus__Proto__Schema__FieldPartialUpdateOp *const *ops,
                   enum px_field_op **ret_ops, struct status *st);
/* Whole rows: `given` (with the key) laid over what is stored. at[row]: the row's place in
 * `stored`, PX_NO_ROW when the key is new, and then every field must be given or have a default or
 * be nullable. Columns come in schema order. */
int px_partial_merge(struct px_call *pc, const struct schema *s, const struct batch *given,
                     const enum px_field_op *ops, const struct batch *stored, const uint32_t *at,
                     struct batch *ret, struct status *st);
/* The given rows made whole with what is stored now in these partitions (none: all). */
int px_partial_rows(struct px_call *pc, const struct px_coll *coll, const struct batch *given,
                    const enum px_field_op *ops, int64_t *partition_ids, size_t npartitions,
                    struct batch *ret, struct status *st);
