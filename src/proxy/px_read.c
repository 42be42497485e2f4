/*
 * px_read.c - fan-out over the shards of a collection and merging of their answers.
 *
 * WHAT      One shard, the usual case, is passed through. More are merged by query/reduce.h.
 * THREADS   A worker of the read class.
 */
#include "proxy/px_read.h"
#include "base/json.h"
#include "proxy/px_write.h"
#include "schema/field_data.h"

static int no_memory(struct status *st)
{
    return st_fail(st, ERR_PARAMETER_TOO_LARGE, "the answer needs more memory than a request may "
                   "use: ask for less at a time");
}

static int decode(struct px_call *pc, const ProtobufCBinaryData *bytes, struct batch *ret,
                  struct status *st)
{
    if (bytes->len == 0) {
        *ret = (struct batch){ 0 };
        return 0;
    }
    return batch_decode(slice_n(bytes->data, bytes->len), pc->ar, ret, st);
}

hts *px_snapshot(struct px_call *pc, const struct px_coll *coll)
{
    return arena_try_array(pc->ar, coll->pb->n_vchannels + 1, sizeof(hts));
}

/* What is left of a request's limit on its answer. */
struct room {
    int64_t left, max;             /* max 0: no limit */
    const char *what;
};

static struct room room_of(const struct px_call *pc, const char *what)
{
    int64_t max = pc->px->lim.max_output_bytes;

    return (struct room){ .left = max, .max = max, .what = what };
}

static int take_room(struct room *r, size_t bytes, struct status *st)
{
    r->left -= (int64_t)bytes;
    if (r->max > 0 && r->left < 0) {
        return st_fail(st, ERR_PARAMETER_TOO_LARGE, "%s results exceed the maxOutputSize Limit "
                       "%lld: narrow the filter, name fewer output_fields or set a lower "
                       "limit", r->what,
                       (long long)r->max);
    }
    return 0;
}

/* ---- search ---- */

struct shard_hits {
    Elanus__SearchResp resp;
    struct batch pks, fields;
    size_t first;
};

static int check_hits(const struct shard_hits *s, uint32_t nq, size_t nfields, struct status *st)
{
    size_t total = 0;
    for (size_t q = 0; q < s->resp.n_counts; q++) {
        total += s->resp.counts[q];
    }
    if (s->resp.n_counts != nq || total != s->resp.n_scores || s->pks.nrows != total ||
        (total && nfields && (s->fields.nrows != total || s->fields.ncols != nfields))) {
        return st_fail(st, ST_INTERNAL, "a shard's answer does not fit the request");
    }
    return 0;
}

static int merge_hits(struct px_call *pc, struct shard_hits *sh, size_t n, uint32_t nq, uint32_t k,
                      bool ascending, size_t nfields, struct px_hits *ret, struct status *st)
{
    struct hit_list *lists = arena_try_array(pc->ar, n + 1, sizeof *lists);
    struct merged_hit *merged = arena_try_array(pc->ar, k + 1u, sizeof *merged);
    struct column_builder **cbs = arena_try_array(pc->ar, nfields + 2, sizeof *cbs);
    struct column *cols = arena_try_array(pc->ar, nfields + 1, sizeof *cols);
    struct arena *scratch = arena_new(0);
    struct room room = room_of(pc, "search");
    size_t most = 0, model = 0;
    uint32_t dups;
    int rc = 0;

    for (size_t i = 0; i < n; i++) {
        most += sh[i].resp.n_scores;
        model = sh[i].resp.n_scores ? i : model;
    }
    ret->counts = arena_try_array(pc->ar, nq + 1u, sizeof *ret->counts);
    ret->scores = arena_try_array(pc->ar, most + 1, sizeof *ret->scores);
    if (!lists || !merged || !cbs || !cols || !ret->counts || !ret->scores) {
        rc = no_memory(st);
        goto out;
    }
    if (most == 0) {
        goto out;
    }
    most = MIN(most, (size_t)nq * k);
    for (size_t f = 0; f <= nfields; f++) {
        const struct column *c = f ? &sh[model].fields.cols[f - 1] : &sh[model].pks.cols[0];
        cbs[f] = column_builder_new(pc->ar, c->field_id, c->type, c->elem, c->dim, (uint32_t)most);
    }
    for (uint32_t q = 0; q < nq; q++) {
        for (size_t i = 0; i < n; i++) {
            lists[i] = (struct hit_list){ .n = sh[i].resp.counts[q],
                                          .scores = sh[i].resp.scores + sh[i].first,
                                          .pks = sh[i].pks.ncols ? &sh[i].pks.cols[0] : NULL,
                                          .first_row = (uint32_t)sh[i].first };
            sh[i].first += sh[i].resp.counts[q];
        }
        arena_reset(scratch);
        ret->counts[q] = reduce_hits(lists, (uint32_t)n, ascending, 0, k, scratch, merged, &dups);
        for (uint32_t j = 0; j < ret->counts[q]; j++) {
            const struct shard_hits *s = &sh[merged[j].list];
            ret->scores[ret->total++] = merged[j].score;
            for (size_t f = 0; f <= nfields; f++) {
                const struct column *c = f ? &s->fields.cols[f - 1] : &s->pks.cols[0];
                TRY(take_room(&room, column_cell(c, merged[j].row).n, st));
                if (!column_builder_take(cbs[f], c, merged[j].row)) {
                    rc = no_memory(st);
                    goto out;
                }
            }
        }
    }
    column_builder_finish(cbs[0], &ret->pks);
    for (size_t f = 0; f < nfields; f++) {
        column_builder_finish(cbs[f + 1], &cols[f]);
    }
    ret->fields = (struct batch){ (uint32_t)ret->total, (uint32_t)nfields, cols };
out:
    arena_free(scratch);
    return rc;
}

