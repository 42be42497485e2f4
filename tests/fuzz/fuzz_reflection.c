/*
 * fuzz_reflection.c - requests to the reflection and health services, and descriptor sets.
 *
 * The first byte chooses: a HealthCheckRequest, a ServerReflectionRequest about the real descriptor
 * set, or a descriptor set that is itself from outside, asked for each of its services.
 */
#include "base/alloc.h"
#include "net/grpc_int.h"
#include "net/grpc_pb.h"
#include "proto/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ANSWER_MAX (8u << 20)

static void ask(struct reflect *rf, struct slice request)
{
    const char *why = NULL;
    struct buf b;
    buf_init(&b, ANSWER_MAX);
    int code = grpc__reflect_answer(rf, request, &b, &why);
    CHECK(code == GRPC_OK || code == GRPC_INVALID_ARGUMENT || code == GRPC_RESOURCE_EXHAUSTED);
    CHECK((code == GRPC_OK) == (why == NULL));
    if (code == GRPC_OK) {
        struct reader r = reader_of(buf_slice(&b));
        struct pb_field f;
        bool echoed = false;
        while (pb__next(&r, &f)) {
            echoed = echoed || (f.number == 2 && slice_eq(f.bytes, request));
        }
        CHECK(!r.failed && echoed);
    }
    buf_done(&b);
}

static void ask_by(struct reflect *rf, uint32_t number, struct slice what)
{
    struct buf request;
    buf_init(&request, SIZE_MAX / 2);
    CHECK(pb__put_bytes(&request, number, what));
    ask(rf, buf_slice(&request));
    buf_done(&request);
}

/* ListServiceResponse { service = 1 { name = 1 } } inside a response's field 6 */
static void ask_for_all(struct reflect *rf)
{
    static const uint8_t list[] = { 7 << 3 | 2, 0 };
    const char *why;
    struct pb_field f, g, h;
    struct buf b;
    buf_init(&b, ANSWER_MAX);
    CHECK(grpc__reflect_answer(rf, slice_n(list, sizeof list), &b, &why) == GRPC_OK);
    struct reader r = reader_of(buf_slice(&b));
    int asked = 0;
    while (pb__next(&r, &f)) {
        struct reader services = reader_of(f.number == 6 ? f.bytes : SLICE_LIT(""));
        while (pb__next(&services, &g) && asked < 20) {
            struct reader name = reader_of(g.bytes);
            while (pb__next(&name, &h)) {
                ask_by(rf, 4, h.bytes);
                ask_by(rf, 6, h.bytes);
                asked++;
            }
        }
    }
    CHECK(!r.failed);
    buf_done(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct reflect *real;
    struct status st = STATUS_INIT;
    struct reflect *rf = NULL;
    struct slice service;
    if (!real) {
        CHECK(grpc__reflect_new(proto_descriptor_set(), &real, &st) == 0);
    }
    if (size == 0) {
        return 0;
    }
    char *copy = xalloc(size);
    memcpy(copy, data + 1, size - 1);
    struct slice msg = slice_n(copy, size - 1);
    switch (data[0] % 3) {
    case 0:
        if (grpc__health_request(msg, &service)) {
            CHECK(service.n <= msg.n);
        }
        break;
    case 1:
        ask(real, msg);
        break;
    default:
        if (grpc__reflect_new(msg, &rf, &st) == 0) {
            ask_for_all(rf);
            ask_by(rf, 3, SLICE_LIT("a"));
        } else {
            CHECK(st.code == ST_CORRUPT);
        }
        grpc__reflect_free(rf);
        break;
    }
    mem_free(copy);
    return 0;
}
