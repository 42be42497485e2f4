/*
 * service.h - the interfaces between roles, and the two ways to reach one.
 *
 * WHAT      services.def lists every call. For each service `root` there is `struct root_service`:
 *           a `self` pointer and one function per method. A role implements it (in process), or
 *           svc_remote_root() makes one that forwards over the wire to svc_serve() on the other
 *           side. No code above this room knows which it has.
 * CALLS     int fn(void *self, const struct call *call, const Req *req, Resp *resp, struct status *st)
 *           `req` is borrowed for the call. `resp` comes initialised by the caller; the callee sets
 *           fields with memory from call->ar, borrowed from req, or immortal. On failure code,
 *           message and `retriable` arrive unchanged on both sides of the wire.
 * THREADS   Every call may block, unless it says no_wait; any thread.
 */
#pragma once
#include "base/arena.h"
#include "base/clock.h"
#include "base/status.h"
#include "net/grpc.h"
#include "net/grpc_client.h"
#include "proto/elanus_meta.pb-c.h"
#include "proto/elanus_service.pb-c.h"

struct call {
    struct arena *ar;           /* owner of the answer */
    int64_t deadline_us;        /* clock.h; DEADLINE_NONE: the method's own limit */
    const char *request_id;     /* for logs; "" when there is none */
    const _Atomic bool *cancel; /* may be NULL; turns true when nobody waits any more */
    /* The calling thread must neither wait nor work for long: whoever would have to fails with
     * ST_WOULD_WAIT, having changed nothing, and the call is made again from a thread that may. */
    bool no_wait;
    /* Hints for how to share the processors: calls that run beside this one in this process, and how
     * long calls like it took lately (microseconds; 0: not known). */
    unsigned beside;
    uint32_t expect_us;
};

/* A call made on the program's own behalf. */
static inline struct call call_internal(struct arena *ar)
{
    return (struct call){ .ar = ar, .deadline_us = DEADLINE_NONE, .request_id = "", .cancel = NULL };
}

/* Function types: root_create_collection_fn and so on. */
#define METHOD(service, name, Request, Response, deadline_ms)                                      \
    typedef int service##_##name##_fn(void *self, const struct call *call,                         \
                                      const Elanus__##Request *req, Elanus__##Response *resp,      \
                                      struct status *st);
#include "service/services.def"
#undef METHOD

#include "service/service_structs.h"


/* ---- The wire form ---- */

/* Registers every method of one service on a server; `service` is its name ("root"), `impl` its
 * struct of functions. Both impl and ar are borrowed for the life of the server. Calls run on
 * workers, writes on a class of their own. Fails: ST_INVALID for an unknown name, and what
 * grpc_register() says. */
int svc_serve(struct net_server *srv, const char *service, const void *impl, struct arena *ar,
              struct status *st);

/* A connection to the services of another process, shared by all its forwarders. */
struct svc_remote;
int svc_remote_new(const char *address, struct grpc_loop *loop, struct svc_remote **ret_r,
                   struct status *st);
void svc_remote_free(struct svc_remote *r); /* after the last call through it */

/* Structs of functions that forward; valid as long as r. */
#define SVC_EACH(X) X(root) X(data) X(query) X(streaming) X(snode) X(qnode) X(dnode) X(proxy)
#define SVC_DECLARE_REMOTE(name) struct name##_service svc_remote_##name(struct svc_remote *r);
SVC_EACH(SVC_DECLARE_REMOTE)
#undef SVC_DECLARE_REMOTE
