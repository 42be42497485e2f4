"""Query and Get: every operator of the filter language against Python, pages, count(*), errors."""
import json
import math
import re

import numpy as np
import pytest
from pymilvus import DataType, MilvusException
from support import ANY, fails, is_error, is_ok, kv, make, simple_rows

N = 200
WORDS = ["alpha", "beta", "Gamma", "delta 5%", "under_score", "", "ÄÖÜ", "a.b*c", "quote'd", 'dq"d']


def row(i):
    """One row as Python sees it; None is null. $meta keys are in `dyn`, `maybe`."""
    return {
        "id": i,
        "flag": None if i % 17 == 3 else i % 2 == 0,
        "i8": i % 256 - 128, "i16": i * 7 - 500, "i32": i * 1000 - 100000,
        "n": None if i % 5 == 2 else i - 100,
        "big": (i - 100) * 2 ** 55,
        "f": i / 4 - 20, "d": None if i % 11 == 1 else (i - 100) * 0.1,
        "t": WORDS[i % len(WORDS)] + (str(i) if i % 3 else ""),
        "nt": None if i % 4 == 1 else f"n{i % 7}",
        "a": [i % 5, i % 7, -i][: i % 4],
        "at": [WORDS[i % 4], WORDS[(i + 1) % 4]][: i % 3],
        "j": [{"a": i, "b": {"c": f"s{i % 6}", "l": [i % 3, "x", i % 4]}, "on": i % 2 == 0},
              {"a": i + 0.5, "b": None}, {"a": f"text{i}"}, {}, {"a": {"b": 1}, "arr": [[1, 2], 3]},
              {"a": True}, {"a": -i, "arr": [i % 5]}][i % 7],
        "dyn": i % 9,
        **({"maybe": f"m{i % 3}"} if i % 2 else {}),
    }


ROWS = [row(i) for i in range(N)]


