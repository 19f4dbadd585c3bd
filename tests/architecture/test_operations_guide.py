"""What the pages for operators name is there: settings, commands, metrics, alerts, files and sections."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from deploy import settings_reference

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*(DOCS / "operations").glob("*.md"), DOCS / "compose.md", DOCS / "kubernetes.md", DOCS / "runbooks.md"])

SETTING = re.compile(r"\b((?:AUTH|KEY_VAULT|PROVIDER_ROUTER|ANALYTICS|WORKER)_[A-Z0-9_]*[A-Z0-9])\b")
KNOWN_SETTINGS = set(re.findall(r"^#?([A-Z0-9_]+)=", settings_reference.settings_reference(), re.MULTILINE))
MODULE = re.compile(r"\bpython -m ((?:services|deploy|libs|tests)[a-z0-9_.]*)")
# As code; the word is also an English one.
TARGET = re.compile(r"(?:`|^)make ([a-z][a-z-]*)", re.MULTILINE)
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
METRIC = re.compile(r"\brealmultillm_[a-z0-9_]+")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def page(path: Path) -> str:
    """Names the tests of a page."""
    return str(path.relative_to(DOCS))


@pytest.fixture(params=PAGES, ids=page)
def path(request: pytest.FixtureRequest) -> Path:
    """A page for operators."""
    found: Path = request.param
    return found


@pytest.fixture
def text(path: Path) -> str:
    """What stands on it."""
    return path.read_text()


def anchors(path: Path) -> set[str]:
    """Returns the names by which the sections of a page are linked to, as GitHub makes them."""
    headings = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading) for heading in HEADING.findall(path.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


def test_there_are_pages_and_all_are_in_the_index() -> None:
    index = (DOCS / "operations" / "README.md").read_text()

    linked = {(DOCS / "operations" / link.partition("#")[0]).resolve() for link in LINK.findall(index)}

    assert {path for path in PAGES if path.name != "README.md"} <= linked


def test_settings_are_settings(text: str) -> None:
    named = {name.removesuffix("_FILE") for name in SETTING.findall(text)}

    assert named - KNOWN_SETTINGS == set()


def test_modules_can_be_run(text: str) -> None:
    assert [name for name in MODULE.findall(text) if find_spec(name) is None] == []


def test_targets_of_make_are_there(text: str) -> None:
    assert set(TARGET.findall(text)) - TARGETS == set()


def test_metrics_are_documented(path: Path, text: str) -> None:
    observability = (DOCS / "observability.md").read_text()
    # Of one thing the table names the first metric in full: `realmultillm_outbox_records`, `…_bytes`.
    endings = tuple(re.findall(r"`…(_[a-z0-9_]+)", observability))

    unknown = [name for name in METRIC.findall(text) if name not in observability and not name.endswith(endings)]

    assert unknown == []


def test_links_lead_somewhere(path: Path, text: str) -> None:
    broken = []
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []
