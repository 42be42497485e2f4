/*
 * diskann_io.c - reads for one search at a time: io_uring, or pread where it is refused, or copies
 * out of the mapping where there is no file.
 *
 * io_uring takes many reads with one system call and gives them back in the order the disk finishes
 * them. Containers often forbid it, which shows when the ring is made; searches then read one unit
 * after the other, with the same results.
 *
 * FAILURE     A read that ends early is asked for again from where it ended; at the end of the file
 *             it fails. A ring that takes no more reads fails the search and is not used again.
 * THREADS     A diskann_io belongs to one search. Descriptors are shared; reads have offsets.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "index/diskann/diskann_int.h"

/* So many reads are sent even while others that came back are still to be worked off: the disk must
 * not run dry in the meantime. */
#define SEND_BATCH 8

struct one_read {
    uint32_t slot, n, got;
    uint64_t offset;
    uint8_t *buf;
};

struct diskann_io {
    enum diskann_io_kind kind;
    struct io_uring ring;
    int fd;
    const uint8_t *map;
    unsigned depth, flying;
    unsigned unsent; /* in the ring, not given to the kernel */
    struct one_read *reads; /* depth: by place; without a ring, a queue of what is asked for */
    uint32_t *free_place;   /* depth - flying */
};

int diskann__reopen(int fd)
{
    char path[40];
    int own;
    if (fd < 0) {
        return -1;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    own = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    return own >= 0 ? own : fcntl(fd, F_DUPFD_CLOEXEC, 0);
}

/* Where the kernel knows how (5.19), completions wait for the next call instead of interrupting. */
static bool ring_new(struct diskann_io *io)
{
    const unsigned flags = IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
    return io_uring_queue_init(io->depth, &io->ring, flags) == 0 ||
           io_uring_queue_init(io->depth, &io->ring, 0) == 0;
}

int diskann__io_new(int fd, const uint8_t *map, unsigned depth, struct diskann_io **ret_io,
                    struct status *st)
{
    struct diskann_io *io = alloc_try_zero(sizeof *io);
    int rc = 0;
    if (io) {
        io->reads = alloc_try_zero(depth * sizeof *io->reads);
        io->free_place = alloc_try(depth * sizeof *io->free_place);
    }
    if (!io || !io->reads || !io->free_place) {
        FAIL(st, ST_NO_MEMORY, "no memory for %u reads", depth);
    }
    io->fd = fd;
    io->map = map;
    io->depth = depth;
    for (unsigned i = 0; i < depth; i++) {
        io->free_place[i] = i;
    }
    io->kind = fd < 0 ? DISKANN_IO_MAP : ring_new(io) ? DISKANN_IO_URING : DISKANN_IO_PREAD;
    *ret_io = TAKE(io);
out:
    if (io) {
        mem_free(io->reads);
        mem_free(io->free_place);
        mem_free(io);
    }
    return rc;
}

void diskann__io_free(struct diskann_io *io)
{
    if (io) {
        diskann__io_drain(io);
        if (io->kind == DISKANN_IO_URING) {
            io_uring_queue_exit(&io->ring);
        }
        mem_free(io->reads);
        mem_free(io->free_place);
        mem_free(io);
    }
}

enum diskann_io_kind diskann__io_kind(const struct diskann_io *io)
{
    return io->kind;
}

/* Puts the rest of a read into the ring. The ring has a place per read, so there is one. */
static void enqueue(struct diskann_io *io, uint32_t place)
{
    const struct one_read *r = &io->reads[place];
    struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);
    io_uring_prep_read(sqe, io->fd, r->buf + r->got, r->n - r->got, r->offset + r->got);
    io_uring_sqe_set_data64(sqe, place);
    io->unsent++;
}

void diskann__io_send(struct diskann_io *io)
{
    if (io->kind == DISKANN_IO_URING && io->unsent > 0) {
        io_uring_submit(&io->ring); /* what it refuses is sent by the next wait, which reports */
        io->unsent = io_uring_sq_ready(&io->ring);
    }
}

void diskann__io_read(struct diskann_io *io, uint32_t slot, uint64_t offset, void *buf, uint32_t n)
{
    ASSERT(io->flying < io->depth);
    uint32_t place = io->free_place[io->depth - ++io->flying];
    io->reads[place] = (struct one_read){ .slot = slot, .n = n, .offset = offset, .buf = buf };
    if (io->kind == DISKANN_IO_URING) {
        enqueue(io, place);
    }
}

