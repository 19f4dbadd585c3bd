"""Limits: how they are written and said, which methods have one, and the counting of a process alone."""

import tracemalloc
from collections import defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from libs.ratelimit import Limit, Standing, connect_limiter, limits_of
from libs.redaction import Secret
from libs.redis_connection import RedisServer
from libs.rpc.access_policy import AccessPolicy, for_role, open_to
from libs.settings import SettingsError
from libs.sliding_log import SlidingLogs

POLICY: AccessPolicy = {
    "/test.v1.Shop/Look": for_role("user", ["envoy"], scopes=["chat"]),
    "/test.v1.Shop/Buy": for_role("user", ["envoy", "provider-router"], scopes=["chat"]),
    "/test.v1.Shop/Pay": for_role("user", ["envoy"], limit="10/hour", scopes=["chat"]),
    "/test.v1.Door/Knock": open_to(["envoy"], limit="5 per 30 seconds"),
    "/test.v1.Door/Open": open_to(["envoy"]),
    "/test.v1.Store/Fetch": for_role("user", ["provider-router"], scopes=["chat"]),
}
USUAL = {
    "/test.v1.Shop/Look": Limit(100, 60),
    "/test.v1.Shop/Buy": Limit(100, 60),
    "/test.v1.Shop/Pay": Limit(10, 3600),
    "/test.v1.Door/Knock": Limit(5, 30),
    "InvalidTokens": Limit(300, 60),
}


class TestLimit:
    @pytest.mark.parametrize(
        ("limit", "text"),
        [
            (Limit(100, 60), "100 requests a minute"),
            (Limit(10, 3600), "10 requests an hour"),
            (Limit(5, 30), "5 requests in 30 seconds"),
            (Limit(1, 1), "1 request a second"),
            (Limit(1000, 86_400), "1000 requests a day"),
            (Limit(2, 120), "2 requests in 2 minutes"),
            (Limit(2, 90), "2 requests in 90 seconds"),
            (Limit(1, 30 * 86_400), "1 request in 30 days"),
        ],
    )
    def test_reads_as_a_person_would_say_it(self, limit: Limit, text: str):
        assert str(limit) == text


class TestStanding:
    def test_is_told_in_three_headers(self):
        assert Standing(True, 100, 7, 12).headers == (
            ("ratelimit-limit", "100"),
            ("ratelimit-remaining", "7"),
            ("ratelimit-reset", "12"),
        )


