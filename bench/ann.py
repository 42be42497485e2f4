#!/usr/bin/env python3
"""Recall against speed: our index library and every peer that is installed, on one set of vectors.

    python3 -m venv build/venv-bench && build/venv-bench/bin/pip install -r bench/requirements.txt
    tools/build.sh release
    build/venv-bench/bin/python bench/ann.py SET [--libs elanus,hnswlib] [--out bench/results]

SET is a folder of npy files (see ann_data.py) or the word `random`: 100,000 uniform random vectors
of 128 dimensions. What is measured:

build     Each index once with two threads, in a process of its own: seconds, processor seconds,
          bytes on disk. Indexes are kept in --cache and not built again.
searches  For k 10 and 100, every index opened in a process of its own: one query a call, one
          thread, every point of the library's grid; the growth of resident memory. Libraries take
          turns: a whole pass over all of them, then the next. The first pass asks for every point,
          the others for those near the best of a family, and for these also from two processes at
          once, and in one call with all queries where a library has one. Best of all passes.

The file written has one line per point: recall (ties count, see ann_data.py), queries a second by
wall clock and by processor time, latencies. At its end, queries a second at recall .90, .95, .98
and .99, interpolated along each family's best points (log of queries a second, linear in recall).

Other work on the machine disturbs. --lock FILE holds a lock on FILE while it measures, so
that several of these do not disturb each other; with --clock cpu, speeds count by the processor
time of the searching thread, which suffers less (and has no meaning for two threads at once).
OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE are removed from the environment, so that libraries multiply
as their packages mean them to.
"""
import argparse
import contextlib
import datetime
import fcntl
import json
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
    os.environ.pop(name, None)

HERE = Path(__file__).resolve().parent
RECALLS = (0.90, 0.95, 0.98, 0.99)
KS = (10, 100)
COLUMNS = ("family", "build", "build_s", "build_cpu_s", "index_bytes", "resident_bytes", "k",
           "mode", "point", "recall", "qps", "qps_cpu", "mean_us", "p50_us", "p99_us", "nq",
           "passes")
BUILD_THREADS = 2
POINT_SECONDS = 3.0   # of one pass over a point, at most
ROUNDS = 5            # of a point in one pass, the best counts: the first finds caches cold
ROUNDS_SECONDS = 0.5  # after which it is not asked again
BUILD_TIMEOUT = 7200
HELD_SECONDS = 40
NEAR_BEST = 0.80      # points slower than this share of their family's curve are not timed again,
LEAST_RECALL = 0.85   # nor are those below this recall
ENOUGH = 0.998        # recall from which on more effort is not tried
TOO_SLOW = 100        # queries a second below which it is not, either


def parse_args():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("set", metavar="SET")
    ap.add_argument("--metric", choices=["l2", "ip", "cosine"],
                    help="default: what SET is meant for")
    ap.add_argument("--libs", default="", help="comma-separated; default: all that are installed")
    ap.add_argument("--only", default="", help="builds whose family and name contain this text")
    ap.add_argument("--k", default=",".join(map(str, KS)))
    ap.add_argument("--nq", type=int, default=1000)
    ap.add_argument("--passes", type=int, default=3)
    ap.add_argument("--modes", default="single,two,batch")
    ap.add_argument("--cache", default="build/ann", help="where indexes are kept; build/ann")
    ap.add_argument("--rebuild", action="store_true", help="build again what is there already")
    ap.add_argument("--clock", choices=["wall", "cpu"], default="wall",
                    help="what speeds count by; cpu: where the machine has other work to do")
    ap.add_argument("--wide", action="store_true", help="more builds of each library; takes hours")
    ap.add_argument("--build-only", action="store_true")
    ap.add_argument("--search-only", action="store_true", help="what is not built stays out")
    ap.add_argument("--lock", help="file to lock while measuring")
    ap.add_argument("--out", default="bench/results")
    ap.add_argument("--worker", help=argparse.SUPPRESS)
    return ap.parse_args()


# ---- Worker: one build or one pass over one index, in a process of its own ----

