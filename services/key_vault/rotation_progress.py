"""Shows people how far a rotation is: one line that changes on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from typing import TextIO

from services.key_vault.models import KeyRotationRow, RotationState

# Between two lines where none can be taken back.
_QUIET_SECONDS = 5.0
_ERASE = "\r\x1b[K"


class Progress:
    """Writes to `out`; `updating` has a line take the place of the one before."""

    def __init__(self, out: TextIO, *, updating: bool) -> None:
        self._out = out
        self._updating = updating
        self._unfinished = False
        self._first: tuple[float, int] | None = None
        self._said = ""
        self._said_at = float("-inf")

    def say(self, text: str) -> None:
        """Writes a line that stays, unless it is the same as the one before."""
        if text != self._said:
            self._write(text, stays=True)
            self._said = text

    def show(self, rotation: KeyRotationRow, now: float) -> None:
        """Shows how a rotation stands. `now` is in seconds of a clock that never goes back."""
        ended = rotation.state != RotationState.RUNNING
        text = _spoken(rotation) if ended else f"{_spoken(rotation)}{self._pace(rotation, now)}"
        news = rotation.message.rstrip(".") not in self._said
        if not ended and not self._updating and not news and now - self._said_at < _QUIET_SECONDS:
            return
        self._write(text, stays=ended or not self._updating)
        self._said, self._said_at = text, now

    def _pace(self, rotation: KeyRotationRow, now: float) -> str:
        """Returns the rate since this began to look, and how long the rest takes; empty while nothing is known."""
        if self._first is None:
            self._first = now, rotation.rewrapped
        since, done = self._first
        if now <= since or rotation.rewrapped <= done:
            return ""
        left = rotation.total - rotation.rewrapped - rotation.failed
        if left <= 0:
            return ""
        rate = (rotation.rewrapped - done) / (now - since)
        return f", {rate:,.0f} a second, {left / rate:,.0f} s left"

    def _write(self, text: str, *, stays: bool) -> None:
        before = _ERASE if self._unfinished else ""
        self._out.write(f"{before}{text}{chr(10) if stays else ''}")
        self._out.flush()
        self._unfinished = not stays


def _spoken(rotation: KeyRotationRow) -> str:
    done = f"{rotation.rewrapped:,} of {rotation.total:,} sealed anew"
    failed = f", {rotation.failed:,} do not open" if rotation.failed else ""
    said = f"{rotation.purpose} to version {rotation.target_version}, {rotation.state.lower()}: {done}{failed}"
    return f"{said} ({rotation.message.rstrip('.')})" if rotation.message else said
