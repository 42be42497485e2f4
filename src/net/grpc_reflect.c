/*
 * grpc_reflect.c - server reflection (v1 and v1alpha), so that grpcurl and its kind can list and
 * call methods without .proto files.
 *
 * At registration the descriptor set is walked once: files by name, and every message, enum, service
 * and method by full name. A request is answered with the file and all it imports, as the bytes that
 * came. The health and reflection services, which are not in the caller's set, get descriptors built
 * here from a table.
 *
 * THREADS     built before the server starts, read-only afterwards; handlers run inline.
 */
#include "net/grpc_int.h"
#include "net/grpc_pb.h"
#include "base/alloc.h"

#define DEPENDENCIES_MAX 64
#define NESTING_MAX 16
#define RESPONSE_MAX (32u << 20)

struct reflect_file {
    struct slice name, bytes;
    struct slice dep[DEPENDENCIES_MAX];
    int dep_count;
    unsigned seen; /* scratch while an answer is put together; loops are serialised by the lock */
    struct reflect_file *next;
};

struct reflect {
    struct lock lock;
    unsigned round;
    struct reflect_file *files;
    struct str_map *by_name, *by_symbol;
    struct buf services; /* encoded ListServiceResponse */
    struct buf own;      /* descriptors built here */
};

/* ---------- walking a descriptor set ---------- */

struct walk {
    struct reflect *rf;
    struct reflect_file *file;
    bool failed;
};

static void add_symbol(struct walk *w, struct slice scope, struct slice name, struct buf *ret_full)
{
    buf_init(ret_full, 4096);
    if (scope.n) {
        (void)buf_put_slice(ret_full, scope);
        (void)buf_putc(ret_full, '.');
    }
    (void)buf_put_slice(ret_full, name);
    if (ret_full->failed) {
        w->failed = true;
    } else {
        (void)str_map_put(w->rf->by_symbol, buf_slice(ret_full), w->file);
    }
}

static struct slice name_of(struct walk *w, struct slice msg)
{
    struct reader r = reader_of(msg);
    struct pb_field f;
    struct slice name = SLICE_LIT("");
    while (pb__next(&r, &f)) {
        if (f.number == 1 && f.wire == 2) {
            name = f.bytes;
        }
    }
    w->failed = w->failed || r.failed;
    return name;
}

/* DescriptorProto: name 1, nested_type 3, enum_type 4 */
static void walk_message(struct walk *w, struct slice scope, struct slice msg, int depth)
{
    struct reader r = reader_of(msg);
    struct pb_field f;
    struct buf full, sub;
    if (depth > NESTING_MAX) {
        w->failed = true;
        return;
    }
    add_symbol(w, scope, name_of(w, msg), &full);
    while (!w->failed && pb__next(&r, &f)) {
        if (f.number == 3 && f.wire == 2) {
            walk_message(w, buf_slice(&full), f.bytes, depth + 1);
        } else if (f.number == 4 && f.wire == 2) {
            add_symbol(w, buf_slice(&full), name_of(w, f.bytes), &sub);
            buf_done(&sub);
        }
    }
    w->failed = w->failed || r.failed;
    buf_done(&full);
}

/* ServiceDescriptorProto: name 1, method 2 */
static void walk_service(struct walk *w, struct slice scope, struct slice msg)
{
    struct reader r = reader_of(msg);
    struct pb_field f;
    struct buf full, sub, item;
    add_symbol(w, scope, name_of(w, msg), &full);
    buf_init(&item, 8192);
    (void)pb__put_bytes(&item, 1, buf_slice(&full));
    (void)pb__put_bytes(&w->rf->services, 1, buf_slice(&item));
    while (!w->failed && pb__next(&r, &f)) {
        if (f.number == 2 && f.wire == 2) {
            add_symbol(w, buf_slice(&full), name_of(w, f.bytes), &sub);
            buf_done(&sub);
        }
    }
    w->failed = w->failed || r.failed;
    buf_done(&item);
    buf_done(&full);
}

