"""Slows guessing down: after a few failures in a row, nobody may try for a while that doubles with each further one.

Failures are counted for the account, whoever tries, and for the address, whichever account it tries. An account at
an address where its owner has signed in before has a count of its own in place of both, so that neither an attack
on the account from elsewhere nor an attack from the same address on other accounts keeps the owner out. Accounts
that do not exist are counted like those that do.

While no failure is held against them, tries run side by side. Once a wait is due, one try is let through after each
wait: letting it through begins the next wait, before it is known to fail.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.ext.asyncio import AsyncSession

from libs.errors import LimitExceeded
from libs.network_addresses import network_of
from services.auth import repository

# After the free failures: 2, 4, 8 … seconds, and never more than a quarter of an hour.
_LONGEST_WAIT = 900
_FAILURES_REMEMBERED = timedelta(days=1)
_ADDRESS_REMEMBERED = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Counter:
    """What failures are counted for, and how many of them are free."""

    subject: bytes
    free: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to sign in to the account of an email, in normal form, from an address where it is known."""

    email: str
    address: str | None

    @property
    def account(self) -> Counter:
        """Counts failures for this account from wherever its owner has never been."""
        return _counter(5, "account", self.email)

    @property
    def origin(self) -> Counter | None:
        """Counts failures from this address. It may be that of a whole office."""
        return _counter(50, "address", self.address) if self.address else None

    @property
    def home(self) -> Counter | None:
        """Counts failures for this account from this address; exists once its owner has signed in there."""
        return _counter(5, "home", self.email, self.address) if self.address else None

    @property
    def counters(self) -> tuple[Counter, ...]:
        """All of them."""
        return tuple(counter for counter in (self.account, self.origin, self.home) if counter is not None)


def attempt(email: str, address: str | None) -> Attempt:
    """Describes an attempt by an email in normal form and an IP address, if a readable one is known."""
    return Attempt(email, network_of(address))


def wait_after(failures: int, free: int) -> timedelta:
    """Returns how long nobody may try after so many failures in a row."""
    charged = failures - free
    return timedelta(seconds=min(2 ** min(charged, 16), _LONGEST_WAIT) if charged > 0 else 0)


async def admit(tx: AsyncSession, attempt: Attempt) -> tuple[Counter, ...]:
    """Lets an attempt begin, and returns what to count it for should it fail.

    Raises LimitExceeded while a wait lasts; the refused attempt does not make it longer.
    """
    counts = await repository.lock_failure_counts(tx, [counter.subject for counter in attempt.counters])
    if attempt.home is not None and attempt.home.subject in counts:
        judging: tuple[Counter, ...] = (attempt.home,)
    else:
        judging = tuple(counter for counter in attempt.counters if counter != attempt.home)
    now = await repository.clock(tx)
    held = [(counter, counts[counter.subject]) for counter in judging if counter.subject in counts]
    wait = max(((count.blocked_until - now).total_seconds() for _, count in held), default=0.0)
    if wait > 0:
        seconds = math.ceil(wait)
        raise LimitExceeded(
            f"Too many failed sign-ins; try again in {seconds} seconds.",
            reason="TOO_MANY_ATTEMPTS",
            retry_after=seconds,
            seconds=str(seconds),
        )
    for counter, count in held:
        count.blocked_until = now + wait_after(count.failures, counter.free)
    return judging


async def record_failure(tx: AsyncSession, judging: tuple[Counter, ...]) -> None:
    """Counts an admitted attempt that failed."""
    free = {counter.subject: counter.free for counter in judging}
    counts = await repository.count_failures(tx, free)
    now = await repository.clock(tx)
    for count in counts:
        count.blocked_until = now + wait_after(count.failures, free[count.subject])
        count.forget_time = max(count.forget_time, now + _FAILURES_REMEMBERED)


async def record_success(tx: AsyncSession, attempt: Attempt, judging: tuple[Counter, ...]) -> None:
    """Clears the account of the failures an admitted attempt was judged by, and remembers its address.

    The failures of the address stay: otherwise whoever has an account could clear them in between guesses.
    """
    counts = await repository.lock_failure_counts(tx, [counter.subject for counter in attempt.counters])
    now = await repository.clock(tx)
    for counter in judging:
        if (count := counts.get(counter.subject)) is not None:
            count.blocked_until = now
            count.failures = count.failures if counter == attempt.origin else 0
    await tx.flush()
    await remember_address(tx, attempt)


async def remember_address(tx: AsyncSession, attempt: Attempt) -> None:
    """Notes that the owner of an account was at an address."""
    if attempt.home is not None:
        await repository.clear_failure_count(tx, attempt.home.subject, memory=_ADDRESS_REMEMBERED)


def _counter(free: int, *subject: str) -> Counter:
    return Counter(hashlib.sha256("\0".join(subject).encode()).digest(), free)
