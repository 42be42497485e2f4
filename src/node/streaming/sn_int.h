/*
 * sn_int.h - the streaming node inside: channels, shards, views.
 *
 * ACTOR     A physical channel has one sequencer thread, the only one that changes the state of its
 *           shards: it takes messages from a queue, gives them timestamps, appends them to the log
 *           as one batch with one sync, applies them and acknowledges. Everything else that changes
 *           a shard (seal, load, swap after a flush, drop) is a control message in the same queue,
 *           so no shard state needs a lock but the pointer to its current view.
 * READERS   take the view (an immutable list of segments and where they are) under the shard's
 *           lock, after the channel has applied what the guarantee timestamp asks for (sn_wait_ts).
 * FLUSH     One thread writes sealed growing segments and delete files and commits them in
 *           metadata; see sn_flush.c for what a crash leaves behind.
 * LOADING   Flushed segments are served by query nodes. sn_load.c brings the two together, and is
 *           the only place that decides a sealed segment may be read. sn_replace.c has one take the
 *           place of others.
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
    struct segment **growing;      /* referenced; growing and flushed-but-not-swapped */
    size_t nsealed;
    struct sn_sealed *sealed;      /* loaded ones only */
    size_t nmissing;
    Elanus__Segment **missing;     /* to be readable, and on no node: reads of these fail */
    int64_t ttl_ms;                /* 0: rows never expire */
};

/* ---- shards ---- */

struct sn_growing {
    struct segment *seg;
    int64_t id, partition_id;
    uint64_t nrows;
    int64_t last_write_ms;         /* wall clock */
    uint64_t first_position;       /* 0: nothing appended yet */
    uint64_t last_position;
    bool sealed;                   /* takes no rows any more; the flush thread has it or will */
    size_t bytes;                  /* counted in sn->growing_bytes */
};

/* Which partitions a delete concerns; n == 0: all. */
struct sn_scope {
    size_t n;
    int64_t *ids;
};

struct sn_deletes {                /* not yet in a delete file; keys as cells, in order of ts */
    struct arena *ar;
    size_t n, cap;
    struct slice *keys;            /* 8 bytes for Int64 keys */
    struct sn_delete_at {
        hts ts;
        uint64_t position;
        uint32_t scope;            /* index below */
    } *at;
    size_t nscopes, scopes_cap;
    struct sn_scope *scopes;       /* ids in ar */
    size_t bytes;                  /* counted in sn->growing_bytes */
    int64_t oldest_ms;             /* wall clock of the first */
};

/* Deletes of one scope, to be sent or written together. */
struct sn_group {
    struct sn_scope scope;
    struct column pks;
    const hts *ts;
};

struct sn_shard {
    _Atomic int refs;
    struct sn *sn;
    struct sn_channel *ch;
    char *vchannel;
    int64_t collection_id;
    struct lock lock;              /* RANK_NODE_SHARD: the five fields below */
    struct sn_view *view;
    struct status failed;          /* code != 0: memory and log disagree, until the next start */
    bool loading;                  /* somebody loads or replaces segments (sn_load.h) */
    struct cond load_free;
    struct status load_failed;     /* why the last sn__reconcile() failed, told to readers */

    /* Behind sn->flush_lock. */
    bool flush_queued;
    int64_t flush_pause_ms;        /* after a failure */
    int64_t flush_at_us;           /* not before */

    /* sn_tend.c */
    _Atomic bool tend_queued;
    _Atomic int64_t tend_at_us;    /* not before */
    _Atomic bool tend_guides;      /* some may have left the view */

    /* Owned by the sequencer. */
    struct arena *ar;              /* descriptions of segments and delete files */
    struct arena *coll_ar, *load_ar; /* replaced with what lies in them */
    Elanus__Collection *collection;
    struct schema *schema;
    Elanus__Load *load;            /* NULL or LOAD_NONE: not loaded */
    int64_t term;
    size_t ngrowing, growing_cap;
    struct sn_growing *growing;    /* those that are flushed stay until they are readable sealed */
    size_t nsealed, sealed_cap;
    struct sn_sealed *sealed;      /* flushed segments of this shard, loaded or not */
    size_t ndeltas, deltas_cap;
    Elanus__Delta **deltas;
    size_t ngone_deltas;
    int64_t *gone_deltas;          /* told to forget since the last flush: it may not know them yet */
    size_t ndropped;
    int64_t *dropped_partitions;   /* since the shard was opened: writes to them are refused */
    struct sn_deletes deletes;
    uint64_t delta_position;
    uint64_t checkpoint;
    uint64_t failed_position;      /* the record that memory could not follow; 0: none */
    uint64_t flush_deletes_to;     /* deletes up to here go to a file even without a segment */
    bool dropped;
};

