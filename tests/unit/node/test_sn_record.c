/* test_sn_record.c - a write record decodes to what was encoded; cut or damaged ones never do. */
#include "unit.h"
#include "base/alloc.h"
#include "node/streaming/sn_record.h"
#include <string.h>

static struct slice flatten(const struct file_part *parts, size_t n, struct buf *out)
{
    for (size_t i = 0; i < n; i++) {
        assert_true(buf_put(out, parts[i].p, parts[i].n));
    }
    return buf_slice(out);
}

static void encode(struct arena *ar, uint32_t nparts, size_t nkeys, struct buf *out)
{
    struct status st = STATUS_INIT;
    struct sn_part parts[8];
    int64_t partitions[2] = { 5, -6 };
    char bytes[64];
    struct file_part *fp;
    size_t n;

    for (size_t i = 0; i < sizeof bytes; i++) {
        bytes[i] = (char)i;
    }
    for (uint32_t i = 0; i < nparts; i++) {
        parts[i] = (struct sn_part){ .partition_id = (int64_t)i - 3, .segment_id = 1000 + i,
                                     .num_rows = i + 1, .batch = slice_n(bytes, 13 + i) };
    }
    struct sn_record r = {
        .ts = 0x1122334455667788u,
        .collection_id = -9,
        .vchannel = SLICE_LIT("dml_0_77v0"),
        .nparts = nparts,
        .parts = parts,
        .delete_pks = slice_n(bytes, nkeys),
        .ndelete_partitions = nkeys ? 2 : 0,
        .delete_partitions = partitions,
    };
    ASSERT_OK(sn_record_encode(&r, ar, &fp, &n, &st));
    flatten(fp, n, out);
}

static void test_record_when_encoded_then_decodes_to_the_same(void **state)
{
    (void)state;
    for (uint32_t nparts = 0; nparts < 8; nparts++) {
        for (size_t nkeys = 0; nkeys < 20; nkeys += 19) {
            struct arena *ar = arena_new(0);
            struct status st = STATUS_INIT;
            struct sn_record r;
            struct buf b;
            buf_init(&b, 1 << 20);
            encode(ar, nparts, nkeys, &b);
            assert_int_equal(b.n % 8, 0);
            ASSERT_OK(sn_record_decode(buf_slice(&b), ar, &r, &st));
            assert_int_equal(r.ts, 0x1122334455667788u);
            assert_int_equal(r.collection_id, -9);
            assert_true(slice_is(r.vchannel, "dml_0_77v0"));
            assert_int_equal(r.nparts, nparts);
            for (uint32_t i = 0; i < nparts; i++) {
                assert_int_equal(r.parts[i].partition_id, (int64_t)i - 3);
                assert_int_equal(r.parts[i].segment_id, 1000 + i);
                assert_int_equal(r.parts[i].num_rows, i + 1);
                assert_int_equal(r.parts[i].batch.n, 13 + i);
                assert_int_equal(r.parts[i].batch.p[12], 12);
                assert_int_equal((uintptr_t)r.parts[i].batch.p % 8, (uintptr_t)b.p % 8);
            }
            assert_int_equal(r.delete_pks.n, nkeys);
            if (nkeys) {
                assert_int_equal(r.ndelete_partitions, 2);
                assert_int_equal(r.delete_partitions[1], -6);
            }
            buf_done(&b);
            arena_free(ar);
        }
    }
}

static void test_record_when_cut_anywhere_then_corrupt(void **state)
{
    struct arena *ar = arena_new(0);
    struct buf b;
    (void)state;
    buf_init(&b, 1 << 20);
    encode(ar, 3, 19, &b);
    for (size_t n = 0; n + 8 < b.n; n++) { /* the last padding may be missing */
        struct status st = STATUS_INIT;
        struct sn_record r;
        uint8_t *copy = xalloc(n + 1); /* exact size: reads past the end are seen */
        memcpy(copy, b.p, n);
        assert_int_equal(sn_record_decode(slice_n(copy, n), ar, &r, &st), ST_CORRUPT);
        mem_free(copy);
    }
    buf_done(&b);
    arena_free(ar);
}

static void test_record_when_any_byte_flips_then_no_crash(void **state)
{
    struct buf b;
    struct arena *ar = arena_new(0);
    (void)state;
    buf_init(&b, 1 << 20);
    encode(ar, 3, 19, &b);
    for (size_t i = 0; i < b.n; i++) {
        for (int bit = 0; bit < 8; bit++) {
            struct status st = STATUS_INIT;
            struct sn_record r;
            b.p[i] ^= (uint8_t)(1 << bit);
            if (sn_record_decode(buf_slice(&b), ar, &r, &st) == 0) {
                for (uint32_t p = 0; p < r.nparts; p++) { /* slices lie inside */
                    assert_true(r.parts[p].batch.p >= (char *)b.p);
                    assert_true(r.parts[p].batch.p + r.parts[p].batch.n <= (char *)b.p + b.n);
                }
            }
            b.p[i] ^= (uint8_t)(1 << bit);
        }
        arena_reset(ar);
    }
    buf_done(&b);
    arena_free(ar);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_record_when_encoded_then_decodes_to_the_same),
        cmocka_unit_test(test_record_when_cut_anywhere_then_corrupt),
        cmocka_unit_test(test_record_when_any_byte_flips_then_no_crash),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
