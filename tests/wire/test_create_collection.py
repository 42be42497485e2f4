"""CreateCollection: quick form, full schema, what is described, names, limits, repetition."""
import pytest
from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.grpc_gen import schema_pb2
from support import ANY, fails, is_error, is_ok, kv, make, schema_of, simple_rows


def fields_of(client, name):
    return {f["name"]: f for f in client.describe_collection(name)["fields"]}


# ---- forms ----

def test_quick_create_is_indexed_loaded_and_dynamic(client, name):
    client.create_collection(name, dimension=8)
    d = client.describe_collection(name)
    assert [f["name"] for f in d["fields"]] == ["id", "vector"]
    assert d["enable_dynamic_field"] and not d["auto_id"]
    assert d["fields"][0]["field_id"] == 100 and d["fields"][0]["is_primary"]
    assert d["fields"][1]["params"]["dim"] == 8
    assert d["consistency_level"] == 2
    assert str(client.get_load_state(name)["state"]) == "Loaded"
    assert client.describe_index(name, "vector")["index_type"] == "AUTOINDEX"
    assert client.describe_index(name, "vector")["metric_type"] == "COSINE"


def test_quick_create_with_options_uses_them(client, name):
    client.create_collection(name, dimension=4, primary_field_name="key", id_type="string",
                             vector_field_name="emb", metric_type="IP", auto_id=True,
                             max_length=32, consistency_level="Strong")
    d = client.describe_collection(name)
    assert [f["name"] for f in d["fields"]] == ["key", "emb"]
    assert d["fields"][0]["type"] == DataType.VARCHAR and d["auto_id"]
    assert d["fields"][0]["params"]["max_length"] == 32
    assert d["consistency_level"] == 0
    assert client.describe_index(name, "emb")["metric_type"] == "IP"


def test_full_schema_is_described_as_sent(client, name):
    s = schema_of(
        ("flag", DataType.BOOL, {"nullable": True}),
        ("small", DataType.INT8), ("short", DataType.INT16), ("mid", DataType.INT32),
        ("f", DataType.FLOAT, {"default_value": 1.5}), ("d", DataType.DOUBLE),
        ("text", DataType.VARCHAR, {"max_length": 100, "description": "words",
                                    "default_value": "none"}),
        ("doc", DataType.JSON, {"nullable": True}),
        ("tags", DataType.ARRAY, {"element_type": DataType.VARCHAR, "max_capacity": 5,
                                  "max_length": 20}),
        ("bits", DataType.BINARY_VECTOR, {"dim": 16}),
        ("half", DataType.FLOAT16_VECTOR, {"dim": 4}),
        dynamic=True, description="about this")
    client.create_collection(name, schema=s, consistency_level="Session",
                             properties={"collection.ttl.seconds": 86400})
    d = client.describe_collection(name)
    assert d["collection_name"] == name and d["description"] == "about this"
    assert d["num_shards"] == 1 and d["num_partitions"] == 1
    assert d["consistency_level"] == 1
    assert d["properties"]["collection.ttl.seconds"] == "86400"
    assert d["collection_id"] > 0 and d["created_timestamp"] > 0
    assert [f["field_id"] for f in d["fields"]] == list(range(100, 100 + len(d["fields"])))
    f = {x["name"]: x for x in d["fields"]}
    assert list(f) == ["id", "flag", "small", "short", "mid", "f", "d", "text", "doc", "tags",
                       "bits", "half", "vector"]  # neither system fields nor $meta
    assert f["flag"]["nullable"] and f["doc"]["nullable"]
    assert f["text"]["description"] == "words"
    assert f["text"]["default_value"].string_data == "none"
    assert f["f"]["default_value"].float_data == 1.5
    assert f["tags"]["element_type"] == DataType.VARCHAR
    assert f["tags"]["params"]["max_capacity"] == 5
    assert f["bits"]["params"]["dim"] == 16
    assert f["half"]["type"] == DataType.FLOAT16_VECTOR


def test_described_shape_beneath_the_client(raw, client, name):
    client.create_collection(name, schema=schema_of())
    r = is_ok(raw.DescribeCollection(collection_name=name))
    assert r.schema.name == name and r.collection_name == name and r.db_name == "default"
    assert r.shards_num == 1 and r.num_partitions == 1
    assert r.update_timestamp > 0 and r.created_utc_timestamp > 0
    assert len(r.virtual_channel_names) == 1 and len(r.physical_channel_names) == 1
    by_id = is_ok(raw.DescribeCollection(collectionID=r.collectionID))
    assert by_id.collection_name == name


def test_collection_that_is_new_is_not_loaded(client, name):
    client.create_collection(name, schema=schema_of())
    assert str(client.get_load_state(name)["state"]) == "NotLoad"


