"""Iterators over several shards, and where many rows have the same score: each row exactly once."""
import numpy as np
import pytest
from pymilvus import DataType, MilvusClient
from support import fails, index, kv, make, placeholder, scores, simple_rows, vectors


def pages(it):
    found = []
    while True:
        page = it.next()
        if not page:
            it.close()
            return found
        found.append([(h["id"], h["distance"]) for h in page])


@pytest.mark.parametrize("shards", [2, 3, 16])
@pytest.mark.parametrize("batch", [1, 9, 64, 500])
def test_search_iterator_over_shards_gives_each_row_once(client, name, shards, batch):
    make(client, name, create={"num_shards": shards})
    v = vectors(300)
    client.insert(name, simple_rows(300))
    q = vectors(1, seed=9)[0]
    got = pages(client.search_iterator(name, data=[q.tolist()], batch_size=batch,
                                       search_params={"metric_type": "L2"}))
    flat = [h for p in got for h in p]
    assert sorted(i for i, _ in flat) == list(range(300))
    assert all(len(p) <= batch for p in got)
    ranking = np.sort(scores("L2", v, q))
    assert np.allclose([d for _, d in flat], ranking, rtol=1e-4)


@pytest.mark.parametrize("shards", [2, 16])
def test_query_iterator_over_shards_gives_each_row_once(client, name, shards):
    make(client, name, create={"num_shards": shards}, rows=simple_rows(200))
    it = client.query_iterator(name, filter="id != 50", batch_size=17, output_fields=["id"])
    got = []
    while True:
        page = it.next()
        if not page:
            break
        got += [r["id"] for r in page]
    assert got == [i for i in range(200) if i != 50]


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("batch", [1, 7, 20, 21, 64, 100])
def test_equal_scores_at_the_border_are_neither_lost_nor_repeated(client, name, batch, shards):
    make(client, name, create={"num_shards": shards})
    sizes = [1, 20, 3, 50, 2, 2, 22]
    v = [float(g) for g, n in enumerate(sizes) for _ in range(n)]
    client.insert(name, [{"id": i, "vector": [x] + [0.0] * 7} for i, x in enumerate(v)])
    got = pages(client.search_iterator(name, data=[[0.0] * 8], batch_size=batch,
                                       search_params={"metric_type": "L2"}))
    flat = [h for p in got for h in p]
    assert [i for i, _ in flat] == list(range(len(v)))
    assert [d for _, d in flat] == [x * x for x in v]
    # Only a run of equal scores may make a page longer than was asked for.
    assert all(len(p) <= batch or len({d for _, d in p}) == 1 for p in got)


def test_binary_vectors_have_few_scores(client, name):
    s = MilvusClient.create_schema()
    s.add_field("id", DataType.INT64, is_primary=True)
    s.add_field("bits", DataType.BINARY_VECTOR, dim=16)
    client.create_collection(name, schema=s, consistency_level="Strong")
    index(client, name, field="bits", kind="BIN_FLAT", metric="HAMMING")
    client.load_collection(name)
    rng = np.random.default_rng(3)
    client.insert(name, [{"id": i, "bits": rng.bytes(2)} for i in range(2000)])
    got = pages(client.search_iterator(name, data=[b"\0\0"], batch_size=100,
                                       search_params={"metric_type": "HAMMING"}))
    flat = [h for p in got for h in p]
    assert sorted(i for i, _ in flat) == list(range(2000))
    assert [d for _, d in flat] == sorted(d for _, d in flat)


def test_a_run_longer_than_any_answer_is_refused(client, name):
    make(client, name)
    for part in range(2):
        client.insert(name, [{"id": part * 10000 + i, "vector": [1.0] * 8} for i in range(10000)])
    with fails(1100, "hits have the same score"):
        client.search_iterator(name, data=[[0.0] * 8], batch_size=100,
                               search_params={"metric_type": "L2"}).next()


def test_a_range_bounds_the_iterator(client, name):
    make(client, name)
    client.insert(name, [{"id": i, "vector": [float(i)] + [0.0] * 7} for i in range(50)])
    got = pages(client.search_iterator(
        name, data=[[0.0] * 8], batch_size=4,
        search_params={"metric_type": "L2", "params": {"radius": 401.0, "range_filter": 100.0}}))
    assert [i for p in got for i, _ in p] == list(range(10, 21))


def old_iterator(raw, name, batch, metric="L2", query=(0.0,) * 8):
    """What the first version of the iterator does: ranges that begin at the last score, without the
    rows of that score that are known."""
    found, params, expr = [], "{}", ""
    while True:
        res = raw.Search(collection_name=name, dsl=expr, dsl_type=1, nq=1,
                         placeholder_group=placeholder([list(query)]),
                         search_params=kv(topk=batch, metric_type=metric, params=params,
                                          iterator="True", anns_field="vector"))
        assert res.status.code == 0, res.status
        ids, dist = list(res.results.ids.int_id.data), list(res.results.scores)
        if not ids:
            return found
        found += ids
        last = dist[-1]
        known = [i for i in found if i in set(ids)] if last != dist[0] else found
        params = '{"radius": %r, "range_filter": %r}' % (last + 1e9, last)
        expr = f"id not in {sorted(set(found))}" if known else ""


def test_the_first_version_of_the_iterator(client, raw, name):
    make(client, name, create={"num_shards": 2})
    client.insert(name, [{"id": i, "vector": [float(i // 5)] + [0.0] * 7} for i in range(60)])
    assert sorted(old_iterator(raw, name, 7)) == list(range(60))


@pytest.mark.parametrize("limit, offset", [(2**63 - 1, 2**63 - 1), (2**63 - 1, 0), (5, 2**63 - 1)])
def test_pages_of_any_size_are_answered_or_refused(raw, client, name, limit, offset):
    make(client, name, rows=simple_rows(3))
    for iterator in ("True", "False"):
        res = raw.Query(collection_name=name, expr="id >= 0", output_fields=["id"],
                        query_params=kv(limit=limit, offset=offset, iterator=iterator))
        assert res.status.code == (0 if iterator == "True" and offset == 0 else 1100)
