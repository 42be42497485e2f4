"""What the crash tests share: a client of bare messages, a model of what a server must hold, checks.

A Space is one collection and the rows that one writer put into it. Every operation first notes what
may become of each row it touches, then calls the server, then settles what was acknowledged. What
was in flight at a crash, or refused, stays open: the next check accepts either outcome, and nothing
else. Operations draw from the writer's own random numbers, so a seed repeats them.
"""
import json
import os
import pathlib
import random
import struct
import subprocess
import sys
import time

import grpc
from pymilvus.grpc_gen import common_pb2 as cpb, milvus_pb2 as pb, milvus_pb2_grpc, schema_pb2 as spb

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
from server import Server, ServerError, binary  # noqa: E402  (the tests import these from here)

DEFAULT = "_default"
GONE = None
CALL_SECONDS = 30


class Gone(Exception):
    """The connection broke: nobody knows whether the call happened."""


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, call, code, reason):
        super().__init__(f"{call}: {code}: {reason}")
        self.call, self.code, self.reason = call, code, reason


class Client:
    def __init__(self, server):
        self.channel = grpc.insecure_channel(
            server.address, options=[("grpc.max_receive_message_length", -1),
                                     ("grpc.max_send_message_length", -1),
                                     ("grpc.enable_retries", 0)])
        self.stub = milvus_pb2_grpc.MilvusServiceStub(self.channel)

    def close(self):
        self.channel.close()

    def call(self, name, request, seconds=CALL_SECONDS):
        try:
            answer = getattr(self.stub, name)(request, timeout=seconds)
        except grpc.RpcError as e:
            if e.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                raise Gone(name) from None
            raise Refused(name, e.code().name, e.details()) from None
        except ValueError:  # the channel was closed by the one who killed the server
            raise Gone(name) from None
        status = answer if isinstance(answer, cpb.Status) else answer.status
        if status.code or status.error_code:
            raise Refused(name, status.code or status.error_code, status.reason)
        return answer


def vector(key, ver, dim):
    return [float((key * 31 + ver * 7 + i) % 97) for i in range(dim)]


def columns(rows, dim):
    """rows: (key, version) each."""
    flat = [x for k, v in rows for x in vector(k, v, dim)]
    longs = [("id", [k for k, _ in rows]), ("ver", [v for _, v in rows])]
    return [spb.FieldData(type=spb.Int64, field_name=name,
                          scalars=spb.ScalarField(long_data=spb.LongArray(data=data)))
            for name, data in longs] + [
        spb.FieldData(type=spb.FloatVector, field_name="v",
                      vectors=spb.VectorField(dim=dim, float_vector=spb.FloatArray(data=flat)))]


