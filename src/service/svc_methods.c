/*
 * svc_methods.c - the table of every call between roles, made from the .def rows.
 *
 * THREADS   Read-only data.
 */
#include "service/svc_int.h"


/* One caller per method with a common type, so that no function is called through another type. */
#define METHOD(service, name, Request, Response, ms)                                               \
    static int invoke_##service##_##name(const void *impl, const struct call *call,                \
                                         const ProtobufCMessage *req, ProtobufCMessage *resp,      \
                                         struct status *st)                                        \
    {                                                                                              \
        const struct service##_service *s = impl;                                                  \
        return s->name(s->self, call, (const Elanus__##Request *)(const void *)req,                \
                       (Elanus__##Response *)(void *)resp, st);                                    \
    }
#include "service/services.def"
#undef METHOD

#include "service/message_desc.h"

#define METHOD(service, name, Request, Response, ms)                                               \
    [SVC_M_##service##_##name] = { #service,                                                       \
                                   #name,                                                          \
                                   "/elanus." #service "/" #name,                                  \
                                   DESC_##Request,                                                 \
                                   DESC_##Response,                                                \
                                   ms,                                                             \
                                   invoke_##service##_##name },
const struct svc_method svc__methods[SVC_M_COUNT] = {
#include "service/services.def"
};
#undef METHOD
