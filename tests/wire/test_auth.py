"""Authorization on: who is let in, when a change of passwords counts, and what is open to all."""
import base64
import threading

import grpc
import pytest
from pymilvus import MilvusClient, MilvusException
from pymilvus.grpc_gen import milvus_pb2
from server import Server
from support import ANY, Raw, connected, fails, is_error, is_ok

WRONG = "auth check failure, please check username and password are correct"


@pytest.fixture(scope="module")
def guarded():
    with Server(["--set", "common.security.authorizationEnabled=true"]) as sv:
        yield sv


@pytest.fixture
def root(guarded):
    c = MilvusClient(guarded.uri, token="root:Milvus")
    yield c
    c.close()


@pytest.fixture
def user(root, request):
    """A new user of this test, with the password secret12."""
    name = f"u_{abs(hash(request.node.name)) % 10 ** 8}"
    root.create_user(name, "secret12")
    yield name
    root.drop_user(name)


def b64(text):
    return base64.b64encode(text.encode()).decode()


class Caller(Raw):
    """Calls with one user's metadata over one channel, as a client that is logged in does."""

    def __init__(self, sv, token):
        super().__init__(sv.address)
        self.metadata = [("authorization", b64(token))] if token is not None else []

    def call(self, method, message=None, **fields):
        message = message or getattr(milvus_pb2, method + "Request")(**fields)
        return getattr(self.stub, method)(message, timeout=20, metadata=self.metadata)

    def code(self, method="ShowCollections", **fields):
        try:
            self.call(method, **fields)
            return grpc.StatusCode.OK
        except grpc.RpcError as e:
            return e.code()


OK, OUT = grpc.StatusCode.OK, grpc.StatusCode.UNAUTHENTICATED


def test_refusal_says_what_to_check(guarded):
    for token in ("root:milvus", "nobody:Milvus", "root:", ":Milvus", None):
        caller = Caller(guarded, token)
        with pytest.raises(grpc.RpcError) as e:
            caller.call("ShowCollections")
        assert e.value.code() == OUT and WRONG in e.value.details(), token
        caller.close()
    with pytest.raises((MilvusException, grpc.RpcError)) as e:
        MilvusClient(guarded.uri, token="root:milvus", timeout=3).list_collections()
    assert WRONG in f"{e.value} {e.value.__cause__}"  # newer clients wrap it


def test_every_call_that_is_served_needs_a_login(guarded):
    """Nothing is done for a stranger, whatever the request."""
    caller, odd, refused = Caller(guarded, None), [], 0
    for m in milvus_pb2.DESCRIPTOR.services_by_name["MilvusService"].methods:
        if m.client_streaming or m.server_streaming:
            continue
        try:
            caller.bytes(m.name, b"", timeout=15)
            odd.append(m.name)
        except grpc.RpcError as e:
            refused += e.code() == OUT
            if e.code() not in (OUT, grpc.StatusCode.UNIMPLEMENTED):
                odd.append((m.name, e.code()))
    caller.close()
    # What tells nothing of the data is open, as probes need it.
    assert set(odd) <= {"GetVersion", "CheckHealth", "GetComponentStates"}, odd
    assert refused >= 45


def test_health_service_is_open(guarded):
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    raw = Raw(guarded.address)
    stub = health_pb2_grpc.HealthStub(raw.channel)
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status == 1
    raw.close()


def test_password_with_every_kind_of_character_is_taken(guarded, root):
    for i, password in enumerate(["a:b:c:d", "pässwörd", "  spaces  ", "p" * 72, "\"'\\;--%s%n"]):
        root.create_user(f"chars_{i}", password)
        caller = Caller(guarded, f"chars_{i}:{password}")
        assert caller.code() == OK, password
        caller.metadata = [("authorization", b64(f"chars_{i}:{password}x"))]
        assert caller.code() == OUT
        caller.close()
        root.drop_user(f"chars_{i}")


def test_password_change_counts_at_once_on_an_open_connection(guarded, root, user):
    old, new = Caller(guarded, f"{user}:secret12"), Caller(guarded, f"{user}:secret34")
    for _ in range(3):  # seen and remembered
        assert (old.code(), new.code()) == (OK, OUT)
    root.update_password(user, "secret12", "secret34")
    assert (old.code(), new.code()) == (OUT, OK)
    root.update_password(user, "secret34", "secret12")
    assert (old.code(), new.code()) == (OK, OUT)
    old.close()
    new.close()


