"""Insert: rows of every scalar type, generated keys, dynamic keys, nulls, defaults; wrong rows."""
import math

import numpy as np
import pytest
from pymilvus import DataType, MilvusException
from pymilvus.grpc_gen import schema_pb2
from support import (ANY, fails, float_column, is_error, is_ok, long_column, make, schema_of,
                     simple_rows)

ROWS = {  # type, options -> values that must come back as they went in
    "bool": (DataType.BOOL, {}, [True, False]),
    "int8": (DataType.INT8, {}, [-128, 127, 0]),
    "int16": (DataType.INT16, {}, [-32768, 32767, 0]),
    "int32": (DataType.INT32, {}, [-2 ** 31, 2 ** 31 - 1, 0]),
    "int64": (DataType.INT64, {}, [-2 ** 63, 2 ** 63 - 1, 0]),
    "float": (DataType.FLOAT, {}, [0.0, -1.5, 3.4028234663852886e38, 1.401298464324817e-45]),
    "double": (DataType.DOUBLE, {}, [0.0, -0.1, 1.7976931348623157e308, 5e-324]),
    "varchar": (DataType.VARCHAR, {"max_length": 200},
                ["", "a", "naïve ÄÖÜ 中文 🦅", "x" * 200, "with 'quotes' and \"more\"\n\t\\", "\x01"]),
    "json": (DataType.JSON, {},
             [{}, {"a": 1}, {"a": {"b": [1, 2, {"c": None}]}}, {"ü": "中文 🦅"}, [1, "x", True],
              5, 1.5, True, {"big": 2 ** 53 + 1, "neg": -1.25e-10}]),
    "array_bool": (DataType.ARRAY, {"element_type": DataType.BOOL, "max_capacity": 4},
                   [[], [True], [False, True, False, True]]),
    "array_int8": (DataType.ARRAY, {"element_type": DataType.INT8, "max_capacity": 4},
                   [[], [-128, 127]]),
    "array_int16": (DataType.ARRAY, {"element_type": DataType.INT16, "max_capacity": 4},
                    [[], [-32768, 32767]]),
    "array_int32": (DataType.ARRAY, {"element_type": DataType.INT32, "max_capacity": 4},
                    [[], [1], [1, 2, 3, 4]]),
    "array_int64": (DataType.ARRAY, {"element_type": DataType.INT64, "max_capacity": 4},
                    [[], [-2 ** 63, 2 ** 63 - 1]]),
    "array_float": (DataType.ARRAY, {"element_type": DataType.FLOAT, "max_capacity": 4},
                    [[], [0.5, -0.25]]),
    "array_double": (DataType.ARRAY, {"element_type": DataType.DOUBLE, "max_capacity": 4},
                     [[], [0.1, -0.2, 1e300]]),
    "array_varchar": (DataType.ARRAY, {"element_type": DataType.VARCHAR, "max_capacity": 4,
                                       "max_length": 10},
                      [[], [""], ["a", "äöü", "1234567890"]]),
}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("flushed", [False, True], ids=["growing", "flushed"])
def test_value_comes_back_as_it_went_in(client, name, kind, flushed):
    dtype, options, values = ROWS[kind]
    make(client, name, ("x", dtype, {**options, "nullable": True}))
    want = [*values, None]
    client.insert(name, simple_rows(len(want), x=lambda i: want[i]))
    if flushed:
        client.flush(name)
    got = client.query(name, filter="id >= 0", output_fields=["x"])
    back = [list(r["x"]) if isinstance(want[i], list) and r["x"] is not None else r["x"]
            for i, r in enumerate(got)]
    if kind in ("float", "array_float"):
        assert [np.float32(b) if isinstance(b, float) else b for b in back] == want
    else:
        assert back == want
    assert [r["id"] for r in client.query(name, filter="x is null", output_fields=["id"])] == \
        [len(values)]
    hit = client.search(name, data=[simple_rows(len(want))[0]["vector"]], limit=1,
                        output_fields=["x"])[0][0]
    assert hit["id"] == 0 and (hit["entity"]["x"] == want[0] or list(hit["entity"]["x"]) == want[0])


def test_insert_answers_count_and_ids(client, name):
    make(client, name)
    r = client.insert(name, simple_rows(3, start=10))
    assert r["insert_count"] == 3 and list(r["ids"]) == [10, 11, 12]
    r = client.insert(name, simple_rows(1)[0])  # one row, not a list
    assert r["insert_count"] == 1 and list(r["ids"]) == [0]


