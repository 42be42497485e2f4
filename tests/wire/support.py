"""What several wire tests share: expectations, collections, rows, exact answers, raw stubs."""
import contextlib
import os
import pathlib
import struct
import time

import grpc
import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

VERSION = tuple(int(x) for x in __import__("importlib.metadata").metadata.version("pymilvus")
                .split(".")[:2])
ANY = None


@contextlib.contextmanager
def fails(code, *texts):
    """The block raises an error of this code (ANY: of any) whose message has every text."""
    with pytest.raises(MilvusException) as info:
        yield info
    e = info.value
    for text in texts:
        assert text in e.message, f"code {e.code}, message {e.message!r}"
    if code is not ANY:
        assert e.code == code, f"code {e.code}, message {e.message!r}"
    assert len(e.message) < 4000


def object_files(server, folder=""):
    """Of a server's objects. os.walk() does not mind folders that it removes meanwhile."""
    return [pathlib.Path(at) / f for at, _, files in os.walk(server.data / "objects" / folder) for f in files]


def eventually(what, seconds=10):
    """Waits for what() to be true; its last value is the answer."""
    deadline = time.monotonic() + seconds
    while True:
        got = what()
        if got or time.monotonic() > deadline:
            return got
        time.sleep(0.02)


def connected(uri, seconds=30, **options):
    """A client of a server that was away: the client mends a broken connection in its own time."""
    deadline = time.monotonic() + seconds
    while True:
        c = None
        try:
            c = MilvusClient(uri, timeout=5, **options)
            c.list_collections(timeout=5)
            return c
        except (MilvusException, grpc.RpcError):
            if time.monotonic() > deadline:
                raise
            if c:
                c.close()
            time.sleep(0.05)


# ---- collections ----

def schema_of(*fields, dynamic=False, auto_id=False, pk=DataType.INT64, vector=8, **more):
    """id, the given fields ((name, type, options) each), and unless vector is 0 one float vector."""
    s = MilvusClient.create_schema(auto_id=auto_id, enable_dynamic_field=dynamic, **more)
    if pk == DataType.VARCHAR:
        s.add_field("id", pk, is_primary=True, max_length=64)
    else:
        s.add_field("id", pk, is_primary=True)
    for field, dtype, *options in fields:
        s.add_field(field, dtype, **(options[0] if options else {}))
    if vector:
        s.add_field("vector", DataType.FLOAT_VECTOR, dim=vector)
    return s


def index(client, name, field="vector", kind="FLAT", metric="L2", wait=False, index_name=None,
          **params):
    """Creates an index; without `wait` the client does not ask for its state each half second."""
    p = client.prepare_index_params()
    more = {"index_name": index_name} if index_name else {}
    p.add_index(field, index_type=kind, **({"metric_type": metric} if metric else {}),
                params=params, **more)
    client.create_index(name, p, sync=wait)


def make(client, name, *fields, rows=None, metric="L2", kind="FLAT", load=True, level="Strong",
         create=None, **schema):
    """A loaded collection of schema_of(...), with rows in it."""
    s = schema_of(*fields, **schema)
    client.create_collection(name, schema=s, consistency_level=level, **(create or {}))
    if schema.get("vector", 8):
        index(client, name, kind=kind, metric=metric)
    if load:
        client.load_collection(name)
    if rows:
        client.insert(name, rows)
    return s


def vectors(n, dim=8, seed=1):
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def simple_rows(n, dim=8, start=0, seed=1, **columns):
    """Rows of schema_of(); columns: name -> function of the row's number."""
    v = vectors(n, dim, seed)
    return [{"id": start + i, "vector": v[i].tolist(),
             **{c: f(start + i) for c, f in columns.items()}} for i in range(n)]


# ---- exact answers ----

def bits(a):
    return np.unpackbits(np.asarray(a, dtype=np.uint8), axis=-1).astype(bool)


def scores(metric, base, query):
    """One score for each row of base, as the API reports it."""
    if metric in ("HAMMING", "JACCARD"):
        b, q = bits(base), bits(query)
        if metric == "HAMMING":
            return (b ^ q).sum(axis=1).astype(np.float64)
        union = (b | q).sum(axis=1)
        return 1 - np.where(union == 0, 1.0, (b & q).sum(axis=1) / np.maximum(union, 1))
    b, q = np.asarray(base, dtype=np.float64), np.asarray(query, dtype=np.float64)
    if metric == "L2":
        return ((b - q) ** 2).sum(axis=1)
    dots = b @ q
    if metric == "IP":
        return dots
    norms = np.linalg.norm(b, axis=1) * np.linalg.norm(q)
    return dots / np.where(norms == 0, 1, norms)


