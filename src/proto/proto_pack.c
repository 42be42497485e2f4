/*
 * proto_pack.c - structs to wire bytes, written from the end to the front.
 *
 * WHAT        The length of a nested message stands in front of it and takes one to five bytes, so
 *             a writer that goes forward must know it beforehand or make room later. Going
 *             backward the length is simply what has been written so far: each byte is placed
 *             once. The whole size is asked from protobuf-c first, so the buffer grows once.
 * FORMAT      Byte for byte what protobuf_c_message_pack() writes; unit tests compare.
 * THREADS     Any.
 * MEMORY      Only the growth of the buffer.
 * WHY         protobuf_c_message_pack() moves a nested message of more than 127 bytes once per
 *             level; the vectors of a search result lie five levels deep.
 */
#include "proto/proto.h"
#include "proto/proto_int.h"

/* Writes downward from `at`; start is the lowest legal byte. */
struct back {
    uint8_t *at, *start;
};

static void *back_room(struct back *k, size_t n)
{
    CHECK((size_t)(k->at - k->start) >= n); /* the size was computed for another message */
    k->at -= n;
    return k->at;
}

static void back_bytes(struct back *k, const void *p, size_t n)
{
    if (n) {
        memcpy(back_room(k, n), p, n);
    }
}

static void back_varint(struct back *k, uint64_t v)
{
    uint8_t tmp[10];
    size_t n = 0;
    do {
        tmp[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    } while (v);
    tmp[n - 1] &= 0x7f;
    back_bytes(k, tmp, n);
}

static void back_tag(struct back *k, uint32_t id, unsigned wire)
{
    back_varint(k, (uint64_t)id << 3 | wire);
}

static void back_message(struct back *k, const ProtobufCMessage *msg);

static void back_length_and_tag(struct back *k, uint32_t id, const uint8_t *payload_end)
{
    back_varint(k, (uint64_t)(payload_end - k->at));
    back_tag(k, id, PROTOBUF_C_WIRE_TYPE_LENGTH_PREFIXED);
}

static uint64_t sign_extend(uint32_t v)
{
    return (uint64_t)(int64_t)(int32_t)v;
}

/* Payload of a number; returns its wire type. */
static unsigned back_number(struct back *k, ProtobufCType type, const void *src)
{
    protobuf_c_boolean on;
    switch (type) {
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        back_bytes(k, src, 4);
        return PROTOBUF_C_WIRE_TYPE_32BIT;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        back_bytes(k, src, 8);
        return PROTOBUF_C_WIRE_TYPE_64BIT;
    case PROTOBUF_C_TYPE_BOOL:
        memcpy(&on, src, sizeof on);
        back_varint(k, on ? 1 : 0);
        break;
    case PROTOBUF_C_TYPE_UINT32:
        back_varint(k, load_u32(src));
        break;
    case PROTOBUF_C_TYPE_SINT32: {
        uint32_t v = load_u32(src);
        back_varint(k, (v << 1) ^ (0 - (v >> 31)));
        break;
    }
    case PROTOBUF_C_TYPE_SINT64: {
        uint64_t v = load_u64(src);
        back_varint(k, (v << 1) ^ (0 - (v >> 63)));
        break;
    }
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        back_varint(k, load_u64(src));
        break;
    default: /* int32, enum: negative ones take ten bytes */
        back_varint(k, sign_extend(load_u32(src)));
    }
    return PROTOBUF_C_WIRE_TYPE_VARINT;
}

static void back_one(struct back *k, const ProtobufCFieldDescriptor *f, const void *src)
{
    const uint8_t *end = k->at;
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING: {
        const char *s = *(const char *const *)src;
        back_bytes(k, s, s ? strlen(s) : 0);
        back_length_and_tag(k, f->id, end);
        break;
    }
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData *bin = src;
        back_bytes(k, bin->data, bin->len);
        back_length_and_tag(k, f->id, end);
        break;
    }
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessage *sub = *(ProtobufCMessage *const *)src;
        back_message(k, sub);
        back_length_and_tag(k, f->id, end);
        break;
    }
    default:
        back_tag(k, f->id, back_number(k, f->type, src));
    }
}

