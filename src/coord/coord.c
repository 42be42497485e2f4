/*
 * coord.c - the coordinator's life: read metadata, serve, stop.
 *
 * coord_new() reads everything and makes what every installation has: database `default`, user
 * `root`. coord_start() comes before nodes register: it ends drops that a crash cut short, removes
 * keys and files nobody refers to, and starts the background threads.
 * NOT HERE   What the services do: co_root_*.c, co_data*.c, co_query.c, co_place.c,
 *            co_streaming.c, co_tso.c, co_ids.c.
 */
#include "coord/co_int.h"

static int bootstrap(struct coord *co, struct status *st)
{
    struct arena *ar = arena_new(0);
    Elanus__Database db;
    Elanus__User root;
    struct co_txn tx;
    int rc = 0;

    co__txn_init(&tx, co, ar);
    elanus__database__init(&db);
    elanus__user__init(&root);
    if (!str_map_get(co->dbs, SLICE_LIT(CO_DEFAULT_DB))) {
        TRY(co__ts(co, 1, DEADLINE_NONE, &db.created_ts, st));
        db.id = CO_DEFAULT_DB_ID;
        db.name = CO_DEFAULT_DB;
        co__put(&tx, CO_DATABASE, &db);
    }
    if (!str_map_get(co->users, SLICE_LIT(CO_ROOT_USER))) {
        /* No hash: the configured default holds until somebody changes it. A deliberately slow
         * hash would also be most of the time to the first answer of a new server. */
        TRY(co__ts(co, 1, DEADLINE_NONE, &root.created_ts, st));
        root.name = CO_ROOT_USER;
        co__put(&tx, CO_USER, &root);
    }
    TRY(co__commit(&tx, st));
out:
    co__txn_done(&tx);
    arena_free(ar);
    return rc;
}

static void init(struct coord *co, const struct coord_opts *o)
{
    co->opts = *o;
    lock_init(&co->ddl, RANK_COORD_DDL);
    cond_init(&co->ddl_free);
    lock_init(&co->commit, RANK_COORD_COMMIT);
    rwlock_init(&co->state, RANK_COORD_STATE);
    lock_init(&co->bg, RANK_LEAF);
    cond_init(&co->bg_bound_wake);
    cond_init(&co->bg_gc_wake);
    co->dbs = str_map_new();
    co->users = str_map_new();
    co->aliases = str_map_new();
    co->names = str_map_new();
    co->vchannels = str_map_new();
    co->colls = id_map_new();
    co->load_ar = arena_new(0);
    co->npchannels = (size_t)config_int(o->config, "rootCoord.dmlChannelNum");
}

int coord_new(const struct coord_opts *o, struct coord **ret_co, struct status *st)
{
    struct coord *co = xalloc(sizeof *co);
    int rc = 0;

    init(co, o);
    TRY(co__gc_new(co, st));
    co__builds_new(co);
    co__compacts_new(co);
    TRY(co__tso_load(co, st));
    TRY(co__ids_load(co, st));
    TRY(co__load_all(co, st));
    TRY(bootstrap(co, st));
    *ret_co = TAKE(co);
out:
    coord_free(co);
    return rc;
}

void coord_add_proxy(struct coord *co, const struct proxy_service *px)
{
    CHECK(co->nproxies < CO_PROXIES_MAX);
    co->proxies[co->nproxies++] = px;
}

int coord_start(struct coord *co, struct status *st)
{
    int rc = 0;

    co__bound_start(co);
    lock_acquire(&co->ddl);
    rc = co__purge_strays(co, st);
    if (rc == 0) {
        rc = co__drops_finish(co, st);
    }
    lock_release(&co->ddl);
    TRY(rc);
    co__gc_start(co);
    co__builds_start(co);
    co__compacts_start(co);
out:
    return rc;
}

void coord_stop(struct coord *co)
{
    co__compacts_stop(co);
    co__builds_stop(co);
    co__gc_stop(co);
    co__bound_stop(co);
}

void coord_free(struct coord *co)
{
    if (!co) {
        return;
    }
    coord_stop(co);
    co__compacts_free(co);
    co__builds_free(co);
    co__gc_free(co);
    co__tables_free(co);
    co__bound_done(&co->tso);
    co__bound_done(&co->ids);
    for (size_t i = 0; i < co->nnodes; i++) {
        mem_free(co->nodes[i].address);
    }
    mem_free(co->strays);
    arena_free(co->load_ar);
    cond_done(&co->bg_gc_wake);
    cond_done(&co->bg_bound_wake);
    lock_done(&co->bg);
    rwlock_done(&co->state);
    lock_done(&co->commit);
    cond_done(&co->ddl_free);
    lock_done(&co->ddl);
    mem_free(co);
}

#define METHOD(service, name, Request, Response, deadline_ms) .name = co__##service##_##name,

struct root_service coord_root(struct coord *co)
{
    return (struct root_service){ .self = co,
#include "service/root.def"
    };
}

struct data_service coord_data(struct coord *co)
{
    return (struct data_service){ .self = co,
#include "service/data.def"
    };
}

struct query_service coord_query(struct coord *co)
{
    return (struct query_service){ .self = co,
#include "service/query.def"
    };
}

struct streaming_service coord_streaming(struct coord *co)
{
    return (struct streaming_service){ .self = co,
#include "service/streaming.def"
    };
}
#undef METHOD
