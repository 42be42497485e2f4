/*
 * cmd_meta.c - `elanus meta`: the metadata store for human eyes.
 *
 * WHAT      Keys are paths, values are printed as JSON by the message type that belongs to the path
 *           (proto/elanus_meta.proto). Works beside a running server and on a stopped one: the store
 *           is opened as a second reader and changes nothing.
 * THREADS   One.
 */
#include "main/main.h"
#include "base/alloc.h"
#include "base/arena.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/map.h"
#include "meta/meta.h"
#include "proto/elanus_meta.pb-c.h"
#include "proto/proto.h"
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct {
    const char *prefix;
    const ProtobufCMessageDescriptor *desc;
} kinds[] = {
    { "/elanus/root/tso", &elanus__bound__descriptor },
    { "/elanus/root/id", &elanus__bound__descriptor },
    { "/elanus/streaming/term", &elanus__bound__descriptor },
    { "/elanus/root/database/", &elanus__database__descriptor },
    { "/elanus/root/collection/", &elanus__collection__descriptor },
    { "/elanus/root/partition/", &elanus__partition__descriptor },
    { "/elanus/root/alias/", &elanus__alias__descriptor },
    { "/elanus/root/user/", &elanus__user__descriptor },
    { "/elanus/data/index/", &elanus__index__descriptor },
    { "/elanus/data/segment/", &elanus__segment__descriptor },
    { "/elanus/data/delta/", &elanus__delta__descriptor },
    { "/elanus/data/segindex/", &elanus__segment_index__descriptor },
    { "/elanus/data/shard/", &elanus__shard__descriptor },
    { "/elanus/query/load/", &elanus__load__descriptor },
};

static void print_value(const struct meta_item *item, int indent)
{
    struct arena *ar = arena_new(0);
    struct status st = STATUS_INIT;
    struct proto_json_opts opts = { .indent = indent, .bytes_max = 32 };
    const ProtobufCMessage *m = NULL;
    struct buf b;

    buf_init(&b, (size_t)64 << 20);
    for (size_t i = 0; i < ARRAY_LEN(kinds) && !m; i++) {
        if (slice_starts(item->key, slice_of(kinds[i].prefix))) {
            m = proto_unpack(kinds[i].desc, item->value, ar, &st);
        }
    }
    if (m && proto_to_json(m, &b, &opts)) {
        printf("%.*s\n", SLICE_ARG(buf_slice(&b)));
    } else {
        printf("%zu bytes that are no known message%s%s\n", item->value.n, st.code ? ": " : "",
               st.msg);
    }
    buf_done(&b);
    arena_free(ar);
}

static int fail(const struct status *st)
{
    fprintf(stderr, "elanus meta: %s\n", st->msg);
    return 1;
}

/* Calls fn for every item under prefix. */
static int each(struct meta *m, const char *prefix, bool keys_only,
                void (*fn)(const struct meta_item *, void *), void *arg, struct status *st)
{
    struct meta_range range = { .prefix = slice_of(prefix), .limit = 1000,
                                .keys_only = keys_only };
    struct arena *last_ar = NULL;
    int rc = 0;

    for (;;) {
        struct arena *ar = arena_new(0);
        struct meta_list list;
        rc = meta_list(m, &range, ar, &list, st);
        for (size_t i = 0; rc == 0 && i < list.n; i++) {
            fn(&list.items[i], arg);
        }
        arena_free(last_ar);
        last_ar = ar;
        if (rc != 0 || !list.more) {
            break;
        }
        range.start_after = list.items[list.n - 1].key;
    }
    arena_free(last_ar);
    return rc;
}

static void print_item(const struct meta_item *item, void *arg)
{
    if (*(bool *)arg) {
        printf("%.*s\n", SLICE_ARG(item->key));
    } else {
        printf("%.*s  ", SLICE_ARG(item->key));
        print_value(item, 0);
    }
}

static int do_list(struct meta *m, const char *prefix, bool keys_only, struct status *st)
{
    return each(m, prefix, keys_only, print_item, &keys_only, st);
}