def test_collection_with_shards_is_described_with_them(client, name):
    make(client, name, create={"num_shards": 3})
    assert client.describe_collection(name)["num_shards"] == 3
    client.insert(name, simple_rows(300))
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 300


# ---- repetition ----

def test_create_again_with_the_same_definition_succeeds(client, name):
    client.create_collection(name, schema=schema_of())
    first = client.describe_collection(name)["collection_id"]
    client.create_collection(name, schema=schema_of())
    assert client.describe_collection(name)["collection_id"] == first


def test_create_again_with_another_definition_fails(client, name):
    client.create_collection(name, schema=schema_of(vector=8))
    with fails(1100, f"create duplicate collection with different parameters, collection: {name}"):
        client.create_collection(name, schema=schema_of(vector=16))


def test_create_after_drop_is_empty_and_new(client, name):
    make(client, name, rows=simple_rows(3))
    first = client.describe_collection(name)["collection_id"]
    client.drop_collection(name)
    assert not client.has_collection(name)
    make(client, name)
    assert client.describe_collection(name)["collection_id"] != first
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 0


# ---- names ----

@pytest.mark.parametrize("bad, text", [
    ("1abc", "the first character of a collection name must be an underscore or letter"),
    ("a-b", "collection name can only contain numbers, letters and underscores"),
    ("a b", "collection name can only contain numbers, letters and underscores"),
    ("a$b", "collection name can only contain numbers, letters and underscores"),
    ("ä", "the first character of a collection name must be an underscore or letter"),
    ("中文", "the first character of a collection name must be an underscore or letter"),
    ("a" * 256, "the length of a collection name must be less than 255 characters"),
])
def test_create_with_a_bad_name_fails(client, bad, text):
    with fails(1100, "Invalid collection name: ", text):
        client.create_collection(bad, schema=schema_of())


def test_create_with_an_empty_name_fails(raw):
    s = schema_pb2.CollectionSchema(name="", fields=[field(*PK), VEC])
    is_error(raw.CreateCollection(collection_name="", schema=s.SerializeToString()), 1100,
             "collection name should not be empty")


@pytest.mark.parametrize("good", ["_x", "A1", "a" * 255])
def test_create_with_a_name_at_the_limit_succeeds(client, good):
    client.create_collection(good, schema=schema_of())
    assert client.has_collection(good)
    client.drop_collection(good)


@pytest.mark.parametrize("bad, text", [
    ("1a", ""), ("a-b", ""), ("like", "is keyword in milvus"), ("in", "is keyword in milvus"),
    ("RowID", "reserved for internal use"), ("a" * 256, ""),
])
def test_field_with_a_bad_name_fails(client, name, bad, text):
    with fails(1701, "Invalid field name", text):
        client.create_collection(name, schema=schema_of((bad, DataType.INT64)))


# ---- limits of a schema; the client checks some itself, so these go beneath it ----

def field(fname, dtype, pk=False, **params):
    return schema_pb2.FieldSchema(name=fname, data_type=int(dtype), is_primary_key=pk,
                                  type_params=kv(**params))


PK = ("id", DataType.INT64, True)
VEC = field("v", DataType.FLOAT_VECTOR, dim=8)


def create(raw, name, *fields, **more):
    s = schema_pb2.CollectionSchema(name=name, fields=fields, **more)
    return raw.CreateCollection(collection_name=name, schema=s.SerializeToString())


