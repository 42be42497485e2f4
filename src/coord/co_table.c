/*
 * co_table.c - the tables in memory: filled from the store, followed by every transaction, looked
 * up by name and id.
 *
 * INVARIANTS  Every record belongs to a collection in `colls` (or is a database, user or alias).
 *             `names` holds exactly the created collections: one that is being dropped is found by
 *             id only, by those who finish the drop. A collection's lists are sorted by id.
 * STRAYS      Keys of a collection, partition, index or segment that is gone, left by a crash between
 *             the chunks of a large change: not taken into the tables, deleted when the program
 *             starts.
 * THREADS     Holders of `state`; see co_int.h.
 */
#include "coord/co_int.h"

/* ---- putting ---- */

static struct co_coll *coll_of(struct coord *co, int64_t id)
{
    return id_map_ptr(co->colls, id);
}

static void put_named(struct str_map *m, struct slice key, struct co_rec *rec)
{
    co__rec_free(str_map_put(m, key, rec));
}

static void names_set(struct coord *co, struct co_coll *c, bool present)
{
    struct arena *ar = arena_new(0);
    struct slice key = co__name_key(co__pb(c)->db_name, co__pb(c)->name, ar);

    if (present) {
        str_map_put(co->names, key, c);
    } else if (str_map_get(co->names, key) == c) {
        str_map_remove(co->names, key);
    }
    arena_free(ar);
}

static void put_collection(struct coord *co, struct co_rec *rec)
{
    struct co_coll *c = coll_of(co, rec->id);
    struct co_rec *old;

    if (!c) {
        c = xalloc(sizeof *c);
        c->id = rec->id;
        c->sealing = id_map_new();
        c->placed = id_map_new();
        CHECK(id_map_put(co->colls, c->id, (uint64_t)(uintptr_t)c));
    } else {
        names_set(co, c, false);
    }
    old = c->rec;
    c->rec = rec;
    co__rec_free(old);
    names_set(co, c, co__pb(c)->state == ELANUS__COLLECTION_STATE__COLLECTION_CREATED);
}

static struct slice alias_key(const Elanus__Alias *a, struct arena *ar)
{
    return co__name_key(a->db_name, a->alias, ar);
}

static void unlink_alias(struct coord *co, struct co_rec *rec)
{
    struct co_coll *c = coll_of(co, ((const Elanus__Alias *)rec->pb)->collection_id);

    for (size_t i = 0; c && i < c->aliases.n; i++) {
        if (c->aliases.v[i] == rec) {
            c->aliases.v[i] = c->aliases.v[--c->aliases.n];
            return;
        }
    }
}

static void put_alias(struct coord *co, struct co_rec *rec)
{
    struct arena *ar = arena_new(0);
    const Elanus__Alias *a = rec->pb;
    struct co_coll *c = coll_of(co, a->collection_id);
    struct co_rec *old = str_map_put(co->aliases, alias_key(a, ar), rec);

    if (old) {
        unlink_alias(co, old);
        co__rec_free(old);
    }
    if (c) { /* aliases have no id of their own: kept in the order in which they came */
        if (c->aliases.n == c->aliases.cap) {
            c->aliases.cap = c->aliases.cap ? c->aliases.cap * 2 : 2;
            c->aliases.v = xrealloc(c->aliases.v, c->aliases.cap * sizeof(struct co_rec *));
        }
        c->aliases.v[c->aliases.n++] = rec;
    }
    arena_free(ar);
}

/* The collection a record hangs below; 0 for those that hang below none. */
static int64_t owner_id(enum co_kind kind, const void *pb)
{
    switch (kind) {
    case CO_PARTITION:
        return ((const Elanus__Partition *)pb)->collection_id;
    case CO_INDEX:
        return ((const Elanus__Index *)pb)->collection_id;
    case CO_SHARD:
        return ((const Elanus__Shard *)pb)->collection_id;
    case CO_SEGMENT:
        return ((const Elanus__Segment *)pb)->collection_id;
    case CO_DELTA:
        return ((const Elanus__Delta *)pb)->collection_id;
    case CO_SEGINDEX:
        return ((const Elanus__SegmentIndex *)pb)->collection_id;
    case CO_LOAD:
        return ((const Elanus__Load *)pb)->collection_id;
    case CO_DATABASE:
    case CO_USER:
    case CO_COLLECTION:
    case CO_ALIAS:
    case CO_KINDS:
        break;
    }
    return 0;
}

