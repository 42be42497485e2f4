/*
 * lib.c - libelanus_index: errors, versions, opening.
 *
 * WHAT        The engine's functions under installed names, for programs that want the index and
 *             not the server. Nothing is decided here: arguments are checked, turned into the
 *             engine's structures, and its errors into public codes.
 * THREADS     As include/elanus/index.h says; no state beside the kernels' table.
 * MEMORY      A copied file lives in anonymous memory for which large pages are asked: random reads
 *             of a mapped file miss the TLB at every step of a graph.
 */
#include "index/lib/lib_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "simd/simd.h"

const char *elanus_index_version(void)
{
    return ELANUS_VERSION;
}

const char *elanus_index_kernels(void)
{
    return simd_level_name(simd_ops()->level);
}

int elanus_index_limit_kernels(const char *level)
{
    return simd_cap(level) ? ELANUS_OK : ELANUS_INVALID;
}

/* ---- Errors ---- */

static const struct {
    int code;
    const char *name;
} code_names[] = {
    { ELANUS_OK, "success" },
    { ELANUS_INVALID, "invalid argument" },
    { ELANUS_NOT_FOUND, "not found" },
    { ELANUS_IO, "input or output failed" },
    { ELANUS_CORRUPT, "corrupt index file" },
    { ELANUS_NO_SPACE, "no space left" },
    { ELANUS_NO_MEMORY, "out of memory" },
    { ELANUS_CANCELLED, "cancelled" },
    { ELANUS_UNSUPPORTED, "not supported" },
    { ELANUS_INTERNAL, "internal error" },
};

const char *elanus_code_name(int code)
{
    for (size_t i = 0; i < ARRAY_LEN(code_names); i++) {
        if (code_names[i].code == code) {
            return code_names[i].name;
        }
    }
    return "unknown error";
}

static int public_code(int code)
{
    switch (code) {
    case ST_OK:
        return ELANUS_OK;
    case ST_INVALID:
    case ST_TOO_LARGE:
        return ELANUS_INVALID;
    case ST_NOT_FOUND:
        return ELANUS_NOT_FOUND;
    case ST_IO:
    case ST_EXISTS:
    case ST_DENIED:
        return ELANUS_IO;
    case ST_CORRUPT:
        return ELANUS_CORRUPT;
    case ST_NO_SPACE:
    case ST_QUOTA:
        return ELANUS_NO_SPACE;
    case ST_NO_MEMORY:
        return ELANUS_NO_MEMORY;
    case ST_CANCELLED:
    case ST_TIMEOUT:
        return ELANUS_CANCELLED;
    case ST_UNSUPPORTED:
        return ELANUS_UNSUPPORTED;
    default:
        return ELANUS_INTERNAL;
    }
}

int lib__end(int rc, const struct status *st, struct elanus_error *err)
{
    int code = public_code(rc);
    if (err) {
        err->code = code;
        snprintf(err->message, sizeof err->message, "%s", rc ? st->msg : "");
    }
    return code;
}

int lib__stop(void *arg, struct status *st)
{
    const struct lib_stop *s = arg;
    return s->stop(s->arg) ? st_fail(st, ST_CANCELLED, "stopped by the caller") : 0;
}

/* ---- Vectors ---- */

/* The public enums are the engine's. */
_Static_assert(ELANUS_L2 == (int)METRIC_L2 && ELANUS_SUPERSTRUCTURE == (int)METRIC_SUPERSTRUCTURE &&
                   ELANUS_HAMMING == (int)METRIC_HAMMING && METRIC_COUNT == 7,
               "metrics");
_Static_assert(ELANUS_F32 == (int)VEC_F32 && ELANUS_BIT == (int)VEC_BIN && VEC_COUNT == 5,
               "elements");

int lib__rows(const struct elanus_vectors *v, struct index_rows *ret, struct status *st)
{
    int rc = 0;
    if (!v) {
        FAIL(st, ST_INVALID, "no vectors are given");
    }
    if ((unsigned)v->metric >= METRIC_COUNT || (unsigned)v->element >= VEC_COUNT) {
        FAIL(st, ST_INVALID, "metric %d or element type %d does not exist", v->metric, v->element);
    }
    if (!metric_fits_type((enum metric)v->metric, (enum vec_type)v->element)) {
        FAIL(st, ST_INVALID, "metric %s does not fit the vectors' type",
             metric_name((enum metric)v->metric));
    }
    if (v->count >= (size_t)1 << 31) {
        FAIL(st, ST_INVALID, "%zu rows, fewer than 2^31 fit an index", v->count);
    }
    if (v->count > 0 && !v->data) {
        FAIL(st, ST_INVALID, "%zu rows without data", v->count);
    }
    /* Bounds of dim and stride are the engine's to check. */
    *ret = (struct index_rows){ .metric = (enum metric)v->metric,
                                .type = (enum vec_type)v->element,
                                .dim = v->dim,
                                .base = v->data,
                                .stride = v->stride,
                                .nrows = (uint32_t)v->count };
    if (v->stride == 0) {
        ret->stride = vec_bytes(ret->type, v->dim);
    }
out:
    return rc;
}