def test_insert_with_generated_integer_keys_answers_distinct_rising_ones(client, name):
    make(client, name, auto_id=True)
    rows = [{"vector": r["vector"]} for r in simple_rows(100)]
    a, b = (list(client.insert(name, rows)["ids"]) for _ in "ab")
    assert len(set(a + b)) == 200 and sorted(a) == a and min(b) > max(a)
    got = client.query(name, filter=f"id in {a[:3]}", output_fields=["vector"])
    assert np.allclose([r["vector"] for r in got], [r["vector"] for r in rows[:3]])


def test_insert_with_generated_text_keys_answers_numbers_as_text(client, name):
    make(client, name, auto_id=True, pk=DataType.VARCHAR)
    ids = list(client.insert(name, [{"vector": [0.0] * 8}, {"vector": [1.0] * 8}])["ids"])
    assert len(set(ids)) == 2 and all(isinstance(i, str) and i.isdigit() for i in ids)


def test_insert_of_a_key_that_is_generated_fails(raw, client, name):
    make(client, name, auto_id=True)
    is_error(raw.Insert(collection_name=name, num_rows=1, fields_data=[
        long_column("id", [1]), float_column("vector", [0.0] * 8, 8)]))


def test_insert_of_a_given_key_where_allowed_is_kept(client, name):
    make(client, name, auto_id=True, create={"properties": {"allow_insert_auto_id": "true"}})
    assert list(client.insert(name, simple_rows(2, start=5))["ids"]) == [5, 6]


def test_dynamic_keys_come_back_and_filter(client, name):
    make(client, name, ("a", DataType.INT64), dynamic=True)
    rows = simple_rows(4, a=lambda i: i)
    rows[0].update(colour="red", n=1)
    rows[1].update(colour="blue", nested={"deep": [1, 2]})
    rows[2].update(colour=None)
    client.insert(name, rows)
    got = client.query(name, filter='colour == "red"', output_fields=["colour", "n", "a"])
    assert [(r["id"], r["colour"], r["n"], r["a"]) for r in got] == [(0, "red", 1, 0)]
    got = client.query(name, filter='$meta["nested"]["deep"][1] == 2', output_fields=["nested"])
    assert [(r["id"], r["nested"]) for r in got] == [(1, {"deep": [1, 2]})]
    everything = client.query(name, filter="id == 0", output_fields=["*"])[0]
    assert everything["colour"] == "red" and everything["n"] == 1
    plain = client.query(name, filter="id == 3", output_fields=["colour"])[0]
    assert "colour" not in plain
    hit = client.search(name, data=[rows[1]["vector"]], limit=1, output_fields=["colour"])[0][0]
    assert hit["entity"]["colour"] == "blue"


def test_unknown_key_without_dynamic_field_fails(client, name):
    make(client, name)
    with pytest.raises(MilvusException):
        client.insert(name, [{**simple_rows(1)[0], "extra": 1}])


def test_defaults_and_nulls_fill_what_a_row_leaves_out(client, name):
    make(client, name, ("n", DataType.INT64, {"default_value": 42}),
         ("t", DataType.VARCHAR, {"max_length": 10, "default_value": "dflt"}),
         ("b", DataType.BOOL, {"default_value": True}),
         ("d", DataType.DOUBLE, {"nullable": True}),
         ("both", DataType.INT32, {"nullable": True, "default_value": np.int32(3)}))
    rows = simple_rows(3)
    rows[0].update(n=1, t="x", b=False, d=0.5, both=9)
    rows[1].update(n=None, d=None, both=None)
    client.insert(name, rows[:1])
    client.insert(name, rows[1:2])
    client.insert(name, rows[2:])
    got = client.query(name, filter="id >= 0", output_fields=["n", "t", "b", "d", "both"])
    assert [(r["n"], r["t"], r["b"], r["d"], r["both"]) for r in got] == [
        (1, "x", False, 0.5, 9), (42, "dflt", True, None, 3), (42, "dflt", True, None, 3)]


