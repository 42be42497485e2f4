/* test_net_tls.c - one-way and mutual TLS with certificates made here; ALPN; refusals; drain and
 * reconnection, which have no TLS in them but the same servers. */
#include "harness.h"
#include "base/pool.h"
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

static char *dir;

struct cert {
    EVP_PKEY *key;
    X509 *x;
    char cert_file[256], key_file[256];
};

static struct cert ca, other_ca, server_cert, client_cert, wrong_client;

static void add_ext(X509 *x, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *e;
    X509V3_set_ctx(&ctx, issuer, x, NULL, NULL, 0);
    e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(e);
    assert_int_equal(X509_add_ext(x, e, -1), 1);
    X509_EXTENSION_free(e);
}

/* issuer NULL: signs itself and may sign others. */
static void make_cert(struct cert *c, const char *name, struct cert *issuer)
{
    static long serial = 1;
    FILE *f;
    c->key = EVP_EC_gen("P-256");
    c->x = X509_new();
    assert_true(c->key && c->x);
    (void)X509_set_version(c->x, 2);
    (void)ASN1_INTEGER_set(X509_get_serialNumber(c->x), serial++);
    (void)X509_gmtime_adj(X509_getm_notBefore(c->x), -3600);
    (void)X509_gmtime_adj(X509_getm_notAfter(c->x), 86400);
    (void)X509_set_pubkey(c->x, c->key);
    (void)X509_NAME_add_entry_by_txt(X509_get_subject_name(c->x), "CN", MBSTRING_ASC,
                                     (const unsigned char *)name, -1, -1, 0);
    (void)X509_set_issuer_name(c->x, X509_get_subject_name(issuer ? issuer->x : c->x));
    if (issuer) {
        add_ext(c->x, issuer->x, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1");
    } else {
        add_ext(c->x, c->x, NID_basic_constraints, "critical,CA:TRUE");
    }
    assert_true(X509_sign(c->x, issuer ? issuer->key : c->key, EVP_sha256()) > 0);
    (void)snprintf(c->cert_file, sizeof c->cert_file, "%s/%s.pem", dir, name);
    (void)snprintf(c->key_file, sizeof c->key_file, "%s/%s.key", dir, name);
    f = fopen(c->cert_file, "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_X509(f, c->x), 1);
    (void)fclose(f);
    f = fopen(c->key_file, "w");
    assert_non_null(f);
    assert_int_equal(PEM_write_PrivateKey(f, c->key, NULL, NULL, 0, NULL, NULL), 1);
    (void)fclose(f);
}

static void free_cert(struct cert *c)
{
    EVP_PKEY_free(c->key);
    X509_free(c->x);
}

static int make_all(void **state)
{
    dir = unit_tmp_dir();
    make_cert(&ca, "ca", NULL);
    make_cert(&other_ca, "other-ca", NULL);
    make_cert(&server_cert, "server", &ca);
    make_cert(&client_cert, "client", &ca);
    make_cert(&wrong_client, "wrong", &other_ca);
    return 0;
}

static int remove_all(void **state)
{
    free_cert(&ca);
    free_cert(&other_ca);
    free_cert(&server_cert);
    free_cert(&client_cert);
    free_cert(&wrong_client);
    unit_tmp_remove(dir);
    return 0;
}

static void on_who(struct grpc_call *call, void *arg)
{
    grpc_reply(call, slice_of(grpc_peer_subject(call)));
}

static const struct grpc_method methods[] = {
    { "/t.T/Echo", GRPC_UNARY, NET_POOL_READ, on_echo, NULL },
    { "/t.T/Who", GRPC_UNARY, NET_INLINE, on_who, NULL },
    { "/t.T/Wait", GRPC_UNARY, NET_POOL_READ, on_wait, NULL },
};

static int call_with(const char *addr, const struct tls_opts *tls, const char *path, struct slice body,
                     struct grpc_resp *r, struct status *st)
{
    struct grpc_client_opts co = { .address = addr, .tls = tls };
    struct grpc_req q = { .path = path, .body = body, .deadline_us = deadline_in_ms(TEST_DEADLINE_MS) };
    struct grpc_client *cl;
    int rc;
    TRY(grpc_client_new(&co, &cl, st));
    rc = grpc_client_call(cl, &q, r, st);
    grpc_client_free(cl);
out:
    return rc;
}

static void test_tls_when_one_way_then_calls_work(void **state)
{
    struct tls_opts srv = { .cert_file = server_cert.cert_file, .key_file = server_cert.key_file };
    struct tls_opts cli = { .ca_file = ca.cert_file };
    /* By name without a resolver: a bare machine has none for "localhost" either. */
    struct tls_opts named = { .ca_file = ca.cert_file, .server_name = "localhost" };
    struct harness h;
    struct grpc_resp r;
    size_t n = 5u << 20;
    char *big = xalloc(n);
    h_init(&h);
    h.tls = &srv;
    h_start(&h, methods, ARRAY_LEN(methods));
    memset(big, 'b', n);
    OK(call_with(h.addr, &cli, "/t.T/Echo", slice_n(big, n), &r, st));
    assert_true(slice_eq(buf_slice(&r.body), slice_n(big, n)));
    grpc_resp_done(&r);
    OK(call_with(h.addr, &named, "/t.T/Who", SLICE_LIT(""), &r, st));
    assert_int_equal(r.body.n, 0);
    grpc_resp_done(&r);
    mem_free(big);
    h_stop(&h);
}

static void test_tls_when_server_is_not_trusted_then_refused(void **state)
{
    struct tls_opts srv = { .cert_file = server_cert.cert_file, .key_file = server_cert.key_file };
    struct tls_opts cli = { .ca_file = other_ca.cert_file };
    struct harness h;
    struct grpc_resp r;
    h_init(&h);
    h.tls = &srv;
    h_start(&h, methods, ARRAY_LEN(methods));
    FAILS(call_with(h.addr, &cli, "/t.T/Who", SLICE_LIT(""), &r, st), ST_UNAVAILABLE, "TLS");
    grpc_resp_done(&r);
    cli = (struct tls_opts){ .ca_file = ca.cert_file, .server_name = "elsewhere.example" };
    FAILS(call_with(h.addr, &cli, "/t.T/Who", SLICE_LIT(""), &r, st), ST_UNAVAILABLE, "TLS");
    grpc_resp_done(&r);
    cli.insecure = true;
    OK(call_with(h.addr, &cli, "/t.T/Who", SLICE_LIT(""), &r, st));
    grpc_resp_done(&r);
    h_stop(&h);
}

static void test_tls_when_mutual_then_client_needs_its_certificate(void **state)
{
    struct tls_opts srv = { .cert_file = server_cert.cert_file, .key_file = server_cert.key_file,
                            .ca_file = ca.cert_file, .require_client_cert = true };
    struct tls_opts cli = { .ca_file = ca.cert_file };
    struct harness h;
    struct grpc_resp r;
    h_init(&h);
    h.tls = &srv;
    h_start(&h, methods, ARRAY_LEN(methods));
    FAILS(call_with(h.addr, &cli, "/t.T/Who", SLICE_LIT(""), &r, st), ST_UNAVAILABLE, "");
    grpc_resp_done(&r);
    cli.cert_file = wrong_client.cert_file;
    cli.key_file = wrong_client.key_file;
    FAILS(call_with(h.addr, &cli, "/t.T/Who", SLICE_LIT(""), &r, st), ST_UNAVAILABLE, "");
    grpc_resp_done(&r);
    cli.cert_file = client_cert.cert_file;
    cli.key_file = client_cert.key_file;
    OK(call_with(h.addr, &cli, "/t.T/Who", SLICE_LIT(""), &r, st));
    assert_true(slice_is(buf_slice(&r.body), "CN=client"));
    grpc_resp_done(&r);
    h_stop(&h);
}

static void test_tls_when_files_are_wrong_then_invalid(void **state)
{
    struct net_opts o;
    struct net_server *srv;
    struct tls_opts t = { .cert_file = "/nonexistent.pem", .key_file = server_cert.key_file };
    struct net_listen l = { .host = "127.0.0.1", .tls = &t };
    net_opts_default(&o);
    OK(net_server_new(&o, &srv, st));
    FAILS(net_server_listen(srv, &l, NULL, st), ST_INVALID, "/nonexistent.pem");
    t.cert_file = server_cert.cert_file;
    t.key_file = client_cert.key_file;
    FAILS(net_server_listen(srv, &l, NULL, st), ST_INVALID, "key");
    t.key_file = NULL;
    FAILS(net_server_listen(srv, &l, NULL, st), ST_INVALID, "certificate and a key");
    t.key_file = server_cert.key_file;
    t.require_client_cert = true;
    FAILS(net_server_listen(srv, &l, NULL, st), ST_INVALID, "CA file");
    net_server_free(srv);
}

static void test_tls_when_peer_speaks_plain_or_rubbish_then_closed(void **state)
{
    struct tls_opts srv = { .cert_file = server_cert.cert_file, .key_file = server_cert.key_file };
    struct harness h;
    int fd;
    h_init(&h);
    h.tls = &srv;
    h.o.limits.header_timeout_ms = 1200;
    h_start(&h, methods, ARRAY_LEN(methods));
    fd = raw_dial(h.port);
    assert_true(raw_send(fd, "GET / HTTP/1.1\r\n\r\n", 18));
    raw_wait_closed(fd);
    close(fd);
    fd = raw_dial(h.port); /* says nothing */
    raw_wait_closed(fd);
    close(fd);
    h_stop(&h);
}

static void test_alpn_when_offered_then_chosen(void **state)
{
    struct tls_opts srv = { .cert_file = server_cert.cert_file, .key_file = server_cert.key_file };
    static const struct {
        const unsigned char *offer;
        unsigned n;
        const char *want;
    } t[] = { { (const unsigned char *)"\x02h2\x08http/1.1", 12, "h2" },
              { (const unsigned char *)"\x08http/1.1", 9, "http/1.1" },
              { (const unsigned char *)"\x03xyz", 4, "" } };
    struct harness h;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    h_init(&h);
    h.tls = &srv;
    h_start(&h, methods, ARRAY_LEN(methods));
    for (size_t i = 0; i < ARRAY_LEN(t); i++) {
        int fd = raw_dial(h.port);
        SSL *ssl = SSL_new(ctx);
        const unsigned char *got = NULL;
        unsigned n = 0;
        (void)SSL_set_alpn_protos(ssl, t[i].offer, t[i].n);
        (void)SSL_set_fd(ssl, fd);
        assert_int_equal(SSL_connect(ssl), 1);
        SSL_get0_alpn_selected(ssl, &got, &n);
        assert_true(slice_eq(slice_n(got, n), slice_of(t[i].want)));
        SSL_free(ssl);
        close(fd);
    }
    SSL_CTX_free(ctx);
    h_stop(&h);
}

/* ---------- drain and reconnection ---------- */

struct async {
    _Atomic int done;
    int code;
};

static void on_done(void *arg, struct grpc_resp *resp, const struct status *st)
{
    struct async *a = arg;
    a->code = resp->code;
    grpc_resp_done(resp);
    a->done = 1;
}

static void drain_thread(void *arg)
{
    struct harness *h = arg;
    h->done_cancelled = net_server_drain(h->srv, deadline_in_ms(TEST_DEADLINE_MS)) ? 100 : 50;
}

static void test_drain_when_calls_run_then_they_finish_first(void **state)
{
    struct harness h;
    struct async a = { 0 };
    struct grpc_req q = { .path = "/t.T/Wait", .body = SLICE_LIT("x") };
    struct grpc_resp r;
    struct thread *t;
    int idle, fd;
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    h_init(&h);
    h.o.on_done = NULL;
    h_start(&h, methods, ARRAY_LEN(methods));
    h_client(&h);
    idle = raw_dial(h.port);
    grpc_client_start(h.cl, &q, on_done, &a);
    wait_for(h.entered == 1);
    t = thread_start("drain", drain_thread, &h);
    raw_wait_closed(idle);
    close(idle);
    assert_int_equal(a.done, 0);
    /* Nobody new gets in. */
    fd = socket(AF_INET, SOCK_STREAM, 0);
    sa.sin_port = htons((uint16_t)h.port);
    assert_int_equal(connect(fd, (struct sockaddr *)&sa, sizeof sa), -1);
    close(fd);
    q.path = "/t.T/Echo";
    q.deadline_us = deadline_in_ms(TEST_DEADLINE_MS);
    FAILS(grpc_client_call(h.cl, &q, &r, st), ST_UNAVAILABLE, "");
    grpc_resp_done(&r);
    h_let_go(&h);
    wait_for(a.done);
    assert_int_equal(a.code, GRPC_OK);
    thread_join(t);
    assert_int_equal(h.done_cancelled, 100);
    h_stop(&h);
}

static void test_drain_when_deadline_passes_then_rest_is_cut(void **state)
{
    struct harness h;
    struct async a = { 0 };
    struct grpc_req q = { .path = "/t.T/Wait" };
    h_init(&h);
    h_start(&h, methods, ARRAY_LEN(methods));
    h_client(&h);
    grpc_client_start(h.cl, &q, on_done, &a);
    wait_for(h.entered == 1);
    assert_false(net_server_drain(h.srv, deadline_in_ms(30)));
    wait_for(h.cancelled == 1);
    wait_for(a.done);
    assert_int_equal(a.code, GRPC_UNAVAILABLE);
    h_stop(&h);
}

static void test_client_when_nobody_listens_then_unavailable_and_backs_off(void **state)
{
    struct harness h;
    struct grpc_req q = { .path = "/t.T/Echo", .deadline_us = deadline_in_ms(TEST_DEADLINE_MS) };
    struct grpc_resp r;
    /* Bound, so that nobody else takes the port meanwhile, but not listening. */
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof sa;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    h_init(&h);
    h_start(&h, methods, ARRAY_LEN(methods));
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &len), 0);
    (void)snprintf(h.addr, sizeof h.addr, "127.0.0.1:%d", ntohs(sa.sin_port));
    h_client(&h);
    for (int i = 0; i < 100; i++) {
        FAILS(grpc_client_call(h.cl, &q, &r, st), ST_UNAVAILABLE, "cannot reach 127.0.0.1");
        assert_false(r.from_peer);
        grpc_resp_done(&r);
    }
    q.wait_ready = true;
    q.deadline_us = deadline_in_ms(100);
    FAILS(grpc_client_call(h.cl, &q, &r, st), ST_TIMEOUT, "deadline");
    grpc_resp_done(&r);
    close(fd);
    h_stop(&h);
}

