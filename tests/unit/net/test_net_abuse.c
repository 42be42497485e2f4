/* test_net_abuse.c - peers that break the rules, lie, dawdle or flood: the server answers or closes,
 * stays up, and gives all memory back. */
#include "harness.h"

#define CHECK_ALIVE(h)                                                                             \
    do {                                                                                           \
        struct grpc_req alive_q_ = { .path = "/t.T/Echo", .body = SLICE_LIT("a"),                  \
                                     .deadline_us = deadline_in_ms(TEST_DEADLINE_MS) };            \
        struct grpc_resp alive_r_;                                                                 \
        OK(grpc_client_call((h)->cl, &alive_q_, &alive_r_, st));                                   \
        grpc_resp_done(&alive_r_);                                                                 \
    } while (0)

static void on_big(struct grpc_call *call, void *arg)
{
    struct buf b;
    buf_init(&b, 64u << 20);
    (void)buf_put_zero(&b, 8u << 20);
    grpc_reply_buf(call, &b);
    ((struct harness *)arg)->finished++;
}

static void on_endless(struct grpc_call *call, void *arg)
{
    struct harness *h = arg;
    struct status st = STATUS_INIT;
    static const char bytes[50000];
    h->entered++;
    while (!grpc_send(call, slice_n(bytes, sizeof bytes), &st)) {
        atomic_fetch_add(&h->done_status, 1);
    }
    h->cancelled += st.code == ST_CANCELLED;
    grpc_fail_status(call, &st);
    h->finished++;
}

static const struct grpc_method methods[] = {
    { "/t.T/Echo", GRPC_UNARY, NET_INLINE, on_echo, NULL },
    { "/t.T/EchoWorker", GRPC_UNARY, NET_POOL_READ, on_echo, NULL },
    { "/t.T/Wait", GRPC_UNARY, NET_POOL_READ, on_wait, NULL },
    { "/t.T/Big", GRPC_UNARY, NET_POOL_ADMIN, on_big, NULL },
    { "/t.T/Endless", GRPC_SERVER_STREAM, NET_POOL_WRITE, on_endless, NULL },
};

static struct frame f; /* scratch; too large for a stack */

static int start(void **state)
{
    struct harness *h = xalloc(sizeof *h);
    h_init(h);
    h->o.limits.recv_max = 1u << 20;
    h->o.limits.recv_total_max = 8u << 20;
    h->o.limits.stream_queue_max = 1u << 20;
    h->o.limits.conn_output_max = 20u << 20;
    h->o.limits.streams_max = 100;
    h->o.limits.header_timeout_ms = 1500;
    h->o.limits.stall_timeout_ms = 1500;
    h->o.pool[NET_POOL_READ].threads = 2;
    h->o.pool[NET_POOL_READ].queue_max = 8;
    h_start(h, methods, ARRAY_LEN(methods));
    h_client(h);
    *state = h;
    return 0;
}

static int stop(void **state)
{
    struct harness *h = *state;
    h_let_go(h);
    CHECK_ALIVE(h);
    wait_for(h_calls_open(h) == 0);
    wait_for(h_conns_open(h) == 1);
    wait_for(h_held(h) == 0);
    h_stop(h);
    mem_free(h);
    return 0;
}

static void request(int fd, uint32_t stream, const char *path, int flags)
{
    uint8_t head[512];
    assert_true(h2_put(fd, H2_HEADERS, 4 | flags, stream, head, hp_request(head, path)));
}

/* A whole unary call with a body of n zeros. */
static void call(int fd, uint32_t stream, const char *path, size_t n)
{
    uint8_t *p = xalloc(n + 5);
    p[1] = (uint8_t)(n >> 24);
    p[2] = (uint8_t)(n >> 16);
    p[3] = (uint8_t)(n >> 8);
    p[4] = (uint8_t)n;
    request(fd, stream, path, 0);
    assert_true(h2_put(fd, H2_DATA, 1, stream, p, n + 5));
    mem_free(p);
}

/* Waits for the end of the stream's reply and returns its grpc-status, or -2 after RST_STREAM. The
 * server's encoder may use Huffman codes and its table, so the head is decoded by nghttp2. */
