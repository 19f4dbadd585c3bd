"""Server-sent events from bytes that arrive cut anywhere.

Follows the WHATWG HTML standard, section 9.2.6, with one leniency every provider client has: an event that the end
of the stream cuts off before its blank line is still delivered.
"""

from __future__ import annotations

# A single event may hold a picture in base64; more than this is no event but a flood, and would not fit into a message.
MAX_EVENT_BYTES = 32 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"


class EventTooLarge(Exception):
    """The provider sent an event of more than MAX_EVENT_BYTES."""


class EventParser:
    """Collects bytes into events. Lines end with LF, CRLF or CR, as the standard allows, also mixed."""

    __slots__ = ("_after_cr", "_data", "_data_size", "_name", "_started", "_tail", "_tail_size")

    def __init__(self) -> None:
        self._tail: list[bytes] = []  # pieces of a line without its end; joined once, so huge lines stay linear
        self._tail_size = 0
        self._data: list[bytes] = []
        self._data_size = 0
        self._name = b""
        self._after_cr = False
        self._started = False

    def feed(self, chunk: bytes) -> list[tuple[bytes, bytes]]:
        """Takes the next bytes and returns the events they complete, as (name, data). Raises EventTooLarge."""
        if self._after_cr and chunk:
            self._after_cr = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in chunk:
            self._keep(chunk)
            return []
        if self._tail:
            self._tail.append(chunk)
            chunk = b"".join(self._tail)
            self._tail.clear()
            self._tail_size = 0
        *lines, rest = chunk.split(b"\n")
        if not self._started:
            self._started = True
            lines[0] = lines[0].removeprefix(_BOM)
        events: list[tuple[bytes, bytes]] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._data_size += len(line)
            elif not line:
                if self._data:
                    events.append((self._name, b"\n".join(self._data)))
                    self._data.clear()
                    self._data_size = 0
                self._name = b""
            else:
                self._field(line)
        self._keep(rest)
        return events

    def end(self) -> list[tuple[bytes, bytes]]:
        """Returns the event that the end of the stream completes, if any."""
        return self.feed(b"\n\n")

    def _keep(self, piece: bytes) -> None:
        if piece:
            self._tail.append(piece)
            self._tail_size += len(piece)
        if self._tail_size + self._data_size > MAX_EVENT_BYTES:
            raise EventTooLarge

    def _field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        if name == b"event":
            self._name = value.removeprefix(b" ")
        elif name == b"data":  # a line with nothing but the name
            self._data.append(b"")
            self._data_size += len(line)
        # Comments, ids, retry times and unknown fields say nothing to us.
