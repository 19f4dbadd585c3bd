"""What of a request a provider or a model does not take: left out where harmless, refused where it matters."""

from __future__ import annotations

from realmultillm.chat.v1 import chat_service_pb2 as chat

from libs.errors import Violation, refuse_any


class UnsupportedOptions:
    """Collects them while a request is translated.

    Harmless is what only steers how the answer is found: sampling, seed, penalties, effort. What the answer means
    must not change behind the caller's back: stop texts, tools, the form of the answer, pictures.
    """

    __slots__ = ("_refused", "dropped")

    def __init__(self) -> None:
        self.dropped: list[chat.DroppedOption] = []
        self._refused: list[Violation] = []

    def drop(self, option: str, reason: str) -> None:
        """Notes that an option is left out. `option` is its path in the request, `reason` one sentence."""
        self.dropped.append(chat.DroppedOption(option=option, reason=reason))

    def drop_once(self, option: str, reason: str) -> None:
        """Notes what is left out at every place of its kind; the first stands for all, which may be thousands."""
        if all(noted.reason != reason for noted in self.dropped):
            self.drop(option, reason)

    def refuse(self, option: str, reason: str) -> None:
        """Notes that an option cannot be taken. `reason` is one sentence that says what to do instead."""
        self._refused.append(Violation(option, reason))

    def check(self) -> None:
        """Raises InvalidRequest with everything that was refused."""
        refuse_any(self._refused)