class TestLimitsOfMethods:
    def test_are_those_of_the_policy_for_what_comes_through_the_front_door(self):
        assert limits_of(POLICY, {}) == USUAL

    def test_default_is_for_what_has_the_usual_limit(self):
        assert limits_of(POLICY, {"default": "7/second"}) == {
            **USUAL,
            "/test.v1.Shop/Look": Limit(7, 1),
            "/test.v1.Shop/Buy": Limit(7, 1),
        }

    def test_tokens_are_not_counted_where_nobody_shows_any(self):
        assert limits_of({"/test.v1.Door/Knock": POLICY["/test.v1.Door/Knock"]}, {}) == {
            "/test.v1.Door/Knock": Limit(5, 30)
        }

    @pytest.mark.parametrize("order", [1, -1])
    def test_a_named_method_wins_over_the_default(self, order: int):
        overrides = dict([("Buy", "9/minute"), ("default", "7/minute")][::order])
        found = limits_of(POLICY, overrides)
        assert (found["/test.v1.Shop/Look"], found["/test.v1.Shop/Buy"]) == (Limit(7, 60), Limit(9, 60))

    @pytest.mark.parametrize("method", ["Look", "Pay", "Knock", "InvalidTokens"])
    def test_any_of_them_can_be_changed_by_name(self, method: str):
        changed = limits_of(POLICY, {method: "3/day"})
        assert {limit for name, limit in changed.items() if name.endswith(method)} == {Limit(3, 86_400)}
        assert sum(changed[name] != USUAL[name] for name in USUAL) == 1

    def test_unlimited_takes_a_limit_away(self):
        assert limits_of(POLICY, {"default": "unlimited", "Knock": "unlimited"}) == {
            "/test.v1.Shop/Pay": Limit(10, 3600),
            "InvalidTokens": Limit(300, 60),
        }
        assert "InvalidTokens" not in limits_of(POLICY, {"InvalidTokens": "unlimited"})
        assert "/test.v1.Shop/Look" in limits_of(POLICY, {"default": "unlimited", "Look": "1/second"})

    @pytest.mark.parametrize(
        ("text", "limit"),
        [
            ("100/minute", Limit(100, 60)),
            ("5 per 30 seconds", Limit(5, 30)),
            ("5/30seconds", Limit(5, 30)),
            ("1 PER Hour", Limit(1, 3600)),
            ("1000000/year", Limit(1_000_000, 360 * 86_400)),
        ],
    )
    def test_are_written_in_the_grammar_of_the_library(self, text: str, limit: Limit):
        assert limits_of(POLICY, {"Buy": text})["/test.v1.Shop/Buy"] == limit

    @pytest.mark.parametrize(
        "text",
        [
            *("", "many", "100", "100/fortnight", "-5/minute", "1.5/minute", "5/minute;9/hour", "Unlimited "),
            *("0/minute", "5/0 minutes", "1000001/minute", "1/2 years", f"1/{'9' * 30} years"),
        ],
    )
    def test_malformed_ones_are_refused_with_what_to_write(self, text: str):
        with pytest.raises(SettingsError, match="Buy must be like 100/minute or 5 per 30 seconds"):
            limits_of(POLICY, {"Buy": text})

    @pytest.mark.parametrize("name", ["buy", "Sell", "/test.v1.Shop/Buy", "Open", "Fetch", ""])
    def test_names_without_a_limit_are_refused_with_those_there_are(self, name: str):
        with pytest.raises(
            SettingsError, match=r"has no limit here; name one of Buy, InvalidTokens, Knock, Look, Pay, default$"
        ):
            limits_of(POLICY, {name: "1/second"})

    def test_all_problems_are_told_at_once(self):
        with pytest.raises(SettingsError) as caught:
            limits_of(POLICY, {"Sell": "lots", "Buy": "0/minute", "default": "x"})
        assert len(str(caught.value).splitlines()) == 1 + 4


class TestRedisUrl:
    def test_names_everything(self):
        server = RedisServer.at(Secret("redis://some%40one:p%40ss%2Fword@redis.example:7000/3"))
        assert (server.host, server.port, server.user, server.database) == ("redis.example", 7000, "some@one", 3)
        assert server.password.reveal() == "p@ss/word"
        assert server.tls is None
        assert "p@ss" not in repr(server)

    def test_may_leave_out_what_is_usual(self):
        server = RedisServer.at(Secret("rediss://[2001:db8::1]"))
        assert (server.host, server.port, server.user, server.database) == ("2001:db8::1", 6379, "", 0)
        assert not server.password
        assert server.tls is not None

    @pytest.mark.parametrize(
        "url",
        [
            *("", "localhost:6379", "http://pass.word@host", "redis://", "redis://:pass.word@:6379"),
            *("redis://pass.word@host:port", "redis://:pass.word@host:99999", "redis://:pass.word@[::1"),
            *("redis://:pass.word@host/one", "redis://:pass.word@host?timeout=pass.word"),
            *("redis://:pass.word@host?ssl_ca_certs=/file", "rediss://:pass.word@host?ssl_ca_certs=/no/such"),
        ],
    )
    def test_what_is_none_is_refused_and_not_told(self, url: str):
        with pytest.raises(SettingsError, match="REDIS_URL") as caught:
            RedisServer.at(Secret(url))
        assert "pass.word" not in str(caught.value)
        assert caught.value.__cause__ is None

    async def test_is_read_before_anything_is_served(self):
        with pytest.raises(SettingsError):
            async with connect_limiter(Secret("nonsense")):
                pass


class Clock:
    """The time of a process, as the test says, in microseconds."""

    def __init__(self) -> None:
        self.now = 10**12

    def __call__(self) -> int:
        return self.now


