/*
 * co_rec.c - one key of the metadata store in memory, and the path each kind of record has.
 *
 * FORMAT    proto/elanus_meta.proto lists the paths. A key follows from its value, so the two are
 *           compared when the store is read: a value under a key that is not its own is damage.
 * MEMORY    A record is an arena of its own, freed when its successor takes its place.
 */
#include "coord/co_int.h"

#define VALUE_BYTES_MAX ((size_t)64 << 20)

struct kind_info {
    const char *prefix;
    const ProtobufCMessageDescriptor *desc;
};

static const struct kind_info kinds[CO_KINDS] = {
    [CO_DATABASE] = { "/elanus/root/database/", &elanus__database__descriptor },
    [CO_USER] = { "/elanus/root/user/", &elanus__user__descriptor },
    [CO_COLLECTION] = { "/elanus/root/collection/", &elanus__collection__descriptor },
    [CO_PARTITION] = { "/elanus/root/partition/", &elanus__partition__descriptor },
    [CO_ALIAS] = { "/elanus/root/alias/", &elanus__alias__descriptor },
    [CO_INDEX] = { "/elanus/data/index/", &elanus__index__descriptor },
    [CO_SHARD] = { "/elanus/data/shard/", &elanus__shard__descriptor },
    [CO_SEGMENT] = { "/elanus/data/segment/", &elanus__segment__descriptor },
    [CO_DELTA] = { "/elanus/data/delta/", &elanus__delta__descriptor },
    [CO_SEGINDEX] = { "/elanus/data/segindex/", &elanus__segment_index__descriptor },
    [CO_LOAD] = { "/elanus/query/load/", &elanus__load__descriptor },
};

struct slice co__kind_prefix(enum co_kind kind)
{
    return slice_of(kinds[kind].prefix);
}

/* A name is one component of a path: the proxy checks names, this keeps a bug there harmless. */
static int key_name(enum co_kind kind, const char *name, struct status *st)
{
    if (!name[0] || strchr(name, '/')) {
        return st_fail(st, ST_INVALID, "\"%s\" cannot be a name below %s", name,
                       kinds[kind].prefix);
    }
    return 0;
}

int co__key(enum co_kind kind, const void *pb, struct arena *ar, struct slice *ret,
            struct status *st)
{
    const char *prefix = kinds[kind].prefix;
    const char *name = "x", *name2 = "x";
    int64_t a = 0, b = 0, c = 0;
    int ids = 0;
    int rc = 0;

    switch (kind) {
    case CO_DATABASE:
        name = ((const Elanus__Database *)pb)->name;
        break;
    case CO_USER:
        name = ((const Elanus__User *)pb)->name;
        break;
    case CO_ALIAS:
        name = ((const Elanus__Alias *)pb)->db_name;
        name2 = ((const Elanus__Alias *)pb)->alias;
        break;
    case CO_SHARD:
        name = ((const Elanus__Shard *)pb)->vchannel;
        break;
    case CO_COLLECTION:
        a = ((const Elanus__Collection *)pb)->id;
        ids = 1;
        break;
    case CO_LOAD:
        a = ((const Elanus__Load *)pb)->collection_id;
        ids = 1;
        break;
    case CO_PARTITION:
        a = ((const Elanus__Partition *)pb)->collection_id;
        b = ((const Elanus__Partition *)pb)->id;
        ids = 2;
        break;
    case CO_INDEX:
        a = ((const Elanus__Index *)pb)->collection_id;
        b = ((const Elanus__Index *)pb)->id;
        ids = 2;
        break;
    case CO_SEGMENT:
        a = ((const Elanus__Segment *)pb)->collection_id;
        b = ((const Elanus__Segment *)pb)->id;
        ids = 2;
        break;
    case CO_DELTA:
        a = ((const Elanus__Delta *)pb)->collection_id;
        b = ((const Elanus__Delta *)pb)->id;
        ids = 2;
        break;
    case CO_SEGINDEX:
        a = ((const Elanus__SegmentIndex *)pb)->collection_id;
        b = ((const Elanus__SegmentIndex *)pb)->index_id;
        c = ((const Elanus__SegmentIndex *)pb)->segment_id;
        ids = 3;
        break;
    case CO_KINDS:
        FAIL(st, ST_INTERNAL, "no such kind of record");
    }
    TRY(key_name(kind, name, st));
    TRY(key_name(kind, name2, st));
    if (ids == 1) {
        *ret = slice_of(arena_printf(ar, "%s%020" PRId64, prefix, a));
    } else if (ids == 2) {
        *ret = slice_of(arena_printf(ar, "%s%020" PRId64 "/%020" PRId64, prefix, a, b));
    } else if (ids == 3) {
        *ret = slice_of(arena_printf(ar, "%s%020" PRId64 "/%020" PRId64 "/%020" PRId64, prefix, a,
                                     b, c));
    } else if (kind == CO_ALIAS) {
        *ret = slice_of(arena_printf(ar, "%s%s/%s", prefix, name, name2));
    } else {
        *ret = slice_of(arena_printf(ar, "%s%s", prefix, name));
    }
out:
    return rc;
}

