/*
 * svc_server.c - the other end of a forwarder: unpacks, calls the role in this process, packs.
 *
 * THREADS   Handlers run on the server's workers. Appends wait for the log, so they have a class of
 *           their own; a search must not wait behind them.
 * FAILURE   The role's code travels in a trailer, its text as grpc-message, so that the caller sees
 *           the status as if it had called in process.
 */
#include "service/service.h"
#include "base/buf.h"
#include "proto/proto.h"
#include "service/svc_int.h"
#include <stdio.h>
#include <string.h>

struct served {
    const struct svc_method *method;
    const void *impl;
};

static void reply_failure(struct grpc_call *gc, const struct status *st)
{
    char code[16];

    snprintf(code, sizeof code, "%d", st->code);
    grpc_set_trailer(gc, SVC_TRAILER_CODE, slice_of(code));
    grpc_set_trailer(gc, SVC_TRAILER_RETRIABLE, slice_of(st->retriable ? "1" : "0"));
    grpc_fail(gc, st->code < ST_CODE_API ? grpc_code_of_status(st->code) : GRPC_ABORTED, "%s",
              st->msg);
}

static void serve_call(struct grpc_call *gc, void *arg)
{
    const struct served *sv = arg;
    const struct svc_method *m = sv->method;
    struct arena *ar = grpc_arena(gc);
    struct slice request_id = grpc_metadata(gc, SVC_MD_REQUEST_ID);
    struct status st = STATUS_INIT;
    ProtobufCMessage *req = NULL, *resp;
    struct buf out;
    int rc;
    struct call call = {
        .ar = ar,
        .deadline_us = grpc_deadline_us(gc),
        .request_id = request_id.p ? arena_strndup(ar, request_id.p, request_id.n) : "",
        .cancel = grpc_cancel_flag(gc),
        .beside = grpc_calls_beside(gc),
    };

    buf_init(&out, (size_t)512 << 20);
    req = proto_unpack_borrow(m->req, grpc_request(gc), ar, &st);
    if (!req) {
        rc = st.code;
        goto out;
    }
    resp = arena_alloc(ar, m->resp->sizeof_message);
    m->resp->message_init(resp);
    TRY(m->invoke(sv->impl, &call, req, resp, &st));
    if (!proto_pack(resp, &out)) {
        rc = st_fail(&st, ST_TOO_LARGE, "%s.%s: answer over %zu bytes", m->service, m->name,
                     out.max);
    }
out:
    if (rc != 0) {
        reply_failure(gc, &st);
    } else {
        grpc_reply_buf(gc, &out);
    }
    buf_done(&out);
}

static enum net_pool pool_of(const struct svc_method *m)
{
    if (strcmp(m->service, "snode") == 0 && strcmp(m->name, "write") == 0) {
        return NET_POOL_WRITE;
    }
    if (strcmp(m->name, "search") == 0 || strcmp(m->name, "query") == 0 ||
        strcmp(m->name, "fetch") == 0 || strcmp(m->name, "alloc_ts") == 0 ||
        strcmp(m->name, "alloc_id") == 0 || strcmp(m->name, "describe_collection") == 0) {
        return NET_POOL_READ;
    }
    return NET_POOL_ADMIN;
}

int svc_serve(struct net_server *srv, const char *service, const void *impl, struct arena *ar,
              struct status *st)
{
    bool found = false;
    int rc = 0;

    for (size_t i = 0; i < SVC_M_COUNT; i++) {
        const struct svc_method *m = &svc__methods[i];
        if (strcmp(m->service, service) != 0) {
            continue;
        }
        struct served *sv = ARENA_NEW(ar, struct served);
        sv->method = m;
        sv->impl = impl;
        struct grpc_method gm = {
            .path = m->path, .kind = GRPC_UNARY, .pool = pool_of(m), .fn = serve_call, .arg = sv
        };
        TRY(grpc_register(srv, &gm, st));
        found = true;
    }
    if (!found) {
        rc = st_fail(st, ST_INVALID, "no service is called \"%s\"", service);
    }
out:
    return rc;
}
