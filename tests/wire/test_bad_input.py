"""Requests that no client sends: each gets a clear error soon, and the server lives on."""
import random
import socket
import struct

import grpc
import pytest
from pymilvus import DataType
from pymilvus.grpc_gen import milvus_pb2, schema_pb2
from support import (ANY, float_column, is_error, is_ok, kv, long_column, make, placeholder,
                     simple_rows)


@pytest.fixture(scope="module")
def filled(server, client):
    name = "bad_input_filled"
    make(client, name, ("x", DataType.INT64), ("i8", DataType.INT8),
         ("t", DataType.VARCHAR, {"max_length": 100}), ("j", DataType.JSON),
         ("a", DataType.ARRAY, {"element_type": DataType.INT64, "max_capacity": 4}), dynamic=True)
    client.insert(name, simple_rows(20, x=lambda i: i - 10, i8=lambda i: i, t=lambda i: f"t{i}",
                                    j=lambda i: {"a": i}, a=lambda i: [i]))
    yield name
    client.drop_collection(name)


def query(raw, name, expr, **more):
    return raw.Query(collection_name=name, expr=expr, output_fields=["id"], **more)


METHODS = ["Connect", "CreateCollection", "DescribeCollection", "Insert", "Upsert", "Delete",
           "Search", "HybridSearch", "Query", "CreateIndex", "LoadCollection", "Flush"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("payload", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05ab", b"\x07",
                                     b"\x80" * 20, b"\x0b\x0b\x0b", bytes(range(256))],
                         ids=["tag", "length", "cut", "wiretype", "varint", "group", "all"])
def test_bytes_that_are_no_message_are_refused(raw, method, payload):
    try:
        answer = raw.bytes(method, payload)
    except grpc.RpcError as e:
        assert e.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL), e
    else:
        assert answer  # some bytes happen to be a message of unknown fields


def test_random_changes_of_a_request_never_hang_or_kill(raw, filled):
    rnd = random.Random(7)
    good = milvus_pb2.SearchRequest(
        collection_name=filled, dsl='x > 1 and t like "t%"', dsl_type=1, nq=1,
        placeholder_group=placeholder([[0.5] * 8]), output_fields=["x", "j"],
        search_params=kv(topk=5, anns_field="vector", params='{"nprobe": 4}')).SerializeToString()
    row = milvus_pb2.InsertRequest(collection_name=filled, num_rows=1, fields_data=[
        long_column("id", [1]), float_column("vector", [0.0] * 8, 8)]).SerializeToString()
    for method, payload in (("Search", good), ("Insert", row)):
        for _ in range(300):
            b = bytearray(payload)
            for _ in range(rnd.randint(1, 4)):
                at = rnd.randrange(len(b))
                kind = rnd.random()
                if kind < 0.6:
                    b[at] = rnd.randrange(256)
                elif kind < 0.8:
                    del b[at:at + rnd.randint(1, 8)]
                else:
                    b[at:at] = rnd.randbytes(rnd.randint(1, 8))
            try:
                raw.bytes(method, bytes(b))
            except grpc.RpcError as e:
                assert e.code() != grpc.StatusCode.DEADLINE_EXCEEDED


def test_unknown_fields_are_ignored(raw, filled):
    req = milvus_pb2.QueryRequest(collection_name=filled, expr="id == 1", output_fields=["id"])
    extra = b"\xfa\x3f\x03abc" + b"\x98\x75\x01"
    r = milvus_pb2.QueryResults.FromString(raw.bytes("Query", req.SerializeToString() + extra))
    assert list(is_ok(r).fields_data[0].scalars.long_data.data) == [1]


@pytest.mark.parametrize("expr", [
    "(" * 10000 + "id == 1" + ")" * 10000, "not " * 10000 + "(id == 1)", "!" * 10000 + "(id == 1)",
    "-" * 10000 + "1 == id", " and ".join(["id == 1"] * 10000), "id == 1" + " + 1" * 10000,
    "id in [" + ",".join(["1"] * 100000) + "]", "j" + '["a"]' * 10000 + " == 1",
    "id in " + "[" * 10000 + "]" * 10000, "t == '" + "x" * 1000000 + "'", "[" * 100000,
    "{" * 10000, "((((" + "id" * 30000, "id == " + "9" * 100000, '"' * 9999,
], ids=["parens", "not", "bang", "minus", "and", "plus", "in", "path", "lists", "text", "open",
        "braces", "word", "digits", "quotes"])