/* Shards are listed in the order of their numbers: "dml_0_4711v2" -> 2. */
static int64_t shard_number(const char *vchannel)
{
    const char *v = strrchr(vchannel, 'v');
    return v ? strtoll(v + 1, NULL, 10) : 0;
}

static int64_t rec_id(enum co_kind kind, const void *pb)
{
    switch (kind) {
    case CO_COLLECTION:
        return ((const Elanus__Collection *)pb)->id;
    case CO_PARTITION:
        return ((const Elanus__Partition *)pb)->id;
    case CO_INDEX:
        return ((const Elanus__Index *)pb)->id;
    case CO_SEGMENT:
        return ((const Elanus__Segment *)pb)->id;
    case CO_DELTA:
        return ((const Elanus__Delta *)pb)->id;
    case CO_SEGINDEX:
        return ((const Elanus__SegmentIndex *)pb)->segment_id;
    case CO_SHARD:
        return shard_number(((const Elanus__Shard *)pb)->vchannel);
    case CO_LOAD:
        return ((const Elanus__Load *)pb)->collection_id;
    case CO_DATABASE:
        return ((const Elanus__Database *)pb)->id;
    case CO_USER:
    case CO_ALIAS:
    case CO_KINDS:
        break;
    }
    return 0;
}

int co__rec_new(enum co_kind kind, struct slice value, struct co_rec **ret, struct status *st)
{
    struct co_rec *rec = xalloc(sizeof *rec);

    rec->ar = arena_new_small(256);
    rec->pb = proto_unpack(kinds[kind].desc, value, rec->ar, st);
    if (!rec->pb) {
        co__rec_free(rec);
        return st->code == ST_INVALID ? st_fail(st, ST_CORRUPT, "value of %s cannot be read",
                                                kinds[kind].prefix)
                                      : st->code;
    }
    rec->id = rec_id(kind, rec->pb);
    *ret = rec;
    return 0;
}

void co__rec_free(struct co_rec *rec)
{
    if (rec) {
        co__list_free(&rec->files, true);
        arena_free(rec->ar);
        mem_free(rec);
    }
}

/* ---- lists, sorted by id; new ids are the greatest, so putting is appending ---- */

static size_t list_pos(const struct co_list *l, int64_t id)
{
    size_t lo = 0, hi = l->n;

    if (hi > 0 && l->v[hi - 1]->id < id) {
        return hi;
    }
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (l->v[mid]->id < id) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

struct co_rec *co__list_put(struct co_list *l, struct co_rec *rec)
{
    size_t i = list_pos(l, rec->id);

    if (i < l->n && l->v[i]->id == rec->id) {
        struct co_rec *old = l->v[i];
        l->v[i] = rec;
        return old;
    }
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 4;
        l->v = xrealloc(l->v, l->cap * sizeof(struct co_rec *));
    }
    memmove(&l->v[i + 1], &l->v[i], (l->n - i) * sizeof(struct co_rec *));
    l->v[i] = rec;
    l->n++;
    return NULL;
}

struct co_rec *co__list_get(const struct co_list *l, int64_t id)
{
    size_t i = list_pos(l, id);
    return i < l->n && l->v[i]->id == id ? l->v[i] : NULL;
}

struct co_rec *co__list_remove(struct co_list *l, int64_t id)
{
    size_t i = list_pos(l, id);
    struct co_rec *rec;

    if (i == l->n || l->v[i]->id != id) {
        return NULL;
    }
    rec = l->v[i];
    memmove(&l->v[i], &l->v[i + 1], (l->n - i - 1) * sizeof(struct co_rec *));
    l->n--;
    return rec;
}

void co__list_free(struct co_list *l, bool free_records)
{
    for (size_t i = 0; free_records && i < l->n; i++) {
        co__rec_free(l->v[i]);
    }
    mem_free(l->v);
    *l = (struct co_list){ 0 };
}

/* ---- small things ---- */

void *co__copy(const ProtobufCMessage *m, struct arena *ar)
{
    struct status st = STATUS_INIT;
    struct buf b;
    void *copy;

    buf_init(&b, VALUE_BYTES_MAX);
    CHECK(proto_pack(m, &b));
    copy = proto_unpack(m->descriptor, buf_slice(&b), ar, &st);
    CHECK(copy);
    buf_done(&b);
    return copy;
}

struct slice co__name_key(const char *db, const char *name, struct arena *ar)
{
    return slice_of(arena_printf(ar, "%s/%s", db, name));
}
