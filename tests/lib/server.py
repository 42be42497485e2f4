"""Starts, kills, restarts and stops a standalone server for tests and benchmarks in Python.

    with Server() as sv:
        client = MilvusClient(sv.uri)

The binary is $ELANUS_BIN, or build/release/elanus of this tree; words of $ELANUS_ARGS follow the
arguments given here. A folder that the caller names with `data` stays; one made here goes with the
server, unless $ELANUS_KEEP is set. Standard error of the server is kept in <data>.log, to which
every start appends, and its last lines are part of every exception raised here.
"""
import atexit
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
READY = re.compile(r"ready: .*\bport=(\d+) management=(\d+)")
START_SECONDS = 60
STOP_SECONDS = 30


class ServerError(Exception):
    """The server did not start, did not stop, or died; the message ends with its last words."""


def binary():
    return os.environ.get("ELANUS_BIN") or str(ROOT / "build" / "release" / "elanus")


class Server:
    def __init__(self, args=(), data=None, port=0, management=0, env=None):
        self.args = list(args) + shlex.split(os.environ.get("ELANUS_ARGS", ""))
        self.own_data = data is None
        self.data = pathlib.Path(data or tempfile.mkdtemp(prefix="elanus-test-"))
        self.log = self.data.with_name(self.data.name + ".log")
        self.port, self.management = port, management
        self.env = {**os.environ, **(env or {})}
        self.process = None
        atexit.register(self.end)

    def __enter__(self):
        if self.process is None:
            self.start()
        return self

    def __exit__(self, *exc):
        try:
            if self.alive():
                self.stop()
        finally:
            self.end()
            self.remove()
            atexit.unregister(self.end)

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def uri(self):
        return f"http://{self.address}"

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def start(self, timeout=START_SECONDS):
        """Returns when the server says that it is ready. A restart keeps its ports."""
        assert not self.alive()
        command = [binary(), "run", "standalone", "--data", str(self.data), "--address",
                   "127.0.0.1", "--port", str(self.port), "--management-port",
                   str(self.management), *self.args]
        seen = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=self.env)
        deadline = time.monotonic() + timeout
        while True:
            found = READY.search(self.said(seen))
            if found:
                self.port, self.management = int(found[1]), int(found[2])
                return self
            if not self.alive():
                raise ServerError(f"the server ended with {self.process.returncode} while "
                                  f"starting: {' '.join(command)}\n{self.tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"not ready after {timeout} s: {' '.join(command)}\n{self.tail()}")
            time.sleep(0.01)

    def kill(self):
        """SIGKILL: nothing is flushed, nothing is said."""
        self.process.kill()
        self.process.wait()

    def end(self):
        """Whatever happened to the test, no server outlives its process."""
        if self.alive():
            self.kill()

    def stop(self, timeout=STOP_SECONDS):
        """SIGTERM; the server must drain and end with status 0."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ServerError(f"still running {timeout} s after SIGTERM\n{self.tail()}") from None
        if code != 0:
            raise ServerError(f"ended with {code} after SIGTERM\n{self.tail()}")

    def restart(self, kill=False):
        if self.alive():
            self.kill() if kill else self.stop()
        return self.start()

    def said(self, start=0):
        if not self.log.exists():
            return ""
        with open(self.log, "rb") as log:
            log.seek(start)
            return log.read().decode("utf-8", "replace")

    def tail(self, lines=30):
        return "\n".join(self.said().splitlines()[-lines:])

    def remove(self):
        if self.own_data and not os.environ.get("ELANUS_KEEP"):
            shutil.rmtree(self.data, ignore_errors=True)
            self.log.unlink(missing_ok=True)
