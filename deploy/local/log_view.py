"""Shows the logs of a stack as they are written: one prefixed, coloured line for each that matters."""

import asyncio
import itertools
import json
import os
import re
import sys
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path
from typing import Any

from deploy.local.topology import is_service

_COLOURS = (36, 33, 35, 32, 34, 96, 93, 95, 92, 94)
_LEVELS = {"debug": 2, "info": 2, "warning": 33, "error": 31, "critical": 31}
_POLL_SECONDS = 0.15

# How each infrastructure program marks a line that somebody should see.
_NOTABLE = re.compile(
    r"\[(WARN|ERROR|CRITICAL)\]"  # vault
    r"|\[(warning|error|critical)\]"  # envoy
    r"|\b(WARNING|ERROR|FATAL|PANIC): "  # postgres
    r"|^\S+ \S+ \S+ \S+ \S+ # "  # redis: 7:M 22 Nov 2026 15:52:46.123 # Warning
)


def use_colour() -> bool:
    """Tells whether the terminal wants colour."""
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ


def paint(text: str, code: int) -> str:
    """Colours text where that is wanted."""
    return f"\x1b[{code}m{text}\x1b[0m" if use_colour() else text


class LogView:
    """Follows the log files of processes and prints their lines."""

    def __init__(self, logs: dict[str, Path], *, verbose: bool) -> None:
        self._files = {name: _FollowedFile(path) for name, path in logs.items()}
        self._verbose = verbose
        self._width = max(map(len, logs))
        self._colours = dict(zip(logs, itertools.cycle(_COLOURS), strict=False))

    def skip_to_end(self) -> None:
        """Leaves out what has been written so far."""
        for file in self._files.values():
            file.new_lines()

    async def follow(self) -> None:
        """Prints new lines until cancelled."""
        while True:
            self.show_new()
            await asyncio.sleep(_POLL_SECONDS)

    def show_new(self) -> None:
        """Prints the lines written since the last call."""
        for name, file in self._files.items():
            for line in file.new_lines():
                shown = self._form(name, line)
                if shown is not None:
                    print(f"{paint(name.rjust(self._width), self._colours[name])} │ {shown}", flush=True)

    def _form(self, name: str, line: str) -> str | None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if isinstance(event, dict) and is_service(name):
            return None if _is_internal_call(event) and not self._verbose else _readable(event)
        if self._verbose or is_service(name) or _NOTABLE.search(line):
            return line
        return None


def last_lines(path: Path, count: int) -> list[str]:
    """Returns the last lines of a file, none when there is no file."""
    try:
        return path.read_text(errors="replace").splitlines()[-count:]
    except OSError:
        return []


class _FollowedFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BufferedReader | None = None
        self._rest = b""

    def new_lines(self) -> Iterable[str]:
        """Returns the complete lines written since the last call, also across a rotation."""
        read = b""
        if self._file is not None:
            read = self._file.read()
        if self._rotated():
            if self._file is not None:
                self._file.close()
            try:
                self._file = self._path.open("rb")
            except OSError:
                self._file = None
            else:
                read += self._file.read()
        *lines, self._rest = (self._rest + read).split(b"\n")
        return [line.decode(errors="replace") for line in lines if line.strip()]

    def _rotated(self) -> bool:
        if self._file is None:
            return True
        try:
            current = self._path.stat()
        except OSError:
            return False
        return current.st_ino != os.fstat(self._file.fileno()).st_ino


def _readable(event: dict[str, Any]) -> str:
    level = str(event.pop("level", "info"))
    event.pop("service", None)
    time = str(event.pop("timestamp", ""))[11:19]
    message = event.pop("event", "")
    trace = event.pop("exception", None)
    details = " ".join(f"{key}={value}" for key, value in event.items() if value != "")
    line = f"{paint(time, 2)} {paint(level.ljust(7), _LEVELS.get(level, 0))} {message}"
    if details:
        line += f" {paint(details, 2)}"
    return f"{line}\n{trace}" if trace else line


def _is_internal_call(event: dict[str, Any]) -> bool:
    """Tells whether a service reports a call of another service; those of people come through Envoy."""
    return event.get("event") == "call" and event.get("level") == "info" and event.get("peer") != "envoy"
