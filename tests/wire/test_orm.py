"""The older interface: connections, Collection, Partition, utility; columns instead of rows."""
import warnings

import numpy as np
import pytest
from support import check_hits, vectors

warnings.simplefilter("ignore", FutureWarning)
orm = pytest.importorskip("pymilvus.orm.collection")

from pymilvus import (Collection, CollectionSchema, DataType, FieldSchema, MilvusException,  # noqa: E402
                      Partition, connections, utility)

pytestmark = pytest.mark.filterwarnings("ignore")
DIM, N = 8, 100


@pytest.fixture(scope="module")
def connected(server):
    connections.connect("default", host="127.0.0.1", port=str(server.port))
    yield
    connections.disconnect("default")


@pytest.fixture
def coll(connected, name):
    schema = CollectionSchema([
        FieldSchema("id", DataType.INT64, is_primary=True),
        FieldSchema("x", DataType.INT32),
        FieldSchema("t", DataType.VARCHAR, max_length=20),
        FieldSchema("v", DataType.FLOAT_VECTOR, dim=DIM)], "columns")
    return Collection(name, schema, consistency_level="Strong")


def columns(start=0, n=N):
    ids = list(range(start, start + n))
    return [ids, [i % 5 for i in ids], [f"t{i}" for i in ids], vectors(n, DIM, 1 + start).tolist()]


def test_whole_flow_of_a_collection(coll, connected, name):
    assert utility.has_collection(name) and name in utility.list_collections()
    assert coll.description == "columns" and coll.primary_field.name == "id"
    assert coll.is_empty
    r = coll.insert(columns())
    assert r.insert_count == N and list(r.primary_keys) == list(range(N))
    coll.flush()
    assert coll.num_entities == N
    coll.create_index("v", {"index_type": "IVF_FLAT", "metric_type": "L2",
                            "params": {"nlist": 4}})
    assert coll.has_index() and coll.index().params["index_type"] == "IVF_FLAT"
    coll.load()
    assert utility.loading_progress(name)["loading_progress"] == "100%"
    assert str(utility.load_state(name)) == "Loaded"
    q = vectors(2, DIM, 77)
    got = coll.search(q.tolist(), "v", {"metric_type": "L2", "params": {"nprobe": 4}}, limit=5,
                      output_fields=["t", "x"])
    for hits, one in zip(got, q):
        check_hits([{"id": h.id, "distance": h.distance} for h in hits], "L2",
                   vectors(N, DIM, 1), one, 5)
        assert all(h.entity.get("t") == f"t{h.id}" for h in hits)
    assert [r["id"] for r in coll.query("x == 2 and id < 20", output_fields=["t"])] \
        == [2, 7, 12, 17]
    assert coll.delete("id in [2, 7]").delete_count == 2
    assert [r["id"] for r in coll.query("x == 2 and id < 20")] == [12, 17]
    coll.upsert([[12], [4], ["new"], vectors(1).tolist()])
    assert coll.query("id == 12", output_fields=["t"])[0]["t"] == "new"
    coll.release()
    coll.drop_index()
    assert not coll.has_index()
    coll.drop()
    assert not utility.has_collection(name)


def test_partitions_and_aliases(coll, connected, name):
    p = coll.create_partition("p")
    assert coll.has_partition("p") and {x.name for x in coll.partitions} == {"_default", "p"}
    p.insert(columns(n=10))
    coll.insert(columns(100, 5))
    coll.flush()
    assert Partition(coll, "p").num_entities == 10
    coll.create_index("v", {"index_type": "FLAT", "metric_type": "IP", "params": {}})
    p.load()
    assert len(coll.query("id >= 0", partition_names=["p"])) == 10
    p.release()
    utility.create_alias(name, name + "_a")
    assert utility.list_aliases(name) == [name + "_a"]
    assert Collection(name + "_a").num_entities == 15
    utility.drop_alias(name + "_a")
    coll.drop_partition("p")
    assert not utility.has_partition(name, "p")


def test_iterators_of_the_older_interface(coll):
    coll.create_index("v", {"index_type": "FLAT", "metric_type": "L2", "params": {}})
    coll.load()
    coll.insert(columns())
    it, ids = coll.query_iterator(batch_size=30, expr="id >= 0", output_fields=["id"]), []
    while page := it.next():
        ids += [r["id"] for r in page]
    it.close()
    assert ids == list(range(N))
    it, found = coll.search_iterator(vectors(1).tolist(), "v", {"metric_type": "L2"},
                                     batch_size=30), []
    while page := it.next():
        found += page.ids()
    it.close()
    assert sorted(found) == list(range(N))


def test_columns_of_numpy_are_taken(coll):
    coll.insert([np.arange(3), np.arange(3, dtype=np.int32), np.array(["a", "b", "c"]),
                 vectors(3, DIM)])
    coll.create_index("v", {"index_type": "FLAT", "metric_type": "L2", "params": {}})
    coll.load()
    assert [r["t"] for r in coll.query("id >= 0", output_fields=["t"])] == ["a", "b", "c"]


def test_collection_that_is_missing_fails(connected):
    with pytest.raises(MilvusException):
        Collection("nobody").num_entities


def test_utility_answers_the_version(connected):
    assert utility.get_server_version()
