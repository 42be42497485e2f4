#!/usr/bin/env python3
"""Makes every durable step of a real server fail or be its last, at every point of fault_points.def.

    ELANUS_BIN=build/debug/src/main/elanus tests/crash/test_fault_points.py [--only WORD] [--nth 1,5]

For each point and each of several passages of it (the 1st, the 5th, ...):
  kill      a workload runs until the server dies there; restarted, it must hold every acknowledged
            change, nothing else, no orphan files, and metadata that fits together.
  error     the step fails once (nospace: for want of room). The call fails with a message, or is
            repeated inside; the server lives and reads go on; a restart has lost nothing.
A point that the workload does not reach is a failure. Ends with "N passed, N failed".
"""
import argparse
import pathlib
import re
import shutil
import signal
import sys
import tempfile

from crash_lib import (Gone, Refused, Report, Server, ServerError, Space, binary, expect,
                       folder_faults, has_faults, start)

ROOT = pathlib.Path(__file__).resolve().parents[2]
POINTS = re.findall(r'^FAULT\("(\w+)"', (ROOT / "src/base/fault_points.def").read_text(), re.M)
# So that a short workload passes every point: the log rolls after 1 MiB,
# segments are sealed after 200 KiB and merged up to 1 MiB, deleted rows leave after a second.
ARGS = ["--set", "wal.fileSize=1048576", "--set", "dataCoord.segment.maxSize=1",
        "--set", "dataCoord.segment.sealProportion=0.2", "--set", "dataCoord.gc.interval=1",
        "--set", "indexCoord.segment.minSegmentNumRowsToEnableIndex=50",
        "--set", "common.retentionDuration=1"]
ROWS = 1200  # of 64 dimensions: three batches fill a log file


class World:
    def __init__(self, seed):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="fault-"))
        self.server = Server(ARGS, data=self.folder / "data")
        self.main = Space("main", dim=64, own=False, seed=seed, index="IVF_FLAT")
        self.own = Space("own", dim=64, seed=seed + 1)
        self.spaces = [self.main, self.own]
        self.client = None

    def start(self, fault=None):
        self.server.env.pop("ELANUS_FAULT", None)
        if fault:
            self.server.env["ELANUS_FAULT"] = fault
        self.client = start(self.server)
        for s in self.spaces:
            s.client = self.client

    def acted(self, point):
        return f"fault: {point} acts" in self.server.said()

    def close(self, keep):
        if self.client:
            self.client.close()
        self.server.end()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def steps(self):
        """One cycle: every durable step happens at least once in it."""
        m, o = self.main, self.own
        yield lambda: m.insert(ROWS)
        yield lambda: m.delete(40)
        yield lambda: m.insert(ROWS)
        yield m.flush_wait
        yield lambda: m.upsert(30)
        yield lambda: m.insert(ROWS)
        yield lambda: m.delete_by_filter(400)
        yield m.flush_wait
        if o.exists is False:
            yield o.create
        if o.exists:
            yield o.create_partition
            yield lambda: o.insert(50)
            yield lambda: o.insert(50)
            yield o.flush_wait
            yield lambda: o.delete(5)
            yield o.flush_wait
            yield o.drop_partition
            yield o.load
            yield lambda: o.insert(20)
            yield o.drop

    def check(self, settle=True):
        wrong = []
        for s in self.spaces:
            wrong += s.check(settle)
        return wrong

    def prepare(self):
        """Rows in files and rows in the log, so that the first start under fault has work."""
        self.start()
        self.main.create()
        self.main.insert(300)
        self.main.flush_wait()
        self.main.insert(300)
        self.main.delete(20)
        self.server.kill()
        self.client.close()

    def restart_and_check(self):
        if self.server.alive():
            self.server.stop()
        if self.client:
            self.client.close()
        self.start()
        expect(self.check(), "after the restart")
        expect(folder_faults(self.server.data), "after the restart")
        for step in self.steps():  # and all of it works
            step()
        expect(self.check(), "after more work")
        expect(folder_faults(self.server.data), "after more work")


def died(world):
    """The connection broke: waits for the end of the process."""
    code = world.server.process.wait(20)
    if code != -signal.SIGKILL:
        raise AssertionError(f"ended with {code}\n{world.server.tail()}")


def kill_at(world, point, nth):
    try:
        world.start(f"{point}:kill:{nth}")
        for _ in range(4 + 2 * nth):
            for step in world.steps():
                step()
        # The last step may be one of the background, after its call was answered.
        for _ in range(100):
            world.server.process.poll()
            world.main.insert(1)
            if not world.server.alive():
                break
        raise AssertionError(f"never reached a {nth}. time")
    except (Gone, ServerError):
        died(world)


def fail_at(world, point, action, nth):
    """What the calls answered."""
    said = []
    try:
        world.start(f"{point}:{action}:{nth}")
    except ServerError as e:
        if world.server.process.returncode != 1 or "not started: " not in str(e) or \
                f"fault point {point}" not in str(e):
            raise
        return ["not started"]
    for _ in range(4 + 2 * nth):
        for step in world.steps():
            try:
                step()
            except Refused as e:
                said.append(e)
        if world.acted(point):
            break
    if not world.acted(point):
        raise AssertionError(f"never reached a {nth}. time")
    for e in said:
        if not e.reason or not isinstance(e.code, int):
            raise AssertionError(f"not a clear error: {e}")
    expect(world.check(settle=False), "with the server still up")
    if world.main.loaded is not True:
        raise AssertionError("the collection is not loaded any more")
    return [str(e) for e in said]


def run(point, action, nth, keep):
    world = World(nth)
    good = False
    try:
        world.prepare()
        if point == "gc_before_delete" and nth == 1:
            kill_at(world, "flush_before_commit", 1)  # leaves orphans for the start to remove
        if action == "kill":
            kill_at(world, point, nth)
            said = []
        else:
            said = fail_at(world, point, action, nth)
        world.restart_and_check()
        good = True
        return said[0][:110] + (f" (and {len(said) - 1} more)" if len(said) > 1 else "") if said \
            else None
    finally:
        world.close(keep or (not good and keep is not None))


def main():
    ap = argparse.ArgumentParser(description=__doc__,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--only", help="cases whose name has this word")
    ap.add_argument("--nth", default="1,5", help="which passages of a point act")
    ap.add_argument("--keep", action="store_true", help="keep the folders of failed cases")
    a = ap.parse_args()
    if not has_faults():
        print(f"{binary()} has no fault points: build with -Dfaults=true")
        return 1
    report = Report(a.only)
    for point in POINTS:
        for action in ("kill", "error", "nospace"):
            for nth in map(int, a.nth.split(",")):
                report.case(f"{point}:{action}:{nth}", run, point, action, nth,
                            False if a.keep else None)
    return report.end()


if __name__ == "__main__":
    sys.exit(main())
