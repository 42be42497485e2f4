/*
 * rpc_load.c - load on one gRPC unary method, and how fast the answers come.
 *
 * Closed loop (default): every connection keeps --inflight calls open. Open loop (--rate): calls are
 * due at fixed intervals over all connections and latency counts from the time they were due, so a
 * server that stalls is not flattered. One thread, raw HTTP/2 frames and a request head encoded
 * once: the generator should cost less than the server it measures, and prints its own share.
 *
 * One request for all calls, or many (--bodies: each a little-endian u32 length and its bytes), taken
 * in turn. --once sends each of them once and --answers keeps what came back, in the order of the
 * requests and the same form, for whoever looks at the answers. With --status an answer whose first
 * field is a Status with a code is a failure, as is every other than OK of gRPC.
 *
 * Relies on nghttp2 for decoding response heads only. Plain TCP.
 */
#include "base/clock.h"
#include "base/compiler.h"
#include "base/pool.h"
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define FRAME_MAX 16384
#define PACE_US 200.0
#define WINDOW_INIT 65535
#define READ_CAP (256u << 10)
#define HIST_SUB 64
#define HIST_COUNT (HIST_SUB * 26)

enum { F_DATA = 0, F_HEADERS = 1, F_RST = 3, F_SETTINGS = 4, F_PING = 6, F_GOAWAY = 7, F_WINDOW = 8,
       F_CONTINUATION = 9 };

struct body {
    uint8_t *p; /* with the five-byte prefix */
    size_t n;
};

/* What is looked at of an answer's beginning: prefix, and codes before any long text. */
#define START_MAX 32

struct call {
    uint32_t stream;
    const struct body *body;
    size_t body_off;  /* sent, prefix included */
    uint8_t start[START_MAX];
    size_t answer_n;
    uint8_t *answer;  /* --answers */
    size_t answer_cap;
    int64_t due_us;
    int64_t window;
    bool used, failed;
};

struct conn {
    int fd;
    nghttp2_hd_inflater *inf;
    uint8_t *in;
    size_t in_n, in_cap;
    uint8_t *out;
    size_t out_n, out_off, out_cap;
    uint32_t next_stream;
    int64_t window, window_init; /* towards the server */
    size_t frame_max;
    int64_t eaten; /* received DATA not yet given back as window */
    struct call *calls;
    int busy;
    bool want_write;
};

static struct {
    const char *addr, *path;
    struct body *bodies;
    size_t nbodies;
    size_t longest; /* of them */
    int conns, inflight;
    double seconds, warmup;
    double rate;
    bool once, status;
    FILE *answers;
    char md[8][2][256];
    int md_count;
} opt = { .addr = "127.0.0.1:19530", .path = "/milvus.proto.milvus.MilvusService/GetVersion",
          .conns = 32, .inflight = 1, .seconds = 5, .warmup = 0.5 };

static uint8_t head[4096];
static size_t head_n;
static uint64_t hist[HIST_COUNT], done, failed, bytes_in, bytes_out;
static size_t next_body;
static struct body *kept; /* --answers: of each request */
static int64_t max_us, stop_us, measure_us;
static double next_due_us;
static int last_status = -1;

NORETURN static void die(const char *what)
{
    (void)fprintf(stderr, "rpc_load: %s: %s\n", what, errno ? strerror(errno) : "");
    exit(1);
}

static size_t hist_slot(int64_t us)
{
    uint64_t v = us < 0 ? 0 : (uint64_t)us;
    int shift = v < HIST_SUB ? 0 : 63 - __builtin_clzll(v) - 5;
    size_t i = shift ? (size_t)shift * (HIST_SUB / 2) + (size_t)(v >> shift) : (size_t)v;
    return i < HIST_COUNT ? i : HIST_COUNT - 1;
}

static int64_t hist_value(size_t i)
{
    size_t shift = i < HIST_SUB ? 0 : i / (HIST_SUB / 2) - 1;
    return (int64_t)(i - shift * (HIST_SUB / 2)) << shift;
}

