"""Options of channels and servers: gRPC takes any name, and does nothing about those it does not know."""

from pathlib import Path

import pytest
from grpc._cython import cygrpc

from libs.rpc import channel, server

CORE = Path(cygrpc.__file__).read_bytes()


class TestNames:
    @pytest.mark.parametrize(
        "name", sorted({name for options in (channel._OPTIONS, server._OPTIONS) for name, _ in options})
    )
    def test_is_one_that_grpc_knows(self, name: str) -> None:
        assert name.encode() in CORE

    def test_one_it_does_not_know_is_found(self) -> None:
        assert b"grpc.http2.min_recv_ping_interval_without_data_ms" not in CORE


class TestPings:
    def test_come_no_faster_than_servers_permit(self) -> None:
        """Else a server closes a connection that is only watched about once a minute, with all calls on it."""
        permitted = dict(server._OPTIONS)["grpc.http2.min_ping_interval_without_data_ms"]
        assert int(str(dict(channel._OPTIONS)["grpc.keepalive_time_ms"])) > permitted
