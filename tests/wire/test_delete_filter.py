"""Delete by filter: what matches goes, in every shard and partition, and nothing else."""
import pytest
from pymilvus import DataType, MilvusClient
from support import fails, index, make, simple_rows


def count(client, name, where=""):
    return client.query(name, filter=where, output_fields=["count(*)"])[0]["count(*)"]


@pytest.mark.parametrize("shards", [1, 2, 16])
@pytest.mark.parametrize("flushed", [False, True], ids=["growing", "flushed"])
def test_the_matching_rows_go_and_are_counted(client, name, shards, flushed):
    make(client, name, ("x", DataType.INT64), create={"num_shards": shards})
    client.insert(name, simple_rows(500, x=lambda i: i % 10))
    if flushed:
        client.flush(name)
    assert client.delete(name, filter="x == 3 or x > 7")["delete_count"] == 150
    assert count(client, name) == 350
    assert count(client, name, "x in [3, 8, 9]") == 0
    assert client.delete(name, filter="x == 3")["delete_count"] == 0
    # What comes back under the same keys stays.
    client.insert(name, simple_rows(10, x=lambda i: 3))
    assert count(client, name, "x == 3") == 10


@pytest.mark.parametrize("always", ["", "1 == 1", "true", "not (1 == 2)"])
def test_a_filter_that_is_always_true_is_refused(raw, client, name, always):
    make(client, name, rows=simple_rows(3))
    res = raw.Delete(collection_name=name, expr=always)
    assert res.status.code == 1100 and "failed to create delete plan" in res.status.reason
    assert count(client, name) == 3


def test_a_filter_that_is_never_true_deletes_nothing(client, name):
    make(client, name, rows=simple_rows(3))
    assert client.delete(name, filter="1 == 2")["delete_count"] == 0
    assert count(client, name) == 3


def test_template_values(client, name):
    make(client, name, ("t", DataType.VARCHAR, {"max_length": 8}))
    client.insert(name, simple_rows(30, t=lambda i: f"t{i % 3}"))
    got = client.delete(name, filter="t in {words} and id < {top}",
                        filter_params={"words": ["t0", "t2"], "top": 15})
    assert got["delete_count"] == 10
    got = client.delete(name, filter="id in {ids}", filter_params={"ids": [1, 4]})
    assert got["delete_count"] == 2
    assert count(client, name) == 18


@pytest.mark.parametrize("shards", [1, 4])
def test_by_the_partition_key(client, name, shards):
    s = MilvusClient.create_schema()
    s.add_field("id", DataType.INT64, is_primary=True)
    s.add_field("tenant", DataType.INT64, is_partition_key=True)
    s.add_field("vector", DataType.FLOAT_VECTOR, dim=8)
    client.create_collection(name, schema=s, consistency_level="Strong", num_shards=shards)
    index(client, name)
    client.load_collection(name)
    client.insert(name, simple_rows(300, tenant=lambda i: i % 30))
    assert client.delete(name, filter="tenant == 7")["delete_count"] == 10
    assert client.delete(name, filter="tenant in [8, 9] and id < 100")["delete_count"] == 8
    assert client.delete(name, ids=[0, 1])["delete_count"] == 2
    assert count(client, name) == 300 - 20
    assert count(client, name, "tenant == 7") == 0
    assert count(client, name, "tenant in [8, 9]") == 12
    with fails(1100, "if partition key mode is used"):
        client.delete(name, filter="tenant == 1", partition_name="_default")


def test_in_one_partition(client, name):
    make(client, name, ("x", DataType.INT64))
    client.create_partition(name, "p")
    client.load_partitions(name, ["p"])
    client.insert(name, simple_rows(10, x=lambda i: 1))
    client.insert(name, simple_rows(10, start=100, x=lambda i: 1), partition_name="p")
    assert client.delete(name, filter="x == 1", partition_name="p")["delete_count"] == 10
    assert count(client, name) == 10
    with fails(200, "partition not found[partition=nope]"):
        client.delete(name, filter="x == 1", partition_name="nope")