static int64_t percentile(double p)
{
    uint64_t n = 0, want = (uint64_t)((double)done * p);
    for (size_t i = 0; i < HIST_COUNT; i++) {
        n += hist[i];
        if (n > want) {
            return hist_value(i);
        }
    }
    return max_us;
}

/* ---------- request head: literals without indexing, so that it is the same for every call ---------- */

static void put_str(const char *s)
{
    size_t n = strlen(s);
    if (n > 126 + 128 || head_n + n + 3 > sizeof head) {
        die("metadata too long");
    }
    if (n < 127) {
        head[head_n++] = (uint8_t)n;
    } else {
        head[head_n++] = 127;
        head[head_n++] = (uint8_t)(n - 127);
    }
    memcpy(head + head_n, s, n);
    head_n += n;
}

static void build_head(void)
{
    head[head_n++] = 0x83; /* :method POST */
    head[head_n++] = 0x86; /* :scheme http */
    head[head_n++] = 0x04; /* :path */
    put_str(opt.path);
    head[head_n++] = 0x01; /* :authority */
    put_str(opt.addr);
    head[head_n++] = 0;
    put_str("content-type");
    put_str("application/grpc");
    head[head_n++] = 0;
    put_str("te");
    put_str("trailers");
    head[head_n++] = 0;
    put_str("user-agent");
    put_str("rpc_load");
    for (int i = 0; i < opt.md_count; i++) {
        head[head_n++] = 0;
        put_str(opt.md[i][0]);
        put_str(opt.md[i][1]);
    }
}

/* ---------- output ---------- */

static uint8_t *room(struct conn *c, size_t n)
{
    uint8_t *p;
    if (c->out_n + n > c->out_cap) {
        c->out_cap = MAX(c->out_cap * 2, c->out_n + n);
        c->out = realloc(c->out, c->out_cap);
        if (!c->out) {
            die("memory");
        }
    }
    p = c->out + c->out_n;
    c->out_n += n;
    return p;
}

static void put_frame(struct conn *c, size_t n, int type, int flags, uint32_t stream,
                      const void *payload)
{
    uint8_t *p = room(c, 9 + n);
    p[0] = (uint8_t)(n >> 16);
    p[1] = (uint8_t)(n >> 8);
    p[2] = (uint8_t)n;
    p[3] = (uint8_t)type;
    p[4] = (uint8_t)flags;
    p[5] = (uint8_t)(stream >> 24);
    p[6] = (uint8_t)(stream >> 16);
    p[7] = (uint8_t)(stream >> 8);
    p[8] = (uint8_t)stream;
    memcpy(p + 9, payload, n);
}

static void put_window(struct conn *c, uint32_t stream, uint32_t by)
{
    uint8_t p[4] = { (uint8_t)(by >> 24), (uint8_t)(by >> 16), (uint8_t)(by >> 8), (uint8_t)by };
    put_frame(c, 4, F_WINDOW, 0, stream, p);
}

/* Sends as much of the call's body as windows allow; not more than a few MiB ahead of the socket. */
static void pump(struct conn *c, struct call *ca)
{
    while (ca->body_off < ca->body->n && c->out_n - c->out_off < (4u << 20)) {
        size_t n = MIN(ca->body->n - ca->body_off, c->frame_max);
        int64_t win = MIN(c->window, ca->window);
        if (win <= 0) {
            return;
        }
        n = MIN(n, (size_t)win);
        put_frame(c, n, F_DATA, ca->body_off + n == ca->body->n ? 1 : 0, ca->stream,
                  ca->body->p + ca->body_off);
        ca->body_off += n;
        c->window -= (int64_t)n;
        ca->window -= (int64_t)n;
    }
}

/* More body could be sent at once. */
static bool can_pump(const struct conn *c)
{
    for (int i = 0; c->busy && c->window > 0 && i < opt.inflight; i++) {
        const struct call *ca = &c->calls[i];
        if (ca->used && ca->body_off < ca->body->n && ca->window > 0) {
            return true;
        }
    }
    return false;
}