/* FileDescriptorProto: name 1, package 2, dependency 3, message_type 4, enum_type 5, service 6 */
static void walk_file(struct walk *w, struct slice bytes)
{
    struct reflect_file *file = xalloc(sizeof *file);
    struct reader r = reader_of(bytes);
    struct pb_field f;
    struct slice package = SLICE_LIT("");
    struct buf sub;
    file->bytes = bytes;
    file->next = w->rf->files;
    w->rf->files = file;
    w->file = file;
    while (pb__next(&r, &f)) {
        if (f.wire != 2) {
            continue;
        }
        if (f.number == 1) {
            file->name = f.bytes;
        } else if (f.number == 2) {
            package = f.bytes;
        } else if (f.number == 3 && file->dep_count < DEPENDENCIES_MAX) {
            file->dep[file->dep_count++] = f.bytes;
        }
    }
    w->failed = w->failed || r.failed || !file->name.n;
    if (w->failed || str_map_get(w->rf->by_name, file->name)) {
        return; /* the first of two with one name counts */
    }
    (void)str_map_put(w->rf->by_name, file->name, file);
    r = reader_of(bytes);
    while (!w->failed && pb__next(&r, &f)) {
        if (f.wire != 2) {
            continue;
        }
        if (f.number == 4) {
            walk_message(w, package, f.bytes, 0);
        } else if (f.number == 5) {
            add_symbol(w, package, name_of(w, f.bytes), &sub);
            buf_done(&sub);
        } else if (f.number == 6) {
            walk_service(w, package, f.bytes);
        }
    }
}

static bool walk_set(struct reflect *rf, struct slice set)
{
    struct walk w = { .rf = rf };
    struct reader r = reader_of(set);
    struct pb_field f;
    while (!w.failed && pb__next(&r, &f)) {
        if (f.number == 1 && f.wire == 2) {
            walk_file(&w, f.bytes);
        }
    }
    return !w.failed && !r.failed;
}

/* ---------- descriptors of our own services ---------- */

enum { T_INT32 = 5, T_STRING = 9, T_MESSAGE = 11, T_BYTES = 12, T_ENUM = 14 };

struct own_field {
    const char *message, *name;
    int number, type;
    bool repeated;
    const char *type_name; /* without package */
};

static const struct own_field health_fields[] = {
    { "HealthCheckRequest", "service", 1, T_STRING, false, NULL },
    { "HealthCheckResponse", "status", 1, T_ENUM, false, "HealthCheckResponse.ServingStatus" },
};

static const struct own_field reflection_fields[] = {
    { "ServerReflectionRequest", "host", 1, T_STRING, false, NULL },
    { "ServerReflectionRequest", "file_by_filename", 3, T_STRING, false, NULL },
    { "ServerReflectionRequest", "file_containing_symbol", 4, T_STRING, false, NULL },
    { "ServerReflectionRequest", "file_containing_extension", 5, T_MESSAGE, false, "ExtensionRequest" },
    { "ServerReflectionRequest", "all_extension_numbers_of_type", 6, T_STRING, false, NULL },
    { "ServerReflectionRequest", "list_services", 7, T_STRING, false, NULL },
    { "ExtensionRequest", "containing_type", 1, T_STRING, false, NULL },
    { "ExtensionRequest", "extension_number", 2, T_INT32, false, NULL },
    { "ServerReflectionResponse", "valid_host", 1, T_STRING, false, NULL },
    { "ServerReflectionResponse", "original_request", 2, T_MESSAGE, false, "ServerReflectionRequest" },
    { "ServerReflectionResponse", "file_descriptor_response", 4, T_MESSAGE, false,
      "FileDescriptorResponse" },
    { "ServerReflectionResponse", "all_extension_numbers_response", 5, T_MESSAGE, false,
      "ExtensionNumberResponse" },
    { "ServerReflectionResponse", "list_services_response", 6, T_MESSAGE, false,
      "ListServiceResponse" },
    { "ServerReflectionResponse", "error_response", 7, T_MESSAGE, false, "ErrorResponse" },
    { "FileDescriptorResponse", "file_descriptor_proto", 1, T_BYTES, true, NULL },
    { "ExtensionNumberResponse", "base_type_name", 1, T_STRING, false, NULL },
    { "ExtensionNumberResponse", "extension_number", 2, T_INT32, true, NULL },
    { "ListServiceResponse", "service", 1, T_MESSAGE, true, "ServiceResponse" },
    { "ServiceResponse", "name", 1, T_STRING, false, NULL },
    { "ErrorResponse", "error_code", 1, T_INT32, false, NULL },
    { "ErrorResponse", "error_message", 2, T_STRING, false, NULL },
};

