#!/usr/bin/env python3
"""Kills a real server at random moments under load, restarts it, and checks every row.

    [ELANUS_BIN=...] tests/crash/torture.py [--kills 200 | --quick] [--services remote] [--seed N]

Every writer owns a range of keys of one collection that all share, and a collection of its own that
it creates, drops, splits into partitions, releases and loads. Each keeps a model (crash_lib.Space):
a call that was in flight at the kill may have happened or not; everything acknowledged must be
there, and nothing else. One end in six is a SIGTERM instead, after which the server has to end with
status 0. After each start metadata has to fit together and files have to be those it names. Prints
a line per ten kills and ends with "N passed, N failed". The seed is printed; the same seed draws the
same operations, though not the same interleaving.
"""
import argparse
import os
import pathlib
import random
import shutil
import signal
import sys
import tempfile
import threading
import time

from crash_lib import Gone, Refused, Server, ServerError, Space, folder_faults, start

COLLECTION = "torture"
# Small segments, log files and waits, so that flushes, merges, rolls and cuts of the log happen all the
# time.
ARGS = ["--set", "dataCoord.segment.maxSize=1", "--set", "dataCoord.segment.sealProportion=0.2",
        "--set", "wal.fileSize=1048576", "--set", "dataCoord.gc.interval=1",
        "--set", "indexCoord.segment.minSegmentNumRowsToEnableIndex=50",
        "--set", "common.retentionDuration=1"]


class Writer(threading.Thread):
    """Works on its share and its own collection until the server goes away."""

    def __init__(self, n, seed):
        self.n = n
        self.rnd = random.Random(seed)
        self.share = Space(COLLECTION, first_key=1 + n * 10**9, own=False, seed=seed + 1)
        self.own = Space(f"own{n}", shards=1 + n % 3, seed=seed + 2)
        self.share.exists = self.share.loaded = True
        self.error = None

    @property
    def spaces(self):
        return (self.share, self.own)

    def begin(self, client):
        super().__init__(daemon=True)
        for s in self.spaces:
            s.client = client
        self.error = None
        self.start()

    def run(self):
        try:
            while True:
                self.rnd.choices(self.spaces, [2, 1])[0].step()
        except Gone:
            pass
        except Refused as e:
            # A server that was told to stop may say so before it closes the connection.
            if not (self.stopping and e.reason and "stopping" in e.reason):
                self.error = f"writer {self.n}: {e}"
        except Exception as e:  # a fault of the test: shown, and counted
            self.error = f"writer {self.n}: {type(e).__name__}: {e}"

    stopping = False


class Torture:
    def __init__(self, a):
        self.a = a
        self.rnd = random.Random(a.seed)
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="torture-"))
        args = ARGS + (["--services", a.services] if a.services else [])
        for s in a.set:
            args += ["--set", s]
        self.server = Server(args, data=self.root / "data")
        self.writers = [Writer(n, self.rnd.randrange(2**32)) for n in range(a.writers)]
        self.open = 0
        self.slowest = 0.0
        self.stops = 0

    def all_spaces(self):
        return [s for w in self.writers for s in w.spaces]

    def start(self):
        began = time.monotonic()
        self.client = start(self.server)
        self.slowest = max(self.slowest, time.monotonic() - began)
        for s in self.all_spaces():
            s.client = self.client

    def load(self, stop):
        """Work, for a random time, then the end; what went wrong before or in it."""
        for w in self.writers:
            w.stopping = stop
            w.begin(self.client)
        time.sleep(self.rnd.uniform(0, self.a.max_ms) / 1000)
        wrong = []
        if not self.server.alive():
            wrong.append(f"the server ended by itself with {self.server.process.returncode}: "
                         f"{self.server.tail(5)}")
        elif stop:
            try:
                self.server.stop()
            except ServerError as e:
                wrong.append(str(e)[:500])
        else:
            self.server.kill()
        for w in self.writers:
            w.join(40)
            if w.is_alive():
                wrong.append(f"writer {w.n} hangs")
        self.client.close()
        return wrong + [w.error for w in self.writers if w.error]

    def check(self):
        self.open += sum(len(s.maybe) for s in self.all_spaces())
        wrong = []
        for s in self.all_spaces():
            try:
                wrong += s.check()
            except (AssertionError, Refused, Gone) as e:
                wrong.append(f"{s.name}: {e}")
        total = self.writers[0].share.count()
        rows = sum(len(w.share.rows) for w in self.writers)
        if total != rows:
            wrong.append(f"count(*) of {COLLECTION} is {total}, {rows} rows are known")
        return wrong + folder_faults(self.server.data)

    def round(self, n):
        stop = n % 6 == 0
        self.stops += stop
        wrong = self.load(stop)
        try:
            self.start()
            wrong += self.check()
        except (AssertionError, Refused, Gone) as e:
            wrong.append(f"{type(e).__name__}: {e}")
        return wrong

    def summary(self, n):
        rows = sum(len(s.rows) for s in self.all_spaces())
        acked = sum(s.acked for s in self.all_spaces())
        print(f"end {n}/{self.a.kills}: {rows} rows live, {acked} changes acknowledged, {self.open} "
              f"keys were in flight, {self.stops} stops, slowest start {self.slowest:.2f} s",
              flush=True)

    def run(self):
        passed = failed = 0
        self.start()
        first = self.writers[0].share
        first.exists = False
        first.create()
        for n in range(1, self.a.kills + 1):
            try:
                wrong = self.round(n)
            except ServerError as e:
                print(f"end {n}: {e}", flush=True)
                failed += 1
                break
            for w in wrong[:8]:
                print(f"end {n}: {w}", flush=True)
            if len(wrong) > 8:
                print(f"end {n}: and {len(wrong) - 8} more", flush=True)
            passed, failed = passed + (not wrong), failed + bool(wrong)
            if n % 10 == 0 or wrong:
                self.summary(n)
            if failed >= 3:
                break
        self.server.end()
        if failed:
            print(f"data and log: {self.root}")
        elif not self.a.keep:
            shutil.rmtree(self.root)
        print(f"{passed} passed, {failed} failed")
        return 1 if failed or not passed else 0


def main():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--kills", type=int, default=200)
    ap.add_argument("--quick", action="store_true", help="20 kills")
    ap.add_argument("--server", help="instead of $ELANUS_BIN")
    ap.add_argument("--services", choices=("local", "remote"))
    ap.add_argument("--seed", type=int, default=int(time.time()))
    ap.add_argument("--writers", type=int, default=4)
    ap.add_argument("--max-ms", type=int, default=500, help="longest time between start and end")
    ap.add_argument("--keep", action="store_true", help="keep the data folder")
    ap.add_argument("--set", action="append", default=[], help="further options of the server")
    a = ap.parse_args()
    if a.quick:
        a.kills = 20
    if a.server:
        os.environ["ELANUS_BIN"] = a.server
    print(f"seed {a.seed}", flush=True)
    return Torture(a).run()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # no server outlives its test
    sys.exit(main())
