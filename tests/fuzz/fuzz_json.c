/*
 * fuzz_json.c - the JSON reader.
 *
 * A checked text must be walkable to its end, and every string must decode to UTF-8; an unchecked
 * one must not lead the walker outside of it (the input is copied to an exact heap block, so the
 * address sanitizer sees one byte too many).
 */
#include "base/alloc.h"
#include "base/buf.h"
#include "base/json.h"
#include "base/utf8.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_string(struct slice raw, bool escaped, bool valid)
{
    char *decoded = xalloc(raw.n);
    struct slice s = slice_n(decoded, json_unescape(raw, decoded));
    CHECK(s.n <= raw.n);
    if (valid) {
        CHECK(utf8_valid(s));
        CHECK(escaped || slice_eq(s, raw));
        /* What the writer makes of it reads back as the same text. */
        struct buf b;
        struct status st = STATUS_INIT;
        struct json_value v;
        buf_init(&b, SIZE_MAX / 2);
        CHECK(buf_put_json_str(&b, s));
        CHECK(json_validate(buf_slice(&b), &st) == 0);
        CHECK(json_parse(buf_slice(&b), &v) && json_string_eq(&v, s));
        buf_done(&b);
    }
    mem_free(decoded);
}

static void walk(const struct json_value *v, bool valid, int depth)
{
    size_t pos = 0, n = 0;
    struct slice key;
    bool escaped;
    struct json_value child;
    if (v->type == JSON_STRING) {
        CHECK(v->raw.n >= 2);
        check_string(slice_n(v->raw.p + 1, v->raw.n - 2), v->escaped, valid);
    }
    /* Re-reading at each level makes the walk quadratic in the depth. */
    while (depth < 40 && json_next(v, &pos, &key, &escaped, &child)) {
        n++;
        CHECK(child.raw.p >= v->raw.p && child.raw.p + child.raw.n <= v->raw.p + v->raw.n);
        if (v->type == JSON_OBJECT) {
            struct json_value same;
            check_string(key, escaped, valid);
            CHECK(escaped || n > 20 || json_member(v, key, &same));
        }
        walk(&child, valid, depth + 1);
    }
    CHECK(depth >= 40 || n == json_count(v));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *copy = xalloc(size);
    struct slice text = slice_n(copy, size);
    struct status st = STATUS_INIT;
    struct json_value v;
    if (size) {
        memcpy(copy, data, size);
    }
    bool valid = json_validate(text, &st) == 0;
    CHECK(valid || (st.code == ST_INVALID && st.msg[0] != '\0'));
    bool parsed = json_parse(text, &v);
    CHECK(parsed || !valid);
    if (parsed) {
        walk(&v, valid, 0);
    }
    mem_free(copy);
    return 0;
}
