/*
 * proto_json.c - a message as JSON for the eyes of a person.
 *
 * WHAT        Walks the struct by its descriptor and prints what proto_pack() would write, in the
 *             order of field numbers. This is what `elanus meta get` shows. It differs from the
 *             JSON mapping of protobuf on purpose: field names as in the .proto file, 64-bit
 *             integers as numbers, bytes with their length, so that nothing is read back from it.
 * THREADS     Any.
 * MEMORY      Only the growth of the buffer.
 */
#include "proto/proto.h"
#include "proto/proto_int.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct printer {
    struct buf *b;
    int indent, depth;
    size_t bytes_max;
};

static void print_message(struct printer *pr, const ProtobufCMessage *msg);

static void new_line(struct printer *pr)
{
    if (pr->indent > 0) {
        buf_putc(pr->b, '\n');
        for (int i = 0; i < pr->indent * pr->depth; i++) {
            buf_putc(pr->b, ' ');
        }
    }
}

static void open_bracket(struct printer *pr, char c)
{
    buf_putc(pr->b, c);
    pr->depth++;
}

static void close_bracket(struct printer *pr, char c, bool empty)
{
    pr->depth--;
    if (!empty) {
        new_line(pr);
    }
    buf_putc(pr->b, c);
}

static void print_key(struct printer *pr, struct slice key, bool *first)
{
    if (!*first) {
        buf_putc(pr->b, ',');
    }
    *first = false;
    new_line(pr);
    buf_put_json_str(pr->b, key);
    buf_put_str(pr->b, pr->indent > 0 ? ": " : ":");
}

static void print_base64(struct buf *b, const uint8_t *p, size_t n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t v = (uint32_t)p[i] << 16;
        v |= left > 1 ? (uint32_t)p[i + 1] << 8 : 0;
        v |= left > 2 ? p[i + 2] : 0;
        char four[4] = {digits[v >> 18], digits[v >> 12 & 63], left > 1 ? digits[v >> 6 & 63] : '=',
                        left > 2 ? digits[v & 63] : '='};
        buf_put(b, four, sizeof four);
    }
}

static void print_bytes(struct printer *pr, const ProtobufCBinaryData *bin)
{
    size_t shown = pr->bytes_max && pr->bytes_max < bin->len ? pr->bytes_max : bin->len;
    buf_printf(pr->b, "{\"len\":%zu,\"base64\":\"", bin->len);
    print_base64(pr->b, bin->data, shown);
    buf_put_str(pr->b, "\"}");
}

/* The shortest text that reads back as the same number. */
static void print_real(struct buf *b, double v, bool single)
{
    char text[40];
    if (!isfinite(v)) {
        buf_put_str(b, isnan(v) ? "\"NaN\"" : v > 0 ? "\"Infinity\"" : "\"-Infinity\"");
        return;
    }
    for (int digits = single ? 6 : 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (single ? strtof(text, NULL) == (float)v : strtod(text, NULL) == v) {
            break;
        }
    }
    buf_put_str(b, text);
}

static void print_enum(struct buf *b, const ProtobufCFieldDescriptor *f, const void *src)
{
    int32_t v;
    memcpy(&v, src, sizeof v);
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(f->descriptor, v);
    if (value) {
        buf_put_json_str(b, slice_of(value->name));
    } else {
        buf_printf(b, "%d", v); /* from a newer sender */
    }
}

static void print_value(struct printer *pr, const ProtobufCFieldDescriptor *f, const void *src)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        buf_printf(pr->b, "%d", (int32_t)load_u32(src));
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        buf_printf(pr->b, "%u", load_u32(src));
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        buf_printf(pr->b, "%lld", (long long)load_u64(src));
        break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        buf_printf(pr->b, "%llu", (unsigned long long)load_u64(src));
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        print_real(pr->b, *(const float *)src, true);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        print_real(pr->b, *(const double *)src, false);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        buf_put_str(pr->b, *(const protobuf_c_boolean *)src ? "true" : "false");
        break;
    case PROTOBUF_C_TYPE_ENUM:
        print_enum(pr->b, f, src);
        break;
    case PROTOBUF_C_TYPE_STRING:
        buf_put_json_str(pr->b, slice_of(*(const char *const *)src));
        break;
    case PROTOBUF_C_TYPE_BYTES:
        print_bytes(pr, src);
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        print_message(pr, *(ProtobufCMessage *const *)src);
        break;
    }
}

