"""TLS on the public port with real clients: one-way, mutual, and everything that must be refused."""
import http.client
import itertools
import json
import socket
import ssl
import struct
import subprocess
import urllib.request

import grpc
import pytest
from pymilvus import MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc
from server import Server, ServerError
from support import eventually, make, simple_rows


tokens = itertools.count(1)


def openssl(*words, cwd):
    subprocess.run(["openssl", *words], cwd=cwd, check=True, capture_output=True)


class Authority:
    """A CA and what it signs, as PEM files in a folder."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.pem = str(folder / f"{name}.pem")
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", "2", "-subj",
                f"/CN={name}", "-addext", "basicConstraints=critical,CA:TRUE", cwd=folder)

    def issue(self, name, days="2", usage="serverAuth,clientAuth"):
        """Paths of certificate and key."""
        ext = self.folder / f"{name}.ext"
        ext.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n"
                       f"extendedKeyUsage={usage}\nbasicConstraints=CA:FALSE\n")
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}",
                cwd=self.folder)
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{self.name}.pem", "-CAkey",
                f"{self.name}.key", "-CAcreateserial", "-out", f"{name}.pem", "-days", days,
                "-extfile", str(ext), cwd=self.folder)
        return str(self.folder / f"{name}.pem"), str(self.folder / f"{name}.key")


class Certificates:
    def __init__(self, folder):
        self.folder = folder
        self.ca = Authority(folder, "ca")
        self.other_ca = Authority(folder, "other_ca")
        self.server = self.ca.issue("server")
        self.client = self.ca.issue("client")
        self.stranger = self.other_ca.issue("stranger")
        self.expired = self.ca.issue("expired", days="-1")


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("tls"))


def tls_args(certs, mode, ca=None, cert=None):
    pem, key = cert or certs.server
    words = [f"common.security.tlsMode={mode}", f"tls.serverPemPath={pem}",
             f"tls.serverKeyPath={key}", f"tls.caPemPath={ca or certs.ca.pem}"]
    return [w for word in words for w in ("--set", word)]


@pytest.fixture(scope="module")
def one_way(certs):
    with Server(tls_args(certs, 1)) as sv:
        yield sv


@pytest.fixture(scope="module")
def mutual(certs):
    with Server(tls_args(certs, 2)) as sv:
        yield sv


def connect(sv, timeout=10, token=None, **options):
    """A connection of its own: the client shares those of equal address and token."""
    return MilvusClient(f"https://localhost:{sv.port}", secure=True, timeout=timeout,
                        token=token or f"user:{next(tokens)}", **options)


def refused(sv, **options):
    """The client cannot connect, and the server does not mind."""
    with pytest.raises((MilvusException, grpc.RpcError)):
        connect(sv, timeout=2, **options).list_collections()
    assert sv.alive()


def context(certs, client=None):
    c = ssl.create_default_context(cafile=certs.ca.pem)
    if client:
        c.load_cert_chain(*client)
    return c


def round_trip(c, name):
    make(c, name, rows=simple_rows(20))
    assert c.query(name, output_fields=["count(*)"])[0]["count(*)"] == 20
    hits = c.search(name, data=[simple_rows(20)[7]["vector"]], limit=1)[0]
    assert hits[0]["id"] == 7
    c.drop_collection(name)


# ---- the server shows a certificate ----

def test_client_that_trusts_the_authority_works(one_way, certs):
    c = connect(one_way, server_pem_path=certs.ca.pem)
    round_trip(c, "by_ca")
    c.close()


def test_client_that_pins_the_servers_certificate_works(one_way, certs):
    """server_pem_path is usually this: the certificate itself, and the name that is in it."""
    c = connect(one_way, server_pem_path=certs.server[0], server_name="localhost")
    round_trip(c, "by_pin")
    c.close()


def test_client_by_address_works_as_the_certificate_names_it(one_way, certs):
    c = MilvusClient(f"https://{one_way.address}", secure=True, server_pem_path=certs.ca.pem,
                     token=f"user:{next(tokens)}")
    assert c.list_collections() == []
    c.close()


def test_large_messages_pass(one_way, certs):
    """Many TLS records each way."""
    c = connect(one_way, server_pem_path=certs.ca.pem)
    rows = simple_rows(3000, dim=256)
    make(c, "large", vector=256, rows=rows)
    got = c.query("large", filter="id >= 0", output_fields=["vector"], limit=3000)
    assert len(got) == 3000 and got[2999]["vector"] == pytest.approx(rows[2999]["vector"])
    c.drop_collection("large")
    c.close()


def test_client_with_another_authority_is_refused(one_way, certs):
    refused(one_way, server_pem_path=certs.other_ca.pem)


def test_client_with_the_systems_authorities_is_refused(one_way):
    refused(one_way)


def test_client_that_expects_another_name_is_refused(one_way, certs):
    refused(one_way, server_pem_path=certs.ca.pem, server_name="example.com")


def test_certificate_of_a_client_is_not_needed(one_way, certs):
    """Nor does it matter whose it is."""
    c = connect(one_way, client_pem_path=certs.stranger[0], client_key_path=certs.stranger[1],
                ca_pem_path=certs.ca.pem)
    assert c.list_collections() == []
    c.close()


def test_plain_client_gets_an_error_and_the_server_lives(one_way, certs):
    with pytest.raises((MilvusException, grpc.RpcError)):
        MilvusClient(one_way.uri, timeout=2, token=f"user:{next(tokens)}").list_collections()
    assert one_way.alive()
    connect(one_way, server_pem_path=certs.ca.pem).close()


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\x16\x03\x01\xff\xff",
    b"\x16\x03\x01\x00\x05hello", b"\0" * 4096, b"\x15\x03\x03\x00\x02\x02\x28",
], ids=["http1", "http2", "cut", "garbage", "zeros", "alert"])
def test_bytes_that_are_no_handshake_end_the_connection(one_way, certs, data):
    with socket.create_connection(("127.0.0.1", one_way.port), timeout=15) as s:
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        got = b"x"
        while got:
            try:
                got = s.recv(4096)
            except ConnectionError:
                break
            assert not got.startswith(b"HTTP")
    connect(one_way, server_pem_path=certs.ca.pem).close()


def test_plain_speaking_port_gives_a_tls_client_an_error(server):
    with pytest.raises((MilvusException, grpc.RpcError)):
        connect(server, timeout=2).list_collections()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_12_and_13_are_spoken_with_http2_chosen(one_way, certs, version):
    ctx = context(certs)
    ctx.minimum_version = ctx.maximum_version = version
    ctx.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(("127.0.0.1", one_way.port), timeout=10) as raw:
        with ctx.wrap_socket(raw, server_hostname="localhost") as s:
            assert s.selected_alpn_protocol() == "h2"
            assert s.version() == version.name.replace("_", ".")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_11_is_refused(one_way, certs):
    ctx = context(certs)
    ctx.set_ciphers("ALL:@SECLEVEL=0")
    try:
        ctx.minimum_version = ctx.maximum_version = ssl.TLSVersion.TLSv1_1
    except ValueError:
        pytest.skip("this OpenSSL has no TLS 1.1")
    with socket.create_connection(("127.0.0.1", one_way.port), timeout=10) as raw:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ctx.wrap_socket(raw, server_hostname="localhost")


def https(port, ctx):
    """A connection by the name in the certificate; a bare machine resolves no names, this one included."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    c.sock = ctx.wrap_socket(raw, server_hostname="localhost")
    return c