static void add_work(Elanus__SearchWork *sum, const Elanus__SearchWork *w)
{
    if (w) {
        sum->strategies |= w->strategies;
        sum->distances += w->distances;
        sum->exact += w->exact;
        sum->hops += w->hops;
        sum->lists += w->lists;
        sum->bytes += w->bytes;
        sum->reads += w->reads;
        sum->fallbacks += w->fallbacks;
        sum->indexed_segments += w->indexed_segments;
        sum->other_segments += w->other_segments;
    }
}

int px_search_shards(struct px_call *pc, const struct px_coll *coll, Elanus__SearchReq *req,
                     hts *snapshot, struct px_hits *ret, struct status *st)
{
    const hts read_ts = req->read_ts;
    struct px_shard *shards;
    struct shard_hits *sh;
    size_t n;
    int rc;

    *ret = (struct px_hits){ .nq = req->nq };
    TRY(px_shards(pc, coll, &shards, &n, st));
    sh = arena_try_array(pc->ar, n + 1, sizeof *sh);
    if (!sh) {
        return no_memory(st);
    }
    for (size_t i = 0; i < n; i++) {
        int asked = 0;
        req->vchannel = shards[i].vchannel;
        req->read_ts = snapshot && snapshot[i] ? snapshot[i] : read_ts;
        do {
            elanus__search_resp__init(&sh[i].resp);
            rc = shards[i].sn->search(shards[i].sn->self, &pc->call, req, &sh[i].resp, st);
        } while (px_shard_behind(pc, &asked, rc, st));
        req->read_ts = read_ts;
        if (rc == ST_NO_MEMORY && req->n_output_field_ids) {
            FAIL(st, ERR_PARAMETER_TOO_LARGE, "search results with their output_fields need more "
                 "memory than a request may use (maxOutputSize Limit %lld): ask for fewer hits, "
                 "queries or fields at a time", (long long)pc->px->lim.max_output_bytes);
        }
        if (rc != 0) {
            px_shard_failed(pc, coll, st);
            goto out;
        }
        if (snapshot) {
            snapshot[i] = sh[i].resp.read_ts;
        }
        TRY(decode(pc, &sh[i].resp.pks, &sh[i].pks, st));
        TRY(decode(pc, &sh[i].resp.fields, &sh[i].fields, st));
        TRY(check_hits(&sh[i], req->nq, req->n_output_field_ids, st));
        ret->read_ts = MAX(ret->read_ts, (hts)sh[i].resp.read_ts);
        add_work(&ret->work, sh[i].resp.work);
    }
    if (n == 1) {
        struct room room = room_of(pc, "search");
        TRY(take_room(&room, sh[0].resp.fields.len, st));
        ret->counts = sh[0].resp.counts;
        ret->total = sh[0].resp.n_scores;
        ret->scores = sh[0].resp.scores;
        ret->fields = sh[0].fields;
        if (sh[0].pks.ncols) {
            ret->pks = sh[0].pks.cols[0];
        }
    } else {
        TRY(merge_hits(pc, sh, n, req->nq, req->k, !px_metric_descends(req->metric),
                       req->n_output_field_ids, ret, st));
    }
out:
    return rc;
}

/* ---- query ---- */