class Space:
    """A collection as one writer knows it. Of a shared one (own=False) only rows change."""

    def __init__(self, name, first_key=1, dim=8, shards=2, own=True, seed=0, index="FLAT"):
        self.name, self.dim, self.shards, self.own = name, dim, shards, own
        self.index = index  # an exact type, where searches are checked
        self.first, self.next = first_key, first_key
        self.rnd = random.Random(seed)
        self.rows = {}     # key -> (version, partition)
        self.maybe = {}    # key -> what it may be now; overrides rows
        self.exists = self.loaded = False  # None: not known
        self.parts = {}    # name -> True, or None: not known. Without "_default"
        self.part_no = 0
        self.acked = 0
        self.client = None

    # ---- rows ----

    def settle(self, change):
        """The change was acknowledged."""
        for k, v in change.items():
            self.maybe.pop(k, None)
            if v is GONE:
                self.rows.pop(k, None)
            else:
                self.rows[k] = v
        self.acked += len(change)

    def write(self, name, request, change):
        for k, v in change.items():
            self.maybe[k] = {self.rows.get(k, GONE), v}
        answer = self.client.call(name, request)
        self.settle(change)
        return answer

    def partition(self):
        return self.rnd.choice([DEFAULT] + sorted(p for p, there in self.parts.items() if there))

    def some(self, count):
        known = [k for k in self.rows if k not in self.maybe and
                 (self.rows[k][1] == DEFAULT or self.parts.get(self.rows[k][1]))]
        return self.rnd.sample(known, min(len(known), count))

    def insert(self, count):
        part = self.partition()
        rows = [(self.next + i, 0) for i in range(count)]
        self.next += count
        self.write("Insert", pb.InsertRequest(collection_name=self.name, partition_name=part,
                                              fields_data=columns(rows, self.dim), num_rows=count),
                   {k: (0, part) for k, _ in rows})

    def delete(self, count):
        keys = self.some(count)
        if keys:
            self.write("Delete", pb.DeleteRequest(collection_name=self.name, expr=f"id in {keys}"),
                       {k: GONE for k in keys})

    def upsert(self, count):
        by_part = {}
        for k in self.some(count):
            by_part.setdefault(self.rows[k][1], []).append((k, self.rows[k][0] + 1))
        for part, rows in by_part.items():
            self.write("Upsert", pb.UpsertRequest(collection_name=self.name, partition_name=part,
                                                  fields_data=columns(rows, self.dim),
                                                  num_rows=len(rows)),
                       {k: (v, part) for k, v in rows})

    def delete_by_filter(self, span):
        """Rows of a range of keys whose version is odd. Needs the collection loaded."""
        low = self.rnd.randrange(self.first, max(self.next, self.first + 1))
        near = [k for k in range(low, min(low + span, self.next))]
        if not self.loaded or any(k in self.maybe for k in near):
            return
        hit = [k for k in near if k in self.rows and self.rows[k][0] % 2 == 1]
        self.write("Delete", pb.DeleteRequest(
            collection_name=self.name, expr=f"id >= {low} and id < {low + span} and ver % 2 == 1"),
            {k: GONE for k in hit})

    def flush(self):
        """Seals; the files come later. See flushed()."""
        a = self.client.call("Flush", pb.FlushRequest(collection_names=[self.name]))
        self.sealed = (list(a.coll_segIDs[self.name].data), a.coll_flush_ts[self.name])

    def flushed(self):
        """Whether all that the last flush() sealed is in files."""
        ids, ts = self.sealed
        return self.client.call("GetFlushState", pb.GetFlushStateRequest(
            segmentIDs=ids, flush_ts=ts, collection_name=self.name)).flushed

    def flush_wait(self, seconds=20):
        self.flush()
        deadline = time.monotonic() + seconds
        while not self.flushed():
            if time.monotonic() > deadline:
                raise AssertionError(f"{self.name}: not flushed after {seconds} s")
            time.sleep(0.01)

    # ---- the collection ----

    def create(self):
        schema = spb.CollectionSchema(name=self.name, fields=[
            spb.FieldSchema(name="id", data_type=spb.Int64, is_primary_key=True),
            spb.FieldSchema(name="ver", data_type=spb.Int64),
            spb.FieldSchema(name="v", data_type=spb.FloatVector,
                            type_params=[cpb.KeyValuePair(key="dim", value=str(self.dim))])])
        self.exists = None
        self.client.call("CreateCollection", pb.CreateCollectionRequest(
            collection_name=self.name, schema=schema.SerializeToString(), shards_num=self.shards))
        self.exists, self.loaded = True, False
        self.load()

    def load(self):
        self.client.call("CreateIndex", pb.CreateIndexRequest(
            collection_name=self.name, field_name="v", index_name="v", extra_params=[
                cpb.KeyValuePair(key="index_type", value=self.index),
                cpb.KeyValuePair(key="metric_type", value="L2")]))
        self.loaded = None if not self.loaded else True
        self.client.call("LoadCollection", pb.LoadCollectionRequest(collection_name=self.name))
        self.loaded = True

    def release(self):
        self.loaded = None
        self.client.call("ReleaseCollection", pb.ReleaseCollectionRequest(collection_name=self.name))
        self.loaded = False

    def drop(self):
        """What is left of it is asked for after a crash: all of it, or nothing."""
        self.exists = None
        self.client.call("DropCollection", pb.DropCollectionRequest(collection_name=self.name))
        self.forget()

    def forget(self):
        self.exists = self.loaded = False
        self.rows, self.maybe, self.parts = {}, {}, {}

    def create_partition(self):
        self.part_no += 1
        name = f"p{self.part_no}"
        self.parts[name] = None
        self.client.call("CreatePartition", pb.CreatePartitionRequest(
            collection_name=self.name, partition_name=name))
        self.parts[name] = True

    def drop_partition(self):
        there = sorted(p for p, known in self.parts.items() if known)
        if not there or self.loaded is None:
            return
        if self.loaded:  # the API wants the partition released
            self.release()
        name = self.rnd.choice(there)
        self.parts[name] = None
        self.client.call("DropPartition", pb.DropPartitionRequest(
            collection_name=self.name, partition_name=name))
        self.forget_partition(name)

    def forget_partition(self, name):
        del self.parts[name]
        for k in [k for k, v in self.rows.items() if v[1] == name]:
            del self.rows[k]
            self.maybe.pop(k, None)
        for k, values in list(self.maybe.items()):
            values = {GONE if v and v[1] == name else v for v in values}
            if values == {GONE}:
                del self.maybe[k]
            else:
                self.maybe[k] = values

    def step(self):
        """One random operation."""
        if self.exists is None:
            return
        if not self.exists:
            self.create()
            return
        ops, weights = ["insert", "delete", "upsert", "filter", "flush"], [5, 3, 3, 1, 0.4]
        if self.own:
            ops += ["create_partition", "drop_partition", "release", "load", "drop"]
            weights += [0.5, 0.4, 0.3, 1, 0.3]
        op = self.rnd.choices(ops, weights)[0]
        if op == "insert":
            self.insert(self.rnd.choice([1, 1, 7, 100, 1000 if not self.own else 200]))
        elif op in ("delete", "upsert"):
            getattr(self, op)(self.rnd.choice([1, 5, 50]))
        elif op == "filter":
            self.delete_by_filter(self.rnd.choice([10, 200]))
        else:
            getattr(self, op)()

    # ---- checks ----

    def read(self, part=None):
        """{key: version} of this writer's range, each row's vector compared."""
        a = self.client.call("Query", pb.QueryRequest(
            collection_name=self.name, expr=f"id >= {self.first} and id < {self.next}",
            output_fields=["id", "ver", "v"], partition_names=[part] if part else [],
            consistency_level=cpb.Strong), 60)
        by = {f.field_name: f for f in a.fields_data}
        keys, vers = by["id"].scalars.long_data.data, by["ver"].scalars.long_data.data
        flat = by["v"].vectors.float_vector.data
        got = {}
        for i, (k, v) in enumerate(zip(keys, vers)):
            if k in got:
                raise AssertionError(f"{self.name}: key {k} twice")
            if list(flat[i * self.dim:(i + 1) * self.dim]) != vector(k, v, self.dim):
                raise AssertionError(f"{self.name}: key {k} version {v}: another row's vector")
            got[k] = v
        return got

    def nearest(self, query):
        """Distance of the nearest row."""
        group = cpb.PlaceholderGroup(placeholders=[cpb.PlaceholderValue(
            tag="$0", type=101, values=[struct.pack(f"<{self.dim}f", *query)])])
        a = self.client.call("Search", pb.SearchRequest(
            collection_name=self.name, placeholder_group=group.SerializeToString(), nq=1,
            dsl_type=cpb.BoolExprV1, consistency_level=cpb.Strong, search_params=[
                cpb.KeyValuePair(key=k, value=v) for k, v in
                (("anns_field", "v"), ("topk", "1"), ("metric_type", "L2"), ("params", "{}"))]), 60)
        return a.results.scores[0] if a.results.scores else None

    def search_faults(self, got):
        """Rows that a search for their own vector does not find, be they indexed or not."""
        some = self.rnd.sample(sorted(got), min(len(got), 5))
        return [f"{self.name}: key {k}: the nearest row to its own vector is {d} away"
                for k in some
                if (d := self.nearest(vector(k, got[k][0], self.dim))) != 0]

    def count(self):
        a = self.client.call("Query", pb.QueryRequest(
            collection_name=self.name, expr="", output_fields=["count(*)"],
            consistency_level=cpb.Strong), 60)
        return a.fields_data[0].scalars.long_data.data[0]

    def learn(self):
        """Asks what became of collection, partitions and load, when not known; compares the rest."""
        wrong = []
        names = self.client.call("ShowCollections", pb.ShowCollectionsRequest()).collection_names
        there = self.name in names
        if self.exists is not None and self.exists != there:
            wrong.append(f"{self.name}: {'missing' if self.exists else 'dropped, but there'}")
        if not there:
            self.forget()
            return wrong
        self.exists = True
        shown = set(self.client.call("ShowPartitions", pb.ShowPartitionsRequest(
            collection_name=self.name)).partition_names)
        for name, known in list(self.parts.items()):
            if known and name not in shown:
                wrong.append(f"{self.name}: partition {name} is missing")
            if name in shown:
                self.parts[name] = True
            else:
                self.forget_partition(name)
        extra = shown - set(self.parts) - {DEFAULT}
        if extra:
            wrong.append(f"{self.name}: partitions {sorted(extra)} should not be there")
        state = self.client.call("GetLoadState",
                                 pb.GetLoadStateRequest(collection_name=self.name)).state
        loaded = state == cpb.LoadStateLoaded
        if self.loaded is not None and self.loaded != loaded:
            wrong.append(f"{self.name}: load state {state}, was {'' if self.loaded else 'not '}loaded")
        self.loaded = loaded
        return wrong

    def check(self, settle=True):
        """Differences between server and model. settle: what was open is now what the server says;
        loads the collection when it is not."""
        wrong = []
        if settle:
            wrong = self.learn()
            if self.exists and not self.loaded:
                self.load()
        if not self.exists or not self.loaded:
            return wrong
        got = {}
        if self.own:
            for part in [DEFAULT] + [p for p, known in self.parts.items() if known]:
                for k, v in self.read(part).items():
                    if k in got:
                        wrong.append(f"{self.name}: key {k} in two partitions")
                    got[k] = (v, part)
            if settle or (not self.maybe and None not in self.parts.values()):
                n = self.count()
                if n != len(got):
                    wrong.append(f"{self.name}: count(*) is {n}, query gives {len(got)}")
        else:
            got = {k: (v, DEFAULT) for k, v in self.read().items()}
        wrong += self.compare(got)
        if self.index == "FLAT":
            wrong += self.search_faults(got)
        if settle:
            for k in self.maybe:
                if got.get(k) is GONE:
                    self.rows.pop(k, None)
                else:
                    self.rows[k] = got[k]
            self.maybe = {}
        return wrong

    def compare(self, got):
        wrong = []
        for k, v in self.rows.items():
            if k not in self.maybe and got.get(k) != v and self.parts.get(v[1], True):
                wrong.append(f"{self.name}: key {k}: acknowledged {v}, found {got.get(k)}")
        for k, values in self.maybe.items():
            unsure = any(v and self.parts.get(v[1], True) is None for v in values)
            if got.get(k, GONE) not in values and not unsure:
                wrong.append(f"{self.name}: key {k}: one of {values} possible, found {got.get(k)}")
        for k, v in got.items():
            if k not in self.rows and k not in self.maybe:
                wrong.append(f"{self.name}: key {k}: deleted or never written, found {v}")
        return wrong


