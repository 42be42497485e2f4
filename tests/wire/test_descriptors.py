"""Our .proto files against the descriptors inside the installed pymilvus.

Everything the client knows must be in ours, identically: messages, fields (number, name, type,
label, oneof, proto3 optional, map), enums and their values, methods and their types. Ours may have
more; elanus.* packages are not part of the public API and are left out. Not compared: options,
custom option extensions and comments, which never reach the wire.

Runs under pymilvus 3.0 and 2.6. A failure lists every difference on a line of its own, so that a
field which a release renamed or removed is seen as such.
"""
import importlib
import pathlib
import pkgutil
import shutil
import subprocess

import pytest

pymilvus = pytest.importorskip("pymilvus")
from google.protobuf import descriptor_pb2  # noqa: E402

SRC = pathlib.Path(__file__).resolve().parents[2] / "src" / "proto"
Field = descriptor_pb2.FieldDescriptorProto


def theirs():
    import pymilvus.grpc_gen as gen

    files = []
    for module in sorted(m.name for m in pkgutil.iter_modules(gen.__path__)):
        if module.endswith("_pb2"):
            fd = descriptor_pb2.FileDescriptorProto()
            importlib.import_module(f"pymilvus.grpc_gen.{module}").DESCRIPTOR.CopyToProto(fd)
            files.append(fd)
    return files


def ours(tmp):
    compiler = shutil.which("protoc") or shutil.which("protoc-c")  # either writes descriptor sets
    assert compiler, "neither protoc nor protoc-c is installed"
    protos = sorted(p.name for p in SRC.glob("*.proto") if "package elanus." not in p.read_text())
    out = tmp / "ours.descset"
    subprocess.run([compiler, f"-I{SRC}", "--include_imports", f"--descriptor_set_out={out}",
                    *protos], check=True)
    return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file


def facts_of_field(field, oneofs):
    in_oneof = field.HasField("oneof_index") and not field.proto3_optional
    packed = field.options.packed if field.options.HasField("packed") else True
    return (field.name, Field.Type.Name(field.type), Field.Label.Name(field.label), field.type_name,
            oneofs[field.oneof_index].name if in_oneof else "", field.proto3_optional, packed)


def facts(files):
    """{(kind, full name): what must be equal}"""
    found = {}

    def enum(e, prefix):
        for value in e.value:
            found["enum value", f"{prefix}{e.name}.{value.name}"] = value.number
        found["enum", prefix + e.name] = True

    def message(m, prefix):
        name = prefix + m.name
        found["message", name] = m.options.map_entry
        for field in m.field:
            found["field", f"{name}.{field.number}"] = facts_of_field(field, m.oneof_decl)
        for oneof in m.oneof_decl:
            found["oneof", f"{name}.{oneof.name}"] = True
        for nested in m.nested_type:
            message(nested, name + ".")
        for e in m.enum_type:
            enum(e, name + ".")

    for fd in files:
        if not fd.package.startswith("milvus."):
            continue
        prefix = f".{fd.package}."
        found["file", fd.name] = (fd.package, fd.syntax)
        for m in fd.message_type:
            message(m, prefix)
        for e in fd.enum_type:
            enum(e, prefix)
        for service in fd.service:
            found["service", prefix + service.name] = True
            for x in service.method:
                found["method", f"{prefix}{service.name}/{x.name}"] = (
                    x.input_type, x.output_type, x.client_streaming, x.server_streaming)
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    return facts(ours(tmp_path_factory.mktemp("descriptors"))), facts(theirs())


def test_everything_the_client_knows_is_in_ours(both, capsys):
    mine, client = both
    kinds = sorted({kind for kind, _ in client})
    counts = {k: sum(kind == k for kind, _ in client) for k in kinds}
    more = {k: sum(key[0] == k and key not in client for key in mine) for k in kinds}
    with capsys.disabled():
        print(f"\npymilvus {pymilvus.__version__}: "
              + ", ".join(f"{counts[k]} {k}s (ours has {more[k]} more)" for k in kinds))
    assert counts["message"] > 250 and counts["method"] > 110  # the comparison saw something
    wrong = []
    for key, value in sorted(client.items()):
        if key not in mine:
            wrong.append(f"{key[0]} {key[1]} is missing: {value}")
        elif mine[key] != value:
            wrong.append(f"{key[0]} {key[1]}: client {value}, ours {mine[key]}")
    assert not wrong, "\n".join(wrong)


def test_comparison_sees_a_changed_field(both):
    """The comparison itself must be able to fail."""
    mine, _ = both
    key = ("field", ".milvus.proto.milvus.SearchRequest.6")
    assert mine[key][:2] == ("placeholder_group", "TYPE_BYTES") and mine[key][4] == "search_input"
    assert mine["field", ".milvus.proto.milvus.InsertRequest.9"][5] is True
