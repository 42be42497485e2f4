/* test_service_remote.c - a call through forwarder and server gives what the role gave. */
#include "unit.h"
#include "base/alloc.h"
#include "service/directory.h"
#include "service/service.h"
#include <stdio.h>
#include <string.h>

struct fake {
    int calls;
    int fail_code;
    char request_id[64];
};

static int fake_alloc_id(void *self, const struct call *call, const Elanus__AllocReq *req,
                         Elanus__AllocResp *resp, struct status *st)
{
    struct fake *f = self;
    f->calls++;
    snprintf(f->request_id, sizeof f->request_id, "%s", call->request_id);
    if (f->fail_code) {
        st_fail(st, f->fail_code, "no ids for you: %u of \"them\" \xc3\xa9", req->count);
        st->retriable = true;
        return st->code;
    }
    resp->first = 77;
    resp->count = req->count;
    return 0;
}

static int fake_fetch(void *self, const struct call *call, const Elanus__FetchReq *req,
                      Elanus__FetchResp *resp, struct status *st)
{
    (void)self;
    resp->batch.len = req->n_rows * 4;
    resp->batch.data = arena_try(call->ar, resp->batch.len);
    if (!resp->batch.data) {
        return st_fail(st, ST_NO_MEMORY, "no memory");
    }
    memcpy(resp->batch.data, req->rows, resp->batch.len);
    return 0;
}

struct env {
    struct fake fake;
    struct root_service root;
    struct qnode_service qnode;
    struct net_server *srv;
    struct grpc_loop *loop;
    struct arena *ar;
    char address[64];
};

static int setup(void **state)
{
    struct env *e = xalloc(sizeof *e);
    struct status st = STATUS_INIT;
    struct net_opts no;
    struct net_listen nl = { .host = "127.0.0.1", .port = 0, .grpc = true };
    int port;

    e->ar = arena_new(0);
    e->root = (struct root_service){ .self = &e->fake, .alloc_id = fake_alloc_id };
    e->qnode = (struct qnode_service){ .self = &e->fake, .fetch = fake_fetch };
    net_opts_default(&no);
    ASSERT_OK(net_server_new(&no, &e->srv, &st));
    ASSERT_OK(net_server_listen(e->srv, &nl, &port, &st));
    ASSERT_OK(svc_serve(e->srv, "root", &e->root, e->ar, &st));
    ASSERT_OK(svc_serve(e->srv, "qnode", &e->qnode, e->ar, &st));
    ASSERT_OK(net_server_start(e->srv, &st));
    ASSERT_OK(grpc_loop_new(&e->loop, &st));
    snprintf(e->address, sizeof e->address, "127.0.0.1:%d", port);
    *state = e;
    return 0;
}

static int teardown(void **state)
{
    struct env *e = *state;
    net_server_free(e->srv);
    grpc_loop_free(e->loop);
    arena_free(e->ar);
    mem_free(e);
    return 0;
}

static void test_call_when_role_succeeds_then_answer_arrives(void **state)
{
    struct env *e = *state;
    struct status st = STATUS_INIT;
    struct svc_remote *r;
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    Elanus__AllocReq req;
    Elanus__AllocResp resp;

    call.request_id = "abc-1";
    ASSERT_OK(svc_remote_new(e->address, e->loop, &r, &st));
    struct root_service root = svc_remote_root(r);
    elanus__alloc_req__init(&req);
    elanus__alloc_resp__init(&resp);
    req.count = 5;
    ASSERT_OK(root.alloc_id(root.self, &call, &req, &resp, &st));
    assert_int_equal(resp.first, 77);
    assert_int_equal(resp.count, 5);
    assert_string_equal(e->fake.request_id, "abc-1");
    svc_remote_free(r);
    arena_free(ar);
}

static void test_call_when_role_fails_then_code_text_and_retriable_arrive(void **state)
{
    struct env *e = *state;
    struct svc_remote *r;
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    static const int codes[] = { ST_NOT_FOUND, ST_TIMEOUT, 100, 1100, 65535 };
    Elanus__AllocReq req;
    Elanus__AllocResp resp;
    struct status st = STATUS_INIT;

    ASSERT_OK(svc_remote_new(e->address, e->loop, &r, &st));
    struct root_service root = svc_remote_root(r);
    elanus__alloc_req__init(&req);
    req.count = 3;
    for (size_t i = 0; i < ARRAY_LEN(codes); i++) {
        struct status got = STATUS_INIT;
        elanus__alloc_resp__init(&resp);
        e->fake.fail_code = codes[i];
        assert_int_equal(root.alloc_id(root.self, &call, &req, &resp, &got), codes[i]);
        assert_int_equal(got.code, codes[i]);
        assert_true(got.retriable);
        assert_string_equal(got.msg, "no ids for you: 3 of \"them\" \xc3\xa9");
        assert_int_equal(resp.count, 0);
    }
    svc_remote_free(r);
    arena_free(ar);
}