@pytest.fixture(scope="module")
def filled(server, client):
    """The first half flushed, the second growing."""
    name = "query_filled"
    make(client, name, ("flag", DataType.BOOL, {"nullable": True}), ("i8", DataType.INT8),
         ("i16", DataType.INT16), ("i32", DataType.INT32), ("n", DataType.INT64, {"nullable": True}),
         ("big", DataType.INT64), ("f", DataType.FLOAT), ("d", DataType.DOUBLE, {"nullable": True}),
         ("t", DataType.VARCHAR, {"max_length": 50}),
         ("nt", DataType.VARCHAR, {"max_length": 50, "nullable": True}),
         ("a", DataType.ARRAY, {"element_type": DataType.INT64, "max_capacity": 8}),
         ("at", DataType.ARRAY, {"element_type": DataType.VARCHAR, "max_capacity": 8,
                                 "max_length": 20}),
         ("j", DataType.JSON), dynamic=True)
    rows = [{**ROWS[i], "vector": r["vector"]} for i, r in enumerate(simple_rows(N))]
    client.insert(name, rows[:N // 2])
    client.flush(name)
    client.insert(name, rows[N // 2:])
    yield name
    client.drop_collection(name)


def jget(r, *path):
    """A path into the JSON field; None when it is not there."""
    v = r["j"]
    for p in path:
        if isinstance(p, str) and isinstance(v, dict) and p in v:
            v = v[p]
        elif isinstance(p, int) and isinstance(v, list) and p < len(v):
            v = v[p]
        else:
            return None
    return v


def num(v):
    return v if isinstance(v, (int, float)) and not isinstance(v, bool) else None


def like(pattern, v):
    """The wire's like: % and _ , everything else literal."""
    rx = "".join(".*" if c == "%" else "." if c == "_" else re.escape(c) for c in pattern)
    return re.fullmatch(rx, v, re.S) is not None


def lt(x, y):
    return x is not None and x < y


# Each filter with what it means for a row. The right side knows nothing of the server's evaluator.
FILTERS = [
    # comparison of every type
    ("id == 7", lambda r: r["id"] == 7), ("id != 7", lambda r: r["id"] != 7),
    ("id < 7", lambda r: r["id"] < 7), ("id <= 7", lambda r: r["id"] <= 7),
    ("id > 190", lambda r: r["id"] > 190), ("id >= 190", lambda r: r["id"] >= 190),
    ("7 > id", lambda r: 7 > r["id"]), ("190 <= id", lambda r: 190 <= r["id"]),
    ("i8 == -128", lambda r: r["i8"] == -128), ("i8 > 1000", lambda r: False),
    ("i8 < 1000", lambda r: True), ("i8 < 99999999999", lambda r: True),
    ("i16 >= 0", lambda r: r["i16"] >= 0), ("i32 == 5000", lambda r: r["i32"] == 5000),
    ("n == 5", lambda r: r["n"] == 5), ("n != 5", lambda r: r["n"] is not None and r["n"] != 5),
    ("n < -90.5", lambda r: lt(r["n"], -90.5)),
    ("big == 3602879701896396800", lambda r: r["big"] == 3602879701896396800),
    ("big > 3602879701896396799", lambda r: r["big"] > 3602879701896396799),
    ("big > 0 and big < 72057594037927936", lambda r: 0 < r["big"] < 2 ** 56),
    ("f == 1.25", lambda r: r["f"] == 1.25), ("f < 0", lambda r: r["f"] < 0),
    ("f >= 10", lambda r: r["f"] >= 10), ("d > 1e0", lambda r: r["d"] is not None and r["d"] > 1),
    ("d <= -9.5", lambda r: r["d"] is not None and r["d"] <= -9.5),
    ('t == "alpha"', lambda r: r["t"] == "alpha"), ("t == 'alpha'", lambda r: r["t"] == "alpha"),
    ('t == ""', lambda r: r["t"] == ""), ('t != ""', lambda r: r["t"] != ""),
    ('t == "ÄÖÜ6" or t == "ÄÖÜ16"', lambda r: r["t"] in ("ÄÖÜ6", "ÄÖÜ16")),
    ('t > "b"', lambda r: r["t"].encode() > b"b"), ('t < "B"', lambda r: r["t"].encode() < b"B"),
    ('t >= "beta" and t <= "delta"', lambda r: b"beta" <= r["t"].encode() <= b"delta"),
    ("t == \"quote'd8\"", lambda r: r["t"] == "quote'd8"),
    ("t == 'dq\"d19'", lambda r: r["t"] == 'dq"d19'),
    ('t == "dq\\"d19"', lambda r: r["t"] == 'dq"d19'),
    ('nt == "n3"', lambda r: r["nt"] == "n3"),
    ('nt != "n3"', lambda r: r["nt"] is not None and r["nt"] != "n3"),
    ("flag == true", lambda r: r["flag"] is True), ("flag == False", lambda r: r["flag"] is False),
    ("flag != true", lambda r: r["flag"] is False), ("flag", lambda r: r["flag"] is True),
    # chained ranges
    ("10 < id < 20", lambda r: 10 < r["id"] < 20), ("10 <= id <= 20", lambda r: 10 <= r["id"] <= 20),
    ("20 > id >= 10", lambda r: 10 <= r["id"] < 20), ("-1 < f <= 1", lambda r: -1 < r["f"] <= 1),
    ('"a" < t < "b"', lambda r: b"a" < r["t"].encode() < b"b"),
    # logic
    ("id > 5 and id < 9", lambda r: 5 < r["id"] < 9), ("id > 5 && id < 9", lambda r: 5 < r["id"] < 9),
    ("id < 3 or id > 197", lambda r: r["id"] < 3 or r["id"] > 197),
    ("id < 3 || id > 197", lambda r: r["id"] < 3 or r["id"] > 197),
    ("not (id < 190)", lambda r: r["id"] >= 190), ("!(id < 190)", lambda r: r["id"] >= 190),
    ("NOT (id < 190) AND id < 195", lambda r: 190 <= r["id"] < 195),
    ("not (n == 5)", lambda r: r["n"] is not None and r["n"] != 5),
    ("not (n > 0) and not (n < 0)", lambda r: r["n"] == 0),
    ("not (n > 0 or id < 50)", lambda r: r["n"] is not None and not (r["n"] > 0 or r["id"] < 50)),
    ("n > 0 or id < 50", lambda r: (r["n"] or 0) > 0 or r["id"] < 50),
    ("id < 4 or id > 190 and id < 193", lambda r: r["id"] < 4 or 190 < r["id"] < 193),
    ("(id < 4 or id > 190) and id < 193", lambda r: r["id"] < 4 or 190 < r["id"] < 193),
    # in
    ("id in [1, 5, 500]", lambda r: r["id"] in (1, 5, 500)), ("id in []", lambda r: False),
    ("id not in [1, 5]", lambda r: r["id"] not in (1, 5)),
    ("n in [1, 2, 3]", lambda r: r["n"] in (1, 2, 3)),
    ("n not in [1, 2, 3]", lambda r: r["n"] is not None and r["n"] not in (1, 2, 3)),
    ('t in ["alpha", "beta1"]', lambda r: r["t"] in ("alpha", "beta1")),
    ('nt not in ["n1"]', lambda r: r["nt"] is not None and r["nt"] != "n1"),
    ("flag in [true]", lambda r: r["flag"] is True),
    ("f in [0.25, 1, 1.25]", lambda r: r["f"] in (0.25, 1, 1.25)),
    ("i8 in [-128, 127, 5000]", lambda r: r["i8"] in (-128, 127)),
    ("not (id in [1])", lambda r: r["id"] != 1),
    # null
    ("n is null", lambda r: r["n"] is None), ("n is not null", lambda r: r["n"] is not None),
    ("n IS NULL", lambda r: r["n"] is None), ("nt is null", lambda r: r["nt"] is None),
    ("flag is null or d is null", lambda r: r["flag"] is None or r["d"] is None),
    ("id is null", lambda r: False), ("id is not null", lambda r: True),
    # like
    ('t like "al%"', lambda r: r["t"].startswith("al")),
    ('t like "%5%"', lambda r: "5" in r["t"]), ('t like "%a"', lambda r: r["t"].endswith("a")),
    ('t like "bet_"', lambda r: like("bet_", r["t"])),
    ('t like "b%a%1"', lambda r: like("b%a%1", r["t"])),
    ('t like "alpha"', lambda r: r["t"] == "alpha"), ('t like "%"', lambda r: True),
    ('t like ""', lambda r: r["t"] == ""),
    ('t like "%5\\\\%%"', lambda r: "5%" in r["t"]), ('t like "a.b%"', lambda r: r["t"].startswith("a.b")),
    ('t like "ÄÖ_%"', lambda r: like("ÄÖ_%", r["t"])),
    ('not (t like "al%")', lambda r: not r["t"].startswith("al")),
    ('nt like "n%"', lambda r: r["nt"] is not None),
    # arithmetic
    ("id % 10 == 3", lambda r: r["id"] % 10 == 3), ("id + 5 == 10", lambda r: r["id"] == 5),
    ("id - 5 > 190", lambda r: r["id"] > 195), ("id * 2 <= 10", lambda r: r["id"] * 2 <= 10),
    ("id / 2 == 4", lambda r: r["id"] // 2 == 4), ("n % 3 == 0", lambda r: r["n"] is not None
                                                  and math.fmod(r["n"], 3) == 0),
    ("f + 0.5 == 1.0", lambda r: r["f"] == 0.5), ("f * 2 > 50.0", lambda r: r["f"] * 2 > 50),
    ("n + 1 != 0", lambda r: r["n"] is not None and r["n"] != -1),
    ("id == 2 + 3", lambda r: r["id"] == 5), ("id == 2 ** 5", lambda r: r["id"] == 32),
    ("id == -(-7)", lambda r: r["id"] == 7),
    # arrays
    ("a[0] == 2", lambda r: len(r["a"]) > 0 and r["a"][0] == 2),
    ("a[2] < -100", lambda r: len(r["a"]) > 2 and r["a"][2] < -100),
    ('at[1] == "beta"', lambda r: len(r["at"]) > 1 and r["at"][1] == "beta"),
    ("array_length(a) == 3", lambda r: len(r["a"]) == 3),
    ("array_length(at) > 0", lambda r: len(r["at"]) > 0),
    ("array_contains(a, 3)", lambda r: 3 in r["a"]), ("ARRAY_CONTAINS(a, 3)", lambda r: 3 in r["a"]),
    ('array_contains(at, "alpha")', lambda r: "alpha" in r["at"]),
    ("array_contains_all(a, [1, 2])", lambda r: {1, 2} <= set(r["a"])),
    ("array_contains_any(a, [1, 2])", lambda r: bool({1, 2} & set(r["a"]))),
    ("not array_contains(a, 3)", lambda r: 3 not in r["a"]),
    # JSON
    ('j["a"] == 14', lambda r: num(jget(r, "a")) == 14),
    ('j["a"] > 50', lambda r: num(jget(r, "a")) is not None and jget(r, "a") > 50),
    ('j["a"] == 1.5', lambda r: num(jget(r, "a")) == 1.5),
    ('j["a"] >= 1.5 and j["a"] < 30', lambda r: num(jget(r, "a")) is not None
        and 1.5 <= jget(r, "a") < 30),
    ('j["a"] == true', lambda r: jget(r, "a") is True),
    ('j["a"] == "text2"', lambda r: jget(r, "a") == "text2"),
    ('j["a"] like "text1%"', lambda r: isinstance(jget(r, "a"), str)
        and jget(r, "a").startswith("text1")),
    ('j["b"]["c"] == "s1"', lambda r: jget(r, "b", "c") == "s1"),
    ('j["b"]["c"] in ["s1", "s2"]', lambda r: jget(r, "b", "c") in ("s1", "s2")),
    ('j["b"]["l"][0] == 2', lambda r: jget(r, "b", "l", 0) == 2),
    ('j["on"] == false', lambda r: jget(r, "on") is False),
    ('j["a"] in [0, 7, 14]', lambda r: num(jget(r, "a")) in (0, 7, 14)
        and num(jget(r, "a")) is not None),
    ('j["none"] == 1', lambda r: False),
    ('exists j["a"]', lambda r: jget(r, "a") is not None),
    ('exists j["b"]["c"]', lambda r: jget(r, "b", "c") is not None),
    ('not exists j["a"]', lambda r: jget(r, "a") is None),
    ('json_contains(j["b"]["l"], "x")', lambda r: "x" in (jget(r, "b", "l") or [])),
    ('json_contains(j["arr"], 3)', lambda r: 3 in (jget(r, "arr") or [])),
    ('json_contains(j["arr"], [1, 2])', lambda r: [1, 2] in (jget(r, "arr") or [])),
    ('json_contains_all(j["b"]["l"], [1, "x"])', lambda r: all(
        v in (jget(r, "b", "l") or []) for v in (1, "x"))),
    ('json_contains_any(j["arr"], [2, 4])', lambda r: any(
        v in (jget(r, "arr") or []) for v in (2, 4))),
    ('j["a"] % 5 == 0', lambda r: isinstance(num(jget(r, "a")), int) and jget(r, "a") % 5 == 0),
    # dynamic keys
    ("dyn == 4", lambda r: r["dyn"] == 4), ('$meta["dyn"] > 6', lambda r: r["dyn"] > 6),
    ('maybe == "m1"', lambda r: r.get("maybe") == "m1"),
    ('exists maybe', lambda r: "maybe" in r), ('maybe in ["m0", "m2"]', lambda r: r.get("maybe")
                                               in ("m0", "m2")),
    ("nowhere == 1", lambda r: False),
    # mixed
    ('(id < 50 and t like "a%") or (n > 80 and flag == true)', lambda r:
        (r["id"] < 50 and r["t"].startswith("a")) or ((r["n"] or 0) > 80 and r["flag"] is True)),
    ("0x10 == id or id == 0b11", lambda r: r["id"] in (16, 3)),
    ("i16 == n", lambda r: r["n"] is not None and r["i16"] == r["n"]),
    ("n > f", lambda r: r["n"] is not None and r["n"] > r["f"]),
]


@pytest.mark.parametrize("expr, oracle", FILTERS, ids=[e for e, _ in FILTERS])
def test_filter_selects_what_it_says(client, filled, expr, oracle):
    want = [r["id"] for r in ROWS if oracle(r)]
    got = [r["id"] for r in client.query(filled, filter=expr, output_fields=["id"])]
    assert got == want
    n = client.query(filled, filter=expr, output_fields=["count(*)"])[0]["count(*)"]
    assert n == len(want)


@pytest.mark.parametrize("expr, params, keep", [
    ("id == {x}", {"x": 5}, lambda r: r["id"] == 5),
    ("id in {xs}", {"xs": [1, 2]}, lambda r: r["id"] in (1, 2)),
    ("id in {xs}", {"xs": []}, lambda r: False),
    ("t == {t}", {"t": "alpha"}, lambda r: r["t"] == "alpha"),
    ("t == {t}", {"t": "dq\"d19' \\"}, lambda r: False),
    ("f < {f} and flag == {b}", {"f": 0.5, "b": True}, lambda r: r["f"] < 0.5 and r["flag"] is True),
    ("t in {ts}", {"ts": ["alpha", "ÄÖÜ6"]}, lambda r: r["t"] in ("alpha", "ÄÖÜ6")),
    ("array_contains_any(a, {v})", {"v": [3, 4]}, lambda r: bool({3, 4} & set(r["a"]))),
])
def test_template_values_are_the_values(client, filled, expr, params, keep):
    got = client.query(filled, filter=expr, filter_params=params, output_fields=["id"])
    assert [r["id"] for r in got] == [r["id"] for r in ROWS if keep(r)]


BAD = [
    "id ==", "== 5", "id = 5", "(id == 5", "id == 5)", "id in 5", "id in [1,", 'id in ["a"]',
    "id == 'a'", "t == 5", "t > 1.5", "flag > true", "flag == 1", "id like 'a%'", 't like 5',
    "id + 1", "id", "t", "5", "'text'", "id == 1 and", "not", "id & ", "a == 5", "a[0] == 'x'",
    'array_contains(a, "x")', "array_contains(id, 1)", "array_length(id) > 1", "vector == 1",
    "exists id", "nobody(1)", "json_contains(id, 1)", "id in [1, 'a']", '"open', "id == {x}",
    "id === 5", "id <> 5", "id == 5; drop", "id == 1e", "a[-1] == 1", "id == 99999999999999999999",
    "t in [1]", "random_sample(2)",
]


@pytest.mark.parametrize("expr", BAD)
def test_filter_that_is_wrong_fails(client, filled, expr):
    with fails(1100, "failed to create query plan: "):
        client.query(filled, filter=expr, output_fields=["id"], limit=3)


def test_filter_errors_have_their_words(client, filled):
    with fails(1100, "cannot parse expression: id =="):
        client.query(filled, filter="id ==")
    with fails(1100, "predicate is not a boolean expression"):
        client.query(filled, filter="id + 1")


def test_field_that_is_missing_without_dynamic_field_fails(client, name):
    make(client, name, rows=simple_rows(2))
    with fails(1100, "failed to create query plan: ", "nobody", "not exist"):
        client.query(name, filter="nobody == 1")
    with fails(ANY, "field nobody not exist"):
        client.query(name, filter="id > 0", output_fields=["nobody"])


@pytest.mark.parametrize("fields, keys", [
    (["dyn"], {"dyn"}), (["maybe"], {"maybe"}), (["dyn", "maybe"], {"dyn", "maybe"}),
    (['$meta["dyn"]'], {"dyn"}), (["nowhere"], set()), (["dyn", "$meta"], {"dyn", "maybe"}),
    (["dyn", "*"], {"dyn", "maybe"}),
])
def test_dynamic_field_comes_with_the_keys_that_were_asked_for(client, raw, filled, fields, keys):
    """Clients that do not pick the keys themselves see what the server sends."""
    for more in ({}, {"offset": 1}):
        resp = raw.Query(collection_name=filled, expr="id in [6, 7, 107]", output_fields=fields,
                         query_params=kv(limit=9, **more))
        is_ok(resp.status)
        meta, = (f for f in resp.fields_data if f.is_dynamic)
        got = [json.loads(b) for b in meta.scalars.json_data.data]
        want = [{k: v for k, v in ROWS[i].items() if k in keys} for i in (6, 7, 107)]
        assert got == want[more.get("offset", 0):]


def test_dynamic_keys_with_escapes_are_found_by_their_names(client, raw, name):
    make(client, name, dynamic=True, rows=[{**simple_rows(1)[0], 'a"b': 1, "ü\n": [2], "c": 3}])
    resp = raw.Query(collection_name=name, expr="id == 0", output_fields=['a"b', "ü\n"])
    meta, = (f for f in resp.fields_data if f.is_dynamic)
    assert json.loads(meta.scalars.json_data.data[0]) == {'a"b': 1, "ü\n": [2]}


@pytest.mark.parametrize("limit, offset", [(5, 0), (5, 3), (50, 190), (5, 500), (200, None)])
def test_limit_and_offset_page_in_the_order_of_keys(client, filled, limit, offset):
    more = {} if offset is None else {"offset": offset}
    got = client.query(filled, filter="", limit=limit, output_fields=["id"], **more)
    start = offset or 0
    assert [r["id"] for r in got] == list(range(N))[start:start + limit]


def test_limit_with_a_filter_takes_the_first_that_match(client, filled):
    got = client.query(filled, filter="id % 2 == 1", limit=4, offset=2, output_fields=["id"])
    assert [r["id"] for r in got] == [5, 7, 9, 11]


def test_empty_filter_without_limit_fails(client, filled):
    with fails(1100, "empty expression should be used with limit"):
        client.query(filled, filter="")


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": -2}, {"limit": 16385},
                                    {"limit": 16000, "offset": 1000}, {"limit": "ten"},
                                    {"limit": 5, "offset": -1}], ids=str)
def test_page_outside_the_window_fails(raw, filled, params):
    is_error(raw.Query(collection_name=filled, expr="id >= 0", query_params=kv(**params)))


def test_count_of_everything_and_of_nothing(client, filled):
    assert client.query(filled, filter="", output_fields=["count(*)"])[0]["count(*)"] == N
    assert client.query(filled, filter="id < 0", output_fields=["count(*)"])[0]["count(*)"] == 0


def test_count_with_a_limit_fails(client, filled):
    with fails(1100, "count entities with pagination is not allowed"):
        client.query(filled, filter="id > 0", output_fields=["count(*)"], limit=5)


def test_query_by_ids_and_get_answer_those_rows(client, filled):
    assert [r["id"] for r in client.query(filled, ids=[5, 3, 5000], output_fields=["id"])] == [3, 5]
    got = client.get(filled, ids=[4, 2])
    assert sorted(r["id"] for r in got) == [2, 4]
    assert set(got[0]) >= {"id", "t", "vector", "dyn"}
    assert client.get(filled, ids=[]) == []


def test_star_answers_every_field(client, filled):
    r = client.query(filled, filter="id == 6", output_fields=["*"])[0]
    want = ROWS[6]
    for k in ("flag", "i8", "i16", "i32", "n", "big", "t", "nt", "j", "dyn"):
        assert r[k] == want[k], k
    assert list(r["a"]) == want["a"] and r["f"] == want["f"]
    assert np.allclose(r["vector"], simple_rows(N)[6]["vector"])


def test_key_always_comes(client, filled):
    assert client.query(filled, filter="id == 6", output_fields=["t"])[0]["id"] == 6


def test_empty_answer_still_has_its_columns(raw, filled):
    r = is_ok(raw.Query(collection_name=filled, expr="id < 0", output_fields=["t", "n"]))
    assert {f.field_name for f in r.fields_data} >= {"id", "t", "n"}
    assert r.collection_name == filled and r.primary_field_name == "id"


def test_answer_columns_are_aligned_with_their_rows(raw, filled):
    """Null rows keep a place in a scalar column, and valid_data has every row."""
    r = is_ok(raw.Query(collection_name=filled, expr="id < 10", output_fields=["n", "t"]))
    col = {f.field_name: f for f in r.fields_data}
    assert len(col["n"].scalars.long_data.data) == len(col["id"].scalars.long_data.data) == 10
    assert list(col["n"].valid_data) == [ROWS[i]["n"] is not None for i in range(10)]
    assert not col["t"].valid_data


def test_partition_names_limit_the_query(client, name):
    make(client, name)
    client.create_partition(name, "p")
    client.load_collection(name)
    client.insert(name, simple_rows(3))
    client.insert(name, simple_rows(2, start=10), partition_name="p")
    got = client.query(name, filter="id >= 0", partition_names=["p"], output_fields=["id"])
    assert [r["id"] for r in got] == [10, 11]
    n = client.query(name, partition_names=["p"], output_fields=["count(*)"])
    assert n[0]["count(*)"] == 2
    with fails(200, "partition name nowhere not found"):
        client.query(name, filter="id >= 0", partition_names=["nowhere"])


def test_query_when_not_loaded_fails(client, name):
    make(client, name, load=False)
    with fails(101, "collection not loaded"):
        client.query(name, filter="id > 0")


def test_query_of_text_keys_is_in_the_order_of_bytes(client, name):
    make(client, name, pk=DataType.VARCHAR)
    keys = ["b", "a", "ä", "B", "", "aa", "z" * 60]
    client.insert(name, [{"id": k, "vector": [0.0] * 8} for k in keys[:3]])
    client.flush(name)
    client.insert(name, [{"id": k, "vector": [0.0] * 8} for k in keys[3:]])
    got = client.query(name, filter="", limit=10, output_fields=["id"])
    assert [r["id"] for r in got] == sorted(keys, key=lambda k: k.encode())


def test_random_sample_is_its_part_or_a_clear_error(client, filled):
    try:
        n = len(client.query(filled, filter="random_sample(0.5)", output_fields=["id"]))
    except MilvusException as e:
        assert "random_sample" in e.message and e.code in (1100, 3000)
    else:
        assert n == N // 2
