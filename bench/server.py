#!/usr/bin/env python3
"""Searches a second over gRPC, with the client and the server on the same machine.

    bench/server.py --base base.npy --query query.npy [--gt gt.npy] [--index HNSW] [--server build/release/elanus]
    bench/server.py ... --addr 127.0.0.1:19530 --name milvus-2.3.5        # any server that speaks the API

Needs numpy, grpcio and pymilvus (only its generated messages: 2.3 or later), and bench/rpc_load of the build. Starts and
stops a server of its own unless --addr names one. What is sent under load is serialised beforehand, so that the processor
goes to the server; recall is of a pass of its own over the same requests. A row of the table:

    step     what was searched, and what else went on
    flight   calls in flight, each on a connection of its own (--multiplexed: all on one)
    qps      answers a second            p50, p99   of their latency, ms
    recall   share of the true neighbours found
    us/call  processor time of the server for one answer, microseconds (what inserts cost is in it)
    client   processors the load generator used

Steps (--steps, in the order given):
    floor    GetVersion                              static   unfiltered, bounded consistency
    strong   the same, strongly consistent           filter   50, 10, 1 and 0.1 % of the rows pass
    output   with two output fields                  deleted  after 10 % of the rows were deleted
    find     the smallest --ef-name that reaches     insert   while 500 and 1,000 rows a second go in, close to rows that
             each of --targets is used from here              are there: the recall of steps after it means nothing
             on, in place of --search-params
"""
import argparse, base64, contextlib, json, os, pathlib, shutil, struct, subprocess, sys, tempfile, time
import grpc
import numpy as np
from pymilvus.grpc_gen import common_pb2 as cpb, milvus_pb2 as pb, milvus_pb2_grpc, schema_pb2 as spb

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests/lib"))
import server as lib

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--base", required=True)
ap.add_argument("--query", required=True)
ap.add_argument("--gt", help="row numbers of the true neighbours; computed when not given")
ap.add_argument("--rows", type=int, default=0, help="only so many of the base")
ap.add_argument("--metric", default="COSINE")
ap.add_argument("--index", default="HNSW")
ap.add_argument("--index-params", default='{"M":16,"efConstruction":200}')
ap.add_argument("--search-params", action="append")
ap.add_argument("--ef-name", default="ef")
ap.add_argument("--efs", default="10,12,14,16,20,24,28,32,40,48,64,96,128,192")
ap.add_argument("--targets", default="0.95,0.99")
ap.add_argument("--k", type=int, default=10)
ap.add_argument("--queries", type=int, default=1000)
ap.add_argument("--flight", default="1,8,32")
ap.add_argument("--multiplexed", action="store_true")
ap.add_argument("--seconds", type=float, default=4)
ap.add_argument("--steps", default="floor,static,strong,output,filter,deleted,insert")
ap.add_argument("--batch", type=int, default=1000)
ap.add_argument("--shards", type=int, default=1)
ap.add_argument("--addr", help="of a running server; else one is started")
ap.add_argument("--pid", type=int, help="of the running server, for its processor time")
ap.add_argument("--token", help="user:password")
ap.add_argument("--server", default=lib.binary())
ap.add_argument("--set", action="append", default=[], help="configuration of the server that is started")
ap.add_argument("--rpc-load", help="default: beside the build that --server is of")
ap.add_argument("--name", default="elanus")
ap.add_argument("--collection", default="bench")
ap.add_argument("--out", help="table with tabs; default: bench/results/server-NAME.tsv")
ap.add_argument("--leave", action="store_true", help="neither drop the collection nor stop the server")
ap.add_argument("--reuse", action="store_true", help="the collection is there already")
A = ap.parse_args()

TMP = pathlib.Path(tempfile.mkdtemp(prefix="server-bench."))
SERVICE = "/milvus.proto.milvus.MilvusService/"
COLUMNS = ["name", "set", "step", "flight", "qps", "p50_ms", "p99_ms", "recall", "us_per_call", "client", "failed"]
BEGAN = time.strftime("%Y-%m-%d %H:%M")
FLIGHT = [int(x) for x in A.flight.split(",")]
SET = f"{pathlib.Path(A.base).resolve().parent.name} {A.index}"
METADATA = [("authorization", base64.b64encode(A.token.encode()).decode())] if A.token else []


def rpc_load():
    if A.rpc_load:
        return A.rpc_load
    for d in [pathlib.Path(A.server).resolve().parents[i] for i in range(3)] + [HERE.parent / "build/release"]:
        if (d / "bench/rpc_load").exists():
            return str(d / "bench/rpc_load")
    sys.exit("no rpc_load: build the target bench/rpc_load, or name it with --rpc-load")


# ---- the table