/* NULL: none has it, or the index of a file is gone. */
static struct co_list *list_of(struct co_coll *c, enum co_kind kind, const void *pb)
{
    if (kind == CO_SEGINDEX) {
        struct co_rec *idx = co__list_get(&c->indexes,
                                          ((const Elanus__SegmentIndex *)pb)->index_id);
        return idx ? &idx->files : NULL;
    }
    return kind == CO_PARTITION ? &c->parts
           : kind == CO_INDEX   ? &c->indexes
           : kind == CO_SHARD   ? &c->shards
           : kind == CO_SEGMENT ? &c->segs
           : kind == CO_DELTA   ? &c->deltas
                                : NULL;
}

/* A changed index keeps its files. */
static void put_in_list(struct co_list *l, struct co_rec *rec)
{
    struct co_rec *old = co__list_put(l, rec);

    if (old) {
        rec->files = old->files;
        old->files = (struct co_list){ 0 };
    }
    co__rec_free(old);
}

void co__apply_put(struct coord *co, enum co_kind kind, struct co_rec *rec)
{
    struct co_list *list;
    struct co_coll *c;

    if (kind == CO_DATABASE) {
        put_named(co->dbs, slice_of(((const Elanus__Database *)rec->pb)->name), rec);
    } else if (kind == CO_USER) {
        put_named(co->users, slice_of(((const Elanus__User *)rec->pb)->name), rec);
    } else if (kind == CO_COLLECTION) {
        put_collection(co, rec);
    } else if (kind == CO_ALIAS) {
        put_alias(co, rec);
    } else {
        c = coll_of(co, owner_id(kind, rec->pb));
        CHECK(c); /* strays are kept out at the start; a transaction puts the collection first */
        if (kind == CO_LOAD) {
            co__rec_free(c->load);
            c->load = rec;
            return;
        }
        if (kind == CO_SEGMENT) {
            id_map_remove(c->sealing, rec->id);
        } else if (kind == CO_SHARD) {
            str_map_put(co->vchannels, slice_of(((const Elanus__Shard *)rec->pb)->vchannel), c);
        }
        list = list_of(c, kind, rec->pb);
        CHECK(list); /* as above: the index is there */
        put_in_list(list, rec);
    }
}

/* ---- deleting ---- */

static void coll_free(struct coord *co, struct co_coll *c)
{
    for (size_t i = 0; i < c->shards.n; i++) {
        const Elanus__Shard *sh = c->shards.v[i]->pb;
        str_map_remove(co->vchannels, slice_of(sh->vchannel));
    }
    while (c->segs.n > 0) {
        struct co_rec *rec = c->segs.v[--c->segs.n];
        co__unplace_one(co, c, rec->pb);
        co__rec_free(rec);
    }
    co__list_free(&c->parts, true);
    co__list_free(&c->indexes, true);
    co__list_free(&c->shards, true);
    co__list_free(&c->segs, true);
    co__list_free(&c->deltas, true);
    co__list_free(&c->aliases, false); /* owned by the table of aliases */
    co__rec_free(c->load);
    id_map_free(c->sealing);
    id_map_free(c->placed);
    co__rec_free(c->rec);
    mem_free(c);
}

static void delete_collection(struct coord *co, int64_t id)
{
    struct co_coll *c = coll_of(co, id);

    if (c) {
        names_set(co, c, false);
        id_map_remove(co->colls, id);
        coll_free(co, c);
    }
}