def test_filter_that_is_deep_or_long_is_answered(raw, filled, expr):
    """Either the answer or a clear error; the stack of a thread has an end."""
    st = query(raw, filled, expr).status
    assert st.code == 0 or (st.reason and len(st.reason) < 4000)


@pytest.mark.parametrize("expr, code", [
    ("x % 0 == 1", ANY), ("x / 0 == 1", ANY), ("i8 % 0 == 0", ANY), ("j[\"a\"] % 0 == 1", ANY),
    ("dyn % 0 == 1", ANY), ("a[0] / 0 == 1", ANY),
])
def test_division_by_zero_is_an_error_or_unknown(raw, filled, expr, code):
    r = query(raw, filled, expr)
    if r.status.code == 0:
        assert len(r.fields_data[0].scalars.long_data.data) == 0
    else:
        is_error(r, code)


@pytest.mark.parametrize("expr", [
    "x == -9223372036854775808", "x > 9223372036854775807", "x / -1 == 5", "x % -1 == 0",
    "x + 9223372036854775807 > 0", "x * 9223372036854775807 > 0", "x - 9223372036854775807 < 0",
    "-x == 1", "x == -(-9223372036854775808)", "i8 + 127 > 5", "x ** 1000 > 1", "x == 2 ** 10000",
    "j[\"a\"] + 9223372036854775807 > 0", "x == 1e400", "x == -1e400", "x == 1e-400",
    "a[9223372036854775807] == 1", "a[4294967296] == 1", "x in [9223372036854775807, -1]",
    "-9223372036854775808 / -1 == x", "-9223372036854775808 % -1 == x", "array_length(a) == -1",
    "x == 0x8000000000000000", "x >> 100 == 0", "x << 100 == 0",
])
def test_numbers_at_the_edge_are_answered(raw, filled, expr):
    st = query(raw, filled, expr).status
    assert st.code == 0 or st.reason


def test_bytes_that_are_no_utf8_in_names_and_filters_are_refused(raw, filled):
    for method, message in (
            ("Query", milvus_pb2.QueryRequest(collection_name=filled, expr="t == 'QQQQ'")),
            ("DescribeCollection", milvus_pb2.DescribeCollectionRequest(collection_name="QQQQ")),
            ("CreateCollection", milvus_pb2.CreateCollectionRequest(collection_name="QQQQ")),
            ("CreatePartition", milvus_pb2.CreatePartitionRequest(collection_name=filled,
                                                                  partition_name="QQQQ"))):
        payload = message.SerializeToString().replace(b"QQQQ", b"\xff\xfe\xc0\x80")
        try:
            answer = raw.bytes(method, payload)
        except grpc.RpcError as e:
            assert e.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
            continue
        kind = {"Query": milvus_pb2.QueryResults, "DescribeCollection":
                milvus_pb2.DescribeCollectionResponse}.get(method)
        if kind is None:
            from pymilvus.grpc_gen import common_pb2
            kind = common_pb2.Status
        if method == "Query":
            kind.FromString(answer)  # what comes back is text again
        else:
            is_error(kind.FromString(answer))


@pytest.mark.parametrize("field, value", [
    ("num_rows", 2 ** 32 - 1), ("num_rows", 1000000), ("num_rows", 0),
])
def test_number_of_rows_that_lies_is_refused(raw, filled, field, value):
    is_error(raw.Insert(collection_name=filled, fields_data=[
        long_column("id", [1]), float_column("vector", [0.0] * 8, 8)], **{field: value}))


@pytest.mark.parametrize("dim", [0, -8, 1, 4, 9, 2 ** 40, -2 ** 63])
def test_dimension_that_lies_is_refused(raw, filled, dim):
    columns = [long_column("id", [1]), float_column("vector", [0.0] * 8, dim)]
    is_error(raw.Insert(collection_name=filled, num_rows=1, fields_data=columns))


def test_columns_with_the_wrong_slot_are_refused(raw, filled, name, client):
    make(client, name, ("x", DataType.INT64), ("b", DataType.BOOL))
    wrong = [
        schema_pb2.FieldData(type=5, field_name="x", scalars=schema_pb2.ScalarField(
            string_data=schema_pb2.StringArray(data=["1"]))),
        schema_pb2.FieldData(type=5, field_name="x", vectors=schema_pb2.VectorField(
            dim=8, binary_vector=b"\0" * 8)),
        schema_pb2.FieldData(type=12345, field_name="x"),
    ]
    b = schema_pb2.FieldData(type=1, field_name="b", scalars=schema_pb2.ScalarField(
        bool_data=schema_pb2.BoolArray(data=[True])))
    for w in wrong:
        is_error(raw.Insert(collection_name=name, num_rows=1, fields_data=[
            long_column("id", [1]), float_column("vector", [0.0] * 8, 8), b, w]))


