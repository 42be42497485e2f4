"""diskannpy's disk index on the data disk_search.c gets: recall, reads and speed.

usage: disk_peer.py FOLDER BASE.npy QUERY.npy TRUTH.ivecs [-n ROWS] [-t THREADS] [-q QUERIES] [-S SECONDS]
                    [--share .2] [--cache NODES] [--beam W,W...] LIST...

FOLDER is built when absent: max_degree 56, search_list_size 100 and product codes of `share` of the
rows' bytes (its own rule: the budget divided by the rows, one byte a code), then `cache` nodes in memory on top. Reads
are what the kernel counts (/proc/self/io, of 4,096 bytes each; it reads past the page cache).
"""
import argparse
import os
import time

import numpy as np


def reads():
    with open("/proc/self/io") as f:
        return int(dict(line.split(": ") for line in f)["read_bytes"]) / 4096


def main():
    p = argparse.ArgumentParser()
    for name in ("folder", "base", "query", "truth"):
        p.add_argument(name)
    p.add_argument("lists", type=int, nargs="+")
    p.add_argument("-n", type=int)
    p.add_argument("-t", type=int, default=1)
    p.add_argument("-q", type=int, default=1000)
    p.add_argument("-k", type=int, default=10)
    p.add_argument("-S", type=float, default=2)
    p.add_argument("--share", type=float, default=0.2)
    p.add_argument("--cache", type=int, default=0)
    p.add_argument("--beam", default="2")
    a = p.parse_args()
    import diskannpy
    if not os.path.exists(f"{a.folder}/ann_disk.index"):
        base = np.ascontiguousarray(np.load(a.base, mmap_mode="r")[:a.n], np.float32)
        os.makedirs(a.folder, exist_ok=True)
        start = time.time()
        diskannpy.build_disk_index(base, "l2", a.folder, complexity=100, graph_degree=56,
                                   search_memory_maximum=base.nbytes * a.share / 2**30,
                                   build_memory_maximum=4 + base.nbytes * 4 / 2**30, num_threads=2)
        print(f"built by 2 threads in {time.time() - start:.1f} s")
    query = np.ascontiguousarray(np.load(a.query)[:a.q], np.float32)
    truth = np.fromfile(a.truth, np.int32)
    truth = truth.reshape(-1, truth[0] + 1)[:len(query), 1:a.k + 1]
    # With one context it waits for itself while loading.
    index = diskannpy.StaticDiskIndex(a.folder, max(a.t, 2), a.cache, 1 if a.cache else 0)
    codes = os.path.getsize(f"{a.folder}/ann_pq_compressed.bin")
    print(f"diskannpy: codes {codes / 1e6:.1f} MB, {a.cache} nodes in memory")
    for size in a.lists:
        for beam in map(int, a.beam.split(",")):
            index.batch_search(query, a.k, size, beam, a.t)
            n, found, start, cpu, io = 0, 0, time.time(), time.process_time(), reads()
            while time.time() - start < a.S:
                got = index.batch_search(query, a.k, size, beam, a.t).identifiers
                n += len(query)
            took = time.time() - start
            cpu, io = time.process_time() - cpu, reads() - io
            found = sum(len(np.intersect1d(g, t)) for g, t in zip(got, truth)) / truth.size
            print(f"list {size:4} beam {beam} recall {found:.4f}  {n / took:7.0f}/s  cpu "
                  f"{cpu / n * 1e6:4.0f} us  reads {io / n:6.2f}  {io / took:6.0f} reads/s",
                  flush=True)


main()