/* --once, and each has been. */
static bool all_sent(void)
{
    return opt.once && next_body == opt.nbodies;
}

static void start_call(struct conn *c, int64_t due_us)
{
    if (all_sent()) {
        return;
    }
    for (int i = 0; i < opt.inflight; i++) {
        struct call *ca = &c->calls[i];
        if (!ca->used) {
            *ca = (struct call){ .stream = c->next_stream, .due_us = due_us, .used = true,
                                 .window = c->window_init,
                                 .body = &opt.bodies[next_body++ % opt.nbodies] };
            c->next_stream += 2;
            c->busy++;
            put_frame(c, head_n, F_HEADERS, 4, ca->stream, head);
            pump(c, ca);
            return;
        }
    }
}

static struct call *find(struct conn *c, uint32_t stream)
{
    for (int i = 0; i < opt.inflight; i++) {
        if (c->calls[i].used && c->calls[i].stream == stream) {
            return &c->calls[i];
        }
    }
    return NULL;
}

/* A Status as field 1 with error_code (1) or code (3) other than 0; other fields are not so small. */
static bool says_failure(const uint8_t *p, size_t n)
{
    size_t at = 5 + 2, end;
    if (n < 5 + 4 || p[5] != 0x0a || p[6] == 0) {
        return false;
    }
    end = MIN(n, at + p[6]);
    return p[at] == 0x08 || (p[at] == 0x18 && end > at + 1);
}

static void keep_answer(const struct call *ca)
{
    struct body *k = &kept[ca->body - opt.bodies];
    *k = (struct body){ ca->answer, ca->answer_n };
}

static void end_call(struct conn *c, struct call *ca, int64_t now)
{
    int64_t us = now - ca->due_us;
    ca->used = false;
    c->busy--;
    if (opt.status && says_failure(ca->start, MIN(ca->answer_n, (size_t)START_MAX))) {
        ca->failed = true;
    }
    if (opt.answers) {
        keep_answer(ca);
    }
    if (now >= measure_us) {
        hist[hist_slot(us)]++;
        max_us = MAX(max_us, us);
        done++;
        bytes_out += ca->body->n;
        failed += ca->failed;
    }
    if (opt.rate <= 0 && now < stop_us) {
        start_call(c, now);
    }
}

/* ---------- input ---------- */

static void on_head(struct conn *c, struct call *ca, const uint8_t *p, size_t n, int flags)
{
    if (flags & 0x20) {
        p += 5;
        n -= 5;
    }
    for (;;) {
        nghttp2_nv nv;
        int fl = 0;
        ssize_t r = nghttp2_hd_inflate_hd2(c->inf, &nv, &fl, p, n, 1);
        if (r < 0) {
            die("broken response head");
        }
        p += r;
        n -= (size_t)r;
        if (fl & NGHTTP2_HD_INFLATE_EMIT) {
            if (ca && nv.namelen == 11 && memcmp(nv.name, "grpc-status", 11) == 0) {
                last_status = atoi((const char *)nv.value);
                ca->failed = last_status != 0;
            } else if (ca && nv.namelen == 7 && memcmp(nv.name, ":status", 7) == 0 &&
                       memcmp(nv.value, "200", 3) != 0) {
                ca->failed = true;
            }
        }
        if (fl & NGHTTP2_HD_INFLATE_FINAL) {
            (void)nghttp2_hd_inflate_end_headers(c->inf);
            return;
        }
    }
}

static void on_settings(struct conn *c, const uint8_t *p, size_t n)
{
    for (; n >= 6; p += 6, n -= 6) {
        uint32_t v = (uint32_t)p[2] << 24 | (uint32_t)p[3] << 16 | (uint32_t)p[4] << 8 | p[5];
        int id = p[0] << 8 | p[1];
        if (id == 4) {
            for (int i = 0; i < opt.inflight; i++) {
                c->calls[i].window += (int64_t)v - c->window_init;
            }
            c->window_init = v;
        } else if (id == 5) {
            c->frame_max = MIN((size_t)v, (size_t)1 << 20);
        }
    }
    put_frame(c, 0, F_SETTINGS, 1, 0, "");
}

