/*
 * co_data_index.c - index definitions: create, drop, alter, describe; which files there are.
 *
 * One index a field, except JSON fields: one for each path. A definition is all that is stored when
 * an index is created: co_build.c sees to the files. What describe tells is counted anew each time:
 * rows of a segment are indexed when its file is there or it needs none.
 */
#include "coord/co_int.h"

#define LOG_ROOM "coord"
#include "base/log.h"

static bool same_pairs(size_t n, pb_kv *const *a, size_t m, pb_kv *const *b)
{
    if (n != m) {
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const char *v = co__kv(b, m, a[i]->key);
        if (!v || strcmp(v, a[i]->value) != 0) {
            return false;
        }
    }
    return true;
}

/* The same as sent, or, one being a JSON text and the other not, the same as understood. */
static bool same_params(const Elanus__Index *idx, const Elanus__CreateIndexReq *req)
{
    return same_pairs(idx->n_user_params, idx->user_params, req->n_user_params,
                      req->user_params) ||
           same_pairs(idx->n_params, idx->params, req->n_params, req->params);
}

static bool other_json_path(const Elanus__Index *idx, const Elanus__CreateIndexReq *req)
{
    const char *a = co__kv(idx->params, idx->n_params, "json_path");
    const char *b = co__kv(req->params, req->n_params, "json_path");
    return a && b && strcmp(a, b) != 0;
}

/* *ret_same: the index is there already. */
static int check_others(const struct co_coll *c, const Elanus__CreateIndexReq *req,
                        int64_t field_id, bool *ret_same, struct status *st)
{
    *ret_same = false;
    for (size_t i = 0; i < c->indexes.n; i++) {
        const Elanus__Index *idx = c->indexes.v[i]->pb;
        if (strcmp(idx->name, req->index_name) == 0) {
            if (idx->field_id == field_id && same_params(idx, req)) {
                *ret_same = true;
                return 0;
            }
            return st_fail(st, ERR_PARAMETER_INVALID,
                           "CreateIndex failed: at most one distinct index is allowed per field");
        }
    }
    for (size_t i = 0; i < c->indexes.n; i++) {
        const Elanus__Index *idx = c->indexes.v[i]->pb;
        if (idx->field_id == field_id && !other_json_path(idx, req)) {
            return st_fail(st, ERR_PARAMETER_INVALID,
                           "CreateIndex failed: creating multiple indexes on same field is not "
                           "supported");
        }
    }
    return 0;
}

int co__data_create_index(void *self, const struct call *call, const Elanus__CreateIndexReq *req,
                          Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    const pb_field *f;
    Elanus__Index idx;
    struct co_coll *c;
    struct co_notice no;
    struct co_txn tx;
    bool same;
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    co__txn_init(&tx, co, call->ar);
    elanus__index__init(&idx);
    TRY(co__ddl_coll(co, req->db_name, req->collection_name, &c, st));
    f = co__field(c, req->field_name);
    if (!f) {
        FAIL(st, ERR_PARAMETER_INVALID, "cannot create index on non-exist field: %s",
             req->field_name);
    }
    TRY(check_others(c, req, f->fieldid, &same, st));
    if (same) {
        goto out;
    }
    TRY(co__id(co, 1, call->deadline_us, &idx.id, st));
    TRY(co__ts(co, 1, call->deadline_us, &idx.created_ts, st));
    idx.collection_id = c->id;
    idx.field_id = f->fieldid;
    idx.field_name = f->name;
    idx.name = req->index_name;
    idx.params = req->params;
    idx.n_params = req->n_params;
    idx.user_params = req->user_params;
    idx.n_user_params = req->n_user_params;
    co__put(&tx, CO_INDEX, &idx);
    co__notice(&no, c);
    TRY(co__commit(&tx, st));
    co__work_wake(co);
out:
    co__txn_done(&tx);
    co__ddl_end(co, &no);
    return rc;
}

static bool chosen(const Elanus__Index *idx, const char *field_name, const char *index_name)
{
    return (!index_name[0] || strcmp(idx->name, index_name) == 0) &&
           (!field_name[0] || strcmp(idx->field_name, field_name) == 0);
}

/* The files of an index, to be removed when the index is gone. Takes state. */
static size_t file_prefixes(struct coord *co, const struct co_rec *idx, const struct co_coll *c,
                            struct arena *ar, const char ***ret)
{
    size_t n = 0;

    rwlock_read(&co->state);
    *ret = arena_alloc(ar, (idx->files.n + 1) * sizeof **ret);
    for (size_t i = 0; i < idx->files.n; i++) {
        const struct co_rec *seg = co__list_get(&c->segs, idx->files.v[i]->id);
        if (seg) {
            (*ret)[n++] = co__index_prefix(seg->pb, idx->id, ar);
        }
    }
    rwlock_release(&co->state);
    return n;
}

