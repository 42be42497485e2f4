#!/usr/bin/env python3
"""Runs a command beside a fresh server: ELANUS_ADDRESS=host:port COMMAND...; its status is ours."""
import os
import subprocess
import sys

from server import Server

if __name__ == "__main__":
    with Server() as sv:
        env = {**os.environ, "ELANUS_ADDRESS": sv.address}
        sys.exit(subprocess.run(sys.argv[1:], env=env, check=False).returncode)
