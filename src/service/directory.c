/*
 * directory.c - node id -> services.
 *
 * THREADS   A read-write lock around a small array that only grows; entries never move or change
 *           once visible, so callers use them without it.
 */
#include "service/directory.h"
#include "base/alloc.h"
#include "base/lock.h"

#define DIR_NODES_MAX 4096

struct dir_node {
    int64_t id;
    const struct snode_service *snode;
    const struct qnode_service *qnode;
    const struct dnode_service *dnode;
    struct svc_remote *remote; /* owned; NULL in process */
    struct snode_service remote_snode;
    struct qnode_service remote_qnode;
    struct dnode_service remote_dnode;
};

struct svc_dir {
    struct rwlock lock;
    struct grpc_loop *loop;
    size_t n;
    struct dir_node *nodes[DIR_NODES_MAX];
};

struct svc_dir *svc_dir_new(struct grpc_loop *loop)
{
    struct svc_dir *d = xalloc(sizeof *d);
    rwlock_init(&d->lock, RANK_LEAF);
    d->loop = loop;
    return d;
}

void svc_dir_free(struct svc_dir *d)
{
    if (!d) {
        return;
    }
    for (size_t i = 0; i < d->n; i++) {
        svc_remote_free(d->nodes[i]->remote);
        mem_free(d->nodes[i]);
    }
    rwlock_done(&d->lock);
    mem_free(d);
}

/* Holds: the lock, either way. */
static struct dir_node *find(const struct svc_dir *d, int64_t node_id)
{
    for (size_t i = 0; i < d->n; i++) {
        if (d->nodes[i]->id == node_id) {
            return d->nodes[i];
        }
    }
    return NULL;
}

/* Holds: the lock for writing. The directory is full only by a bug in placement. */
static struct dir_node *find_or_add(struct svc_dir *d, int64_t node_id)
{
    struct dir_node *nd = find(d, node_id);
    if (!nd) {
        CHECK(d->n < DIR_NODES_MAX);
        nd = xalloc(sizeof *nd);
        nd->id = node_id;
        d->nodes[d->n++] = nd;
    }
    return nd;
}

void svc_dir_add(struct svc_dir *d, int64_t node_id, const struct snode_service *snode,
                 const struct qnode_service *qnode)
{
    rwlock_write(&d->lock);
    struct dir_node *nd = find_or_add(d, node_id);
    nd->snode = nd->snode ? nd->snode : snode;
    nd->qnode = nd->qnode ? nd->qnode : qnode;
    rwlock_release(&d->lock);
}

void svc_dir_add_dnode(struct svc_dir *d, int64_t node_id, const struct dnode_service *dnode)
{
    rwlock_write(&d->lock);
    struct dir_node *nd = find_or_add(d, node_id);
    nd->dnode = nd->dnode ? nd->dnode : dnode;
    rwlock_release(&d->lock);
}

int svc_dir_add_remote(struct svc_dir *d, int64_t node_id, const char *address, struct status *st)
{
    struct svc_remote *r = NULL;
    int rc;

    TRY(svc_remote_new(address, d->loop, &r, st));
    rwlock_write(&d->lock);
    struct dir_node *nd = find_or_add(d, node_id);
    if (!nd->remote) {
        nd->remote = TAKE(r);
        nd->remote_snode = svc_remote_snode(nd->remote);
        nd->remote_qnode = svc_remote_qnode(nd->remote);
        nd->remote_dnode = svc_remote_dnode(nd->remote);
        nd->snode = nd->snode ? nd->snode : &nd->remote_snode;
        nd->dnode = nd->dnode ? nd->dnode : &nd->remote_dnode;
        nd->qnode = nd->qnode ? nd->qnode : &nd->remote_qnode;
    }
    rwlock_release(&d->lock);
out:
    svc_remote_free(r);
    return rc;
}

int svc_dir_snode(struct svc_dir *d, int64_t node_id, const struct snode_service **ret,
                  struct status *st)
{
    rwlock_read(&d->lock);
    struct dir_node *nd = find(d, node_id);
    const struct snode_service *s = nd ? nd->snode : NULL;
    rwlock_release(&d->lock);
    if (!s) {
        return st_fail(st, ST_UNAVAILABLE, "node %lld serves no shards", (long long)node_id);
    }
    *ret = s;
    return 0;
}

int svc_dir_qnode(struct svc_dir *d, int64_t node_id, const struct qnode_service **ret,
                  struct status *st)
{
    rwlock_read(&d->lock);
    struct dir_node *nd = find(d, node_id);
    const struct qnode_service *q = nd ? nd->qnode : NULL;
    rwlock_release(&d->lock);
    if (!q) {
        return st_fail(st, ST_UNAVAILABLE, "node %lld serves no segments", (long long)node_id);
    }
    *ret = q;
    return 0;
}

int svc_dir_dnode(struct svc_dir *d, int64_t node_id, const struct dnode_service **ret,
                  struct status *st)
{
    rwlock_read(&d->lock);
    struct dir_node *nd = find(d, node_id);
    const struct dnode_service *s = nd ? nd->dnode : NULL;
    rwlock_release(&d->lock);
    if (!s) {
        return st_fail(st, ST_UNAVAILABLE, "node %lld takes no tasks", (long long)node_id);
    }
    *ret = s;
    return 0;
}