int co__data_drop_index(void *self, const struct call *call, const Elanus__IndexReq *req,
                        Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    struct co_coll *c;
    struct co_notice no;
    struct co_txn tx;
    const char ***files = NULL;
    size_t *nfiles = NULL, n = 0;
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    co__txn_init(&tx, co, call->ar);
    TRY(co__ddl_coll(co, req->db_name, req->collection_name, &c, st));
    files = arena_alloc(call->ar, (c->indexes.n + 1) * sizeof *files);
    nfiles = arena_alloc(call->ar, (c->indexes.n + 1) * sizeof *nfiles);
    for (size_t i = 0; i < c->indexes.n; i++) {
        const Elanus__Index *idx = c->indexes.v[i]->pb;
        const pb_field *f;
        if (!chosen(idx, req->field_name, req->index_name)) {
            continue;
        }
        f = co__field(c, idx->field_name);
        if (c->load && f && co__field_is_vector(f)) {
            FAIL(st, ERR_PARAMETER_INVALID,
                 "index cannot be dropped, collection is loaded, please release it first");
        }
        co__delete(&tx, CO_INDEX, idx);
        co__raw(&tx, meta_op_delete_prefix(slice_of(arena_printf(
                         call->ar, "%.*s%020" PRId64 "/%020" PRId64 "/",
                         SLICE_ARG(co__kind_prefix(CO_SEGINDEX)), c->id, idx->id))));
        nfiles[n] = file_prefixes(co, c->indexes.v[i], c, call->ar, &files[n]);
        n++;
    }
    if (tx.n > 0) {
        co__notice(&no, c);
        TRY(co__commit(&tx, st));
        co__work_wake(co);
    }
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < nfiles[i]; j++) {
            co__gc_prefix(co, files[i][j]);
        }
    }
out:
    co__txn_done(&tx);
    co__ddl_end(co, &no);
    return rc;
}

static int index_not_found(const char *collection, const char *index, struct status *st)
{
    return index[0] ? st_fail(st, ERR_INDEX_NOT_FOUND, "index not found[indexName=%s]", index)
                    : st_fail(st, ERR_INDEX_NOT_FOUND, "index not found[collection=%s]",
                              collection);
}

int co__data_alter_index(void *self, const struct call *call, const Elanus__AlterIndexReq *req,
                         Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    struct co_coll *c;
    struct co_notice no;
    struct co_txn tx;
    int rc = 0;

    (void)resp;
    co__ddl_begin(co, &no, call->ar);
    co__txn_init(&tx, co, call->ar);
    if (req->n_params > 0 && req->n_delete_keys > 0) {
        FAIL(st, ERR_PARAMETER_INVALID, "can not provide properties and delete_keys at same time");
    }
    TRY(co__ddl_coll(co, req->db_name, req->collection_name, &c, st));
    if (c->load) {
        FAIL(st, ERR_COLLECTION_LOADED,
             "can't alter index on loaded collection, please release the collection first: "
             "collection already loaded[collection=%s]", req->collection_name);
    }
    for (size_t i = 0; i < c->indexes.n; i++) {
        Elanus__Index idx = *(const Elanus__Index *)c->indexes.v[i]->pb;
        if (!chosen(&idx, "", req->index_name)) {
            continue;
        }
        co__kv_merge(idx.params, idx.n_params, req->params, req->n_params, req->delete_keys,
                     req->n_delete_keys, call->ar, &idx.params, &idx.n_params);
        co__kv_merge(idx.user_params, idx.n_user_params, req->params, req->n_params,
                     req->delete_keys, req->n_delete_keys, call->ar, &idx.user_params,
                     &idx.n_user_params);
        co__put(&tx, CO_INDEX, &idx);
    }
    if (tx.n == 0 && tx.st.code == 0) {
        rc = index_not_found(req->collection_name, req->index_name, st);
        goto out;
    }
    co__notice(&no, c);
    TRY(co__commit(&tx, st));
out:
    co__txn_done(&tx);
    co__ddl_end(co, &no);
    return rc;
}

/* Holds: state */
static void progress(struct coord *co, const struct co_coll *c, const struct co_rec *idx,
                     struct arena *ar, Elanus__IndexStatus *ret)
{
    for (size_t i = 0; i < c->segs.n; i++) {
        const Elanus__Segment *seg = c->segs.v[i]->pb;
        ret->total_rows += seg->num_rows;
        if (co__list_get(&idx->files, seg->id) || !co__index_wants_file(co, c, idx->pb, seg)) {
            ret->indexed_rows += seg->num_rows;
        } else if (!ret->failure[0]) {
            const char *why = co__build_failure(co, idx->id, seg->id, ar);
            ret->failure = why ? why : "";
        }
    }
}