def test_password_change_counts_for_calls_that_race_with_it(guarded, root, user):
    """However the checks of other threads fall, after the change the old password is dead."""
    for i in range(4):
        old, new = ("secret12", "secret34") if i % 2 == 0 else ("secret34", "secret12")
        stop, callers = threading.Event(), [Caller(guarded, f"{user}:{old}") for _ in range(3)]

        def hammer(caller):
            while not stop.is_set():
                caller.code()
        threads = [threading.Thread(target=hammer, args=(c,)) for c in callers]
        for t in threads:
            t.start()
        root.update_password(user, old, new)
        assert [c.code() for c in callers] == [OUT] * 3
        stop.set()
        for t in threads:
            t.join()
        assert [c.code() for c in callers] == [OUT] * 3
        for c in callers:
            c.close()


def test_user_changes_the_own_password(guarded, root, user):
    c = MilvusClient(guarded.uri, token=f"{user}:secret12")
    c.update_password(user, "secret12", "secret56")
    c.close()
    caller = Caller(guarded, f"{user}:secret56")
    assert caller.code() == OK
    caller.close()


def test_wrong_old_password_changes_nothing(guarded, root, user):
    with fails(ANY, "old password not correct"):
        root.update_password(user, "secret99", "secret56")
    with fails(ANY, "old password not correct"):
        root.update_password("no_such_user", "secret99", "secret56")
    caller = Caller(guarded, f"{user}:secret12")
    assert caller.code() == OK
    caller.close()


def test_drop_counts_at_once_and_again_is_fine(guarded, root):
    root.create_user("short_lived", "secret12")
    caller = Caller(guarded, "short_lived:secret12")
    assert caller.code() == OK
    root.drop_user("short_lived")
    assert caller.code() == OUT
    root.create_user("short_lived", "secret34")  # another one of that name
    assert caller.code() == OUT
    root.drop_user("short_lived")
    caller.close()


def test_root_cannot_be_dropped(root):
    with fails(ANY, "root user cannot be deleted"):
        root.drop_user("root")
    assert "root" in root.list_users()


def test_create_twice_and_password_rules(guarded, root, user):
    with fails(ANY, "user already exists"):
        root.create_user(user, "secret12")
    caller = Caller(guarded, "root:Milvus")
    for encoded in ("", "!!!", b64("short"), b64("p" * 73), b64("zero\0byte")):
        r = caller.call("CreateCredential", username="x1", password=encoded)
        is_error(r)
    assert "x1" not in root.list_users()
    is_ok(caller.call("CreateCredential", username="x1", password=b64("secret12")))
    is_ok(caller.call("DeleteCredential", username="x1"))
    caller.close()


def test_password_of_root_and_users_survive_a_restart():
    with Server(["--set", "common.security.authorizationEnabled=true"]) as sv:
        root = MilvusClient(sv.uri, token="root:Milvus")
        root.create_user("frank", "secret12")
        root.update_password("root", "Milvus", "much better")
        root.close()
        sv.restart(kill=True)
        c = connected(sv.uri, token="root:much better")
        assert c.list_users() == ["frank", "root"]
        c.close()
        for token, code in (("root:Milvus", OUT), ("frank:secret12", OK), ("frank:x", OUT)):
            caller = Caller(sv, token)
            assert caller.code() == code
            caller.close()


def test_first_password_of_root_is_the_configured_one():
    with Server(["--set", "common.security.authorizationEnabled=true", "--set",
                 "common.security.defaultRootPassword=first word"]) as sv:
        for token, code in (("root:first word", OK), ("root:Milvus", OUT)):
            caller = Caller(sv, token)
            assert caller.code() == code
            caller.close()


def test_authorization_off_takes_any_token(server):
    for token in ("root:Milvus", "nobody:nothing", "root", ":", None):
        caller = Caller(server, token)
        assert caller.code() == OK
        caller.close()
    caller = Caller(server, None)
    for value in ("", "!!!", "Bearer x", "A" * 5000):
        caller.metadata = [("authorization", value)]
        assert caller.code() == OK
    caller.close()


def test_authorization_off_keeps_users_for_later():
    with Server() as sv:
        c = MilvusClient(sv.uri)
        c.create_user("grace", "secret12")
        c.close()
        sv.stop()
        sv.args += ["--set", "common.security.authorizationEnabled=true"]
        sv.start()
        caller = Caller(sv, "grace:secret12")
        assert caller.code() == OK
        caller.metadata = []
        assert caller.code() == OUT
        caller.close()
