"""Runs the service of an image: the environment variable SERVICE names its folder, like `auth` or `workers/openai`."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path


def main() -> None:
    folder = os.environ.get("SERVICE", "")
    if not (Path(__file__).parent / folder / "__main__.py").is_file() or not folder:
        sys.exit(f"SERVICE must name the folder of a service, like auth or workers/openai, not {folder!r}.")
    runpy.run_module("services." + folder.replace("/", "."), run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
