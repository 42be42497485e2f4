"""Searches through every index type: recall, filters, ranges, iterators, deletes, other indexes after
it, restarts; progress of builds and what becomes of those that cannot be."""
import re
import time

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException
from server import Server
from support import bits, connected, eventually, fails, index, kv, object_files, schema_of, scores, to_bf16

FLOAT, BINARY, INT8 = DataType.FLOAT_VECTOR, DataType.BINARY_VECTOR, DataType.INT8_VECTOR
HALF, BHALF = DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR
ROWS, DIM, NQ, K = 5200, 32, 40, 10

# type, field, metric, build parameters, search parameters, recall that is asked for
KINDS = [
    ("FLAT", FLOAT, "L2", {}, {}, 1),
    ("IVF_FLAT", FLOAT, "L2", {"nlist": 64}, {"nprobe": 24}, .9),
    ("IVF_FLAT", FLOAT, "COSINE", {"nlist": 64}, {"nprobe": 24}, .9),
    ("IVF_SQ8", FLOAT, "IP", {"nlist": 64}, {"nprobe": 32}, .9),
    ("IVF_PQ", FLOAT, "L2", {"nlist": 64, "m": 16, "nbits": 8}, {"nprobe": 64}, .9),
    ("IVF_RABITQ", FLOAT, "L2", {"nlist": 64, "refine": True, "refine_type": "SQ8"},
     {"nprobe": 48, "refine_k": 4}, .9),
    ("SCANN", FLOAT, "COSINE", {"nlist": 64, "with_raw_data": True},
     {"nprobe": 48, "reorder_k": 200}, .9),
    ("HNSW", FLOAT, "L2", {"M": 16, "efConstruction": 100}, {"ef": 64}, .95),
    ("HNSW", FLOAT, "COSINE", {"M": 16, "efConstruction": 100}, {"ef": 64}, .95),
    ("HNSW", FLOAT, "IP", {"M": 16, "efConstruction": 100}, {"ef": 100}, .9),
    ("HNSW", HALF, "L2", {"M": 16, "efConstruction": 100}, {"ef": 64}, .9),
    ("HNSW", BHALF, "L2", {"M": 16, "efConstruction": 100}, {"ef": 64}, .9),
    ("HNSW", INT8, "L2", {"M": 16, "efConstruction": 100}, {"ef": 64}, .9),
    ("HNSW_SQ", FLOAT, "L2", {"M": 16, "efConstruction": 100, "sq_type": "SQ8"}, {"ef": 64}, .9),
    ("HNSW_PQ", FLOAT, "L2", {"M": 16, "efConstruction": 100, "m": 16, "nbits": 8, "refine": True,
                              "refine_type": "FP32"}, {"ef": 100, "refine_k": 4}, .9),
    ("HNSW_PRQ", FLOAT, "L2", {"M": 16, "efConstruction": 100, "m": 8, "nbits": 8, "nrq": 2,
                               "refine": True, "refine_type": "FP32"}, {"ef": 100, "refine_k": 4},
     .9),
    ("ANNOY", FLOAT, "L2", {"n_trees": 30}, {"search_k": 6000}, .9),
    ("DISKANN", FLOAT, "L2", {}, {"search_list": 100}, .9),
    ("AUTOINDEX", FLOAT, "COSINE", {}, {}, .9),
    ("AUTOINDEX", FLOAT, "L2", {}, {"level": 5}, .9),
    ("BIN_FLAT", BINARY, "JACCARD", {}, {}, 1),
    ("BIN_IVF_FLAT", BINARY, "HAMMING", {"nlist": 32}, {"nprobe": 24}, .9),
    ("AUTOINDEX", BINARY, "HAMMING", {}, {}, .9),
]
IDS = [f"{k}-{d.name}-{m}" for k, d, m, *_ in KINDS]


def index_files(sv):
    return [p for p in object_files(sv) if p.suffix == ".ix"]


def clustered(n, seed, dim=DIM):
    """Rows around 40 centres, the same for every seed."""
    centres = np.random.default_rng(77).standard_normal((40, dim)) * 2
    rng = np.random.default_rng(seed)
    return (centres[rng.integers(0, 40, n)] + rng.standard_normal((n, dim))).astype(np.float32)


