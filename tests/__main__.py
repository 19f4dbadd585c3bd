"""Runs all tests, and those again that failed beside others: `python -m tests [options of pytest]`.

Tests with real servers run three files at a time, on machines that do other things besides. What fails there and
passes on its own is a mistake as well, of the test or of what it tests, but another one than what fails always. So a
few are run a second time, one after the other: whoever fails twice has failed, and whoever passes is named, to be
mended.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

# What stands on nothing but itself fails always, or is not to be trusted at all.
_WITH_SERVERS = ("tests/integration/", "tests/e2e/", "tests/reliability/")
_MOST_FILES = 3


class Failures:
    """Plugin of pytest that keeps the names of the tests that fail."""

    def __init__(self) -> None:
        self.names: dict[str, None] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Is told how a test went."""
        if report.failed:
            self.names[report.nodeid] = None


def may_be_by_chance(names: Sequence[str]) -> bool:
    """Tells whether these tests may have failed because of what ran beside them."""
    files = {name.partition("::")[0] for name in names}
    return 0 < len(files) <= _MOST_FILES and all(file.startswith(_WITH_SERVERS) for file in files)


def main(options: Sequence[str]) -> int:
    """Runs the tests and returns pytest's exit code."""
    failures = Failures()
    code = int(pytest.main(list(options), plugins=[failures]))
    failed = list(failures.names)
    if code != pytest.ExitCode.TESTS_FAILED or not may_be_by_chance(failed):
        return code
    print(f"\nOnce more, on their own: {', '.join(failed)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "pytest", *failed], check=False).returncode
    if code == pytest.ExitCode.OK:
        print("\nThese failed beside others and passed on their own. Mend them:", *failed, sep="\n  ")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
