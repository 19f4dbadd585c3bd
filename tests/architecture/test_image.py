"""The images hold what their programs need: what the Dockerfile copies, and nothing else, is enough to run them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "deploy" / "docker" / "Dockerfile").read_text()
SERVICES = sorted(
    str(path.parent.relative_to(ROOT / "services")) for path in (ROOT / "services").glob("*/**/__main__.py")
)


def stage(name: str) -> str:
    """Returns the instructions of a stage."""
    found = re.search(rf"^FROM \S+ AS {name}\n(.*?)(?=^FROM |\Z)", DOCKERFILE, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1]


def assembled(folder: Path, *stages: str, service: str = "") -> Path:
    """Copies into a folder what these stages copy from the repository."""
    for name in stages:
        for line in re.findall(r"^COPY (?!--)(.+)$", stage(name), re.MULTILINE):
            *sources, target = line.replace("${SERVICE}", service).split()
            for source in sources:
                to = folder / target if (ROOT / source).is_dir() else folder / target / Path(source).name
                to.parent.mkdir(parents=True, exist_ok=True)
                if (ROOT / source).is_dir():
                    shutil.copytree(ROOT / source, to, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
                else:
                    shutil.copy(ROOT / source, to)
    return folder


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    # -S, because the packages' own folder also leads to the checkout.
    path = f"{folder}:{folder}/libs/gen:{sysconfig.get_path('purelib')}"
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": path, **environment}
    return subprocess.run(
        [sys.executable, "-S", "-m", *arguments],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_asks_for_its_settings(service: str, tmp_path: Path) -> None:
    folder = assembled(tmp_path, "packages", "base", "service", service=service)

    ended = run(folder, "services", SERVICE=service)

    assert ended.returncode == os.EX_CONFIG, ended.stderr
    assert "TLS_DIR" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("service", ["", "none", "../tests", "workers"])
def test_what_is_no_service_is_not_run(service: str, tmp_path: Path) -> None:
    ended = run(assembled(tmp_path, "packages", "base"), "services", SERVICE=service)

    assert ended.returncode == 1
    assert "SERVICE must name the folder of a service" in ended.stderr
