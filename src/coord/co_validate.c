/*
 * co_validate.c - whether the tables are what they claim to be; for tests and for a look inside.
 *
 * Checks what co_table.c and co_place.c call their invariants. Reads everything: not for hot paths.
 */
#include "coord/co_int.h"

static int check_sorted(const struct co_list *l, const char *what, int64_t coll, struct status *st)
{
    for (size_t i = 1; i < l->n; i++) {
        if (l->v[i - 1]->id >= l->v[i]->id) {
            return st_fail(st, ST_INTERNAL, "collection %" PRId64 ": %s out of order", coll, what);
        }
    }
    return 0;
}

static int check_segments(const struct co_coll *c, struct status *st)
{
    int rc = 0;
    size_t pos = 0;
    int64_t id;
    uint64_t v;

    for (size_t i = 0; i < c->segs.n; i++) {
        const Elanus__Segment *seg = c->segs.v[i]->pb;
        if (!co__list_get(&c->parts, seg->partition_id)) {
            FAIL(st, ST_INTERNAL, "segment %" PRId64 " has no partition", seg->id);
        }
        if (id_map_get(c->sealing, seg->id, &v)) {
            FAIL(st, ST_INTERNAL, "segment %" PRId64 " is flushed and waits to be", seg->id);
        }
    }
    for (size_t i = 0; i < c->indexes.n; i++) {
        const struct co_list *files = &c->indexes.v[i]->files;
        TRY(check_sorted(files, "index files", c->id, st));
        for (size_t j = 0; j < files->n; j++) {
            if (!co__list_get(&c->segs, files->v[j]->id)) {
                FAIL(st, ST_INTERNAL, "an index file of segment %" PRId64 ", which does not exist",
                     files->v[j]->id);
            }
        }
    }
    while (id_map_next(c->placed, &pos, &id, &v)) {
        const struct co_rec *rec = co__list_get(&c->segs, id);
        if (!rec) {
            FAIL(st, ST_INTERNAL, "segment %" PRId64 " is placed and does not exist", id);
        }
        if (!co__load_has(co__load_target(c), ((const Elanus__Segment *)rec->pb)->partition_id)) {
            FAIL(st, ST_INTERNAL, "segment %" PRId64 " is placed and not loaded", id);
        }
    }
out:
    return rc;
}

static int check_coll(struct coord *co, const struct co_coll *c, struct arena *ar,
                      struct status *st)
{
    const Elanus__Collection *pb = co__pb(c);
    bool created = pb->state == ELANUS__COLLECTION_STATE__COLLECTION_CREATED;
    bool named = str_map_get(co->names, co__name_key(pb->db_name, pb->name, ar)) == c;
    int rc = 0;

    if (pb->id != c->id || created != named) {
        FAIL(st, ST_INTERNAL, "collection %" PRId64 " \"%s\" is not where its state says", c->id,
             pb->name);
    }
    TRY(check_sorted(&c->parts, "partitions", c->id, st));
    TRY(check_sorted(&c->indexes, "indexes", c->id, st));
    TRY(check_sorted(&c->shards, "shards", c->id, st));
    TRY(check_sorted(&c->segs, "segments", c->id, st));
    TRY(check_sorted(&c->deltas, "delete files", c->id, st));
    if (created && (c->parts.n == 0 || c->shards.n != pb->n_vchannels)) {
        FAIL(st, ST_INTERNAL, "collection %" PRId64 " has %zu partitions and %zu of %zu shards",
             c->id, c->parts.n, c->shards.n, pb->n_vchannels);
    }
    for (size_t i = 0; i < c->shards.n; i++) {
        const Elanus__Shard *sh = c->shards.v[i]->pb;
        if (str_map_get(co->vchannels, slice_of(sh->vchannel)) != c) {
            FAIL(st, ST_INTERNAL, "shard %s is not found by its name", sh->vchannel);
        }
    }
    for (size_t i = 0; i < c->aliases.n; i++) {
        const Elanus__Alias *a = c->aliases.v[i]->pb;
        if (str_map_get(co->aliases, co__name_key(a->db_name, a->alias, ar)) != c->aliases.v[i] ||
            a->collection_id != c->id) {
            FAIL(st, ST_INTERNAL, "alias %s is not of collection %" PRId64, a->alias, c->id);
        }
    }
    TRY(check_segments(c, st));
out:
    return rc;
}

static int64_t placed_rows(const struct co_coll *c, int64_t node_id)
{
    int64_t rows = 0;

    for (size_t i = 0; i < c->segs.n; i++) {
        uint64_t on;
        if (id_map_get(c->placed, c->segs.v[i]->id, &on) && (int64_t)on == node_id) {
            rows += ((const Elanus__Segment *)c->segs.v[i]->pb)->num_rows;
        }
    }
    return rows;
}

int co__validate(struct coord *co, struct status *st)
{
    struct arena *ar = arena_new(0);
    size_t pos = 0, naliases = 0;
    int64_t id;
    uint64_t v;
    int rc = 0;

    rwlock_read(&co->state);
    while (id_map_next(co->colls, &pos, &id, &v)) {
        const struct co_coll *c = (const struct co_coll *)(uintptr_t)v;
        TRY(check_coll(co, c, ar, st));
        naliases += c->aliases.n;
    }
    if (naliases != str_map_count(co->aliases)) {
        FAIL(st, ST_INTERNAL, "%zu aliases hang at collections, %zu exist", naliases,
             str_map_count(co->aliases));
    }
    for (size_t i = 0; i < co->nnodes; i++) {
        int64_t rows = 0;
        pos = 0;
        while (id_map_next(co->colls, &pos, &id, &v)) {
            rows += placed_rows((const struct co_coll *)(uintptr_t)v, co->nodes[i].id);
        }
        if (rows != co->nodes[i].rows) {
            FAIL(st, ST_INTERNAL, "node %" PRId64 " has %" PRId64 " rows, %" PRId64 " are counted",
                 co->nodes[i].id, rows, co->nodes[i].rows);
        }
    }
out:
    rwlock_release(&co->state);
    arena_free(ar);
    return rc;
}
