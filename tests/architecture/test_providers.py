"""A provider is a row of the catalogue and, where it has an API of its own, a worker. Nothing else knows of it."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from libs.provider_catalog import GENERIC_WORKER, load_catalog
from tests.architecture.source_code import ROOT, Module, modules

CATALOG = load_catalog()
WORKERS = ROOT / "services" / "workers"


def packages() -> set[str]:
    """Returns the workers there are."""
    return {main.parent.name for main in WORKERS.glob("*/__main__.py")}


def package_of(module: Module) -> str:
    """Returns the worker a module belongs to, empty for other modules."""
    path = Path(module.path)
    return path.parts[2] if path.is_relative_to("services/workers") and len(path.parts) > 3 else ""


def texts(module: Module) -> Iterator[str]:
    """Yields every text in a module that the code can see; what is written for readers only is left out."""
    prose = {
        id(node.value) for node in ast.walk(module.tree) if isinstance(node, ast.Expr)
    }  # docstrings, of attributes too
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def names(module: Module, providers: set[str]) -> set[str]:
    """Returns those of the providers that a module names: as a word, not as a part of a model, a URL or a field."""
    return {
        provider
        for provider in providers
        for text in texts(module)
        if re.search(rf"(?<![\w./-])(worker-)?{re.escape(provider)}(?![\w/-]|\.\w)", text)
    }


class TestCatalog:
    @pytest.mark.parametrize("provider", CATALOG)
    def test_every_provider_has_a_worker(self, provider: str) -> None:
        assert CATALOG[provider].worker in packages()

    @pytest.mark.parametrize("package", sorted(packages() - {GENERIC_WORKER}))
    def test_every_worker_has_a_provider_that_it_agrees_with(self, package: str) -> None:
        (provider,) = [provider for provider in CATALOG.values() if provider.worker == package]
        adapter = import_module(f"services.workers.{package}.adapter").ADAPTER
        assert (adapter.provider, adapter.display_name) == (provider.id, provider.name)
        assert adapter.endpoint == provider.endpoint

    def test_the_generic_worker_is_there(self) -> None:
        assert GENERIC_WORKER in packages()


class TestIndependence:
    @pytest.mark.parametrize("module", [each for each in modules("services") if package_of(each)], ids=lambda m: m.name)
    def test_a_worker_knows_no_other_worker_and_no_other_provider(self, module: Module) -> None:
        own = package_of(module)
        imported = {name.split(".")[2] for name in module.imports() if name.startswith("services.workers.")}
        assert imported <= {own}
        others = {provider.id for provider in CATALOG.values() if provider.worker != own}
        assert names(module, others) == set()

    @pytest.mark.parametrize(
        "module",
        [
            each
            for each in modules("libs", "services", "deploy/envoy")
            # The one table of names that others have for some providers; a provider that is not there keeps its own.
            if not package_of(each) and each.name != "libs.worker.gen_ai_names"
        ],
        ids=lambda m: m.name,
    )
    def test_nothing_else_knows_any_provider(self, module: Module) -> None:
        assert names(module, set(CATALOG)) == set()

    @pytest.mark.parametrize(
        ("line", "found"),
        [
            ("PROVIDER = 'grok'", True),
            ("service = 'worker-grok'", True),
            ("message = 'ask nobody or grok.'", True),
            ("table = {'a': ['grok']}", True),
            ("'''Speaks like grok.'''", False),
            ("model = 'grok-4.6'", False),
            ("model = 'x-ai/grok'", False),
            ("url = 'https://grok.example'", False),
            ("field = 'grok_4'", False),
        ],
    )
    def test_a_provider_that_is_named_is_found(self, tmp_path: Path, line: str, found: bool) -> None:
        (tmp_path / "module.py").write_text(line)
        module = Module("module", str(tmp_path / "module.py"), line)
        assert (names(module, {"grok"}) == {"grok"}) is found
