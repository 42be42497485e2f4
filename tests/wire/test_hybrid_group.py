"""Hybrid search by groups: the sub-searches are grouped, their fused rows put together again."""
import numpy as np
import pytest
from pymilvus import AnnSearchRequest, DataType, MilvusClient, RRFRanker, WeightedRanker
from support import fails, index, scores, vectors

N = 300


@pytest.fixture(scope="module", params=[1, 2], ids=["one-shard", "two-shards"])
def filled(request, server, client):
    name = f"hybrid_group_{request.param}"
    s = MilvusClient.create_schema()
    s.add_field("id", DataType.INT64, is_primary=True)
    s.add_field("doc", DataType.INT64, nullable=True)
    for f in ("a", "b"):
        s.add_field(f, DataType.FLOAT_VECTOR, dim=8)
    client.create_collection(name, schema=s, consistency_level="Strong", num_shards=request.param)
    for f in ("a", "b"):
        index(client, name, field=f)
    client.load_collection(name)
    v = {"a": vectors(N, seed=1), "b": vectors(N, seed=2)}
    docs = [None if i % 25 == 7 else i % 25 for i in range(N)]
    client.insert(name, [{"id": i, "doc": docs[i], "a": v["a"][i].tolist(), "b": v["b"][i].tolist()}
                         for i in range(N)])
    yield name, v, docs
    client.drop_collection(name)


def sub_ranking(v, q, docs, limit, size):
    """What one grouped sub-search answers: groups in the order of their best rows."""
    groups = {}
    for i in np.argsort(scores("L2", v, q), kind="stable"):
        g = groups.get(docs[i])
        if g is None and len(groups) < limit:
            g = groups[docs[i]] = []
        if g is not None and len(g) < size:
            g.append(int(i))
    return [i for g in groups.values() for i in g]


def expected(v, qs, docs, sub_limit, limit, size, scorer, offset=0, k=60):
    total = {}
    for f, q in qs.items():
        for rank, i in enumerate(sub_ranking(v[f], q, docs, sub_limit, size), 1):
            total[i] = total.get(i, 0) + 1 / (k + rank)
    groups = {}
    for i in sorted(total, key=lambda i: (-total[i], i)):
        g = groups.setdefault(docs[i], [])
        if len(g) < size:
            g.append(i)
    score = {"max": max, "sum": sum, "avg": lambda x: sum(x) / len(x)}[scorer]
    best = sorted(groups.values(), key=lambda g: -score([total[i] for i in g]))
    return [i for g in best[offset:offset + limit] for i in g], total


@pytest.mark.parametrize("scorer", ["max", "sum", "avg"])
@pytest.mark.parametrize("size, offset", [(1, 0), (3, 0), (3, 2)])
def test_groups_of_the_fused_ranking(client, filled, scorer, size, offset):
    name, v, docs = filled
    qs = {"a": vectors(1, seed=31)[0], "b": vectors(1, seed=32)[0]}
    reqs = [AnnSearchRequest([q.tolist()], f, {"metric_type": "L2"}, limit=10)
            for f, q in qs.items()]
    hits = client.hybrid_search(name, reqs, RRFRanker(60), limit=5, offset=offset,
                                group_by_field="doc", group_size=size, strict_group_size=True,
                                rank_group_scorer=scorer, output_fields=["doc"])[0]
    want, total = expected(v, qs, docs, 10, 5, size, scorer, offset)
    assert [h["id"] for h in hits] == want
    assert [h["distance"] for h in hits] == pytest.approx([total[i] for i in want], abs=1e-6)
    assert [h["entity"]["doc"] for h in hits] == [docs[i] for i in want]


def test_weighted(client, filled):
    name, _, docs = filled
    reqs = [AnnSearchRequest([vectors(1, seed=s)[0].tolist()], f, {"metric_type": "L2"}, limit=20)
            for f, s in (("a", 41), ("b", 42))]
    hits = client.hybrid_search(name, reqs, WeightedRanker(0.7, 0.3), limit=8,
                                group_by_field="doc", output_fields=["doc"])[0]
    assert len(hits) == 8 and len({h["entity"]["doc"] for h in hits}) == 8
    assert [h["distance"] for h in hits] == sorted((h["distance"] for h in hits), reverse=True)


def test_wrong_requests_are_told(client, filled):
    name, _, _ = filled
    reqs = [AnnSearchRequest([[0.0] * 8], f, {"metric_type": "L2"}, limit=5) for f in ("a", "b")]
    with fails(1700, "groupBy field not found in schema"):
        client.hybrid_search(name, reqs, RRFRanker(), limit=5, group_by_field="nope")
    with fails(1100, "exceeds configured max group size:10"):
        client.hybrid_search(name, reqs, RRFRanker(), limit=5, group_by_field="doc", group_size=11)
    with fails(1100, "rank_group_scorer"):
        client.hybrid_search(name, reqs, RRFRanker(), limit=5, group_by_field="doc",
                             rank_group_scorer="median")


def test_a_row_that_wins_for_two_queries_has_its_fields_twice(client, filled):
    name, v, docs = filled
    q = [vectors(1, seed=51)[0].tolist()] * 2
    reqs = [AnnSearchRequest(q, f, {"metric_type": "L2"}, limit=6) for f in ("a", "b")]
    res = client.hybrid_search(name, reqs, RRFRanker(), limit=6, output_fields=["doc", "a"])
    assert len(res) == 2 and [h["id"] for h in res[0]] == [h["id"] for h in res[1]]
    for hits in res:
        for h in hits:
            assert h["entity"]["doc"] == docs[h["id"]]
            assert list(h["entity"]["a"]) == pytest.approx(v["a"][h["id"]].tolist())
