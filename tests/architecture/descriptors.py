"""Everything the protos say, options and comments included."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from google.api import annotations_pb2
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import Descriptor, FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from proto.generate import compile_protos, sources


def build(target: Path) -> None:
    """Writes the descriptor set of all protos, with their comments."""
    compile_protos("--include_source_info", "--include_imports", f"--descriptor_set_out={target}")


@cache
def protos() -> dict[str, FileDescriptorProto]:
    """Returns the platform's own files by name."""
    return {name: proto for name, proto in _all_protos().items() if name in sources()}


@cache
def _all_protos() -> dict[str, FileDescriptorProto]:
    with TemporaryDirectory() as folder:
        target = Path(folder) / "all.binpb"
        build(target)
        return {file.name: file for file in FileDescriptorSet.FromString(target.read_bytes()).file}


@cache
def files() -> tuple[FileDescriptor, ...]:
    """Returns the platform's own files, linked."""
    pool = descriptor_pool.DescriptorPool()
    for proto in _all_protos().values():
        pool.Add(proto)
    return tuple(pool.FindFileByName(name) for name in sources())


def services() -> list[ServiceDescriptor]:
    return [service for file in files() for service in file.services_by_name.values()]


def methods() -> list[MethodDescriptor]:
    return [method for service in services() for method in service.methods]


def messages() -> list[Descriptor]:
    """Lists all messages, nested ones included, maps' entries excepted."""
    found = [message for file in files() for message in file.message_types_by_name.values()]
    for message in found:
        found += [nested for nested in message.nested_types if not nested.GetOptions().map_entry]
    return found


def is_public(method: MethodDescriptor) -> bool:
    """Tells whether a method is offered over REST."""
    return bool(method.GetOptions().HasExtension(annotations_pb2.http))


def http_binding(method: MethodDescriptor) -> tuple[str, str]:
    """Returns verb and path that a method is offered under, both empty for one that is not."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    verb = rule.WhichOneof("pattern") or ""
    return verb.upper(), getattr(rule, verb) if verb else ""


def full_name(method: MethodDescriptor) -> str:
    """Returns the name gRPC and the access policies know a method by."""
    return f"/{method.containing_service.full_name}/{method.name}"


@cache
def comments() -> dict[str, str]:
    """Returns the leading comment of everything that has one, by full name."""
    found = {}
    for file in protos().values():
        for location in file.source_code_info.location:
            if location.leading_comments.strip():
                found[_name_at(file, tuple(location.path))] = location.leading_comments
    return found


def _name_at(file: FileDescriptorProto, path: tuple[int, ...]) -> str:
    """Follows a path of field numbers and indexes (see descriptor.proto) to the full name of what is there."""
    names, node = [file.package], file
    while len(path) >= 2:
        field = node.DESCRIPTOR.fields_by_number.get(path[0])
        if field is None or field.message_type is None:
            break
        member = getattr(node, field.name)
        node = member[path[1]] if field.is_repeated else member
        names.append(getattr(node, "name", str(path)))
        path = path[2:]
    return ".".join([*names, *map(str, path)])


def described() -> Iterator[str]:
    """Lists the full names of everything that must have a comment."""
    for service in services():
        yield service.full_name
        yield from (f"{service.full_name}.{method.name}" for method in service.methods)
    enums = [enum for file in files() for enum in file.enum_types_by_name.values()]
    for message in messages():
        yield message.full_name
        yield from (f"{message.full_name}.{field.name}" for field in message.fields)
        # An `optional` field is a oneof of its own that nobody wrote.
        yield from (f"{message.full_name}.{oneof.name}" for oneof in message.oneofs if not oneof.name.startswith("_"))
        enums += message.enum_types
    for enum in enums:
        yield enum.full_name
        yield from (f"{enum.full_name}.{value.name}" for value in enum.values)