def test_nulls_in_one_batch_with_values(client, name):
    make(client, name, ("x", DataType.INT64, {"nullable": True}),
         ("t", DataType.VARCHAR, {"max_length": 10, "nullable": True}),
         ("a", DataType.ARRAY, {"element_type": DataType.INT64, "max_capacity": 3,
                                "nullable": True}))
    rows = simple_rows(9, x=lambda i: None if i % 3 == 0 else i,
                       t=lambda i: None if i % 2 else str(i),
                       a=lambda i: None if i % 4 == 0 else [i])
    client.insert(name, rows)
    for _ in range(2):
        got = client.query(name, filter="id >= 0", output_fields=["x", "t", "a"])
        assert [r["x"] for r in got] == [r["x"] for r in rows]
        assert [r["t"] for r in got] == [r["t"] for r in rows]
        assert [None if r["a"] is None else list(r["a"]) for r in got] == [r["a"] for r in rows]
        client.flush(name)


def test_insert_of_the_same_key_twice_reads_the_newer(client, name):
    make(client, name, ("x", DataType.INT64))
    client.insert(name, simple_rows(3, x=lambda i: 1))
    client.insert(name, simple_rows(1, start=1, x=lambda i: 2))
    assert [(r["id"], r["x"]) for r in client.query(name, filter="id >= 0", output_fields=["x"])] \
        == [(0, 1), (1, 2), (2, 1)]


def test_insert_of_nothing_answers_zero(client, name):
    make(client, name)
    assert client.insert(name, [])["insert_count"] == 0


def test_insert_of_ten_thousand_rows_counts_them(client, name):
    make(client, name, ("x", DataType.INT64))
    v = np.zeros((10000, 8), dtype=np.float32)
    for start in range(0, 10000, 2500):
        client.insert(name, [{"id": i, "vector": v[i].tolist(), "x": i}
                             for i in range(start, start + 2500)])
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 10000
    assert client.query(name, filter="x >= 9990", output_fields=["count(*)"])[0]["count(*)"] == 10


# ---- wrong rows ----

@pytest.mark.parametrize("dtype, options, bad, texts", [
    (DataType.VARCHAR, {"max_length": 4}, "12345",
     ["length of varchar field x exceeds max length"]),
    (DataType.VARCHAR, {"max_length": 4}, "äöü", ["length of varchar field x exceeds max length"]),
    (DataType.INT8, {}, 128, []),
    (DataType.INT8, {}, -129, []),
    (DataType.INT16, {}, 32768, []),
    (DataType.ARRAY, {"element_type": DataType.INT64, "max_capacity": 2}, [1, 2, 3], []),
    (DataType.ARRAY, {"element_type": DataType.INT8, "max_capacity": 2}, [1000], []),
    (DataType.ARRAY, {"element_type": DataType.VARCHAR, "max_capacity": 2, "max_length": 2},
     ["abc"], []),
    (DataType.INT64, {}, None, []),
    (DataType.JSON, {}, {"a": "x" * 70000}, []),
], ids=["too_long", "too_long_in_bytes", "int8_high", "int8_low", "int16_high", "array_too_long",
        "array_int8", "array_text", "null", "json_too_big"])
def test_value_outside_its_field_fails_and_nothing_is_stored(client, name, dtype, options, bad,
                                                             texts):
    make(client, name, ("x", dtype, options))
    with pytest.raises(MilvusException) as e:
        client.insert(name, simple_rows(1, x=lambda i: bad))
    for t in texts:
        assert t in e.value.message
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 0