class TestSlidingLogs:
    @given(
        amount=st.integers(1, 5),
        window=st.integers(1, 20),
        steps=st.lists(st.tuples(st.integers(0, 9), st.sampled_from("ab")), max_size=80),
    )
    def test_never_more_than_the_amount_in_any_window_and_always_as_many(
        self, amount: int, window: int, steps: list[tuple[int, str]]
    ):
        clock = Clock()
        logs = SlidingLogs(clock)
        passed: dict[str, list[int]] = defaultdict(list)
        for pause, key in steps:
            clock.now += pause
            count = logs.hit(key, amount, window)
            inside = [time for time in passed[key] if time > clock.now - window]
            assert count.allowed == (len(inside) < amount)
            if count.allowed:
                passed[key].append(clock.now)
                inside.append(clock.now)
            assert count.remaining == amount - len(inside)
            # When the oldest leaves the window, one more is free.
            assert clock.now + count.reset == inside[0] + window

    def test_a_lower_amount_holds_at_once(self):
        clock = Clock()
        logs = SlidingLogs(clock)
        for _ in range(10):
            clock.now += 1
            assert logs.hit("a", 10, 100).allowed
        refused = logs.hit("a", 4, 100)
        assert (refused.allowed, refused.remaining) == (0, 0)
        clock.now += refused.reset - 1
        assert not logs.hit("a", 4, 100).allowed
        clock.now += 1
        assert logs.hit("a", 4, 100).allowed

    def test_keys_beyond_the_bound_are_forgotten_the_longest_unseen_first(self):
        logs = SlidingLogs(Clock(), most_keys=2)
        for key in ("a", "b", "a", "c"):
            logs.hit(key, 3, 100)
        assert len(logs) == 2
        assert logs.hit("a", 3, 100).remaining == 0
        assert logs.hit("b", 3, 100).remaining == 2

    def test_hits_beyond_the_bound_are_forgotten_with_their_keys(self):
        logs = SlidingLogs(Clock(), most_hits=10)
        for key in ("a", "b"):
            for _ in range(5):
                logs.hit(key, 100, 100)
        assert len(logs) == 2
        logs.hit("c", 100, 100)
        assert len(logs) == 2
        assert logs.hit("b", 100, 100).remaining == 94

    def test_hits_that_have_left_the_window_are_not_in_the_bound(self):
        clock = Clock()
        logs = SlidingLogs(clock, most_hits=10)
        logs.hit("quiet", 5, 1_000)
        for _ in range(100):
            clock.now += 1
            assert logs.hit("busy", 5, 1).allowed
        assert logs.hit("quiet", 5, 1_000).remaining == 3

    def test_one_key_may_have_more_hits_than_the_bound(self):
        logs = SlidingLogs(Clock(), most_hits=10)
        logs.hit("other", 20, 100)
        assert sum(logs.hit("a", 20, 100).allowed for _ in range(30)) == 20
        assert len(logs) == 1

    def test_an_attack_with_ever_new_keys_costs_bounded_memory(self):
        clock = Clock()
        logs = SlidingLogs(clock, most_keys=1_000)
        tracemalloc.start()
        try:
            for number in range(3_000):
                logs.hit(f"/test.v1.Door/Knock:2001:db8:{number}::/64", 100, 60_000_000)
            before, _ = tracemalloc.get_traced_memory()
            for number in range(20_000):
                logs.hit(f"/test.v1.Door/Knock:2001:dead:{number}::/64", 100, 60_000_000)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(logs) == 1_000
        # 50,000 keys are then at most 25 MB.
        assert after < 500 * len(logs)
        assert after < before * 1.2


class TestAlone:
    async def test_without_redis_a_process_counts_for_itself(self):
        async with connect_limiter(None) as limiter:
            await limiter.check()
            standings = [await limiter.hit("a", Limit(2, 3600)) for _ in range(3)]
            assert [(each.allowed, each.remaining) for each in standings] == [(True, 1), (True, 0), (False, 0)]
            assert {each.amount for each in standings} == {2}
            assert (await limiter.hit("b", Limit(2, 3600))).remaining == 1


class TestWithoutRedis:
    async def test_the_start_warns_and_says_what_to_set(self):
        with capture_logs() as logs:
            async with connect_limiter(None):
                pass
        (line,) = logs
        assert (line["log_level"], line["missing"]) == ("warning", "…_REDIS_URL")
        assert "by this process alone" in line["event"]
