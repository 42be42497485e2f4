/*
 * standalone.c - every role in one process: assembly, start, drain.
 *
 * WHAT      Stores, then roles, then ports. Roles get the services they use as structs of functions;
 *           with --services remote these forward over a loopback port of this same process, so that
 *           every call between roles is a message, as it is in a cluster.
 * THREADS   The main thread starts everything, waits for a signal, stops everything.
 * FAILURE   Any failure at start is one line on standard error and exit status 1.
 */
#include "main/main.h"
#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "coord/coord.h"
#include "main/manage.h"
#include "main/options.h"
#include "meta/meta.h"
#include "net/grpc.h"
#include "node/node.h"
#include "proto/proto.h"
#include "proxy/proxy.h"
#include "service/directory.h"
#include "simd/simd.h"
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define LOG_ROOM "main"

#define NODE_ID 1 /* the one node of a standalone server */

/* The services as their roles implement them, and as the other roles use them. */
struct wiring {
    struct root_service root;
    struct data_service data;
    struct query_service query;
    struct streaming_service streaming;
    struct snode_service snode;
    struct qnode_service qnode;
    struct dnode_service dnode;
    struct proxy_service proxy;
};

struct server {
    struct config *cfg;
    struct options_flags flags;
    struct manage manage;
    struct meta *meta;
    struct object_store *os;
    struct pool *compute;
    struct svc_dir *dir;
    struct coord *coord;
    struct qn *qn;
    struct sn *sn;
    struct dn *dn;
    struct proxy *proxy;
    struct net_server *net;        /* public port */
    struct grpc_health *health;
    struct net_server *mgmt;       /* management port: from the first moment to the last */
    struct wiring impl, use;
    /* --services remote */
    struct net_server *inner;
    struct grpc_loop *loop;
    struct svc_remote *remote;
    struct arena *ar;
    char *meta_dir, *log_dir, *object_dir;
};

static int processors(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : (int)n;
}

/* ---- stores ---- */

static int open_stores(struct server *sv, struct status *st)
{
    const char *data = config_str(sv->cfg, "localStorage.path");
    int rc;

    sv->meta_dir = path_join(data, "meta");
    sv->log_dir = path_join(data, "log");
    sv->object_dir = path_join(data, "objects");
    TRY(dir_make(data, st));
    TRY(meta_rocksdb_open(sv->meta_dir, &sv->meta, st));
    TRY(dir_make(sv->log_dir, st));
    TRY(object_local_open(sv->object_dir, &sv->os, st));
out:
    return rc;
}

/* ---- roles ---- */

static enum wal_sync wal_mode(const char *s)
{
    return strcmp(s, "always") == 0     ? WAL_SYNC_ALWAYS
           : strcmp(s, "interval") == 0 ? WAL_SYNC_INTERVAL
                                        : WAL_SYNC_NEVER;
}

static uint64_t growing_limit(const struct config *cfg)
{
    int64_t set = config_int(cfg, "quotaAndLimits.limitWriting.growingBytes");
    if (set > 0) {
        return (uint64_t)set;
    }
    return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / 2;
}

static size_t index_memory(const struct config *cfg)
{
    int64_t set = config_int(cfg, "dataNode.indexBuild.memory");
    if (set > 0) {
        return (size_t)set;
    }
    return (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE) / 2;
}

