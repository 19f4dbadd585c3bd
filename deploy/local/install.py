"""Makes `.venv` as the lock files say. Runs with the system's Python and needs nothing but its standard library.

uv installs in a few seconds what takes pip half a minute, but does not read pip's configuration; what that says of
indexes is handed on, and should uv still fail, pip does the work.
"""

import ast
import hashlib
import json
import os
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
_VENV = ROOT / ".venv"
_STAMP = _VENV / "installed.json"
_BOOTSTRAP = ROOT / "requirements" / "bootstrap.txt"
_LOCKED = ROOT / "requirements" / "dev.txt"
# Folders that hold importable packages, from the root.
_IMPORT_ROOTS = (".", "libs/gen")

# pip's settings, and the variables by which uv is told the same.
_SAME_SETTING = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
}


def main() -> None:
    """Brings `.venv` up to date; does nothing when it is."""
    wanted = {
        "python": sys.version,
        "requirements": {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (_BOOTSTRAP, _LOCKED)
        },
    }  # fmt: skip
    if _installed() == wanted:
        _STAMP.touch()
        return
    begun = time.monotonic()
    if _installed().get("python") != sys.version or not (_VENV / "bin" / "python").exists():
        print(f"Creating .venv with Python {sys.version.split()[0]} …", flush=True)
        venv.create(_VENV, clear=True, with_pip=True, symlinks=True)
    print("Installing the locked packages into .venv (about 250 MB to download on first use) …", flush=True)
    _install()
    _write_import_roots()
    _STAMP.write_text(json.dumps(wanted, indent=2))
    print(f"Installed in {time.monotonic() - begun:.0f} s.", flush=True)


def _installed() -> dict[str, object]:
    try:
        stamp: dict[str, object] = json.loads(_STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp


def _install() -> None:
    pip = [str(_VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    from_lock = ["--require-hashes", "-r", str(_LOCKED)]
    subprocess.run([*pip, "install", "--quiet", "--require-hashes", "-r", str(_BOOTSTRAP)], check=True)
    uv = [str(_VENV / "bin" / "uv"), "pip", "install", *from_lock]
    environment = {**_pip_configuration(pip), **os.environ, "VIRTUAL_ENV": str(_VENV)}
    if subprocess.run(uv, env=environment).returncode != 0:
        print("uv could not install them; pip tries, which takes longer …", flush=True)
        subprocess.run([*pip, "install", *from_lock], check=True)


def _pip_configuration(pip: list[str]) -> dict[str, str]:
    """Returns what pip's files and variables say of indexes, as variables for uv; variables win over files."""
    listed = subprocess.run([*pip, "config", "list"], capture_output=True, text=True, check=True).stdout
    # Like pip, which takes the best match of all indexes; the hashes say what is acceptable.
    found = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    # Lines like `global.index-url='https://…'` and, for variables, `:env:.index-url='https://…'`.
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        name, _, value = line.partition("=")
        variable = _SAME_SETTING.get(name.rpartition(".")[2])
        if variable and name.startswith(("global.", "install.", ":env:")):
            separator = "," if variable == "UV_FIND_LINKS" else " "
            found[variable] = separator.join(str(ast.literal_eval(value)).split())
    return found


def _write_import_roots() -> None:
    (site_packages,) = _VENV.glob("lib/python3*/site-packages")
    # Relative, so that a moved checkout still finds its own code.
    lines = [os.path.relpath(ROOT / folder, site_packages) for folder in _IMPORT_ROOTS]
    (site_packages / "realmultillm.pth").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"The packages could not be installed (exit code {error.returncode}); the reason is above.")
    except KeyboardInterrupt:
        sys.exit(130)
