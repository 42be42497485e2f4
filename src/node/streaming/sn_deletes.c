/*
 * sn_deletes.c - deletes of one shard that stand in no delete file yet.
 *
 * WHAT      Keys, timestamps and log positions in order of arrival. A delete may be limited to some
 *           partitions (an upsert into a named one is): its scope, of which a shard has few, kept
 *           once each. Files and messages hold deletes of one scope.
 * THREADS   Sequencer.
 * MEMORY    Keys in one arena, replaced when a flush trims the list; counted in sn->growing_bytes.
 */
#include "node/streaming/sn_int.h"
#include "base/alloc.h"

#define DELETES_MEMORY_MAX ((size_t)4 << 30)
/* Key and bookkeeping of one delete, next to the key's bytes. */
#define DELETE_OVERHEAD (sizeof(struct slice) + sizeof(struct sn_delete_at))

bool sn__scope_has(const struct sn_scope *s, int64_t partition_id)
{
    for (size_t i = 0; i < s->n; i++) {
        if (s->ids[i] == partition_id) {
            return true;
        }
    }
    return s->n == 0;
}

static bool same_scope(const struct sn_scope *a, const struct sn_scope *b)
{
    return a->n == b->n && (a->n == 0 || memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0);
}

static uint32_t scope_index(struct sn_deletes *d, const struct sn_scope *scope)
{
    struct sn_scope *s;

    for (size_t i = d->nscopes; i-- > 0;) {
        if (same_scope(&d->scopes[i], scope)) {
            return (uint32_t)i;
        }
    }
    if (d->nscopes == d->scopes_cap) {
        d->scopes_cap = d->scopes_cap * 2 + 2;
        d->scopes = xrealloc(d->scopes, d->scopes_cap * sizeof *d->scopes);
    }
    s = &d->scopes[d->nscopes];
    s->n = scope->n;
    s->ids = arena_alloc(d->ar, (scope->n + 1) * sizeof *s->ids);
    memcpy(s->ids, scope->ids ? scope->ids : s->ids, scope->n * sizeof *s->ids);
    return (uint32_t)d->nscopes++;
}

static bool grow(struct sn_deletes *d, size_t more)
{
    size_t cap = MAX(d->cap * 2, d->n + more);
    void *keys, *at;

    if (d->n + more <= d->cap) {
        return true;
    }
    keys = realloc_try(d->keys, cap * sizeof *d->keys);
    if (!keys) {
        return false;
    }
    d->keys = keys;
    at = realloc_try(d->at, cap * sizeof *d->at);
    if (!at) {
        return false;
    }
    d->at = at;
    d->cap = cap;
    return true;
}

static void begin(struct sn_deletes *d)
{
    if (!d->ar) {
        d->ar = arena_new(DELETES_MEMORY_MAX);
        d->oldest_ms = clock_now_ms();
    }
}

int sn__deletes_add(struct sn_shard *sh, const struct column *pks, const struct sn_scope *scope,
                    hts ts, uint64_t position, struct status *st)
{
    struct sn_deletes *d = &sh->deletes;
    size_t n = d->n, bytes = 0;
    uint32_t scope_at;

    begin(d);
    if (!grow(d, pks->nrows)) {
        return st_fail(st, ST_NO_MEMORY, "no memory for %u pending deletes", pks->nrows);
    }
    scope_at = scope_index(d, scope);
    for (uint32_t i = 0; i < pks->nrows; i++, n++) {
        struct slice key = column_cell(pks, i);
        d->keys[n] = arena_copy(d->ar, key);
        if (!d->keys[n].p && key.n) {
            return st_fail(st, ST_NO_MEMORY, "no memory for pending deletes");
        }
        d->at[n] = (struct sn_delete_at){ ts, position, scope_at };
        bytes += key.n + DELETE_OVERHEAD;
    }
    d->n = n;
    d->bytes += bytes;
    atomic_fetch_add(&sh->sn->growing_bytes, bytes);
    return 0;
}

