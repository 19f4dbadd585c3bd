"""What an answer costs, by the prices of its model.

The arithmetic is that of genai-prices, for the kinds of tokens that providers report here: a test compares them. It
is done anew for the hot path, because that package takes 80 µs for what takes 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any

# What providers call the class of service that prices are for where nothing else is said.
STANDARD_TIERS = ("", "default", "standard")

# The kinds of tokens with a rate of their own, in the order in which a price is told.
_KINDS = ("input", "cached_input", "cache_write", "cache_write_1h", "output", "reasoning")

_MILLIONTH = Decimal("0.000001")


@dataclass(frozen=True, slots=True)
class Rate:
    """US dollars for a million tokens: `base`, or what stands in `above` beside the largest number of tokens that the
    prompt has more of. That rate is then the one of all tokens of the chat. `above` ascends.
    """

    base: Decimal
    above: tuple[tuple[int, Decimal], ...] = ()

    def of(self, prompt_tokens: int) -> Decimal:
        """Returns the rate of a chat with so long a prompt."""
        rate = self.base
        for tokens, dearer in self.above:
            if prompt_tokens > tokens:
                rate = dearer
        return rate

    @property
    def text(self) -> str:
        """The rate as text: `2.5`, with steps `1.25,200000:2.5`, in the order of their tokens."""
        return ",".join([f"{self.base:f}", *(f"{tokens}:{dearer:f}" for tokens, dearer in self.above)])

    @property
    def lowest(self) -> Decimal:
        """The lowest rate there is."""
        return min(self.base, *(rate for _, rate in self.above)) if self.above else self.base


@dataclass(frozen=True, kw_only=True)
class Prices:
    """The prices of a model. A kind of tokens without one of its own costs as much as what it is a kind of.

    Tokens read from and written to the provider's cache are tokens sent; those kept for an hour are tokens written;
    those spent on reasoning are tokens received. `request` is in US dollars for each chat.
    """

    input: Rate
    output: Rate | None = None
    cached_input: Rate | None = None
    cache_write: Rate | None = None
    cache_write_1h: Rate | None = None
    reasoning: Rate | None = None
    request: Decimal = Decimal(0)

    @cached_property
    def text(self) -> str:
        """All rates that there are as one line, such as `input=2.5 cached_input=1.25 output=10`."""
        rates = {name: getattr(self, name) for name in _KINDS}
        told = [f"{name}={rate.text}" for name, rate in rates.items() if rate is not None]
        return " ".join([*told, f"request={self.request:f}"] if self.request else told)

    def cost(self, usage: Any) -> Decimal | None:
        """Returns what an answer with this usage, a `chat.v1.Usage`, cost in US dollars.

        None where the usage contradicts itself, or there is output and no price for it.
        """
        prompt, completion = usage.prompt_tokens, usage.completion_tokens
        sent, received = usage.prompt_tokens_details, usage.completion_tokens_details
        # What has no price of its own is left where it is counted already.
        cached = sent.cached_tokens if self.cached_input else 0
        kept_long = sent.cache_write_1h_tokens if self.cache_write_1h else 0
        written = sent.cache_write_tokens - kept_long if self.cache_write else 0
        plain = prompt - cached - written - kept_long
        thought = received.reasoning_tokens if self.reasoning else 0
        said = completion - thought
        if plain < 0 or written < 0 or said < 0 or (completion and self.output is None):
            return None
        cost: Decimal = plain * self.input.of(prompt)
        for tokens, rate in (
            (cached, self.cached_input),
            (written, self.cache_write),
            (kept_long, self.cache_write_1h),
            (said, self.output),
            (thought, self.reasoning),
        ):
            if tokens and rate is not None:
                cost += tokens * rate.of(prompt)
        return cost * _MILLIONTH + self.request