@pytest.mark.parametrize("fields, code, text", [
    ([VEC], ANY, "primary key is not specified"),
    ([field(*PK), field("b", DataType.INT64, True), VEC], ANY, "there are more than one primary key"),
    ([field("id", DataType.FLOAT, True), VEC], ANY,
     "the data type of primary key should be Int64 or VarChar"),
    ([field(*PK), VEC, VEC], ANY, "duplicated field name v found"),
    ([field(*PK)], ANY, ""),  # no vector field
    ([field(*PK), VEC, field("s", DataType.STRING)], ANY,
     "string data type not supported yet, please use VarChar type instead"),
    ([field(*PK), field("v", DataType.FLOAT_VECTOR)], ANY,
     "dimension is not defined in field type params of field"),
    ([field(*PK), field("v", DataType.FLOAT_VECTOR, dim=1)], ANY, "should be in range 2 ~ 32768"),
    ([field(*PK), field("v", DataType.FLOAT_VECTOR, dim=32769)], ANY,
     "should be in range 2 ~ 32768"),
    ([field(*PK), field("v", DataType.FLOAT_VECTOR, dim="many")], ANY, ""),
    ([field(*PK), field("v", DataType.FLOAT_VECTOR, dim=-8)], ANY, ""),
    ([field(*PK), field("v", DataType.FLOAT_VECTOR, dim=2 ** 40)], ANY, ""),
    ([field(*PK), field("v", DataType.BINARY_VECTOR, dim=12)], ANY,
     "binary vector dimension should be multiple of 8"),
    ([field(*PK), VEC, field("t", DataType.VARCHAR)], ANY,
     "type param(max_length) should be specified for the field(t) of collection"),
    ([field(*PK), VEC, field("t", DataType.VARCHAR, max_length=65536)], ANY,
     "the maximum length specified for the field(t) should be in (0, 65535]"),
    ([field(*PK), VEC, field("t", DataType.VARCHAR, max_length=0)], ANY,
     "the maximum length specified for the field(t) should be in (0, 65535]"),
    ([field(*PK), VEC, schema_pb2.FieldSchema(name="a", data_type=22, element_type=5)], ANY,
     "type param(max_capacity) should be specified for array field"),
    ([field(*PK), VEC, schema_pb2.FieldSchema(name="a", data_type=22, element_type=5,
                                              type_params=kv(max_capacity=4097))], ANY,
     "the maximum capacity specified for a Array should be in (0, 4096]"),
    ([field(*PK), VEC, schema_pb2.FieldSchema(name="a", data_type=22, element_type=23,
                                              type_params=kv(max_capacity=4))], ANY, ""),
    ([field(*PK), VEC, schema_pb2.FieldSchema(name="a", data_type=5, autoID=True)], ANY,
     "only primary field can speficy AutoID with true"),
    ([field(*PK), VEC, schema_pb2.FieldSchema(name="j", data_type=23, is_dynamic=True)], ANY,
     "cannot explicitly set a field as a dynamic field"),
    ([schema_pb2.FieldSchema(name="id", data_type=5, is_primary_key=True, nullable=True), VEC],
     ANY, ""),
    ([field(*PK), VEC, field("x", 99)], ANY, ""),  # no such type
    ([field(*PK), VEC, field("x", 0)], ANY, ""),
    ([field(*PK), *(field(f"v{i}", DataType.FLOAT_VECTOR, dim=8) for i in range(5))], ANY,
     "maximum vector field's number should be limited to 4"),
    ([field(*PK), VEC, *(field(f"f{i}", DataType.INT64) for i in range(63))], ANY,
     "maximum field's number should be limited to 64"),
])
def test_schema_that_breaks_a_rule_fails(raw, client, name, fields, code, text):
    is_error(create(raw, name, *fields), code, text)
    assert not client.has_collection(name)


def test_schema_with_64_fields_and_4_vectors_succeeds(raw, name):
    fields = [field(*PK), *(field(f"v{i}", DataType.FLOAT_VECTOR, dim=2) for i in range(4)),
              *(field(f"f{i}", DataType.INT64) for i in range(59))]
    is_ok(create(raw, name, *fields))


@pytest.mark.parametrize("dim", [2, 32768])
def test_dimension_at_a_limit_works_to_the_search(client, name, dim):
    make(client, name, vector=dim)
    client.insert(name, simple_rows(3, dim=dim))
    v = simple_rows(3, dim=dim)[1]["vector"]
    assert client.search(name, data=[v], limit=1)[0][0]["id"] == 1


def test_schema_whose_bytes_are_no_message_fails(raw, client, name):
    is_error(raw.CreateCollection(collection_name=name, schema=b"\xff\xff\xff\xff"))
    is_error(raw.CreateCollection(collection_name=name, schema=b""))
    assert not client.has_collection(name)


def test_shards_above_the_limit_fail(raw, name):
    s = schema_pb2.CollectionSchema(name=name, fields=[field(*PK), VEC])
    is_error(raw.CreateCollection(collection_name=name, schema=s.SerializeToString(),
                                  shards_num=17))


def test_num_partitions_without_a_partition_key_fails(client, name):
    with pytest.raises(MilvusException):
        client.create_collection(name, schema=schema_of(), num_partitions=4)


def test_create_many_collections_lists_them_all(client, name):
    names = [f"{name}_{i}" for i in range(20)]
    for n in names:
        client.create_collection(n, schema=schema_of())
    assert set(names) <= set(client.list_collections())
    for n in names:
        client.drop_collection(n)
    assert not set(names) & set(client.list_collections())


def test_prepared_schema_of_the_client_survives_the_round_trip(client, name):
    s = MilvusClient.create_schema()
    s.add_field("id", DataType.VARCHAR, is_primary=True, max_length=10)
    s.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection(name, schema=s)
    f = fields_of(client, name)
    assert f["id"]["params"]["max_length"] == 10 and f["id"]["is_primary"]
