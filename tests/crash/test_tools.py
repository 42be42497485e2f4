#!/usr/bin/env python3
"""`elanus meta` and `elanus log` beside a running server and on the folder of a stopped one.

    [ELANUS_BIN=...] tests/crash/test_tools.py [--only WORD]

They show what is there and change nothing. Ends with "N passed, N failed".
"""
import argparse
import contextlib
import hashlib
import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from crash_lib import Report, Server, Space, binary, elanus, expect, metadata, start

PREFIX = "/elanus/root/partition/"


class World:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="tools-"))
        self.data = self.folder / "data"
        self.server = Server(data=self.data)
        self.space = Space("things", shards=2, seed=1)
        self.client = self.space.client = start(self.server)
        self.space.create()
        self.space.insert(40)
        self.space.flush_wait()
        self.space.insert(30)
        self.space.delete(5)

    def close(self):
        self.client.close()
        self.server.end()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def world(running):
    w = World()
    try:
        if not running:
            w.server.stop()
        yield w
    finally:
        w.close()


def must(args, code, *texts):
    """Runs; the exit status and some text on standard output (0) or standard error."""
    got, out, err = elanus(*args)
    said = out if code == 0 else err
    if got != code or any(t not in said for t in texts):
        raise AssertionError(f"elanus {' '.join(map(str, args))}: {got}, wanted {code} with {texts}\n"
                             f"{out[-400:]}\n{err[-400:]}")
    if code != 0 and out:
        raise AssertionError(f"an error and output too: {out[-400:]}")
    return out


