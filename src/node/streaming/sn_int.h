/*
 * sn_int.h - the streaming node inside: channels, shards, views.
 *
 * ACTOR     A physical channel has one sequencer thread, the only one that changes the state of its
 *           shards: it takes messages from a queue, gives them timestamps, appends them to the log
 *           as one batch with one sync, applies them and acknowledges. Everything else that changes
 *           a shard (seal, load, swap after a flush, drop) is a control message in the same queue,
 *           so no shard state needs a lock but the pointer to its current view.
 * READERS   take the view (an immutable list of segments and where they are) under the shard's lock,
 *           after the channel has applied what the guarantee timestamp asks for (sn_wait_ts).
 * FLUSH     One thread writes sealed growing segments and delete files, commits them in metadata and
 *           swaps them for the loaded sealed ones; see sn_flush.c for what a crash leaves behind.
 */
#pragma once
#include "base/lock.h"
#include "base/map.h"
#include "node/nd_read.h"
#include "node/node.h"
#include "node/streaming/sn_record.h"
#include "segment/segment.h"
#include <stdatomic.h>

/* ---- views ---- */

struct sn_sealed {
    Elanus__Segment *meta;         /* in the shard's metas arena: immutable */
    int64_t node_id;               /* 0: not loaded anywhere */
};

/* Immutable once published; reference counted. */
struct sn_view {
    _Atomic int refs;
    struct schema *schema;
    bool loaded;                   /* some partition can be read */
    bool whole;                    /* all partitions are loaded, also those made later */
    size_t npartitions;
    int64_t *partitions;           /* loaded ones when !whole */
    size_t ngrowing;
    struct segment **growing;      /* referenced; growing and sealed-but-not-swapped */
    size_t nsealed;
    struct sn_sealed *sealed;      /* loaded ones only */
    int64_t ttl_ms;                /* 0: rows never expire */
};

/* ---- shards ---- */

struct sn_growing {
    struct segment *seg;
    int64_t partition_id;
    int64_t last_write_ms;         /* wall clock */
    uint64_t first_position;       /* 0: nothing appended yet */
    uint64_t last_position;
    bool sealed;                   /* takes no rows any more; the flush thread has it or will */
    size_t bytes;                  /* counted in sn->growing_bytes */
};

struct sn_deletes {                /* not yet in a delete file; keys as cells, in order of ts */
    struct arena *ar;
    size_t n, cap;
    struct slice *keys;            /* 8 bytes for Int64 keys */
    hts *ts;
    uint64_t *positions;
    size_t bytes;
    int64_t oldest_ms;             /* wall clock of the first */
};

struct sn_shard {
    _Atomic int refs;
    struct sn *sn;
    struct sn_channel *ch;
    char *vchannel;
    int64_t collection_id;
    struct lock lock;              /* RANK_NODE_SHARD: view, flushing flag, failed */
    struct sn_view *view;
    bool flush_queued;
    struct status failed;          /* code != 0: memory and log disagree, until the next start */

    /* Owned by the sequencer. */
    struct arena *ar;              /* definition and metas */
    Elanus__Collection *collection;
    struct schema *schema;
    Elanus__Load *load;            /* NULL or LOAD_NONE: not loaded */
    int64_t term;
    size_t ngrowing, growing_cap;
    struct sn_growing *growing;
    size_t nsealed, sealed_cap;
    struct sn_sealed *sealed;      /* flushed segments of this shard, loaded or not */
    size_t ndeltas, deltas_cap;
    Elanus__Delta **deltas;
    struct sn_deletes deletes;
    uint64_t delta_position;
    uint64_t checkpoint;
    bool dropped;
};

/* ---- channels ---- */

struct sn_msg {
    struct sn_msg *next;
    struct sn_shard *shard;        /* NULL for messages about the channel itself */
    /* A write ... */
    const Elanus__WriteReq *write;
    struct arena *ar;              /* of the caller: decoded batches, record heads */
    struct batch *batches;         /* decoded, one per insert part */
    struct batch deletes;
    struct sn_record record;
    size_t bytes;
    /* ... or a control function, run by the sequencer between batches. */
    int (*control)(struct sn_channel *ch, struct sn_msg *m);
    void *arg;
    /* Result. */
    hts ts;
    uint64_t position;
    struct status st;
    bool done;
    struct cond cond;              /* with ch->lock */
};

struct sn_channel {
    struct sn *sn;
    char *name;
    struct wal *wal;
    struct thread *thread;
    struct lock lock;              /* RANK_WAL_QUEUE: the queue and the four fields below */
    struct cond wake;              /* the sequencer waits here */
    struct cond applied;           /* readers wait here */
    struct sn_msg *head, *tail;
    size_t queued, queued_bytes;
    bool busy;                     /* a batch has or will take timestamps and is not applied yet */
    bool stop;
    uint64_t epoch;                /* batches applied */
    _Atomic hts applied_ts;        /* every message up to here is applied */
    uint64_t applied_position;     /* sequencer only */
    int64_t next_id, ids_end;      /* sequencer's stock of ids for segments and delete files */
};

