"""What a read sees of writes before it, at every consistency level."""
import threading

import pytest
from pymilvus import DataType, MilvusClient
from support import eventually, is_ok, kv, make, simple_rows

LEVELS = ["Strong", "Session", "Bounded", "Eventually"]


@pytest.mark.parametrize("level", ["Strong", "Session"])
def test_own_write_is_read_at_once(client, name, level):
    make(client, name, level=level)
    for i in range(30):
        client.insert(name, simple_rows(1, start=i))
        assert len(client.query(name, filter=f"id == {i}", output_fields=["id"])) == 1
    hits = client.search(name, data=[[0.0] * 8], limit=100, consistency_level=level)[0]
    assert len(hits) == 30


def test_strong_read_of_another_client_sees_every_acknowledged_write(server, client, name):
    make(client, name, level="Bounded")
    other = MilvusClient(server.uri)
    for i in range(30):
        client.insert(name, simple_rows(1, start=i))
        n = other.query(name, filter="", output_fields=["count(*)"], consistency_level="Strong")
        assert n[0]["count(*)"] == i + 1
    other.close()


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_sees_a_write_soon(client, name, level):
    make(client, name, level=level)
    client.insert(name, simple_rows(5))
    assert eventually(lambda: len(client.query(name, filter="id >= 0", consistency_level=level,
                                               output_fields=["id"])) == 5)
    client.delete(name, ids=[0])
    assert eventually(lambda: len(client.query(name, filter="id >= 0", consistency_level=level,
                                               output_fields=["id"])) == 4)


@pytest.mark.parametrize("level", range(4))
def test_read_without_writes_does_not_wait(raw, client, name, level):
    """Time must go on by itself: a quiet collection answers a strong read."""
    make(client, name)
    for _ in range(5):
        is_ok(raw.Query(collection_name=name, expr="id > 0", consistency_level=level,
                        guarantee_timestamp=0, query_params=kv(limit=1), timeout=3))


def test_guarantee_in_the_near_future_is_waited_for(raw, client, name):
    make(client, name, rows=simple_rows(3))
    soon = raw.AllocTimestamp().timestamp + (200 << 18)
    r = is_ok(raw.Query(collection_name=name, expr="id >= 0", output_fields=["id"],
                        consistency_level=4, guarantee_timestamp=soon, timeout=10))
    assert len(r.fields_data[0].scalars.long_data.data) == 3


def test_guarantee_in_the_far_future_fails_in_time(raw, client, name):
    import grpc
    make(client, name)
    far = raw.AllocTimestamp().timestamp + (3600 * 1000 << 18)
    try:
        r = raw.Query(collection_name=name, expr="id >= 0", output_fields=["id"],
                      consistency_level=4, guarantee_timestamp=far, timeout=3)
        assert r.status.code != 0
    except grpc.RpcError as e:
        assert e.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_reads_during_writes_see_whole_batches(server, client, name):
    """A batch of one insert becomes visible at once: counts are multiples of its size."""
    make(client, name, ("x", DataType.INT64))
    stop, bad = threading.Event(), []

    def read():
        c = MilvusClient(server.uri)
        last = 0
        while not stop.is_set():
            n = c.query(name, output_fields=["count(*)"])[0]["count(*)"]
            if n % 50 or n < last:
                bad.append((last, n))
            last = n
        c.close()

    readers = [threading.Thread(target=read) for _ in range(2)]
    for r in readers:
        r.start()
    for b in range(40):
        client.insert(name, simple_rows(50, start=50 * b, x=lambda i: i))
        if b == 20:
            client.flush(name)
    stop.set()
    for r in readers:
        r.join(20)
    assert not bad
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 2000


def test_writers_of_several_threads_lose_nothing(server, client, name):
    make(client, name)

    def write(part):
        c = MilvusClient(server.uri)
        for b in range(10):
            c.insert(name, simple_rows(20, start=part * 1000 + b * 20))
        c.delete(name, ids=list(range(part * 1000, part * 1000 + 10)))
        c.close()

    threads = [threading.Thread(target=write, args=(p,)) for p in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 4 * 190
