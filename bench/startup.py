#!/usr/bin/env python3
"""An empty server: time from exec to the first answered call, resident memory, processor use when idle.

    bench/startup.py [--server build/release/elanus] [--runs 5] [--idle SECONDS]

Needs pymilvus (its generated messages) and grpcio.
"""
import argparse, os, pathlib, shutil, sys, tempfile, time
import grpc
from pymilvus.grpc_gen import milvus_pb2 as pb, milvus_pb2_grpc

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/lib"))
import server as lib
import socket, subprocess

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--server", default=lib.binary())
ap.add_argument("--runs", type=int, default=5)
ap.add_argument("--idle", type=float, default=20)
A = ap.parse_args()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_seconds(pid):
    f = open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
    return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")


times = []
for run in range(A.runs):
    data, port = tempfile.mkdtemp(prefix="startup."), free_port()
    began = time.monotonic()
    p = subprocess.Popen([A.server, "run", "standalone", "--data", data, "--address", "127.0.0.1", "--port", str(port),
                          "--management-port", "0"], stderr=subprocess.DEVNULL)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            if p.poll() is not None:
                sys.exit(f"the server ended with {p.returncode}")
            time.sleep(0.0005)
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        milvus_pb2_grpc.MilvusServiceStub(channel).GetVersion(pb.GetVersionRequest())
        times.append((time.monotonic() - began) * 1000)
    if run == A.runs - 1:
        time.sleep(1)
        kb = {l.split(":")[0]: int(l.split()[1]) for l in open(f"/proc/{p.pid}/status") if l.startswith(("VmRSS", "RssAnon"))}
        before = cpu_seconds(p.pid)
        time.sleep(A.idle)
        idle = (cpu_seconds(p.pid) - before) / A.idle * 100
    p.terminate()
    p.wait()
    shutil.rmtree(data)
times.sort()
print(f"first answer: median {times[len(times) // 2]:.0f} ms, {times[0]:.0f} to {times[-1]:.0f} of {A.runs} runs")
print(f"resident: {kb['VmRSS'] / 1024:.1f} MB, of it {kb['RssAnon'] / 1024:.1f} MB anonymous")
print(f"idle: {idle:.2f} % of a processor over {A.idle:.0f} s")