struct sn {
    struct sn_opts opts;
    struct lock lock;              /* RANK_NODE_REGISTRY: shards, channels */
    struct str_map *shards;        /* vchannel -> struct sn_shard * */
    size_t nchannels;
    struct sn_channel *channels[64];
    _Atomic size_t growing_bytes;
    _Atomic bool stopping;
    struct lock flush_lock;        /* RANK_NODE_FLUSH */
    struct cond flush_wake;
    struct sn_shard *flush_queue[4096]; /* ring; referenced */
    size_t flush_head, flush_count;
    bool flush_stop;
    struct thread *flush_thread;
};

/* sn_shard.c */
struct sn_shard *sn__shard_new(struct sn *sn, const Elanus__OpenShardReq *req,
                               struct status *st);
struct sn_shard *sn__shard_ref(struct sn_shard *sh);
void sn__shard_unref(struct sn_shard *sh);
int sn__shard_find(struct sn *sn, const char *vchannel, struct sn_shard **ret, struct status *st);
/* Sequencer: builds and publishes a view from the shard's state. */
void sn__view_publish(struct sn_shard *sh);
struct sn_view *sn__view_get(struct sn_shard *sh);
void sn__view_unref(struct sn_view *vw);
bool sn__view_has_partition(const struct sn_view *vw, int64_t partition_id);
/* Deep copies of protobuf messages into an arena. */
void *sn__copy(const ProtobufCMessage *m, struct arena *ar);
int64_t sn__ttl_ms(const Elanus__Collection *c);
/* Sequencer. */
int sn__deletes_add(struct sn_shard *sh, const struct column *pks, hts ts, uint64_t position,
                    struct status *st);
/* Drops those up to position. */
void sn__deletes_trim(struct sn_shard *sh, uint64_t position);
/* Those behind position as a column and timestamps in ar. */
int sn__deletes_column(const struct sn_shard *sh, uint64_t after_position, struct arena *ar,
                       struct column *ret_pks, const hts **ret_ts, uint64_t *ret_last,
                       struct status *st);
struct sn_growing *sn__growing_find(struct sn_shard *sh, int64_t segment_id);
int sn__growing_add(struct sn_shard *sh, int64_t segment_id, int64_t partition_id,
                    struct sn_growing **ret, struct status *st);
void sn__growing_remove(struct sn_shard *sh, int64_t segment_id);
bool sn__is_flushed(const struct sn_shard *sh, int64_t segment_id);
int sn__sealed_add(struct sn_shard *sh, const Elanus__Segment *meta, int64_t node_id,
                   struct status *st);

/* sn_channel.c */
int sn__channel_get(struct sn *sn, const char *name, int64_t term, struct sn_channel **ret,
                    struct status *st);
void sn__channel_stop(struct sn_channel *ch);
void sn__channel_free(struct sn_channel *ch);
/* Queues and waits. Fails ST_BUSY, ST_NOT_READY, or the message's own status. */
int sn__submit(struct sn_channel *ch, struct sn_msg *m, struct status *st);
/* Runs fn on the sequencer, between batches, and waits for it. */
int sn__control(struct sn_channel *ch, struct sn_shard *sh,
                int (*fn)(struct sn_channel *ch, struct sn_msg *m), void *arg,
                struct status *st);
/* Sequencer: an id that no other segment or delete file has. */
int sn__take_id(struct sn_channel *ch, struct arena *ar, int64_t *ret, struct status *st);
/* Returns when everything with a timestamp up to ts is applied; *ret_read_ts is the newest
 * snapshot that is complete. */
int sn__wait_ts(struct sn_channel *ch, hts ts, int64_t deadline_us, hts *ret_read_ts,
                struct status *st);

/* sn_apply.c: called by the sequencer, and at open by replay. */
int sn__apply_insert(struct sn_shard *sh, struct sn_growing *g, const struct batch *rows, hts ts,
                     uint64_t position, struct status *st);
int sn__apply_deletes(struct sn_shard *sh, const struct column *pks, const int64_t *partitions,
                      size_t npartitions, hts ts, uint64_t position, bool forward,
                      struct status *st);

/* sn_open.c */
int sn__open_shards(struct sn *sn, const struct call *call, const Elanus__OpenShardsReq *req,
                    struct status *st);
/* Loads segments on the nodes of their placements (files and delete files). */
int sn__load_on_nodes(struct sn *sn, const Elanus__Collection *coll, Elanus__Segment *const *segs,
                      size_t nsegs, Elanus__Delta *const *deltas, size_t ndeltas,
                      Elanus__Placement *const *placements, size_t nplacements,
                      struct status *st);
int64_t sn__placed_on(Elanus__Placement *const *placements, size_t n, int64_t segment_id);
/* Sequencer: sends every delete not in a file (or newer than the files given) to a segment. */
int sn__send_deletes(struct sn_shard *sh, int64_t node_id, const int64_t *segment_ids, size_t n,
                     struct status *st);

/* sn_flush.c */
int sn__flush_start(struct sn *sn, struct status *st);
void sn__flush_stop(struct sn *sn);
void sn__flush_queue(struct sn *sn, struct sn_shard *sh);

/* sn_read.c */
int sn__search(struct sn *sn, const struct call *call, const Elanus__SearchReq *req,
               Elanus__SearchResp *resp, struct status *st);
int sn__query(struct sn *sn, const struct call *call, const Elanus__QueryReq *req,
              Elanus__QueryResp *resp, struct status *st);
