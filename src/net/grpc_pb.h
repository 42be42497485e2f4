/*
 * grpc_pb.h - inside the room: just enough of the protobuf encoding for the services that come with
 * it (health, reflection). Messages with more than a few fields belong to the proto room.
 */
#pragma once
#include "base/buf.h"

struct pb_field {
    uint32_t number;
    uint32_t wire;       /* 0 varint, 1 eight bytes, 2 bytes, 5 four bytes */
    uint64_t value;      /* wire 0, 1, 5 */
    struct slice bytes;  /* wire 2 */
};

/* False at the end and on broken input; r->failed tells which. */
bool pb__next(struct reader *r, struct pb_field *ret);
bool pb__put_varint(struct buf *b, uint32_t number, uint64_t v);
bool pb__put_bytes(struct buf *b, uint32_t number, struct slice s);