static void on_answer(struct call *ca, const uint8_t *p, size_t n)
{
    if (ca->answer_n < START_MAX) {
        memcpy(ca->start + ca->answer_n, p, MIN(n, START_MAX - ca->answer_n));
    }
    if (opt.answers) {
        if (ca->answer_n + n > ca->answer_cap) {
            ca->answer_cap = (ca->answer_n + n) * 2;
            ca->answer = realloc(ca->answer, ca->answer_cap);
            if (!ca->answer) {
                die("memory");
            }
        }
        memcpy(ca->answer + ca->answer_n, p, n);
    }
    ca->answer_n += n;
}

static void on_frame(struct conn *c, int type, int flags, uint32_t stream, const uint8_t *p,
                     size_t n, int64_t now)
{
    struct call *ca = stream ? find(c, stream) : NULL;
    switch (type) {
    case F_HEADERS:
        if (!(flags & 4)) {
            die("a response head in several frames is not understood here");
        }
        on_head(c, ca, p, n, flags);
        break;
    case F_DATA:
        bytes_in += n;
        if (ca) {
            on_answer(ca, p, n);
        }
        c->eaten += (int64_t)n;
        if (c->eaten > 256 << 20) {
            put_window(c, 0, (uint32_t)c->eaten);
            c->eaten = 0;
        }
        break;
    case F_RST:
        if (ca) {
            ca->failed = true;
            end_call(c, ca, now);
        }
        return;
    case F_SETTINGS:
        if (!(flags & 1)) {
            on_settings(c, p, n);
        }
        return;
    case F_PING:
        if (!(flags & 1)) {
            put_frame(c, 8, F_PING, 1, 0, p);
        }
        return;
    case F_GOAWAY:
        errno = 0;
        die("the server said GOAWAY");
    case F_WINDOW: {
        int64_t by = (int64_t)((uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 |
                               p[3]);
        if (!stream) {
            c->window += by;
        } else if (ca) {
            ca->window += by;
        }
        return;
    }
    default:
        return;
    }
    if ((flags & 1) && ca) {
        end_call(c, ca, now);
    }
}

static void on_readable(struct conn *c)
{
    ssize_t r;
    size_t at = 0;
    int64_t now;
    r = read(c->fd, c->in + c->in_n, c->in_cap - c->in_n);
    if (r < 0 && errno == EAGAIN) {
        return;
    }
    if (r <= 0) {
        die("connection lost");
    }
    c->in_n += (size_t)r;
    now = clock_mono_us();
    while (c->in_n - at >= 9) {
        const uint8_t *h = c->in + at;
        size_t n = (size_t)h[0] << 16 | (size_t)h[1] << 8 | h[2];
        if (c->in_n - at < 9 + n) {
            break;
        }
        on_frame(c, h[3], h[4],
                 ((uint32_t)h[5] << 24 | (uint32_t)h[6] << 16 | (uint32_t)h[7] << 8 | h[8]) &
                     0x7fffffff,
                 h + 9, n, now);
        at += 9 + n;
    }
    if (at < c->in_n) {
        memmove(c->in, c->in + at, c->in_n - at);
    }
    c->in_n -= at;
}

static void flush(struct conn *c, int ep)
{
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
    bool want;
    if (c->busy && opt.longest > FRAME_MAX) {
        for (int i = 0; i < opt.inflight; i++) {
            if (c->calls[i].used) {
                pump(c, &c->calls[i]);
            }
        }
    }
    if (c->out_n > c->out_off) {
        ssize_t w = send(c->fd, c->out + c->out_off, c->out_n - c->out_off, MSG_NOSIGNAL);
        if (w < 0 && errno != EAGAIN) {
            die("send");
        }
        c->out_off += w > 0 ? (size_t)w : 0;
        if (c->out_off == c->out_n) {
            c->out_off = c->out_n = 0;
        } else if (c->out_off > 1 << 20) {
            memmove(c->out, c->out + c->out_off, c->out_n - c->out_off);
            c->out_n -= c->out_off;
            c->out_off = 0;
        }
    }
    want = c->out_n > c->out_off || can_pump(c);
    if (want != c->want_write) {
        c->want_write = want;
        ev.events = want ? EPOLLIN | EPOLLOUT : EPOLLIN;
        (void)epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &ev);
    }
}