class Vectors:
    """Vectors of one field type as they are sent and as they are compared."""

    def __init__(self, dtype, n, seed):
        v = clustered(n, seed)
        if dtype == BINARY:
            self.dim = 8 * DIM
            self.values = np.packbits(np.repeat(v > 0, 8, axis=1) ^
                                      (np.random.default_rng(seed + 1).random((n, 8 * DIM)) < .1),
                                      axis=1)
            self.sent = [r.tobytes() for r in self.values]
        elif dtype == INT8:
            self.dim, self.values = DIM, np.clip(v * 20, -128, 127).astype(np.int8)
            self.sent = list(self.values)
        elif dtype == HALF:
            self.dim, self.values = DIM, v.astype(np.float16)
            self.sent = list(self.values)
        elif dtype == BHALF:
            self.dim = DIM
            u = to_bf16(v)
            self.values = (u.astype(np.uint32) << 16).view(np.float32)
            self.sent = [r.tobytes() for r in u]
        else:
            self.dim, self.values = DIM, v
            self.sent = v.tolist()


def truth(base, queries, metric, keep=None, k=K):
    """Per query the k-th best score, and the rows that are at least as good."""
    found = []
    for q in queries:
        s = scores(metric, base, q)
        s = s if metric in ("IP", "COSINE") else -s
        if keep is not None:
            s = np.where(keep, s, -np.inf)
        best = np.sort(s)[::-1][k - 1]
        found.append(set(np.flatnonzero(s >= best - 1e-5 * (1 + abs(best))).tolist()))
    return found


def recall(hits, found):
    return np.mean([len({h["id"] for h in one} & f) / min(K, len(one) or K)
                    for one, f in zip(hits, found)])


def fill(client, name, dtype, nullable=False):
    base = Vectors(dtype, ROWS, 1)
    client.create_collection(name, schema=schema_of(
        ("v", dtype, {"dim": base.dim, "nullable": nullable}), ("x", DataType.INT64), vector=0),
        consistency_level="Strong")
    rows = [{"id": i, "v": base.sent[i], "x": i % 10} for i in range(ROWS)]
    client.insert(name, rows)
    client.flush(name)
    return base


def work(server, said):
    """What the last search that was explained says it did."""
    lines = [line for line in server.said()[said:].splitlines() if " search: coll=" in line]
    assert lines, "no search was explained"
    return dict(p.split("=", 1) for p in lines[-1].split() if "=" in p)


def indexed(client, server, name, vector):
    """Whether every flushed row is searched through an index now."""
    def look():
        said = len(server.said())
        client.search(name, data=[vector], limit=1, anns_field="v",
                      search_params={"params": {"explain": True}})
        w = work(server, said)
        return int(w["indexed"]) > 0 and w["other"] == "0"
    return eventually(look, 60)


def serves(client, name, kind, metric, params):
    """Builds the index; skips types that this server does not build."""
    try:
        index(client, name, "v", kind, metric, wait=True, **params)
    except MilvusException as e:
        if "is not served" in e.message:
            pytest.skip(e.message)
        raise


@pytest.mark.parametrize("kind, dtype, metric, build, search, floor", KINDS, ids=IDS)
def test_type_is_built_and_finds_what_is_near(client, server, name, kind, dtype, metric, build,
                                              search, floor):
    base, queries = fill(client, name, dtype), Vectors(dtype, NQ, 2)
    serves(client, name, kind, metric, build)
    d = client.describe_index(name, "v")
    assert d["state"] == "Finished" and d["index_type"] == kind
    assert (d["total_rows"], d["indexed_rows"], d["pending_index_rows"]) == (ROWS, ROWS, 0)
    client.load_collection(name)

    def ask(params=search, **more):
        return client.search(name, data=queries.sent, anns_field="v", limit=more.pop("limit", K),
                             search_params={"params": params}, **more)

    if kind != "BIN_FLAT":
        assert indexed(client, server, name, queries.sent[0])
    hits = ask()
    assert all(len(h) == K for h in hits)
    assert recall(hits, truth(base.values, queries.values, metric)) >= floor
    for one, q in zip(hits, queries.values):  # scores are exact whatever found the row
        want = scores(metric, base.values[[h["id"] for h in one]], q)
        assert np.allclose([h["distance"] for h in one], want, rtol=1e-3, atol=1e-3)
        assert [h["distance"] for h in one] == sorted((h["distance"] for h in one),
                                                      reverse=metric in ("IP", "COSINE"))
    x = np.arange(ROWS) % 10
    for text, keep in (("x == 3", x == 3), ("x != 3", x != 3), ("id < 40", np.arange(ROWS) < 40)):
        hits = ask(filter=text)
        assert all(len(h) == K and all(keep[i["id"]] for i in h) for h in hits)
        assert recall(hits, truth(base.values, queries.values, metric, keep)) >= floor - .02
    assert ask(filter="x == 11") == [[]] * NQ
    assert all(len(h) == 3 for h in ask(filter="id in [5, 6, 7]"))
    assert all(len(h) == 700 for h in ask(limit=700))


