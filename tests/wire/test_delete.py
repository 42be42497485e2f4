"""Delete: by keys and by filter, counts, what reads see, wrong filters."""
import pytest
from pymilvus import DataType, MilvusException
from support import ANY, fails, is_ok, make, simple_rows


def left(client, name, **more):
    return [r["id"] for r in client.query(name, filter=more.pop("where", "id >= 0"),
                                          output_fields=["id"], **more)]


@pytest.mark.parametrize("flushed", [False, True], ids=["growing", "flushed"])
def test_delete_by_ids_hides_the_rows(client, name, flushed):
    rows = simple_rows(6)
    make(client, name, rows=rows)
    if flushed:
        client.flush(name)
    assert client.delete(name, ids=[1, 3])["delete_count"] == 2
    assert left(client, name) == [0, 2, 4, 5]
    hits = client.search(name, data=[rows[1]["vector"]], limit=6)[0]
    assert sorted(h["id"] for h in hits) == [0, 2, 4, 5]
    assert client.get(name, ids=[1, 2]) and len(client.get(name, ids=[1, 2])) == 1
    if flushed:
        client.flush(name)
        assert left(client, name) == [0, 2, 4, 5]


def test_delete_by_filter_hides_what_matches(client, name):
    make(client, name, ("x", DataType.INT64), rows=simple_rows(10, x=lambda i: i % 3))
    client.flush(name)
    client.insert(name, simple_rows(10, start=10, x=lambda i: i % 3))
    assert client.delete(name, filter="x == 0")["delete_count"] == 7
    assert left(client, name) == [i for i in range(20) if i % 3]


def test_delete_by_text_keys(client, name):
    make(client, name, pk=DataType.VARCHAR)
    client.insert(name, [{"id": k, "vector": [0.0] * 8} for k in ("a", "b'c", 'd"e', "f\\g")])
    client.delete(name, ids=["a"])
    assert left(client, name, where='id >= ""') == ["b'c", 'd"e', "f\\g"]
    client.delete(name, filter='id in ["b\'c", "d\\"e"]')
    assert left(client, name, where='id >= ""') == ["f\\g"]


def test_delete_of_nothing_answers_and_changes_nothing(client, name):
    make(client, name, rows=simple_rows(3))
    client.delete(name, ids=[77])
    assert client.delete(name, filter="id > 100")["delete_count"] == 0
    assert left(client, name) == [0, 1, 2]


def test_insert_after_delete_of_the_same_key_is_seen(client, name):
    make(client, name, ("x", DataType.INT64), rows=simple_rows(3, x=lambda i: 1))
    client.delete(name, ids=[1])
    client.insert(name, simple_rows(1, start=1, x=lambda i: 2))
    got = client.query(name, filter="id == 1", output_fields=["x"])
    assert [r["x"] for r in got] == [2]
    client.flush(name)
    assert [r["x"] for r in client.query(name, filter="id == 1", output_fields=["x"])] == [2]


def test_delete_in_one_partition_leaves_the_others(client, name):
    make(client, name)
    for p in ("p", "q"):
        client.create_partition(name, p)
    client.load_collection(name)
    client.insert(name, simple_rows(2), partition_name="p")
    client.insert(name, simple_rows(2, start=10), partition_name="q")
    client.delete(name, filter="id >= 0", partition_name="p")
    assert left(client, name) == [10, 11]


def test_delete_with_template_values(client, name):
    make(client, name, rows=simple_rows(6))
    client.delete(name, filter="id in {gone}", filter_params={"gone": [2, 4]})
    assert left(client, name) == [0, 1, 3, 5]


@pytest.mark.parametrize("bad", ["id >", "nobody == 1", "id == 'a'", "id + 1", "((id == 1)"])
def test_delete_with_a_bad_filter_fails(client, name, bad):
    make(client, name, rows=simple_rows(2))
    with fails(1100, "failed to create delete plan"):
        client.delete(name, filter=bad)
    assert left(client, name) == [0, 1]


def test_delete_with_an_empty_filter_fails(raw, client, name):
    from support import is_error
    make(client, name, rows=simple_rows(2))
    is_error(raw.Delete(collection_name=name, expr=""))
    assert left(client, name) == [0, 1]


def test_delete_by_filter_when_not_loaded_fails_by_ids_succeeds(client, name):
    make(client, name, ("x", DataType.INT64), load=False)
    client.insert(name, simple_rows(3, x=lambda i: i))
    with pytest.raises(MilvusException):
        client.delete(name, filter="x > 0")
    client.delete(name, ids=[0])
    client.load_collection(name)
    assert left(client, name) == [1, 2]


def test_delete_answer_has_a_count_and_no_keys(raw, client, name):
    """With keys in the answer the client returns a list, not a count."""
    make(client, name, rows=simple_rows(3))
    r = is_ok(raw.Delete(collection_name=name, expr="id in [0, 1]"))
    assert r.delete_cnt == 2 and r.timestamp > 0
    assert not r.IDs.int_id.data and not r.IDs.str_id.data


def test_delete_of_everything_leaves_an_empty_collection(client, name):
    make(client, name, rows=simple_rows(50))
    client.flush(name)
    client.delete(name, filter="id >= 0")
    assert left(client, name) == []
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 0
    assert len(client.search(name, data=[[0.0] * 8], limit=3)[0]) == 0
    client.flush(name)
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 0


def test_delete_in_a_missing_partition_fails(client, name):
    make(client, name)
    with fails(ANY, "nowhere"):
        client.delete(name, ids=[1], partition_name="nowhere")
