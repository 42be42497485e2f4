#!/usr/bin/env python3
"""Kills a real server at random moments under load, restarts it, and checks every row.

    tests/crash/torture.py --kills 200 [--server build/release/elanus] [--seed N] [--keep]

Writers own disjoint key ranges and keep a model of what each key must hold. A call that was in
flight at the kill may have happened or not; everything acknowledged must be there, nothing else may
be. Prints one line per ten kills and ends with "N passed, N failed". Needs pymilvus (its generated
messages), grpcio and numpy. The seed is printed; the same seed draws the same operations.
"""
import argparse, os, random, shutil, signal, socket, struct, subprocess, sys, tempfile, threading, time
import grpc
from pymilvus.grpc_gen import common_pb2 as cpb, milvus_pb2 as pb, milvus_pb2_grpc, schema_pb2 as spb

ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ap.add_argument("--kills", type=int, default=200)
ap.add_argument("--server", default="build/release/elanus")
ap.add_argument("--seed", type=int, default=int(time.time()))
ap.add_argument("--writers", type=int, default=4)
ap.add_argument("--max-ms", type=int, default=400, help="longest time between start and kill")
ap.add_argument("--keep", action="store_true", help="keep the data folder")
ap.add_argument("--set", action="append", default=[])
A = ap.parse_args()
rnd = random.Random(A.seed)
COLL, DIM, GONE = "torture", 8, None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, data):
        self.data, self.port, self.mport, self.proc = data, free_port(), free_port(), None
        self.log = open(os.path.join(data, "..", "server.log"), "ab")

    def start(self, env=None):
        cmd = [A.server, "run", "standalone", "--data", self.data, "--address", "127.0.0.1",
               "--port", str(self.port), "--management-port", str(self.mport),
               # small segments and short idle times, so that flushes happen all the time
               "--set", "dataCoord.segment.maxSize=1", "--set", "dataCoord.segment.sealProportion=0.2"]
        for s in A.set:
            cmd += ["--set", s]
        self.proc = subprocess.Popen(cmd, stderr=self.log, stdout=self.log, env=env)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{self.port}", options=[("grpc.max_receive_message_length", -1)])
        self.stub = milvus_pb2_grpc.MilvusServiceStub(self.channel)
        for _ in range(2000):
            if self.proc.poll() is not None:
                raise SystemExit(f"server ended with {self.proc.returncode} at start; log: {self.log.name}")
            try:
                self.stub.GetVersion(pb.GetVersionRequest(), timeout=1)
                return
            except grpc.RpcError:
                time.sleep(0.005)
        raise SystemExit("server did not become ready")

    def kill(self):
        self.proc.send_signal(signal.SIGKILL)
        self.proc.wait()
        self.channel.close()


def ok(status):
    if status.code or status.error_code:
        raise RuntimeError(f"{status.code}: {status.reason}")


def vector(key, ver):
    return [float((key * 31 + ver * 7 + i) % 97) for i in range(DIM)]


def columns(rows):
    keys, vers = [k for k, _ in rows], [v for _, v in rows]
    flat = [x for k, v in rows for x in vector(k, v)]
    return [
        spb.FieldData(type=spb.Int64, field_name="id", scalars=spb.ScalarField(long_data=spb.LongArray(data=keys))),
        spb.FieldData(type=spb.Int64, field_name="ver", scalars=spb.ScalarField(long_data=spb.LongArray(data=vers))),
        spb.FieldData(type=spb.FloatVector, field_name="v",
                      vectors=spb.VectorField(dim=DIM, float_vector=spb.FloatArray(data=flat))),
    ]


class Writer(threading.Thread):
    """Runs random operations until the server goes away; leaves model and open question behind."""

    def __init__(self, n, stub, state, seed):
        super().__init__(daemon=True)
        self.n, self.stub, self.state, self.rnd = n, stub, state, random.Random(seed)

    def run(self):
        s = self.state
        while True:
            op = self.rnd.choices(["insert", "delete", "upsert", "flush"], [5, 3, 3, 0.4])[0]
            live = [k for k, v in s["model"].items() if v is not GONE]
            change = {}
            try:
                if op == "insert" or (op in ("delete", "upsert") and not live):
                    count = self.rnd.choice([1, 1, 7, 100, 1000])
                    rows = [(s["next"] + i, 0) for i in range(count)]
                    s["next"] += count
                    change = {k: 0 for k, _ in rows}
                    s["open"] = change
                    r = self.stub.Insert(pb.InsertRequest(collection_name=COLL, fields_data=columns(rows), num_rows=count), timeout=20)
                elif op == "delete":
                    keys = self.rnd.sample(live, min(len(live), self.rnd.choice([1, 5, 50])))
                    change = {k: GONE for k in keys}
                    s["open"] = change
                    r = self.stub.Delete(pb.DeleteRequest(collection_name=COLL, expr=f"id in {keys}"), timeout=20)
                elif op == "upsert":
                    keys = self.rnd.sample(live, min(len(live), self.rnd.choice([1, 5, 50])))
                    rows = [(k, s["model"][k] + 1) for k in keys]
                    change = dict(rows)
                    s["open"] = change
                    r = self.stub.Upsert(pb.UpsertRequest(collection_name=COLL, fields_data=columns(rows), num_rows=len(rows)), timeout=20)
                else:
                    r = self.stub.Flush(pb.FlushRequest(collection_names=[COLL]), timeout=20)
            except grpc.RpcError as e:
                if e.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    s["error"] = f"{op}: {e}"
                return
            if r.status.code or r.status.error_code:
                s["error"] = f"{op}: {r.status.code} {r.status.reason}"
                return
            s["model"].update(change)
            s["open"] = {}
            s["acked"] += len(change)