# ---- the folder ----

def start(server):
    """On new ports: others on this machine may have taken the old ones meanwhile."""
    server.port = server.management = 0
    server.start()
    return Client(server)


def elanus(*args, seconds=30):
    """(exit status, standard output, standard error) of the program."""
    r = subprocess.run([binary(), *map(str, args)], capture_output=True, text=True, timeout=seconds,
                       errors="replace")
    return r.returncode, r.stdout, r.stderr


def metadata(data):
    """{key: value} as `elanus meta list` shows it; works beside a running server."""
    code, out, err = elanus("meta", "list", "--data", data)
    if code != 0:
        raise AssertionError(f"elanus meta list: {err}")
    found = {}
    for line in out.splitlines():
        key, _, value = line.partition("  ")
        found[key] = json.loads(value)
    return found


def metadata_faults(meta):
    """Records that belong to nothing, or to something half made."""
    wrong, colls, parts = [], {}, set()
    for key, v in meta.items():
        if key.startswith("/elanus/root/collection/"):
            colls[v["id"]] = v
            if v.get("state", "COLLECTION_CREATED") != "COLLECTION_CREATED":
                wrong.append(f"{key}: {v['state']}")
        elif key.startswith("/elanus/root/partition/"):
            parts.add((v["collection_id"], v["id"]))
    shards = {v["vchannel"] for k, v in meta.items() if k.startswith("/elanus/data/shard/")}
    for key, v in meta.items():
        if "collection_id" in v and v["collection_id"] not in colls:
            wrong.append(f"{key}: collection {v['collection_id']} does not exist")
        if key.startswith(("/elanus/data/segment/", "/elanus/data/delta/")) and \
                v["vchannel"] not in shards:
            wrong.append(f"{key}: shard {v['vchannel']} does not exist")
        if key.startswith("/elanus/data/segment/"):
            if (v["collection_id"], v["partition_id"]) not in parts:
                wrong.append(f"{key}: partition {v['partition_id']} does not exist")
            if v.get("num_rows", 0) < 1 or v.get("state") != "SEG_FLUSHED":
                wrong.append(f"{key}: {v.get('num_rows', 0)} rows, state {v.get('state')}")
        if key.startswith("/elanus/data/segindex/"):
            for other, oid in (("index", v["index_id"]), ("segment", v["segment_id"])):
                if f"/elanus/data/{other}/{v['collection_id']:020d}/{oid:020d}" not in meta:
                    wrong.append(f"{key}: {other} {oid} does not exist")
    for cid, c in colls.items():
        for vch in c.get("vchannels", []):
            if vch not in shards:
                wrong.append(f"collection {cid}: shard {vch} has no record")
        if not any(p[0] == cid for p in parts):
            wrong.append(f"collection {cid} has no partition")
    names = [(c.get("db_name"), c["name"]) for c in colls.values()]
    wrong += [f"two collections are called {n}" for n in set(names) if names.count(n) > 1]
    return wrong


