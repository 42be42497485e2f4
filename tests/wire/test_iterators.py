"""Iterators over several shards, through restarts, where rows come and go, and where many rows have
the same score: each row exactly once."""
import re
import urllib.request

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException
from server import Server
from support import (connected, eventually, fails, index, kv, make, placeholder, scores, simple_rows,
                     vectors)


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


# ---- sealed rows with an index: pages are exact, and most come from what a scan found before ----

PARTS, PART = 2, 6000
GONE = set(range(0, PARTS * PART, 11))


def indexed_rows(client, name, metric="L2"):
    """Two sealed segments with an HNSW index each; the rows of GONE are deleted."""
    make(client, name, ("x", DataType.INT64), vector=16, kind="HNSW", metric=metric)
    for part in range(PARTS):
        client.insert(name, simple_rows(PART, dim=16, start=part * PART, seed=part + 1,
                                        x=lambda i: i % 10))
        client.flush(name)
    client.delete(name, ids=sorted(GONE))
    assert eventually(lambda: client.describe_index(name, "vector")["pending_index_rows"] == 0, 60)
    return np.concatenate([vectors(PART, 16, part + 1) for part in range(PARTS)])


def expect(base, metric, q, keep):
    """Ids in the order of scores, and their scores."""
    s = scores(metric, base, q)
    ids = np.array([i for i in range(len(base)) if keep(i)])
    order = ids[np.argsort(-s[ids] if metric in ("IP", "COSINE") else s[ids], kind="stable")]
    return order.tolist(), s[order]


def check_order(hits, ids, ranking):
    """Every row once, and where the client's arithmetic can tell two scores apart, in order."""
    assert len(hits) == len({i for i, _ in hits}) == len(ids)
    assert {i for i, _ in hits} == set(ids)
    assert np.allclose([d for _, d in hits], ranking, rtol=1e-4, atol=1e-5)
    d = np.array([d for _, d in hits])
    assert (np.diff(d) >= 0).all() or (np.diff(d) <= 0).all()


def pages_by(server):
    """How many pages of segments came from what was found before, and by a scan."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{server.management}/metrics").read().decode()
    return [int(re.search(r'elanus_iterator_pages_total.%s"[^ ]* (\d+)' % how, text)[1])
            for how in ('from="kept', 'from="scan')]


@pytest.mark.parametrize("metric", ["L2", "IP", "COSINE"])
def test_indexed_rows_come_once_and_in_order_whatever_is_written(client, server, name, metric):
    base, q = indexed_rows(client, name, metric), vectors(1, 16, seed=9)[0]
    ids, ranking = expect(base, metric, q, lambda i: i % 10 < 7 and i not in GONE)
    before = pages_by(server)
    it = client.search_iterator(name, data=[q.tolist()], batch_size=250, filter="x < 7",
                                search_params={"metric_type": metric})
    found, n = [], 0
    while page := it.next():
        found += [(h["id"], h["distance"]) for h in page]
        n += 1
        if n in (1, 4):  # none of it is of the iterator's time
            client.delete(name, ids=ids[len(found) + 5:len(found) + 400:3])
            client.insert(name, [{"id": 100000 + n * 1000 + i, "x": 1, "vector": (q + i).tolist()}
                                 for i in range(50)])
            client.upsert(name, [{"id": i, "x": 1, "vector": q.tolist()} for i in ids[-20 * n:]])
        if n == 8:
            client.flush(name)
    it.close()
    check_order(found, ids, ranking)
    kept, scanned = (a - b for a, b in zip(pages_by(server), before))
    assert kept > 2 * scanned > 0


def test_an_iterator_goes_on_after_a_restart():
    with Server() as own:
        c = connected(own.uri)
        base, q = indexed_rows(c, "a"), vectors(1, 16, seed=10)[0]
        ids, ranking = expect(base, "L2", q, lambda i: i not in GONE)
        it = c.search_iterator("a", data=[q.tolist()], batch_size=700,
                               search_params={"metric_type": "L2"})
        found, n = [], 0

        def next_page():
            try:
                return [it.next()]
            except MilvusException:  # the client mends its connection in its own time
                return None

        while True:
            got = eventually(next_page, 60)
            assert got, "no page after the restart"
            if not got[0]:
                break
            found += [(h["id"], h["distance"]) for h in got[0]]
            n += 1
            if n in (3, 9):
                c.delete("a", ids=ids[len(found) + 1:len(found) + 50])
                own.restart(kill=n == 3)
        check_order(found, ids, ranking)
        c.close()
