/*
 * disk_limit.c - what random reads a disk serves: reads a second and their latency at queue depths
 * of 1 to 32, past the page cache.
 *
 * usage: disk_limit FILE [seconds a depth [bytes a read]]
 *
 * FILE should be much larger than the disk's own caches; nothing is written. Positions are drawn
 * over the whole file. Disk searches are compared with this: no search that needs r reads can run
 * more often than reads-a-second / r.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DEPTH_MAX 32

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static uint64_t draw(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void fail(const char *what, int err)
{
    fprintf(stderr, "disk_limit: %s: %s\n", what, strerror(err));
    exit(1);
}

struct run {
    struct io_uring ring;
    int fd;
    uint64_t blocks, seed;
    size_t bytes;
    uint8_t *buffers;
    double started[DEPTH_MAX];
};

static void submit(struct run *r, unsigned slot)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->ring);
    io_uring_prep_read(sqe, r->fd, r->buffers + slot * r->bytes, (unsigned)r->bytes,
                       draw(&r->seed) % r->blocks * r->bytes);
    io_uring_sqe_set_data64(sqe, slot);
    r->started[slot] = now();
}

static void measure(struct run *r, unsigned depth, double seconds)
{
    uint64_t done = 0;
    double latency = 0, start = now(), cpu0 = cpu(), took;
    unsigned flying = 0;
    for (; flying < depth; flying++) {
        submit(r, flying);
    }
    while (flying > 0) {
        struct io_uring_cqe *cqe;
        int rc = io_uring_submit_and_wait(&r->ring, 1);
        if (rc < 0 && rc != -EINTR) {
            fail("submit", -rc);
        }
        while (io_uring_peek_cqe(&r->ring, &cqe) == 0) {
            unsigned slot = (unsigned)io_uring_cqe_get_data64(cqe);
            if (cqe->res < 0) {
                fail("read", -cqe->res);
            }
            latency += now() - r->started[slot];
            done++;
            io_uring_cqe_seen(&r->ring, cqe);
            if (now() - start < seconds) {
                submit(r, slot);
            } else {
                flying--;
            }
        }
    }
    took = now() - start;
    printf("depth %2u: %8.0f reads/s  %7.1f MB/s  latency %7.1f us  cpu %5.2f us a read\n", depth,
           (double)done / took, (double)done * (double)r->bytes / took / 1e6,
           latency / (double)done * 1e6, (cpu() - cpu0) / (double)done * 1e6);
}

int main(int argc, char **argv)
{
    struct run r = { .bytes = 4096, .seed = 88172645463325252u };
    struct stat sb;
    double seconds = argc > 2 ? atof(argv[2]) : 2;
    int rc;
    if (argc < 2) {
        fprintf(stderr, "usage: disk_limit FILE [seconds a depth [bytes a read]]\n");
        return 2;
    }
    r.bytes = argc > 3 ? strtoul(argv[3], NULL, 10) : r.bytes;
    r.fd = open(argv[1], O_RDONLY | O_DIRECT);
    if (r.fd < 0 || fstat(r.fd, &sb) != 0) {
        fail(argv[1], errno);
    }
    r.blocks = (uint64_t)sb.st_size / r.bytes;
    r.buffers = aligned_alloc(4096, DEPTH_MAX * r.bytes);
    rc = io_uring_queue_init(DEPTH_MAX, &r.ring, 0);
    if (rc != 0 || !r.buffers || r.blocks == 0) {
        fail("io_uring", rc ? -rc : ENOMEM);
    }
    for (unsigned depth = 1; depth <= DEPTH_MAX; depth *= 2) {
        measure(&r, depth, seconds);
    }
    io_uring_queue_exit(&r.ring);
    close(r.fd);
    free(r.buffers);
    return 0;
}
