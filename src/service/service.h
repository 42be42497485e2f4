/*
 * service.h - the interfaces between roles, and the two ways to reach one.
 *
 * WHAT      services.def lists every call. For each service `root` there is `struct root_service`:
 *           a `self` pointer and one function per method. A role implements it (in process) or
 *           svc_remote_root() makes one that forwards over the wire. No code above this room knows
 *           which it has.
 * CALLS     int fn(void *self, const struct call *call, const Req *req, Resp *resp, struct status *st)
 *           `req` is borrowed for the call. `resp` comes initialised by the caller; the callee sets
 *           fields with memory from call->ar (or borrowed from req). Failure: code and message
 *           arrive unchanged on both sides of the wire, with `retriable`.
 * THREADS   Every call may block; any thread.
 */
#pragma once
#include "base/arena.h"
#include "base/status.h"
#include "net/grpc.h"
#include "net/grpc_client.h"
#include "proto/elanus_meta.pb-c.h"
#include "proto/elanus_service.pb-c.h"

struct call {
    struct arena *ar;          /* owner of the answer */
    int64_t deadline_us;       /* clock.h; DEADLINE_NONE: the method's own limit */
    const char *request_id;    /* for logs; "" when there is none */
    const _Atomic bool *cancel; /* may be NULL: set when the client went away */
};

/* A call made on the program's own behalf. */
static inline struct call call_internal(struct arena *ar)
{
    return (struct call){ .ar = ar, .deadline_us = DEADLINE_NONE, .request_id = "", .cancel = NULL };
}

#define SVC_TYPE(Name) Elanus__##Name

#define SERVICE(service, what) struct service##_service;
#include "service/services.def"

/* Function types: root_create_collection_fn and so on. */
#define METHOD(service, name, Request, Response, deadline_ms)                                      \
    typedef int service##_##name##_fn(void *self, const struct call *call,                         \
                                      const SVC_TYPE(Request) *req, SVC_TYPE(Response) *resp,      \
                                      struct status *st);
#include "service/services.def"

#include "service/service_structs.h"

/* One descriptor per method, in services.def order: what forwarders, servers and metrics need. */
struct svc_method {
    const char *service, *name;
    const char *path;          /* "/elanus.root/create_collection" */
    const ProtobufCMessageDescriptor *req, *resp;
    int64_t deadline_ms;
    size_t slot;               /* offset of the function pointer in the service struct */
};
extern const struct svc_method svc_methods[];
extern const size_t svc_methods_count;