/* ---- channels ---- */

struct sn_msg {
    struct sn_msg *next;
    struct sn_shard *shard;        /* NULL for messages about the channel itself */
    /* A write ... */
    struct batch *batches;         /* decoded, one per insert part, in the caller's memory */
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
    _Atomic size_t growing_bytes;  /* of growing segments and pending deletes */
    struct lock flush_lock;        /* RANK_NODE_FLUSH */
    struct cond flush_wake;
    size_t flush_n, flush_cap;
    struct sn_shard **flush_queue; /* referenced, each at most once */
    bool flush_stop;
    struct thread *flush_thread;
    struct nd_measures measures;
    struct sn_tend *tend;          /* sn_tend.c */
};

/* sn_shard.c */
struct sn_shard *sn__shard_new(struct sn *sn, const Elanus__OpenShardReq *req,
                               struct status *st);
struct sn_shard *sn__shard_ref(struct sn_shard *sh);
void sn__shard_unref(struct sn_shard *sh);
int sn__shard_find(struct sn *sn, const char *vchannel, struct sn_shard **ret, struct status *st);
/* Neither dropped nor opened anew. */
bool sn__shard_is_current(struct sn *sn, const struct sn_shard *sh);
/* Sequencer: builds and publishes a view from the shard's state. */
void sn__view_publish(struct sn_shard *sh);
struct sn_view *sn__view_get(struct sn_shard *sh);
void sn__view_unref(struct sn_view *vw);
bool sn__view_has_partition(const struct sn_view *vw, int64_t partition_id);
/* Whether a partition is to be readable. load may be NULL. */
bool sn__load_wants(const Elanus__Load *load, int64_t partition_id);
/* Deep copies of protobuf messages into an arena. */
void *sn__copy(const ProtobufCMessage *m, struct arena *ar);
/* Sequencer: replace the definition; what is to be loaded (NULL: nothing). */
int sn__set_collection(struct sn_shard *sh, const Elanus__Collection *c, struct status *st);
void sn__set_load(struct sn_shard *sh, const Elanus__Load *load);
/* The shard answers with this from now on. */
void sn__set_failed(struct sn_shard *sh, const struct status *why);
/* Sequencer. */
struct sn_growing *sn__growing_find(struct sn_shard *sh, int64_t segment_id);
int sn__growing_add(struct sn_shard *sh, int64_t segment_id, int64_t partition_id,
                    struct sn_growing **ret, struct status *st);
void sn__growing_remove(struct sn_shard *sh, struct sn_growing *g);
struct sn_sealed *sn__sealed_find(const struct sn_shard *sh, int64_t segment_id);
/* Nothing when it is there already. */
void sn__sealed_add(struct sn_shard *sh, const Elanus__Segment *meta);
bool sn__partition_is_dropped(const struct sn_shard *sh, int64_t partition_id);
void sn__delta_add(struct sn_shard *sh, const Elanus__Delta *delta);
bool sn__delta_is_gone(const struct sn_shard *sh, int64_t id); /* in gone_deltas */
/* Growing segments whose rows are served sealed, or need not be served, go. */
void sn__swap_flushed(struct sn_shard *sh);
/* The oldest record the shard needs of the log; UINT64_MAX: none. */
uint64_t sn__shard_low(const struct sn_shard *sh);

/* sn_deletes.c: deletes that are in no delete file yet. Sequencer. */
bool sn__scope_has(const struct sn_scope *s, int64_t partition_id);
int sn__deletes_add(struct sn_shard *sh, const struct column *pks, const struct sn_scope *scope,
                    hts ts, uint64_t position, struct status *st);
/* Drops those up to position. */
void sn__deletes_trim(struct sn_shard *sh, uint64_t position);
/* As groups in ar, one per scope, oldest records first; at most max scopes: *ret_last is the
 * position of the last record in them (0 when there is none), and whatever is behind it is left
 * out. */
int sn__deletes_groups(const struct sn_shard *sh, size_t max, struct arena *ar,
                       struct sn_group **ret, size_t *ret_n, uint64_t *ret_last,
                       struct status *st);