static int make_nodes(struct server *sv, struct status *st)
{
    int64_t threads = config_int(sv->cfg, "dataNode.indexBuild.threads");
    struct qn_opts qo = {
        .node_id = NODE_ID,
        .address = "",
        .os = sv->os,
        .compute = sv->compute,
        .streaming = &sv->use.streaming,
        .data = &sv->use.data,
    };
    struct dn_opts dno = {
        .node_id = NODE_ID,
        .address = "",
        .os = sv->os,
        .index_threads = threads ? (int)threads : processors(),
        .index_memory = index_memory(sv->cfg),
        .streaming = &sv->use.streaming,
    };
    struct sn_opts so = {
        .node_id = NODE_ID,
        .address = "",
        .wal_dir = sv->log_dir,
        .wal_sync = wal_mode(config_str(sv->cfg, "wal.sync")),
        .wal_sync_interval_ms = config_int(sv->cfg, "wal.syncIntervalMs"),
        .wal_file_size = (uint64_t)config_int(sv->cfg, "wal.fileSize"),
        .wal_prealloc = (uint64_t)config_int(sv->cfg, "wal.preallocate"),
        .wal_max_bytes = (uint64_t)config_int(sv->cfg, "wal.maxBytes"),
        .os = sv->os,
        .compute = sv->compute,
        .root = &sv->use.root,
        .data = &sv->use.data,
        .query = &sv->use.query,
        .streaming = &sv->use.streaming,
        .dir = sv->dir,
        .seal_bytes = (uint64_t)((double)config_int(sv->cfg, "dataCoord.segment.maxSize") *
                                 1048576.0 *
                                 config_float(sv->cfg, "dataCoord.segment.sealProportion")),
        .seal_idle_ms = config_int(sv->cfg, "dataCoord.segment.maxIdleTime") * 1000,
        .memory_high_bytes = growing_limit(sv->cfg),
    };
    int rc;

    TRY(qn_new(&qo, &sv->qn, st));
    TRY(sn_new(&so, &sv->sn, st));
    TRY(dn_new(&dno, &sv->dn, st));
out:
    return rc;
}

static int make_roles(struct server *sv, struct status *st)
{
    struct coord_opts co = {
        .meta = sv->meta,
        .os = sv->os,
        .dir = sv->dir,
        .config = sv->cfg,
        .nodes_in_process = true,
    };
    struct proxy_opts po = {
        .root = &sv->use.root,
        .data = &sv->use.data,
        .query = &sv->use.query,
        .streaming = &sv->use.streaming,
        .dir = sv->dir,
        .config = sv->cfg,
        .deploy_mode = "STANDALONE",
    };
    int rc;

    TRY(coord_new(&co, &sv->coord, st));
    sv->impl.root = coord_root(sv->coord);
    sv->impl.data = coord_data(sv->coord);
    sv->impl.query = coord_query(sv->coord);
    sv->impl.streaming = coord_streaming(sv->coord);
    TRY(make_nodes(sv, st));
    sv->impl.qnode = qn_service(sv->qn);
    sv->impl.snode = sn_service(sv->sn);
    sv->impl.dnode = dn_service(sv->dn);
    TRY(proxy_new(&po, &sv->proxy, st));
    sv->impl.proxy = proxy_service_of(sv->proxy);
out:
    return rc;
}

/* ---- wiring ---- */

static int serve_all(struct server *sv, struct status *st)
{
    struct net_server *srv = sv->inner;
    int rc;

    TRY(svc_serve(srv, "root", &sv->impl.root, sv->ar, st));
    TRY(svc_serve(srv, "data", &sv->impl.data, sv->ar, st));
    TRY(svc_serve(srv, "query", &sv->impl.query, sv->ar, st));
    TRY(svc_serve(srv, "streaming", &sv->impl.streaming, sv->ar, st));
    TRY(svc_serve(srv, "snode", &sv->impl.snode, sv->ar, st));
    TRY(svc_serve(srv, "qnode", &sv->impl.qnode, sv->ar, st));
    TRY(svc_serve(srv, "dnode", &sv->impl.dnode, sv->ar, st));
    TRY(svc_serve(srv, "proxy", &sv->impl.proxy, sv->ar, st));
    TRY(net_server_start(srv, st));
out:
    return rc;
}

static int wire_remote(struct server *sv, struct status *st)
{
    struct net_opts no;
    struct net_listen nl = { .host = "127.0.0.1", .port = 0, .grpc = true };
    char address[64];
    int port, rc;

    net_opts_default(&no);
    no.limits.recv_max = (size_t)512 << 20;
    no.limits.send_max = (size_t)512 << 20;
    TRY(net_server_new(&no, &sv->inner, st));
    TRY(net_server_listen(sv->inner, &nl, &port, st));
    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    TRY(grpc_loop_new(&sv->loop, st));
    TRY(svc_remote_new(address, sv->loop, &sv->remote, st));
    sv->use = (struct wiring){
        .root = svc_remote_root(sv->remote),
        .data = svc_remote_data(sv->remote),
        .query = svc_remote_query(sv->remote),
        .streaming = svc_remote_streaming(sv->remote),
        .snode = svc_remote_snode(sv->remote),
        .qnode = svc_remote_qnode(sv->remote),
        .dnode = svc_remote_dnode(sv->remote),
        .proxy = svc_remote_proxy(sv->remote),
    };
    TRY(serve_all(sv, st));
out:
    return rc;
}

