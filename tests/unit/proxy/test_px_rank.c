/* test_px_rank.c - rank_params of a hybrid search: what is taken, what is refused. */
#include "unit.h"
#include "proxy/px_read.h"

static struct proxy px = { .lim = { .max_topk = 16384, .max_query_window = 16384 } };

static int read_rank(struct arena *ar, size_t nreqs, struct px_rank *ret, struct status *st,
                     const char *const *pairs)
{
    Milvus__Proto__Milvus__HybridSearchRequest req =
        MILVUS__PROTO__MILVUS__HYBRID_SEARCH_REQUEST__INIT;
    px_kv_pb *kv[16];
    struct px_call pc;
    px_call_init(&pc, &px, ar);
    req.n_requests = nreqs;
    req.rank_params = kv;
    for (; pairs[0]; pairs += 2) {
        px_kv_pb *p = ARENA_NEW(ar, px_kv_pb);
        *p = (px_kv_pb)MILVUS__PROTO__COMMON__KEY_VALUE_PAIR__INIT;
        p->key = pairs[0];
        p->value = pairs[1];
        kv[req.n_rank_params++] = p;
    }
    *st = (struct status)STATUS_INIT;
    return px_rank_params(&pc, &req, ret, st);
}
#define READ(ar, nreqs, ret, st, ...)                                                              \
    read_rank(ar, nreqs, ret, st, (const char *const[]){ __VA_ARGS__, NULL })

static void refuse(struct arena *ar, const char *part, const char *const *pairs)
{
    struct px_rank r;
    struct status st;
    assert_int_equal(read_rank(ar, 2, &r, &st, pairs), ERR_PARAMETER_INVALID);
    if (!strstr(st.msg, part)) {
        fail_msg("\"%s\" has no \"%s\"", st.msg, part);
    }
}
#define REFUSE(ar, part, ...) refuse(ar, part, (const char *const[]){ __VA_ARGS__, NULL })

static void test_rank_when_params_are_right_then_taken(void **state)
{
    struct arena *ar = arena_new(0);
    struct status st;
    struct px_rank r;
    ASSERT_OK(READ(ar, 2, &r, &st, "limit", "10"));
    assert_true(!r.weighted && r.rrf_k == 60.0 && r.limit == 10 && r.round_decimal == -1);
    ASSERT_OK(READ(ar, 2, &r, &st, "limit", "1", "offset", "16383", "round_decimal", "6",
                   "strategy", "weighted", "params", "{\"weights\":[0,1],\"norm_score\":false}"));
    assert_true(r.weighted && !r.normalise && r.nweights == 2 && r.weights[1] == 1.0);
    assert_true(r.offset == 16383 && r.round_decimal == 6);
    arena_free(ar);
}

static void test_rank_when_a_number_is_out_of_range_then_refused(void **state)
{
    struct arena *ar = arena_new(0);
    static const char max[] = "9223372036854775807";
    REFUSE(ar, "limit [0] is invalid", "strategy", "rrf");
    REFUSE(ar, "limit [-1] is invalid", "limit", "-1");
    REFUSE(ar, "rank parameter limit [x]", "limit", "x");
    REFUSE(ar, "but got 16385", "limit", "2", "offset", "16383");
    REFUSE(ar, "but got 9223372036854775807", "limit", max, "offset", max);
    REFUSE(ar, "but got -9223372036854775806", "limit", "1", "offset", "-9223372036854775807");
    REFUSE(ar, "round_decimal [7]", "limit", "1", "round_decimal", "7");
    REFUSE(ar, "round_decimal [4294967296]", "limit", "1", "round_decimal", "4294967296");
    REFUSE(ar, "k should be in range (0, 16384)", "limit", "1", "params", "{\"k\":0}");
    REFUSE(ar, "k should be in range (0, 16384)", "limit", "1", "params", "{\"k\":16384}");
    REFUSE(ar, "k should be in range (0, 16384)", "limit", "1", "params", "{\"k\":\"60\"}");
    REFUSE(ar, "in range [0, 1]: 1.5", "limit", "1", "strategy", "weighted", "params",
           "{\"weights\":[1.5,1]}");
    REFUSE(ar, "[expected=2][actual=3]", "limit", "1", "strategy", "weighted", "params",
           "{\"weights\":[1,1,1]}");
    REFUSE(ar, "not a JSON object", "limit", "1", "params", "[1]");
    REFUSE(ar, "unsupported rank type max", "limit", "1", "strategy", "max");
    arena_free(ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rank_when_params_are_right_then_taken),
        cmocka_unit_test(test_rank_when_a_number_is_out_of_range_then_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
