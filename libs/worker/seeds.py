"""Seeds, which requests have in 64 bits and some providers in 32."""

from __future__ import annotations

from libs.worker.unsupported_options import UnsupportedOptions

_OF_32_BITS = range(-(2**31), 2**31)


def fits_32_bits(seed: int, provider: str, unsupported: UnsupportedOptions) -> bool:
    """Tells whether a seed can be sent to a provider that takes 32 bits; notes it where it cannot.

    `provider` is its name for people.
    """
    if seed in _OF_32_BITS:
        return True
    unsupported.drop("options.seed", f"{provider} takes seeds of 32 bits only.")
    return False