static uint32_t give_back(struct diskann_io *io, uint32_t place)
{
    io->free_place[io->depth - io->flying--] = place;
    io->reads[place].n = 0;
    return io->reads[place].slot;
}

/* What a read came back with: bytes, or minus an errno. True when it is over, *ret_err then says
 * how; false when the rest of it has to be asked for. */
static bool is_over(struct one_read *r, int64_t res, int *ret_err)
{
    if (res == -EINTR || res == -EAGAIN) {
        return false;
    }
    *ret_err = res < 0 ? (int)-res : res == 0 ? ENODATA : 0;
    r->got += res > 0 ? (uint32_t)res : 0;
    return *ret_err != 0 || r->got == r->n;
}

static int wait_ring(struct diskann_io *io, uint32_t *ret_place, int *ret_err, struct status *st)
{
    for (;;) {
        struct io_uring_cqe *cqe;
        if (io->unsent >= SEND_BATCH) {
            diskann__io_send(io);
        }
        if (io_uring_peek_cqe(&io->ring, &cqe) != 0) {
            int rc = io_uring_submit_and_wait(&io->ring, 1);
            io->unsent = io_uring_sq_ready(&io->ring);
            if (rc < 0 && rc != -EINTR && rc != -EAGAIN && rc != -EBUSY) {
                return st_errno(st, -rc, "index file: asking for reads");
            }
            continue;
        }
        uint32_t place = (uint32_t)io_uring_cqe_get_data64(cqe);
        int64_t res = cqe->res;
        io_uring_cqe_seen(&io->ring, cqe);
        if (is_over(&io->reads[place], res, ret_err)) {
            *ret_place = place;
            return 0;
        }
        enqueue(io, place);
    }
}

/* Without a ring: does the first read that was asked for. */
static void do_one(struct diskann_io *io, uint32_t *ret_place, int *ret_err)
{
    uint32_t place = 0;
    while (io->reads[place].n == 0) {
        place++;
    }
    struct one_read *r = &io->reads[place];
    *ret_place = place;
    *ret_err = 0;
    if (io->kind == DISKANN_IO_MAP) {
        memcpy(r->buf, io->map + r->offset, r->n);
        return;
    }
    for (;;) {
        ssize_t got = pread(io->fd, r->buf + r->got, r->n - r->got, (off_t)(r->offset + r->got));
        if (is_over(r, got < 0 ? -(int64_t)errno : got, ret_err)) {
            return;
        }
    }
}

int diskann__io_wait(struct diskann_io *io, uint32_t *ret_slot, struct status *st)
{
    uint32_t place = 0;
    int err = 0, rc = 0;
    ASSERT(io->flying > 0);
    if (io->kind == DISKANN_IO_URING) {
        TRY(wait_ring(io, &place, &err, st));
    } else {
        do_one(io, &place, &err);
    }
    const uint64_t offset = io->reads[place].offset;
    *ret_slot = give_back(io, place);
    if (err) {
        rc = st_errno(st, err, "index file: read at offset %llu", (unsigned long long)offset);
    }
out:
    return rc;
}

/* Buffers may go when this returns: what the kernel has is waited for, even where it refuses to be
 * waited on; what it never took is forgotten together with the ring. */
static void drain_ring(struct diskann_io *io)
{
    diskann__io_send(io);
    while (io->flying > io->unsent) {
        struct io_uring_cqe *cqe;
        if (io_uring_peek_cqe(&io->ring, &cqe) == 0) {
            give_back(io, (uint32_t)io_uring_cqe_get_data64(cqe));
            io_uring_cqe_seen(&io->ring, cqe);
        } else if (io_uring_wait_cqe(&io->ring, &cqe) != 0) {
            usleep(50);
        }
    }
    if (io->unsent > 0) {
        io_uring_queue_exit(&io->ring);
        io->kind = DISKANN_IO_PREAD;
        io->unsent = 0;
    }
}

void diskann__io_drain(struct diskann_io *io)
{
    if (io->kind == DISKANN_IO_URING) {
        drain_ring(io);
    }
    for (uint32_t i = 0; i < io->depth && io->flying > 0; i++) {
        if (io->reads[i].n) {
            give_back(io, i);
        }
    }
}
