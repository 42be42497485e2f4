"""CreateIndex, DescribeIndex, ListIndexes, DropIndex, AlterIndex: every type and its parameters."""
import pytest
from pymilvus import DataType
from support import (ANY, fails, index, is_error, is_ok, kv, make, schema_of, simple_rows, vectors)

FLOAT, BINARY, INT8 = DataType.FLOAT_VECTOR, DataType.BINARY_VECTOR, DataType.INT8_VECTOR
HALF, BHALF = DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR

TYPES = [
    ("FLAT", FLOAT, "L2", {}), ("FLAT", HALF, "IP", {}), ("FLAT", BHALF, "COSINE", {}),
    ("IVF_FLAT", FLOAT, "L2", {"nlist": 16}), ("IVF_FLAT", FLOAT, "IP", {}),
    ("IVF_SQ8", FLOAT, "COSINE", {"nlist": 16}), ("IVF_PQ", FLOAT, "L2", {"nlist": 16, "m": 4}),
    ("IVF_PQ", FLOAT, "L2", {"nlist": 16, "m": 4, "nbits": 8}),
    ("IVF_RABITQ", FLOAT, "L2", {"nlist": 16, "refine": True, "refine_type": "SQ8"}),
    ("HNSW", FLOAT, "COSINE", {"M": 16, "efConstruction": 100}), ("HNSW", FLOAT, "L2", {}),
    ("HNSW", INT8, "L2", {"M": 16}), ("HNSW_SQ", FLOAT, "L2", {"M": 16, "sq_type": "SQ8"}),
    ("HNSW_PQ", FLOAT, "L2", {"M": 16, "m": 4, "nbits": 8}),
    ("HNSW_PRQ", FLOAT, "L2", {"M": 16, "m": 4, "nrq": 2}),
    ("SCANN", FLOAT, "IP", {"nlist": 16, "with_raw_data": True}),
    ("DISKANN", FLOAT, "COSINE", {}), ("BIN_FLAT", BINARY, "HAMMING", {}),
    ("BIN_FLAT", BINARY, "JACCARD", {}), ("BIN_IVF_FLAT", BINARY, "HAMMING", {"nlist": 16}),
    ("AUTOINDEX", FLOAT, "L2", {}), ("AUTOINDEX", BINARY, "HAMMING", {}),
    ("AUTOINDEX", INT8, "COSINE", {}),
]


def with_vector(client, name, dtype, dim=16):
    client.create_collection(name, schema=schema_of(("v", dtype, {"dim": dim}),
                                                    ("x", DataType.INT64), vector=0),
                             consistency_level="Strong")


@pytest.mark.parametrize("kind, dtype, metric, params", TYPES,
                         ids=[f"{k}-{d.name}-{m}-{'-'.join(p)}" for k, d, m, p in TYPES])
def test_index_of_every_type_is_described_and_searched(client, name, kind, dtype, metric, params):
    with_vector(client, name, dtype)
    index(client, name, "v", kind, metric, **params)
    d = client.describe_index(name, "v")
    assert d["index_type"] == kind and d["metric_type"] == metric and d["field_name"] == "v"
    assert d["index_name"] == "v" and d["state"] == "Finished"
    for k, v in params.items():
        assert str(d[k]) == str(v), k
    client.load_collection(name)
    if dtype == FLOAT:
        v = vectors(100, 16)
        client.insert(name, [{"id": i, "v": v[i].tolist(), "x": i} for i in range(100)])
        client.flush(name)
        hit = client.search(name, data=[v[42].tolist()], limit=5, anns_field="v")[0]
        assert len(hit) == 5 and (metric == "IP" or hit[0]["id"] == 42)


SCALARS = [
    ("INVERTED", DataType.INT64, {}), ("INVERTED", DataType.VARCHAR, {"max_length": 9}),
    ("INVERTED", DataType.BOOL, {}), ("INVERTED", DataType.DOUBLE, {}),
    ("STL_SORT", DataType.INT64, {}), ("STL_SORT", DataType.FLOAT, {}),
    ("TRIE", DataType.VARCHAR, {"max_length": 9}), ("BITMAP", DataType.INT8, {}),
    ("BITMAP", DataType.BOOL, {}), ("BITMAP", DataType.VARCHAR, {"max_length": 9}),
    ("AUTOINDEX", DataType.INT64, {}), ("", DataType.INT64, {}),
    ("INVERTED", DataType.ARRAY, {"element_type": DataType.INT64, "max_capacity": 4}),
]
VALUES = {DataType.INT64: lambda i: i % 5, DataType.VARCHAR: lambda i: f"v{i % 5}",
          DataType.BOOL: lambda i: i % 2 == 0, DataType.DOUBLE: lambda i: i / 2,
          DataType.FLOAT: lambda i: i / 2, DataType.INT8: lambda i: i % 5,
          DataType.ARRAY: lambda i: [i % 5]}
