"""The program itself: start, ports, configuration, management port, health, drain, and messages."""
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from pymilvus import MilvusClient
from pymilvus.grpc_gen import milvus_pb2
from server import Server, ServerError, binary
from support import Raw, eventually, is_ok, make, simple_rows

SERVICE = "milvus.proto.milvus.MilvusService"


def get(port, path, method="GET"):
    """Status, content type and body; status 0: nobody there."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as r:
            return r.status, r.headers["Content-Type"], r.read().decode()
    except urllib.error.HTTPError as e:
        return e.code, e.headers["Content-Type"], e.read().decode()
    except OSError:
        return 0, "", ""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def run(*words, timeout=30):
    return subprocess.run([binary(), *words], capture_output=True, text=True, timeout=timeout)


def not_started(*words, data=None, **ports):
    """What a server that cannot start says, in one line, with exit status 1."""
    sv = Server(words, data=data, **ports)
    with pytest.raises(ServerError):
        sv.start()
    assert sv.process.returncode == 1
    last = sv.tail(1)
    assert last.startswith("elanus: not started: "), last
    sv.log.unlink()
    sv.remove()
    return last


# ---- words of the command line ----

def test_version_and_help_are_printed():
    v = run("version")
    assert v.returncode == 0 and re.match(r"elanus \d+\.\d+\.\d+ simd=\w+$", v.stdout.strip())
    assert run("--version").stdout == v.stdout
    for words in (["help"], ["--help"], ["-h"]):
        h = run(*words)
        assert h.returncode == 0 and "run standalone" in h.stdout and not h.stderr
    h = run("run", "standalone", "--help")
    assert h.returncode == 0 and "--management-port" in h.stdout and "wal.sync" in h.stdout
    assert "| `wal.sync` | choice | always |" in run("help", "configuration").stdout


@pytest.mark.parametrize("words, text", [
    ([], "usage: elanus COMMAND"), (["fly"], '"fly" is no command'), (["run"], "standalone"),
    (["run", "cluster"], "standalone"), (["run", "standalone", "--prot", "1"], "--prot is no option"),
    (["run", "standalone", "--port"], "--port needs a value"),
    (["run", "standalone", "--port", "99999"], "above the maximum 65535"),
    (["run", "standalone", "--set", "a.b=c"], "there is no option a.b"),
    (["run", "standalone", "--set", "wal.sync=maybe"], "always|interval|never"),
    (["run", "standalone", "--config", "/no/such.yaml"], "/no/such.yaml"),
])
def test_wrong_words_end_with_status_2_and_a_reason(words, text):
    r = run(*words)
    assert r.returncode == 2 and text in r.stderr and not r.stdout


# ---- configuration ----

def test_configuration_file_is_used_and_warned_about_once(tmp_path):
    config = tmp_path / "milvus.yaml"
    config.write_text("etcd:\n  endpoints: [a, b]\nminio:\n  port: 9000\nproxy:\n  ip:\n"
                      "  maxNameLength: 20\ncommon:\n  security:\n    tlsMode: 0\n")
    with Server(["--config", str(config)]) as sv:
        said = sv.said()
        assert said.count("without a meaning here") == 1 and "first=etcd.endpoints" in said
        c = MilvusClient(sv.uri)
        make(c, "n" * 20)
        with pytest.raises(Exception, match="collection name"):
            make(c, "n" * 21)
        c.close()


# ---- what stops a start ----

def test_public_port_in_use_is_named():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        last = not_started(port=port)
        assert f"port {port}" in last and "in use" in last.lower()
        last = not_started(management=port)
        assert f"port {port}" in last and "in use" in last.lower()


def test_address_that_is_not_ours_is_named():
    last = not_started("--address", "192.0.2.1")
    assert "192.0.2.1" in last


def test_data_folder_of_a_running_server_is_refused(tmp_path):
    with Server(data=tmp_path / "data") as sv:
        last = not_started(data=tmp_path / "data")
        assert str(tmp_path / "data") in last and "another" in last
        assert get(sv.management, "/healthz")[0] == 200
        MilvusClient(sv.uri).list_collections()  # the running one did not notice
    sv.log.unlink(missing_ok=True)


def test_data_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    assert str(tmp_path / "file") in not_started(data=tmp_path / "file")
    last = not_started("--set", f"localStorage.path={tmp_path}/file/below")
    assert f"{tmp_path}/file" in last


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_data_folder_that_is_not_writable_is_named(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    assert str(tmp_path / "closed") in not_started("--set", f"localStorage.path={tmp_path}/closed/x")


def test_data_folder_that_cannot_be_made_is_named():
    """As root too: the kernel allows no folders there."""
    assert "/proc/elanus" in not_started("--set", "localStorage.path=/proc/elanus")


# ---- ports ----

def test_port_0_takes_free_ones_and_two_servers_live_side_by_side():
    with Server() as a, Server() as b:
        assert len({a.port, a.management, b.port, b.management}) == 4
        for sv in (a, b):
            c = MilvusClient(sv.uri)
            assert c.list_collections() == []
            c.close()


def test_restart_on_the_same_ports_works_at_once():
    """Connections of the life before linger in the kernel."""
    with Server() as sv:
        for _ in range(3):
            c = MilvusClient(sv.uri)
            c.list_collections()
            sv.restart()
            c.close()


def test_ipv6_is_listened_on():
    sv = Server(["--address", "::1"])
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    with sv:
        raw = Raw(f"[::1]:{sv.port}")
        is_ok(raw.ListDatabases())
        raw.close()


# ---- management port ----

def test_health_and_version_of_a_ready_server(server):
    for path in ("/healthz", "/livez", "/api/v1/health"):
        status, kind, body = get(server.management, path)
        assert (status, body) == (200, "OK") and kind.startswith("text/plain")
    status, kind, body = get(server.management, "/version")
    about = json.loads(body)
    assert status == 200 and kind == "application/json" and about["name"] == "elanus"
    assert about["version"] == run("version").stdout.split()[1]


def test_other_paths_and_methods_are_refused(server):
    assert get(server.management, "/nothing")[0] == 404
    assert get(server.management, "/")[0] == 404
    assert get(server.management, "/healthz", method="POST")[0] == 405
    assert get(server.management, "/healthz", method="DELETE")[0] == 405
    assert get(server.management, "/healthz?verbose=1")[0] == 200
    status, _, body = get(server.management, "/healthz", method="HEAD")
    assert (status, body) == (200, "")


SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\.)*",?)*)\})? '
                    r'([-+]?(?:[0-9.]+(?:e[-+]?\d+)?|Inf)|NaN)$')


def parse(text):
    """Prometheus text: {name{labels}: value}. Every line must be one that Prometheus accepts."""
    types, values, family = {}, {}, None
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            assert family not in types and kind in ("counter", "gauge", "histogram"), line
            types[family] = kind
        elif line.startswith("# HELP "):
            assert len(line.split(" ", 3)) == 4, line
        else:
            m = SAMPLE.match(line)
            assert m, line
            name = m[1]
            base = re.sub("_(bucket|sum|count)$", "", name) if types[family] == "histogram" else name
            assert base == family, line  # the lines of a family stand together
            assert line.rsplit(" ", 1)[0] not in values, line
            values[line.rsplit(" ", 1)[0]] = float(m[4])
    return types, values


def count(values, method, status):
    return values.get(f'milvus_proxy_req_count{{function_name="{method}",status="{status}"}}', 0)


def test_metrics_are_prometheus_text_and_count_calls(server, raw):
    _, before = parse(get(server.management, "/metrics")[2])
    for _ in range(3):
        is_ok(raw.ListDatabases())
    with pytest.raises(grpc.RpcError):
        raw.bytes("ListDatabases", b"\xff\xff\xff")  # no message at all

    def counted():
        status, kind, text = get(server.management, "/metrics")
        assert status == 200 and kind.startswith("text/plain; version=0.0.4")
        types, now = parse(text)
        return count(now, "ListDatabases", "total") - count(before, "ListDatabases", "total") == 4 \
            and (types, now)
    # A call is counted when its reply has gone out.
    types, now = eventually(counted)
    assert count(now, "ListDatabases", "success") - count(before, "ListDatabases", "success") == 3
    assert count(now, "ListDatabases", "fail") - count(before, "ListDatabases", "fail") == 1
    assert types["milvus_proxy_req_count"] == "counter"
    assert types["milvus_proxy_req_latency"] == "histogram"
    label = 'function_name="ListDatabases"'
    buckets = [v for k, v in now.items()
               if k.startswith("milvus_proxy_req_latency_bucket") and label in k]
    assert len(buckets) > 5 and buckets == sorted(buckets)
    assert buckets[-1] == now[f"milvus_proxy_req_latency_count{{{label}}}"]
    assert any(k.startswith("process_resident_memory_bytes") for k in now)


def test_strangers_method_names_make_no_metrics(server, raw):
    for i in range(50):
        with pytest.raises(grpc.RpcError):
            raw.bytes(f"NoSuch{i}", b"")
    assert "NoSuch" not in get(server.management, "/metrics")[2]


def test_management_port_speaks_no_grpc(server):
    with grpc.insecure_channel(f"127.0.0.1:{server.management}") as channel:
        call = channel.unary_unary(f"/{SERVICE}/GetVersion", request_serializer=None,
                                   response_deserializer=None)
        with pytest.raises(grpc.RpcError):
            call(b"", timeout=3)
    assert get(server.management, "/healthz")[0] == 200


def test_probes_tell_starting_from_ready_and_from_dead(tmp_path):
    """The port answers while a server replays its log; here rows enough for that to be seen."""
    with Server(data=tmp_path / "data", management=free_port()) as sv:
        c = MilvusClient(sv.uri)
        make(c, "replayed", rows=simple_rows(10))
        for i in range(1, 31):
            c.insert("replayed", simple_rows(1000, start=1000 * i))
        c.close()
        sv.kill()
        seen, stop = [], threading.Event()

        def probe():
            while not stop.is_set():
                seen.append((get(sv.management, "/healthz")[0], get(sv.management, "/livez")[0]))
        prober = threading.Thread(target=probe)
        prober.start()
        sv.start()
        eventually(lambda: seen[-1] == (200, 200))
        stop.set()
        prober.join()
    assert {h for h, _ in seen} <= {0, 503, 200} and {v for _, v in seen} <= {0, 200}
    assert seen[-1] == (200, 200)
    steps = [h for h, _ in seen]
    assert steps == sorted(steps, key=[0, 503, 200].index)  # nobody, starting, ready; never back
    assert 503 in steps
    sv.log.unlink(missing_ok=True)


# ---- health service and drain ----

def test_watch_says_serving_and_at_the_end_not_serving():
    with Server() as sv:
        channel = grpc.insecure_channel(sv.address)
        stub = health_pb2_grpc.HealthStub(channel)
        watches = [stub.Watch(health_pb2.HealthCheckRequest(service=s), timeout=30)
                   for s in ("", SERVICE)]
        for w in watches:
            assert next(w).status == health_pb2.HealthCheckResponse.SERVING
        sv.stop()
        for w in watches:
            assert next(w).status == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises((grpc.RpcError, StopIteration)):
                next(w)
        channel.close()


def waiting_query(sv, name, seconds):
    """A query of rows as of a moment in the future: it is in flight until then."""
    raw = Raw(sv.address)
    now = is_ok(raw.AllocTimestamp()).timestamp
    future = raw.stub.Query.future(milvus_pb2.QueryRequest(
        collection_name=name, expr="id >= 0", output_fields=["id"], consistency_level=4,
        guarantee_timestamp=now + (int(seconds * 1000) << 18)), timeout=30)
    is_ok(raw.ListDatabases())  # behind the query on one connection: the server has both
    assert not future.done()
    return raw, future


def refuses_new_calls(sv):
    fresh = Raw(sv.address)
    try:
        fresh.ListDatabases(timeout=5)
        return False
    except grpc.RpcError as e:
        assert e.code() == grpc.StatusCode.UNAVAILABLE
        return True
    finally:
        fresh.close()


def test_stop_waits_for_calls_in_flight_and_refuses_new_ones():
    with Server() as sv:
        c = MilvusClient(sv.uri)
        make(c, "drained", rows=simple_rows(10))
        raw, future = waiting_query(sv, "drained", 1.5)
        began = time.monotonic()
        sv.process.send_signal(signal.SIGTERM)
        assert eventually(lambda: get(sv.management, "/healthz")[0] == 503)
        assert get(sv.management, "/livez")[0] == 200
        assert eventually(lambda: refuses_new_calls(sv))  # the port closes just after
        answer = future.result()
        assert is_ok(answer).fields_data[0].scalars.long_data.data == list(range(10))
        assert sv.process.wait(20) == 0
        assert time.monotonic() - began > 1.3
        assert "were cut" not in sv.said()
        raw.close(), c.close()


def test_stop_cuts_calls_that_take_longer_than_its_patience():
    with Server(["--set", "drain.timeoutMs=200"]) as sv:
        c = MilvusClient(sv.uri)
        make(c, "cut", rows=simple_rows(10))
        raw, future = waiting_query(sv, "cut", 20)
        sv.stop(timeout=10)
        assert "some calls were cut" in sv.said()
        with pytest.raises(grpc.RpcError) as e:
            future.result()
        assert e.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        raw.close(), c.close()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_idle_server_stops_at_once_with_status_0_though_clients_are_connected(sig):
    with Server() as sv:
        clients = [MilvusClient(sv.uri, token=f"t:{i}") for i in range(5)]
        began = time.monotonic()
        sv.process.send_signal(sig)
        assert sv.process.wait(20) == 0
        assert time.monotonic() - began < 3
        for c in clients:
            c.close()


def test_stop_in_the_middle_of_writes_loses_nothing_that_was_acknowledged():
    with Server() as sv:
        c = MilvusClient(sv.uri)
        make(c, "written")
        acknowledged, odd, began = [[], [], [], []], [], threading.Barrier(5)

        def write(k):
            raw = Raw(sv.address)
            began.wait()
            for i in range(k * 10 ** 6, k * 10 ** 6 + 10 ** 6):
                try:
                    r = raw.Insert(insert_request("written", i), timeout=20)
                    is_ok(r)
                    acknowledged[k].append(i)
                except grpc.RpcError as e:
                    if e.code() != grpc.StatusCode.UNAVAILABLE:
                        odd.append(e)
                    break
            raw.close()
        threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        began.wait()
        assert eventually(lambda: min(map(len, acknowledged)) > 20)
        sv.stop()
        for t in threads:
            t.join()
        c.close()
        assert not odd, odd
        sv.start()
        c = MilvusClient(sv.uri, token="after:it")
        c.load_collection("written")
        got = {r["id"] for r in c.query("written", filter="id >= 0", output_fields=["id"],
                                        limit=16000, consistency_level="Strong")}
        want = {i for k in acknowledged for i in k}
        assert want <= got and len(got) <= len(want) + 4  # a call of each thread may be unanswered
        c.close()


def insert_request(name, i):
    from support import float_column, long_column
    return milvus_pb2.InsertRequest(
        collection_name=name, num_rows=1,
        fields_data=[long_column("id", [i]), float_column("vector", [0.5] * 8, 8)])


def test_second_start_has_everything_and_serves():
    with Server() as sv:
        c = MilvusClient(sv.uri)
        make(c, "kept", rows=simple_rows(50))
        c.close()
        sv.stop()
        assert get(sv.management, "/livez")[0] == 0
        sv.start()
        c = MilvusClient(sv.uri, token="second:life")
        assert c.query("kept", output_fields=["count(*)"])[0]["count(*)"] == 50
        c.close()