static void delete_alias(struct coord *co, const Elanus__Alias *a)
{
    struct arena *ar = arena_new(0);
    struct co_rec *rec = str_map_remove(co->aliases, alias_key(a, ar));

    if (rec) {
        unlink_alias(co, rec);
        co__rec_free(rec);
    }
    arena_free(ar);
}

static int64_t own_id(enum co_kind kind, const void *pb)
{
    return kind == CO_PARTITION ? ((const Elanus__Partition *)pb)->id
           : kind == CO_INDEX   ? ((const Elanus__Index *)pb)->id
           : kind == CO_SEGMENT ? ((const Elanus__Segment *)pb)->id
           : kind == CO_SEGINDEX ? ((const Elanus__SegmentIndex *)pb)->segment_id
                                : ((const Elanus__Delta *)pb)->id;
}

/* Index files go with their segment. */
static void remove_files(struct co_coll *c, int64_t segment_id)
{
    for (size_t i = 0; i < c->indexes.n; i++) {
        co__rec_free(co__list_remove(&c->indexes.v[i]->files, segment_id));
    }
}

/* Segments of a partition that is gone are no part of the tables, here as when they are read. */
static void remove_segments(struct coord *co, struct co_coll *c, int64_t partition_id)
{
    size_t n = 0;

    for (size_t i = 0; i < c->segs.n; i++) {
        struct co_rec *rec = c->segs.v[i];
        const Elanus__Segment *seg = rec->pb;
        if (seg->partition_id == partition_id) {
            co__unplace_one(co, c, seg);
            remove_files(c, seg->id);
            co__rec_free(rec);
        } else {
            c->segs.v[n++] = rec;
        }
    }
    c->segs.n = n;
}

/* pb may be the record's own message: it is not touched once the record is gone. */
void co__apply_delete(struct coord *co, enum co_kind kind, const void *pb)
{
    struct co_coll *c;

    if (kind == CO_DATABASE) {
        co__rec_free(str_map_remove(co->dbs, slice_of(((const Elanus__Database *)pb)->name)));
    } else if (kind == CO_USER) {
        co__rec_free(str_map_remove(co->users, slice_of(((const Elanus__User *)pb)->name)));
    } else if (kind == CO_COLLECTION) {
        delete_collection(co, ((const Elanus__Collection *)pb)->id);
    } else if (kind == CO_ALIAS) {
        delete_alias(co, pb);
    } else if ((c = coll_of(co, owner_id(kind, pb))) != NULL) {
        if (kind == CO_LOAD) {
            co__rec_free(TAKE(c->load));
        } else if (kind != CO_SHARD) { /* those go with their collection */
            struct co_list *list = list_of(c, kind, pb);
            if (kind == CO_SEGMENT) {
                co__unplace_one(co, c, pb);
                remove_files(c, own_id(kind, pb));
            } else if (kind == CO_PARTITION) {
                remove_segments(co, c, own_id(kind, pb));
            }
            co__rec_free(list ? co__list_remove(list, own_id(kind, pb)) : NULL);
        }
    }
}

/* ---- reading the store ---- */

static void add_stray(struct coord *co, struct slice key)
{
    if (co->nstrays == co->strays_cap) {
        co->strays_cap = co->strays_cap ? co->strays_cap * 2 : 16;
        co->strays = xrealloc(co->strays, co->strays_cap * sizeof *co->strays);
    }
    co->strays[co->nstrays++] = meta_op_delete(arena_copy(co->load_ar, key));
}

static bool is_stray(struct coord *co, enum co_kind kind, const struct co_rec *rec)
{
    struct co_coll *c;

    if (kind == CO_ALIAS) {
        return !coll_of(co, ((const Elanus__Alias *)rec->pb)->collection_id);
    }
    if (kind == CO_DATABASE || kind == CO_USER || kind == CO_COLLECTION) {
        return false;
    }
    c = coll_of(co, owner_id(kind, rec->pb));
    if (!c) {
        return true;
    }
    if (kind == CO_SEGINDEX) {
        return !list_of(c, kind, rec->pb) || !co__list_get(&c->segs, rec->id);
    }
    return kind == CO_SEGMENT &&
           !co__list_get(&c->parts, ((const Elanus__Segment *)rec->pb)->partition_id);
}

