"""Index files that another program wrote, or that something damaged: searches are right at once, the
index is built anew without being asked for, once, and is used again."""
import struct
import time
import urllib.request

import pytest
from pymilvus import DataType
from server import Server
from support import connected, eventually, index, schema_of
from test_index_search import DIM, clustered, index_files, indexed, recall, truth

ROWS, SEGMENTS = 4000, 2
HEAD_CRC, FORMAT = 552, 10  # places in the head: docs/format.md, "Index files"
PAGE = 4096


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def of_format(file, number):
    """The file as a program of that format would have begun it."""
    b = bytearray(file.read_bytes())
    struct.pack_into("<H", b, FORMAT, number)
    struct.pack_into("<I", b, HEAD_CRC, crc32c(b[:HEAD_CRC]))
    file.write_bytes(b)


def flip(file, at):
    b = bytearray(file.read_bytes())
    b[at if at >= 0 else len(b) // 2] ^= 0x10
    file.write_bytes(b)


def cut(file, share):
    b = file.read_bytes()
    file.write_bytes(b[:int(len(b) * share)])


# what is done to each file, and words of the reason that the server gives
CHANGES = {
    "former": (lambda f: of_format(f, 1), "HNSW of format 1, this program reads "),
    "unnumbered": (lambda f: of_format(f, 0), "HNSW of format 1, this program reads "),
    "later": (lambda f: of_format(f, 9999), "HNSW of format 9999, this program reads "),
    "head": (lambda f: flip(f, 45), "head at offset 0 is damaged"),
    "section": (lambda f: flip(f, PAGE + 8), "is damaged"),
    "half": (lambda f: cut(f, .5), "cut short|end is missing"),
    "empty": (lambda f: cut(f, 0), ""),
    "gone": (lambda f: f.unlink(), ""),
}


class World:
    def __init__(self, sv):
        self.sv = sv
        self.base = clustered(ROWS, 1)
        self.queries = clustered(30, 2)
        self.found = truth(self.base, self.queries, "L2")
        self.client = connected(sv.uri)
        c = self.client
        schema = schema_of(("v", DataType.FLOAT_VECTOR, {"dim": DIM}), vector=0)
        c.create_collection("c", schema=schema, consistency_level="Strong")
        index(c, "c", "v", "HNSW", "L2", M=8, efConstruction=80)
        each = ROWS // SEGMENTS
        for first in range(0, ROWS, each):
            c.insert("c", [{"id": i, "v": self.base[i].tolist()}
                           for i in range(first, first + each)])
            c.flush("c")
        c.load_collection("c")
        self.settle()

    def start(self):
        self.said = len(self.sv.said())
        self.sv.start()
        self.client.close()
        self.client = connected(self.sv.uri)

    def check(self):
        hits = self.client.search("c", data=self.queries.tolist(), limit=10, anns_field="v",
                                  search_params={"params": {"ef": 200}})
        assert recall(hits, self.found) > .98
        hits = self.client.search("c", data=self.base[::200].tolist(), limit=1, anns_field="v",
                                  search_params={"params": {"ef": 200}})
        assert [h[0]["id"] for h in hits] == list(range(0, ROWS, 200))

    def told(self, text):
        return [x for x in self.sv.said()[self.said:].splitlines() if text in x]

    def describe(self):
        d = self.client.describe_index("c", "v")
        assert d["indexed_rows"] + d["pending_index_rows"] == d["total_rows"] == ROWS
        return d

    def settle(self):
        """The index is finished and every segment is searched through it."""
        assert eventually(lambda: self.describe()["state"] == "Finished", 60)
        assert self.describe()["indexed_rows"] == ROWS
        assert indexed(self.client, self.sv, "c", self.base[0].tolist())
        assert eventually(lambda: len(index_files(self.sv)) == SEGMENTS)

    def metric(self, name):
        text = urllib.request.urlopen(
            f"http://127.0.0.1:{self.sv.management}/metrics").read().decode()
        return sum(float(x.split()[-1]) for x in text.splitlines() if x.startswith(name))


@pytest.mark.parametrize("services", ["local", "remote"])
def test_index_files_that_cannot_be_opened_are_built_anew(services):
    with Server(["--services", services]) as sv:
        w = World(sv)
        for name, (change, reason) in CHANGES.items():
            old = index_files(sv)
            sv.stop()
            for file in old:
                change(file)
            w.start()
            w.check()  # at once
            w.describe()
            w.settle()
            assert len(w.told("index built:")) == SEGMENTS, name
            refused = w.told("index file refused, segment is searched exactly until another is built")
            assert len(refused) == SEGMENTS, name
            assert all(any(r in x for r in reason.split("|")) for x in refused), refused
            assert w.metric("elanus_index_files_refused_total") == SEGMENTS
            assert not set(index_files(sv)) & set(old)
            w.check()
        # once is enough: what was built is there after a restart, and nothing is built again
        sv.stop()
        w.start()
        w.settle()
        w.check()
        assert not w.told("index built:") and not w.told("index file refused")
        w.client.close()


def test_index_files_of_a_released_collection_are_built_anew_when_it_is_loaded():
    with Server() as sv:
        w = World(sv)
        w.client.release_collection("c")
        sv.stop()
        for file in index_files(sv):
            of_format(file, 1)
        w.start()
        w.client.load_collection("c")
        w.check()
        w.settle()
        w.check()
        assert len(w.told("index built:")) == SEGMENTS
        w.client.close()


def test_kill_while_aged_files_are_built_anew():
    """Before the files are refused, between refusal and build, in a build, between two."""
    with Server(["--set", "dataNode.indexBuild.threads=1"]) as sv:
        w = World(sv)
        for pause in (0, .02, .1, .3):
            sv.kill()
            for file in index_files(sv):
                of_format(file, 1)
            sv.start()
            time.sleep(pause)
            sv.kill()
            w.start()
            w.check()
            w.settle()
            w.check()
        w.client.close()
