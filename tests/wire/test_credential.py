"""Users and passwords, with authorization off and on."""
import grpc
import pytest
from pymilvus import MilvusClient, MilvusException
from server import Server
from support import ANY, Raw, connected, fails, make, simple_rows


def test_users_are_created_listed_and_dropped(client):
    client.create_user("alice_1", "secret12")
    try:
        assert {"root", "alice_1"} <= set(client.list_users())
        with fails(ANY):
            client.create_user("alice_1", "secret12")
    finally:
        client.drop_user("alice_1")
    assert "alice_1" not in client.list_users()


@pytest.mark.parametrize("user, password, text", [
    ("1abc", "secret12", "invalid user name 1abc"), ("a b", "secret12", "invalid user name a b"),
    ("a" * 33, "secret12", "invalid user name"), ("bob", "short", "invalid password length"),
    ("bob", "p" * 73, "invalid password length"),
])
def test_user_that_breaks_a_rule_fails(client, user, password, text):
    with fails(1100, text):
        client.create_user(user, password)


def test_password_is_changed_with_the_old_one(client):
    client.create_user("carol", "secret12")
    try:
        client.update_password("carol", "secret12", "secret34")
        with fails(ANY):
            client.update_password("carol", "secret12", "secret56")
    finally:
        client.drop_user("carol")


@pytest.fixture(scope="module")
def guarded():
    with Server(["--set", "common.security.authorizationEnabled=true"]) as sv:
        yield sv


def test_root_with_its_password_may_do_all(guarded):
    c = MilvusClient(guarded.uri, token="root:Milvus")
    make(c, "guarded", rows=simple_rows(3))
    assert c.query("guarded", output_fields=["count(*)"])[0]["count(*)"] == 3
    c.close()


@pytest.mark.parametrize("token", ["", "root:wrong", "nobody:Milvus", "root", ":", "root:Milvus "])
def test_wrong_token_is_refused(guarded, token):
    with pytest.raises((MilvusException, grpc.RpcError)):
        MilvusClient(guarded.uri, token=token, timeout=5).list_collections()


@pytest.mark.parametrize("value", [None, "", "!!!", "cm9vdA==", "Bearer x", "A" * 5000])
def test_wrong_metadata_is_status_16(guarded, value):
    raw = Raw(guarded.address)
    call = raw.channel.unary_unary("/milvus.proto.milvus.MilvusService/ShowCollections",
                                   request_serializer=None, response_deserializer=None)
    with pytest.raises(grpc.RpcError) as e:
        call(b"", timeout=10, metadata=[] if value is None else [("authorization", value)])
    assert e.value.code() == grpc.StatusCode.UNAUTHENTICATED
    raw.close()


def test_user_logs_in_until_dropped(guarded):
    root = MilvusClient(guarded.uri, token="root:Milvus")
    root.create_user("dave", "secret12")
    c = MilvusClient(guarded.uri, token="dave:secret12")
    c.list_databases()
    c.close()
    root.update_password("dave", "secret12", "secret34")
    with pytest.raises((MilvusException, grpc.RpcError)):
        MilvusClient(guarded.uri, token="dave:secret12", timeout=5).list_databases()
    root.drop_user("dave")
    with pytest.raises((MilvusException, grpc.RpcError)):
        MilvusClient(guarded.uri, token="dave:secret34", timeout=5).list_databases()
    root.close()


def test_password_of_a_user_survives_a_restart(guarded):
    root = MilvusClient(guarded.uri, token="root:Milvus")
    root.create_user("erin", "secret12")
    root.close()
    guarded.restart(kill=True)
    c = connected(guarded.uri, token="erin:secret12")
    c.list_databases()
    c.close()
