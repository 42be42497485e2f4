/*
 * coord.h - the coordinator: catalogue and time (root), segments and indexes (data), load state
 * and placement (query), shard ownership (streaming). One leader; decides, never sees a vector.
 *
 * Every change is one metadata transaction before anyone acts on it; tables in memory follow the
 * store. Nodes are reached through the directory, proxies through the list given here.
 */
#pragma once
#include "base/config.h"
#include "base/status.h"
#include "meta/meta.h"
#include "object/object.h"
#include "service/directory.h"
#include "service/service.h"

struct coord;
struct coord_opts {
    struct meta *meta;
    struct object_store *os;
    struct svc_dir *dir;
    const struct config *config;          /* rows of coord_config.def */
    bool nodes_in_process;                /* register_node does not add remote forwarders */
};
/* Reads all metadata. Fails: ST_CORRUPT names the key. */
int coord_new(const struct coord_opts *o, struct coord **ret_co, struct status *st);
struct root_service coord_root(struct coord *co);
struct data_service coord_data(struct coord *co);
struct query_service coord_query(struct coord *co);
struct streaming_service coord_streaming(struct coord *co);
/* Every proxy is told of changes before the change is answered. Before coord_start(). Borrowed. */
void coord_add_proxy(struct coord *co, const struct proxy_service *px);
/* Background work: garbage collection. */
int coord_start(struct coord *co, struct status *st);
void coord_stop(struct coord *co);
void coord_free(struct coord *co);
