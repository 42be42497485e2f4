/*
 * co_query.c - load and release: what is to be readable, decided here and carried out by shards.
 *
 * LOAD      checks, places the segments, tells every shard, and only then stores the new state: a
 *           crash in the middle leaves the collection as it was. While it runs, `loading.target`
 *           is what load_state(), describe and place_segments() go by. A failure puts back what
 *           was.
 * RELEASE   stores first, then tells: what is stored is what the next start loads.
 * LOCKS     Both run with the collection busy and ddl let go, since loading takes as long as it
 *           takes to open the files.
 */
#include "coord/co_int.h"

#define LOG_ROOM "coord"
#include "base/log.h"

/* ---- checks ---- */

static const char *join(const char *text, const char *name, struct arena *ar)
{
    return arena_printf(ar, "%s%s%s", text, text[0] ? " " : "", name);
}

static bool in_ids(const int64_t *ids, size_t n, int64_t id)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] == id) {
            return true;
        }
    }
    return false;
}

static bool is_indexed(const struct co_coll *c, int64_t field_id)
{
    for (size_t i = 0; i < c->indexes.n; i++) {
        if (((const Elanus__Index *)c->indexes.v[i]->pb)->field_id == field_id) {
            return true;
        }
    }
    return false;
}

static void missing_in(const struct co_coll *c, pb_field *const *fields, size_t n,
                       const Elanus__Load *load, const char **list, struct arena *ar)
{
    for (size_t i = 0; i < n; i++) {
        const pb_field *f = fields[i];
        if (co__field_is_vector(f) && !is_indexed(c, f->fieldid) &&
            (load->n_field_ids == 0 || in_ids(load->field_ids, load->n_field_ids, f->fieldid))) {
            *list = join(*list, f->name, ar);
        }
    }
}

static int check_indexes(const struct co_coll *c, const Elanus__Load *load, struct arena *ar,
                         struct status *st)
{
    const pb_schema *s = co__pb(c)->schema;
    const char *list = "";

    missing_in(c, s->fields, s->n_fields, load, &list, ar);
    for (size_t i = 0; i < s->n_struct_array_fields; i++) {
        missing_in(c, s->struct_array_fields[i]->fields, s->struct_array_fields[i]->n_fields, load,
                   &list, ar);
    }
    if (list[0]) {
        return st_fail(st, ERR_PARAMETER_INVALID,
                       "there is no vector index on field: [%s], please create index firstly",
                       list);
    }
    return 0;
}

static int resolve_fields(const struct co_coll *c, const Elanus__LoadReq *req, Elanus__Load *load,
                          struct arena *ar, struct status *st)
{
    const pb_schema *s = co__pb(c)->schema;
    const char *given = "";
    bool vector = false;
    int rc = 0;

    if (req->n_field_names == 0) {
        goto out;
    }
    load->field_ids = arena_alloc(ar, (req->n_field_names + 1) * sizeof(int64_t));
    for (size_t i = 0; i < req->n_field_names; i++) {
        const pb_field *f = co__field(c, req->field_names[i]);
        if (!f) {
            FAIL(st, ERR_FIELD_NOT_FOUND, "field not found[field=%s]", req->field_names[i]);
        }
        vector |= co__field_is_vector(f);
        given = join(given, f->name, ar);
        if (!in_ids(load->field_ids, load->n_field_ids, f->fieldid)) {
            load->field_ids[load->n_field_ids++] = f->fieldid;
        }
    }
    for (size_t i = 0; i < s->n_fields; i++) {
        const pb_field *f = s->fields[i];
        const char *what = f->is_primary_key      ? "primary key"
                           : f->is_partition_key  ? "partition key"
                           : f->is_clustering_key ? "clustering key"
                                                  : NULL;
        if (what && !in_ids(load->field_ids, load->n_field_ids, f->fieldid)) {
            FAIL(st, ERR_PARAMETER_INVALID, "load field list [%s] does not contain %s field %s",
                 given, what, f->name);
        }
    }
    if (!vector) {
        FAIL(st, ERR_PARAMETER_INVALID, "load field list [%s] does not contain vector field",
             given);
    }
out:
    return rc;
}

static bool same_fields(const Elanus__Load *a, const Elanus__Load *b)
{
    for (size_t i = 0; i < a->n_field_ids; i++) {
        if (!in_ids(b->field_ids, b->n_field_ids, a->field_ids[i])) {
            return false;
        }
    }
    return a->n_field_ids == b->n_field_ids;
}

