/*
 * net_tls.c - TLS on one connection as a pair of byte pipes, so that links do all socket work.
 *
 * Both directions go through OpenSSL memory BIOs. TLS 1.2 is the oldest version served; renegotiation
 * and compression are off. ALPN offers h2 and http/1.1 (only the latter where no gRPC is served).
 *
 * THREADS     a context may be shared by loops (OpenSSL counts references); a net_tls has one.
 */
#include "net/net_int.h"
#include "base/alloc.h"
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

struct net_tls_ctx {
    SSL_CTX *ctx;
    bool server, h2;
    bool check_host; /* client */
    char *host;      /* client: name to send and to verify */
};

struct net_tls {
    SSL *ssl;
    BIO *in, *out; /* owned by ssl */
    char why[200];
};

static int tls_fail(struct status *st, const char *what, const char *file)
{
    char text[160] = "";
    unsigned long e = ERR_peek_last_error();
    ERR_error_string_n(e, text, sizeof text);
    ERR_clear_error();
    return st_fail(st, ST_INVALID, "TLS: %s %s: %s", what, file ? file : "", text);
}

/* ALPN protocols as OpenSSL wants them: length-prefixed. */
static const unsigned char alpn_both[] = "\x02h2\x08http/1.1";
static const unsigned char *const alpn_http1 = alpn_both + 3;
#define ALPN_BOTH_LEN 12
#define ALPN_HTTP1_LEN 9

static int on_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_len,
                   const unsigned char *in, unsigned in_len, void *arg)
{
    const struct net_tls_ctx *tc = arg;
    unsigned char *sel = NULL;
    (void)ssl;
    if (SSL_select_next_proto(&sel, ret_len, tc->h2 ? alpn_both : alpn_http1,
                              tc->h2 ? ALPN_BOTH_LEN : ALPN_HTTP1_LEN, in,
                              in_len) != OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_NOACK;
    }
    *ret = sel;
    return SSL_TLSEXT_ERR_OK;
}

static int load_files(SSL_CTX *c, const struct tls_opts *o, struct status *st)
{
    if (o->cert_file && SSL_CTX_use_certificate_chain_file(c, o->cert_file) != 1) {
        return tls_fail(st, "cannot use certificate", o->cert_file);
    }
    if (o->key_file && SSL_CTX_use_PrivateKey_file(c, o->key_file, SSL_FILETYPE_PEM) != 1) {
        return tls_fail(st, "cannot use key", o->key_file);
    }
    if (o->cert_file && SSL_CTX_check_private_key(c) != 1) {
        return tls_fail(st, "key does not belong to certificate", o->cert_file);
    }
    if (o->ca_file && SSL_CTX_load_verify_locations(c, o->ca_file, NULL) != 1) {
        return tls_fail(st, "cannot use CA file", o->ca_file);
    }
    return 0;
}

