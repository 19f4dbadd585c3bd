"""The times of the last hits of each key, from which it follows exactly how many more there may be at this moment.

Kept in Redis by a script, for all processes, or in the memory of one. Both ways an allowed hit is written down and a
refused one is not, so that there are never more than `amount` of them in any window, wherever it begins. Times and
windows are in microseconds.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple


class Count(NamedTuple):
    """The outcome of a hit, how many more may follow at once, and after which time there may be one more than that."""

    allowed: int
    remaining: int
    reset: int


# KEYS: the list of a key, newest first. ARGV: amount, window. Answers a Count.
#
# Costs a handful of commands whatever the amount: positions are counted from the end of the list, where Redis finds
# them at once, and what has left the window is searched for in growing steps.
SCRIPT = """
local key, amount, window = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

-- After the clock was set back, time stands still until it is where it was; but not for longer than a window.
local newest = tonumber(redis.call('LINDEX', key, 0) or now)
if newest > now + window then
  redis.call('DEL', key)
elseif newest > now then
  now = newest
end

local gone, step = 0, 1
while step >= 1 do
  local hit = tonumber(redis.call('LINDEX', key, -gone - step) or now)
  if hit <= now - window then
    gone, step = gone + step, step * 2
  else
    step = math.floor(step / 2)
  end
end
if gone > 0 then
  redis.call('LTRIM', key, 0, -gone - 1)
end

local used = redis.call('LLEN', key)
if used >= amount then
  return {0, 0, redis.call('LINDEX', key, amount - used - 1) + window - now}
end
redis.call('LPUSH', key, string.format('%.0f', now))
-- A millisecond more than the window, because Redis forgets by whole ones.
redis.call('PEXPIRE', key, math.ceil(window / 1000) + 1)
return {1, amount - used - 1, redis.call('LINDEX', key, -1) + window - now}
"""


class SlidingLogs:
    """The hits of many keys in the memory of this process: those of the keys that were hit last, if there are too many.

    What is forgotten begins anew. The bounds hold for all keys together; a single one may exceed `most_hits`.
    """

    def __init__(self, clock: Callable[[], int], *, most_keys: int = 50_000, most_hits: int = 1_000_000) -> None:
        self._clock = clock
        self._most_keys = most_keys
        self._most_hits = most_hits
        self._logs: OrderedDict[str, array[int]] = OrderedDict()
        self._hits = 0

    def hit(self, key: str, amount: int, window: int) -> Count:
        """Writes a hit of a key down, if there are fewer than `amount` in the window."""
        now = self._clock()
        log = self._logs.get(key)
        if log is None:
            log = self._logs[key] = array("q")
        else:
            self._logs.move_to_end(key)
            gone = bisect_right(log, now - window)
            del log[:gone]
            self._hits -= gone
        if len(log) >= amount:
            return Count(0, 0, log[-amount] + window - now)
        log.append(now)
        self._hits += 1
        self._forget_oldest()
        return Count(1, amount - len(log), log[0] + window - now)

    def _forget_oldest(self) -> None:
        while len(self._logs) > self._most_keys or (self._hits > self._most_hits and len(self._logs) > 1):
            _, forgotten = self._logs.popitem(last=False)
            self._hits -= len(forgotten)

    def __len__(self) -> int:
        return len(self._logs)
