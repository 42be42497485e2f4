"""Partitions: create, has, list, drop, load, release, statistics; partition keys."""
import pytest
from pymilvus import DataType, MilvusException
from support import ANY, fails, index, is_ok, make, schema_of, simple_rows


def test_default_partition_is_there(client, name):
    make(client, name)
    assert client.list_partitions(name) == ["_default"]
    assert client.has_partition(name, "_default") and not client.has_partition(name, "p")


def test_create_and_drop(client, name):
    make(client, name, load=False)
    client.create_partition(name, "p")
    client.create_partition(name, "2024-05")  # partitions may start with a digit and have dashes
    assert set(client.list_partitions(name)) == {"_default", "p", "2024-05"}
    client.create_partition(name, "p")  # again
    client.drop_partition(name, "p")
    client.drop_partition(name, "p")  # again
    assert set(client.list_partitions(name)) == {"_default", "2024-05"}


def test_drop_takes_its_rows_along(client, name):
    make(client, name, load=False)
    client.create_partition(name, "p")
    client.insert(name, simple_rows(3), partition_name="p")
    client.insert(name, simple_rows(2, start=10))
    client.drop_partition(name, "p")
    client.load_collection(name)
    assert [r["id"] for r in client.query(name, filter="id >= 0")] == [10, 11]
    client.release_collection(name)
    client.create_partition(name, "p")
    client.load_collection(name)
    assert [r["id"] for r in client.query(name, filter="id >= 0")] == [10, 11]


def test_drop_of_the_default_partition_fails(client, name):
    make(client, name, load=False)
    with pytest.raises(MilvusException):
        client.drop_partition(name, "_default")


def test_drop_of_a_loaded_partition_fails(client, name):
    make(client, name)
    client.create_partition(name, "p")
    client.load_partitions(name, ["p"])
    with fails(ANY, "partition cannot be dropped, partition is loaded, please release it first"):
        client.drop_partition(name, "p")
    client.release_partitions(name, ["p"])
    client.drop_partition(name, "p")


@pytest.mark.parametrize("bad", ["a b", "a$", "", "ä", "p" * 256])
def test_name_that_is_bad_fails(raw, name, client, bad):
    from support import is_error
    make(client, name, load=False)
    is_error(raw.CreatePartition(collection_name=name, partition_name=bad))
    assert client.list_partitions(name) == ["_default"]


def test_one_loaded_partition_answers_alone(client, name):
    make(client, name, load=False)
    for p in ("p", "q"):
        client.create_partition(name, p)
    client.insert(name, simple_rows(3), partition_name="p")
    client.insert(name, simple_rows(3, start=10), partition_name="q")
    client.load_partitions(name, ["p"])
    assert str(client.get_load_state(name, "p")["state"]) == "Loaded"
    assert str(client.get_load_state(name, "q")["state"]) == "NotLoad"
    assert [r["id"] for r in client.query(name, filter="id >= 0")] == [0, 1, 2]
    with fails(201, "partition not loaded"):
        client.query(name, filter="id >= 0", partition_names=["q"])
    client.load_partitions(name, ["q"])
    assert len(client.query(name, filter="id >= 0")) == 6
    client.release_partitions(name, ["p"])
    assert [r["id"] for r in client.query(name, filter="id >= 0")] == [10, 11, 12]


def test_load_of_a_missing_partition_fails(client, name):
    make(client, name, load=False)
    with fails(200, "partition not found[partition=nowhere]"):
        client.load_partitions(name, ["nowhere"])


def test_statistics_count_the_rows_of_one(client, name):
    make(client, name)
    client.create_partition(name, "p")
    client.load_collection(name)
    client.insert(name, simple_rows(3), partition_name="p")
    client.insert(name, simple_rows(5, start=10))
    assert int(client.get_partition_stats(name, "p")["row_count"]) == 3
    assert int(client.get_collection_stats(name)["row_count"]) == 8
    with fails(200, "nowhere"):
        client.get_partition_stats(name, "nowhere")


def test_partitions_are_shown_with_ids(raw, client, name):
    make(client, name, load=False)
    client.create_partition(name, "p")
    r = is_ok(raw.ShowPartitions(collection_name=name))
    assert len(r.partitionIDs) == len(r.partition_names) == 2
    assert len(set(r.partitionIDs)) == 2 and all(r.created_timestamps)