class Turn:
    """Holds the lock while it measures, and lets others have it every HELD_SECONDS."""

    def __init__(self, path):
        self.file = open(path, "a") if path else None
        self.since = None

    def take(self):
        if not self.file:
            return
        if self.since and time.time() - self.since > HELD_SECONDS:
            fcntl.flock(self.file, fcntl.LOCK_UN)
            self.since = None
            time.sleep(0.2)
        if not self.since:
            fcntl.flock(self.file, fcntl.LOCK_EX)
            self.since = time.time()


def numpy():
    """Not before a worker's threads are limited."""
    import numpy as np
    return np


def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


def open_set(args):
    from ann_data import Set
    data = Set(args.set, args.metric, args.nq)
    return data


def work_build(args, job):
    from ann_libs import LIBS
    data = open_set(args)
    lib = LIBS[job["lib"]](data)
    path = Path(job["path"])
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    used = resource.getrusage(resource.RUSAGE_SELF)
    start, cpu = time.perf_counter(), used.ru_utime + used.ru_stime
    save = lib.build(job["settings"], BUILD_THREADS, path)
    used = resource.getrusage(resource.RUSAGE_SELF)
    took, cpu = time.perf_counter() - start, used.ru_utime + used.ru_stime - cpu
    if save:
        save()
    size = sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    print(json.dumps({"build_s": took, "build_cpu_s": cpu, "index_bytes": size}), flush=True)


def timed_single(one, nq):
    """One query a call. The answers, and seconds of every call, of all by clock and processor."""
    found, at = [None] * nq, [0.0] * (nq + 1)
    clock = time.perf_counter
    cpu = time.thread_time()
    at[0] = clock()
    for i in range(nq):
        found[i] = one(i)
        at[i + 1] = clock()
    return found, at, time.thread_time() - cpu


def seconds_each(one, nq):
    """Of a query, warm."""
    few = min(nq, 20)
    for _ in range(2):
        start = time.perf_counter()
        for j in range(few):
            one(j)
        each = (time.perf_counter() - start) / few
        if each * few > POINT_SECONDS:
            break
    return each


def fitting(one, nq):
    """How many queries fit the time of a point; warms up."""
    return max(min(nq, int(POINT_SECONDS / seconds_each(one, nq))), min(nq, 50))


def ids_of(found, k):
    np = numpy()
    ids = np.full((len(found), k), -1, np.int64)
    for i, f in enumerate(found):
        f = np.asarray(f).astype(np.int64)[:k]
        ids[i, :len(f)] = f
    return ids


def promising(data, one, k):
    """Whether a few queries find enough for the point to be on a curve that is asked for."""
    few = min(len(data.queries), 100)
    return data.recall(ids_of([one(i) for i in range(few)], k), k) >= LEAST_RECALL - 0.1


def measure_single(data, one, k):
    np = numpy()
    nq = fitting(one, len(data.queries))
    runs = []
    while not runs or (len(runs) < ROUNDS and sum(r[1][nq] - r[1][0] for r in runs) < ROUNDS_SECONDS):
        runs.append(timed_single(one, nq))
    found, at, cpu = min(runs, key=lambda r: r[1][nq] - r[1][0])
    took = np.diff(at) * 1e6
    return {"recall": data.recall(ids_of(found, k), k), "nq": nq,
            "qps": nq / (at[nq] - at[0]), "qps_cpu": nq / cpu,
            "mean_us": float(took.mean()), "p50_us": float(np.percentile(took, 50)),
            "p99_us": float(np.percentile(took, 99))}