static int load_item(struct coord *co, enum co_kind kind, const struct meta_item *item,
                     struct status *st)
{
    struct arena *ar = arena_new(0);
    struct co_rec *rec = NULL;
    struct slice key;
    int rc;

    rc = co__rec_new(kind, item->value, &rec, st);
    if (rc != 0) {
        st_context(st, "%.*s", SLICE_ARG(item->key));
        goto out;
    }
    rec->version = item->version;
    if (co__key(kind, rec->pb, ar, &key, st) != 0 || !slice_eq(key, item->key)) {
        FAIL(st, ST_CORRUPT, "%.*s holds the value of another key", SLICE_ARG(item->key));
    }
    if (kind == CO_COLLECTION && !((const Elanus__Collection *)rec->pb)->schema) {
        FAIL(st, ST_CORRUPT, "%.*s has no schema", SLICE_ARG(item->key));
    }
    if (is_stray(co, kind, rec)) {
        add_stray(co, item->key);
    } else {
        co__apply_put(co, kind, TAKE(rec));
    }
out:
    co__rec_free(rec);
    arena_free(ar);
    return rc;
}

static int load_kind(struct coord *co, enum co_kind kind, struct status *st)
{
    struct arena *ar = arena_new(0);
    struct meta_range range = { .prefix = co__kind_prefix(kind) };
    struct meta_list list = { 0 };
    char *last = NULL;
    int rc = 0;

    do {
        arena_reset(ar);
        list = (struct meta_list){ 0 };
        TRY(meta_list(co->opts.meta, &range, ar, &list, st));
        for (size_t i = 0; i < list.n; i++) {
            TRY(load_item(co, kind, &list.items[i], st));
        }
        if (list.n > 0) {
            mem_free(last);
            last = xstrndup(list.items[list.n - 1].key.p, list.items[list.n - 1].key.n);
            range.start_after = slice_of(last);
        }
    } while (list.more && list.n > 0);
out:
    mem_free(last);
    arena_free(ar);
    return rc;
}

int co__load_all(struct coord *co, struct status *st)
{
    int rc = 0;

    /* The enumeration's order puts owners before what they own. */
    for (int k = 0; k < CO_KINDS; k++) {
        TRY(load_kind(co, (enum co_kind)k, st));
    }
out:
    return rc;
}

int co__purge_strays(struct coord *co, struct status *st)
{
    int rc = 0;

    for (size_t i = 0; i < co->nstrays; i += META_TXN_OPS_MAX) {
        size_t n = MIN((size_t)META_TXN_OPS_MAX, co->nstrays - i);
        TRY(meta_txn(co->opts.meta, NULL, 0, &co->strays[i], n, NULL, st));
    }
    co->nstrays = 0;
out:
    return rc;
}

static void free_rec(void *rec)
{
    co__rec_free(rec);
}

void co__tables_free(struct coord *co)
{
    size_t pos = 0;
    int64_t id;
    uint64_t v;

    while (co->colls && id_map_next(co->colls, &pos, &id, &v)) {
        coll_free(co, (struct co_coll *)(uintptr_t)v);
    }
    id_map_free(co->colls);
    str_map_free(co->names, NULL);
    str_map_free(co->vchannels, NULL);
    str_map_free(co->dbs, free_rec);
    str_map_free(co->users, free_rec);
    str_map_free(co->aliases, free_rec);
}

/* ---- looking up ---- */

const char *co__db(const char *db_name)
{
    return db_name[0] ? db_name : CO_DEFAULT_DB;
}

int co__find_db(struct coord *co, const char *db, const Elanus__Database **ret, struct status *st)
{
    struct co_rec *rec = str_map_get(co->dbs, slice_of(co__db(db)));

    if (!rec) {
        return st_fail(st, ERR_DATABASE_NOT_FOUND, "database not found[database=%s]", co__db(db));
    }
    *ret = rec->pb;
    return 0;
}

