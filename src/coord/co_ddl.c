/*
 * co_ddl.c - the frame around every change: the lock, the collection that is busy, the proxies.
 *
 * A change runs from co__ddl_begin() to co__ddl_end(). Proxies are told after the lock is let go,
 * because a proxy's cache lock ranks before it, and before the change is answered: a client that
 * has the answer finds no proxy with the old state. Two changes may tell proxies in either order;
 * telling only means "forget", so the order does not matter.
 */
#include "coord/co_int.h"

#define LOG_ROOM "coord"
#include "base/log.h"

void co__ddl_begin(struct coord *co, struct co_notice *no, struct arena *ar)
{
    *no = (struct co_notice){ .ar = ar, .db = "" };
    lock_acquire(&co->ddl);
}

void co__notice_name(struct co_notice *no, const char *name)
{
    if (no->n == no->cap) {
        size_t cap = no->cap ? no->cap * 2 : 8;
        const char **names = arena_alloc(no->ar, cap * sizeof(char *));
        if (no->n > 0) {
            memcpy(names, no->names, no->n * sizeof(char *));
        }
        no->names = names;
        no->cap = cap;
    }
    no->names[no->n++] = arena_strdup(no->ar, name);
}

void co__notice(struct co_notice *no, const struct co_coll *c)
{
    no->collection_id = c->id;
    no->db = arena_strdup(no->ar, co__pb(c)->db_name);
    co__notice_name(no, co__pb(c)->name);
    for (size_t i = 0; i < c->aliases.n; i++) {
        co__notice_name(no, ((const Elanus__Alias *)c->aliases.v[i]->pb)->alias);
    }
}

void co__ddl_end(struct coord *co, struct co_notice *no)
{
    struct call call = call_internal(no->ar);
    Elanus__InvalidateReq req;
    Elanus__Empty resp;

    lock_release(&co->ddl);
    if (no->n == 0) {
        return;
    }
    elanus__invalidate_req__init(&req);
    req.collection_id = no->collection_id;
    req.names = no->names;
    req.n_names = no->n;
    for (size_t i = 0; i < co->nproxies * (no->db2 ? 2 : 1); i++) {
        struct status st = STATUS_INIT;
        const struct proxy_service *px = co->proxies[i % co->nproxies];
        elanus__empty__init(&resp);
        req.db_name = i < co->nproxies ? no->db : no->db2;
        if (px->invalidate(px->self, &call, &req, &resp, &st) != 0) {
            LOG_W("proxy not told of a change: coll=%" PRId64 " error=\"%s\"", no->collection_id,
                  st.msg);
        }
    }
}

struct co_coll *co__ddl_lookup(struct coord *co, const char *db, const char *name)
{
    struct co_coll *c;

    while ((c = co__lookup(co, db, name)) != NULL && c->busy) {
        cond_wait(&co->ddl_free, &co->ddl);
    }
    return c;
}

int co__ddl_coll(struct coord *co, const char *db, const char *name, struct co_coll **ret,
                 struct status *st)
{
    (void)co__ddl_lookup(co, db, name);
    return co__find(co, db, name, ret, st);
}

void co__busy_begin(struct coord *co, struct co_coll *c)
{
    c->busy = true;
    co->nbusy++;
    lock_release(&co->ddl);
}

void co__busy_end(struct coord *co, struct co_coll *c)
{
    lock_acquire(&co->ddl);
    c->busy = false;
    co->nbusy--;
    cond_broadcast(&co->ddl_free);
}
