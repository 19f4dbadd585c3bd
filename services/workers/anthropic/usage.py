"""What Anthropic counts. https://platform.claude.com/docs/en/build-with-claude/prompt-caching

`input_tokens` leaves out what was read from the cache and what was written to it; `output_tokens` includes thinking.
"""

from __future__ import annotations

from typing import Any

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.worker.json_facts import text
from libs.worker.token_counts import count, tells, usage_of


class UsageCounts:
    """The counts of one answer. Whatever is reported again is cumulative and takes the place of what was before."""

    __slots__ = ("_counts", "complete", "service_tier")

    def __init__(self) -> None:
        self._counts: dict[str, Any] = {}
        self.complete = False
        """True once the end of the answer reported its usage; before, only the prompt is known."""
        self.service_tier = ""

    def report(self, usage: Any, *, complete: bool) -> None:
        """Takes in a usage object; null says nothing, nor does what is no object or an empty one."""
        if not usage or not isinstance(usage, dict):
            return
        self._counts.update((name, value) for name, value in usage.items() if value is not None)
        self.complete = self.complete or (complete and tells(usage, "output_tokens"))
        self.service_tier = text(self._counts.get("service_tier"))

    def usage(self) -> chat.Usage | None:
        """Returns the usage of the answer; None where none was reported that makes sense.

        Before the answer is complete it is marked as estimated: the start tells all of the prompt, but of the output
        no more than that it has begun.
        """
        counts = self._counts
        if not tells(counts, "input_tokens", "output_tokens"):
            return None
        cached, written = count(counts, "cache_read_input_tokens"), count(counts, "cache_creation_input_tokens")
        usage = usage_of(
            count(counts, "input_tokens") + cached + written,
            count(counts, "output_tokens") if self.complete else 0,
            cached=cached,
            cache_write=written,
            cache_write_1h=self._written_for_an_hour(written),
            reasoning=count(counts.get("output_tokens_details"), "thinking_tokens"),
        )
        if not self.complete:
            usage.estimated = True
        return usage

    def _written_for_an_hour(self, written: int) -> int:
        """Returns how many of the tokens written are kept for an hour.

        On a stream the split comes at its start only, and later rounds (with the provider's own tools) write more:
        what is added is taken to be of the kind written before, and of the cheaper one where that was both.
        """
        split = self._counts.get("cache_creation")
        for_an_hour = count(split, "ephemeral_1h_input_tokens")
        if for_an_hour and not count(split, "ephemeral_5m_input_tokens"):
            return written
        return min(for_an_hour, written)
