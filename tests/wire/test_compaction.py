"""Compaction: segments become few, deleted and expired rows leave, and no answer changes."""
import threading
import time

import pytest
from pymilvus import DataType
from pymilvus.grpc_gen import milvus_pb2
from server import Server
from support import connected, eventually, fails, is_ok, make, object_files, simple_rows, vectors

N = 400  # rows of a flush


@pytest.fixture
def own():
    """Nothing is kept for reads of before: what compaction may remove, it removes."""
    with Server(["--set", "common.retentionDuration=0",
                 "--set", "indexCoord.segment.minSegmentNumRowsToEnableIndex=100"]) as sv:
        yield sv


@pytest.fixture
def c(own):
    client = connected(own.uri)
    yield client
    client.close()


def segments(client, name):
    return client.list_persistent_segments(name)


def rows_in_files(client, name):
    return sum(s.num_rows for s in segments(client, name))


def compact(client, name, **how):
    job = client.compact(name, **how)
    assert eventually(lambda: client.get_compaction_state(job) == "Completed", 60)
    return job


def counted(client, name, **more):
    return client.query(name, output_fields=["count(*)"], **more)[0]["count(*)"]


WHOLE = {"params": {"ef": 1000, "nprobe": 128}}  # an index that finds everything


def answers(client, name):
    q = vectors(4, seed=99)
    rows = client.query(name, filter="id >= 0", output_fields=["x", "t", "vector"])
    return ([(r["id"], r["x"], r["t"], tuple(r["vector"])) for r in rows],
            [[h["id"] for h in one] for one in
             client.search(name, data=q.tolist(), limit=20, filter="x != 3",
                           search_params=WHOLE)],
            [[h["id"] for h in one] for one in client.search(
                name, data=q.tolist(), limit=20, search_params=WHOLE)])


def fill(client, name, kind="FLAT", flushes=4, **more):
    make(client, name, ("x", DataType.INT64),
         ("t", DataType.VARCHAR, {"max_length": 20, "nullable": True}), kind=kind, **more)
    for i in range(flushes):
        client.insert(name, simple_rows(N, start=i * N, seed=i, x=lambda k: k % 10,
                                        t=lambda k: None if k % 7 == 0 else f"t{k}"))
        client.flush(name)


@pytest.mark.parametrize("kind", ["FLAT", "HNSW"])
def test_small_segments_become_one_by_themselves(c, kind):
    fill(c, "a", kind, flushes=2)
    before = answers(c, "a")
    c.insert("a", simple_rows(N, start=2 * N, seed=7, x=lambda k: 3, t=lambda k: "new"))
    c.flush("a")
    assert eventually(lambda: len(segments(c, "a")) == 1, 30)
    assert rows_in_files(c, "a") == counted(c, "a") == 3 * N
    c.delete("a", filter=f"id >= {2 * N}")
    assert answers(c, "a") == before


def test_asked_for_two_segments_become_one_and_the_plan_tells(c):
    fill(c, "a", flushes=2)
    before, old = answers(c, "a"), [s.segment_id for s in segments(c, "a")]
    assert len(old) == 2
    job = compact(c, "a")
    assert answers(c, "a") == before
    new = [s.segment_id for s in segments(c, "a")]
    assert len(new) == 1 and new[0] not in old
    plans = c._get_connection().get_compaction_plans(job).plans if hasattr(c, "_get_connection") else \
        c._get_connection(c._using).get_compaction_plans(job).plans
    assert [(sorted(p.sources), p.target) for p in plans] == [(sorted(old), new[0])]
    assert c.get_compaction_state(12345) == "Completed"  # of the past, or of nobody


@pytest.mark.parametrize("kind", ["FLAT", "HNSW", "IVF_FLAT"])
def test_deleted_rows_leave_their_files(own, c, kind):
    fill(c, "a", kind, flushes=2)
    c.delete("a", filter="id % 2 == 1")
    c.upsert("a", [{"id": 2, "x": 2, "t": "again", "vector": vectors(1, seed=5)[0].tolist()}])
    c.flush("a")
    before = answers(c, "a")
    compact(c, "a")
    assert eventually(lambda: rows_in_files(c, "a") == N, 30)
    assert answers(c, "a") == before
    assert counted(c, "a") == N
    # The delete file went with them: a restart reads none, and no row comes back.
    assert eventually(lambda: not object_files(own, "deltas"), 10)
    own.restart(kill=True)
    c2 = connected(own.uri)
    assert eventually(lambda: str(c2.get_load_state("a")["state"]) == "Loaded")
    assert answers(c2, "a") == before
    c2.close()


