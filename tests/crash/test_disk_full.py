#!/usr/bin/env python3
"""A real server whose disk is full: it says so, goes on answering reads, and recovers when there is room.

    [ELANUS_BIN=...] tests/crash/test_disk_full.py [--only WORD]

The data folder lies on a memory file system of 64 MiB, which needs the right to mount one; without
it every case is skipped. A ballast file is what an operator deletes. Ends with "N passed, N failed".
"""
import argparse
import contextlib
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from crash_lib import (Refused, Report, Server, Skip, Space, expect, folder_faults, start)

MIB = 1 << 20
NO_SPACE = 9   # the API's code for a full disk


class Disk:
    def __init__(self, args=()):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="full-"))
        r = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", self.folder],
                           capture_output=True, text=True)
        if r.returncode != 0:
            self.folder.rmdir()
            raise Skip(f"no file system can be mounted: {r.stderr.strip()}")
        # The log of the server must not compete for the space.
        self.logs = pathlib.Path(tempfile.mkdtemp(prefix="full-log-"))
        self.server = Server(args, data=self.folder / "data")
        self.server.log = self.logs / "server.log"
        self.space = Space("full", dim=64, own=False, seed=1)
        self.client = None

    def start(self):
        self.client = self.space.client = start(self.server)

    def restart(self, kill):
        self.server.kill() if kill else self.server.stop()
        self.client.close()
        self.start()
        expect(self.space.check(), "after the restart")

    def ballast(self, name, size):
        with open(self.folder / name, "wb") as f:
            f.write(b"\1" * size)

    def brim(self, name="brim"):
        """Takes the last page."""
        with open(self.folder / name, "ab", buffering=0) as f:
            with contextlib.suppress(OSError):
                while f.write(b"\1" * 65536):
                    pass
            with contextlib.suppress(OSError):
                while f.write(b"\1" * 4096):
                    pass

    def free(self, *names):
        for n in names:
            (self.folder / n).unlink()

    def room(self):
        return shutil.disk_usage(self.folder).free

    def close(self):
        if self.client:
            self.client.close()
        self.server.end()
        subprocess.run(["umount", "-l", self.folder], check=False)
        self.folder.rmdir()
        shutil.rmtree(self.logs, ignore_errors=True)


@contextlib.contextmanager
def disk(args=()):
    d = Disk(args)
    try:
        d.start()
        d.space.create()
        yield d
    except Exception as e:
        print("  server: " + "\n          ".join(d.server.tail(12).splitlines()), flush=True)
        raise e
    finally:
        d.close()


def refused(fn, *args):
    """fn is refused for want of room, in words."""
    try:
        fn(*args)
    except Refused as e:
        if e.code != NO_SPACE or "space" not in e.reason:
            raise AssertionError(f"refused, but not clearly: {e}") from None
        return e
    raise AssertionError("went through on a full disk")


def reads_for(d, seconds):
    """Strong reads, again and again: longer than any stock of timestamps lasts. Then all rows."""
    deadline = time.monotonic() + seconds
    n = 0
    while time.monotonic() < deadline:
        began = time.monotonic()
        d.space.count()
        if time.monotonic() - began > 5:
            raise AssertionError(f"a read took {time.monotonic() - began:.1f} s on a full disk")
        n += 1
        time.sleep(0.2)
    expect(d.space.check(settle=False), "on a full disk")
    return n