struct co_coll *co__lookup(struct coord *co, const char *db, const char *name)
{
    struct arena *ar = arena_new(0);
    struct slice key = co__name_key(co__db(db), name, ar);
    struct co_coll *c = str_map_get(co->names, key);

    if (!c) {
        struct co_rec *alias = str_map_get(co->aliases, key);
        if (alias) {
            c = co__by_id(co, ((const Elanus__Alias *)alias->pb)->collection_id);
        }
    }
    arena_free(ar);
    return c;
}

int co__find(struct coord *co, const char *db, const char *name, struct co_coll **ret,
             struct status *st)
{
    const Elanus__Database *unused;
    struct co_coll *c;
    int rc = 0;

    TRY(co__find_db(co, db, &unused, st));
    c = co__lookup(co, db, name);
    if (!c) {
        FAIL(st, ERR_COLLECTION_NOT_FOUND, "collection not found[database=%s][collection=%s]",
             co__db(db), name);
    }
    *ret = c;
out:
    return rc;
}

struct co_coll *co__by_id(struct coord *co, int64_t id)
{
    struct co_coll *c = coll_of(co, id);
    return c && co__pb(c)->state == ELANUS__COLLECTION_STATE__COLLECTION_CREATED ? c : NULL;
}

const Elanus__Partition *co__part(const struct co_coll *c, const char *name)
{
    for (size_t i = 0; i < c->parts.n; i++) {
        const Elanus__Partition *p = c->parts.v[i]->pb;
        if (strcmp(p->name, name) == 0) {
            return p;
        }
    }
    return NULL;
}

int co__part_ids(const struct co_coll *c, const char *const *names, size_t n, struct arena *ar,
                 int64_t **ret, struct status *st)
{
    int64_t *ids = arena_try_array(ar, n + 1, sizeof *ids);
    int rc = 0;

    if (!ids) {
        FAIL(st, ST_NO_MEMORY, "no memory for %zu partitions", n);
    }
    for (size_t i = 0; i < n; i++) {
        const Elanus__Partition *p = co__part(c, names[i]);
        if (!p) {
            FAIL(st, ERR_PARTITION_NOT_FOUND, "partition not found[partition=%s]", names[i]);
        }
        ids[i] = p->id;
    }
    *ret = ids;
out:
    return rc;
}

const pb_field *co__field(const struct co_coll *c, const char *name)
{
    const pb_schema *s = co__pb(c)->schema;

    for (size_t i = 0; i < s->n_fields; i++) {
        if (strcmp(s->fields[i]->name, name) == 0) {
            return s->fields[i];
        }
    }
    for (size_t i = 0; i < s->n_struct_array_fields; i++) {
        const Milvus__Proto__Schema__StructArrayFieldSchema *sa = s->struct_array_fields[i];
        for (size_t j = 0; j < sa->n_fields; j++) {
            if (strcmp(sa->fields[j]->name, name) == 0) {
                return sa->fields[j];
            }
        }
    }
    return NULL;
}

bool co__field_is_vector(const pb_field *f)
{
    return f->data_type >= MILVUS__PROTO__SCHEMA__DATA_TYPE__BinaryVector &&
           f->data_type < MILVUS__PROTO__SCHEMA__DATA_TYPE__ArrayOfStruct;
}

bool co__load_has(const Elanus__Load *load, int64_t partition_id)
{
    if (!load || load->status == ELANUS__LOAD_STATUS__LOAD_NONE) {
        return false;
    }
    for (size_t i = 0; i < load->n_partition_ids; i++) {
        if (load->partition_ids[i] == partition_id) {
            return true;
        }
    }
    return load->whole;
}

const Elanus__Load *co__load_target(const struct co_coll *c)
{
    return c->loading.target ? c->loading.target : c->load ? c->load->pb : NULL;
}
