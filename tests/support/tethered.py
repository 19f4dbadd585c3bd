"""Starts the programs that tests need, tied to the test process: they die with it, however that ends."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.local import tether


def start_tethered(
    folder: Path, argv: Sequence[object], *, on_orphaned: str, leave_root: bool = False
) -> subprocess.Popen[bytes]:
    """Starts a program in a folder, where its output goes to the file `log`.

    It gets the signal `on_orphaned` when this process dies, and is not run as root with `leave_root`.
    """
    specification = {
        "argv": [str(argument) for argument in argv],
        "env": {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"},
        "cwd": str(folder),
        "on_orphaned": on_orphaned,
        "lock": str(folder / "lock"),
        "leave_root": leave_root,
    }
    path = folder / "tether.json"
    path.write_text(json.dumps(specification))
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", tether.__file__, path],
            env={"TETHERED_TO": str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
