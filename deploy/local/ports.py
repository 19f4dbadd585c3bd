"""Chooses loopback ports and keeps them until the processes they are meant for have taken them."""

import random
import socket
from collections.abc import Iterable, Mapping

# Below the range Linux gives to outgoing connections: none of those can take a port while its process restarts.
_RANGE = range(20_000, 32_000)


class PortTaken(Exception):
    """A port that must be a certain one belongs to another program."""


class PortReservation:
    """Free ports of 127.0.0.1, one for each name.

    A reserved port is bound, so that nobody else chooses it, but not listened on, and shared with programs that
    set SO_REUSEADDR, as every server does.
    """

    def __init__(self) -> None:
        self._sockets: list[socket.socket] = []

    def take(self, names: Iterable[str], preferred: Mapping[str, int]) -> dict[str, int]:
        """Reserves a port for each name: the preferred one if it is free, otherwise any."""
        return {name: self._take(preferred.get(name)) for name in names}

    def release(self) -> None:
        """Lets go of all ports."""
        for reserved in self._sockets:
            reserved.close()
        self._sockets.clear()

    def _take(self, preferred: int | None) -> int:
        for port in ([preferred] if preferred else []) + random.sample(_RANGE, 200):
            candidate = socket.socket()
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                candidate.close()
                continue
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._sockets.append(candidate)
            return port
        raise PortTaken("No free port was found between 20000 and 32000 on 127.0.0.1.")


def check_public(port: int, variable: str) -> int:
    """Returns `port` if a server could listen on it. Raises PortTaken that names the variable to change."""
    with socket.socket() as candidate:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            candidate.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortTaken(
                f"Port {port} cannot be used ({error.strerror}); choose another: `make run {variable}={port + 10}`."
            ) from None
    return port
