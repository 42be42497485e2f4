"""Search: filters, fields, pages, ranges, partitions, several queries, templates; wrong arguments."""
import json

import numpy as np
import pytest
from pymilvus import DataType, MilvusException
from support import (ANY, check_hits, fails, is_error, is_ok, kv, make, placeholder,
                     scores, simple_rows, vectors)

N, DIM = 400, 8
COLOURS = ["red", "green", "blue"]


@pytest.fixture(scope="module")
def filled(server, client):
    """Half flushed, half growing, in three partitions; tests here only read it."""
    name = "search_filled"
    make(client, name, ("x", DataType.INT64), ("t", DataType.VARCHAR, {"max_length": 10}),
         dynamic=True, metric="L2")
    for p in ("p", "q"):
        client.create_partition(name, p)
    client.load_collection(name)
    rows = simple_rows(N, DIM, x=lambda i: i % 10, t=lambda i: COLOURS[i % 3], extra=lambda i: i)
    for part in (0, 1):
        for k, p in enumerate(("_default", "p", "q")):
            mine = [r for r in rows[part * N // 2:(part + 1) * N // 2] if r["id"] % 3 == k]
            client.insert(name, mine, partition_name=p)
        if part == 0:
            client.flush(name)
    yield name, vectors(N, DIM)
    client.drop_collection(name)


QUERIES = vectors(4, DIM, seed=9)


@pytest.mark.parametrize("limit", [1, 10, 399, 400, 1000])
def test_limit_takes_the_nearest(client, filled, limit):
    name, base = filled
    hits = client.search(name, data=[QUERIES[0].tolist()], limit=limit)[0]
    check_hits(hits, "L2", base, QUERIES[0], limit)


def test_several_queries_answer_each_its_own(client, filled):
    name, base = filled
    got = client.search(name, data=QUERIES.tolist(), limit=5)
    assert len(got) == len(QUERIES)
    for hits, q in zip(got, QUERIES):
        check_hits(hits, "L2", base, q, 5)


def test_hundred_queries_equal_one_by_one(client, filled):
    name, _ = filled
    qs = vectors(100, DIM, seed=11).tolist()
    together = client.search(name, data=qs, limit=7)
    for q, hits in list(zip(qs, together))[::9]:
        alone = client.search(name, data=[q], limit=7)[0]
        assert [h["id"] for h in alone] == [h["id"] for h in hits]


@pytest.mark.parametrize("expr, keep", [
    ("x == 3", lambda i: i % 10 == 3),
    ('t == "red" and x > 4', lambda i: i % 3 == 0 and i % 10 > 4),
    ("extra < 50", lambda i: i < 50),
    ("id in [1, 2, 3]", lambda i: i in (1, 2, 3)),
    ("id > 1000", lambda i: False),
    ("", lambda i: True),
])
def test_filter_keeps_the_nearest_of_what_matches(client, filled, expr, keep):
    name, base = filled
    mask = np.array([keep(i) for i in range(N)])
    for hits, q in zip(client.search(name, data=QUERIES.tolist(), limit=10, filter=expr), QUERIES):
        check_hits(hits, "L2", base, q, 10, keep=mask)


@pytest.mark.parametrize("parts, ks", [(["p"], [1]), (["_default", "q"], [0, 2]), (["p", "p"], [1])])
def test_partition_names_limit_the_search(client, filled, parts, ks):
    name, base = filled
    hits = client.search(name, data=[QUERIES[0].tolist()], limit=20, partition_names=parts)[0]
    check_hits(hits, "L2", base, QUERIES[0], 20, keep=np.isin(np.arange(N) % 3, ks))


def test_partition_name_that_is_missing_fails(client, filled):
    with fails(200, "partition name nowhere not found"):
        client.search(filled[0], data=[QUERIES[0].tolist()], limit=1, partition_names=["nowhere"])


@pytest.mark.parametrize("offset", [0, 1, 7, 395, 500])
def test_offset_pages_through_the_same_order(client, filled, offset):
    name, base = filled
    hits = client.search(name, data=[QUERIES[1].tolist()], limit=10, offset=offset)[0]
    check_hits(hits, "L2", base, QUERIES[1], 10, offset=offset)


def test_output_fields_come_with_the_hits(client, filled):
    name, base = filled
    hits = client.search(name, data=[QUERIES[0].tolist()], limit=5,
                         output_fields=["x", "t", "extra", "vector"])[0]
    for h in hits:
        i, e = h["id"], h["entity"]
        assert (e["x"], e["t"], e["extra"]) == (i % 10, COLOURS[i % 3], i)
        assert np.array_equal(np.array(e["vector"], dtype=np.float32), base[i])


def test_output_field_star_is_everything(client, filled):
    name, base = filled
    h = client.search(name, data=[QUERIES[0].tolist()], limit=1, output_fields=["*"])[0][0]
    assert set(h["entity"]) >= {"x", "t", "vector", "extra"}
    assert h["entity"]["extra"] == h["id"]


def test_output_fields_absent_means_ids_and_scores(client, filled):
    h = client.search(filled[0], data=[QUERIES[0].tolist()], limit=1)[0][0]
    assert set(h) >= {"id", "distance"} and not h["entity"]


@pytest.mark.parametrize("radius, inner", [(12.0, None), (12.0, 6.0), (1e-9, None)])
def test_range_search_keeps_scores_within(client, filled, radius, inner):
    name, base = filled
    params = {"radius": radius, **({"range_filter": inner} if inner else {})}
    hits = client.search(name, data=[QUERIES[0].tolist()], limit=N,
                         search_params={"metric_type": "L2", "params": params})[0]
    d = ((base.astype(np.float64) - QUERIES[0]) ** 2).sum(axis=1)
    check_hits(hits, "L2", base, QUERIES[0], N, keep=(d < radius) & (d >= (inner or -1)))


@pytest.mark.parametrize("params, texts", [
    ({"range_filter": 1.0}, ["range_filter", "radius"]),
    ({"radius": 1.0, "range_filter": 2.0}, []),
    ({"radius": "far"}, []),
])
def test_range_that_is_no_range_fails(client, filled, params, texts):
    with fails(ANY, *texts):
        client.search(filled[0], data=[QUERIES[0].tolist()], limit=3,
                      search_params={"params": params})


def test_range_search_by_similarity_keeps_scores_above(client, name):
    make(client, name, metric="COSINE", rows=simple_rows(200))
    base = vectors(200)
    q = QUERIES[2]
    s = base.astype(np.float64) @ q / np.linalg.norm(base.astype(np.float64), axis=1) \
        / np.linalg.norm(q.astype(np.float64))
    hits = client.search(name, data=[q.tolist()], limit=200,
                         search_params={"params": {"radius": 0.1, "range_filter": 0.6}})[0]
    check_hits(hits, "COSINE", base, q, 200, keep=(s > 0.1) & (s <= 0.6))


@pytest.mark.parametrize("places", [0, 2, 6])
def test_round_decimal_rounds_scores(client, filled, places):
    plain = client.search(filled[0], data=[QUERIES[0].tolist()], limit=5)[0]
    hits = client.search(filled[0], data=[QUERIES[0].tolist()], limit=5, round_decimal=places)[0]
    for a, b in zip(plain, hits):
        assert abs(b["distance"] - round(a["distance"], places)) < 1e-5


@pytest.mark.parametrize("places", [-2, 7])
def test_round_decimal_outside_its_range_fails(raw, filled, places):
    is_error(raw.Search(collection_name=filled[0], dsl_type=1, nq=1,
                        placeholder_group=placeholder([QUERIES[0].tolist()]),
                        search_params=kv(topk=1, anns_field="vector", round_decimal=places)), ANY,
             f"round_decimal [{places}] is invalid, should be -1 or an integer in range [0, 6]")


def test_template_values_fill_the_filter(client, filled):
    name, base = filled
    hits = client.search(name, data=[QUERIES[0].tolist()], limit=10,
                         filter="t == {colour} and x in {xs}",
                         filter_params={"colour": "blue", "xs": [1, 2, 5]})[0]
    i = np.arange(N)
    check_hits(hits, "L2", base, QUERIES[0], 10, keep=(i % 3 == 2) & np.isin(i % 10, [1, 2, 5]))


@pytest.mark.parametrize("limit, texts", [
    (0, []), (-1, []), (16385, ["topk [16385] is invalid, it should be in range [1, 16384]"]),
    (10 ** 12, []),
])
def test_limit_outside_its_range_fails(raw, filled, limit, texts):
    is_error(raw.Search(collection_name=filled[0], dsl_type=1, nq=1,
                        placeholder_group=placeholder([QUERIES[0].tolist()]),
                        search_params=kv(topk=limit, anns_field="vector")), ANY, *texts)


def test_offset_and_limit_above_the_window_fail(client, filled):
    with fails(1100, "(offset+limit) should be in range [1, 16384]"):
        client.search(filled[0], data=[QUERIES[0].tolist()], limit=16000, offset=1000)
    with fails(ANY):
        client.search(filled[0], data=[QUERIES[0].tolist()], limit=1, offset=-1)


@pytest.mark.parametrize("search_params", [
    {}, {"topk": "ten"}, {"topk": ""}, {"topk": 1, "params": "{"}, {"topk": 1, "params": "[1]"},
    {"topk": 1, "metric_type": "EUCLID"},
    {"topk": 1, "anns_field": "nobody"}, {"topk": 1, "anns_field": "x"},
], ids=str)
def test_search_params_that_are_wrong_fail(raw, filled, search_params):
    fields = {"anns_field": "vector", **search_params}
    is_error(raw.Search(collection_name=filled[0], dsl_type=1, nq=1,
                        placeholder_group=placeholder([QUERIES[0].tolist()]),
                        search_params=kv(**fields)))


def test_metric_that_is_not_the_index_metric_fails(client, filled):
    with fails(1100, "metric type not match: invalid parameter[expected=L2][actual=IP]"):
        client.search(filled[0], data=[QUERIES[0].tolist()], limit=1,
                      search_params={"metric_type": "IP"})


def test_unknown_search_params_are_ignored(client, filled):
    hits = client.search(filled[0], data=[QUERIES[0].tolist()], limit=3, search_params={
        "metric_type": "L2", "params": {"nprobe": 3, "level": 2, "whatever": "x"}})[0]
    assert len(hits) == 3


@pytest.mark.parametrize("length", [1, 7, 9, 16])
def test_query_of_another_length_fails(client, filled, length):
    with fails(ANY, "vector dimension mismatch"):
        client.search(filled[0], data=[[0.5] * length], limit=1)


@pytest.mark.parametrize("group", [b"", b"\xff\xff", b"\x0a\x00"])
def test_placeholder_that_is_no_group_fails(raw, filled, group):
    is_error(raw.Search(collection_name=filled[0], dsl_type=1, nq=1, placeholder_group=group,
                        search_params=kv(topk=1, anns_field="vector")))


@pytest.mark.parametrize("kind", [100, 102, 104, 105, 21, 0, 999])
def test_placeholder_of_another_type_fails(raw, filled, kind):
    is_error(raw.Search(collection_name=filled[0], dsl_type=1, nq=1,
                        placeholder_group=placeholder([b"\0" * 32], kind),
                        search_params=kv(topk=1, anns_field="vector")))


def test_query_with_nan_fails_or_answers(client, filled, raw):
    r = raw.Search(collection_name=filled[0], dsl_type=1, nq=1,
                   placeholder_group=placeholder([[float("nan")] * DIM]),
                   search_params=kv(topk=3, anns_field="vector"))
    assert r.status.code != 0 or len(r.results.topks) == 1


@pytest.mark.parametrize("expr, texts", [
    ("x >", ["cannot parse expression: x >"]),
    ("nobody2 == 1 and x", []),
    ("x", ["predicate is not a boolean expression"]),
    ("t > 5", ["cannot parse expression"]),
])
def test_filter_that_is_wrong_fails(client, filled, expr, texts):
    with fails(1100, "failed to create query plan: ", *texts):
        client.search(filled[0], data=[QUERIES[0].tolist()], limit=1, filter=expr)


def test_output_field_that_is_missing_fails_without_dynamic_field(client, name):
    make(client, name, rows=simple_rows(2))
    with fails(ANY, "field nobody not exist"):
        client.search(name, data=[[0.0] * 8], limit=1, output_fields=["nobody"])


def test_search_when_not_loaded_fails(client, name):
    make(client, name, load=False)
    with fails(101, "collection not loaded"):
        client.search(name, data=[[0.0] * 8], limit=1)


def test_search_in_an_empty_collection_answers_empty_lists(client, raw, name):
    make(client, name)
    got = client.search(name, data=[[0.0] * 8] * 3, limit=5)
    assert [len(h) for h in got] == [0, 0, 0]
    r = is_ok(raw.Search(collection_name=name, dsl_type=1, nq=2,
                         placeholder_group=placeholder([[0.0] * 8] * 2),
                         search_params=kv(topk=5, anns_field="vector")))
    assert list(r.results.topks) == [0, 0] and r.results.num_queries == 2


def test_answer_beneath_the_client_has_its_shape(raw, filled):
    r = is_ok(raw.Search(collection_name=filled[0], dsl_type=1, dsl="x == 1", nq=2,
                         placeholder_group=placeholder(QUERIES[:2].tolist()),
                         output_fields=["t"], search_params=kv(
                             topk=5, anns_field="vector", params=json.dumps({}), metric_type="L2")))
    d = r.results
    assert list(d.topks) == [5, 5] and d.num_queries == 2 and d.top_k == 5
    assert len(d.ids.int_id.data) == len(d.scores) == 10
    assert [f.field_name for f in d.fields_data] == ["t"] and d.fields_data[0].field_id > 100
    assert len(d.fields_data[0].scalars.string_data.data) == 10
    assert list(d.output_fields) == ["t"] and d.primary_field_name == "id"
    assert r.collection_name == filled[0]


def test_anns_field_may_be_left_out_when_there_is_one(raw, filled):
    r = is_ok(raw.Search(collection_name=filled[0], dsl_type=1,
                         placeholder_group=placeholder([QUERIES[0].tolist()]),
                         search_params=kv(topk=1)))
    assert list(r.results.topks) == [1]


def test_queries_above_the_limit_fail(raw, filled):
    is_error(raw.Search(collection_name=filled[0], dsl_type=1, nq=16385,
                        placeholder_group=placeholder([[0.0] * DIM] * 16385),
                        search_params=kv(topk=1, anns_field="vector")), ANY,
             "nq (number of search vector per search request) should be in range [1, 16384]")


@pytest.mark.parametrize("flushed", [False, True], ids=["growing", "flushed"])
def test_search_with_text_keys_answers_them(client, name, flushed):
    make(client, name, pk=DataType.VARCHAR)
    base = vectors(50)
    client.insert(name, [{"id": f"key-{i:03}", "vector": base[i].tolist()} for i in range(50)])
    if flushed:
        client.flush(name)
    hits = client.search(name, data=[QUERIES[0].tolist()], limit=9, filter='id > "key-010"')[0]
    check_hits(hits, "L2", base, QUERIES[0], 9, ids=[f"key-{i:03}" for i in range(50)],
               keep=np.arange(50) > 10)


def test_duplicate_keys_come_once_with_the_nearer_row(client, name):
    make(client, name, ("x", DataType.INT64))
    for n in (1, 2):
        client.insert(name, simple_rows(20, seed=n, x=lambda i: n))
        if n == 1:
            client.flush(name)
    hits = client.search(name, data=[QUERIES[0].tolist()], limit=20, output_fields=["x"])[0]
    both = {n: scores("L2", vectors(20, seed=n), QUERIES[0]) for n in (1, 2)}
    assert sorted(h["id"] for h in hits) == list(range(20))
    for h in hits:  # the nearer of the two rows, and its columns
        nearer = min((1, 2), key=lambda n: both[n][h["id"]])
        assert h["entity"]["x"] == nearer
        assert h["distance"] == pytest.approx(both[nearer][h["id"]], rel=1e-4)
