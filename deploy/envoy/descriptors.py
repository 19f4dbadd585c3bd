"""Builds the descriptor set from which Envoy knows the methods, their HTTP bindings and the error details.

`python -m deploy.envoy.descriptors OUT`
"""

from __future__ import annotations

import argparse
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorSet

from proto.generate import compile_protos

# No proto of the platform imports the types that error details are packed from, yet Envoy must know them to
# write them as JSON.
_ERROR_DETAILS = "google/rpc/error_details.proto"

# A JsonObject is a Struct on the wire; Envoy writes the JSON object it is only for the one it knows by name.
_KEEPS_ORDER = ".realmultillm.chat.v1.JsonObject"
_KNOWN_TO_ENVOY = ".google.protobuf.Struct"
_STRUCT = "google/protobuf/struct.proto"


def build(target: Path) -> None:
    """Writes all protos of the platform and everything they import. Raises RuntimeError when protoc fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    compile_protos("--include_imports", f"--descriptor_set_out={target}", _ERROR_DETAILS)
    descriptors = FileDescriptorSet.FromString(target.read_bytes())
    for file in descriptors.file:
        # A list comprehension, since `any` would stop at the first.
        shown = [_show_json_objects(message) for message in file.message_type]
        if any(shown) and _STRUCT not in file.dependency:
            file.dependency.append(_STRUCT)
    target.write_bytes(descriptors.SerializeToString())


def _show_json_objects(message: DescriptorProto) -> bool:
    """Gives the fields of a message that hold JSON objects the type Envoy knows; tells whether there are any."""
    found = [_show_json_objects(nested) for nested in message.nested_type]
    for field in message.field:
        if field.type_name == _KEEPS_ORDER:
            field.type_name = _KNOWN_TO_ENVOY
            found.append(True)
    return any(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="file to write")
    build(parser.parse_args().out)


if __name__ == "__main__":
    main()