static void test_client_when_server_comes_back_then_reconnects(void **state)
{
    struct harness h, h2;
    int rc;
    struct grpc_req q = { .path = "/t.T/Echo", .body = SLICE_LIT("x"),
                          .deadline_us = deadline_in_ms(TEST_DEADLINE_MS), .wait_ready = true };
    struct grpc_resp r;
    struct net_listen l = { .host = "127.0.0.1", .grpc = true };
    h_init(&h);
    h_start(&h, methods, ARRAY_LEN(methods));
    h_client(&h);
    OK(grpc_client_call(h.cl, &q, &r, st));
    grpc_resp_done(&r);
    (void)net_server_drain(h.srv, 0);
    h_init(&h2);
    OK(net_server_new(&h2.o, &h2.srv, st));
    OK(grpc_register(h2.srv, &methods[0], st));
    l.port = h.port;
    OK(net_server_listen(h2.srv, &l, NULL, st));
    OK(net_server_start(h2.srv, st));
    /* The first may still be lost with the old connection. */
    do {
        struct status st = STATUS_INIT;
        rc = grpc_client_call(h.cl, &q, &r, &st);
        grpc_resp_done(&r);
    } while (rc == ST_UNAVAILABLE && clock_mono_us() < q.deadline_us);
    assert_int_equal(rc, 0);
    h_stop(&h);
    h_stop(&h2);
}

