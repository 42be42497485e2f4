/* fuzz_record.c - any bytes as a write record, and the batches in it. */
#include "base/arena.h"
#include "node/streaming/sn_record.h"
#include "schema/column.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena *ar = arena_new((size_t)64 << 20);
    struct status st = STATUS_INIT;
    struct sn_record r;

    if (sn_record_decode(slice_n(data, size), ar, &r, &st) == 0) {
        for (uint32_t i = 0; i < r.nparts; i++) {
            struct batch b;
            (void)batch_decode(r.parts[i].batch, ar, &b, &st);
        }
    }
    arena_free(ar);
    return 0;
}