static int do_get(struct meta *m, const char *key, struct status *st)
{
    struct arena *ar = arena_new(0);
    struct meta_item item;
    int rc = meta_get(m, slice_of(key), ar, &item, st);

    if (rc == 0 && item.version == 0) {
        rc = st_fail(st, ST_NOT_FOUND, "no key %s; `elanus meta list` shows what there is", key);
    }
    if (rc == 0) {
        print_value(&item, 2);
    }
    arena_free(ar);
    return rc;
}

/* ---- watch: refresh and compare ---- */

struct watch {
    struct str_map *seen; /* key -> version, as a pointer-sized number */
    struct str_map *now;
    bool first;
};

static void stamp(void)
{
    char text[32];
    time_t t = (time_t)(clock_now_ms() / 1000);
    struct tm tm;
    localtime_r(&t, &tm);
    strftime(text, sizeof text, "%H:%M:%S", &tm);
    printf("%s ", text);
}

static void compare_item(const struct meta_item *item, void *arg)
{
    struct watch *w = arg;
    void *version = (void *)(uintptr_t)item->version;

    if (!w->first && str_map_get(w->seen, item->key) != version) {
        stamp();
        printf("%s %.*s  ", str_map_get(w->seen, item->key) ? "changed" : "new    ",
               SLICE_ARG(item->key));
        print_value(item, 0);
    }
    str_map_put(w->now, item->key, version);
}

static int do_watch(struct meta *m, const char *prefix, struct status *st)
{
    struct watch w = { .seen = str_map_new(), .first = true };
    int rc = 0;

    fprintf(stderr, "watching %s; interrupt to end\n", prefix);
    while (rc == 0) {
        size_t pos = 0;
        struct slice key;
        void *v;

        w.now = str_map_new();
        rc = each(m, prefix, false, compare_item, &w, st);
        while (rc == 0 && str_map_next(w.seen, &pos, &key, &v)) {
            if (!str_map_get(w.now, key)) {
                stamp();
                printf("gone    %.*s\n", SLICE_ARG(key));
            }
        }
        str_map_free(w.seen, NULL);
        w.seen = TAKE(w.now);
        w.first = false;
        fflush(stdout);
        if (rc == 0) {
            usleep(300000);
            rc = meta_refresh(m, st);
        }
    }
    str_map_free(w.seen, NULL);
    return rc;
}

static int usage(void)
{
    fprintf(stderr, "usage: elanus meta list [PREFIX] [--keys] [--data DIR]\n"
                    "       elanus meta get KEY [--data DIR]\n"
                    "       elanus meta watch [PREFIX] [--data DIR]\n\n"
                    "DIR is the server's data folder (./elanus-data); it may be running or not.\n");
    return 2;
}

int cmd_meta(int argc, char **argv)
{
    const char *data = "./elanus-data", *what = NULL, *arg = NULL;
    bool keys_only = false;
    struct status st = STATUS_INIT;
    struct meta *m = NULL;
    char *dir;
    int rc;

    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--data") == 0 && i + 1 < argc) {
            data = argv[++i];
        } else if (strcmp(argv[i], "--keys") == 0) {
            keys_only = true;
        } else if (argv[i][0] == '-') {
            return usage();
        } else if (!what) {
            what = argv[i];
        } else if (!arg) {
            arg = argv[i];
        } else {
            return usage();
        }
    }
    if (!what || (strcmp(what, "list") != 0 && strcmp(what, "get") != 0 &&
                  strcmp(what, "watch") != 0) || (strcmp(what, "get") == 0 && !arg)) {
        return usage();
    }
    dir = path_join(data, "meta");
    rc = meta_open_readonly(dir, &m, &st);
    mem_free(dir);
    if (rc != 0) {
        return fail(&st);
    }
    if (strcmp(what, "list") == 0) {
        rc = do_list(m, arg ? arg : "/", keys_only, &st);
    } else if (strcmp(what, "get") == 0) {
        rc = do_get(m, arg, &st);
    } else {
        rc = do_watch(m, arg ? arg : "/", &st);
    }
    meta_close(m);
    return rc == 0 ? 0 : fail(&st);
}