static struct net_tls_ctx *ctx_new(bool server)
{
    struct net_tls_ctx *tc = xalloc(sizeof *tc);
    tc->server = server;
    tc->ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
    CHECK(tc->ctx);
    CHECK(SSL_CTX_set_min_proto_version(tc->ctx, TLS1_2_VERSION) == 1);
    (void)SSL_CTX_set_options(tc->ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                           SSL_OP_CIPHER_SERVER_PREFERENCE);
    (void)SSL_CTX_set_mode(tc->ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    return tc;
}

int net__tls_server_ctx(const struct tls_opts *o, bool h2, struct net_tls_ctx **ret,
                        struct status *st)
{
    struct net_tls_ctx *tc = ctx_new(true);
    int rc;
    tc->h2 = h2;
    if (!o->cert_file || !o->key_file) {
        FAIL(st, ST_INVALID, "TLS: a server needs a certificate and a key");
    }
    if (o->require_client_cert && !o->ca_file) {
        FAIL(st, ST_INVALID, "TLS: verifying clients needs a CA file");
    }
    TRY(load_files(tc->ctx, o, st));
    if (o->require_client_cert) {
        STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(o->ca_file);
        SSL_CTX_set_client_CA_list(tc->ctx, names);
        SSL_CTX_set_verify(tc->ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
        (void)SSL_CTX_set_session_id_context(tc->ctx, (const unsigned char *)"elanus", 6);
    }
    (void)SSL_CTX_set_session_cache_mode(tc->ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_alpn_select_cb(tc->ctx, on_alpn, tc);
    *ret = TAKE(tc);
out:
    net__tls_ctx_free(tc);
    return rc;
}

int net__tls_client_ctx(const struct tls_opts *o, const char *host, struct net_tls_ctx **ret,
                        struct status *st)
{
    struct net_tls_ctx *tc = ctx_new(false);
    int rc;
    TRY(load_files(tc->ctx, o, st));
    if (!o->insecure) {
        if (!o->ca_file && SSL_CTX_set_default_verify_paths(tc->ctx) != 1) {
            TRY(tls_fail(st, "cannot load the system's certificates", NULL));
        }
        SSL_CTX_set_verify(tc->ctx, SSL_VERIFY_PEER, NULL);
        tc->check_host = true;
    }
    tc->host = xstrdup(o->server_name ? o->server_name : host);
    CHECK(SSL_CTX_set_alpn_protos(tc->ctx, alpn_both, 3) == 0);
    *ret = TAKE(tc);
out:
    net__tls_ctx_free(tc);
    return rc;
}

void net__tls_ctx_free(struct net_tls_ctx *tc)
{
    if (tc) {
        SSL_CTX_free(tc->ctx);
        mem_free(tc->host);
        mem_free(tc);
    }
}

struct net_tls *net__tls_new(struct net_tls_ctx *tc)
{
    struct net_tls *t = xalloc(sizeof *t);
    t->ssl = SSL_new(tc->ctx);
    t->in = BIO_new(BIO_s_mem());
    t->out = BIO_new(BIO_s_mem());
    CHECK(t->ssl && t->in && t->out);
    SSL_set_bio(t->ssl, t->in, t->out);
    if (tc->server) {
        SSL_set_accept_state(t->ssl);
        return t;
    }
    SSL_set_connect_state(t->ssl);
    {
        struct in6_addr tmp;
        bool ip = inet_pton(AF_INET, tc->host, &tmp) == 1 || inet_pton(AF_INET6, tc->host, &tmp) == 1;
        if (!ip) {
            (void)SSL_set_tlsext_host_name(t->ssl, tc->host);
        }
        if (tc->check_host) {
            X509_VERIFY_PARAM *vp = SSL_get0_param(t->ssl);
            CHECK(ip ? X509_VERIFY_PARAM_set1_ip_asc(vp, tc->host) == 1
                     : SSL_set1_host(t->ssl, tc->host) == 1);
        }
    }
    return t;
}

void net__tls_free(struct net_tls *t)
{
    if (t) {
        SSL_free(t->ssl);
        mem_free(t);
    }
}

bool net__tls_feed(struct net_tls *t, const uint8_t *p, size_t n)
{
    return BIO_write(t->in, p, (int)n) == (int)n;
}

int net__tls_handshake(struct net_tls *t, const char **why)
{
    int r, e;
    ERR_clear_error();
    r = SSL_do_handshake(t->ssl);
    if (r == 1) {
        return 1;
    }
    e = SSL_get_error(t->ssl, r);
    if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) {
        return 0;
    }
    {
        long v = SSL_get_verify_result(t->ssl);
        const char *reason = ERR_reason_error_string(ERR_peek_error());
        (void)snprintf(t->why, sizeof t->why, "TLS handshake failed: %s%s%s",
                       reason ? reason : "connection closed", v != X509_V_OK ? ": " : "",
                       v != X509_V_OK ? X509_verify_cert_error_string(v) : "");
    }
    ERR_clear_error();
    *why = t->why;
    return -1;
}

int net__tls_read(struct net_tls *t, uint8_t *p, size_t cap)
{
    int r, e;
    ERR_clear_error();
    r = SSL_read(t->ssl, p, (int)cap);
    if (r > 0) {
        return r;
    }
    e = SSL_get_error(t->ssl, r);
    if (e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) {
        return 0;
    }
    ERR_clear_error();
    return -1;
}

bool net__tls_write(struct net_tls *t, const uint8_t *p, size_t n)
{
    while (n) {
        int r;
        ERR_clear_error();
        r = SSL_write(t->ssl, p, (int)n);
        if (r <= 0) {
            ERR_clear_error();
            return false;
        }
        p += r;
        n -= (size_t)r;
    }
    return true;
}

void net__tls_shutdown(struct net_tls *t)
{
    ERR_clear_error();
    (void)SSL_shutdown(t->ssl);
    ERR_clear_error();
}

struct slice net__tls_pending(struct net_tls *t)
{
    char *p = NULL;
    long n = BIO_get_mem_data(t->out, &p);
    return slice_n(p, n > 0 ? (size_t)n : 0);
}

void net__tls_sent(struct net_tls *t)
{
    (void)BIO_reset(t->out);
}

bool net__tls_peer_subject(struct net_tls *t, char *p, size_t cap)
{
    X509 *x = SSL_get0_peer_certificate(t->ssl);
    BIO *b;
    int n;
    if (!x) {
        return false;
    }
    b = BIO_new(BIO_s_mem());
    CHECK(b);
    (void)X509_NAME_print_ex(b, X509_get_subject_name(x), 0, XN_FLAG_RFC2253);
    n = BIO_read(b, p, (int)cap - 1);
    p[n > 0 ? n : 0] = 0;
    BIO_free(b);
    return n > 0;
}