/* ---------- set-up ---------- */

static int dial(void)
{
    char host[256];
    const char *colon = strrchr(opt.addr, ':');
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *ai;
    int fd, on = 1;
    errno = 0;
    if (!colon || (size_t)(colon - opt.addr) >= sizeof host) {
        die("--addr is host:port");
    }
    memcpy(host, opt.addr, (size_t)(colon - opt.addr));
    host[colon - opt.addr] = 0;
    if (getaddrinfo(host, colon + 1, &hints, &ai) != 0) {
        die("cannot resolve --addr");
    }
    fd = socket(ai->ai_family, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, ai->ai_addr, ai->ai_addrlen) != 0) {
        die("connect");
    }
    freeaddrinfo(ai);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static void open_conn(struct conn *c, int ep)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    static const uint8_t settings[] = { 0, 4, 0x7f, 0xff, 0xff, 0xff, 0, 2, 0, 0, 0, 0 };
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = c };
    c->fd = dial();
    c->in_cap = READ_CAP;
    c->in = malloc(c->in_cap);
    c->calls = calloc((size_t)opt.inflight, sizeof *c->calls);
    c->next_stream = 1;
    c->window = c->window_init = WINDOW_INIT;
    c->frame_max = FRAME_MAX;
    if (!c->in || !c->calls || nghttp2_hd_inflate_new(&c->inf) != 0) {
        die("memory");
    }
    memcpy(room(c, 24), preface, 24);
    put_frame(c, sizeof settings, F_SETTINGS, 0, 0, settings);
    put_window(c, 0, 0x7fffffff - WINDOW_INIT);
    if (send(c->fd, c->out, c->out_n, MSG_NOSIGNAL) != (ssize_t)c->out_n) {
        die("send");
    }
    c->out_n = 0;
    if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) != 0) {
        die("epoll_ctl");
    }
}

static void add_body(const uint8_t *p, size_t n)
{
    struct body b = { malloc(n + 5), n + 5 };
    if (opt.nbodies % 1024 == 0) {
        opt.bodies = realloc(opt.bodies, (opt.nbodies + 1024) * sizeof *opt.bodies);
    }
    if (!b.p || !opt.bodies) {
        die("memory");
    }
    b.p[0] = 0;
    b.p[1] = (uint8_t)(n >> 24);
    b.p[2] = (uint8_t)(n >> 16);
    b.p[3] = (uint8_t)(n >> 8);
    b.p[4] = (uint8_t)n;
    if (n) {
        memcpy(b.p + 5, p, n);
    }
    opt.bodies[opt.nbodies++] = b;
    opt.longest = MAX(opt.longest, b.n);
}

static void body_from_hex(const char *s)
{
    size_t n = strlen(s) / 2;
    uint8_t *p = malloc(n + 1);
    for (size_t i = 0; i < n; i++) {
        unsigned v;
        if (!p || sscanf(s + 2 * i, "%2x", &v) != 1) {
            die("--body-hex");
        }
        p[i] = (uint8_t)v;
    }
    add_body(p, n);
    free(p);
}

static uint8_t *read_file(const char *name, size_t *ret_n)
{
    FILE *f = fopen(name, "rb");
    uint8_t *p;
    long n;
    if (!f || fseek(f, 0, SEEK_END) != 0 || (n = ftell(f)) < 0) {
        die(name);
    }
    rewind(f);
    p = malloc((size_t)n + 1);
    if (!p || fread(p, 1, (size_t)n, f) != (size_t)n) {
        die(name);
    }
    (void)fclose(f);
    *ret_n = (size_t)n;
    return p;
}

static void body_from_file(const char *name)
{
    size_t n;
    uint8_t *p = read_file(name, &n);
    add_body(p, n);
    free(p);
}

