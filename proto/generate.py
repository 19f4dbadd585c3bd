"""Generates the Python stubs of every proto into libs/gen. `--check` only compares and fails on a difference."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

import grpc_tools
from google.api import annotations_pb2
from grpc_tools import protoc

PROTO = Path(__file__).resolve().parent
GENERATED = PROTO.parent / "libs" / "gen"
# Where the imports of our protos come from: google/protobuf ships with grpcio-tools, google/api and
# google/rpc with googleapis-common-protos.
INCLUDES = (
    Path(grpc_tools.__file__).parent / "_proto",
    Path(annotations_pb2.__file__).parents[2],
)


def sources(folder: Path = PROTO) -> list[str]:
    """Lists the protos of the platform, relative to this folder or to one laid out like it."""
    return sorted(str(path.relative_to(folder)) for path in folder.glob("realmultillm/**/*.proto"))


def compile_protos(*outputs: str, folder: Path = PROTO) -> None:
    """Runs protoc over every proto, of another folder if told, with the given output options.

    Raises RuntimeError when it fails.
    """
    includes = [f"--proto_path={path}" for path in (folder, *INCLUDES)]
    if protoc.main(["protoc", *includes, *outputs, *sources(folder)]) != 0:
        raise RuntimeError("protoc failed; its message is above")


def generate(target: Path) -> None:
    """Writes messages, type stubs and services below `target`, with a package file in every folder."""
    target.mkdir(parents=True, exist_ok=True)
    compile_protos(f"--python_out={target}", f"--pyi_out={target}", f"--grpc_python_out={target}")
    for folder in [target / "realmultillm", *(target / "realmultillm").rglob("*/")]:
        (folder / "__init__.py").touch()


def contents(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text()
        for path in sorted(root.rglob("*.py*"))
        if "__pycache__" not in path.parts
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with what is committed, change nothing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh, committed = contents(Path(scratch)), contents(GENERATED)
        if check:
            stale = sorted(name for name in fresh.keys() | committed.keys() if fresh.get(name) != committed.get(name))
            if stale:
                print("The generated stubs are out of date; run `make proto`:", *stale, sep="\n  ", file=sys.stderr)
                return 1
            return 0
        shutil.rmtree(GENERATED, ignore_errors=True)
        shutil.copytree(scratch, GENERATED)
    print(f"Generated {len(fresh)} files from {len(sources())} protos into {GENERATED.name}/.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
