#!/usr/bin/env python3
"""A million rows through the front door: insert, flush, restart, the same answers; prints the figures.

    bench/million.py [--rows 1000000] [--dim 128] [--server build/release/elanus] [--data DIR] [--set K=V]

Needs pymilvus and numpy. Starts and stops the server itself; DIR (default: a temporary folder) is
emptied first. Exit status 1 when any answer differs after the restart.
"""
import argparse, json, os, shutil, signal, socket, subprocess, sys, tempfile, time
import numpy as np
from pymilvus import DataType, MilvusClient

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--rows", type=int, default=1_000_000)
ap.add_argument("--dim", type=int, default=128)
ap.add_argument("--batch", type=int, default=10_000)
ap.add_argument("--server", default="build/release/elanus")
ap.add_argument("--data")
ap.add_argument("--set", action="append", default=[])
A = ap.parse_args()
data = A.data or tempfile.mkdtemp(prefix="million.")
shutil.rmtree(data, ignore_errors=True)


def port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


PORT, MPORT = port(), port()


def start():
    cmd = [A.server, "run", "standalone", "--data", data, "--address", "127.0.0.1", "--port", str(PORT), "--management-port", str(MPORT)]
    for s in A.set:
        cmd += ["--set", s]
    t = time.time()
    p = subprocess.Popen(cmd, stderr=open(data + ".log", "ab"))
    while True:
        try:
            socket.create_connection(("127.0.0.1", PORT), timeout=1).close()
            return p, time.time() - t
        except OSError:
            if p.poll() is not None:
                sys.exit(f"the server ended with {p.returncode}; log: {data}.log")
            time.sleep(0.001)


def memory(p):
    kb = {l.split(":")[0]: int(l.split()[1]) for l in open(f"/proc/{p.pid}/status") if l.startswith(("VmRSS", "RssAnon", "RssFile"))}
    return ", ".join(f"{k} {v / 1024:.0f} MB" for k, v in kb.items())


def size(path):
    return sum(os.path.getsize(os.path.join(d, f)) for d, _, fs in os.walk(path) for f in fs)


p, t = start()
c = MilvusClient(f"http://127.0.0.1:{PORT}")
schema = c.create_schema()
schema.add_field("id", DataType.INT64, is_primary=True)
schema.add_field("v", DataType.FLOAT_VECTOR, dim=A.dim)
index = c.prepare_index_params()
index.add_index("v", index_type="FLAT", metric_type="L2")
c.create_collection("million", schema=schema, index_params=index)
rng = np.random.default_rng(7)
client = server = 0.0
for at in range(0, A.rows, A.batch):
    t = time.time()
    n = min(A.batch, A.rows - at)
    v = rng.random((n, A.dim), dtype=np.float32)
    rows = [{"id": at + i, "v": v[i]} for i in range(n)]
    client += time.time() - t
    t = time.time()
    c.insert("million", rows)
    server += time.time() - t
    if (at // A.batch) % 20 == 19:
        print(f"  {at + n:>9} rows, {(at + n) / server:,.0f} rows/s", flush=True)
print(f"insert: {A.rows / server:,.0f} rows/s ({A.rows * A.dim * 4 / server / 1e6:.0f} MB/s; one client, batches of {A.batch}), {memory(p)}")
t = time.time()
c.flush("million")
print(f"flush: {time.time() - t:.2f} s, {memory(p)}")
raw = A.rows * A.dim * 4
print(f"disk: objects {size(data + '/objects') / raw:.3f} x raw, log {size(data + '/log') / 1e6:.0f} MB, raw is {raw / 1e6:.0f} MB")
queries = rng.random((20, A.dim), dtype=np.float32)


def answers():
    s = c.search("million", data=list(queries), limit=100, output_fields=["id"])
    hits = [[(h["id"], h["distance"]) for h in q] for q in s]
    some = c.query("million", filter="id % 99991 == 7", output_fields=["*"])
    count = c.query("million", filter="", output_fields=["count(*)"])[0]["count(*)"]
    return hits, [(r["id"], bytes(np.array(r["v"], dtype=np.float32))) for r in some], count


t = time.time()
before = answers()
print(f"answers: {time.time() - t:.2f} s for 20 searches in one call, a filtered query and a count; {memory(p)}")
p.send_signal(signal.SIGTERM)
p.wait()
p, t = start()
print(f"restart: {t * 1000:.0f} ms until the port answers, {memory(p)}")
c = MilvusClient(f"http://127.0.0.1:{PORT}")
t2 = time.time()
after = answers()
print(f"first answers after {time.time() - t2:.2f} s; {memory(p)}")
same = before == after and before[2] == A.rows
print("answers before and after are " + ("identical" if same else "DIFFERENT"))
p.send_signal(signal.SIGKILL)
p.wait()
if not A.data:
    shutil.rmtree(data)
sys.exit(0 if same else 1)
