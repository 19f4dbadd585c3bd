"""A mapping that keeps the latest of what it is told, and no more than it may: for what others cause without end."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """At most `size` values; the one told longest ago goes first."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[K, V] = OrderedDict()

    def tell(self, key: K, value: V) -> None:
        """Keeps the value of a key, as the latest."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._size:
            self._values.popitem(last=False)

    def get(self, key: K, default: V) -> V:
        """Returns the value of a key, or the default when none is kept."""
        return self._values.get(key, default)

    def forget(self, key: K) -> None:
        """Lets go of the value of a key, if there is one."""
        self._values.pop(key, None)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)
