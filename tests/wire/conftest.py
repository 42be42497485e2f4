"""One server for the whole session, one collection name per test."""
import itertools
import pathlib
import re
import sys
import time

import pytest
from pymilvus.client import grpc_handler

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from server import Server  # noqa: E402
from support import Raw  # noqa: E402

counter = itertools.count(1)


class Hasty:
    """The clock of the client's polling loops, which sleep 0.2 s and more between two questions."""

    def __getattr__(self, what):
        return getattr(time, what)

    def sleep(self, seconds):
        time.sleep(min(seconds, 0.01))


grpc_handler.time = Hasty()


@pytest.fixture(scope="session")
def server():
    with Server() as sv:
        yield sv


@pytest.fixture(scope="session")
def client(server):
    from pymilvus import MilvusClient
    c = MilvusClient(server.uri)
    yield c
    c.close()


@pytest.fixture(scope="session")
def raw(server):
    """The stubs beneath the client, for requests that the client would not send."""
    r = Raw(server.address)
    yield r
    r.close()


@pytest.fixture
def name(request, server, client):
    """A collection name of this test alone. The collection is dropped afterwards."""
    n = f"{re.sub('[^A-Za-z0-9_]', '_', request.node.name)[:60]}_{next(counter)}"
    yield n
    if server.alive():
        client.drop_collection(n)


@pytest.fixture(autouse=True)
def server_survives(request):
    """Whatever a test sends, the session's server is there when it is over."""
    yield
    if "server" in request.fixturenames:
        sv = request.getfixturevalue("server")
        if not sv.alive():
            last = sv.tail()
            sv.start()
            pytest.fail(f"the server died in this test:\n{last}")
