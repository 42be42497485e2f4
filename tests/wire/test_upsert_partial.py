"""Partial updates: given columns change, the rest stays; $meta is joined; new keys are inserts."""
import pytest
from pymilvus import DataType, MilvusClient
from support import VERSION, fails, make, simple_rows

COLUMNS = [("x", DataType.INT64), ("t", DataType.VARCHAR, {"max_length": 10, "nullable": True}),
           ("a", DataType.ARRAY, {"element_type": DataType.INT64, "max_capacity": 4,
                                  "nullable": True}),
           ("w", DataType.ARRAY, {"element_type": DataType.VARCHAR, "max_capacity": 4,
                                  "max_length": 8, "nullable": True}),
           ("j", DataType.JSON, {"nullable": True})]


def update(client, name, rows, **more):
    return client.upsert(name, rows, partial_update=True, **more)


def get(client, name, key=1, fields=("*",)):
    rows = client.query(name, filter=f"id == {key}", output_fields=list(fields))
    assert len(rows) == 1
    return rows[0]


@pytest.fixture(params=[(1, False), (1, True), (4, True)], ids=["growing", "flushed", "shards"])
def filled(request, client, name):
    shards, flushed = request.param
    make(client, name, *COLUMNS, dynamic=True, create={"num_shards": shards})
    rows = simple_rows(20, x=lambda i: i, t=lambda i: f"t{i}", a=lambda i: [1, 2],
                       w=lambda i: ["p", "q"], j=lambda i: {"k": i}, colour=lambda i: "red",
                       deep=lambda i: {"m": i})
    client.insert(name, rows)
    if flushed:
        client.flush(name)
    return name, rows


def test_given_columns_change_and_the_rest_stays(client, filled):
    name, rows = filled
    assert update(client, name, [{"id": i, "x": 100 + i} for i in (1, 17, 4)])["upsert_count"] == 3
    for i in (1, 4, 17):
        got = get(client, name, i)
        assert got["x"] == 100 + i
        assert (got["t"], list(got["a"]), list(got["w"]), got["j"], got["colour"]) == \
            (f"t{i}", [1, 2], ["p", "q"], {"k": i}, "red")
        assert list(got["vector"]) == pytest.approx(rows[i]["vector"])
    assert get(client, name, 2)["x"] == 2
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 20


def test_dynamic_keys_are_joined(client, filled):
    name, _ = filled
    update(client, name, [{"id": 1, "colour": "blue", "new": [1]}])
    got = get(client, name)
    assert (got["colour"], got["new"], got["deep"], got["x"]) == ("blue", [1], {"m": 1}, 1)


def test_json_columns_are_replaced_whole(client, filled):
    name, _ = filled
    update(client, name, [{"id": 1, "j": {"other": 1}}])
    assert get(client, name)["j"] == {"other": 1}


def test_null_is_a_value(client, filled):
    name, _ = filled
    update(client, name, [{"id": 1, "t": None}])
    got = get(client, name)
    assert got["t"] is None and got["x"] == 1


def test_the_vector_alone(client, filled):
    name, _ = filled
    update(client, name, [{"id": 1, "vector": [50.0] * 8}])
    hit = client.search(name, data=[[50.0] * 8], limit=1, output_fields=["x", "t"])[0][0]
    assert hit["id"] == 1 and (hit["entity"]["x"], hit["entity"]["t"]) == (1, "t1")


def test_a_new_key_needs_the_required_fields(client, filled):
    name, _ = filled
    with fails(1100, "fieldSchema(vector) has no corresponding fieldData pass in"):
        update(client, name, [{"id": 1, "x": 7}, {"id": 500, "x": 7}])
    assert get(client, name)["x"] == 1
    update(client, name, [{"id": 500, "x": 7, "vector": [0.0] * 8}])
    got = get(client, name, 500)
    assert (got["x"], got["t"], got["a"]) == (7, None, None)


def test_a_key_twice_is_refused(client, filled):
    name, _ = filled
    with fails(1100, "duplicate primary keys are not allowed in the same batch"):
        update(client, name, [{"id": 1, "x": 7}, {"id": 1, "x": 8}])


def test_values_are_checked(client, filled):
    name, _ = filled
    with fails(1100, "length of varchar field t exceeds max length"):
        update(client, name, [{"id": 1, "t": "x" * 11}])


def test_again_and_again(client, filled):
    name, _ = filled
    for n in range(15):
        update(client, name, [{"id": 1, "x": n}])
        update(client, name, [{"id": 1, "t": f"n{n}"}])
    got = get(client, name)
    assert (got["x"], got["t"], got["colour"]) == (14, "n14", "red")


def test_a_collection_that_is_not_loaded_is_refused(client, name):
    make(client, name, *COLUMNS, load=False)
    with fails(101, "collection not loaded"):
        update(client, name, [{"id": 1, "x": 7}])


def test_generated_keys_are_given_anew(client, name):
    make(client, name, ("x", DataType.INT64), ("y", DataType.INT64), auto_id=True)
    old = list(client.insert(name, [{"vector": [0.0] * 8, "x": 1, "y": 2}])["ids"])[0]
    update(client, name, [{"id": old, "x": 10}])
    got = client.query(name, filter="x >= 0", output_fields=["x", "y"])
    assert [(r["x"], r["y"]) for r in got] == [(10, 2)] and got[0]["id"] != old


def test_the_partition_key_stays(client, name):
    s = MilvusClient.create_schema()
    s.add_field("id", DataType.INT64, is_primary=True)
    s.add_field("tenant", DataType.VARCHAR, max_length=10, is_partition_key=True)
    s.add_field("x", DataType.INT64)
    s.add_field("vector", DataType.FLOAT_VECTOR, dim=8)
    client.create_collection(name, schema=s, consistency_level="Strong", num_shards=2)
    from support import index
    index(client, name)
    client.load_collection(name)
    client.insert(name, simple_rows(50, x=lambda i: i, tenant=lambda i: f"n{i % 9}"))
    update(client, name, [{"id": i, "x": i + 1000} for i in range(50)])
    for t in range(9):
        got = client.query(name, filter=f'tenant == "n{t}"', output_fields=["x"])
        assert sorted(r["x"] for r in got) == [1000 + i for i in range(50) if i % 9 == t]
    update(client, name, [{"id": 7, "tenant": "other"}])
    assert [r["x"] for r in client.query(name, filter='tenant == "other"', output_fields=["x"])] \
        == [1007]
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 50


@pytest.mark.skipif(VERSION < (3, 0), reason="this client has no field_ops")
def test_arrays_grow_and_shrink(client, filled):
    name, _ = filled
    update(client, name, [{"id": 1, "a": [3], "w": ["q", "r"]}],
           field_ops={"a": "array_append", "w": "array_remove"})
    got = get(client, name)
    assert (list(got["a"]), list(got["w"]), got["x"]) == ([1, 2, 3], ["p"], 1)
    update(client, name, [{"id": 1, "a": [2, 3], "w": ["s"]}],
           field_ops={"a": "array_remove", "w": "array_append"})
    got = get(client, name)
    assert (list(got["a"]), list(got["w"])) == ([1], ["p", "s"])
    with fails(1100, "exceeds max capacity (4), field a"):
        update(client, name, [{"id": 1, "a": [5, 6, 7, 8]}], field_ops={"a": "array_append"})
    with fails(1100, "field_ops: field x is of type Int64"):
        update(client, name, [{"id": 1, "x": 1}], field_ops={"x": "array_append"})
