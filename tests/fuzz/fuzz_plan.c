/*
 * fuzz_plan.c - plans from outside: plan_decode().
 *
 * What decodes must encode to bytes that decode again, and must evaluate or be refused because it
 * does not fit the columns.
 */
#include "base/alloc.h"
#include "query_fixture.h"
#include "schema/errors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NROWS 70

static struct fx *rows(void)
{
    static struct fx *fx;
    if (!fx) {
        fx = fx_new(2, NROWS, true);
    }
    return fx;
}

static void check_plan(const struct expr *e, const struct fx *fx, struct arena *ar)
{
    struct status st = STATUS_INIT;
    uint64_t bits[2];
    const struct expr *again;
    struct buf bytes, text;
    buf_init(&bytes, SIZE_MAX / 2);
    buf_init(&text, SIZE_MAX / 2);
    CHECK(plan_encode(e, &bytes));
    int rc = plan_decode(buf_slice(&bytes), ar, &again, &st);
    CHECK(rc == 0 || rc == ST_NO_MEMORY);
    CHECK(plan_dump(e, &fx->schema, &text));
    rc = filter_eval(e, &fx->cr, ar, bits, &st);
    CHECK(rc == 0 || rc == ST_INVALID || rc == ERR_FIELD_NOT_FOUND || rc == ST_NO_MEMORY);
    CHECK(rc != 0 || bits[1] >> (NROWS - 64) == 0);
    buf_done(&bytes);
    buf_done(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *ar = arena_new((size_t)64 << 20);
    struct status st = STATUS_INIT;
    const struct expr *e;
    uint8_t *copy = xalloc(size ? size : 1);
    if (size) {
        memcpy(copy, data, size);
    }
    if (plan_decode(slice_n(copy, size), ar, &e, &st) == 0) {
        check_plan(e, rows(), ar);
    } else {
        CHECK(st.code == ST_CORRUPT || st.code == ST_NO_MEMORY);
    }
    arena_free(ar);
    mem_free(copy);
    return 0;
}