static void deletes_free(struct sn_deletes *d)
{
    arena_free(d->ar);
    mem_free(d->keys);
    mem_free(d->at);
    mem_free(d->scopes);
}

void sn__deletes_trim(struct sn_shard *sh, uint64_t position)
{
    struct sn_deletes old = sh->deletes;
    struct sn_deletes *d = &sh->deletes;
    size_t first = 0;

    while (first < old.n && old.at[first].position <= position) {
        first++;
    }
    if (first == 0 && old.n) {
        return;
    }
    *d = (struct sn_deletes){ 0 };
    for (size_t i = first; i < old.n; i++) {
        begin(d);
        CHECK(grow(d, old.n - i)); /* less than what is held now */
        d->keys[d->n] = arena_copy(d->ar, old.keys[i]);
        d->at[d->n] = old.at[i];
        d->at[d->n].scope = scope_index(d, &old.scopes[old.at[i].scope]);
        d->bytes += old.keys[i].n + DELETE_OVERHEAD;
        d->n++;
    }
    atomic_fetch_sub(&sh->sn->growing_bytes, old.bytes - d->bytes);
    deletes_free(&old);
}

/* ---- groups ---- */

static int no_memory(const struct sn_deletes *d, struct status *st)
{
    return st_fail(st, ST_NO_MEMORY, "no memory for %zu pending deletes", d->n);
}

/* Numbers the scopes in order of appearance, at most max; how many of the first deletes they
 * cover, and how many each has. */
static size_t number_scopes(const struct sn_deletes *d, size_t max, uint32_t *group_of,
                            uint32_t *counts, size_t *ret_ngroups)
{
    size_t i, n = 0;

    for (i = 0; i < d->n; i++) {
        uint32_t *g = &group_of[d->at[i].scope];
        if (*g == UINT32_MAX) {
            if (n == max) { /* a record has one scope: whole records stay behind */
                break;
            }
            *g = (uint32_t)n++;
        }
        counts[*g]++;
    }
    *ret_ngroups = n;
    return i;
}

int sn__deletes_groups(const struct sn_shard *sh, size_t max, struct arena *ar,
                       struct sn_group **ret, size_t *ret_n, uint64_t *ret_last,
                       struct status *st)
{
    const struct sn_deletes *d = &sh->deletes;
    const struct field *pk = sh->schema->pk;
    uint32_t *group_of = arena_try_array(ar, d->nscopes + 1, sizeof *group_of);
    uint32_t *counts = arena_try_array(ar, d->nscopes + 1, sizeof *counts);
    struct column_builder **cb;
    struct sn_group *groups;
    size_t covered, n;
    hts **ts;

    if (!group_of || !counts) {
        return no_memory(d, st);
    }
    memset(group_of, 0xff, (d->nscopes + 1) * sizeof *group_of);
    covered = number_scopes(d, max, group_of, counts, &n);
    groups = arena_try_array(ar, n + 1, sizeof *groups);
    cb = arena_try_array(ar, n + 1, sizeof(struct column_builder *));
    ts = arena_try_array(ar, n + 1, sizeof(hts *));
    if (!groups || !cb || !ts) {
        return no_memory(d, st);
    }
    for (size_t i = 0; i < d->nscopes; i++) {
        uint32_t g = group_of[i];
        if (g != UINT32_MAX) {
            groups[g].scope.n = d->scopes[i].n;
            groups[g].scope.ids = arena_alloc(ar, (d->scopes[i].n + 1) * sizeof(int64_t));
            memcpy(groups[g].scope.ids, d->scopes[i].ids, d->scopes[i].n * sizeof(int64_t));
            cb[g] = column_builder_new(ar, pk->id, pk->type, DT_NONE, 0, counts[g]);
            ts[g] = arena_try_array(ar, counts[g], sizeof **ts);
            if (!ts[g]) {
                return no_memory(d, st);
            }
            groups[g].ts = ts[g];
            counts[g] = 0;
        }
    }
    for (size_t i = 0; i < covered; i++) {
        uint32_t g = group_of[d->at[i].scope];
        ts[g][counts[g]++] = d->at[i].ts;
        if (!column_builder_add(cb[g], d->keys[i])) {
            return no_memory(d, st);
        }
    }
    for (size_t g = 0; g < n; g++) {
        column_builder_finish(cb[g], &groups[g].pks);
    }
    *ret = groups;
    *ret_n = n;
    *ret_last = covered ? d->at[covered - 1].position : 0;
    return 0;
}

