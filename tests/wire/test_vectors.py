"""Every dense vector type and metric: stored as sent, searched exactly, before and after a flush."""
import numpy as np
import pytest
from pymilvus import DataType
from support import (check_hits, fails, from_bf16, index, schema_of, to_bf16, vectors)

N, DIM, LIMIT = 300, 16, 10


class Kind:
    """One vector type: the values of a row as they are stored, and as client and server write them."""

    def __init__(self, dtype, metrics, tolerance):
        self.dtype, self.metrics, self.tolerance = dtype, metrics, tolerance

    def data(self, seed, n=N):
        if self.dtype == DataType.BINARY_VECTOR:
            return np.random.default_rng(seed).integers(0, 256, (n, DIM // 8), dtype=np.uint8)
        if self.dtype == DataType.INT8_VECTOR:
            return np.random.default_rng(seed).integers(-128, 128, (n, DIM)).astype(np.int8)
        v = vectors(n, DIM, seed)
        if self.dtype == DataType.FLOAT16_VECTOR:
            return v.astype(np.float16)
        if self.dtype == DataType.BFLOAT16_VECTOR:
            return from_bf16(to_bf16(v))
        return v

    def wire(self, row):
        if self.dtype == DataType.FLOAT_VECTOR:
            return row.tolist()
        if self.dtype == DataType.BFLOAT16_VECTOR:
            return to_bf16(row).tobytes()
        if self.dtype == DataType.INT8_VECTOR:
            return row
        return row.tobytes()

    def back(self, value):
        """What a query answers, as the values of a row."""
        if self.dtype == DataType.FLOAT_VECTOR:
            return np.array(value, dtype=np.float32)
        raw = value if isinstance(value, bytes) else b"".join(
            v if isinstance(v, bytes) else bytes([v % 256]) for v in value)
        if self.dtype == DataType.FLOAT16_VECTOR:
            return np.frombuffer(raw, dtype=np.float16)
        if self.dtype == DataType.BFLOAT16_VECTOR:
            return from_bf16(np.frombuffer(raw, dtype=np.uint16))
        if self.dtype == DataType.INT8_VECTOR:
            return np.frombuffer(raw, dtype=np.int8)
        return np.frombuffer(raw, dtype=np.uint8)


FLOATS = ["L2", "IP", "COSINE"]
KINDS = {
    "float": Kind(DataType.FLOAT_VECTOR, FLOATS, 1e-4),
    "half": Kind(DataType.FLOAT16_VECTOR, FLOATS, 2e-3),
    "bfloat": Kind(DataType.BFLOAT16_VECTOR, FLOATS, 2e-2),
    "int8": Kind(DataType.INT8_VECTOR, FLOATS, 1e-4),
    "binary": Kind(DataType.BINARY_VECTOR, ["HAMMING", "JACCARD"], 1e-5),
}


def fill(client, name, kind, metric):
    s = schema_of(("v", kind.dtype, {"dim": DIM}), vector=0)
    client.create_collection(name, schema=s, consistency_level="Strong")
    index(client, name, "v", "BIN_FLAT" if "binary" in name else "FLAT", metric)
    client.load_collection(name)
    base = kind.data(1)
    client.insert(name, [{"id": i, "v": kind.wire(base[i])} for i in range(N)])
    return base


@pytest.mark.parametrize("which, metric", [(k, m) for k in KINDS for m in KINDS[k].metrics])
def test_search_answers_the_nearest_exactly(client, name, which, metric):
    kind = KINDS[which]
    base = fill(client, name, kind, metric)
    queries = kind.data(2, 5)
    for flushed in (False, True):
        if flushed:
            client.flush(name)
        got = client.search(name, data=[kind.wire(q) for q in queries], limit=LIMIT,
                            anns_field="v", search_params={"metric_type": metric})
        assert len(got) == len(queries)
        for hits, q in zip(got, queries):
            check_hits(hits, metric, base, q, LIMIT, tolerance=kind.tolerance)
        even = client.search(name, data=[kind.wire(q) for q in queries], limit=LIMIT,
                             anns_field="v", filter="id % 2 == 0")
        for hits, q in zip(even, queries):
            check_hits(hits, metric, base, q, LIMIT, keep=np.arange(N) % 2 == 0,
                       tolerance=kind.tolerance)


@pytest.mark.parametrize("which", KINDS)
def test_vector_comes_back_as_it_went_in(client, name, which):
    kind = KINDS[which]
    base = fill(client, name, kind, kind.metrics[0])
    for flushed in (False, True):
        if flushed:
            client.flush(name)
        got = client.query(name, filter="id in [0, 7, 299]", output_fields=["v"])
        assert [r["id"] for r in got] == [0, 7, 299]
        for r in got:
            back = r["v"][0] if which != "float" and isinstance(r["v"], list) and len(r["v"]) == 1 \
                else r["v"]
            assert np.array_equal(kind.back(back), base[r["id"]])


def test_float_query_against_a_half_field_is_converted(raw, client, name):
    from pymilvus.grpc_gen import common_pb2  # noqa: F401
    from support import is_ok, kv, placeholder
    kind = KINDS["half"]
    base = fill(client, name, kind, "L2")
    r = is_ok(raw.Search(collection_name=name, placeholder_group=placeholder(
        [base[3].astype(np.float32).tolist()]), dsl_type=1,
        search_params=kv(topk=1, anns_field="v", params="{}"), consistency_level=0))
    assert list(r.results.ids.int_id.data) == [3] and r.results.scores[0] < 1e-6


def test_several_vector_fields_need_a_name(client, name):
    s = schema_of(("a", DataType.FLOAT_VECTOR, {"dim": 4}), ("b", DataType.BINARY_VECTOR,
                                                             {"dim": 16}), vector=0)
    client.create_collection(name, schema=s, consistency_level="Strong")
    index(client, name, "a", "FLAT", "IP")
    with fails(1100, "there is no vector index on field: [b], please create index firstly"):
        client.load_collection(name)
    index(client, name, "b", "BIN_FLAT", "HAMMING")
    client.load_collection(name)
    client.insert(name, [{"id": i, "a": [i, 0, 0, 1], "b": bytes([i, 255])} for i in range(8)])
    assert client.search(name, data=[[1.0, 0, 0, 0]], anns_field="a", limit=1)[0][0]["id"] == 7
    assert client.search(name, data=[bytes([5, 255])], anns_field="b", limit=1)[0][0]["id"] == 5
    with fails(None, "anns_field"):
        client.search(name, data=[[1.0, 0, 0, 0]], anns_field="", limit=1)


@pytest.mark.parametrize("metric", ["L2", "IP", "COSINE"])
def test_zero_and_equal_vectors_have_scores(client, name, metric):
    s = schema_of(("v", DataType.FLOAT_VECTOR, {"dim": 4}), vector=0)
    client.create_collection(name, schema=s, consistency_level="Strong")
    index(client, name, "v", "FLAT", metric)
    client.load_collection(name)
    client.insert(name, [{"id": 0, "v": [0, 0, 0, 0]}, {"id": 1, "v": [1, 2, 3, 4]},
                         {"id": 2, "v": [1, 2, 3, 4]}])
    hits = client.search(name, data=[[1.0, 2, 3, 4]], limit=3)[0]
    assert [h["id"] for h in hits] == [1, 2, 0]  # equal scores stand in the order of their keys
    best = {"L2": 0, "IP": 30, "COSINE": 1}[metric]
    assert abs(hits[0]["distance"] - best) < 1e-5 and hits[0]["distance"] == hits[1]["distance"]
    zero = client.search(name, data=[[0.0, 0, 0, 0]], limit=3)[0]
    assert all(h["distance"] == h["distance"] for h in zero)  # no NaN
