/*
 * random_message.h - fills any message with random values, and finds all message types.
 *
 * Lets a test compare our functions with protobuf-c's own on every type of the public API instead
 * of a few chosen ones. Seeded: a failure prints the seed through the assertion's arguments.
 */
#pragma once
#include "proto/milvus.pb-c.h"
#include "proto/proto.h"
#include "proto/proto_int.h"
#include <stdlib.h>

#define TYPES_MAX 512

struct rng {
    uint64_t s;
};

static inline uint32_t rng_next(struct rng *r)
{
    r->s = r->s * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(r->s >> 33);
}

static void random_value(struct rng *r, const ProtobufCFieldDescriptor *f, int depth,
                         struct arena *ar, void *dst);

static ProtobufCMessage *random_message(struct rng *r, const ProtobufCMessageDescriptor *d,
                                        int depth, struct arena *ar)
{
    ProtobufCMessage *m = arena_alloc(ar, d->sizeof_message);
    protobuf_c_message_init(d, m);
    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        void *member = (char *)m + f->offset, *quantifier = (char *)m + f->quantifier_offset;
        bool is_message = f->type == PROTOBUF_C_TYPE_MESSAGE;
        if (rng_next(r) % 3 == 0 || (is_message && depth > 5)) {
            continue;
        }
        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t n = rng_next(r) % (is_message ? 3 : 200), width = proto__element_size(f->type);
            char *array = arena_alloc(ar, n * width + 1);
            for (size_t k = 0; k < n; k++) {
                random_value(r, f, depth, ar, array + k * width);
            }
            memcpy(member, &array, sizeof array);
            memcpy(quantifier, &n, sizeof n);
            continue;
        }
        if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
            if (*(uint32_t *)quantifier != 0) {
                continue; /* an earlier member was chosen */
            }
            *(uint32_t *)quantifier = f->id;
        }
        random_value(r, f, depth, ar, member);
    }
    return m;
}

static void random_value(struct rng *r, const ProtobufCFieldDescriptor *f, int depth,
                         struct arena *ar, void *dst)
{
    static const uint64_t edges[] = {0,
                                     1,
                                     127,
                                     128,
                                     16383,
                                     16384,
                                     INT32_MAX,
                                     UINT32_MAX,
                                     INT64_MAX,
                                     UINT64_MAX,
                                     (uint64_t)INT64_MIN,
                                     (uint64_t)INT32_MIN};
    uint64_t v = rng_next(r) % 2 ? edges[rng_next(r) % ARRAY_LEN(edges)]
                                 : (uint64_t)rng_next(r) << (rng_next(r) % 33);
    size_t len = rng_next(r) % (depth > 2 ? 20 : 300);
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING: {
        char *s = arena_alloc(ar, len + 1);
        for (size_t i = 0; i < len; i++) {
            s[i] = (char)(' ' + rng_next(r) % 90);
        }
        memcpy(dst, &s, sizeof s);
        break;
    }
    case PROTOBUF_C_TYPE_BYTES: {
        ProtobufCBinaryData bin = {.len = len, .data = NULL};
        if (len) {
            bin.data = arena_alloc(ar, len);
            memset(bin.data, (int)v, len);
        }
        memcpy(dst, &bin, sizeof bin);
        break;
    }
    case PROTOBUF_C_TYPE_MESSAGE: {
        ProtobufCMessage *sub = random_message(r, f->descriptor, depth + 1, ar);
        memcpy(dst, &sub, sizeof sub);
        break;
    }
    case PROTOBUF_C_TYPE_BOOL: {
        protobuf_c_boolean on = (protobuf_c_boolean)(v & 1);
        memcpy(dst, &on, sizeof on);
        break;
    }
    default:
        memcpy(dst, &v, proto__element_size(f->type));
    }
}

static inline void add_type(const ProtobufCMessageDescriptor *d,
                            const ProtobufCMessageDescriptor **types, size_t *n)
{
    for (size_t i = 0; i < *n; i++) {
        if (types[i] == d) {
            return;
        }
    }
    CHECK(*n < TYPES_MAX);
    types[(*n)++] = d;
    for (unsigned i = 0; i < d->n_fields; i++) {
        if (d->fields[i].type == PROTOBUF_C_TYPE_MESSAGE) {
            add_type(d->fields[i].descriptor, types, n);
        }
    }
}

/* Every message that a method takes or gives, and all those inside them. */
static inline size_t all_types(const ProtobufCMessageDescriptor **types)
{
    const ProtobufCServiceDescriptor *services[] = {
        &milvus__proto__milvus__milvus_service__descriptor,
        &milvus__proto__milvus__client_telemetry_service__descriptor,
    };
    size_t n = 0;
    for (size_t s = 0; s < ARRAY_LEN(services); s++) {
        for (unsigned i = 0; i < services[s]->n_methods; i++) {
            add_type(services[s]->methods[i].input, types, &n);
            add_type(services[s]->methods[i].output, types, &n);
        }
    }
    return n;
}
