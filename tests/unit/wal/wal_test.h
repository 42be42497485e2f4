/* wal_test.h - what the tests of the log share: short ways to append, read back and compare. */
#pragma once
#include "expect.h"
#include "base/clock.h"
#include "wal/wal.h"
#include <stdio.h>

/* The payload of a test record follows from a number: length and bytes. */
static inline size_t test_payload(uint64_t id, uint8_t *out, size_t max)
{
    size_t n = (size_t)(id * 37 % 300) % max;
    for (size_t i = 0; i < n; i++) {
        out[i] = (uint8_t)(id * 131 + i * 7 + 1);
    }
    return n;
}

/* n records id, id + 1 ... as one batch, each payload in two parts. */
static inline int test_append(struct wal *w, uint64_t id, size_t n, uint64_t *ret_first,
                              struct status *st)
{
    uint8_t bytes[16][300];
    struct file_part parts[16][2];
    struct wal_entry entries[16];
    uint64_t first = 0;
    assert_true(n <= 16);
    for (size_t i = 0; i < n; i++) {
        size_t len = test_payload(id + i, bytes[i], sizeof bytes[i]);
        parts[i][0] = (struct file_part){bytes[i], len / 3};
        parts[i][1] = (struct file_part){bytes[i] + len / 3, len - len / 3};
        entries[i] = (struct wal_entry){parts[i], 2, (uint16_t)(id + i)};
    }
    int rc = wal_append(w, entries, n, &first, st);
    if (rc == 0 && ret_first) {
        *ret_first = first;
    }
    return rc;
}

/* Appends records whose id equals their position, one batch of n. */
static inline void test_fill(struct wal *w, size_t n)
{
    uint64_t first = 0, want = wal_last_position(w) + 1;
    OK(test_append(w, want, n, &first, st));
    assert_int_equal(first, want);
}

static inline void test_check_record(const struct wal_record *r, uint64_t id)
{
    uint8_t bytes[300];
    size_t len = test_payload(id, bytes, sizeof bytes);
    assert_int_equal(r->type, (uint16_t)id);
    assert_int_equal(r->payload.n, len);
    assert_memory_equal(r->payload.p, bytes, len);
}

/* Records from..to are there, in order, and none after. */
static inline void test_check_range(struct wal *w, uint64_t from, uint64_t to)
{
    struct wal_reader *r = NULL;
    struct wal_record rec;
    bool found = false;
    OK(wal_reader_open(w, from, &r, st));
    for (uint64_t p = from; p <= to; p++) {
        OK(wal_reader_next(r, &rec, &found, st));
        assert_true(found);
        assert_int_equal(rec.position, p);
        test_check_record(&rec, p);
    }
    OK(wal_reader_next(r, &rec, &found, st));
    assert_false(found);
    wal_reader_close(r);
}
