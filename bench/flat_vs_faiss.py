#!/usr/bin/env python3
"""Exact search, one thread: our engine against faiss-cpu, timed alternately in one process.

    flat_vs_faiss.py path/to/libelanus_flat.so [rows]

faiss multiplies matrices for batches of at least distance_compute_blas_threshold queries; both its
default and a threshold of 20 are timed, and the better one is the ratio that counts.

OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE are removed from the environment, so that faiss runs as its
wheel does by default; KEEP_OPENBLAS=1 keeps them, to compare with a tuned one.
Needs numpy and faiss-cpu. Builds nothing. Times are processor time of the one thread, best of
several alternating rounds, so that other programs on the machine disturb little. Results are
compared: the same rows for every query, except where scores tie within rounding.
"""
import ctypes
import os
import sys
import time

if not os.environ.get("KEEP_OPENBLAS"):
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        os.environ.pop(name, None)
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = "1"

import faiss  # noqa: E402
import numpy as np  # noqa: E402

K = 10
NQ = 200


def pointer(array, kind):
    return array.ctypes.data_as(ctypes.POINTER(kind))


class Ours:
    def __init__(self, path):
        self.lib = ctypes.CDLL(path)
        self.lib.flat_shim_level.restype = ctypes.c_char_p
        self.lib.flat_shim_read_bandwidth.restype = ctypes.c_double
        self.lib.flat_shim_fma_per_second.restype = ctypes.c_double

    def search(self, metric, base, queries, scores, rows):
        rc = self.lib.flat_shim_search(
            ctypes.c_int(metric), ctypes.c_uint64(base.shape[1]), pointer(base, ctypes.c_float),
            ctypes.c_uint64(len(base)), None, pointer(queries, ctypes.c_float),
            ctypes.c_uint32(len(queries)), ctypes.c_uint32(K), pointer(scores, ctypes.c_float),
            pointer(rows, ctypes.c_int64))
        assert rc == 0, rc

    def bandwidth(self, buffer):
        return self.lib.flat_shim_read_bandwidth(buffer.ctypes.data_as(ctypes.c_void_p),
                                                 ctypes.c_uint64(buffer.nbytes))


def timed(call):
    start = time.thread_time()
    call()
    return time.thread_time() - start


def same_results(ours, theirs):
    differing = 0
    for a, b, sa, sb in zip(ours[1], theirs[1], ours[0], theirs[0]):
        if list(a) != list(b):
            differing += 1
            assert np.allclose(sa, sb, rtol=1e-4), (a, b, sa, sb)
    return differing


def main():
    engine = Ours(sys.argv[1])
    nrows = int(sys.argv[2]) if len(sys.argv) > 2 else 100000
    faiss.omp_set_num_threads(1)
    print(f"faiss {faiss.__version__}, kernels {engine.lib.flat_shim_level().decode()}, "
          f"{nrows} uniform random rows, k={K}, one thread")
    big = np.ones((256 << 20) // 4, dtype=np.float32)
    fma = max(engine.lib.flat_shim_fma_per_second() for _ in range(3))
    for dim in (128, 384):
        random = np.random.default_rng(1)
        base = random.random((nrows, dim), dtype=np.float32)
        queries = random.random((NQ, dim), dtype=np.float32)
        for metric, name, index in ((0, "L2", faiss.IndexFlatL2(dim)),
                                    (1, "IP", faiss.IndexFlatIP(dim))):
            index.add(base)
            out = np.zeros((NQ, K), np.float32), np.zeros((NQ, K), np.int64)
            one = [1e9, 1e9]
            stream = 0
            for i in range(30):
                q = queries[i:i + 1]
                one[0] = min(one[0], timed(lambda: engine.search(metric, base, q, *out)))
                one[1] = min(one[1], timed(lambda: index.search(q, K)))
                if i % 10 == 0:
                    stream = max(stream, engine.bandwidth(big))
            batch = [1e9, 1e9]
            blas = 1e9
            default = faiss.cvar.distance_compute_blas_threshold
            theirs = None
            for _ in range(5):
                batch[0] = min(batch[0],
                               timed(lambda: engine.search(metric, base, queries, *out)))
                start = time.thread_time()
                theirs = index.search(queries, K)
                batch[1] = min(batch[1], time.thread_time() - start)
                faiss.cvar.distance_compute_blas_threshold = 20
                blas = min(blas, timed(lambda: index.search(queries, K)))
                faiss.cvar.distance_compute_blas_threshold = default
            rate = base.nbytes / one[0]
            macs = nrows * dim * NQ / batch[0]
            print(f"dim {dim} {name:2}  one query: {one[0] * 1e3:7.3f} ms, faiss "
                  f"{one[1] * 1e3:7.3f} ms: {one[1] / one[0]:.2f}x; {rate * 1e-9:.1f} GB/s = "
                  f"{100 * rate / stream:.0f} % of the memory stream ({stream * 1e-9:.1f})")
            print(f"            batch {NQ}: {batch[0] * 1e3:7.1f} ms, faiss "
                  f"{batch[1] * 1e3:7.1f} ms ({batch[1] / batch[0]:.2f}x), with matrix products "
                  f"{blas * 1e3:7.1f} ms: {blas / batch[0]:.2f}x; {macs * 1e-9:.1f} GMAC/s "
                  f"= {100 * macs / fma:.0f} % of the core's peak ({fma * 1e-9:.1f}); "
                  f"{same_results(out, theirs)} queries differ within rounding")


if __name__ == "__main__":
    main()