def descending(metric):
    return metric in ("IP", "COSINE")


def check_hits(hits, metric, base, query, limit, offset=0, ids=None, keep=None, tolerance=1e-4):
    """Hits are the exact answer among the rows that `keep` marks; ids: of the rows, 0, 1, ... if
    absent. Rows of nearly equal score may stand in either order."""
    want = scores(metric, base, query)
    ids = np.arange(len(want)) if ids is None else np.asarray(ids)
    keep = np.ones(len(want), dtype=bool) if keep is None else np.asarray(keep)
    of = dict(zip(ids[keep].tolist(), want[keep].tolist()))
    best = sorted(of.values(), reverse=descending(metric))[offset:offset + limit]
    got = [h["distance"] for h in hits]
    found = [h["id"] for h in hits]
    assert len(found) == len(best), f"{len(found)} hits, {len(best)} expected"
    assert len(set(found)) == len(found), "a row came twice"
    slack = tolerance * (1 + np.abs(best))
    assert np.all(np.abs(np.array(got) - best) <= slack), f"scores {got}, expected {best}"
    for i, d in zip(found, got):
        assert i in of, f"row {i} must not be found"
        assert abs(of[i] - d) <= tolerance * (1 + abs(d)), f"row {i}: score {d}, is {of[i]}"


# ---- vectors in the spellings of the wire ----

def to_bf16(a):
    """float32 -> the two upper bytes, rounded to nearest even."""
    u = np.ascontiguousarray(a, dtype=np.float32).view(np.uint32).astype(np.uint64)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def from_bf16(u):
    return (np.asarray(u, dtype=np.uint16).astype(np.uint32) << 16).view(np.float32)


# ---- beneath the client ----

class Raw:
    """Requests as the tests write them. Every call has a deadline: a hung server is a failure."""

    def __init__(self, address):
        self.channel = grpc.insecure_channel(address, options=[
            ("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)])
        self.stub = milvus_pb2_grpc.MilvusServiceStub(self.channel)

    def close(self):
        self.channel.close()

    def __getattr__(self, method):
        call = getattr(self.stub, method)

        def send(message=None, timeout=20, **fields):
            """The message, or one of these fields."""
            if message is None:
                message = getattr(milvus_pb2, method + "Request")(**fields)
            return call(message, timeout=timeout)
        return send

    def bytes(self, method, payload, timeout=20):
        """Any bytes as the request; bytes back."""
        call = self.channel.unary_unary(f"/milvus.proto.milvus.MilvusService/{method}",
                                        request_serializer=None, response_deserializer=None)
        return call(payload, timeout=timeout)


def status_of(answer):
    return answer if isinstance(answer, common_pb2.Status) else answer.status


def is_error(answer, code=ANY, *texts):
    """Both codes and the reason are set, as an error must have them."""
    st = status_of(answer)
    assert st.code != 0 and st.error_code != 0 and st.reason, f"no error: {st}"
    if code is not ANY:
        assert st.code == code, f"code {st.code}, reason {st.reason!r}"
    for text in texts:
        assert text in st.reason, st.reason
    return st


def is_ok(answer):
    st = status_of(answer)
    assert st.code == 0 and st.error_code == 0, st
    return answer


def float_column(field, values, dim):
    return schema_pb2.FieldData(
        type=DataType.FLOAT_VECTOR, field_name=field,
        vectors=schema_pb2.VectorField(dim=dim, float_vector=schema_pb2.FloatArray(data=values)))


def long_column(field, values):
    return schema_pb2.FieldData(
        type=DataType.INT64, field_name=field,
        scalars=schema_pb2.ScalarField(long_data=schema_pb2.LongArray(data=values)))


def kv(**pairs):
    return [common_pb2.KeyValuePair(key=k, value=str(v)) for k, v in pairs.items()]


def placeholder(rows, kind=DataType.FLOAT_VECTOR, tag="$0"):
    """rows: bytes each, or lists of floats."""
    values = [r if isinstance(r, bytes) else struct.pack(f"<{len(r)}f", *r) for r in rows]
    return common_pb2.PlaceholderGroup(placeholders=[common_pb2.PlaceholderValue(
        tag=tag, type=int(kind), values=values)]).SerializeToString()
