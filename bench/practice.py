#!/usr/bin/env python3
"""FLAT, IVF_FLAT and HNSW side by side, through any server that speaks the Milvus API.

    bench/practice.py SET [--uri http://host:19530] [--rows N] [--out bench/results]

SET is a folder of npy files or `random` (ann_data.py). Without --uri our own server is started,
anew for each index, on a folder of its own; then memory and disk are known too. Needs pymilvus and
numpy, and matplotlib for the picture.

The table has for each index: mean and 99th percentile of the latency one caller sees, queries a
second of --clients callers at once (processes of their own), recall@10, seconds from the order to
build until it is built, seconds to load, memory of the server (resident; of it, not of files) after
the searches, bytes of all its files. The curves are recall@10 against mean latency over nprobe and ef. Times
include client and network, as a caller sees them. All is printed and written as
practice-SET-DATE.md, .tsv and .png.
"""
import argparse
import datetime
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from ann_data import Set

K = 10
NAME = "practice"
INDEXES = {  # build parameters, search parameters of the table, name and values of the curve's
    "FLAT": ({}, {}, None, []),
    "IVF_FLAT": ({"nlist": 1024}, {"nprobe": 32}, "nprobe", [1, 2, 4, 8, 16, 32, 64, 128, 256]),
    "HNSW": ({"M": 16, "efConstruction": 200}, {"ef": 64}, "ef",
             [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384]),
}


def parse_args():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("set", metavar="SET")
    ap.add_argument("--uri", help="a running server; default: start ours")
    ap.add_argument("--server", default="build/release/elanus", help="ours")
    ap.add_argument("--set-option", action="append", default=[], metavar="K=V",
                    help="configuration of ours")
    ap.add_argument("--metric", choices=["l2", "ip", "cosine"])
    ap.add_argument("--rows", type=int, help="only the first so many")
    ap.add_argument("--nq", type=int, default=500)
    ap.add_argument("--clients", type=int, default=4)
    ap.add_argument("--seconds", type=float, default=4, help="of each throughput run")
    ap.add_argument("--index", nargs="+", default=list(INDEXES), choices=INDEXES)
    ap.add_argument("--out", default="bench/results")
    return ap.parse_args()


class Server:
    """Ours, on a folder of its own, or the one at --uri."""

    def __init__(self, args):
        self.process, self.uri = None, args.uri
        if self.uri:
            return
        self.data = tempfile.mkdtemp(prefix="practice.")
        ports = []
        for _ in range(2):
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                ports.append(s.getsockname()[1])
        command = [args.server, "run", "standalone", "--data", self.data, "--address", "127.0.0.1",
                   "--port", str(ports[0]), "--management-port", str(ports[1])]
        for option in args.set_option:
            command += ["--set", option]
        self.log = open(self.data + ".log", "wb")
        self.process = subprocess.Popen(command, stderr=self.log)
        self.uri = f"http://127.0.0.1:{ports[0]}"
        while True:
            try:
                socket.create_connection(("127.0.0.1", ports[0]), timeout=1).close()
                return
            except OSError:
                if self.process.poll() is not None:
                    sys.exit(f"the server ended; log: {self.data}.log")
                time.sleep(0.01)

    def memory(self):
        """(resident, of it not of files) in bytes; None when it is not ours."""
        if not self.process:
            return None
        kb = {}
        for line in open(f"/proc/{self.process.pid}/status"):
            name, _, rest = line.partition(":")
            if name in ("VmRSS", "RssAnon"):
                kb[name] = int(rest.split()[0]) * 1024
        return kb["VmRSS"], kb["RssAnon"]

    def disk(self):
        if not self.process:
            return None
        return sum(f.stat().st_size for f in Path(self.data).rglob("*") if f.is_file())

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)
            self.log.close()
            shutil.rmtree(self.data)
            os.unlink(self.data + ".log")


def connect(uri):
    from pymilvus import MilvusClient
    return MilvusClient(uri)