/* ---- Pages ---- */

void *lib__pages_new(size_t n)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) {
        return NULL;
    }
    madvise(p, n, MADV_HUGEPAGE);
    return p;
}

void *lib__pages_grow(void *p, size_t old, size_t n)
{
    if (!p) {
        return lib__pages_new(n);
    }
    void *q = mremap(p, old, n, MREMAP_MAYMOVE);
    if (q == MAP_FAILED) {
        return NULL;
    }
    madvise(q, n, MADV_HUGEPAGE);
    return q;
}

void lib__pages_free(void *p, size_t n)
{
    if (p) {
        munmap(p, n);
    }
}

/* ---- Opening ---- */

static int open_over(struct elanus_index *e, const struct elanus_vectors *vectors, bool trusted,
                     struct status *st)
{
    struct index_source src = { .map = e->map, .size = e->size, .fd = e->fd, .trusted = trusted };
    int rc;
    TRY(lib__rows(vectors, &e->rows, st));
    TRY(index_open(&src, &e->rows, &e->ix, st));
out:
    return rc;
}

static int read_whole(int fd, uint8_t *p, size_t n, const char *path, struct status *st)
{
    for (size_t at = 0; at < n;) {
        ssize_t got = pread(fd, p + at, n - at, (off_t)at);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return got == 0 ? st_fail(st, ST_CORRUPT, "%s became shorter while it was read", path)
                            : st_errno(st, errno, "reading %s", path);
        }
        at += (size_t)got;
    }
    return 0;
}

static int map_file(struct elanus_index *e, const char *path, bool copy, struct status *st)
{
    int rc = 0;
    struct stat file;
    e->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (e->fd < 0 || fstat(e->fd, &file) != 0) {
        TRY(st_errno(st, errno, "opening %s", path));
    }
    if (!S_ISREG(file.st_mode) || file.st_size == 0) {
        FAIL(st, ST_CORRUPT, "%s is no index file: %s", path,
             file.st_size == 0 ? "it is empty" : "it is no file");
    }
    e->size = (size_t)file.st_size;
    if (copy) {
        uint8_t *p = lib__pages_new(e->size);
        if (!p) {
            FAIL(st, ST_NO_MEMORY, "no memory for the %zu bytes of %s", e->size, path);
        }
        e->map = p;
        e->mapped = true;
        TRY(read_whole(e->fd, p, e->size, path, st));
        goto out;
    }
    void *p = mmap(NULL, e->size, PROT_READ, MAP_SHARED, e->fd, 0);
    if (p == MAP_FAILED) {
        TRY(st_errno(st, errno, "mapping %s", path));
    }
    e->map = p;
    e->mapped = true;
out:
    return rc;
}

int elanus_index_open(const char *path, const struct elanus_vectors *vectors,
                      const struct elanus_open *options, struct elanus_index **ret_index,
                      struct elanus_error *err)
{
    struct status st = STATUS_INIT;
    struct elanus_open none = { 0 };
    struct elanus_index *e = xalloc(sizeof *e);
    int rc = 0;
    e->fd = -1;
    if (!path) {
        FAIL(&st, ST_INVALID, "no path is given");
    }
    options = options ? options : &none;
    TRY(map_file(e, path, options->copy != 0, &st));
    TRY(open_over(e, vectors, options->trusted != 0, &st));
    *ret_index = TAKE(e);
out:
    elanus_index_free(e);
    return lib__end(rc, &st, err);
}

int elanus_index_open_memory(const void *data, size_t size, const struct elanus_vectors *vectors,
                             struct elanus_index **ret_index, struct elanus_error *err)
{
    struct status st = STATUS_INIT;
    struct elanus_index *e = xalloc(sizeof *e);
    int rc = 0;
    e->fd = -1;
    e->map = data;
    e->size = size;
    if (!data || (uintptr_t)data % CACHE_LINE != 0) {
        FAIL(&st, ST_INVALID, "an index in memory should be aligned to %d bytes", CACHE_LINE);
    }
    TRY(open_over(e, vectors, false, &st));
    *ret_index = TAKE(e);
out:
    elanus_index_free(e);
    return lib__end(rc, &st, err);
}

void elanus_index_free(struct elanus_index *index)
{
    if (!index) {
        return;
    }
    index_free(index->ix);
    if (index->mapped) {
        munmap((void *)(uintptr_t)index->map, index->size);
    }
    if (index->fd >= 0) {
        close(index->fd);
    }
    mem_free(index);
}

/* ---- Looking ---- */

int elanus_index_validate(const struct elanus_index *index, struct elanus_error *err)
{
    struct status st = STATUS_INIT;
    return lib__end(index_validate(index->ix, &st), &st, err);
}

void elanus_index_memory(const struct elanus_index *index, struct elanus_memory *ret_memory)
{
    struct index_memory m;
    index_memory(index->ix, &m);
    *ret_memory =
        (struct elanus_memory){ .heap = m.heap, .mapped = m.mapped, .resident = m.resident };
}

size_t elanus_index_describe(const struct elanus_index *index, char *text, size_t room)
{
    return index_params_print(index_params_of(index->ix), text, room);
}