/* ---- ports ---- */

/* Before anything that may take long, so that probes can tell starting from dead. */
static int open_management(struct server *sv, int *ret_port, struct status *st)
{
    struct net_listen mgmt = {
        .host = config_str(sv->cfg, "proxy.ip"),
        .port = (int)config_int(sv->cfg, "management.port"),
        .http = manage_http,
        .http_class = manage_http_class,
        .http_arg = &sv->manage,
    };
    struct net_opts no;
    int rc;

    net_opts_default(&no);
    TRY(net_server_new(&no, &sv->mgmt, st));
    TRY(net_server_listen(sv->mgmt, &mgmt, ret_port, st));
    TRY(net_server_start(sv->mgmt, st));
out:
    return rc;
}

static int open_public(struct server *sv, int *ret_port, struct status *st)
{
    const struct config *cfg = sv->cfg;
    int64_t tls_mode = config_int(cfg, "common.security.tlsMode");
    int64_t searches = config_int(cfg, "net.searchThreads");
    struct tls_opts tls = {
        .cert_file = config_str(cfg, "tls.serverPemPath"),
        .key_file = config_str(cfg, "tls.serverKeyPath"),
        .ca_file = tls_mode == 2 ? config_str(cfg, "tls.caPemPath") : NULL,
        .require_client_cert = tls_mode == 2,
    };
    struct net_listen pub = {
        .host = config_str(cfg, "proxy.ip"),
        .port = (int)config_int(cfg, "proxy.port"),
        .tls = tls_mode ? &tls : NULL,
        .grpc = true,
        .http = proxy_http,
        .http_class = proxy_http_class,
        .http_arg = sv->proxy,
    };
    struct net_opts no;
    int rc;

    net_opts_default(&no);
    no.threads = (int)config_int(cfg, "net.threads");
    no.threads = no.threads ? no.threads : MIN(processors(), 16);
    no.limits.recv_max = (size_t)config_int(cfg, "proxy.grpc.serverMaxRecvSize");
    no.limits.send_max = (size_t)config_int(cfg, "proxy.grpc.serverMaxSendSize");
    no.pool[NET_POOL_READ].threads = searches ? (int)searches : 2 * processors();
    no.on_done = manage_on_done;
    no.on_done_arg = &sv->manage;
    TRY(net_server_new(&no, &sv->net, st));
    TRY(proxy_register(sv->proxy, sv->net, st));
    TRY(grpc_health_register(sv->net, &sv->health, st));
    TRY(grpc_reflect_register(sv->net, proto_descriptor_set(), st));
    TRY(net_server_listen(sv->net, &pub, ret_port, st));
    TRY(net_server_start(sv->net, st));
out:
    return rc;
}

/* ---- life ---- */

static void set_serving(struct server *sv, bool serving)
{
    sv->manage.ready = serving;
    if (sv->health) {
        grpc_health_set(sv->health, "", serving);
        grpc_health_set(sv->health, "milvus.proto.milvus.MilvusService", serving);
    }
}