def fill(client, data):
    from pymilvus import DataType, MilvusClient
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("v", DataType.FLOAT_VECTOR, dim=data.dim)
    if client.has_collection(NAME):
        client.drop_collection(NAME)
    client.create_collection(NAME, schema=schema, consistency_level="Bounded")
    batch = max(1, min(10_000, (8 << 20) // (data.dim * 4)))
    start = time.perf_counter()
    for at in range(0, data.n, batch):
        client.insert(NAME, [{"id": at + i, "v": v}
                             for i, v in enumerate(data.base[at:at + batch])])
    client.flush(NAME)
    return time.perf_counter() - start


def build(client, data, kind):
    """Seconds to build and to load."""
    index = client.prepare_index_params()
    index.add_index("v", index_type=kind, metric_type=data.metric.upper(),
                    params=INDEXES[kind][0])
    start = time.perf_counter()
    client.create_index(NAME, index)
    while client.describe_index(NAME, "v").get("state", "Finished") != "Finished":
        time.sleep(0.05)
    built = time.perf_counter()
    client.load_collection(NAME)
    return built - start, time.perf_counter() - built


def asker(client, data, params):
    search = {"metric_type": data.metric.upper(), "params": params}
    return lambda q: client.search(NAME, data=[q], limit=K, anns_field="v",
                                   search_params=search)[0]


def latencies(client, data, params):
    """Seconds of each query and recall, one caller."""
    ask = asker(client, data, params)
    for q in data.queries[:20]:
        ask(q)
    times, ids = [], np.full((len(data.queries), K), -1, np.int64)
    for i, q in enumerate(data.queries):
        start = time.perf_counter()
        hits = ask(q)
        times.append(time.perf_counter() - start)
        found = [h["id"] for h in hits]
        ids[i, :len(found)] = found
    return np.array(times), data.recall(ids, K)


def client_process(uri, data_args, params, seconds, ready, go, count):
    data = few_queries(*data_args)
    ask = asker(connect(uri), data, params)
    ask(data.queries[0])
    with ready.get_lock():
        ready.value += 1
    go.wait()
    end, done = time.perf_counter() + seconds, 0
    while time.perf_counter() < end:
        ask(data.queries[done % len(data.queries)])
        done += 1
    with count.get_lock():
        count.value += done


class Queries:
    pass


def few_queries(queries, metric):
    data = Queries()
    data.queries, data.metric = queries, metric
    return data


def throughput(uri, data, params, clients, seconds):
    """Queries a second of several callers in processes of their own."""
    spawn = multiprocessing.get_context("spawn")
    ready, go, count = spawn.Value("i", 0), spawn.Event(), spawn.Value("l", 0)
    started = [spawn.Process(target=client_process,
                             args=(uri, (data.queries, data.metric), params, seconds, ready, go,
                                   count)) for _ in range(clients)]
    for p in started:
        p.start()
    while ready.value < clients:
        if any(p.exitcode for p in started):
            sys.exit("a client failed")
        time.sleep(0.01)
    go.set()
    for p in started:
        p.join()
    return count.value / seconds


def measure(args, data, kind):
    """The table's row and the curve's points of one index."""
    params, curve_name, values = INDEXES[kind][1:]
    server = Server(args)
    try:
        client = connect(server.uri)
        inserted = fill(client, data)
        built, loaded = build(client, data, kind)
        times, recall = latencies(client, data, params)
        qps = throughput(server.uri, data, params, args.clients, args.seconds)
        memory, disk = server.memory(), server.disk()
        row = {"index": kind, "params": ", ".join(f"{k} {v}" for k, v in
                                                  {**INDEXES[kind][0], **params}.items()) or "-",
               "mean ms": times.mean() * 1e3, "p99 ms": np.percentile(times, 99) * 1e3, "QPS": qps,
               "recall@10": recall, "build s": built, "load s": loaded, "insert s": inserted,
               "memory MB": memory[0] / 1e6 if memory else None,
               "anonymous MB": memory[1] / 1e6 if memory else None,
               "disk MB": disk / 1e6 if disk else None}
        points = []
        for value in values:
            times, recall = latencies(client, data, {curve_name: value})
            points.append({"index": kind, "parameter": f"{curve_name} {value}",
                           "recall@10": recall, "mean ms": times.mean() * 1e3,
                           "p99 ms": np.percentile(times, 99) * 1e3})
            if recall > 0.9995:
                break
        client.drop_collection(NAME)
    finally:
        server.stop()
    return row, points


def text(key, value):
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if key in ("QPS", "memory MB", "anonymous MB", "disk MB"):
        return f"{value:,.0f}"
    return f"{value:.4f}" if key.startswith("recall") else f"{value:.2f}"


def table(rows):
    keys = list(rows[0])
    lines = ["| " + " | ".join(keys) + " |", "|" + "---|" * len(keys)]
    lines += ["| " + " | ".join(text(k, r[k]) for k in keys) + " |" for r in rows]
    return "\n".join(lines)


def draw(points, title, path):
    try:
        import matplotlib
    except ImportError:
        print("no matplotlib: no picture")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for kind in dict.fromkeys(p["index"] for p in points):
        mine = [p for p in points if p["index"] == kind]
        axes.plot([p["recall@10"] for p in mine], [p["mean ms"] for p in mine], "o-", label=kind)
        for p in mine:
            axes.annotate(p["parameter"].split()[1], (p["recall@10"], p["mean ms"]), fontsize=7,
                          xytext=(3, 3), textcoords="offset points")
    axes.set_xlabel("recall@10")
    axes.set_ylabel("mean latency, ms")
    axes.set_title(title)
    axes.grid(True, alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    args = parse_args()
    data = Set(args.set, args.metric, args.nq)
    if args.rows and args.rows < data.n:
        data.base, data.n, data.truth = data.base[:args.rows], args.rows, None
    data.ensure_truth()
    title = f"{data.name}, {data.n:,} x {data.dim}, {data.metric.upper()}, top {K}"
    print(f"{title}; {'server at ' + args.uri if args.uri else 'our server'}", flush=True)
    rows, points = [], []
    for kind in args.index:
        row, more = measure(args, data, kind)
        rows.append(row)
        points += more
        print("  " + ", ".join(f"{k} {text(k, v)}" for k, v in row.items()), flush=True)
    out = Path(args.out) / f"practice-{data.name}-{datetime.date.today().isoformat()}"
    out.parent.mkdir(parents=True, exist_ok=True)
    model = next((x.split(":", 1)[1].strip() for x in open("/proc/cpuinfo")
                  if x.startswith("model name")), "?")
    report = (f"{title}; {len(data.queries)} queries, {args.clients} clients for QPS; {model}, "
              f"{os.cpu_count()} processors; load {os.getloadavg()[0]:.1f}; "
              f"{datetime.date.today().isoformat()}\n\n{table(rows)}\n")
    if points:
        report += f"\nRecall and latency of one caller:\n\n{table(points)}\n"
        draw(points, title, str(out) + ".png")
        with open(str(out) + ".tsv", "w") as f:
            f.write("\t".join(points[0]) + "\n")
            f.writelines("\t".join(text(k, v) for k, v in p.items()) + "\n" for p in points)
    Path(str(out) + ".md").write_text(report)
    print(f"\n{report}\n{out}.md")


if __name__ == "__main__":
    main()
