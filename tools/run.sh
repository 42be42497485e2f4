#!/usr/bin/env bash
# Starts a standalone server and says how to talk to it.
set -euo pipefail
cd "$(dirname "$0")/.."
cat <<'TEXT'

Elanus listens on 127.0.0.1:19530. In another terminal, with `pip install pymilvus`:

    from pymilvus import MilvusClient
    c = MilvusClient("http://127.0.0.1:19530")
    c.create_collection("demo", dimension=4)
    c.insert("demo", [{"id": i, "vector": [i, 1, 2, 3], "colour": "red" if i % 2 else "blue"} for i in range(100)])
    print(c.search("demo", data=[[5, 1, 2, 3]], filter='colour == "red"', limit=3, output_fields=["colour"]))

Health and metrics: http://127.0.0.1:9091/healthz, /metrics. Ctrl-C stops the server; data stays.

TEXT
exec build/release/elanus run standalone "$@"
