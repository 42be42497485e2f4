/*
 * proto_unpack.c - wire bytes to structs, guided by protobuf-c's descriptors.
 *
 * WHAT        Each message is walked twice. The first walk checks the framing and counts the
 *             elements of every repeated field and the bytes of all strings; the second fills
 *             arrays of exactly that size. The first walk keeps the first fields it has seen, so a
 *             small message is parsed once. The structs are those that protobuf_c_message_unpack()
 *             would build; unit tests compare the two.
 * FORMAT      https://protobuf.dev/programming-guides/encoding: (tag, payload) pairs. Groups (wire
 *             types 3 and 4) occur in no proto3 file and are refused.
 * THREADS     Any.
 * MEMORY      All of it from the caller's arena, so its limit bounds what a request can cost.
 *             Strings of one message share one allocation. Recursion is at most PROTO_DEPTH_MAX
 *             frames of about 1500 bytes.
 * NOT HERE    proto2: required fields, defaults and `has_` members; our files are all proto3.
 * WHY         protobuf-c keeps a copy of every unknown field, needs 40 scratch bytes per element
 *             of a repeated string or message, recurses as deep as the sender likes, and reports
 *             no cause. Checking all that in front of it would have been a third walk.
 */
#include "proto/proto.h"
#include "base/utf8.h"
#include "proto/proto_int.h"

enum { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_LEN = 2, WIRE_32 = 5 };

/* More than any message has; a test walks over all of them. */
#define FIELDS_MAX 64
/* Fields whose place and value the first walk leaves to the second. */
#define KEPT_MAX 16

struct unpacker {
    struct arena *ar;
    struct status *st;
    bool borrow;
};

struct token {
    const ProtobufCFieldDescriptor *field; /* NULL: skip it */
    int wire;
    uint64_t value;     /* WIRE_VARINT, WIRE_64, WIRE_32 */
    struct slice bytes; /* WIRE_LEN */
};

struct kept {
    size_t n;
    const uint8_t *rest; /* where the second walk goes on */
    const ProtobufCFieldDescriptor *hint;
    struct token tokens[KEPT_MAX];
};

struct level {
    const ProtobufCMessageDescriptor *desc;
    ProtobufCMessage *msg;
    int depth;
    char *text, *text_end; /* room for this message's strings */
};

static bool read_long_varint(const uint8_t **at, const uint8_t *end, uint64_t *ret)
{
    const uint8_t *p = *at;
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 70 && p < end; shift += 7) {
        uint8_t b = *p++;
        v |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80) {
            *at = p;
            *ret = v;
            return true;
        }
    }
    return false;
}

static inline bool read_varint(const uint8_t **at, const uint8_t *end, uint64_t *ret)
{
    if (LIKELY(*at < end && **at < 0x80)) {
        *ret = *(*at)++;
        return true;
    }
    return read_long_varint(at, end, ret);
}

static bool is_packable(ProtobufCType type)
{
    return type != PROTOBUF_C_TYPE_STRING && type != PROTOBUF_C_TYPE_BYTES &&
           type != PROTOBUF_C_TYPE_MESSAGE;
}

static int wire_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return WIRE_32;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return WIRE_64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_LEN;
    default:
        return WIRE_VARINT;
    }
}

static void store_number(ProtobufCType type, uint64_t v, void *dst)
{
    uint32_t v32 = (uint32_t)v;
    switch (type) {
    case PROTOBUF_C_TYPE_BOOL: {
        protobuf_c_boolean on = v != 0;
        memcpy(dst, &on, sizeof on);
        break;
    }
    case PROTOBUF_C_TYPE_SINT32:
        store_u32(dst, (v32 >> 1) ^ (0 - (v32 & 1)));
        break;
    case PROTOBUF_C_TYPE_SINT64:
        store_u64(dst, (v >> 1) ^ (0 - (v & 1)));
        break;
    default:
        if (proto__element_size(type) == 8) {
            store_u64(dst, v);
        } else {
            store_u32(dst, v32);
        }
    }
}