def fingerprint(data):
    return {str(p.relative_to(data)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in data.rglob("*") if p.is_file()}


def meta_list(running):
    with world(running) as w:
        before = None if running else fingerprint(w.data)
        meta = metadata(w.data)
        coll = next(v for k, v in meta.items() if k.startswith("/elanus/root/collection/"))
        if coll["name"] != "things" or len(coll["vchannels"]) != 2:
            raise AssertionError(f"not the collection that was made: {coll}")
        rows = sum(v["num_rows"] for k, v in meta.items() if k.startswith("/elanus/data/segment/"))
        if rows != 40:
            raise AssertionError(f"{rows} rows are flushed, 40 expected")
        if meta["/elanus/root/user/root"].get("password_hash"):
            raise AssertionError("the hash of a password is shown")
        keys = must(["meta", "list", "--keys", "--data", w.data], 0).split()
        if set(keys) != set(meta):
            raise AssertionError(f"--keys differs: {set(keys) ^ set(meta)}")
        some = must(["meta", "list", PREFIX, "--keys", "--data", w.data], 0).split()
        if len(some) != 1 or not some[0].startswith(PREFIX):
            raise AssertionError(f"a prefix gives {some}")
        if must(["meta", "list", "/none", "--data", w.data], 0):
            raise AssertionError("a prefix that nothing has gives something")
        if not running and fingerprint(w.data) != before:
            raise AssertionError("looking changed the folder")


def meta_get(running):
    with world(running) as w:
        key = must(["meta", "list", PREFIX, "--keys", "--data", w.data], 0).split()[0]
        value = json.loads(must(["meta", "get", key, "--data", w.data], 0))
        if value["name"] != "_default":
            raise AssertionError(f"{key}: {value}")
        must(["meta", "get", "/elanus/none", "--data", w.data], 1, "elanus meta: no key /elanus/none")


def meta_watch():
    """New, changed and gone records appear, each with its time, and an interrupt ends it."""
    with world(True) as w:
        out = open(w.folder / "watch", "w+")
        # A shell starts its background jobs deaf to interrupts, and this script may be one. Not by
        # preexec_fn: that forks for real, and the gRPC client does not survive a fork.
        hear = ("import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
                "os.execv(sys.argv[1], sys.argv[1:])")
        p = subprocess.Popen([sys.executable, "-c", hear, binary(), "meta", "watch", PREFIX, "--data",
                              w.data], stdout=out, stderr=subprocess.PIPE, text=True)
        try:
            said = p.stderr.readline()
            if not said.startswith("watching "):
                raise AssertionError(f"does not say that it watches but: {said!r}, status {p.poll()}")

            def wait(pattern):
                deadline = time.monotonic() + 60
                while True:
                    found = re.search(pattern, pathlib.Path(out.name).read_text(), re.M)
                    if found:
                        return found
                    if time.monotonic() > deadline or p.poll() is not None:
                        raise AssertionError(f"never saw {pattern}: "
                                             f"{pathlib.Path(out.name).read_text()!r}")
                    time.sleep(0.05)

            deadline = time.monotonic() + 60  # what came before its first look is not new
            while not re.search(r"new", pathlib.Path(out.name).read_text()):
                w.space.create_partition()
                if time.monotonic() > deadline:
                    raise AssertionError("a new partition is not shown")
                time.sleep(0.5)
            found = wait(r'^\d\d:\d\d:\d\d new +(' + PREFIX + r'\S+) +\{.*"name":"p\d+"')
            w.space.release()
            for _ in range(len(w.space.parts)):
                w.space.drop_partition()
            wait(r"^\d\d:\d\d:\d\d gone +" + re.escape(found[1]) + "$")
            p.send_signal(signal.SIGINT)
            p.wait(30)
        finally:
            if p.poll() is None:
                p.kill()
            p.wait()
            p.stderr.close()
            out.close()
        expect(w.space.check(), "after watching")


def log_tools(running):
    with world(running) as w:
        before = None if running else fingerprint(w.data)
        out = must(["log", "list", "--data", w.data], 0)
        found = re.fullmatch(r"dml_0 +records 1 to (\d+), (\d+) files, (\d+) bytes\n", out)
        if not found:
            raise AssertionError(f"log list: {out!r}")
        lines = must(["log", "dump", "dml_0", "--data", w.data], 0).splitlines()
        if len(lines) != int(found[1]):
            raise AssertionError(f"{found[1]} records are listed, {len(lines)} shown")
        rows = sum(map(int, re.findall(r" rows=(\d+)", "\n".join(lines))))
        deletes = sum(map(int, re.findall(r" delete=(\d+)", "\n".join(lines))))
        if (rows, deletes) != (70, 5):
            raise AssertionError(f"{rows} rows and {deletes} deletes are shown, 70 and 5 expected")
        if [int(x.split()[0]) for x in lines] != list(range(1, len(lines) + 1)):
            raise AssertionError("positions are not in order")
        must(["log", "dump", "dml_9", "--data", w.data], 1, "elanus log: ", "dml_9")
        if running:
            w.space.insert(10)
            expect(w.space.check(), "beside the tools")
        elif fingerprint(w.data) != before:
            raise AssertionError("looking changed the folder")


def wrong_use():
    with tempfile.TemporaryDirectory() as d:
        nowhere = pathlib.Path(d) / "nowhere"
        must(["meta", "list", "--data", nowhere], 1, "elanus meta: ", str(nowhere))
        must(["log", "list", "--data", nowhere], 1, "elanus log: ", str(nowhere))
        if nowhere.exists():
            raise AssertionError("looking made a folder")
        for args in (["meta"], ["meta", "get"], ["meta", "frob"], ["meta", "list", "/", "more"],
                     ["meta", "list", "--frob"], ["log"], ["log", "dump"], ["log", "list", "more"],
                     ["log", "frob"], ["log", "list", "--frob"], ["meta", "list", "--data"],
                     ["log", "list", "--data"]):
            must(args, 2, f"usage: elanus {args[0]}")
        code, _, _ = elanus("frob")
        if code != 2:
            raise AssertionError(f"elanus frob ends with {code}")


def second_server():
    """Two servers on one folder: the second one says so, the first one does not notice."""
    with world(True) as w:
        code, _, err = elanus("run", "standalone", "--data", w.data, "--port", 0,
                              "--management-port", 0)
        if code != 1 or "in use by another process" not in err:
            raise AssertionError(f"ended with {code}: {err[-300:]}")
        w.space.insert(10)
        expect(w.space.check(), "beside a second server")


def main():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--only", help="cases whose name has this word")
    report = Report(ap.parse_args().only)
    for running, how in ((True, "running"), (False, "stopped")):
        report.case(f"meta_list:{how}", meta_list, running)
        report.case(f"meta_get:{how}", meta_get, running)
        report.case(f"log:{how}", log_tools, running)
    report.case("meta_watch", meta_watch)
    report.case("wrong_use", wrong_use)
    report.case("second_server", second_server)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
