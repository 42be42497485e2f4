"""Has, Describe, Show, Drop, Rename, Alter, AddField and statistics of collections."""
import pytest
from pymilvus import DataType, MilvusException
from pymilvus.grpc_gen import common_pb2
from support import VERSION, fails, index, is_error, is_ok, make, schema_of, simple_rows

MISSING = "no_such_collection"


def test_has_collection_when_missing_is_false(client, raw):
    assert client.has_collection(MISSING) is False
    r = is_ok(raw.HasCollection(collection_name=MISSING))
    assert r.value is False


def test_has_collection_when_there_is_true(client, raw, name):
    client.create_collection(name, schema=schema_of())
    assert client.has_collection(name) is True
    assert is_ok(raw.HasCollection(collection_name=name)).value is True


def test_describe_when_missing_fails(client, raw):
    with fails(100, f"can't find collection[database=default][collection={MISSING}]"):
        client.describe_collection(MISSING)
    st = is_error(raw.DescribeCollection(collection_name=MISSING), 100)
    assert st.error_code in (1, 4)


@pytest.mark.parametrize("call", [
    lambda c: c.load_collection(MISSING),
    lambda c: c.release_collection(MISSING),
    lambda c: c.get_collection_stats(MISSING),
    lambda c: c.list_partitions(MISSING),
    lambda c: c.create_partition(MISSING, "p"),
    lambda c: c.flush(MISSING),
    lambda c: c.search(MISSING, data=[[0.0, 1.0]], limit=1),
    lambda c: c.query(MISSING, filter="id > 0"),
    lambda c: c.delete(MISSING, filter="id > 0"),
    lambda c: c.insert(MISSING, [{"id": 1}]),
    lambda c: c.rename_collection(MISSING, "other_name"),
    lambda c: c.create_alias(MISSING, "some_alias"),
    lambda c: c.alter_collection_properties(MISSING, {"collection.ttl.seconds": 1}),
], ids=["load", "release", "stats", "list_partitions", "create_partition", "flush", "search",
        "query", "delete", "insert", "rename", "create_alias", "alter"])
def test_call_on_a_missing_collection_fails_with_100(client, call):
    with fails(100, MISSING):
        call(client)


def test_load_state_of_a_missing_collection_says_so(raw, client):
    r = raw.GetLoadState(collection_name=MISSING)
    if status_ok := (r.status.code == 0):
        assert r.state == common_pb2.LoadState.LoadStateNotExist
    assert status_ok or r.status.code == 100


def test_list_collections_has_ids_and_times(raw, client, name):
    client.create_collection(name, schema=schema_of())
    r = is_ok(raw.ShowCollections())
    at = list(r.collection_names).index(name)
    assert r.collection_ids[at] == client.describe_collection(name)["collection_id"]
    assert r.created_timestamps[at] > 0 and r.created_utc_timestamps[at] > 0
    assert len(r.collection_names) == len(r.collection_ids)


def test_drop_when_missing_succeeds(client):
    client.drop_collection(MISSING)


def test_drop_when_loaded_succeeds(client, name):
    make(client, name, rows=simple_rows(5))
    client.drop_collection(name)
    assert name not in client.list_collections()
    with fails(100):
        client.query(name, filter="id > 0")


def test_rename_moves_the_rows_to_the_new_name(client, name):
    make(client, name, rows=simple_rows(5))
    other = name + "_renamed"
    client.rename_collection(name, other)
    try:
        assert not client.has_collection(name) and client.has_collection(other)
        assert client.describe_collection(other)["collection_name"] == other
        assert client.query(other, output_fields=["count(*)"])[0]["count(*)"] == 5
    finally:
        client.drop_collection(other)


def test_rename_to_a_taken_or_bad_name_fails(client, name):
    other = name + "_b"
    client.create_collection(name, schema=schema_of())
    client.create_collection(other, schema=schema_of())
    try:
        with pytest.raises(MilvusException):
            client.rename_collection(name, other)
        with fails(1100, "Invalid collection name"):
            client.rename_collection(name, "a-b")
        assert client.has_collection(name) and client.has_collection(other)
    finally:
        client.drop_collection(other)


def test_stats_count_rows(client, name):
    make(client, name, rows=simple_rows(12))
    assert int(client.get_collection_stats(name)["row_count"]) == 12
    client.flush(name)
    assert int(client.get_collection_stats(name)["row_count"]) == 12