static int start(struct server *sv, struct status *st)
{
    int64_t compute = config_int(sv->cfg, "compute.threads");
    int64_t began = clock_mono_us();
    int port, manage, rc;

    sv->ar = arena_new(0);
    TRY(open_management(sv, &manage, st));
    TRY(open_stores(sv, st));
    sv->compute = pool_new("compute", compute ? (int)compute : processors(), 65536);
    sv->dir = svc_dir_new(NULL);
    TRY(make_roles(sv, st));
    if (sv->flags.remote_services) {
        TRY(wire_remote(sv, st));
    } else {
        sv->use = sv->impl;
    }
    svc_dir_add(sv->dir, NODE_ID, &sv->use.snode, &sv->use.qnode);
    svc_dir_add_dnode(sv->dir, NODE_ID, &sv->use.dnode);
    coord_add_proxy(sv->coord, &sv->use.proxy);
    TRY(coord_start(sv->coord, st));
    TRY(qn_start(sv->qn, st));
    TRY(sn_start(sv->sn, st));
    TRY(dn_start(sv->dn, st));
    TRY(open_public(sv, &port, st));
    proxy_set_ready(sv->proxy, true);
    set_serving(sv, true);
    LOG_I("ready: version=%s address=%s port=%d management=%d data=%s services=%s ms=%lld",
          ELANUS_VERSION, config_str(sv->cfg, "proxy.ip"), port, manage,
          config_str(sv->cfg, "localStorage.path"),
          sv->flags.remote_services ? "remote" : "local",
          (long long)(clock_mono_us() - began) / 1000);
out:
    return rc;
}

static void stop(struct server *sv)
{
    int64_t patience = sv->cfg ? config_int(sv->cfg, "drain.timeoutMs") : 0;

    set_serving(sv, false);
    if (sv->net && !net_server_drain(sv->net, deadline_in_ms(patience))) {
        LOG_W("some calls were cut: drain.timeoutMs=%lld", (long long)patience);
    }
    net_server_free(sv->net);
    grpc_health_free(sv->health);
    if (sv->sn) {
        sn_stop(sv->sn);
    }
    if (sv->coord) {
        coord_stop(sv->coord); /* cancels builds, which begin again at the next start */
    }
    if (sv->dn) {
        dn_stop(sv->dn);
    }
    if (sv->inner) {
        (void)net_server_drain(sv->inner, deadline_in_ms(1000));
    }
    net_server_free(sv->inner);
    proxy_free(sv->proxy);
    sn_free(sv->sn);
    dn_free(sv->dn);
    qn_free(sv->qn);
    coord_free(sv->coord);
    svc_dir_free(sv->dir);
    svc_remote_free(sv->remote);
    grpc_loop_free(sv->loop);
    pool_free(sv->compute);
    object_close(sv->os);
    meta_close(sv->meta);
    net_server_free(sv->mgmt);
    manage_done(&sv->manage);
    mem_free(sv->meta_dir);
    mem_free(sv->log_dir);
    mem_free(sv->object_dir);
    arena_free(sv->ar);
    config_free(sv->cfg);
}

/* Connections and mapped files: take what the system allows. */
static void raise_file_limit(void)
{
    struct rlimit rl;
    if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < rl.rlim_max) {
        rl.rlim_cur = rl.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &rl);
    }
}

/* The C library raises its threshold for mapped blocks with every large block freed, and then keeps
 * the chunks of flushed segments for good. A fixed one gives them back. */
static void give_memory_back(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 4 << 20);
    (void)mallopt(M_ARENA_MAX, 8);
}

int cmd_run(int argc, char **argv)
{
    struct server sv = { 0 };
    struct status st = STATUS_INIT;
    enum log_level level;
    sigset_t set;
    int sig, rc = 1;

    if (argc < 1 || strcmp(argv[0], "standalone") != 0) {
        fprintf(stderr, "elanus run: \"standalone\" is the one way to run so far\n");
        return 2;
    }
    sv.cfg = options_new();
    if (options_parse(sv.cfg, argc - 1, argv + 1, &sv.flags, &st) != 0) {
        fprintf(stderr, "elanus: %s\n", st.msg);
        config_free(sv.cfg);
        return 2;
    }
    if (sv.flags.help) {
        options_help(sv.cfg, stdout);
        config_free(sv.cfg);
        return 0;
    }
    if (log_level_parse(config_str(sv.cfg, "log.level"), &level)) {
        log_threshold = (int)level;
    }
    (void)simd_cap(config_str(sv.cfg, "simd.level"));
    raise_file_limit();
    give_memory_back();
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL); /* before any thread: all inherit it */
    if (start(&sv, &st) != 0) {
        fprintf(stderr, "elanus: not started: %s\n", st.msg);
    } else {
        sigwait(&set, &sig);
        LOG_I("stopping: signal=%s", sig == SIGTERM ? "TERM" : "INT");
        rc = 0;
    }
    stop(&sv);
    return rc;
}