@pytest.mark.parametrize("kind, dtype, metric, build, search, floor", KINDS, ids=IDS)
def test_ranges_iterators_and_changes_with_an_index(client, server, name, kind, dtype, metric,
                                                    build, search, floor):
    base, queries = fill(client, name, dtype), Vectors(dtype, 8, 2)
    serves(client, name, kind, metric, build)
    client.load_collection(name)
    down, few = metric in ("IP", "COSINE"), [0, 0]
    for one, q in zip(queries.sent, queries.values):
        s = scores(metric, base.values, q)
        order = np.sort(s)[::-1] if down else np.sort(s)
        edge = (order[5] + order[6]) / 2
        if edge not in order:  # six rows, fewer than asked for
            hits = client.search(name, data=[one], anns_field="v", limit=K,
                                 search_params={"params": {**search, "radius": float(edge)}})[0]
            few[0] += len(hits)
            few[1] += 6
            assert len(hits) <= 6
        near, far = ((order[i] + order[i + 1]) / 2 for i in (30, 300))  # no row's own score
        if near == far or near in order or far in order:
            continue
        hits = client.search(name, data=[one], anns_field="v", limit=K,
                             search_params={"params": {**search, "radius": float(far)}})[0]
        assert len(hits) == K and all(h["distance"] > far if down else h["distance"] < far
                                      for h in hits)
        hits = client.search(name, data=[one], anns_field="v", limit=100, search_params={
            "params": {**search, "radius": float(far), "range_filter": float(near)}})[0]
        want = np.sort(s[(s > far) & (s <= near) if down else (s < far) & (s >= near)])
        want = (want[::-1] if down else want)[:100]
        assert len(hits) == len(want)
        assert np.allclose([h["distance"] for h in hits], want, rtol=1e-3, atol=1e-3)
    assert few[0] >= (floor - .05) * few[1], f"{few[0]} of {few[1]} rows within a radius"
    it = client.search_iterator(name, data=[queries.sent[0]], batch_size=900, limit=-1,
                                anns_field="v", search_params={"params": search})
    seen, last = [], None
    while page := it.next():
        d = [h["distance"] for h in page]
        assert d == sorted(d, reverse=down)
        assert last is None or (d[0] <= last if down else d[0] >= last)
        last = d[-1]
        seen += [h["id"] for h in page]
    it.close()
    assert sorted(seen) == list(range(ROWS))
    # deletes and newer rows are seen at once
    client.delete(name, filter="x == 4")
    again = Vectors(dtype, 60, 3)
    client.upsert(name, [{"id": 10 * i, "v": again.sent[i], "x": 50} for i in range(60)])
    hits = client.search(name, data=queries.sent, anns_field="v", limit=100,
                         search_params={"params": search})
    values = base.values.copy()
    values[0:600:10] = again.values
    keep = np.arange(ROWS) % 10 != 4
    for one, q in zip(hits, queries.values):
        want = scores(metric, values, q)
        assert len({h["id"] for h in one}) == 100
        assert all(keep[h["id"]] for h in one)
        assert np.allclose([h["distance"] for h in one], want[[h["id"] for h in one]], rtol=1e-3,
                           atol=1e-3)
    if metric != "IP":
        for i in (0, 7, 33):
            hit = client.search(name, data=[again.sent[i]], anns_field="v", limit=1,
                                search_params={"params": search})[0][0]
            assert hit["id"] == 10 * i


def test_another_type_takes_the_place_of_a_dropped_one(client, server, name):
    base = fill(client, name, FLOAT)
    for kind, params in (("HNSW", {"M": 8}), ("IVF_FLAT", {"nlist": 32}), ("FLAT", {})):
        index(client, name, "v", kind, "L2", wait=True, **params)
        client.load_collection(name)
        assert indexed(client, server, name, base.sent[5])
        assert client.search(name, data=[base.sent[5]], limit=1)[0][0]["id"] == 5
        with fails(1100, "index cannot be dropped, collection is loaded"):
            client.drop_index(name, "v")
        client.release_collection(name)
        client.drop_index(name, "v")
        assert client.list_indexes(name) == []