static void put_str(struct buf *b, uint32_t number, const char *s)
{
    (void)pb__put_bytes(b, number, slice_of(s));
}

static void put_sub(struct buf *b, uint32_t number, struct buf *sub)
{
    (void)pb__put_bytes(b, number, buf_slice(sub));
    b->failed = b->failed || sub->failed;
    buf_done(sub);
}

static void put_type_name(struct buf *b, uint32_t number, const char *package, const char *name)
{
    struct buf t;
    buf_init(&t, 256);
    (void)buf_printf(&t, ".%s.%s", package, name);
    put_sub(b, number, &t);
}

/* FieldDescriptorProto: name 1, number 3, label 4, type 5, type_name 6 */
static void put_field(struct buf *msg, const char *package, const struct own_field *f)
{
    struct buf b;
    buf_init(&b, 1024);
    put_str(&b, 1, f->name);
    (void)pb__put_varint(&b, 3, (uint64_t)f->number);
    (void)pb__put_varint(&b, 4, f->repeated ? 3 : 1);
    (void)pb__put_varint(&b, 5, (uint64_t)f->type);
    if (f->type_name) {
        put_type_name(&b, 6, package, f->type_name);
    }
    put_sub(msg, 2, &b);
}

/* EnumDescriptorProto: name 1, value 2 (EnumValueDescriptorProto: name 1, number 2) */
static void put_serving_status(struct buf *msg)
{
    static const char *const names[] = { "UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN" };
    struct buf b, v;
    buf_init(&b, 1024);
    put_str(&b, 1, "ServingStatus");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        buf_init(&v, 256);
        put_str(&v, 1, names[i]);
        (void)pb__put_varint(&v, 2, i);
        put_sub(&b, 2, &v);
    }
    put_sub(msg, 4, &b);
}

/* Rows of one message stand together. */
static void put_messages(struct buf *file, const char *package, const struct own_field *f, size_t n)
{
    for (size_t i = 0; i < n;) {
        const char *name = f[i].message;
        struct buf b;
        buf_init(&b, 8192);
        put_str(&b, 1, name);
        for (; i < n && strcmp(f[i].message, name) == 0; i++) {
            put_field(&b, package, &f[i]);
        }
        if (strcmp(name, "HealthCheckResponse") == 0) {
            put_serving_status(&b);
        }
        put_sub(file, 4, &b);
    }
}

/* MethodDescriptorProto: name 1, input_type 2, output_type 3, client_streaming 5, server_streaming 6 */
static void put_method(struct buf *service, const char *package, const char *name, const char *in,
                       const char *out, bool client_stream, bool server_stream)
{
    struct buf b;
    buf_init(&b, 1024);
    put_str(&b, 1, name);
    put_type_name(&b, 2, package, in);
    put_type_name(&b, 3, package, out);
    if (client_stream) {
        (void)pb__put_varint(&b, 5, 1);
    }
    if (server_stream) {
        (void)pb__put_varint(&b, 6, 1);
    }
    put_sub(service, 2, &b);
}

/* One FileDescriptorProto into the set. */
static void put_own_file(struct buf *set, const char *file_name, const char *package, bool health)
{
    struct buf file, service;
    buf_init(&file, 64u << 10);
    buf_init(&service, 8192);
    put_str(&file, 1, file_name);
    put_str(&file, 2, package);
    if (health) {
        put_messages(&file, package, health_fields, ARRAY_LEN(health_fields));
        put_str(&service, 1, "Health");
        put_method(&service, package, "Check", "HealthCheckRequest", "HealthCheckResponse", false,
                   false);
        put_method(&service, package, "Watch", "HealthCheckRequest", "HealthCheckResponse", false,
                   true);
    } else {
        put_messages(&file, package, reflection_fields, ARRAY_LEN(reflection_fields));
        put_str(&service, 1, "ServerReflection");
        put_method(&service, package, "ServerReflectionInfo", "ServerReflectionRequest",
                   "ServerReflectionResponse", true, true);
    }
    put_sub(&file, 6, &service);
    put_str(&file, 12, "proto3");
    put_sub(set, 1, &file);
}

/* ---------- answering ---------- */

/* Appends the file and, behind it, what it imports. Holds: rf->lock. */
static void put_file(struct reflect *rf, struct buf *b, struct reflect_file *file, int depth)
{
    if (file->seen == rf->round || depth > 64) {
        return;
    }
    file->seen = rf->round;
    (void)pb__put_bytes(b, 1, file->bytes);
    for (int i = 0; i < file->dep_count; i++) {
        struct reflect_file *dep = str_map_get(rf->by_name, file->dep[i]);
        if (dep) {
            put_file(rf, b, dep, depth + 1);
        }
    }
}

static void put_error(struct buf *b, int code, const char *what, struct slice name)
{
    struct buf e, text;
    buf_init(&e, 8192);
    buf_init(&text, 4096);
    (void)buf_printf(&text, "%s: %.*s", what, (int)MIN(name.n, (size_t)512), name.p);
    (void)pb__put_varint(&e, 1, (uint64_t)code);
    put_sub(&e, 2, &text);
    put_sub(b, 7, &e);
}

static void put_answer(struct reflect *rf, struct buf *b, struct pb_field *q)
{
    struct reflect_file *file = NULL;
    struct buf sub;
    switch (q->number) {
    case 3:
    case 4:
        file = str_map_get(q->number == 3 ? rf->by_name : rf->by_symbol, q->bytes);
        if (!file) {
            put_error(b, GRPC_NOT_FOUND, q->number == 3 ? "unknown file" : "unknown symbol",
                      q->bytes);
            return;
        }
        buf_init(&sub, RESPONSE_MAX);
        lock_acquire(&rf->lock);
        rf->round++;
        put_file(rf, &sub, file, 0);
        lock_release(&rf->lock);
        put_sub(b, 4, &sub);
        return;
    case 6:
        if (!str_map_get(rf->by_symbol, q->bytes)) {
            put_error(b, GRPC_NOT_FOUND, "unknown type", q->bytes);
            return;
        }
        buf_init(&sub, 8192);
        (void)pb__put_bytes(&sub, 1, q->bytes);
        put_sub(b, 5, &sub);
        return;
    case 7:
        (void)pb__put_bytes(b, 6, buf_slice(&rf->services));
        return;
    default:
        put_error(b, GRPC_NOT_FOUND, "no such extension", SLICE_LIT(""));
        return;
    }
}

int grpc__reflect_answer(struct reflect *rf, struct slice request, struct buf *b,
                         const char **ret_why)
{
    struct reader r = reader_of(request);
    struct pb_field f, query = { 0 };
    struct slice host = SLICE_LIT("");
    while (pb__next(&r, &f)) {
        if (f.number == 1 && f.wire == 2) {
            host = f.bytes;
        } else if (f.number >= 3 && f.number <= 7 && f.wire == 2) {
            query = f;
        }
    }
    if (r.failed || !query.number) {
        *ret_why = "broken ServerReflectionRequest";
        return GRPC_INVALID_ARGUMENT;
    }
    (void)pb__put_bytes(b, 1, host);
    (void)pb__put_bytes(b, 2, request);
    put_answer(rf, b, &query);
    if (b->failed) {
        *ret_why = "the answer is too large";
        return GRPC_RESOURCE_EXHAUSTED;
    }
    return GRPC_OK;
}

static void reflect_info(struct grpc_call *call, void *arg)
{
    struct status st = STATUS_INIT;
    const char *why = NULL;
    struct buf b;
    int code;
    if (grpc_at_end(call)) {
        grpc_finish(call, GRPC_OK, NULL);
        return;
    }
    buf_init(&b, RESPONSE_MAX);
    code = grpc__reflect_answer(arg, grpc_request(call), &b, &why);
    if (code != GRPC_OK) {
        grpc_finish(call, code, why);
    } else if (grpc_send(call, buf_slice(&b), &st)) {
        grpc_finish(call, grpc_code_of_status(st.code), st.msg);
    }
    buf_done(&b);
}

static void reflect_gone(struct grpc_call *call, void *arg)
{
    (void)arg;
    grpc_finish(call, GRPC_UNAVAILABLE, "the server stops");
}

static void on_info(struct grpc_call *call, void *arg)
{
    if (!grpc_user(call)) {
        grpc_set_user(call, arg);
        if (!grpc_on_cancel(call, reflect_gone, NULL)) {
            reflect_gone(call, NULL);
            return;
        }
    }
    reflect_info(call, arg);
}

void grpc__reflect_free(void *arg)
{
    struct reflect *rf = arg;
    if (!rf) {
        return;
    }
    while (rf->files) {
        struct reflect_file *f = rf->files;
        rf->files = f->next;
        mem_free(f);
    }
    str_map_free(rf->by_name, NULL);
    str_map_free(rf->by_symbol, NULL);
    buf_done(&rf->services);
    buf_done(&rf->own);
    lock_done(&rf->lock);
    mem_free(rf);
}

int grpc__reflect_new(struct slice file_descriptor_set, struct reflect **ret_rf,
                      struct status *st)
{
    struct reflect *rf = xalloc(sizeof *rf);
    int rc = 0;
    lock_init(&rf->lock, RANK_LEAF);
    rf->by_name = str_map_new();
    rf->by_symbol = str_map_new();
    buf_init(&rf->services, 1u << 20);
    buf_init(&rf->own, 1u << 20);
    if (!walk_set(rf, file_descriptor_set)) {
        FAIL(st, ST_CORRUPT, "the descriptor set of %zu bytes is broken", file_descriptor_set.n);
    }
    if (!str_map_get(rf->by_symbol, SLICE_LIT("grpc.health.v1.Health"))) {
        put_own_file(&rf->own, "grpc/health/v1/health.proto", "grpc.health.v1", true);
    }
    put_own_file(&rf->own, "grpc/reflection/v1/reflection.proto", "grpc.reflection.v1", false);
    put_own_file(&rf->own, "grpc/reflection/v1alpha/reflection.proto", "grpc.reflection.v1alpha",
                 false);
    CHECK(!rf->own.failed && walk_set(rf, buf_slice(&rf->own)));
    *ret_rf = TAKE(rf);
out:
    grpc__reflect_free(rf);
    return rc;
}

int grpc_reflect_register(struct net_server *srv, struct slice file_descriptor_set,
                          struct status *st)
{
    static const char *const paths[] = {
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    };
    struct reflect *rf = NULL;
    int rc;
    TRY(grpc__reflect_new(file_descriptor_set, &rf, st));
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        struct grpc_method m = { paths[i], GRPC_BIDI, NET_INLINE, on_info, rf };
        TRY(grpc_register(srv, &m, st));
    }
    net__server_cleanup(srv, grpc__reflect_free, TAKE(rf));
out:
    grpc__reflect_free(rf);
    return rc;
}