#include <nghttp2/nghttp2.h>
static nghttp2_hd_inflater *inf;
static int status_of(int fd, uint32_t stream)
{
    int status = -1;
    while (h2_get(fd, &f)) {
        if (f.type == H2_HEADERS) {
            const uint8_t *p = f.p;
            size_t n = f.n;
            int fl = 0;
            while (!(fl & NGHTTP2_HD_INFLATE_FINAL)) {
                nghttp2_nv nv;
                ssize_t r;
                fl = 0;
                r = nghttp2_hd_inflate_hd2(inf, &nv, &fl, p, n, 1);
                assert_true(r >= 0);
                p += r;
                n -= (size_t)r;
                if ((fl & NGHTTP2_HD_INFLATE_EMIT) && f.stream == stream &&
                    nv.namelen == 11 && memcmp(nv.name, "grpc-status", 11) == 0) {
                    status = atoi((const char *)nv.value);
                }
            }
            (void)nghttp2_hd_inflate_end_headers(inf);
        } else if (f.type == H2_RST && f.stream == stream) {
            return status >= 0 ? status : -2;
        }
        if (f.stream == stream && (f.flags & 1) && f.type <= H2_HEADERS) {
            return status;
        }
    }
    return -3;
}

static int dial(struct harness *h)
{
    if (inf) {
        nghttp2_hd_inflate_del(inf);
    }
    assert_int_equal(nghttp2_hd_inflate_new(&inf), 0);
    return h2_dial(h->port);
}

static void test_raw_call_when_well_formed_then_answered(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    for (uint32_t i = 0; i < 50; i++) {
        call(fd, 2 * i + 1, i % 2 ? "/t.T/Echo" : "/t.T/EchoWorker", i * 10);
        assert_int_equal(status_of(fd, 2 * i + 1), GRPC_OK);
    }
    close(fd);
}

static void test_first_bytes_when_one_at_a_time_then_still_h2(void **state)
{
    struct harness *h = *state;
    int fd = raw_dial(h->port);
    for (size_t i = 0; i < 24; i++) {
        assert_true(raw_send(fd, &H2_PREFACE[i], 1));
    }
    assert_true(h2_put(fd, H2_SETTINGS, 0, 0, NULL, 0));
    assert_true(h2_wait(fd, H2_SETTINGS, 0, &f));
    close(fd);
}

static void test_preface_when_broken_late_then_refused(void **state)
{
    struct harness *h = *state;
    int fd = raw_dial(h->port);
    char p[2048];
    assert_true(raw_send(fd, "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", 24));
    (void)raw_read_all(fd, p, sizeof p); /* taken as HTTP/1 with an unknown version */
    assert_non_null(strstr(p, "HTTP/1.1 505"));
    close(fd);
}

static void test_frames_when_random_then_connection_ends(void **state)
{
    struct harness *h = *state;
    uint32_t rng = 12345;
    for (int round = 0; round < 50; round++) {
        int fd = dial(h);
        uint8_t p[2000];
        for (size_t i = 0; i < sizeof p; i++) {
            rng = rng * 1664525 + 1013904223;
            p[i] = (uint8_t)(rng >> 24);
        }
        (void)raw_send(fd, p, sizeof p);
        (void)shutdown(fd, SHUT_WR);
        raw_wait_closed(fd);
        close(fd);
    }
}

static void test_frame_when_protocol_error_then_goaway(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    assert_true(h2_put(fd, H2_DATA, 0, 0, "x", 1)); /* DATA on stream 0 */
    assert_true(h2_wait(fd, H2_GOAWAY, 0, &f));
    raw_wait_closed(fd);
    close(fd);
    fd = dial(h);
    assert_true(h2_put(fd, H2_WINDOW, 0, 0, "\0\0\0\0", 4)); /* no increment */
    assert_true(h2_wait(fd, H2_GOAWAY, 0, &f));
    close(fd);
}

static void test_frame_when_larger_than_allowed_then_goaway(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    static const uint8_t head[9] = { 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1 };
    request(fd, 1, "/t.T/Echo", 0);
    assert_true(raw_send(fd, head, 9));
    assert_true(h2_wait(fd, H2_GOAWAY, 0, &f));
    close(fd);
}