def object_faults(data, meta):
    """Files that metadata does not name, and names without files."""
    root = pathlib.Path(data) / "objects"
    files = {os.path.relpath(os.path.join(folder, f), root)
             for folder, _, names in os.walk(root) for f in names}  # folders may go meanwhile
    segments = [v for k, v in meta.items() if k.startswith("/elanus/data/segment/")]
    wanted = {v["object_prefix"] + "/rows.seg" for v in segments}
    wanted |= {f"{v['object_prefix']}/order.{v['ordered_by']}" for v in segments
               if v.get("ordered_by", 0) > 0}
    wanted |= {v["object_key"] for k, v in meta.items() if v.get("object_key") and
               k.startswith(("/elanus/data/delta/", "/elanus/data/segindex/"))}
    return [f"{f}: orphan" for f in sorted(files - wanted)] + \
           [f"{f}: missing" for f in sorted(wanted - files)]


def folder_faults(data, seconds=60):
    """Waits until what is on disk is what metadata names: flushes and builds may be under way."""
    deadline = time.monotonic() + seconds
    while True:
        meta = metadata(data)
        wrong = metadata_faults(meta) + object_faults(data, meta)
        if not wrong or time.monotonic() > deadline:
            return wrong
        time.sleep(0.1)


# ---- reporting ----

