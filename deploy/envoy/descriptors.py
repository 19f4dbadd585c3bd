"""Builds the descriptor set from which Envoy knows the methods, their HTTP bindings and the error details.

`python -m deploy.envoy.descriptors OUT`
"""

from __future__ import annotations

import argparse
from pathlib import Path

from proto.generate import compile_protos

# No proto of the platform imports the types that error details are packed from, yet Envoy must know them to
# write them as JSON.
_ERROR_DETAILS = "google/rpc/error_details.proto"


def build(target: Path) -> None:
    """Writes all protos of the platform and everything they import. Raises RuntimeError when protoc fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    compile_protos("--include_imports", f"--descriptor_set_out={target}", _ERROR_DETAILS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="file to write")
    build(parser.parse_args().out)


if __name__ == "__main__":
    main()