static int check_against_old(const Elanus__Load *old, const Elanus__Load *load, bool fields_given,
                             struct status *st)
{
    if (old->replica_number != load->replica_number) {
        return st_fail(st, ERR_PARAMETER_INVALID,
                       "can't change the replica number for loaded collection: invalid "
                       "parameter[expected=%d][actual=%d]",
                       old->replica_number, load->replica_number);
    }
    if (fields_given && !same_fields(old, load)) {
        return st_fail(st, ERR_PARAMETER_INVALID,
                       "can't change the load field list for loaded collection");
    }
    return 0;
}

static int check_nodes(struct coord *co, const Elanus__Load *load, struct arena *ar,
                       struct status *st)
{
    int64_t *ids = arena_alloc(ar, CO_NODES_MAX * sizeof *ids);
    size_t n;

    rwlock_read(&co->state);
    n = co__nodes(co, CO_QUERY, ids);
    rwlock_release(&co->state);
    if (load->replica_number < 0 || (size_t)load->replica_number > n) {
        return st_fail(st, ST_UNAVAILABLE,
                       "service resource insufficient[currentQueryNode=%zu][expected=%d]", n,
                       load->replica_number);
    }
    return 0;
}

/* ---- load ---- */

/* What will be loaded after the request; *ret_done: it is already. */
static int plan_load(struct coord *co, const struct call *call, const struct co_coll *c,
                     const Elanus__LoadReq *req, Elanus__Load *load, bool *ret_done,
                     struct status *st)
{
    const Elanus__Load *old = c->load ? c->load->pb : NULL;
    int64_t *asked;
    size_t n = req->n_partition_names;
    int rc = 0;

    elanus__load__init(load);
    *ret_done = false;
    load->collection_id = c->id;
    load->status = ELANUS__LOAD_STATUS__LOAD_LOADED;
    load->replica_number = req->replica_number ? req->replica_number
                                               : old ? old->replica_number : 1;
    load->params = req->params;
    load->n_params = req->n_params;
    TRY(co__part_ids(c, (const char *const *)req->partition_names, n, call->ar, &asked, st));
    TRY(resolve_fields(c, req, load, call->ar, st));
    TRY(check_indexes(c, load, call->ar, st));
    load->whole = n == 0 || (old && old->whole);
    load->partition_ids = arena_alloc(call->ar, (c->parts.n + 1) * sizeof(int64_t));
    for (size_t i = 0; i < c->parts.n; i++) {
        int64_t id = c->parts.v[i]->id;
        if (load->whole || in_ids(asked, n, id) || co__load_has(old, id)) {
            load->partition_ids[load->n_partition_ids++] = id;
        }
    }
    if (old) {
        TRY(check_against_old(old, load, req->n_field_names > 0, st));
        load->field_ids = old->field_ids;
        load->n_field_ids = old->n_field_ids;
        load->created_ts = old->created_ts;
        *ret_done = old->whole || (!load->whole && old->n_partition_ids == load->n_partition_ids);
    } else {
        TRY(check_nodes(co, load, call->ar, st));
        TRY(co__ts(co, 1, call->deadline_us, &load->created_ts, st));
    }
out:
    return rc;
}

static void set_loading(struct coord *co, struct co_coll *c, const Elanus__Load *target)
{
    rwlock_write(&co->state);
    c->loading = (struct co_loading){ .target = target, .nshards = c->shards.n };
    rwlock_release(&co->state);
}

/* Puts shards and placements back to what is stored. */
static void undo_load(struct coord *co, const struct call *call, struct co_coll *c)
{
    const Elanus__Load *old = c->load ? c->load->pb : NULL;
    struct status st = STATUS_INIT;
    int64_t *ids;
    size_t n;

    if (co__send_load(co, call, c, old, &st) != 0) {
        LOG_W("shard keeps part of a failed load: coll=%" PRId64 " error=\"%s\"", c->id, st.msg);
    }
    co__unplace(co, c, old, call->ar, &ids, &n);
    if (n > 0 || !old) {
        co__send_release(co, call, c->id, old ? ids : NULL, old ? n : 0);
    }
}

int co__query_load(void *self, const struct call *call, const Elanus__LoadReq *req,
                   Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    Elanus__Load load;
    struct co_coll *c;
    struct co_notice no;
    struct co_txn tx;
    bool done;
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    co__txn_init(&tx, co, call->ar);
    TRY(co__ddl_coll(co, req->db_name, req->collection_name, &c, st));
    TRY(plan_load(co, call, c, req, &load, &done, st));
    if (done) {
        goto out;
    }
    co__notice(&no, c);
    set_loading(co, c, &load);
    co__busy_begin(co, c);
    rc = co__send_load(co, call, c, &load, st);
    if (rc == 0) { /* whoever loads expects its indexes */
        co__send_refresh(co, call, c->id, NULL, 0, true);
    }
    co__busy_end(co, c);
    if (rc == 0) {
        co__put(&tx, CO_LOAD, &load);
        rc = co__commit(&tx, st);
    }
    set_loading(co, c, NULL);
    if (rc != 0) {
        undo_load(co, call, c);
        goto out;
    }
    LOG_I("collection loaded: coll=%" PRId64 " whole=%d partitions=%zu", c->id, load.whole,
          load.n_partition_ids);
    co__work_wake(co); /* its segments come first now */
out:
    co__txn_done(&tx);
    co__ddl_end(co, &no);
    return rc;
}

