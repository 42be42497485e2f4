/*
 * px_lookup.c - from names in a request to collections, partitions, properties and indexes.
 *
 * WHAT     The cache first, the coordinator after it. What a request looked up is pinned to its
 *          px_call until the reply, so handlers borrow freely.
 * STALE    A cached entry may be a moment old. Answers that would be refusals (not loaded, no such
 *          partition) are checked with the coordinator before they are given.
 * THREADS  Any; one px_call belongs to one thread.
 */
#include "proxy/px_int.h"

struct px_pin {
    struct px_pin *next;
    struct px_coll *coll;
};

/* Takes the reference. */
static const struct px_coll *pin(struct px_call *pc, struct px_coll *coll)
{
    struct px_pin *p = ARENA_NEW(pc->ar, struct px_pin);

    p->coll = coll;
    p->next = pc->pins;
    pc->pins = p;
    return coll;
}

void px_call_done(struct px_call *pc)
{
    for (struct px_pin *p = pc->pins; p; p = p->next) {
        px_coll_unref(p->coll);
    }
    pc->pins = NULL;
}

const char *px_db(const struct px_call *pc, const char *db_name)
{
    if (db_name && db_name[0] != '\0') {
        return db_name;
    }
    return pc->db_metadata.n ? pc->db_metadata.p : DEFAULT_DATABASE;
}

/* ---- collections ---- */

static int ask(struct px_call *pc, const char *db, const char *name, int64_t id,
               struct px_coll **ret, struct status *st)
{
    const struct root_service *root = pc->px->opts.root;
    Elanus__DescribeCollectionReq req = ELANUS__DESCRIBE_COLLECTION_REQ__INIT;
    Elanus__CollectionInfo info = ELANUS__COLLECTION_INFO__INIT;
    uint64_t generation = px_cache_generation(pc->px->cache);
    struct px_coll *coll;
    int rc;

    if (pc->call.no_wait) {
        return st_fail(st, ST_WOULD_WAIT, "the coordinator is to be asked");
    }
    req.db_name = db;
    req.name = name;
    req.collection_id = id;
    TRY(root->describe_collection(root->self, &pc->call, &req, &info, st));
    TRY(px_coll_new(&info, &coll, st));
    if (name[0] != '\0') {
        px_cache_put(pc->px->cache, db, name, coll, generation);
    }
    *ret = coll;
out:
    return rc;
}

static int not_found(const char *what, const char *db, const char *name, int64_t id,
                     struct status *st)
{
    if (name[0] == '\0') {
        return st_fail(st, ERR_COLLECTION_NOT_FOUND, "%s[database=%s][collection=%lld]", what, db,
                       (long long)id);
    }
    return st_fail(st, ERR_COLLECTION_NOT_FOUND, "%s[database=%s][collection=%s]", what, db, name);
}

/* `missing` is how a miss is told. */
static int look_up(struct px_call *pc, const char *db, const char *name, int64_t id, bool fresh,
                   const char *missing, const struct px_coll **ret, struct status *st)
{
    struct px_coll *coll = NULL;
    int rc = 0;

    if (name[0] != '\0' || id == 0) {
        TRY(px_check_collection_name(pc->px, name, st));
        coll = fresh ? NULL : px_cache_get(pc->px->cache, db, name);
    }
    if (!coll) {
        rc = ask(pc, db, name, id, &coll, st);
        if (rc == ERR_COLLECTION_NOT_FOUND) {
            rc = not_found(missing, db, name, id, st);
        }
    }
    if (rc == 0) {
        *ret = pin(pc, coll);
    }
out:
    return rc;
}

int px_collection(struct px_call *pc, const char *db_name, const char *name,
                  const struct px_coll **ret, struct status *st)
{
    return look_up(pc, px_db(pc, db_name), name, 0, false, err_text(ERR_COLLECTION_NOT_FOUND), ret,
                   st);
}

int px_collection_fresh(struct px_call *pc, const char *db_name, const char *name,
                        const struct px_coll **ret, struct status *st)
{
    return look_up(pc, px_db(pc, db_name), name, 0, true, err_text(ERR_COLLECTION_NOT_FOUND), ret,
                   st);
}

int px_collection_or_id(struct px_call *pc, const char *db_name, const char *name, int64_t id,
                        const struct px_coll **ret, struct status *st)
{
    return look_up(pc, px_db(pc, db_name), name, id, false, "can't find collection", ret, st);
}

bool px_is_loaded(const Elanus__CollectionInfo *info)
{
    return info->load && info->load->status == ELANUS__LOAD_STATUS__LOAD_LOADED;
}

int px_collection_loaded(struct px_call *pc, const char *db_name, const char *name,
                         const struct px_coll **ret, struct status *st)
{
    const struct px_coll *coll;
    int rc;

    TRY(px_collection(pc, db_name, name, &coll, st));
    if (!px_is_loaded(coll->info)) {
        TRY(px_collection_fresh(pc, db_name, name, &coll, st));
    }
    if (!px_is_loaded(coll->info)) {
        FAIL(st, ERR_COLLECTION_NOT_LOADED, "%s[collection=%s]",
             err_text(ERR_COLLECTION_NOT_LOADED), name);
    }
    *ret = coll;
out:
    return rc;
}

void px_collection_forget(struct px_call *pc, const struct px_coll *coll)
{
    px_cache_invalidate(pc->px->cache, coll->pb->id, coll->pb->db_name, 1, &coll->pb->name);
}

/* ---- partitions ---- */

const Elanus__Partition *px_partition(const struct px_coll *coll, struct slice name)
{
    for (size_t i = 0; i < coll->info->n_partitions; i++) {
        if (slice_is(name, coll->info->partitions[i]->name)) {
            return coll->info->partitions[i];
        }
    }
    return NULL;
}

int px_partition_ids(struct px_call *pc, const struct px_coll *coll, size_t n,
                     const char *const *names, int64_t **ret_ids, size_t *ret_n,
                     struct status *st)
{
    const struct px_coll *now = coll;
    int64_t *ids = NULL;
    int rc = 0;

    if (n > 0 && coll->schema->partition_key) {
        FAIL(st, ERR_PARAMETER_INVALID,
             "not support manually specifying the partition names if partition key mode is used");
    }
    if (n > 0 && !(ids = arena_try_array(pc->ar, n, sizeof ids[0]))) {
        FAIL(st, ST_NO_MEMORY, "%zu partition names do not fit into memory", n);
    }
    for (size_t i = 0; i < n; i++) {
        const Elanus__Partition *p = px_partition(now, slice_of(names[i]));
        if (!p && now == coll) {
            TRY(px_collection_fresh(pc, coll->pb->db_name, coll->pb->name, &now, st));
            p = px_partition(now, slice_of(names[i]));
        }
        if (!p) {
            FAIL(st, ERR_PARTITION_NOT_FOUND, "partition name %s not found", names[i]);
        }
        ids[i] = p->id;
    }
    *ret_ids = ids;
    *ret_n = n;
out:
    return rc;
}

/* ---- properties and indexes ---- */

const char *px_property(const struct px_coll *coll, const char *key)
{
    return px_kv(coll->pb->n_properties, coll->pb->properties, key);
}

const Elanus__Index *px_index_of(const struct px_coll *coll, int64_t field_id)
{
    for (size_t i = 0; i < coll->info->n_indexes; i++) {
        if (coll->info->indexes[i]->field_id == field_id) {
            return coll->info->indexes[i];
        }
    }
    return NULL;
}

const char *px_index_param(const Elanus__Index *idx, const char *key)
{
    return px_kv(idx->n_params, idx->params, key);
}