def near(client, name, **more):
    q = vectors(20, seed=98)
    return [[h["id"] for h in one] for one in client.search(
        name, data=q.tolist(), limit=10, search_params={"params": {"ef": 400}}, **more)]


def test_rows_in_the_order_of_a_graph_give_the_answers_of_before(own, c):
    filters = ["x == 3", "x < 5", "t is null", "x in [1, 2] and t like 't1%'", "id < 900", ""]
    make(c, "a", ("x", DataType.INT64), ("t", DataType.VARCHAR, {"max_length": 20, "nullable": True}),
         kind="HNSW", create={"properties": {"collection.autocompaction.enabled": "false"}})
    for i in range(2):
        c.insert("a", simple_rows(2500, start=i * 2500, seed=i, x=lambda k: k % 10,
                                  t=lambda k: None if k % 7 == 0 else f"t{k}"))
        c.flush("a")
    c.delete("a", filter="id % 50 == 1")
    c.flush("a")
    rows = c.query("a", filter="id >= 0", output_fields=["x", "t", "vector"])
    hits = [near(c, "a", filter=f) for f in filters]

    def same_rows(client):
        return client.query("a", filter="id >= 0", output_fields=["x", "t", "vector"]) == rows

    def found_again(client):
        again = [near(client, "a", filter=f) for f in filters]
        found = sum(len(set(a) & set(b)) for x, y in zip(hits, again) for a, b in zip(x, y))
        return found / sum(len(a) for x in hits for a in x)

    def plans():
        return [p.name for p in object_files(own, "segments") if p.name.startswith("order.")]

    assert plans() == []
    compact(c, "a")
    assert len(segments(c, "a")) == 1 and len(plans()) == 1
    assert not [p for p in object_files(own, "segments") if p.parent.name == "tmp"]
    assert same_rows(c) and found_again(c) > 0.98
    before = segments(c, "a")[0].segment_id
    compact(c, "a")  # nothing is left to be done
    assert segments(c, "a")[0].segment_id == before
    own.restart(kill=True)
    c2 = connected(own.uri)
    assert eventually(lambda: str(c2.get_load_state("a")["state"]) == "Loaded")
    assert same_rows(c2) and found_again(c2) > 0.98
    c2.close()


def test_everything_deleted_leaves_no_segment(c):
    fill(c, "a", flushes=2)
    c.delete("a", filter="id >= 0")
    c.flush("a")
    compact(c, "a")
    assert eventually(lambda: segments(c, "a") == [], 30)
    assert counted(c, "a") == 0
    c.insert("a", simple_rows(3, x=lambda k: 1, t=lambda k: "back"))
    assert counted(c, "a") == 3


def test_expired_rows_leave(c):
    fill(c, "a", flushes=1)
    c.alter_collection_properties("a", {"collection.ttl.seconds": 1})
    assert eventually(lambda: segments(c, "a") == [], 90)
    assert counted(c, "a") == 0


def test_rows_deleted_lately_stay_for_reads_that_began_before(client, name):
    fill(client, name, flushes=1)
    client.delete(name, filter="id < 100")
    client.flush(name)
    compact(client, name)
    assert rows_in_files(client, name) == N and counted(client, name) == N - 100


def test_not_loaded_collections_are_compacted_too(c):
    fill(c, "a", flushes=2)
    before = answers(c, "a")
    c.release_collection("a")
    compact(c, "a")
    assert len(segments(c, "a")) == 1
    c.load_collection("a")
    assert answers(c, "a") == before


def test_partitions_and_shards_stay_apart(c):
    make(c, "a", create={"num_shards": 2})
    c.create_partition("a", "p")
    for i in range(4):
        for part in ("_default", "p"):
            c.insert("a", simple_rows(100, start=1000 * i + (500 if part == "p" else 0)),
                     partition_name=part)
        c.flush("a")
    compact(c, "a")
    assert eventually(lambda: len(segments(c, "a")) == 4, 30)
    assert counted(c, "a") == 800
    assert counted(c, "a", partition_names=["p"]) == 400


def test_a_field_added_since_has_its_default_in_merged_rows(c):
    make(c, "a")
    c.insert("a", simple_rows(50))
    c.flush("a")
    c.add_collection_field("a", "note", DataType.INT64, nullable=True, default_value=7)
    c.insert("a", [{**r, "note": 8} for r in simple_rows(50, start=50)])
    c.flush("a")
    compact(c, "a")
    assert eventually(lambda: len(segments(c, "a")) == 1)
    assert counted(c, "a", filter="note == 7") == counted(c, "a", filter="note == 8") == 50


