"""LoadCollection, ReleaseCollection, GetLoadState, GetLoadingProgress, RefreshLoad."""
import pytest
from pymilvus import DataType
from pymilvus.grpc_gen import common_pb2
from support import ANY, fails, is_error, is_ok, make, schema_of, simple_rows


def state(client, name):
    return str(client.get_load_state(name)["state"])


def test_load_and_release_change_the_state(client, name):
    make(client, name, load=False, rows=simple_rows(3))
    assert state(client, name) == "NotLoad"
    client.load_collection(name)
    assert state(client, name) == "Loaded"
    client.load_collection(name)  # again
    assert len(client.query(name, filter="id >= 0")) == 3
    client.release_collection(name)
    assert state(client, name) == "NotLoad"
    client.release_collection(name)  # again
    with fails(101, "collection not loaded"):
        client.query(name, filter="id >= 0")
    client.load_collection(name)
    assert len(client.query(name, filter="id >= 0")) == 3


def test_load_without_an_index_fails(client, name):
    client.create_collection(name, schema=schema_of())
    with fails(1100, "there is no vector index on field: [vector], please create index firstly"):
        client.load_collection(name)


def test_progress_is_a_hundred_when_loaded(raw, client, name):
    make(client, name, rows=simple_rows(3))
    r = is_ok(raw.GetLoadingProgress(collection_name=name))
    assert r.progress == 100
    assert is_ok(raw.GetLoadState(collection_name=name)).state \
        == common_pb2.LoadState.LoadStateLoaded
    client.release_collection(name)
    is_error(raw.GetLoadingProgress(collection_name=name), 101, "collection not loaded")


def test_refresh_reads_again(client, name):
    make(client, name, rows=simple_rows(3))
    client.refresh_load(name)
    assert len(client.query(name, filter="id >= 0")) == 3


def test_load_of_some_fields_answers_those(client, name):
    make(client, name, ("a", DataType.INT64), ("b", DataType.INT64), load=False,
         rows=simple_rows(3, a=lambda i: i, b=lambda i: i))
    client.load_collection(name, load_fields=["id", "vector", "a"])
    got = client.query(name, filter="id >= 0", output_fields=["a"])
    assert [r["a"] for r in got] == [0, 1, 2]


def test_load_of_fields_that_are_missing_fails(client, name):
    make(client, name, load=False)
    with fails(ANY, "nobody"):
        client.load_collection(name, load_fields=["id", "vector", "nobody"])


def test_more_replicas_than_nodes_fail(client, name):
    make(client, name, load=False)
    with fails(ANY):
        client.load_collection(name, replica_number=3)


@pytest.mark.parametrize("times", [8])
def test_load_and_release_in_a_row_keep_rows(client, name, times):
    make(client, name, ("x", DataType.INT64))
    for n in range(times):
        client.insert(name, simple_rows(10, start=10 * n, x=lambda i: i))
        if n % 3 == 1:
            client.flush(name)
        client.delete(name, ids=[10 * n])
        client.release_collection(name)
        client.load_collection(name)
        assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 9 * (n + 1)
