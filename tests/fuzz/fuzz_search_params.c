/*
 * fuzz_search_params.c - key-value parameters of requests, as the proxy reads them.
 *
 * The first byte chooses the reader: a search's parameters, a hybrid search's, an index's, a
 * collection's properties. The rest is text, "key=value" a line. What is accepted lies within the
 * limits; what is refused is refused with a reason.
 */
#include "base/alloc.h"
#include "proxy/px_index_params.h"
#include "proxy/px_read.h"
#include <math.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PAIRS_MAX 200

struct pairs {
    size_t n;
    px_kv_pb **kv;
};

static struct pairs read_pairs(struct slice text, struct arena *ar)
{
    struct pairs p = { .kv = arena_alloc(ar, PAIRS_MAX * sizeof(px_kv_pb *)) };
    while (text.n && p.n < PAIRS_MAX) {
        const char *end = memchr(text.p, '\n', text.n);
        size_t len = end ? (size_t)(end - text.p) : text.n;
        const char *eq = memchr(text.p, '=', len);
        size_t key = eq ? (size_t)(eq - text.p) : len;
        px_kv_pb *kv = ARENA_NEW(ar, px_kv_pb);
        *kv = (px_kv_pb)MILVUS__PROTO__COMMON__KEY_VALUE_PAIR__INIT;
        kv->key = arena_strndup(ar, text.p, key);
        kv->value = eq ? arena_strndup(ar, eq + 1, len - key - 1) : "";
        p.kv[p.n++] = kv;
        text = end ? slice_n(end + 1, text.n - len - 1) : SLICE_LIT("");
    }
    return p;
}

static void check_search(struct px_call *pc, const struct pairs *p)
{
    struct status st = STATUS_INIT;
    struct px_search_params sp;
    if (px_search_params(pc, p->n, p->kv, &sp, &st) != 0) {
        CHECK(st.code && st.msg[0] != '\0');
        return;
    }
    CHECK(sp.topk > 0 && sp.topk <= pc->px->lim.max_topk && sp.offset >= 0);
    CHECK(sp.topk + sp.offset <= pc->px->lim.max_query_window);
    CHECK(sp.round_decimal >= -1 && sp.round_decimal <= 6);
    CHECK(!sp.has_radius || isfinite(sp.radius));
    CHECK(!sp.has_range_filter || (sp.has_radius && isfinite(sp.range_filter)));
    CHECK(sp.params && (!sp.iter_v2 || sp.iterator));
    CHECK(sp.group_size >= (sp.group_by != NULL) && sp.group_size <= 1000);
    if (sp.metric) {
        int m = px_metric_parse(sp.metric);
        CHECK(m >= -1 && m < 7);
    }
}

static void check_rank(struct px_call *pc, const struct pairs *p, size_t nreqs)
{
    Milvus__Proto__Milvus__HybridSearchRequest req =
        MILVUS__PROTO__MILVUS__HYBRID_SEARCH_REQUEST__INIT;
    struct status st = STATUS_INIT;
    struct px_rank r;
    req.n_requests = nreqs;
    req.n_rank_params = p->n;
    req.rank_params = p->kv;
    if (px_rank_params(pc, &req, &r, &st) != 0) {
        CHECK(st.code && st.msg[0] != '\0');
        return;
    }
    CHECK(r.limit > 0 && r.offset >= 0 && r.limit + r.offset <= pc->px->lim.max_query_window);
    CHECK(r.round_decimal >= -1 && r.round_decimal <= 6);
    CHECK(r.rrf_k > 0 && (!r.weighted || r.nweights == nreqs));
    for (size_t i = 0; r.weighted && i < nreqs; i++) {
        CHECK(r.weights[i] >= 0 && r.weights[i] <= 1);
    }
}

static void check_index(const struct pairs *p, struct arena *ar)
{
    static const enum dtype types[] = { DT_FLOAT_VECTOR, DT_BINARY_VECTOR, DT_SPARSE_FLOAT_VECTOR,
                                        DT_INT8_VECTOR,  DT_VARCHAR,       DT_INT64,
                                        DT_JSON,         DT_ARRAY };
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        struct field f = { .id = 101, .name = "f", .type = types[i], .elem = DT_INT64, .dim = 16 };
        struct status st = STATUS_INIT;
        struct px_index_params ip = { 0 };
        if (px_index_params_read(&f, p->n, p->kv, ar, &ip, &st) != 0) {
            CHECK(st.code && st.msg[0] != '\0');
            continue;
        }
        for (size_t k = 0; k < ip.flat.n; k++) {
            CHECK(ip.flat.kv[k]->key && ip.flat.kv[k]->value);
        }
    }
    struct status st = STATUS_INIT;
    const char *none[] = { "mmap.enabled" };
    (void)px_index_check_alter(p->n, p->kv, 1, none, &st);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct proxy px = {
        .lim = { .max_name_length = 255, .max_topk = 16384, .max_nq = 16384,
                 .max_query_window = 16384 },
    };
    struct status st = STATUS_INIT;
    struct px_call pc;
    if (size == 0) {
        return 0;
    }
    struct arena *ar = arena_new(0);
    struct pairs p = read_pairs(slice_n(data + 1, size - 1), ar);
    px_call_init(&pc, &px, ar);
    switch (data[0] % 4) {
    case 0:
        check_search(&pc, &p);
        break;
    case 1:
        check_rank(&pc, &p, data[0] / 4 % 8);
        break;
    case 2:
        check_index(&p, ar);
        break;
    default:
        if (px_check_properties(p.n, p.kv, &st) != 0) {
            CHECK(st.code && st.msg[0] != '\0');
        }
        break;
    }
    px_call_done(&pc);
    arena_free(ar);
    return 0;
}
