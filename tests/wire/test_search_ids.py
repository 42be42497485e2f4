"""Search by primary keys: the stored vectors of these rows are the queries."""
from concurrent.futures import ThreadPoolExecutor

import pytest
from pymilvus import DataType, MilvusClient
from support import check_hits, fails, index, make, simple_rows, vectors

N = 200

pytestmark = pytest.mark.skipif("ids" not in MilvusClient.search.__code__.co_varnames,
                                reason="this client has no search by ids")


@pytest.fixture(scope="module", params=[1, 4], ids=["one-shard", "four-shards"])
def filled(request, server, client):
    name = f"ids_filled_{request.param}"
    make(client, name, ("x", DataType.INT64), create={"num_shards": request.param})
    client.insert(name, simple_rows(N, x=lambda i: i))
    client.flush(name)
    yield name
    client.drop_collection(name)


def by_ids(client, name, ids, **more):
    return client.search(name, ids=ids, search_params={"metric_type": "L2"}, **more)


def test_each_key_is_one_query_in_order(client, filled):
    v = vectors(N)
    keys = [150, 3, 77, 3]
    res = by_ids(client, filled, keys, limit=5, output_fields=["x"])
    assert [hits[0]["id"] for hits in res] == keys
    for key, hits in zip(keys, res):
        check_hits(hits, "L2", v, v[key], 5)
        assert [h["entity"]["x"] for h in hits] == [h["id"] for h in hits]


def test_a_filter_says_what_is_found_and_not_what_is_searched_with(client, filled):
    v = vectors(N)
    hits = by_ids(client, filled, [7], limit=5, filter="x >= 100")[0]
    check_hits(hits, "L2", v, v[7], 5, keep=[i >= 100 for i in range(N)])


def test_missing_keys_are_named(client, filled):
    with fails(1100, "some of the provided primary key IDs do not exist: missing IDs = [-4 1000]"):
        by_ids(client, filled, [5, -4, 1000], limit=3)


def test_a_deleted_key_is_missing(client, name):
    make(client, name, rows=simple_rows(5))
    client.delete(name, ids=[2])
    with fails(1100, "missing IDs = [2]"):
        by_ids(client, name, [1, 2], limit=3)


def test_text_keys(client, name):
    make(client, name, pk=DataType.VARCHAR)
    client.insert(name, [{"id": f"k{i}", "vector": [float(i)] * 8} for i in range(9)])
    res = by_ids(client, name, ["k4", "k8"], limit=2)
    assert [h["id"] for h in res[0]] == ["k4", "k3"] and res[1][0]["id"] == "k8"
    with fails(1100, "missing IDs = [kx]"):
        by_ids(client, name, ["kx"], limit=2)


def test_keys_of_the_wrong_type_are_refused(client, filled):
    with fails(1100):
        by_ids(client, filled, ["text"], limit=2)


def test_binary_vectors(client, name):
    s = MilvusClient.create_schema()
    s.add_field("id", DataType.INT64, is_primary=True)
    s.add_field("bits", DataType.BINARY_VECTOR, dim=16)
    client.create_collection(name, schema=s, consistency_level="Strong")
    index(client, name, field="bits", kind="BIN_FLAT", metric="HAMMING")
    client.load_collection(name)
    client.insert(name, [{"id": i, "bits": bytes([i, 0])} for i in range(16)])
    hits = client.search(name, ids=[5], anns_field="bits", limit=3,
                         search_params={"metric_type": "HAMMING"})[0]
    assert hits[0]["id"] == 5 and [h["distance"] for h in hits] == [0, 1, 1]


def test_many_at_once_are_all_answered(server, client, filled):
    """Such a search is given from the thread that read it to another one, which may end it first."""
    def some(seed):
        own = MilvusClient(uri=server.uri)
        try:
            for i in range(60):
                key = (seed * 31 + i) % N
                assert by_ids(own, filled, [key], limit=1)[0][0]["id"] == key
        finally:
            own.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(some, range(8)))
