"""Runs the service of an image: the environment variable SERVICE names its folder, like `auth` or `workers/openai`.

With REPLICAS_SHARE_VOLUME=true, the folder that …_DATA_DIR names is one of several replicas, and each gets a folder of
its own in it.
"""

from __future__ import annotations

import os
import runpy
import sys
from contextlib import ExitStack
from pathlib import Path

from libs.replica_folders import claimed


def main() -> None:
    folder = os.environ.get("SERVICE", "")
    if not (Path(__file__).parent / folder / "__main__.py").is_file() or not folder:
        sys.exit(f"SERVICE must name the folder of a service, like auth or workers/openai, not {folder!r}.")
    with ExitStack() as stack:
        shared = os.environ.get("REPLICAS_SHARE_VOLUME") or "false"
        if shared not in ("true", "false"):
            sys.exit(f"REPLICAS_SHARE_VOLUME must be true or false, not {shared!r}.")
        if shared == "true":
            for name in [name for name in os.environ if name.endswith("_DATA_DIR")]:
                os.environ[name] = str(stack.enter_context(claimed(Path(os.environ[name]))))
        runpy.run_module("services." + folder.replace("/", "."), run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