static int merge_rows(struct px_call *pc, const struct batch *parts, Elanus__QueryResp *resps,
                      size_t n, const Elanus__QueryReq *req, struct px_rows *ret,
                      struct status *st)
{
    const int64_t limit = req->limit;
    struct room room = { .left = req->max_bytes, .max = req->max_bytes, .what = "query" };
    struct row_list *lists = arena_try_array(pc->ar, n + 1, sizeof *lists);
    uint32_t most = limit < 0 || limit > UINT32_MAX ? UINT32_MAX : (uint32_t)limit, nkeep;
    struct merged_row *keep;
    struct column *cols;
    size_t total = 0, model = 0;

    if (!lists) {
        return no_memory(st);
    }
    for (size_t i = 0; i < n; i++) {
        if (parts[i].nrows != resps[i].n_timestamps) {
            return st_fail(st, ST_INTERNAL, "a shard's answer does not fit the request");
        }
        lists[i] = (struct row_list){ .n = parts[i].nrows,
                                      .pks = parts[i].ncols ? &parts[i].cols[0] : NULL,
                                      .timestamps = resps[i].timestamps };
        total += parts[i].nrows;
        model = parts[i].ncols ? i : model;
    }
    keep = arena_try_array(pc->ar, MIN(total, (size_t)most) + 1, sizeof *keep);
    cols = arena_try_array(pc->ar, parts[model].ncols + 1u, sizeof *cols);
    if (!keep || !cols) {
        return no_memory(st);
    }
    nkeep = reduce_rows(lists, (uint32_t)n, 0, most, pc->ar, keep);
    for (uint32_t c = 0; c < parts[model].ncols; c++) {
        const struct column *m = &parts[model].cols[c];
        struct column_builder *cb =
            column_builder_new(pc->ar, m->field_id, m->type, m->elem, m->dim, nkeep);
        for (uint32_t i = 0; i < nkeep; i++) {
            const struct column *from = &parts[keep[i].list].cols[c];
            int rc = take_room(&room, column_cell(from, keep[i].row).n, st);
            if (rc != 0) {
                return rc;
            }
            if (!column_builder_take(cb, from, keep[i].row)) {
                return no_memory(st);
            }
        }
        column_builder_finish(cb, &cols[c]);
    }
    ret->rows = (struct batch){ nkeep, parts[model].ncols, cols };
    return 0;
}

/* Which shards can have rows of the plan; all of them when it names no keys. */
static int shards_of_plan(struct px_call *pc, const struct px_coll *coll, const struct expr *plan,
                          size_t n, bool **ret, struct status *st)
{
    bool exact, *wanted = arena_try_array(pc->ar, n + 1, sizeof *wanted);
    const struct field *pk = coll->schema->pk;
    const struct value *list = n > 1 ? plan_pk_list(plan, pk->id, &exact) : NULL;
    struct column keys = { 0 };
    int rc = 0;

    if (!wanted) {
        return no_memory(st);
    }
    if (list && list->a.n) {
        TRY(px_plan_column(pc, pk, list, &keys, st));
    }
    for (size_t i = 0; i < n && keys.nrows == 0; i++) {
        wanted[i] = true;
    }
    for (uint32_t r = 0; r < keys.nrows; r++) {
        wanted[px_shard_of(&keys, r, n)] = true;
    }
    *ret = wanted;
out:
    return rc;
}

int px_query_shards(struct px_call *pc, const struct px_coll *coll, Elanus__QueryReq *req,
                    const struct expr *plan, hts *snapshot, struct px_rows *ret,
                    struct status *st)
{
    const hts read_ts = req->read_ts;
    bool *wanted = NULL;
    struct px_shard *shards;
    Elanus__QueryResp *resps;
    struct batch *parts;
    size_t n;
    int rc;

    *ret = (struct px_rows){ 0 };
    TRY(px_shards(pc, coll, &shards, &n, st));
    resps = arena_try_array(pc->ar, n + 1, sizeof *resps);
    parts = arena_try_array(pc->ar, n + 1, sizeof *parts);
    if (!resps || !parts) {
        return no_memory(st);
    }
    TRY(shards_of_plan(pc, coll, plan, n, &wanted, st));
    for (size_t i = 0; i < n; i++) {
        int asked = 0;
        elanus__query_resp__init(&resps[i]);
        if (!wanted[i]) {
            continue;
        }
        req->vchannel = shards[i].vchannel;
        req->read_ts = snapshot && snapshot[i] ? snapshot[i] : read_ts;
        do {
            elanus__query_resp__init(&resps[i]);
            rc = shards[i].sn->query(shards[i].sn->self, &pc->call, req, &resps[i], st);
        } while (px_shard_behind(pc, &asked, rc, st));
        req->read_ts = read_ts;
        if (rc != 0) {
            px_shard_failed(pc, coll, st);
            goto out;
        }
        if (snapshot) {
            snapshot[i] = resps[i].read_ts;
        }
        TRY(decode(pc, &resps[i].batch, &parts[i], st));
        ret->count += resps[i].count;
        ret->read_ts = MAX(ret->read_ts, (hts)resps[i].read_ts);
    }
    if (n == 1) {
        ret->rows = parts[0];
    } else if (!req->count_only) {
        TRY(merge_rows(pc, parts, resps, n, req, ret, st));
    }
out:
    return rc;
}

