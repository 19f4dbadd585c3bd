"""Takes pictures, and other files in base64, out of what they came inside of."""

from __future__ import annotations

import re

from libs.worker.pictures import is_linked

# Files are long; what is shorter is worth no search.
_SHORTEST = 1024
# Stands for what is taken out: who translates a request refuses a picture without any data.
_IN_PLACE = "AA=="
_DATA_URL = b'"data:'
_DATA_MEMBER = b'"data"'
_BACKSLASH = ord("\\")
# How far into a URL its data may begin.
_LONGEST_HEAD = 200
_BEFORE_DATA = re.compile(rb'[ \t\r\n]*+:[ \t\r\n]*+"')
# Escaped slashes are base64, too. The head and the tail of a text say enough of what it is.
_BASE64 = re.compile(rb"[A-Za-z0-9+/=\\_-]*+")
_LOOKED_AT = 256
# More than any request has files; each place that might hold one takes half a microsecond.
_MOST_PLACES = 10_000


def lighter_url(url: str) -> str:
    """Returns a `data:` URL without its data; one that holds none, or little, as it is."""
    if is_linked(url) or len(url) < _SHORTEST:
        return url
    head, comma, _ = url.partition(",")
    return f"{head}{comma}{_IN_PLACE}"


def lighter_json(body: bytes) -> bytes:
    """Returns JSON with short texts in place of long data, without reading it: what is found are whole texts in it.

    Long data are the `data:` URLs of OpenAI's API, and members named `data`, as Anthropic has them.
    """
    pieces: list[bytes] = []
    at = 0
    for start, end in _long_data(body):
        pieces += (body[at:start], _IN_PLACE.encode())
        at = end
    pieces.append(body[at:])
    return b"".join(pieces) if len(pieces) > 1 else body


def _long_data(body: bytes) -> list[tuple[int, int]]:
    """Finds where data stands: behind the comma of a URL, or in a member."""
    found = []
    at = 0
    for _ in range(_MOST_PLACES):
        at = body.find(b'"data', at)
        if at < 0:
            break
        start = -1
        if body.startswith(_DATA_URL, at):
            comma = body.find(b",", at, at + _LONGEST_HEAD)
            start = comma + 1 if comma >= 0 else -1
        elif body.startswith(_DATA_MEMBER, at):
            before = _BEFORE_DATA.match(body, at + len(_DATA_MEMBER))
            start = before.end() if before else -1
        end = body.find(b'"', start) if start >= 0 else -1
        # A quote that is escaped does not end the text: this is data inside the data.
        if end - start >= _SHORTEST and body[end - 1] != _BACKSLASH and _is_base64(body, start, end):
            found.append((start, end))
            at = end
        at += 1
    return found


def _is_base64(body: bytes, start: int, end: int) -> bool:
    return all(
        _BASE64.fullmatch(body, first, last) is not None
        for first, last in ((start, start + _LOOKED_AT), (end - _LOOKED_AT, end))
    )
