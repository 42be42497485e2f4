/*
 * svc_client.c - forwarders: a struct of functions whose calls happen in another process.
 *
 * WHAT      Packs the request, calls with the caller's deadline and request id, unpacks the answer
 *           into the caller's arena. A failure of the other role comes back with its own code and
 *           text; a failure of the transport becomes ST_UNAVAILABLE, ST_TIMEOUT, ...
 * THREADS   Any; a svc_remote is shared.
 */
#include "service/service.h"
#include "base/alloc.h"
#include "base/utf8.h"
#include "proto/proto.h"
#include "service/svc_int.h"
#include <string.h>

/* Answers carry whole result sets; requests whole insert batches. */
#define SVC_MESSAGE_MAX ((size_t)512 << 20)

struct svc_remote {
    struct grpc_client *client;
    char *address;
};

int svc_remote_new(const char *address, struct grpc_loop *loop, struct svc_remote **ret_r,
                   struct status *st)
{
    struct svc_remote *r = xalloc(sizeof *r);
    struct grpc_client_opts o = {
        .address = address,
        .loop = loop,
        .connections = 2,
        .recv_max = SVC_MESSAGE_MAX,
        .send_max = SVC_MESSAGE_MAX,
    };
    int rc;
    r->address = xstrdup(address);
    TRY(grpc_client_new(&o, &r->client, st));
    *ret_r = TAKE(r);
out:
    svc_remote_free(r);
    return rc;
}

void svc_remote_free(struct svc_remote *r)
{
    if (!r) {
        return;
    }
    if (r->client) {
        grpc_client_free(r->client);
    }
    mem_free(r->address);
    mem_free(r);
}

/* The other role's own code when it sent one. */
static int remote_failure(const struct svc_method *m, const struct grpc_resp *resp,
                          struct status *st)
{
    struct slice code = grpc_resp_metadata(resp, SVC_TRAILER_CODE);
    int64_t v;

    if (code.p && parse_i64(code, &v) && v > 0 && v <= INT32_MAX) {
        struct slice retriable = grpc_resp_metadata(resp, SVC_TRAILER_RETRIABLE);
        st_fail(st, (int)v, "%.*s", SLICE_ARG(buf_slice(&resp->message)));
        st->retriable = slice_is(retriable, "1");
        return st->code;
    }
    return st_context(st, "%s.%s", m->service, m->name);
}

static int svc_forward(void *self, enum svc_method_id id, const struct call *call,
                       const ProtobufCMessage *req, ProtobufCMessage *resp, struct status *st)
{
    const struct svc_method *m = &svc__methods[id];
    struct svc_remote *r = self;
    struct grpc_resp answer = { 0 };
    ProtobufCMessage *unpacked = NULL;
    struct grpc_md md = { SLICE_LIT(SVC_MD_REQUEST_ID), slice_of(call->request_id) };
    struct slice body;
    struct buf packed;
    int64_t limit = deadline_in_ms(m->deadline_ms);
    int rc;

    if (call->no_wait) {
        return st_fail(st, ST_WOULD_WAIT, "%s.%s is in another process", m->service, m->name);
    }
    buf_init(&packed, SVC_MESSAGE_MAX);
    if (!proto_pack(req, &packed)) {
        FAIL(st, ST_TOO_LARGE, "%s.%s: request over %zu bytes", m->service, m->name,
             SVC_MESSAGE_MAX);
    }
    struct grpc_req greq = {
        .path = m->path,
        .body = buf_slice(&packed),
        .deadline_us = call->deadline_us < limit ? call->deadline_us : limit,
        .md = &md,
        .md_count = md.value.n ? 1 : 0,
        .wait_ready = true,
        .cancel = call->cancel,
    };
    rc = grpc_client_call(r->client, &greq, &answer, st);
    if (rc != 0) {
        rc = remote_failure(m, &answer, st);
        goto out;
    }
    /* The answer's strings and bytes are copied by unpacking, so the body can go. */
    body = buf_slice(&answer.body);
    unpacked = proto_unpack(m->resp, body, call->ar, st);
    if (!unpacked) {
        rc = st_context(st, "%s.%s: answer", m->service, m->name);
        goto out;
    }
    memcpy(resp, unpacked, m->resp->sizeof_message);
out:
    grpc_resp_done(&answer);
    buf_done(&packed);
    return rc;
}

#define METHOD(service, name, Request, Response, ms)                                               \
    static int forward_##service##_##name(void *self, const struct call *call,                     \
                                          const Elanus__##Request *req, Elanus__##Response *resp,  \
                                          struct status *st)                                       \
    {                                                                                              \
        return svc_forward(self, SVC_M_##service##_##name, call, &req->pb, &resp->pb, st);     \
    }
#include "service/services.def"
#undef METHOD

#define METHOD(service, name, Request, Response, ms) .name = forward_##service##_##name,
struct root_service svc_remote_root(struct svc_remote *r)
{
    return (struct root_service){ .self = r,
#include "service/root.def"
    };
}

struct data_service svc_remote_data(struct svc_remote *r)
{
    return (struct data_service){ .self = r,
#include "service/data.def"
    };
}

struct query_service svc_remote_query(struct svc_remote *r)
{
    return (struct query_service){ .self = r,
#include "service/query.def"
    };
}

struct streaming_service svc_remote_streaming(struct svc_remote *r)
{
    return (struct streaming_service){ .self = r,
#include "service/streaming.def"
    };
}

struct snode_service svc_remote_snode(struct svc_remote *r)
{
    return (struct snode_service){ .self = r,
#include "service/snode.def"
    };
}

struct qnode_service svc_remote_qnode(struct svc_remote *r)
{
    return (struct qnode_service){ .self = r,
#include "service/qnode.def"
    };
}

struct dnode_service svc_remote_dnode(struct svc_remote *r)
{
    return (struct dnode_service){ .self = r,
#include "service/dnode.def"
    };
}

struct proxy_service svc_remote_proxy(struct svc_remote *r)
{
    return (struct proxy_service){ .self = r,
#include "service/proxy.def"
    };
}
#undef METHOD