int co__data_describe_index(void *self, const struct call *call, const Elanus__IndexReq *req,
                            Elanus__IndexList *resp, struct status *st)
{
    struct coord *co = self;
    struct co_coll *c;
    int rc = 0;

    rwlock_read(&co->state);
    TRY(co__find(co, req->db_name, req->collection_name, &c, st));
    resp->indexes = arena_alloc(call->ar, (c->indexes.n + 1) * sizeof(Elanus__IndexStatus *));
    for (size_t i = 0; i < c->indexes.n; i++) {
        const Elanus__Index *idx = c->indexes.v[i]->pb;
        Elanus__IndexStatus *is;
        if (!chosen(idx, req->field_name, req->index_name)) {
            continue;
        }
        is = ARENA_NEW(call->ar, Elanus__IndexStatus);
        elanus__index_status__init(is);
        is->index = co__copy(&idx->pb, call->ar);
        progress(co, c, c->indexes.v[i], call->ar, is);
        resp->indexes[resp->n_indexes++] = is;
    }
    if (resp->n_indexes == 0) {
        rc = index_not_found(req->collection_name, req->index_name, st);
    }
out:
    rwlock_release(&co->state);
    return rc;
}

/* ---- files ---- */

int co__data_segment_indexes(void *self, const struct call *call,
                             const Elanus__SegmentIndexesReq *req,
                             Elanus__SegmentIndexesResp *resp, struct status *st)
{
    struct coord *co = self;
    struct co_coll *c;
    size_t n = 0;
    int rc = 0;

    rwlock_read(&co->state);
    c = co__by_id(co, req->collection_id);
    if (!c) {
        FAIL(st, ERR_COLLECTION_NOT_FOUND, "collection not found[collection=%" PRId64 "]",
             req->collection_id);
    }
    for (size_t i = 0; i < c->indexes.n; i++) {
        n += c->indexes.v[i]->files.n;
    }
    resp->indexes = arena_alloc(call->ar, (c->indexes.n + 1) * sizeof(Elanus__Index *));
    resp->files = arena_alloc(call->ar, (n + 1) * sizeof(Elanus__SegmentIndex *));
    for (size_t i = 0; i < c->indexes.n; i++) {
        const struct co_rec *idx = c->indexes.v[i];
        if (idx->files.n > 0) {
            resp->indexes[resp->n_indexes++] = co__copy(idx->pb, call->ar);
        }
        for (size_t j = 0; j < idx->files.n; j++) {
            if (co__in_ids(req->segment_ids, req->n_segment_ids, idx->files.v[j]->id)) {
                resp->files[resp->n_files++] = co__copy(idx->files.v[j]->pb, call->ar);
            }
        }
    }
out:
    rwlock_release(&co->state);
    return rc;
}

/* The file's record goes, unless it names another file by now; then the file does. Counted before
 * the record is gone, so that nobody builds what is given up. */
static int refuse_file(struct coord *co, const Elanus__SegmentIndex *file, const char *reason,
                       struct arena *ar, struct status *st)
{
    const struct co_rec *idx, *rec, *seg;
    struct co_coll *c;
    struct co_txn tx;
    int rc = 0;

    co__txn_init(&tx, co, ar);
    lock_acquire(&co->commit);
    c = co__by_id(co, file->collection_id);
    idx = c ? co__list_get(&c->indexes, file->index_id) : NULL;
    rec = idx ? co__list_get(&idx->files, file->segment_id) : NULL;
    seg = c ? co__list_get(&c->segs, file->segment_id) : NULL;
    if (rec && seg && ((const Elanus__SegmentIndex *)rec->pb)->build_id == file->build_id) {
        const char *prefix = co__index_prefix(seg->pb, file->index_id, ar);
        int64_t pause = co__build_refused(co, c->id, idx->id, seg->id, reason);
        co__delete(&tx, CO_SEGINDEX, file);
        rc = co__commit_locked(&tx, st);
        co__build_refused_end(co, idx->id, seg->id, rc == 0);
        if (rc != 0) {
            goto out;
        }
        co__gc_prefix(co, arena_printf(ar, "%s%" PRId64 "/", prefix, file->build_id));
        LOG_W("index file refused, %s: coll=%" PRId64 " index=%s seg=%" PRId64 " key=%s pause_ms=%"
              PRId64 " error=\"%s\"",
              pause < 0 ? "given up until a node registers" : "segment is searched exactly until "
              "another is built", c->id, ((const Elanus__Index *)idx->pb)->name, seg->id,
              file->object_key, MAX(pause, (int64_t)0), reason);
    }
out:
    lock_release(&co->commit);
    co__txn_done(&tx);
    return rc;
}

int co__data_reject_index(void *self, const struct call *call, const Elanus__RejectIndexReq *req,
                          Elanus__Empty *resp, struct status *st)
{
    struct coord *co = self;
    int rc = 0;

    (void)resp;
    if (!req->file) {
        FAIL(st, ST_INVALID, "reject_index without a file");
    }
    TRY(refuse_file(co, req->file, req->reason, call->ar, st));
    co__work_wake(co);
out:
    return rc;
}
