"""The images hold what their programs need: what the Dockerfile copies, and nothing else, is enough to run them."""

from __future__ import annotations

import json
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
    folder = assembled(tmp_path, "packages", "service", service=service)

    ended = run(folder, "services", SERVICE=service)

    assert ended.returncode == os.EX_CONFIG, ended.stderr
    assert "TLS_DIR" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("service", ["", "none", "../tests", "workers"])
def test_what_is_no_service_is_not_run(service: str, tmp_path: Path) -> None:
    ended = run(assembled(tmp_path, "packages", "service", service="auth"), "services", SERVICE=service)

    assert ended.returncode == 1
    assert "SERVICE must name the folder of a service" in ended.stderr


class TestBillOfMaterials:
    @pytest.mark.parametrize("packages", ["runtime", "jobs"])
    def test_it_names_all_that_is_installed(self, packages: str, tmp_path: Path) -> None:
        locked = ROOT / "requirements" / f"{packages}.txt"
        target = tmp_path / "bill.json"

        # As `make sbom` does.
        options = ["--pyproject", str(ROOT / "pyproject.toml"), "--output-reproducible", "-o", str(target)]
        made = subprocess.run(
            [sys.executable, "-m", "cyclonedx_py", "requirements", str(locked), *options],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

        assert made.returncode == 0, made.stderr
        bill = json.loads(target.read_text())
        assert bill["bomFormat"] == "CycloneDX"
        named = {(component["name"], component["version"]) for component in bill["components"]}
        assert named == set(re.findall(r"^([a-z0-9._-]+)(?:\[[a-z,]+])?==([^ ;]+)", locked.read_text(), re.MULTILINE))
        # A package without a hash could be replaced by whoever serves it.
        assert all(component["externalReferences"][0]["hashes"] for component in bill["components"])


class TestStages:
    @pytest.mark.parametrize("name", ["service", "jobs"])
    def test_what_runs_is_not_root(self, name: str) -> None:
        assert re.findall(r"^USER (.+)$", stage(name), re.MULTILINE) == ["10001:10001"]

    @pytest.mark.parametrize("name", ["service", "jobs", "base"])
    def test_no_compiler_comes_along(self, name: str) -> None:
        assert "requirements" not in stage(name)
        assert "build.txt" not in "".join(map(stage, re.findall(r"--from=([\w-]+) /app", stage(name))))

    def test_compilers_are_in_no_image(self) -> None:
        for packages in ("runtime", "jobs"):
            assert "grpcio-tools" not in (ROOT / "requirements" / f"{packages}.txt").read_text()
        assert "grpcio-tools" in (ROOT / "requirements" / "build.txt").read_text()

    def test_jobs_hold_what_prepares_an_installation(self, tmp_path: Path) -> None:
        ended = run(assembled(tmp_path, "packages", "jobs"), "deploy.compose.prepare", "--files=none")

        assert ended.returncode == 1
        assert "descriptors.pb" in ended.stderr, "it is made in a stage of its own"
        assert "Traceback" not in ended.stderr
