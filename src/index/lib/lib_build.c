/*
 * lib_build.c - libelanus_index: building into a file or a buffer.
 *
 * WHAT        The engine writes an index front to back through a sink. For a file the sink gathers
 *             a megabyte before it asks the system; for a buffer it doubles anonymous pages.
 * FAILURE     A file appears under its name only when all of it is on disk; what a failed build
 *             leaves is PATH.tmp at most, and that is removed where the program still runs.
 * THREADS     The caller and the threads of a pool that lives as long as the build.
 */
#include "index/lib/lib_int.h"

#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/file.h"
#include "base/pool.h"

#define STAGE_BYTES (1u << 20)
#define THREADS_MAX 1024

/* Callbacks of a build, as the engine calls them. */
struct callbacks {
    const struct elanus_build *b;
    struct lib_stop stop;
};

static void progress(void *arg, double done)
{
    const struct callbacks *c = arg;
    c->b->progress(c->b->arg, done);
}

static int thread_count(int wanted, struct status *st, int *ret)
{
    long n = wanted ? wanted : sysconf(_SC_NPROCESSORS_ONLN);
    if (wanted < 0 || wanted > THREADS_MAX) {
        return st_fail(st, ST_INVALID, "threads is %d, should be in the range [0, %d]", wanted,
                       THREADS_MAX);
    }
    *ret = (int)MAX(MIN(n, (long)THREADS_MAX), 1L);
    return 0;
}

static int build(const struct elanus_vectors *vectors, const struct elanus_build *b,
                 index_sink_fn *sink, void *sink_arg, struct status *st)
{
    struct callbacks c = { .b = b };
    struct index_rows rows;
    struct index_params params;
    struct index_build ib = { .rows = &rows, .params = &params };
    enum index_type type;
    int rc, threads = 1;
    if (!b || !b->index || !index_type_find(b->index, &type)) {
        FAIL(st, ST_INVALID, "'%s' is no index", b && b->index ? b->index : "");
    }
    index_params_init(&params, type);
    if (b->params) {
        TRY(index_params_parse(&params, b->params, st));
    }
    if (params.type != type) {
        FAIL(st, ST_INVALID, "%s has no parameter 'type'", b->index);
    }
    TRY(lib__rows(vectors, &rows, st));
    TRY(thread_count(b->threads, st, &threads));
    ib.memory_max = b->memory_max;
    if (b->progress) {
        ib.progress = progress;
        ib.progress_arg = &c;
    }
    if (b->stop) {
        c.stop = (struct lib_stop){ .stop = b->stop, .arg = b->arg };
        ib.check = lib__stop;
        ib.check_arg = &c.stop;
    }
    /* The caller works too. */
    ib.pool = threads > 1 ? pool_new("index-build", threads - 1, 1024) : NULL;
    rc = index_build(&ib, sink, sink_arg, st);
    pool_free(ib.pool);
out:
    return rc;
}

/* ---- File ---- */

struct file_sink {
    struct file *f;
    size_t n;
    uint8_t *stage;
};

static int flush_stage(struct file_sink *s, struct status *st)
{
    int rc = s->n ? file_append(s->f, s->stage, s->n, st) : 0;
    s->n = 0;
    return rc;
}

static int put_file(void *arg, const void *p, size_t n, struct status *st)
{
    struct file_sink *s = arg;
    int rc = 0;
    if (s->n + n > STAGE_BYTES) {
        TRY(flush_stage(s, st));
    }
    if (n >= STAGE_BYTES) {
        return file_append(s->f, p, n, st);
    }
    memcpy(s->stage + s->n, p, n);
    s->n += n;
out:
    return rc;
}

/* Makes the rename durable. */
static int sync_folder_of(const char *path, struct status *st)
{
    const char *slash = strrchr(path, '/');
    char *dir = !slash          ? xstrdup(".")
                : slash == path ? xstrdup("/")
                                : xstrndup(path, (size_t)(slash - path));
    int rc = dir_sync(dir, st);
    mem_free(dir);
    return rc;
}

int elanus_index_build_file(const struct elanus_vectors *vectors, const struct elanus_build *b,
                            const char *path, struct elanus_error *err)
{
    struct status st = STATUS_INIT, ignored = STATUS_INIT;
    struct file_sink sink = { .stage = alloc_try(STAGE_BYTES) };
    struct buf tmp;
    bool created = false;
    int rc = 0;
    buf_init(&tmp, SIZE_MAX / 2);
    if (!path || !buf_printf(&tmp, "%s.tmp", path) || !buf_put_u8(&tmp, 0)) {
        FAIL(&st, ST_INVALID, "no path is given");
    }
    if (!sink.stage) {
        FAIL(&st, ST_NO_MEMORY, "no memory to write %s", path);
    }
    TRY(file_open((const char *)tmp.p, FILE_WRITE | FILE_CREATE | FILE_TRUNC, &sink.f, &st));
    created = true;
    TRY(build(vectors, b, put_file, &sink, &st));
    TRY(flush_stage(&sink, &st));
    TRY(file_sync(sink.f, &st));
    TRY(path_rename((const char *)tmp.p, path, &st));
    created = false;
    TRY(sync_folder_of(path, &st));
out:
    file_close(sink.f);
    if (created) {
        (void)path_unlink((const char *)tmp.p, &ignored);
    }
    buf_done(&tmp);
    mem_free(sink.stage);
    return lib__end(rc, &st, err);
}

/* ---- Buffer ---- */

static int put_buffer(void *arg, const void *p, size_t n, struct status *st)
{
    struct elanus_buffer *b = arg;
    if (n > b->room - b->size) {
        size_t room = MAX(b->room * 2, (size_t)STAGE_BYTES);
        while (room < b->size + n) {
            room *= 2;
        }
        void *q = lib__pages_grow(b->data, b->room, room);
        if (!q) {
            return st_fail(st, ST_NO_MEMORY, "no memory for an index of more than %zu bytes",
                           b->size);
        }
        b->data = q;
        b->room = room;
    }
    memcpy((uint8_t *)b->data + b->size, p, n);
    b->size += n;
    return 0;
}

int elanus_index_build_buffer(const struct elanus_vectors *vectors, const struct elanus_build *b,
                              struct elanus_buffer *ret_buffer, struct elanus_error *err)
{
    struct status st = STATUS_INIT;
    struct elanus_buffer out = { 0 };
    int rc;
    TRY(build(vectors, b, put_buffer, &out, &st));
    *ret_buffer = out;
    out = (struct elanus_buffer){ 0 };
out:
    elanus_buffer_free(&out);
    return lib__end(rc, &st, err);
}

void elanus_buffer_free(struct elanus_buffer *b)
{
    if (b) {
        lib__pages_free(b->data, b->room);
        *b = (struct elanus_buffer){ 0 };
    }
}
