/* svc_int.h - the method table shared by forwarders and servers of this room. */
#pragma once
#include "service/service.h"

enum svc_method_id {
#define METHOD(service, name, Request, Response, deadline_ms) SVC_M_##service##_##name,
#include "service/services.def"
#undef METHOD
    SVC_M_COUNT
};

struct svc_method {
    const char *service, *name, *path;
    const ProtobufCMessageDescriptor *req, *resp;
    int64_t deadline_ms;
    /* Calls the function of struct <service>_service `impl`. */
    int (*invoke)(const void *impl, const struct call *call, const ProtobufCMessage *req,
                  ProtobufCMessage *resp, struct status *st);
};
extern const struct svc_method svc__methods[SVC_M_COUNT];

/* Trailer names: the cause behind a failed call; grpc-message has the text. */
#define SVC_TRAILER_CODE "elanus-code"
#define SVC_TRAILER_RETRIABLE "elanus-retriable"
#define SVC_MD_REQUEST_ID "client-request-id"