def test_json_that_is_no_json_fails(raw, client, name):
    make(client, name, ("x", DataType.JSON))
    for text in (b"{", b"", b"{'a': 1}", b"\xff", b"[1,]", b"{}x", b"[" * 100000):
        bad = schema_pb2.FieldData(type=23, field_name="x", scalars=schema_pb2.ScalarField(
            json_data=schema_pb2.JSONArray(data=[text])))
        is_error(raw.Insert(collection_name=name, num_rows=1, fields_data=[
            long_column("id", [1]), float_column("vector", [0.0] * 8, 8), bad]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_vector_with_a_value_that_is_no_number_fails(client, name, bad):
    make(client, name)
    with fails(ANY):
        client.insert(name, [{"id": 1, "vector": [0.0] * 7 + [bad]}])


@pytest.mark.parametrize("length", [0, 7, 9])
def test_vector_of_another_length_fails(raw, client, name, length):
    make(client, name)
    is_error(raw.Insert(collection_name=name, num_rows=1, fields_data=[
        long_column("id", [1]), float_column("vector", [0.0] * length, 8)]), ANY)


@pytest.mark.parametrize("what, columns, texts", [
    ("no vector", lambda: [long_column("id", [1])], []),
    ("no key", lambda: [float_column("vector", [0.0] * 8, 8)], []),
    ("twice", lambda: [long_column("id", [1])] * 2 + [float_column("vector", [0.0] * 8, 8)], []),
    ("unknown", lambda: [long_column("id", [1]), float_column("vector", [0.0] * 8, 8),
                         long_column("more", [1])], []),
    ("two keys for one row", lambda: [long_column("id", [1, 2]),
                                      float_column("vector", [0.0] * 8, 8)],
     ["the num_rows", "is not equal to passed num_rows"]),
    ("dimension that differs", lambda: [long_column("id", [1]),
                                        float_column("vector", [0.0] * 16, 16)], []),
    ("length that no row divides", lambda: [long_column("id", [1]),
                                            float_column("vector", [0.0] * 9, 8)],
     ["should divide the dim(8)"]),
    ("type that differs", lambda: [schema_pb2.FieldData(
        type=21, field_name="id", scalars=schema_pb2.ScalarField(
            string_data=schema_pb2.StringArray(data=["a"]))),
        float_column("vector", [0.0] * 8, 8)], []),
    ("no data", lambda: [schema_pb2.FieldData(type=5, field_name="id"),
                         float_column("vector", [0.0] * 8, 8)], []),
    ("nothing", lambda: [], []),
])
def test_columns_that_do_not_fit_fail(raw, client, name, what, columns, texts):
    make(client, name)
    is_error(raw.Insert(collection_name=name, num_rows=1, fields_data=columns()), ANY, *texts)
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 0


def test_rows_of_zero_fail(raw, client, name):
    make(client, name)
    is_error(raw.Insert(collection_name=name, num_rows=0, fields_data=[
        long_column("id", []), float_column("vector", [], 8)]))


def test_columns_in_any_order_are_stored(raw, client, name):
    make(client, name)
    r = is_ok(raw.Insert(collection_name=name, num_rows=2, fields_data=[
        float_column("vector", [float(i) for i in range(16)], 8), long_column("id", [7, 3])]))
    assert list(r.IDs.int_id.data) == [7, 3] and r.insert_cnt == 2 and r.timestamp > 0
    assert list(r.succ_index) == [0, 1] and not r.err_index
    got = client.query(name, filter="id == 3", output_fields=["vector"])[0]["vector"]
    assert list(got) == [float(i) for i in range(8, 16)]


def test_text_that_is_no_utf8_fails(raw, client, name):
    """The field is bytes on the wire; a client in another language may send any."""
    make(client, name, pk=DataType.VARCHAR)
    good = schema_pb2.FieldData(type=21, field_name="id", scalars=schema_pb2.ScalarField(
        string_data=schema_pb2.StringArray(data=["QQQQ"])))
    from pymilvus.grpc_gen import milvus_pb2
    req = milvus_pb2.InsertRequest(collection_name=name, num_rows=1, fields_data=[
        good, float_column("vector", [0.0] * 8, 8)]).SerializeToString()
    try:
        answer = milvus_pb2.MutationResult.FromString(
            raw.bytes("Insert", req.replace(b"QQQQ", b"\xff\xfe\x80Q")))
        is_error(answer)
    except Exception as e:  # a status of the transport is as clear
        assert "INVALID_ARGUMENT" in str(e) or "INTERNAL" in str(e), e
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 0


def test_insert_into_a_missing_partition_fails(client, name):
    make(client, name)
    with fails(200, "partition not found[partition=nowhere]"):
        client.insert(name, simple_rows(1), partition_name="nowhere")


def test_insert_into_a_collection_that_is_not_loaded_is_there_after_load(client, name):
    make(client, name, load=False)
    client.insert(name, simple_rows(5))
    client.load_collection(name)
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 5


def test_schema_of_keys_only_takes_long_keys(client, name):
    client.create_collection(name, schema=schema_of(pk=DataType.VARCHAR))
    with fails(ANY, "exceeds max length"):
        client.insert(name, [{"id": "k" * 65, "vector": [0.0] * 8}])
    assert client.insert(name, [{"id": "k" * 64, "vector": [0.0] * 8}])["insert_count"] == 1