static void test_reset_when_rapid_then_connection_ends(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    uint8_t head[512];
    size_t n = hp_request(head, "/t.T/Wait");
    bool open = true;
    for (uint32_t i = 0; i < 20000 && open; i++) {
        open = h2_put(fd, H2_HEADERS, 4, 2 * i + 1, head, n) &&
               h2_put(fd, H2_RST, 0, 2 * i + 1, "\0\0\0\x8", 4);
    }
    raw_wait_closed(fd);
    close(fd);
}

static void test_pings_when_every_five_seconds_or_faster_then_answered(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    for (int i = 0; i < 500; i++) {
        assert_true(h2_put(fd, H2_PING, 0, 0, "12345678", 8));
        assert_true(h2_wait(fd, H2_PING, 0, &f));
        assert_int_equal(f.flags, 1);
        assert_memory_equal(f.p, "12345678", 8);
    }
    call(fd, 1, "/t.T/Echo", 3);
    assert_int_equal(status_of(fd, 1), GRPC_OK);
    close(fd);
}

static void flood(struct harness *h, int type, const void *p, size_t n)
{
    int fd = dial(h);
    bool open = true;
    for (int i = 0; i < 400000 && open; i++) {
        char drop[65536];
        open = h2_put(fd, type, 0, 0, p, n);
        while (open && i % 64 == 0 && raw_recv(fd, drop, sizeof drop, 0) > 0) {
        }
    }
    raw_wait_closed(fd);
    close(fd);
}

static void test_pings_when_flooding_then_connection_ends(void **state)
{
    flood(*state, H2_PING, "12345678", 8);
}

static void test_settings_when_flooding_then_connection_ends(void **state)
{
    flood(*state, H2_SETTINGS, NULL, 0);
}

static void test_headers_when_over_the_limit_then_resource_exhausted(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    static uint8_t head[60000];
    char value[120];
    size_t n = hp_request(head, "/t.T/Echo");
    memset(value, 'v', sizeof value - 1);
    value[sizeof value - 1] = 0;
    for (int i = 0; i < 300; i++) {
        n += hp_put(head + n, "x-filler", value);
    }
    assert_true(h2_put(fd, H2_HEADERS, 5, 1, head, n));
    assert_int_equal(status_of(fd, 1), GRPC_RESOURCE_EXHAUSTED);
    close(fd);
}

static void test_headers_when_table_bomb_then_connection_ends(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    static uint8_t head[200000];
    size_t n = hp_request(head, "/t.T/Echo");
    /* One entry of nearly 4 KiB in the table, then references of one byte. */
    head[n++] = 0x40;
    head[n++] = 1;
    head[n++] = 'x';
    head[n++] = 0x7f;
    head[n++] = 0x80 | (3900 - 127) % 128;
    head[n++] = (3900 - 127) / 128;
    memset(head + n, 'a', 3900);
    n += 3900;
    memset(head + n, 0x80 | 62, 100000);
    n += 100000;
    assert_true(h2_put(fd, H2_HEADERS, 5, 1, head, n));
    (void)status_of(fd, 1);
    raw_wait_closed(fd);
    close(fd);
}

static void test_continuation_when_endless_then_connection_ends(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    uint8_t head[512];
    bool open;
    size_t n = hp_request(head, "/t.T/Echo");
    open = h2_put(fd, H2_HEADERS, 0, 1, head, n);
    for (int i = 0; i < 100000 && open; i++) {
        n = hp_put(head, "x-more", "y");
        open = h2_put(fd, H2_CONTINUATION, 0, 1, head, n);
    }
    raw_wait_closed(fd);
    close(fd);
}

static void test_message_when_length_lies_then_memory_follows_bytes(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    for (uint32_t i = 0; i < 90; i++) {
        request(fd, 2 * i + 1, "/t.T/Echo", 0);
        assert_true(h2_put(fd, H2_DATA, 0, 2 * i + 1, "\0\0\x0f\xff\xff" "abc", 8));
    }
    assert_true(h2_put(fd, H2_PING, 0, 0, "12345678", 8));
    assert_true(h2_wait(fd, H2_PING, 0, &f));
    assert_true(h_held(h) < 90 * 80000); /* not 90 MiB */
    close(fd);
    wait_for(h_held(h) == 0);
}