/* Sends a group to those of `to` that are loaded and in its scope, one call per node. A node that
 * cannot be told: with `lost`, lost[i] is set for its segments and the others go on; without, that
 * is the failure. */
int sn__send_group(struct sn_shard *sh, const struct sn_group *g, const struct sn_sealed *to,
                   size_t n, bool *lost, struct status *st);
/* Every pending delete, the same way. */
int sn__send_pending(struct sn_shard *sh, const struct sn_sealed *to, size_t n, bool *lost,
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
/* Sequencer: n timestamps from the oracle. */
int sn__take_timestamps(struct sn_channel *ch, size_t n, struct arena *ar, hts *ret,
                        struct status *st);
/* Sequencer: an id that no other segment or delete file has. */
int sn__take_id(struct sn_channel *ch, struct arena *ar, int64_t *ret, struct status *st);
/* Returns when everything with a timestamp up to ts is applied; *ret_read_ts is the newest
 * snapshot that is complete. */
int sn__wait_ts(struct sn_channel *ch, hts ts, const struct call *call, hts *ret_read_ts,
                struct status *st);

/* sn_apply.c: called by the sequencer, and at open by replay. */
int sn__apply_insert(struct sn_shard *sh, struct sn_growing *g, const struct batch *rows, hts ts,
                     uint64_t position, struct status *st);
int sn__apply_deletes(struct sn_shard *sh, const struct column *pks, const struct sn_scope *scope,
                      hts ts, uint64_t position, bool forward, struct status *st);

/* Fails when the rows do not fit the schema: they must not reach the log. */
int sn__check_rows(const struct schema *schema, const struct batch *rows, struct status *st);

/* sn_open.c */
int sn__open_shards(struct sn *sn, const struct call *call, const Elanus__OpenShardsReq *req,
                    struct status *st);

/* sn_load.c */
/* Makes what is to be readable readable: loads flushed segments that no node serves, and swaps them
 * for growing ones. Any thread but the sequencer; one at a time. */
struct sn_want {
    const Elanus__Load *load;      /* becomes the load state on success; NULL: as it is now */
    Elanus__Placement *const *placements; /* known already; the coordinator is asked for others */
    size_t nplacements;
    bool wait;                     /* for whoever does the same; else ST_BUSY */
};
int sn__reconcile(struct sn_shard *sh, const struct sn_want *want, const struct call *call,
                  struct status *st);
/* Asks the nodes what they hold: segments they have lost are missing from the view, and loaded
 * again by the flush thread. Any thread but the sequencer. */
int sn__verify_loaded(struct sn_shard *sh, struct status *st);
/* A node may forget a segment. Thread: whoever is loading, or the sequencer. */
void sn__release_on_node(struct sn_shard *sh, int64_t node, int64_t segment_id);
/* Sequencer: tells the nodes that serve this shard the new definition; what those serve that cannot
 * be told is served no more. The view is still to be published. */
void sn__send_definition(struct sn_shard *sh);

/* sn_replace.c */
int sn__replace_segments(struct sn *sn, const struct call *call,
                         const Elanus__ReplaceSegmentsReq *req, struct status *st);

/* sn_flush.c */
int sn__flush_start(struct sn *sn, struct status *st);
void sn__flush_stop(struct sn *sn);
/* The flush thread will look at the shard: what is sealed, pending deletes, what is missing. */
void sn__flush_queue(struct sn *sn, struct sn_shard *sh);

/* sn_tend.c */
void sn__tend_new(struct sn *sn);
void sn__tend_stop(struct sn *sn); /* ends its thread; nothing is taken any more */
void sn__tend_free(struct sn *sn);
/* After a search of these growing segments: the shard will be tended when one of them wants it.
 * Neither waits nor works. Thread: any. */
void sn__tend_look(struct sn_shard *sh, struct segment *const *growing, size_t n);
/* A view was published that lacks segments which growing rows may be attached to. Thread: any. */
void sn__tend_guides(struct sn_shard *sh);

/* sn_read.c */
int sn__search(struct sn *sn, const struct call *call, const Elanus__SearchReq *req,
               Elanus__SearchResp *resp, struct status *st);
int sn__query(struct sn *sn, const struct call *call, const Elanus__QueryReq *req,
              Elanus__QueryResp *resp, struct status *st);
