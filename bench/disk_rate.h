/*
 * disk_rate.h - random reads a disk serves from a part of a file, past the page cache: what
 * disk_limit prints and what disk_search holds searches against.
 */
#pragma once
#include <stddef.h>
#include <stdint.h>

#define DISK_DEPTH_MAX 256u

struct disk_part {
    const char *path;
    uint64_t at, len; /* bytes; len 0: up to the end. at is a multiple of the block */
    size_t read;      /* bytes of a read, a multiple of the block; positions are multiples of it */
};
struct disk_rate {
    double reads;   /* a second */
    double latency; /* seconds */
    double cpu;     /* seconds of processor time a read */
};

/* Keeps depth reads under way for so many seconds, at positions drawn over the part. Ends the
 * program when the file cannot be read. */
struct disk_rate disk_rate(const struct disk_part *part, unsigned depth, double seconds);
/* The best of depths 16 to 256, so many seconds each. */
struct disk_rate disk_rate_best(const struct disk_part *part, double seconds, unsigned *ret_depth);
double disk_now(void);
/* Processor seconds of this process. */
double disk_cpu(void);