def test_switched_off_for_a_collection(c):
    make(c, "a")
    c.alter_collection_properties("a", {"collection.autocompaction.enabled": "false"})
    for i in range(5):
        c.insert("a", simple_rows(50, start=50 * i))
        c.flush("a")
    time.sleep(0.3)
    assert len(segments(c, "a")) == 5
    compact(c, "a")
    assert eventually(lambda: len(segments(c, "a")) == 1)


def test_bad_requests_name_what_is_wrong(client, raw, name):
    make(client, name)
    with fails(100, "nobody"):
        client.compact("nobody")
    with fails(2304, "clustering"):
        client.compact(name, is_clustering=True)
    job = client.compact(name, is_l0=True)
    assert client.get_compaction_state(job) == "Completed"
    r = raw.ManualCompaction(milvus_pb2.ManualCompactionRequest(collection_name=name, target_size=-1))
    assert r.status.code == 1100 and "target_size" in r.status.reason
    r = is_ok(raw.ManualCompaction(milvus_pb2.ManualCompactionRequest(
        collection_name=name, target_size=(1 << 63) - 1)))
    assert r.compactionPlanCount == 0
    r = raw.ManualCompaction(milvus_pb2.ManualCompactionRequest(
        collection_name=name, segment_ids=range(16385)))
    assert r.status.code == 1100 and "segment_ids" in r.status.reason and "16384" in r.status.reason


@pytest.mark.parametrize("kind", ["FLAT", "HNSW"])
def test_readers_and_writers_notice_nothing(c, own, kind):
    """Rows 0..N are there all the time, rows of the writer once they are acknowledged."""
    fill(c, "a", kind, flushes=1)
    stop, wrong, reads = threading.Event(), [], [0]
    acknowledged = [N]

    def read():
        mine = connected(own.uri)
        q = vectors(1, seed=3).tolist()
        while not stop.is_set():
            low = acknowledged[0]
            n = counted(mine, "a", filter="x < 10")
            hits = mine.search("a", data=q, limit=10)[0]
            if n < low or len({h["id"] for h in hits}) != 10:
                wrong.append((n, low, hits))
            reads[0] += 1
        mine.close()

    readers = [threading.Thread(target=read) for _ in range(2)]
    for r in readers:
        r.start()
    for i in range(1, 13):
        c.insert("a", simple_rows(N, start=i * N, seed=i, x=lambda k: k % 10, t=lambda k: "w"))
        acknowledged[0] += N
        c.insert("a", simple_rows(50, start=10**6 + i * 50, x=lambda k: 99, t=lambda k: "gone"))
        c.delete("a", filter="x == 99")
        c.flush("a")
        if i % 3 == 0:
            c.compact("a")
    assert eventually(lambda: len(segments(c, "a")) <= 2, 60)
    stop.set()
    for r in readers:
        r.join()
    assert not wrong, wrong[:3]
    assert reads[0] > 20
    compact(c, "a")
    assert counted(c, "a") == 13 * N


def test_killed_while_rows_are_laid_in_order_nothing_is_lost_or_left(own):
    """Enough rows for a graph's order: written twice, with a plan beside them."""
    n, client = 3000, connected(own.uri)
    make(client, "a", ("x", DataType.INT64), kind="HNSW")
    for i in range(2):
        client.insert("a", simple_rows(n, start=i * n, seed=i, x=lambda k: k % 10))
        client.flush("a")
    client.delete("a", filter="x == 7")
    client.upsert("a", [{"id": 2, "x": 2, "vector": vectors(1, seed=5)[0].tolist()}])
    client.flush("a")
    for pause in (0, 0.02, 0.05, 0.1, 0.2):
        client.compact("a")
        time.sleep(pause)
        client.close()
        own.restart(kill=True)
        client = connected(own.uri)
        assert eventually(lambda: str(client.get_load_state("a")["state"]) == "Loaded")
        assert counted(client, "a") == 2 * n * 9 // 10
    compact(client, "a")
    assert eventually(lambda: rows_in_files(client, "a") == 2 * n * 9 // 10 and
                      len(segments(client, "a")) == 1, 30)
    rows = client.query("a", filter="id >= 0", output_fields=["x"])
    assert [r["id"] for r in rows] == [k for k in range(2 * n) if k % 10 != 7]
    files = lambda: sorted(p.name.split(".")[0] for p in object_files(own))
    assert eventually(lambda: files() == ["order", "rows", "vectors"], 10), files()
    client.close()