/* A map is a repeated message that the compiler made up: nested in the message that holds it,
 * named <Field>Entry, with the fields key = 1 and value = 2. Descriptors of protobuf-c do not tell,
 * but protoc refuses a message of that name next to such a field, and a repeated field of a
 * hand-written one prints well as an object too. */
static bool is_map(const ProtobufCMessageDescriptor *owner, const ProtobufCFieldDescriptor *f)
{
    static const char entry[] = "Entry";
    if (f->label != PROTOBUF_C_LABEL_REPEATED || f->type != PROTOBUF_C_TYPE_MESSAGE) {
        return false;
    }
    const ProtobufCMessageDescriptor *d = f->descriptor;
    size_t len = strlen(d->short_name), outer = strlen(owner->name), tail = sizeof entry - 1;
    return len > tail && strcmp(d->short_name + len - tail, entry) == 0 &&
           strncmp(d->name, owner->name, outer) == 0 && d->name[outer] == '.' && d->n_fields == 2 &&
           d->fields[0].id == 1 && strcmp(d->fields[0].name, "key") == 0 && d->fields[1].id == 2 &&
           strcmp(d->fields[1].name, "value") == 0;
}

static void print_map(struct printer *pr, ProtobufCMessage *const *entries, size_t n)
{
    bool first = true;
    open_bracket(pr, '{');
    for (size_t i = 0; i < n; i++) {
        const ProtobufCFieldDescriptor *key = &entries[i]->descriptor->fields[0];
        const ProtobufCFieldDescriptor *value = &entries[i]->descriptor->fields[1];
        const void *k = (const char *)entries[i] + key->offset;
        const void *v = (const char *)entries[i] + value->offset;
        if (key->type == PROTOBUF_C_TYPE_STRING) {
            print_key(pr, slice_of(*(const char *const *)k), &first);
        } else { /* numbers and bools: quotes make them a JSON key */
            struct buf text;
            struct printer plain = {.b = &text};
            buf_init(&text, 64);
            print_value(&plain, key, k);
            print_key(pr, buf_slice(&text), &first);
            buf_done(&text);
        }
        if (value->type == PROTOBUF_C_TYPE_MESSAGE && !*(ProtobufCMessage *const *)v) {
            buf_put_str(pr->b, "{}"); /* an empty message as value may be left out */
        } else {
            print_value(pr, value, v);
        }
    }
    close_bracket(pr, '}', n == 0);
}

/* Numbers stay on one line, a vector of 768 lines helps nobody. */
static void print_array(struct printer *pr, const ProtobufCFieldDescriptor *f, const char *array,
                        size_t n)
{
    size_t width = proto__element_size(f->type);
    bool lines = f->type == PROTOBUF_C_TYPE_MESSAGE || f->type == PROTOBUF_C_TYPE_STRING ||
                 f->type == PROTOBUF_C_TYPE_BYTES;
    open_bracket(pr, '[');
    for (size_t i = 0; i < n; i++) {
        if (i) {
            buf_putc(pr->b, ',');
        }
        if (lines) {
            new_line(pr);
        } else if (i && pr->indent > 0) {
            buf_putc(pr->b, ' ');
        }
        print_value(pr, f, array + i * width);
    }
    close_bracket(pr, ']', !lines);
}

static void print_message(struct printer *pr, const ProtobufCMessage *msg)
{
    bool first = true;
    open_bracket(pr, '{');
    for (unsigned i = 0; i < msg->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &msg->descriptor->fields[i];
        const void *src = (const char *)msg + f->offset;
        const void *quantifier = (const char *)msg + f->quantifier_offset;
        size_t n = 0;
        bool absent;
        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            n = *(const size_t *)quantifier;
            absent = n == 0;
        } else if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) {
            absent = proto__is_unset_choice(f, *(const uint32_t *)quantifier, src);
        } else {
            absent = proto__is_default(f, src);
        }
        if (absent) {
            continue;
        }
        print_key(pr, slice_of(f->name), &first);
        if (is_map(msg->descriptor, f)) {
            print_map(pr, *(ProtobufCMessage *const *const *)src, n);
        } else if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            print_array(pr, f, *(const char *const *)src, n);
        } else {
            print_value(pr, f, src);
        }
    }
    close_bracket(pr, '}', first);
}

bool proto_to_json(const ProtobufCMessage *msg, struct buf *b, const struct proto_json_opts *opts)
{
    struct printer pr = {.b = b};
    if (opts) {
        pr.indent = opts->indent;
        pr.bytes_max = opts->bytes_max;
    }
    print_message(&pr, msg);
    return !b->failed;
}