/* Reads the payload behind a tag; a message of what is wrong, or NULL. */
static const char *read_payload(const uint8_t **at, const uint8_t *end, struct token *t)
{
    uint64_t len;
    switch (t->wire) {
    case WIRE_VARINT:
        return read_varint(at, end, &t->value) ? NULL : "number without an end";
    case WIRE_64:
        if (end - *at < 8) {
            return "cut off inside a number of 8 bytes";
        }
        t->value = load_u64(*at);
        *at += 8;
        return NULL;
    case WIRE_32:
        if (end - *at < 4) {
            return "cut off inside a number of 4 bytes";
        }
        t->value = load_u32(*at);
        *at += 4;
        return NULL;
    case WIRE_LEN:
        if (!read_varint(at, end, &len)) {
            return "length without an end";
        }
        if (len > (uint64_t)(end - *at)) {
            return "length reaches beyond the message";
        }
        t->bytes = slice_n(*at, (size_t)len);
        *at += len;
        return NULL;
    default:
        return "unknown wire type";
    }
}

/* The field with that number. The first run of numbers has nearly all of them. */
static const ProtobufCFieldDescriptor *field_of(const ProtobufCMessageDescriptor *desc, uint32_t id)
{
    const ProtobufCIntRange *r = desc->field_ranges;
    if (LIKELY(desc->n_field_ranges > 0)) {
        uint32_t i = id - (uint32_t)r[0].start_value;
        if (LIKELY(i < r[1].orig_index)) {
            return &desc->fields[i];
        }
    }
    return protobuf_c_message_descriptor_get_field(desc, id);
}

/* Next (tag, payload) pair. *hint is the field seen last: most fields repeat or are single. */
static int next_token(const struct unpacker *u, const struct level *lv, const uint8_t **at,
                      const uint8_t *end, const ProtobufCFieldDescriptor **hint, struct token *t)
{
    uint64_t tag;
    const char *wrong;
    if (!read_varint(at, end, &tag) || tag > UINT32_MAX || tag >> 3 == 0) {
        return st_fail(u->st, ST_INVALID, "message %s: damaged field tag", lv->desc->short_name);
    }
    uint32_t id = (uint32_t)tag >> 3;
    t->wire = (int)(tag & 7);
    t->field = *hint && (*hint)->id == id ? *hint : field_of(lv->desc, id);
    wrong = read_payload(at, end, t);
    if (wrong) {
        return st_fail(u->st, ST_INVALID, "message %s, field %s%s%u: %s", lv->desc->short_name,
                       t->field ? t->field->name : "", t->field ? " " : "", id, wrong);
    }
    if (!t->field) {
        return 0;
    }
    *hint = t->field;
    bool packed = t->wire == WIRE_LEN && t->field->label == PROTOBUF_C_LABEL_REPEATED &&
                  is_packable(t->field->type);
    if (!packed && t->wire != wire_of(t->field->type)) {
        t->field = NULL; /* another schema's field of that number: as good as unknown */
    }
    return 0;
}

static int count_elements(const struct unpacker *u, const struct level *lv, const struct token *t,
                          size_t *ret_n)
{
    size_t n = 1;
    if (t->wire == WIRE_LEN && is_packable(t->field->type)) {
        int wire = wire_of(t->field->type);
        size_t width = wire == WIRE_32 ? 4 : wire == WIRE_64 ? 8 : 1;
        if (t->bytes.n % width != 0) {
            return st_fail(u->st, ST_INVALID, "message %s, field %s: %zu bytes for numbers of %zu",
                           lv->desc->short_name, t->field->name, t->bytes.n, width);
        }
        n = t->bytes.n / width;
        if (wire == WIRE_VARINT && t->bytes.n) {
            if ((uint8_t)t->bytes.p[t->bytes.n - 1] >= 0x80) {
                return st_fail(u->st, ST_INVALID, "message %s, field %s: number without an end",
                               lv->desc->short_name, t->field->name);
            }
            n = 0;
            for (size_t i = 0; i < t->bytes.n; i++) {
                n += (uint8_t)t->bytes.p[i] < 0x80;
            }
        }
    }
    *ret_n = n;
    return 0;
}

static COLD int no_memory(const struct unpacker *u, const struct level *lv)
{
    return st_fail(u->st, ST_NO_MEMORY, "message %s does not fit into the memory of a request",
                   lv->desc->short_name);
}

/* Gives every repeated field room for what it has (from an earlier part) and what is coming. */
static int reserve_arrays(const struct unpacker *u, struct level *lv, const size_t *counts)
{
    for (unsigned i = 0; i < lv->desc->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &lv->desc->fields[i];
        if (f->label != PROTOBUF_C_LABEL_REPEATED || counts[i] == 0) {
            continue;
        }
        size_t *n = (void *)((char *)lv->msg + f->quantifier_offset);
        void **array = (void *)((char *)lv->msg + f->offset);
        size_t width = proto__element_size(f->type), total, bytes;
        if (!add_size(*n, counts[i], &total) || !mul_size(total, width, &bytes)) {
            return no_memory(u, lv);
        }
        void *grown = arena_try(u->ar, bytes);
        if (!grown) {
            return no_memory(u, lv);
        }
        if (*n) {
            memcpy(grown, *array, *n * width);
        }
        *array = grown;
    }
    return 0;
}

