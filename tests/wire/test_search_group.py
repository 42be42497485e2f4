"""Grouping search: the best rows of each of the best groups, against a plain sorted list."""
import numpy as np
import pytest
from pymilvus import DataType
from support import fails, make, scores, vectors

N = 600


@pytest.fixture(scope="module", params=[1, 3], ids=["one-shard", "three-shards"])
def filled(request, server, client):
    """n: 20 numbers; t: 13 words or null; b: Bool; big: one value for nine rows of ten."""
    name = f"group_filled_{request.param}"
    make(client, name, ("n", DataType.INT32), ("t", DataType.VARCHAR,
                                               {"max_length": 8, "nullable": True}),
         ("b", DataType.BOOL), ("big", DataType.INT64), ("f", DataType.FLOAT),
         create={"num_shards": request.param})
    v = vectors(N)
    rows = [{"id": i, "vector": v[i].tolist(), "n": i * 7 % 20, "b": i % 3 == 0,
             "t": None if i % 13 == 5 else f"t{i % 13}", "big": 0 if i % 10 else i, "f": 0.5}
            for i in range(N)]
    client.insert(name, rows[:400])
    client.flush(name)
    client.insert(name, rows[400:])
    yield name, rows, v
    client.drop_collection(name)


def grouped(rows, v, query, field, limit, size=1, offset=0):
    """Ids by group, best group first: the whole ranking, cut down."""
    ranking = np.argsort(scores("L2", v, query), kind="stable")
    groups = {}
    for i in ranking:
        groups.setdefault(rows[i][field], []).append(int(i))
    return [(g, ids[:size]) for g, ids in list(groups.items())[offset:offset + limit]]


def search(client, name, query, field, **more):
    return client.search(name, data=[query.tolist()], group_by_field=field,
                         search_params={"metric_type": "L2"}, **more)[0]


@pytest.mark.parametrize("field", ["n", "t", "b"])
def test_one_row_of_each_group(client, filled, field):
    name, rows, v = filled
    q = vectors(1, seed=11)[0]
    hits = search(client, name, q, field, limit=10, output_fields=[field])
    want = grouped(rows, v, q, field, 10)
    assert [h["id"] for h in hits] == [ids[0] for _, ids in want]
    assert [h["entity"].get(field) for h in hits] == [g for g, _ in want]


@pytest.mark.parametrize("size", [1, 3, 10])
def test_groups_of_several_rows_stand_together(client, filled, size):
    name, rows, v = filled
    q = vectors(1, seed=12)[0]
    hits = search(client, name, q, "n", limit=6, group_size=size, strict_group_size=True,
                  output_fields=["n"])
    want = grouped(rows, v, q, "n", 6, size)
    assert [h["id"] for h in hits] == [i for _, ids in want for i in ids]


def test_offset_skips_groups(client, filled):
    name, rows, v = filled
    q = vectors(1, seed=13)[0]
    hits = search(client, name, q, "n", limit=5, offset=4, output_fields=["n"])
    assert [h["id"] for h in hits] == [ids[0] for _, ids in grouped(rows, v, q, "n", 5, offset=4)]


def test_a_large_group_does_not_hide_the_small_ones(client, filled):
    name, rows, v = filled
    q = vectors(1, seed=14)[0]
    hits = search(client, name, q, "big", limit=40, output_fields=["big", "vector"])
    want = grouped(rows, v, q, "big", 40)
    assert [h["id"] for h in hits] == [ids[0] for _, ids in want]
    for h in hits:
        assert list(h["entity"]["vector"]) == pytest.approx(v[h["id"]].tolist())
        assert h["entity"]["big"] == rows[h["id"]]["big"]


def test_more_groups_than_there_are_answers_all(client, filled):
    name, rows, v = filled
    q = vectors(1, seed=15)[0]
    hits = search(client, name, q, "b", limit=100, group_size=2, strict_group_size=True)
    want = grouped(rows, v, q, "b", 100, 2)
    assert [h["id"] for h in hits] == [i for _, ids in want for i in ids]


def test_several_queries_and_a_filter(client, filled):
    name, rows, v = filled
    qs = vectors(3, seed=16)
    res = client.search(name, data=qs.tolist(), group_by_field="n", limit=4, filter="id < 300",
                        search_params={"metric_type": "L2"}, output_fields=["n"])
    for q, hits in zip(qs, res):
        want = grouped(rows[:300], v[:300], q, "n", 4)
        assert [h["id"] for h in hits] == [ids[0] for _, ids in want]


def test_nothing_found_is_empty(client, filled):
    name, _, v = filled
    assert len(search(client, name, v[0], "n", limit=3, filter="id < 0")) == 0


def test_wrong_requests_are_told(client, filled):
    name, _, v = filled
    with fails(1700, "groupBy field not found in schema"):
        search(client, name, v[0], "nope", limit=3)
    with fails(1100, "groupBy field f is of type Float"):
        search(client, name, v[0], "f", limit=3)
    with fails(1100, "input group size:11 exceeds configured max group size:10"):
        search(client, name, v[0], "n", limit=3, group_size=11)
    with fails(1100, "input group size:-1 is negative, failed to do search_groupby"):
        search(client, name, v[0], "n", limit=3, group_size=-1)
    with fails(1100, "Not allowed to do range-search when doing search-group-by"):
        client.search(name, data=[v[0].tolist()], group_by_field="n", limit=3,
                      search_params={"metric_type": "L2", "params": {"radius": 10}})
    with fails(1100, "Not allowed to do groupBy when doing iteration"):
        client.search_iterator(name, data=[v[0].tolist()], batch_size=10, group_by_field="n",
                               search_params={"metric_type": "L2"})