class Report:
    """Runs named cases; the last line is "N passed, N failed"."""

    def __init__(self, only=None):
        self.only, self.passed, self.failed, self.skipped = only, 0, [], 0

    def case(self, name, fn, *args):
        if self.only and self.only not in name:
            return
        began = time.monotonic()
        try:
            said = fn(*args)
        except Skip as e:
            self.skipped += 1
            print(f"skip {name}: {e}", flush=True)
            return
        except (AssertionError, Refused, Gone, ServerError, subprocess.TimeoutExpired) as e:
            self.failed.append(name)
            print(f"FAIL {name}: {type(e).__name__}: {e}", flush=True)
            return
        self.passed += 1
        print(f"ok   {name} ({time.monotonic() - began:.1f} s)" + (f": {said}" if said else ""),
              flush=True)

    def end(self):
        if self.failed:
            print("failed: " + ", ".join(self.failed))
        print((f"{self.skipped} skipped, " if self.skipped else "") +
              f"{self.passed} passed, {len(self.failed)} failed")
        return 1 if self.failed or self.passed == 0 else 0


class Skip(Exception):
    """This machine does not allow the case."""


def expect(wrong, what=""):
    """wrong: a list of differences, which has to be empty."""
    if wrong:
        more = f"\n  and {len(wrong) - 8} more" if len(wrong) > 8 else ""
        raise AssertionError(what + "".join(f"\n  {w}" for w in wrong[:8]) + more)


def has_faults():
    """Whether the binary was built with fault points: only then the name is in it."""
    with open(binary(), "rb") as f:
        return b"ELANUS_FAULT\0" in f.read()


__all__ = ["Client", "DEFAULT", "Gone", "Refused", "Report", "Server", "ServerError", "Skip",
           "Space", "binary", "elanus", "expect", "folder_faults", "has_faults", "metadata",
           "start"]
