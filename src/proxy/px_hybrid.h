/* px_hybrid.h - the fused ranking of a hybrid search. Thread: any; memory of the call's arena. */
#pragma once
#include "proxy/px_read.h"

struct px_fused {
    const struct px_search *sub;   /* which search found it ... */
    uint32_t row;                  /* ... and its row in that search's hits */
    double score;
};

struct px_fused_groups {
    int64_t offset, limit;         /* groups */
    uint32_t size;                 /* most rows of one */
    enum px_group_scorer scorer;
};
/* A ranking (best first) as groups by the field that its searches were grouped by: best group
 * first, each one's rows together. *ret_n rows of *ret are left. */
int px_group_fused(struct px_call *pc, const struct px_fused_groups *how,
                   const struct px_fused *list, size_t n, struct px_fused **ret, size_t *ret_n,
                   struct status *st);
