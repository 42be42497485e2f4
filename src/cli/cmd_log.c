/*
 * cmd_log.c - `elanus log`: what the write-ahead log of a stopped server holds.
 *
 * THREADS   One.
 */
#include "main/main.h"
#include "base/alloc.h"
#include "base/arena.h"
#include "base/file.h"
#include "node/streaming/sn_record.h"
#include "schema/column.h"
#include "wal/wal.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static int usage(void)
{
    fprintf(stderr, "usage: elanus log list [--data DIR]             one line per channel\n"
                    "       elanus log dump CHANNEL [--data DIR]     one line per record\n");
    return 2;
}

static int list_channel(const char *dir, const char *name, struct status *st)
{
    struct wal *w = NULL;
    struct wal_stats ws;
    char *path = path_join(dir, name);
    int rc = wal_local_open_readonly(path, &w, st);

    if (rc == 0) {
        wal_get_stats(w, &ws);
        printf("%-16s records %" PRIu64 " to %" PRIu64 ", %" PRIu64 " files, %" PRIu64 " bytes\n",
               name, ws.first, ws.last, ws.nfiles, ws.bytes);
        rc = wal_close(w, st);
    }
    mem_free(path);
    return rc;
}

/* A channel that cannot be read does not hide the others; the first error is the answer. */
static int do_list(const char *dir, struct status *st)
{
    char **names = NULL;
    size_t n = 0;
    int rc = dir_list(dir, &names, &n, st);

    for (size_t i = 0; i < n; i++) {
        struct status one = STATUS_INIT;
        if (list_channel(dir, names[i], &one) != 0 && rc == 0) {
            *st = one;
            rc = st->code;
        }
    }
    dir_list_free(names, n);
    return rc;
}

static int print_record(const struct wal_record *wr, struct arena *ar, struct status *st)
{
    struct sn_record r;
    struct batch keys = { 0 };
    int rc;

    TRY(sn_record_decode(wr->payload, ar, &r, st));
    if (r.delete_pks.n) {
        TRY(batch_decode(r.delete_pks, ar, &keys, st));
    }
    printf("%" PRIu64 " ts=%" PRIu64 " shard=%.*s bytes=%zu", wr->position, r.ts,
           SLICE_ARG(r.vchannel), wr->payload.n);
    if (keys.nrows) {
        printf(" delete=%u", keys.nrows);
    }
    for (uint32_t i = 0; i < r.nparts; i++) {
        printf(" insert{partition=%" PRId64 " seg=%" PRId64 " rows=%u}", r.parts[i].partition_id,
               r.parts[i].segment_id, r.parts[i].num_rows);
    }
    printf("\n");
out:
    return rc;
}

static int do_dump(const char *dir, const char *channel, struct status *st)
{
    struct wal *w = NULL;
    struct wal_reader *rd = NULL;
    struct arena *ar = arena_new(0);
    char *path = path_join(dir, channel);
    struct wal_record wr;
    bool found;
    int rc;

    TRY(wal_local_open_readonly(path, &w, st));
    TRY(wal_reader_open(w, wal_first_position(w), &rd, st));
    for (;;) {
        TRY(wal_reader_next(rd, &wr, &found, st));
        if (!found) {
            break;
        }
        TRY(print_record(&wr, ar, st));
        arena_reset(ar);
    }
out:
    wal_reader_close(rd);
    if (w) {
        struct status ignored = STATUS_INIT;
        (void)wal_close(w, &ignored);
    }
    arena_free(ar);
    mem_free(path);
    return rc;
}

int cmd_log(int argc, char **argv)
{
    const char *data = "./elanus-data", *what = NULL, *arg = NULL;
    struct status st = STATUS_INIT;
    char *dir;
    int rc;

    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--data") == 0 && i + 1 < argc) {
            data = argv[++i];
        } else if (!what) {
            what = argv[i];
        } else if (!arg) {
            arg = argv[i];
        } else {
            return usage();
        }
    }
    dir = path_join(data, "log");
    if (what && strcmp(what, "list") == 0 && !arg) {
        rc = do_list(dir, &st);
    } else if (what && strcmp(what, "dump") == 0 && arg) {
        rc = do_dump(dir, arg, &st);
    } else {
        mem_free(dir);
        return usage();
    }
    mem_free(dir);
    if (rc != 0) {
        fprintf(stderr, "elanus log: %s\n", st.msg);
        return 1;
    }
    return 0;
}
