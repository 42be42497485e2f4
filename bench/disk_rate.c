/*
 * disk_rate.c - one ring, `depth` reads in it, each replaced when it comes back.
 *
 * Reads pass the page cache (O_DIRECT) as those of searches do; a file system that refuses that has
 * no limit to measure here. Nothing is written, nothing is done with what is read.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "disk_rate.h"

double disk_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double disk_cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static void fail(const char *what, int err)
{
    fprintf(stderr, "%s: %s\n", what, strerror(err));
    exit(1);
}

struct run {
    const struct disk_part *part;
    struct io_uring ring;
    int fd;
    uint64_t blocks, seed;
    uint8_t *buffers;
    double started[DISK_DEPTH_MAX];
};

static uint64_t draw(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void submit(struct run *r, unsigned slot)
{
    const size_t n = r->part->read;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
    io_uring_prep_read(sqe, r->fd, r->buffers + slot * n, (unsigned)n,
                       r->part->at + draw(&r->seed) % r->blocks * n);
    io_uring_sqe_set_data64(sqe, slot);
    r->started[slot] = disk_now();
}

static void begin(struct run *r, unsigned depth)
{
    struct stat sb;
    int rc;
    r->fd = open(r->part->path, O_RDONLY | O_DIRECT);
    if (r->fd < 0 || fstat(r->fd, &sb) != 0) {
        fail(r->part->path, errno);
    }
    uint64_t len = r->part->len ? r->part->len : (uint64_t)sb.st_size - r->part->at;
    r->blocks = len / r->part->read;
    r->buffers = aligned_alloc(4096, depth * r->part->read);
    rc = io_uring_queue_init(depth, &r->ring, 0);
    if (rc != 0 || !r->buffers || r->blocks == 0) {
        fail("io_uring", rc ? -rc : ENOMEM);
    }
}

struct disk_rate disk_rate(const struct disk_part *part, unsigned depth, double seconds)
{
    struct run r = { .part = part, .seed = UINT64_C(88172645463325252) ^ (uint64_t)depth << 7 };
    uint64_t done = 0;
    unsigned flying = 0;
    double latency = 0, start, cpu0, took;
    begin(&r, depth);
    for (start = disk_now(), cpu0 = disk_cpu(); flying < depth; flying++) {
        submit(&r, flying);
    }
    while (flying > 0) {
        struct io_uring_cqe *cqe;
        int rc = io_uring_submit_and_wait(&r.ring, 1);
        if (rc < 0 && rc != -EINTR) {
            fail("submit", -rc);
        }
        while (io_uring_peek_cqe(&r.ring, &cqe) == 0) {
            unsigned slot = (unsigned)io_uring_cqe_get_data64(cqe);
            if (cqe->res < 0) {
                fail("read", -cqe->res);
            }
            latency += disk_now() - r.started[slot];
            done++;
            io_uring_cqe_seen(&r.ring, cqe);
            if (disk_now() - start < seconds) {
                submit(&r, slot);
            } else {
                flying--;
            }
        }
    }
    took = disk_now() - start;
    io_uring_queue_exit(&r.ring);
    close(r.fd);
    free(r.buffers);
    return (struct disk_rate){ .reads = (double)done / took,
                               .latency = latency / (double)done,
                               .cpu = (disk_cpu() - cpu0) / (double)done };
}

struct disk_rate disk_rate_best(const struct disk_part *part, double seconds, unsigned *ret_depth)
{
    struct disk_rate best = { 0 };
    for (unsigned depth = 16; depth <= DISK_DEPTH_MAX; depth *= 2) {
        struct disk_rate r = disk_rate(part, depth, seconds);
        if (r.reads > best.reads) {
            best = r;
            *ret_depth = depth;
        }
    }
    return best;
}
