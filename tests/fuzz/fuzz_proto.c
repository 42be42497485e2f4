/*
 * fuzz_proto.c - proto_unpack() on arbitrary bytes, as the messages strangers send.
 *
 * The first byte chooses the type; the rest is the message. Memory is limited as for a request.
 * What was accepted must survive packing and unpacking: same bytes the second time.
 */
#include "proto/milvus.pb-c.h"
#include "proto/proto.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ProtobufCMessageDescriptor *const types[] = {
    &milvus__proto__milvus__search_request__descriptor,
    &milvus__proto__milvus__insert_request__descriptor,
    &milvus__proto__schema__collection_schema__descriptor,
    &milvus__proto__common__placeholder_group__descriptor,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct status st = STATUS_INIT;
    struct buf first, second;
    if (size == 0) {
        return 0;
    }
    const ProtobufCMessageDescriptor *d = types[data[0] % ARRAY_LEN(types)];
    struct arena *ar = arena_new(16 << 20);
    buf_init(&first, 64 << 20);
    buf_init(&second, 64 << 20);
    ProtobufCMessage *m = proto_unpack_borrow(d, slice_n(data + 1, size - 1), ar, &st);
    if (m && proto_pack(m, &first)) {
        /* no limit: the packed form may be longer than the input was in memory */
        struct arena *again = arena_new(0);
        ProtobufCMessage *m2 = proto_unpack(d, buf_slice(&first), again, &st);
        if (!m2 || !proto_pack(m2, &second) || !slice_eq(buf_slice(&first), buf_slice(&second))) {
            abort();
        }
        buf_reset(&second);
        (void)proto_to_json(m2, &second, &(struct proto_json_opts){.bytes_max = 64});
        arena_free(again);
    } else if (!m && st.code != ST_INVALID && st.code != ST_NO_MEMORY) {
        abort();
    }
    buf_done(&first);
    buf_done(&second);
    arena_free(ar);
    return 0;
}