static void test_message_when_over_limit_then_resource_exhausted_at_once(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    request(fd, 1, "/t.T/Echo", 0);
    assert_true(h2_put(fd, H2_DATA, 0, 1, "\0\0\x10\0\1", 5));
    assert_int_equal(status_of(fd, 1), GRPC_RESOURCE_EXHAUSTED);
    close(fd);
}

static void test_message_when_cut_or_doubled_then_internal(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    request(fd, 1, "/t.T/Echo", 1);
    assert_int_equal(status_of(fd, 1), GRPC_INTERNAL);
    request(fd, 3, "/t.T/Echo", 0);
    assert_true(h2_put(fd, H2_DATA, 1, 3, "\0\0\0\0\5ab", 7));
    assert_int_equal(status_of(fd, 3), GRPC_INTERNAL);
    request(fd, 5, "/t.T/Echo", 0);
    assert_true(h2_put(fd, H2_DATA, 1, 5, "\0\0\0\0\1a\0\0\0\0\1b", 12));
    assert_int_equal(status_of(fd, 5), GRPC_INTERNAL);
    request(fd, 7, "/t.T/Echo", 0);
    assert_true(h2_put(fd, H2_DATA, 1, 7, "\1\0\0\0\1a", 6)); /* compressed, without encoding */
    assert_int_equal(status_of(fd, 7), GRPC_INTERNAL);
    request(fd, 9, "/t.T/Echo", 0);
    assert_true(h2_put(fd, H2_DATA, 1, 9, "\7\0\0\0\1a", 6));
    assert_int_equal(status_of(fd, 9), GRPC_INTERNAL);
    close(fd);
}

static void test_message_when_bytes_come_singly_then_whole(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    static const uint8_t msg[] = { 0, 0, 0, 0, 3, 'a', 'b', 'c' };
    request(fd, 1, "/t.T/Echo", 0);
    for (size_t i = 0; i < sizeof msg; i++) {
        assert_true(h2_put(fd, H2_DATA, 0, 1, msg + i, 1));
    }
    assert_true(h2_put(fd, H2_DATA, 1, 1, NULL, 0));
    assert_true(h2_wait(fd, H2_DATA, 1, &f));
    assert_int_equal(f.n, 8);
    assert_memory_equal(f.p, msg, 8);
    close(fd);
}

static void test_message_when_client_closes_halfway_then_memory_is_back(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    static uint8_t part[200000] = { 0, 0, 0x0f, 0xff, 0xff };
    request(fd, 1, "/t.T/Echo", 0);
    assert_true(h2_put(fd, H2_DATA, 0, 1, part, sizeof part));
    wait_for(h_held(h) > 100000);
    close(fd);
    wait_for(h_held(h) == 0);
}

static void encoded(int fd, uint32_t stream, const char *encoding, const void *p, size_t n)
{
    uint8_t head[512];
    size_t hn = hp_request(head, "/t.T/Echo");
    hn += hp_put(head + hn, "grpc-encoding", encoding);
    assert_true(h2_put(fd, H2_HEADERS, 4, stream, head, hn));
    assert_true(h2_put(fd, H2_DATA, 1, stream, p, n));
}

static void test_encoding_when_gzip_then_plain_and_when_unknown_then_unimplemented(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    /* gzip of "hello" with a stored block */
    static const uint8_t z[] = { 1, 0, 0, 0, 28, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 1, 5, 0, 0xfa,
                                 0xff, 'h', 'e', 'l', 'l', 'o', 0x86, 0xa6, 0x10, 0x36, 5, 0, 0, 0 };
    encoded(fd, 1, "gzip", z, sizeof z);
    assert_true(h2_wait(fd, H2_DATA, 1, &f));
    assert_int_equal(f.n, 10);
    assert_memory_equal(f.p + 5, "hello", 5);
    close(fd);
    fd = dial(h);
    encoded(fd, 1, "snappy", z, sizeof z);
    assert_int_equal(status_of(fd, 1), GRPC_UNIMPLEMENTED);
    encoded(fd, 3, "gzip", "\1\0\0\0\4junk", 9);
    assert_int_equal(status_of(fd, 3), GRPC_INTERNAL);
    encoded(fd, 5, "identity", "\0\0\0\0\1a", 6);
    assert_int_equal(status_of(fd, 5), GRPC_OK);
    encoded(fd, 7, "gzip", "\0\0\0\0\1a", 6); /* may be sent uncompressed all the same */
    assert_int_equal(status_of(fd, 7), GRPC_OK);
    close(fd);
}