static void test_call_when_answer_is_large_then_all_bytes_arrive(void **state)
{
    struct env *e = *state;
    struct svc_remote *r;
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    struct status st = STATUS_INIT;
    Elanus__FetchReq req;
    Elanus__FetchResp resp;
    size_t n = 3000000;

    ASSERT_OK(svc_remote_new(e->address, e->loop, &r, &st));
    struct qnode_service q = svc_remote_qnode(r);
    elanus__fetch_req__init(&req);
    elanus__fetch_resp__init(&resp);
    req.rows = xalloc(n * 4);
    req.n_rows = n;
    for (size_t i = 0; i < n; i++) {
        req.rows[i] = (uint32_t)(i * 2654435761u);
    }
    ASSERT_OK(q.fetch(q.self, &call, &req, &resp, &st));
    assert_int_equal(resp.batch.len, n * 4);
    assert_memory_equal(resp.batch.data, req.rows, n * 4);
    mem_free(req.rows);
    svc_remote_free(r);
    arena_free(ar);
}

static void test_call_when_nobody_listens_then_unavailable_or_timeout(void **state)
{
    struct env *e = *state;
    struct svc_remote *r;
    struct arena *ar = arena_new(0);
    struct call call = call_internal(ar);
    struct status st = STATUS_INIT;
    Elanus__AllocReq req;
    Elanus__AllocResp resp;

    call.deadline_us = deadline_in_ms(200);
    ASSERT_OK(svc_remote_new("127.0.0.1:1", e->loop, &r, &st));
    struct root_service root = svc_remote_root(r);
    elanus__alloc_req__init(&req);
    elanus__alloc_resp__init(&resp);
    int rc = root.alloc_id(root.self, &call, &req, &resp, &st);
    assert_true(rc == ST_TIMEOUT || rc == ST_UNAVAILABLE);
    svc_remote_free(r);
    arena_free(ar);
}

static void test_serve_when_name_is_unknown_then_invalid(void **state)
{
    struct env *e = *state;
    struct status st = STATUS_INIT;
    assert_int_equal(svc_serve(e->srv, "nobody", &e->root, e->ar, &st), ST_INVALID);
}

static void test_directory_when_node_is_unknown_then_unavailable(void **state)
{
    struct env *e = *state;
    struct svc_dir *d = svc_dir_new(e->loop);
    struct status st = STATUS_INIT;
    const struct qnode_service *q;
    const struct snode_service *s;

    assert_int_equal(svc_dir_qnode(d, 4, &q, &st), ST_UNAVAILABLE);
    svc_dir_add(d, 4, NULL, &e->qnode);
    ASSERT_OK(svc_dir_qnode(d, 4, &q, &st));
    assert_ptr_equal(q, &e->qnode);
    assert_int_equal(svc_dir_snode(d, 4, &s, &st), ST_UNAVAILABLE);
    st_clear(&st);
    ASSERT_OK(svc_dir_add_remote(d, 4, e->address, &st));
    ASSERT_OK(svc_dir_snode(d, 4, &s, &st));
    ASSERT_OK(svc_dir_qnode(d, 4, &q, &st));
    assert_ptr_equal(q, &e->qnode); /* what was there stays */
    svc_dir_free(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_call_when_role_succeeds_then_answer_arrives, setup, teardown),
        cmocka_unit_test_setup_teardown(test_call_when_role_fails_then_code_text_and_retriable_arrive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_call_when_answer_is_large_then_all_bytes_arrive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_call_when_nobody_listens_then_unavailable_or_timeout, setup, teardown),
        cmocka_unit_test_setup_teardown(test_serve_when_name_is_unknown_then_invalid, setup, teardown),
        cmocka_unit_test_setup_teardown(test_directory_when_node_is_unknown_then_unavailable, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
