"""Connect, GetVersion, AllocTimestamp, component states, health, and calls nobody serves."""
import json
import re
import time
import urllib.request

import grpc
import pytest
from pymilvus import AsyncMilvusClient, MilvusClient, MilvusException
from pymilvus.grpc_gen import common_pb2, milvus_pb2
from support import VERSION, eventually, is_ok

SEMVER = re.compile(r"^v?\d+\.\d+\.\d+")


def test_get_server_version_is_a_semver(client):
    assert SEMVER.match(client.get_server_version())


def test_connect_answers_an_identifier_and_server_info(raw):
    r = is_ok(raw.Connect(client_info=common_pb2.ClientInfo(
        sdk_type="Python", sdk_version="3.0.2", user="", host="here")))
    assert r.identifier != 0  # a client takes 0 for a server without Connect
    assert SEMVER.match(r.server_info.build_tags)
    assert r.server_info.deploy_mode == "STANDALONE"


def test_connect_twice_answers_different_identifiers(raw):
    a, b = (raw.Connect(client_info=common_pb2.ClientInfo(sdk_type="Python")) for _ in "ab")
    assert a.identifier != b.identifier


def test_connect_with_a_token_when_authorization_is_off_is_accepted(server):
    c = MilvusClient(server.uri, token="root:Milvus")
    assert c.list_collections() is not None
    c.close()


def test_connect_to_a_missing_database_fails_at_the_first_use(server):
    with pytest.raises(MilvusException) as e:
        c = MilvusClient(server.uri, db_name="no_such_db")
        c.list_collections()
    assert e.value.code == 800 and "database not found[database=no_such_db]" in e.value.message


def test_async_client_searches(server, client, name):
    import asyncio
    client.create_collection(name, dimension=4, consistency_level="Strong")
    client.insert(name, [{"id": i, "vector": [i, 0, 0, 1]} for i in range(5)])

    async def ask():
        c = AsyncMilvusClient(server.uri)
        try:
            r = await c.query(name, filter="id >= 3", output_fields=["id"])
            s = await c.search(name, data=[[4.0, 0, 0, 1]], limit=1)
            return [x["id"] for x in r], len(s[0])
        finally:
            await c.close()
    assert asyncio.run(ask()) == ([3, 4], 1)


def test_alloc_timestamp_rises_and_is_the_time_of_day(raw):
    before = time.time() * 1000
    seen = [is_ok(raw.AllocTimestamp()).timestamp for _ in range(50)]
    assert seen == sorted(set(seen))
    assert abs((seen[0] >> 18) - before) < 60000


def test_check_health_answers_healthy(raw):
    r = raw.CheckHealth()
    assert r.isHealthy and not r.reasons


def test_get_component_states_answers_healthy(raw):
    r = is_ok(raw.GetComponentStates())
    assert r.state.state_code == common_pb2.StateCode.Value("Healthy")


def test_get_metrics_answers_a_topology(raw):
    r = is_ok(raw.GetMetrics(request=json.dumps({"metric_type": "system_info"})))
    assert isinstance(json.loads(r.response), dict)


@pytest.mark.parametrize("method", ["RegisterLink", "CreateNamespace", "CreateSnapshot",
                                    "DumpMessages", "NoSuchMethod"])
def test_call_that_is_not_served_is_unimplemented(raw, method):
    """Clients fall back on exactly this status, and retry others for minutes."""
    with pytest.raises(grpc.RpcError) as e:
        raw.bytes(method, b"")
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_service_that_is_unknown_is_unimplemented(raw):
    call = raw.channel.unary_unary("/no.such.Service/Call", request_serializer=None,
                                   response_deserializer=None)
    with pytest.raises(grpc.RpcError) as e:
        call(b"", timeout=10)
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_every_rpc_that_a_client_knows_answers_or_is_unimplemented(raw):
    """An empty request: an answer of the declared type, or UNIMPLEMENTED; never a broken stream."""
    service = milvus_pb2.DESCRIPTOR.services_by_name["MilvusService"]
    odd, served = [], 0
    for m in service.methods:
        if m.client_streaming or m.server_streaming:
            continue
        try:
            raw.bytes(m.name, b"", timeout=15)
            served += 1
        except grpc.RpcError as e:
            if e.code() != grpc.StatusCode.UNIMPLEMENTED:
                odd.append((m.name, e.code(), e.details()))
    assert not odd
    assert served >= 50


def test_grpc_health_answers_serving(raw):
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    stub = health_pb2_grpc.HealthStub(raw.channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status == serving
    known = health_pb2.HealthCheckRequest(service="milvus.proto.milvus.MilvusService")
    assert stub.Check(known, timeout=10).status == serving
    with pytest.raises(grpc.RpcError) as e:
        stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
    assert e.value.code() == grpc.StatusCode.NOT_FOUND


def test_reflection_lists_services_and_describes_them(raw):
    from google.protobuf import descriptor_pb2
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
    stub = reflection_pb2_grpc.ServerReflectionStub(raw.channel)
    asks = [reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(
                file_containing_symbol="milvus.proto.milvus.MilvusService"),
            reflection_pb2.ServerReflectionRequest(file_containing_symbol="no.such.symbol")]
    listed, described, missing = stub.ServerReflectionInfo(iter(asks), timeout=20)
    names = {s.name for s in listed.list_services_response.service}
    assert {"milvus.proto.milvus.MilvusService", "grpc.health.v1.Health"} <= names
    found = [descriptor_pb2.FileDescriptorProto.FromString(f)
             for f in described.file_descriptor_response.file_descriptor_proto]
    methods = {m.name for f in found for s in f.service for m in s.method}
    assert {"Search", "Insert"} <= methods
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize("path", ["/healthz", "/livez", "/metrics", "/version"])
def test_management_port_answers(server, path):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.management}{path}", timeout=10) as r:
        assert r.status == 200 and r.read()


def test_idle_client_with_pings_keeps_its_connection(server):
    """Clients ping idle connections each 5 s and take GOAWAY for a fault."""
    channel = grpc.insecure_channel(server.address, options=[
        ("grpc.keepalive_time_ms", 200), ("grpc.keepalive_timeout_ms", 2000),
        ("grpc.keepalive_permit_without_calls", 1), ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_time_between_pings_ms", 200)])
    states = []
    channel.subscribe(states.append, try_to_connect=True)
    assert eventually(lambda: grpc.ChannelConnectivity.READY in states)
    eventually(lambda: states[-1] != grpc.ChannelConnectivity.READY, seconds=1.5)
    assert states[-1] == grpc.ChannelConnectivity.READY
    channel.close()


def test_client_version_is_the_one_that_this_run_names():
    """The suite runs once for each pinned client; a wrong environment must not pass for another."""
    import os
    want = os.environ.get("ELANUS_PYMILVUS")
    if want:
        assert VERSION == tuple(int(x) for x in want.split(".")[:2])
