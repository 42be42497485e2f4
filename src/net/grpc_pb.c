/* grpc_pb.c - fields of protobuf messages, one at a time. Pure functions. */
#include "net/grpc_pb.h"

static bool get_varint(struct reader *r, uint64_t *ret)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        uint8_t b;
        if (!reader_u8(r, &b)) {
            return false;
        }
        v |= (uint64_t)(b & 127) << shift;
        if (!(b & 128)) {
            *ret = v;
            return true;
        }
    }
    r->failed = true;
    return false;
}

bool pb__next(struct reader *r, struct pb_field *ret)
{
    uint64_t tag, n;
    uint32_t four;
    struct pb_field f = { 0 };
    bool ok = false;
    if (r->failed || reader_left(r) == 0 || !get_varint(r, &tag)) {
        return false;
    }
    f.number = (uint32_t)(tag >> 3);
    f.wire = (uint32_t)(tag & 7);
    switch (f.wire) {
    case 0:
        ok = get_varint(r, &f.value);
        break;
    case 1:
        ok = reader_u64(r, &f.value);
        break;
    case 2:
        ok = get_varint(r, &n) && n <= reader_left(r) && reader_bytes(r, (size_t)n, &f.bytes);
        break;
    case 5:
        ok = reader_u32(r, &four);
        f.value = ok ? four : 0;
        break;
    default:
        break;
    }
    if (!ok || tag >> 3 == 0 || tag >> 32) {
        r->failed = true;
        return false;
    }
    *ret = f;
    return true;
}

static bool put_raw_varint(struct buf *b, uint64_t v)
{
    while (v >= 128) {
        (void)buf_put_u8(b, (uint8_t)(v | 128));
        v >>= 7;
    }
    return buf_put_u8(b, (uint8_t)v);
}

bool pb__put_varint(struct buf *b, uint32_t number, uint64_t v)
{
    (void)put_raw_varint(b, (uint64_t)number << 3);
    return put_raw_varint(b, v) && !b->failed;
}

bool pb__put_bytes(struct buf *b, uint32_t number, struct slice s)
{
    (void)put_raw_varint(b, (uint64_t)number << 3 | 2);
    (void)put_raw_varint(b, s.n);
    return buf_put_slice(b, s) && !b->failed;
}
