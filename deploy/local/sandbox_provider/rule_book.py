"""Which behaviour a request meets."""

import asyncio
from dataclasses import dataclass

from deploy.local.sandbox_provider.control_messages import Behaviour, Match

NORMAL = Behaviour()


@dataclass(slots=True)
class _Rule:
    behaviour: Behaviour
    remaining: int | None


class RuleBook:
    """The behaviours in force, oldest first."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []
        self._held: list[tuple[str | None, asyncio.Event]] = []

    def add(self, behaviour: Behaviour) -> None:
        """Puts a behaviour behind those already there."""
        self._rules.append(_Rule(behaviour, behaviour.times))

    def clear(self, key: str | None = None) -> None:
        """Forgets the behaviours for a key, or all of them."""
        self._rules = [rule for rule in self._rules if key is not None and rule.behaviour.match.key != key]
        for held_key, released in self._held:
            if key in (None, held_key):
                released.set()

    async def until_cleared(self, key: str | None) -> None:
        """Waits until the behaviours for a key are forgotten."""
        waiting = key, asyncio.Event()
        self._held.append(waiting)
        try:
            await waiting[1].wait()
        finally:
            self._held.remove(waiting)

    def pick(self, key: str | None, model: str | None, path: str) -> Behaviour:
        """Finds the first behaviour that matches, and counts it as used."""
        for rule in self._rules:
            if _matches(rule.behaviour.match, key, model, path):
                if rule.remaining is not None:
                    rule.remaining -= 1
                    if not rule.remaining:
                        self._rules.remove(rule)
                return rule.behaviour
        return NORMAL


def _matches(match: Match, key: str | None, model: str | None, path: str) -> bool:
    return match.key in (None, key) and match.model in (None, model) and match.path in (None, path)
