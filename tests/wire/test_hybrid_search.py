"""HybridSearch: reciprocal ranks and weights against the formulas, pages, filters, errors."""
import math

import pytest
from pymilvus import AnnSearchRequest, DataType, RRFRanker, WeightedRanker
from support import ANY, fails, index, is_error, schema_of, scores, vectors
from pymilvus.grpc_gen import milvus_pb2

N = 200


@pytest.fixture(scope="module")
def filled(server, client):
    name = "hybrid_filled"
    s = schema_of(("a", DataType.FLOAT_VECTOR, {"dim": 8}), ("b", DataType.FLOAT_VECTOR, {"dim": 4}),
                  ("x", DataType.INT64), vector=0)
    client.create_collection(name, schema=s, consistency_level="Strong")
    index(client, name, "a", "FLAT", "L2")
    index(client, name, "b", "FLAT", "COSINE")
    client.load_collection(name)
    a, b = vectors(N, 8, 1), vectors(N, 4, 2)
    rows = [{"id": i, "a": a[i].tolist(), "b": b[i].tolist(), "x": i % 4} for i in range(N)]
    client.insert(name, rows[:120])
    client.flush(name)
    client.insert(name, rows[120:])
    yield name, {"a": ("L2", a), "b": ("COSINE", b)}
    client.drop_collection(name)


QA, QB = vectors(1, 8, 21)[0], vectors(1, 4, 22)[0]


def requests(limit, expr=""):
    return [AnnSearchRequest(data=[QA.tolist()], anns_field="a", param={"metric_type": "L2"},
                             limit=limit, expr=expr),
            AnnSearchRequest(data=[QB.tolist()], anns_field="b", param={"metric_type": "COSINE"},
                             limit=limit, expr=expr)]


def ranked(columns, limit, keep):
    """For each request its best `limit` rows as (id, score), best first."""
    out = []
    for f, q in (("a", QA), ("b", QB)):
        metric, base = columns[f]
        s = scores(metric, base, q)
        ids = [i for i in range(N) if keep(i)]
        ids.sort(key=lambda i: s[i], reverse=metric != "L2")
        out.append([(i, s[i]) for i in ids[:limit]])
    return out


def fused(parts, limit, offset=0):
    total = {}
    for part in parts:
        for i, s in part:
            total[i] = total.get(i, 0) + s
    return sorted(total.items(), key=lambda p: (-p[1], p[0]))[offset:offset + limit]


def check(hits, want):
    assert [h["distance"] for h in hits] == pytest.approx([s for _, s in want], abs=1e-5)
    assert [h["id"] for h in hits] == [i for i, _ in want]


@pytest.mark.parametrize("k", [1, 60, 1000])
@pytest.mark.parametrize("offset", [0, 3])
def test_reciprocal_ranks_add_up(client, filled, k, offset):
    name, columns = filled
    hits = client.hybrid_search(name, requests(30), RRFRanker(k), limit=10, offset=offset)[0]
    parts = [[(i, 1 / (k + r)) for r, (i, _) in enumerate(p, 1)]
             for p in ranked(columns, 30 if offset == 0 else 30, lambda i: True)]
    want = fused(parts, 10, offset)
    assert [h["distance"] for h in hits] == pytest.approx([s for _, s in want], abs=1e-5)
    if len({round(s, 9) for _, s in want}) == len(want):
        assert [h["id"] for h in hits] == [i for i, _ in want]


def arctan(metric, s):
    """Scores of any metric become 0 to 1, 1 the best, before they are weighted."""
    if metric == "L2":
        return 1 - 2 * math.atan(s) / math.pi
    return (1 + s) * 0.5


@pytest.mark.parametrize("weights", [(0.5, 0.5), (1.0, 0.0), (0.2, 0.9)])
def test_weighted_normal_scores_add_up(client, filled, weights):
    name, columns = filled
    hits = client.hybrid_search(name, requests(N), WeightedRanker(*weights, norm_score=True),
                                limit=10)[0]
    parts = [[(i, w * arctan(columns[f][0], s)) for i, s in p]
             for w, f, p in zip(weights, "ab", ranked(columns, N, lambda i: True))]
    check(hits, fused(parts, 10))


def test_filter_of_each_request_counts(client, filled):
    name, columns = filled
    hits = client.hybrid_search(name, requests(20, "x == 1"), RRFRanker(), limit=20,
                                output_fields=["x", "a"])[0]
    assert hits and {h["entity"]["x"] for h in hits} == {1}
    assert all(len(h["entity"]["a"]) == 8 for h in hits)
    assert [h["distance"] for h in hits] == sorted((h["distance"] for h in hits), reverse=True)


def test_several_queries_answer_each_its_own(client, filled):
    name, _ = filled
    qa, qb = vectors(3, 8, 31).tolist(), vectors(3, 4, 32).tolist()
    both = [AnnSearchRequest(qa, "a", {"metric_type": "L2"}, 10),
            AnnSearchRequest(qb, "b", {"metric_type": "COSINE"}, 10)]
    got = client.hybrid_search(name, both, RRFRanker(), limit=5)
    assert len(got) == 3
    for n in range(3):
        one = [AnnSearchRequest([qa[n]], "a", {"metric_type": "L2"}, 10),
               AnnSearchRequest([qb[n]], "b", {"metric_type": "COSINE"}, 10)]
        assert [h["id"] for h in client.hybrid_search(name, one, RRFRanker(), limit=5)[0]] \
            == [h["id"] for h in got[n]]


@pytest.mark.parametrize("ranker, texts", [
    (RRFRanker(0), []), (RRFRanker(16384), []), (RRFRanker(-1), []),
    (WeightedRanker(0.5), []), (WeightedRanker(0.5, 1.5), []), (WeightedRanker(-0.1, 0.5), []),
], ids=["k_0", "k_16384", "k_negative", "one_weight", "weight_above_1", "weight_negative"])
def test_ranker_outside_its_range_fails(client, filled, ranker, texts):
    with fails(ANY, *texts):
        client.hybrid_search(filled[0], requests(5), ranker, limit=3)


def test_requests_that_are_wrong_fail(client, raw, filled):
    with fails(1100, "failed to create query plan: "):
        client.hybrid_search(filled[0], requests(5, "x =="), RRFRanker(), limit=3)
    with fails(ANY):
        client.hybrid_search(filled[0], [AnnSearchRequest([QA.tolist()], "nobody", {}, 3)],
                             RRFRanker(), limit=3)
    is_error(raw.HybridSearch(milvus_pb2.HybridSearchRequest(collection_name=filled[0])))