def create(srv):
    schema = spb.CollectionSchema(name=COLL, fields=[
        spb.FieldSchema(name="id", data_type=spb.Int64, is_primary_key=True),
        spb.FieldSchema(name="ver", data_type=spb.Int64),
        spb.FieldSchema(name="v", data_type=spb.FloatVector, type_params=[cpb.KeyValuePair(key="dim", value=str(DIM))])])
    ok(srv.stub.CreateCollection(pb.CreateCollectionRequest(collection_name=COLL, schema=schema.SerializeToString(), shards_num=2)))
    ok(srv.stub.CreateIndex(pb.CreateIndexRequest(collection_name=COLL, field_name="v", extra_params=[
        cpb.KeyValuePair(key="index_type", value="FLAT"), cpb.KeyValuePair(key="metric_type", value="L2")])))
    ok(srv.stub.LoadCollection(pb.LoadCollectionRequest(collection_name=COLL)))


def read_all(srv):
    r = srv.stub.Query(pb.QueryRequest(collection_name=COLL, expr="id >= 0", output_fields=["id", "ver", "v"],
                                       consistency_level=cpb.Strong), timeout=60)
    ok(r.status)
    by = {f.field_name: f for f in r.fields_data}
    keys, vers = by["id"].scalars.long_data.data, by["ver"].scalars.long_data.data
    flat = by["v"].vectors.float_vector.data
    got = {}
    for i, (k, v) in enumerate(zip(keys, vers)):
        if k in got:
            raise AssertionError(f"key {k} twice")
        if list(flat[i * DIM:(i + 1) * DIM]) != vector(k, v):
            raise AssertionError(f"key {k} version {v}: another row's vector")
        got[k] = v
    c = srv.stub.Query(pb.QueryRequest(collection_name=COLL, expr="", output_fields=["count(*)"], consistency_level=cpb.Strong), timeout=60)
    ok(c.status)
    n = c.fields_data[0].scalars.long_data.data[0]
    if n != len(got):
        raise AssertionError(f"count(*) is {n}, query gives {len(got)}")
    return got


def check(got, states):
    """Compares with the models and settles what was open: it now is what the server says."""
    faults, settled = [], 0
    expected = {}
    for s in states:
        for k, v in s["model"].items():
            if k in s["open"]:
                continue
            expected[k] = v
            if v is not GONE and got.get(k) != v:
                faults.append(f"key {k}: acknowledged version {v}, found {got.get(k)}")
            if v is GONE and k in got:
                faults.append(f"key {k}: deleted, found version {got[k]}")
        for k, new in s["open"].items():
            old = s["model"].get(k, GONE)
            expected[k] = got.get(k, GONE)
            settled += 1
            if got.get(k, GONE) not in (old, new):
                faults.append(f"key {k}: version {old} or {new} possible, found {got.get(k)}")
            s["model"][k] = got.get(k, GONE)
        s["open"] = {}
    for k in got:
        if k not in expected:
            faults.append(f"key {k}: never written")
    return faults, settled


def main():
    root = tempfile.mkdtemp(prefix="torture.")
    data = os.path.join(root, "data")
    os.makedirs(data)
    print(f"seed {A.seed}, data {data}", flush=True)
    srv = Server(data)
    srv.start()
    create(srv)
    states = [{"model": {}, "open": {}, "next": 1 + n * 10**9, "acked": 0} for n in range(A.writers)]
    passed = failed = settled = 0
    slowest = 0.0
    for kill in range(1, A.kills + 1):
        writers = [Writer(n, srv.stub, states[n], rnd.random()) for n in range(A.writers)]
        for w in writers:
            w.start()
        time.sleep(rnd.uniform(0, A.max_ms) / 1000)
        srv.kill()
        for w in writers:
            w.join(30)
        errors = [s.pop("error") for s in states if "error" in s]
        t = time.time()
        srv.start()
        slowest = max(slowest, time.time() - t)
        try:
            faults, n = check(read_all(srv), states)
        except (AssertionError, RuntimeError, grpc.RpcError) as e:
            faults, n = [str(e)], 0
        faults += errors
        settled += n
        passed, failed = passed + (not faults), failed + bool(faults)
        for f in faults[:5]:
            print(f"kill {kill}: {f}", flush=True)
        if len(faults) > 5:
            print(f"kill {kill}: and {len(faults) - 5} more", flush=True)
        if kill % 10 == 0 or faults:
            rows = sum(v is not GONE for s in states for v in s["model"].values())
            print(f"kill {kill}/{A.kills}: {rows} rows live, {sum(s['acked'] for s in states)} changes acknowledged, "
                  f"{settled} keys were in flight, slowest restart {slowest:.2f} s", flush=True)
        if failed >= 3:
            break
    srv.kill()
    if not A.keep and not failed:
        shutil.rmtree(root)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
