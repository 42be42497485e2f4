/*
 * proto_set.c - the description of the public API that server reflection hands out.
 *
 * The bytes are made by protoc-c from our .proto files and turned into a C array at build time
 * (tools/embed.py), so that the binary needs no file beside it.
 *
 * THREADS     Any: constants only.
 */
#include "proto/proto.h"

extern const unsigned char proto__descset[];
extern const size_t proto__descset_len;

struct slice proto_descriptor_set(void)
{
    return slice_n(proto__descset, proto__descset_len);
}