def test_http1_is_answered_on_the_tls_port(one_way, certs):
    c = https(one_way.port, context(certs))
    for _ in range(3):  # one connection, kept alive
        c.request("POST", "/v2/vectordb/collections/list", body="{}",
                  headers={"Content-Type": "application/json"})
        r = c.getresponse()
        assert r.status in (200, 404) and "code" in json.loads(r.read())
    c.close()


def test_slow_handshake_byte_by_byte_works(one_way, certs):
    """A record may come in any pieces."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context(certs).wrap_bio(into, out, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", one_way.port), timeout=10) as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        done = False
        while not done:
            try:
                tls.do_handshake()
                done = True
            except ssl.SSLWantReadError:
                pass
            for b in out.read():
                s.sendall(struct.pack("B", b))
            if not done:
                into.write(s.recv(65536))
    assert tls.version()


# ---- clients must show one too ----

def test_client_with_a_certificate_of_the_authority_works(mutual, certs):
    c = connect(mutual, client_pem_path=certs.client[0], client_key_path=certs.client[1],
                ca_pem_path=certs.ca.pem)
    round_trip(c, "mutual")
    c.close()


def test_client_without_a_certificate_is_refused(mutual, certs):
    refused(mutual, server_pem_path=certs.ca.pem)


@pytest.mark.parametrize("which", ["stranger", "expired"])
def test_client_with_a_bad_certificate_is_refused(mutual, certs, which):
    pem, key = getattr(certs, which)
    refused(mutual, client_pem_path=pem, client_key_path=key, ca_pem_path=certs.ca.pem)


def test_stub_without_a_certificate_gets_unavailable(mutual, certs):
    """Not a hang: the status that clients retry on, and that names the trouble."""
    creds = grpc.ssl_channel_credentials(open(certs.ca.pem, "rb").read())
    with grpc.secure_channel(f"localhost:{mutual.port}", creds) as channel:
        stub = milvus_pb2_grpc.MilvusServiceStub(channel)
        with pytest.raises(grpc.RpcError) as e:
            stub.GetVersion(milvus_pb2.GetVersionRequest(), timeout=10)
        assert e.value.code() == grpc.StatusCode.UNAVAILABLE


def test_http1_needs_a_certificate_too(mutual, certs):
    with pytest.raises((ssl.SSLError, ConnectionError, OSError, http.client.HTTPException)):
        c = https(mutual.port, context(certs))
        c.request("POST", "/v2/vectordb/collections/list", body="{}")
        c.getresponse()
    c = https(mutual.port, context(certs, certs.client))
    c.request("GET", "/")
    assert c.getresponse().status == 404
    c.close()


# ---- both: TLS and passwords; the other port; start-up ----

def test_tls_with_authorization_and_a_restart(certs):
    args = [*tls_args(certs, 1), "--set", "common.security.authorizationEnabled=true"]
    with Server(args) as sv:
        for _ in range(2):
            c = connect(sv, server_pem_path=certs.ca.pem, token="root:Milvus")
            assert c.list_users() == ["root"]
            c.close()
            refused(sv, server_pem_path=certs.ca.pem, token="root:wrong")
            sv.restart()


def test_management_port_stays_plain(mutual):
    with urllib.request.urlopen(f"http://127.0.0.1:{mutual.management}/healthz", timeout=10) as r:
        assert r.read() == b"OK"


@pytest.mark.parametrize("words, text", [
    ({"pem": "/no/such.pem"}, "/no/such.pem"), ({"key": "/no/such.key"}, "/no/such.key"),
    ({"pem": ""}, "certificate"), ({"key": ""}, "key"), ({"ca": "/no/such_ca.pem"}, "/no/such_ca.pem"),
    ({"ca": ""}, "CA"), ({"key": "CLIENT"}, "values mismatch"), ({"pem": "KEY"}, "certificate"),
])
def test_wrong_files_stop_the_start_with_a_message(certs, words, text):
    at = {"CLIENT": certs.client[1], "KEY": certs.server[1]}
    files = {"pem": certs.server[0], "key": certs.server[1], "ca": certs.ca.pem,
             **{k: at.get(v, v) for k, v in words.items()}}
    args = ["--set", "common.security.tlsMode=2", "--set", f"tls.serverPemPath={files['pem']}",
            "--set", f"tls.serverKeyPath={files['key']}", "--set", f"tls.caPemPath={files['ca']}"]
    sv = Server(args)
    with pytest.raises(ServerError) as e:
        sv.start()
    assert sv.process.returncode == 1
    last = sv.tail(1)
    assert "not started: TLS" in last and text in last, last
    sv.remove()


def test_connections_that_never_finish_their_handshake_do_not_stop_others(one_way, certs):
    idle = [socket.create_connection(("127.0.0.1", one_way.port), timeout=10) for _ in range(50)]
    for s in idle[::2]:
        s.sendall(b"\x16\x03\x01")
    c = connect(one_way, server_pem_path=certs.ca.pem)
    assert eventually(lambda: c.list_collections() == [])
    c.close()
    for s in idle:
        s.close()