def measure_two(one, nq):
    """Two processes ask all queries at once; queries a second of both."""
    nq = fitting(one, nq)
    start_at = time.perf_counter() + 0.05
    pipes = []
    for which in range(2):
        r, w = os.pipe()
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)
            while time.perf_counter() < start_at:
                pass
            _, at, cpu = timed_single(lambda i: one((i + which * nq // 2) % nq), nq)
            os.write(w, json.dumps([at[0], at[nq], cpu]).encode())
            os._exit(0)
        os.close(w)
        pipes.append((pid, r))
    parts = []
    for pid, r in pipes:
        text = os.read(r, 1000)
        os.close(r)
        if os.waitpid(pid, 0)[1] != 0 or not text:
            return None
        parts.append(json.loads(text))
    took = max(p[1] for p in parts) - min(p[0] for p in parts)
    return {"qps": 2 * nq / took, "qps_cpu": sum(nq / p[2] for p in parts), "nq": nq}


def measure_batch(data, run, k):
    start, cpu = time.perf_counter(), time.process_time()
    ids = run()
    took, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"recall": data.recall(ids, k), "qps": len(ids) / took, "qps_cpu": len(ids) / cpu,
            "nq": len(ids)}


def effort_apart(point):
    """All but the first parameter, which says the effort: points that share it are one row."""
    if isinstance(point, str):
        return tuple(point.split(",")[1:])
    if isinstance(point, dict):
        return tuple(point.items())[1:]
    return tuple(point[1:]) if isinstance(point, (list, tuple)) else ()


def work_search(args, job):
    """Measures job["points"], or the whole grid; a line of JSON for each."""
    from ann_libs import LIBS
    data = open_set(args)
    lib = LIBS[job["lib"]](data)
    with numpy().load(job["truth"]) as truth:
        data.truth, data.nearest = truth["scores"], truth["rows"]
    before = resident()
    lib.load(job["settings"], Path(job["path"]))
    before -= lib.rows_needed()
    ended, turn = set(), Turn(args.lock)
    for k, point in job["points"] or [[k, p] for k in job["ks"]
                                      for p in lib.points(job["settings"], k)]:
        row = (k, effort_apart(point))
        if row in ended:
            continue
        turn.take()
        one = lib.set(point, k)
        if not job["points"] and not promising(data, one, k):
            continue
        for mode in job["modes"]:
            turn.take()
            if mode == "single":
                got = measure_single(data, one, k)
                if not job["points"] and (got["recall"] >= ENOUGH or
                                          got[speed_of(args.clock)] < TOO_SLOW):
                    ended.add(row)
            elif mode == "two":
                got = measure_two(one, len(data.queries))
            else:
                run = lib.batch(k)
                got = measure_batch(data, run, k) if run else None
            if got:
                got.update(k=k, mode=mode, point=point, resident_bytes=resident() - before)
                print(json.dumps(got), flush=True)


# ---- Coordinator ----

def run_worker(args, job, timeout):
    """Yields the worker's lines; says what went wrong."""
    env = dict(os.environ, ANN_JOB=json.dumps(job))
    threads = str(BUILD_THREADS if job["what"] == "build" else 1)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        env[name] = threads
    log = Path(job["log"])
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "w") as err:
        p = subprocess.Popen([sys.executable, __file__, *sys.argv[1:], "--worker", job["what"]],
                             env=env, stdout=subprocess.PIPE, stderr=err, text=True)
        try:
            out, _ = p.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            p.kill()
            out, _ = p.communicate()
            err.write(f"\ntook more than {timeout} s\n")
    got = []
    for line in out.splitlines():
        with contextlib.suppress(ValueError):
            got.append(json.loads(line))
    got = [g for g in got if isinstance(g, dict)]
    if p.returncode != 0:
        tail = [x for x in log.read_text().splitlines() if x.strip()][-1:]
        print(f"    {job['family']} {job['name']}: {job['what']} failed: {' '.join(tail)[:200]}",
              flush=True)
    return got


def installed(wanted):
    from ann_libs import LIBS
    libs = {}
    for name, cls in LIBS.items():
        if wanted and name not in wanted:
            continue
        try:
            libs[name] = (cls, cls.version())
        except Exception as e:  # whatever a package or a loader says
            print(f"without {name}: {str(e).splitlines()[0] if str(e) else type(e).__name__}")
    return libs


def jobs_of(args, data, libs, cache):
    from ann_libs import LIBS
    jobs = []
    for name in libs:
        lib = object.__new__(LIBS[name])
        lib.data, lib.l2 = data, data.metric == "l2"
        for family, build, settings in lib.builds(args.wide):
            if args.only and args.only not in f"{family} {build}":
                continue
            folder = "".join(c if c.isalnum() else "_" for c in f"{family} {build}")
            path = cache / folder
            jobs.append({"lib": name, "family": family, "name": build, "settings": settings,
                         "path": str(path), "log": str(cache / f"{folder}.log"),
                         "meta": str(cache / f"{folder}.json"), "truth": str(cache / "truth.npz")})
    return jobs


def build_all(args, jobs):
    done = []
    for job in jobs:
        meta = Path(job["meta"])
        if args.search_only and not meta.exists():
            continue
        if args.rebuild or not meta.exists():
            print(f"building {job['family']} {job['name']}", flush=True)
            got = run_worker(args, dict(job, what="build"), BUILD_TIMEOUT)
            if not got:
                continue
            meta.write_text(json.dumps(got[0]))
        job.update(json.loads(meta.read_text()))
        print(f"  {job['family']:<22} {job['name']:<34} {job['build_s']:8.1f} s, "
              f"{job['build_cpu_s']:8.1f} s of processor, {job['index_bytes'] / 1e6:8.1f} MB")
        done.append(job)
    return done


def better(rows, job, got, speed):
    """Keeps the fastest measurement of each point."""
    key = (job["family"], job["name"], got["k"], got["mode"], json.dumps(got["point"]))
    old = rows.get(key)
    row = dict(got, **{x: job[x] for x in ("family", "build_s", "build_cpu_s", "index_bytes")})
    row["build"], row["passes"] = job["name"], 1
    if old:
        row["passes"] = old["passes"] + 1
        row["resident_bytes"] = max(row["resident_bytes"], old["resident_bytes"])
        for x in ("qps", "qps_cpu"):
            row[x] = max(row[x], old[x])
        if old[speed] == row[speed]:
            for x in ("mean_us", "p50_us", "p99_us"):
                if x in old:
                    row[x] = old[x]
    rows[key] = row


def give_recall(rows):
    """Two threads find what one finds."""
    for (family, build, k, mode, point), row in rows.items():
        if mode == "two":
            one = rows.get((family, build, k, "single", point))
            row["recall"] = one["recall"] if one else 0.0


def frontier(points):
    """Of (recall, speed) pairs those that no other beats in both, by rising recall."""
    best, out = 0.0, []
    for recall, speed in sorted(points, key=lambda p: (-p[0], -p[1])):
        if speed > best:
            out.append((recall, speed))
            best = speed
    return out[::-1]


def at_recall(curve, recall):
    """Speed at a recall: None beyond the curve's end; its fastest point's before its start."""
    import math
    if not curve or curve[-1][0] < recall:
        return None
    if curve[0][0] >= recall:
        return curve[0][1]
    for (r0, s0), (r1, s1) in zip(curve, curve[1:]):
        if r1 >= recall:
            share = (recall - r0) / (r1 - r0)
            return math.exp(math.log(s0) + share * (math.log(s1) - math.log(s0)))
    return None


def speed_of(clock):
    return "qps_cpu" if clock == "cpu" else "qps"


def curves(rows, speed):
    """(family, k, mode) -> frontier."""
    groups = {}
    for row in rows:
        groups.setdefault((row["family"], row["k"], row["mode"]), []).append(
            (row["recall"], row[speed]))
    return {key: frontier(points) for key, points in groups.items()}


def near_best(rows, speed):
    """Points worth another pass: (family, build) -> list of [k, point]."""
    best = curves(rows.values(), speed)
    again = {}
    for (family, build, k, mode, point), row in rows.items():
        top = at_recall(best[(family, k, mode)], row["recall"]) or 0
        if mode == "single" and row["recall"] >= LEAST_RECALL and row[speed] >= NEAR_BEST * top:
            again.setdefault((family, build), []).append([k, json.loads(point)])
    return again


def search_all(args, jobs, after_pass):
    rows = {}
    ks = [int(k) for k in args.k.split(",")]
    for turn in range(args.passes):
        again = near_best(rows, speed_of(args.clock)) if turn else None
        for job in jobs:
            points = again.get((job["family"], job["name"])) if turn else None
            if turn and not points:
                continue
            start = time.time()
            got = run_worker(args, dict(job, what="search", points=points, ks=ks,
                                        modes=args.modes.split(",") if turn else ["single"]), 3600)
            for g in got:
                better(rows, job, g, speed_of(args.clock))
            print(f"  pass {turn + 1}: {job['family']:<22} {job['name']:<34} {len(got):4} points, "
                  f"{time.time() - start:6.1f} s", flush=True)
        give_recall(rows)
        after_pass(list(rows.values()), turn + 1)
    return list(rows.values())


def machine():
    model = next((x.split(":", 1)[1].strip() for x in open("/proc/cpuinfo")
                  if x.startswith("model name")), platform.machine())
    memory = int(next(x.split()[1] for x in open("/proc/meminfo") if x.startswith("MemTotal")))
    return f"{model}, {os.cpu_count()} processors, {memory / 2 ** 20:.0f} GiB, {platform.release()}"


def cell(value):
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.5g}" if value < 100 else f"{value:.1f}"
    return value if isinstance(value, str) else json.dumps(value)