/* ---- answers ---- */

static bool wanted_key(const struct px_output *out, struct slice raw, bool escaped, char *scratch)
{
    if (escaped) {
        raw = slice_n(scratch, json_unescape(raw, scratch));
    }
    for (size_t i = 0; i < out->nkeys; i++) {
        if (slice_eq(out->keys[i], raw)) {
            return true;
        }
    }
    return false;
}

/* The members of the object `cell` that were asked for, as an object written to dst, which holds
 * as many bytes as the cell and two more; scratch holds as many as the cell. */
static struct slice project_cell(const struct px_output *out, struct slice cell, char *dst,
                                 char *scratch)
{
    struct json_value object, member;
    struct slice key;
    size_t n = 0, pos = 0;
    bool escaped;

    dst[n++] = '{';
    if (json_parse(cell, &object) && object.type == JSON_OBJECT) {
        while (json_next(&object, &pos, &key, &escaped, &member)) {
            if (!wanted_key(out, key, escaped, scratch)) {
                continue;
            }
            if (n > 1) {
                dst[n++] = ',';
            }
            dst[n++] = '"';
            memcpy(dst + n, key.p, key.n);
            n += key.n;
            dst[n++] = '"';
            dst[n++] = ':';
            memcpy(dst + n, member.raw.p, member.raw.n);
            n += member.raw.n;
        }
    }
    dst[n++] = '}';
    return slice_n(dst, n);
}

/* The dynamic field with no more than the keys that were asked for; rows NULL: all. */
static int project_dynamic(struct px_call *pc, const struct px_output *out, const struct column *c,
                           const uint32_t *rows, uint32_t n, const struct column **ret,
                           struct status *st)
{
    struct column *made = ARENA_NEW(pc->ar, struct column);
    struct column_builder *cb;
    size_t longest = 0;
    char *dst, *scratch;

    for (uint32_t i = 0; i < n; i++) {
        longest = MAX(longest, column_cell(c, rows ? rows[i] : i).n);
    }
    cb = column_builder_new(pc->ar, c->field_id, c->type, c->elem, c->dim, n);
    dst = arena_try_array(pc->ar, longest + 2, 1);
    scratch = arena_try_array(pc->ar, longest + 1, 1);
    if (!dst || !scratch) {
        return no_memory(st);
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t row = rows ? rows[i] : i;
        bool fits = column_is_null(c, row)
                        ? column_builder_null(cb)
                        : column_builder_add(cb, project_cell(out, column_cell(c, row), dst,
                                                              scratch));
        if (!fits) {
            return no_memory(st);
        }
    }
    column_builder_finish(cb, made);
    *ret = made;
    return 0;
}

int px_fill_fields(struct px_call *pc, const struct px_coll *coll, const struct px_output *out,
                   const struct batch *b, const uint32_t *rows, uint32_t n,
                   Milvus__Proto__Schema__FieldData ***ret, size_t *ret_n, struct status *st)
{
    Milvus__Proto__Schema__FieldData **fds =
        arena_try_array(pc->ar, out->nfields + 1, sizeof *fds);
    int rc = 0;

    if (!fds) {
        return no_memory(st);
    }
    for (size_t i = 0; i < out->nfields; i++) {
        const struct field *f = schema_field(coll->schema, out->field_ids[i]);
        const struct column *c = batch_column(b, out->field_ids[i]);
        const uint32_t *at = rows;
        struct column *none;
        if (!c) { /* no hits at all: an empty column of the right kind */
            none = ARENA_NEW(pc->ar, struct column);
            column_builder_finish(column_builder_new(pc->ar, f->id, f->type, f->elem, f->dim, 0),
                                  none);
            c = none;
        }
        if (f->is_dynamic && out->nkeys && c->nrows) {
            TRY(project_dynamic(pc, out, c, rows, n, &c, st));
            at = NULL;
        }
        fds[i] = field_data_from_column(f, c, c->nrows ? at : NULL, n, pc->ar);
        if (!fds[i]) {
            rc = no_memory(st);
            goto out;
        }
    }
    *ret = fds;
    *ret_n = out->nfields;
out:
    return rc;
}