static void test_content_type_when_not_grpc_then_415(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    uint8_t head[512];
    size_t n = 0;
    n += hp_put(head + n, ":method", "POST");
    n += hp_put(head + n, ":scheme", "http");
    n += hp_put(head + n, ":path", "/t.T/Echo");
    n += hp_put(head + n, ":authority", "x");
    n += hp_put(head + n, "content-type", "application/json");
    assert_true(h2_put(fd, H2_HEADERS, 4, 1, head, n));
    assert_true(h2_wait(fd, H2_HEADERS, 1, &f));
    assert_true(f.flags & 1);
    close(fd);
}

static void test_timeout_when_malformed_then_invalid_argument(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    uint8_t head[512];
    size_t n = hp_request(head, "/t.T/Echo");
    n += hp_put(head + n, "grpc-timeout", "soon");
    assert_true(h2_put(fd, H2_HEADERS, 4, 1, head, n));
    assert_int_equal(status_of(fd, 1), GRPC_INVALID_ARGUMENT);
    close(fd);
}

static void test_deadline_when_it_passes_in_the_queue_then_never_run(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    uint8_t head[512];
    size_t n;
    call(fd, 1, "/t.T/Wait", 0);
    call(fd, 3, "/t.T/Wait", 0);
    wait_for(h->entered == 2);
    n = hp_request(head, "/t.T/Wait");
    n += hp_put(head + n, "grpc-timeout", "1m");
    assert_true(h2_put(fd, H2_HEADERS, 4, 5, head, n));
    assert_true(h2_put(fd, H2_DATA, 1, 5, "\0\0\0\0\0", 5));
    wait_for(h_calls_open(h) == 3); /* its time runs from when it came */
    {
        int64_t later = deadline_in_ms(5);
        wait_for(clock_mono_us() > later);
    }
    h_let_go(h);
    assert_int_equal(status_of(fd, 5), GRPC_DEADLINE_EXCEEDED);
    assert_int_equal(h->entered, 2);
    close(fd);
}

static void test_queue_when_full_then_unavailable(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    for (uint32_t i = 0; i < 2; i++) {
        call(fd, 2 * i + 1, "/t.T/Wait", 0);
    }
    wait_for(h->entered == 2);
    for (uint32_t i = 2; i < 10; i++) { /* fills the queue of 8 */
        call(fd, 2 * i + 1, "/t.T/Wait", 0);
    }
    call(fd, 21, "/t.T/Wait", 0);
    assert_int_equal(status_of(fd, 21), GRPC_UNAVAILABLE);
    h_let_go(h);
    wait_for(h->finished == 10);
    close(fd);
}

static void test_cancel_when_rst_stream_then_handler_sees_it(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    call(fd, 1, "/t.T/Wait", 0);
    wait_for(h->entered == 1);
    assert_true(h2_put(fd, H2_RST, 0, 1, "\0\0\0\x8", 4));
    wait_for(h->cancelled == 1);
    call(fd, 3, "/t.T/Wait", 0);
    wait_for(h->entered == 2);
    close(fd);
    wait_for(h->cancelled == 2);
}

static void test_budget_when_used_up_then_unavailable(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    static uint8_t part[1000000] = { 0, 0, 0x0f, 0xff, 0xff };
    int refused = 0;
    for (uint32_t i = 0; i < 12; i++) {
        request(fd, 2 * i + 1, "/t.T/Echo", 0);
        for (size_t at = 0; at < sizeof part; at += 250000) {
            assert_true(h2_put(fd, H2_DATA, 0, 2 * i + 1, part + at, 250000));
            part[0] = part[1] = part[2] = part[3] = part[4] = 0;
        }
        memcpy(part, "\0\0\x0f\xff\xff", 5);
    }
    while (refused < 4) { /* 12 MB came, 8 MiB are allowed */
        assert_true(h2_wait(fd, H2_HEADERS, 0, &f));
        assert_true(f.flags & 1);
        refused++;
    }
    assert_true(h_held(h) <= 8u << 20);
    close(fd);
}