def write(args, data, libs, rows, passes):
    from ann_libs import library
    today = datetime.date.today().isoformat()
    out = Path(args.out) / f"{data.name}-{today}.tsv"
    out.parent.mkdir(parents=True, exist_ok=True)
    versions = ", ".join(f"{n} {v}" for n, (_, v) in libs.items())
    kernels = library().elanus_index_kernels().decode() if "elanus" in libs else "-"
    head = {"set": data.name, "rows": data.n, "dim": data.dim, "metric": data.metric,
            "date": today, "machine": machine(), "versions": versions, "kernels": kernels,
            "clock": args.clock, "build threads": BUILD_THREADS, "passes": passes,
            "load": "%.1f %.1f %.1f" % os.getloadavg(),
            "asked for": f"--nq {args.nq} --k {args.k} --modes {args.modes} --clock {args.clock}"
                         + " --wide" * args.wide}
    rows = sorted(rows, key=lambda r: (r["k"], r["mode"] != "single", r["mode"], r["family"],
                                       r["build"], r["recall"]))
    with open(out, "w") as f:
        for key, value in head.items():
            f.write(f"# {key}: {value}\n")
        f.write("\t".join(COLUMNS) + "\n")
        for row in rows:
            f.write("\t".join(cell(row.get(c)) for c in COLUMNS) + "\n")
        f.write("# interpolated: k, mode, family, queries a second at recall "
                + ", ".join(map(str, RECALLS)) + "\n")
        for line in interpolated(rows, speed_of(args.clock)):
            f.write("# " + "\t".join(map(str, line)) + "\n")
    return out


