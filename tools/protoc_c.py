#!/usr/bin/env python3
"""Generate C from one .proto file with protoc-c.

protoc-c 1.4 refuses proto3 `optional`, and 1.5 gives such fields another C shape. So the compiler
sees a private copy of the sources in which

    optional string namespace = 9;      becomes     oneof has_namespace { string namespace = 9; }

which is the same on the wire (proto3 optional is defined as a oneof of one member) and gives every
version the same C: `m->has_namespace_case` is not 0 when the field is set. Optional messages only
lose the keyword: a pointer already says whether they are there.

The copy also carries protobuf-c's own options:
- the embedded ProtobufCMessage is called `pb`, because most messages have a field `base`, which is
  what it is called otherwise;
- no pack, unpack and free functions per message: proto/proto.h does that for all of them;
- strings are `const char *`: they point into arenas, literals or requests, and nobody edits them.

Descriptors for reflection and tests are made from the original files, never from the copy.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

SCALARS = ("double float int32 int64 uint32 uint64 sint32 sint64 fixed32 fixed64 sfixed32 sfixed64 "
           "bool string bytes").split()
OPTIONAL = re.compile(r"^(\s*)optional\s+([\w.]+)\s+(\w+)\s*=\s*(\d+)\s*(\[[^\]]*\])?\s*;", re.M)


# protobuf-c's options extend these; the real file is in a package that is otherwise not needed.
DESCRIPTOR = """syntax = "proto2";
package google.protobuf;
message FileOptions { extensions 1000 to max; }
message MessageOptions { optional bool map_entry = 7; extensions 1000 to max; }
message FieldOptions { optional bool packed = 2; extensions 1000 to max; }
"""
FILE_OPTIONS = """import "protobuf-c.proto";
option (pb_c_file).gen_pack_helpers = false;
option (pb_c_file).gen_init_helpers = true;
option (pb_c_file).const_strings = true;
"""


def with_options(text):
    text = re.sub(r"^(package [\w.]+;)$", lambda m: m.group(1) + "\n" + FILE_OPTIONS, text, 1, re.M)
    return re.sub(r"^(\s*message\s+\w+\s*\{)", r'\1 option (pb_c_msg).base_field_name = "pb";',
                  text, flags=re.M)


def without_optional(text, enums):
    def one(m):
        indent, kind, name, number, options = m.groups()
        field = f"{kind} {name} = {number}{' ' + options if options else ''};"
        if kind in SCALARS or kind.split(".")[-1] in enums:
            return f"{indent}oneof has_{name} {{ {field} }}"
        return indent + field

    return OPTIONAL.sub(one, text)


def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument("--protoc-c", required=True)
    ap.add_argument("--options", type=pathlib.Path, required=True,
                    help="the protobuf-c.proto that comes with protobuf-c")
    ap.add_argument("--src", type=pathlib.Path, required=True, help="folder of the .proto files")
    ap.add_argument("--out", type=pathlib.Path, required=True)
    ap.add_argument("proto", help="file name inside --src")
    args = ap.parse_args()
    texts = {p.name: p.read_text(encoding="utf-8") for p in sorted(args.src.glob("*.proto"))}
    enums = {e for t in texts.values() for e in re.findall(r"^\s*enum\s+(\w+)", t, re.M)}
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        (tmp / "google/protobuf").mkdir(parents=True)
        (tmp / "google/protobuf/descriptor.proto").write_text(DESCRIPTOR, encoding="utf-8")
        (tmp / "protobuf-c.proto").write_bytes(args.options.read_bytes())
        for name, text in texts.items():
            text = with_options(without_optional(text, enums))
            (tmp / name).write_text(text, encoding="utf-8")
        run = subprocess.run([args.protoc_c, f"-I{tmp}", f"--c_out={tmp}", args.proto])
        if run.returncode:
            return run.returncode
        stem = pathlib.Path(args.proto).stem
        for end in (".pb-c.h", ".pb-c.c"):
            text = (tmp / (stem + end)).read_text(encoding="utf-8")
            text = text.replace('#include "protobuf-c.pb-c.h"\n', "")
            (args.out / (stem + end)).write_text(text, encoding="utf-8")
        return 0


if __name__ == "__main__":
    sys.exit(main())