static void bodies_from_file(const char *name)
{
    size_t n, at = 0;
    uint8_t *p = read_file(name, &n);
    errno = 0;
    while (at < n) {
        uint32_t len;
        if (n - at < 4) {
            die(name);
        }
        memcpy(&len, p + at, 4);
        at += 4;
        if (n - at < len) {
            die(name);
        }
        add_body(p + at, len);
        at += len;
    }
    free(p);
}

static void usage(void)
{
    (void)fprintf(stderr, "usage: rpc_load [--addr host:port] [--path /service/method]\n"
                          "  [--body-file f | --body-hex hex | --body-zeros n | --bodies f]\n"
                          "  [--md name=value]... [--conns n] [--inflight per connection]\n"
                          "  [--seconds s] [--warmup s] [--rate calls/s] [--status]\n"
                          "  [--once [--answers f]]\n");
    exit(2);
}

static void parse_args(int argc, char **argv)
{
    static const struct option longs[] = {
        { "addr", 1, NULL, 'a' },     { "path", 1, NULL, 'p' },      { "body-file", 1, NULL, 'f' },
        { "body-hex", 1, NULL, 'x' }, { "body-zeros", 1, NULL, 'z' }, { "conns", 1, NULL, 'c' },
        { "inflight", 1, NULL, 'i' }, { "seconds", 1, NULL, 's' },   { "rate", 1, NULL, 'r' },
        { "md", 1, NULL, 'm' },       { "bodies", 1, NULL, 'b' },    { "warmup", 1, NULL, 'w' },
        { "once", 0, NULL, '1' },     { "answers", 1, NULL, 'o' },   { "status", 0, NULL, 't' },
        { NULL, 0, NULL, 0 },
    };
    int o;
    while ((o = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        char *eq;
        switch (o) {
        case 'a': opt.addr = optarg; break;
        case 'p': opt.path = optarg; break;
        case 'f': body_from_file(optarg); break;
        case 'x': body_from_hex(optarg); break;
        case 'z': {
            size_t n = strtoul(optarg, NULL, 10);
            uint8_t *p = calloc(n + 1, 1);
            add_body(p, n);
            free(p);
            break;
        }
        case 'b': bodies_from_file(optarg); break;
        case 'w': opt.warmup = atof(optarg); break;
        case '1': opt.once = true; break;
        case 't': opt.status = true; break;
        case 'o':
            opt.answers = fopen(optarg, "wb");
            if (!opt.answers) {
                die(optarg);
            }
            break;
        case 'c': opt.conns = atoi(optarg); break;
        case 'i': opt.inflight = atoi(optarg); break;
        case 's': opt.seconds = atof(optarg); break;
        case 'r': opt.rate = atof(optarg); break;
        case 'm':
            eq = strchr(optarg, '=');
            if (!eq || opt.md_count == 8) {
                usage();
            }
            (void)snprintf(opt.md[opt.md_count][0], 256, "%.*s", (int)(eq - optarg), optarg);
            (void)snprintf(opt.md[opt.md_count++][1], 256, "%s", eq + 1);
            break;
        default: usage();
        }
    }
    if (opt.conns < 1 || opt.inflight < 1 || opt.seconds <= 0 || (opt.answers && !opt.once)) {
        usage();
    }
    if (!opt.nbodies) {
        add_body(NULL, 0);
    }
    if (opt.once) {
        opt.warmup = 0;
        opt.seconds = 1e6;
    }
    if (opt.answers) {
        kept = calloc(opt.nbodies, sizeof *kept);
        if (!kept) {
            die("memory");
        }
    }
}

/* Open loop: starts what is due on connections with room. */
static void start_due(struct conn *conns, int ep)
{
    static int turn;
    int64_t now = clock_mono_us();
    while (next_due_us <= (double)now && now < stop_us && !all_sent()) {
        struct conn *c = NULL;
        for (int i = 0; i < opt.conns && !c; i++) {
            struct conn *x = &conns[turn++ % opt.conns];
            c = x->busy < opt.inflight ? x : NULL;
        }
        if (!c) {
            return; /* all busy: those due wait, and their latency runs */
        }
        start_call(c, (int64_t)next_due_us);
        flush(c, ep);
        next_due_us += 1e6 / opt.rate;
    }
}

static void write_answers(void)
{
    for (size_t i = 0; i < opt.nbodies; i++) {
        const struct body *k = &kept[i];
        uint32_t n = k->n > 5 ? (uint32_t)(k->n - 5) : 0;
        if (fwrite(&n, 4, 1, opt.answers) != 1 ||
            (n && fwrite(k->p + 5, 1, n, opt.answers) != n)) {
            die("--answers");
        }
    }
    if (fclose(opt.answers) != 0) {
        die("--answers");
    }
}

static double cpu_seconds(void)
{
    struct rusage ru;
    (void)getrusage(RUSAGE_SELF, &ru);
    return (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
           (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

int main(int argc, char **argv)
{
    struct epoll_event ev[256];
    struct conn *conns;
    int ep = epoll_create1(0), busy = 1;
    double cpu, wall;
    int64_t now;
    parse_args(argc, argv);
    (void)prctl(PR_SET_TIMERSLACK, 1UL);
    /* What others do on its processor is not to be counted as the server's latency. */
    thread_set_slice(100);
    build_head();
    conns = calloc((size_t)opt.conns, sizeof *conns);
    if (!conns || ep < 0) {
        die("memory");
    }
    for (int i = 0; i < opt.conns; i++) {
        open_conn(&conns[i], ep);
    }
    now = clock_mono_us();
    measure_us = now + (int64_t)(opt.warmup * 1e6);
    stop_us = measure_us + (int64_t)(opt.seconds * 1e6);
    next_due_us = (double)now;
    for (int i = 0; i < opt.conns && opt.rate <= 0; i++) {
        for (int k = 0; k < opt.inflight; k++) {
            start_call(&conns[i], now);
        }
        flush(&conns[i], ep);
    }
    cpu = cpu_seconds();
    wall = (double)now;
    while (busy) {
        double wait_us = 100000;
        int n;
        now = clock_mono_us();
        if (opt.rate > 0 && now < stop_us) {
            start_due(conns, ep);
            /* Sleeping leaves the processor to the server: a loop that spins, or wakes for each
             * call, takes a core and measures the scheduler. Calls due meanwhile go out together;
             * their wait counts. */
            wait_us = MAX(PACE_US, next_due_us - (double)clock_mono_us());
        }
        struct timespec wait = { .tv_sec = 0, .tv_nsec = (long)(wait_us * 1000) };
        n = epoll_pwait2(ep, ev, 256, &wait, NULL);
        for (int i = 0; i < n; i++) {
            struct conn *c = ev[i].data.ptr;
            if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                on_readable(c);
            }
            flush(c, ep);
        }
        busy = 0;
        if (now < stop_us && !all_sent()) {
            busy = 1;
        } else if (now < stop_us + 5000000) {
            for (int i = 0; i < opt.conns; i++) {
                busy += conns[i].busy;
            }
        }
    }
    if (opt.answers) {
        write_answers();
    }
    wall = ((double)clock_mono_us() - wall) / 1e6;
    cpu = cpu_seconds() - cpu;
    (void)printf("calls=%llu failed=%llu calls_per_s=%.0f p50_us=%lld p99_us=%lld p999_us=%lld "
                 "max_us=%lld in_mb_per_s=%.1f out_mb_per_s=%.1f own_cpu=%.2f\n",
                 (unsigned long long)done, (unsigned long long)failed,
                 (double)done / (wall - opt.warmup), (long long)percentile(0.5),
                 (long long)percentile(0.99), (long long)percentile(0.999), (long long)max_us,
                 (double)bytes_in / wall / 1e6, (double)bytes_out / wall / 1e6,
                 cpu / wall);
    if (failed) {
        (void)printf("last grpc-status=%d\n", last_status);
    }
    return failed ? 1 : 0;
}
