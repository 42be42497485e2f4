/* px_methods.h - prototypes of every handler, from the rows of methods.def. */
#pragma once
#include "proxy/px_int.h"

#define PX_METHOD(Name, Request, Response, handler, pool)                                          \
    int handler(struct px_call *pc, const Milvus__Proto__Milvus__##Request *req,                   \
                Milvus__Proto__Milvus__##Response *resp, struct status *st);
#define PX_STATUS_METHOD(Name, Request, handler, pool)                                             \
    int handler(struct px_call *pc, const Milvus__Proto__Milvus__##Request *req,                   \
                Milvus__Proto__Common__Status *resp, struct status *st);
#define PX_UNSERVED(service, Name)
#include "proxy/methods.def"
#undef PX_METHOD
#undef PX_STATUS_METHOD
#undef PX_UNSERVED
