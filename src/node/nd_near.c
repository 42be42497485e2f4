/*
 * nd_near.c - where queries lie among a segment's rows, between nodes.
 *
 * WHAT      struct index_near as a message and back: rows of each query one after the other, as many
 *           as there are. near_max of the request bounds them; without, all that a walk finds.
 * THREADS   Pure.
 */
#include "node/nd_read.h"
#include <string.h>

/* Rows kept of each query, and of each of many. */
#define NEAR_MAX 1024u
#define NEAR_MAX_MANY 256u
#define NEAR_MANY 32u

static int no_memory(struct status *st)
{
    return st_fail(st, ST_NO_MEMORY, "no memory for where queries lie");
}

int nd_near_new(struct arena *ar, uint32_t nq, uint32_t asked, struct index_near *ret,
                struct status *st)
{
    uint32_t max = nq > NEAR_MANY ? NEAR_MAX_MANY : NEAR_MAX;

    max = asked ? MIN(asked, max) : max;
    ret->rows = arena_try(ar, (size_t)nq * max * sizeof *ret->rows);
    ret->counts = arena_try_array(ar, nq, sizeof *ret->counts);
    ret->keys = arena_try_array(ar, nq, sizeof *ret->keys);
    if (!ret->rows || !ret->counts || !ret->keys) {
        return no_memory(st);
    }
    ret->max = max;
    return 0;
}

int nd_near_pack(const struct index_near *in, uint32_t nq, struct arena *ar,
                 Elanus__SearchNear **ret, struct status *st)
{
    Elanus__SearchNear *out;
    size_t total = 0;

    *ret = NULL;
    for (uint32_t q = 0; in->max && q < nq; q++) {
        total += in->counts[q];
    }
    if (total == 0) {
        return 0;
    }
    out = ARENA_NEW(ar, Elanus__SearchNear);
    elanus__search_near__init(out);
    out->counts = arena_try_array(ar, nq, sizeof *out->counts);
    out->keys = arena_try_array(ar, nq, sizeof *out->keys);
    out->rows = arena_try(ar, total * sizeof *out->rows);
    if (!out->counts || !out->keys || !out->rows) {
        return no_memory(st);
    }
    out->n_counts = out->n_keys = nq;
    for (uint32_t q = 0; q < nq; q++) {
        out->counts[q] = in->counts[q];
        out->keys[q] = in->counts[q] ? in->keys[q] : 0;
        memcpy(out->rows + out->n_rows, in->rows + (size_t)q * in->max,
               in->counts[q] * sizeof *out->rows);
        out->n_rows += in->counts[q];
    }
    *ret = out;
    return 0;
}

bool nd_near(const Elanus__SearchNear *near, uint32_t nq, struct arena *ar, struct index_near *ret)
{
    size_t total = 0;

    *ret = (struct index_near){ .counts = near->counts, .keys = near->keys, .rows = near->rows };
    if (near->n_counts != nq || near->n_keys != nq) {
        return false;
    }
    for (uint32_t q = 0; q < nq; q++) {
        ret->max = MAX(ret->max, near->counts[q]);
        total += near->counts[q];
    }
    if (total == 0 || total != near->n_rows) {
        return false;
    }
    if (total == (size_t)nq * ret->max) {
        return true;
    }
    ret->rows = arena_try_array(ar, (size_t)nq * ret->max, sizeof *ret->rows);
    total = 0;
    for (uint32_t q = 0; ret->rows && q < nq; q++) {
        memcpy(ret->rows + (size_t)q * ret->max, near->rows + total,
               near->counts[q] * sizeof *ret->rows);
        total += near->counts[q];
    }
    return ret->rows != NULL;
}
