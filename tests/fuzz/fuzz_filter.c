/*
 * fuzz_filter.c - filter texts from outside: filter_parse(), filter_eval(), and a plan's way
 * through its bytes and back.
 *
 * What parses must evaluate, must be the same after plan_encode() and plan_decode() (same dump,
 * same rows), and its dump must parse again to an equal plan.
 */
#include "base/alloc.h"
#include "query_fixture.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NROWS 70
#define ARENA_MAX ((size_t)64 << 20)

static struct fx *rows(void)
{
    static struct fx *fx;
    if (!fx) {
        fx = fx_new(1, NROWS, false);
    }
    return fx;
}

static void dump(const struct expr *e, const struct schema *s, struct buf *b)
{
    buf_init(b, SIZE_MAX / 2);
    CHECK(plan_dump(e, s, b));
}

static void same_dump(const struct expr *a, const struct expr *b, const struct schema *s)
{
    struct buf x, y;
    dump(a, s, &x);
    dump(b, s, &y);
    CHECK(slice_eq(buf_slice(&x), buf_slice(&y)));
    buf_done(&x);
    buf_done(&y);
}

static void check_plan(const struct expr *e, const struct fx *fx, struct arena *ar)
{
    struct status st = STATUS_INIT;
    uint64_t bits[2][2] = {{0}};
    const struct expr *again;
    struct buf bytes;
    int rc = filter_eval(e, &fx->cr, ar, bits[0], &st);
    CHECK(rc == 0 || rc == ST_NO_MEMORY);
    buf_init(&bytes, SIZE_MAX / 2);
    CHECK(plan_encode(e, &bytes));
    if (plan_decode(buf_slice(&bytes), ar, &again, &st) == 0) {
        same_dump(e, again, &fx->schema);
        if (rc == 0 && filter_eval(again, &fx->cr, ar, bits[1], &st) == 0) {
            CHECK(memcmp(bits[0], bits[1], sizeof bits[0]) == 0);
        }
    } else {
        CHECK(st.code == ST_NO_MEMORY);
    }
    buf_done(&bytes);
    dump(e, &fx->schema, &bytes);
    rc = filter_parse(buf_slice(&bytes), &fx->schema, NULL, 0, ar, &again, &st);
    CHECK(rc == 0 || rc == ST_NO_MEMORY);
    if (rc == 0) {
        same_dump(e, again, &fx->schema);
    }
    buf_done(&bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct value items[] = {{.type = VAL_INT, .i = 3}, {.type = VAL_INT, .i = 1}};
    static const struct template_value templates[] = {
        {{"x", 1}, {.type = VAL_INT, .i = 5}},
        {{"s", 1}, {.type = VAL_STRING, .s = {"a%", 2}}},
        {{"l", 1}, {.type = VAL_ARRAY, .a = {items, 2}}},
    };
    struct fx *fx = rows();
    struct arena *ar = arena_new(ARENA_MAX);
    struct status st = STATUS_INIT;
    const struct expr *e;
    char *copy = xalloc(size ? size : 1);
    if (size) {
        memcpy(copy, data, size);
    }
    if (filter_parse(slice_n(copy, size), &fx->schema, templates, ARRAY_LEN(templates), ar, &e,
                     &st)) {
        CHECK(st.msg[0] != '\0');
    } else if (e) {
        check_plan(e, fx, ar);
    }
    arena_free(ar);
    mem_free(copy);
    return 0;
}
