"""query_iterator and search_iterator: every row once, in pages, whatever is written meanwhile."""
import numpy as np
import pytest
from pymilvus import DataType
from support import check_hits, make, simple_rows, vectors

N = 1000


@pytest.fixture(scope="module")
def filled(server, client):
    name = "iterator_filled"
    make(client, name, ("x", DataType.INT64))
    rows = simple_rows(N, x=lambda i: i % 7)
    client.insert(name, rows[:600])
    client.flush(name)
    client.insert(name, rows[600:])
    yield name
    client.drop_collection(name)


def pages(it):
    found = []
    while True:
        page = it.next()
        if not page:
            it.close()
            return found
        found.append(page)


@pytest.mark.parametrize("batch", [1, 7, 100, 333, 1000, 2000])
def test_query_iterator_answers_every_row_once(client, filled, batch):
    got = pages(client.query_iterator(filled, filter="x < 2" if batch == 1 else "",
                                      batch_size=batch, output_fields=["id", "x"]))
    ids = [r["id"] for p in got for r in p]
    assert ids == [i for i in range(N) if batch > 1 or i % 7 < 2]
    assert all(len(p) <= batch for p in got)


def test_query_iterator_with_a_limit_stops_there(client, filled):
    got = pages(client.query_iterator(filled, filter="x == 3", batch_size=10, limit=25,
                                      output_fields=["id"]))
    assert [r["id"] for p in got for r in p] == [i for i in range(N) if i % 7 == 3][:25]


def test_query_iterator_of_nothing_is_empty(client, filled):
    assert pages(client.query_iterator(filled, filter="x > 100", batch_size=10)) == []


def test_query_iterator_over_text_keys(client, name):
    make(client, name, pk=DataType.VARCHAR)
    keys = [f"k'{i}" for i in range(25)]  # the client quotes with ", and escapes nothing
    client.insert(name, [{"id": k, "vector": [0.0] * 8} for k in keys])
    got = pages(client.query_iterator(name, filter="", batch_size=4, output_fields=["id"]))
    assert [r["id"] for p in got for r in p] == sorted(keys)


def test_query_iterator_does_not_see_what_comes_later(client, name):
    make(client, name, rows=simple_rows(20))
    it = client.query_iterator(name, filter="", batch_size=5, output_fields=["id"])
    first = [r["id"] for r in it.next()]
    client.insert(name, simple_rows(20, start=100))
    client.delete(name, ids=[7])
    rest = [r["id"] for p in pages(it) for r in p]
    assert first + rest == list(range(20))


@pytest.mark.parametrize("batch", [10, 90, 400])
def test_search_iterator_answers_in_the_order_of_scores(client, filled, batch):
    q = vectors(1, seed=5)[0]
    got = pages(client.search_iterator(filled, data=[q.tolist()], batch_size=batch, limit=500,
                                       search_params={"metric_type": "L2"}))
    hits = [h for p in got for h in p]
    assert len(hits) == 500 and all(len(p) <= batch for p in got)
    check_hits(hits, "L2", vectors(N), q, 500)


def test_search_iterator_with_a_filter_reaches_every_match(client, filled):
    q = vectors(1, seed=6)[0]
    got = pages(client.search_iterator(filled, data=[q.tolist()], batch_size=50, filter="x == 1",
                                       search_params={"metric_type": "L2"}, output_fields=["x"]))
    hits = [h for p in got for h in p]
    check_hits(hits, "L2", vectors(N), q, N, keep=np.arange(N) % 7 == 1)
    assert {h["entity"]["x"] for h in hits} == {1}


@pytest.mark.parametrize("metric", ["IP", "COSINE"])
def test_search_iterator_by_similarity(client, name, metric):
    make(client, name, metric=metric, rows=simple_rows(150))
    q = vectors(1, seed=7)[0]
    got = pages(client.search_iterator(name, data=[q.tolist()], batch_size=40,
                                       search_params={"metric_type": metric}))
    check_hits([h for p in got for h in p], metric, vectors(150), q, 150)


def test_search_iterator_with_equal_scores_loses_none(client, name):
    make(client, name)
    client.insert(name, [{"id": i, "vector": [float(i // 20)] + [0.0] * 7} for i in range(100)])
    got = pages(client.search_iterator(name, data=[[0.0] * 8], batch_size=7,
                                       search_params={"metric_type": "L2"}))
    ids = [h["id"] for p in got for h in p]
    assert sorted(ids) == list(range(100))
