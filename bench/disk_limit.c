/*
 * disk_limit.c - what random reads a disk serves: reads a second and their latency at queue depths
 * of 1 to 256, past the page cache.
 *
 * usage: disk_limit FILE [seconds a depth [bytes a read [first byte [bytes]]]]
 *
 * MODEL       A search that needs r reads cannot run more often than (reads a second) / r, whatever
 *             the processor does. For the two to be comparable the reads must be alike: the same
 *             file and the same part of it (positions are drawn over the whole of it), the same
 *             size, the page cache passed by both, and the same minute, for a shared or virtual
 *             disk changes. bench/disk_search.c does all that for an index. The rate taken is the
 *             best of all depths: what the disk gives to whoever asks best, so a search that keeps
 *             too few reads under way pays for it in the comparison.
 * FILE        should be larger than the disk's own caches; nothing is written.
 */
#include <stdio.h>
#include <stdlib.h>

#include "disk_rate.h"

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: disk_limit FILE [seconds a depth [bytes a read [first byte "
                        "[bytes]]]]\n");
        return 2;
    }
    struct disk_part part = { .path = argv[1],
                              .read = argc > 3 ? strtoul(argv[3], NULL, 10) : 4096,
                              .at = argc > 4 ? strtoull(argv[4], NULL, 10) : 0,
                              .len = argc > 5 ? strtoull(argv[5], NULL, 10) : 0 };
    for (unsigned depth = 1; depth <= DISK_DEPTH_MAX; depth *= 2) {
        struct disk_rate r = disk_rate(&part, depth, argc > 2 ? atof(argv[2]) : 2);
        printf("depth %3u: %8.0f reads/s  %7.1f MB/s  latency %7.1f us  cpu %5.2f us a read\n",
               depth, r.reads, r.reads * (double)part.read / 1e6, r.latency * 1e6, r.cpu * 1e6);
    }
    return 0;
}
