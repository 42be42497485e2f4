#!/usr/bin/env python3
"""What a real server makes of damaged files: a torn tail is cut and reported, anything else is named.

    [ELANUS_BIN=...] tests/crash/test_damage.py [--only WORD]

Logs, segment files, delete files and metadata are damaged between two runs. Whatever can be known
to be torn is repaired; whatever was durable once and cannot be read is an error that says which file
and where, and concerns only those who need it. Ends with "N passed, N failed".
"""
import argparse
import contextlib
import os
import pathlib
import random
import shutil
import struct
import sys
import tempfile
import time

from crash_lib import (Refused, Report, Server, ServerError, Space, elanus, expect, metadata,
                       start)

FILE_HEADER, RECORD_HEADER = 64, 24


class World:
    """A stopped server with one collection; unflushed rows are in the log of channel dml_0."""

    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="damage-"))
        self.data = self.folder / "data"
        self.server = Server(["--set", "wal.preallocate=0"], data=self.data)
        self.space = Space("rows", dim=8, shards=1, seed=1)
        self.client = None

    def start(self):
        self.client = self.space.client = start(self.server)

    def kill(self):
        self.server.kill()
        self.client.close()

    def last_log(self):
        return sorted((self.data / "log/dml_0").glob("*.log"))[-1]

    def fails_to_start(self, *texts):
        try:
            self.server.start()
        except ServerError as e:
            said = str(e)
            line = next((x for x in said.splitlines() if "elanus: not started: " in x), None)
            if not line or self.server.process.returncode != 1:
                raise AssertionError(f"ended without a reason: {said}") from None
            for t in texts:
                if str(t) not in line:
                    raise AssertionError(f"{t!r} is not named: {line}") from None
            return line.split("not started: ")[1]
        raise AssertionError("started on damaged files")


@contextlib.contextmanager
def world():
    w = World()
    try:
        w.start()
        w.space.create()
        yield w
    finally:
        if w.client:
            w.client.close()
        w.server.end()
        shutil.rmtree(w.folder, ignore_errors=True)


def records(path):
    """[(offset, size)] of the records of a log file."""
    b = path.read_bytes()
    off, found = FILE_HEADER, []
    while off + RECORD_HEADER <= len(b):
        n, _, position = struct.unpack_from("<IIQ", b, off)
        if position == 0:
            break
        size = (RECORD_HEADER + n + 7) // 8 * 8
        found.append((off, size))
        off += size
    return found


def flip(path, offset):
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ 0x5A]))


# ---- the end of a log ----

