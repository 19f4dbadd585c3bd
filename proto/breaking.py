"""Refuses what breaks the clients of the last release: compares the protos with those of its tag, `v1.2.3`, by buf."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

from proto.generate import PROTO, compile_protos

_RELEASE = re.compile(r"v(\d+)\.(\d+)\.(\d+)")
_BUF = Path(sys.executable).with_name("buf")


def last_release(repository: Path) -> str | None:
    """Returns the tag of the last release that what is checked out comes after; None when there is none yet.

    Raises RuntimeError where git cannot say.
    """
    tags = [tag for tag in _git(repository, "tag", "--merged", "HEAD").decode().split() if _RELEASE.fullmatch(tag)]
    return max(tags, key=_numbers, default=None)


def breaking_changes(proto: Path, release: str) -> str:
    """Returns what the protos in a folder of a git repository break of a release, a line for each; empty for nothing.

    Raises RuntimeError where they cannot be compared.
    """
    with tempfile.TemporaryDirectory() as scratch:
        before, now = Path(scratch) / "before", Path(scratch) / "now.binpb"
        archive = _git(proto, "archive", release, ".")
        with tarfile.open(fileobj=BytesIO(archive)) as files:
            files.extractall(before, filter="data")
        compile_protos("--include_imports", f"--descriptor_set_out={before}.binpb", folder=before)
        compile_protos("--include_imports", f"--descriptor_set_out={now}", folder=proto)
        command: list[str | Path] = [
            _BUF,
            "breaking",
            f"{now}#format=binpb",
            "--against",
            f"{before}.binpb#format=binpb",
        ]
        command += ["--config", PROTO / "buf.yaml", "--exclude-imports"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    # 100 is how it says that it has found something.
    if done.returncode not in (0, 100):
        raise RuntimeError(f"buf could not compare the protos: {done.stderr or done.stdout}")
    return done.stdout if done.returncode else ""


def _numbers(tag: str) -> tuple[int, ...]:
    return tuple(map(int, tag.removeprefix("v").split(".")))


def _git(folder: Path, *arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"git {arguments[0]} failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def main() -> int:
    """Compares what is here with the last release; exit code 1 when it breaks something."""
    release = last_release(PROTO)
    if release is None:
        print("There is no release yet that the protos could break: no tag like v1.0.0.")
        return 0
    found = breaking_changes(PROTO, release)
    if found:
        print(f"This breaks clients of {release}; see proto/README.md for the way to change it:", file=sys.stderr)
        print(found, file=sys.stderr)
        return 1
    print(f"The protos break nothing of {release}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
