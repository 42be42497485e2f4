/*
 * node.h - the roles that hold rows: streaming node (shards, growing segments, the log), query node
 * (sealed segments), and the data node, which works on their files. Each is reached through its
 * struct of functions only.
 *
 * Order of life: qn_new, sn_new, dn_new, tell the directory about them, then qn_start, sn_start and
 * dn_start (which register with the coordinator; shards and tasks come then), later sn_stop,
 * dn_stop, sn_free, dn_free, qn_free.
 */
#pragma once
#include "base/pool.h"
#include "base/status.h"
#include "object/object.h"
#include "service/directory.h"
#include "service/service.h"
#include "wal/wal.h"

/* ---- query node ---- */

struct qn;
struct qn_opts {
    int64_t node_id;
    const char *address;             /* of its services; "" in process */
    struct object_store *os;
    struct pool *compute;            /* shared; may be NULL: searches run on the caller's thread */
    const struct streaming_service *streaming;
    const struct data_service *data; /* which index files there are */
};
int qn_new(const struct qn_opts *o, struct qn **ret_qn, struct status *st);
struct qnode_service qn_service(struct qn *qn);
int qn_start(struct qn *qn, struct status *st);
void qn_free(struct qn *qn);

/* ---- data node ---- */

struct dn;
struct dn_opts {
    int64_t node_id;
    const char *address;
    struct object_store *os;
    int index_threads;               /* that build one index */
    size_t index_memory;             /* heap a build should stay under; 0: no bound */
    const struct streaming_service *streaming;
};
int dn_new(const struct dn_opts *o, struct dn **ret_dn, struct status *st);
struct dnode_service dn_service(struct dn *dn);
int dn_start(struct dn *dn, struct status *st);
void dn_stop(struct dn *dn); /* ends what runs */
void dn_free(struct dn *dn);

/* ---- streaming node ---- */

struct sn;
struct sn_opts {
    int64_t node_id;
    const char *address;
    const char *wal_dir;             /* one folder per physical channel below it */
    enum wal_sync wal_sync;
    int64_t wal_sync_interval_ms;
    uint64_t wal_file_size;
    uint64_t wal_prealloc;           /* zeros written ahead of its end; 0: none */
    uint64_t wal_max_bytes;          /* past this the shards holding the log back are flushed */
    struct object_store *os;
    struct pool *compute;
    const struct root_service *root;
    const struct data_service *data;
    const struct query_service *query;
    const struct streaming_service *streaming;
    struct svc_dir *dir;
    uint64_t seal_bytes;             /* a growing segment is sealed at this size ... */
    int64_t seal_idle_ms;            /* ... or when no row came for so long */
    uint64_t memory_high_bytes;      /* unflushed past this: writes get ST_QUOTA; 0: no bound */
};
int sn_new(const struct sn_opts *o, struct sn **ret_sn, struct status *st);
struct snode_service sn_service(struct sn *sn);
/* Registers; the coordinator opens this node's shards (replay) before this returns. */
int sn_start(struct sn *sn, struct status *st);
/* Stops taking writes, finishes what is queued, syncs the log. Reads still work. */
void sn_stop(struct sn *sn);
void sn_free(struct sn *sn);
