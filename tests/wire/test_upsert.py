"""Upsert: replaces, inserts, returns keys, refuses what insert refuses; partial updates."""
import pytest
from pymilvus import DataType, MilvusException
from support import fails, make, simple_rows


def read(client, name, *fields, where="id >= 0"):
    return [tuple(r[f] for f in ("id", *fields))
            for r in client.query(name, filter=where, output_fields=list(fields))]


@pytest.mark.parametrize("flushed", [False, True], ids=["growing", "flushed"])
def test_upsert_replaces_and_adds(client, name, flushed):
    make(client, name, ("x", DataType.INT64), rows=simple_rows(4, x=lambda i: i))
    if flushed:
        client.flush(name)
    r = client.upsert(name, simple_rows(3, start=2, x=lambda i: i * 10))
    assert r["upsert_count"] == 3
    assert read(client, name, "x") == [(0, 0), (1, 1), (2, 20), (3, 30), (4, 40)]
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 5
    # The old vectors of the replaced rows are not found any more.
    old = simple_rows(4)[2]["vector"]
    hit = client.search(name, data=[old], limit=5, output_fields=["x"])[0]
    assert [h["entity"]["x"] for h in hit if h["id"] == 2] == [20]
    assert len({h["id"] for h in hit}) == 5
    if flushed:
        client.flush(name)
        assert read(client, name, "x") == [(0, 0), (1, 1), (2, 20), (3, 30), (4, 40)]


def test_upsert_again_and_again_keeps_one_row(client, name):
    make(client, name, ("x", DataType.INT64))
    for n in range(20):
        client.upsert(name, simple_rows(3, x=lambda i: n))
        if n == 10:
            client.flush(name)
    assert read(client, name, "x") == [(0, 19), (1, 19), (2, 19)]
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 3


def test_upsert_with_text_keys_replaces(client, name):
    make(client, name, ("x", DataType.INT64), pk=DataType.VARCHAR)
    for n in (1, 2):
        client.upsert(name, [{"id": f"k{i}", "vector": [0.0] * 8, "x": n} for i in range(3)])
    assert read(client, name, "x", where='id >= ""') == [("k0", 2), ("k1", 2), ("k2", 2)]


def test_upsert_of_a_key_twice_in_one_batch_fails(client, name):
    make(client, name)
    with fails(1100, "duplicate primary keys are not allowed in the same batch"):
        client.upsert(name, simple_rows(1) * 2)


def test_upsert_with_generated_keys_answers_new_ones(client, name):
    make(client, name, ("x", DataType.INT64), auto_id=True)
    old = list(client.insert(name, [{"vector": [0.0] * 8, "x": 1}])["ids"])
    r = client.upsert(name, [{"id": old[0], "vector": [0.0] * 8, "x": 2}])
    assert r["upsert_count"] == 1
    got = read(client, name, "x", where="x > 0")
    assert len(got) == 1 and got[0][1] == 2 and got[0][0] != old[0]


def test_upsert_without_a_key_fails(client, name):
    make(client, name, auto_id=True)
    with pytest.raises(MilvusException):
        client.upsert(name, [{"vector": [0.0] * 8}])


def test_upsert_of_nothing_answers_zero(client, name):
    make(client, name)
    assert client.upsert(name, [])["upsert_count"] == 0


def test_upsert_into_another_partition_keeps_the_row_of_the_first(client, name):
    """A key lives once for each partition it was written to; the whole collection shows the newest."""
    make(client, name, ("x", DataType.INT64))
    client.create_partition(name, "p")
    client.load_partitions(name, ["p"])
    client.insert(name, simple_rows(1, x=lambda i: 1))
    client.upsert(name, simple_rows(1, x=lambda i: 2), partition_name="p")
    assert (0, 2) in read(client, name, "x")
    assert len(read(client, name, "x")) == 1


def test_upsert_checks_rows_like_insert(client, name):
    make(client, name, ("t", DataType.VARCHAR, {"max_length": 2}),
         rows=simple_rows(1, t=lambda i: "a"))
    with fails(1100, "length of varchar field t exceeds max length"):
        client.upsert(name, simple_rows(1, t=lambda i: "abc"))
    assert read(client, name, "t") == [(0, "a")]