/* ---- release ---- */

/* What stays; NULL in *ret_rest: nothing. false: nothing changes. */
static bool plan_release(const struct co_coll *c, const int64_t *ids, size_t n, struct arena *ar,
                         Elanus__Load **ret_rest)
{
    const Elanus__Load *old = c->load ? c->load->pb : NULL;
    Elanus__Load *rest = ARENA_NEW(ar, Elanus__Load);
    bool changed = false;

    *ret_rest = NULL;
    if (!old || n == 0) {
        return old != NULL;
    }
    *rest = *old;
    rest->whole = false;
    rest->partition_ids = arena_alloc(ar, (c->parts.n + 1) * sizeof(int64_t));
    rest->n_partition_ids = 0;
    for (size_t i = 0; i < c->parts.n; i++) {
        int64_t id = c->parts.v[i]->id;
        if (!co__load_has(old, id)) {
            continue;
        }
        if (in_ids(ids, n, id)) {
            changed = true;
        } else {
            rest->partition_ids[rest->n_partition_ids++] = id;
        }
    }
    *ret_rest = rest->n_partition_ids > 0 ? rest : NULL;
    return changed;
}

int co__query_release(void *self, const struct call *call, const Elanus__ReleaseReq *req,
                      Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    Elanus__Load *rest;
    struct co_coll *c;
    struct co_notice no;
    struct co_txn tx;
    int64_t *asked, *gone;
    size_t ngone;
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    co__txn_init(&tx, co, call->ar);
    TRY(co__ddl_coll(co, req->db_name, req->collection_name, &c, st));
    TRY(co__part_ids(c, (const char *const *)req->partition_names, req->n_partition_names,
                     call->ar, &asked, st));
    if (!plan_release(c, asked, req->n_partition_names, call->ar, &rest)) {
        goto out;
    }
    co__notice(&no, c);
    if (rest) {
        co__put(&tx, CO_LOAD, rest);
    } else {
        co__delete(&tx, CO_LOAD, c->load->pb);
    }
    TRY(co__commit(&tx, st));
    co__busy_begin(co, c);
    rc = co__send_load(co, call, c, rest, st);
    co__unplace(co, c, rest, call->ar, &gone, &ngone);
    if (!rest) {
        co__send_release(co, call, c->id, NULL, 0);
    } else if (ngone > 0) {
        co__send_release(co, call, c->id, gone, ngone);
    }
    co__busy_end(co, c);
out:
    co__txn_done(&tx);
    co__ddl_end(co, &no);
    return rc;
}

/* ---- load state ---- */

static bool all_loaded(const Elanus__Load *load, const struct co_coll *c, const int64_t *ids,
                       size_t n)
{
    if (!load) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        if (!co__load_has(load, ids[i])) {
            return false;
        }
    }
    return n > 0 || c->parts.n > 0;
}

int co__query_load_state(void *self, const struct call *call, const Elanus__LoadStateReq *req,
                         Elanus__LoadStateResp *resp, struct status *st)
{
    struct coord *co = self;
    const Elanus__Database *db;
    struct co_coll *c;
    int64_t *ids;
    size_t n = req->n_partition_names;
    int rc = 0;

    rwlock_read(&co->state);
    resp->state = MILVUS__PROTO__COMMON__LOAD_STATE__LoadStateNotExist;
    TRY(co__find_db(co, req->db_name, &db, st));
    c = co__lookup(co, db->name, req->collection_name);
    if (!c) {
        goto out;
    }
    TRY(co__part_ids(c, (const char *const *)req->partition_names, n, call->ar, &ids, st));
    if (all_loaded(c->load ? c->load->pb : NULL, c, ids, n) && !(n == 0 && c->loading.target)) {
        resp->state = MILVUS__PROTO__COMMON__LOAD_STATE__LoadStateLoaded;
        resp->progress = 100;
    } else if (all_loaded(c->loading.target, c, ids, n)) {
        size_t total = MAX(c->loading.nshards, 1u);
        resp->state = MILVUS__PROTO__COMMON__LOAD_STATE__LoadStateLoading;
        resp->progress = (int64_t)MIN(c->loading.shards_done * 100 / total, (size_t)99);
    } else {
        resp->state = MILVUS__PROTO__COMMON__LOAD_STATE__LoadStateNotLoad;
    }
out:
    rwlock_release(&co->state);
    return rc;
}
