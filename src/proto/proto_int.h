/* proto_int.h - shared inside the room: facts about protobuf-c's types. */
#pragma once
#include "base/compiler.h"
#include <protobuf-c/protobuf-c.h>

/* Bytes of a value of this type inside a struct or array. */
static inline size_t proto__element_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    default:
        return 4;
    }
}

/* Would proto3 leave a single field with the value at src out of the message? */
bool proto__is_default(const ProtobufCFieldDescriptor *f, const void *src);
/* Is this member of a oneof, of which `chosen` is set, not there? */
bool proto__is_unset_choice(const ProtobufCFieldDescriptor *f, uint32_t chosen, const void *src);
