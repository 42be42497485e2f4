"""Durability: kill -9 or a stop, then the same answers; each test has a server of its own."""
import random
import threading

import grpc
import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException
from server import Server, ServerError
from support import Raw, check_hits, connected, eventually, make, simple_rows, vectors

N = 600


@pytest.fixture
def own():
    with Server() as sv:
        yield sv


def snapshot(client, name):
    rows = client.query(name, filter="id >= 0", output_fields=["x", "t", "j", "vector", "colour"])
    q = vectors(3, seed=55)
    hits = client.search(name, data=q.tolist(), limit=30, filter="x < 5", output_fields=["t"])
    return ([(r["id"], r["x"], r["t"], r["j"], tuple(r["vector"]), r.get("colour")) for r in rows],
            [[(h["id"], h["entity"]["t"]) for h in one] for one in hits])


def fill(client, name):
    make(client, name, ("x", DataType.INT64), ("t", DataType.VARCHAR, {"max_length": 20,
                                                                       "nullable": True}),
         ("j", DataType.JSON), dynamic=True)
    rows = simple_rows(N, x=lambda i: i % 10, t=lambda i: None if i % 7 == 0 else f"t{i}",
                       j=lambda i: {"k": [i]}, colour=lambda i: "red" if i % 2 else "blue")
    client.insert(name, rows[:200])
    client.flush(name)
    client.delete(name, filter="id in [3, 5]")
    client.insert(name, rows[200:400])
    client.flush(name)
    client.insert(name, rows[400:])
    client.delete(name, ids=[7, 201, 401])
    client.upsert(name, [{**rows[9], "x": 1}, {**rows[209], "x": 1}, {**rows[409], "x": 1}])


@pytest.mark.parametrize("kill", [True, False], ids=["kill", "stop"])
def test_answers_are_the_same_after_a_restart(own, kill):
    c = connected(own.uri)
    fill(c, "a")
    before = snapshot(c, "a")
    assert len(before[0]) == N - 5
    for _ in range(2):
        c.close()
        own.restart(kill=kill)
        c = connected(own.uri)
        # Loaded again by itself: the first read after the start is answered, at worst a moment later.
        assert eventually(lambda: str(c.get_load_state("a")["state"]) == "Loaded")
        assert snapshot(c, "a") == before
        d = c.describe_collection("a")
        assert d["consistency_level"] == 0 and d["enable_dynamic_field"]
        assert c.describe_index("a", "vector")["index_type"] == "FLAT"
    c.insert("a", simple_rows(1, start=9000, x=lambda i: 1, t=lambda i: "new", j=lambda i: {}))
    assert c.query("a", output_fields=["count(*)"])[0]["count(*)"] == N - 4
    c.close()


def test_catalogue_is_the_same_after_a_kill(own):
    c = connected(own.uri)
    c.create_database("other")
    make(c, "a", load=False)
    make(c, "b")
    c.create_partition("b", "p")
    c.create_alias("b", "alias_of_b")
    c.create_user("frank", "secret12")
    c.alter_collection_properties("a", {"collection.ttl.seconds": "5000"})
    c.add_collection_field("a", "note", DataType.VARCHAR, max_length=10, nullable=True)
    c.rename_collection("a", "renamed")
    make(c, "gone")
    c.drop_collection("gone")
    before = c.describe_collection("renamed")
    c.close()
    own.restart(kill=True)
    c = connected(own.uri)
    assert set(c.list_collections()) == {"renamed", "b"}
    assert "other" in c.list_databases() and "frank" in c.list_users()
    assert c.describe_alias("alias_of_b")["collection_name"] == "b"
    assert set(c.list_partitions("b")) == {"_default", "p"}
    assert c.describe_collection("renamed") == before
    assert str(c.get_load_state("renamed")["state"]) == "NotLoad"
    make(c, "gone")
    assert c.query("gone", output_fields=["count(*)"])[0]["count(*)"] == 0
    c.close()


def test_released_and_dropped_stay_so_after_a_kill(own):
    c = connected(own.uri)
    for n in ("a", "b"):
        make(c, n, rows=simple_rows(10))
    c.flush("a")
    c.release_collection("a")
    c.drop_collection("b")
    c.close()
    own.restart(kill=True)
    c = connected(own.uri)
    assert str(c.get_load_state("a")["state"]) == "NotLoad"
    assert not c.has_collection("b")
    c.load_collection("a")
    assert c.query("a", output_fields=["count(*)"])[0]["count(*)"] == 10
    c.close()


def test_keys_that_are_generated_stay_distinct_after_a_kill(own):
    c = connected(own.uri)
    make(c, "a", auto_id=True)
    seen = set()
    for _ in range(3):
        ids = c.insert("a", [{"vector": [0.0] * 8}] * 10)["ids"]
        assert not seen & set(ids)
        seen |= set(ids)
        c.close()
        own.restart(kill=True)
        c = connected(own.uri)
    assert c.query("a", output_fields=["count(*)"])[0]["count(*)"] == 30
    c.close()


