"""Which tests get a second chance."""

from __future__ import annotations

import pytest

from tests.__main__ import may_be_by_chance


@pytest.mark.parametrize(
    ("failed", "again"),
    [
        (["tests/e2e/test_history.py::test_a", "tests/e2e/test_history.py::test_b"], True),
        ([f"tests/reliability/test_{n}.py::test" for n in "abc"], True),
        ([f"tests/reliability/test_{n}.py::test" for n in "abcd"], False),
        (["tests/integration/envoy/test_tracing.py::test", "tests/unit/test_tokens.py::test"], False),
        (["tests/contract/test_costs.py::test"], False),
        (["tests/architecture/test_imports.py::test"], False),
        ([], False),
    ],
)
def test_only_a_few_and_only_with_servers(failed: list[str], again: bool) -> None:
    assert may_be_by_chance(failed) is again
