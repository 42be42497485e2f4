"""Databases: create, list, describe, alter, drop; collections of one name in several."""
import pytest
from pymilvus import MilvusClient, MilvusException
from support import ANY, fails, is_ok, make, simple_rows


@pytest.fixture
def db(client, name):
    d = "db_" + name[-50:]
    client.create_database(d)
    yield d
    if d in client.list_databases():
        client.use_database(d)
        for x in client.list_collections():
            client.drop_collection(x)
        client.use_database("default")
        client.drop_database(d)


def test_default_database_is_there(client):
    assert "default" in client.list_databases()


def test_create_lists_and_describes(client, db):
    assert db in client.list_databases()
    assert client.describe_database(db)["name"] == db


def test_create_again_fails(client, db):
    with fails(ANY):
        client.create_database(db)


def test_names_of_collections_are_apart(server, client, name, db):
    make(client, name, rows=simple_rows(2))
    other = MilvusClient(server.uri, db_name=db)
    assert not other.has_collection(name)
    make(other, name, rows=simple_rows(5))
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 2
    assert other.query(name, output_fields=["count(*)"])[0]["count(*)"] == 5
    with fails(100, f"can't find collection[database={db}][collection=nobody]"):
        other.describe_collection("nobody")
    with fails(ANY):
        client.drop_database(db)  # not empty
    other.drop_collection(name)
    assert client.has_collection(name)
    other.close()


def test_database_of_the_request_goes_before_that_of_the_metadata(raw, client, name, db):
    make(client, name, load=False)
    assert is_ok(raw.HasCollection(collection_name=name, db_name="default")).value
    assert not is_ok(raw.HasCollection(collection_name=name, db_name=db)).value


def test_drop_removes_it(client, db):
    client.drop_database(db)
    assert db not in client.list_databases()
    with fails(800, f"database not found[database={db}]"):
        client.describe_database(db)


def test_default_database_is_not_dropped(client):
    with fails(ANY):
        client.drop_database("default")


@pytest.mark.parametrize("bad, text", [
    ("a-b", "database name can only contain numbers, letters and underscores"),
    ("1a", "the first character of a database name"), ("d" * 256, ""),
])
def test_name_that_is_bad_fails(client, bad, text):
    with fails(802, text):
        client.create_database(bad)


def test_properties_are_kept_and_removed(client, db):
    client.alter_database_properties(db, {"database.replica.number": 1})
    assert str(client.describe_database(db)["database.replica.number"]) == "1"
    client.drop_database_properties(db, ["database.replica.number"])
    assert "database.replica.number" not in client.describe_database(db)


def test_use_of_a_missing_database_fails(server):
    with pytest.raises(MilvusException):
        MilvusClient(server.uri, db_name="nobody").list_collections()
