/*
 * proto.h - protobuf messages in and out, for every message type at once.
 *
 * Generated headers ("proto/milvus.pb-c.h", ...) give the structs; these functions replace
 * protobuf-c's own unpack, pack and free, which allocate per field and trust their input:
 *
 *     Milvus__Proto__Milvus__SearchRequest *req;
 *     req = proto_unpack(&milvus__proto__milvus__search_request__descriptor, body, ar, st);
 *
 *     Milvus__Proto__Milvus__BoolResponse reply = MILVUS__PROTO__MILVUS__BOOL_RESPONSE__INIT;
 *     reply.value = true;
 *     if (!proto_pack(&reply.pb, &out)) ...
 *
 * The embedded ProtobufCMessage is called `pb`. Strings are never NULL outside a oneof; a proto3
 * optional field x is a oneof of one member, set when `has_x_case` is not 0. Members are lower case
 * (`msgID` is msgid); names that C or C++ reserve end in "_" (`namespace_`).
 * Thread: any; all functions only touch their arguments.
 */
#pragma once
#include "base/arena.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "base/slice.h"
#include "base/status.h"
#include <protobuf-c/protobuf-c.h>

#define PROTO_DEPTH_MAX 64 /* messages inside messages, the outermost counts */

/* Reads one message. Everything in the result lives in ar, nothing points into wire.
 * Unknown fields, and known ones of another wire type, are skipped and leave nothing behind; a
 * message field given twice is merged, other fields keep the last value.
 * NULL on failure: ST_INVALID (damaged bytes, nesting beyond PROTO_DEPTH_MAX, a string that is not
 * UTF-8 or holds a zero byte: names the field), ST_NO_MEMORY (the limit of ar). What was allocated
 * before a failure stays in ar. */
void *proto_unpack(const ProtobufCMessageDescriptor *desc, struct slice wire, struct arena *ar,
                   struct status *st) NODISCARD;
/* The same, but bytes fields point into wire, which must live as long as the result. No alignment
 * can be assumed of them. For requests, whose body is kept anyway. */
void *proto_unpack_borrow(const ProtobufCMessageDescriptor *desc, struct slice wire,
                          struct arena *ar, struct status *st) NODISCARD;

/* Appends the message; false, with nothing appended and b->failed set, past the ceiling of b or
 * 2 GiB. Large fields are copied once, however deep they lie. Repeated messages and strings must
 * not hold NULL. */
bool proto_pack(const ProtobufCMessage *msg, struct buf *b);

struct proto_json_opts {
    int indent;       /* blanks per level; 0: all on one line */
    size_t bytes_max; /* shows at most so many bytes of each bytes field; 0: all */
};

/* Appends the message as a JSON object for a human to read: only fields that are set, enums by
 * name, 64-bit integers as numbers, maps as objects, bytes as {"len":5,"base64":"aGVsbG8="} (len
 * is the whole length, even when bytes_max cut the text). NaN and infinities are strings.
 * opts NULL: one line, all bytes. false past the ceiling of b. */
bool proto_to_json(const ProtobufCMessage *msg, struct buf *b, const struct proto_json_opts *opts);

/* A serialized google.protobuf.FileDescriptorSet of the public API. Valid for ever. */
struct slice proto_descriptor_set(void);