def test_progress_counts_rows_of_segments(client, raw, name):
    client.create_collection(name, schema=schema_of(vector=DIM), consistency_level="Strong")
    index(client, name, kind="HNSW", wait=True)  # nothing there: finished at once
    assert client.describe_index(name, "vector")["total_rows"] == 0
    v = clustered(4000, 5).tolist()
    for first in (0, 2000):
        client.insert(name, [{"id": first + i, "vector": v[first + i]} for i in range(2000)])
        client.flush(name)
    client.insert(name, [{"id": 10000 + i, "vector": v[i]} for i in range(100)])
    client.flush(name)  # too few for an index of their own

    def progress():
        p = raw.GetIndexBuildProgress(collection_name=name, index_name="vector")
        return p.indexed_rows, p.total_rows
    assert progress()[0] >= 100 and progress()[1] == 4100
    assert eventually(lambda: progress() == (4100, 4100), 60)
    assert raw.GetIndexState(collection_name=name, index_name="vector").state == 3
    st = raw.GetIndexStatistics(collection_name=name, index_name="vector").index_descriptions[0]
    assert (st.indexed_rows, st.total_rows, st.pending_index_rows, st.state) == (4100, 4100, 0, 3)


def test_type_that_cannot_be_built_fails_with_a_reason_and_is_searched_exactly(client, raw, name):
    base = fill(client, name, FLOAT)
    with fails(ANY_CODE, "index type not supported"):
        index(client, name, "v", "AISAQ", "L2", wait=True)
    d = client.describe_index(name, "v")
    assert d["state"] == "Failed" and d["pending_index_rows"] == ROWS
    st = raw.GetIndexState(collection_name=name, index_name="v")
    assert st.state == 4 and "AISAQ" in st.fail_reason
    client.load_collection(name)
    assert client.search(name, data=[base.sent[9]], limit=1)[0][0]["id"] == 9


ANY_CODE = None

BAD = [
    ("IVF_FLAT", {"nlist": 16}, {"nprobe": 0}, "nprobe", "[1, 65536]"),
    ("IVF_FLAT", {"nlist": 16}, {"nprobe": 65537}, "nprobe", "[1, 65536]"),
    ("IVF_FLAT", {"nlist": 16}, {"nprobe": "many"}, "nprobe", "integer"),
    ("IVF_SQ8", {"nlist": 16}, {"nprobe": -1}, "nprobe", "[1, 65536]"),
    ("IVF_RABITQ", {"nlist": 16}, {"rbq_query_bits": 9}, "rbq_query_bits", "[0, 8]"),
    ("IVF_RABITQ", {"nlist": 16}, {"refine_k": 0.5}, "refine_k", "[1, "),
    ("SCANN", {"nlist": 16}, {"reorder_k": 0}, "reorder_k", "[1, "),
    ("HNSW", {}, {"ef": 0}, "ef", "[1, 2147483647]"),
    ("HNSW", {}, {"ef": 2147483648}, "ef", "[1, 2147483647]"),
    ("HNSW", {}, {"ef": 12.5}, "ef", "integer"),
    ("HNSW_SQ", {}, {"refine_k": 0}, "refine_k", "[1, "),
    ("ANNOY", {}, {"search_k": -2}, "search_k", "[-1, 2147483647]"),
    ("DISKANN", {}, {"search_list": 0}, "search_list", "[1, "),
    ("AUTOINDEX", {}, {"level": 0}, "level", "[1, 10]"),
    ("AUTOINDEX", {}, {"level": 11}, "level", "[1, 10]"),
]


@pytest.mark.parametrize("kind, build, search, key, text", BAD,
                         ids=[f"{k}-{p}" for k, _, p, *_ in BAD])
def test_search_parameter_out_of_range_is_refused_by_name(client, name, kind, build, search, key,
                                                          text):
    client.create_collection(name, schema=schema_of(vector=8), consistency_level="Strong")
    index(client, name, kind=kind, metric="L2", **build)
    client.load_collection(name)
    with fails(1100, key, text):
        client.search(name, data=[[0.0] * 8], limit=3, search_params={"params": search})
    other = {"ef": 0} if kind != "HNSW" else {"nprobe": 0}  # other types' keys are ignored
    if kind != "HNSW_SQ":
        client.search(name, data=[[0.0] * 8], limit=3, search_params={"params": other})


@pytest.mark.parametrize("params, text", [({"n_trees": 0}, "[1, 1024]"),
                                          ({"n_trees": 1025}, "[1, 1024]")])
def test_annoy_parameters_are_checked(client, name, params, text):
    client.create_collection(name, schema=schema_of(vector=8))
    with fails(1100, "n_trees", text):
        index(client, name, kind="ANNOY", metric="L2", **params)
    with fails(1100, "ANNOY"):
        client.create_collection(name + "b", schema=schema_of(("v", BINARY, {"dim": 16}), vector=0))
        try:
            index(client, name + "b", "v", kind="ANNOY", metric="HAMMING")
        finally:
            client.drop_collection(name + "b")