def tail(what):
    """The last batch was in flight: its rows may be gone, those before it may not."""
    with world() as w:
        for _ in range(5):
            w.space.insert(20)
        before = dict(w.space.rows)
        w.space.insert(20)
        w.kill()
        path = w.last_log()
        off, size = records(path)[-1]
        rnd = random.Random(what)
        if what == "garbage":
            with open(path, "ab") as f:
                f.write(rnd.randbytes(777))
            cut = 777
        elif what == "cut":
            os.truncate(path, off + size // 2)
            cut = size // 2
        elif what == "header":
            os.truncate(path, off + 9)
            cut = 9
        else:
            flip(path, off + RECORD_HEADER + size // 3)
            cut = size
        w.start()
        if what != "garbage":
            w.space.maybe = {k: {None, v} for k, v in w.space.rows.items() if k not in before}
            w.space.rows = before
        expect(w.space.check())
        if what != "garbage" and len(w.space.rows) != len(before):
            raise AssertionError("half of a record was believed")
        said = [x for x in w.server.said().splitlines() if "dml_0" in x and f"cut_bytes={cut}" in x]
        if not said:
            raise AssertionError(f"the log does not say that {cut} bytes were cut\n{w.server.tail()}")
        w.space.insert(10)
        w.server.stop()
        w.client.close()
        w.start()
        expect(w.space.check(), "after another restart")
        return said[0].split(" ", 2)[2]


# ---- the middle of a log ----

def middle(where):
    with world() as w:
        for _ in range(6):
            w.space.insert(20)
        w.kill()
        path = w.last_log()
        off, size = records(path)[2]
        flip(path, {"payload": off + RECORD_HEADER + size // 2, "header": off + 8,
                    "length": off}[where])
        said = w.fails_to_start(path, f"offset {off}")
        code, out, err = elanus("log", "dump", "dml_0", "--data", w.data)
        if code == 0 or str(path) not in err or str(off) not in err:
            raise AssertionError(f"elanus log dump ended with {code}: {err!r}")
        code, out, err = elanus("log", "list", "--data", w.data)
        if code == 0 or str(path) not in err:
            raise AssertionError(f"elanus log list ended with {code}: {err!r}")
        flip(path, {"payload": off + RECORD_HEADER + size // 2, "header": off + 8,
                    "length": off}[where])  # put back: nothing was changed meanwhile
        w.start()
        expect(w.space.check(), "after the repair")
        return said[:150]


def file_header():
    with world() as w:
        w.space.insert(20)
        w.kill()
        flip(w.last_log(), 33)
        return w.fails_to_start(w.last_log())[:150]


def missing_file():
    """A log file in the middle is gone."""
    with world() as w:
        for _ in range(3):  # each start begins a new file
            w.space.insert(20)
            w.kill()
            w.start()
        w.space.insert(20)
        w.kill()
        files = sorted((w.data / "log/dml_0").glob("*.log"))
        if len(files) < 3:
            raise AssertionError(f"only {len(files)} log files")
        files[1].rename(w.folder / "away")
        said = w.fails_to_start("dml_0")
        (w.folder / "away").rename(files[1])
        w.start()
        expect(w.space.check(), "after the repair")
        return said[:150]


def term_file():
    with world() as w:
        w.space.insert(20)
        w.kill()
        term = w.data / "log/dml_0/term"
        text = term.read_bytes()
        term.write_bytes(b"nonsense")
        said = w.fails_to_start(term)
        term.write_bytes(text)
        w.start()
        expect(w.space.check())
        return said[:150]


# ---- objects ----

def object_damage(kind, how):
    """A file of one collection is damaged: that collection says so, the rest of the server works."""
    with world() as w:
        other = Space("other", dim=8, seed=2)
        other.client = w.client
        other.create()
        other.insert(100)
        other.flush_wait()
        w.space.insert(300)
        w.space.flush_wait()
        if kind == "delta":
            w.space.delete(20)
            w.space.flush_wait()
            deadline = time.monotonic() + 10  # the delete file may come after the answer
            while not any(k.startswith("/elanus/data/delta/") for k in metadata(w.data)):
                if time.monotonic() > deadline:
                    raise AssertionError("deletes are not flushed")
                time.sleep(0.02)
        coll = next(v for v in metadata(w.data).values() if v.get("name") == "rows" and "schema" in v)
        folder = {"segment": "segments", "delta": "deltas"}[kind]
        files = [p for p in (w.data / "objects" / folder / str(coll["id"])).rglob("*")
                 if p.is_file()]
        if not files:
            raise AssertionError(f"no {kind} file")
        w.kill()
        path = files[0]
        good = path.read_bytes()
        key = str(path.relative_to(w.data / "objects"))
        if how == "missing":
            path.unlink()
        elif how == "short":
            path.write_bytes(good[:len(good) // 2])
        elif how == "trailer":
            flip(path, len(good) - 20)
        else:
            flip(path, 100 if kind == "delta" else 8)
        w.start()
        other.client = w.client
        expect(other.check(), "the other collection")
        other.insert(10)
        other.delete(5)
        expect(other.check(), "the other collection")
        if key not in w.server.said():
            raise AssertionError(f"the server's log does not name {key}\n{w.server.tail()}")
        try:
            got = w.space.read()
            raise AssertionError(f"a read of the damaged collection gives {len(got)} rows")
        except Refused as e:
            said = e
        if key not in said.reason:
            raise AssertionError(f"{key} is not named: {said}")
        w.space.release()
        try:
            w.space.load()
            raise AssertionError("a damaged file was loaded")
        except Refused as e:
            if key not in e.reason:
                raise AssertionError(f"{key} is not named: {e}") from None
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(good)
        w.space.load()  # without a restart
        expect(w.space.check(), "after the repair")
        return str(said)[:150]


# ---- metadata ----

def metadata_damage(kind):
    with world() as w:
        w.space.insert(100)
        w.space.flush_wait()
        w.server.stop()
        w.client.close()
        meta = w.data / "meta"
        if kind == "current":
            path = meta / "CURRENT"
            path.write_bytes(b"MANIFEST-999999\n")
        elif kind == "manifest":
            path = sorted(meta.glob("MANIFEST-*"))[-1]
            path.write_bytes(b"\x55" * path.stat().st_size)
        elif kind == "log":
            w.start()  # opening moves the log into a table: make a log with several records
            for _ in range(3):
                w.space.create_partition()
            w.kill()
            path = max(meta.glob("*.log"), key=lambda p: p.stat().st_size)
            flip(path, 40)
        else:
            path = sorted(meta.glob("*.sst"))[0] if list(meta.glob("*.sst")) else None
            if path is None:
                w.start()
                w.kill()
                path = sorted(meta.glob("*.sst"))[0]
            flip(path, 30)
        code, out, err = elanus("meta", "list", "--data", w.data)
        if code == 0 or not err.startswith("elanus meta: ") or str(meta) not in err:
            raise AssertionError(f"elanus meta list ended with {code}: {err!r} {out[-200:]!r}")
        return w.fails_to_start(meta)[:170]


def main():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--only", help="cases whose name has this word")
    report = Report(ap.parse_args().only)
    for what in ("garbage", "cut", "header", "flip"):
        report.case(f"log_tail:{what}", tail, what)
    for where in ("payload", "header", "length"):
        report.case(f"log_middle:{where}", middle, where)
    report.case("log_file_header", file_header)
    report.case("log_file_missing", missing_file)
    report.case("log_term_file", term_file)
    for kind in ("segment", "delta"):
        for how in ("missing", "short", "header") + (("trailer",) if kind == "segment" else ()):
            report.case(f"object:{kind}:{how}", object_damage, kind, how)
    for kind in ("current", "manifest", "log", "table"):
        report.case(f"metadata:{kind}", metadata_damage, kind)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
