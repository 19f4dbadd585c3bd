"""Where a call came from, which only the front door knows."""

from typing import Any

import pytest

from libs.rpc.identity import Call, Origin

SAID = (
    ("x-envoy-external-address", "203.0.113.7"),
    ("x-forwarded-for", "198.51.100.1"),
    ("user-agent", "curl/8"),
)


class Context:
    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> Any:
        return self._metadata


def origin(peer: str, *metadata: tuple[str, str]) -> Origin:
    return Call("/test.v1.Echo/personal", Context(*metadata), peer=peer).origin()


class TestOrigin:
    def test_is_what_the_front_door_says(self) -> None:
        assert origin("envoy", *SAID) == Origin("203.0.113.7", "curl/8")

    @pytest.mark.parametrize("peer", ["", "provider-router", "worker-openai", "operator", "Envoy", "envoy2"])
    def test_nobody_else_is_believed(self, peer: str) -> None:
        assert origin(peer, *SAID) == Origin()

    def test_may_be_unknown(self) -> None:
        assert origin("envoy") == Origin("", "")

    def test_a_long_agent_is_cut(self) -> None:
        assert origin("envoy", ("user-agent", "x" * 5000)).user_agent == "x" * 256