EXPRS = {DataType.INT64: "x == 3", DataType.VARCHAR: 'x == "v3"', DataType.BOOL: "x == true",
         DataType.DOUBLE: "x > 10.0", DataType.FLOAT: "x > 10.0", DataType.INT8: "x == 3",
         DataType.ARRAY: "array_contains(x, 3)"}


@pytest.mark.parametrize("kind, dtype, options", SCALARS,
                         ids=[f"{k or 'default'}-{d.name}" for k, d, _ in SCALARS])
def test_scalar_index_changes_no_answer(client, name, kind, dtype, options):
    make(client, name, ("x", dtype, options), load=False)
    client.insert(name, simple_rows(60, x=VALUES[dtype]))
    client.flush(name)
    client.load_collection(name)
    before = [r["id"] for r in client.query(name, filter=EXPRS[dtype])]
    assert 0 < len(before) < 60
    client.release_collection(name)
    index(client, name, "x", kind, None)
    assert client.describe_index(name, "x")["field_name"] == "x"
    client.load_collection(name)
    client.insert(name, simple_rows(60, start=60, x=VALUES[dtype]))
    after = [r["id"] for r in client.query(name, filter=EXPRS[dtype])]
    assert [i for i in after if i < 60] == before and len(after) > len(before)


def test_index_waited_for_is_finished(client, name):
    make(client, name, load=False, rows=None)
    client.drop_index(name, "vector")
    index(client, name, kind="AUTOINDEX", metric="IP", wait=True)
    d = client.describe_index(name, "vector")
    assert d["index_type"] == "AUTOINDEX" and d["state"] == "Finished"


def test_rows_of_an_index_are_counted(client, name):
    make(client, name, rows=simple_rows(30))
    client.flush(name)
    d = client.describe_index(name, "vector")
    assert d["total_rows"] == 30 and d["indexed_rows"] + d["pending_index_rows"] == 30


def test_metric_left_out_is_cosine(client, name):
    client.create_collection(name, schema=schema_of())
    index(client, name, kind="FLAT", metric=None)
    assert client.describe_index(name, "vector")["metric_type"] == "COSINE"


def test_name_of_an_index_is_kept(client, name):
    client.create_collection(name, schema=schema_of(("x", DataType.INT64)))
    index(client, name, kind="FLAT", metric="L2", index_name="my_index")
    index(client, name, "x", "STL_SORT", None, index_name="other")
    assert sorted(client.list_indexes(name)) == ["my_index", "other"]
    assert client.list_indexes(name, field_name="x") == ["other"]
    assert client.describe_index(name, "my_index")["index_name"] == "my_index"
    client.drop_index(name, "other")
    assert client.list_indexes(name) == ["my_index"]


def test_identical_index_again_succeeds_another_fails(client, name):
    client.create_collection(name, schema=schema_of())
    index(client, name, kind="IVF_FLAT", metric="L2", nlist=8)
    index(client, name, kind="IVF_FLAT", metric="L2", nlist=8)
    with fails(ANY, "at most one distinct index is allowed per field"):
        index(client, name, kind="IVF_FLAT", metric="L2", nlist=16)
    with fails(ANY, "at most one distinct index is allowed per field"):
        index(client, name, kind="FLAT", metric="IP")


def test_params_as_one_json_are_the_same(raw, client, name):
    client.create_collection(name, schema=schema_of())
    is_ok(raw.CreateIndex(collection_name=name, field_name="vector", extra_params=kv(
        index_type="IVF_FLAT", metric_type="L2", params='{"nlist": 32}')))
    is_ok(raw.CreateIndex(collection_name=name, field_name="vector", extra_params=kv(
        index_type="IVF_FLAT", metric_type="L2", nlist=32)))
    d = is_ok(raw.DescribeIndex(collection_name=name)).index_descriptions[0]
    assert d.index_name == "vector" and d.indexID > 0
    flat = {p.key: p.value for p in d.params}
    assert flat["index_type"] == "IVF_FLAT" and flat["metric_type"] == "L2"