static int survey(const struct unpacker *u, struct level *lv, struct slice wire, struct kept *k)
{
    size_t counts[FIELDS_MAX];
    size_t text = 0, n = 0;
    const uint8_t *at = (const uint8_t *)wire.p, *end = at + wire.n;
    const ProtobufCFieldDescriptor *hint = NULL;
    struct token t = {0};
    bool arrays = false;
    int rc = 0;
    if (lv->desc->n_fields > FIELDS_MAX) {
        FAIL(u->st, ST_INTERNAL, "message %s has over %d fields", lv->desc->name, FIELDS_MAX);
    }
    memset(counts, 0, lv->desc->n_fields * sizeof *counts);
    k->n = 0;
    k->rest = at;
    k->hint = NULL;
    while (at < end) {
        bool keep = k->n < KEPT_MAX;
        struct token *into = keep ? &k->tokens[k->n] : &t;
        TRY(next_token(u, lv, &at, end, &hint, into));
        if (keep) {
            k->rest = at;
            k->hint = hint;
        }
        if (!into->field) {
            continue;
        }
        t = *into;
        k->n += keep;
        if (t.field->type == PROTOBUF_C_TYPE_STRING) {
            text += t.bytes.n + 1; /* bounded by twice the input */
        }
        if (t.field->label == PROTOBUF_C_LABEL_REPEATED) {
            TRY(count_elements(u, lv, &t, &n));
            counts[t.field - lv->desc->fields] += n;
            arrays = true;
        }
    }
    if (arrays) {
        TRY(reserve_arrays(u, lv, counts));
    }
    if (text) {
        lv->text = arena_try(u->ar, text);
        if (!lv->text) {
            rc = no_memory(u, lv);
            goto out;
        }
        lv->text_end = lv->text + text;
    }
out:
    return rc;
}

static int fill(const struct unpacker *u, struct level *lv, struct slice wire);

static int store_string(const struct unpacker *u, struct level *lv, const struct token *t,
                        void *dst)
{
    const char *wrong = NULL;
    if (!utf8_valid(t->bytes)) {
        wrong = "is not valid UTF-8";
    } else if (t->bytes.n && memchr(t->bytes.p, 0, t->bytes.n)) {
        wrong = "holds a zero byte"; /* would silently end a C string there */
    }
    if (wrong) {
        return st_fail(u->st, ST_INVALID, "string field %s.%s %s", lv->desc->short_name,
                       t->field->name, wrong);
    }
    ASSERT((size_t)(lv->text_end - lv->text) > t->bytes.n);
    char *s = lv->text;
    if (t->bytes.n) {
        memcpy(s, t->bytes.p, t->bytes.n);
    }
    s[t->bytes.n] = 0;
    lv->text += t->bytes.n + 1;
    memcpy(dst, &s, sizeof s);
    return 0;
}

static int store_bytes(const struct unpacker *u, const struct level *lv, const struct token *t,
                       void *dst)
{
    ProtobufCBinaryData bin = {.len = t->bytes.n, .data = NULL};
    if (bin.len && u->borrow) {
        bin.data = (uint8_t *)(uintptr_t)t->bytes.p;
    } else if (bin.len) {
        bin.data = arena_try(u->ar, bin.len);
        if (!bin.data) {
            return no_memory(u, lv);
        }
        memcpy(bin.data, t->bytes.p, bin.len);
    }
    memcpy(dst, &bin, sizeof bin);
    return 0;
}

/* old: the message already there, or NULL. */
static int store_message(const struct unpacker *u, const struct level *lv, const struct token *t,
                         ProtobufCMessage *old, void *dst)
{
    struct level sub = {.desc = t->field->descriptor, .msg = old, .depth = lv->depth + 1};
    if (sub.depth > PROTO_DEPTH_MAX) {
        return st_fail(u->st, ST_INVALID, "message %s, field %s: nested deeper than %d levels",
                       lv->desc->short_name, t->field->name, PROTO_DEPTH_MAX);
    }
    if (!sub.msg) {
        sub.msg = arena_try(u->ar, sub.desc->sizeof_message);
        if (!sub.msg) {
            return no_memory(u, lv);
        }
        protobuf_c_message_init(sub.desc, sub.msg);
    }
    memcpy(dst, &sub.msg, sizeof sub.msg);
    return fill(u, &sub, t->bytes);
}

