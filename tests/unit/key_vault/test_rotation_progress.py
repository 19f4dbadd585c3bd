"""What people see of a rotation while they wait for it."""

from __future__ import annotations

import io

from services.key_vault.models import KeyRotationRow, RotationState
from services.key_vault.rotation_progress import Progress


def rotation(rewrapped: int, *, state: RotationState = RotationState.RUNNING, message: str = "") -> KeyRotationRow:
    return KeyRotationRow(
        purpose="provider-keys",
        state=state,
        target_version=2,
        total=1_000,
        rewrapped=rewrapped,
        failed=0,
        message=message,
    )


class TestPlainOutput:
    def test_has_a_line_now_and_then_and_one_for_each_news(self) -> None:
        out = io.StringIO()
        progress = Progress(out, updating=False)
        for second in range(12):
            progress.show(rotation(100 * second if second < 10 else 1_000), float(second))
        for second in range(12, 15):
            progress.show(rotation(1_000, message="Earlier versions are refused in a moment."), float(second))
        progress.show(rotation(1_000, state=RotationState.COMPLETED), 15.0)

        begins = "provider-keys to version 2, "
        assert out.getvalue().splitlines() == [
            f"{begins}running: 0 of 1,000 sealed anew",
            f"{begins}running: 500 of 1,000 sealed anew, 100 a second, 5 s left",
            f"{begins}running: 1,000 of 1,000 sealed anew",
            f"{begins}running: 1,000 of 1,000 sealed anew (Earlier versions are refused in a moment)",
            f"{begins}completed: 1,000 of 1,000 sealed anew",
        ]


class TestTerminal:
    def test_has_one_line_that_changes(self) -> None:
        out = io.StringIO()
        progress = Progress(out, updating=True)
        progress.show(rotation(0), 0.0)
        progress.show(rotation(500), 1.0)
        progress.show(rotation(1_000, state=RotationState.COMPLETED), 2.0)
        assert out.getvalue().count("\n") == 1
        assert out.getvalue().endswith("1,000 of 1,000 sealed anew\n")