def test_valid_data_that_does_not_fit_is_refused(raw, client, name):
    make(client, name, ("x", DataType.INT64, {"nullable": True}))
    for valid, data in (([True], [1, 2]), ([True, True], [1]), ([True, False], []),
                        ([False] * 3, []), ([True, False], [1, 2, 3])):
        col = long_column("x", data)
        col.valid_data.extend(valid)
        is_error(raw.Insert(collection_name=name, num_rows=2, fields_data=[
            long_column("id", [1, 2]), float_column("vector", [0.0] * 16, 8), col]))
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 0


@pytest.mark.parametrize("value", [struct.pack("<8f", *[float("inf")] * 8), b"", b"\0" * 31,
                                   b"\0" * 33, b"\0" * 3200000])
def test_query_vector_of_odd_bytes_is_answered(raw, filled, value):
    r = raw.Search(collection_name=filled, dsl_type=1, nq=1, placeholder_group=placeholder([value]),
                   search_params=kv(topk=2, anns_field="vector"))
    if len(value) != 32:
        is_error(r)


def test_number_of_queries_that_lies_is_harmless(raw, filled):
    for nq in (0, -1, 7, 2 ** 62):
        r = raw.Search(collection_name=filled, dsl_type=1, nq=nq,
                       placeholder_group=placeholder([[0.0] * 8] * 2),
                       search_params=kv(topk=2, anns_field="vector"))
        assert r.status.code != 0 or list(r.results.topks) == [2, 2]


def test_empty_lists_are_refused_or_empty(raw, filled):
    is_error(raw.Flush(collection_names=[]))
    is_error(raw.LoadPartitions(collection_name=filled, partition_names=[]))
    is_error(raw.ReleasePartitions(collection_name=filled, partition_names=[]))
    is_error(raw.CreateIndex(collection_name=filled, field_name="", extra_params=[]))
    assert len(query(raw, filled, "id in []").fields_data[0].scalars.long_data.data) == 0


def test_same_output_field_many_times_comes_once(raw, filled):
    r = is_ok(raw.Query(collection_name=filled, expr="id == 1", output_fields=["x"] * 5000))
    assert sorted(f.field_name for f in r.fields_data) == ["id", "x"]


def test_template_that_is_missing_or_of_another_type_is_refused(raw, filled):
    value = schema_pb2.TemplateValue
    is_error(query(raw, filled, "x == {v}"), 1100)
    is_error(query(raw, filled, "x == {v}", expr_template_values={"v": value(string_val="a")}), 1100)
    is_error(query(raw, filled, "x in {v}", expr_template_values={"v": value(int64_val=1)}), 1100)
    is_error(query(raw, filled, "x == {v}", expr_template_values={"v": value()}), 1100)


def test_message_above_the_limit_is_refused(raw, filled):
    """64 MiB; the connection may go, the server stays."""
    with pytest.raises(grpc.RpcError) as e:
        raw.bytes("Insert", b"\x0a" + b"\xff\xff\xff\x1f" + b"\0" * (65 << 20), timeout=30)
    assert e.value.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE,
                              grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL)
    is_ok(query(raw, filled, "id == 1"))


@pytest.mark.parametrize("said", [
    b"", b"\0" * 1000, b"GET / HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 5000,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" * 2000, b"\x16\x03\x01\x02\0\x01",
    b"A" * 100000, b"POST /v2 HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
], ids=["nothing", "zeros", "half_get", "garbage_h2", "settings", "tls", "long", "length"])
def test_connection_that_speaks_something_else_is_harmless(server, raw, filled, said):
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as s:
        try:
            s.sendall(said)
            s.settimeout(0.2)
            s.recv(100)
        except OSError:
            pass
    is_ok(query(raw, filled, "id == 1"))


def test_call_that_its_client_cancels_leaves_no_trace(raw, filled):
    for _ in range(20):
        f = raw.stub.Query.future(milvus_pb2.QueryRequest(collection_name=filled, expr="id >= 0"))
        f.cancel()
    is_ok(query(raw, filled, "id == 1"))


def test_two_hundred_calls_at_a_time_are_answered(raw, filled):
    req = milvus_pb2.QueryRequest(collection_name=filled, expr="id >= 0", output_fields=["id"])
    futures = [raw.stub.Query.future(req, timeout=30) for _ in range(200)]
    assert all(f.result().status.code == 0 for f in futures)
