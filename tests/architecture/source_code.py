"""The source code of the platform, for rules about it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Module:
    """One file. `name` is what it is imported as, `path` is relative to the root."""

    name: str
    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        return _parse(self.path)

    def imports(self) -> Iterator[str]:
        """Lists what the module imports, also inside functions; `a.b.c` for `from a.b import c`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}: relative import"
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def uses(self, dotted: str) -> int:
        """Counts the places where an expression such as `os.environ` stands, however it is wrapped."""
        return sum(
            isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node) == dotted for node in ast.walk(self.tree)
        )


@cache
def _parse(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), path)


@cache
def modules(*folders: str) -> tuple[Module, ...]:
    """Lists the modules below folders of the root, generated ones excepted."""
    found = []
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            path = file.relative_to(ROOT)
            if path.parts[:2] != ("libs", "gen"):
                name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
                found.append(Module(name, str(path), file.read_text()))
    assert found
    return tuple(found)