def test_ef_below_limit_is_raised(client, name):
    base = fill(client, name, FLOAT)
    index(client, name, "v", "HNSW", "L2", wait=True, M=8)
    client.load_collection(name)
    assert len(client.search(name, data=[base.sent[1]], limit=50,
                             search_params={"params": {"ef": 1}})[0]) == 50


def test_null_vectors_are_no_hits_of_an_index(client, server, name):
    v = clustered(3000, 9)
    client.create_collection(name, schema=schema_of(
        ("v", FLOAT, {"dim": DIM, "nullable": True}), vector=0), consistency_level="Strong")
    client.insert(name, [{"id": i, "v": None if i % 3 == 0 else v[i].tolist()} for i in range(3000)])
    client.flush(name)
    index(client, name, "v", "HNSW", "L2", wait=True, M=16)
    client.load_collection(name)
    keep = np.arange(3000) % 3 != 0
    hits = client.search(name, data=v[:30].tolist() + [[0.0] * DIM], limit=K,
                         search_params={"params": {"ef": 64}})
    assert all(keep[h["id"]] for one in hits for h in one)
    assert recall(hits[:30], truth(v, v[:30], "L2", keep)) > .9
    assert indexed(client, server, name, v[1].tolist())


@pytest.mark.parametrize("services", ["local", "remote"])
def test_restarts_keep_the_index_and_damage_mends_itself(services):
    with Server(["--services", services]) as sv:
        c = MilvusClient(sv.uri)
        base = fill(c, "c", FLOAT)
        index(c, "c", "v", "HNSW", "L2", wait=True, M=8)
        c.load_collection("c")
        assert indexed(c, sv, "c", base.sent[0])
        built = sv.said().count("index built:")
        assert built == 1
        for kill in (True, False):
            sv.restart(kill=kill)
            c = connected(sv.uri)
            assert indexed(c, sv, "c", base.sent[0])
            hits = c.search("c", data=base.sent[:20], limit=1, search_params={"params": {"ef": 64}})
            assert [h[0]["id"] for h in hits] == list(range(20))
        assert sv.said().count("index built:") == built
        file, = index_files(sv)
        sv.stop()
        bytes_ = bytearray(file.read_bytes())
        for at in range(4096, len(bytes_), 500):
            bytes_[at] ^= 0xff
        file.write_bytes(bytes_)
        sv.start()
        c = connected(sv.uri)
        assert c.search("c", data=[base.sent[7]], limit=1)[0][0]["id"] == 7
        assert eventually(lambda: sv.said().count("index built:") == built + 1, 60)
        assert indexed(c, sv, "c", base.sent[0])
        assert index_files(sv) != [file]
        c.drop_collection("c")
        assert eventually(lambda: not index_files(sv))


def test_kill_during_a_build_repeats_it():
    """HNSW over some thousand rows takes long enough to be killed in the middle."""
    with Server(["--set", "dataNode.indexBuild.threads=1"]) as sv:
        c = MilvusClient(sv.uri)
        base = fill(c, "c", FLOAT)
        index(c, "c", "v", "HNSW", "L2", M=30, efConstruction=500)
        for pause in (0, .05, .2):
            time.sleep(pause)
            sv.restart(kill=True)
        c = connected(sv.uri)
        assert eventually(lambda: c.describe_index("c", "v")["state"] == "Finished", 90)
        files = index_files(sv)
        assert len(files) == 1
        c.load_collection("c")
        assert indexed(c, sv, "c", base.sent[0])
        assert c.search("c", data=[base.sent[3]], limit=1,
                        search_params={"params": {"ef": 64}})[0][0]["id"] == 3


def test_what_searches_did_is_counted(client, server, name):
    import urllib.request

    def counters():
        text = urllib.request.urlopen(f"http://127.0.0.1:{server.management}/metrics").read()
        return {k: float(v) for k, v in re.findall(r"^(elanus_search_\S+) (\S+)$", text.decode(),
                                                   re.M)}
    base = fill(client, name, FLOAT)
    index(client, name, "v", "HNSW", "L2", wait=True, M=8)
    client.load_collection(name)
    assert indexed(client, server, name, base.sent[0])
    before = counters()
    said = len(server.said())
    client.search(name, data=base.sent[:4], limit=5, search_params={"params": {"explain": True}})
    after, w = counters(), work(server, said)
    assert after['elanus_search_segments_total{by="index"}'] > \
        before['elanus_search_segments_total{by="index"}']
    grown = sum(after.values()) - sum(before.values())
    assert grown >= int(w["exact"]) + int(w["distances"]) + int(w["bytes"]) > 0
    assert w["nq"] == "4" and w["strategy"] not in ("none", "")