def works_again(fn, seconds=20):
    """The operator deleted something: fn must succeed soon, without a restart."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return fn()
        except Refused as e:
            if time.monotonic() > deadline:
                raise AssertionError(f"still refused {seconds} s after room was made: {e}") from None
            time.sleep(0.1)


def full_by_inserts(kill):
    with disk() as d:
        d.ballast("ballast", 8 * MIB)
        said = None
        for _ in range(400):
            try:
                d.space.insert(1000)
            except Refused as e:
                said = e
                break
        if not said:
            raise AssertionError("the disk was never full")
        refused(lambda: (_ for _ in ()).throw(said))
        d.brim()
        refused(d.space.insert, 500)
        refused(d.space.delete, 5)
        n = reads_for(d, 8)
        d.free("ballast", "brim")
        works_again(lambda: d.space.insert(100))
        works_again(lambda: d.space.delete(10))
        expect(d.space.check(settle=False), "with room again")
        d.restart(kill)
        return f"{len(d.space.rows)} rows, {n} reads while full; {str(said)[:90]}"


def full_in_flush(kill):
    with disk(["--set", "wal.fileSize=1048576"]) as d:
        for _ in range(10):
            d.space.insert(4000)
        d.ballast("ballast", d.room() - 3 * MIB)
        d.space.flush()
        n = reads_for(d, 4)
        if d.space.flushed():
            raise AssertionError("segments are flushed to a full disk")
        if "No space left" not in d.server.said():
            raise AssertionError("the log of the server does not say why it cannot flush")
        leftovers = [p for p in (d.folder / "data/objects").glob(".tmp-*")
                     if p.stat().st_size > 4 * MIB]
        expect([f"{p} was left behind" for p in leftovers])
        d.free("ballast")
        deadline = time.monotonic() + 30  # the server waits longer after each failure
        while not d.space.flushed():
            if time.monotonic() > deadline:
                raise AssertionError("not flushed although there is room")
            time.sleep(0.05)
        works_again(d.space.flush_wait)
        expect(d.space.check(settle=False), "with room again")
        expect(folder_faults(d.server.data), "with room again")
        d.restart(kill)
        return f"{len(d.space.rows)} rows, {n} reads while full"


def full_in_metadata(kill):
    with disk() as d:
        d.space.insert(3000)
        d.ballast("ballast", 4 * MIB)
        other = Space("other", dim=8, seed=2)
        other.client = d.client
        d.brim()
        said = None
        for i in range(3000):  # the metadata store has some room of its own
            other.name = f"other{i}"
            try:
                other.create()
                d.brim()
            except Refused as e:
                said = e
                break
        if not said:
            raise AssertionError("3000 collections were created on a full disk")
        refused(lambda: (_ for _ in ()).throw(said))
        n = reads_for(d, 6)
        d.free("ballast", "brim")
        another = Space("another", dim=8, seed=3)
        another.client = d.client
        works_again(another.create)
        another.insert(50)
        expect(another.check() + d.space.check(settle=False), "with room again")
        d.restart(kill)
        another.client = other.client = d.client
        expect(another.check() + other.check(), "after the restart")
        expect(folder_faults(d.server.data), "after the restart")
        return f"{n} reads while full; {str(said)[:90]}"


def stop_on_full():
    """SIGTERM on a full disk ends the server as always, and nothing is lost."""
    with disk() as d:
        d.space.insert(2000)
        d.space.flush_wait()
        d.space.insert(1000)
        d.space.delete(20)
        d.brim()
        refused(lambda: [d.space.insert(1000) for _ in range(20)])
        d.server.stop()
        d.client.close()
        d.free("brim")
        d.start()
        expect(d.space.check(), "after the restart")
        d.space.insert(100)
        expect(d.space.check(), "with room again")


def start_on_full():
    """A server that is started on a full disk says so, and nothing is lost."""
    with disk() as d:
        d.space.insert(2000)
        d.space.flush_wait()
        d.space.insert(1000)
        d.server.kill()
        d.client.close()
        d.brim()
        try:
            d.start()
        except Exception as e:
            if "space" not in str(e) or "not started: " not in str(e):
                raise
            said = "does not start, and says why"
        else:
            expect(d.space.check(settle=False), "started on a full disk")
            said = "starts and reads"
            d.server.kill()
            d.client.close()
        d.free("brim")
        d.start()
        expect(d.space.check(), "with room again")
        d.space.insert(100)
        expect(d.space.check(), "with room again")
        return said


def main():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--only", help="cases whose name has this word")
    report = Report(ap.parse_args().only)
    for kill in (True, False):
        how = "kill" if kill else "stop"
        report.case(f"disk_full_by_inserts:{how}", full_by_inserts, kill)
        report.case(f"disk_full_in_flush:{how}", full_in_flush, kill)
        report.case(f"disk_full_in_metadata:{how}", full_in_metadata, kill)
    report.case("disk_full_at_stop", stop_on_full)
    report.case("disk_full_at_start", start_on_full)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
