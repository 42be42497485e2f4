/*
 * dn.c - the data node: works on files for the coordinator.
 *
 * WHAT      One call is one task: build the index of a field (dn_build.c), write several segments as
 *           one (dn_compact.c). The node remembers nothing between calls and decides nothing: which
 *           file is needed, under which key, and what becomes of it, is the coordinator's.
 * THREADS   A task runs on a thread of its own: it gets what is left of the processors (SCHED_BATCH
 *           and a high nice value, which the threads it makes inherit), so that searches go first.
 *           The thread that brought the call waits, its place given away.
 * FAILURE   An object is put whole or not at all. A crash leaves nothing, or an object that nobody
 *           knows, which is the coordinator's to remove. When the caller goes away the task stops.
 */
#include "node/data/dn_int.h"
#include "base/alloc.h"
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NICE 10

int dn_new(const struct dn_opts *o, struct dn **ret_dn, struct status *st)
{
    struct dn *dn = xalloc(sizeof *dn);

    (void)st;
    dn->opts = *o;
    lock_init(&dn->lock, RANK_NODE_REGISTRY);
    cond_init(&dn->idle);
    *ret_dn = dn;
    return 0;
}

void dn_stop(struct dn *dn)
{
    dn->stop = true;
    lock_acquire(&dn->lock);
    while (dn->running > 0) {
        cond_wait(&dn->idle, &dn->lock);
    }
    lock_release(&dn->lock);
}

void dn_free(struct dn *dn)
{
    if (dn) {
        dn_stop(dn);
        cond_done(&dn->idle);
        lock_done(&dn->lock);
        mem_free(dn);
    }
}

int dn_start(struct dn *dn, struct status *st)
{
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    Elanus__NodeInfo node;
    Elanus__RegisterReq req;
    Elanus__RegisterResp resp;
    int rc;

    elanus__node_info__init(&node);
    elanus__register_req__init(&req);
    elanus__register_resp__init(&resp);
    node.node_id = dn->opts.node_id;
    node.role = "datanode";
    node.address = dn->opts.address;
    req.node = &node;
    rc = dn->opts.streaming->register_node(dn->opts.streaming->self, &call, &req, &resp, st);
    arena_free(ar);
    return rc;
}

/* ---- one task ---- */

int dn__check(void *arg, struct status *st)
{
    const struct dn_task *t = arg;

    if (atomic_load_explicit(&t->dn->stop, memory_order_relaxed) ||
        (t->call->cancel && atomic_load_explicit(t->call->cancel, memory_order_relaxed))) {
        return st_fail(st, ST_CANCELLED, "the task was cancelled");
    }
    return 0;
}

/* Low priority, which the threads of a pool inherit. A refusal changes nothing but the pace. */
static void step_back(void)
{
    struct sched_param none = { 0 };

    (void)sched_setscheduler(0, SCHED_BATCH, &none);
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
}

static void task_main(void *arg)
{
    struct dn_task *t = arg;

    step_back();
    t->rc = t->run(t, &t->st);
}

int dn__run(struct dn_task *t, struct status *st)
{
    struct dn *dn = t->dn;

    lock_acquire(&dn->lock);
    dn->running++;
    lock_release(&dn->lock);
    if (!dn->stop) {
        net_wait_begin();
        thread_join(thread_start("dn-task", task_main, t));
        net_wait_end();
    } else {
        t->rc = st_fail(&t->st, ST_NOT_READY, "the data node is stopping");
    }
    lock_acquire(&dn->lock);
    if (--dn->running == 0) {
        cond_broadcast(&dn->idle);
    }
    lock_release(&dn->lock);
    if (t->rc != 0) {
        *st = t->st;
    }
    return t->rc;
}

struct dnode_service dn_service(struct dn *dn)
{
    return (struct dnode_service){ .self = dn, .build_index = dn__build_index,
                                   .compact = dn__compact };
}