def test_partitions_above_the_limit_fail(client, name):
    make(client, name, load=False)
    for i in range(1023):
        client.create_partition(name, f"p{i}")
    with fails(ANY, "1024"):
        client.create_partition(name, "one_more")
    assert len(client.list_partitions(name)) == 1024


# ---- partition keys ----

def keyed(client, name, dtype=DataType.INT64, **more):
    s = schema_of(("k", dtype, {"is_partition_key": True, **({"max_length": 20}
                                if dtype == DataType.VARCHAR else {})}), ("x", DataType.INT64))
    client.create_collection(name, schema=s, consistency_level="Strong", **more)
    index(client, name, kind="FLAT", metric="L2")
    client.load_collection(name)


def test_partition_key_makes_sixteen_partitions(client, name):
    keyed(client, name)
    d = client.describe_collection(name)
    assert d["num_partitions"] == 16
    assert [f["name"] for f in d["fields"] if f.get("is_partition_key")] == ["k"]


def test_partition_key_with_a_number_of_partitions(client, name):
    keyed(client, name, num_partitions=3)
    assert client.describe_collection(name)["num_partitions"] == 3


@pytest.mark.parametrize("dtype", [DataType.INT64, DataType.VARCHAR])
def test_filters_on_the_key_find_their_rows(client, name, dtype):
    keyed(client, name, dtype)
    key = (lambda i: f"tenant'{i % 7}") if dtype == DataType.VARCHAR else (lambda i: i % 7)
    rows = simple_rows(200, k=key, x=lambda i: i)
    client.insert(name, rows[:100])
    client.flush(name)
    client.insert(name, rows[100:])
    quote = (lambda v: f'"{v}"') if dtype == DataType.VARCHAR else str
    k1, k2 = quote(key(1)), quote(key(2))
    for expr, keep in [
        (f"k == {k1}", lambda i: i % 7 == 1), (f"k in [{k1}, {k2}]", lambda i: i % 7 in (1, 2)),
        (f"k == {k1} or k == {k2}", lambda i: i % 7 in (1, 2)),
        (f"k == {k1} and x > 50", lambda i: i % 7 == 1 and i > 50),
        (f"k == {k1} or x == 0", lambda i: i % 7 == 1 or i == 0),
        (f"k != {k1}", lambda i: i % 7 != 1), (f"not (k == {k1})", lambda i: i % 7 != 1),
        (f"k == {k1} and k == {k2}", lambda i: False), ("x >= 0", lambda i: True),
    ]:
        got = client.query(name, filter=expr, output_fields=["id"])
        assert [r["id"] for r in got] == [i for i in range(200) if keep(i)], expr
    hits = client.search(name, data=[rows[8]["vector"]], limit=200, filter=f"k == {k1}")[0]
    assert sorted(h["id"] for h in hits) == [i for i in range(200) if i % 7 == 1]
    assert client.delete(name, filter=f"k == {k1}")["delete_count"] == len(range(1, 200, 7))
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 200 - len(
        range(1, 200, 7))


def test_naming_partitions_of_a_keyed_collection_fails(client, name):
    keyed(client, name)
    words = "not support manually specifying the partition names if partition key mode is used"
    client.insert(name, simple_rows(1, k=lambda i: 1, x=lambda i: 1))
    for call in (lambda: client.insert(name, simple_rows(1, k=lambda i: 1, x=lambda i: 1),
                                       partition_name="_default_0"),
                 lambda: client.search(name, data=[[0.0] * 8], limit=1,
                                       partition_names=["_default_0"]),
                 lambda: client.query(name, filter="id >= 0", partition_names=["_default_0"])):
        with fails(1100, words):
            call()


@pytest.mark.parametrize("field, options", [
    (DataType.FLOAT, {}), (DataType.INT64, {"nullable": True}),
])
def test_partition_key_of_a_wrong_kind_fails(client, name, field, options):
    from pymilvus.exceptions import MilvusException as E
    with pytest.raises(E):
        s = schema_of(("k", field, {"is_partition_key": True, **options}))
        client.create_collection(name, schema=s)
