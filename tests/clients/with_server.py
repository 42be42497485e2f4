#!/usr/bin/env python3
"""Runs a command beside a standalone server of its own: with_server.py COMMAND [WORD...]

The command finds the server at $ELANUS_ADDRESS (host:port). Ends with the command's exit code, and
shows the server's last words when that is not 0. A server that does not start or stop as it should
is one failure. Binary and options as in tests/lib/server.py.
"""
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))

from server import Server, ServerError  # noqa: E402


def main():
    try:
        with Server() as sv:
            code = subprocess.call(sys.argv[1:], env={**os.environ, "ELANUS_ADDRESS": sv.address})
            if not sv.alive():
                code = code or 1
                print("the server is gone", file=sys.stderr)
            if code != 0:
                print(f"the server's last words:\n{sv.tail()}", file=sys.stderr)
            return code
    except ServerError as e:
        print(e, file=sys.stderr)
        print("0 passed, 1 failed")
        return 1


if __name__ == "__main__":
    sys.exit(main())