def test_time_never_goes_back_over_restarts(own):
    last = 0
    for kill in (True, False, True):
        raw = Raw(own.address)
        for _ in range(5):
            now = raw.AllocTimestamp().timestamp
            assert now > last
            last = now
        raw.close()
        own.restart(kill=kill)


@pytest.mark.parametrize("seed", range(3))
def test_acknowledged_writes_survive_a_kill_at_any_moment(own, seed):
    """A writer notes what was acknowledged; the server is killed in the midst of it. Afterwards
    every acknowledged row is there, and of the one request in flight all or nothing."""
    rnd = random.Random(seed)
    c = connected(own.uri)
    make(c, "a", ("x", DataType.INT64))
    have, unsure, failed, done = {}, [], [], threading.Event()

    def write():
        w = connected(own.uri)
        r = random.Random(seed + 100)
        n = 0
        try:
            while not done.is_set():
                n += 1
                kind = r.choice(["insert", "insert", "delete", "upsert", "flush"])
                if kind == "insert":
                    change = {n * 10 + k: n for k in range(10)}
                elif kind == "upsert":
                    change = {k: n for k in r.sample(sorted(have), min(5, len(have)))}
                else:
                    change = {k: None for k in r.sample(sorted(have), min(3, len(have)))}
                if kind == "flush":
                    change = {}
                unsure[:] = [change]
                if kind == "flush":
                    if n % 9 == 0:
                        w.flush("a", timeout=5)
                elif not change:
                    pass
                elif kind == "delete":
                    w.delete("a", ids=list(change), timeout=5)
                else:
                    rows = [{"id": i, "x": x, "vector": [float(i)] * 8} for i, x in change.items()]
                    (w.insert if kind == "insert" else w.upsert)("a", rows, timeout=5)
                for i, x in change.items():
                    if x is None:
                        have.pop(i, None)
                    else:
                        have[i] = x
                unsure[:] = []
        except Exception as e:
            if not done.is_set() and own.alive():
                failed.append(e)

    t = threading.Thread(target=write)
    t.start()
    eventually(lambda: len(have) > rnd.randint(50, 600), seconds=20)
    done.set()
    own.kill()
    t.join(30)
    assert not failed
    c.close()
    own.start()
    c = connected(own.uri)
    assert eventually(lambda: str(c.get_load_state("a")["state"]) == "Loaded")
    got = {r["id"]: r["x"] for r in c.query("a", filter="id >= 0", output_fields=["x"])}
    possible = [dict(have)]
    if unsure:
        applied = dict(have)
        for i, x in unsure[0].items():
            if x is None:
                applied.pop(i, None)
            else:
                applied[i] = x
        possible.append(applied)
    assert got in possible, (
        f"missing {sorted(set(have) - set(got))[:10]}, extra {sorted(set(got) - set(have))[:10]}, "
        f"in flight {unsure}")
    hits = c.search("a", data=[[0.0] * 8], limit=20)[0]
    ids = sorted(got)
    base = np.array([[float(i)] * 8 for i in ids], dtype=np.float32)
    check_hits(hits, "L2", base, np.zeros(8), 20, ids=ids)
    c.close()


def test_second_server_on_the_same_folder_does_not_start(own):
    with pytest.raises(ServerError):
        Server(data=own.data).start(timeout=20)
    c = connected(own.uri)
    assert c.list_collections() == []
    c.close()


def test_port_that_is_taken_is_said(own):
    with pytest.raises(ServerError) as e:
        with Server() as other:
            other.stop()
            other.port = own.port
            other.start(timeout=20)
    assert str(own.port) in str(e.value)


def test_stop_during_load_of_requests_answers_or_refuses_them(own):
    """SIGTERM drains: no call hangs, none is answered wrongly, and the status is 0."""
    c = connected(own.uri)
    make(c, "a", rows=simple_rows(200))
    stop, wrong, ready = threading.Event(), [], threading.Semaphore(0)

    def read():
        r = MilvusClient(own.uri)
        ready.release()
        while not stop.is_set():
            try:
                n = r.query("a", output_fields=["count(*)"], timeout=3)[0]["count(*)"]
                if n != 200:
                    wrong.append(n)
            except (MilvusException, grpc.RpcError):
                return
    threads = [threading.Thread(target=read) for _ in range(3)]
    for t in threads:
        t.start()
    for _ in threads:
        assert ready.acquire(timeout=20)
    own.stop()
    stop.set()
    for t in threads:
        t.join(20)
    assert not wrong and not any(t.is_alive() for t in threads)