def row(step, flight="", **v):
    cells = {"name": A.name, "set": SET, "step": step, "flight": flight, **v}
    text = lambda x: "" if x is None else f"{x:.4g}" if isinstance(x, float) and x < 1e4 else f"{x:.0f}" if isinstance(x, float) else str(x)
    if not row.head:
        print(f"{'step':44} {'flight':>6} {'qps':>8} {'p50':>8} {'p99':>8} {'recall':>7} {'us/call':>8} {'client':>7}", flush=True)
        row.head = True
    print(f"{step:44} {flight!s:>6} " + " ".join(f"{text(cells.get(c)):>{w}}" for c, w in
          [("qps", 8), ("p50_ms", 8), ("p99_ms", 8), ("recall", 7), ("us_per_call", 8), ("client", 7)]) +
          (f"  {v['failed']} FAILED" if v.get("failed") else ""), flush=True)
    row.rows.append("\t".join(text(cells.get(c)) for c in COLUMNS))


row.head, row.rows = False, []


# ---- calls

class Stub:
    def __init__(self, addr):
        big = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        self.stub = milvus_pb2_grpc.MilvusServiceStub(grpc.insecure_channel(addr, options=big))

    def __getattr__(self, name):
        def call(request, timeout=900):
            answer = getattr(self.stub, name)(request, timeout=timeout, metadata=METADATA)
            status = getattr(answer, "status", answer)
            if getattr(status, "code", 0) or getattr(status, "error_code", 0):
                raise RuntimeError(f"{name}: {status.code} {status.reason[:300]}")
            return answer
        return call


def kv(**d):
    return [cpb.KeyValuePair(key=k, value=v if isinstance(v, str) else json.dumps(v)) for k, v in d.items()]


def insert(ids, f, v):
    return pb.InsertRequest(collection_name=A.collection, num_rows=len(ids), fields_data=[
        spb.FieldData(type=5, field_name="id", scalars=spb.ScalarField(long_data=spb.LongArray(data=ids))),
        spb.FieldData(type=5, field_name="f", scalars=spb.ScalarField(long_data=spb.LongArray(data=f))),
        spb.FieldData(type=101, field_name="v", vectors=spb.VectorField(dim=v.shape[1], float_vector=spb.FloatArray(data=v.ravel())))])


def search(q, params, filter="", strong=False, output=()):
    group = cpb.PlaceholderGroup(placeholders=[cpb.PlaceholderValue(tag="$0", type=101, values=[q.tobytes()])])
    return pb.SearchRequest(
        collection_name=A.collection, dsl=filter, dsl_type=1, placeholder_group=group.SerializeToString(), nq=1,
        output_fields=output, consistency_level=0 if strong else 2, guarantee_timestamp=0 if strong else 2,
        search_params=kv(anns_field="v", topk=str(A.k), metric_type=A.metric, round_decimal="-1", ignore_growing="false", params=params))


def write(name, messages):
    path = TMP / name
    with open(path, "wb") as f:
        for m in messages:
            b = m.SerializeToString()
            f.write(struct.pack("<I", len(b)) + b)
    return path


# ---- load

def processes(pid):
    """It and all it started."""
    found = [pid] if pid else []
    for p in found:
        with contextlib.suppress(OSError):
            for t in os.listdir(f"/proc/{p}/task"):
                found += map(int, open(f"/proc/{p}/task/{t}/children").read().split())
    return found