def interpolated(rows, speed):
    lines = []
    for (family, k, mode), curve in sorted(curves(rows, speed).items(),
                                           key=lambda x: (x[0][1], x[0][2] != "single", x[0][2],
                                                          x[0][0])):
        lines.append((k, mode, family, *(f"{s:.0f}" if (s := at_recall(curve, r)) else "-"
                                         for r in RECALLS)))
    return lines


def main():
    args = parse_args()
    if args.worker:
        {"build": work_build, "search": work_search}[args.worker](args,
                                                                  json.loads(os.environ["ANN_JOB"]))
        return
    data = open_set(args)
    cache = Path(args.cache).resolve() / f"{data.name}-{data.metric}"
    cache.mkdir(parents=True, exist_ok=True)
    libs = installed([x for x in args.libs.split(",") if x])
    data.ensure_truth()
    numpy().savez(cache / "truth.npz", scores=data.truth, rows=data.nearest)
    print(f"{data.name}: {data.n} x {data.dim}, {data.metric}, {len(data.queries)} queries; "
          + ", ".join(f"{n} {v}" for n, (_, v) in libs.items()), flush=True)
    jobs = build_all(args, jobs_of(args, data, libs, cache))
    if args.build_only:
        return
    del data.base
    rows = search_all(args, jobs, lambda got, done: write(args, data, libs, got, done))
    out = write(args, data, libs, rows, args.passes)
    print(f"\n{'k':>4} {'mode':<7} {'queries a second at recall':<26}"
          + "".join(f"{r:>9}" for r in RECALLS))
    for k, mode, family, *speeds in interpolated(rows, speed_of(args.clock)):
        print(f"{k:>4} {mode:<7} {family:<26}" + "".join(f"{s:>9}" for s in speeds))
    print(out)


if __name__ == "__main__":
    main()
