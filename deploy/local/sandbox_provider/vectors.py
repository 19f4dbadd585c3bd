"""Embeddings of the sandbox: the same text has the same vector, another text another one."""

import base64
import struct
from hashlib import shake_128
from math import sqrt


def vector(text: str, size: int) -> list[float]:
    """Makes the vector of a text: of length 1, in numbers that a single float holds exactly."""
    drawn = struct.unpack(f"<{size}h", shake_128(text.encode()).digest(2 * size))
    length = sqrt(sum(number * number for number in drawn)) or 1.0
    return list(struct.unpack(f"<{size}f", struct.pack(f"<{size}f", *(number / length for number in drawn))))


def packed(numbers: list[float]) -> str:
    """Writes a vector in base64 of little-endian single floats."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