static void test_client_when_several_connections_and_loops_then_all_used(void **state)
{
    struct harness h;
    struct grpc_client_opts co = { .connections = 4 };
    struct grpc_client *a, *b;
    struct grpc_loop *lp;
    struct grpc_req q = { .path = "/t.T/Echo", .body = SLICE_LIT("x"),
                          .deadline_us = deadline_in_ms(TEST_DEADLINE_MS) };
    struct grpc_resp r;
    h_init(&h);
    h.o.threads = 3;
    h_start(&h, methods, ARRAY_LEN(methods));
    OK(grpc_loop_new(&lp, st));
    co.address = h.addr;
    co.loop = lp;
    OK(grpc_client_new(&co, &a, st));
    OK(grpc_client_new(&co, &b, st));
    for (int i = 0; i < 40; i++) {
        OK(grpc_client_call(i % 2 ? a : b, &q, &r, st));
        grpc_resp_done(&r);
    }
    wait_for(h_conns_open(&h) == 8);
    grpc_client_free(a);
    grpc_client_free(b);
    grpc_loop_free(lp);
    wait_for(h_conns_open(&h) == 0);
    h_stop(&h);
}

static void test_client_when_arguments_are_wrong_then_refused(void **state)
{
    static const char *const bad[] = { "nohost", ":1", "h:", "h:x", "h:70000", "" };
    struct grpc_client *cl;
    struct grpc_client_opts co = { .address = "no-such-host.invalid:1", .send_max = 10 };
    struct grpc_req q = { .path = "/t.T/Echo", .body = SLICE_LIT("12345678901"),
                          .deadline_us = deadline_in_ms(TEST_DEADLINE_MS) };
    struct grpc_md md = { SLICE_LIT("Bad Name"), SLICE_LIT("x") };
    struct grpc_resp r;
    OK(grpc_client_new(&co, &cl, st));
    FAILS(grpc_client_call(cl, &q, &r, st), ST_QUOTA, "11 bytes");
    grpc_resp_done(&r);
    q.body.n = 1;
    q.md = &md;
    q.md_count = 1;
    FAILS(grpc_client_call(cl, &q, &r, st), ST_INVALID, "metadata");
    grpc_resp_done(&r);
    q.md_count = 0;
    FAILS(grpc_client_call(cl, &q, &r, st), ST_UNAVAILABLE, "no-such-host");
    grpc_resp_done(&r);
    grpc_client_free(cl);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        co.address = bad[i];
        FAILS(grpc_client_new(&co, &cl, st), ST_INVALID, "host:port");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tls_when_one_way_then_calls_work),
        cmocka_unit_test(test_tls_when_server_is_not_trusted_then_refused),
        cmocka_unit_test(test_tls_when_mutual_then_client_needs_its_certificate),
        cmocka_unit_test(test_tls_when_files_are_wrong_then_invalid),
        cmocka_unit_test(test_tls_when_peer_speaks_plain_or_rubbish_then_closed),
        cmocka_unit_test(test_alpn_when_offered_then_chosen),
        cmocka_unit_test(test_drain_when_calls_run_then_they_finish_first),
        cmocka_unit_test(test_drain_when_deadline_passes_then_rest_is_cut),
        cmocka_unit_test(test_client_when_nobody_listens_then_unavailable_and_backs_off),
        cmocka_unit_test(test_client_when_server_comes_back_then_reconnects),
        cmocka_unit_test(test_client_when_several_connections_and_loops_then_all_used),
        cmocka_unit_test(test_client_when_arguments_are_wrong_then_refused),
    };
    return cmocka_run_group_tests(tests, make_all, remove_all);
}
