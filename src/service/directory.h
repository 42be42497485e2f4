/*
 * directory.h - from a node id to the services of that node.
 *
 * Entries are added when a node is known (in process: its struct of functions; elsewhere: an
 * address) and stay for the life of the directory. Thread-safe; look-ups take no lock that is held
 * over a call.
 */
#pragma once
#include "service/service.h"

struct svc_dir;

/* loop: for remote nodes; NULL makes one when first needed. */
struct svc_dir *svc_dir_new(struct grpc_loop *loop);
void svc_dir_free(struct svc_dir *d);
/* Either struct may be NULL. Borrowed for the life of the directory. A known id gets what was
 * missing. */
void svc_dir_add(struct svc_dir *d, int64_t node_id, const struct snode_service *snode,
                 const struct qnode_service *qnode);
void svc_dir_add_dnode(struct svc_dir *d, int64_t node_id, const struct dnode_service *dnode);
/* Forwarders to all services of a node at an address. */
int svc_dir_add_remote(struct svc_dir *d, int64_t node_id, const char *address, struct status *st);
/* Valid for the life of the directory. ST_UNAVAILABLE names an unknown node. */
int svc_dir_snode(struct svc_dir *d, int64_t node_id, const struct snode_service **ret,
                  struct status *st);
int svc_dir_qnode(struct svc_dir *d, int64_t node_id, const struct qnode_service **ret,
                  struct status *st);
int svc_dir_dnode(struct svc_dir *d, int64_t node_id, const struct dnode_service **ret,
                  struct status *st);
