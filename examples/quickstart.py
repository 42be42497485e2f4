#!/usr/bin/env python3
"""The README's example, with a few more everyday calls. Needs a running server and pymilvus.

    make run                                # in one terminal
    pip install pymilvus
    python examples/quickstart.py [URI]     # in another; http://127.0.0.1:19530 if not given
"""
import sys

from pymilvus import MilvusClient

c = MilvusClient(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:19530")
c.drop_collection("demo")

# A collection with a key, a vector of four numbers, and any further keys that rows bring along.
c.create_collection("demo", dimension=4, consistency_level="Strong")
c.insert("demo", [{"id": i, "vector": [i, 1, 2, 3], "colour": "red" if i % 2 else "blue"}
                  for i in range(100)])

# The nearest three of the red ones.
for hit in c.search("demo", data=[[5, 1, 2, 3]], filter='colour == "red"', limit=3,
                    output_fields=["colour"])[0]:
    print(hit["id"], round(hit["distance"], 4), hit["entity"]["colour"])

# Rows by filter, replaced, deleted, counted.
print(c.query("demo", filter="id in [7, 8]", output_fields=["colour"]))
c.upsert("demo", [{"id": 7, "vector": [7, 7, 7, 7], "colour": "green"}])
c.delete("demo", filter='colour == "blue"')
print(c.query("demo", filter='colour == "green"', output_fields=["vector"]))
print(c.query("demo", output_fields=["count(*)"])[0]["count(*)"], "rows are left")
