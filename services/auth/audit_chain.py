"""The hash chain of the audit log: the hash of an entry covers the entry and the hash of the one before it.

Whoever knows the last hash holds a seal over the whole log. What is changed, removed or put in afterwards breaks the
chain there; to hide that, all hashes from there on must be made anew, and then the last one is another.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

import orjson

# Of no entry: what the first one is chained to.
_NO_HASH = bytes(32)
_HEAD = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")

# What the hash covers, in the order of the columns, the place first. None is in no entry as it was written.
Content = tuple[int | str | None, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """The last entry of a log, or of its part up to there: its place and its hash, written `ID:HASH`."""

    seq: int
    hash: bytes

    def __str__(self) -> str:
        return f"{self.seq}:{self.hash.hex()}"

    @classmethod
    def parse(cls, text: str) -> Head | None:
        """Reads what `str` has written; None for anything else."""
        match = _HEAD.fullmatch(text)
        return cls(int(match[1]), bytes.fromhex(match[2])) if match else None


# The head of an empty log.
BEGINNING = Head(0, _NO_HASH)


@dataclass(frozen=True, slots=True)
class Link:
    """An entry as it is found in the log."""

    seq: int
    content: Content
    previous_hash: bytes
    hash: bytes


@dataclass(frozen=True, slots=True)
class Findings:
    """How far the chain holds: to `head`, after a look at so many entries.

    `first_invalid` is the place of an entry that is missing, or there and not as it was written; None where there is no
    such. `more` tells that entries behind the head have not been looked at.
    """

    head: Head
    looked_at: int
    first_invalid: int | None = None
    more: bool = False


def entry_hash(previous_hash: bytes, content: Content) -> bytes:
    """Returns the SHA-256 of the 32 bytes before and the content as a JSON array without spaces, in UTF-8.

    Where one value ends and the next begins is the same for every reader of JSON.
    """
    return hashlib.sha256(previous_hash + orjson.dumps(content)).digest()


def follow(head: Head, links: Iterable[Link]) -> Findings:
    """Follows the chain from a head through entries in the order of their places."""
    looked_at = 0
    for link in links:
        looked_at += 1
        expected = head.seq + 1
        if link.seq != expected:
            # One in between is missing; or one was put before the beginning, or at a place that is taken.
            return Findings(head, looked_at, min(link.seq, expected))
        if link.previous_hash != head.hash or link.hash != entry_hash(head.hash, link.content):
            return Findings(head, looked_at, link.seq)
        head = Head(link.seq, link.hash)
    return Findings(head, looked_at)
