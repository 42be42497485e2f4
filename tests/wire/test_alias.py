"""Aliases: usable wherever a name is, moved, dropped, in conflict."""
import pytest
from support import ANY, fails, is_ok, make, simple_rows


@pytest.fixture
def alias(client, name):
    a = name + "_alias"
    yield a
    client.drop_alias(a)


def test_alias_stands_for_its_collection(client, name, alias):
    make(client, name, rows=simple_rows(4))
    client.create_alias(name, alias)
    assert client.has_collection(alias)
    assert client.query(alias, output_fields=["count(*)"])[0]["count(*)"] == 4
    assert len(client.search(alias, data=[[0.0] * 8], limit=2)[0]) == 2
    client.insert(alias, simple_rows(1, start=10))
    client.delete(alias, ids=[0])
    assert [r["id"] for r in client.query(name, filter="id >= 0")] == [1, 2, 3, 10]
    assert client.describe_collection(name)["aliases"] == [alias]
    assert client.describe_alias(alias)["collection_name"] == name
    assert alias in client.list_aliases(name)["aliases"]


def test_described_by_alias_has_the_real_name(raw, client, name, alias):
    make(client, name, load=False)
    client.create_alias(name, alias)
    assert is_ok(raw.DescribeCollection(collection_name=alias)).schema.name == name


def test_alter_moves_an_alias(client, name, alias):
    other = name + "_other"
    make(client, name, rows=simple_rows(1))
    make(client, other, rows=simple_rows(2))
    client.create_alias(name, alias)
    client.alter_alias(other, alias)
    assert client.query(alias, output_fields=["count(*)"])[0]["count(*)"] == 2
    client.drop_alias(alias)
    client.drop_collection(other)


def test_drop_of_an_alias_leaves_the_collection(client, name, alias):
    make(client, name, load=False)
    client.create_alias(name, alias)
    client.drop_alias(alias)
    assert not client.has_collection(alias) and client.has_collection(name)
    client.drop_alias(alias)  # again


def test_conflicts_have_their_codes(client, name, alias):
    other = name + "_other"
    make(client, name, load=False)
    make(client, other, load=False)
    client.create_alias(name, alias)
    client.create_alias(name, alias)  # the same again
    with fails(1602, f"{alias} is alias to another collection: {name}",
               f"alias already exist[database=default][alias={alias}]"):
        client.create_alias(other, alias)
    with fails(1601, f"alias and collection name conflict[database=default][alias={other}]"):
        client.create_alias(name, other)
    client.drop_collection(other)


def test_collection_that_has_an_alias_is_not_dropped(client, name, alias):
    make(client, name, load=False)
    client.create_alias(name, alias)
    with fails(ANY):
        client.drop_collection(name)
    with fails(ANY):
        client.drop_collection(alias)
    assert client.has_collection(name)


def test_collection_with_the_name_of_an_alias_fails(client, name, alias):
    make(client, name, load=False)
    client.create_alias(name, alias)
    with fails(ANY):
        make(client, alias, load=False)


@pytest.mark.parametrize("bad", ["1a", "a-b", "a" * 256])
def test_alias_with_a_bad_name_fails(client, name, bad):
    make(client, name, load=False)
    with fails(1100, f"Invalid collection alias: {bad}"):
        client.create_alias(name, bad)


def test_alias_that_is_missing_fails(client, name):
    make(client, name, load=False)
    with fails(1600, "alias not found[database=default][alias=nobody]"):
        client.describe_alias("nobody")
    with fails(1600, "alias not found"):
        client.alter_alias(name, "nobody")
