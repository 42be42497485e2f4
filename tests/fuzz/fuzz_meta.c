/*
 * fuzz_meta.c - metadata from somebody else: what coord_new() finds in its store.
 *
 * The input is a list of records: a byte for the kind, two for the length, the value. A value that
 * can be read is put under its own key, so that the tables are filled with it; another one under a
 * key of its kind. Either the coordinator says what is damaged, or it starts and answers questions
 * about everything in its tables. Records that contradict one another (two collections of one name)
 * may be found by the validator, but must not end the program.
 */
#include "base/alloc.h"
#include "base/log.h"
#include "coord/co_int.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RECORDS_MAX 64

static const struct config_row rows[] = {
#define CONFIG_ROW(key, type, def, min, max, choices, unit, reload, help)                          \
    { key, CONFIG_##type, def, min, max, choices, unit, reload, help },
#include "coord/coord_config.def"
#undef CONFIG_ROW
};

static struct object_store *os;
static char dir[64];

static void remove_dir(void)
{
    struct status st = STATUS_INIT;
    object_close(os);
    (void)path_remove_tree(dir, &st);
}

static void open_store(void)
{
    struct status st = STATUS_INIT;
    snprintf(dir, sizeof dir, "%s/elanus-fuzz-XXXXXX",
             access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    CHECK(mkdtemp(dir) && object_local_open(dir, &os, &st) == 0);
    atexit(remove_dir);
    log_threshold = LOG_ERROR + 1;
}

/* Bounds and unreadable values lie under keys that no value chooses. */
static struct slice odd_key(int kind, struct slice value, struct arena *ar)
{
    static const char *const bounds[] = { "/elanus/root/tso", "/elanus/root/id",
                                          "/elanus/streaming/term" };
    if (kind >= CO_KINDS) {
        return slice_of(bounds[kind % (int)ARRAY_LEN(bounds)]);
    }
    return slice_of(arena_printf(ar, "%.*s%zu", SLICE_ARG(co__kind_prefix((enum co_kind)kind)),
                                 value.n));
}

static void put_record(struct meta *m, int kind, struct slice value, struct arena *ar)
{
    struct status st = STATUS_INIT;
    struct co_rec *rec = NULL;
    struct slice key = odd_key(kind, value, ar);
    if (kind < CO_KINDS && co__rec_new((enum co_kind)kind, value, &rec, &st) == 0) {
        (void)co__key((enum co_kind)kind, rec->pb, ar, &key, &st);
    }
    (void)meta_put(m, key, value, NULL, &st); /* a key may break the store's rules */
    co__rec_free(rec);
}

static void put_records(struct meta *m, const uint8_t *p, size_t n, struct arena *ar)
{
    for (int i = 0; i < RECORDS_MAX && n >= 3; i++) {
        int kind = p[0] % (CO_KINDS + 3);
        size_t len = MIN((size_t)(p[1] | p[2] << 8), n - 3);
        put_record(m, kind, slice_n(p + 3, len), ar);
        p += 3 + len;
        n -= 3 + len;
    }
}

#define ASK(service, method, req, resp)                                                            \
    do {                                                                                           \
        struct status st_ = STATUS_INIT;                                                           \
        int rc_ = (service).method((service).self, &call, (req), (resp), &st_);                    \
        CHECK(rc_ == st_.code && (rc_ == 0 || st_.msg[0] != '\0'));                                \
    } while (0)

static void ask_collection(struct coord *co, int64_t id, struct arena *ar)
{
    struct root_service root = coord_root(co);
    struct data_service data = coord_data(co);
    struct query_service query = coord_query(co);
    struct streaming_service streaming = coord_streaming(co);
    struct call call = call_internal(ar);
    Elanus__DescribeCollectionReq dreq = ELANUS__DESCRIBE_COLLECTION_REQ__INIT;
    Elanus__CollectionInfo info = ELANUS__COLLECTION_INFO__INIT;
    Elanus__SegmentsReq sreq = ELANUS__SEGMENTS_REQ__INIT;
    Elanus__SegmentsResp sresp = ELANUS__SEGMENTS_RESP__INIT;
    Elanus__StatsReq treq = ELANUS__STATS_REQ__INIT;
    Elanus__StatsResp tresp = ELANUS__STATS_RESP__INIT;
    Elanus__IndexReq ireq = ELANUS__INDEX_REQ__INIT;
    Elanus__IndexList ilist = ELANUS__INDEX_LIST__INIT;
    Elanus__LoadStateReq lreq = ELANUS__LOAD_STATE_REQ__INIT;
    Elanus__LoadStateResp lresp = ELANUS__LOAD_STATE_RESP__INIT;
    Elanus__LocateReq oreq = ELANUS__LOCATE_REQ__INIT;
    Elanus__LocateResp oresp = ELANUS__LOCATE_RESP__INIT;

    dreq.collection_id = sreq.collection_id = treq.collection_id = oreq.collection_id = id;
    ASK(root, describe_collection, &dreq, &info);
    ASK(data, list_segments, &sreq, &sresp);
    ASK(data, stats, &treq, &tresp);
    ASK(streaming, locate, &oreq, &oresp);
    if (info.collection) {
        ireq.db_name = lreq.db_name = info.collection->db_name;
        ireq.collection_name = lreq.collection_name = info.collection->name;
        ASK(data, describe_index, &ireq, &ilist);
        ASK(query, load_state, &lreq, &lresp);
    }
}

static void ask(struct coord *co, struct arena *ar)
{
    struct root_service root = coord_root(co);
    struct call call = call_internal(ar);
    Elanus__Empty none = ELANUS__EMPTY__INIT;
    Elanus__DatabaseList dbs = ELANUS__DATABASE_LIST__INIT;
    Elanus__NameList users = ELANUS__NAME_LIST__INIT;
    Elanus__CredentialReq who = ELANUS__CREDENTIAL_REQ__INIT;
    Elanus__AuthResp auth = ELANUS__AUTH_RESP__INIT;

    ASK(root, list_databases, &none, &dbs);
    for (size_t i = 0; i < dbs.n_databases; i++) {
        Elanus__ListCollectionsReq lreq = ELANUS__LIST_COLLECTIONS_REQ__INIT;
        Elanus__CollectionList list = ELANUS__COLLECTION_LIST__INIT;
        Elanus__AliasReq areq = ELANUS__ALIAS_REQ__INIT;
        Elanus__AliasList aliases = ELANUS__ALIAS_LIST__INIT;
        lreq.db_name = areq.db_name = dbs.databases[i]->name;
        ASK(root, list_collections, &lreq, &list);
        ASK(root, list_aliases, &areq, &aliases);
        for (size_t k = 0; k < list.n_collections; k++) {
            ask_collection(co, list.collections[k]->collection->id, ar);
        }
    }
    ASK(root, list_users, &none, &users);
    who.name = users.n_names ? users.names[0] : "nobody";
    who.password = "Milvus";
    ASK(root, authenticate, &who, &auth);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config *cfg;
    struct status st = STATUS_INIT;
    struct coord *co = NULL;
    if (!cfg) {
        open_store();
        cfg = config_new(rows, ARRAY_LEN(rows));
    }
    struct arena *ar = arena_new(0);
    struct meta *m = meta_mem_new();
    put_records(m, data, size, ar);
    struct coord_opts o = { .meta = m, .os = os, .config = cfg };
    if (coord_new(&o, &co, &st) == 0) {
        if (co__validate(co, &st) != 0) {
            CHECK(st.code == ST_INTERNAL && st.msg[0] != '\0');
            st = (struct status)STATUS_INIT;
        }
        ask(co, ar);
        lock_acquire(&co->ddl);
        CHECK(co__purge_strays(co, &st) == 0);
        lock_release(&co->ddl);
        coord_free(co);
    } else {
        CHECK(st.code && st.msg[0] != '\0');
    }
    meta_close(m);
    arena_free(ar);
    return 0;
}