def test_alter_properties_sets_and_removes_them(client, name):
    client.create_collection(name, schema=schema_of())
    client.alter_collection_properties(name, {"collection.ttl.seconds": "1800"})
    assert client.describe_collection(name)["properties"]["collection.ttl.seconds"] == "1800"
    client.drop_collection_properties(name, ["collection.ttl.seconds"])
    assert "collection.ttl.seconds" not in client.describe_collection(name)["properties"]


def test_alter_with_a_bad_ttl_fails(client, name):
    client.create_collection(name, schema=schema_of())
    with pytest.raises(MilvusException):
        client.alter_collection_properties(name, {"collection.ttl.seconds": "soon"})


def test_alter_field_raises_max_length(client, name):
    make(client, name, ("t", DataType.VARCHAR, {"max_length": 4}), rows=None)
    with fails(1100, "length of varchar field t exceeds max length"):
        client.insert(name, simple_rows(1, t=lambda i: "12345"))
    client.alter_collection_field(name, "t", {"max_length": 8})
    client.insert(name, simple_rows(1, t=lambda i: "12345"))
    assert client.query(name, filter="id == 0", output_fields=["t"])[0]["t"] == "12345"


def test_add_field_reads_null_and_default_in_old_rows(client, name):
    make(client, name, rows=simple_rows(3))
    client.add_collection_field(name, "note", DataType.VARCHAR, max_length=20, nullable=True)
    client.add_collection_field(name, "level", DataType.INT64, nullable=True, default_value=7)
    client.insert(name, [{**simple_rows(1, start=3)[0], "note": "new", "level": 9}])
    got = client.query(name, filter="id >= 0", output_fields=["note", "level"])
    assert [(r["note"], r["level"]) for r in got] == [(None, 7), (None, 7), (None, 7), ("new", 9)]
    ids = [r["id"] for r in client.query(name, filter="note is null", output_fields=["id"])]
    assert ids == [0, 1, 2]


def test_added_vector_field_is_searched_in_the_rows_that_have_it(client, name):
    make(client, name, rows=simple_rows(3))
    client.flush(name)
    client.add_collection_field(name, "more", DataType.FLOAT_VECTOR, dim=2, nullable=True)
    index(client, name, "more")
    client.insert(name, [{**r, "more": [r["id"], 0.0]} for r in simple_rows(4, start=3)])
    for _ in range(2):
        got = client.search(name, [[5.0, 0.0]], anns_field="more", limit=10)[0]
        assert [(h["id"], h["distance"]) for h in got] == [(5, 0), (4, 1), (6, 1), (3, 4)]
        client.flush(name)


def test_add_field_that_is_not_nullable_fails(client, name):
    client.create_collection(name, schema=schema_of())
    with pytest.raises(MilvusException):
        client.add_collection_field(name, "must", DataType.INT64)


def test_insert_with_an_old_schema_timestamp_is_refused(raw, client, name):
    """Clients drop their cached schema on error_code 62 and try again."""
    make(client, name)
    old = raw.DescribeCollection(collection_name=name).update_timestamp
    client.add_collection_field(name, "note", DataType.VARCHAR, max_length=20, nullable=True)
    assert raw.DescribeCollection(collection_name=name).update_timestamp != old
    st = is_error(raw.Insert(collection_name=name, num_rows=1, schema_timestamp=old), 109,
                  f"collection schema mismatch[collection={name}]")
    assert st.error_code == 62


def test_batch_describe_answers_in_the_order_of_the_request(raw, client, name):
    names = [name, name + "_b"]
    for n in names:
        client.create_collection(n, schema=schema_of())
    r = is_ok(raw.BatchDescribeCollection(collection_name=reversed(names)))
    assert [x.collection_name for x in r.responses] == names[::-1]
    client.drop_collection(names[1])


@pytest.mark.skipif(VERSION < (2, 6), reason="the client lacks it")
def test_replicas_and_segments_are_described(client, name):
    make(client, name, rows=simple_rows(10))
    client.flush(name)
    assert len(client.describe_replica(name)) == 1
    assert sum(s.num_rows for s in client.list_persistent_segments(name)) == 10
    assert sum(s.num_rows for s in client.list_loaded_segments(name)) == 10
