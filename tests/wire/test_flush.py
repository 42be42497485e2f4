"""Flush, FlushAll and their states."""
import pytest
from support import eventually, fails, is_ok, make, simple_rows


def test_flush_answers_segments_and_a_time(raw, client, name):
    make(client, name, rows=simple_rows(10))
    r = is_ok(raw.Flush(collection_names=[name]))
    assert len(r.flush_coll_segIDs[name].data) + len(r.coll_segIDs[name].data) >= 1
    assert r.coll_flush_ts[name] > 0 and name in r.coll_seal_times
    from pymilvus.grpc_gen import milvus_pb2
    segments = list(r.coll_segIDs[name].data) + list(r.flush_coll_segIDs[name].data)
    assert eventually(lambda: is_ok(raw.GetFlushState(milvus_pb2.GetFlushStateRequest(
        segmentIDs=segments, flush_ts=r.coll_flush_ts[name], collection_name=name))).flushed)


def test_flush_of_an_empty_collection_succeeds(client, name):
    make(client, name)
    client.flush(name)
    client.flush(name)


def test_flush_changes_no_answer(client, name):
    rows = simple_rows(300)
    make(client, name, rows=rows)
    client.delete(name, filter="id % 5 == 0")
    q = [rows[1]["vector"]]
    before = client.query(name, filter="id >= 0"), client.search(name, data=q, limit=50)[0]
    client.flush(name)
    after = client.query(name, filter="id >= 0"), client.search(name, data=q, limit=50)[0]
    assert [r["id"] for r in before[0]] == [r["id"] for r in after[0]]
    assert [h["id"] for h in before[1]] == [h["id"] for h in after[1]]
    assert [h["distance"] for h in before[1]] == pytest.approx(
        [h["distance"] for h in after[1]], rel=1e-5)


def test_flush_of_several_collections_in_one_call(raw, client, name):
    other = name + "_b"
    make(client, name, rows=simple_rows(2))
    make(client, other, rows=simple_rows(2))
    r = is_ok(raw.Flush(collection_names=[name, other]))
    assert set(r.coll_flush_ts) == {name, other}
    client.drop_collection(other)


def test_flush_all_is_done_at_some_time(raw, client, name):
    make(client, name, rows=simple_rows(5))
    r = is_ok(raw.FlushAll())
    assert r.flush_all_ts > 0
    assert eventually(lambda: is_ok(raw.GetFlushAllState(flush_all_ts=r.flush_all_ts)).flushed)


def test_flush_of_a_missing_collection_fails(client):
    with fails(100, "nobody"):
        client.flush("nobody")


def test_flush_twenty_times_reads_twenty_segments(client, name):
    make(client, name)
    for n in range(20):
        client.insert(name, simple_rows(3, start=3 * n))
        client.flush(name)
    assert client.query(name, output_fields=["count(*)"])[0]["count(*)"] == 60