static bool is_fixed(ProtobufCType type)
{
    return type == PROTOBUF_C_TYPE_FLOAT || type == PROTOBUF_C_TYPE_DOUBLE ||
           type == PROTOBUF_C_TYPE_FIXED32 || type == PROTOBUF_C_TYPE_FIXED64 ||
           type == PROTOBUF_C_TYPE_SFIXED32 || type == PROTOBUF_C_TYPE_SFIXED64;
}

static void back_repeated(struct back *k, const ProtobufCFieldDescriptor *f, size_t n,
                          const char *array)
{
    const uint8_t *end = k->at;
    size_t width = proto__element_size(f->type);
    if (n == 0) {
        return;
    }
    if (!(f->flags & PROTOBUF_C_FIELD_FLAG_PACKED)) {
        for (size_t i = n; i-- > 0;) {
            back_one(k, f, array + i * width);
        }
        return;
    }
    if (is_fixed(f->type)) {
        back_bytes(k, array, n * width);
    } else {
        for (size_t i = n; i-- > 0;) {
            back_number(k, f->type, array + i * width);
        }
    }
    back_length_and_tag(k, f->id, end);
}

/* Does proto3 leave the field out? Also says so for -0.0, as protobuf-c does. */
bool proto__is_default(const ProtobufCFieldDescriptor *f, const void *src)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING: {
        const char *s = *(const char *const *)src;
        return !s || !*s;
    }
    case PROTOBUF_C_TYPE_BYTES:
        return !((const ProtobufCBinaryData *)src)->data;
    case PROTOBUF_C_TYPE_MESSAGE:
        return !*(ProtobufCMessage *const *)src;
    case PROTOBUF_C_TYPE_FLOAT:
        return (load_u32(src) & INT32_MAX) == 0;
    case PROTOBUF_C_TYPE_DOUBLE:
        return (load_u64(src) & INT64_MAX) == 0;
    default:
        return proto__element_size(f->type) == 8 ? load_u64(src) == 0 : load_u32(src) == 0;
    }
}

/* In a oneof the choice counts, not the value; pointers that are NULL are still not there. */
bool proto__is_unset_choice(const ProtobufCFieldDescriptor *f, uint32_t chosen, const void *src)
{
    if (chosen != f->id) {
        return true;
    }
    if (f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_MESSAGE) {
        return false;
    }
    const void *p = *(const void *const *)src;
    return !p || p == f->default_value;
}

static void back_field(struct back *k, const ProtobufCMessage *msg,
                       const ProtobufCFieldDescriptor *f)
{
    const void *src = (const char *)msg + f->offset;
    const void *quantifier = (const char *)msg + f->quantifier_offset;
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        back_repeated(k, f, *(const size_t *)quantifier, *(const char *const *)src);
        return;
    }
    bool absent = f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF
                      ? proto__is_unset_choice(f, *(const uint32_t *)quantifier, src)
                      : proto__is_default(f, src);
    if (!absent) {
        back_one(k, f, src);
    }
}

static void back_message(struct back *k, const ProtobufCMessage *msg)
{
    for (size_t i = msg->n_unknown_fields; i-- > 0;) {
        const ProtobufCMessageUnknownField *f = &msg->unknown_fields[i];
        back_bytes(k, f->data, f->len);
        back_tag(k, f->tag, f->wire_type);
    }
    for (unsigned i = msg->descriptor->n_fields; i-- > 0;) {
        back_field(k, msg, &msg->descriptor->fields[i]);
    }
}

bool proto_pack(const ProtobufCMessage *msg, struct buf *b)
{
    size_t n = protobuf_c_message_get_packed_size(msg);
    if (n > INT32_MAX) {
        b->failed = true; /* no protobuf reader accepts it */
        return false;
    }
    if (!buf_reserve(b, n)) {
        return false;
    }
    if (n == 0) {
        return true; /* b->p may be NULL, which is no base for arithmetic */
    }
    struct back k = {.start = b->p + b->n, .at = b->p + b->n + n};
    back_message(&k, msg);
    CHECK(k.at == k.start);
    b->n += n;
    return true;
}
