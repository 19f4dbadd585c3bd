"""Starts the programs that tests need, tied to the test process: they die with it, however that ends."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.local import tether


def start_tethered(
    folder: Path, argv: Sequence[object], *, on_orphaned: str, as_owner_of: Path | None = None
) -> subprocess.Popen[bytes]:
    """Starts a program whose output goes to the file `log` of a folder.

    It gets the signal `on_orphaned` when this process dies. With `as_owner_of` it works in that folder instead, and is
    not run as root but as that folder's owner.
    """
    specification = {
        "argv": [str(argument) for argument in argv],
        "env": {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"},
        "cwd": str(as_owner_of or folder),
        "on_orphaned": on_orphaned,
        "lock": str(folder / "lock"),
        "leave_root": as_owner_of is not None,
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
