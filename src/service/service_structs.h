/* service_structs.h - one struct of functions per service, from the rows of its .def file. */

#define METHOD(service, name, Request, Response, deadline_ms) service##_##name##_fn *name;
struct root_service {
    void *self;
#include "service/root.def"
};
struct data_service {
    void *self;
#include "service/data.def"
};
struct query_service {
    void *self;
#include "service/query.def"
};
struct streaming_service {
    void *self;
#include "service/streaming.def"
};
struct snode_service {
    void *self;
#include "service/snode.def"
};
struct qnode_service {
    void *self;
#include "service/qnode.def"
};
struct dnode_service {
    void *self;
#include "service/dnode.def"
};
struct proxy_service {
    void *self;
#include "service/proxy.def"
};
#undef METHOD