@pytest.mark.parametrize("kind, metric, params, texts", [
    ("NO_SUCH", "L2", {}, ["invalid index type"]),
    ("FLAT", "EUCLID", {}, ["float vector index does not support metric type"]),
    ("FLAT", "HAMMING", {}, ["float vector index does not support metric type"]),
    ("BIN_FLAT", "HAMMING", {}, []),
    ("IVF_FLAT", "L2", {"nlist": 0}, []), ("IVF_FLAT", "L2", {"nlist": 65537}, []),
    ("IVF_FLAT", "L2", {"nlist": "many"}, []), ("IVF_PQ", "L2", {"nlist": 8, "m": 3}, []),
    ("HNSW", "L2", {"M": 1}, []), ("HNSW", "L2", {"M": 4096}, []),
    ("HNSW", "L2", {"efConstruction": 0}, []), ("HNSW_SQ", "L2", {"sq_type": "SQ99"}, []),
    ("STL_SORT", None, {}, []),
], ids=str)
def test_index_with_wrong_parameters_fails(client, name, kind, metric, params, texts):
    client.create_collection(name, schema=schema_of(vector=16))
    with fails(1100, *texts):
        index(client, name, kind=kind, metric=metric, **params)
    assert client.list_indexes(name) == []


@pytest.mark.parametrize("dtype, kind, metric, texts", [
    (DataType.BINARY_VECTOR, "BIN_FLAT", "L2", ["binary vector index does not support metric type"]),
    (DataType.BINARY_VECTOR, "HNSW", "L2", []),
    (DataType.BINARY_VECTOR, "IVF_FLAT", "HAMMING", []),
])
def test_index_that_does_not_fit_its_field_fails(client, name, dtype, kind, metric, texts):
    with_vector(client, name, dtype)
    with fails(1100, *texts):
        index(client, name, "v", kind, metric)


@pytest.mark.parametrize("dtype, options, kind", [
    (DataType.INT64, {}, "TRIE"), (DataType.FLOAT, {}, "BITMAP"),
    (DataType.INT64, {}, "HNSW"), (DataType.BOOL, {}, "TRIE"),
])
def test_scalar_index_that_does_not_fit_fails(client, name, dtype, options, kind):
    client.create_collection(name, schema=schema_of(("x", dtype, options)))
    with fails(1100):
        index(client, name, "x", kind, None)


def test_index_on_a_missing_field_fails(client, name):
    client.create_collection(name, schema=schema_of())
    with fails(ANY, "cannot create index on non-exist field: nobody"):
        index(client, name, "nobody")


def test_index_that_is_missing_is_not_found(raw, client, name):
    client.create_collection(name, schema=schema_of())
    assert client.list_indexes(name) == []
    st = is_error(raw.DescribeIndex(collection_name=name), 700, "index not found")
    assert st.error_code == 25
    assert client.describe_index(name, "vector") is None
    client.drop_index(name, "vector")  # of nothing


def test_vector_index_of_a_loaded_collection_is_not_dropped(client, name):
    make(client, name)
    with fails(ANY, "index cannot be dropped, collection is loaded, please release it first"):
        client.drop_index(name, "vector")
    client.release_collection(name)
    client.drop_index(name, "vector")
    assert client.list_indexes(name) == []
    with fails(1100, "there is no vector index on field: [vector], please create index firstly"):
        client.load_collection(name)


def test_index_properties_are_altered(client, name):
    make(client, name, load=False)
    client.alter_index_properties(name, "vector", {"mmap.enabled": True})
    assert str(client.describe_index(name, "vector")["mmap.enabled"]).lower() == "true"
    client.drop_index_properties(name, "vector", ["mmap.enabled"])
    assert "mmap.enabled" not in client.describe_index(name, "vector")


def test_index_states_of_old_clients_are_answered(raw, client, name):
    make(client, name, rows=simple_rows(5))
    assert is_ok(raw.GetIndexState(collection_name=name, field_name="vector")).state == 3
    r = is_ok(raw.GetIndexBuildProgress(collection_name=name, field_name="vector"))
    assert r.indexed_rows == r.total_rows
    assert is_ok(raw.GetIndexStatistics(collection_name=name)).index_descriptions
