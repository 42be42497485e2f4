/*
 * fuzz_batch.c - column batches from outside: batch_decode().
 *
 * What decodes must be safe to walk to the last element of the last cell, and must encode to bytes
 * that decode to the same batch.
 */
#include "base/alloc.h"
#include "schema/column.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint32_t sum(struct slice s)
{
    uint32_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        n += (uint8_t)s.p[i];
    }
    return n;
}

static uint32_t walk(const struct batch *b)
{
    uint32_t total = 0;
    for (uint32_t c = 0; c < b->ncols; c++) {
        const struct column *col = &b->cols[c];
        CHECK(col->nrows == b->nrows);
        for (uint32_t row = 0; row < b->nrows; row++) {
            struct slice cell = column_cell(col, row);
            total += sum(cell) + column_is_null(col, row);
            if (dtype_is_int(col->type)) {
                total += (uint32_t)column_int(col, row);
            }
            uint32_t n = col->type == DT_ARRAY ? array_count(col->elem, cell) : 0;
            for (uint32_t i = 0; i < n; i++) {
                total += sum(array_elem(col->elem, cell, i));
            }
        }
    }
    return total;
}

static void again(const struct batch *b, uint32_t total)
{
    struct buf out;
    struct batch same;
    struct status st = STATUS_INIT;
    struct arena *ar = arena_new(0);
    buf_init(&out, SIZE_MAX / 2);
    CHECK(batch_encode(b, &out));
    CHECK(batch_decode(buf_slice(&out), ar, &same, &st) == 0);
    CHECK(same.nrows == b->nrows && same.ncols == b->ncols && walk(&same) == total);
    buf_done(&out);
    arena_free(ar);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = xalloc(size ? size : 1);
    struct arena *ar = arena_new((size_t)64 << 20);
    struct batch b;
    struct status st = STATUS_INIT;
    if (size) {
        memcpy(copy, data, size);
    }
    if (batch_decode(slice_n(copy, size), ar, &b, &st) == 0) {
        again(&b, walk(&b));
    } else {
        CHECK(st.code == ST_CORRUPT && st.msg[0] != '\0');
    }
    arena_free(ar);
    mem_free(copy);
    return 0;
}
