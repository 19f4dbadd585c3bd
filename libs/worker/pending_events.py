"""Events of a provider that wait to be written as they came."""

from __future__ import annotations

# What may follow the event that makes an answer whole: its usage, and little else.
_MOST_CLOSING_BYTES = 64 * 1024


class PendingEvents:
    """Events in the order they came, written as server-sent events with LF for line ends."""

    __slots__ = ("_closing", "_closing_size", "_holding", "_pieces", "has_output", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._closing: list[bytes] = []
        self._closing_size = 0
        self._holding = False
        self.size = 0
        """Bytes that wait, without those held back."""
        self.has_output = False
        """True when something is to be written."""

    def hold_back(self) -> None:
        """Keeps events from now on until all are taken. Those before may go, whether or not there was output."""
        self._holding = True
        self.has_output = bool(self._pieces)

    def add(self, name: bytes, data: bytes, *, output: bool) -> None:
        """Adds an event. What waits is to be written once there was `output`: before, the chat may begin anew."""
        if b"\n" in data:
            data = data.replace(b"\n", b"\ndata: ")
        event = b"event: %b\ndata: %b\n\n" % (name, data) if name else b"data: %b\n\n" % data
        if not self._holding:
            self._pieces.append(event)
            self.size += len(event)
            self.has_output = output
        # The first is the one that makes the answer whole, however long it is.
        elif not self._closing or self._closing_size + len(event) <= _MOST_CLOSING_BYTES:
            self._closing.append(event)
            self._closing_size += len(event)

    def take(self) -> bytes:
        """Returns all that is not held back, and waits for more."""
        pieces, self._pieces = self._pieces, []
        self.size = 0
        self.has_output = False
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def take_all(self) -> bytes:
        """Returns all there is."""
        return self.take() + b"".join(self._closing)