/* ---- sending ---- */

struct sending {
    const struct sn_group *g;
    ProtobufCBinaryData keys; /* encoded at the first use */
    struct arena *ar;
};

static int send_to(struct sn_shard *sh, struct sending *s, int64_t node, int64_t *ids, size_t n,
                   struct status *st)
{
    struct call call = call_internal(s->ar);
    const struct qnode_service *qs;
    Elanus__ApplyDeletesReq req;
    Elanus__Empty resp;
    int rc = 0;

    if (!s->keys.data) {
        struct batch b = { s->g->pks.nrows, 1, (struct column *)(uintptr_t)&s->g->pks };
        TRY(nd_batch_bytes(&b, s->ar, &s->keys, st));
    }
    elanus__apply_deletes_req__init(&req);
    elanus__empty__init(&resp);
    req.collection_id = sh->collection_id;
    req.segment_ids = ids;
    req.n_segment_ids = n;
    req.pks = s->keys;
    req.timestamps = (uint64_t *)(uintptr_t)s->g->ts;
    req.n_timestamps = s->g->pks.nrows;
    TRY(svc_dir_qnode(sh->sn->opts.dir, node, &qs, st));
    TRY(qs->apply_deletes(qs->self, &call, &req, &resp, st));
out:
    return rc;
}

int sn__send_group(struct sn_shard *sh, const struct sn_group *g, const struct sn_sealed *to,
                   size_t n, bool *lost, struct status *st)
{
    struct sending s = { .g = g };
    int64_t *ids;
    bool *done;
    int rc = 0;

    if (n == 0 || g->pks.nrows == 0) {
        return 0;
    }
    s.ar = arena_new(0);
    ids = arena_try_array(s.ar, n, sizeof *ids);
    done = arena_try_array(s.ar, n, sizeof *done);
    if (!ids || !done) {
        FAIL(st, ST_NO_MEMORY, "no memory to send %u deletes", g->pks.nrows);
    }
    for (size_t i = 0; i < n; i++) {
        int64_t node = to[i].node_id;
        size_t m = 0;
        if (done[i] || node == 0) {
            continue;
        }
        for (size_t j = i; j < n; j++) {
            if (to[j].node_id == node) {
                done[j] = true;
                if (sn__scope_has(&g->scope, to[j].meta->partition_id) && !(lost && lost[j])) {
                    ids[m++] = to[j].meta->id;
                }
            }
        }
        rc = m ? send_to(sh, &s, node, ids, m, st) : 0;
        if (rc != 0 && !lost) {
            goto out;
        }
        for (size_t j = i; rc != 0 && j < n; j++) {
            if (to[j].node_id == node && sn__scope_has(&g->scope, to[j].meta->partition_id)) {
                lost[j] = true;
            }
        }
        rc = 0;
    }
out:
    arena_free(s.ar);
    return rc;
}

int sn__send_pending(struct sn_shard *sh, const struct sn_sealed *to, size_t n, bool *lost,
                     struct status *st)
{
    struct arena *ar = NULL;
    struct sn_group *groups;
    size_t ngroups;
    uint64_t last;
    int rc = 0;

    if (sh->deletes.n == 0 || n == 0) {
        goto out;
    }
    ar = arena_new(0);
    TRY(sn__deletes_groups(sh, SIZE_MAX, ar, &groups, &ngroups, &last, st));
    for (size_t i = 0; i < ngroups; i++) {
        TRY(sn__send_group(sh, &groups[i], to, n, lost, st));
    }
out:
    arena_free(ar);
    return rc;
}