static int store_packed(const struct unpacker *u, const struct level *lv, const struct token *t,
                        char *dst, size_t *n)
{
    const uint8_t *at = (const uint8_t *)t->bytes.p, *end = at + t->bytes.n;
    size_t width = proto__element_size(t->field->type);
    uint64_t v;
    if (wire_of(t->field->type) != WIRE_VARINT) {
        memcpy(dst, at, t->bytes.n);
        *n += t->bytes.n / width;
        return 0;
    }
    while (at < end) {
        if (!read_varint(&at, end, &v)) {
            return st_fail(u->st, ST_INVALID, "message %s, field %s: number of over 10 bytes",
                           lv->desc->short_name, t->field->name);
        }
        store_number(t->field->type, v, dst);
        dst += width;
        ++*n;
    }
    return 0;
}

/* Stores one value; old as for store_message(). */
static int store_one(const struct unpacker *u, struct level *lv, const struct token *t,
                     ProtobufCMessage *old, void *dst)
{
    switch (t->field->type) {
    case PROTOBUF_C_TYPE_STRING:
        return store_string(u, lv, t, dst);
    case PROTOBUF_C_TYPE_BYTES:
        return store_bytes(u, lv, t, dst);
    case PROTOBUF_C_TYPE_MESSAGE:
        return store_message(u, lv, t, old, dst);
    default:
        store_number(t->field->type, t->value, dst);
        return 0;
    }
}

static int store(const struct unpacker *u, struct level *lv, const struct token *t)
{
    const ProtobufCFieldDescriptor *f = t->field;
    void *member = (char *)lv->msg + f->offset;
    void *quantifier = (char *)lv->msg + f->quantifier_offset;
    ProtobufCMessage *old = NULL;
    int rc = 0;
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t *n = quantifier;
        bool packed = t->wire == WIRE_LEN && is_packable(f->type);
        if (packed && t->bytes.n == 0) {
            goto out; /* there may be no array at all */
        }
        char *dst = *(char **)member + *n * proto__element_size(f->type);
        if (packed) {
            TRY(store_packed(u, lv, t, dst, n));
        } else {
            TRY(store_one(u, lv, t, NULL, dst));
            ++*n;
        }
        goto out;
    }
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
        uint32_t *chosen = quantifier;
        if (*chosen != f->id) {
            memset(member, 0, proto__element_size(f->type)); /* the union held another member */
            *chosen = f->id;
        }
    }
    if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        old = *(ProtobufCMessage **)member;
    }
    TRY(store_one(u, lv, t, old, member));
out:
    return rc;
}

static int fill(const struct unpacker *u, struct level *lv, struct slice wire)
{
    const uint8_t *at, *end = (const uint8_t *)wire.p + wire.n;
    const ProtobufCFieldDescriptor *hint;
    struct kept k;
    struct token t = {0};
    int rc = 0;
    TRY(survey(u, lv, wire, &k));
    for (size_t i = 0; i < k.n; i++) {
        TRY(store(u, lv, &k.tokens[i]));
    }
    at = k.rest;
    hint = k.hint;
    while (at < end) {
        TRY(next_token(u, lv, &at, end, &hint, &t));
        if (t.field) {
            TRY(store(u, lv, &t));
        }
    }
out:
    return rc;
}

static void *unpack(const ProtobufCMessageDescriptor *desc, struct slice wire,
                    const struct unpacker *u)
{
    struct level top = {.desc = desc, .depth = 1};
    if (wire.n == 0) {
        wire.p = ""; /* arithmetic on NULL is undefined */
    }
    top.msg = arena_try(u->ar, desc->sizeof_message);
    if (!top.msg) {
        no_memory(u, &top);
        return NULL;
    }
    protobuf_c_message_init(desc, top.msg);
    return fill(u, &top, wire) == 0 ? top.msg : NULL;
}

void *proto_unpack(const ProtobufCMessageDescriptor *desc, struct slice wire, struct arena *ar,
                   struct status *st)
{
    return unpack(desc, wire, &(struct unpacker){.ar = ar, .st = st, .borrow = false});
}

void *proto_unpack_borrow(const ProtobufCMessageDescriptor *desc, struct slice wire,
                          struct arena *ar, struct status *st)
{
    return unpack(desc, wire, &(struct unpacker){.ar = ar, .st = st, .borrow = true});
}