static void test_reader_when_slow_then_sender_waits_in_bounded_memory(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    int sent;
    call(fd, 1, "/t.T/Endless", 0);
    wait_for(h->entered == 1);
    /* Its window (64 KiB) and the queue (1 MiB) fill; then it must stand still. */
    wait_for(h->done_status > 10);
    {
        int64_t later = deadline_in_ms(100);
        do {
            sent = h->done_status;
            (void)poll(NULL, 0, 20);
        } while (sent != h->done_status && clock_mono_us() < later + 5000000);
    }
    assert_true((size_t)sent * 50000 <= (1u << 20) + (1u << 16) + 100000);
    close(fd);
    wait_for(h->cancelled == 1);
}

static void test_reader_when_it_takes_nothing_then_cut_off(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    call(fd, 1, "/t.T/Big", 0);
    wait_for(h_conns_open(h) >= 1);
    raw_wait_closed(fd); /* reads, but never gives window: stall_timeout_ms */
    close(fd);
}

static void test_replies_when_unread_then_no_more_calls(void **state)
{
    struct harness *h = *state;
    int fd = dial(h);
    for (uint32_t i = 0; i < 4; i++) { /* 8 MiB each, 20 MiB allowed */
        call(fd, 2 * i + 1, "/t.T/Big", 0);
    }
    wait_for(h->finished == 4 && h_calls_open(h) == 0);
    call(fd, 9, "/t.T/Big", 0);
    assert_true(h2_wait(fd, H2_HEADERS, 9, &f));
    assert_true(f.flags & 1); /* trailers only */
    close(fd);
}

static void test_connection_when_silent_then_closed(void **state)
{
    struct harness *h = *state;
    int fd = raw_dial(h->port);
    raw_wait_closed(fd);
    close(fd);
    fd = raw_dial(h->port);
    assert_true(raw_send(fd, "PRI", 3));
    raw_wait_closed(fd);
    close(fd);
}

#define T(f) cmocka_unit_test_setup_teardown(f, start, stop)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_raw_call_when_well_formed_then_answered),
        T(test_first_bytes_when_one_at_a_time_then_still_h2),
        T(test_preface_when_broken_late_then_refused),
        T(test_frames_when_random_then_connection_ends),
        T(test_frame_when_protocol_error_then_goaway),
        T(test_frame_when_larger_than_allowed_then_goaway),
        T(test_reset_when_rapid_then_connection_ends),
        T(test_pings_when_every_five_seconds_or_faster_then_answered),
        T(test_pings_when_flooding_then_connection_ends),
        T(test_settings_when_flooding_then_connection_ends),
        T(test_headers_when_over_the_limit_then_resource_exhausted),
        T(test_headers_when_table_bomb_then_connection_ends),
        T(test_continuation_when_endless_then_connection_ends),
        T(test_message_when_length_lies_then_memory_follows_bytes),
        T(test_message_when_over_limit_then_resource_exhausted_at_once),
        T(test_message_when_cut_or_doubled_then_internal),
        T(test_message_when_bytes_come_singly_then_whole),
        T(test_message_when_client_closes_halfway_then_memory_is_back),
        T(test_encoding_when_gzip_then_plain_and_when_unknown_then_unimplemented),
        T(test_content_type_when_not_grpc_then_415),
        T(test_timeout_when_malformed_then_invalid_argument),
        T(test_deadline_when_it_passes_in_the_queue_then_never_run),
        T(test_queue_when_full_then_unavailable),
        T(test_cancel_when_rst_stream_then_handler_sees_it),
        T(test_budget_when_used_up_then_unavailable),
        T(test_reader_when_slow_then_sender_waits_in_bounded_memory),
        T(test_reader_when_it_takes_nothing_then_cut_off),
        T(test_replies_when_unread_then_no_more_calls),
        T(test_connection_when_silent_then_closed),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    nghttp2_hd_inflate_del(inf);
    return rc;
}