def cpu_seconds(pid):
    total = 0.0
    for p in processes(pid):
        with contextlib.suppress(OSError):
            f = open(f"/proc/{p}/stat").read().rsplit(")", 1)[1].split()
            total += (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")
    return total


def memory(when):
    """Resident memory of the server and its children, mapped files included."""
    kb = {"VmRSS": 0, "RssAnon": 0}
    for p in processes(PID):
        with contextlib.suppress(OSError):
            for name, value in (line.split(":", 1) for line in open(f"/proc/{p}/status")):
                if name in kb:
                    kb[name] += int(value.split()[0])
    if kb["VmRSS"]:
        row(f"memory {when}, MB ({kb['RssAnon'] / 1e3:.0f} anonymous, raw vectors {X.nbytes / 1e6:.0f})", qps=kb["VmRSS"] / 1e3)


def command(method, bodies, *more):
    md = [x for k, v in METADATA for x in ("--md", f"{k}={v}")]
    return [RPC_LOAD, "--addr", ADDR, "--path", SERVICE + method, "--bodies", str(bodies), "--status", *md, *map(str, more)]


def load(method, bodies, *more):
    before = cpu_seconds(PID)
    out = subprocess.run(command(method, bodies, *more), stdout=subprocess.PIPE, text=True).stdout
    used = cpu_seconds(PID) - before
    if not out:
        sys.exit(f"rpc_load failed: {' '.join(command(method, bodies, *more))}")
    r = {k: float(v) for k, v in (x.split("=") for x in out.splitlines()[0].split())}
    r["server_cpu"] = used
    return r


def in_flight(n):
    return ("--conns", 1, "--inflight", n) if A.multiplexed else ("--conns", n)


def measure(step, method, bodies, flight, recall=None, seconds=None):
    warm = 0.5
    seconds = seconds or A.seconds
    r = load(method, bodies, *in_flight(flight), "--seconds", seconds, "--warmup", warm)
    calls = r["calls_per_s"] * (seconds + warm)
    row(step, flight, qps=r["calls_per_s"], p50_ms=r["p50_us"] / 1e3, p99_ms=r["p99_us"] / 1e3, recall=recall,
        us_per_call=r["server_cpu"] / calls * 1e6 if PID and calls else None, client=r["own_cpu"], failed=int(r["failed"]))


def recall_pass(bodies, truth):
    answers = TMP / "answers.bin"
    r = load("Search", bodies, "--conns", 2, "--once", "--answers", answers)
    b, at, got = answers.read_bytes(), 0, []
    while at < len(b):
        n, = struct.unpack_from("<I", b, at)
        m = pb.SearchResults()
        m.ParseFromString(b[at + 4:at + 4 + n])
        got.append(set(m.results.ids.int_id.data))
        at += 4 + n
    if r["failed"]:
        print(f"  {r['failed']:.0f} searches failed in the pass for recall")
    return float(np.mean([len(g & set(map(int, t))) / len(t) if len(t) else 1.0 for g, t in zip(got, truth)]))


# ---- the set

X = np.load(A.base, mmap_mode="r")
X = np.ascontiguousarray(X[:A.rows] if A.rows else X, np.float32)
Q = np.ascontiguousarray(np.load(A.query)[:A.queries], np.float32)
F = np.random.default_rng(7).integers(0, 1000, len(X))
ALIVE = np.ones(len(X), bool)


def neighbours(mask=None):
    """The true ones among the rows that mask names."""
    rows = np.arange(len(X)) if mask is None else np.flatnonzero(mask)
    base = X[rows]
    if A.metric == "COSINE":
        away = -(Q @ (base / np.linalg.norm(base, axis=1, keepdims=True)).T)
    elif A.metric == "IP":
        away = -(Q @ base.T)
    else:
        away = (base * base).sum(1)[None] - 2 * Q @ base.T
    k = min(A.k, len(rows))
    return rows[np.argpartition(away, k - 1, axis=1)[:, :k]] if k else np.zeros((len(Q), 0), int)


def create():
    with contextlib.suppress(RuntimeError):
        stub.DropCollection(pb.DropCollectionRequest(collection_name=A.collection))
    fields = [spb.FieldSchema(name="id", data_type=5, is_primary_key=True), spb.FieldSchema(name="f", data_type=5),
              spb.FieldSchema(name="v", data_type=101, type_params=kv(dim=str(X.shape[1])))]
    schema = spb.CollectionSchema(name=A.collection, fields=fields).SerializeToString()
    stub.CreateCollection(pb.CreateCollectionRequest(collection_name=A.collection, schema=schema, shards_num=A.shards, consistency_level=2))
    bodies = write("load.bin", (insert(range(i, min(len(X), i + A.batch)), F[i:i + A.batch], X[i:i + A.batch]) for i in range(0, len(X), A.batch)))
    began = time.monotonic()
    r = load("Insert", bodies, "--conns", 1, "--once")
    row(f"insert {len(X)} rows: rows/s", 1, qps=len(X) / (time.monotonic() - began), failed=int(r["failed"]))
    bodies.unlink()
    began = time.monotonic()
    r = stub.Flush(pb.FlushRequest(collection_names=[A.collection]))
    segments = list(r.coll_segIDs[A.collection].data)
    ts = r.coll_flush_ts[A.collection] if A.collection in r.coll_flush_ts else 0
    while not stub.GetFlushState(pb.GetFlushStateRequest(segmentIDs=segments, collection_name=A.collection, flush_ts=ts)).flushed:
        time.sleep(0.02)
    row("flush: seconds", qps=time.monotonic() - began)
    began = time.monotonic()
    stub.CreateIndex(pb.CreateIndexRequest(collection_name=A.collection, field_name="v", index_name="v_index",
                                           extra_params=kv(index_type=A.index, metric_type=A.metric, params=A.index_params)))
    while True:
        found = stub.DescribeIndex(pb.DescribeIndexRequest(collection_name=A.collection, index_name="v_index")).index_descriptions
        if any(d.state == 4 for d in found):
            sys.exit(f"the index failed: {found}")
        if found and all(d.state == 3 and d.indexed_rows >= d.total_rows and not d.pending_index_rows for d in found):
            break
        time.sleep(0.05)
    stub.LoadCollection(pb.LoadCollectionRequest(collection_name=A.collection, replica_number=1))
    while stub.GetLoadState(pb.GetLoadStateRequest(collection_name=A.collection)).state != 3:
        time.sleep(0.02)
    row(f"index {A.index} and load: seconds", qps=time.monotonic() - began)
    memory("loaded")


# ---- steps

params = [json.loads(p) for p in A.search_params or ["{}"]]


def truth(cache=[]):
    if not cache:
        cache.append(np.load(A.gt)[:len(Q), :A.k] if A.gt and not A.rows else neighbours())
    return cache[0] if ALIVE.all() else neighbours(ALIVE)


def searches(step, right, **how):
    for p in params:
        bodies = write("search.bin", (search(q, p, **how) for q in Q))
        recall = recall_pass(bodies, right)
        for n in FLIGHT:
            measure(f"{step} {json.dumps(p) if p else ''}".strip(), "Search", bodies, n, recall)


def step_floor():
    bodies = write("version.bin", [pb.GetVersionRequest()])
    for n in FLIGHT:
        measure("GetVersion", "GetVersion", bodies, n)


def step_find():
    wanted, params[:] = sorted(map(float, A.targets.split(","))), []
    for ef in map(int, A.efs.split(",")):
        if ef < A.k or not wanted:
            continue
        r = recall_pass(write("search.bin", (search(q, {A.ef_name: ef}) for q in Q)), truth())
        row(f"recall at {A.ef_name} {ef}", recall=r)
        if r >= wanted[0]:
            params.append({A.ef_name: ef})
            wanted[:] = [w for w in wanted if r < w]
    if not params:
        sys.exit("no recall wanted was reached")


def step_static():
    searches("static", truth())


def step_strong():
    searches("strong", truth(), strong=True)


def step_output():
    searches("2 output fields", truth(), output=["id", "f"])


def step_filter():
    for limit in (500, 100, 10, 1):
        searches(f"filtered, {limit / 10:g} % pass", neighbours(ALIVE & (F < limit)), filter=f"f < {limit}")


def step_insert():
    rng, per, first = np.random.default_rng(9), 50, 10_000_000
    bodies = write("search.bin", (search(q, params[0]) for q in Q))
    for rate in (500, 1000):
        for n in FLIGHT:
            calls = int(rate / per * (A.seconds + 2))
            rows = write("insert.bin", (insert(range(first + i * per, first + i * per + per), rng.integers(0, 1000, per),
                                               X[rng.integers(0, len(X), per)] + rng.normal(0, .01, (per, X.shape[1])).astype(np.float32))
                                        for i in range(calls)))
            first += calls * per
            beside = subprocess.Popen(command("Insert", rows, "--conns", 2, "--rate", rate / per, "--seconds", A.seconds + 2, "--warmup", 0),
                                      stdout=subprocess.PIPE, text=True)
            time.sleep(0.5)
            measure(f"while {rate} rows/s go in", "Search", bodies, n)
            out = beside.communicate()[0].split()
            if "failed=0" not in out:
                print("  of the inserts:", " ".join(out))


def step_deleted():
    gone = np.random.default_rng(11).permutation(len(X))[:len(X) // 10]
    for i in range(0, len(gone), 1000):
        stub.Delete(pb.DeleteRequest(collection_name=A.collection, expr=f"id in {gone[i:i + 1000].tolist()}"))
    ALIVE[gone] = False
    searches("10 % deleted", neighbours(ALIVE))


def main():
    print(f"{BEGAN}, {A.name}, {SET}, {len(X)} x {X.shape[1]}, {A.metric}, k {A.k}, {len(Q)} queries, {os.cpu_count()} processors")
    if not A.reuse:
        create()
    for step in A.steps.split(","):
        globals()["step_" + step]()
    memory("after the steps")


own, PID = None, A.pid
try:
    if not A.addr:
        os.environ["ELANUS_BIN"] = A.server
        own = lib.Server(args=[x for s in A.set for x in ("--set", s)])
        own.start()
        PID = own.process.pid
    ADDR, RPC_LOAD = A.addr or own.address, rpc_load()
    stub = Stub(ADDR)
    main()
    if A.leave:
        print(f"left: {ADDR} pid {PID}")
    elif own is None:
        stub.DropCollection(pb.DropCollectionRequest(collection_name=A.collection))
finally:
    if row.rows:
        out = pathlib.Path(A.out or HERE / "results" / f"server-{A.name}.tsv")
        out.parent.mkdir(exist_ok=True)
        new = not out.exists()
        with open(out, "a") as f:
            f.write(("began\t" + "\t".join(COLUMNS) + "\n" if new else "") + "".join(f"{BEGAN}\t{r}\n" for r in row.rows))
    if own and not A.leave:
        own.stop()
        own.remove()
    elif own:
        lib.atexit.unregister(own.end)
    shutil.rmtree(TMP, ignore_errors=True)
